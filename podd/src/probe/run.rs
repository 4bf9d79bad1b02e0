//! Asks a container: exec, HTTP, TCP, gRPC, or just waiting. From the node's network, as the kubelet of a node does.

use std::ffi::OsString;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use bytes::Bytes;
use http::{Request, StatusCode, Uri, header};
use http_body_util::{BodyExt as _, Empty, Limited};
use hyper::body::Incoming;
use hyper_util::rt::TokioIo;
use k8s_openapi::api::core::v1::{
    Container, ExecAction, GRPCAction, HTTPGetAction, LifecycleHandler, Probe, TCPSocketAction,
};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use minisvc_sandbox::{ExitStatus, MountSpace, Namespace, Process, ProcessSpec};
use thiserror::Error;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite};
use tokio::net::unix::pipe;
use tokio::time::timeout;

use crate::pod::plan::seconds;
use crate::pod::sandbox::chain;
use crate::shared::Running;

/// How much of a command's output goes into a message, in bytes.
const OUTPUT_LIMIT: u64 = 4096;
/// How long the rest of a command's output is waited for after its end.
const LAST_WORDS: Duration = Duration::from_millis(100);
/// How much of an HTTP answer is read, in bytes.
const BODY_LIMIT: usize = 10 << 10;
/// Redirects followed on the same host (P-023).
const REDIRECTS: usize = 10;

/// What is needed to reach a container.
pub(crate) struct Target<'a> {
    pub(crate) container: &'a Container,
    /// The pod's own.
    pub(crate) namespace: &'a Namespace,
    /// Where network probes come from.
    pub(crate) node: &'a Namespace,
    pub(crate) address: Option<IpAddr>,
    pub(crate) running: &'a Running,
}

/// Why the answer is no.
#[derive(Debug, Error)]
pub(crate) enum Failure {
    #[error("{0}")]
    Said(String),
    #[error("no answer within {} s", .0.as_secs())]
    Timeout(Duration),
}

fn said(text: impl Into<String>) -> Failure {
    Failure::Said(text.into())
}

/// What a positive answer may come with.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Passed {
    Plainly,
    /// With a remark for the user, event `ProbeWarning`.
    WithWarning(String),
}

/// Asks once.
pub(crate) async fn probe(target: &Target<'_>, probe: &Probe, limit: Duration) -> Result<Passed, Failure> {
    // A command has to be killed when its time is over, so it watches the time itself.
    if let Some(action) = &probe.exec {
        return exec(target, action, limit).await.map(|()| Passed::Plainly);
    }
    let asking = async {
        if let Some(action) = &probe.http_get {
            http_get(target, action).await
        } else if let Some(action) = &probe.tcp_socket {
            tcp(target, action).await.map(|()| Passed::Plainly)
        } else if let Some(action) = &probe.grpc {
            grpc(target, action).await.map(|()| Passed::Plainly)
        } else {
            Err(said("the probe says nothing to ask; give it exec, httpGet, tcpSocket or grpc"))
        }
    };
    timeout(limit, asking).await.unwrap_or(Err(Failure::Timeout(limit)))
}

/// Runs a lifecycle hook; `limit` is what is left of the grace.
pub(crate) async fn hook(target: &Target<'_>, hook: &LifecycleHandler, limit: Duration) -> Result<(), Failure> {
    if let Some(action) = &hook.exec {
        return exec(target, action, limit).await;
    }
    let running = async {
        if let Some(action) = &hook.http_get {
            http_get(target, action).await.map(|_| ())
        } else if let Some(action) = &hook.sleep {
            tokio::time::sleep(seconds(action.seconds)).await;
            Ok(())
        } else if let Some(action) = &hook.tcp_socket {
            tcp(target, action).await
        } else {
            Ok(())
        }
    };
    timeout(limit, running).await.unwrap_or(Err(Failure::Timeout(limit)))
}

/// Runs a command in the container.
async fn exec(target: &Target<'_>, action: &ExecAction, limit: Duration) -> Result<(), Failure> {
    let (reader, writer) = std::io::pipe().map_err(|error| said(error.to_string()))?;
    let again = writer.try_clone().map_err(|error| said(error.to_string()))?;
    let output = pipe::Receiver::from_owned_fd(reader.into()).map_err(|error| said(error.to_string()))?;
    let spec = ProcessSpec {
        argv: action.command.iter().flatten().map(OsString::from).collect(),
        env: target.running.environment.clone(),
        cwd: target.running.directory.clone(),
        user: target.running.user.clone(),
        stdin: None,
        stdout: Some(writer.into()),
        stderr: Some(again.into()),
        mounts: MountSpace::Of(target.running.process.id()),
        ..ProcessSpec::default()
    };
    let process = target.namespace.spawn(spec).await.map_err(|error| said(chain(&error)))?;
    let (status, text) = watch(&process, output, limit).await;
    match status {
        Some(ExitStatus::Code(0)) => Ok(()),
        Some(status) => {
            let text = String::from_utf8_lossy(&text);
            Err(said(format!("command ended with code {}: {}", status.as_code(), text.trim_end())))
        }
        None => Err(Failure::Timeout(limit)),
    }
}

/// Waits for the end of a command and keeps the beginning of what it printed; `None` if it had to be killed.
async fn watch(process: &Process, mut output: pipe::Receiver, limit: Duration) -> (Option<ExitStatus>, Vec<u8>) {
    let mut text = Vec::new();
    let status = {
        // To the end, so that the command does not block.
        let reading = async {
            let _ = (&mut output).take(OUTPUT_LIMIT).read_to_end(&mut text).await;
            let _ = tokio::io::copy(&mut output, &mut tokio::io::sink()).await;
        };
        let ending = async {
            let status = timeout(limit, process.wait()).await.ok();
            if status.is_none() {
                process.signal(nix::libc::SIGKILL).await;
            }
            status
        };
        tokio::pin!(reading, ending);
        tokio::select! {
            status = &mut ending => {
                // A child that it left behind may hold the pipe; what that says does not matter.
                let _ = timeout(LAST_WORDS, &mut reading).await;
                status
            }
            () = &mut reading => ending.await,
        }
    };
    (status, text)
}

async fn tcp(target: &Target<'_>, action: &TCPSocketAction) -> Result<(), Failure> {
    let address = socket_address(target, action.host.as_deref(), &action.port)?;
    target.node.connect_tcp(address).await.map(drop).map_err(|error| said(format!("dial tcp {address}: {error}")))
}

async fn grpc(target: &Target<'_>, action: &GRPCAction) -> Result<(), Failure> {
    let address = socket_address(target, None, &IntOrString::Int(action.port))?;
    let refused = |error: std::io::Error| said(format!("dial tcp {address}: {error}"));
    let stream = target.node.connect_tcp(address).await.map_err(refused)?;
    let service = action.service.as_deref().unwrap_or_default();
    super::grpc::check(stream, &address.to_string(), service).await.map_err(said)
}

/// P-025: the pod's address unless a host is given, a port by number or by name.
fn socket_address(target: &Target<'_>, host: Option<&str>, port: &IntOrString) -> Result<SocketAddr, Failure> {
    let address = match host.filter(|host| !host.is_empty()) {
        Some("localhost") => IpAddr::from([127, 0, 0, 1]),
        Some(host) => host.parse().map_err(|_| said(format!("host {host:?} is not an address")))?,
        None => target.address.ok_or_else(|| said("the pod has no address"))?,
    };
    Ok(SocketAddr::new(address, port_number(target.container, port)?))
}

fn port_number(container: &Container, port: &IntOrString) -> Result<u16, Failure> {
    let number = match port {
        IntOrString::Int(number) => Some(*number),
        IntOrString::String(name) => {
            let named = container.ports.iter().flatten().find(|port| port.name.as_ref() == Some(name));
            named.map(|port| port.container_port).or_else(|| name.parse().ok())
        }
    };
    let number = number.and_then(|number| u16::try_from(number).ok()).filter(|number| *number > 0);
    number.ok_or_else(|| said(format!("the container has no port {port:?}")))
}

async fn http_get(target: &Target<'_>, action: &HTTPGetAction) -> Result<Passed, Failure> {
    let first = socket_address(target, action.host.as_deref(), &action.port)?;
    let https = action.scheme.as_deref() == Some("HTTPS");
    let mut place = Place { address: first, https, path: path_of(action) };
    for _ in 0..=REDIRECTS {
        let (status, location) = get(target.node, &place, action).await?;
        match follow(&place, status, location.as_deref()) {
            Next::Done(outcome) => return outcome,
            Next::Go(next) => place = next,
        }
    }
    Err(said(format!("stopped after {REDIRECTS} redirects")))
}

fn path_of(action: &HTTPGetAction) -> String {
    let path = action.path.as_deref().filter(|path| !path.is_empty()).unwrap_or("/");
    if path.starts_with('/') { path.to_owned() } else { format!("/{path}") }
}

/// What an HTTP probe asks next.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Place {
    address: SocketAddr,
    https: bool,
    path: String,
}

#[derive(Debug)]
enum Next {
    Done(Result<Passed, Failure>),
    Go(Place),
}

/// P-023: what an answer means.
fn follow(place: &Place, status: StatusCode, location: Option<&str>) -> Next {
    let code = status.as_u16();
    let (true, Some(location)) = (status.is_redirection(), location) else {
        return Next::Done(if (200..400).contains(&code) {
            Ok(Passed::Plainly)
        } else {
            Err(said(format!("HTTP probe failed with statuscode: {code}")))
        });
    };
    if location.starts_with('/') {
        return Next::Go(Place { path: location.to_owned(), ..place.clone() });
    }
    let elsewhere = || {
        let warning = format!("the probe was redirected to another host, {location}, and counts as a success");
        Next::Done(Ok(Passed::WithWarning(warning)))
    };
    let Ok(uri) = location.parse::<Uri>() else { return elsewhere() };
    let host = uri.host().unwrap_or_default().trim_matches(['[', ']']).to_owned();
    if host.parse() != Ok(place.address.ip()) {
        return elsewhere();
    }
    let https = uri.scheme_str() == Some("https");
    let port = uri.port_u16().unwrap_or(if https { 443 } else { 80 });
    let path = uri.path_and_query().map_or("/", |path| path.as_str()).to_owned();
    Next::Go(Place { address: SocketAddr::new(place.address.ip(), port), https, path })
}

async fn get(node: &Namespace, place: &Place, action: &HTTPGetAction) -> Result<(StatusCode, Option<String>), Failure> {
    let refused = |error: std::io::Error| said(format!("Get \"{}\": dial tcp {}: {error}", place.path, place.address));
    let stream = node.connect_tcp(place.address).await.map_err(refused)?;
    if place.https {
        let stream = super::tls::connect(stream, place.address.ip()).await;
        exchange(stream.map_err(|error| said(format!("TLS: {error}")))?, place, action).await
    } else {
        exchange(stream, place, action).await
    }
}

async fn exchange<S>(stream: S, place: &Place, action: &HTTPGetAction) -> Result<(StatusCode, Option<String>), Failure>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let request = request(place, action).map_err(|error| said(format!("request: {error}")))?;
    let failed = |error: hyper::Error| said(format!("Get \"{}\": {}", place.path, chain(&error)));
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.map_err(failed)?;
    // Ends with the answer, because the probe is dropped then.
    let talking = async {
        let answer: http::Response<Incoming> = sender.send_request(request).await?;
        let (head, body) = answer.into_parts();
        // Read a little, so that the server is not cut off in mid-answer.
        let _ = Limited::new(body, BODY_LIMIT).collect().await;
        let location = head.headers.get(header::LOCATION).and_then(|value| value.to_str().ok()).map(str::to_owned);
        Ok((head.status, location))
    };
    tokio::pin!(talking, connection);
    tokio::select! {
        answer = &mut talking => answer.map_err(failed),
        // The connection may be done before the answer has been looked at.
        result = &mut connection => {
            result.map_err(failed)?;
            talking.await.map_err(failed)
        }
    }
}

/// P-025: the headers a probe has unless others are given.
fn request(place: &Place, action: &HTTPGetAction) -> Result<Request<Empty<Bytes>>, http::Error> {
    let given = |name: &str| action.http_headers.iter().flatten().any(|h| h.name.eq_ignore_ascii_case(name));
    let mut builder = Request::get(&place.path).header(header::CONNECTION, "close");
    for (name, value) in [
        ("Host", place.address.to_string()),
        ("User-Agent", super::USER_AGENT.to_owned()),
        ("Accept", "*/*".to_owned()),
    ] {
        if !given(name) {
            builder = builder.header(name, value);
        }
    }
    for header in action.http_headers.iter().flatten() {
        builder = builder.header(&header.name, &header.value);
    }
    builder.body(Empty::new())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place() -> Place {
        Place { address: "10.244.1.2:8080".parse().expect("an address"), https: false, path: "/".to_owned() }
    }

    fn outcome(code: u16, location: Option<&str>) -> String {
        match follow(&place(), StatusCode::from_u16(code).expect("a code"), location) {
            Next::Done(Ok(Passed::Plainly)) => "pass".to_owned(),
            Next::Done(Ok(Passed::WithWarning(_))) => "warn".to_owned(),
            Next::Done(Err(_)) => "fail".to_owned(),
            Next::Go(next) => format!("{}{} {}", next.address, next.path, next.https),
        }
    }

    #[test]
    fn answers_of_an_http_probe() {
        let table = [
            ("P-023", 200, None, "pass"),
            ("P-023", 399, None, "pass"),
            ("P-023", 199, None, "fail"),
            ("P-023", 400, None, "fail"),
            ("P-023", 503, Some("/x"), "fail"),
            ("P-023", 302, Some("/ready?x=1"), "10.244.1.2:8080/ready?x=1 false"),
            ("P-023", 301, Some("https://10.244.1.2/s"), "10.244.1.2:443/s true"),
            ("P-023", 302, Some("http://example.com/"), "warn"),
        ];
        for (statement, code, location, expected) in table {
            assert_eq!(outcome(code, location), expected, "{statement} {code} {location:?}");
        }
    }

    // P-025
    #[test]
    fn ports_by_number_and_by_name() {
        let container = serde_json::from_value(serde_json::json!({
            "name": "app", "ports": [{"name": "http", "containerPort": 8080}]
        }));
        let container: Container = container.expect("a container");
        let named = |name: &str| port_number(&container, &IntOrString::String(name.to_owned())).ok();
        assert_eq!(port_number(&container, &IntOrString::Int(9000)).ok(), Some(9000));
        assert_eq!((named("http"), named("nope"), named("81")), (Some(8080), None, Some(81)));
    }

    // P-025
    #[test]
    fn headers_have_defaults_that_can_be_overridden() {
        let action = serde_json::json!({"port": 80, "httpHeaders": [
            {"name": "user-agent", "value": "mine"}, {"name": "X-A", "value": "1"}]});
        let action: HTTPGetAction = serde_json::from_value(action).expect("an action");
        let request = request(&place(), &action).expect("a request");
        let header = |name: &str| {
            request.headers().get_all(name).iter().map(|v| v.to_str().expect("text").to_owned()).collect::<Vec<_>>()
        };
        assert_eq!(header("user-agent"), ["mine"]);
        assert_eq!(header("accept"), ["*/*"]);
        assert_eq!(header("host"), ["10.244.1.2:8080"]);
        assert_eq!(header("x-a"), ["1"]);
    }
}
