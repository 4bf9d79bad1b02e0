//! TLS for `agnhost porter`, with a certificate of its own that nobody vouches for.

use std::io;
use std::sync::Arc;

use rcgen::{CertifiedKey, generate_simple_self_signed};
use rustls::crypto::ring;
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use rustls::{ServerConfig, ServerConnection, StreamOwned};

/// What all connections of a server share.
#[derive(Debug, Clone)]
pub(super) struct Tls(Arc<ServerConfig>);

impl Tls {
    /// With a new key.
    pub(super) fn new(host: &str) -> io::Result<Self> {
        let CertifiedKey { cert, signing_key } =
            generate_simple_self_signed([host.to_owned(), "localhost".to_owned()]).map_err(io::Error::other)?;
        let key = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(signing_key.serialize_der()));
        let config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .and_then(|builder| builder.with_no_client_auth().with_single_cert(vec![cert.der().clone()], key))
            .map_err(io::Error::other)?;
        Ok(Self(Arc::new(config)))
    }

    /// The server's side of a connection; the handshake happens with the first bytes.
    pub(super) fn accept<S: io::Read + io::Write>(&self, stream: S) -> io::Result<StreamOwned<ServerConnection, S>> {
        let session = ServerConnection::new(Arc::clone(&self.0)).map_err(io::Error::other)?;
        Ok(StreamOwned::new(session, stream))
    }
}
