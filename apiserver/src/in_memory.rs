//! The API without a socket: a `kube::Client` whose requests go straight to the handlers.

use std::convert::Infallible;
use std::sync::Arc;

use axum::body::Body;
use http::Request;

use crate::handlers;
use crate::identity::Identity;
use crate::server::Server;

/// A client that acts as `identity`; its watches stream like those over a socket.
///
/// Must be called on a tokio runtime, because `kube::Client` spawns a task.
pub(crate) fn client(server: &Arc<Server>, identity: Identity) -> kube::Client {
    let server = Arc::clone(server);
    let service = tower::service_fn(move |request: Request<kube::client::Body>| {
        let server = Arc::clone(&server);
        let mut request = request.map(Body::new);
        request.extensions_mut().insert(identity.clone());
        async move { Ok::<_, Infallible>(handlers::handle(server, request).await) }
    });
    kube::Client::new(service, "default")
}
