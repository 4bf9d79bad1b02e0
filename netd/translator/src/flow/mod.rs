//! The flow table: what was decided for the first packet of each flow, and what has become of the flow since.
//!
//! It owns both directions of every flow and the time it ends. It does not choose endpoints or look at packets.

mod lists;
mod state;
mod wheel;

use std::collections::HashMap;
use std::net::SocketAddr;
use std::ops::Range;
use std::sync::Arc;
use std::time::Instant;

pub(crate) use lists::Slot;
pub(crate) use state::Direction;
pub use state::FlowState;

use crate::hash::Mixer;
use crate::limits::Timeouts;
use crate::packet::Chunks;
use crate::service_port::ServicePortId;
use crate::table::PortId;
use crate::tuple::{Protocol, Tuple};
use lists::Lists;
use wheel::Wheel;

/// One value for each direction of a flow.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Both<T> {
    pub(crate) original: T,
    pub(crate) reply: T,
}

impl<T> Both<T> {
    pub(crate) fn get(&self, direction: Direction) -> &T {
        match direction {
            Direction::Original => &self.original,
            Direction::Reply => &self.reply,
        }
    }

    fn get_mut(&mut self, direction: Direction) -> &mut T {
        match direction {
            Direction::Original => &mut self.original,
            Direction::Reply => &mut self.reply,
        }
    }
}

/// A flow, both directions (D-122).
#[derive(Clone, Debug)]
pub(crate) struct Flow {
    /// The tuple of packets as they come in, in each direction. The packets that go out in one direction have the
    /// reverse of the other direction's.
    pub(crate) tuples: Both<Tuple>,
    /// Where packets of each direction come from.
    pub(crate) ports: Both<PortId>,
    /// The Service port it was sent to; none for a direct flow.
    pub(crate) service: Option<Arc<ServicePortId>>,
    /// Where the relay passes it on to, for a flow to the outside.
    pub(crate) beyond: Option<SocketAddr>,
    pub(crate) state: FlowState,
    /// The side whose FIN came first.
    closer: Option<Direction>,
    created: Instant,
    deadline: Instant,
    /// What the next packet of each direction is known by. TCP: the sequence number after the last byte. SCTP: the verification
    /// tag.
    pub(crate) next: Both<Option<u32>>,
    packets: Both<u64>,
    bytes: Both<u64>,
}

/// What a packet tells the flow table.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Sighting {
    pub(crate) transport: Seen,
    pub(crate) bytes: usize,
}

/// What the transport header of a packet says about its flow.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Seen {
    /// A TCP segment: its flags, and the sequence number after it.
    Segment {
        flags: u8,
        end: u32,
    },
    Datagram,
    /// Chunks of SCTP, with the tag they came under, and the one asked for by the sender for what it gets from now on.
    Chunks {
        chunks: Chunks,
        tag: u32,
        asked: Option<u32>,
    },
}

impl Flow {
    /// A flow that nothing was sent in yet.
    pub(crate) fn new(
        original: Tuple,
        reply: Tuple,
        ports: Both<PortId>,
        service: Option<Arc<ServicePortId>>,
        state: FlowState,
        now: Instant,
    ) -> Self {
        Self {
            tuples: Both { original, reply },
            ports,
            service,
            beyond: None,
            state,
            closer: None,
            created: now,
            deadline: now,
            next: Both::default(),
            packets: Both::default(),
            bytes: Both::default(),
        }
    }

    /// The end that the client talks to, be it in the lab or outside.
    pub(crate) fn endpoint(&self) -> SocketAddr {
        self.beyond.unwrap_or_else(|| self.tuples.reply.source())
    }

    /// The tuple of packets as they leave the translator.
    pub(crate) fn outgoing(&self, direction: Direction) -> Tuple {
        self.tuples.get(direction.other()).reversed()
    }

    fn see(&mut self, direction: Direction, seen: Sighting, timeouts: &Timeouts, now: Instant) {
        self.state = match seen.transport {
            Seen::Segment { flags, end } => {
                let next = self.next.get_mut(direction);
                // Sequence numbers wrap: newer is what is less than half the circle ahead (RFC 9293 3.4).
                if next.is_none_or(|old| end.wrapping_sub(old) < 1 << 31) {
                    *next = Some(end);
                }
                self.state.after_segment(&mut self.closer, direction, flags)
            }
            Seen::Datagram => {
                let age = now.saturating_duration_since(self.created);
                self.state.after_datagram(direction, age, timeouts)
            }
            Seen::Chunks { chunks, tag, asked } => {
                match asked {
                    Some(_) => *self.next.get_mut(direction.other()) = asked,
                    // The tag of what ends an association may be the other side's.
                    None if !chunks.ends() => *self.next.get_mut(direction) = Some(tag),
                    None => {}
                }
                self.state.after_chunks(direction, chunks)
            }
        };
        self.deadline = now + self.state.timeout(timeouts);
        *self.packets.get_mut(direction) += 1;
        *self.bytes.get_mut(direction) += u64::try_from(seen.bytes).unwrap_or_default();
    }
}

/// A flow as shown to people.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FlowRecord {
    /// What the client sends.
    pub original: Tuple,
    /// What the endpoint answers.
    pub reply: Tuple,
    /// Where the client's packets end up.
    pub endpoint: SocketAddr,
    /// The Service port, none for a flow to an address that is not a Service's.
    pub service: Option<Arc<ServicePortId>>,
    /// Whether the endpoint sees another source address than the client's.
    pub source_changed: bool,
    /// Ports of the client and of the endpoint.
    pub ports: (PortId, PortId),
    /// What it is doing.
    pub state: FlowState,
    /// When it began.
    pub created: Instant,
    /// When it ends if nothing more comes.
    pub expires: Instant,
    /// Packets from the client and from the endpoint.
    pub packets: (u64, u64),
    /// Bytes with IP headers, from the client and from the endpoint.
    pub bytes: (u64, u64),
}

impl From<&Flow> for FlowRecord {
    fn from(flow: &Flow) -> Self {
        Self {
            original: flow.tuples.original,
            reply: flow.tuples.reply,
            endpoint: flow.endpoint(),
            service: flow.service.clone(),
            source_changed: flow.tuples.original.src != flow.tuples.reply.dst,
            ports: (flow.ports.original, flow.ports.reply),
            state: flow.state,
            created: flow.created,
            expires: flow.deadline,
            packets: (flow.packets.original, flow.packets.reply),
            bytes: (flow.bytes.original, flow.bytes.reply),
        }
    }
}

/// The table is full of flows that must not be evicted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Full;

/// The only list of weak flows.
const WEAK: u32 = 0;

/// All flows. Every tuple in it belongs to one direction of one flow, so that flows cannot mix (D-119).
#[derive(Debug)]
pub(crate) struct FlowTable {
    flows: Vec<Option<Flow>>,
    free: Vec<Slot>,
    index: HashMap<Tuple, (Slot, Direction), Mixer>,
    wheel: Wheel,
    /// Flows that may be evicted, in the order in which they became so.
    weak: Lists,
    udp: usize,
    limit: usize,
    timeouts: Timeouts,
    pub(crate) expired: u64,
    pub(crate) evicted: u64,
}

impl FlowTable {
    pub(crate) fn new(limit: usize, timeouts: Timeouts, mixer: Mixer) -> Self {
        Self {
            flows: Vec::new(),
            free: Vec::new(),
            index: HashMap::with_hasher(mixer),
            wheel: Wheel::new(),
            weak: Lists::new(1),
            udp: 0,
            limit,
            timeouts,
            expired: 0,
            evicted: 0,
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.index.len() / 2
    }

    /// How many of the flows are UDP.
    pub(crate) fn udp(&self) -> usize {
        self.udp
    }

    /// The flow that a packet with this tuple belongs to. A flow whose time has come is removed, not found.
    pub(crate) fn find(&mut self, tuple: &Tuple, now: Instant) -> Option<(Slot, Direction)> {
        let (slot, direction) = *self.index.get(tuple)?;
        if self.get(slot).is_some_and(|flow| flow.deadline > now) {
            return Some((slot, direction));
        }
        self.remove(slot);
        self.expired += 1;
        None
    }

    pub(crate) fn get(&self, slot: Slot) -> Option<&Flow> {
        self.flows.get(slot as usize)?.as_ref()
    }

    /// All flows, in an order that only depends on what happened.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &Flow> {
        self.flows.iter().flatten()
    }

    /// How many places there are, taken or free.
    pub(crate) fn places(&self) -> usize {
        self.flows.len()
    }

    /// The flows in some of the places; those beyond the last are empty.
    pub(crate) fn in_places(&self, places: Range<usize>) -> impl Iterator<Item = &Flow> {
        let end = places.end.min(self.flows.len());
        self.flows.get(places.start.min(end)..end).unwrap_or_default().iter().flatten()
    }

    /// The places of the flows for which `wanted` holds.
    pub(crate) fn slots(&self, wanted: impl Fn(&Flow) -> bool) -> Vec<Slot> {
        (0..).zip(&self.flows).filter(|(_, flow)| flow.as_ref().is_some_and(&wanted)).map(|(slot, _)| slot).collect()
    }

    /// Adds a flow, both of whose tuples the caller has found to be free, and notes its first packet. Evicts the flow
    /// that has been weak longest if the table is full.
    ///
    /// # Errors
    /// [`Full`] if no flow may be evicted.
    pub(crate) fn insert(&mut self, mut flow: Flow, first: Sighting, now: Instant) -> Result<(), Full> {
        if self.len() >= self.limit {
            let victim = self.weak.front(WEAK).ok_or(Full)?;
            self.remove(victim);
            self.evicted += 1;
        }
        flow.see(Direction::Original, first, &self.timeouts, now);
        let slot = match self.free.pop() {
            Some(slot) => slot,
            None => {
                let slot = Slot::try_from(self.flows.len()).map_err(|_| Full)?;
                self.flows.push(None);
                slot
            }
        };
        self.index.insert(flow.tuples.original, (slot, Direction::Original));
        self.index.insert(flow.tuples.reply, (slot, Direction::Reply));
        self.wheel.schedule(slot, flow.deadline, now);
        if flow.state.is_weak() {
            self.weak.push_back(WEAK, slot);
        }
        self.udp += usize::from(flow.tuples.original.protocol == Protocol::Udp);
        if let Some(place) = self.flows.get_mut(slot as usize) {
            *place = Some(flow);
        }
        Ok(())
    }

    /// Notes a packet of a flow.
    pub(crate) fn see(&mut self, slot: Slot, direction: Direction, seen: Sighting, now: Instant) {
        let Some(Some(flow)) = self.flows.get_mut(slot as usize) else { return };
        let (state, deadline) = (flow.state, flow.deadline);
        flow.see(direction, seen, &self.timeouts, now);
        if flow.deadline < deadline {
            self.wheel.schedule(slot, flow.deadline, now);
        }
        if flow.state != state {
            if !flow.state.is_weak() {
                self.weak.remove(slot);
            } else if !self.weak.contains(slot) {
                self.weak.push_back(WEAK, slot);
            }
        }
    }

    /// Lets a flow that was waited for begin.
    pub(crate) fn begin(&mut self, slot: Slot, state: FlowState) {
        if let Some(Some(flow)) = self.flows.get_mut(slot as usize) {
            flow.state = state;
        }
    }

    /// Takes a flow out.
    pub(crate) fn remove(&mut self, slot: Slot) -> Option<Flow> {
        let flow = self.flows.get_mut(slot as usize)?.take()?;
        self.index.remove(&flow.tuples.original);
        self.index.remove(&flow.tuples.reply);
        self.wheel.remove(slot);
        self.weak.remove(slot);
        self.udp -= usize::from(flow.tuples.original.protocol == Protocol::Udp);
        self.free.push(slot);
        Some(flow)
    }

    pub(crate) fn poll_timeout(&self) -> Option<Instant> {
        self.wheel.next()
    }

    /// Removes flows whose time has come.
    pub(crate) fn handle_timeout(&mut self, now: Instant) {
        let mut due = Vec::new();
        self.wheel.advance(now, &mut due);
        for slot in due {
            match self.get(slot).map(|flow| flow.deadline) {
                Some(deadline) if deadline > now => self.wheel.schedule(slot, deadline, now),
                Some(_) => {
                    self.remove(slot);
                    self.expired += 1;
                }
                None => {}
            }
        }
    }
}
