//! ICMP errors: those that pass, and our own.

use std::time::{Duration, Instant};

use super::{DropReason, ErrorKind, Outcome, Packet, PortId, Translator, Transport};

impl Translator {
    /// An error about a packet of a flow is translated as the flow's packets are, inside and outside (D-105, D-106).
    pub(super) fn icmp_error(&mut self, from: PortId, packet: &mut Packet<'_>, now: Instant) -> Outcome {
        // The quoted packet went the other way: what would answer it is what we know the flow by.
        let Some(quoted) = packet.quoted_tuple() else { return self.pass(packet) };
        let Some((slot, direction)) = self.flows.find(&quoted.reversed(), now) else { return self.pass(packet) };
        let Some(flow) = self.flows.get(slot) else { return self.pass(packet) };
        let (src, dst) = (packet.src(), packet.dst());
        // Errors come from the end that got the packet, and go to the end that sent it.
        if *flow.ports.get(direction) != from || dst != quoted.src {
            return Outcome::Drop(DropReason::UnrelatedIcmp);
        }
        let outgoing = flow.outgoing(direction);
        let port = *flow.ports.get(direction.other());
        packet.rewrite_quoted(&outgoing.reversed());
        // An address on the way, other than the end's own, stays: it is what a traceroute wants to know.
        packet.rewrite_addresses(if src == quoted.dst { outgoing.src } else { src }, outgoing.dst);
        packet.decrement_ttl();
        Outcome::Forward(port)
    }

    /// Builds an ICMP error about a packet, unless RFC 1122 3.2.2 or RFC 4443 2.4 forbid it or too many were sent.
    pub(super) fn build_error(&mut self, packet: &Packet<'_>, kind: ErrorKind, now: Instant) -> Result<(), DropReason> {
        if packet.is_icmp_error() || matches!(packet.transport(), Transport::Tail(_)) {
            return Err(DropReason::Unanswerable);
        }
        if !self.icmp_limit.allow(now) {
            return Err(DropReason::IcmpLimit);
        }
        if let Some(trace) = &mut self.trace {
            trace.answer = Some(kind.into());
        }
        let reporter = self.reporter(packet.src(), packet.dst());
        self.scratch.clear();
        crate::packet::icmp_error(&mut self.scratch, reporter, packet, kind);
        self.counters.icmp_errors += 1;
        Ok(())
    }
}

/// A token bucket. Tokens are counted in nanoseconds of waiting, so that nothing is lost to rounding.
#[derive(Debug)]
pub(super) struct IcmpLimit {
    /// What one message costs; `None` if none may be sent.
    cost: Option<Duration>,
    most: Duration,
    saved: Duration,
    then: Option<Instant>,
}

impl IcmpLimit {
    pub(super) fn new(per_second: u32, burst: u32) -> Self {
        let cost = Duration::from_secs(1).checked_div(per_second);
        let most = cost.unwrap_or_default().saturating_mul(burst.max(1));
        Self { cost, most, saved: most, then: None }
    }

    fn allow(&mut self, now: Instant) -> bool {
        let Some(cost) = self.cost else { return false };
        let passed = self.then.map_or(Duration::ZERO, |then| now.saturating_duration_since(then));
        self.then = Some(now);
        self.saved = self.saved.saturating_add(passed).min(self.most);
        match self.saved.checked_sub(cost) {
            Some(rest) => {
                self.saved = rest;
                true
            }
            None => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_passes_and_then_the_rate() {
        let start = Instant::now();
        let mut limit = IcmpLimit::new(10, 5);
        let passed = |limit: &mut IcmpLimit, at: Instant| (0..100).filter(|_| limit.allow(at)).count();
        assert_eq!(passed(&mut limit, start), 5);
        assert_eq!(passed(&mut limit, start + Duration::from_millis(250)), 2);
        assert_eq!(passed(&mut limit, start + Duration::from_millis(300)), 1);
        assert_eq!(passed(&mut limit, start + Duration::from_secs(60)), 5);
        assert_eq!(passed(&mut IcmpLimit::new(0, 5), start), 0);
    }
}
