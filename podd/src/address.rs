//! Pod addresses of one node: least recently used first, never one twice (P-002, P-008).

use std::collections::{BTreeSet, VecDeque};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::IpNet;

/// No range is counted further than this; it bounds what the pool may remember.
const LARGEST: u128 = 1 << 20;

/// The addresses of a node's pod range that pods may have.
///
/// The first and last address of the range and the one after the first (by custom the gateway) are never given out.
#[derive(Debug)]
pub(crate) struct AddressPool {
    net: IpNet,
    /// Offset of the next address that was never given out.
    fresh: u128,
    /// One past the last usable offset.
    end: u128,
    /// Given back, longest ago first.
    returned: VecDeque<IpAddr>,
    taken: BTreeSet<IpAddr>,
}

impl AddressPool {
    /// All of `net`; addresses in `recent` were used before a restart and are given out last.
    pub(crate) fn new(net: IpNet, recent: impl IntoIterator<Item = IpAddr>) -> Self {
        let bits = u32::from(net.max_prefix_len() - net.prefix_len());
        let size = 1_u128.checked_shl(bits).unwrap_or(LARGEST).min(LARGEST);
        let mut pool =
            Self { net, fresh: 2, end: size.saturating_sub(1), returned: VecDeque::new(), taken: BTreeSet::new() };
        let mut recent: Vec<_> = recent.into_iter().filter(|address| pool.usable(*address)).collect();
        recent.sort_unstable();
        recent.dedup();
        pool.returned.extend(recent);
        pool
    }

    /// The address whose last use is longest ago, or `None` when all are in use.
    pub(crate) fn allocate(&mut self) -> Option<IpAddr> {
        let address = self.next_fresh().or_else(|| self.returned.pop_front())?;
        self.taken.insert(address);
        Some(address)
    }

    /// Gives an address back; one that is not in use is ignored.
    pub(crate) fn release(&mut self, address: IpAddr) {
        if self.taken.remove(&address) {
            self.returned.push_back(address);
        }
    }

    fn next_fresh(&mut self) -> Option<IpAddr> {
        while self.fresh < self.end {
            let address = at(&self.net, self.fresh)?;
            self.fresh += 1;
            // Linear, but `returned` holds what an earlier run used, and only until the range has been walked once.
            if !self.returned.contains(&address) {
                return Some(address);
            }
        }
        None
    }

    fn usable(&self, address: IpAddr) -> bool {
        offset(&self.net, address).is_some_and(|offset| (2..self.end).contains(&offset))
    }
}

fn offset(net: &IpNet, address: IpAddr) -> Option<u128> {
    match (net.network(), address) {
        (IpAddr::V4(base), IpAddr::V4(address)) => u32::from(address).checked_sub(base.into()).map(u128::from),
        (IpAddr::V6(base), IpAddr::V6(address)) => u128::from(address).checked_sub(base.into()),
        _ => None,
    }
}

fn at(net: &IpNet, offset: u128) -> Option<IpAddr> {
    match net.network() {
        IpAddr::V4(base) => {
            let offset = u32::try_from(offset).ok()?;
            u32::from(base).checked_add(offset).map(|bits| IpAddr::V4(Ipv4Addr::from(bits)))
        }
        IpAddr::V6(base) => u128::from(base).checked_add(offset).map(|bits| IpAddr::V6(Ipv6Addr::from(bits))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn net(text: &str) -> IpNet {
        text.parse().expect("a network")
    }

    fn pool(text: &str) -> AddressPool {
        AddressPool::new(net(text), [])
    }

    #[test]
    fn edges_and_gateway_are_not_given_out() {
        let mut pool = pool("10.244.1.0/29");
        let all: Vec<_> = std::iter::from_fn(|| pool.allocate()).map(|a| a.to_string()).collect();
        assert_eq!(all, ["10.244.1.2", "10.244.1.3", "10.244.1.4", "10.244.1.5", "10.244.1.6"]);
    }

    // P-008
    #[test]
    fn a_returned_address_comes_back_last() {
        let mut pool = pool("10.244.1.0/29");
        let first = pool.allocate().expect("free");
        pool.release(first);
        let next: Vec<_> = (0..5).map(|_| pool.allocate().expect("free")).collect();
        assert_eq!(next.iter().position(|a| *a == first), Some(4));
    }

    // P-008
    #[test]
    fn addresses_of_an_earlier_run_come_last() {
        let used: IpAddr = "10.244.1.2".parse().expect("an address");
        let stranger: IpAddr = "10.9.9.9".parse().expect("an address");
        let mut pool = AddressPool::new(net("10.244.1.0/29"), [used, stranger]);
        let all: Vec<_> = std::iter::from_fn(|| pool.allocate()).collect();
        assert_eq!(all.len(), 5);
        assert_eq!(all.last(), Some(&used));
    }

    #[test]
    fn ipv6_ranges_are_bounded_but_work() {
        let mut pool = pool("fd00:244::/64");
        assert_eq!(pool.allocate(), Some("fd00:244::2".parse().expect("an address")));
    }

    proptest! {
        // P-002, P-008
        #[test]
        fn no_address_twice_and_always_the_least_recently_used(steps in proptest::collection::vec(any::<Option<u8>>(), 0..400)) {
            let mut pool = pool("10.244.3.0/27");
            let mut held: Vec<IpAddr> = Vec::new();
            // The model: every usable address, the one unused for longest in front.
            let mut queue: VecDeque<IpAddr> = (2..31).map(|n| IpAddr::from([10, 244, 3, n])).collect();
            for step in steps {
                match step {
                    None => {
                        let expected = queue.pop_front();
                        let got = pool.allocate();
                        prop_assert_eq!(got, expected);
                        if let Some(address) = got {
                            prop_assert!(!held.contains(&address));
                            held.push(address);
                        }
                    }
                    Some(pick) if !held.is_empty() => {
                        let address = held.swap_remove(usize::from(pick) % held.len());
                        pool.release(address);
                        pool.release(address);
                        queue.push_back(address);
                    }
                    Some(_) => {}
                }
            }
        }
    }
}
