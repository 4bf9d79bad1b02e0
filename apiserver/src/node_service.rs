//! What the API server asks of the nodes' agent: the output of containers, and streams into pods.

use std::net::IpAddr;

use async_trait::async_trait;
use bytes::Bytes;
use futures::stream::BoxStream;
use jiff::Timestamp;
use tokio::io::{AsyncRead, AsyncWrite};

use crate::error::ApiError;

/// A container's output as it comes; an error ends the response early.
pub type LogStream = BoxStream<'static, Result<Bytes, std::io::Error>>;

/// Which output stream of a container.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OutputStream {
    /// Standard output.
    Stdout,
    /// Standard error.
    Stderr,
}

/// A request for logs, its parameters read and checked. The pod exists and has the container.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogRequest {
    /// The pod's namespace.
    pub namespace: String,
    /// The pod's name.
    pub pod: String,
    /// The pod's uid.
    pub uid: String,
    /// The container.
    pub container: String,
    /// Go on as long as the container may write.
    pub follow: bool,
    /// The run before the present one.
    pub previous: bool,
    /// Only this many lines from the end.
    pub tail_lines: Option<u64>,
    /// Only what was written at or after this time.
    pub since: Option<Timestamp>,
    /// Put the time before every line, RFC 3339 with nanoseconds and a blank.
    pub timestamps: bool,
    /// End after this many bytes.
    pub limit_bytes: Option<u64>,
    /// Only one of the two streams.
    pub stream: Option<OutputStream>,
}

/// Which standard streams of a process are wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Streams {
    /// Standard input.
    pub stdin: bool,
    /// Standard output.
    pub stdout: bool,
    /// Standard error; never with a terminal, which shows both.
    pub stderr: bool,
    /// A terminal.
    pub terminal: bool,
}

/// What a stream into a pod is for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StreamKind {
    /// A process in a container.
    Exec {
        /// The container; the pod has it.
        container: String,
        /// Program and arguments, at least one.
        command: Vec<String>,
        /// What of it is connected, at least one.
        streams: Streams,
    },
    /// The container's own process.
    Attach {
        /// The container; the pod has it.
        container: String,
        /// What of it is connected, at least one.
        streams: Streams,
    },
    /// Connections to ports of the pod.
    PortForward {
        /// Those named in the request, at most 127; with SPDY each connection names its own.
        ports: Vec<u16>,
        /// The pod's own addresses.
        addresses: Vec<IpAddr>,
    },
}

/// A request for a stream, its parameters read and checked. The pod exists.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StreamRequest {
    /// The pod's namespace.
    pub namespace: String,
    /// The pod's name.
    pub pod: String,
    /// What for.
    pub kind: StreamKind,
}

/// How streams share the connection, as agreed with the client.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Framing {
    /// `v4.channel.k8s.io` over WebSocket.
    ChannelsV4,
    /// `v5.channel.k8s.io` over WebSocket.
    ChannelsV5,
    /// SPDY/3.1.
    Spdy,
    /// SPDY/3.1 in the binary messages of a WebSocket.
    SpdyInWebSocket,
}

/// A connection after its upgrade.
pub trait ByteStream: AsyncRead + AsyncWrite + Send + Unpin {}

impl<S: AsyncRead + AsyncWrite + Send + Unpin> ByteStream for S {}

/// A stream whose target is there; dropped when the client does not come.
#[async_trait]
pub trait StreamSession: Send {
    /// Serves it until it is done, the client has left, or the agent ends.
    async fn run(self: Box<Self>, framing: Framing, connection: Box<dyn ByteStream>);
}

/// The agent that runs pods.
#[async_trait]
pub trait NodeService: Send + Sync + 'static {
    /// The output of a container.
    ///
    /// # Errors
    /// [`ApiError::BadRequest`] when there is no such run of the container, [`ApiError::NotFound`] when the pod is
    /// not known to the agent.
    async fn logs(&self, request: LogRequest) -> Result<LogStream, ApiError>;

    /// Finds what a stream is to be connected with. The connection is upgraded after that.
    ///
    /// # Errors
    /// [`ApiError::BadRequest`] when the container or the pod does not run.
    async fn stream(&self, request: StreamRequest) -> Result<Box<dyn StreamSession>, ApiError>;
}
