//! What a lab will look like, decided and checked before anything is bound or changed.
//!
//! Everything here is a function of values; reading files and the host's routes is the caller's.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use ipnet::{IpNet, Ipv4Net};

use crate::args::{NetworkMode, Publish, ShapeArgs, Switch};
use crate::error::CliError;

/// Default domain of cluster names.
pub(crate) const CLUSTER_DOMAIN: &str = "cluster.local";

/// The port where the API listens if nothing else is asked for and it is free.
pub(crate) const DEFAULT_API_PORT: u16 = 6443;

/// Prefix length of the range that each node takes of the pod range.
const NODE_POD_PREFIX: u8 = 24;

/// Offsets in the node range: the workstation, the control plane, this machine (`--network host`), the client that published
/// ports come from, and the first node.
const WORKSTATION: u32 = 1;
const CONTROL_PLANE: u32 = 2;
const HOST: u32 = 3;
const PUBLISHER: u32 = 4;
const FIRST_NODE: u32 = 11;

/// The port that name servers are asked at unless another is named.
const DNS_PORT: u16 = 53;

/// Offset of the cluster DNS server in the Service range, by convention the tenth address.
const DNS_OFFSET: u32 = 10;

/// Which address means what in one lab.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct AddressPlan {
    pub(crate) services: Ipv4Net,
    pub(crate) pods: Ipv4Net,
    pub(crate) nodes: Ipv4Net,
    pub(crate) load_balancers: Ipv4Net,
}

impl AddressPlan {
    /// The address that names are asked of: the tenth of the Service range.
    pub(crate) fn dns(&self) -> IpAddr {
        nth(self.services, DNS_OFFSET)
    }

    /// `default/kubernetes`: the first address of the Service range (S-169).
    pub(crate) fn kubernetes(&self) -> IpAddr {
        nth(self.services, 1)
    }

    /// Where `minisvc shell` types.
    pub(crate) fn workstation(&self) -> IpAddr {
        nth(self.nodes, WORKSTATION)
    }

    /// This machine itself, when it is connected.
    pub(crate) fn host(&self) -> IpAddr {
        nth(self.nodes, HOST)
    }

    /// Whom pods see when this machine uses a published port.
    pub(crate) fn publisher(&self) -> IpAddr {
        nth(self.nodes, PUBLISHER)
    }

    /// The machine itself as pods and the workstation see it: the last address of the node range.
    pub(crate) fn machine(&self) -> IpAddr {
        IpAddr::V4(Ipv4Addr::from(u32::from(self.nodes.broadcast()).saturating_sub(1)))
    }

    /// Every range with the flag that names it.
    fn ranges(&self) -> [(&'static str, Ipv4Net); 4] {
        [
            ("--service-cidr", self.services),
            ("--pod-cidr", self.pods),
            ("--node-cidr", self.nodes),
            ("--lb-cidr", self.load_balancers),
        ]
    }

    /// Where the API and DNS listen for pods.
    pub(crate) fn control_plane(&self) -> IpAddr {
        nth(self.nodes, CONTROL_PLANE)
    }
}

/// One virtual node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct NodePlan {
    pub(crate) name: String,
    pub(crate) address: IpAddr,
    pub(crate) zone: String,
    pub(crate) pods: IpNet,
}

/// A checked description of a lab.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct LabConfig {
    pub(crate) name: String,
    pub(crate) network: NetworkMode,
    pub(crate) addresses: AddressPlan,
    pub(crate) nodes: Vec<NodePlan>,
    /// `None`: [`DEFAULT_API_PORT`] if it is free, else any.
    pub(crate) api_port: Option<u16>,
    pub(crate) images: BTreeMap<String, Vec<String>>,
    /// Where names outside the cluster are asked.
    pub(crate) upstreams: Vec<SocketAddr>,
    /// Whether what is outside can be reached from inside.
    pub(crate) egress: bool,
    pub(crate) publish: Publish,
    /// Where Services are published; `None`: on loopback addresses that mirror theirs.
    pub(crate) publish_address: Option<IpAddr>,
}

impl LabConfig {
    /// Checks what was asked for. `resolv_conf` is the host's resolver file.
    ///
    /// # Errors
    /// The first thing that cannot be, with what to type instead.
    pub(crate) fn new(name: &str, shape: &ShapeArgs, resolv_conf: &str) -> Result<Self, CliError> {
        check_name(name)?;
        let addresses = AddressPlan {
            services: range("--service-cidr", shape.service_cidr, 12, 24)?,
            pods: range("--pod-cidr", shape.pod_cidr, 8, NODE_POD_PREFIX)?,
            nodes: range("--node-cidr", shape.node_cidr, 16, 25)?,
            load_balancers: range("--lb-cidr", shape.lb_cidr, 8, 30)?,
        };
        check_overlaps(&addresses)?;
        let nodes = plan_nodes(&addresses, shape.nodes)?;
        let images = shape.images.iter().map(|image| parse_image(image)).collect::<Result<_, _>>()?;
        let upstreams = upstreams(&shape.dns_upstreams, resolv_conf)?;
        Ok(Self {
            name: name.to_owned(),
            network: shape.network,
            addresses,
            nodes,
            api_port: shape.api_port,
            images,
            upstreams,
            egress: shape.egress == Switch::On,
            publish: shape.publish,
            publish_address: shape.publish_address,
        })
    }
}

/// A lab's name becomes a folder, a host name and a kubeconfig context.
fn check_name(name: &str) -> Result<(), CliError> {
    let legal = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    let well_formed =
        (1..=40).contains(&name.len()) && name.chars().all(legal) && !name.starts_with('-') && !name.ends_with('-');
    if well_formed {
        return Ok(());
    }
    Err(CliError::usage(format!("{name:?} cannot be the name of a lab"))
        .hint("use up to 40 of a-z, 0-9 and -, for example --name my-lab"))
}

fn range(flag: &str, net: IpNet, shortest: u8, longest: u8) -> Result<Ipv4Net, CliError> {
    let IpNet::V4(net) = net else {
        return Err(CliError::usage(format!("{flag} {net} is IPv6, but labs are IPv4 so far"))
            .hint(format!("leave {flag} out, or give an IPv4 range such as 10.200.0.0/16")));
    };
    if net.trunc() != net {
        return Err(CliError::usage(format!("{flag} {net} has bits set after its prefix"))
            .hint(format!("type {flag} {}", net.trunc())));
    }
    if !(shortest..=longest).contains(&net.prefix_len()) {
        return Err(CliError::usage(format!(
            "{flag} {net} does not fit: its prefix length must be between {shortest} and {longest}"
        ))
        .hint(format!("type {flag} {}/{longest}", net.network())));
    }
    Ok(net)
}

fn check_overlaps(plan: &AddressPlan) -> Result<(), CliError> {
    let named = plan.ranges();
    for (index, (flag, net)) in named.iter().enumerate() {
        if net.contains(&Ipv4Addr::LOCALHOST) || net.addr().is_loopback() || net.addr().is_multicast() {
            return Err(CliError::usage(format!("{flag} {net} cannot be used: it is no unicast range"))
                .hint(format!("choose a private range, for example {flag} 10.200.0.0/16")));
        }
        for (other_flag, other) in &named[index + 1..] {
            if net.contains(&other.network()) || other.contains(&net.network()) {
                return Err(CliError::usage(format!("{flag} {net} and {other_flag} {other} overlap")).hint(format!(
                    "choose another range, for example {other_flag} 10.200.0.0/{}",
                    other.prefix_len()
                )));
            }
        }
    }
    Ok(())
}

fn plan_nodes(plan: &AddressPlan, count: u8) -> Result<Vec<NodePlan>, CliError> {
    // A range without room for another subnet of this length has none to give: `subnets` is then an error.
    let subnets: Vec<Ipv4Net> =
        plan.pods.subnets(NODE_POD_PREFIX).map(|all| all.take(usize::from(count)).collect()).unwrap_or_default();
    if subnets.len() < usize::from(count) {
        return Err(CliError::usage(format!(
            "--pod-cidr {} has room for {} nodes (a /{NODE_POD_PREFIX} each), not for {count}",
            plan.pods,
            subnets.len()
        ))
        .hint("give a larger --pod-cidr, for example 10.244.0.0/16, or fewer --nodes"));
    }
    Ok(subnets
        .into_iter()
        .zip(0..u32::from(count))
        .map(|(pods, index)| NodePlan {
            name: format!("node-{}", index + 1),
            address: nth(plan.nodes, FIRST_NODE + index),
            zone: format!("zone-{}", ["a", "b", "c"][index as usize % 3]),
            pods: IpNet::V4(pods),
        })
        .collect())
}

/// The name servers that were asked for, else those of the host.
fn upstreams(asked: &[String], resolv_conf: &str) -> Result<Vec<SocketAddr>, CliError> {
    match asked {
        [] => Ok(minisvc_dnsd::parse_resolv_conf(resolv_conf)),
        [none] if none == "none" => Ok(Vec::new()),
        _ => asked.iter().map(|text| parse_upstream(text)).collect(),
    }
}

fn parse_upstream(text: &str) -> Result<SocketAddr, CliError> {
    let with_port = text.parse::<SocketAddr>();
    let alone = text.parse::<IpAddr>().map(|address| SocketAddr::new(address, DNS_PORT));
    with_port.or(alone).map_err(|_| {
        CliError::usage(format!("--dns-upstream {text:?} is no address"))
            .hint("type an address such as 192.0.2.53 or 127.0.0.1:5353, or none")
    })
}

/// `NAME=COMMAND` with the command split as a shell would.
fn parse_image(text: &str) -> Result<(String, Vec<String>), CliError> {
    let explain = |what: &str| {
        CliError::usage(format!("--image {text:?} {what}"))
            .hint("type --image NAME=COMMAND, for example --image nginx='/usr/sbin/nginx -g \"daemon off;\"'")
    };
    let (name, command) = text.split_once('=').ok_or_else(|| explain("has no ="))?;
    let words = shlex::split(command).ok_or_else(|| explain("has an open quote"))?;
    if name.is_empty() || words.is_empty() {
        return Err(explain("lacks a name or a command"));
    }
    Ok((name.to_owned(), words))
}

/// Refuses ranges that this machine already routes elsewhere. Only `--network host` puts routes on the host.
///
/// # Errors
/// Names the flag, the range, and the route it collides with.
pub(crate) fn check_host_routes(plan: &AddressPlan, routes: &[Ipv4Net]) -> Result<(), CliError> {
    for (flag, net) in plan.ranges() {
        // The default route covers everything and collides with nothing.
        let taken = routes.iter().filter(|route| route.prefix_len() > 0);
        if let Some(route) = taken.into_iter().find(|route| route.contains(&net) || net.contains(*route)) {
            let free = (200..=250u8)
                .map(|second| Ipv4Net::new_assert(Ipv4Addr::new(10, second, 0, 0), net.prefix_len()))
                .find(|candidate| {
                    !routes.iter().any(|r| r.prefix_len() > 0 && (r.contains(candidate) || candidate.contains(r)))
                });
            let error = CliError::usage(format!("{flag} {net} collides with this machine's route to {route}"));
            return Err(match free {
                Some(free) => error.hint(format!("type {flag} {free}")),
                None => error.hint(format!("choose another range with {flag}")),
            });
        }
    }
    Ok(())
}

/// Reads the text of the kernel's IPv4 routing table: one route a line, numbers in hexadecimal and host byte order.
pub(crate) fn parse_routes(table: &str) -> Vec<Ipv4Net> {
    let hex = |text: &str| u32::from_str_radix(text, 16).ok().map(|n| Ipv4Addr::from(n.to_le_bytes()));
    table
        .lines()
        .skip(1)
        .filter_map(|line| {
            let fields: Vec<&str> = line.split_whitespace().collect();
            let (destination, mask) = (hex(fields.get(1)?)?, hex(fields.get(7)?)?);
            Ipv4Net::with_netmask(destination, mask).ok()
        })
        .collect()
}

fn nth(net: Ipv4Net, offset: u32) -> IpAddr {
    IpAddr::V4(Ipv4Addr::from(u32::from(net.network()).saturating_add(offset)))
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Only {
        #[command(flatten)]
        shape: ShapeArgs,
    }

    fn config(args: &[&str]) -> Result<LabConfig, CliError> {
        let line = std::iter::once("test").chain(args.iter().copied());
        LabConfig::new("lab", &Only::try_parse_from(line).expect("legal flags").shape, "nameserver 192.0.2.1\n")
    }

    #[test]
    fn the_defaults_are_those_of_the_documentation() {
        let lab = config(&["--nodes", "2"]).expect("defaults are legal");
        assert_eq!(lab.addresses.kubernetes().to_string(), "10.96.0.1");
        assert_eq!(lab.addresses.dns().to_string(), "10.96.0.10");
        assert_eq!(lab.addresses.workstation().to_string(), "10.95.0.1");
        assert_eq!(lab.addresses.control_plane().to_string(), "10.95.0.2");
        let nodes: Vec<String> =
            lab.nodes.iter().map(|n| format!("{} {} {} {}", n.name, n.address, n.zone, n.pods)).collect();
        assert_eq!(nodes, ["node-1 10.95.0.11 zone-a 10.244.0.0/24", "node-2 10.95.0.12 zone-b 10.244.1.0/24"]);
    }

    #[test]
    fn what_cannot_be_is_refused_with_what_to_type() {
        for (args, message, hint) in [
            (vec!["--service-cidr", "10.244.0.0/16"], "overlap", "--pod-cidr 10.200.0.0/16"),
            (vec!["--service-cidr", "10.96.0.1/16"], "bits set", "--service-cidr 10.96.0.0/16"),
            (vec!["--service-cidr", "10.96.0.0/30"], "prefix length", "--service-cidr 10.96.0.0/24"),
            (vec!["--service-cidr", "fd00::/112"], "IPv6", "10.200.0.0/16"),
            (vec!["--pod-cidr", "10.244.0.0/24", "--nodes", "2"], "room for 1 nodes", "fewer --nodes"),
            (vec!["--pod-cidr", "127.0.0.0/8"], "unicast", "--pod-cidr 10.200.0.0/16"),
            (vec!["--dns-upstream", "example.com"], "is no address", "192.0.2.53"),
            (vec!["--image", "nginx"], "has no =", "NAME=COMMAND"),
            (vec!["--image", "nginx='x"], "open quote", "NAME=COMMAND"),
        ] {
            let text = config(&args).expect_err("must be refused").render();
            assert!(text.contains(message) && text.contains(hint), "{args:?}: {text}");
        }
    }

    #[test]
    fn a_lab_name_is_a_dns_label() {
        let shape = Only::try_parse_from(["test"]).expect("legal").shape;
        for bad in ["", "Lab", "-a", "a-", "a/b", "..", &"a".repeat(41)] {
            assert!(LabConfig::new(bad, &shape, "").is_err(), "{bad:?}");
        }
    }

    #[test]
    fn an_image_is_a_command_split_like_a_shell_would() {
        let lab = config(&["--image", "web=python3 -m 'http server' 80"]).expect("legal");
        assert_eq!(lab.images["web"], ["python3", "-m", "http server", "80"]);
    }

    #[test]
    fn other_names_are_asked_of_the_host_s_servers_unless_told_otherwise() {
        let upstreams = |args: &[&str]| {
            let lab = config(args).expect("legal");
            lab.upstreams.iter().map(ToString::to_string).collect::<Vec<_>>()
        };
        assert_eq!(upstreams(&[]), ["192.0.2.1:53"]);
        assert_eq!(
            upstreams(&["--dns-upstream", "127.0.0.1:5353,2001:db8::1"]),
            ["127.0.0.1:5353", "[2001:db8::1]:53"]
        );
        assert!(upstreams(&["--dns-upstream", "none"]).is_empty());
    }

    #[test]
    fn ranges_that_the_host_routes_are_refused_with_a_free_one() {
        let table = "Iface\tDestination\tGateway\tFlags\tRefCnt\tUse\tMetric\tMask\tMTU\tWindow\tIRTT\n\
                     eth0\t00000000\t010AFE0A\t0003\t0\t0\t0\t00000000\t0\t0\t0\n\
                     tun0\t0000600A\t00000000\t0001\t0\t0\t0\t00F8FFFF\t0\t0\t0\n\
                     tun1\t0000C80A\t00000000\t0001\t0\t0\t0\t0000FFFF\t0\t0\t0\n";
        let routes = parse_routes(table);
        assert_eq!(routes.len(), 3);
        let plan = config(&[]).expect("legal").addresses;
        let text = check_host_routes(&plan, &routes[1..]).expect_err("10.96/16 is routed").render();
        assert!(
            text.contains("--service-cidr 10.96.0.0/16") && text.contains("--service-cidr 10.201.0.0/16"),
            "{text}"
        );
        assert!(check_host_routes(&plan, &routes[..1]).is_ok(), "a default route collides with nothing");
    }
}
