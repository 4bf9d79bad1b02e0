//! A terminal for a command in the lab: a pseudo-terminal of its own, with ours as its keyboard and screen.

use std::fs::File;
use std::io::{self, IsTerminal as _};
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::time::Duration;

use rustix::termios::{self, OptionalActions, Termios};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use crate::error::{CliError, Context as _};

/// Bytes moved at once.
const CHUNK: usize = 16 << 10;

/// How long what a command wrote last may take to be shown.
const LAST_WORDS: Duration = Duration::from_millis(200);

/// What a command gets as standard input, output and error.
pub(crate) enum Stdio {
    /// Ours, as they are.
    Inherited,
    /// A terminal of its own; ours is in raw mode until this is dropped.
    Terminal(Relay),
}

impl Stdio {
    /// A terminal when ours is one, else what we have.
    ///
    /// # Errors
    /// When the system has no pseudo-terminal left.
    pub(crate) fn choose() -> Result<(Self, [OwnedFd; 3]), CliError> {
        let doing = || "cannot hand over the terminal".to_owned();
        if io::stdin().is_terminal() && io::stdout().is_terminal() {
            let (relay, terminal) = Relay::start().context(doing)?;
            let copy = || terminal.try_clone();
            let fds = [copy().context(doing)?, copy().context(doing)?, terminal];
            return Ok((Self::Terminal(relay), fds));
        }
        let copy = |fd: std::os::fd::BorrowedFd<'_>| fd.try_clone_to_owned().context(doing);
        Ok((Self::Inherited, [copy(io::stdin().as_fd())?, copy(io::stdout().as_fd())?, copy(io::stderr().as_fd())?]))
    }

    /// Whether the command has a terminal of its own.
    pub(crate) fn is_terminal(&self) -> bool {
        matches!(self, Self::Terminal(_))
    }

    /// Shows what the command wrote last and gives our terminal back its mode.
    pub(crate) async fn finish(self) {
        if let Self::Terminal(relay) = self {
            relay.finish().await;
        }
    }
}

/// Copies between our terminal and the command's, on threads of their own: a terminal may be anything, also what cannot
/// be waited on. The threads end with the terminals, or with this process.
pub(crate) struct Relay {
    /// Told when the command's terminal is closed.
    shown: oneshot::Receiver<()>,
    size: JoinHandle<()>,
    /// Dropped last: our terminal is raw as long as anything is copied.
    _mode: RawMode,
}

impl Relay {
    /// Makes the pseudo-terminal; returns the command's side of it.
    fn start() -> io::Result<(Self, OwnedFd)> {
        let window = termios::tcgetwinsize(io::stdin())?;
        let mode = termios::tcgetattr(io::stdin())?;
        let pair = nix::pty::openpty(None, None)?;
        termios::tcsetattr(&pair.slave, OptionalActions::Now, &mode)?;
        termios::tcsetwinsize(&pair.master, window)?;
        let master = Arc::new(File::from(pair.master));
        let (shown_tx, shown) = oneshot::channel();
        let (keys, screen) = (Arc::clone(&master), Arc::clone(&master));
        std::thread::spawn(move || copy(&mut io::stdin().lock(), &mut &*keys));
        std::thread::spawn(move || {
            copy(&mut &*screen, &mut io::stdout().lock());
            // Nobody waits when the command's end came first.
            let _ = shown_tx.send(());
        });
        let relay = Self { shown, size: tokio::spawn(follow_size(master)), _mode: RawMode::enter(mode)? };
        Ok((relay, pair.slave))
    }

    async fn finish(mut self) {
        // Comes when the last process has let go of the terminal; one in the background may keep it, so not for ever.
        let _ = tokio::time::timeout(LAST_WORDS, &mut self.shown).await;
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        self.size.abort();
    }
}

/// Copies until either side is closed, showing everything at once. A pseudo-terminal says by an error that its other side
/// is closed.
fn copy(from: &mut impl io::Read, to: &mut impl io::Write) {
    let mut chunk = [0; CHUNK];
    while let Ok(length @ 1..) = from.read(&mut chunk) {
        let piece = chunk.get(..length).unwrap_or_default();
        if to.write_all(piece).and_then(|()| to.flush()).is_err() {
            return;
        }
    }
}

/// Our terminal passes every key on instead of interpreting it, until this is dropped.
struct RawMode {
    before: Termios,
}

impl RawMode {
    fn enter(before: Termios) -> io::Result<Self> {
        let mut raw = before.clone();
        raw.make_raw();
        termios::tcsetattr(io::stdin(), OptionalActions::Now, &raw)?;
        Ok(Self { before })
    }
}

impl Drop for RawMode {
    fn drop(&mut self) {
        // If our terminal has gone there is nothing to restore.
        let _ = termios::tcsetattr(io::stdin(), OptionalActions::Now, &self.before);
    }
}

async fn follow_size(master: Arc<File>) {
    let Ok(mut changes) = signal(SignalKind::window_change()) else { return };
    while changes.recv().await.is_some() {
        if let Ok(window) = termios::tcgetwinsize(io::stdin()) {
            // The command may have ended just now.
            let _ = termios::tcsetwinsize(&*master, window);
        }
    }
}
