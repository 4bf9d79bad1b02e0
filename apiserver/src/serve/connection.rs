//! One connection: HTTP/1.1 with upgrades, each request with its sender's identity.

use std::convert::Infallible;
use std::pin::pin;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::response::{IntoResponse, Response};
use http::Request;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use jiff::Timestamp;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_util::sync::CancellationToken;
use tower::ServiceExt as _;
use tracing::debug;

use super::authenticate::{Authenticator, Peer};
use crate::identity::Identity;

/// How long a client may take to send the head of its next request, waiting for it to want one included. Clients in
/// wide use drop idle connections after 90 s; ours outlives theirs, so that none is cut while it is being reused.
const HEAD_TIMEOUT: Duration = Duration::from_secs(120);

/// What every connection is served with.
#[derive(Clone)]
pub(super) struct Shared {
    pub(super) router: Router,
    pub(super) authenticator: Authenticator,
    /// Cancelled: answer what was asked, take no more requests.
    pub(super) shutdown: CancellationToken,
}

impl Shared {
    /// Serves a connection until either side ends it, or it was told to end and has answered.
    pub(super) async fn serve(self, stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static, peer: Peer) {
        let shutdown = self.shutdown.clone();
        let service = service_fn(move |request| {
            let (router, authenticator, peer) = (self.router.clone(), self.authenticator.clone(), peer.clone());
            async move { Ok::<_, Infallible>(answer(router, &authenticator, &peer, request).await) }
        });
        let connection = http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(HEAD_TIMEOUT)
            .serve_connection(TokioIo::new(stream), service)
            .with_upgrades();
        let mut connection = pin!(connection);
        let ended = tokio::select! {
            ended = connection.as_mut() => ended,
            () = shutdown.cancelled() => {
                connection.as_mut().graceful_shutdown();
                connection.await
            }
        };
        if let Err(error) = ended {
            // Clients break off watches all the time.
            debug!(%error, "a connection ended early");
        }
    }
}

async fn answer(
    router: Router,
    authenticator: &Authenticator,
    peer: &Peer,
    mut request: Request<Incoming>,
) -> Response {
    let path = request.uri().path().to_owned();
    match authenticator.identify(peer, &path, request.headers_mut(), Timestamp::now()) {
        Ok(Some(identity)) => request.extensions_mut().insert::<Identity>(identity),
        Ok(None) => None,
        Err(refused) => return refused.into_response(),
    };
    router.oneshot(request.map(Body::new)).await.unwrap_or_else(|never| match never {})
}
