//! Connections to the outside: one task each, from dialling to the end.

use std::collections::HashMap;
use std::io;
use std::net::SocketAddr;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use minisvc_translator::{Dial, DialAnswer};
use nix::sys::socket::{setsockopt, sockopt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, oneshot};

use super::{Gauge, Relay, targets};

/// Connections at once, being dialled or open; each takes two descriptors. Further ones are left to try again.
const LIMIT: usize = 4096;

/// How long the other side may take to answer: a client's own attempts last about two minutes.
const CONNECT_WITHIN: Duration = Duration::from_secs(60);

/// How long a client may take to finish its handshake once the other half is open.
const ACCEPT_WITHIN: Duration = Duration::from_secs(30);

/// Bytes on their way, in each direction of each connection.
const BUFFER: usize = 32 * 1024;

/// Pause after an accept that failed for want of descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// The connections whose other half is open, waiting for their client.
pub(super) struct Connections {
    room: Arc<Semaphore>,
    /// By the client, as the listener sees it. Held for table operations only.
    waiting: Mutex<HashMap<SocketAddr, oneshot::Sender<TcpStream>>>,
}

impl Default for Connections {
    fn default() -> Self {
        Self { room: Arc::new(Semaphore::new(LIMIT)), waiting: Mutex::default() }
    }
}

impl Connections {
    fn expect(&self, client: SocketAddr) -> oneshot::Receiver<TcpStream> {
        let (stream_tx, stream_rx) = oneshot::channel();
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        // A connection of before with the same client address has given up by now.
        waiting.insert(client, stream_tx);
        stream_rx
    }

    fn take(&self, client: SocketAddr) -> Option<oneshot::Sender<TcpStream>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner).remove(&client)
    }
}

/// Takes the clients' halves and hands them to the tasks that wait for them.
pub(super) async fn accept(listener: TcpListener, connections: Arc<Connections>) {
    loop {
        match listener.accept().await {
            Ok((stream, client)) => match connections.take(client) {
                Some(stream_tx) => {
                    if let Err(stream) = stream_tx.send(stream) {
                        reset(stream);
                    }
                }
                None => reset(stream),
            },
            Err(error) => {
                tracing::debug!(%error, "the relay cannot accept");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

/// One connection.
pub(super) async fn serve(relay: Arc<Relay>, connections: Arc<Connections>, dial: Dial) {
    let Ok(_room) = Arc::clone(&connections.room).try_acquire_owned() else {
        relay.counters.turned_away.fetch_add(1, Ordering::Relaxed);
        relay.answer(dial, DialAnswer::Silent);
        return;
    };
    let mut outer = match connect(&relay, dial.destination).await {
        Ok(outer) => outer,
        Err(error) => {
            relay.answer(dial, relay.counters.failed(&error));
            return;
        }
    };
    let client = dial.client();
    let stream_rx = connections.expect(client);
    relay.counters.connections.fetch_add(1, Ordering::Relaxed);
    let _open = Gauge::new(&relay.counters.connections_now);
    relay.answer(dial, DialAnswer::Open);
    let mut inner = match tokio::time::timeout(ACCEPT_WITHIN, stream_rx).await {
        Ok(Ok(inner)) => inner,
        // Its place was taken by another connection with the same client address, which shall keep it.
        Ok(Err(_)) => return reset(outer),
        Err(_) => {
            connections.take(client);
            return reset(outer);
        }
    };
    for stream in [&inner, &outer] {
        // Bytes come in the pieces in which they were sent, and a peer that has vanished is noticed in the end. A connection
        // that is being reset refuses both, and says so when it is read.
        let _ = stream.set_nodelay(true);
        let _ = setsockopt(stream, sockopt::KeepAlive, &true);
    }
    // Ends when both directions have: each side may go on sending after the other has finished.
    if tokio::io::copy_bidirectional_with_sizes(&mut inner, &mut outer, BUFFER, BUFFER).await.is_err() {
        // One side was reset, or has vanished: the other must not take it for an orderly end.
        reset(inner);
        reset(outer);
    }
}

async fn connect(relay: &Relay, destination: SocketAddr) -> io::Result<TcpStream> {
    let mut last = io::Error::from(io::ErrorKind::AddrNotAvailable);
    for target in targets(&relay.addresses, destination)? {
        match tokio::time::timeout(CONNECT_WITHIN, TcpStream::connect(target)).await {
            Ok(Ok(stream)) => return Ok(stream),
            // No IPv6 on this machine says nothing about the service; the refusal before does.
            Ok(Err(error)) if last.kind() != io::ErrorKind::ConnectionRefused => last = error,
            Ok(Err(_)) => {}
            Err(_) => last = io::ErrorKind::TimedOut.into(),
        }
    }
    Err(last)
}

/// Closes a connection with a RST.
fn reset(stream: TcpStream) {
    // Without it the close is an orderly one, which is all that is left to do then.
    let _ = stream.set_zero_linger();
}
