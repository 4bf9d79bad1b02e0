//! Which addresses a lab has: ranges of one or both IP families, checked before anything is bound or changed.
//!
//! Everything here is a function of values; reading the host's routes is the caller's.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};

use crate::args::{IpFamily, ShapeArgs};
use crate::error::CliError;

/// What flags may say of one kind of range.
struct Flag {
    name: &'static str,
    v4: Limits,
    v6: Limits,
}

/// What a range of one family is if nobody says anything, and the prefix lengths it may have.
struct Limits {
    default: IpNet,
    shortest: u8,
    longest: u8,
}

const SERVICES: Flag = Flag {
    name: "--service-cidr",
    v4: Limits { default: v4([10, 96, 0, 0], 16), shortest: 12, longest: 24 },
    v6: Limits { default: v6([0xfd00, 0x96, 0, 0], 112), shortest: 64, longest: 120 },
};
const PODS: Flag = Flag {
    name: "--pod-cidr",
    v4: Limits { default: v4([10, 244, 0, 0], 16), shortest: 8, longest: 24 },
    v6: Limits { default: v6([0xfd00, 0x244, 0, 0], 56), shortest: 16, longest: 64 },
};
const NODES: Flag = Flag {
    name: "--node-cidr",
    v4: Limits { default: v4([10, 95, 0, 0], 24), shortest: 16, longest: 25 },
    v6: Limits { default: v6([0xfd00, 0x95, 0, 0], 64), shortest: 16, longest: 120 },
};
const LOAD_BALANCERS: Flag = Flag {
    name: "--lb-cidr",
    v4: Limits { default: v4([10, 95, 1, 0], 24), shortest: 8, longest: 30 },
    v6: Limits { default: v6([0xfd00, 0x95, 0, 1], 112), shortest: 64, longest: 126 },
};

/// Offset of the cluster DNS server in the Service range, by convention the tenth address.
const DNS: u128 = 10;

/// Offsets in the node range: the workstation, the control plane, this machine (`--network host`), and the client that
/// published ports come from.
const WORKSTATION: u128 = 1;
const CONTROL_PLANE: u128 = 2;
const HOST: u128 = 3;
const PUBLISHER: u128 = 4;

/// A node's addresses and the ranges of its pods, one of every family.
pub(crate) type NodeAddresses = (Vec<IpAddr>, Vec<IpNet>);

/// Which address means what, in one IP family.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct FamilyPlan {
    pub(crate) services: IpNet,
    pub(crate) pods: IpNet,
    pub(crate) nodes: IpNet,
    pub(crate) load_balancers: IpNet,
}

impl FamilyPlan {
    /// The address that names are asked of: the tenth of the Service range.
    pub(crate) fn dns(&self) -> IpAddr {
        nth(self.services, DNS)
    }

    /// `default/kubernetes`: the first address of the Service range (S-169).
    pub(crate) fn kubernetes(&self) -> IpAddr {
        nth(self.services, 1)
    }

    /// Where `minisvc shell` types.
    pub(crate) fn workstation(&self) -> IpAddr {
        nth(self.nodes, WORKSTATION)
    }

    /// Where the API and DNS listen for pods.
    pub(crate) fn control_plane(&self) -> IpAddr {
        nth(self.nodes, CONTROL_PLANE)
    }

    /// This machine itself, when it is connected.
    pub(crate) fn host(&self) -> IpAddr {
        nth(self.nodes, HOST)
    }

    /// Whom pods see when this machine uses a published port.
    pub(crate) fn publisher(&self) -> IpAddr {
        nth(self.nodes, PUBLISHER)
    }

    /// The machine itself as pods and the workstation see it: the last address of an IPv4 node range, `::fe` of an IPv6 one,
    /// whose last address nobody could remember.
    pub(crate) fn machine(&self) -> IpAddr {
        match self.nodes {
            IpNet::V4(net) => IpAddr::V4(Ipv4Addr::from(u32::from(net.broadcast()).saturating_sub(1))),
            IpNet::V6(_) => nth(self.nodes, 0xfe),
        }
    }

    /// A node, counted from 0: `.11` and `::11` are the first.
    fn node(&self, index: u8) -> IpAddr {
        let first = if is_v6(self.nodes) { 0x11 } else { 11 };
        nth(self.nodes, first + u128::from(index))
    }

    /// Prefix length of the range that each node takes of the pod range.
    fn node_prefix(&self) -> u8 {
        if is_v6(self.pods) { 64 } else { 24 }
    }

    /// Every range with the flag that names it.
    fn ranges(&self) -> [(&'static str, IpNet); 4] {
        [
            (SERVICES.name, self.services),
            (PODS.name, self.pods),
            (NODES.name, self.nodes),
            (LOAD_BALANCERS.name, self.load_balancers),
        ]
    }

    /// The first subnets of the pod range, one for each of `count` nodes.
    fn pod_subnets(&self, count: u8) -> Result<Vec<IpNet>, CliError> {
        let prefix = self.node_prefix();
        // A range without room for a subnet of this length has none to give: `subnets` is then an error.
        let subnets: Vec<IpNet> =
            self.pods.subnets(prefix).map(|all| all.take(count.into()).collect()).unwrap_or_default();
        if subnets.len() < usize::from(count) {
            let flag = PODS.of(is_v6(self.pods));
            return Err(CliError::usage(format!(
                "--pod-cidr {} has room for {} nodes (a /{prefix} each), not for {count}",
                self.pods,
                subnets.len()
            ))
            .hint(format!("give a larger --pod-cidr, for example {}, or fewer --nodes", flag.default)));
        }
        Ok(subnets)
    }
}

/// Which address means what in one lab.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct AddressPlan {
    /// The family of Services that ask for none, and of everything that has one address only.
    pub(crate) primary: FamilyPlan,
    pub(crate) secondary: Option<FamilyPlan>,
}

impl AddressPlan {
    /// Checks the ranges that were asked for.
    ///
    /// # Errors
    /// The first thing that cannot be, with what to type instead.
    pub(crate) fn new(shape: &ShapeArgs) -> Result<Self, CliError> {
        let plan = |ipv6: bool| {
            let plan = FamilyPlan {
                services: SERVICES.choose(&shape.service_cidr, ipv6)?,
                pods: PODS.choose(&shape.pod_cidr, ipv6)?,
                nodes: NODES.choose(&shape.node_cidr, ipv6)?,
                load_balancers: LOAD_BALANCERS.choose(&shape.lb_cidr, ipv6)?,
            };
            check_overlaps(&plan)?;
            Ok::<_, CliError>(plan)
        };
        let (primary, secondary) = match shape.ip_family {
            IpFamily::Ipv4 => (false, None),
            IpFamily::Ipv6 => (true, None),
            IpFamily::Dual => {
                // The order of the Service ranges says which family comes first, as it does in Kubernetes (S-095).
                let ipv6_first = shape.service_cidr.first().is_some_and(|net| is_v6(*net));
                (ipv6_first, Some(!ipv6_first))
            }
        };
        for (flag, given) in [
            (&SERVICES, &shape.service_cidr),
            (&PODS, &shape.pod_cidr),
            (&NODES, &shape.node_cidr),
            (&LOAD_BALANCERS, &shape.lb_cidr),
        ] {
            flag.check_families(given, &[Some(primary), secondary])?;
        }
        Ok(Self { primary: plan(primary)?, secondary: secondary.map(plan).transpose()? })
    }

    /// Something of every family, the primary one's first.
    pub(crate) fn each<T>(&self, of: impl Fn(&FamilyPlan) -> T) -> Vec<T> {
        std::iter::once(&self.primary).chain(&self.secondary).map(of).collect()
    }

    /// Addresses and pod ranges of `count` nodes, each with one of every family.
    ///
    /// # Errors
    /// When a pod range has no room for so many.
    pub(crate) fn nodes(&self, count: u8) -> Result<Vec<NodeAddresses>, CliError> {
        let pods = self.each(|family| family.pod_subnets(count)).into_iter().collect::<Result<Vec<_>, _>>()?;
        let of_node = |index: u8| {
            let ranges = pods.iter().filter_map(|subnets| subnets.get(usize::from(index))).copied();
            (self.each(|family| family.node(index)), ranges.collect())
        };
        Ok((0..count).map(of_node).collect())
    }

    /// Refuses ranges that this machine already routes elsewhere. Only `--network host` puts routes on the host.
    ///
    /// # Errors
    /// Names the flag, the range, and the route it collides with.
    pub(crate) fn check_host_routes(&self, routes: &[IpNet]) -> Result<(), CliError> {
        let Some(Collision { flag, net, route, free }) = self.collisions(routes).into_iter().next() else {
            return Ok(());
        };
        let error = CliError::usage(format!("{flag} {net} collides with this machine's route to {route}"));
        Err(match free {
            Some(free) => error.hint(format!("type {flag} {free}")),
            None => error.hint(format!("choose another range with {flag}")),
        })
    }

    /// Every range of the lab that this machine routes elsewhere, with the first route that it collides with.
    pub(crate) fn collisions(&self, routes: &[IpNet]) -> Vec<Collision> {
        // The default route covers everything and collides with nothing.
        let routes: Vec<IpNet> = routes.iter().copied().filter(|route| route.prefix_len() > 0).collect();
        let ranges = self.each(FamilyPlan::ranges).into_iter().flatten();
        let collision = |(flag, net)| {
            let route = *routes.iter().find(|route| overlap(**route, net))?;
            let free = examples(net).find(|candidate| !routes.iter().any(|route| overlap(*route, *candidate)));
            Some(Collision { flag, net, route, free })
        };
        ranges.filter_map(collision).collect()
    }
}

/// A range of a lab that this machine routes elsewhere.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Collision {
    /// The flag that sets the range.
    pub(crate) flag: &'static str,
    pub(crate) net: IpNet,
    pub(crate) route: IpNet,
    /// A range of the same size that is not routed.
    pub(crate) free: Option<IpNet>,
}

impl Flag {
    fn of(&self, ipv6: bool) -> &Limits {
        if ipv6 { &self.v6 } else { &self.v4 }
    }

    /// At most one range of each family that the lab has, and none of another.
    fn check_families(&self, given: &[IpNet], families: &[Option<bool>]) -> Result<(), CliError> {
        let name = self.name;
        for (index, net) in given.iter().enumerate() {
            let ipv6 = is_v6(*net);
            if !families.contains(&Some(ipv6)) {
                let text = format!("{name} {net} is {}, but the lab has only {}", family(ipv6), family(!ipv6));
                return Err(CliError::usage(text)
                    .hint(format!("add --ip-family dual, or give a range such as {}", self.of(!ipv6).default)));
            }
            if given.iter().take(index).any(|other| is_v6(*other) == ipv6) {
                let pair = format!("{},{}", self.v4.default, self.v6.default);
                return Err(CliError::usage(format!("{name} has two {} ranges", family(ipv6)))
                    .hint(format!("give one of each family, for example {name} {pair}")));
            }
        }
        Ok(())
    }

    /// The range of a family that was given, or the default, and whether it can be used.
    fn choose(&self, given: &[IpNet], ipv6: bool) -> Result<IpNet, CliError> {
        let (flag, limits) = (self.name, self.of(ipv6));
        let Some(&net) = given.iter().find(|net| is_v6(**net) == ipv6) else { return Ok(limits.default) };
        if net.trunc() != net {
            return Err(CliError::usage(format!("{flag} {net} has bits set after its prefix"))
                .hint(format!("type {flag} {}", net.trunc())));
        }
        let (shortest, longest) = (limits.shortest, limits.longest);
        if !(shortest..=longest).contains(&net.prefix_len()) {
            return Err(CliError::usage(format!(
                "{flag} {net} does not fit: its prefix length must be between {shortest} and {longest}"
            ))
            .hint(format!("type {flag} {}/{longest}", net.network())));
        }
        Ok(net)
    }
}

fn check_overlaps(plan: &FamilyPlan) -> Result<(), CliError> {
    let named = plan.ranges();
    for (index, (flag, net)) in named.iter().enumerate() {
        let example = examples(*net).next().map(|net| net.to_string()).unwrap_or_default();
        if !is_unicast(*net) {
            return Err(CliError::usage(format!("{flag} {net} cannot be used: it is no unicast range"))
                .hint(format!("choose a private range, for example {flag} {example}")));
        }
        for (other_flag, other) in &named[index + 1..] {
            if overlap(*net, *other) {
                let example = examples(*other).next().map(|net| net.to_string()).unwrap_or_default();
                return Err(CliError::usage(format!("{flag} {net} and {other_flag} {other} overlap"))
                    .hint(format!("choose another range, for example {other_flag} {example}")));
            }
        }
    }
    Ok(())
}

/// Without loopback, multicast, and what in IPv6 belongs to one link or stands for an IPv4 address.
fn is_unicast(net: IpNet) -> bool {
    let loopback: IpAddr = if is_v6(net) { Ipv6Addr::LOCALHOST.into() } else { Ipv4Addr::LOCALHOST.into() };
    let special = match net.addr() {
        IpAddr::V4(_) => false,
        IpAddr::V6(address) => address.is_unicast_link_local() || address.to_ipv4_mapped().is_some(),
    };
    !net.contains(&loopback) && !net.addr().is_loopback() && !net.addr().is_multicast() && !special
}

/// Ranges as large as another that are likely to be free.
fn examples(like: IpNet) -> impl Iterator<Item = IpNet> {
    let length = like.prefix_len();
    (0..=50_u8).map(move |number| {
        let base: IpAddr = if is_v6(like) {
            Ipv6Addr::new(0xfd00, 0x200 + u16::from(number), 0, 0, 0, 0, 0, 0).into()
        } else {
            Ipv4Addr::new(10, 200 + number, 0, 0).into()
        };
        // The prefix length is that of a range of the same family.
        IpNet::new_assert(base, length).trunc()
    })
}

/// Reads the text of the kernel's IPv4 routing table: one route a line, numbers in hexadecimal and host byte order.
pub(crate) fn parse_routes(table: &str) -> Vec<IpNet> {
    let hex = |text: &str| u32::from_str_radix(text, 16).ok().map(|n| Ipv4Addr::from(n.to_le_bytes()));
    table
        .lines()
        .skip(1)
        .filter_map(|line| {
            let fields: Vec<&str> = line.split_whitespace().collect();
            let (destination, mask) = (hex(fields.get(1)?)?, hex(fields.get(7)?)?);
            Ipv4Net::with_netmask(destination, mask).ok().map(IpNet::V4)
        })
        .collect()
}

/// The same for IPv6: destination and prefix length are the first two fields, in hexadecimal.
pub(crate) fn parse_routes6(table: &str) -> Vec<IpNet> {
    let route = |line: &str| {
        let mut fields = line.split_whitespace();
        let destination = u128::from_str_radix(fields.next()?, 16).ok()?;
        let length = u8::from_str_radix(fields.next()?, 16).ok()?;
        Ipv6Net::new(Ipv6Addr::from_bits(destination), length).ok().map(IpNet::V6)
    };
    table.lines().filter_map(route).collect()
}

fn overlap(one: IpNet, other: IpNet) -> bool {
    one.contains(&other) || other.contains(&one)
}

fn is_v6(net: IpNet) -> bool {
    matches!(net, IpNet::V6(_))
}

fn family(ipv6: bool) -> &'static str {
    if ipv6 { "IPv6" } else { "IPv4" }
}

/// The address so far after the first of a range.
fn nth(net: IpNet, offset: u128) -> IpAddr {
    match net.network() {
        IpAddr::V4(base) => {
            let offset = u32::try_from(offset).unwrap_or(u32::MAX);
            IpAddr::V4(Ipv4Addr::from(u32::from(base).saturating_add(offset)))
        }
        IpAddr::V6(base) => IpAddr::V6(Ipv6Addr::from(u128::from(base).saturating_add(offset))),
    }
}

const fn v4([a, b, c, d]: [u8; 4], length: u8) -> IpNet {
    IpNet::V4(Ipv4Net::new_assert(Ipv4Addr::new(a, b, c, d), length))
}

/// From the first four groups.
const fn v6([a, b, c, d]: [u16; 4], length: u8) -> IpNet {
    IpNet::V6(Ipv6Net::new_assert(Ipv6Addr::new(a, b, c, d, 0, 0, 0, 0), length))
}

#[cfg(test)]
#[path = "addresses_tests.rs"]
mod tests;
