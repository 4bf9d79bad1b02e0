//! The proxy subresources: a request goes on to a pod, to an endpoint of a Service or to a port of a node, and the answer
//! comes back (A-138, S-228 to S-232).
//!
//! Whom it is for is decided in `target`, what the pages that come back look like in `links`. Nothing is kept.

mod links;
mod target;
mod tls;

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use axum::body::Body;
use axum::response::Response;
use bytes::Bytes;
use futures::TryStreamExt as _;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, StatusCode, Uri, header};
use hyper::body::Incoming;
use hyper::client::conn::http1;
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use rand::RngExt as _;
use serde_json::Value;

use self::links::{Links, Page};
use self::target::Id;
use super::Call;
use crate::error::ApiError;
use crate::node_service::ByteStream;
use crate::server::Server;
use crate::stored;

/// How long a connection may take to be there.
const CONNECT_WITHIN: Duration = Duration::from_secs(30);

const FORWARDED_URI: HeaderName = HeaderName::from_static("x-forwarded-uri");

/// Headers between two neighbours (RFC 9110 section 7.6.1), and those that are meant for this server alone: a pod must not
/// see its caller's credentials.
const NOT_PASSED_ON: [HeaderName; 10] = [
    header::CONNECTION,
    HeaderName::from_static("keep-alive"),
    header::PROXY_AUTHENTICATE,
    header::PROXY_AUTHORIZATION,
    header::TE,
    header::TRAILER,
    header::TRANSFER_ENCODING,
    header::UPGRADE,
    header::EXPECT,
    header::AUTHORIZATION,
];

/// What a page may allow other sites is for its own server to say, not for ours (S-232).
const CORS: [HeaderName; 4] = [
    header::ACCESS_CONTROL_ALLOW_CREDENTIALS,
    header::ACCESS_CONTROL_ALLOW_HEADERS,
    header::ACCESS_CONTROL_ALLOW_METHODS,
    header::ACCESS_CONTROL_ALLOW_ORIGIN,
];

/// Passes a request on.
pub(super) async fn pass(call: &Call<'_>, body: Body) -> Result<Response, ApiError> {
    let rest = call.path.proxied.as_deref().unwrap_or_default();
    let target = find(call)?;
    let upgrade = is_upgrade(call.headers);
    if rest.is_empty() && !upgrade && matches!(*call.method, Method::GET | Method::HEAD) {
        return Ok(to_folder(call.uri));
    }
    let connection = connect(call.server, &target).await?;
    let (mut sender, connection) = http1::handshake(TokioIo::new(connection)).await.map_err(|e| unreachable(&e))?;
    let closing = call.server.closing.clone();
    call.server.upgraded.spawn(async move {
        tokio::select! {
            // What goes wrong is told to whoever waits for the answer.
            _ = connection.with_upgrades() => {}
            () = closing.cancelled() => {}
        }
    });
    let links = links(call, &target, rest);
    let request = request(call, &target, rest, upgrade, body)?;
    let response = sender.send_request(request).await.map_err(|error| unreachable(&error))?;
    if response.status() == StatusCode::SWITCHING_PROTOCOLS {
        return join(call, response);
    }
    Ok(answer(response, links))
}

/// Whom the request is for.
struct Target {
    tls: bool,
    address: SocketAddr,
}

fn find(call: &Call<'_>) -> Result<Target, ApiError> {
    let (server, namespace) = (call.server, call.namespace());
    let what = call.resource.singular;
    let id = Id::parse(call.name()?, what)?;
    let record = server.record(call.resource, namespace, &id.name)?;
    let object = stored::decode(&record.value);
    let address = match what {
        "pod" => target::pod(&id, &object)?,
        "node" => target::node(&id, &object)?,
        _ => endpoint(server, namespace, &id, &object)?,
    };
    Ok(Target { tls: id.tls, address })
}

/// Any ready endpoint whose pod is there and has the address.
fn endpoint(server: &Server, namespace: &str, id: &Id, service: &Value) -> Result<SocketAddr, ApiError> {
    let port = target::service_port(id, service)?;
    let (records, _) = server.store.list("endpointslices.discovery.k8s.io", Some(namespace));
    let slices =
        records.iter().filter(|record| record.head.label("kubernetes.io/service-name") == Some(id.name.as_str()));
    let mut candidates: Vec<_> =
        slices.flat_map(|record| target::candidates(&stored::decode(&record.value), namespace, &port)).collect();
    while !candidates.is_empty() {
        let candidate = candidates.swap_remove(rand::rng().random_range(0..candidates.len()));
        let pod = server.store.get(&minisvc_store::Key::new("pods", namespace, candidate.pod.as_str()));
        if pod.is_some_and(|pod| target::owns(&stored::decode(&pod.value), candidate.address.ip())) {
            return Ok(candidate.address);
        }
    }
    Err(ApiError::ServiceUnavailable(format!("no endpoints available for service {:?}", id.name)))
}

async fn connect(server: &Server, target: &Target) -> Result<Box<dyn ByteStream>, ApiError> {
    let Some(dialer) = server.dialer() else {
        let why = "this API server has no network to reach pods in".to_owned();
        return Err(ApiError::ServiceUnavailable(why));
    };
    let dial = async {
        let stream = dialer.connect(target.address).await?;
        if target.tls { tls::wrap(stream, target.address.ip()).await } else { Ok(stream) }
    };
    let connected = tokio::time::timeout(CONNECT_WITHIN, dial).await;
    let connected = connected.unwrap_or_else(|_| Err(io::Error::from(io::ErrorKind::TimedOut)));
    connected.map_err(|error| unreachable(&format_args!("dial tcp {}: {error}", target.address)))
}

fn unreachable(why: &dyn std::fmt::Display) -> ApiError {
    ApiError::ServiceUnavailable(format!("error trying to reach service: {why}"))
}

/// A 301 to the same path with a slash, so that relative links lead below it.
fn to_folder(uri: &Uri) -> Response {
    let query = uri.query().map(|query| format!("?{query}")).unwrap_or_default();
    let mut response = Response::new(Body::empty());
    *response.status_mut() = StatusCode::MOVED_PERMANENTLY;
    // A path and query that came in a request can go out in a header.
    if let Ok(location) = HeaderValue::from_str(&format!("{}/{query}", uri.path())) {
        response.headers_mut().insert(header::LOCATION, location);
    }
    response
}

fn is_upgrade(headers: &HeaderMap) -> bool {
    headers.contains_key(header::UPGRADE) && tokens(headers).any(|token| token.eq_ignore_ascii_case("upgrade"))
}

/// The words of `Connection`.
fn tokens(headers: &HeaderMap) -> impl Iterator<Item = &str> {
    let lines = headers.get_all(header::CONNECTION).iter().filter_map(|value| value.to_str().ok());
    lines.flat_map(|line| line.split(',')).map(str::trim)
}

/// The same request as the target is to see it.
fn request(call: &Call<'_>, target: &Target, rest: &str, upgrade: bool, body: Body) -> Result<Request<Body>, ApiError> {
    let path = if rest.is_empty() { "/" } else { rest };
    let query = call.uri.query().map(|query| format!("?{query}")).unwrap_or_default();
    let uri: Uri =
        format!("{path}{query}").parse().map_err(|_| ApiError::bad_request("the path cannot be passed on"))?;
    let mut request = Request::new(body);
    *request.method_mut() = call.method.clone();
    *request.uri_mut() = uri;
    let mut headers = call.headers.clone();
    strip(&mut headers);
    // Pages must come unpacked, for their links to be read.
    headers.remove(header::ACCEPT_ENCODING);
    let impersonation: Vec<HeaderName> =
        headers.keys().filter(|name| name.as_str().starts_with("impersonate-")).cloned().collect();
    for name in impersonation {
        headers.remove(name);
    }
    if let (true, Some(protocol)) = (upgrade, call.headers.get(header::UPGRADE)) {
        headers.insert(header::CONNECTION, HeaderValue::from_static("Upgrade"));
        headers.insert(header::UPGRADE, protocol.clone());
    }
    if let Ok(seen) = HeaderValue::from_str(call.uri.path()) {
        headers.insert(FORWARDED_URI, seen);
    }
    if let (false, Ok(host)) = (headers.contains_key(header::HOST), HeaderValue::from_str(&target.address.to_string()))
    {
        headers.insert(header::HOST, host);
    }
    *request.headers_mut() = headers;
    Ok(request)
}

/// Takes out what is not passed on, in either direction.
fn strip(headers: &mut HeaderMap) {
    let named: Vec<HeaderName> = tokens(headers).filter_map(|token| token.parse().ok()).collect();
    for name in named.iter().chain(&NOT_PASSED_ON) {
        headers.remove(name);
    }
}

fn links(call: &Call<'_>, target: &Target, rest: &str) -> Links {
    let whole = call.uri.path();
    let prefix = whole.strip_suffix(rest).unwrap_or(whole).to_owned();
    let host = call.headers.get(header::HOST).and_then(|host| host.to_str().ok()).map(str::to_owned);
    Links { prefix, hosts: host.into_iter().chain([target.address.to_string()]).collect() }
}

/// The answer as the client is to see it.
fn answer(response: http::Response<Incoming>, links: Links) -> Response {
    let (mut parts, body) = response.into_parts();
    strip(&mut parts.headers);
    for name in &CORS {
        parts.headers.remove(name);
    }
    let text = |name: HeaderName| parts.headers.get(name).and_then(|value| value.to_str().ok());
    let location = text(header::LOCATION).and_then(|location| links.rewrite(location));
    let content = text(header::CONTENT_TYPE).unwrap_or_default();
    let is_page = content.split(';').next().is_some_and(|kind| kind.trim().eq_ignore_ascii_case("text/html"))
        && parts.headers.get(header::CONTENT_ENCODING).is_none();
    if let Some(Ok(location)) = location.map(HeaderValue::try_from) {
        parts.headers.insert(header::LOCATION, location);
    }
    if !is_page {
        return Response::from_parts(parts, Body::new(body));
    }
    parts.headers.remove(header::CONTENT_LENGTH);
    Response::from_parts(parts, rewritten(Body::new(body), links))
}

fn rewritten(body: Body, links: Links) -> Body {
    let state = (body.into_data_stream(), Some(Page::new(links)));
    Body::from_stream(futures::stream::try_unfold(state, |(mut pieces, page)| async move {
        let Some(mut page) = page else { return Ok::<_, axum::Error>(None) };
        Ok(match pieces.try_next().await? {
            Some(piece) => Some((Bytes::from(page.push(&piece)), (pieces, Some(page)))),
            None => Some((Bytes::from(page.finish()), (pieces, None))),
        })
    }))
}

/// Connects the two connections, which both stop being HTTP.
fn join(call: &Call<'_>, mut response: http::Response<Incoming>) -> Result<Response, ApiError> {
    let theirs = hyper::upgrade::on(&mut response);
    let Some(ours) = call.upgrade.clone().filter(|_| is_upgrade(call.headers)) else {
        return Err(unreachable(&"it switches to another protocol on a connection that cannot"));
    };
    let closing = call.server.closing.clone();
    call.server.upgraded.spawn(async move {
        tokio::select! {
            () = copy(ours, theirs) => {}
            () = closing.cancelled() => {}
        }
    });
    Ok(Response::from_parts(response.into_parts().0, Body::empty()))
}

async fn copy(ours: OnUpgrade, theirs: OnUpgrade) {
    let (ours, theirs) = match tokio::try_join!(ours, theirs) {
        Ok(both) => both,
        Err(error) => return tracing::debug!(%error, "a connection was not upgraded"),
    };
    // Either side ends it whenever it likes.
    let _ = tokio::io::copy_bidirectional(&mut TokioIo::new(ours), &mut TokioIo::new(theirs)).await;
}
