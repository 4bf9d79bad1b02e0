//! The accept loops: TLS over TCP, and a Unix socket.

use std::future::{Future, poll_fn};
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::Router;
use rustls::ServerConfig;
use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;
use tracing::{debug, warn};

use super::authenticate::{Authenticator, Peer};
use super::connection::Shared;

/// Each watch holds a connection, so this is only a guard against running out of descriptors. When it is
/// reached, further clients wait in the listener's backlog until somebody leaves.
const MAX_CONNECTIONS: usize = 8192;
/// How long a client may take for the TLS handshake.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);
/// How long requests may go on after the shutdown began. Watches end by themselves when the store closes.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(5);
/// Rest after a failed accept, for instance for want of descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// Serves `router` over TLS until `shutdown`, then lets requests end for at most five seconds.
///
/// Every request that reaches the router carries an [`Identity`](crate::Identity), except for those that are
/// public. Without valid credentials the answer is 401.
pub async fn serve_tls(
    listener: TcpListener,
    router: Router,
    config: Arc<ServerConfig>,
    authenticator: Authenticator,
    shutdown: CancellationToken,
) {
    let acceptor = TlsAcceptor::from(config);
    let shared = Shared { router, authenticator, shutdown: shutdown.clone() };
    accept_loop(shutdown, listener, move |(stream, from): (TcpStream, SocketAddr)| {
        let (acceptor, shared) = (acceptor.clone(), shared.clone());
        async move {
            // Requests and events are small and waited for. A socket that cannot say so works all the same.
            let _ = stream.set_nodelay(true);
            let stream = match timeout(HANDSHAKE_TIMEOUT, acceptor.accept(stream)).await {
                Ok(Ok(stream)) => stream,
                Ok(Err(error)) => return debug!(%from, %error, "a TLS handshake failed"),
                Err(_) => return debug!(%from, "a TLS handshake took too long"),
            };
            let certificates = stream.get_ref().1.peer_certificates();
            let peer = certificates.and_then(<[_]>::first).map_or(Peer::Unknown, Peer::of_certificate);
            shared.serve(stream, peer).await;
        }
    })
    .await;
}

/// Serves `router` on a Unix socket until `shutdown`, then lets requests end for at most five seconds.
///
/// Processes of root and of the `allowed` uids may do everything, as `system:masters`; others are answered 403. The
/// uid is the kernel's word (SO_PEERCRED).
pub async fn serve_unix(
    listener: UnixListener,
    router: Router,
    authenticator: Authenticator,
    allowed: Vec<u32>,
    shutdown: CancellationToken,
) {
    let shared = Shared { router, authenticator, shutdown: shutdown.clone() };
    let allowed: Arc<[u32]> = allowed.into();
    accept_loop(shutdown, listener, move |stream: UnixStream| {
        let (shared, allowed) = (shared.clone(), Arc::clone(&allowed));
        async move {
            match stream.peer_cred() {
                Ok(credentials) => shared.serve(stream, Peer::of_uid(credentials.uid(), &allowed)).await,
                Err(error) => debug!(%error, "the other end of a socket is unknown"),
            }
        }
    })
    .await;
}

/// A listener of either kind.
trait Listener: Sync {
    type Accepted;
    fn poll_next(&self, context: &mut Context<'_>) -> Poll<io::Result<Self::Accepted>>;
}

impl Listener for TcpListener {
    type Accepted = (TcpStream, SocketAddr);
    fn poll_next(&self, context: &mut Context<'_>) -> Poll<io::Result<Self::Accepted>> {
        self.poll_accept(context)
    }
}

impl Listener for UnixListener {
    type Accepted = UnixStream;
    fn poll_next(&self, context: &mut Context<'_>) -> Poll<io::Result<Self::Accepted>> {
        self.poll_accept(context).map_ok(|(stream, _)| stream)
    }
}

/// Accepts and serves until the shutdown, then waits for what is being served, but not for long.
async fn accept_loop<L: Listener, Serving>(
    shutdown: CancellationToken,
    listener: L,
    mut serve: impl FnMut(L::Accepted) -> Serving,
) where
    Serving: Future<Output = ()> + Send + 'static,
{
    let seats = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    // Owns the connections: dropping it ends them.
    let mut connections = JoinSet::new();
    loop {
        let (seat, accepted) = tokio::select! {
            () = shutdown.cancelled() => break,
            Some(_) = connections.join_next(), if !connections.is_empty() => continue,
            next = next_connection(&seats, &listener) => next,
        };
        match accepted {
            Ok(accepted) => {
                let serving = serve(accepted);
                connections.spawn(async move {
                    serving.await;
                    drop(seat);
                });
            }
            Err(error) => {
                warn!(%error, "a connection could not be accepted");
                sleep(ACCEPT_PAUSE).await;
            }
        }
    }
    // Whoever comes now is refused at once instead of waiting for nothing.
    drop(listener);
    let drained = timeout(DRAIN_TIMEOUT, async { while connections.join_next().await.is_some() {} }).await;
    if drained.is_err() {
        debug!(connections = connections.len(), "connections are cut at the shutdown");
    }
}

async fn next_connection<L: Listener>(
    seats: &Arc<Semaphore>,
    listener: &L,
) -> (Option<OwnedSemaphorePermit>, io::Result<L::Accepted>) {
    // The semaphore is never closed, so there always is a seat in the end.
    let seat = Arc::clone(seats).acquire_owned().await.ok();
    (seat, poll_fn(|context| listener.poll_next(context)).await)
}
