//! Port-forward: connections to a pod's ports, from inside the pod.

use std::future::Future;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use bytes::Bytes;
use minisvc_sandbox::Namespace;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio::time::timeout;

/// Read from a connection at once, in bytes.
const CHUNK: usize = 32 << 10;
/// How long a connection may take to be made.
const CONNECT_LIMIT: Duration = Duration::from_secs(10);

/// The pod.
#[derive(Clone, Debug)]
pub(super) struct Target {
    pub(super) place: Namespace,
    pub(super) pod: String,
    pub(super) addresses: Vec<IpAddr>,
}

/// What a connection has for the client.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum FromPod {
    /// Bytes.
    Data(Bytes),
    /// No more bytes.
    End,
    /// Why there is no connection.
    Failed(String),
}

impl Target {
    /// Connects to a port as a process of the pod would: on loopback, else at the pod's own address.
    async fn connect(&self, port: u16) -> io::Result<TcpStream> {
        let loopback = [IpAddr::V4(Ipv4Addr::LOCALHOST), IpAddr::V6(Ipv6Addr::LOCALHOST)];
        let mut first = None;
        for address in loopback.into_iter().chain(self.addresses.iter().copied()) {
            let connecting = self.place.connect_tcp(SocketAddr::new(address, port));
            match timeout(CONNECT_LIMIT, connecting).await.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into())) {
                Ok(stream) => return Ok(stream),
                // That of the usual way is the one to be told.
                Err(error) => first = first.or(Some(error)),
            }
        }
        Err(first.unwrap_or_else(|| io::ErrorKind::AddrNotAvailable.into()))
    }

    /// Connects to `port` and copies both ways until both have ended, telling `tell` what comes. `from_client` ends with
    /// the client's half; `tell` says false when the client has gone.
    pub(super) async fn serve<Tell, Told>(self, port: u16, from_client: mpsc::Receiver<Bytes>, tell: Tell)
    where
        Tell: Fn(FromPod) -> Told,
        Told: Future<Output = bool>,
    {
        match self.connect(port).await {
            Ok(stream) => copy(stream, from_client, &tell).await,
            Err(error) => {
                let why = format!("cannot connect to port {port} of pod {}: {error}", self.pod);
                tell(FromPod::Failed(why)).await;
            }
        }
    }
}

async fn copy<Tell, Told>(stream: TcpStream, mut from_client: mpsc::Receiver<Bytes>, tell: &Tell)
where
    Tell: Fn(FromPod) -> Told,
    Told: Future<Output = bool>,
{
    let (mut reader, mut writer) = stream.into_split();
    let there = async {
        while let Some(bytes) = from_client.recv().await {
            if writer.write_all(&bytes).await.is_err() {
                // The pod does not listen any more; it may still have something to say.
                return from_client.close();
            }
        }
        // A connection that is gone needs no end.
        let _ = writer.shutdown().await;
    };
    let back = async {
        let mut chunk = vec![0; CHUNK];
        while let Ok(length @ 1..) = reader.read(&mut chunk).await {
            if !tell(FromPod::Data(Bytes::copy_from_slice(chunk.get(..length).unwrap_or_default()))).await {
                return;
            }
        }
        tell(FromPod::End).await;
    };
    tokio::join!(there, back);
}
