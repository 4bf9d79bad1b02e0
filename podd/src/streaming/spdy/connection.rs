//! One SPDY connection: frames in, frames out, streams opened by the client.

use bytes::Bytes;
use futures::{SinkExt as _, StreamExt as _};
use tokio::sync::mpsc;

use super::frame::{self, Decoder, Encoder, Frame, StreamId};
use super::headers::Headers;
use crate::streaming::carry::{Incoming, Outgoing};

/// The client's side, read frame by frame. Pings are answered on the way.
pub(super) struct Reader {
    incoming: Incoming,
    decoder: Decoder,
    encoder: Encoder,
    /// everyone → writer; whoever has something to say waits while it is full.
    ///
    /// Weak, so that the writer ends when everybody else has said everything.
    frame_tx: mpsc::WeakSender<Bytes>,
}

impl Reader {
    /// `None` without a compressor.
    pub(super) fn new(incoming: Incoming, frame_tx: &mpsc::Sender<Bytes>) -> Option<Self> {
        Some(Self { incoming, decoder: Decoder::new(), encoder: Encoder::new().ok()?, frame_tx: frame_tx.downgrade() })
    }

    /// The next frame that is somebody else's business; `None` when the client has gone, or does not speak SPDY.
    pub(super) async fn next(&mut self) -> Option<Frame> {
        loop {
            match self.decoder.next() {
                Ok(Some(Frame::Ping(id))) => {
                    // Without a writer nobody can be answered.
                    let _ = self.send(frame::ping(id)).await;
                }
                Ok(Some(frame)) => return Some(frame),
                Ok(None) => self.decoder.feed(&self.incoming.next().await?),
                Err(error) => {
                    tracing::debug!(%error, "a client's stream cannot be read");
                    return None;
                }
            }
        }
    }

    /// Accepts a stream; `None` when the client has gone.
    pub(super) async fn accept(&mut self, stream: StreamId) -> Option<()> {
        let reply = self.encoder.reply(stream).ok()?;
        self.send(reply).await
    }

    /// Does not accept it.
    pub(super) async fn refuse(&mut self, stream: StreamId) -> Option<()> {
        self.send(frame::refuse(stream)).await
    }

    async fn send(&mut self, frame: Bytes) -> Option<()> {
        self.frame_tx.upgrade()?.send(frame).await.ok()
    }
}

/// Sends frames until there are no more, or the client has gone.
pub(super) async fn write(mut outgoing: Outgoing, mut frame_rx: mpsc::Receiver<Bytes>) {
    while let Some(frame) = frame_rx.recv().await {
        if outgoing.send(frame).await.is_err() {
            return;
        }
    }
}

/// The value of a header; names come in lower case.
pub(super) fn header<'a>(headers: &'a Headers, name: &str) -> Option<&'a str> {
    headers.iter().find(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value.as_str())
}
