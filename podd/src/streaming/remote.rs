//! A process and whoever is connected to it: what they type goes in, what it prints comes out, and how it ended.

use std::ffi::OsString;
use std::io;
use std::os::fd::OwnedFd;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use futures::FutureExt as _;
use minisvc_sandbox::{ExitStatus, Process};
use nix::libc;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::unix::pipe;
use tokio::sync::{broadcast, mpsc};
use tokio::time::timeout;

use super::Streams;
use crate::attach::{AttachPoint, Piece};
use crate::exec::{ExecSpec, RunningContainer};
use crate::logs::OutputStream;
use crate::terminal::Terminal;

/// Read from a pipe at once, in bytes.
const CHUNK: usize = 32 << 10;
/// How long nothing may come out of the pipes of a process that has ended. One in the background may keep them open.
const LAST_WORDS: Duration = Duration::from_millis(500);
/// What a terminal takes for the end of the input, when a line begins.
const END_OF_INPUT: &[u8] = b"\x04";

/// From the client.
#[derive(Debug)]
pub(super) enum Input {
    /// Typed.
    Data(Bytes),
    /// No more will be typed.
    End,
    /// Columns and rows of the client's terminal.
    Size(u16, u16),
}

/// To the client.
#[derive(Debug)]
pub(super) enum Output {
    /// Printed.
    Data(OutputStream, Bytes),
    /// The end, and nothing after it.
    Done(Verdict),
}

/// How it ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    Exit(i32),
    Failed(String),
}

impl Verdict {
    /// As the Status that clients read.
    pub(super) fn status(&self) -> Vec<u8> {
        let status: Value = match self {
            Self::Exit(0) => json!({"metadata": {}, "status": "Success"}),
            Self::Exit(code) => json!({
                "metadata": {},
                "status": "Failure",
                "reason": "NonZeroExitCode",
                "message": format!("command terminated with non-zero exit code: {code}"),
                "details": {"causes": [{"reason": "ExitCode", "message": code.to_string()}]},
            }),
            Self::Failed(why) => json!({
                "metadata": {},
                "status": "Failure",
                "reason": "InternalError",
                "message": why,
                "code": 500,
            }),
        };
        status.to_string().into_bytes()
    }
}

/// The two directions of a connection. When `output` is closed, the client has gone.
#[derive(Debug)]
pub(super) struct Ends {
    /// client → process; the connection is not read while it is full.
    pub(super) input: mpsc::Receiver<Input>,
    /// process → client; the process waits while it is full.
    pub(super) output: mpsc::Sender<Output>,
}

/// What is to be connected.
#[derive(Debug)]
pub(super) struct Remote {
    pub(super) streams: Streams,
    target: Target,
}

#[derive(Debug)]
enum Target {
    Exec(RunningContainer, Vec<String>),
    Attach(AttachPoint, broadcast::Receiver<Piece>),
}

impl Remote {
    pub(super) fn exec(container: RunningContainer, command: Vec<String>, streams: Streams) -> Self {
        Self { streams, target: Target::Exec(container, command) }
    }

    pub(super) fn attach(point: AttachPoint, output: broadcast::Receiver<Piece>, streams: Streams) -> Self {
        Self { streams, target: Target::Attach(point, output) }
    }

    /// Works until the process has ended and everything was said, or the client has gone.
    pub(super) async fn run(self, ends: Ends) {
        let output = ends.output.clone();
        let verdict = match self.target {
            Target::Exec(container, command) => exec(container, command, self.streams, ends).await,
            Target::Attach(point, pieces) => attach(&point, pieces, self.streams, ends).await,
        };
        if let Some(verdict) = verdict {
            // If the client has gone, nobody wants to know.
            let _ = output.send(Output::Done(verdict)).await;
        }
    }
}

/// Our ends of a process's standard streams.
struct Held {
    stdin: Option<pipe::Sender>,
    outputs: Vec<(OutputStream, pipe::Receiver)>,
    terminal: Option<Terminal>,
}

/// `None` when the client has gone.
async fn exec(container: RunningContainer, command: Vec<String>, streams: Streams, ends: Ends) -> Option<Verdict> {
    let (held, mut spec) = match stdio(streams) {
        Ok(made) => made,
        Err(error) => return Some(Verdict::Failed(format!("cannot make pipes for the command: {error}"))),
    };
    spec.argv = command.into_iter().map(OsString::from).collect();
    match container.spawn(spec).await {
        Ok(process) => converse(&process, held, ends).await,
        Err(error) => Some(Verdict::Failed(format!("error executing command in container: {error}"))),
    }
}

fn stdio(streams: Streams) -> io::Result<(Held, ExecSpec)> {
    let mut held = Held { stdin: None, outputs: Vec::new(), terminal: None };
    let mut spec = ExecSpec { terminal: streams.terminal, ..ExecSpec::default() };
    if streams.terminal {
        let (terminal, screen) = Terminal::open()?;
        held.outputs.push((OutputStream::Stdout, terminal.screen()?));
        held.stdin = if streams.stdin { Some(terminal.keyboard()?) } else { None };
        held.terminal = Some(terminal);
        spec.environment.push(("TERM".into(), "xterm".into()));
        (spec.stdin, spec.stdout, spec.stderr) = (Some(screen.try_clone()?), Some(screen.try_clone()?), Some(screen));
        return Ok((held, spec));
    }
    if streams.stdin {
        let (reader, writer) = io::pipe()?;
        held.stdin = Some(pipe::Sender::from_owned_fd(writer.into())?);
        spec.stdin = Some(reader.into());
    }
    let mut output = |stream| -> io::Result<OwnedFd> {
        let (reader, writer) = io::pipe()?;
        held.outputs.push((stream, pipe::Receiver::from_owned_fd(reader.into())?));
        Ok(writer.into())
    };
    spec.stdout = if streams.stdout { Some(output(OutputStream::Stdout)?) } else { None };
    spec.stderr = if streams.stderr { Some(output(OutputStream::Stderr)?) } else { None };
    Ok((held, spec))
}

async fn converse(process: &Process, held: Held, ends: Ends) -> Option<Verdict> {
    let Held { stdin, outputs, terminal } = held;
    let Ends { input, output } = ends;
    let progress = Progress::default();
    let copying = outputs.into_iter().map(|(stream, pipe)| copy(stream, pipe, &output, &progress));
    let mut copying = pin!(futures::future::join_all(copying).map(drop).fuse());
    let mut typing = pin!(type_in(input, stdin, terminal.as_ref()).fuse());
    let ended = loop {
        tokio::select! {
            ended = process.wait() => break ended,
            () = &mut typing => {}
            () = &mut copying => {}
            () = output.closed() => {
                // What happens to a process whose terminal is closed.
                process.signal(libc::SIGHUP).await;
                return None;
            }
        }
    };
    let mut seen = progress.moved();
    while timeout(LAST_WORDS, &mut copying).await.is_err() {
        let now = progress.moved();
        if seen == now && !progress.waits() {
            break;
        }
        seen = now;
    }
    Some(Verdict::Exit(match ended {
        ExitStatus::Code(code) => code,
        ExitStatus::Signal(signal) => 128 + signal,
    }))
}

/// Whether anything still comes out of a process.
#[derive(Default)]
struct Progress {
    moved: AtomicU64,
    /// Pieces that wait for a slow client.
    waiting: AtomicUsize,
}

impl Progress {
    fn moved(&self) -> u64 {
        self.moved.load(Ordering::Relaxed)
    }

    fn waits(&self) -> bool {
        self.waiting.load(Ordering::Relaxed) > 0
    }
}

/// Copies one output until it ends. A terminal says by an error that nobody has it open any more.
async fn copy(stream: OutputStream, mut from: pipe::Receiver, to: &mpsc::Sender<Output>, progress: &Progress) {
    let mut chunk = vec![0; CHUNK];
    while let Ok(length @ 1..) = from.read(&mut chunk).await {
        let piece = Bytes::copy_from_slice(chunk.get(..length).unwrap_or_default());
        progress.waiting.fetch_add(1, Ordering::Relaxed);
        let sent = to.send(Output::Data(stream, piece)).await;
        progress.waiting.fetch_sub(1, Ordering::Relaxed);
        progress.moved.fetch_add(1, Ordering::Relaxed);
        if sent.is_err() {
            return;
        }
    }
}

/// Passes on what the client types, until it has nothing more to say.
async fn type_in(mut input: mpsc::Receiver<Input>, mut stdin: Option<pipe::Sender>, terminal: Option<&Terminal>) {
    while let Some(heard) = input.recv().await {
        match (heard, &mut stdin) {
            (Input::Data(bytes), Some(pipe)) => {
                if pipe.write_all(&bytes).await.is_err() {
                    stdin = None;
                }
            }
            (Input::End, Some(pipe)) => {
                if terminal.is_some() {
                    // If the terminal is gone, the input has ended anyway.
                    let _ = pipe.write_all(END_OF_INPUT).await;
                }
                stdin = None;
            }
            (Input::Size(columns, rows), _) => resize(terminal, columns, rows),
            (Input::Data(_) | Input::End, None) => {}
        }
    }
}

fn resize(terminal: Option<&Terminal>, columns: u16, rows: u16) {
    if let Some(Err(error)) = terminal.map(|terminal| terminal.resize(columns, rows)) {
        tracing::debug!(%error, "a terminal could not be resized");
    }
}

/// `None` when the client has gone.
async fn attach(
    point: &AttachPoint,
    mut pieces: broadcast::Receiver<Piece>,
    streams: Streams,
    ends: Ends,
) -> Option<Verdict> {
    let Ends { input, output } = ends;
    let showing = async {
        loop {
            match pieces.recv().await {
                Ok((stream, piece)) => {
                    let wanted = if stream == OutputStream::Stdout { streams.stdout } else { streams.stderr };
                    if (wanted || streams.terminal) && output.send(Output::Data(stream, piece)).await.is_err() {
                        return None;
                    }
                }
                // Too slow: the container is not to wait for whoever looks on.
                Err(broadcast::error::RecvError::Lagged(_)) => {}
                Err(broadcast::error::RecvError::Closed) => return Some(Verdict::Exit(0)),
            }
        }
    };
    let typing = async {
        if streams.stdin {
            type_to(input, point).await;
        } else {
            sizes_only(input, point).await;
        }
        std::future::pending::<()>().await;
    };
    let verdict = tokio::select! {
        verdict = showing => verdict,
        () = typing => None,
        () = output.closed() => None,
    };
    if streams.stdin && point.once {
        point.input.lock().await.take();
    }
    verdict
}

/// Types into the container's input; others may be attached to it as well.
async fn type_to(mut input: mpsc::Receiver<Input>, point: &AttachPoint) {
    let terminal = point.terminal.as_ref().map(Arc::as_ref);
    while let Some(heard) = input.recv().await {
        let mut stdin = point.input.lock().await;
        match (heard, stdin.as_mut()) {
            (Input::Data(bytes), Some(pipe)) => {
                if pipe.write_all(&bytes).await.is_err() {
                    stdin.take();
                }
            }
            (Input::End, Some(_)) if point.once && terminal.is_none() => drop(stdin.take()),
            (Input::Size(columns, rows), _) => resize(terminal, columns, rows),
            (Input::Data(_) | Input::End, _) => {}
        }
    }
}

async fn sizes_only(mut input: mpsc::Receiver<Input>, point: &AttachPoint) {
    while let Some(heard) = input.recv().await {
        if let Input::Size(columns, rows) = heard {
            resize(point.terminal.as_ref().map(Arc::as_ref), columns, rows);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    //
    #[test]
    fn the_verdict_is_a_status() {
        let read = |verdict: Verdict| serde_json::from_slice::<Value>(&verdict.status()).expect("JSON");
        assert_eq!(read(Verdict::Exit(0)), json!({"metadata": {}, "status": "Success"}));
        let seven = read(Verdict::Exit(7));
        assert_eq!((&seven["status"], &seven["reason"]), (&json!("Failure"), &json!("NonZeroExitCode")));
        assert_eq!(seven["details"]["causes"], json!([{"reason": "ExitCode", "message": "7"}]));
        let failed = read(Verdict::Failed("no such file".to_owned()));
        assert_eq!((&failed["reason"], &failed["message"]), (&json!("InternalError"), &json!("no such file")));
    }
}
