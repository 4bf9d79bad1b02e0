//! The sockets over loopback, from the outside: TLS, credentials, the Unix socket, and how it all ends.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails by panicking")]

use std::collections::BTreeSet;
use std::fs;
use std::net::{IpAddr, SocketAddr};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use http::{Method, Request, StatusCode, header};
use http_body_util::{BodyExt, Full, StreamBody};
use hyper::body::Frame;
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper_util::rt::TokioIo;
use jiff::{SignedDuration, Timestamp};
use minisvc_apiserver::serve::{
    Authenticator, Ca, CaError, ClientCertificate, ServerNames, TokenRequest, serve_tls, serve_unix,
};
use minisvc_apiserver::{ApiServer, Identity, Options};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};
use tokio::task::JoinHandle;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_util::sync::CancellationToken;

/// Far more than anything here takes on a slow machine.
const DEADLINE: Duration = Duration::from_secs(30);

type Sender = SendRequest<http_body_util::combinators::BoxBody<Bytes, std::io::Error>>;

// A-002, A-004
#[tokio::test]
async fn a_client_certificate_tells_who_asks() {
    let lab = Lab::start().await;
    let mut client = lab.connect(Some(lab.ca.admin())).await;
    assert_eq!(
        get(&mut client, "/api", None).await,
        (StatusCode::OK, "kubernetes-admin system:masters,system:authenticated".to_owned())
    );
    let jane = lab.ca.issue_client("jane", Some("developers"), Timestamp::now()).unwrap();
    let mut client = lab.connect(Some(&jane)).await;
    assert_eq!(get(&mut client, "/api", None).await.1, "jane developers,system:authenticated");
}

// A-004, A-014, A-119
#[tokio::test]
async fn without_credentials_only_health_and_version_answer() {
    let lab = Lab::start().await;
    let mut client = lab.connect(None).await;
    for path in ["/healthz", "/livez", "/readyz", "/livez/ping", "/version", "/version/"] {
        assert_eq!(get(&mut client, path, None).await, (StatusCode::OK, "nobody".to_owned()), "{path}");
    }
    for path in ["/", "/api", "/api/v1/pods", "/openapi/v3"] {
        let (code, body) = get(&mut client, path, None).await;
        assert_eq!(code, StatusCode::UNAUTHORIZED, "{path}");
        let status: serde_json::Value = serde_json::from_str(&body).unwrap();
        assert_eq!(
            (&status["kind"], &status["reason"], &status["code"]),
            (&"Status".into(), &"Unauthorized".into(), &401.into())
        );
    }
}

// A-004
#[tokio::test]
async fn a_token_tells_who_asks_until_its_key_or_its_account_is_gone() {
    let directory = tempfile::tempdir().unwrap();
    let lab = Lab::start_with(Some(directory.path())).await;
    let token = lab.token();
    let mut client = lab.connect(None).await;
    let (code, user) = get(&mut client, "/api", Some(&token)).await;
    let groups = "system:serviceaccounts,system:serviceaccounts:shop,system:authenticated";
    assert_eq!((code, user), (StatusCode::OK, format!("system:serviceaccount:shop:cart {groups}")));
    assert_eq!(get(&mut client, "/api", Some("nonsense")).await.0, StatusCode::UNAUTHORIZED);
    lab.accounts.lock().unwrap().clear();
    assert_eq!(get(&mut client, "/api", Some(&token)).await.0, StatusCode::UNAUTHORIZED);

    // The key survives a restart, and with it the token.
    let again = Lab::start_with(Some(directory.path())).await;
    let mut client = again.connect(None).await;
    assert_eq!(get(&mut client, "/api", Some(&token)).await.0, StatusCode::OK);
    fs::remove_file(directory.path().join("sa.key")).unwrap();
    let renewed = Lab::start_with(Some(directory.path())).await;
    let mut client = renewed.connect(None).await;
    assert_eq!(get(&mut client, "/api", Some(&token)).await.0, StatusCode::UNAUTHORIZED);
}

// A-002
#[tokio::test]
async fn the_server_certificate_is_good_for_every_name_of_the_server() {
    let lab = Lab::start().await;
    let names = [
        "localhost",
        "127.0.0.1",
        "::1",
        "kubernetes",
        "kubernetes.default",
        "kubernetes.default.svc",
        "kubernetes.default.svc.cluster.local",
        "10.96.0.1",
        "10.95.0.2",
    ];
    for name in names {
        let stream = lab.handshake(name, lab.client_config(None)).await.unwrap();
        assert_eq!(stream.get_ref().1.alpn_protocol(), Some(&b"http/1.1"[..]), "{name}");
    }
    assert!(lab.handshake("example.org", lab.client_config(None)).await.is_err());
}

#[tokio::test]
async fn a_certificate_of_another_authority_is_refused_in_the_handshake() {
    let lab = Lab::start().await;
    let other = Ca::open(None, &names(), Timestamp::now()).unwrap();
    let stream = lab.handshake("localhost", lab.client_config(Some(other.admin()))).await;
    // With TLS 1.3 the client learns of it only when it reads.
    let refused = match stream {
        Ok(mut stream) => stream.read(&mut [0]).await.is_err(),
        Err(_) => true,
    };
    assert!(refused);
    // And another lab's clients do not trust this server.
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(other.certificate().as_bytes()).unwrap()).unwrap();
    assert!(lab.handshake("localhost", client_config(roots, None)).await.is_err());
}

#[tokio::test]
async fn plain_http_gets_no_answer_and_does_no_harm() {
    let lab = Lab::start().await;
    let mut stream = TcpStream::connect(lab.address).await.unwrap();
    stream.write_all(b"GET /version HTTP/1.1\r\nHost: localhost\r\n\r\n").await.unwrap();
    let mut answer = Vec::new();
    // The connection ends, with or without a TLS alert, and without anything that looks like HTTP.
    let _ = within(stream.read_to_end(&mut answer)).await;
    assert!(!answer.starts_with(b"HTTP"), "{answer:?}");
    let mut client = lab.connect(Some(lab.ca.admin())).await;
    assert_eq!(get(&mut client, "/api", None).await.0, StatusCode::OK);
}

// A-003
#[tokio::test]
async fn a_connection_is_kept_and_chunked_bodies_are_accepted() {
    let lab = Lab::start().await;
    let mut client = lab.connect(Some(lab.ca.admin())).await;
    for _ in 0..3 {
        let chunks = ["one ", "two ", "three"].map(|part| Ok(Frame::data(Bytes::from(part))));
        let body = BodyExt::boxed(StreamBody::new(futures::stream::iter(chunks)));
        let request = Request::post("/echo").body(body).unwrap();
        assert_eq!(send(&mut client, request).await, (StatusCode::OK, "one two three".to_owned()));
    }
}

// A-003
#[tokio::test]
async fn many_connections_stay_open_at_once() {
    let lab = Lab::start().await;
    let mut clients = Vec::new();
    for _ in 0..150 {
        let mut client = lab.connect(Some(lab.ca.admin())).await;
        let hanging = client.send_request(Request::get("/hang").body(empty()).unwrap());
        clients.push((within(hanging).await.unwrap(), client));
    }
    let mut client = lab.connect(Some(lab.ca.admin())).await;
    assert_eq!(get(&mut client, "/api", None).await.0, StatusCode::OK);
    assert_eq!(clients.len(), 150);
}

// A-002
#[tokio::test]
async fn a_connection_can_be_upgraded() {
    let lab = Lab::start().await;
    let mut client = lab.connect(Some(lab.ca.admin())).await;
    let request = Request::get("/upgrade").header(header::CONNECTION, "upgrade").header(header::UPGRADE, "echo");
    let response = within(client.send_request(request.body(empty()).unwrap())).await.unwrap();
    assert_eq!(response.status(), StatusCode::SWITCHING_PROTOCOLS);
    let mut upgraded = TokioIo::new(within(hyper::upgrade::on(response)).await.unwrap());
    upgraded.write_all(b"ping").await.unwrap();
    let mut answer = [0; 4];
    within(upgraded.read_exact(&mut answer)).await.unwrap();
    assert_eq!(&answer, b"ping");
}

#[tokio::test]
async fn a_shutdown_lets_requests_end_and_cuts_what_does_not() {
    let lab = Lab::start().await;
    let mut idle = lab.connect(Some(lab.ca.admin())).await;
    assert_eq!(get(&mut idle, "/api", None).await.0, StatusCode::OK);
    let mut slow = lab.connect(Some(lab.ca.admin())).await;
    let mut hanging = lab.connect(Some(lab.ca.admin())).await;
    let hung = within(hanging.send_request(Request::get("/hang").body(empty()).unwrap())).await.unwrap();
    let answer = tokio::spawn(async move { get(&mut slow, "/slow", None).await });
    within(lab.slow_began.notified()).await;
    lab.shutdown.cancel();
    lab.slow_may_end.notify_one();
    assert_eq!(within(answer).await.unwrap(), (StatusCode::OK, "done".to_owned()));
    within(lab.server).await.unwrap();
    assert!(within(hung.into_body().collect()).await.is_err());
    assert!(TcpStream::connect(lab.address).await.is_err());
}

#[tokio::test]
async fn the_unix_socket_is_open_to_its_owner() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("api.sock");
    let lab = Lab::start().await;
    let listener = UnixListener::bind(&path).unwrap();
    let shutdown = CancellationToken::new();
    let owner = fs::metadata(&path).unwrap();
    let own_uid = std::os::unix::fs::MetadataExt::uid(&owner);
    let server = tokio::spawn(serve_unix(listener, lab.router(), lab.authenticator(), vec![own_uid], shutdown.clone()));
    let mut client = http(UnixStream::connect(&path).await.unwrap()).await;
    let (code, user) = get(&mut client, "/api", None).await;
    assert_eq!(
        (code, user),
        (StatusCode::OK, format!("system:minisvc:uid:{own_uid} system:masters,system:authenticated"))
    );
    // What is known by its uid needs no token, and cannot be spoilt by one.
    assert_eq!(get(&mut client, "/api", Some("nonsense")).await.0, StatusCode::OK);
    shutdown.cancel();
    within(server).await.unwrap();
}

// A-004, A-005, A-119
#[tokio::test]
async fn the_real_server_serves_its_administrator_and_refuses_a_service_account() {
    let api = ApiServer::open(Options::default()).await.unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let shutdown = CancellationToken::new();
    let server = tokio::spawn({
        let (api, shutdown) = (api.clone(), shutdown.clone());
        async move { api.serve_tls(listener, shutdown).await }
    });
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(api.ca().certificate().as_bytes()).unwrap()).unwrap();
    let connect = async |certificate: Option<&ClientCertificate>| {
        let config = client_config(roots.clone(), certificate);
        let stream = TcpStream::connect(address).await.unwrap();
        let name = ServerName::try_from("kubernetes.default.svc").unwrap();
        http(TlsConnector::from(Arc::new(config)).connect(name, stream).await.unwrap()).await
    };
    let mut admin = connect(Some(api.ca().admin())).await;
    let post = |path: &str, body: &'static str| {
        let body = Full::from(body).map_err(|never: std::convert::Infallible| match never {}).boxed();
        Request::post(path).header(header::CONTENT_TYPE, "application/json").body(body).unwrap()
    };
    let accounts = "/api/v1/namespaces/default/serviceaccounts";
    let account = r#"{"apiVersion":"v1","kind":"ServiceAccount","metadata":{"name":"cart"}}"#;
    assert_eq!(send(&mut admin, post(accounts, account)).await.0, StatusCode::CREATED);
    let request = r#"{"apiVersion":"authentication.k8s.io/v1","kind":"TokenRequest","spec":{"audiences":[]}}"#;
    let (code, body) = send(&mut admin, post(&format!("{accounts}/cart/token"), request)).await;
    assert_eq!(code, StatusCode::CREATED, "{body}");
    let body: serde_json::Value = serde_json::from_str(&body).unwrap();
    let token = body["status"]["token"].as_str().unwrap();

    let mut other = connect(None).await;
    assert_eq!(get(&mut other, "/apis", Some(token)).await.0, StatusCode::OK);
    let (code, body) = get(&mut other, "/api/v1/namespaces/default/pods", Some(token)).await;
    assert_eq!(code, StatusCode::FORBIDDEN, "{body}");
    let status: serde_json::Value = serde_json::from_str(&body).unwrap();
    let why = "User \"system:serviceaccount:default:cart\" cannot list resource \"pods\" in API group \"\" in the namespace \"default\"";
    assert_eq!(status["reason"], "Forbidden");
    assert!(status["message"].as_str().unwrap().ends_with(why), "{status}");

    // The account goes, and its token with it.
    let gone = Request::delete(format!("{accounts}/cart")).body(empty()).unwrap();
    assert_eq!(send(&mut admin, gone).await.0, StatusCode::OK);
    assert_eq!(get(&mut other, "/apis", Some(token)).await.0, StatusCode::UNAUTHORIZED);
    assert_eq!(get(&mut other, "/readyz", None).await, (StatusCode::OK, "ok".to_owned()));
    drop((admin, other));
    shutdown.cancel();
    within(server).await.unwrap().unwrap();
    within(api.close()).await;
}

#[test]
fn the_authority_is_made_once_and_its_files_are_private() {
    let directory = tempfile::tempdir().unwrap();
    let pki = directory.path().join("pki");
    let now = Timestamp::now();
    let first = Ca::open(Some(&pki), &names(), now).unwrap();
    let files: BTreeSet<String> =
        fs::read_dir(&pki).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    let expected = ["admin.crt", "admin.key", "ca.crt", "ca.key", "sa.key", "server.crt", "server.key"];
    assert_eq!(files, expected.map(str::to_owned).into());
    for file in &files {
        assert_eq!(fs::metadata(pki.join(file)).unwrap().permissions().mode() & 0o777, 0o600, "{file}");
    }
    assert_eq!(fs::metadata(&pki).unwrap().permissions().mode() & 0o777, 0o700);

    let read = |name: &str| fs::read_to_string(pki.join(name)).unwrap();
    let before = expected.map(read);
    let second = Ca::open(Some(&pki), &names(), now).unwrap();
    assert_eq!(second.certificate(), first.certificate());
    assert_eq!(expected.map(read), before, "nothing is made twice");

    // Another address: another server certificate, and nothing else.
    let more = ServerNames::new("cluster.local", ["10.0.0.9".parse::<IpAddr>().unwrap()]);
    Ca::open(Some(&pki), &more, now).unwrap();
    let changed: Vec<&str> =
        expected.into_iter().zip(&before).filter(|(name, old)| read(name) != **old).map(|(name, _)| name).collect();
    assert_eq!(changed, ["server.crt", "server.key"]);
}

#[test]
fn what_is_about_to_expire_is_made_anew() {
    let directory = tempfile::tempdir().unwrap();
    let pki = directory.path();
    let start = Timestamp::now();
    let read = |name: &str| fs::read_to_string(pki.join(name)).unwrap();
    let at = |days: i64| Ca::open(Some(pki), &names(), start + SignedDuration::from_hours(24 * days)).unwrap();
    at(0);
    let (ca, server, admin) = (read("ca.crt"), read("server.crt"), read("admin.crt"));
    at(300);
    assert_eq!((read("server.crt"), read("admin.crt")), (server.clone(), admin.clone()));
    at(340);
    assert_eq!(read("ca.crt"), ca);
    assert!(read("server.crt") != server && read("admin.crt") != admin);
    // The authority goes too in the end, and with it everything that it signed, except for the key of tokens.
    let (server, tokens) = (read("server.crt"), read("sa.key"));
    at(3640);
    assert!(read("ca.crt") != ca && read("server.crt") != server);
    assert_eq!(read("sa.key"), tokens);
}

#[test]
fn a_damaged_authority_is_named_with_a_way_out() {
    for (file, content) in [("ca.crt", "nonsense"), ("ca.key", "nonsense"), ("sa.key", "")] {
        let directory = tempfile::tempdir().unwrap();
        Ca::open(Some(directory.path()), &names(), Timestamp::now()).unwrap();
        fs::write(directory.path().join(file), content).unwrap();
        let error = Ca::open(Some(directory.path()), &names(), Timestamp::now()).unwrap_err();
        assert!(matches!(&error, CaError::Damaged { path, .. } if path.ends_with(file)), "{error:?}");
        assert!(error.to_string().contains("remove it"), "{error}");
    }
    // What can be made again is.
    let directory = tempfile::tempdir().unwrap();
    Ca::open(Some(directory.path()), &names(), Timestamp::now()).unwrap();
    fs::write(directory.path().join("server.key"), "nonsense").unwrap();
    Ca::open(Some(directory.path()), &names(), Timestamp::now()).unwrap().server_config().unwrap();
}

#[test]
fn the_kubeconfig_has_everything_in_it() {
    let ca = Ca::open(None, &names(), Timestamp::now()).unwrap();
    let text = ca.kubeconfig("https://127.0.0.1:6443", "my \"lab\"");
    let config = kube::config::Kubeconfig::from_yaml(&text).unwrap();
    assert_eq!(config.current_context.as_deref(), Some("my \"lab\""));
    let names = (&config.clusters[0].name, &config.contexts[0].name, &config.auth_infos[0].name);
    assert_eq!(names, (&"my \"lab\"".to_owned(), &"my \"lab\"".to_owned(), &"my \"lab\"".to_owned()));
    let cluster = config.clusters[0].cluster.as_ref().unwrap();
    assert_eq!(cluster.server.as_deref(), Some("https://127.0.0.1:6443"));
    let decode = |data: &Option<String>| {
        use base64::Engine;
        String::from_utf8(base64::engine::general_purpose::STANDARD.decode(data.as_ref().unwrap()).unwrap()).unwrap()
    };
    assert_eq!(decode(&cluster.certificate_authority_data), ca.certificate());
    let user = config.auth_infos[0].auth_info.as_ref().unwrap();
    assert_eq!(decode(&user.client_certificate_data), ca.admin().certificate);
}

/// A server on a port of loopback whose router says who asked.
struct Lab {
    ca: Ca,
    address: SocketAddr,
    accounts: Arc<Mutex<BTreeSet<String>>>,
    slow_began: Arc<tokio::sync::Notify>,
    slow_may_end: Arc<tokio::sync::Notify>,
    shutdown: CancellationToken,
    server: JoinHandle<()>,
}

impl Lab {
    async fn start() -> Self {
        Self::start_with(None).await
    }

    async fn start_with(directory: Option<&Path>) -> Self {
        let ca = Ca::open(directory, &names(), Timestamp::now()).unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let mut lab = Self {
            address: listener.local_addr().unwrap(),
            ca,
            accounts: Arc::new(Mutex::new(BTreeSet::from(["shop/cart".to_owned()]))),
            slow_began: Arc::default(),
            slow_may_end: Arc::default(),
            shutdown: CancellationToken::new(),
            server: tokio::spawn(async {}),
        };
        let config = lab.ca.server_config().unwrap();
        lab.server = tokio::spawn(serve_tls(listener, lab.router(), config, lab.authenticator(), lab.shutdown.clone()));
        lab
    }

    fn authenticator(&self) -> Authenticator {
        let accounts = Arc::clone(&self.accounts);
        let find = move |namespace: &str, name: &str| {
            accounts.lock().unwrap().contains(&format!("{namespace}/{name}")).then(|| "u-1".to_owned())
        };
        Authenticator::new(Arc::clone(self.ca.tokens()), Arc::new(find))
    }

    fn router(&self) -> Router {
        let (began, may_end) = (Arc::clone(&self.slow_began), Arc::clone(&self.slow_may_end));
        Router::new().fallback(move |request: Request<Body>| answer(request, Arc::clone(&began), Arc::clone(&may_end)))
    }

    fn token(&self) -> String {
        let expires = Timestamp::now() + SignedDuration::from_hours(1);
        let request =
            TokenRequest { namespace: "shop", service_account: "cart", uid: "u-1", pod: None, audiences: &[], expires };
        self.ca.tokens().issue(&request, Timestamp::now()).unwrap()
    }

    fn client_config(&self, certificate: Option<&ClientCertificate>) -> ClientConfig {
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_slice(self.ca.certificate().as_bytes()).unwrap()).unwrap();
        client_config(roots, certificate)
    }

    async fn handshake(&self, name: &str, config: ClientConfig) -> std::io::Result<TlsStream<TcpStream>> {
        let stream = TcpStream::connect(self.address).await?;
        let name = ServerName::try_from(name.to_owned()).unwrap();
        within(TlsConnector::from(Arc::new(config)).connect(name, stream)).await
    }

    async fn connect(&self, certificate: Option<&ClientCertificate>) -> Sender {
        http(self.handshake("localhost", self.client_config(certificate)).await.unwrap()).await
    }
}

async fn answer(
    request: Request<Body>,
    began: Arc<tokio::sync::Notify>,
    may_end: Arc<tokio::sync::Notify>,
) -> Response {
    match request.uri().path() {
        "/echo" => request.into_body().into_response(),
        "/hang" => Body::from_stream(futures::stream::pending::<std::io::Result<Bytes>>()).into_response(),
        "/slow" => {
            began.notify_one();
            may_end.notified().await;
            "done".into_response()
        }
        "/upgrade" => {
            tokio::spawn(async move {
                let mut upgraded = TokioIo::new(hyper::upgrade::on(request).await.unwrap());
                let mut buffer = [0; 4];
                upgraded.read_exact(&mut buffer).await.unwrap();
                upgraded.write_all(&buffer).await.unwrap();
            });
            let headers = [(header::CONNECTION, "upgrade"), (header::UPGRADE, "echo")];
            (StatusCode::SWITCHING_PROTOCOLS, headers).into_response()
        }
        _ => match request.extensions().get::<Identity>() {
            Some(identity) => format!("{} {}", identity.user, identity.groups.join(",")).into_response(),
            None => "nobody".into_response(),
        },
    }
}

fn names() -> ServerNames {
    ServerNames::new("cluster.local", ["10.96.0.1", "10.95.0.2"].map(|address| address.parse::<IpAddr>().unwrap()))
}

fn client_config(roots: RootCertStore, certificate: Option<&ClientCertificate>) -> ClientConfig {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
    let builder = builder.with_root_certificates(roots);
    let mut config = match certificate {
        None => builder.with_no_client_auth(),
        Some(shown) => {
            let chain = vec![CertificateDer::from_pem_slice(shown.certificate.as_bytes()).unwrap()];
            let key = PrivateKeyDer::from_pem_slice(shown.key.as_bytes()).unwrap();
            builder.with_client_auth_cert(chain, key).unwrap()
        }
    };
    // As kubectl offers them.
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    config
}

async fn http(stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static) -> Sender {
    let (sender, connection) = handshake(TokioIo::new(stream)).await.unwrap();
    // Ends with the sender.
    tokio::spawn(connection.with_upgrades());
    sender
}

fn empty() -> http_body_util::combinators::BoxBody<Bytes, std::io::Error> {
    Full::default().map_err(|never: std::convert::Infallible| match never {}).boxed()
}

async fn get(client: &mut Sender, path: &str, token: Option<&str>) -> (StatusCode, String) {
    let mut request = Request::builder().method(Method::GET).uri(path);
    if let Some(token) = token {
        request = request.header(header::AUTHORIZATION, format!("Bearer {token}"));
    }
    send(client, request.body(empty()).unwrap()).await
}

async fn send(
    client: &mut Sender,
    mut request: Request<http_body_util::combinators::BoxBody<Bytes, std::io::Error>>,
) -> (StatusCode, String) {
    request.headers_mut().insert(header::HOST, "localhost".parse().unwrap());
    within(client.ready()).await.unwrap();
    let response = within(client.send_request(request)).await.unwrap();
    let code = response.status();
    let body = within(response.into_body().collect()).await.unwrap().to_bytes();
    (code, String::from_utf8(body.to_vec()).unwrap())
}

async fn within<T>(what: impl Future<Output = T>) -> T {
    tokio::time::timeout(DEADLINE, what).await.expect("it did not happen in time")
}
