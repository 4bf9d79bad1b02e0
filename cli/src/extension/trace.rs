//! The trace: an answer that goes on, one JSON object a line.

use std::convert::Infallible;

use axum::body::Body;
use axum::response::{IntoResponse as _, Response};
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use http::header;
use minisvc_apiserver::ExtensionResource;
use minisvc_apiserver::error::ApiError;
use minisvc_netd::observe::{self, MAX_TRACES, TraceLine, TraceQuery};
use serde_json::Value;

use super::Sources;
use super::parameters::Parameters;

/// It can only be followed, so that nobody who lists everything waits for its end.
pub(super) const RESOURCE: ExtensionResource = ExtensionResource {
    plural: "trace",
    singular: "trace",
    kind: "Trace",
    short_names: &[],
    namespaced: false,
    verbs: &["watch"],
};

const PARAMETERS: &[&str] = &["service", "pod", "node", "port", "packets", "drops", "frames", "watch"];

/// Begins to tell.
pub(super) fn answer(sources: &Sources, query: Vec<(String, String)>) -> Result<Response, ApiError> {
    let asked = Parameters::read("trace", PARAMETERS, query, None)?;
    let query = TraceQuery {
        service: asked.name("service"),
        pod: asked.name("pod"),
        node: asked.text("node").map(str::to_owned),
        port: asked.parsed("port", "port")?,
        packets: asked.is_on("packets")?,
        drops: asked.is_on("drops")?,
        frames: asked.is_on("frames")?,
    };
    let Some(trace) = observe::trace(&sources.netd, query) else {
        return Err(ApiError::TooManyRequests {
            message: format!("{MAX_TRACES} traces are being followed already"),
            retry_after: 1,
            causes: Vec::new(),
        });
    };
    let shutdown = sources.shutdown.clone();
    let lines = futures::stream::unfold((trace, shutdown), |(mut trace, shutdown)| async move {
        let line = tokio::select! {
            () = shutdown.cancelled() => None,
            line = trace.next() => line,
        };
        line.map(|line| (Ok::<_, Infallible>(text(&line)), (trace, shutdown)))
    });
    Ok(([(header::CONTENT_TYPE, "application/json")], Body::from_stream(lines)).into_response())
}

/// One line. Packets are in it as text, since JSON knows no bytes.
fn text(line: &TraceLine) -> String {
    let mut object = serde_json::to_value(line).unwrap_or_default();
    for (name, packet) in [("before", &line.before), ("after", &line.after)] {
        if let Some(packet) = packet {
            object[name] = Value::from(BASE64_STANDARD.encode(packet));
        }
    }
    format!("{object}\n")
}
