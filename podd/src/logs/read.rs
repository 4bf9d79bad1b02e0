//! Reads logs back: tail, since, follow, limits (P-120).

use std::collections::VecDeque;
use std::io::{self, SeekFrom};
use std::path::{Path, PathBuf};

use bytes::Bytes;
use futures::Stream;
use jiff::Timestamp;
use thiserror::Error;
use tokio::fs::File;
use tokio::io::{AsyncBufReadExt as _, AsyncSeekExt as _, BufReader};
use tokio::sync::{mpsc, watch};

use super::line::{self, OutputStream};
use super::write::{Progress, older};

/// Lines on their way to a reader; the reading waits when it is slow.
const AHEAD: usize = 64;

/// What of a log is wanted.
#[derive(Clone, Debug, Default)]
pub struct LogOptions {
    /// Which container; may be left out if the pod has only one.
    pub container: Option<String>,
    /// Go on until the container ends.
    pub follow: bool,
    /// The instance before the current one.
    pub previous: bool,
    /// Put the time in front of each line.
    pub timestamps: bool,
    /// Only the last lines.
    pub tail_lines: Option<usize>,
    /// Only lines printed at or after this time.
    pub since: Option<Timestamp>,
    /// Stop after this many bytes.
    pub limit_bytes: Option<u64>,
    /// Only one of the two outputs.
    pub stream: Option<OutputStream>,
}

/// Why there is no log.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum LogError {
    /// No such pod on our nodes.
    #[error("pod {0:?} not found")]
    NoPod(String),
    /// No such container.
    #[error("container {container} is not valid for pod {pod}")]
    NoContainer {
        /// The pod.
        pod: String,
        /// The container asked for.
        container: String,
    },
    /// More than one to choose from.
    #[error("a container name must be specified for pod {pod}, choose one of: [{}]", choices.join(" "))]
    Ambiguous {
        /// The pod.
        pod: String,
        /// Its containers.
        choices: Vec<String>,
    },
    /// It has not been started yet.
    #[error("container {container:?} in pod {pod:?} is waiting to start: {reason}")]
    NotStarted {
        /// The pod.
        pod: String,
        /// The container.
        container: String,
        /// Its waiting reason.
        reason: String,
    },
    /// It has not been restarted.
    #[error("previous terminated container {container:?} in pod {pod:?} not found")]
    NoPrevious {
        /// The pod.
        pod: String,
        /// The container.
        container: String,
    },
}

/// A log file, and its progress if it is still being written.
pub(crate) struct Source {
    pub(crate) path: PathBuf,
    pub(crate) progress: Option<watch::Receiver<Progress>>,
}

/// The lines of `source` as `options` want them.
pub(crate) fn read(source: Source, options: LogOptions) -> impl Stream<Item = io::Result<Bytes>> + Send + use<> {
    // reader task → whoever asked; a full queue makes the task wait, a dropped one ends it.
    let (line_tx, line_rx) = mpsc::channel(AHEAD);
    let failure_tx = line_tx.clone();
    let reader = tokio::spawn(async move {
        let reader = Reader { left: options.limit_bytes, options, line_tx };
        if let Err(error) = reader.run(source).await {
            // Nobody may be listening any more.
            let _ = failure_tx.send(Err(error)).await;
        }
    });
    let reader = tokio_util::task::AbortOnDropHandle::new(reader);
    futures::stream::unfold((line_rx, reader), |(mut line_rx, reader)| async move {
        line_rx.recv().await.map(|item| (item, (line_rx, reader)))
    })
}

struct Reader {
    options: LogOptions,
    left: Option<u64>,
    line_tx: mpsc::Sender<io::Result<Bytes>>,
}

/// Whether to read on.
type GoOn = bool;

impl Reader {
    async fn run(mut self, mut source: Source) -> io::Result<()> {
        let mut seen = source.progress.as_mut().map(|p| *p.borrow_and_update()).unwrap_or_default();
        let mut tail: VecDeque<Bytes> = VecDeque::new();
        let keep = self.options.tail_lines;
        let mut position = 0;
        for (path, current) in [(older(&source.path), false), (source.path.clone(), true)] {
            let Some(mut lines) = Lines::open(&path, 0).await? else { continue };
            while let Some(line) = lines.next().await? {
                let Some(text) = self.wanted(&line) else { continue };
                if let Some(keep) = keep {
                    tail.push_back(text);
                    if tail.len() > keep {
                        tail.pop_front();
                    }
                } else if !self.emit(text).await {
                    return Ok(());
                }
            }
            if current {
                position = lines.position;
            }
        }
        for text in tail {
            if !self.emit(text).await {
                return Ok(());
            }
        }
        while self.options.follow && !seen.closed {
            let Some(progress) = &mut source.progress else { return Ok(()) };
            if *progress.borrow() == seen && progress.changed().await.is_err() {
                return Ok(());
            }
            let now = *progress.borrow_and_update();
            if !self.catch_up(&source.path, seen, now, &mut position).await? {
                return Ok(());
            }
            seen = now;
        }
        Ok(())
    }

    /// Emits what was written since; the file may have been set aside meanwhile.
    async fn catch_up(&mut self, path: &Path, before: Progress, now: Progress, position: &mut u64) -> io::Result<GoOn> {
        if now.turns > before.turns {
            if !self.emit_from(&older(path), position).await? {
                return Ok(false);
            }
            *position = 0;
        }
        self.emit_from(path, position).await
    }

    async fn emit_from(&mut self, path: &Path, position: &mut u64) -> io::Result<GoOn> {
        let Some(mut lines) = Lines::open(path, *position).await? else { return Ok(true) };
        while let Some(line) = lines.next().await? {
            if let Some(text) = self.wanted(&line)
                && !self.emit(text).await
            {
                return Ok(false);
            }
        }
        *position = lines.position;
        Ok(true)
    }

    /// The line as it is shown, or `None` if it is too old (or torn).
    fn wanted(&self, raw: &[u8]) -> Option<Bytes> {
        let parsed = line::parse(raw)?;
        if self.options.stream.is_some_and(|stream| stream != parsed.stream) {
            return None;
        }
        if let Some(since) = self.options.since
            && parsed.stamp.parse::<Timestamp>().is_ok_and(|time| time < since)
        {
            return None;
        }
        let mut out = Vec::with_capacity(raw.len() + 1);
        if self.options.timestamps {
            out.extend_from_slice(parsed.stamp.as_bytes());
            out.push(b' ');
        }
        out.extend_from_slice(parsed.text);
        if parsed.whole {
            out.push(b'\n');
        }
        Some(Bytes::from(out))
    }

    async fn emit(&mut self, mut text: Bytes) -> GoOn {
        if let Some(left) = &mut self.left {
            let length = u64::try_from(text.len()).unwrap_or(u64::MAX);
            if length >= *left {
                // Fits: `left` is at most the length of the text.
                text.truncate(usize::try_from(*left).unwrap_or(usize::MAX));
                *left = 0;
            } else {
                *left -= length;
            }
        }
        let done = self.left == Some(0);
        self.line_tx.send(Ok(text)).await.is_ok() && !done
    }
}

/// Whole lines of a file that may be growing.
struct Lines {
    file: BufReader<File>,
    buffer: Vec<u8>,
    /// After the last whole line.
    position: u64,
}

impl Lines {
    async fn open(path: &Path, position: u64) -> io::Result<Option<Self>> {
        let mut file = match File::open(path).await {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error),
        };
        file.seek(SeekFrom::Start(position)).await?;
        Ok(Some(Self { file: BufReader::new(file), buffer: Vec::new(), position }))
    }

    async fn next(&mut self) -> io::Result<Option<Vec<u8>>> {
        self.buffer.clear();
        let count = self.file.read_until(b'\n', &mut self.buffer).await?;
        if self.buffer.pop() != Some(b'\n') {
            return Ok(None);
        }
        self.position += u64::try_from(count).unwrap_or(0);
        Ok(Some(std::mem::take(&mut self.buffer)))
    }
}

#[cfg(test)]
mod tests;
