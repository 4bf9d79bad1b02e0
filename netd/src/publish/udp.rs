//! One published UDP port: a socket in the lab for each client.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::net::UdpSocket;
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::{Exposure, Shared};

/// Clients of one port at once. Others are not served until one of them has been silent for long enough.
const LIMIT: usize = 512;

/// Silence after which a client is forgotten (RFC 4787 REQ-5: not below two minutes).
const IDLE: Duration = Duration::from_secs(120);

/// The largest datagram, in bytes.
const DATAGRAM: usize = 65_535;

struct Session {
    inner: UdpSocket,
    begun: Instant,
    /// Milliseconds after `begun` at which the last datagram passed.
    used: AtomicU64,
}

impl Session {
    fn touch(&self) {
        self.used.store(u64::try_from(self.begun.elapsed().as_millis()).unwrap_or(u64::MAX), Ordering::Relaxed);
    }

    fn deadline(&self) -> Instant {
        self.begun + Duration::from_millis(self.used.load(Ordering::Relaxed)) + IDLE
    }
}

/// Serves the port until it is aborted, and its sessions with it: there is nobody left to answer to.
pub(super) async fn serve(outer: UdpSocket, exposure: Exposure, shared: Arc<Shared>) {
    let outer = Arc::new(outer);
    let mut sessions: HashMap<SocketAddr, Arc<Session>> = HashMap::new();
    let mut tasks: JoinSet<SocketAddr> = JoinSet::new();
    let mut buffer = vec![0; DATAGRAM];
    loop {
        let received = tokio::select! {
            received = outer.recv_from(&mut buffer) => received,
            Some(ended) = tasks.join_next() => {
                if let Ok(client) = ended {
                    sessions.remove(&client);
                }
                continue;
            }
        };
        // An error is about a datagram that was sent before, and was lost.
        let Ok((length, client)) = received else { continue };
        let Some(datagram) = buffer.get(..length) else { continue };
        if !sessions.contains_key(&client) {
            if sessions.len() >= LIMIT {
                tracing::debug!(%client, service = exposure.service, "too many clients of a published UDP port");
                continue;
            }
            let Some(session) = open(&exposure, &shared).await else { continue };
            let session = Arc::new(session);
            sessions.insert(client, Arc::clone(&session));
            tasks.spawn(answers(session, Arc::clone(&outer), client));
        }
        if let Some(session) = sessions.get(&client) {
            session.touch();
            // What is not taken is lost, as on any network; a refusal is heard by the task.
            let _ = session.inner.try_send(datagram);
        }
    }
}

async fn open(exposure: &Exposure, shared: &Shared) -> Option<Session> {
    let dialled = async { shared.dialer.connect_udp(shared.target(exposure).await?).await };
    match dialled.await {
        Ok(inner) => Some(Session { inner, begun: Instant::now(), used: AtomicU64::new(0) }),
        Err(error) => {
            tracing::debug!(%error, service = exposure.service, "a published UDP port is refused");
            None
        }
    }
}

/// Passes answers on until the client has been silent for long enough, or is refused. Returns the client.
async fn answers(session: Arc<Session>, outer: Arc<UdpSocket>, client: SocketAddr) -> SocketAddr {
    let mut buffer = vec![0; DATAGRAM];
    loop {
        match tokio::time::timeout_at(session.deadline(), session.inner.recv(&mut buffer)).await {
            Ok(Ok(length)) => {
                session.touch();
                if let Some(datagram) = buffer.get(..length) {
                    // As above.
                    let _ = outer.send_to(datagram, client).await;
                }
            }
            Ok(Err(_)) => return client,
            Err(_) if session.deadline() > Instant::now() => {}
            Err(_) => return client,
        }
    }
}
