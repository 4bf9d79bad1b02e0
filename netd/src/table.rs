//! From records and links to the translator's table: one pure function.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::IpAddr;
use std::sync::Arc;

use ipnet::IpNet;
use minisvc_translator::{
    Endpoint, Frontend, FrontendKind, Node, NodeId, PortId, Protocol, Role, Route, ServicePort, ServicePortId,
    ServiceTable,
};

use crate::records::{NodeRecord, ObjectKey, PortRecord, ServiceRecord, SliceRecord};

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
}

/// A link as far as the table cares.
#[derive(Debug, Clone)]
pub(crate) struct LinkRecord {
    pub(crate) addresses: Vec<IpAddr>,
    pub(crate) role: LinkRole,
}

/// Everything the table is made of.
#[derive(Debug, Clone, Default)]
pub(crate) struct Inputs {
    pub(crate) service_cidrs: Vec<IpNet>,
    pub(crate) pod_cidrs: Vec<IpNet>,
    pub(crate) links: BTreeMap<PortId, LinkRecord>,
    pub(crate) services: HashMap<ObjectKey, ServiceRecord>,
    /// By the slice's own key.
    pub(crate) slices: HashMap<ObjectKey, SliceRecord>,
    pub(crate) nodes: BTreeMap<Arc<str>, NodeRecord>,
}

/// Builds the table. Costs a little for every Service and endpoint; lookups in it cost the same however many there are.
pub(crate) fn build(inputs: &Inputs) -> ServiceTable {
    let mut table = ServiceTable::new();
    for cidr in &inputs.service_cidrs {
        table.add_service_cidr(*cidr);
    }
    for cidr in &inputs.pod_cidrs {
        table.add_pod_cidr(*cidr);
    }
    let nodes = add_nodes(&mut table, inputs);
    for (&port, link) in &inputs.links {
        let role = match &link.role {
            LinkRole::Pod { node } => nodes.get(node.as_str()).map(|&node| Role::Pod { node }),
            LinkRole::Node { name } => nodes.get(name.as_str()).map(|&node| Role::Node { node }),
            LinkRole::Workstation => Some(Role::Workstation),
            LinkRole::ControlPlane => Some(Role::ControlPlane),
        };
        // Every node that a link names was added above, so a role is always found.
        if let Some(role) = role {
            for &address in &link.addresses {
                table.add_route(address, Route { port, role });
            }
        }
    }
    add_services(&mut table, inputs, &nodes);
    table
}

/// Nodes come from the API and from links, whichever is first to name them; addresses from both.
fn add_nodes(table: &mut ServiceTable, inputs: &Inputs) -> HashMap<Arc<str>, NodeId> {
    let mut addresses: BTreeMap<Arc<str>, BTreeSet<IpAddr>> = BTreeMap::new();
    for node in inputs.nodes.values() {
        addresses.entry(Arc::clone(&node.name)).or_default().extend(&node.addresses);
    }
    for link in inputs.links.values() {
        match &link.role {
            LinkRole::Pod { node } => {
                addresses.entry(node.as_str().into()).or_default();
            }
            LinkRole::Node { name } => addresses.entry(name.as_str().into()).or_default().extend(&link.addresses),
            LinkRole::Workstation | LinkRole::ControlPlane => {}
        }
    }
    addresses
        .into_iter()
        .map(|(name, addresses)| {
            let node = Node { name: Arc::clone(&name), addresses: addresses.into_iter().collect() };
            (name, table.add_node(node))
        })
        .collect()
}

fn add_services(table: &mut ServiceTable, inputs: &Inputs, nodes: &HashMap<Arc<str>, NodeId>) {
    let mut slices: HashMap<&ObjectKey, Vec<&SliceRecord>> = HashMap::new();
    for slice in inputs.slices.values() {
        slices.entry(&slice.service).or_default().push(slice);
    }
    // In the order of their names, so that the same objects always give the same table.
    let ordered: BTreeMap<&ObjectKey, &ServiceRecord> = inputs.services.iter().collect();
    for (key, service) in ordered {
        if service.unhandled {
            continue;
        }
        for &address in &service.cluster_ips {
            table.add_service_address(address);
        }
        let slices = slices.get(key).map(Vec::as_slice).unwrap_or_default();
        for port in &service.ports {
            for family in [true, false] {
                let addresses = service.cluster_ips.iter().filter(|address| address.is_ipv4() == family);
                let mut addresses = addresses.peekable();
                if addresses.peek().is_none() {
                    continue;
                }
                let id = ServicePortId {
                    namespace: Arc::clone(&key.namespace),
                    service: Arc::clone(&key.name),
                    port: Arc::clone(&port.name),
                    protocol: port.protocol,
                };
                let endpoints = endpoints_of(port, slices, nodes, family);
                let target = Arc::new(ServicePort::new(id, service.policies.clone(), endpoints));
                for &addr in addresses {
                    let frontend = Frontend { addr, protocol: port.protocol, port: port.port };
                    table.add_frontend(frontend, FrontendKind::ClusterIp, Arc::clone(&target));
                }
            }
        }
    }
}

/// The union over all slices of the endpoints whose slice has a port of this name and protocol (D-006), in one family
/// (D-011).
fn endpoints_of(
    port: &PortRecord,
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
                });
            }
        }
    }
    endpoints
}

/// A one-line summary for logs.
pub(crate) fn describe(table: &ServiceTable) -> (usize, usize) {
    let tcp_and_udp =
        table.frontends().filter(|(frontend, _)| matches!(frontend.protocol, Protocol::Tcp | Protocol::Udp));
    (table.routes().count(), tcp_and_udp.count())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::records::EndpointRecord;

    fn address(text: &str) -> IpAddr {
        text.parse().expect("an address")
    }

    fn key(name: &str) -> ObjectKey {
        ObjectKey::new(Some("n"), Some(name))
    }

    fn port(name: &str, protocol: Protocol, port: u16) -> PortRecord {
        PortRecord { name: name.into(), protocol, port }
    }

    fn endpoint(text: &str, ready: bool, terminating: bool) -> EndpointRecord {
        let node = Some("node-1".into());
        EndpointRecord { address: address(text), ready, serving: true, terminating, node }
    }

    fn inputs(ports: Vec<PortRecord>, slices: Vec<SliceRecord>) -> Inputs {
        let service = ServiceRecord {
            key: key("web"),
            cluster_ips: vec![address("10.96.0.9")],
            ports,
            policies: minisvc_translator::Policies::default(),
            unhandled: false,
        };
        let slices = slices.into_iter().enumerate().map(|(index, slice)| (key(&format!("s{index}")), slice));
        Inputs {
            services: HashMap::from([(key("web"), service)]),
            slices: slices.collect(),
            nodes: BTreeMap::from([(
                "node-1".into(),
                NodeRecord { name: "node-1".into(), addresses: vec![address("10.95.0.11")] },
            )]),
            ..Inputs::default()
        }
    }

    fn slice(ports: Vec<PortRecord>, endpoints: Vec<EndpointRecord>) -> SliceRecord {
        SliceRecord { service: key("web"), ports, endpoints }
    }

    fn targets(table: &ServiceTable, protocol: Protocol, port: u16) -> Vec<String> {
        let frontend = Frontend { addr: address("10.96.0.9"), protocol, port };
        let target = table.frontend(&frontend).expect("a frontend");
        target.service.endpoints().iter().map(|e| format!("{}:{}", e.addr, e.port)).collect()
    }

    // D-001, D-005, D-006
    #[test]
    fn a_service_port_joins_slice_ports_by_name_and_protocol_over_all_slices() {
        let table = build(&inputs(
            vec![port("a", Protocol::Tcp, 80), port("b", Protocol::Udp, 80)],
            vec![
                slice(vec![port("a", Protocol::Tcp, 8080)], vec![endpoint("10.244.0.2", true, false)]),
                slice(vec![port("a", Protocol::Tcp, 9090)], vec![endpoint("10.244.0.3", true, false)]),
                slice(vec![port("b", Protocol::Udp, 53)], vec![endpoint("10.244.0.4", true, false)]),
                slice(vec![port("b", Protocol::Tcp, 53)], vec![endpoint("10.244.0.5", true, false)]),
            ],
        ));
        assert_eq!(targets(&table, Protocol::Tcp, 80), ["10.244.0.2:8080", "10.244.0.3:9090"]);
        assert_eq!(targets(&table, Protocol::Udp, 80), ["10.244.0.4:53"]);
    }

    // D-008, S-201
    #[test]
    fn an_endpoint_listed_twice_counts_once_and_the_living_copy_wins() {
        let ports = || vec![port("", Protocol::Tcp, 8080)];
        let table = build(&inputs(
            vec![port("", Protocol::Tcp, 80)],
            vec![
                slice(ports(), vec![endpoint("10.244.0.2", false, true)]),
                slice(ports(), vec![endpoint("10.244.0.2", true, false)]),
            ],
        ));
        let frontend = Frontend { addr: address("10.96.0.9"), protocol: Protocol::Tcp, port: 80 };
        let endpoints = table.frontend(&frontend).expect("a frontend").service.endpoints().to_vec();
        assert_eq!(endpoints.iter().map(|e| (e.ready, e.terminating)).collect::<Vec<_>>(), [(true, false)]);
    }

    // D-009, D-010
    #[test]
    fn a_service_handed_to_another_proxy_has_no_rules_until_it_comes_back() {
        let mut inputs = inputs(vec![port("", Protocol::Tcp, 80)], Vec::new());
        let service = inputs.services.get_mut(&key("web")).expect("there");
        service.unhandled = true;
        assert_eq!(build(&inputs).frontends().count(), 0);
        inputs.services.get_mut(&key("web")).expect("there").unhandled = false;
        assert_eq!(build(&inputs).frontends().count(), 1);
    }

    #[test]
    fn links_become_routes_and_name_nodes_that_the_api_has_not_shown_yet() {
        let mut inputs = Inputs::default();
        let roles = [
            ("10.95.0.11", LinkRole::Node { name: "node-1".into() }),
            ("10.244.0.2", LinkRole::Pod { node: "node-1".into() }),
            ("10.95.0.1", LinkRole::Workstation),
        ];
        for (number, (text, role)) in (0..).zip(roles) {
            inputs.links.insert(PortId(number), LinkRecord { addresses: vec![address(text)], role });
        }
        let table = build(&inputs);
        let pod = table.route(address("10.244.0.2")).expect("routed");
        let node = pod.role.node().and_then(|id| table.node(id)).expect("known");
        assert_eq!((pod.port, &*node.name, node.addresses.clone()), (PortId(1), "node-1", vec![address("10.95.0.11")]));
        assert_eq!(table.route(address("10.95.0.1")).expect("routed").role, Role::Workstation);
        assert_eq!(describe(&table), (3, 0));
    }
}
