//! UDP flows to the outside: one connected socket each, for as long as it is used.

use std::collections::HashMap;
use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use minisvc_translator::{Dial, DialAnswer};
use tokio::net::UdpSocket;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::{Gauge, Relay, targets};
use crate::worker::Command;

/// UDP flows at once; each takes a descriptor. The one that has been silent longest makes room for another.
const LIMIT: usize = 2048;

/// Silence after which a flow ends that nobody has answered (as RFC 4787 REQ-5 allows for a stateless question).
const UNANSWERED: Duration = Duration::from_secs(30);

/// Silence after which a flow ends that was answered (RFC 4787 REQ-5: not below two minutes).
const ANSWERED: Duration = Duration::from_secs(120);

/// The largest datagram, in bytes.
const DATAGRAM: usize = 65_535;

/// The open flows, and the sockets on the lab's side.
pub(super) struct Sessions {
    inner: Vec<UdpSocket>,
    /// By the client, as the sockets see it. Held for table operations only.
    open: Mutex<HashMap<SocketAddr, Arc<Session>>>,
}

struct Session {
    outer: UdpSocket,
    begun: Instant,
    /// Milliseconds after `begun` at which the last datagram passed.
    used: AtomicU64,
    answered: AtomicBool,
    ended: CancellationToken,
}

impl Session {
    fn touch(&self) {
        let now = u64::try_from(self.begun.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.used.store(now, Ordering::Relaxed);
    }

    /// When the last datagram passed.
    fn last(&self) -> Instant {
        self.begun + Duration::from_millis(self.used.load(Ordering::Relaxed))
    }

    /// When it is over if nothing more passes.
    fn deadline(&self) -> Instant {
        self.last() + if self.answered.load(Ordering::Relaxed) { ANSWERED } else { UNANSWERED }
    }
}

impl Sessions {
    pub(super) fn new(inner: Vec<UdpSocket>) -> Self {
        Self { inner, open: Mutex::default() }
    }

    /// How many sockets there are on the lab's side.
    pub(super) fn sockets(&self) -> usize {
        self.inner.len()
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<SocketAddr, Arc<Session>>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds a flow; ends the one it takes the place of, and if need be the one that has been silent longest.
    fn add(&self, client: SocketAddr, session: &Arc<Session>, relay: &Relay) {
        let mut open = self.lock();
        if let Some(before) = open.insert(client, Arc::clone(session)) {
            before.ended.cancel();
        }
        if open.len() > LIMIT
            && let Some((&oldest, _)) = open.iter().filter(|(other, _)| **other != client).min_by_key(|(_, s)| s.last())
            && let Some(evicted) = open.remove(&oldest)
        {
            relay.counters.evicted.fetch_add(1, Ordering::Relaxed);
            evicted.ended.cancel();
        }
    }

    /// Takes a flow out, unless another has taken its place.
    fn remove(&self, client: SocketAddr, session: &Arc<Session>) {
        let mut open = self.lock();
        if open.get(&client).is_some_and(|now| Arc::ptr_eq(now, session)) {
            open.remove(&client);
        }
    }
}

/// Passes on what clients send to one of the sockets.
pub(super) async fn pass_out(sessions: Arc<Sessions>, index: usize) {
    let Some(inner) = sessions.inner.get(index) else { return };
    let mut buffer = vec![0; DATAGRAM];
    loop {
        let Ok((length, client)) = inner.recv_from(&mut buffer).await else { continue };
        let session = sessions.lock().get(&client).cloned();
        if let (Some(session), Some(datagram)) = (session, buffer.get(..length)) {
            session.touch();
            // A datagram that the machine does not take is lost, as on any network; a refusal is heard by the other direction.
            let _ = session.outer.try_send(datagram);
        }
    }
}

/// One flow: from the dial until it has been silent for long enough.
pub(super) async fn serve(relay: Arc<Relay>, sessions: Arc<Sessions>, dial: Dial) {
    let client = dial.client();
    let inner =
        sessions.inner.iter().find(|inner| inner.local_addr().is_ok_and(|own| own.is_ipv4() == client.is_ipv4()));
    let Some(inner) = inner else { return relay.answer(dial, DialAnswer::Unreachable) };
    let outer = match connect(&relay, dial.destination).await {
        Ok(outer) => outer,
        Err(error) => return relay.answer(dial, relay.counters.failed(&error)),
    };
    let session = Arc::new(Session {
        outer,
        begun: Instant::now(),
        used: AtomicU64::new(0),
        answered: AtomicBool::new(false),
        ended: CancellationToken::new(),
    });
    sessions.add(client, &session, &relay);
    relay.counters.sessions.fetch_add(1, Ordering::Relaxed);
    let _open = Gauge::new(&relay.counters.sessions_now);
    relay.answer(dial, DialAnswer::Open);
    let replaced = tokio::select! {
        () = session.ended.cancelled() => true,
        () = pass_in(&session, inner, client) => false,
    };
    sessions.remove(client, &session);
    if !replaced || !sessions.lock().contains_key(&client) {
        // The client's next datagram must not go to a flow that nobody serves.
        relay.mailbox.send(Command::Forget(dial));
    }
}

/// Passes on what the other side sends, until the flow has been silent for long enough or is refused.
async fn pass_in(session: &Session, inner: &UdpSocket, client: SocketAddr) {
    let mut buffer = vec![0; DATAGRAM];
    loop {
        match tokio::time::timeout_at(session.deadline(), session.outer.recv(&mut buffer)).await {
            Ok(Ok(length)) => {
                session.answered.store(true, Ordering::Relaxed);
                session.touch();
                if let Some(datagram) = buffer.get(..length) {
                    // As above: what is not taken is lost.
                    let _ = inner.send_to(datagram, client).await;
                }
            }
            // The other side's host refuses: nobody listens there.
            Ok(Err(error)) => {
                tracing::debug!(%error, %client, "a UDP flow to the outside ends");
                return;
            }
            Err(_) if session.deadline() > Instant::now() => {}
            Err(_) => return,
        }
    }
}

async fn connect(relay: &Relay, destination: SocketAddr) -> io::Result<UdpSocket> {
    let Some(target) = targets(&relay.addresses, destination)?.into_iter().next() else {
        return Err(io::ErrorKind::AddrNotAvailable.into());
    };
    let any: SocketAddr = match target {
        SocketAddr::V4(_) => (Ipv4Addr::UNSPECIFIED, 0).into(),
        SocketAddr::V6(_) => (Ipv6Addr::UNSPECIFIED, 0).into(),
    };
    let socket = UdpSocket::bind(any).await?;
    socket.connect(target).await?;
    Ok(socket)
}
