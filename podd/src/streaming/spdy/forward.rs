//! Port-forward over SPDY: a pair of streams for each connection, any number of pairs.

use std::collections::BTreeMap;

use bytes::Bytes;
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use super::connection::{Reader, header, write};
use super::frame::{self, Frame, StreamId};
use super::headers::Headers;
use crate::streaming::carry::Carried;
use crate::streaming::forward::{FromPod, Target};
use crate::streaming::websocket::AHEAD;

/// Connections over one upgraded connection; further ones are refused.
const PAIRS: usize = 512;

/// Connects ports of the pod until the client leaves.
pub(in crate::streaming) async fn forward((incoming, outgoing): Carried, target: Target) {
    let (frame_tx, frame_rx) = mpsc::channel(AHEAD);
    let Some(reader) = Reader::new(incoming, &frame_tx) else { return };
    let pairs = Pairs { target, frame_tx, halves: BTreeMap::new(), waiting: BTreeMap::new(), running: JoinSet::new() };
    // All is done in answer to the client, so it ends when the client leaves.
    tokio::select! {
        () = write(outgoing, frame_rx) => {}
        () = pairs.serve(reader) => {}
    }
}

struct Pairs {
    target: Target,
    frame_tx: mpsc::Sender<Bytes>,
    /// The client's half of each data stream, until it has ended.
    halves: BTreeMap<StreamId, mpsc::Sender<Bytes>>,
    /// Error streams whose data stream has not come yet, by request.
    waiting: BTreeMap<String, StreamId>,
    /// The connections; they end with this.
    running: JoinSet<()>,
}

impl Pairs {
    async fn serve(mut self, mut reader: Reader) {
        while let Some(frame) = reader.next().await {
            match frame {
                Frame::Open { stream, headers } => {
                    if self.open(&mut reader, stream, &headers).await.is_none() {
                        return;
                    }
                }
                Frame::Data { stream, bytes } => {
                    if let Some(half) = self.halves.get(&stream) {
                        // All connections wait for a slow one: without flow control there is no other way to slow the
                        // client down. The pod may have closed its side.
                        let _ = half.send(bytes).await;
                    }
                }
                Frame::End { stream } | Frame::Reset { stream } => drop(self.halves.remove(&stream)),
                Frame::GoAway => return,
                Frame::Ping(_) => {}
            }
            while self.running.try_join_next().is_some() {}
        }
    }

    async fn open(&mut self, reader: &mut Reader, stream: StreamId, headers: &Headers) -> Option<()> {
        let request = header(headers, "requestid").unwrap_or_default().to_owned();
        let port = header(headers, "port").and_then(|port| port.parse().ok()).filter(|port| *port != 0);
        match (header(headers, "streamtype"), port) {
            (Some("error"), Some(_)) if self.waiting.len() < PAIRS => {
                self.waiting.insert(request, stream);
                reader.accept(stream).await
            }
            (Some("data"), Some(port)) if self.running.len() < PAIRS => {
                let Some(error) = self.waiting.remove(&request) else { return reader.refuse(stream).await };
                reader.accept(stream).await?;
                let (bytes_tx, bytes_rx) = mpsc::channel(AHEAD);
                self.halves.insert(stream, bytes_tx);
                let pair = serve_pair(self.target.clone(), port, (stream, error), bytes_rx, self.frame_tx.clone());
                self.running.spawn(pair);
                Some(())
            }
            _ => reader.refuse(stream).await,
        }
    }
}

async fn serve_pair(
    target: Target,
    port: u16,
    (data, error): (StreamId, StreamId),
    bytes_rx: mpsc::Receiver<Bytes>,
    frame_tx: mpsc::Sender<Bytes>,
) {
    let tell = |said: FromPod| {
        let frame_tx = frame_tx.clone();
        async move {
            let frames = match said {
                FromPod::Data(bytes) => vec![frame::data(data, &bytes, false)],
                FromPod::End => vec![frame::data(data, &[], true), frame::data(error, &[], true)],
                FromPod::Failed(why) => vec![frame::data(error, why.as_bytes(), true), frame::data(data, &[], true)],
            };
            for frame in frames {
                if frame_tx.send(frame).await.is_err() {
                    return false;
                }
            }
            true
        }
    };
    target.serve(port, bytes_rx, tell).await;
}
