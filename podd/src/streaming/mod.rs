//! Exec, attach and port-forward: the streaming protocols end here.
//!
//! `remote` and `forward` do the work over plain channels; `websocket` and `spdy` carry the channels over a connection
//! that somebody else has authorised and upgraded.

mod carry;
mod channels;
mod forward;
mod remote;
mod spdy;
mod websocket;

use std::net::IpAddr;

use minisvc_sandbox::Namespace;
use thiserror::Error;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::protocol::{Role, WebSocketConfig};
use tokio_util::sync::CancellationToken;

use crate::exec::{self, ExecError, RunningContainer};
use crate::shared::Shared;

/// Largest WebSocket message taken, in bytes. Clients send pieces of 32 KiB.
const MESSAGE_LIMIT: usize = 1 << 20;

/// Which standard streams of a process are wanted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Streams {
    /// Standard input.
    pub stdin: bool,
    /// Standard output.
    pub stdout: bool,
    /// Standard error; part of the output with a terminal.
    pub stderr: bool,
    /// A terminal.
    pub terminal: bool,
}

/// What a connection is for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StreamRequest {
    /// A process in a container.
    Exec {
        /// Which container.
        container: String,
        /// Program and arguments.
        command: Vec<String>,
        /// What of it is connected.
        streams: Streams,
    },
    /// The container's own process.
    Attach {
        /// Which container.
        container: String,
        /// What of it is connected.
        streams: Streams,
    },
    /// Connections to ports of the pod.
    PortForward {
        /// The ports, for framings that name them in advance.
        ports: Vec<u16>,
        /// The pod's own addresses, tried when nobody listens on its loopback.
        addresses: Vec<IpAddr>,
    },
}

/// How the streams share the connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Framing {
    /// `v4.channel.k8s.io` over WebSocket.
    ChannelsV4,
    /// `v5.channel.k8s.io` over WebSocket: a stream can be closed by itself.
    ChannelsV5,
    /// SPDY/3.1.
    Spdy,
    /// SPDY/3.1 in the binary messages of a WebSocket.
    SpdyInWebSocket,
}

/// Why there is nothing to connect to.
#[derive(Debug, Error)]
pub enum StreamError {
    /// No such pod or container, or it does not run.
    #[error(transparent)]
    Exec(#[from] ExecError),
    /// The pod has no network (yet, or any more).
    #[error("pod {0:?} is not running")]
    NoNetwork(String),
}

/// A stream request whose target is there: [`StreamSession::run`] serves it over a connection.
#[derive(Debug)]
pub struct StreamSession {
    work: Work,
    shutdown: CancellationToken,
}

#[derive(Debug)]
enum Work {
    Remote(remote::Remote),
    Forward(forward::Target, Vec<u16>),
}

/// See [`Podd::prepare_stream`](crate::Podd::prepare_stream).
pub(crate) fn prepare(
    shared: &Shared,
    namespace: &str,
    pod: &str,
    request: StreamRequest,
) -> Result<StreamSession, StreamError> {
    let find = |container: &str| exec::running(shared, namespace, pod, Some(container));
    let work = match request {
        StreamRequest::Exec { container, command, streams } => {
            Work::Remote(remote::Remote::exec(find(&container)?, command, streams))
        }
        StreamRequest::Attach { container, streams } => {
            let RunningContainer { attach, .. } = find(&container)?;
            let ended = || ExecError::NotRunning(container.clone());
            let attach = attach.ok_or_else(ended)?;
            let output = attach.output().ok_or_else(ended)?;
            Work::Remote(remote::Remote::attach(attach, output, streams))
        }
        StreamRequest::PortForward { ports, addresses } => {
            let handle = shared.pod(namespace, pod).ok_or_else(|| ExecError::NoPod(pod.to_owned()))?;
            let place: Namespace = handle.namespace().ok_or_else(|| StreamError::NoNetwork(pod.to_owned()))?;
            Work::Forward(forward::Target { place, pod: pod.to_owned(), addresses }, ports)
        }
    };
    Ok(StreamSession { work, shutdown: shared.shutdown.clone() })
}

impl StreamSession {
    /// Serves the request until it is done, the client has left, or podd goes down.
    pub async fn run<S>(self, framing: Framing, stream: S)
    where
        S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
    {
        let Self { work, shutdown } = self;
        let serve = async move {
            match (framing, work) {
                (Framing::ChannelsV4 | Framing::ChannelsV5, work) => {
                    let version = channels::Version::of(framing);
                    let socket = web_socket(stream).await;
                    match work {
                        Work::Remote(remote) => websocket::remote(socket, version, remote).await,
                        Work::Forward(target, ports) => websocket::forward(socket, version, target, ports).await,
                    }
                }
                (Framing::Spdy, work) => serve_spdy(carry::raw(stream), work).await,
                (Framing::SpdyInWebSocket, work) => {
                    serve_spdy(carry::in_web_socket(web_socket(stream).await), work).await;
                }
            }
        };
        tokio::select! {
            () = serve => {}
            () = shutdown.cancelled() => {}
        }
    }
}

async fn serve_spdy(carried: carry::Carried, work: Work) {
    match work {
        Work::Remote(remote) => spdy::remote(carried, remote).await,
        Work::Forward(target, _) => spdy::forward(carried, target).await,
    }
}

async fn web_socket<S: AsyncRead + AsyncWrite + Unpin>(stream: S) -> WebSocketStream<S> {
    let config = WebSocketConfig::default()
        .max_message_size(Some(MESSAGE_LIMIT))
        .max_frame_size(Some(MESSAGE_LIMIT))
        .max_write_buffer_size(4 * MESSAGE_LIMIT);
    WebSocketStream::from_raw_socket(stream, Role::Server, Some(config)).await
}
