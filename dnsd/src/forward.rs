//! Names that are not the cluster's: passed on to the upstreams of the host, or to those of their own domain.

use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use hickory_proto::op::{Edns, Message, MessageType, OpCode, Query};
use hickory_proto::rr::{Name, RecordType};
use rand::seq::SliceRandom as _;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpStream, UdpSocket};

use crate::cache::{Cache, Key};
use crate::shares::{Share, Shares};
use crate::stats::{Count, Counters};

/// Questions under way at once; further ones are refused (N-072). How many of them one client may have, `shares.rs` says.
const MAX_CONCURRENT: usize = 1000;

/// How long a question may take altogether (N-073).
const PATIENCE: Duration = Duration::from_secs(5);

/// How long one upstream may take before the next is asked.
const PATIENCE_PER_UPSTREAM: Duration = Duration::from_secs(2);

/// An upstream that failed so often in a row is asked after the others (N-073).
const DOWN_AFTER: u32 = 2;

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
    /// Too many questions are under way, of this client or of all.
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
    /// The longest domains first; the last one is for all names.
    routes: Vec<Route>,
    shares: Arc<Shares>,
    cache: Mutex<Cache>,
    /// Questions under way by their identifier, to recognise one that comes back to us.
    asked: Mutex<HashMap<(u16, Name, RecordType), usize>>,
    counters: Arc<Counters>,
}

/// Who is asked about the names of a domain.
struct Route {
    domain: Name,
    upstreams: Vec<Upstream>,
    looped: AtomicBool,
}

struct Upstream {
    address: SocketAddr,
    /// Failures in a row.
    failures: AtomicU32,
}

impl Forwarder {
    /// Asks `upstreams`, and about names under each of `stubs` that domain's own (N-078).
    pub(crate) fn new(upstreams: &[SocketAddr], stubs: &[(String, Vec<SocketAddr>)], counters: Arc<Counters>) -> Self {
        let route = |domain: Name, addresses: &[SocketAddr]| Route {
            domain,
            upstreams: addresses.iter().map(|&address| Upstream { address, failures: AtomicU32::new(0) }).collect(),
            looped: AtomicBool::new(false),
        };
        let mut routes: Vec<Route> = stubs
            .iter()
            .filter_map(|(domain, addresses)| Some(route(Name::from_ascii(domain).ok()?.to_lowercase(), addresses)))
            .collect();
        routes.push(route(Name::root(), upstreams));
        routes.sort_by_key(|route| std::cmp::Reverse(route.domain.num_labels()));
        let shares = Shares::new(MAX_CONCURRENT);
        Self { routes, shares, cache: Mutex::default(), asked: Mutex::default(), counters }
    }

    fn route(&self, name: &Name) -> Option<&Route> {
        self.routes.iter().find(|route| route.domain.zone_of(name))
    }

    fn cache(&self) -> MutexGuard<'_, Cache> {
        self.cache.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether a question that arrived is one of our own that came back. From then on nothing is passed on to whom it was
    /// passed on.
    pub(crate) fn is_our_own(&self, id: u16, name: &Name, kind: RecordType) -> bool {
        let asked = self.asked.lock().unwrap_or_else(PoisonError::into_inner);
        let ours = !asked.is_empty() && asked.contains_key(&(id, name.to_lowercase(), kind));
        drop(asked);
        if let Some(route) = self.route(name).filter(|_| ours) {
            self.counters.add(Count::Loop);
            if !route.looped.swap(true, Ordering::Relaxed) {
                let domain = &route.domain;
                tracing::error!(%name, %domain, "an upstream DNS server passes questions back to the lab; none are passed on to it any more");
            }
        }
        ours
    }

    /// The answer that an upstream gave lately.
    pub(crate) fn remembered(&self, name: &Name, kind: RecordType) -> Option<Message> {
        let found = self.cache().get(&(name.to_lowercase(), kind), Instant::now());
        self.counters.add(if found.is_some() { Count::CacheHit } else { Count::CacheMiss });
        found.map(|mut message| {
            // The names repeat the letters of this question, not of the first one (N-008).
            for record in message.answers.iter_mut().filter(|record| record.name == *name) {
                record.name = name.clone();
            }
            message
        })
    }

    /// The right to ask on behalf of a client.
    ///
    /// # Errors
    /// When nobody can be asked about the name, or the client has asked too much already.
    pub(crate) fn admit(&self, name: &Name, client: IpAddr) -> Result<Share, ForwardError> {
        let route = self.route(name).filter(|route| !route.upstreams.is_empty()).ok_or(ForwardError::NoUpstream)?;
        if route.looped.load(Ordering::Relaxed) {
            return Err(ForwardError::Loop);
        }
        let share = self.shares.take(client).ok_or_else(|| {
            self.counters.add(Count::Busy);
            ForwardError::Busy
        })?;
        self.counters.set_under_way(self.shares.taken());
        Ok(share)
    }

    /// Asks one upstream after the other until one answers. Over TCP if the client came by TCP, so that what was
    /// truncated comes whole.
    ///
    /// # Errors
    /// When nobody answers.
    pub(crate) async fn ask(
        &self,
        name: &Name,
        kind: RecordType,
        tcp: bool,
        share: Share,
    ) -> Result<Message, ForwardError> {
        let route = self.route(name).ok_or(ForwardError::NoUpstream)?;
        let answer = tokio::time::timeout(PATIENCE, self.ask_all(route, name, kind, tcp)).await;
        drop(share);
        self.counters.set_under_way(self.shares.taken());
        let mut answer = answer.unwrap_or(Err(ForwardError::NoAnswer))?;
        let key: Key = (name.to_lowercase(), kind);
        let mut cache = self.cache();
        for _ in 0..cache.insert(key, &mut answer, Instant::now()) {
            self.counters.add(Count::CacheEvicted);
        }
        self.counters.set_cached(cache.len());
        Ok(answer)
    }

    async fn ask_all(&self, route: &Route, name: &Name, kind: RecordType, tcp: bool) -> Result<Message, ForwardError> {
        let mut order: Vec<&Upstream> = route.upstreams.iter().collect();
        order.shuffle(&mut rand::rng());
        // Those that are down are asked nevertheless, but last: so they are known to be up again at the latest when needed.
        order.sort_by_key(|upstream| upstream.failures.load(Ordering::Relaxed) >= DOWN_AFTER);
        for upstream in order {
            self.counters.add(Count::Forwarded);
            let address = upstream.address;
            match tokio::time::timeout(PATIENCE_PER_UPSTREAM, self.ask_one(address, name, kind, tcp)).await {
                Ok(Ok(answer)) => {
                    upstream.failures.store(0, Ordering::Relaxed);
                    return Ok(answer);
                }
                Ok(Err(error)) => tracing::debug!(%address, %error, "an upstream failed"),
                Err(_) => tracing::debug!(%address, "an upstream did not answer"),
            }
            if route.looped.load(Ordering::Relaxed) {
                return Err(ForwardError::Loop);
            }
            self.counters.add(Count::UpstreamFailed);
            upstream.failures.fetch_add(1, Ordering::Relaxed);
        }
        Err(ForwardError::NoAnswer)
    }

    async fn ask_one(&self, upstream: SocketAddr, name: &Name, kind: RecordType, tcp: bool) -> io::Result<Message> {
        let id = rand::random();
        let _remembered = Remembered::new(self, (id, name.to_lowercase(), kind));
        let mut question = Message::new(id, MessageType::Query, OpCode::Query);
        question.metadata.recursion_desired = true;
        question.add_query(Query::query(name.clone(), kind));
        let mut edns = Edns::new();
        edns.set_max_payload(MAX_UDP);
        question.set_edns(edns);
        let bytes = question.to_vec().map_err(io::Error::other)?;
        let fits = |answer: &Message| {
            let same = |query: &Query| query.name() == name && query.query_type() == kind;
            answer.metadata.id == id
                && answer.metadata.message_type == MessageType::Response
                && answer.queries.first().is_some_and(same)
        };
        let answer = if tcp { over_tcp(upstream, &bytes).await? } else { over_udp(upstream, &bytes, fits).await? };
        if fits(&answer) { Ok(answer) } else { Err(io::Error::other("the answer is to another question")) }
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

/// The first answer that fits: what else arrives is from somebody who guesses.
async fn over_udp(upstream: SocketAddr, question: &[u8], fits: impl Fn(&Message) -> bool) -> io::Result<Message> {
    let any: IpAddr = if upstream.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
    // A socket of its own for every question: an unpredictable port is half of what makes a forged answer unlikely.
    let socket = UdpSocket::bind((any, 0)).await?;
    socket.connect(upstream).await?;
    socket.send(question).await?;
    let mut answer = vec![0; usize::from(MAX_UDP)];
    loop {
        let length = socket.recv(&mut answer).await?;
        let message = answer.get(..length).and_then(|bytes| Message::from_vec(bytes).ok());
        if let Some(message) = message.filter(&fits) {
            return Ok(message);
        }
    }
}

async fn over_tcp(upstream: SocketAddr, question: &[u8]) -> io::Result<Message> {
    let mut stream = TcpStream::connect(upstream).await?;
    let length = u16::try_from(question.len()).map_err(io::Error::other)?;
    stream.write_all(&[&length.to_be_bytes(), question].concat()).await?;
    let mut answer = vec![0; usize::from(stream.read_u16().await?)];
    stream.read_exact(&mut answer).await?;
    Message::from_vec(&answer).map_err(io::Error::other)
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
