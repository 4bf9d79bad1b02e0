//! What other terminals ask of a lab's main process: run something inside, end the lab.
//!
//! Over its own Unix socket, because a terminal can only be handed over as descriptors. Everything else goes through the
//! API. Only the lab's owner and root may ask.

use std::ffi::OsString;
use std::io;
use std::os::fd::{AsFd as _, OwnedFd};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use minisvc_sandbox::{ExitStatus, FdListener, FdSocket, Process};
use serde::{Deserialize, Serialize};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::error::{CliError, Context as _};
use crate::home::{self, LabHome};

/// Conversations at once; one more is refused.
const MAX_CONVERSATIONS: usize = 256;

/// Callers at once who are told why they are refused; one more only sees the connection close.
const MAX_REFUSALS: usize = 16;

/// How long a caller who is refused may take to ask.
const REFUSED_WITHIN: Duration = Duration::from_secs(1);

/// Where a command shall run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Place {
    /// Where `minisvc shell` types.
    Workstation,
    /// In a running container.
    Pod { namespace: String, pod: String, container: Option<String> },
}

/// A command with everything it needs but its descriptors, which travel beside it: standard input, output and error.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Execution {
    pub(crate) place: Place,
    pub(crate) argv: Vec<OsString>,
    /// The caller's environment. A pod's process gets its container's instead.
    pub(crate) env: Vec<(OsString, OsString)>,
    /// The caller's folder. A pod's process starts in its container's.
    pub(crate) cwd: Option<PathBuf>,
    /// Standard input is a terminal of the command's own.
    pub(crate) terminal: bool,
}

/// What is asked.
#[derive(Debug, Serialize, Deserialize)]
enum Request {
    Exec(Execution),
    /// For the process that this conversation started.
    Signal(i32),
    Down,
}

/// What is answered.
#[derive(Debug, Serialize, Deserialize)]
enum Answer {
    Started,
    Ended(i32),
    Refused(Refusal),
    /// The lab is going down; the conversation ends when it is gone.
    GoingDown,
}

/// Why something was not done, and what to type instead.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Refusal {
    pub(crate) message: String,
    pub(crate) hints: Vec<String>,
}

impl Refusal {
    /// What a caller is told who is not listened to.
    fn before_listening(busy: bool) -> Self {
        let (message, hint) = if busy {
            ("the lab runs too many commands at once", "wait until some have ended")
        } else {
            ("this lab belongs to another user", "start one of your own: minisvc up --state-dir DIR")
        };
        Self { message: message.to_owned(), hints: vec![hint.to_owned()] }
    }

    fn into_error(self) -> CliError {
        self.hints.into_iter().fold(CliError::failed(self.message), CliError::hint)
    }
}

/// The lab as its control socket sees it.
#[async_trait::async_trait]
pub(crate) trait Controlled: Send + Sync + 'static {
    /// Starts a command inside the lab.
    async fn execute(&self, execution: Execution, stdio: [OwnedFd; 3]) -> Result<Process, Refusal>;

    /// Asks the lab to end. Returns at once.
    fn end(&self);
}

/// Opens the socket; what is returned answers conversations until `shutdown`. Those that asked for the end stay open until the process is gone: that is how
/// the other side knows.
///
/// # Errors
/// When the socket cannot be made.
pub(crate) fn serve(
    home: &LabHome,
    lab: Arc<dyn Controlled>,
    shutdown: CancellationToken,
) -> Result<impl Future<Output = ()> + Send + use<>, CliError> {
    let path = home.control_socket();
    // Left over from a lab that was killed; a running one holds the lock of the state directory.
    let _ = std::fs::remove_file(&path);
    let listener = FdListener::bind(&path).context(|| format!("cannot listen at {}", path.display()))?;
    let (uid, gid) = home::behind_sudo();
    home::give_to(&path, uid, gid)?;
    Ok(async move {
        let mut conversations = JoinSet::new();
        loop {
            let socket = tokio::select! {
                () = shutdown.cancelled() => break,
                Some(_) = conversations.join_next() => continue,
                socket = listener.accept() => socket,
            };
            match socket {
                Ok(socket) if conversations.len() < MAX_CONVERSATIONS && may_ask(&socket) => {
                    conversations.spawn(converse(socket, Arc::clone(&lab)));
                }
                Ok(socket) if conversations.len() < MAX_CONVERSATIONS + MAX_REFUSALS => {
                    conversations.spawn(refuse(socket));
                }
                Ok(_) => tracing::warn!("a control connection was dropped"),
                Err(error) => {
                    tracing::warn!(%error, "cannot accept a control connection");
                    // Out of descriptors, most likely: do not spin until some are free again.
                    tokio::time::sleep(Duration::from_millis(100)).await;
                }
            }
        }
        // What runs over them ends with the lab; the connections close when the process does.
        conversations.detach_all();
    })
}

/// The owner, as the host sees them, the user behind sudo, and root.
fn may_ask(socket: &FdSocket) -> bool {
    let owners = [0, nix::unistd::geteuid().as_raw(), home::behind_sudo().0];
    socket.peer_credentials().is_ok_and(|peer| owners.contains(&peer.uid))
}

/// Says why nobody listens. The caller speaks first: a socket that is closed with words unread loses the answer.
async fn refuse(socket: FdSocket) {
    let busy = may_ask(&socket);
    tracing::warn!(busy, "a control connection was refused");
    let refusal = async {
        socket.recv().await?;
        answer(&socket, &Answer::Refused(Refusal::before_listening(busy))).await
    };
    if let Ok(Err(error)) = tokio::time::timeout(REFUSED_WITHIN, refusal).await {
        tracing::debug!(%error, "a refused caller did not listen");
    }
}

async fn converse(socket: FdSocket, lab: Arc<dyn Controlled>) {
    if let Err(error) = hold_conversation(&socket, &*lab).await {
        tracing::debug!(%error, "a control conversation broke off");
    }
}

async fn hold_conversation(socket: &FdSocket, lab: &dyn Controlled) -> io::Result<()> {
    let Some((bytes, fds)) = socket.recv().await? else { return Ok(()) };
    match serde_json::from_slice(&bytes)? {
        Request::Exec(execution) => {
            let stdio: [OwnedFd; 3] =
                fds.try_into().map_err(|_| io::Error::new(io::ErrorKind::InvalidData, "three descriptors expected"))?;
            match lab.execute(execution, stdio).await {
                Ok(process) => accompany(socket, &process).await,
                Err(refusal) => answer(socket, &Answer::Refused(refusal)).await,
            }
        }
        Request::Down => {
            answer(socket, &Answer::GoingDown).await?;
            lab.end();
            // The other side waits for the end of this connection, which is the end of this process.
            std::future::pending().await
        }
        Request::Signal(_) => Err(io::Error::new(io::ErrorKind::InvalidData, "there is no process to signal")),
    }
}

/// Passes signals on until the process ends. If the caller goes away, the process is hung up on, as by a terminal.
async fn accompany(socket: &FdSocket, process: &Process) -> io::Result<()> {
    answer(socket, &Answer::Started).await?;
    loop {
        tokio::select! {
            status = process.wait() => {
                let code = match status {
                    ExitStatus::Code(code) => code,
                    // As shells count.
                    ExitStatus::Signal(signal) => 128 + signal,
                };
                return answer(socket, &Answer::Ended(code)).await;
            }
            message = socket.recv() => match message? {
                Some((bytes, _)) => {
                    if let Request::Signal(signal) = serde_json::from_slice(&bytes)? {
                        process.signal(signal).await;
                    }
                }
                None => {
                    process.signal(nix::sys::signal::Signal::SIGHUP as i32).await;
                    return Ok(());
                }
            },
        }
    }
}

async fn answer(socket: &FdSocket, answer: &Answer) -> io::Result<()> {
    socket.send(&serde_json::to_vec(answer)?, &[]).await
}

/// A conversation with a running lab, from the other terminal's side.
#[derive(Debug)]
pub(crate) struct Conversation {
    socket: FdSocket,
}

impl Conversation {
    /// Connects to the lab.
    ///
    /// # Errors
    /// When it does not run.
    pub(crate) fn with(home: &LabHome) -> Result<Self, CliError> {
        home.require_running()?;
        let socket = FdSocket::connect(&home.control_socket()).context(|| "cannot reach the lab".to_owned())?;
        Ok(Self { socket })
    }

    /// Starts a command; its descriptors may be closed here afterwards.
    ///
    /// # Errors
    /// In the lab's own words.
    pub(crate) async fn execute(&self, execution: Execution, stdio: &[OwnedFd; 3]) -> Result<(), CliError> {
        let fds: Vec<_> = stdio.iter().map(OwnedFd::as_fd).collect();
        self.ask(&Request::Exec(execution), &fds).await?;
        match self.next().await? {
            Some(Answer::Started) => Ok(()),
            Some(Answer::Refused(refusal)) => Err(refusal.into_error()),
            _ => Err(gone()),
        }
    }

    /// Passes a signal to the command.
    ///
    /// # Errors
    /// When the lab has gone.
    pub(crate) async fn signal(&self, signal: i32) -> Result<(), CliError> {
        self.ask(&Request::Signal(signal), &[]).await
    }

    /// The command's exit code, when it has ended.
    ///
    /// # Errors
    /// When the lab has gone first.
    pub(crate) async fn ended(&self) -> Result<i32, CliError> {
        match self.next().await? {
            Some(Answer::Ended(code)) => Ok(code),
            _ => Err(gone()),
        }
    }

    /// Ends the lab and waits until its main process is gone.
    ///
    /// # Errors
    /// When the lab cannot be reached, or does not listen to this user.
    pub(crate) async fn down(self) -> Result<(), CliError> {
        self.ask(&Request::Down, &[]).await?;
        while let Ok(Some(said)) = self.next().await {
            if let Answer::Refused(refusal) = said {
                return Err(refusal.into_error());
            }
        }
        Ok(())
    }

    async fn ask(&self, request: &Request, fds: &[std::os::fd::BorrowedFd<'_>]) -> Result<(), CliError> {
        let bytes = serde_json::to_vec(request).context(|| "cannot ask the lab".to_owned())?;
        self.socket.send(&bytes, fds).await.context(|| "cannot ask the lab".to_owned())
    }

    async fn next(&self) -> Result<Option<Answer>, CliError> {
        let Some((bytes, _)) = self.socket.recv().await.context(|| "the lab hung up".to_owned())? else {
            return Ok(None);
        };
        serde_json::from_slice(&bytes).map(Some).context(|| "the lab's answer makes no sense".to_owned())
    }
}

fn gone() -> CliError {
    CliError::failed("the lab ended meanwhile").hint("start it again: minisvc up")
}
