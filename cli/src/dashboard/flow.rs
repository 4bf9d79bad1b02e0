//! New connections, as the lab's trace tells them, reduced to what the page shows.

use http::Method;
use http_body_util::BodyExt as _;
use serde::Serialize;
use serde_json::Value;
use tokio::sync::mpsc;

use crate::api::LabApi;

/// Where the lab tells each new connection.
const TRACE: &str = "/apis/minisvc.dev/v1/trace?watch=true";

/// The longest line of it, in bytes; a longer one ends the tracing.
const MAX_LINE: usize = 64 * 1024;

/// One new connection, or one that was not let through.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct FlowEvent {
    pub(super) client: String,
    /// Where the client is, if it is no pod or node.
    pub(super) from: &'static str,
    pub(super) destination: String,
    /// `namespace/name`.
    pub(super) service: Option<String>,
    pub(super) endpoint: Option<String>,
    /// Where that is, if it is no pod or node.
    pub(super) to: &'static str,
    /// `forward`, `refuse` or `drop`.
    pub(super) outcome: String,
    pub(super) why: String,
    /// How many endpoints it could have had.
    pub(super) candidates: u64,
    /// The address that the endpoint sees.
    pub(super) source: Option<String>,
}

impl FlowEvent {
    /// Whether it did not get through.
    pub(super) fn is_trouble(&self) -> bool {
        self.outcome != "forward"
    }

    /// Reads a line of the trace; `None` for one that is about no connection.
    fn read(line: &Value) -> Option<Self> {
        let text = |name: &str| line[name].as_str().map(str::to_owned);
        let outcome = match line["event"].as_str()? {
            "flow" => "forward",
            "refused" => "refuse",
            "dropped" => "drop",
            _ => return None,
        };
        let service = text("service").map(|service| match service.split_once(':') {
            Some((service, _)) => service.to_owned(),
            None => service,
        });
        Some(Self {
            client: text("source")?,
            from: place(&line["from"]),
            destination: text("destination")?,
            service,
            endpoint: text("endpoint"),
            to: place(&line["to"]),
            outcome: outcome.to_owned(),
            why: text("why").unwrap_or_default(),
            candidates: line["chosen"]["candidates"].as_u64().unwrap_or_default(),
            source: text("seenAs").or_else(|| text("source")),
        })
    }
}

/// The page's name for a place that is no pod or node.
fn place(place: &Value) -> &'static str {
    match place["kind"].as_str() {
        Some("Workstation") => "workstation",
        Some("ControlPlane") => "control-plane",
        _ => "outside",
    }
}

/// Follows the lab's trace until the receiver is dropped or the lab ends. When the receiver has no room a connection is
/// not told; there are more.
pub(super) async fn follow(api: LabApi, flow_tx: mpsc::Sender<FlowEvent>) {
    let answer = match api.send(Method::GET, TRACE, &[], Vec::new()).await {
        Ok(answer) => answer,
        Err(error) => return tracing::debug!(%error, "connections are not traced"),
    };
    let mut body = answer.into_body();
    let mut read: Vec<u8> = Vec::new();
    while let Some(Ok(frame)) = body.frame().await {
        read.extend_from_slice(frame.data_ref().map_or(&[], |data| data));
        let whole = read.iter().rposition(|byte| *byte == b'\n').map_or(0, |end| end + 1);
        let rest = read.split_off(whole);
        for line in read.split(|byte| *byte == b'\n') {
            let event = serde_json::from_slice(line).ok().and_then(|line| FlowEvent::read(&line));
            if let Some(event) = event
                && let Err(mpsc::error::TrySendError::Closed(_)) = flow_tx.try_send(event)
            {
                return;
            }
        }
        read = rest;
        if read.len() > MAX_LINE {
            return tracing::debug!("the trace makes no sense");
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_line_of_the_trace_becomes_what_the_page_shows() {
        let line = json!({
            "event": "flow", "to": {"kind": "ControlPlane", "name": "control-plane"}, "from": {"kind": "Pod", "name": "default/client"}, "source": "10.244.0.9:4000",
            "destination": "10.96.0.9:80", "service": "default/web:http", "endpoint": "10.244.0.2:8080",
            "seenAs": "10.95.0.11:4000", "chosen": {"by": "random", "candidates": 3}, "why": "at random",
        });
        let flow = FlowEvent::read(&line).expect("a connection");
        assert_eq!((flow.service.as_deref(), flow.candidates), (Some("default/web"), 3));
        assert_eq!(flow.source.as_deref(), Some("10.95.0.11:4000"));
        assert_eq!((flow.is_trouble(), flow.to), (false, "control-plane"));
        let refused = json!({"event": "refused", "source": "10.95.0.1:4000", "destination": "10.96.0.9:80",
            "service": "default/web", "why": "no endpoint"});
        let refused = FlowEvent::read(&refused).expect("a connection");
        assert!(refused.is_trouble());
        assert_eq!(
            (refused.service.as_deref(), refused.source.as_deref()),
            (Some("default/web"), Some("10.95.0.1:4000"))
        );
        assert_eq!(FlowEvent::read(&json!({"event": "lost", "lost": 3})), None);
    }
}
