//! Flows to the outside: each is passed on with an ordinary socket of this machine, and nothing on the machine changes.
//!
//! The translator has such a flow wait and asks here ([`Dial`]); the answer lets it begin at a listener in the lab, or
//! refuses it. This module owns the sockets and the tasks. It looks at no packet and decides about none.

mod tcp;
mod udp;

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use minisvc_translator::{Dial, DialAnswer, Protocol};
use tokio::net::{TcpListener, UdpSocket};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::worker::{Command, Mailbox};

/// Dials on their way from the worker; when it is full the client tries again.
const DIALS: usize = 1024;

/// The relay's sockets in the lab: bound to its addresses there, at the port of its [`LinkRole`](crate::LinkRole::Relay).
#[derive(Debug)]
pub struct RelaySockets {
    /// The relay's own addresses. To clients they stand for this machine's loopback.
    pub addresses: Vec<IpAddr>,
    /// One listener for each family.
    pub tcp: Vec<TcpListener>,
    /// One socket for each family.
    pub udp: Vec<UdpSocket>,
}

/// What the relay has counted.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct RelayStats {
    /// Connections that were opened.
    pub connections: u64,
    /// UDP flows that were opened.
    pub sessions: u64,
    /// Connections open now.
    pub connections_now: u64,
    /// UDP flows open now.
    pub sessions_now: u64,
    /// Connections that the other side refused.
    pub refused: u64,
    /// Connections and UDP flows to which there was no way, or not in time.
    pub unreachable: u64,
    /// Connections turned away because too many were open, or the machine had no room for more.
    pub turned_away: u64,
    /// UDP flows ended early to make room for others.
    pub evicted: u64,
}

/// The live counters behind [`RelayStats`].
#[derive(Debug, Default)]
pub(crate) struct Counters {
    connections: AtomicU64,
    sessions: AtomicU64,
    connections_now: AtomicU64,
    sessions_now: AtomicU64,
    refused: AtomicU64,
    unreachable: AtomicU64,
    turned_away: AtomicU64,
    evicted: AtomicU64,
}

impl Counters {
    pub(crate) fn read(&self) -> RelayStats {
        let of = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        RelayStats {
            connections: of(&self.connections),
            sessions: of(&self.sessions),
            connections_now: of(&self.connections_now),
            sessions_now: of(&self.sessions_now),
            refused: of(&self.refused),
            unreachable: of(&self.unreachable),
            turned_away: of(&self.turned_away),
            evicted: of(&self.evicted),
        }
    }

    /// The answer to a client whose other half could not be opened.
    fn failed(&self, error: &io::Error) -> DialAnswer {
        use io::ErrorKind as Kind;
        let (counter, answer) = match error.kind() {
            Kind::ConnectionRefused | Kind::ConnectionReset => (&self.refused, DialAnswer::Refused),
            Kind::HostUnreachable | Kind::NetworkUnreachable | Kind::NetworkDown => {
                (&self.unreachable, DialAnswer::Unreachable)
            }
            // A firewall of this machine, an address that cannot be dialled, or nobody has answered for long enough.
            Kind::PermissionDenied | Kind::AddrNotAvailable | Kind::InvalidInput | Kind::TimedOut => {
                (&self.unreachable, DialAnswer::Unreachable)
            }
            // No descriptors, no memory: it may pass, and the client tries again by itself.
            _ => {
                tracing::warn!(%error, "a connection to the outside cannot be opened");
                (&self.turned_away, DialAnswer::Silent)
            }
        };
        counter.fetch_add(1, Ordering::Relaxed);
        answer
    }
}

/// Adds one while it lives.
struct Gauge<'a>(&'a AtomicU64);

impl<'a> Gauge<'a> {
    fn new(gauge: &'a AtomicU64) -> Self {
        gauge.fetch_add(1, Ordering::Relaxed);
        Self(gauge)
    }
}

impl Drop for Gauge<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// What all tasks of the relay share.
struct Relay {
    mailbox: Mailbox,
    addresses: Vec<IpAddr>,
    counters: Arc<Counters>,
}

impl Relay {
    fn answer(&self, dial: Dial, answer: DialAnswer) {
        tracing::debug!(client = %dial.client(), destination = %dial.destination, protocol = %dial.flow.protocol, ?answer, "a flow to the outside");
        // When the worker has ended there is nobody left to tell.
        self.mailbox.send(Command::Dialled(dial, answer));
    }
}

/// Where to go for a destination as the client sees it: in this order, until one accepts. `own` are the relay's addresses.
///
/// # Errors
/// When it is no address that a client may mean.
fn targets(own: &[IpAddr], destination: SocketAddr) -> io::Result<Vec<SocketAddr>> {
    let port = destination.port();
    if own.contains(&destination.ip()) {
        // What listens on "localhost" may do so in one family only.
        return Ok(vec![(Ipv4Addr::LOCALHOST, port).into(), (Ipv6Addr::LOCALHOST, port).into()]);
    }
    let ip = destination.ip().to_canonical();
    let is_broadcast = matches!(ip, IpAddr::V4(ip) if ip.is_broadcast());
    if ip.is_loopback() || ip.is_unspecified() || ip.is_multicast() || is_broadcast || port == 0 {
        return Err(io::ErrorKind::AddrNotAvailable.into());
    }
    Ok(vec![SocketAddr::new(ip, port)])
}

/// Runs the relay until `shutdown`.
pub(crate) async fn run(mailbox: Mailbox, inner: RelaySockets, counters: Arc<Counters>, shutdown: CancellationToken) {
    let (dial_tx, mut dial_rx) = mpsc::channel(DIALS);
    mailbox.send(Command::Relay(dial_tx));
    let relay = Arc::new(Relay { mailbox, addresses: inner.addresses, counters });
    let connections = Arc::new(tcp::Connections::default());
    let sessions = Arc::new(udp::Sessions::new(inner.udp));
    let mut tasks = JoinSet::new();
    for listener in inner.tcp {
        tasks.spawn(tcp::accept(listener, Arc::clone(&connections)));
    }
    for index in 0..sessions.sockets() {
        tasks.spawn(udp::pass_out(Arc::clone(&sessions), index));
    }
    loop {
        let dial = tokio::select! {
            () = shutdown.cancelled() => break,
            dial = dial_rx.recv() => dial,
            // Tasks end by themselves; what is left to do is to let go of them.
            Some(ended) = tasks.join_next() => {
                if let Err(error) = ended {
                    tracing::error!(%error, "a task of the relay ended badly");
                }
                continue;
            }
        };
        let Some(dial) = dial else { break };
        match dial.flow.protocol {
            Protocol::Udp => drop(tasks.spawn(udp::serve(Arc::clone(&relay), Arc::clone(&sessions), dial))),
            Protocol::Tcp => drop(tasks.spawn(tcp::serve(Arc::clone(&relay), Arc::clone(&connections), dial))),
            // The translator does not ask: there are no ordinary sockets for it.
            Protocol::Sctp => relay.answer(dial, DialAnswer::Unreachable),
        }
    }
    tasks.shutdown().await;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_relay_s_own_address_is_loopback_and_loopback_itself_is_nobody() {
        let own: [IpAddr; 1] = [Ipv4Addr::new(10, 95, 0, 254).into()];
        let to = |text: &str| targets(&own, text.parse().expect("an address")).map_err(|error| error.kind());
        let texts = |text: &str| to(text).map(|all| all.iter().map(ToString::to_string).collect::<Vec<_>>());
        assert_eq!(texts("10.95.0.254:5432"), Ok(vec!["127.0.0.1:5432".to_owned(), "[::1]:5432".to_owned()]));
        assert_eq!(texts("192.0.2.1:443"), Ok(vec!["192.0.2.1:443".to_owned()]));
        for nobody in
            ["127.0.0.1:80", "0.0.0.0:80", "255.255.255.255:80", "224.0.0.1:80", "192.0.2.1:0", "[::ffff:127.0.0.1]:80"]
        {
            assert_eq!(to(nobody), Err(io::ErrorKind::AddrNotAvailable), "{nobody}");
        }
    }

    #[test]
    fn a_failure_is_told_as_what_it_is() {
        let counters = Counters::default();
        for (kind, answer) in [
            (io::ErrorKind::ConnectionRefused, DialAnswer::Refused),
            (io::ErrorKind::HostUnreachable, DialAnswer::Unreachable),
            (io::ErrorKind::TimedOut, DialAnswer::Unreachable),
            (io::ErrorKind::PermissionDenied, DialAnswer::Unreachable),
            (io::ErrorKind::OutOfMemory, DialAnswer::Silent),
        ] {
            assert_eq!(counters.failed(&kind.into()), answer, "{kind}");
        }
        let stats = counters.read();
        assert_eq!((stats.refused, stats.unreachable, stats.turned_away), (1, 3, 1));
    }
}
