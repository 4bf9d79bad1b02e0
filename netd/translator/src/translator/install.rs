//! A new table: flows go on, except those that cannot.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Instant;

use super::{Direction, Flow, FlowRecord, Frontend, PortId, Protocol, ServiceTable, Translator};
use crate::packet::{abort_for, reset_for};

impl Translator {
    /// Puts another table in place of the one in use.
    ///
    /// Flows keep their endpoints whatever the new table says about Services (D-003, D-089), except that flows whose
    /// client or endpoint has left the network end, with a RST to the side that is still there (D-090), and UDP flows
    /// whose endpoint no longer serves end (D-080 … D-086). The work depends on what the two tables do not share, and on how
    /// many flows there are if an address has moved or a frontend of UDP has changed.
    ///
    /// Returns the table that was in use: freeing one that shares little takes a while, and is better done elsewhere.
    pub fn install(&mut self, table: Arc<ServiceTable>, now: Instant) -> Arc<ServiceTable> {
        let old = std::mem::replace(&mut self.table, table);
        self.flows.handle_timeout(now);
        self.sever(&old);
        self.clear_udp(&old);
        old
    }

    fn sever(&mut self, old: &ServiceTable) {
        let moved = old.moved_addresses(&self.table);
        let moved_outside = old.outside().filter(|_| old.outside() != self.table.outside());
        if moved.is_empty() && moved_outside.is_none() {
            return;
        }
        self.fragments.clear();
        let has_left = |addr: IpAddr, port: PortId| moved.contains(&addr) || moved_outside == Some(port);
        let slots = self.flows.slots(|flow| {
            has_left(flow.tuples.original.src, flow.ports.original) || has_left(flow.tuples.reply.src, flow.ports.reply)
        });
        let mut severed = Vec::with_capacity(slots.len());
        for slot in slots {
            let Some(flow) = self.flows.remove(slot) else { continue };
            self.counters.flows_severed += 1;
            severed.push(FlowRecord::from(&flow));
            if flow.tuples.original.protocol == Protocol::Udp || flow.state.is_over() {
                continue;
            }
            if !has_left(flow.tuples.original.src, flow.ports.original) {
                self.announce_end(&flow, Direction::Original);
            }
            if !has_left(flow.tuples.reply.src, flow.ports.reply) {
                self.announce_end(&flow, Direction::Reply);
            }
        }
        // Of more than are remembered, the newest: those were open, or being opened, when their end left.
        severed.sort_by_key(|flow| flow.created);
        severed.into_iter().for_each(|flow| self.severed.remember(flow));
    }

    /// Resets a connection, or aborts an association, at the end whose packets go in this direction.
    ///
    /// The sequence number is the one after the last byte it was sent. If that byte was lost it does not fit exactly;
    /// the end then asks back (RFC 5961 3.2), and is answered as without a flow.
    fn announce_end(&mut self, flow: &Flow, end: Direction) {
        let mut packet = Vec::new();
        let (to_end, next) = (flow.outgoing(end.other()), flow.next.get(end.other()).unwrap_or_default());
        match to_end.protocol {
            Protocol::Sctp => abort_for(&mut packet, &to_end, next, false, false),
            _ => reset_for(&mut packet, &to_end, next, *flow.next.get(end)),
        }
        self.counters.resets += 1;
        self.queue(*flow.ports.get(end), packet);
    }

    fn clear_udp(&mut self, old: &ServiceTable) {
        // D-080: only where endpoints have changed.
        if self.flows.udp() == 0 || !old.has_other_datagrams(&self.table) {
            return;
        }
        let table = Arc::clone(&self.table);
        for slot in self.flows.slots(|flow| is_stale(&table, flow)) {
            self.flows.remove(slot);
            self.counters.flows_cleared += 1;
        }
    }
}

/// Whether a UDP flow must not go on, because it would go on for ever with an endpoint that is none (D-082).
fn is_stale(table: &ServiceTable, flow: &Flow) -> bool {
    let asked = flow.tuples.original;
    if asked.protocol != Protocol::Udp {
        return false;
    }
    let frontend = Frontend { addr: asked.dst, protocol: asked.protocol, port: asked.dst_port };
    let target = table.frontend(&frontend);
    if flow.service.is_some() {
        let endpoint = flow.endpoint();
        target.is_none_or(|target| !target.service.is_serving(endpoint.ip(), endpoint.port()))
    } else {
        // D-084: it began when there was no such Service, and would never get to it.
        target.is_some_and(|target| !target.service.cluster_set().is_empty())
    }
}
