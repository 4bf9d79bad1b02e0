//! The DNS server of the cluster domain: sockets and watches around the zone.
//!
//! What the answer to a name of the cluster domain is, `dnsd/zone` decides. This crate reads queries, keeps the zone up
//! to date from the API, and passes on what is not the cluster's. It opens no listening socket itself: it is given some,
//! which live in the lab's control plane.

mod answer;
mod backlog;
mod cache;
mod forward;
mod message;
mod metrics;
mod publish;
mod records;
mod server;
mod shares;
mod stats;
#[cfg(test)]
mod tests;
mod watch;
mod wire;

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use arc_swap::ArcSwap;
/// How a message came, and its answer goes.
pub use hickory_server::net::xfer::Protocol;
use ipnet::IpNet;
use kube::Client;
use minisvc_zone::{Name, Zone, ZoneConfig, ZoneInput};
use tokio::net::{TcpListener, UdpSocket};
use tokio_util::sync::CancellationToken;

pub use crate::answer::answer_alone;
use crate::forward::Forwarder;
pub use crate::forward::parse_resolv_conf;
pub use crate::publish::{METRICS_PORT, PublishError, publish};
use crate::server::Server;
pub use crate::stats::{Counters, Stat};

/// What the server has to know.
#[derive(Debug, Clone)]
pub struct Config {
    /// The cluster domain, such as `cluster.local`.
    pub domain: String,
    /// How long records may be remembered, in seconds, 0 to 3600 (N-009). Low, so that caches follow pods.
    pub ttl: u32,
    /// Ranges whose reverse names are the cluster's.
    pub reverse: Vec<IpNet>,
    /// The virtual address that the server is asked at.
    pub address: IpAddr,
    /// Where other names are asked; without any they are refused.
    pub upstreams: Vec<SocketAddr>,
    /// Domains whose names are asked elsewhere, each with where (N-078).
    pub stubs: Vec<(String, Vec<SocketAddr>)>,
    /// Whether a reverse name that nothing here has is passed on (N-004). Not so where upstreams ask us about our ranges.
    pub reverse_falls_through: bool,
    /// Further names with their addresses, outside the cluster domain.
    pub hosts: Vec<(String, Vec<IpAddr>)>,
}

impl Config {
    fn zone(&self) -> ZoneConfig {
        ZoneConfig {
            domain: Name::new(&self.domain),
            ttl: self.ttl,
            reverse: self.reverse.clone(),
            servers: vec![self.address],
            hosts: self.hosts.iter().map(|(name, addresses)| (Name::new(name), addresses.clone())).collect(),
            reverse_falls_through: self.reverse_falls_through,
        }
    }
}

/// Where the server is asked: sockets of the lab's control plane.
#[derive(Debug, Default)]
pub struct Sockets {
    /// For datagrams.
    pub udp: Vec<UdpSocket>,
    /// For connections.
    pub tcp: Vec<TcpListener>,
    /// For the counters, as Prometheus reads them: `GET /metrics`.
    pub metrics: Vec<TcpListener>,
}

/// Serves until `shutdown`. Keeps answering from what it knows when the API goes away (N-007).
pub async fn run(
    config: Config,
    client: Client,
    sockets: Sockets,
    counters: Arc<Counters>,
    shutdown: CancellationToken,
) {
    let zone = Arc::new(ArcSwap::from_pointee(Zone::build(config.zone(), ZoneInput::default())));
    let follow = watch::follow(config.zone(), client, Arc::clone(&zone), shutdown.clone());
    tokio::join!(serve(&config.upstreams, &config.stubs, zone, sockets, counters, shutdown), follow);
}

/// Serves a zone that somebody else keeps up to date, or that does not change, until `shutdown`.
pub async fn serve(
    upstreams: &[SocketAddr],
    stubs: &[(String, Vec<SocketAddr>)],
    zone: Arc<ArcSwap<Zone>>,
    sockets: Sockets,
    counters: Arc<Counters>,
    shutdown: CancellationToken,
) {
    let forwarder = Forwarder::new(upstreams, stubs, Arc::clone(&counters));
    let server = Server::new(zone, forwarder, Arc::clone(&counters), shutdown.clone());
    tokio::join!(server.run(sockets.udp, sockets.tcp), metrics::serve(sockets.metrics, counters, shutdown));
}
