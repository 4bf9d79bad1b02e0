//! What nodes would say of their health: made with each table, from the same records. Pure.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;

use minisvc_translator::PortId;

use crate::records::ObjectKey;
use crate::table::{Changed, Inputs, LinkRole};

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
    /// What the records come to, if it is not this, after some of them have changed.
    pub(crate) fn after(&self, inputs: &Inputs, changed: &Changed) -> Option<Self> {
        if changed.everything {
            return Some(Self::of(inputs)).filter(|now| now != self);
        }
        let now = changed.services.iter().map(|key| (key, service_health(inputs, key)));
        let others: Vec<_> = now.filter(|(key, now)| self.services.get(*key) != now.as_ref()).collect();
        if others.is_empty() {
            return None;
        }
        let mut all = self.clone();
        for (key, now) in others {
            match now {
                Some(now) => all.services.insert(key.clone(), now),
                None => all.services.remove(key),
            };
        }
        Some(all)
    }

    /// What the records come to.
    pub(crate) fn of(inputs: &Inputs) -> Self {
        let nodes = inputs.links().iter().filter_map(|(&link, record)| {
            let LinkRole::Node { name } = &record.role else { return None };
            if inputs.is_off(name) {
                return None;
            }
            let leaving = inputs.nodes().get(name.as_str()).is_some_and(|node| node.leaving);
            let ipv6 = record.addresses.iter().any(IpAddr::is_ipv6);
            Some((name.as_str().into(), NodeHealth { link, ipv6, leaving }))
        });
        let services = inputs.services().keys().filter_map(|key| Some((key.clone(), service_health(inputs, key)?)));
        Self { nodes: nodes.collect(), services: services.collect() }
    }
}

/// What there is to be told about a Service, if anything is. Addresses count, not ports: a pod with two ports is one endpoint.
fn service_health(inputs: &Inputs, key: &ObjectKey) -> Option<ServiceHealth> {
    let port = inputs.services().get(key).filter(|service| !service.unhandled)?.health_port?;
    let mut ready: BTreeMap<&Arc<str>, BTreeSet<IpAddr>> = BTreeMap::new();
    let endpoints = inputs.slices_of(key).flat_map(|slice| &slice.endpoints);
    for endpoint in endpoints.filter(|endpoint| endpoint.ready) {
        if let Some(node) = &endpoint.node {
            ready.entry(node).or_default().insert(endpoint.address);
        }
    }
    let ready = ready.into_iter().map(|(node, addresses)| (Arc::clone(node), addresses.len())).collect();
    Some(ServiceHealth { port, ready })
}
