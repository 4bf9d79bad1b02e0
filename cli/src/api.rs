//! How the commands talk to a running lab: HTTP over its Unix socket, the same API that kubectl sees.

use std::path::PathBuf;
use std::pin::Pin;
use std::task::{Context, Poll};

use http::{Method, Request, StatusCode, Uri};
use http_body_util::BodyExt as _;
use hyper_util::client::legacy::Client as HyperClient;
use hyper_util::rt::{TokioExecutor, TokioIo};
use kube::client::Body;
use serde_json::Value;
use tokio::net::UnixStream;
use tower::{Service, ServiceExt as _};

use crate::commands::objects::did_you_mean;
use crate::discovery::Kinds;
use crate::error::{CliError, Context as _};
use crate::home::LabHome;

/// Longest answer that a command reads whole, in bytes.
const MAX_ANSWER: usize = 64 << 20;

/// The annotation that names the container which commands mean.
const DEFAULT_CONTAINER: &str = "kubectl.kubernetes.io/default-container";

/// Connects every request to one Unix socket, whatever host its URI names.
#[derive(Debug, Clone)]
struct UnixConnector {
    path: PathBuf,
}

impl Service<Uri> for UnixConnector {
    type Response = TokioIo<UnixStream>;
    type Error = std::io::Error;
    type Future = Pin<Box<dyn Future<Output = std::io::Result<TokioIo<UnixStream>>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: Uri) -> Self::Future {
        let path = self.path.clone();
        Box::pin(async move { UnixStream::connect(path).await.map(TokioIo::new) })
    }
}

/// The API of one running lab.
#[derive(Debug, Clone)]
pub(crate) struct LabApi {
    http: HyperClient<UnixConnector, Body>,
}

impl LabApi {
    /// Finds the lab. Nothing is sent before the first request.
    ///
    /// # Errors
    /// When the lab does not run.
    pub(crate) fn of(home: &LabHome) -> Result<Self, CliError> {
        home.require_running()?;
        let connector = UnixConnector { path: home.api_socket() };
        Ok(Self { http: HyperClient::builder(TokioExecutor::new()).build(connector) })
    }

    /// The same as a kube-rs client.
    pub(crate) fn kube(&self) -> kube::Client {
        let service = self.http.clone().map_request(|mut request: Request<Body>| {
            absolute(request.uri_mut());
            request
        });
        kube::Client::new(service, "default")
    }

    /// Sends one request and returns the answer's head and its body as it comes.
    ///
    /// # Errors
    /// When the lab cannot be reached, or answers with a failure: then its own words.
    pub(crate) async fn send(
        &self,
        method: Method,
        path: &str,
        headers: &[(&str, &str)],
        body: Vec<u8>,
    ) -> Result<http::Response<hyper::body::Incoming>, CliError> {
        let mut request = Request::builder().method(method).uri(path);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let mut request = request.body(Body::from(body)).context(|| format!("{path:?} is no path"))?;
        absolute(request.uri_mut());
        let answer = self.http.request(request).await.context(|| "cannot reach the lab".to_owned())?;
        if answer.status().is_success() {
            return Ok(answer);
        }
        let status = answer.status();
        let text = read_all(answer.into_body()).await?;
        Err(refusal(status, &text))
    }

    /// Sends one request with a JSON body, if any, and reads the JSON answer.
    ///
    /// # Errors
    /// As [`Self::send`], and when the answer is no JSON.
    pub(crate) async fn json(
        &self,
        method: Method,
        path: &str,
        accept: &str,
        body: Option<&Value>,
    ) -> Result<Value, CliError> {
        let bytes = body.map(Value::to_string).unwrap_or_default().into_bytes();
        let headers = [("accept", accept), ("content-type", "application/json")];
        let answer = self.send(method, path, &headers, bytes).await?;
        let text = read_all(answer.into_body()).await?;
        serde_json::from_slice(&text).context(|| format!("the lab's answer to {path} is no JSON"))
    }

    /// Reads something that is no JSON.
    ///
    /// # Errors
    /// As [`Self::send`].
    pub(crate) async fn text(&self, path: &str) -> Result<String, CliError> {
        let answer = self.send(Method::GET, path, &[], Vec::new()).await?;
        Ok(String::from_utf8_lossy(&read_all(answer.into_body()).await?).into_owned())
    }

    /// The container of a pod that a command means: the one it names, else the pod's default or first, and then says so if
    /// there are several, as kubectl does.
    ///
    /// # Errors
    /// When there is no such pod.
    pub(crate) async fn container(&self, namespace: &str, pod: &str, named: Option<&str>) -> Result<String, CliError> {
        if let Some(name) = named {
            return Ok(name.to_owned());
        }
        let object = match self.get(&format!("/api/v1/namespaces/{namespace}/pods/{pod}")).await {
            Ok(object) => object,
            Err(error) => {
                return Err(did_you_mean(error, self, Kinds::ask(self).await?.by_word("pods")?, namespace, pod).await);
            }
        };
        let containers = object["spec"]["containers"].as_array().into_iter().flatten();
        let names: Vec<&str> = containers.filter_map(|container| container["name"].as_str()).collect();
        let marked = object["metadata"]["annotations"][DEFAULT_CONTAINER].as_str();
        let default = marked.filter(|name| names.contains(name)).or_else(|| names.first().copied());
        // A pod without containers is no legal pod.
        let default = default.ok_or_else(|| CliError::failed(format!("pod {pod:?} has no container")))?;
        if names.len() > 1 {
            eprintln!("Defaulted container {default:?} out of: {}", names.join(", "));
        }
        Ok(default.to_owned())
    }

    /// Reads one object or list as JSON.
    ///
    /// # Errors
    /// As [`Self::json`].
    pub(crate) async fn get(&self, path: &str) -> Result<Value, CliError> {
        self.json(Method::GET, path, "application/json", None).await
    }
}

/// hyper wants a host even where the connector ignores it.
fn absolute(uri: &mut Uri) {
    let mut parts = std::mem::take(uri).into_parts();
    parts.scheme = Some(http::uri::Scheme::HTTP);
    parts.authority = Some(http::uri::Authority::from_static("localhost"));
    parts.path_and_query.get_or_insert(http::uri::PathAndQuery::from_static("/"));
    // Scheme, authority and path are all there, which is the one thing that could be missing.
    *uri = Uri::from_parts(parts).unwrap_or_default();
}

async fn read_all(body: hyper::body::Incoming) -> Result<Vec<u8>, CliError> {
    let limited = http_body_util::Limited::new(body, MAX_ANSWER);
    let whole = limited
        .collect()
        .await
        .map_err(|source| CliError::failed("the lab's answer broke off or is too long").because(source))?;
    Ok(whole.to_bytes().to_vec())
}

/// The server's own sentence, if it sent a Status.
fn refusal(status: StatusCode, body: &[u8]) -> CliError {
    let said: Option<Value> = serde_json::from_slice(body).ok();
    let message = said.as_ref().and_then(|said| said["message"].as_str());
    let message = message.map_or_else(|| String::from_utf8_lossy(body).trim().to_owned(), str::to_owned);
    if status == StatusCode::NOT_FOUND { CliError::not_found(message) } else { CliError::failed(message) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_request_gets_a_host_and_keeps_its_path() {
        let mut uri: Uri = "/api/v1/pods?watch=1".parse().expect("a path");
        absolute(&mut uri);
        assert_eq!(uri, "http://localhost/api/v1/pods?watch=1");
        let mut uri: Uri = "https://elsewhere:1/x".parse().expect("a URI");
        absolute(&mut uri);
        assert_eq!(uri, "http://localhost/x");
    }

    #[test]
    fn the_servers_own_sentence_reaches_the_user() {
        let error = refusal(StatusCode::NOT_FOUND, br#"{"kind":"Status","message":"pods \"x\" not found"}"#);
        assert_eq!(error.render(), "error: pods \"x\" not found");
    }
}
