//! A Kubernetes-compatible REST API over the object store.
//!
//! A request goes through `request_info` (what the URL means), authorisation, the [`registry`] (which kind), `body`
//! (decoding, strictness), `write` (defaults, rules, allocation, one transaction) and `render` (the form the client asked
//! for). It decides nothing about pods or packets: controllers, podd, netd and dnsd are clients like any other.

mod attributes;
mod body;
mod bootstrap;
mod dialer;
mod discovery;
pub mod error;
mod extension;
mod field_error;
mod handlers;
mod health;
mod identity;
mod in_memory;
mod list_body;
mod meta;
mod metrics;
mod negotiate;
mod node_service;
mod openapi;
mod paging;
mod rbac;
pub mod registry;
mod render;
mod repair;
mod request_info;
pub mod resources;
mod reviews;
mod schema;
mod selectors;
pub mod serve;
mod server;
mod stored;
pub mod table;
mod upgrade;
mod write;

use std::net::{Ipv4Addr, SocketAddr};
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use axum::Router;
use axum::body::Body;
use axum::extract::State;
use axum::response::Response;
use http::Request;
use ipnet::{IpNet, Ipv4Net};
use jiff::Timestamp;
use minisvc_store::{MemoryBackend, SledBackend, SledOptions, Store};
use tokio::net::{TcpListener, UnixListener};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

pub use crate::dialer::Dialer;
pub use crate::error::ApiError;
pub use crate::extension::{Extension, ExtensionResource};
pub use crate::identity::{AUTHENTICATED, Identity, MASTERS};
pub use crate::metrics::MetricsSource;
pub use crate::node_service::{
    ByteStream, Framing, LogRequest, LogStream, NodeService, OutputStream, StreamKind, StreamRequest, StreamSession,
    Streams,
};
pub use crate::request_info::Verb;
use crate::serve::{Ca, ServerNames};
use crate::server::Server;

/// How a server is set up.
#[derive(Debug, Clone)]
pub struct Options {
    /// Where objects are kept; `None` keeps them in memory only.
    pub state_dir: Option<PathBuf>,
    /// Service address ranges, at most one per family; the first is the primary family.
    pub service_cidrs: Vec<IpNet>,
    /// Node ports.
    pub node_ports: RangeInclusive<u16>,
    /// The domain of Services' names.
    pub cluster_domain: String,
    /// Where pods reach this server; must not be loopback (S-172).
    pub advertise: SocketAddr,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            state_dir: None,
            service_cidrs: vec![IpNet::V4(Ipv4Net::new_assert(Ipv4Addr::new(10, 96, 0, 0), 16))],
            node_ports: 30000..=32767,
            cluster_domain: "cluster.local".to_owned(),
            advertise: SocketAddr::from((Ipv4Addr::new(10, 95, 0, 2), 6443)),
        }
    }
}

/// Why a server could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The objects cannot be read, or are in use.
    #[error(transparent)]
    Store(#[from] minisvc_store::OpenError),
    /// The authority for certificates and tokens cannot be read or made.
    #[error(transparent)]
    Ca(#[from] serve::CaError),
    /// The thread that reads the objects did not come back.
    #[error("the stored objects could not be read")]
    Interrupted(#[from] tokio::task::JoinError),
    /// What must exist from the start could not be made.
    #[error("the first objects could not be made: {0}")]
    Bootstrap(#[from] ApiError),
}

/// A running API server; clones are the same server.
#[derive(Clone)]
pub struct ApiServer {
    server: Arc<Server>,
    /// Looks after the Service `kubernetes` and aggregated roles; joined by [`ApiServer::close`].
    keeper: Arc<Mutex<Option<JoinHandle<()>>>>,
}

impl std::fmt::Debug for ApiServer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ApiServer").field("store", &self.server.store).finish_non_exhaustive()
    }
}

impl ApiServer {
    /// Opens the store and makes what must exist from the start. It can be asked at once; [`crate::serve`] adds sockets.
    ///
    /// # Errors
    /// When the stored objects cannot be read or the first objects cannot be written.
    pub async fn open(options: Options) -> Result<Self, OpenError> {
        let mut store_options = minisvc_store::Options::new(stored::parse_head, stored::volatile);
        store_options.upgrade = stored::upgrade;
        let store = match options.state_dir.clone() {
            None => Store::open(MemoryBackend::new(), store_options)?,
            // Reading everything from disk must not stop the runtime's other tasks.
            Some(directory) => {
                tokio::task::spawn_blocking(move || {
                    Store::open(SledBackend::open(&directory, SledOptions::default())?, store_options)
                })
                .await??
            }
        };
        // After the store, whose lock keeps a second instance from the files of the authority too.
        let ca = open_ca(&options)?;
        let server = Arc::new(Server::new(store, ca, options));
        bootstrap::run(&server).await?;
        repair::run(&server).await;
        let (weak, closing) = (Arc::downgrade(&server), server.closing.clone());
        let keeper = tokio::spawn(async move {
            tokio::join!(
                bootstrap::keep(weak.clone(), closing.clone()),
                repair::keep(weak.clone(), closing.clone()),
                rbac::aggregate::keep(weak, closing)
            );
        });
        Ok(Self { server, keeper: Arc::new(Mutex::new(Some(keeper))) })
    }

    /// A client in memory that acts as `identity`. Needs a tokio runtime.
    #[must_use]
    pub fn client(&self, identity: Identity) -> kube::Client {
        in_memory::client(&self.server, identity)
    }

    /// The whole API as a router. Whoever serves it must put an [`Identity`] into the extensions of each request it has
    /// authenticated; without one only health and version are answered.
    pub fn router(&self) -> Router {
        let answer = |State(server): State<Arc<Server>>, request: Request<Body>| async move {
            let response: Response = handlers::handle(server, request).await;
            response
        };
        Router::new().fallback(answer).with_state(Arc::clone(&self.server))
    }

    /// The lab's authority: kubeconfigs and client certificates come from it.
    #[must_use]
    pub fn ca(&self) -> &Ca {
        &self.server.ca
    }

    /// Serves over TLS until `shutdown`; see [`serve::serve_tls`].
    ///
    /// # Errors
    /// When the certificates cannot be used.
    pub async fn serve_tls(&self, listener: TcpListener, shutdown: CancellationToken) -> Result<(), serve::CaError> {
        let config = self.server.ca.server_config()?;
        serve::serve_tls(listener, self.router(), config, self.server.authenticator(), shutdown).await;
        Ok(())
    }

    /// Serves on a Unix socket to root and the `allowed` uids until `shutdown`; see [`serve::serve_unix`].
    pub async fn serve_unix(&self, listener: UnixListener, allowed: Vec<u32>, shutdown: CancellationToken) {
        serve::serve_unix(listener, self.router(), self.server.authenticator(), allowed, shutdown).await;
    }

    /// Adds the figures of another part of the lab to `/metrics`.
    pub fn add_metrics_source(&self, source: Arc<MetricsSource>) {
        self.server.metrics.add_source(source);
    }

    /// Says who runs the pods: from now on logs can be asked for.
    pub fn set_node_service(&self, service: Arc<dyn NodeService>) {
        self.server.set_node_service(service);
    }

    /// Says who answers for resources that are not stored here: from now on they are served and listed.
    pub fn set_extension(&self, extension: Extension) {
        self.server.set_extension(extension);
    }

    /// Says how pods are reached: from now on requests can be passed on to them.
    pub fn set_dialer(&self, dialer: Arc<dyn Dialer>) {
        self.server.set_dialer(dialer);
    }

    /// Ends watches, withdraws its address from the Service `kubernetes` (S-173), waits for queued writes and releases the
    /// state directory.
    pub async fn close(&self) {
        self.server.closing.cancel();
        self.server.upgraded.close();
        self.server.upgraded.wait().await;
        let keeper = self.keeper.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(keeper) = keeper {
            // It only ever ends by being told to; a panic in it was already logged.
            let _ = keeper.await;
            if let Err(error) = bootstrap::withdraw(&self.server).await {
                tracing::warn!(%error, "the server's address could not be withdrawn");
            }
        }
        self.server.store.close().await;
    }
}

/// The authority kept beside the objects, with a certificate for every way to reach this server.
fn open_ca(options: &Options) -> Result<Ca, serve::CaError> {
    let directory = options.state_dir.as_ref().map(|directory| directory.join("pki"));
    let service = options.service_cidrs.iter().filter_map(bootstrap::first_address);
    let names = ServerNames::new(&options.cluster_domain, service.chain([options.advertise.ip()]));
    Ca::open(directory.as_deref(), &names, Timestamp::now())
}
