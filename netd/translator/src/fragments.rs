//! Fragmented datagrams under way.
//!
//! Only the first fragment has ports. What was decided for it is remembered here under what all fragments share, and
//! the others follow it (D-107). Those that overtake it wait for it, within limits. Nothing is reassembled: the
//! receiver does that.

use std::collections::{HashMap, VecDeque};
use std::net::IpAddr;
use std::time::{Duration, Instant};

use crate::packet::Packet;
use crate::table::PortId;

/// What all fragments of a datagram share (RFC 791 2.3, RFC 8200 4.5), as the sender sent them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct DatagramKey {
    src: IpAddr,
    dst: IpAddr,
    /// Always 0 in IPv6, where headers between it and the transport are in the first fragment only.
    protocol: u8,
    identification: u32,
}

impl DatagramKey {
    pub(crate) fn of(packet: &Packet<'_>) -> Self {
        Self {
            src: packet.src(),
            dst: packet.dst(),
            protocol: if packet.src().is_ipv4() { packet.protocol() } else { 0 },
            identification: packet.identification(),
        }
    }
}

/// What happens to the fragments of a datagram after the first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Path {
    /// They get these addresses and this identification, and go there.
    Forward { src: IpAddr, dst: IpAddr, identification: u32, port: PortId },
    /// The first one was not forwarded.
    Refused,
}

#[derive(Debug)]
struct Datagram {
    path: Path,
    /// Which entry of the order is this datagram's.
    serial: u64,
    expires: Instant,
    /// Payload bytes that have come.
    seen: usize,
    /// Payload bytes in all, known once the last fragment has come.
    total: Option<usize>,
}

/// A fragment that overtook its first one.
#[derive(Debug)]
pub(crate) struct Held {
    key: DatagramKey,
    pub(crate) bytes: Vec<u8>,
    since: Instant,
}

#[derive(Debug)]
pub(crate) struct Fragments {
    datagrams: HashMap<DatagramKey, Datagram>,
    /// Oldest first. Datagrams that are complete, or whose identification was used again, leave their entry behind.
    order: VecDeque<(u64, DatagramKey)>,
    /// The serial of the next datagram.
    next: u64,
    /// Oldest first.
    held: VecDeque<Held>,
    held_bytes: usize,
    max_datagrams: usize,
    max_held: usize,
    max_held_bytes: usize,
    lifetime: Duration,
}

impl Fragments {
    pub(crate) fn new(max_datagrams: usize, max_held: usize, max_held_bytes: usize, lifetime: Duration) -> Self {
        Self {
            datagrams: HashMap::new(),
            order: VecDeque::new(),
            next: 0,
            held: VecDeque::new(),
            held_bytes: 0,
            max_datagrams,
            max_held,
            max_held_bytes,
            lifetime,
        }
    }

    /// Records what happened to a first fragment with `len` bytes of payload. Returns whether an older datagram had to
    /// be forgotten for it.
    pub(crate) fn record(&mut self, key: DatagramKey, path: Path, len: usize, now: Instant) -> bool {
        let serial = self.next;
        self.next += 1;
        let expires = now + self.lifetime;
        self.datagrams.insert(key, Datagram { path, serial, expires, seen: len, total: None });
        self.order.push_back((serial, key));
        if self.order.len() > 2 * self.datagrams.len() + 64 {
            self.order.retain(|&(serial, key)| is_current(&self.datagrams, serial, key));
        }
        let full = self.datagrams.len() > self.max_datagrams;
        while self.datagrams.len() > self.max_datagrams
            && let Some((serial, key)) = self.order.pop_front()
        {
            if is_current(&self.datagrams, serial, key) {
                self.datagrams.remove(&key);
            }
        }
        self.trim();
        full
    }

    /// What happens to this fragment, if its first one has come.
    pub(crate) fn follow(&mut self, key: DatagramKey, packet: &Packet<'_>, now: Instant) -> Option<Path> {
        let datagram = self.datagrams.get_mut(&key).filter(|datagram| datagram.expires > now)?;
        let len = packet.body().len();
        datagram.seen = datagram.seen.saturating_add(len);
        if !packet.more_fragments() {
            datagram.total = Some(packet.fragment_offset() + len);
        }
        let path = datagram.path;
        // A complete datagram is forgotten at once: its identification will be used again.
        if datagram.total.is_some_and(|total| datagram.seen >= total) {
            self.datagrams.remove(&key);
            self.trim();
        }
        Some(path)
    }

    /// Keeps a copy of a fragment that overtook its first one; false if there is no room.
    pub(crate) fn hold(&mut self, key: DatagramKey, bytes: &[u8], now: Instant) -> bool {
        if self.held.len() >= self.max_held || self.held_bytes + bytes.len() > self.max_held_bytes {
            return false;
        }
        self.held_bytes += bytes.len();
        self.held.push_back(Held { key, bytes: bytes.to_vec(), since: now });
        true
    }

    /// How many datagrams are under way.
    pub(crate) fn len(&self) -> usize {
        self.datagrams.len()
    }

    /// Whether any fragment waits for its first one.
    pub(crate) fn any_held(&self) -> bool {
        !self.held.is_empty()
    }

    /// Takes out the fragments that waited for this first one, in the order they came.
    pub(crate) fn release(&mut self, key: DatagramKey) -> Vec<Held> {
        let (released, kept) = self.held.drain(..).partition(|held| held.key == key);
        self.held = kept;
        self.held_bytes = self.held.iter().map(|held| held.bytes.len()).sum();
        Vec::from(released)
    }

    /// Forgets everything: ports may mean something else now.
    pub(crate) fn clear(&mut self) {
        self.datagrams.clear();
        self.order.clear();
        self.held.clear();
        self.held_bytes = 0;
    }

    pub(crate) fn poll_timeout(&self) -> Option<Instant> {
        let datagram = self.order.front().and_then(|(_, key)| self.datagrams.get(key)).map(|datagram| datagram.expires);
        let held = self.held.front().map(|held| held.since + self.lifetime);
        datagram.into_iter().chain(held).min()
    }

    /// Forgets what is over; returns how many held fragments were lost.
    pub(crate) fn handle_timeout(&mut self, now: Instant) -> u64 {
        while let Some((_, key)) = self.order.front()
            && self.datagrams.get(key).is_some_and(|datagram| datagram.expires <= now)
        {
            let key = *key;
            self.datagrams.remove(&key);
            self.trim();
        }
        let mut lost = 0;
        while self.held.front().is_some_and(|held| held.since + self.lifetime <= now) {
            if let Some(held) = self.held.pop_front() {
                self.held_bytes -= held.bytes.len();
                lost += 1;
            }
        }
        lost
    }

    /// Keeps a datagram that is under way at the front of the order, so that the next deadline is at hand.
    fn trim(&mut self) {
        while let Some(&(serial, key)) = self.order.front()
            && !is_current(&self.datagrams, serial, key)
        {
            self.order.pop_front();
        }
    }
}

fn is_current(datagrams: &HashMap<DatagramKey, Datagram>, serial: u64, key: DatagramKey) -> bool {
    datagrams.get(&key).is_some_and(|datagram| datagram.serial == serial)
}
