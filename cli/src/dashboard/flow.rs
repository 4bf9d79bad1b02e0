//! New connections, as the lab's trace tells them, reduced to what the page shows.

use http::Method;
use http_body_util::BodyExt as _;
use serde::Serialize;
use serde_json::Value;
use tokio::sync::mpsc;

use crate::api::LabApi;

/// Where the lab tells each new connection.
const TRACE: &str = "/apis/minisvc.dev/v1/trace?drops=true";

/// The longest line of it, in bytes; a longer one ends the tracing.
const MAX_LINE: usize = 64 * 1024;

/// One new connection, or one that was not let through.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct FlowEvent {
    pub(super) client: String,
    /// `workstation` or `outside`, for a client that is no pod or node.
    pub(super) from: String,
    pub(super) destination: String,
    /// `namespace/name`.
    pub(super) service: Option<String>,
    pub(super) endpoint: Option<String>,
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

    fn read(line: &Value) -> Option<Self> {
        let text = |name: &str| line[name].as_str().map(str::to_owned);
        let service = text("service").map(|service| match service.split_once(':') {
            Some((service, _)) => service.to_owned(),
            None => service,
        });
        Some(Self {
            client: text("client")?,
            from: if line["from"]["kind"] == "Outside" { "outside" } else { "workstation" }.to_owned(),
            destination: text("destination")?,
            service,
            endpoint: text("endpoint"),
            outcome: text("outcome")?,
            why: text("why").unwrap_or_default(),
            candidates: line["candidates"].as_array().map_or(0, Vec::len).try_into().unwrap_or(u64::MAX),
            source: text("source"),
        })
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
        while let Some(end) = read.iter().position(|byte| *byte == b'\n') {
            let line: Vec<u8> = read.drain(..=end).collect();
            let event = serde_json::from_slice(&line).ok().and_then(|line| FlowEvent::read(&line));
            if let Some(event) = event
                && let Err(mpsc::error::TrySendError::Closed(_)) = flow_tx.try_send(event)
            {
                return;
            }
        }
        if read.len() > MAX_LINE {
            return tracing::debug!("the trace makes no sense");
        }
    }
}
