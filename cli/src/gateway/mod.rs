//! Plain HTTP on this machine's loopback, for programs that cannot show a certificate: `minisvc proxy` and the dashboard.
//!
//! Whoever connects is known by the user id that the kernel keeps for the other end of the connection, and has the rights
//! of the lab's owner if it is the owner or root; anybody else is refused. What is asked goes on to the lab's Unix socket.

mod forward;
mod guard;

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use axum::extract::State;
use axum::response::{IntoResponse as _, Response};
use http::{Request, StatusCode};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tower::ServiceExt as _;

use crate::error::{CliError, Context as _};
use crate::home::LabHome;
pub(crate) use guard::Guard;

/// Connections at once; further ones wait to be accepted.
const MAX_CONNECTIONS: usize = 256;

/// Listens on loopback.
///
/// # Errors
/// When the port is taken.
pub(crate) async fn listen(port: u16) -> Result<TcpListener, CliError> {
    TcpListener::bind(SocketAddr::from(([127, 0, 0, 1], port))).await.map_err(|source| {
        CliError::usage(format!("cannot listen on port {port} of 127.0.0.1"))
            .because(source)
            .hint("name another port with --port; 0 takes any free one")
    })
}

/// The lab's whole API, as a router that passes everything on.
pub(crate) fn api(home: &LabHome) -> Router {
    let pass_on = |State(socket): State<Arc<std::path::PathBuf>>, request: Request<Body>| async move {
        forward::forward(&socket, request).await.unwrap_or_else(|error| {
            (StatusCode::BAD_GATEWAY, format!("the lab does not answer: {error}\n")).into_response()
        })
    };
    Router::new().fallback(pass_on).with_state(Arc::new(home.api_socket()))
}

/// Answers with `router` those whom the guard lets in, until `shutdown`.
///
/// # Errors
/// When the listener has no address.
pub(crate) async fn serve(listener: TcpListener, router: Router, shutdown: CancellationToken) -> Result<(), CliError> {
    let address = listener.local_addr().context(|| "the listener has no address".to_owned())?;
    let guard = Arc::new(Guard::new(address));
    let room = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    loop {
        let Ok(permit) = Arc::clone(&room).acquire_owned().await else { return Ok(()) };
        let (stream, peer) = tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok(accepted) => accepted,
                Err(error) => {
                    tracing::warn!(%error, "a connection could not be accepted");
                    continue;
                }
            },
            () = shutdown.cancelled() => return Ok(()),
        };
        let (guard, router, shutdown) = (Arc::clone(&guard), router.clone(), shutdown.clone());
        tokio::spawn(async move {
            tokio::select! {
                () = connection(stream, peer, guard, router) => {}
                () = shutdown.cancelled() => {}
            }
            drop(permit);
        });
    }
}

async fn connection(stream: TcpStream, peer: SocketAddr, guard: Arc<Guard>, router: Router) {
    let admitted = guard.admits_peer(peer);
    let service = service_fn(move |request: Request<Incoming>| {
        let (guard, router) = (Arc::clone(&guard), router.clone());
        async move {
            let refused = if admitted { guard.refusal(request.headers()) } else { Some(guard::STRANGER) };
            Ok::<Response, Infallible>(match refused {
                Some(why) => (StatusCode::FORBIDDEN, format!("{why}\n")).into_response(),
                None => router.oneshot(request.map(Body::new)).await.unwrap_or_else(|never| match never {}),
            })
        }
    });
    let served = http1::Builder::new().serve_connection(TokioIo::new(stream), service).with_upgrades().await;
    if let Err(error) = served {
        tracing::debug!(%error, "a connection ended early");
    }
}
