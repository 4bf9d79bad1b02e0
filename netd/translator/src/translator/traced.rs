//! The same decisions with somebody looking on.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Instant;

use super::{DialAnswer, Direction, PacketBuf, PortId, Protocol, Slot, Translator, Tuple, Verdict};
use crate::packet::{Checksum, Packet, whole};
use crate::table::Target;
use crate::trace::{
    Answer, CANDIDATES, Choice, FlowNote, Frames, PacketHead, Scope, Trace, TraceEnd, TraceLevel, Traced,
};

impl Translator {
    /// Begins, changes or ends the telling of decisions. What was not taken yet is lost when it ends.
    pub fn set_trace(&mut self, level: Option<TraceLevel>) {
        match (level, &mut self.trace) {
            (Some(level), Some(trace)) => trace.level = level,
            (Some(level), off) => *off = Some(Box::new(Trace::new(level))),
            (None, _) => self.trace = None,
        }
    }

    /// What was decided since the last call, and how many decisions were lost because nobody took them. To be called after
    /// each batch while tracing is on.
    pub fn take_traced(&mut self) -> (Vec<Traced>, u64) {
        self.trace.as_mut().map_or_else(Default::default, |trace| (trace.take(), std::mem::take(&mut trace.lost)))
    }

    pub(super) fn decide_traced(&mut self, from: PortId, buf: &mut PacketBuf<'_>, now: Instant) -> Verdict {
        let Some(trace) = &mut self.trace else { return self.decide(from, buf, now) };
        // Left over from a flow to the outside.
        trace.answer = None;
        let level = trace.level;
        let (len, checksum) = (buf.len(), buf.checksum());
        let before = level.frames.then(|| complete(buf.bytes(), checksum));
        let packet = PacketHead::of(buf.bytes_mut(), checksum);
        let verdict = self.decide(from, buf, now);
        let Some(trace) = &mut self.trace else { return verdict };
        let (mut flow, end) = (std::mem::take(&mut trace.note), trace.end(verdict));
        let is_new = flow.opened || matches!(verdict, Verdict::Reply | Verdict::Drop(_));
        if !is_new && !level.packets {
            return verdict;
        }
        if !flow.opened && flow.service.is_none() {
            flow = self.note_of(packet.as_ref(), now);
        }
        let left = !matches!(verdict, Verdict::Held | Verdict::Drop(_));
        let frames = before.map(|before| {
            let after = if left { complete(buf.bytes(), buf.checksum()) } else { Vec::new() };
            Box::new(Frames { before, after })
        });
        if let Some(trace) = &mut self.trace {
            trace.push(Traced { from, packet, len, end, flow, frames });
        }
        verdict
    }

    /// Notes which Service a packet is for.
    pub(super) fn note_service(&mut self, target: &Target) {
        if let Some(trace) = &mut self.trace {
            trace.note.service = Some(Arc::clone(target.service.id()));
            trace.note.frontend = Some(target.kind);
        }
    }

    /// Notes what there is to choose from, and whom session affinity has chosen already.
    pub(super) fn note_choice(&mut self, target: &Target, scope: Scope, set: &[usize], remembered: Option<usize>) {
        let Some(trace) = &mut self.trace else { return };
        let endpoints = target.service.endpoints();
        let address = |at: &usize| endpoints.get(*at).map(|endpoint| SocketAddr::new(endpoint.addr, endpoint.port));
        trace.note.choice = Some(Choice {
            scope,
            by_affinity: remembered.is_some(),
            terminating: set.first().and_then(|at| endpoints.get(*at)).is_some_and(|endpoint| !endpoint.ready),
            candidates: set.len(),
            shown: set.iter().take(CANDIDATES).filter_map(address).collect(),
        });
    }

    /// Notes that the packet in hand has begun a flow.
    pub(super) fn note_opened(&mut self, endpoint: SocketAddr, reply: Tuple) {
        if let Some(trace) = &mut self.trace {
            trace.note.opened = true;
            trace.note.endpoint = Some(endpoint);
            trace.note.outgoing = Some(reply.reversed());
        }
    }

    /// What the flow table knows about a packet as it came.
    fn note_of(&mut self, packet: Option<&PacketHead>, now: Instant) -> FlowNote {
        let found = packet.and_then(|packet| self.flows.find(&packet.tuple?, now));
        let Some((flow, direction)) = found.and_then(|(slot, direction)| Some((self.flows.get(slot)?, direction)))
        else {
            return FlowNote::default();
        };
        FlowNote {
            is_reply: direction == Direction::Reply,
            service: flow.service.clone(),
            endpoint: Some(flow.endpoint()),
            outgoing: Some(flow.outgoing(Direction::Original)),
            ..FlowNote::default()
        }
    }

    /// Tells of a packet of our own.
    pub(super) fn trace_own(&mut self, to: PortId, packet: &[u8]) {
        let Some(trace) = self.trace.as_mut().filter(|trace| trace.level.packets) else { return };
        let mut copy = packet.to_vec();
        let head = PacketHead::of(&mut copy, Checksum::Full);
        let len = copy.len();
        let frames = trace.level.frames.then(|| Box::new(Frames { before: Vec::new(), after: copy }));
        trace.push(Traced { from: to, packet: head, len, end: TraceEnd::Made, flow: FlowNote::default(), frames });
    }

    /// Tells of a flow to the outside whose other half could not be opened.
    pub(super) fn trace_dial(&mut self, slot: Slot, answer: DialAnswer) {
        let (Some(trace), Some(flow)) = (&mut self.trace, self.flows.get(slot)) else { return };
        let tuple = flow.tuples.original;
        let told = match answer {
            DialAnswer::Open | DialAnswer::Silent => return,
            DialAnswer::Refused if tuple.protocol == Protocol::Tcp => Answer::Reset,
            DialAnswer::Refused => Answer::PortUnreachable,
            DialAnswer::Unreachable => Answer::HostUnreachable,
        };
        let protocol = tuple.protocol.number();
        let packet = PacketHead { src: tuple.src, dst: tuple.dst, protocol, tuple: Some(tuple), tcp_flags: 0 };
        let (service, endpoint) = (flow.service.clone(), Some(flow.endpoint()));
        trace.push(Traced {
            from: flow.ports.original,
            packet: Some(packet),
            len: 0,
            end: TraceEnd::Answered(told),
            flow: FlowNote { service, endpoint, ..FlowNote::default() },
            frames: None,
        });
    }
}

/// A copy of a packet with a complete checksum.
fn complete(bytes: &[u8], checksum: Checksum) -> Vec<u8> {
    let mut copy = bytes.to_vec();
    match Packet::parse(&mut copy, checksum) {
        Ok(packet) if checksum != Checksum::Full => whole(&packet),
        _ => copy,
    }
}
