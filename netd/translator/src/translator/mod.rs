//! The state machine: from a packet and the time to a verdict.

mod direct;
mod fragmented;
mod icmp;
mod install;
mod relay;
mod service;
mod severed;
mod traced;

use std::collections::VecDeque;
use std::net::IpAddr;
use std::ops::Range;
use std::sync::Arc;
use std::time::Instant;

use crate::affinity::{Affinities, AffinityRecord};
use crate::counters::Counters;
use crate::flow::{Both, Direction, Flow, FlowRecord, FlowState, FlowTable, Seen, Sighting, Slot};
use crate::fragments::Fragments;
use crate::hash::Mixer;
use crate::limits::Limits;
use crate::packet::{ACK, ErrorKind, Packet, PacketBuf, RST, SYN, Transport};
use crate::random::Random;
use crate::table::{Destination, Frontend, PortId, ServiceTable};
use crate::trace::Trace;
use crate::tuple::{Protocol, Tuple};
use crate::verdict::{DropReason, Verdict};
use icmp::IcmpLimit;
use relay::Dials;
pub use relay::{Dial, DialAnswer};
use severed::Severed;

/// The packet translator of a lab.
///
/// Pass packets to [`handle`](Self::handle), and after each batch write out what [`poll_transmit`](Self::poll_transmit)
/// gives. Call [`handle_timeout`](Self::handle_timeout) at the time that [`poll_timeout`](Self::poll_timeout) names; a
/// late call does no harm, as flows whose time has come are never found.
#[derive(Debug)]
pub struct Translator {
    table: Arc<ServiceTable>,
    flows: FlowTable,
    severed: Severed,
    fragments: Fragments,
    /// Of the next fragmented datagram whose source changes.
    next_identification: u32,
    affinities: Affinities,
    icmp_limit: IcmpLimit,
    random: Random,
    dials: Dials,
    pending: VecDeque<(PortId, Vec<u8>)>,
    max_pending: usize,
    counters: Counters,
    /// Where answers are built, reused.
    scratch: Vec<u8>,
    /// Only while somebody looks on.
    trace: Option<Box<Trace>>,
}

/// What is to become of a packet, decided before any answer is built.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Outcome {
    Forward(PortId),
    /// Answer a TCP segment as a closed port would.
    Reset,
    Error(ErrorKind),
    Held,
    Drop(DropReason),
}

impl Translator {
    /// A translator with an empty table: it drops everything until one is installed.
    pub fn new(limits: Limits) -> Self {
        let mut random = Random::new(limits.seed);
        let mixer = Mixer::new(&mut random);
        Self {
            table: Arc::new(ServiceTable::new()),
            flows: FlowTable::new(limits.max_flows, limits.timeouts.clone(), mixer),
            severed: Severed::default(),
            fragments: Fragments::new(
                limits.max_fragmented,
                limits.max_held,
                limits.max_held_bytes,
                limits.timeouts.fragment,
            ),
            next_identification: 0,
            affinities: Affinities::new(limits.max_affinities),
            icmp_limit: IcmpLimit::new(limits.icmp_per_second, limits.icmp_burst),
            random,
            dials: Dials::new(limits.max_dials, limits.max_held_per_dial, limits.max_dial_bytes),
            pending: VecDeque::new(),
            max_pending: limits.max_pending,
            counters: Counters::default(),
            scratch: Vec::new(),
            trace: None,
        }
    }

    /// Decides what happens to a packet that came from `from`, and edits it accordingly.
    pub fn handle(&mut self, from: PortId, buf: &mut PacketBuf<'_>, now: Instant) -> Verdict {
        let verdict = match self.trace {
            None => self.decide(from, buf, now),
            Some(_) => self.decide_traced(from, buf, now),
        };
        self.counters.verdict(verdict);
        verdict
    }

    /// When [`handle_timeout`](Self::handle_timeout) next has something to do.
    pub fn poll_timeout(&self) -> Option<Instant> {
        self.flows.poll_timeout().into_iter().chain(self.fragments.poll_timeout()).min()
    }

    /// Forgets what is over.
    pub fn handle_timeout(&mut self, now: Instant) {
        self.flows.handle_timeout(now);
        self.counters.fragments_expired += self.fragments.handle_timeout(now);
    }

    /// The next packet of our own, and the port to write it to. Its checksums are complete.
    pub fn poll_transmit(&mut self) -> Option<(PortId, Vec<u8>)> {
        self.pending.pop_front()
    }

    /// Every flow in the table, in an order that only depends on what happened.
    pub fn flows(&self) -> impl Iterator<Item = FlowRecord> + '_ {
        self.flows.iter().map(FlowRecord::from)
    }

    /// How many places for flows there are, taken or free: the end of the range for [`Self::flows_in`].
    pub fn flow_places(&self) -> usize {
        self.flows.places()
    }

    /// The flows in some of the places. A flow keeps its place while it lives, so that a table of any size can be looked
    /// through in pieces, with packets between them.
    pub fn flows_in(&self, places: Range<usize>) -> impl Iterator<Item = FlowRecord> + '_ {
        self.flows.in_places(places).map(FlowRecord::from)
    }

    /// The records of session affinity that still count, in no order.
    pub fn affinities(&self, now: Instant) -> impl Iterator<Item = AffinityRecord> + '_ {
        self.affinities.iter(now)
    }

    /// The latest flows that were ended because their client or endpoint has left the network (D-090), or could not begin
    /// because the endpoint chosen for them had (D-023): at most 1024 that both sides had closed before, then at most 1024
    /// others, each the oldest first.
    pub fn severed(&self) -> impl Iterator<Item = &FlowRecord> {
        self.severed.iter()
    }

    /// What was counted so far.
    pub fn counters(&self) -> Counters {
        let mut counters = self.counters.clone();
        counters.flows = self.flows.len();
        counters.affinities = self.affinities.len();
        counters.fragmented = self.fragments.len();
        counters.dials = self.dials.len();
        counters.pending = self.pending.len();
        counters.flows_expired = self.flows.expired;
        counters.flows_evicted = self.flows.evicted;
        counters
    }

    fn decide(&mut self, from: PortId, buf: &mut PacketBuf<'_>, now: Instant) -> Verdict {
        let (checksum, datagram) = (buf.checksum(), buf.datagram());
        let mut packet = match Packet::parse(buf.bytes_mut(), checksum) {
            Ok(packet) => packet.in_datagrams(datagram),
            Err(reason) => return Verdict::Drop(reason),
        };
        let outcome = if packet.more_fragments() && packet.fragment_offset() == 0 {
            self.first_fragment(from, &mut packet, now)
        } else {
            self.route(from, &mut packet, now)
        };
        let built = match outcome {
            Outcome::Reset => self.build_reset(&packet),
            Outcome::Error(kind) => self.build_error(&packet, kind, now),
            Outcome::Forward(port) => {
                let len = packet.bytes().len();
                buf.truncate(len);
                return Verdict::Forward(port);
            }
            Outcome::Held => return Verdict::Held,
            Outcome::Drop(reason) => return Verdict::Drop(reason),
        };
        match built {
            Ok(()) if buf.replace(&self.scratch) => Verdict::Reply,
            Ok(()) => Verdict::Drop(DropReason::NoRoom),
            Err(reason) => Verdict::Drop(reason),
        }
    }

    /// The hot path is the first lines: a packet of a known flow costs one look-up.
    fn route(&mut self, from: PortId, packet: &mut Packet<'_>, now: Instant) -> Outcome {
        let tuple = packet.tuple();
        if let Some(tuple) = tuple
            && let Some((slot, direction)) = self.flows.find(&tuple, now)
            && let Some(outcome) = self.follow(from, slot, direction, packet, now)
        {
            return outcome;
        }
        if stays_on_link(packet) {
            return Outcome::Drop(DropReason::LinkLocal);
        }
        if !self.table.may_send(from, packet.src()) {
            return Outcome::Drop(DropReason::Spoofed);
        }
        if is_unroutable(packet.dst()) {
            return Outcome::Drop(DropReason::Unroutable);
        }
        if packet.ttl() <= 1 {
            return Outcome::Error(ErrorKind::TimeExceeded);
        }
        match (packet.transport(), tuple) {
            (Transport::Tail(_), _) => self.follow_first(packet, now),
            (Transport::Icmp, _) if packet.is_icmp_error() => self.icmp_error(from, packet, now),
            (_, Some(tuple)) => self.open(from, packet, tuple, now),
            _ => self.pass(packet),
        }
    }

    /// Sends a packet the way of its flow; `None` if it begins another flow.
    fn follow(
        &mut self,
        from: PortId,
        slot: Slot,
        direction: Direction,
        packet: &mut Packet<'_>,
        now: Instant,
    ) -> Option<Outcome> {
        let flow = self.flows.get(slot)?;
        if *flow.ports.get(direction) != from {
            return Some(Outcome::Drop(DropReason::Spoofed));
        }
        if packet.ttl() <= 1 {
            return Some(Outcome::Error(ErrorKind::TimeExceeded));
        }
        if flow.state == FlowState::Dialing {
            let flow = flow.tuples.reply;
            return Some(self.wait_too(&flow, packet));
        }
        // D-118: a connection is over, and its addresses are used for another.
        if flow.state.is_over() && begins(packet) {
            self.flows.remove(slot);
            return None;
        }
        let to = flow.outgoing(direction);
        let port = *flow.ports.get(direction.other());
        self.flows.see(slot, direction, sighting(packet), now);
        packet.rewrite(&to);
        packet.decrement_ttl();
        Some(Outcome::Forward(port))
    }

    /// The first packet of a flow.
    fn open(&mut self, from: PortId, packet: &mut Packet<'_>, tuple: Tuple, now: Instant) -> Outcome {
        let frontend = Frontend { addr: tuple.dst, protocol: tuple.protocol, port: tuple.dst_port };
        // The table is shared and never changes, so that what is found in it may be used while the flows change.
        let table = Arc::clone(&self.table);
        if let Some(target) = table.frontend(&frontend) {
            return self.open_to_service(from, packet, tuple, target, now);
        }
        if let Some((port, listener)) = table.relay_to(tuple.dst) {
            // Only TCP and UDP can be passed on without privileges on the machine.
            if tuple.protocol == Protocol::Sctp {
                return Outcome::Error(ErrorKind::NetUnreachable);
            }
            return self.open_relayed(from, port, listener, packet, tuple, now);
        }
        match table.destination(tuple.dst) {
            Destination::Owned(route) => self.open_direct(from, route.port, packet, tuple, now),
            Destination::Outside(Some(port)) => self.open_direct(from, port, packet, tuple, now),
            Destination::Service => refuse(packet),
            Destination::ServiceRange => Outcome::Drop(DropReason::NoService),
            // D-090: a connection to a pod that has gone is ended, not left to time out.
            Destination::PodRange if is_mid_stream(packet) => Outcome::Reset,
            Destination::PodRange => Outcome::Error(ErrorKind::HostUnreachable),
            Destination::Outside(None) => Outcome::Error(ErrorKind::NetUnreachable),
        }
    }

    /// A packet without ports: passed on to whoever has the address, never translated (D-111).
    fn pass(&mut self, packet: &mut Packet<'_>) -> Outcome {
        let destination = packet.dst();
        let port = match self.table.destination(destination) {
            // Only TCP and UDP can be passed on without privileges on the machine.
            _ if self.table.relay_to(destination).is_some() => return Outcome::Error(ErrorKind::NetUnreachable),
            Destination::Owned(route) => route.port,
            Destination::Outside(Some(port)) => port,
            // D-104: nobody answers a ping to a Service.
            Destination::Service if packet.transport() == Transport::Icmp => {
                return Outcome::Drop(DropReason::ServiceIcmp);
            }
            Destination::Service => return refuse(packet),
            Destination::ServiceRange => return Outcome::Drop(DropReason::NoService),
            _ if packet.is_icmp_error() => return Outcome::Drop(DropReason::UnrelatedIcmp),
            Destination::PodRange => return Outcome::Error(ErrorKind::HostUnreachable),
            Destination::Outside(None) => return Outcome::Error(ErrorKind::NetUnreachable),
        };
        packet.decrement_ttl();
        Outcome::Forward(port)
    }

    fn build_reset(&mut self, packet: &Packet<'_>) -> Result<(), DropReason> {
        if ends(packet) {
            return Err(DropReason::Unanswerable);
        }
        self.scratch.clear();
        crate::packet::reset(&mut self.scratch, packet);
        self.counters.resets += 1;
        Ok(())
    }

    fn queue(&mut self, port: PortId, packet: Vec<u8>) {
        if self.pending.len() < self.max_pending {
            self.trace_own(port, &packet);
            self.pending.push_back((port, packet));
        } else {
            self.counters.pending_limit += 1;
        }
    }
}

/// An active refusal: what a host says about a port that nobody listens on (D-032).
fn refuse(packet: &Packet<'_>) -> Outcome {
    match packet.transport() {
        Transport::Tcp => Outcome::Reset,
        _ => Outcome::Error(ErrorKind::PortUnreachable),
    }
}

/// Asks for a connection, of TCP or SCTP.
fn begins(packet: &Packet<'_>) -> bool {
    packet.tcp_flags() & (SYN | ACK | RST) == SYN || packet.chunks().begins()
}

/// Ends a connection at once, and is not to be answered.
fn ends(packet: &Packet<'_>) -> bool {
    packet.tcp_flags() & RST != 0 || packet.chunks().ends()
}

/// A packet of a protocol with connections that does not begin one.
fn is_mid_stream(packet: &Packet<'_>) -> bool {
    matches!(packet.transport(), Transport::Tcp | Transport::Sctp) && !begins(packet)
}

/// Multicast and broadcast are the host's own business (D-111); loopback and the unspecified address must not leave it (RFC
/// 1122 3.2.1.3, RFC 4291 2.5).
fn is_unroutable(dst: IpAddr) -> bool {
    let is_broadcast = matches!(dst, IpAddr::V4(dst) if dst.is_broadcast());
    dst.is_multicast() || is_broadcast || dst.is_loopback() || dst.is_unspecified()
}

/// What an IPv6 host says to its link without being asked: nobody is there, as each link has two ends and one is ours.
fn stays_on_link(packet: &Packet<'_>) -> bool {
    let (IpAddr::V6(src), IpAddr::V6(dst)) = (packet.src(), packet.dst()) else { return false };
    packet.is_neighbour_message() || src.is_unicast_link_local() || dst.is_unicast_link_local() || src.is_unspecified()
}

fn sighting(packet: &Packet<'_>) -> Sighting {
    let transport = match packet.transport() {
        Transport::Tcp => Seen::Segment { flags: packet.tcp_flags(), end: packet.tcp_end() },
        Transport::Sctp => {
            Seen::Chunks { chunks: packet.chunks(), tag: packet.sctp_tag(), asked: packet.sctp_asked_tag() }
        }
        _ => Seen::Datagram,
    };
    Sighting { transport, bytes: packet.bytes().len() }
}

/// The state of a flow before its first packet.
fn first_state(packet: &Packet<'_>) -> FlowState {
    match packet.transport() {
        Transport::Tcp | Transport::Sctp if is_mid_stream(packet) => FlowState::Adopted,
        Transport::Tcp => FlowState::SynSent,
        Transport::Sctp => FlowState::CookieWait,
        _ => FlowState::Unreplied,
    }
}
