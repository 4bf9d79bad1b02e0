//! One listener: plain HTTP, and little of it.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::header::{CONTENT_TYPE, HeaderName, HeaderValue, X_CONTENT_TYPE_OPTIONS};
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use jiff::Timestamp;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinSet;

use super::answer::{self, Answer, LIFETIME, Subject};
use super::plan::Health;
use super::pulse::Pulse;

/// Connections of one listener at once; further ones wait to be accepted.
const LIMIT: usize = 128;

/// Pause after an accept that failed for want of descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// How long a request head may take.
const HEAD_WITHIN: Duration = Duration::from_secs(10);

/// KEP-3836: how many endpoints share what a load balancer sends to this node.
const WEIGHT: HeaderName = HeaderName::from_static("x-load-balancing-endpoint-weight");

/// What answers are made of.
#[derive(Clone)]
pub(super) struct State {
    pub(super) health: watch::Receiver<Arc<Health>>,
    pub(super) pulse: Arc<Pulse>,
}

/// Answers until it is aborted, and its connections with it.
pub(super) async fn serve(listener: TcpListener, node: Arc<str>, subject: Subject, state: State) {
    let room = Arc::new(Semaphore::new(LIMIT));
    let mut connections = JoinSet::new();
    loop {
        // It is never closed.
        let Ok(place) = Arc::clone(&room).acquire_owned().await else { return };
        while connections.try_join_next().is_some() {}
        match listener.accept().await {
            Ok((stream, _)) => {
                let (node, subject, state) = (Arc::clone(&node), subject.clone(), state.clone());
                connections.spawn(async move {
                    let _place = place;
                    // A client that stays longer connects again.
                    let _ = tokio::time::timeout(LIFETIME, converse(stream, &node, &subject, &state)).await;
                });
            }
            Err(error) => {
                tracing::debug!(%error, %node, "a health check cannot be accepted");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

async fn converse(stream: TcpStream, node: &Arc<str>, subject: &Subject, state: &State) {
    let reply = |request: Request<Incoming>| {
        let health = Arc::clone(&state.health.borrow());
        let path = request.uri().path();
        let answer = answer::answer(subject, path, node, &health, &state.pulse, Timestamp::now());
        std::future::ready(Ok::<_, Infallible>(response(answer)))
    };
    let mut http = hyper::server::conn::http1::Builder::new();
    http.timer(TokioTimer::new()).header_read_timeout(HEAD_WITHIN);
    if let Err(error) = http.serve_connection(TokioIo::new(stream), service_fn(reply)).await {
        tracing::trace!(%error, %node, "a health check broke off");
    }
}

fn response(answer: Answer) -> Response<Full<Bytes>> {
    let Answer { status, content_type, weight, body } = answer;
    let mut response = Response::new(Full::new(Bytes::from(body)));
    *response.status_mut() = StatusCode::from_u16(status).unwrap_or(StatusCode::SERVICE_UNAVAILABLE);
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    if let Some(weight) = weight {
        headers.insert(WEIGHT, HeaderValue::from(weight));
    }
    response
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    use super::*;
    use crate::records::ObjectKey;

    // D-098, D-099
    #[tokio::test]
    async fn an_answer_is_plain_http_with_the_headers_that_load_balancers_read() {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("listening");
        let address = listener.local_addr().expect("bound");
        let (_health_tx, health) = watch::channel(Arc::default());
        let state = State { health, pulse: Arc::new(Pulse::new()) };
        let subject = Subject::Service(ObjectKey::new(Some("n"), Some("web")));
        let serving = tokio::spawn(serve(listener, "a".into(), subject, state));
        let mut stream = TcpStream::connect(address).await.expect("connected");
        stream.write_all(b"GET /x HTTP/1.0\r\n\r\n").await.expect("sent");
        let mut answer = String::new();
        let read = tokio::time::timeout(Duration::from_secs(10), stream.read_to_string(&mut answer));
        read.await.expect("in time").expect("answered");
        let answer = answer.to_ascii_lowercase();
        for part in [
            "503 service unavailable",
            "content-type: application/json",
            "x-content-type-options: nosniff",
            "x-load-balancing-endpoint-weight: 0",
            "\"localendpoints\":0",
        ] {
            assert!(answer.contains(part), "{part} in {answer}");
        }
        serving.abort();
    }
}
