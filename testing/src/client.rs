//! A kube client over the lab's Unix socket: no certificate, no port.

use std::path::PathBuf;
use std::pin::Pin;
use std::task::{Context, Poll};

use http::uri::{Authority, PathAndQuery, Scheme};
use http::{Request, Uri};
use hyper_util::client::legacy::Client as HyperClient;
use hyper_util::rt::{TokioExecutor, TokioIo};
use kube::client::Body;
use tokio::net::UnixStream;
use tower::{Service, ServiceExt as _};

/// Connects every request to one socket, whatever host its URI names.
#[derive(Debug, Clone)]
struct Connector(PathBuf);

impl Service<Uri> for Connector {
    type Response = TokioIo<UnixStream>;
    type Error = std::io::Error;
    type Future = Pin<Box<dyn Future<Output = std::io::Result<TokioIo<UnixStream>>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: Uri) -> Self::Future {
        let path = self.0.clone();
        Box::pin(async move { UnixStream::connect(path).await.map(TokioIo::new) })
    }
}

/// A client of the API behind `socket`. Nothing is sent before the first request.
pub(crate) fn over(socket: PathBuf) -> kube::Client {
    let http = HyperClient::builder(TokioExecutor::new()).build(Connector(socket));
    let service = http.map_request(|mut request: Request<Body>| {
        *request.uri_mut() = absolute(std::mem::take(request.uri_mut()));
        request
    });
    kube::Client::new(service, "default")
}

/// hyper wants a host even where the connector ignores it.
fn absolute(uri: Uri) -> Uri {
    let mut parts = uri.into_parts();
    parts.scheme = Some(Scheme::HTTP);
    parts.authority = Some(Authority::from_static("localhost"));
    parts.path_and_query.get_or_insert(PathAndQuery::from_static("/"));
    // Scheme, authority and path are all there, which is the one thing that could be missing.
    Uri::from_parts(parts).unwrap_or_default()
}
