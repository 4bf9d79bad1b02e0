//! Choosing a free number or address: pure functions of a range, what is taken, and one random number.
//!
//! Both pools have a lower band that is left to explicit requests as long as the upper one has room (S-107, S-108,
//! S-121), so that whoever asks for a particular number there will usually find it free.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::ops::RangeInclusive;

use ipnet::IpNet;

/// A range of consecutive candidates, counted from 0, the first `band` of which are used last.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Candidates {
    count: u128,
    band: u128,
}

impl Candidates {
    /// The first free candidate, starting at a random one above the band, then from the start of the band.
    ///
    /// `random(n)` yields a number below `n` and is asked at most once, with `n > 0`.
    fn choose(self, random: impl FnOnce(u64) -> u64, taken: impl Fn(u128) -> bool) -> Option<u128> {
        let upper = self.count - self.band;
        let start = match u64::try_from(upper) {
            Ok(0) => 0,
            Ok(bound) => u128::from(random(bound)) % upper,
            // More candidates than a random number can address: start among the first 2⁶⁴.
            Err(_) => u128::from(random(u64::MAX)),
        };
        let first = self.band + start;
        (first..self.count).chain(self.band..first).chain(0..self.band).find(|index| !taken(*index))
    }
}

/// The usable addresses of a Service range: without the network address, and without the broadcast address of IPv4
/// (S-106).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct AddressPool {
    range: IpNet,
    candidates: Candidates,
}

impl AddressPool {
    pub(super) fn new(range: IpNet) -> Self {
        let range = range.trunc();
        let host_bits = u32::from(range.max_prefix_len() - range.prefix_len());
        // A range of 2¹²⁸ addresses would be the whole of IPv6; one less does no harm.
        let size = 1_u128.checked_shl(host_bits).unwrap_or(u128::MAX);
        let unusable = if range.addr().is_ipv4() { 2 } else { 1 };
        let count = size.saturating_sub(unusable);
        Self { range, candidates: Candidates { count, band: band(size, 16, 16, 256).min(count) } }
    }

    /// The address that stands for the whole range; never handed out.
    pub(super) fn network(&self) -> IpAddr {
        self.range.addr()
    }

    /// Whether the address is in the range, be it usable or not.
    pub(super) fn contains(&self, address: IpAddr) -> bool {
        self.range.contains(&address)
    }

    /// Whether the address may be handed out.
    pub(super) fn is_usable(&self, address: IpAddr) -> bool {
        let offset = number(address).checked_sub(number(self.range.addr()));
        self.contains(address) && offset.is_some_and(|offset| (1..=self.candidates.count).contains(&offset))
    }

    /// A free address, or nothing when all are taken (S-108).
    pub(super) fn choose(&self, random: impl FnOnce(u64) -> u64, taken: impl Fn(IpAddr) -> bool) -> Option<IpAddr> {
        self.candidates.choose(random, |index| taken(self.address(index))).map(|index| self.address(index))
    }

    fn address(&self, index: u128) -> IpAddr {
        let number = number(self.range.addr()).wrapping_add(index + 1);
        match self.range.addr() {
            // The range is IPv4, so its numbers have 32 bits.
            IpAddr::V4(_) => Ipv4Addr::from(u32::try_from(number).unwrap_or(u32::MAX)).into(),
            IpAddr::V6(_) => Ipv6Addr::from(number).into(),
        }
    }
}

/// The range of node ports.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct PortPool {
    range: RangeInclusive<u16>,
    candidates: Candidates,
}

impl PortPool {
    pub(super) fn new(range: RangeInclusive<u16>) -> Self {
        let count = u128::try_from(range.len()).unwrap_or_default();
        Self { range, candidates: Candidates { count, band: band(count, 16, 32, 128) } }
    }

    /// Whether the number is a node port.
    pub(super) fn contains(&self, number: i64) -> bool {
        u16::try_from(number).is_ok_and(|number| self.range.contains(&number))
    }

    /// `30000-32767`
    pub(super) fn describe(&self) -> String {
        format!("{}-{}", self.range.start(), self.range.end())
    }

    /// A free port, or nothing when all are taken (S-121).
    pub(super) fn choose(&self, random: impl FnOnce(u64) -> u64, taken: impl Fn(u16) -> bool) -> Option<u16> {
        let port = |index: u128| self.range.start().saturating_add(u16::try_from(index).unwrap_or(u16::MAX));
        self.candidates.choose(random, |index| taken(port(index))).map(port)
    }
}

/// The size of the lower band: a share of the range between two bounds, none in a small range (S-107, S-121).
fn band(size: u128, low: u128, share: u128, high: u128) -> u128 {
    if size <= low { 0 } else { (size / share).clamp(low, high) }
}

fn number(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(v4) => u128::from(u32::from(v4)),
        IpAddr::V6(v6) => u128::from(v6),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    fn pool(range: &str) -> AddressPool {
        AddressPool::new(range.parse().unwrap())
    }

    /// The first and last address of the lower band.
    fn lower_band(range: &str) -> Option<(String, String)> {
        let pool = pool(range);
        let last = pool.candidates.band.checked_sub(1)?;
        Some((pool.address(0).to_string(), pool.address(last).to_string()))
    }

    // S-107
    #[test]
    fn the_lower_band_grows_with_the_range() {
        let rows = [
            ("10.0.0.0/28", None),
            ("10.0.0.0/27", Some(("10.0.0.1", "10.0.0.16"))),
            ("10.0.0.0/24", Some(("10.0.0.1", "10.0.0.16"))),
            ("10.0.0.0/23", Some(("10.0.0.1", "10.0.0.32"))),
            ("10.0.0.0/20", Some(("10.0.0.1", "10.0.1.0"))),
            ("10.96.0.0/16", Some(("10.96.0.1", "10.96.1.0"))),
            ("fd00::/112", Some(("fd00::1", "fd00::100"))),
            ("fd00::/64", Some(("fd00::1", "fd00::100"))),
        ];
        for (range, expected) in rows {
            assert_eq!(lower_band(range), expected.map(|(a, b)| (a.to_owned(), b.to_owned())), "{range}");
        }
    }

    // S-121
    #[test]
    fn node_ports_below_30086_are_used_last() {
        let ports = PortPool::new(30000..=32767);
        assert_eq!(ports.candidates.band, 86);
        assert_eq!(ports.choose(|_| 0, |_| false), Some(30086));
        assert_eq!(ports.choose(|bound| bound - 1, |_| false), Some(32767));
        assert_eq!(ports.choose(|_| 0, |port| port >= 30086), Some(30000));
        assert_eq!(ports.choose(|_| 0, |_| true), None);
        assert_eq!(PortPool::new(30000..=30015).candidates.band, 0);
    }

    // S-106, S-114
    #[test]
    fn network_and_broadcast_are_never_handed_out() {
        let rows = [
            ("10.0.0.0/30", &["10.0.0.1", "10.0.0.2"][..]),
            ("10.0.0.0/31", &[]),
            ("10.0.0.0/32", &[]),
            ("fd00::/126", &["fd00::1", "fd00::2", "fd00::3"]),
        ];
        for (range, expected) in rows {
            let pool = pool(range);
            let mut taken = BTreeSet::new();
            while let Some(address) = pool.choose(|_| 0, |address| taken.contains(&address)) {
                taken.insert(address);
            }
            let found: Vec<String> = taken.iter().map(IpAddr::to_string).collect();
            assert_eq!(found, expected, "{range}");
        }
        assert!(!pool("10.0.0.0/24").is_usable("10.0.0.255".parse().unwrap()));
        assert!(!pool("10.0.0.0/24").is_usable("10.0.1.1".parse().unwrap()));
        assert!(pool("fd00::/64").is_usable("fd00::ffff:ffff:ffff:ffff".parse().unwrap()));
    }

    // S-108
    #[test]
    fn the_walk_starts_at_random_and_wraps_within_the_upper_band() {
        let pool = pool("10.0.0.0/24");
        let at = |start: u64, taken: &[&str]| {
            let taken: Vec<IpAddr> = taken.iter().map(|ip| ip.parse().unwrap()).collect();
            pool.choose(|_| start, |ip| taken.contains(&ip)).unwrap().to_string()
        };
        assert_eq!(at(0, &[]), "10.0.0.17");
        assert_eq!(at(237, &[]), "10.0.0.254");
        assert_eq!(at(237, &["10.0.0.254"]), "10.0.0.17");
        let upper: Vec<String> = (17..=254).map(|last| format!("10.0.0.{last}")).collect();
        let upper: Vec<&str> = upper.iter().map(String::as_str).collect();
        assert_eq!(at(100, &upper), "10.0.0.1");
    }

    proptest! {
        // S-103, S-106
        #[test]
        fn every_address_is_handed_out_once(prefix in 25_u8..=32, dice in prop::collection::vec(any::<u64>(), 1..64)) {
            let range = IpNet::new("10.96.0.0".parse().unwrap(), prefix).unwrap().trunc();
            let pool = AddressPool::new(range);
            let mut taken = BTreeSet::new();
            let mut dice = dice.into_iter().cycle();
            while let Some(address) = pool.choose(|bound| dice.next().unwrap() % bound, |a| taken.contains(&a)) {
                prop_assert!(pool.is_usable(address));
                prop_assert!(range.contains(&address) && address != range.network() && address != range.broadcast());
                prop_assert!(taken.insert(address), "{} was handed out twice", address);
            }
            let usable = (1_usize << (32 - prefix)).saturating_sub(2);
            prop_assert_eq!(taken.len(), usable);
        }

        // S-121
        #[test]
        fn every_port_is_handed_out_once(start in 1_u16..60_000, length in 0_u16..200, dice in any::<u64>()) {
            let pool = PortPool::new(start..=start + length);
            let mut taken = BTreeSet::new();
            while let Some(port) = pool.choose(|bound| dice % bound, |p| taken.contains(&p)) {
                prop_assert!(pool.contains(i64::from(port)));
                prop_assert!(taken.insert(port), "{} was handed out twice", port);
            }
            prop_assert_eq!(taken.len(), usize::from(length) + 1);
        }

        // S-108
        #[test]
        fn a_free_address_above_the_band_is_preferred(dice in any::<u64>(), holes in prop::collection::btree_set(17_u8..=254, 1..20)) {
            let pool = pool("10.0.0.0/24");
            let last = |address: IpAddr| match address { IpAddr::V4(v4) => v4.octets()[3], IpAddr::V6(_) => 0 };
            let found = pool.choose(|bound| dice % bound, |a| last(a) > 16 && !holes.contains(&last(a))).unwrap();
            prop_assert!(holes.contains(&last(found)));
        }
    }
}
