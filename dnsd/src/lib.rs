//! The DNS server of the cluster domain: sockets and watches around the zone.
//!
//! What the answer to a name of the cluster domain is, `dnsd/zone` decides. This crate reads queries, keeps the zone up
//! to date from the API, and passes on what is not the cluster's. It opens no listening socket itself: it is given some,
//! which live in the lab's control plane.

mod forward;
mod handler;
mod publish;
mod records;
#[cfg(test)]
mod tests;
mod watch;
mod wire;

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use hickory_server::Server;
use ipnet::IpNet;
use kube::Client;
use minisvc_zone::{Name, Zone, ZoneConfig, ZoneInput};
use tokio::net::{TcpListener, UdpSocket};
use tokio_util::sync::CancellationToken;

use crate::forward::Forwarder;
pub use crate::forward::parse_resolv_conf;
use crate::handler::Handler;
pub use crate::publish::{PublishError, publish};

/// How long an idle TCP connection is kept (N-070).
const TCP_IDLE: Duration = Duration::from_secs(10);

/// Answers waiting to be written to one TCP connection; the connection is not read further while it is full.
const TCP_BUFFER: usize = 32;

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
        }
    }
}

/// Serves until `shutdown`. Keeps answering from what it knows when the API goes away (N-007).
pub async fn run(
    config: Config,
    client: Client,
    sockets: Vec<UdpSocket>,
    listeners: Vec<TcpListener>,
    shutdown: CancellationToken,
) {
    let empty = Zone::build(config.zone(), ZoneInput::default());
    let zone = Arc::new(ArcSwap::from_pointee(empty));
    let handler = Handler::new(Arc::clone(&zone), Forwarder::new(config.upstreams.clone()));
    let mut server = Server::new(handler);
    for socket in sockets {
        server.register_socket(socket);
    }
    for listener in listeners {
        server.register_listener(listener, TCP_IDLE, TCP_BUFFER);
    }
    watch::follow(config.zone(), client, zone, shutdown).await;
    if let Err(error) = server.shutdown_gracefully().await {
        tracing::debug!(%error, "the DNS server ended with an error");
    }
}
