//! From records and links to the translator's table: one pure function.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::IpAddr;
use std::sync::Arc;

use ipnet::IpNet;
use minisvc_translator::{
    Endpoint, Frontend, FrontendKind, Node, NodeId, PortId, Relay, Role, Route, ServicePort, ServicePortId,
    ServiceTable,
};

use crate::claims::{self, Claim, Clash, HostPorts};
use crate::records::{NodeRecord, ObjectKey, PortRecord, ServicePortRecord, ServiceRecord, SliceRecord};

/// What a link leads to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LinkRole {
    /// A pod with its own network, on this node.
    Pod {
        /// Name of the node.
        node: String,
    },
    /// A node's own namespace.
    Node {
        /// Name of the node.
        name: String,
    },
    /// Where the user types.
    Workstation,
    /// Where the API and DNS listen.
    ControlPlane,
    /// Where flows to the outside are taken over, by [`Netd::relay`](crate::Netd::relay). Its addresses stand for this machine.
    Relay {
        /// The TCP and UDP port on which it listens for them.
        listen: u16,
    },
}

/// A link as far as the table cares.
#[derive(Debug, Clone)]
pub(crate) struct LinkRecord {
    pub(crate) addresses: Vec<IpAddr>,
    pub(crate) role: LinkRole,
    /// Of a pod.
    pub(crate) host_ports: Option<HostPorts>,
}

/// Everything the table is made of.
#[derive(Debug, Clone, Default)]
pub(crate) struct Inputs {
    pub(crate) service_cidrs: Vec<IpNet>,
    pub(crate) pod_cidrs: Vec<IpNet>,
    /// Further ranges of the lab: what nobody has in them is nowhere, not outside.
    pub(crate) own_cidrs: Vec<IpNet>,
    pub(crate) links: BTreeMap<PortId, LinkRecord>,
    pub(crate) services: HashMap<ObjectKey, ServiceRecord>,
    /// By the slice's own key.
    pub(crate) slices: HashMap<ObjectKey, SliceRecord>,
    pub(crate) nodes: BTreeMap<Arc<str>, NodeRecord>,
    /// Nodes that have lost their power: their addresses are still theirs, and nobody is there.
    pub(crate) off: BTreeSet<String>,
}

impl Inputs {
    /// The links of a node and its pods.
    pub(crate) fn links_of(&self, node: &str) -> Vec<PortId> {
        let is_its =
            |role: &LinkRole| matches!(role, LinkRole::Pod { node: name } | LinkRole::Node { name } if name == node);
        self.links.iter().filter(|(_, link)| is_its(&link.role)).map(|(&port, _)| port).collect()
    }
}

/// Builds the table. Costs a little for every Service and endpoint; lookups in it cost the same however many there are.
pub(crate) fn build(inputs: &Inputs) -> (ServiceTable, Vec<Clash>) {
    let mut table = ServiceTable::new();
    for cidr in &inputs.service_cidrs {
        table.add_service_cidr(*cidr);
    }
    for cidr in &inputs.pod_cidrs {
        table.add_pod_cidr(*cidr);
    }
    for cidr in &inputs.own_cidrs {
        table.add_own_cidr(*cidr);
    }
    let nodes = add_nodes(&mut table, inputs);
    for (&port, link) in &inputs.links {
        let role = match &link.role {
            LinkRole::Pod { node } => nodes.get(node.as_str()).map(|&node| Role::Pod { node }),
            LinkRole::Node { name } => nodes.get(name.as_str()).map(|&node| Role::Node { node }),
            LinkRole::Workstation => Some(Role::Workstation),
            LinkRole::ControlPlane => Some(Role::ControlPlane),
            LinkRole::Relay { listen } => {
                table.set_relay(Relay { port, addresses: link.addresses.clone(), listen: *listen });
                Some(Role::Relay)
            }
        };
        // Every node that a link names was added above, so a role is always found.
        if let Some(role) = role {
            for &address in &link.addresses {
                table.add_route(address, Route { port, role });
            }
        }
    }
    let clashes = add_services(&mut table, inputs, &nodes);
    (table, clashes)
}

/// Nodes come from the API and from links, whichever is first to name them; addresses from both.
fn add_nodes(table: &mut ServiceTable, inputs: &Inputs) -> HashMap<Arc<str>, NodeId> {
    let mut addresses: BTreeMap<Arc<str>, BTreeSet<IpAddr>> = BTreeMap::new();
    let mut up: BTreeSet<&str> = BTreeSet::new();
    for node in inputs.nodes.values() {
        addresses.entry(Arc::clone(&node.name)).or_default().extend(&node.addresses);
    }
    for link in inputs.links.values() {
        match &link.role {
            LinkRole::Pod { node } => {
                addresses.entry(node.as_str().into()).or_default();
            }
            LinkRole::Node { name } => {
                if !inputs.off.contains(name) {
                    up.insert(name);
                }
                addresses.entry(name.as_str().into()).or_default().extend(&link.addresses);
            }
            LinkRole::Workstation | LinkRole::ControlPlane | LinkRole::Relay { .. } => {}
        }
    }
    addresses
        .into_iter()
        .map(|(name, addresses)| {
            let record = inputs.nodes.get(&name);
            let zone = record.and_then(|node| node.zone.clone());
            let balanced = up.contains(&*name) && record.is_none_or(|node| !node.excluded && !node.leaving);
            let node = Node { name: Arc::clone(&name), addresses: addresses.into_iter().collect(), zone, balanced };
            (name, table.add_node(node))
        })
        .collect()
}

fn add_services(table: &mut ServiceTable, inputs: &Inputs, nodes: &HashMap<Arc<str>, NodeId>) -> Vec<Clash> {
    let mut slices: HashMap<&ObjectKey, Vec<&SliceRecord>> = HashMap::new();
    for slice in inputs.slices.values() {
        slices.entry(&slice.service).or_default().push(slice);
    }
    // The oldest first, then by name, so that the same objects always give the same table.
    let mut ordered: Vec<&ServiceRecord> = inputs.services.values().filter(|service| !service.unhandled).collect();
    ordered.sort_by_key(|service| (service.created, &service.key));
    let mut claims: Vec<Claim<'_>> = Vec::new();
    for service in ordered {
        // Also without a port of a protocol that is translated (D-035).
        for &address in &service.cluster_ips {
            table.add_service_address(address);
        }
        for &address in &service.load_balancer_ips {
            table.add_service_address(address);
        }
        let slices = slices.get(&service.key).map(Vec::as_slice).unwrap_or_default();
        for port in &service.ports {
            for ipv4 in families(service) {
                let endpoints = endpoints_of(port, slices, nodes, ipv4);
                let target = ServicePort::new(id_of(service, port), service.policies.clone(), endpoints);
                let target = Arc::new(target);
                for &addr in service.cluster_ips.iter().filter(|address| address.is_ipv4() == ipv4) {
                    let frontend = Frontend { addr, protocol: port.protocol, port: port.port };
                    table.add_frontend(frontend, FrontendKind::ClusterIp, Arc::clone(&target));
                }
                if port.node_port.is_some() || !service.load_balancer_ips.is_empty() || !service.external_ips.is_empty()
                {
                    claims.push(Claim { service, port, target, ipv4 });
                }
            }
        }
    }
    claims::grant(table, inputs, nodes, &claims)
}

/// The families that a Service has clusterIPs of; it shows on no other, whatever addresses it names (D-012). A Service
/// without one is headless, and everything else it names has no effect (S-163).
fn families(service: &ServiceRecord) -> impl Iterator<Item = bool> {
    [true, false].into_iter().filter(|&ipv4| service.cluster_ips.iter().any(|address| address.is_ipv4() == ipv4))
}

fn id_of(service: &ServiceRecord, port: &ServicePortRecord) -> ServicePortId {
    ServicePortId {
        namespace: Arc::clone(&service.key.namespace),
        service: Arc::clone(&service.key.name),
        port: Arc::clone(&port.name),
        protocol: port.protocol,
    }
}

/// The union over all slices of the endpoints whose slice has a port of this name and protocol (D-006), in one family
/// (D-011).
fn endpoints_of(
    port: &ServicePortRecord,
    slices: &[&SliceRecord],
    nodes: &HashMap<Arc<str>, NodeId>,
    ipv4: bool,
) -> Vec<Endpoint> {
    let joins = |other: &&PortRecord| other.name == port.name && other.protocol == port.protocol;
    let mut endpoints = Vec::new();
    for slice in slices {
        for target in slice.ports.iter().filter(joins) {
            for endpoint in slice.endpoints.iter().filter(|endpoint| endpoint.address.is_ipv4() == ipv4) {
                endpoints.push(Endpoint {
                    addr: endpoint.address,
                    port: target.port,
                    ready: endpoint.ready,
                    serving: endpoint.serving,
                    terminating: endpoint.terminating,
                    node: endpoint.node.as_ref().and_then(|name| nodes.get(name)).copied(),
                    hints: endpoint.hints.clone(),
                });
            }
        }
    }
    endpoints
}

/// How many routes and frontends there are, for logs.
pub(crate) fn describe(table: &ServiceTable) -> (usize, usize) {
    (table.routes().count(), table.frontends().count())
}
