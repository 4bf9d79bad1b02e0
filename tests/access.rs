//! Who may ask a lab anything: nobody without credentials, over no way.

mod common;

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use common::{Beside, Lab, MINISVC, PATIENCE, echo, fail, pod, succeed, up_command};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};
use serde_json::{Value, json};

/// What the lab's kubeconfig says.
struct Kubeconfig {
    server: SocketAddr,
    roots: RootCertStore,
    certificate: Vec<u8>,
    key: Vec<u8>,
}

impl Kubeconfig {
    fn of(lab: &Lab) -> Self {
        let text = std::fs::read(lab.run(&["kubeconfig"]).trim_end()).expect("readable");
        let config: Value = serde_json::from_slice(&text).expect("JSON, which is YAML too");
        let decode = |value: &Value| STANDARD.decode(value.as_str().expect("text")).expect("base64");
        let (cluster, user) = (&config["clusters"][0]["cluster"], &config["users"][0]["user"]);
        let server = cluster["server"].as_str().expect("a URL").strip_prefix("https://").expect("encrypted");
        let mut roots = RootCertStore::empty();
        let authority = decode(&cluster["certificate-authority-data"]);
        roots.add(CertificateDer::from_pem_slice(&authority).expect("a certificate")).expect("usable");
        Self {
            server: server.parse().expect("an address"),
            roots,
            certificate: decode(&user["client-certificate-data"]),
            key: decode(&user["client-key-data"]),
        }
    }

    /// Asks over TLS, with the client certificate or without, and with a token if one is given; returns the status code
    /// and the body.
    fn ask(&self, path: &str, with_certificate: bool, token: Option<&str>) -> (u16, String) {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions().expect("TLS");
        let config = config.with_root_certificates(self.roots.clone());
        let config = if with_certificate {
            let chain = vec![CertificateDer::from_pem_slice(&self.certificate).expect("a certificate")];
            let key = PrivateKeyDer::from_pem_slice(&self.key).expect("a key");
            config.with_client_auth_cert(chain, key).expect("they fit")
        } else {
            config.with_no_client_auth()
        };
        let name = ServerName::from(self.server.ip());
        let connection = ClientConnection::new(Arc::new(config), name).expect("a connection");
        let socket = TcpStream::connect_timeout(&self.server, PATIENCE).expect("connected");
        socket.set_read_timeout(Some(PATIENCE)).expect("set");
        let mut stream = StreamOwned::new(connection, socket);
        let bearer = token.map(|token| format!("Authorization: Bearer {token}\r\n")).unwrap_or_default();
        write!(stream, "GET {path} HTTP/1.0\r\nHost: {}\r\n{bearer}\r\n", self.server).expect("sent");
        let mut answer = Vec::new();
        match stream.read_to_end(&mut answer) {
            Err(error) if error.kind() != std::io::ErrorKind::UnexpectedEof => panic!("{path}: {error}"),
            _ => {}
        }
        let answer = String::from_utf8_lossy(&answer);
        let (head, body) = answer.split_once("\r\n\r\n").expect("a head");
        let status = head.split_whitespace().nth(1).and_then(|code| code.parse().ok()).expect("a status code");
        (status, body.to_owned())
    }
}

//
#[test]
fn over_tls_only_who_proves_who_they_are_gets_anything() {
    let lab = Lab::start("tls", &[]);
    let api = Kubeconfig::of(&lab);
    assert!(api.server.ip().is_loopback(), "others cannot even ask");
    for path in ["/healthz", "/livez", "/readyz", "/version"] {
        assert_eq!(api.ask(path, false, None).0, 200, "{path}");
    }
    let secrets = "/api/v1/namespaces/default/secrets";
    for path in ["/", "/api", "/apis", "/openapi/v3", "/metrics", "/api/v1/pods", "/api/v1/pods?watch=true", secrets] {
        let (status, body) = api.ask(path, false, None);
        assert_eq!(status, 401, "{path}: {body}");
        let (status, _) = api.ask(path, false, Some("nonsense"));
        assert_eq!(status, 401, "{path} with a wrong token");
    }
    assert_eq!(api.ask(secrets, true, None).0, 200, "the kubeconfig is the key");

    lab.apply_all(&[pod("app", &json!([echo(8080)]), &json!({}))]);
    lab.ready("app");
    let token = lab.exec_in("app", &["cat", "/var/run/secrets/kubernetes.io/serviceaccount/token"]);
    assert_eq!(api.ask("/api", false, Some(&token)).0, 200);
    let (status, body) = api.ask(secrets, false, Some(&token));
    assert_eq!(status, 403, "{body}");
    assert!(body.contains("system:serviceaccount:default:default"), "{body}");
    // What is bound to the account, its pods may do at once.
    let group = "rbac.authorization.k8s.io";
    let rules = json!([{"verbs": ["list"], "apiGroups": [""], "resources": ["secrets"]}]);
    let subjects = json!([{"kind": "ServiceAccount", "name": "default", "namespace": "default"}]);
    lab.apply_all(&[
        json!({"apiVersion": format!("{group}/v1"), "kind": "Role", "metadata": {"name": "secrets"}, "rules": rules}),
        json!({
            "apiVersion": format!("{group}/v1"), "kind": "RoleBinding", "metadata": {"name": "secrets"},
            "roleRef": {"apiGroup": group, "kind": "Role", "name": "secrets"}, "subjects": subjects,
        }),
    ]);
    assert_eq!(api.ask(secrets, false, Some(&token)).0, 200);
    assert_eq!(api.ask("/metrics", false, Some(&token)).0, 403);
    let (status, figures) = api.ask("/metrics", true, None);
    assert!(status == 200 && figures.contains("apiserver_storage_objects{resource=\"pods\"} 1\n"), "{figures}");
}

/// The program where every user can start it, in a folder that every user can pass through.
fn program_for_everyone(folder: &Path) -> PathBuf {
    let program = folder.join("minisvc");
    std::fs::copy(MINISVC, &program).expect("copied");
    for path in [folder, &program] {
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o755)).expect("opened");
    }
    program
}

#[test]
fn the_sockets_refuse_every_other_user() {
    if !nix::unistd::geteuid().is_root() {
        // Only root can be somebody else for a moment.
        return;
    }
    let folder = tempfile::Builder::new().prefix("minisvc-sockets-").tempdir_in("/tmp").expect("a temporary folder");
    let program = program_for_everyone(folder.path());
    let lab = Lab::start_in("sockets", folder.path(), &[]);
    let as_nobody = |args: &[&str]| {
        let mut command = Command::new("setpriv");
        command.args(["--reuid", "65534", "--regid", "65534", "--clear-groups"]).arg(&program).args(args);
        command.env("MINISVC_STATE_DIR", folder.path()).env("MINISVC_LAB", "sockets").env_remove("SUDO_UID");
        command
    };
    fail(&mut as_nobody(&["get", "pods"]), 1);
    assert!(Path::new(&lab.root().join("store")).read_dir().expect("root may").next().is_some());
    // Even if somebody opens the files for everyone, the kernel tells who is asking.
    let run = lab.root().join("run");
    for file in ["api.sock", "control.sock", "lab.json"] {
        std::fs::set_permissions(run.join(file), std::fs::Permissions::from_mode(0o777)).expect("opened");
    }
    let text = fail(&mut as_nobody(&["get", "secrets"]), 1);
    assert!(text.contains("forbidden"), "{text}");
    for args in [&["exec", "--", "true"][..], &["down"], &["shell"]] {
        let text = fail(&mut as_nobody(args), 1);
        assert!(text.contains("this lab belongs to another user\nhint: "), "{args:?}: {text}");
    }
    assert_eq!(lab.exec(&["echo", "still here"]), "still here\n");
    let kubeconfig = lab.root().join("kubeconfig");
    let mut cat = Command::new("setpriv");
    cat.args(["--reuid", "65534", "--regid", "65534", "--clear-groups", "cat"]).arg(kubeconfig);
    fail(&mut cat, 1);
    // Plain HTTP on loopback is no way around it either.
    let (_proxy, address) = proxy(&lab);
    let url = format!("http://{address}/api/v1/namespaces/default/secrets");
    let text = succeed(&mut as_nobody(&["__get", &url]));
    assert_eq!(text, "403 this lab belongs to another user of this machine\n");
    let text = succeed(Command::new(MINISVC).args(["__get", &url]));
    assert!(text.starts_with("200 {"), "{text}");
}

/// `minisvc proxy`, and where it listens.
fn proxy(lab: &Lab) -> (Beside, SocketAddr) {
    let mut command = Command::new("sh");
    // Its words go to standard error; this way they are read as they come.
    command.args(["-c", "exec \"$0\" proxy --port 0 2>&1", MINISVC]);
    command.env("MINISVC_LAB", "sockets").env("MINISVC_STATE_DIR", lab.state_dir());
    let mut proxy = Beside::start(command);
    let line = proxy.line("the proxy's address", |line| line.starts_with("Serving"));
    let address = line.split_once("http://").and_then(|(_, rest)| rest.split_once(',')).expect("an address").0;
    (proxy, address.parse().expect("an address"))
}

//
#[test]
fn over_plain_http_a_page_of_another_site_gets_nothing() {
    let lab = Lab::start("sockets", &[]);
    let (_proxy, address) = proxy(&lab);
    let ask = |headers: &str| {
        let mut socket = TcpStream::connect(address).expect("connected");
        write!(socket, "GET /api/v1/services HTTP/1.1\r\nConnection: close\r\n{headers}\r\n").expect("sent");
        let mut answer = String::new();
        socket.read_to_string(&mut answer).expect("answered");
        answer.split_whitespace().nth(1).expect("a status").to_owned()
    };
    let host = format!("Host: {address}\r\n");
    assert_eq!(ask(&host), "200");
    assert_eq!(ask(&format!("{host}Authorization: Bearer nonsense\r\n")), "200", "clients may send what they have");
    assert_eq!(ask(&format!("{host}Origin: https://evil.example\r\n")), "403");
    assert_eq!(ask(&format!("{host}Sec-Fetch-Site: cross-site\r\n")), "403");
    assert_eq!(ask("Host: evil.example\r\n"), "403", "a name that leads here by somebody else's DNS");
    drop(lab);
}

#[test]
fn a_folder_that_is_in_use_or_of_another_version_is_refused_with_a_sentence() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let mut lab = Lab::start_in("taken", folder.path(), &[]);
    let text = fail(&mut up_command("taken", folder.path(), &[]), 1);
    assert!(text.contains("runs already") && text.contains("hint: end it with minisvc down --name taken"), "{text}");
    // The lock of the store holds where the record of the running lab is lost.
    std::fs::remove_file(lab.root().join("run/lab.json")).expect("removed");
    let text = fail(&mut up_command("taken", folder.path(), &[]), 1);
    assert!(text.contains("in use by another minisvc"), "{text}");
    assert!(lab.api_socket().exists(), "the running lab is untouched");
    assert!(lab.interrupt().success());

    let format = lab.root().join("store/format");
    let ours = std::fs::read_to_string(&format).expect("readable");
    std::fs::write(&format, "999\n").expect("written");
    let text = fail(&mut up_command("taken", folder.path(), &[]), 1);
    assert!(text.contains("holds state in format 999") && text.contains("hint: "), "{text}");
    std::fs::write(&format, ours).expect("written");
    let lab = Lab::start_in("taken", folder.path(), &[]);
    assert_eq!(succeed(&mut lab.command(&["get", "svc", "kubernetes", "-o", "name"])), "service/kubernetes\n");
}
