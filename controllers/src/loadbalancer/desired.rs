//! Which addresses a Service of type LoadBalancer should have. Pure.

use std::collections::BTreeMap;
use std::net::IpAddr;

use ipnet::IpNet;
use k8s_openapi::api::core::v1::{Node, Service};

use crate::cache::Key;

/// Keeps a deleted or changed Service until its address is given back (S-138).
pub(crate) const FINALIZER: &str = "service.kubernetes.io/load-balancer-cleanup";

/// The class by which a Service can ask for the pool by name; without a class it gets the pool too (S-131).
pub(crate) const CLASS: &str = "minisvc.dev/pool";

/// A node with this label gets no traffic from load balancers (S-140).
const EXCLUDED_LABEL: &str = "node.kubernetes.io/exclude-from-external-load-balancers";

/// A node with this taint is about to be removed (S-140).
const REMOVAL_TAINT: &str = "ToBeDeletedByClusterAutoscaler";

/// Addresses that others have, and who.
pub(crate) type Taken = BTreeMap<IpAddr, Key>;

/// What is to be done about a Service.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Desired {
    /// It is none of our business, or everything is as it should be.
    Nothing,
    /// It should have exactly these addresses, at most one of each family.
    Addresses(Vec<IpAddr>),
    /// It had a load balancer and should have none.
    Release,
}

/// Why a Service cannot have an address now.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum NoAddress {
    /// Every address of every range is in use.
    #[error("no address is left in the pool {0}")]
    Exhausted(String),
    /// There is no range of a family that the Service has.
    #[error("the pool {0} has no addresses of the Service's IP families")]
    Family(String),
    /// `spec.loadBalancerIP` is no address.
    #[error("the loadBalancerIP {0:?} is not an IP address")]
    Malformed(String),
    /// `spec.loadBalancerIP` is not ours to give.
    #[error("the loadBalancerIP {0} is not in the pool {1}")]
    Elsewhere(IpAddr, String),
    /// `spec.loadBalancerIP` is given to another Service.
    #[error("the loadBalancerIP {0} is in use by {1}")]
    InUse(IpAddr, String),
}

/// Ranges to give addresses from.
#[derive(Debug, Clone, Default)]
pub(crate) struct Pool {
    ranges: Vec<IpNet>,
}

impl Pool {
    pub(crate) fn new(ranges: Vec<IpNet>) -> Self {
        Self { ranges }
    }

    /// Whether an address can be given.
    fn contains(&self, address: IpAddr) -> bool {
        self.ranges.iter().any(|range| range.contains(&address) && is_host(range, address))
    }

    /// The first address of a family that nobody has. At most one more is looked at than are taken, and the two that
    /// stand for the range itself.
    fn first_free(&self, ipv4: bool, taken: &Taken) -> Option<IpAddr> {
        let ranges = self.ranges.iter().filter(|range| range.addr().is_ipv4() == ipv4);
        ranges
            .flat_map(|range| addresses(range).filter(|&address| is_host(range, address)))
            .find(|address| !taken.contains_key(address))
    }

    fn has_family(&self, ipv4: bool) -> bool {
        self.ranges.iter().any(|range| range.addr().is_ipv4() == ipv4)
    }
}

impl std::fmt::Display for Pool {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let ranges: Vec<String> = self.ranges.iter().map(ToString::to_string).collect();
        f.write_str(&ranges.join(", "))
    }
}

/// Every address of a range, network and broadcast included.
fn addresses(range: &IpNet) -> Box<dyn Iterator<Item = IpAddr>> {
    match range {
        IpNet::V4(net) => {
            Box::new((u32::from(net.network())..=u32::from(net.broadcast())).map(|n| IpAddr::V4(n.into())))
        }
        IpNet::V6(net) => {
            Box::new((u128::from(net.network())..=u128::from(net.broadcast())).map(|n| IpAddr::V6(n.into())))
        }
    }
}

/// The first address of a range is the range's name, and the last of an IPv4 range its broadcast address.
fn is_host(range: &IpNet, address: IpAddr) -> bool {
    let single = range.max_prefix_len() - range.prefix_len() < 2;
    let broadcast = range.addr().is_ipv4() && address == range.broadcast();
    single || (address != range.network() && !broadcast)
}

/// What is to be done about a Service, given what the others have.
///
/// # Errors
/// Why it wants an address and cannot have one.
pub(crate) fn desired(service: &Service, pool: &Pool, taken: &Taken) -> Result<Desired, NoAddress> {
    if !wants(service) {
        let left_over = has_finalizer(service) && (!is_load_balancer(service) || is_leaving(service));
        return Ok(if left_over { Desired::Release } else { Desired::Nothing });
    }
    let wanted = addresses_for(service, pool, taken)?;
    let settled = has_finalizer(service) && ingress(service).eq(wanted.iter().copied());
    Ok(if settled { Desired::Nothing } else { Desired::Addresses(wanted) })
}

fn addresses_for(service: &Service, pool: &Pool, taken: &Taken) -> Result<Vec<IpAddr>, NoAddress> {
    let asked = requested(service, pool, taken)?;
    let families: Vec<bool> = families(service).into_iter().filter(|&ipv4| pool.has_family(ipv4)).collect();
    if families.is_empty() {
        return Err(NoAddress::Family(pool.to_string()));
    }
    let free = |address: &IpAddr| pool.contains(*address) && !taken.contains_key(address);
    families
        .into_iter()
        .map(|ipv4| {
            let kept = || ingress(service).find(|address| address.is_ipv4() == ipv4 && free(address));
            let asked = asked.filter(|address| address.is_ipv4() == ipv4);
            asked.or_else(kept).or_else(|| pool.first_free(ipv4, taken))
        })
        .collect::<Option<Vec<IpAddr>>>()
        .ok_or_else(|| NoAddress::Exhausted(pool.to_string()))
}

/// `spec.loadBalancerIP`, a request (S-129).
fn requested(service: &Service, pool: &Pool, taken: &Taken) -> Result<Option<IpAddr>, NoAddress> {
    let text = service.spec.as_ref().and_then(|spec| spec.load_balancer_ip.as_deref()).filter(|text| !text.is_empty());
    let Some(text) = text else { return Ok(None) };
    let address: IpAddr = text.parse().map_err(|_| NoAddress::Malformed(text.to_owned()))?;
    if !pool.contains(address) {
        return Err(NoAddress::Elsewhere(address, pool.to_string()));
    }
    match taken.get(&address) {
        Some(owner) => Err(NoAddress::InUse(address, owner.to_string())),
        None => Ok(Some(address)),
    }
}

/// Whether each family the Service has is IPv4, in its order.
fn families(service: &Service) -> Vec<bool> {
    let families = service.spec.as_ref().and_then(|spec| spec.ip_families.as_ref());
    let families: Vec<bool> = families.into_iter().flatten().map(|family| family == "IPv4").collect();
    if families.is_empty() { vec![true] } else { families }
}

/// Whether a Service should have an address of the pool.
pub(crate) fn wants(service: &Service) -> bool {
    is_load_balancer(service) && !is_leaving(service) && is_our_class(service)
}

/// Whether a Service has an address of the pool, or is about to give it back.
pub(crate) fn holds(service: &Service) -> bool {
    is_our_class(service) && (has_finalizer(service) || is_load_balancer(service))
}

fn is_our_class(service: &Service) -> bool {
    let class = service.spec.as_ref().and_then(|spec| spec.load_balancer_class.as_deref());
    class.is_none_or(|class| class == CLASS)
}

pub(crate) fn is_load_balancer(service: &Service) -> bool {
    service.spec.as_ref().and_then(|spec| spec.type_.as_deref()) == Some("LoadBalancer")
}

fn is_leaving(service: &Service) -> bool {
    service.metadata.deletion_timestamp.is_some()
}

pub(crate) fn has_finalizer(service: &Service) -> bool {
    service.metadata.finalizers.iter().flatten().any(|finalizer| finalizer == FINALIZER)
}

/// The addresses in the status of a Service; names are left out.
pub(crate) fn ingress(service: &Service) -> impl Iterator<Item = IpAddr> + '_ {
    let balancer = service.status.as_ref().and_then(|status| status.load_balancer.as_ref());
    let ingress = balancer.and_then(|balancer| balancer.ingress.as_ref());
    ingress.into_iter().flatten().filter_map(|ingress| ingress.ip.as_deref()?.parse().ok())
}

/// What the others have. Of two Services with one address, as only an edited status can make them, the older one has it.
pub(crate) fn taken<'a>(service: &Service, others: impl IntoIterator<Item = &'a Service>) -> Taken {
    let age = |service: &Service| {
        let created = service.metadata.creation_timestamp.as_ref().map(|time| time.0);
        (created, Key::of(&service.metadata))
    };
    let mine: Vec<IpAddr> = ingress(service).collect();
    let me = Key::of(&service.metadata);
    let mut taken = Taken::new();
    for other in others {
        let key = Key::of(&other.metadata);
        if key == me || !holds(other) {
            continue;
        }
        for address in ingress(other) {
            if !mine.contains(&address) || age(other) < age(service) {
                taken.insert(address, key.clone());
            }
        }
    }
    taken
}

/// Whether load balancers send to a node. Readiness does not matter (S-140).
pub(crate) fn is_eligible(node: &Node) -> bool {
    let labels = node.metadata.labels.as_ref();
    let taints = node.spec.as_ref().and_then(|spec| spec.taints.as_ref());
    node.metadata.deletion_timestamp.is_none()
        && !labels.is_some_and(|labels| labels.contains_key(EXCLUDED_LABEL))
        && !taints.into_iter().flatten().any(|taint| taint.key == REMOVAL_TAINT)
}
