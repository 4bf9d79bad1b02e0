//! Logs written through real pipes and read back.

use std::time::Duration;

use futures::StreamExt as _;
use tokio::io::AsyncWriteExt as _;
use tokio::net::unix::pipe;
use tokio::time::timeout;

use super::*;
use crate::attach::AttachPoint;
use crate::logs::write::{LogWriter, path};

const PATIENCE: Duration = Duration::from_secs(20);

/// A container's two pipes and its log.
struct Printer {
    directory: tempfile::TempDir,
    out: pipe::Sender,
    _err: pipe::Sender,
    progress: watch::Receiver<Progress>,
}

impl Printer {
    fn new(limit: u64) -> Self {
        let directory = tempfile::tempdir().expect("a directory");
        let writer = LogWriter::create(directory.path(), 0, limit).expect("a log");
        let progress = writer.subscribe();
        let (out, out_rx) = pipe::pipe().expect("a pipe");
        let (err, err_rx) = pipe::pipe().expect("a pipe");
        tokio::spawn(writer.pump(AttachPoint::new(None, None, false).1, out_rx, Some(err_rx)));
        Self { directory, out, _err: err, progress }
    }

    /// Prints and waits until it is in the file.
    async fn print(&mut self, text: &str) {
        let before = self.progress.borrow().written;
        self.out.write_all(text.as_bytes()).await.expect("the pipe is open");
        let written = self.progress.wait_for(|progress| progress.written > before);
        timeout(PATIENCE, written).await.expect("in time").expect("the writer lives");
    }

    fn source(&self) -> Source {
        Source { path: path(self.directory.path(), 0), progress: Some(self.progress.clone()) }
    }

    async fn read(&self, options: LogOptions) -> String {
        let chunks: Vec<_> = timeout(PATIENCE, read(self.source(), options).collect()).await.expect("in time");
        let bytes: Vec<u8> = chunks.into_iter().flat_map(|chunk| chunk.expect("readable")).collect();
        String::from_utf8(bytes).expect("text")
    }
}

// P-120
#[tokio::test]
async fn tail_and_limit_and_timestamps() {
    let mut printer = Printer::new(1 << 20);
    printer.print("one\n").await;
    printer.print("two\n").await;
    printer.print("three\n").await;
    let options = LogOptions::default;
    assert_eq!(printer.read(options()).await, "one\ntwo\nthree\n");
    assert_eq!(printer.read(LogOptions { tail_lines: Some(2), ..options() }).await, "two\nthree\n");
    assert_eq!(printer.read(LogOptions { tail_lines: Some(0), ..options() }).await, "");
    assert_eq!(printer.read(LogOptions { limit_bytes: Some(5), ..options() }).await, "one\nt");
    let stamped = printer.read(LogOptions { timestamps: true, tail_lines: Some(1), ..options() }).await;
    let (stamp, text) = stamped.split_once(' ').expect("a stamp");
    assert_eq!(text, "three\n");
    let time: Timestamp = stamp.parse().expect("RFC 3339");
    assert_eq!(printer.read(LogOptions { since: Some(time), ..options() }).await, "three\n");
}

// P-120
#[tokio::test]
async fn followers_see_what_comes_later_and_the_end() {
    let mut printer = Printer::new(1 << 20);
    printer.print("early\n").await;
    let mut stream = Box::pin(read(printer.source(), LogOptions { follow: true, ..LogOptions::default() }));
    let mut next = async || timeout(PATIENCE, stream.next()).await.expect("in time");
    assert_eq!(next().await.expect("a line").expect("readable"), "early\n");
    printer.print("late\n").await;
    assert_eq!(next().await.expect("a line").expect("readable"), "late\n");
    drop(printer.out);
    drop(printer._err);
    assert!(next().await.is_none());
}

#[tokio::test]
async fn the_older_part_is_dropped_when_the_log_grows() {
    let mut printer = Printer::new(4000);
    let mut stream = Box::pin(read(printer.source(), LogOptions { follow: true, ..LogOptions::default() }));
    for number in 0..200 {
        printer.print(&format!("line {number}\n")).await;
        let line = timeout(PATIENCE, stream.next()).await.expect("in time").expect("a line");
        assert_eq!(line.expect("readable"), format!("line {number}\n"), "a follower misses nothing");
    }
    let text = printer.read(LogOptions::default()).await;
    assert!(text.ends_with("line 198\nline 199\n"));
    assert!(!text.contains("line 0\n") && text.len() < 4000);
}
