//! Flows to addresses that are not a Service's: routed as they are.
//!
//! They are in the flow table nevertheless, because a flow through a VIP may end up at the same backend from the same
//! source address and port; the answers of the two could not be told apart (D-119).

use std::net::IpAddr;
use std::time::Instant;

use super::{Both, DropReason, Flow, Outcome, Packet, PortId, Translator, Tuple, ends, first_state, sighting};

/// Ports below are left to servers, as Linux' fully random selection does for a client's port above it (D-046).
const FIRST_PORT: u16 = 1024;
/// How many source ports are tried: with fewer than 99 in 100 taken, one in 512 is free for all practical purposes.
const MOST_TRIES: u16 = 512;

impl Translator {
    pub(super) fn open_direct(
        &mut self,
        from: PortId,
        to: PortId,
        packet: &mut Packet<'_>,
        tuple: Tuple,
        now: Instant,
    ) -> Outcome {
        // What ends no known flow begins none.
        if !ends(packet) {
            let Some(reply) = self.reserve(&tuple, tuple.reversed(), Some(tuple.src_port), now) else {
                return Outcome::Drop(DropReason::NoFreePort);
            };
            let ports = Both { original: from, reply: to };
            let flow = Flow::new(tuple, reply, ports, None, first_state(packet), now);
            match self.flows.insert(flow, sighting(packet), now) {
                Ok(()) => {
                    self.counters.flows_created += 1;
                    self.note_opened(tuple.destination(), reply);
                }
                // Without a record it can be passed on as it is, but not with another port.
                Err(_) if reply == tuple.reversed() => self.counters.untracked += 1,
                Err(_) => return Outcome::Drop(DropReason::FlowLimit),
            }
            packet.rewrite(&reply.reversed());
        }
        packet.decrement_ttl();
        Outcome::Forward(to)
    }

    /// Finds a reply tuple that no flow has, nor the other direction of this one: with the preferred destination port
    /// if that is free, else with one at random (D-044, D-046, D-119).
    pub(super) fn reserve(
        &mut self,
        original: &Tuple,
        mut reply: Tuple,
        preferred: Option<u16>,
        now: Instant,
    ) -> Option<Tuple> {
        let mut is_free = |reply: Tuple| reply != *original && self.flows.find(&reply, now).is_none();
        if let Some(port) = preferred {
            reply.dst_port = port;
            if is_free(reply) {
                return Some(reply);
            }
            self.counters.ports_changed += 1;
        }
        let span = u16::MAX - FIRST_PORT;
        let start = u16::try_from(self.random.below(usize::from(span) + 1)).unwrap_or_default();
        (0..MOST_TRIES).find_map(|step| {
            // Both are below 2¹⁶, so the sum fits; the remainder keeps it within the span.
            let offset = (u32::from(start) + u32::from(step)) % (u32::from(span) + 1);
            reply.dst_port = FIRST_PORT + u16::try_from(offset).unwrap_or_default();
            is_free(reply).then_some(reply)
        })
    }

    /// The address that ICMP errors to a client come from: its node's (D-037), else any node's, else the one it asked.
    pub(super) fn reporter(&self, client: IpAddr, asked: IpAddr) -> IpAddr {
        let node = self.table.route(client).and_then(|route| route.role.node());
        node.and_then(|node| self.table.node_address(node, client))
            .or_else(|| self.table.any_node_address(client))
            .unwrap_or(asked)
    }
}
