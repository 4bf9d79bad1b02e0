//! What a lab will look like, decided and checked before anything is bound or changed.
//!
//! Everything here is a function of values; reading files is the caller's.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use ipnet::IpNet;
use minisvc_schema::Amount;

use crate::addresses::AddressPlan;
use crate::args::{NetworkMode, Publish, ShapeArgs, Switch};
use crate::error::CliError;

/// Default domain of cluster names.
pub(crate) const CLUSTER_DOMAIN: &str = "cluster.local";

/// The port where the API listens if nothing else is asked for and it is free.
pub(crate) const DEFAULT_API_PORT: u16 = 6443;

/// The port that name servers are asked at unless another is named.
const DNS_PORT: u16 = 53;

/// One virtual node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct NodePlan {
    pub(crate) name: String,
    /// One of each family, the primary one's first.
    pub(crate) addresses: Vec<IpAddr>,
    pub(crate) zone: String,
    /// Where its pods have their addresses, in the same order.
    pub(crate) pods: Vec<IpNet>,
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
    /// Domains whose names are asked elsewhere, each with where.
    pub(crate) stubs: BTreeMap<String, Vec<SocketAddr>>,
    /// Whether what is outside can be reached from inside.
    pub(crate) egress: bool,
    pub(crate) publish: Publish,
    /// Where Services are published; `None`: on loopback addresses that mirror theirs.
    pub(crate) publish_address: Option<IpAddr>,
    /// What each node says that it has, by resource, where that is not what the machine has.
    pub(crate) node_capacity: BTreeMap<String, String>,
    /// For how long a node may be silent before it counts as lost.
    pub(crate) node_grace: Duration,
}

impl LabConfig {
    /// Checks what was asked for. `resolv_conf` is the host's resolver file.
    ///
    /// # Errors
    /// The first thing that cannot be, with what to type instead.
    pub(crate) fn new(name: &str, shape: &ShapeArgs, resolv_conf: &str) -> Result<Self, CliError> {
        check_name(name)?;
        let addresses = AddressPlan::new(shape)?;
        let nodes = plan_nodes(&addresses, shape.nodes)?;
        let images = shape.images.iter().map(|image| parse_image(image)).collect::<Result<_, _>>()?;
        let upstreams = upstreams(&shape.dns_upstreams, resolv_conf)?;
        let stubs = stubs(&shape.dns_stubs)?;
        Ok(Self {
            name: name.to_owned(),
            network: shape.network,
            addresses,
            nodes,
            api_port: shape.api_port,
            images,
            upstreams,
            stubs,
            egress: shape.egress == Switch::On,
            publish: shape.publish,
            publish_address: shape.publish_address,
            node_capacity: shape.node_capacity.iter().map(|text| parse_capacity(text)).collect::<Result<_, _>>()?,
            node_grace: Duration::from_secs(shape.node_grace.into()),
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

fn plan_nodes(plan: &AddressPlan, count: u8) -> Result<Vec<NodePlan>, CliError> {
    let nodes = (1..).zip(plan.nodes(count)?).zip(["a", "b", "c"].into_iter().cycle());
    let node = |((number, (addresses, pods)), zone): ((u32, _), &str)| NodePlan {
        name: format!("node-{number}"),
        addresses,
        zone: format!("zone-{zone}"),
        pods,
    };
    Ok(nodes.map(node).collect())
}

fn parse_capacity(text: &str) -> Result<(String, String), CliError> {
    let explain = |what: &str| {
        CliError::usage(format!("--node-capacity {text:?} {what}"))
            .hint("type RESOURCE=AMOUNT, for example --node-capacity cpu=8,memory=16Gi or example.com/gpu=2")
    };
    let (resource, amount) = text.split_once('=').ok_or_else(|| explain("has no ="))?;
    let (domain, name) = resource.split_once('/').unwrap_or(("", resource));
    let known = matches!(name, "cpu" | "memory" | "ephemeral-storage" | "pods") || name.starts_with("hugepages-");
    let legal = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    let well_formed = [domain, name].iter().all(|part| !part.is_empty() && part.chars().all(legal));
    if !(well_formed || known && domain.is_empty() && name.chars().all(legal)) {
        return Err(explain("names no resource"));
    }
    if Amount::parse(amount).is_none_or(Amount::is_negative) {
        return Err(explain("has no amount such as 500m, 8 or 16Gi"));
    }
    Ok((resource.to_owned(), amount.to_owned()))
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
    parse_server(text).ok_or_else(|| {
        CliError::usage(format!("--dns-upstream {text:?} is no address"))
            .hint("type an address such as 192.0.2.53 or 127.0.0.1:5353, or none")
    })
}

fn parse_server(text: &str) -> Option<SocketAddr> {
    let alone = |_| text.parse::<IpAddr>().map(|address| SocketAddr::new(address, DNS_PORT));
    text.parse::<SocketAddr>().or_else(alone).ok()
}

/// `DOMAIN=ADDRESS`, several of one domain together. The cluster's own names are always answered here.
fn stubs(asked: &[String]) -> Result<BTreeMap<String, Vec<SocketAddr>>, CliError> {
    let mut stubs: BTreeMap<String, Vec<SocketAddr>> = BTreeMap::new();
    for text in asked {
        let explain = |what: &str| {
            CliError::usage(format!("--dns-stub {text:?} {what}"))
                .hint("type --dns-stub DOMAIN=ADDRESS[:PORT], for example --dns-stub corp.example=192.0.2.53")
        };
        let (domain, address) = text.split_once('=').ok_or_else(|| explain("has no ="))?;
        let domain = domain.trim_end_matches('.').to_ascii_lowercase();
        if domain.is_empty() || hickory_proto::rr::Name::from_ascii(&domain).is_err() {
            return Err(explain("names no domain"));
        }
        if domain == CLUSTER_DOMAIN || domain.ends_with(&format!(".{CLUSTER_DOMAIN}")) {
            return Err(explain("is about the lab's own names, which it answers itself"));
        }
        let address = parse_server(address).ok_or_else(|| explain("names no address"))?;
        stubs.entry(domain).or_default().push(address);
    }
    Ok(stubs)
}

/// `NAME=COMMAND` with the command split as a shell would.
pub(crate) fn parse_image(text: &str) -> Result<(String, Vec<String>), CliError> {
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
    fn nodes_are_spread_over_three_zones() {
        let lab = config(&["--nodes", "4", "--ip-family", "dual"]).expect("legal");
        let nodes: Vec<String> =
            lab.nodes.iter().map(|n| format!("{} {} {:?} {:?}", n.name, n.zone, n.addresses, n.pods)).collect();
        assert_eq!(nodes[0], "node-1 zone-a [10.95.0.11, fd00:95::11] [10.244.0.0/24, fd00:244::/64]");
        assert_eq!(nodes[3], "node-4 zone-a [10.95.0.14, fd00:95::14] [10.244.3.0/24, fd00:244:0:3::/64]");
    }

    #[test]
    fn what_cannot_be_is_refused_with_what_to_type() {
        for (args, message, hint) in [
            (vec!["--pod-cidr", "10.244.0.0/24", "--nodes", "2"], "room for 1 nodes", "fewer --nodes"),
            (vec!["--dns-upstream", "example.com"], "is no address", "192.0.2.53"),
            (vec!["--dns-stub", "192.0.2.53"], "has no =", "corp.example=192.0.2.53"),
            (vec!["--dns-stub", "=192.0.2.53"], "names no domain", "DOMAIN=ADDRESS"),
            (vec!["--dns-stub", "corp=here"], "names no address", "DOMAIN=ADDRESS"),
            (vec!["--dns-stub", "x.cluster.local=192.0.2.53"], "the lab's own names", "DOMAIN=ADDRESS"),
            (vec!["--node-capacity", "cpu"], "has no =", "cpu=8"),
            (vec!["--node-capacity", "cpus=8"], "names no resource", "RESOURCE=AMOUNT"),
            (vec!["--node-capacity", "/gpu=8"], "names no resource", "RESOURCE=AMOUNT"),
            (vec!["--node-capacity", "memory=16GB"], "has no amount", "16Gi"),
            (vec!["--node-capacity", "cpu=-1"], "has no amount", "RESOURCE=AMOUNT"),
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
    fn nodes_have_what_they_are_told_to_have() {
        let lab =
            config(&["--node-capacity", "cpu=8,memory=16Gi", "--node-capacity", "example.com/gpu=2"]).expect("legal");
        let found: Vec<_> = lab.node_capacity.iter().map(|(resource, amount)| format!("{resource}={amount}")).collect();
        assert_eq!(found, ["cpu=8", "example.com/gpu=2", "memory=16Gi"]);
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

    // N-078
    #[test]
    fn a_domain_may_have_name_servers_of_its_own() {
        let args = ["--dns-stub", "Corp.example.=192.0.2.53", "--dns-stub", "corp.example=127.0.0.1:5353"];
        let lab = config(&args).expect("legal");
        let found: Vec<String> = lab.stubs["corp.example"].iter().map(ToString::to_string).collect();
        assert_eq!(found, ["192.0.2.53:53", "127.0.0.1:5353"]);
    }
}
