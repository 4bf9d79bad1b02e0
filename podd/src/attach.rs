//! What a running container's output and input are to those who attach to it.

use std::sync::Arc;

use bytes::Bytes;
use tokio::net::unix::pipe;
use tokio::sync::{Mutex, broadcast};

use crate::logs::OutputStream;
use crate::terminal::Terminal;

/// Pieces of output (of at most 16 KiB) that somebody attached may lag behind; who is slower misses the oldest.
const AHEAD: usize = 64;

/// A piece of output as it was read.
pub(crate) type Piece = (OutputStream, Bytes);

/// The side of whoever reads the container's pipes.
#[derive(Clone, Debug)]
pub(crate) struct Fan {
    piece_tx: broadcast::Sender<Piece>,
}

impl Fan {
    /// Shows a piece to everyone who is attached, if anyone is.
    pub(crate) fn show(&self, stream: OutputStream, bytes: &[u8]) {
        if !bytes.is_empty() && self.piece_tx.receiver_count() > 0 {
            // They may have left just now.
            let _ = self.piece_tx.send((stream, Bytes::copy_from_slice(bytes)));
        }
    }
}

/// A running container, as those see it who want to attach.
#[derive(Clone, Debug)]
pub(crate) struct AttachPoint {
    /// Weak: the output has ended when its reader has.
    piece_tx: broadcast::WeakSender<Piece>,
    /// The other end of the container's standard input, if it has one, until it was closed.
    pub(crate) input: Arc<Mutex<Option<pipe::Sender>>>,
    pub(crate) terminal: Option<Arc<Terminal>>,
    /// The input ends with the first who was attached to it (`stdinOnce`).
    pub(crate) once: bool,
}

impl AttachPoint {
    /// A place for a container with these, and the side of its reader.
    pub(crate) fn new(input: Option<pipe::Sender>, terminal: Option<Terminal>, once: bool) -> (Self, Fan) {
        let (piece_tx, _) = broadcast::channel(AHEAD);
        let fan = Fan { piece_tx };
        let piece_tx = fan.piece_tx.downgrade();
        let input = Arc::new(Mutex::new(input));
        (Self { piece_tx, input, terminal: terminal.map(Arc::new), once }, fan)
    }

    /// The output from now on; `None` when it has ended.
    pub(crate) fn output(&self) -> Option<broadcast::Receiver<Piece>> {
        Some(self.piece_tx.upgrade()?.subscribe())
    }
}
