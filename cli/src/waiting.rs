//! Waiting: what a user is told while a command does, and the hidden command `__await NAME:PORT`, which ends when somebody
//! answers there. A project's pods run it before their command, for each Service that they depend on: a Service without a
//! ready endpoint refuses, and so does one that is not there yet.

use std::io::Write as _;
use std::net::{TcpStream, ToSocketAddrs as _};
use std::process::ExitCode;
use std::time::{Duration, Instant};

/// A user who has waited for so long wants to know what for.
const A_MOMENT: Duration = Duration::from_millis(500);

/// Does the work, and says on standard error what is waited for if that takes longer than a moment.
pub(crate) async fn patiently<T>(what: &str, work: impl Future<Output = T>) -> T {
    tokio::pin!(work);
    tokio::select! {
        result = &mut work => return result,
        () = tokio::time::sleep(A_MOMENT) => {}
    }
    // A user who does not read it waits all the same.
    let _ = writeln!(std::io::stderr(), "{what} …");
    work.await
}

/// Between two tries.
const AGAIN: Duration = Duration::from_millis(100);

/// How long one try may take.
const TRY_FOR: Duration = Duration::from_secs(2);

/// How often the log says that nobody answers.
const SAY_AGAIN: Duration = Duration::from_secs(10);

/// Runs the command. It has no limit of its own: the pod's status shows what it waits for.
pub(crate) fn await_main() -> ExitCode {
    let Some(target) = std::env::args().nth(2) else { return ExitCode::from(2) };
    let mut said: Option<Instant> = None;
    while let Err(error) = connect(&target) {
        if said.is_none_or(|at| at.elapsed() > SAY_AGAIN) {
            // To the container's log, which may be gone with its pod.
            let _ = writeln!(std::io::stdout(), "{target} does not answer yet: {error}");
            said = Some(Instant::now());
        }
        std::thread::sleep(AGAIN);
    }
    ExitCode::SUCCESS
}

fn connect(target: &str) -> std::io::Result<()> {
    let mut last = std::io::Error::from(std::io::ErrorKind::NotFound);
    for address in target.to_socket_addrs()? {
        match TcpStream::connect_timeout(&address, TRY_FOR) {
            Ok(_) => return Ok(()),
            Err(error) => last = error,
        }
    }
    Err(last)
}
