//! From records and links to the translator's table: one pure function.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::IpAddr;
use std::sync::Arc;

use ipnet::IpNet;
use minisvc_translator::{
    Endpoint, Frontend, FrontendKind, Node, NodeId, PortId, Protocol, Relay, Role, Route, ServicePort, ServicePortId,
    ServiceTable,
};

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
}

/// A claim to an address and port that was not granted, because it is somebody else's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Clash {
    /// Who claimed it.
    pub service: Arc<ServicePortId>,
    /// What it claimed.
    pub frontend: Frontend,
    /// Whose it is.
    pub holder: Holder,
}

/// Who has an address that a Service claimed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Holder {
    /// A Service port that has it by a stronger claim, or for longer.
    Service(Arc<ServicePortId>),
    /// A Service whose clusterIP it is, as namespace and name.
    ClusterIp(String, String),
    /// A pod, the workstation or the control plane: what is sent there is theirs.
    Link,
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
    for node in inputs.nodes.values() {
        addresses.entry(Arc::clone(&node.name)).or_default().extend(&node.addresses);
    }
    for link in inputs.links.values() {
        match &link.role {
            LinkRole::Pod { node } => {
                addresses.entry(node.as_str().into()).or_default();
            }
            LinkRole::Node { name } => addresses.entry(name.as_str().into()).or_default().extend(&link.addresses),
            LinkRole::Workstation | LinkRole::ControlPlane | LinkRole::Relay { .. } => {}
        }
    }
    addresses
        .into_iter()
        .map(|(name, addresses)| {
            let zone = inputs.nodes.get(&name).and_then(|node| node.zone.clone());
            let node = Node { name: Arc::clone(&name), addresses: addresses.into_iter().collect(), zone };
            (name, table.add_node(node))
        })
        .collect()
}

/// What is claimed besides a clusterIP, granted in this order: what upstream allocates before what anyone may write into a
/// Service.
const CLAIMS: [FrontendKind; 3] = [FrontendKind::NodePort, FrontendKind::LoadBalancer, FrontendKind::ExternalIp];

fn add_services(table: &mut ServiceTable, inputs: &Inputs, nodes: &HashMap<Arc<str>, NodeId>) -> Vec<Clash> {
    let mut slices: HashMap<&ObjectKey, Vec<&SliceRecord>> = HashMap::new();
    for slice in inputs.slices.values() {
        slices.entry(&slice.service).or_default().push(slice);
    }
    // The oldest first, then by name, so that the same objects always give the same table.
    let mut ordered: Vec<&ServiceRecord> = inputs.services.values().filter(|service| !service.unhandled).collect();
    ordered.sort_by_key(|service| (service.created, &service.key));
    let node_addresses = node_addresses(table);
    let mut claims: Vec<(&ServiceRecord, &ServicePortRecord, Arc<ServicePort>, bool)> = Vec::new();
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
                    claims.push((service, port, target, ipv4));
                }
            }
        }
    }
    if claims.is_empty() {
        return Vec::new();
    }
    let owners = inputs.services.values().flat_map(|other| other.cluster_ips.iter().map(move |&ip| (ip, &other.key)));
    let owners: HashMap<IpAddr, &ObjectKey> = owners.collect();
    let mut clashes = Vec::new();
    for kind in CLAIMS {
        for (service, port, target, ipv4) in &claims {
            let (addresses, number) = match kind {
                FrontendKind::NodePort => (&node_addresses, port.node_port),
                FrontendKind::LoadBalancer => (&service.load_balancer_ips, Some(port.port)),
                FrontendKind::ExternalIp | FrontendKind::ClusterIp => (&service.external_ips, Some(port.port)),
            };
            let Some(number) = number else { continue };
            for &addr in addresses.iter().filter(|address| address.is_ipv4() == *ipv4) {
                let frontend = Frontend { addr, protocol: port.protocol, port: number };
                match holder(table, &owners, service, &frontend) {
                    None => table.add_frontend(frontend, kind, Arc::clone(target)),
                    Some(holder) => clashes.push(Clash { service: Arc::clone(target.id()), frontend, holder }),
                }
            }
        }
    }
    clashes
}

/// The families that a Service has clusterIPs of; it shows on no other, whatever addresses it names (D-012). A Service
/// without one is headless, and everything else it names has no effect (S-163).
fn families(service: &ServiceRecord) -> impl Iterator<Item = bool> {
    [true, false].into_iter().filter(|&ipv4| service.cluster_ips.iter().any(|address| address.is_ipv4() == ipv4))
}

/// Where nodePorts are (D-056, D-057): the addresses of the nodes that are up. A node that is not does not answer, though
/// it still has its address in the API.
fn node_addresses(table: &ServiceTable) -> Vec<IpAddr> {
    let mut addresses: Vec<IpAddr> = table
        .routes()
        .filter(|(_, route)| matches!(route.role, Role::Node { .. }))
        .map(|(address, _)| address)
        .collect();
    addresses.sort_unstable();
    addresses
}

/// Who has what a Service claims, if it is not free.
fn holder(
    table: &ServiceTable,
    owners: &HashMap<IpAddr, &ObjectKey>,
    service: &ServiceRecord,
    frontend: &Frontend,
) -> Option<Holder> {
    if let Some(target) = table.frontend(frontend) {
        return Some(Holder::Service(Arc::clone(target.service.id())));
    }
    if let Some(&owner) = owners.get(&frontend.addr)
        && *owner != service.key
    {
        return Some(Holder::ClusterIp(owner.namespace.to_string(), owner.name.to_string()));
    }
    // A node's own address is what many clusters give to a Service as an external one.
    table.route(frontend.addr).filter(|route| !matches!(route.role, Role::Node { .. })).map(|_| Holder::Link)
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

/// A one-line summary for logs.
pub(crate) fn describe(table: &ServiceTable) -> (usize, usize) {
    let tcp_and_udp =
        table.frontends().filter(|(frontend, _)| matches!(frontend.protocol, Protocol::Tcp | Protocol::Udp));
    (table.routes().count(), tcp_and_udp.count())
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;

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

    fn front(name: &str, protocol: Protocol, port: u16) -> ServicePortRecord {
        ServicePortRecord { name: name.into(), protocol, port, node_port: None }
    }

    fn build(inputs: &Inputs) -> ServiceTable {
        super::build(inputs).0
    }

    fn endpoint(text: &str, ready: bool, terminating: bool) -> EndpointRecord {
        let node = Some("node-1".into());
        EndpointRecord { address: address(text), ready, serving: true, terminating, node, hints: None }
    }

    fn service(name: &str, cluster_ip: &str, ports: Vec<ServicePortRecord>) -> ServiceRecord {
        ServiceRecord {
            key: key(name),
            cluster_ips: vec![address(cluster_ip)],
            load_balancer_ips: Vec::new(),
            external_ips: Vec::new(),
            ports,
            policies: minisvc_translator::Policies::default(),
            created: 0,
            unhandled: false,
        }
    }

    /// Two nodes with a link, a pod, and the workstation.
    fn network() -> BTreeMap<PortId, LinkRecord> {
        let links = [
            ("10.95.0.11", LinkRole::Node { name: "node-1".into() }),
            ("10.95.0.12", LinkRole::Node { name: "node-2".into() }),
            ("10.244.0.2", LinkRole::Pod { node: "node-1".into() }),
            ("10.95.0.1", LinkRole::Workstation),
        ];
        let record = |text, role| LinkRecord { addresses: vec![address(text)], role };
        (0..).zip(links).map(|(number, (text, role))| (PortId(number), record(text, role))).collect()
    }

    fn with_services(services: Vec<ServiceRecord>) -> Inputs {
        let services = services.into_iter().map(|service| (service.key.clone(), service)).collect();
        Inputs { services, links: network(), ..Inputs::default() }
    }

    /// Everything that packets may be sent to, as text.
    fn frontends(table: &ServiceTable) -> Vec<String> {
        let shown = table.frontends().map(|(at, target)| {
            format!(
                "{:?} {} {} -> {}",
                target.kind,
                at.protocol,
                SocketAddr::new(at.addr, at.port),
                target.service.id()
            )
        });
        let mut shown: Vec<String> = shown.collect();
        shown.sort();
        shown
    }

    fn inputs(ports: Vec<ServicePortRecord>, slices: Vec<SliceRecord>) -> Inputs {
        let service = service("web", "10.96.0.9", ports);
        let slices = slices.into_iter().enumerate().map(|(index, slice)| (key(&format!("s{index}")), slice));
        Inputs {
            services: HashMap::from([(key("web"), service)]),
            slices: slices.collect(),
            nodes: BTreeMap::from([(
                "node-1".into(),
                NodeRecord { name: "node-1".into(), addresses: vec![address("10.95.0.11")], zone: None },
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
            vec![front("a", Protocol::Tcp, 80), front("b", Protocol::Udp, 80)],
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
            vec![front("", Protocol::Tcp, 80)],
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
        let mut inputs = inputs(vec![front("", Protocol::Tcp, 80)], Vec::new());
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

    // D-001, D-056, D-057
    #[test]
    fn a_node_port_is_on_every_node_that_is_up_and_in_its_own_protocol() {
        let mut udp = front("dns", Protocol::Udp, 53);
        udp.node_port = Some(30053);
        let mut inputs = with_services(vec![service("web", "10.96.0.9", vec![front("", Protocol::Tcp, 80), udp])]);
        let down = NodeRecord { name: "node-3".into(), addresses: vec![address("10.95.0.13")], zone: None };
        inputs.nodes.insert("node-3".into(), down);
        assert_eq!(
            frontends(&build(&inputs)),
            [
                "ClusterIp TCP 10.96.0.9:80 -> n/web",
                "ClusterIp UDP 10.96.0.9:53 -> n/web:dns",
                "NodePort UDP 10.95.0.11:30053 -> n/web:dns",
                "NodePort UDP 10.95.0.12:30053 -> n/web:dns",
            ]
        );
    }

    // D-063, D-064
    #[test]
    fn external_and_load_balancer_addresses_take_the_service_port() {
        let mut record = service("web", "10.96.0.9", vec![front("", Protocol::Tcp, 80)]);
        record.load_balancer_ips = vec![address("10.95.1.1")];
        record.external_ips = vec![address("203.0.113.7"), address("10.95.0.11")];
        assert_eq!(
            frontends(&build(&with_services(vec![record]))),
            [
                "ClusterIp TCP 10.96.0.9:80 -> n/web",
                "ExternalIp TCP 10.95.0.11:80 -> n/web",
                "ExternalIp TCP 203.0.113.7:80 -> n/web",
                "LoadBalancer TCP 10.95.1.1:80 -> n/web",
            ]
        );
    }

    // D-012
    #[test]
    fn a_service_shows_only_on_the_families_of_its_cluster_ips() {
        let mut record = service("web", "fd00:96::9", vec![front("", Protocol::Tcp, 80)]);
        record.external_ips = vec![address("203.0.113.7"), address("2001:db8::7")];
        record.ports[0].node_port = Some(30080);
        let mut inputs = with_services(vec![record]);
        let link =
            LinkRecord { addresses: vec![address("fd00:95::11")], role: LinkRole::Node { name: "node-1".into() } };
        inputs.links.insert(PortId(9), link);
        assert_eq!(
            frontends(&build(&inputs)),
            [
                "ClusterIp TCP [fd00:96::9]:80 -> n/web",
                "ExternalIp TCP [2001:db8::7]:80 -> n/web",
                "NodePort TCP [fd00:95::11]:30080 -> n/web",
            ]
        );
    }

    // S-163
    #[test]
    fn external_addresses_of_a_service_without_cluster_ip_have_no_effect() {
        let mut record = service("web", "10.96.0.9", vec![front("", Protocol::Tcp, 80)]);
        record.cluster_ips.clear();
        record.external_ips = vec![address("203.0.113.7")];
        assert_eq!(frontends(&build(&with_services(vec![record]))), [""; 0]);
    }

    // S-164
    #[test]
    fn the_older_of_two_services_keeps_an_external_address_and_the_other_is_told() {
        let record = |name, cluster_ip, created| {
            let mut record = service(name, cluster_ip, vec![front("", Protocol::Tcp, 80)]);
            record.external_ips = vec![address("203.0.113.7")];
            ServiceRecord { created, ..record }
        };
        let inputs = with_services(vec![record("new", "10.96.0.8", 2), record("old", "10.96.0.9", 1)]);
        let (table, clashes) = super::build(&inputs);
        assert!(frontends(&table).contains(&"ExternalIp TCP 203.0.113.7:80 -> n/old".to_owned()));
        assert_eq!(clashes.len(), 1);
        assert_eq!(clashes[0].service.to_string(), "n/new");
        assert!(matches!(&clashes[0].holder, Holder::Service(id) if id.to_string() == "n/old"), "{clashes:?}");
    }

    #[test]
    fn what_belongs_to_a_pod_the_workstation_or_another_service_cannot_be_claimed() {
        let victim = service("victim", "10.96.0.8", vec![front("", Protocol::Tcp, 80)]);
        let mut greedy = service("a-greedy", "10.96.0.9", vec![front("", Protocol::Tcp, 443)]);
        greedy.external_ips = ["10.244.0.2", "10.95.0.1", "10.96.0.8"].map(address).to_vec();
        let (table, clashes) = super::build(&with_services(vec![victim, greedy]));
        assert_eq!(
            frontends(&table),
            ["ClusterIp TCP 10.96.0.8:80 -> n/victim", "ClusterIp TCP 10.96.0.9:443 -> n/a-greedy"]
        );
        let holders: Vec<&Holder> = clashes.iter().map(|clash| &clash.holder).collect();
        assert_eq!(holders, [&Holder::Link, &Holder::Link, &Holder::ClusterIp("n".into(), "victim".into())]);
    }
}
