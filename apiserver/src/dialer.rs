//! What the API server asks of the lab's network: connections to addresses in it, for the proxy subresources.

use std::io;
use std::net::SocketAddr;

use async_trait::async_trait;

use crate::node_service::ByteStream;

/// Opens connections from where the control plane is.
#[async_trait]
pub trait Dialer: Send + Sync + 'static {
    /// Connects to an address of a pod or a node.
    ///
    /// # Errors
    /// When nobody answers there.
    async fn connect(&self, target: SocketAddr) -> io::Result<Box<dyn ByteStream>>;
}
