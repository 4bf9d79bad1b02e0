//! The proxy subresources, in front of a server on this machine's loopback that says what it was asked.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking, in its helpers too")]

mod common;

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use axum::Router;
use axum::response::{Html, IntoResponse as _, Response};
use common::{DEADLINE, ask, server};
use http::{HeaderMap, Method, Request, StatusCode, Uri, header};
use http_body_util::BodyExt as _;
use minisvc_apiserver::{ApiServer, ByteStream, Dialer};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};
use tokio_util::sync::CancellationToken;

const NAMESPACE: &str = "/api/v1/namespaces/default";

/// Leads every connection to one address, and remembers where it should have led.
struct Detour {
    to: SocketAddr,
    wanted: Mutex<Vec<SocketAddr>>,
}

#[async_trait]
impl Dialer for Detour {
    async fn connect(&self, target: SocketAddr) -> io::Result<Box<dyn ByteStream>> {
        self.wanted.lock().unwrap().push(target);
        if target.port() == 1 {
            return Err(io::Error::from(io::ErrorKind::ConnectionRefused));
        }
        Ok(Box::new(TcpStream::connect(self.to).await?))
    }
}

async fn tell(method: Method, uri: Uri, headers: HeaderMap, request: Request<axum::body::Body>) -> Response {
    let allow_any = [("access-control-allow-origin", "*"), ("x-own", "kept")];
    match uri.path() {
        "/page" => (allow_any, Html("<a href=\"/next\">next</a> <a href=\"near\">near</a>")).into_response(),
        "/moved" => (StatusCode::FOUND, [(header::LOCATION, "/there")]).into_response(),
        "/broken" => (StatusCode::IM_A_TEAPOT, "no coffee").into_response(),
        _ => {
            let body = request.into_body().collect().await.unwrap().to_bytes();
            let headers: Vec<_> = headers.keys().map(ToString::to_string).collect();
            let body = String::from_utf8_lossy(&body).into_owned();
            let told = json!({"method": method.as_str(), "uri": uri.to_string(), "headers": headers, "body": body});
            (allow_any, told.to_string()).into_response()
        }
    }
}

/// A server with one pod of each sort, and what they are reached through.
async fn start() -> (ApiServer, Arc<Detour>) {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let to = listener.local_addr().unwrap();
    tokio::spawn(async move { axum::serve(listener, Router::new().fallback(tell)).await });
    let server = server().await;
    let detour = Arc::new(Detour { to, wanted: Mutex::default() });
    server.set_dialer(detour.clone());
    for (name, ip) in [("a", "10.244.0.5"), ("b", "10.244.0.6")] {
        let ports = json!([{"name": "http", "containerPort": 8080}]);
        let pod = json!({"metadata": {"name": name}, "spec": {"containers": [{"name": "main", "image": "x", "ports": ports}]}});
        post(&server, &format!("{NAMESPACE}/pods"), &pod).await;
        let status = json!({"status": {"phase": "Running", "podIP": ip, "podIPs": [{"ip": ip}]}});
        let patched = ask("PATCH", &format!("{NAMESPACE}/pods/{name}/status"))
            .patch("application/merge-patch+json", &status)
            .of(&server)
            .await;
        assert_eq!(patched.code, StatusCode::OK, "{}", patched.text);
    }
    (server, detour)
}

async fn post(server: &ApiServer, path: &str, body: &Value) {
    let answer = ask("POST", path).json(body).of(server).await;
    assert_eq!(answer.code, StatusCode::CREATED, "{}", answer.text);
}

async fn make_service(server: &ApiServer, name: &str, endpoints: Value) {
    let ports =
        json!([{"name": "http", "port": 80, "targetPort": 8080}, {"name": "dead", "port": 81, "targetPort": 1}]);
    post(server, &format!("{NAMESPACE}/services"), &json!({"metadata": {"name": name}, "spec": {"ports": ports}}))
        .await;
    let slice = json!({
        "metadata": {"name": format!("{name}-x"), "labels": {"kubernetes.io/service-name": name}},
        "addressType": "IPv4",
        "ports": [{"name": "http", "port": 8080}, {"name": "dead", "port": 1}],
        "endpoints": endpoints,
    });
    post(server, "/apis/discovery.k8s.io/v1/namespaces/default/endpointslices", &slice).await;
}

fn endpoint(ip: &str, ready: bool, pod: &str) -> Value {
    let target = json!({"kind": "Pod", "namespace": "default", "name": pod});
    json!({"addresses": [ip], "conditions": {"ready": ready}, "targetRef": target})
}

// A-138, S-232, A-037
#[tokio::test]
async fn a_request_is_passed_on_as_it_is() {
    let (server, detour) = start().await;
    for method in ["GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"] {
        let answer = ask(method, &format!("{NAMESPACE}/pods/a/proxy/x%2Fy//z/?q=1&q=2"))
            .header("x-mine", "1")
            .header("accept", "text/plain")
            .header("authorization", "Bearer secret")
            .header("connection", "x-hop")
            .header("x-hop", "1")
            .bytes("body")
            .of(&server)
            .await;
        assert_eq!(answer.code, StatusCode::OK, "{method}: {}", answer.text);
        let told = answer.json();
        assert_eq!((&told["method"], &told["uri"]), (&json!(method), &json!("/x%2Fy//z/?q=1&q=2")));
        assert_eq!(told["body"], "body");
        let headers: Vec<&str> = told["headers"].as_array().unwrap().iter().filter_map(Value::as_str).collect();
        assert!(headers.contains(&"x-mine") && headers.contains(&"accept") && headers.contains(&"x-forwarded-uri"));
        for hidden in ["authorization", "x-hop"] {
            assert!(!headers.contains(&hidden), "{method}: {headers:?}");
        }
        assert_eq!((answer.header("x-own"), answer.header("access-control-allow-origin")), ("kept", ""));
    }
    let answer = ask("GET", &format!("{NAMESPACE}/pods/a/proxy/broken")).of(&server).await;
    assert_eq!((answer.code, answer.text.as_str()), (StatusCode::IM_A_TEAPOT, "no coffee"));
    let wanted = detour.wanted.lock().unwrap().clone();
    assert!(wanted.iter().all(|target| target.to_string() == "10.244.0.5:8080"), "{wanted:?}");
}

// S-232, A-138
#[tokio::test]
async fn pages_stay_below_the_proxy() {
    let (server, _) = start().await;
    let proxy = format!("{NAMESPACE}/pods/a:8080/proxy");
    let page = ask("GET", &format!("{proxy}/page")).of(&server).await;
    assert_eq!(page.text, format!("<a href=\"{proxy}/next\">next</a> <a href=\"near\">near</a>"));
    let moved = ask("GET", &format!("{proxy}/moved")).of(&server).await;
    assert_eq!((moved.code, moved.header("location")), (StatusCode::FOUND, format!("{proxy}/there").as_str()));
    for method in ["GET", "HEAD"] {
        let bare = ask(method, &format!("{proxy}?a=b")).of(&server).await;
        assert_eq!(bare.code, StatusCode::MOVED_PERMANENTLY);
        assert_eq!(bare.header("location"), format!("{proxy}/?a=b"));
    }
    let posted = ask("POST", &proxy).bytes("x").of(&server).await.json();
    assert_eq!((&posted["method"], &posted["uri"]), (&json!("POST"), &json!("/")));
}

// S-228, S-229, S-230, S-231, A-138
#[tokio::test]
async fn a_service_is_one_of_its_ready_endpoints() {
    let (server, detour) = start().await;
    let endpoints = json!([
        endpoint("10.244.0.5", true, "a"),
        endpoint("10.244.0.6", false, "b"),
        // Nobody has this address, and nobody this name.
        endpoint("10.244.0.7", true, "b"),
        endpoint("10.244.0.8", true, "nobody"),
    ]);
    make_service(&server, "web", endpoints).await;
    make_service(&server, "idle", json!([endpoint("10.244.0.6", false, "b")])).await;
    make_service(&server, "hand", json!([{"addresses": ["10.244.0.5"]}])).await;
    let ask_for = async |id: &str| ask("GET", &format!("{NAMESPACE}/services/{id}/proxy/")).of(&server).await;
    for id in ["web:80", "web:http", "http:web:http", "http:web:80"] {
        for _ in 0..4 {
            assert_eq!(ask_for(id).await.code, StatusCode::OK, "{id}");
        }
    }
    let wanted = std::mem::take(&mut *detour.wanted.lock().unwrap());
    assert!(wanted.iter().all(|target| target.to_string() == "10.244.0.5:8080"), "{wanted:?}");
    for (id, code, message) in [
        ("web:8080", 503, "no service port 8080 found for service \"web\""),
        ("web:other", 503, "no endpoints available for service \"web\""),
        // Its ports have names.
        ("web", 503, "no endpoints available for service \"web\""),
        ("idle:80", 503, "no endpoints available for service \"idle\""),
        ("hand:80", 503, "no endpoints available for service \"hand\""),
        ("web:81", 503, "error trying to reach service: dial tcp 10.244.0.5:1: connection refused"),
        ("ftp:web:80", 400, "invalid service request \"ftp:web:80\""),
        ("none:80", 404, "services \"none\" not found"),
    ] {
        let answer = ask_for(id).await;
        assert_eq!((answer.code.as_u16(), answer.json()["kind"].as_str()), (code, Some("Status")), "{id}");
        assert!(answer.json()["message"].as_str().unwrap().starts_with(message), "{id}: {}", answer.text);
    }
}

// A-138, S-232: a WebSocket goes through, and so does what is said in it.
#[tokio::test]
async fn an_upgraded_connection_goes_through() {
    let (server, _) = start().await;
    let backend = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    server.set_dialer(Arc::new(Detour { to: backend.local_addr().unwrap(), wanted: Mutex::default() }));
    let echo = tokio::spawn(async move {
        let (mut stream, _) = backend.accept().await.unwrap();
        let head = head(&mut stream).await;
        stream
            .write_all(b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\n")
            .await
            .unwrap();
        let (mut read, mut write) = stream.split();
        tokio::io::copy(&mut read, &mut write).await.unwrap();
        head
    });
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("api.sock");
    let listener = UnixListener::bind(&path).unwrap();
    let (stop, serving) = (CancellationToken::new(), server.clone());
    let token = stop.clone();
    let own = std::os::unix::fs::MetadataExt::uid(&std::fs::metadata(folder.path()).unwrap());
    let task = tokio::spawn(async move { serving.serve_unix(listener, vec![own], token).await });
    let talk = async {
        let mut stream = UnixStream::connect(&path).await.unwrap();
        let asked = format!(
            "GET {NAMESPACE}/pods/a/proxy/live?x=y HTTP/1.1\r\nHost: api\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\n"
        );
        stream.write_all(asked.as_bytes()).await.unwrap();
        let answer = head(&mut stream).await;
        assert!(answer.starts_with("HTTP/1.1 101") && answer.to_lowercase().contains("upgrade: echo"), "{answer}");
        stream.write_all(b"ping").await.unwrap();
        let mut back = [0; 4];
        stream.read_exact(&mut back).await.unwrap();
        assert_eq!(&back, b"ping");
        stream.shutdown().await.unwrap();
        let seen = echo.await.unwrap();
        assert!(
            seen.starts_with("GET /live?x=y HTTP/1.1\r\n") && seen.to_lowercase().contains("upgrade: echo"),
            "{seen}"
        );
    };
    tokio::time::timeout(DEADLINE, talk).await.unwrap();
    stop.cancel();
    tokio::time::timeout(DEADLINE, task).await.unwrap().unwrap();
    tokio::time::timeout(DEADLINE, server.close()).await.unwrap();
}

async fn head(stream: &mut (impl tokio::io::AsyncRead + Unpin)) -> String {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await.unwrap());
    }
    String::from_utf8(head).unwrap()
}

//
#[tokio::test]
async fn a_port_of_a_node_is_reached_at_its_address() {
    let (server, detour) = start().await;
    post(&server, "/api/v1/nodes", &json!({"metadata": {"name": "node-1"}})).await;
    let addresses = json!([{"type": "InternalIP", "address": "10.95.0.11"}]);
    let status = json!({"status": {"addresses": addresses}});
    ask("PATCH", "/api/v1/nodes/node-1/status").patch("application/merge-patch+json", &status).of(&server).await;
    let answer = ask("GET", "/api/v1/nodes/node-1:30080/proxy/x").of(&server).await;
    assert_eq!((answer.code, &answer.json()["uri"]), (StatusCode::OK, &json!("/x")), "{}", answer.text);
    assert_eq!(detour.wanted.lock().unwrap()[0].to_string(), "10.95.0.11:30080");
    let bare = ask("GET", "/api/v1/nodes/node-1/proxy/healthz").of(&server).await;
    assert_eq!(bare.code, StatusCode::SERVICE_UNAVAILABLE);
    assert!(bare.json()["message"].as_str().unwrap().contains("nodes/node-1:PORT/proxy"), "{}", bare.text);
}

// S-228: with the scheme https TLS is spoken, and nobody has to vouch for the certificate.
#[tokio::test]
async fn https_is_spoken_when_the_id_says_so() {
    let (server, _) = start().await;
    let made = rcgen::generate_simple_self_signed(vec!["anybody".to_owned()]).unwrap();
    let key = rustls::pki_types::PrivateKeyDer::try_from(made.signing_key.serialize_der()).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![made.cert.der().clone()], key)
        .unwrap();
    let backend = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let detour = Arc::new(Detour { to: backend.local_addr().unwrap(), wanted: Mutex::default() });
    server.set_dialer(detour.clone());
    let answer = tokio::spawn(async move {
        let (stream, _) = backend.accept().await.unwrap();
        let mut stream = tokio_rustls::TlsAcceptor::from(Arc::new(config)).accept(stream).await.unwrap();
        let head = head(&mut stream).await;
        stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nsecret").await.unwrap();
        head
    });
    let told = ask("GET", &format!("{NAMESPACE}/pods/https:a:8443/proxy/x")).of(&server).await;
    assert_eq!((told.code, told.text.as_str()), (StatusCode::OK, "secret"));
    assert!(answer.await.unwrap().starts_with("GET /x HTTP/1.1\r\n"));
    assert_eq!(detour.wanted.lock().unwrap()[0].port(), 8443);
    let plain =
        ask("GET", &format!("{NAMESPACE}/pods/a:8080/proxy/x")).header("upgrade-insecure-requests", "1").of(&server);
    // The server is gone, and the answer says so instead of hanging.
    let plain = plain.await;
    assert_eq!(plain.code, StatusCode::SERVICE_UNAVAILABLE, "{}", plain.text);
}
