//! Sends the API server requests of a stranger's choosing, and checks what must hold whatever they are.
//!
//! Used by the fuzz target, and by an ordinary test that replays the corpus.

use std::cell::OnceCell;
use std::time::Duration;

use axum::body::Body;
use http::{Request, StatusCode};
use http_body_util::BodyExt as _;
use minisvc_apiserver::{ApiServer, Identity, MASTERS, Options};
use serde_json::{Value, json};
use tokio::runtime::Runtime;
use tower::ServiceExt as _;

/// Watches and waits for a revision end when they are told to, which is later than this.
const PATIENCE: Duration = Duration::from_millis(200);

/// Requests after which a server is replaced by a new one, so that what was created does not pile up.
const LIFE: u32 = 5000;

/// A server and what it runs on.
struct Under {
    runtime: Runtime,
    server: ApiServer,
    asked: u32,
}

thread_local! {
    static UNDER: OnceCell<std::cell::RefCell<Under>> = const { OnceCell::new() };
}

/// Sends a request: three lines with method and path, content type and accepted types, and then the body.
///
/// # Panics
/// When the server does what it must never do.
pub fn request(data: &[u8]) {
    let Some(request) = read(data) else { return };
    UNDER.with(|cell| {
        let under = cell.get_or_init(|| std::cell::RefCell::new(Under::new()));
        let mut under = under.borrow_mut();
        if under.asked >= LIFE {
            *under = Under::new();
        }
        under.asked += 1;
        let under = &*under;
        under.runtime.block_on(ask(&under.server, request));
    });
}

impl Under {
    fn new() -> Self {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().expect("a runtime");
        let server = runtime.block_on(async {
            let server = ApiServer::open(Options::default()).await.expect("opened");
            let ports = json!([{"name": "http", "port": 80}]);
            let containers = json!([{"name": "main", "image": "x"}]);
            for (kind, object) in [
                ("services", json!({"metadata": {"name": "a", "labels": {"a": "b"}}, "spec": {"ports": ports}})),
                ("pods", json!({"metadata": {"name": "a"}, "spec": {"containers": containers}})),
                ("configmaps", json!({"metadata": {"name": "a"}, "data": {"a": "b"}})),
            ] {
                let request =
                    Request::post(format!("/api/v1/namespaces/default/{kind}")).body(object.to_string().into());
                let response = server.router().oneshot(signed(request.expect("a request"))).await;
                let code = response.map(|response| response.status()).expect("answered");
                assert_eq!(code, StatusCode::CREATED);
            }
            server
        });
        Self { runtime, server, asked: 0 }
    }
}

/// The request that the bytes tell, if it is one that a connection would let through.
fn read(data: &[u8]) -> Option<Request<Body>> {
    let mut lines = data.splitn(4, |byte| *byte == b'\n');
    let head = std::str::from_utf8(lines.next()?).ok()?;
    let (method, uri) = head.split_once(' ')?;
    let mut request = Request::builder().method(method).uri(uri);
    for name in ["content-type", "accept"] {
        let value = lines.next().unwrap_or_default();
        if !value.is_empty() {
            request = request.header(name, value);
        }
    }
    request.body(Body::from(lines.next().unwrap_or_default().to_vec())).ok().map(signed)
}

fn signed(mut request: Request<Body>) -> Request<Body> {
    request.extensions_mut().insert(Identity::new("fuzzer", &[MASTERS]));
    request
}

async fn ask(server: &ApiServer, request: Request<Body>) {
    let what = format!("{} {}", request.method(), request.uri());
    let is_head = request.method() == http::Method::HEAD;
    let answered = tokio::time::timeout(PATIENCE, server.router().oneshot(request)).await;
    let Ok(Ok(response)) = answered else { return };
    let code = response.status();
    let allowed = [StatusCode::SERVICE_UNAVAILABLE, StatusCode::GATEWAY_TIMEOUT];
    assert!(!code.is_server_error() || allowed.contains(&code), "{what}: {code}");
    let Ok(Ok(body)) = tokio::time::timeout(PATIENCE, response.into_body().collect()).await else { return };
    let body = body.to_bytes();
    if code.is_client_error() && !is_head && !body.starts_with(b"404 page not found") {
        let status: Value = serde_json::from_slice(&body).unwrap_or_default();
        assert_eq!((&status["kind"], &status["code"]), (&json!("Status"), &json!(code.as_u16())), "{what}");
    }
}
