//! What nodes would say of their health: made with each table, from the same records. Pure.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;

use minisvc_translator::PortId;

use crate::records::ObjectKey;
use crate::table::{Inputs, LinkRole};

/// The nodes that are up, and the Services that load balancers ask them about.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Health {
    /// By name.
    pub(crate) nodes: BTreeMap<Arc<str>, NodeHealth>,
    /// Those with a health check port.
    pub(crate) services: BTreeMap<ObjectKey, ServiceHealth>,
}

/// A node that is up.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct NodeHealth {
    /// Its link; another one when it comes back after having been down.
    pub(crate) link: PortId,
    /// Whether it has an IPv6 address.
    pub(crate) ipv6: bool,
    /// Whether it is about to be taken away.
    pub(crate) leaving: bool,
}

/// What a load balancer asks about a Service.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ServiceHealth {
    /// Its health check port.
    pub(crate) port: u16,
    /// How many ready endpoints each node has; those without are left out.
    pub(crate) ready: BTreeMap<Arc<str>, usize>,
}

impl Health {
    /// What the records come to.
    pub(crate) fn of(inputs: &Inputs) -> Self {
        let nodes = inputs.links.iter().filter_map(|(&link, record)| {
            let LinkRole::Node { name } = &record.role else { return None };
            if inputs.off.contains(name) {
                return None;
            }
            let leaving = inputs.nodes.get(name.as_str()).is_some_and(|node| node.leaving);
            let ipv6 = record.addresses.iter().any(IpAddr::is_ipv6);
            Some((name.as_str().into(), NodeHealth { link, ipv6, leaving }))
        });
        let mut services: BTreeMap<ObjectKey, ServiceHealth> = BTreeMap::new();
        for service in inputs.services.values().filter(|service| !service.unhandled) {
            if let Some(port) = service.health_port {
                services.insert(service.key.clone(), ServiceHealth { port, ready: BTreeMap::new() });
            }
        }
        count(&mut services, inputs);
        Self { nodes: nodes.collect(), services }
    }
}

/// Counts addresses, not ports: a pod with two ports is one endpoint.
fn count(services: &mut BTreeMap<ObjectKey, ServiceHealth>, inputs: &Inputs) {
    if services.is_empty() {
        return;
    }
    let mut ready: BTreeMap<(&ObjectKey, &Arc<str>), BTreeSet<IpAddr>> = BTreeMap::new();
    for slice in inputs.slices.values().filter(|slice| services.contains_key(&slice.service)) {
        for endpoint in slice.endpoints.iter().filter(|endpoint| endpoint.ready) {
            if let Some(node) = &endpoint.node {
                ready.entry((&slice.service, node)).or_default().insert(endpoint.address);
            }
        }
    }
    for ((service, node), addresses) in ready {
        if let Some(health) = services.get_mut(service) {
            health.ready.insert(Arc::clone(node), addresses.len());
        }
    }
}
