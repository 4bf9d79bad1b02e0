//! Where two parts of a lab meet that do not know each other: podd asks for a network, and netd is one; the API asks for
//! logs, and podd keeps them; people ask for flows, and netd has them.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Instant;

use minisvc_apiserver::{ApiError, ByteStream, LogRequest, LogStream, NodeService, StreamKind};
use minisvc_netd::{FlowRecord, HostPort, HostPorts, LinkRole, Netd, NodeSockets, PortId, Protocol};
use minisvc_podd::{
    ExecSpec, Framing, HostProtocol, Link, LinkId, LogOptions, Network, NetworkError, Owner, Podd, StreamRequest,
    StreamSession, Streams,
};
use minisvc_sandbox::Process;
use tokio::net::TcpListener;
use tokio::sync::RwLock;

use crate::control::{FlowQuery, FlowView};

/// What is answered to those who come too late.
const GOING_DOWN: &str = "the lab is going down";

/// The data plane as podd sees it.
pub(crate) struct NetdNetwork {
    netd: Netd,
}

impl NetdNetwork {
    /// Connects pods and nodes to this data plane.
    pub(crate) fn new(netd: Netd) -> Self {
        Self { netd }
    }
}

#[async_trait::async_trait]
impl Network for NetdNetwork {
    async fn attach(&self, link: Link) -> Result<LinkId, NetworkError> {
        let (role, host_ports) = match link.owner {
            Owner::Pod { namespace, name: pod, node, created, host_ports } => {
                let ports = host_ports.iter().map(host_port).collect();
                (LinkRole::Pod { node }, Some(HostPorts { namespace, pod, created, ports }))
            }
            Owner::Node { name } => (LinkRole::Node { name }, None),
        };
        let Link { name, device, addresses, .. } = link;
        let link = minisvc_netd::Link { name, device, addresses, role, host_ports };
        Ok(LinkId(u64::from(self.netd.attach(link).0)))
    }

    async fn detach(&self, id: LinkId) {
        // Every number comes from `attach`, so it fits.
        if let Ok(port) = u32::try_from(id.0) {
            self.netd.detach(PortId(port));
        }
    }
}

fn host_port(port: &minisvc_podd::HostPort) -> HostPort {
    let minisvc_podd::HostPort { address, protocol, port, target } = *port;
    let protocol = match protocol {
        HostProtocol::Tcp => Protocol::Tcp,
        HostProtocol::Udp => Protocol::Udp,
        HostProtocol::Sctp => Protocol::Sctp,
    };
    HostPort { address, protocol, port, target }
}

/// The nodes' agent, for those who ask it while the lab runs: nobody is left holding it when the lab goes down.
#[derive(Clone, Default)]
pub(crate) struct Nodes {
    podd: Arc<RwLock<Option<Podd>>>,
}

impl Nodes {
    /// Shares the agent.
    pub(crate) fn new(podd: Podd) -> Self {
        Self { podd: Arc::new(RwLock::new(Some(podd))) }
    }

    /// Starts a process in a running container.
    ///
    /// # Errors
    /// In podd's words, or that the lab is going down.
    pub(crate) async fn exec(
        &self,
        namespace: &str,
        pod: &str,
        container: Option<&str>,
        spec: ExecSpec,
    ) -> Result<Process, String> {
        match &*self.podd.read().await {
            Some(podd) => podd.exec(namespace, pod, container, spec).await.map_err(|error| with_causes(&error)),
            None => Err(GOING_DOWN.to_owned()),
        }
    }

    /// Ends all pods and the agent. Whoever asks later is told that the lab goes down.
    pub(crate) async fn shutdown(&self) {
        let podd = self.podd.write().await.take();
        if let Some(podd) = podd {
            podd.shutdown().await;
        }
    }
}

/// The flows that a query wants, as people are shown them. Blocks until the data plane has answered.
pub(crate) fn flow_views(netd: &Netd, query: FlowQuery) -> Vec<FlowView> {
    let FlowQuery { clients, limit } = query;
    let flows = netd.flows(limit, move |flow| clients.is_empty() || clients.contains(&flow.original.source()));
    let now = both_clocks();
    let current = flows.current.iter().map(|flow| flow_view(flow, format!("{:?}", flow.state), now));
    current.chain(flows.severed.iter().map(|flow| flow_view(flow, "Severed".to_owned(), now))).collect()
}

/// What both clocks say at one moment. Another thread may get the processor between two readings, and then the one would
/// be told in terms of the other with an error of many milliseconds; so the pair that was read fastest is taken.
fn both_clocks() -> (jiff::Timestamp, Instant) {
    let read = |_| {
        let before = Instant::now();
        let time = jiff::Timestamp::now();
        (before.elapsed(), (time, before))
    };
    let fastest = (0..8).map(read).min_by_key(|(took, _)| *took);
    fastest.map_or_else(|| (jiff::Timestamp::now(), Instant::now()), |(_, pair)| pair)
}

fn flow_view(flow: &FlowRecord, state: String, (time, instant): (jiff::Timestamp, Instant)) -> FlowView {
    FlowView {
        protocol: flow.original.protocol.to_string(),
        client: flow.original.source(),
        destination: flow.original.destination(),
        endpoint: flow.endpoint,
        service: flow.service.as_ref().map(ToString::to_string),
        state,
        created: time.checked_sub(instant.saturating_duration_since(flow.created)).unwrap_or(time),
        packets: flow.packets,
        bytes: flow.bytes,
    }
}

#[async_trait::async_trait]
impl NodeSockets for Nodes {
    async fn listen(&self, node: &str, address: SocketAddr) -> io::Result<TcpListener> {
        // A copy, so that a lab that goes down does not wait for an agent that is slow to answer.
        let namespace = self.podd.read().await.as_ref().and_then(|podd| podd.node_namespace(node));
        namespace.ok_or(io::ErrorKind::NotFound)?.listen_tcp(address).await
    }
}

/// An error with its causes on one line.
pub(crate) fn with_causes(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text += &format!(": {error}");
        cause = error.source();
    }
    text
}

#[async_trait::async_trait]
impl NodeService for Nodes {
    async fn logs(&self, request: LogRequest) -> Result<LogStream, ApiError> {
        let options = LogOptions {
            container: Some(request.container),
            follow: request.follow,
            previous: request.previous,
            timestamps: request.timestamps,
            tail_lines: request.tail_lines.map(|lines| usize::try_from(lines).unwrap_or(usize::MAX)),
            since: request.since,
            limit_bytes: request.limit_bytes,
            stream: request.stream.map(|stream| match stream {
                minisvc_apiserver::OutputStream::Stdout => minisvc_podd::OutputStream::Stdout,
                minisvc_apiserver::OutputStream::Stderr => minisvc_podd::OutputStream::Stderr,
            }),
        };
        match &*self.podd.read().await {
            Some(podd) => podd
                .logs(&request.namespace, &request.pod, options)
                .map_err(|error| ApiError::BadRequest(error.to_string())),
            None => Err(ApiError::ServiceUnavailable(GOING_DOWN.to_owned())),
        }
    }

    async fn stream(
        &self,
        request: minisvc_apiserver::StreamRequest,
    ) -> Result<Box<dyn minisvc_apiserver::StreamSession>, ApiError> {
        let Some(podd) = &*self.podd.read().await else {
            return Err(ApiError::ServiceUnavailable(GOING_DOWN.to_owned()));
        };
        let session = podd.prepare_stream(&request.namespace, &request.pod, stream_request(request.kind));
        let session = session.map_err(|error| ApiError::BadRequest(with_causes(&error)))?;
        Ok(Box::new(Session(session)))
    }
}

/// A stream that podd serves.
struct Session(StreamSession);

#[async_trait::async_trait]
impl minisvc_apiserver::StreamSession for Session {
    async fn run(self: Box<Self>, framing: minisvc_apiserver::Framing, connection: Box<dyn ByteStream>) {
        let framing = match framing {
            minisvc_apiserver::Framing::ChannelsV4 => Framing::ChannelsV4,
            minisvc_apiserver::Framing::ChannelsV5 => Framing::ChannelsV5,
            minisvc_apiserver::Framing::Spdy => Framing::Spdy,
            minisvc_apiserver::Framing::SpdyInWebSocket => Framing::SpdyInWebSocket,
        };
        self.0.run(framing, connection).await;
    }
}

fn stream_request(kind: StreamKind) -> StreamRequest {
    let streams = |streams: minisvc_apiserver::Streams| Streams {
        stdin: streams.stdin,
        stdout: streams.stdout,
        stderr: streams.stderr,
        terminal: streams.terminal,
    };
    match kind {
        StreamKind::Exec { container, command, streams: wanted } => {
            StreamRequest::Exec { container, command, streams: streams(wanted) }
        }
        StreamKind::Attach { container, streams: wanted } => {
            StreamRequest::Attach { container, streams: streams(wanted) }
        }
        StreamKind::PortForward { ports, addresses } => StreamRequest::PortForward { ports, addresses },
    }
}
