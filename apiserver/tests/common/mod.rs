//! What the tests of this crate share: a server in memory, requests by hand, and watches with a deadline.

#![allow(dead_code, reason = "every test binary includes this file and none uses all of it")]

use std::collections::BTreeMap;
use std::time::Duration;

use futures::{Stream, StreamExt as _};
use http::{HeaderMap, Method, Request, StatusCode};
use http_body_util::BodyExt as _;
use k8s_openapi::api::core::v1::ConfigMap;
use kube::Api;
use kube::api::ObjectMeta;
use minisvc_apiserver::{ApiServer, Identity, MASTERS, Options};
use serde_json::Value;
use tower::ServiceExt as _;

/// Longer than any machine needs, shorter than anybody's patience.
pub(crate) const DEADLINE: Duration = Duration::from_secs(30);

/// A fresh server in memory.
pub(crate) async fn server() -> ApiServer {
    ApiServer::open(Options::default()).await.unwrap()
}

/// Somebody who may do everything.
pub(crate) fn admin() -> Identity {
    Identity::new("admin", &[MASTERS])
}

/// A fresh server and a client for it.
pub(crate) async fn client() -> (ApiServer, kube::Client) {
    let server = server().await;
    let client = server.client(admin());
    (server, client)
}

pub(crate) fn config_maps(client: &kube::Client) -> Api<ConfigMap> {
    Api::namespaced(client.clone(), "default")
}

pub(crate) fn config_map(name: &str, data: &[(&str, &str)]) -> ConfigMap {
    ConfigMap { metadata: named(name), data: Some(map(data)), ..ConfigMap::default() }
}

pub(crate) fn named(name: &str) -> ObjectMeta {
    ObjectMeta { name: Some(name.to_owned()), ..ObjectMeta::default() }
}

pub(crate) fn map(entries: &[(&str, &str)]) -> BTreeMap<String, String> {
    entries.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
}

/// The code and reason of an error the API answered with.
pub(crate) fn refusal<T: std::fmt::Debug>(outcome: Result<T, kube::Error>) -> (u16, String, String) {
    match outcome.unwrap_err() {
        kube::Error::Api(status) => (status.code, status.reason.clone(), status.message.clone()),
        other => panic!("not an answer of the API: {other:?}"),
    }
}

/// An answer, read to its end.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) code: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) text: String,
}

impl Answer {
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.text).unwrap_or_else(|error| panic!("{error}: {}", self.text))
    }

    /// The object without one field of its metadata.
    pub(crate) fn json_without(&self, key: &str) -> Value {
        let mut object = self.json();
        if let Some(metadata) = object["metadata"].as_object_mut() {
            metadata.remove(key);
        }
        object
    }

    pub(crate) fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().unwrap())
    }
}

/// A request as an HTTP client would write it.
pub(crate) struct Asking {
    method: Method,
    path: String,
    headers: Vec<(String, String)>,
    body: Vec<u8>,
    identity: Option<Identity>,
}

pub(crate) fn ask(method: &str, path: &str) -> Asking {
    Asking {
        method: method.parse().unwrap(),
        path: path.to_owned(),
        headers: Vec::new(),
        body: Vec::new(),
        identity: Some(admin()),
    }
}

impl Asking {
    pub(crate) fn header(mut self, name: &str, value: &str) -> Self {
        self.headers.push((name.to_owned(), value.to_owned()));
        self
    }

    pub(crate) fn accept(self, value: &str) -> Self {
        self.header("accept", value)
    }

    pub(crate) fn json(mut self, body: &Value) -> Self {
        self.body = body.to_string().into_bytes();
        self.header("content-type", "application/json")
    }

    pub(crate) fn patch(mut self, kind: &str, body: &Value) -> Self {
        self.body = body.to_string().into_bytes();
        self.header("content-type", kind)
    }

    pub(crate) fn bytes(mut self, body: impl Into<Vec<u8>>) -> Self {
        self.body = body.into();
        self
    }

    pub(crate) fn anonymous(mut self) -> Self {
        self.identity = None;
        self
    }

    pub(crate) fn identity(mut self, identity: Identity) -> Self {
        self.identity = Some(identity);
        self
    }

    fn request(self) -> Request<axum::body::Body> {
        let mut builder = Request::builder().method(self.method).uri(self.path);
        for (name, value) in self.headers {
            builder = builder.header(name, value);
        }
        let mut request = builder.body(axum::body::Body::from(self.body)).unwrap();
        if let Some(identity) = self.identity {
            request.extensions_mut().insert(identity);
        }
        request
    }

    /// Sends it and reads the whole answer.
    pub(crate) async fn of(self, server: &ApiServer) -> Answer {
        let what = format!("{} {}", self.method, self.path);
        let answer = async {
            let response = server.router().oneshot(self.request()).await.unwrap();
            let (parts, body) = response.into_parts();
            let text = String::from_utf8(body.collect().await.unwrap().to_bytes().to_vec()).unwrap();
            Answer { code: parts.status, headers: parts.headers, text }
        };
        tokio::time::timeout(DEADLINE, answer).await.unwrap_or_else(|_| panic!("no answer to {what}"))
    }

    /// Sends it and reads the answer line by line, as a watch.
    pub(crate) async fn lines(self, server: &ApiServer) -> Lines {
        let response = server.router().oneshot(self.request()).await.unwrap();
        assert_eq!(response.status(), StatusCode::OK);
        Lines { body: response.into_body(), read: Vec::new() }
    }
}

/// The lines of a watch.
pub(crate) struct Lines {
    body: axum::body::Body,
    read: Vec<u8>,
}

impl Lines {
    /// The next event; None at the end of the body.
    pub(crate) async fn next(&mut self) -> Option<Value> {
        tokio::time::timeout(DEADLINE, self.line()).await.expect("no event in time")
    }

    /// The type and name of the next event.
    pub(crate) async fn brief(&mut self) -> (String, String) {
        let event = self.next().await.expect("the watch ended");
        let name = event["object"]["metadata"]["name"].as_str().unwrap_or_default();
        (event["type"].as_str().unwrap().to_owned(), name.to_owned())
    }

    async fn line(&mut self) -> Option<Value> {
        loop {
            if let Some(end) = self.read.iter().position(|byte| *byte == b'\n') {
                let line: Vec<u8> = self.read.drain(..=end).collect();
                return Some(serde_json::from_slice(&line).unwrap());
            }
            let frame = self.body.frame().await?.unwrap();
            self.read.extend_from_slice(frame.data_ref().expect("no trailers"));
        }
    }
}

/// The next item of a stream, or a panic that says that it did not come in time.
pub(crate) async fn next<S: Stream + Unpin>(stream: &mut S) -> S::Item {
    tokio::time::timeout(DEADLINE, stream.next()).await.expect("nothing came in time").expect("the stream ended")
}
