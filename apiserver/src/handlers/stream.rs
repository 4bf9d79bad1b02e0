//! Exec, attach and port-forward: the HTTP side. What the client wants is read and checked here, the connection is
//! upgraded, and the nodes' agent speaks over it from then on.

use std::net::IpAddr;

use axum::response::Response;
use hyper_util::rt::TokioIo;
use serde_json::Value;

use super::{Call, log};
use crate::error::ApiError;
use crate::node_service::{StreamKind, StreamRequest, Streams};
use crate::request_info::Query;
use crate::upgrade::{self, Offer};
use crate::{meta, stored};

/// Ports that one request may name: a WebSocket has two channels for each, and 255 means something else.
const MAX_PORTS: usize = 127;

/// A process in a container.
pub(super) async fn exec(call: &Call<'_>) -> Result<Response, ApiError> {
    let (namespace, pod) = (call.namespace().to_owned(), call.name()?.to_owned());
    let object = pod_object(call)?;
    let command: Vec<String> = call.query.all("command").map(str::to_owned).collect();
    if command.is_empty() {
        return Err(ApiError::bad_request("you must specify at least one command for the container"));
    }
    let kind = StreamKind::Exec {
        container: log::container(&object, call.query.get("container"))?,
        command,
        streams: streams(&call.query)?,
    };
    connect(call, StreamRequest { namespace, pod, kind }, upgrade::REMOTE_WEBSOCKET, upgrade::REMOTE_SPDY).await
}

/// A container's own process.
pub(super) async fn attach(call: &Call<'_>) -> Result<Response, ApiError> {
    let (namespace, pod) = (call.namespace().to_owned(), call.name()?.to_owned());
    let object = pod_object(call)?;
    let container = log::container(&object, call.query.get("container"))?;
    let kind = StreamKind::Attach { container, streams: streams(&call.query)? };
    connect(call, StreamRequest { namespace, pod, kind }, upgrade::REMOTE_WEBSOCKET, upgrade::REMOTE_SPDY).await
}

/// Connections to a pod's ports.
pub(super) async fn port_forward(call: &Call<'_>) -> Result<Response, ApiError> {
    let (namespace, pod) = (call.namespace().to_owned(), call.name()?.to_owned());
    let object = pod_object(call)?;
    let kind = StreamKind::PortForward { ports: ports(&call.query)?, addresses: addresses(&object) };
    connect(call, StreamRequest { namespace, pod, kind }, upgrade::FORWARD_WEBSOCKET, upgrade::FORWARD_SPDY).await
}

fn pod_object(call: &Call<'_>) -> Result<Value, ApiError> {
    let record = call.server.record(call.resource, call.namespace(), call.name()?)?;
    let pod = stored::decode(&record.value);
    match pod["status"]["phase"].as_str() {
        Some(phase @ ("Succeeded" | "Failed")) => {
            let name = meta::text(&pod, "name");
            Err(ApiError::BadRequest(format!("cannot connect to pod {name}, which has ended; its phase is {phase}")))
        }
        _ => Ok(pod),
    }
}

/// The streams that are asked for.
fn streams(query: &Query) -> Result<Streams, ApiError> {
    let terminal = query.flag("tty");
    let streams = Streams {
        stdin: query.flag("stdin"),
        stdout: query.flag("stdout"),
        // A terminal shows both; clients that ask for it all the same get no second stream.
        stderr: query.flag("stderr") && !terminal,
        terminal,
    };
    if !(streams.stdin || streams.stdout || streams.stderr) {
        return Err(ApiError::bad_request("you must specify at least 1 of stdin, stdout, stderr"));
    }
    Ok(streams)
}

fn ports(query: &Query) -> Result<Vec<u16>, ApiError> {
    let mut ports = Vec::new();
    for text in query.all("ports").chain(query.all("port")).flat_map(|list| list.split(',')) {
        match text.parse::<u16>() {
            Ok(port) if port > 0 => ports.push(port),
            _ => return Err(ApiError::BadRequest(format!("{text:?} is not a port"))),
        }
    }
    if ports.len() > MAX_PORTS {
        return Err(ApiError::BadRequest(format!("at most {MAX_PORTS} ports can be forwarded over one connection")));
    }
    Ok(ports)
}

fn addresses(pod: &Value) -> Vec<IpAddr> {
    let listed = pod["status"]["podIPs"].as_array().into_iter().flatten();
    listed.filter_map(|entry| entry["ip"].as_str()?.parse().ok()).collect()
}

/// Upgrades the connection and gives it to the agent.
async fn connect(
    call: &Call<'_>,
    request: StreamRequest,
    websocket: &[Offer],
    spdy: &[Offer],
) -> Result<Response, ApiError> {
    let (framing, response) = upgrade::agree(call.headers, websocket, spdy)?;
    if let StreamKind::PortForward { ports, .. } = &request.kind
        && ports.is_empty()
        && matches!(framing, crate::Framing::ChannelsV4 | crate::Framing::ChannelsV5)
    {
        return Err(ApiError::bad_request("query parameter \"ports\" is required"));
    }
    let Some(service) = call.server.node_service() else {
        return Err(ApiError::ServiceUnavailable("no agent runs pods, so there is nothing to connect to".to_owned()));
    };
    let Some(upgrade) = call.upgrade.clone() else {
        return Err(ApiError::bad_request("this connection cannot be upgraded"));
    };
    let session = service.stream(request).await?;
    let closing = call.server.closing.clone();
    call.server.upgraded.spawn(async move {
        let serve = async {
            match upgrade.await {
                Ok(connection) => session.run(framing, Box::new(TokioIo::new(connection))).await,
                Err(error) => tracing::debug!(%error, "a connection was not upgraded"),
            }
        };
        tokio::select! {
            () = serve => {}
            () = closing.cancelled() => {}
        }
    });
    Ok(response)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(query: &str) -> Query {
        Query::parse(Some(query))
    }

    //
    #[test]
    fn the_streams_are_those_that_are_asked_for() {
        let read = |query: &str| streams(&parsed(query));
        let all = Streams { stdin: true, stdout: true, stderr: true, terminal: false };
        assert_eq!(read("stdin=true&stdout=true&stderr=true&command=sh"), Ok(all));
        assert_eq!(read("stdin=1&stdout=true&stderr=True"), Ok(all));
        assert_eq!(
            read("stdin=false&stdout=True&stderr=False&tty=False"),
            Ok(Streams { stdout: true, ..Streams::default() })
        );
        let terminal = Streams { stdin: true, stdout: true, stderr: false, terminal: true };
        assert_eq!(read("stdin=true&stdout=true&stderr=true&tty=true"), Ok(terminal));
        assert!(matches!(read("stdin=false"), Err(ApiError::BadRequest(_))));
    }

    //
    #[test]
    fn ports_come_one_by_one_or_as_a_list() {
        assert_eq!(ports(&parsed("ports=80&ports=443,8080")), Ok(vec![80, 443, 8080]));
        assert_eq!(ports(&parsed("")), Ok(vec![]));
        for wrong in ["ports=0", "ports=65536", "ports=http", "ports=80,,81"] {
            assert!(matches!(ports(&parsed(wrong)), Err(ApiError::BadRequest(_))), "{wrong}");
        }
        let many = vec!["ports=1"; MAX_PORTS + 1].join("&");
        assert!(ports(&parsed(&many)).is_err());
    }
}
