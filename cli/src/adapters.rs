//! Where two parts of a lab meet that do not know each other: podd asks for a network, and netd is one; the API asks for
//! logs, and podd keeps them.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use minisvc_apiserver::{ApiError, ByteStream, LogRequest, LogStream, NodeService, StreamKind};
use minisvc_netd::{HostPort, HostPorts, LinkRole, Netd, NodeSockets, PortId, Protocol};
use minisvc_podd::{
    ExecSpec, Framing, HostProtocol, Link, LinkId, LogOptions, Network, NetworkError, NodeConfig, Owner, Podd,
    StreamRequest, StreamSession, Streams, SwitchError,
};
use minisvc_sandbox::Process;
use tokio::net::TcpListener;
use tokio::sync::RwLock;

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
        let (name, role, host_ports) = match link.owner {
            Owner::Pod { namespace, name: pod, node, created, host_ports } => {
                let ports = host_ports.iter().map(host_port).collect();
                let name = format!("{namespace}/{pod}");
                (name, LinkRole::Pod { node }, Some(HostPorts { namespace, pod, created, ports }))
            }
            Owner::Node { name } => (name.clone(), LinkRole::Node { name }, None),
        };
        let Link { device, addresses, .. } = link;
        let link = minisvc_netd::Link { name, device, addresses, role, host_ports };
        Ok(LinkId(u64::from(self.netd.attach(link).0)))
    }

    async fn detach(&self, id: LinkId) {
        // Every number comes from `attach`, so it fits.
        if let Ok(port) = u32::try_from(id.0) {
            self.netd.detach(PortId(port));
        }
    }

    async fn power_off(&self, node: &str) {
        self.netd.power_off(node);
    }

    async fn power_on(&self, node: &str) {
        self.netd.power_on(node);
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

    /// Gives the agent to those who were made before it.
    pub(crate) async fn set(&self, podd: Podd) {
        *self.podd.write().await = Some(podd);
    }

    /// The nodes, and whether each runs; none before and after the agent.
    pub(crate) async fn machines(&self) -> Vec<(NodeConfig, bool)> {
        let podd = self.podd.read().await;
        podd.iter().flat_map(Podd::nodes).map(|(config, runs)| (config.clone(), runs)).collect()
    }

    /// Fails a node as a machine that loses power; `None` when there is no agent.
    pub(crate) async fn stop_node(&self, name: &str) -> Option<Result<(), SwitchError>> {
        Some(self.podd.write().await.as_mut()?.stop_node(name).await)
    }

    /// Brings a node back; `None` when there is no agent.
    pub(crate) async fn start_node(&self, name: &str) -> Option<Result<(), SwitchError>> {
        Some(self.podd.write().await.as_mut()?.start_node(name).await)
    }

    /// Ends all pods and the agent. Whoever asks later is told that the lab goes down.
    pub(crate) async fn shutdown(&self) {
        let podd = self.podd.write().await.take();
        if let Some(podd) = podd {
            podd.shutdown().await;
        }
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
