//! Reads a container's pipes and writes its log file, dropping the older part when it grows too large.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use jiff::Timestamp;
use tokio::io::AsyncReadExt as _;
use tokio::net::unix::pipe::Receiver;
use tokio::sync::watch;
use tracing::warn;

use super::line::{OutputStream, Splitter};
use crate::attach::Fan;

/// Read from a pipe at once, in bytes.
const CHUNK: usize = 16 << 10;

/// How far a log has got; readers that follow wait for it to change.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Progress {
    /// Bytes written in all.
    pub(crate) written: u64,
    /// How often the file was set aside as `.1`.
    pub(crate) turns: u64,
    /// Nothing more will come.
    pub(crate) closed: bool,
}

/// The log file of one instance of a container: `N.log`, and `N.log.1` with what came before.
pub(crate) fn path(directory: &Path, attempt: u32) -> PathBuf {
    directory.join(format!("{attempt}.log"))
}

/// What came before `path`.
pub(crate) fn older(path: &Path) -> PathBuf {
    path.with_extension("log.1")
}

/// Where a container's output goes.
pub(crate) struct LogWriter {
    path: PathBuf,
    file: File,
    size: u64,
    /// Size at which the file is set aside: half of what may be kept.
    half: u64,
    progress: watch::Sender<Progress>,
}

impl LogWriter {
    /// Starts the log of instance `attempt`, keeping the one before and removing older ones.
    ///
    /// # Errors
    /// When the directory or the file cannot be made.
    pub(crate) fn create(directory: &Path, attempt: u32, limit: u64) -> io::Result<Self> {
        fs::create_dir_all(directory)?;
        for entry in fs::read_dir(directory)?.flatten() {
            let name = entry.file_name();
            let number = name.to_str().and_then(|name| name.split('.').next()?.parse::<u32>().ok());
            if number.is_some_and(|number| number.saturating_add(1) < attempt) {
                fs::remove_file(entry.path())?;
            }
        }
        let path = path(directory, attempt);
        let file = OpenOptions::new().create(true).write(true).truncate(true).open(&path)?;
        let (progress, _) = watch::channel(Progress::default());
        Ok(Self { path, file, size: 0, half: (limit / 2).max(1), progress })
    }

    /// For readers that follow.
    pub(crate) fn subscribe(&self) -> watch::Receiver<Progress> {
        self.progress.subscribe()
    }

    /// Copies both outputs into the file, and shows them to those who are attached, until both have ended. With a terminal
    /// there is only one.
    pub(crate) async fn pump(mut self, fan: Fan, mut out: Receiver, mut err: Option<Receiver>) {
        let (mut from_out, mut from_err) = (vec![0; CHUNK], vec![0; CHUNK]);
        let (mut lines_out, mut lines_err) = (Splitter::new(OutputStream::Stdout), Splitter::new(OutputStream::Stderr));
        let mut open_out = true;
        let mut text = Vec::new();
        while open_out || err.is_some() {
            tokio::select! {
                read = out.read(&mut from_out), if open_out => {
                    let bytes = read.ok().and_then(|length| from_out.get(..length)).unwrap_or_default();
                    fan.show(OutputStream::Stdout, bytes);
                    open_out = take(bytes, &mut lines_out, &mut text);
                }
                read = read_some(&mut err, &mut from_err) => {
                    let bytes = read.ok().and_then(|length| from_err.get(..length)).unwrap_or_default();
                    fan.show(OutputStream::Stderr, bytes);
                    if !take(bytes, &mut lines_err, &mut text) {
                        err = None;
                    }
                }
            }
            // Into the page cache: short enough not to deserve a thread.
            if let Err(error) = self.write(&text) {
                warn!(%error, path = %self.path.display(), "a log line is lost");
            }
            text.clear();
        }
        self.progress.send_modify(|progress| progress.closed = true);
    }

    fn write(&mut self, text: &[u8]) -> io::Result<()> {
        if text.is_empty() {
            return Ok(());
        }
        let length = u64::try_from(text.len()).unwrap_or(u64::MAX);
        let full = self.size > 0 && self.size.saturating_add(length) > self.half;
        if full {
            fs::rename(&self.path, older(&self.path))?;
            self.file = OpenOptions::new().create(true).write(true).truncate(true).open(&self.path)?;
            self.size = 0;
        }
        self.file.write_all(text)?;
        self.size += length;
        self.progress.send_modify(|progress| {
            progress.written += length;
            progress.turns += u64::from(full);
        });
        Ok(())
    }
}

impl Drop for LogWriter {
    fn drop(&mut self) {
        // Also when the pump is aborted: nobody shall wait for more.
        self.progress.send_modify(|progress| progress.closed = true);
    }
}

/// Reads from an output that may not be there (any more); then it waits for ever.
async fn read_some(from: &mut Option<Receiver>, buffer: &mut [u8]) -> io::Result<usize> {
    match from {
        Some(from) => from.read(buffer).await,
        None => std::future::pending().await,
    }
}

/// Takes what was read; false at the end of the output, when nothing was.
fn take(bytes: &[u8], lines: &mut Splitter, text: &mut Vec<u8>) -> bool {
    if bytes.is_empty() {
        lines.finish(Timestamp::now(), text);
    } else {
        lines.feed(bytes, Timestamp::now(), text);
    }
    !bytes.is_empty()
}
