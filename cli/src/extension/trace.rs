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

/// Bytes of a usual line.
const LINE: usize = 512;

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
        let lines = tokio::select! {
            () = shutdown.cancelled() => None,
            lines = trace.next() => lines,
        };
        lines.map(|lines| (Ok::<_, Infallible>(text(&lines)), (trace, shutdown)))
    });
    Ok(([(header::CONTENT_TYPE, "application/json")], Body::from_stream(lines)).into_response())
}

/// What goes out at once: a line for each. Packets are in it as text, since JSON knows no bytes.
fn text(lines: &[TraceLine]) -> Vec<u8> {
    let mut text = Vec::with_capacity(lines.len() * LINE);
    for line in lines {
        if let Err(error) = serde_json::to_writer(&mut text, line) {
            tracing::error!(%error, "a decision cannot be told");
            continue;
        }
        for (name, packet) in [("before", &line.before), ("after", &line.after)] {
            let Some(packet) = packet else { continue };
            // In front of the end of the object. Base64 has no letter that JSON would write differently.
            text.pop();
            text.extend_from_slice(format!(",\"{name}\":\"{}\"}}", BASE64_STANDARD.encode(packet)).as_bytes());
        }
        text.push(b'\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;
    use serde_json::Value;

    use super::*;

    #[test]
    fn each_decision_is_an_object_on_a_line_of_its_own() {
        let packet = TraceLine {
            before: Some(vec![1, 2, 3]),
            after: Some(Vec::new()),
            ..TraceLine::of_nothing(Timestamp::UNIX_EPOCH)
        };
        let text = text(&[packet, TraceLine::of_nothing(Timestamp::UNIX_EPOCH)]);
        let text = std::str::from_utf8(&text).expect("text");
        let lines: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
        assert_eq!((lines.len(), text.ends_with('\n')), (2, true));
        assert_eq!((&lines[0]["before"], &lines[0]["after"]), (&Value::from("AQID"), &Value::from("")));
        assert_eq!(lines[1]["before"], Value::Null);
    }
}
