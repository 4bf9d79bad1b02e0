//! Names that are not the cluster's: passed on to the upstreams of the host.

use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use hickory_proto::op::{Message, MessageType, OpCode, Query};
use hickory_proto::rr::{Name, RecordType};
use rand::seq::SliceRandom as _;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpStream, UdpSocket};
use tokio::sync::Semaphore;

/// Questions under way at once; further ones are refused (N-072).
const MAX_CONCURRENT: usize = 1000;

/// How long a question may take altogether (N-073).
const PATIENCE: Duration = Duration::from_secs(5);

/// How long one upstream may take before the next is asked.
const PATIENCE_PER_UPSTREAM: Duration = Duration::from_secs(2);

/// Largest answer over UDP that is asked for and read, in bytes.
const MAX_UDP: u16 = 4096;

/// The DNS port.
const PORT: u16 = 53;

/// Why a question was not passed on, or had no answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum ForwardError {
    /// There is nobody to ask.
    #[error("there is no upstream")]
    NoUpstream,
    /// Too many questions are under way.
    #[error("too many questions are under way")]
    Busy,
    /// An upstream asks us: going on would never end (N-075).
    #[error("an upstream passes questions back to this server")]
    Loop,
    /// No upstream answered in time.
    #[error("no upstream answered")]
    NoAnswer,
}

/// Asks the upstreams.
pub(crate) struct Forwarder {
    upstreams: Vec<SocketAddr>,
    permits: Semaphore,
    /// Questions under way by their identifier, to recognise one that comes back to us.
    asked: Mutex<HashMap<(u16, Name, RecordType), usize>>,
    looped: AtomicBool,
}

impl Forwarder {
    /// Asks these, in random order.
    pub(crate) fn new(upstreams: Vec<SocketAddr>) -> Self {
        Self {
            upstreams,
            permits: Semaphore::new(MAX_CONCURRENT),
            asked: Mutex::default(),
            looped: AtomicBool::new(false),
        }
    }

    /// Whether a question that arrived is one of our own that came back. From then on nothing is passed on.
    pub(crate) fn is_our_own(&self, id: u16, name: &Name, kind: RecordType) -> bool {
        let asked = self.asked.lock().unwrap_or_else(PoisonError::into_inner);
        let ours = asked.contains_key(&(id, name.to_lowercase(), kind));
        drop(asked);
        if ours && !self.looped.swap(true, Ordering::Relaxed) {
            tracing::error!(%name, "an upstream DNS server passes questions back to the lab; none are passed on any more");
        }
        ours
    }

    /// Asks one upstream after the other until one answers. Over TCP if the client came by TCP, so that what was
    /// truncated comes whole.
    ///
    /// # Errors
    /// When nobody can be asked, or nobody answers.
    pub(crate) async fn ask(&self, name: &Name, kind: RecordType, tcp: bool) -> Result<Message, ForwardError> {
        if self.upstreams.is_empty() {
            return Err(ForwardError::NoUpstream);
        }
        if self.looped.load(Ordering::Relaxed) {
            return Err(ForwardError::Loop);
        }
        let _permit = self.permits.try_acquire().map_err(|_| ForwardError::Busy)?;
        let mut order = self.upstreams.clone();
        order.shuffle(&mut rand::rng());
        let all = async {
            for upstream in order {
                match tokio::time::timeout(PATIENCE_PER_UPSTREAM, self.ask_one(upstream, name, kind, tcp)).await {
                    Ok(Ok(answer)) => return Ok(answer),
                    Ok(Err(error)) => tracing::debug!(%upstream, %error, "an upstream failed"),
                    Err(_) => tracing::debug!(%upstream, "an upstream did not answer"),
                }
                if self.looped.load(Ordering::Relaxed) {
                    return Err(ForwardError::Loop);
                }
            }
            Err(ForwardError::NoAnswer)
        };
        tokio::time::timeout(PATIENCE, all).await.unwrap_or(Err(ForwardError::NoAnswer))
    }

    async fn ask_one(&self, upstream: SocketAddr, name: &Name, kind: RecordType, tcp: bool) -> io::Result<Message> {
        let id = rand::random();
        let _remembered = Remembered::new(self, (id, name.to_lowercase(), kind));
        let mut question = Message::new(id, MessageType::Query, OpCode::Query);
        question.metadata.recursion_desired = true;
        question.add_query(Query::query(name.clone(), kind));
        let mut edns = hickory_proto::op::Edns::new();
        edns.set_max_payload(MAX_UDP);
        question.set_edns(edns);
        let bytes = question.to_vec().map_err(io::Error::other)?;
        let answer = if tcp { over_tcp(upstream, &bytes).await? } else { over_udp(upstream, &bytes).await? };
        let answer = Message::from_vec(&answer).map_err(io::Error::other)?;
        let matches = answer.metadata.id == id && answer.queries.first().is_some_and(|query| query.name() == name);
        if matches { Ok(answer) } else { Err(io::Error::other("the answer is to another question")) }
    }
}

/// A question under way; forgotten when it is dropped.
struct Remembered<'a> {
    forwarder: &'a Forwarder,
    key: (u16, Name, RecordType),
}

impl<'a> Remembered<'a> {
    fn new(forwarder: &'a Forwarder, key: (u16, Name, RecordType)) -> Self {
        let mut asked = forwarder.asked.lock().unwrap_or_else(PoisonError::into_inner);
        *asked.entry(key.clone()).or_default() += 1;
        Self { forwarder, key }
    }
}

impl Drop for Remembered<'_> {
    fn drop(&mut self) {
        let mut asked = self.forwarder.asked.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = asked.get_mut(&self.key) {
            *count -= 1;
            if *count == 0 {
                asked.remove(&self.key);
            }
        }
    }
}

async fn over_udp(upstream: SocketAddr, question: &[u8]) -> io::Result<Vec<u8>> {
    let any: IpAddr =
        if upstream.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { std::net::Ipv6Addr::UNSPECIFIED.into() };
    // A socket of its own for every question: an unpredictable port is half of what makes a forged answer unlikely.
    let socket = UdpSocket::bind((any, 0)).await?;
    socket.connect(upstream).await?;
    socket.send(question).await?;
    let mut answer = vec![0; usize::from(MAX_UDP)];
    let length = socket.recv(&mut answer).await?;
    answer.truncate(length);
    Ok(answer)
}

async fn over_tcp(upstream: SocketAddr, question: &[u8]) -> io::Result<Vec<u8>> {
    let mut stream = TcpStream::connect(upstream).await?;
    let length = u16::try_from(question.len()).map_err(io::Error::other)?;
    stream.write_all(&[&length.to_be_bytes(), question].concat()).await?;
    let mut answer = vec![0; usize::from(stream.read_u16().await?)];
    stream.read_exact(&mut answer).await?;
    Ok(answer)
}

/// The name servers of a resolver file, such as the host's `/etc/resolv.conf`.
pub fn parse_resolv_conf(text: &str) -> Vec<SocketAddr> {
    text.lines()
        .filter_map(|line| line.trim().strip_prefix("nameserver"))
        .filter_map(|rest| rest.split_whitespace().next()?.parse::<IpAddr>().ok())
        .map(|address| SocketAddr::new(address, PORT))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    // N-072
    #[test]
    fn upstreams_come_from_the_resolver_file() {
        let text =
            "# comment\nsearch example.com\nnameserver 192.0.2.1\n nameserver 2001:db8::1 # two\nnameserver nonsense\n";
        let found: Vec<String> = parse_resolv_conf(text).iter().map(ToString::to_string).collect();
        assert_eq!(found, ["192.0.2.1:53", "[2001:db8::1]:53"]);
    }
}
