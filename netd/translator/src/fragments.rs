//! Fragmented datagrams under way.
//!
//! Only the first fragment has ports. What was decided for it is remembered here under what all fragments share, and
//! the others follow it (D-107). Those that overtake it wait for it, within limits. Nothing is reassembled: the
//! receiver does that.

use std::collections::{HashMap, VecDeque};
use std::net::{IpAddr, Ipv4Addr};
use std::time::{Duration, Instant};

use crate::packet::Packet;
use crate::table::PortId;

/// What all fragments of a datagram share (RFC 791 2.3), as the sender sent them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct DatagramKey {
    src: Ipv4Addr,
    dst: Ipv4Addr,
    protocol: u8,
    identification: u16,
}

impl DatagramKey {
    pub(crate) fn of(packet: &Packet<'_>) -> Self {
        Self {
            src: packet.src(),
            dst: packet.dst(),
            protocol: packet.protocol(),
            identification: packet.identification(),
        }
    }
}

/// What happens to the fragments of a datagram after the first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Path {
    /// They get these addresses and go there.
    Forward { src: IpAddr, dst: IpAddr, port: PortId },
    /// The first one was not forwarded.
    Refused,
}

#[derive(Debug)]
struct Datagram {
    path: Path,
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
    /// One entry per datagram, oldest first.
    order: VecDeque<(Instant, DatagramKey)>,
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
        let expires = now + self.lifetime;
        let datagram = Datagram { path, expires, seen: len, total: None };
        if self.datagrams.insert(key, datagram).is_some() {
            return false;
        }
        self.order.push_back((expires, key));
        if self.datagrams.len() <= self.max_datagrams {
            return false;
        }
        if let Some((_, oldest)) = self.order.pop_front() {
            self.datagrams.remove(&oldest);
        }
        true
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
        let datagram = self.order.front().map(|(expires, _)| *expires);
        let held = self.held.front().map(|held| held.since + self.lifetime);
        datagram.into_iter().chain(held).min()
    }

    /// Forgets what is over; returns how many held fragments were lost.
    pub(crate) fn handle_timeout(&mut self, now: Instant) -> u64 {
        while let Some(&(expires, key)) = self.order.front()
            && expires <= now
        {
            self.order.pop_front();
            match self.datagrams.get(&key) {
                // The identification was used again in the meantime.
                Some(datagram) if datagram.expires > now => self.order.push_back((datagram.expires, key)),
                Some(_) => {
                    self.datagrams.remove(&key);
                }
                None => {}
            }
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

    /// Completed datagrams leave their place in the order behind; it is swept before it outgrows the datagrams.
    fn trim(&mut self) {
        if self.order.len() > 2 * self.datagrams.len() + 64 {
            self.order.retain(|(_, key)| self.datagrams.contains_key(key));
        }
    }
}
