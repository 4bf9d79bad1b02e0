//! The hidden command `__load ADDRESS:PORT SECONDS`: makes new connections as fast as it can, for the churn test.
//!
//! Each connection asks one HTTP request and is closed by the server, so that no port of ours waits in TIME_WAIT. Every
//! failure is printed at once as a line of JSON with the client's port, by which `minisvc flows` tells the endpoint;
//! the last line counts.

use std::io::{self, Write as _};
use std::net::{Ipv4Addr, SocketAddr};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use jiff::Timestamp;
use serde_json::json;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpSocket;

/// Connections at a time.
const WORKERS: u16 = 2;

/// Ports of one worker. They are used in turn, so that a port comes again only seconds later.
const PORTS: u16 = 25_000;

/// The first port of the first worker.
const FIRST_PORT: u16 = 12_000;

/// A connection that takes longer has failed. Longer than TCP needs to repeat a lost SYN twice.
const PATIENCE: Duration = Duration::from_secs(8);

/// After a failure, so that a Service without endpoints does not become a flood of lines.
const PAUSE: Duration = Duration::from_millis(1);

const REQUEST: &[u8] = b"GET / HTTP/1.1\r\nHost: load\r\nConnection: close\r\n\r\n";

/// What one worker saw.
#[derive(Default)]
struct Tally {
    answered: u64,
    failed: u64,
    slowest: Duration,
}

/// Runs the command; ends with 0 however many connections failed.
pub(crate) fn load_main() -> ExitCode {
    let argument = |number| std::env::args().nth(number);
    let target = argument(2).and_then(|text| text.parse::<SocketAddr>().ok());
    let seconds = argument(3).and_then(|text| text.parse::<f64>().ok());
    let (Some(target), Some(seconds)) = (target, seconds) else { return ExitCode::from(2) };
    let Ok(runtime) = tokio::runtime::Builder::new_current_thread().enable_all().build() else {
        return ExitCode::FAILURE;
    };
    let until = Instant::now() + Duration::from_secs_f64(seconds);
    let total = runtime.block_on(async {
        let workers = (0..WORKERS).map(|number| work(target, FIRST_PORT + number * PORTS, until));
        let mut total = Tally::default();
        for tally in futures::future::join_all(workers).await {
            total.answered += tally.answered;
            total.failed += tally.failed;
            total.slowest = total.slowest.max(tally.slowest);
        }
        total
    });
    print(&json!({
        "answered": total.answered, "failed": total.failed, "slowestMicros": total.slowest.as_micros(),
    }));
    ExitCode::SUCCESS
}

async fn work(target: SocketAddr, first: u16, until: Instant) -> Tally {
    let mut tally = Tally::default();
    for port in (first..first + PORTS).cycle() {
        let (began, start) = (Timestamp::now(), Instant::now());
        if start >= until {
            break;
        }
        let outcome = tokio::time::timeout(PATIENCE, ask(target, port)).await;
        let outcome = outcome.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()));
        tally.slowest = tally.slowest.max(start.elapsed());
        match outcome {
            Ok(()) => tally.answered += 1,
            // Somebody else's port, or one on which an earlier connection of ours still waits for a server that is gone;
            // the next one will do.
            Err(error) if matches!(error.kind(), io::ErrorKind::AddrInUse | io::ErrorKind::AddrNotAvailable) => {}
            Err(error) => {
                tally.failed += 1;
                let took = start.elapsed().as_micros();
                let code = error.raw_os_error();
                print(&json!({
                    "began": began, "tookMicros": took, "port": port, "code": code, "error": error.to_string(),
                }));
                tokio::time::sleep(PAUSE).await;
            }
        }
    }
    tally
}

async fn ask(target: SocketAddr, port: u16) -> io::Result<()> {
    let socket = TcpSocket::new_v4()?;
    socket.set_reuseaddr(true)?;
    socket.bind((Ipv4Addr::UNSPECIFIED, port).into())?;
    let mut stream = socket.connect(target).await?;
    stream.write_all(REQUEST).await?;
    let mut answer = Vec::with_capacity(512);
    stream.read_to_end(&mut answer).await?;
    if answer.starts_with(b"HTTP/1.1 200 ") { Ok(()) } else { Err(io::Error::other("closed without an answer")) }
}

fn print(line: &serde_json::Value) {
    // Whoever reads has gone away: then nobody misses the rest.
    let _ = writeln!(io::stdout(), "{line}");
}
