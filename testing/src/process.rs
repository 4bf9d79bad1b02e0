//! The lab's main process: started, heard until it is ready, and ended with the test.

use std::collections::VecDeque;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::error::Error;

/// Lines of the lab's log that are kept for the reader of a failed test; older ones are dropped.
const LOG_LINES: usize = 1000;

/// How long a lab may take to go down before it is killed.
const DOWN_WITHIN: Duration = Duration::from_secs(20);

/// How often it is looked whether it has gone.
const LOOK: Duration = Duration::from_millis(5);

/// What the lab says when it is ready.
const READY: &str = "The lab is ready";

type Log = Arc<Mutex<VecDeque<String>>>;

/// A running `minisvc up`.
#[derive(Debug)]
pub(crate) struct LabProcess {
    child: Child,
    /// Held open as long as this process lives: at its end the lab ends too, however this process ended.
    lifeline: Option<ChildStdin>,
    log: Log,
}

impl LabProcess {
    /// Starts it and waits until it is ready.
    pub(crate) fn start(command: &mut Command, within: Duration) -> Result<Self, Error> {
        command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::piped());
        let mut child = command.spawn().map_err(Error::io("start the lab"))?;
        let (lifeline, stderr) = (child.stdin.take(), child.stderr.take());
        let log = Log::default();
        let ready = stderr.map(|stderr| listen(BufReader::new(stderr), Arc::clone(&log)));
        let process = Self { child, lifeline, log };
        match ready.map(|ready| ready.recv_timeout(within)) {
            Some(Ok(())) => Ok(process),
            _ => Err(Error::NotStarted { log: process.log() }),
        }
    }

    /// Process id.
    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    /// The last lines that the lab has said.
    pub(crate) fn log(&self) -> String {
        let lines = self.log.lock().unwrap_or_else(PoisonError::into_inner);
        lines.iter().map(|line| format!("{line}\n")).collect()
    }

    /// Asks it to end, and waits.
    pub(crate) fn end(&mut self, signal: Signal) -> std::io::Result<ExitStatus> {
        let running = self.child.try_wait()?.is_none();
        if let (true, Ok(pid)) = (running, i32::try_from(self.child.id())) {
            kill(Pid::from_raw(pid), signal)?;
        }
        self.wait()
    }

    /// Waits until it has ended by itself; it is killed when that takes too long.
    pub(crate) fn wait(&mut self) -> std::io::Result<ExitStatus> {
        let deadline = Instant::now() + DOWN_WITHIN;
        while Instant::now() < deadline {
            if let Some(status) = self.child.try_wait()? {
                return Ok(status);
            }
            std::thread::sleep(LOOK);
        }
        self.child.kill()?;
        self.child.wait()
    }
}

impl Drop for LabProcess {
    fn drop(&mut self) {
        // It may have ended already, and a destructor has nobody to tell.
        let _ = self.end(Signal::SIGTERM);
        self.lifeline = None;
    }
}

/// Keeps reading, so that the lab never waits for a full pipe. Tells once that the lab is ready; hangs up if it ends first.
fn listen(stderr: impl BufRead + Send + 'static, log: Log) -> Receiver<()> {
    let (ready_tx, ready_rx) = channel();
    let mut ready_tx = Some(ready_tx);
    std::thread::spawn(move || {
        for line in stderr.lines().map_while(Result::ok) {
            if line.starts_with(READY)
                && let Some(ready) = ready_tx.take()
            {
                // Nobody waits any more: the start took too long.
                let _ = ready.send(());
            }
            let mut lines = log.lock().unwrap_or_else(PoisonError::into_inner);
            if lines.len() == LOG_LINES {
                lines.pop_front();
            }
            lines.push_back(line);
        }
    });
    ready_rx
}

/// `minisvc` against one lab.
pub(crate) fn command(program: &Path, name: &str, state_dir: &Path) -> Command {
    let mut command = Command::new(program);
    command.env("MINISVC_LAB", name).env("MINISVC_STATE_DIR", state_dir).stdin(Stdio::null());
    command
}

/// Where a lab's API listens for its owner.
pub(crate) fn api_socket(state_dir: &Path, name: &str) -> PathBuf {
    state_dir.join(name).join("run/api.sock")
}
