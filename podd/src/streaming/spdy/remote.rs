//! Exec and attach over SPDY: one stream for each of the process's, one for errors, one for sizes.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use tokio::sync::mpsc;
use tokio::time::timeout;

use super::connection::{Reader, header, write};
use super::frame::{self, Frame, StreamId};
use crate::logs::OutputStream;
use crate::streaming::Streams;
use crate::streaming::carry::Carried;
use crate::streaming::channels;
use crate::streaming::remote::{Ends, Input, Output, Remote};
use crate::streaming::websocket::{AHEAD, beside};

/// How long the client may take to open its streams.
const OPENING: Duration = Duration::from_secs(30);
/// Frames that may come before all streams are open.
const EARLY: usize = 64;
/// Longest line on the stream of sizes, in bytes.
const SIZE_LIMIT: usize = 1024;

/// What a stream is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Role {
    Error,
    Stdin,
    Stdout,
    Stderr,
    Resize,
}

impl Role {
    fn named(name: &str) -> Option<Self> {
        Some(match name {
            "error" => Self::Error,
            "stdin" => Self::Stdin,
            "stdout" => Self::Stdout,
            "stderr" => Self::Stderr,
            "resize" => Self::Resize,
            _ => return None,
        })
    }
}

/// The streams that a client opens for these.
fn expected(streams: Streams) -> Vec<Role> {
    let all = [
        (Role::Error, true),
        (Role::Stdin, streams.stdin),
        (Role::Stdout, streams.stdout),
        (Role::Stderr, streams.stderr && !streams.terminal),
        (Role::Resize, streams.terminal),
    ];
    all.into_iter().filter_map(|(role, wanted)| wanted.then_some(role)).collect()
}

/// Connects a process.
pub(in crate::streaming) async fn remote((incoming, outgoing): Carried, remote: Remote) {
    let (frame_tx, frame_rx) = mpsc::channel(AHEAD);
    let Some(mut reader) = Reader::new(incoming, &frame_tx) else { return };
    let opening = async { timeout(OPENING, open(&mut reader, &expected(remote.streams))).await.ok().flatten() };
    let mut writing = std::pin::pin!(write(outgoing, frame_rx));
    let opened = tokio::select! {
        opened = opening => opened,
        () = &mut writing => None,
    };
    let Some(Opened { ids, early }) = opened else { return };
    let (input_tx, input) = mpsc::channel(AHEAD);
    let (output, output_rx) = mpsc::channel(AHEAD);
    let speaking = async { tokio::join!(speak(output_rx, &ids, frame_tx), writing) };
    let reading = listen(reader, &ids, early, input_tx);
    beside(remote.run(Ends { input, output }), speaking, reading).await;
}

struct Opened {
    ids: BTreeMap<Role, StreamId>,
    /// What came before all were open.
    early: VecDeque<Frame>,
}

/// Waits for the streams; `None` when the client has gone or asks for something else.
async fn open(reader: &mut Reader, expected: &[Role]) -> Option<Opened> {
    let mut opened = Opened { ids: BTreeMap::new(), early: VecDeque::new() };
    while !expected.iter().all(|role| opened.ids.contains_key(role)) {
        match reader.next().await? {
            Frame::Open { stream, headers } => match header(&headers, "streamtype").and_then(Role::named) {
                Some(role) if !opened.ids.contains_key(&role) => {
                    opened.ids.insert(role, stream);
                    reader.accept(stream).await?;
                }
                _ => reader.refuse(stream).await?,
            },
            Frame::GoAway => return None,
            frame => {
                if opened.early.len() >= EARLY {
                    return None;
                }
                opened.early.push_back(frame);
            }
        }
    }
    Some(opened)
}

/// Turns what the process says into frames; `frame_tx` ends with it, and the writer after that.
async fn speak(mut output_rx: mpsc::Receiver<Output>, ids: &BTreeMap<Role, StreamId>, frame_tx: mpsc::Sender<Bytes>) {
    while let Some(said) = output_rx.recv().await {
        let (role, bytes) = match said {
            Output::Data(OutputStream::Stdout, bytes) => (Role::Stdout, bytes),
            Output::Data(OutputStream::Stderr, bytes) => (Role::Stderr, bytes),
            Output::Done(verdict) => {
                let status = verdict.status();
                for (role, id) in ids {
                    let last: &[u8] = if *role == Role::Error { &status } else { &[] };
                    if frame_tx.send(frame::data(*id, last, true)).await.is_err() {
                        return;
                    }
                }
                // The client may have gone at the same time.
                let _ = frame_tx.send(frame::go_away(ids.values().max().copied().unwrap_or_default())).await;
                return;
            }
        };
        let Some(id) = ids.get(&role) else { continue };
        if frame_tx.send(frame::data(*id, &bytes, false)).await.is_err() {
            return;
        }
    }
}

/// Passes on what the client says, until it has gone.
async fn listen(
    mut reader: Reader,
    ids: &BTreeMap<Role, StreamId>,
    mut early: VecDeque<Frame>,
    input_tx: mpsc::Sender<Input>,
) {
    let mut sizes = BytesMut::new();
    loop {
        let frame = match early.pop_front() {
            Some(frame) => frame,
            None => match reader.next().await {
                Some(frame) => frame,
                None => return,
            },
        };
        let is = |stream: StreamId, role: Role| ids.get(&role) == Some(&stream);
        let input = match frame {
            Frame::Data { stream, bytes } if is(stream, Role::Stdin) => Input::Data(bytes),
            Frame::End { stream } | Frame::Reset { stream } if is(stream, Role::Stdin) => Input::End,
            Frame::Data { stream, bytes } if is(stream, Role::Resize) => {
                sizes.extend_from_slice(&bytes);
                let Some((columns, rows)) = last_size(&mut sizes) else { continue };
                Input::Size(columns, rows)
            }
            Frame::Open { stream, .. } => {
                if reader.refuse(stream).await.is_none() {
                    return;
                }
                continue;
            }
            Frame::GoAway => return,
            Frame::Data { .. } | Frame::End { .. } | Frame::Reset { .. } | Frame::Ping(_) => continue,
        };
        // A process that does not listen any more may still be talking.
        let _ = input_tx.send(input).await;
    }
}

/// Takes whole JSON values, one a line, and returns the last that says something.
fn last_size(text: &mut BytesMut) -> Option<(u16, u16)> {
    let mut last = None;
    while let Some(end) = text.iter().position(|byte| *byte == b'\n') {
        let line = text.split_to(end + 1);
        last = channels::size(&line).or(last);
    }
    if text.len() > SIZE_LIMIT {
        text.clear();
    }
    last
}

#[cfg(test)]
mod tests {
    use super::*;

    //
    #[test]
    fn a_stream_for_each_that_was_asked_for() {
        let all = Streams { stdin: true, stdout: true, stderr: true, terminal: false };
        assert_eq!(expected(all), [Role::Error, Role::Stdin, Role::Stdout, Role::Stderr]);
        let terminal = Streams { terminal: true, ..all };
        assert_eq!(expected(terminal), [Role::Error, Role::Stdin, Role::Stdout, Role::Resize]);
    }

    //
    #[test]
    fn sizes_come_in_any_pieces() {
        let mut text = BytesMut::from(&b"{\"Width\":80,"[..]);
        assert_eq!(last_size(&mut text), None);
        text.extend_from_slice(b"\"Height\":24}\n{\"Width\":100,\"Height\":30}\n{\"Wid");
        assert_eq!(last_size(&mut text), Some((100, 30)));
        text.extend_from_slice(&[b'x'; 2 * SIZE_LIMIT]);
        assert_eq!(last_size(&mut text), None);
        assert!(text.is_empty(), "what is no size is not kept");
    }
}
