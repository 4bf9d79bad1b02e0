//! What podd needs of the data plane: to take the other end of a namespace's interface.

use std::net::IpAddr;
use std::os::fd::OwnedFd;

use async_trait::async_trait;
use thiserror::Error;

/// An interface of a pod or node, to be connected to the others.
#[derive(Debug)]
pub struct Link {
    /// For people: `pod NAMESPACE/NAME` or `node NAME`.
    pub name: String,
    /// The TUN device, non-blocking. Closing it takes the interface away.
    pub device: OwnedFd,
    /// Whether the device was opened with segmentation offload.
    pub offload: bool,
    /// Addresses behind it.
    pub addresses: Vec<IpAddr>,
    /// Whose it is.
    pub owner: Owner,
}

/// Whose interface it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Owner {
    /// A pod's.
    Pod {
        /// Namespace of the pod.
        namespace: String,
        /// Name of the pod.
        name: String,
        /// Node it is bound to.
        node: String,
        /// Seconds of Unix time at which it was created.
        created: i64,
        /// Ports of its node that are to lead to it.
        host_ports: Vec<HostPort>,
    },
    /// A node's.
    Node {
        /// Name of the node.
        name: String,
    },
}

/// A port of a node's addresses that leads to a pod: `hostPort` of a container.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HostPort {
    /// `hostIP`: the node's address it is at. None is every one, an unspecified one every one of its family.
    pub address: Option<IpAddr>,
    /// Protocol.
    pub protocol: HostProtocol,
    /// The port at the node.
    pub port: u16,
    /// The port of the pod.
    pub target: u16,
}

/// Protocols that ports have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HostProtocol {
    /// TCP.
    Tcp,
    /// UDP.
    Udp,
    /// SCTP.
    Sctp,
}

/// Names an attached link; never used twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LinkId(pub u64);

/// The link was not taken.
#[derive(Clone, Debug, Error)]
#[error("cannot connect {link} to the network: {reason}")]
pub struct NetworkError {
    /// [`Link::name`].
    pub link: String,
    /// Why.
    pub reason: String,
}

/// The data plane.
#[async_trait]
pub trait Network: Send + Sync {
    /// Takes a link; packets flow when it returns.
    ///
    /// # Errors
    /// When there is no room for it, or the data plane has ended.
    async fn attach(&self, link: Link) -> Result<LinkId, NetworkError>;

    /// Gives a link up and closes its device; an unknown one is ignored.
    async fn detach(&self, id: LinkId);

    /// A node has lost its power: its links and those of its pods fall silent at once, and nobody is told.
    async fn power_off(&self, node: &str);

    /// A node comes back: what is left of its links is given up, before it is attached anew.
    async fn power_on(&self, node: &str);
}
