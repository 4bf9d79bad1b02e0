//! One request passed on to the lab's Unix socket, upgrades included.

use std::io;
use std::path::Path;

use axum::body::Body;
use axum::response::Response;
use http::header::{AUTHORIZATION, HOST};
use http::{HeaderValue, Request, StatusCode, Uri};
use hyper::client::conn::http1;
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use tokio::net::UnixStream;

/// Passes a request on and its answer back, on a connection of its own: on a Unix socket that costs next to nothing, and an
/// upgraded connection needs one for itself.
pub(super) async fn forward(socket: &Path, mut request: Request<Body>) -> io::Result<Response> {
    let stream = UnixStream::connect(socket).await?;
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.map_err(io::Error::other)?;
    tokio::spawn(async move {
        if let Err(error) = connection.with_upgrades().await {
            tracing::debug!(%error, "a passed-on connection ended early");
        }
    });
    let path = request.uri().path_and_query().map_or("/", |path| path.as_str());
    *request.uri_mut() = Uri::try_from(path).map_err(io::Error::other)?;
    request.headers_mut().insert(HOST, HeaderValue::from_static("localhost"));
    // Whoever was let in has the owner's rights; another's token would not add to them.
    request.headers_mut().remove(AUTHORIZATION);
    let ours = request.extensions_mut().remove::<OnUpgrade>();
    let mut answer = sender.send_request(request).await.map_err(io::Error::other)?;
    if answer.status() == StatusCode::SWITCHING_PROTOCOLS {
        let theirs = hyper::upgrade::on(&mut answer);
        if let Some(ours) = ours {
            tokio::spawn(join(ours, theirs));
        }
    }
    Ok(answer.map(Body::new))
}

/// Joins the two halves of an upgraded connection until either end closes.
async fn join(ours: OnUpgrade, theirs: OnUpgrade) {
    let (Ok(ours), Ok(theirs)) = tokio::join!(ours, theirs) else { return };
    // Either side may hang up at any time; there is nobody to tell.
    let _ = tokio::io::copy_bidirectional(&mut TokioIo::new(ours), &mut TokioIo::new(theirs)).await;
}
