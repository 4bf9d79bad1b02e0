//! Sockets: messages in, answers out. What an answer is, `answer.rs` and `forward.rs` say.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use futures::StreamExt as _;
use hickory_proto::op::{ResponseCode, SerialMessage};
use hickory_server::net::runtime::iocompat::AsyncIoTokioAsStd;
use hickory_server::net::tcp::TcpStream as Messages;
use hickory_server::net::xfer::Protocol;
use hickory_server::net::{DnsStreamHandle as _, NetError};
use hickory_server::server::{Request, TimeoutStream};
use minisvc_zone::Zone;
use tokio::net::{TcpListener, TcpStream, UdpSocket};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::answer::{self, Ask, Considered};
use crate::backlog::Backlog;
use crate::forward::{ForwardError, Forwarder};
use crate::message::{self, Reply};
use crate::shares::{Share, Shares};
use crate::stats::{Count, Counters};

/// How long a TCP connection may take from one question to the end of the next (N-070).
const TCP_IDLE: Duration = Duration::from_secs(10);

/// TCP connections open at once; how many of them one client may have, `shares.rs` says. Further ones are closed at once.
const MAX_CONNECTIONS: usize = 512;

/// Answers of one connection that wait to be written: there is never another one before this one is.
const ANSWERS_WAITING: usize = 1;

/// Datagrams that are answered before others of the program get their turn.
const BATCH: usize = 64;

/// Datagrams that are read at once when more come than can be answered, and answers between two such readings: few, so that the
/// socket has room again before it is full for everybody.
const READ_AHEAD: usize = 512;
const ANSWERS: usize = 8;

/// Tasks that read one UDP socket, at most. They take half of the processors, so that a flood leaves the other half.
const MAX_READERS: usize = 4;

/// Answers questions from the newest zone, or from what upstreams say.
pub(crate) struct Server {
    zone: Arc<ArcSwap<Zone>>,
    forwarder: Forwarder,
    counters: Arc<Counters>,
    connections: Arc<Shares>,
    /// Questions at upstreams: bounded by the forwarder.
    errands: TaskTracker,
    shutdown: CancellationToken,
}

/// How far a message came at once.
enum Step {
    /// The answer is written.
    Done,
    /// There will be none.
    Nothing,
    /// An upstream has to be asked.
    Wait(Box<Errand>),
}

/// A question for an upstream, asked in the client's share.
struct Errand {
    request: Request,
    ask: Ask,
    share: Share,
}

impl Server {
    /// A server that runs until `shutdown`.
    pub(crate) fn new(
        zone: Arc<ArcSwap<Zone>>,
        forwarder: Forwarder,
        counters: Arc<Counters>,
        shutdown: CancellationToken,
    ) -> Arc<Self> {
        let connections = Shares::new(MAX_CONNECTIONS);
        Arc::new(Self { zone, forwarder, counters, connections, errands: TaskTracker::new(), shutdown })
    }

    /// Serves these sockets.
    pub(crate) async fn run(self: Arc<Self>, sockets: Vec<UdpSocket>, listeners: Vec<TcpListener>) {
        let mut tasks = JoinSet::new();
        let processors = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        for socket in sockets.into_iter().map(Arc::new) {
            for _ in 0..(processors / 2).clamp(1, MAX_READERS) {
                tasks.spawn(Arc::clone(&self).datagrams(Arc::clone(&socket)));
            }
        }
        for listener in listeners {
            tasks.spawn(Arc::clone(&self).accept(listener));
        }
        while let Some(ended) = tasks.join_next().await {
            if let Err(error) = ended {
                tracing::error!(%error, "a task of the DNS server ended");
            }
        }
        self.errands.close();
        self.errands.wait().await;
    }

    async fn datagrams(self: Arc<Self>, socket: Arc<UdpSocket>) {
        // A question is rarely as long; what is cut off here is malformed, and answered so.
        let (mut bytes, mut out) = (vec![0; usize::from(u16::MAX)], Vec::new());
        loop {
            let ready = tokio::select! {
                () = self.shutdown.cancelled() => return,
                ready = socket.readable() => ready,
            };
            if let Err(error) = ready {
                tracing::error!(%error, "the DNS socket cannot be read any more");
                return;
            }
            let mut read = 0;
            while read < BATCH {
                let Some((client, length)) = receive(&socket, &mut bytes) else { break };
                self.datagram(&socket, bytes.get(..length).unwrap_or_default(), client, &mut out);
                read += 1;
            }
            if read == BATCH {
                // More than a batch was waiting: from now on in turns, until nobody waits.
                self.in_turns(&socket, &mut bytes, &mut out).await;
            }
            tokio::task::yield_now().await;
        }
    }

    /// Answers what waits, each client in its turn.
    async fn in_turns(self: &Arc<Self>, socket: &Arc<UdpSocket>, bytes: &mut [u8], out: &mut Vec<u8>) {
        let mut backlog = Backlog::default();
        loop {
            for _ in 0..READ_AHEAD {
                let Some((client, length)) = receive(socket, bytes) else { break };
                if !backlog.push(client, bytes.get(..length).unwrap_or_default()) {
                    self.counters.add(Count::Flooded);
                }
            }
            for (client, message) in std::iter::from_fn(|| backlog.pop()).take(ANSWERS) {
                self.datagram(socket, &message, client, out);
            }
            if backlog.is_empty() || self.shutdown.is_cancelled() {
                return;
            }
            tokio::task::yield_now().await;
        }
    }

    fn datagram(self: &Arc<Self>, socket: &Arc<UdpSocket>, bytes: &[u8], client: SocketAddr, out: &mut Vec<u8>) {
        self.counters.add(Count::Udp);
        if client.port() == 0 || client.ip().is_unspecified() || client.ip().is_multicast() {
            self.counters.add(Count::IgnoredSource);
            return;
        }
        match self.begin(bytes, client, Protocol::Udp, out) {
            Step::Done => {
                // When the socket's buffer is full the answer is lost, as on any full wire; the client asks again.
                if socket.try_send_to(out, client).is_err() {
                    self.counters.add(Count::Unsent);
                }
            }
            Step::Nothing => {}
            Step::Wait(errand) => {
                let (server, socket) = (Arc::clone(self), Arc::clone(socket));
                self.errands.spawn(async move {
                    let mut out = Vec::new();
                    tokio::select! {
                        () = server.shutdown.cancelled() => return,
                        () = server.finish(*errand, &mut out) => {}
                    }
                    if socket.send_to(&out, client).await.is_err() {
                        server.counters.add(Count::Unsent);
                    }
                });
            }
        }
    }

    async fn accept(self: Arc<Self>, listener: TcpListener) {
        let mut open = JoinSet::new();
        loop {
            let accepted = tokio::select! {
                () = self.shutdown.cancelled() => return,
                accepted = listener.accept() => accepted,
                Some(_) = open.join_next() => continue,
            };
            let (stream, client) = match accepted {
                Ok(accepted) => accepted,
                Err(error) => {
                    // Out of descriptors, perhaps: give back time rather than spin.
                    tracing::debug!(%error, "a connection could not be accepted");
                    tokio::time::sleep(Duration::from_millis(20)).await;
                    continue;
                }
            };
            let Some(share) = self.connections.take(client.ip()) else {
                self.counters.add(Count::TcpRefused);
                continue;
            };
            let server = Arc::clone(&self);
            self.counters.set_connections(self.connections.taken());
            open.spawn(async move {
                if let Err(error) = server.connection(stream, client).await {
                    tracing::debug!(%client, %error, "a connection ended");
                }
                drop(share);
                server.counters.set_connections(server.connections.taken());
            });
        }
    }

    /// One question after the other, so that a client has at most one at upstreams for each of its connections. Nothing is
    /// read while an answer waits to be written, and a client that does not read is idle, too.
    async fn connection(&self, stream: TcpStream, client: SocketAddr) -> Result<(), NetError> {
        stream.set_nodelay(true)?;
        let stream = AsyncIoTokioAsStd(stream);
        let (messages, mut answers) = Messages::from_stream_with_buffer_size(stream, client, ANSWERS_WAITING);
        let mut messages = TimeoutStream::new(messages, TCP_IDLE);
        while let Some(message) = messages.next().await {
            let message = message?;
            self.counters.add(Count::Tcp);
            let mut out = Vec::new();
            match self.begin(message.bytes(), client, Protocol::Tcp, &mut out) {
                Step::Done => {}
                Step::Nothing => continue,
                Step::Wait(errand) => self.finish(*errand, &mut out).await,
            }
            answers.send(SerialMessage::new(out, client))?;
        }
        Ok(())
    }

    /// As far as it goes without waiting.
    fn begin(&self, bytes: &[u8], client: SocketAddr, transport: Protocol, out: &mut Vec<u8>) -> Step {
        let (request, ask) = match answer::consider(&self.zone.load(), bytes, client, transport) {
            Considered::Reply(request, reply) => return self.write(&request, &reply, out),
            Considered::Short => {
                self.counters.add(Count::IgnoredShort);
                return Step::Nothing;
            }
            Considered::Response => {
                self.counters.add(Count::IgnoredResponse);
                return Step::Nothing;
            }
            Considered::Ask(request, ask) => (request, ask),
        };
        let reply = if self.forwarder.is_our_own(request.metadata.id, &ask.name, ask.kind) {
            Err(ForwardError::Loop)
        } else if let Some(message) = self.forwarder.remembered(&ask.name, ask.kind) {
            Ok(message)
        } else {
            match self.forwarder.admit(&ask.name, client.ip()) {
                Ok(share) => return Step::Wait(Box::new(Errand { request, ask, share })),
                Err(error) => Err(error),
            }
        };
        self.write(&request, &combined(ask.alias, reply), out)
    }

    async fn finish(&self, errand: Errand, out: &mut Vec<u8>) {
        let Errand { request, ask, share } = errand;
        let said = self.forwarder.ask(&ask.name, ask.kind, request.protocol() == Protocol::Tcp, share).await;
        self.write(&request, &combined(ask.alias, said), out);
    }

    fn write(&self, request: &Request, reply: &Reply, out: &mut Vec<u8>) -> Step {
        let mut code = reply.code;
        match message::write(request, reply, out) {
            Ok(true) => self.counters.add(Count::Truncated),
            Ok(false) => {}
            Err(error) => {
                tracing::debug!(%error, "an answer cannot be written");
                code = ResponseCode::ServFail;
                if message::write(request, &Reply::code(code), out).is_err() {
                    return Step::Nothing;
                }
            }
        }
        if let Some(count) = counted(code) {
            self.counters.add(count);
        }
        Step::Done
    }

    #[cfg(test)]
    pub(crate) fn counters(&self) -> &Counters {
        &self.counters
    }
}

/// A datagram, if one waits.
fn receive(socket: &UdpSocket, bytes: &mut [u8]) -> Option<(SocketAddr, usize)> {
    match socket.try_recv_from(bytes) {
        Ok((length, client)) => Some((client, length)),
        Err(error) => {
            // An ICMP error about an earlier answer shows up here, once; the next datagram is nobody's fault.
            if error.kind() != io::ErrorKind::WouldBlock {
                tracing::debug!(%error, "a datagram could not be read");
            }
            None
        }
    }
}

/// What is sent, given what an upstream said. Behind an alias a "no" is none: the alias stands alone (N-051).
fn combined(alias: Option<Reply>, said: Result<hickory_proto::op::Message, ForwardError>) -> Reply {
    match (alias, said) {
        (None, Ok(message)) => answer::from_upstream(message),
        (Some(alias), Ok(message)) => answer::behind_alias(alias, message),
        (Some(alias), Err(_)) => alias,
        (None, Err(ForwardError::NoAnswer)) => Reply::code(ResponseCode::ServFail),
        (None, Err(ForwardError::NoUpstream | ForwardError::Busy | ForwardError::Loop)) => {
            Reply::code(ResponseCode::Refused)
        }
    }
}

fn counted(code: ResponseCode) -> Option<Count> {
    Some(match code {
        ResponseCode::NoError => Count::NoError,
        ResponseCode::NXDomain => Count::NxDomain,
        ResponseCode::ServFail => Count::ServFail,
        ResponseCode::Refused => Count::Refused,
        ResponseCode::FormErr => Count::FormErr,
        ResponseCode::NotImp => Count::NotImp,
        ResponseCode::BADVERS => Count::BadVers,
        // Of an upstream's making, and rare.
        _ => return None,
    })
}
