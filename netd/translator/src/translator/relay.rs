//! Flows to the outside: taken over by a relay in the lab, which opens the other half with an ordinary socket.
//!
//! The first packet waits until the relay has said whether there is another half: so a refusal outside is a refusal
//! here, and not a connection that is accepted and reset.

use std::collections::{HashMap, VecDeque};
use std::net::SocketAddr;
use std::time::Instant;

use super::{
    Both, DropReason, ErrorKind, Flow, FlowState, Outcome, Packet, PortId, Protocol, Translator, Transport, Tuple,
    first_state, is_mid_stream, sighting,
};
use crate::fragments::DatagramKey;
use crate::packet::{Checksum, on_the_wire};

/// A flow that waits for the relay to open its other half. Each must be answered once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Dial {
    /// What the relay's packets to the client will look like.
    pub flow: Tuple,
    /// Where the client wants to go.
    pub destination: SocketAddr,
}

impl Dial {
    /// The client as the relay will see it. No two flows of one protocol have the same.
    pub fn client(&self) -> SocketAddr {
        SocketAddr::new(self.flow.dst, self.flow.dst_port)
    }
}

/// What has come of a [`Dial`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DialAnswer {
    /// The other half is open.
    Open,
    /// The destination refuses.
    Refused,
    /// There is no way to the destination.
    Unreachable,
    /// Nothing can be said: the client will try again, or give up by itself.
    Silent,
}

/// The flows that wait, with what they have sent meanwhile.
#[derive(Debug)]
pub(super) struct Dials {
    /// By the relay's answers; the packets are as they came, with complete checksums.
    waiting: HashMap<Tuple, Vec<Vec<u8>>>,
    /// Those that nobody has asked for yet.
    fresh: VecDeque<Dial>,
    /// In all the packets that wait.
    bytes: usize,
    limit: usize,
    held_limit: usize,
    bytes_limit: usize,
}

impl Dials {
    pub(super) fn new(limit: usize, held_limit: usize, bytes_limit: usize) -> Self {
        Self { waiting: HashMap::new(), fresh: VecDeque::new(), bytes: 0, limit, held_limit, bytes_limit }
    }

    /// How many flows wait.
    pub(super) fn len(&self) -> usize {
        self.waiting.len()
    }

    /// Whether no further flow may wait.
    pub(super) fn is_full(&self) -> bool {
        self.waiting.len() >= self.limit || self.bytes >= self.bytes_limit
    }

    /// Has a packet of a flow wait, as the datagrams it is made of; those that there is no room for are lost. False if all are.
    fn hold(&mut self, flow: Tuple, packet: &Packet<'_>) -> bool {
        let Self { waiting, bytes, held_limit, bytes_limit, .. } = self;
        let held = waiting.entry(flow).or_default();
        let before = held.len();
        for piece in on_the_wire(packet) {
            if held.len() < *held_limit && *bytes < *bytes_limit {
                *bytes += piece.len();
                held.push(piece);
            }
        }
        held.len() > before
    }

    /// What a flow has sent, which waits no longer.
    fn release(&mut self, flow: &Tuple) -> Vec<Vec<u8>> {
        let held = self.waiting.remove(flow).unwrap_or_default();
        self.bytes = self.bytes.saturating_sub(held.iter().map(Vec::len).sum());
        held
    }
}

impl Translator {
    /// The next flow for the relay to open.
    pub fn poll_dial(&mut self) -> Option<Dial> {
        self.dials.fresh.pop_front()
    }

    /// Takes the answer to a dial: lets the flow begin, or refuses it.
    pub fn answer(&mut self, dial: &Dial, answer: DialAnswer, now: Instant) {
        let held = self.dials.release(&dial.flow);
        // The flow may have been evicted or severed meanwhile.
        let Some((slot, _)) = self.flows.find(&dial.flow, now) else { return };
        let Some(flow) = self.flows.get(slot).filter(|flow| flow.state == FlowState::Dialing) else { return };
        let (outgoing, ports) = (dial.flow.reversed(), flow.ports);
        if answer == DialAnswer::Open {
            let state = if dial.flow.protocol == Protocol::Tcp { FlowState::SynSent } else { FlowState::Unreplied };
            self.flows.begin(slot, state);
            for mut bytes in held {
                let Ok(mut packet) = Packet::parse(&mut bytes, Checksum::Full) else { continue };
                let (key, src) = (DatagramKey::of(&packet), packet.src());
                packet.rewrite(&outgoing);
                packet.decrement_ttl();
                // Of a datagram in fragments the others wait for this one.
                let waited_for = packet
                    .more_fragments()
                    .then(|| (self.forwarded(&mut packet, src, ports.reply), packet.body().len()));
                self.queue(ports.reply, bytes);
                if let Some((path, len)) = waited_for {
                    self.decided(key, path, len, now);
                }
            }
            return;
        }
        self.trace_dial(slot, answer);
        self.flows.remove(slot);
        let Some(mut first) = held.into_iter().next() else { return };
        let Ok(packet) = Packet::parse(&mut first, Checksum::Full) else { return };
        let built = match answer {
            DialAnswer::Open | DialAnswer::Silent => return,
            DialAnswer::Refused if packet.transport() == Transport::Tcp => self.build_reset(&packet),
            DialAnswer::Refused => self.build_error(&packet, ErrorKind::PortUnreachable, now),
            DialAnswer::Unreachable => self.build_error(&packet, ErrorKind::HostUnreachable, now),
        };
        if built.is_ok() {
            let answer = self.scratch.clone();
            self.queue(ports.original, answer);
        }
    }

    /// Ends a UDP flow whose other half is closed, so that its next packet opens another.
    pub fn forget(&mut self, dial: &Dial, now: Instant) {
        let Some((slot, _)) = self.flows.find(&dial.flow, now) else { return };
        let is_it = |flow: &Flow| flow.state != FlowState::Dialing && flow.beyond == Some(dial.destination);
        if dial.flow.protocol == Protocol::Udp && self.flows.get(slot).is_some_and(is_it) {
            self.flows.remove(slot);
        }
    }

    /// The first packet of a flow to the outside that is not to a Service.
    pub(super) fn open_relayed(
        &mut self,
        from: PortId,
        relay: PortId,
        listener: SocketAddr,
        packet: &mut Packet<'_>,
        tuple: Tuple,
        now: Instant,
    ) -> Outcome {
        // A connection that the relay does not know is no more.
        if is_mid_stream(packet) {
            return Outcome::Reset;
        }
        if self.dials.is_full() {
            return Outcome::Drop(DropReason::RelayLimit);
        }
        let (src, src_port) = (listener.ip(), listener.port());
        let template = Tuple { protocol: tuple.protocol, src, src_port, dst: tuple.src, dst_port: tuple.src_port };
        let Some(reply) = self.reserve(&tuple, template, Some(tuple.src_port), now) else {
            return Outcome::Drop(DropReason::NoFreePort);
        };
        let destination = SocketAddr::new(tuple.dst, tuple.dst_port);
        let mut flow = Flow::new(tuple, reply, Both { original: from, reply: relay }, None, first_state(packet), now);
        flow.beyond = Some(destination);
        flow.state = FlowState::Dialing;
        if self.flows.insert(flow, sighting(packet), now).is_err() {
            return Outcome::Drop(DropReason::FlowLimit);
        }
        self.counters.flows_created += 1;
        self.note_opened(destination, reply);
        self.dial(reply, destination, packet)
    }

    /// Asks the relay to open the other half of a flow that is in the table, and has its packet wait, for which the caller has
    /// found that there is room.
    pub(super) fn dial(&mut self, flow: Tuple, destination: SocketAddr, packet: &Packet<'_>) -> Outcome {
        self.dials.hold(flow, packet);
        self.dials.fresh.push_back(Dial { flow, destination });
        Outcome::Held
    }

    /// A further packet of a flow that waits.
    pub(super) fn wait_too(&mut self, flow: &Tuple, packet: &Packet<'_>) -> Outcome {
        // Before a connection is open there is only its SYN, again and again.
        let may_wait = packet.transport() == Transport::Udp && self.dials.waiting.contains_key(flow);
        if may_wait && self.dials.hold(*flow, packet) {
            return Outcome::Held;
        }
        Outcome::Drop(DropReason::RelayLimit)
    }
}
