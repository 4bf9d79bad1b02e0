//! What the API server asks of the nodes' agent: the output of containers.

use async_trait::async_trait;
use bytes::Bytes;
use futures::stream::BoxStream;
use jiff::Timestamp;

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

/// The agent that runs pods.
#[async_trait]
pub trait NodeService: Send + Sync + 'static {
    /// The output of a container.
    ///
    /// # Errors
    /// [`ApiError::BadRequest`] when there is no such run of the container, [`ApiError::NotFound`] when the pod is
    /// not known to the agent.
    async fn logs(&self, request: LogRequest) -> Result<LogStream, ApiError>;
}
