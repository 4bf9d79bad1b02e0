//! Runs this very program somewhere inside a lab and reads what it prints.

use std::ffi::OsString;
use std::fs::File;
use std::os::fd::OwnedFd;
use std::time::Duration;

use tokio::io::AsyncReadExt as _;
use tokio::net::unix::pipe::Receiver;

use crate::control::{Conversation, Execution, Place};
use crate::error::{CliError, Context as _};
use crate::home::LabHome;

/// Longest output that is read, in bytes; what comes after it is not waited for.
const MAX_OUTPUT: u64 = 1 << 20;

/// What a command printed, and its exit code.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Printed {
    /// Standard output.
    pub(crate) out: String,
    /// Standard error.
    pub(crate) err: String,
    /// The exit code.
    pub(crate) code: i32,
}

/// Runs this program with `words` in a place.
///
/// # Errors
/// When it cannot be started there, or takes longer than `within`.
pub(crate) async fn run_own(
    home: &LabHome,
    place: Place,
    words: &[String],
    within: Duration,
) -> Result<Printed, CliError> {
    let program = std::env::current_exe().context(|| "cannot find my own program file".to_owned())?;
    let argv = std::iter::once(program.into()).chain(words.iter().map(OsString::from)).collect();
    run(home, place, argv, within).await
}

/// Runs a command in a place, without input.
///
/// # Errors
/// As [`run_own`].
pub(crate) async fn run(
    home: &LabHome,
    place: Place,
    argv: Vec<OsString>,
    within: Duration,
) -> Result<Printed, CliError> {
    let doing = || "cannot run a command in the lab".to_owned();
    let conversation = Conversation::with(home)?;
    let (mut out, out_writer) = pipe()?;
    let (mut err, err_writer) = pipe()?;
    let input = File::open("/dev/null").context(doing)?;
    let fds = [OwnedFd::from(input), out_writer, err_writer];
    let execution = Execution { place, argv, env: std::env::vars_os().collect(), cwd: None, terminal: false };
    let all = async {
        conversation.execute(execution, &fds).await?;
        // Ours would keep the pipes open beyond its end.
        drop(fds);
        let (out, err) = tokio::try_join!(read(&mut out), read(&mut err)).context(doing)?;
        Ok(Printed { out, err, code: conversation.ended().await? })
    };
    let late = || Err(CliError::failed(format!("a command in the lab took longer than {within:?}")));
    tokio::time::timeout(within, all).await.unwrap_or_else(|_| late())
}

fn pipe() -> Result<(Receiver, OwnedFd), CliError> {
    let doing = || "cannot make a pipe".to_owned();
    let (reader, writer) = std::io::pipe().context(doing)?;
    Ok((Receiver::from_owned_fd(reader.into()).context(doing)?, writer.into()))
}

async fn read(from: &mut Receiver) -> std::io::Result<String> {
    let mut bytes = Vec::new();
    from.take(MAX_OUTPUT).read_to_end(&mut bytes).await?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}
