//! What was decided about packets and why, for people who look on. Off, it costs one comparison a packet.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use crate::packet::{Checksum, ErrorKind, Packet};
use crate::service_port::ServicePortId;
use crate::table::{FrontendKind, PortId};
use crate::tuple::Tuple;
use crate::verdict::{DropReason, Verdict};

/// Candidates that are told by address; of further ones only how many there are.
pub(crate) const CANDIDATES: usize = 16;

/// Decisions that wait to be taken; the caller takes them after each batch, so that more are never lost in practice.
const MAX_WAITING: usize = 4096;

/// What is told.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TraceLevel {
    /// Every packet, not only those that begin a flow or are refused.
    pub packets: bool,
    /// With copies of the packet before and after.
    pub frames: bool,
}

/// What was decided about one packet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Traced {
    /// Where it came from. Of a packet of our own: where it goes to.
    pub from: PortId,
    /// What it was; none if that cannot be told.
    pub packet: Option<PacketHead>,
    /// Its length in bytes, as it came.
    pub len: usize,
    /// What became of it.
    pub end: TraceEnd,
    /// Its flow, or what it would have become part of.
    pub flow: FlowNote,
    /// The packet itself, if that was asked for.
    pub frames: Option<Box<Frames>>,
}

/// Who sends what to whom.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PacketHead {
    /// Source address.
    pub src: IpAddr,
    /// Destination address.
    pub dst: IpAddr,
    /// The number of its protocol.
    pub protocol: u8,
    /// With ports, if it has any.
    pub tuple: Option<Tuple>,
    /// The flags of a TCP segment, else 0.
    pub tcp_flags: u8,
}

/// What became of a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TraceEnd {
    /// It went on to this port.
    Forwarded(PortId),
    /// Its sender was answered.
    Answered(Answer),
    /// It waits: for its first fragment, or for the relay.
    Held,
    /// It was forgotten.
    Dropped(DropReason),
    /// It is our own: a held fragment let go, or the end of a connection announced.
    Made,
}

/// What a sender was told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    /// A RST, or an ABORT of SCTP: nobody listens, or the connection is no more.
    Reset,
    /// ICMP: there is no way to the destination's network.
    NetUnreachable,
    /// ICMP: nobody has the address.
    HostUnreachable,
    /// ICMP: the host is there, and refuses.
    PortUnreachable,
    /// ICMP: the packet has passed too many routers.
    TimeExceeded,
}

impl From<ErrorKind> for Answer {
    fn from(kind: ErrorKind) -> Self {
        match kind {
            ErrorKind::NetUnreachable => Self::NetUnreachable,
            ErrorKind::HostUnreachable => Self::HostUnreachable,
            ErrorKind::PortUnreachable => Self::PortUnreachable,
            ErrorKind::TimeExceeded => Self::TimeExceeded,
        }
    }
}

/// What is known of a packet's flow.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FlowNote {
    /// Whether the packet began it.
    pub opened: bool,
    /// Whether the packet goes from the endpoint to the client.
    pub is_reply: bool,
    /// The Service port it was sent to.
    pub service: Option<Arc<ServicePortId>>,
    /// As what the Service was reached, if that was looked at.
    pub frontend: Option<FrontendKind>,
    /// How the endpoint was chosen, if one was.
    pub choice: Option<Choice>,
    /// Where the client's packets end up.
    pub endpoint: Option<SocketAddr>,
    /// The client's packets as they go out.
    pub outgoing: Option<Tuple>,
}

/// How an endpoint was chosen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Choice {
    /// Why those and no others.
    pub scope: Scope,
    /// Whether session affinity chose, and not chance.
    pub by_affinity: bool,
    /// Whether none was ready, so that those which still serve while they end had to do.
    pub terminating: bool,
    /// How many there were to choose from.
    pub candidates: usize,
    /// The first of them, at most sixteen.
    pub shown: Vec<SocketAddr>,
}

/// Which endpoints a client may be sent to, and why those.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    /// All of the Service.
    All,
    /// Those on the client's, or entered, node: policy Local.
    Local,
    /// Those that are meant for clients of its node.
    NearNode,
    /// Those that are meant for clients of its zone.
    NearZone,
}

/// A packet as it came and as it left, both with complete checksums.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frames {
    /// As it came; empty for a packet of our own.
    pub before: Vec<u8>,
    /// As it left; for a packet that was answered, the answer. Empty if nothing left.
    pub after: Vec<u8>,
}

/// The state of tracing while it is on.
#[derive(Debug)]
pub(crate) struct Trace {
    pub(crate) level: TraceLevel,
    /// About the packet in hand.
    pub(crate) note: FlowNote,
    pub(crate) answer: Option<Answer>,
    waiting: Vec<Traced>,
    pub(crate) lost: u64,
}

impl Trace {
    pub(crate) fn new(level: TraceLevel) -> Self {
        Self { level, note: FlowNote::default(), answer: None, waiting: Vec::new(), lost: 0 }
    }

    pub(crate) fn push(&mut self, traced: Traced) {
        if self.waiting.len() < MAX_WAITING {
            self.waiting.push(traced);
        } else {
            self.lost += 1;
        }
    }

    pub(crate) fn take(&mut self) -> Vec<Traced> {
        std::mem::take(&mut self.waiting)
    }

    /// What became of the packet in hand.
    pub(crate) fn end(&mut self, verdict: Verdict) -> TraceEnd {
        match (verdict, self.answer.take()) {
            (Verdict::Forward(port), _) => TraceEnd::Forwarded(port),
            (Verdict::Reply, answer) => TraceEnd::Answered(answer.unwrap_or(Answer::Reset)),
            (Verdict::Held, _) => TraceEnd::Held,
            (Verdict::Drop(reason), _) => TraceEnd::Dropped(reason),
        }
    }
}

impl PacketHead {
    pub(crate) fn of(bytes: &mut [u8], checksum: Checksum) -> Option<Self> {
        let packet = Packet::parse(bytes, checksum).ok()?;
        Some(Self {
            src: packet.src(),
            dst: packet.dst(),
            protocol: packet.protocol(),
            tuple: packet.tuple(),
            tcp_flags: packet.tcp_flags(),
        })
    }
}
