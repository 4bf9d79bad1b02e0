//! Pod addresses of one node: least recently used first, never one twice (P-002, P-008).

use std::collections::{BTreeSet, VecDeque};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::IpNet;

/// No range is counted further than this; it bounds what a pool may remember.
const LARGEST: u128 = 1 << 16;

/// The pod ranges of a node, one per IP family: a pod has an address of each (P-004).
#[derive(Debug)]
pub(crate) struct AddressPools(Vec<AddressPool>);

impl AddressPools {
    /// All of `nets`; addresses in `recent` were used before a restart and are given out last.
    pub(crate) fn new(nets: &[IpNet], recent: impl IntoIterator<Item = IpAddr>) -> Self {
        let recent: Vec<IpAddr> = recent.into_iter().collect();
        Self(nets.iter().map(|net| AddressPool::new(*net, recent.iter().copied())).collect())
    }

    /// One address of each range, in their order.
    ///
    /// # Errors
    /// The range that has none left; nothing is taken then.
    pub(crate) fn allocate(&mut self) -> Result<Vec<IpAddr>, IpNet> {
        let mut taken = Vec::with_capacity(self.0.len());
        for index in 0..self.0.len() {
            let Some(pool) = self.0.get_mut(index) else { break };
            match pool.allocate() {
                Some(address) => taken.push(address),
                None => {
                    let net = pool.net;
                    self.release(&taken);
                    return Err(net);
                }
            }
        }
        Ok(taken)
    }

    /// Gives addresses back; those that are not in use are ignored.
    pub(crate) fn release(&mut self, addresses: &[IpAddr]) {
        for pool in &mut self.0 {
            for address in addresses {
                pool.release(*address);
            }
        }
    }
}

/// The addresses of a node's pod range that pods may have.
///
/// The first and last address of the range and the one after the first (by custom the gateway) are never given out.
#[derive(Debug)]
struct AddressPool {
    net: IpNet,
    /// Offset of the next address that was never given out.
    fresh: u128,
    /// One past the last usable offset.
    end: u128,
    /// Used in an earlier run, and so in `returned` although `fresh` may not have come to it.
    earlier: BTreeSet<IpAddr>,
    /// Given back, longest ago first.
    returned: VecDeque<IpAddr>,
    taken: BTreeSet<IpAddr>,
}

impl AddressPool {
    /// All of `net`; addresses in `recent` were used before a restart and are given out last.
    fn new(net: IpNet, recent: impl IntoIterator<Item = IpAddr>) -> Self {
        let bits = u32::from(net.max_prefix_len() - net.prefix_len());
        let size = 1_u128.checked_shl(bits).unwrap_or(LARGEST).min(LARGEST);
        let end = size.saturating_sub(1);
        let usable = |address: &IpAddr| offset(&net, *address).is_some_and(|offset| (2..end).contains(&offset));
        let earlier: BTreeSet<IpAddr> = recent.into_iter().filter(usable).collect();
        let returned = earlier.iter().copied().collect();
        Self { net, fresh: 2, end, earlier, returned, taken: BTreeSet::new() }
    }

    /// The address whose last use is longest ago, or `None` when all are in use.
    fn allocate(&mut self) -> Option<IpAddr> {
        let address = self.next_fresh().or_else(|| self.returned.pop_front())?;
        self.taken.insert(address);
        Some(address)
    }

    /// Gives an address back; one that is not in use is ignored.
    fn release(&mut self, address: IpAddr) {
        if self.taken.remove(&address) {
            self.returned.push_back(address);
        }
    }

    fn next_fresh(&mut self) -> Option<IpAddr> {
        while self.fresh < self.end {
            let address = at(&self.net, self.fresh)?;
            self.fresh += 1;
            if !self.earlier.contains(&address) {
                return Some(address);
            }
        }
        None
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

    // P-004
    #[test]
    fn a_pod_gets_an_address_of_each_family_or_none() {
        let mut pools = AddressPools::new(&[net("10.244.1.0/29"), net("fd00:244::/125")], []);
        let text = |addresses: Vec<IpAddr>| addresses.iter().map(ToString::to_string).collect::<Vec<_>>();
        let first = pools.allocate().expect("free");
        assert_eq!(text(first.clone()), ["10.244.1.2", "fd00:244::2"]);
        pools.release(&first[1..]);
        let mut lopsided: Vec<_> = (0..4).map(|_| text(pools.allocate().expect("free"))).collect();
        assert_eq!(lopsided.pop(), Some(vec!["10.244.1.6".to_owned(), "fd00:244::6".to_owned()]));
        // Only the IPv4 range is used up; what was taken of the other is given back.
        assert_eq!(pools.allocate(), Err(net("10.244.1.0/29")));
        pools.release(&first);
        assert_eq!(text(pools.allocate().expect("free")), ["10.244.1.2", "fd00:244::2"]);
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
