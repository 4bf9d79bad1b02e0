//! Tests of the table, and of who gets what is claimed.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};

use minisvc_translator::{Frontend, PortId, Protocol, Role, ServiceTable};

use super::{Builder, Changed, Inputs, LinkRecord, LinkRole, Ranges};
use crate::claims::{Claimant, Clash, Holder, HostPort, HostPorts};
use crate::health::Health;
use crate::records::{
    EndpointRecord, NodeRecord, ObjectKey, PortRecord, ServicePortRecord, ServiceRecord, SliceRecord,
};

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
    build_all(inputs).0
}

/// The table, and the claims that are refused.
fn build_all(inputs: &Inputs) -> (ServiceTable, Vec<Clash>) {
    let mut builder = Builder::default();
    builder.update(inputs, &Changed { everything: true, ..Changed::default() });
    let clashes = builder.changed_clashes().expect("all is new");
    (builder.table().clone(), clashes)
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
        health_port: None,
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
    let record = |text, role| LinkRecord { addresses: vec![address(text)], role, host_ports: None };
    (0..).zip(links).map(|(number, (text, role))| (PortId(number), record(text, role))).collect()
}

fn with_services(services: Vec<ServiceRecord>) -> Inputs {
    let mut inputs = Inputs::new(Ranges::default());
    network().into_iter().for_each(|(port, link)| inputs.attach(port, link));
    services.into_iter().for_each(|service| inputs.put_service(service));
    inputs
}

/// Everything that packets may be sent to, as text.
fn frontends(table: &ServiceTable) -> Vec<String> {
    let shown = table.frontends().map(|(at, target)| {
        format!("{:?} {} {} -> {}", target.kind, at.protocol, SocketAddr::new(at.addr, at.port), target.service.id())
    });
    let mut shown: Vec<String> = shown.collect();
    shown.sort();
    shown
}

fn inputs(ports: Vec<ServicePortRecord>, slices: Vec<SliceRecord>) -> Inputs {
    let mut inputs = Inputs::new(Ranges::default());
    inputs.put_service(service("web", "10.96.0.9", ports));
    for (index, slice) in slices.into_iter().enumerate() {
        inputs.put_slice(key(&format!("s{index}")), slice);
    }
    inputs.put_node(node("node-1", vec![address("10.95.0.11")]));
    inputs
}

fn node(name: &str, addresses: Vec<IpAddr>) -> NodeRecord {
    NodeRecord { name: name.into(), addresses, zone: None, excluded: false, leaving: false }
}

fn slice(ports: Vec<PortRecord>, endpoints: Vec<EndpointRecord>) -> SliceRecord {
    SliceRecord { service: key("web"), ports, endpoints }
}

fn targets(table: &ServiceTable, protocol: Protocol, port: u16) -> Vec<String> {
    let frontend = Frontend { addr: address("10.96.0.9"), protocol, port };
    let target = table.frontend(&frontend).expect("a frontend");
    target.service.endpoints().iter().map(|e| format!("{}:{}", e.addr, e.port)).collect()
}

// D-001, D-005, D-006, S-155
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
    let record =
        |unhandled| ServiceRecord { unhandled, ..service("web", "10.96.0.9", vec![front("", Protocol::Tcp, 80)]) };
    inputs.put_service(record(true));
    assert_eq!(build(&inputs).frontends().count(), 0);
    inputs.put_service(record(false));
    assert_eq!(build(&inputs).frontends().count(), 1);
}

#[test]
fn links_become_routes_and_name_nodes_that_the_api_has_not_shown_yet() {
    let mut inputs = Inputs::new(Ranges::default());
    let roles = [
        ("10.95.0.11", LinkRole::Node { name: "node-1".into() }),
        ("10.244.0.2", LinkRole::Pod { node: "node-1".into() }),
        ("10.95.0.1", LinkRole::Workstation),
    ];
    for (number, (text, role)) in (0..).zip(roles) {
        inputs.attach(PortId(number), LinkRecord { addresses: vec![address(text)], role, host_ports: None });
    }
    let table = build(&inputs);
    let pod = table.route(address("10.244.0.2")).expect("routed");
    let node = pod.role.node().and_then(|id| table.node(id)).expect("known");
    assert_eq!((pod.port, &*node.name, node.addresses.clone()), (PortId(1), "node-1", vec![address("10.95.0.11")]));
    assert_eq!(table.route(address("10.95.0.1")).expect("routed").role, Role::Workstation);
    assert_eq!(table.size(), (3, 0));
}

// D-001, D-056, D-057
#[test]
fn a_node_port_is_on_every_node_that_is_up_and_in_its_own_protocol() {
    let mut udp = front("dns", Protocol::Udp, 53);
    udp.node_port = Some(30053);
    let mut inputs = with_services(vec![service("web", "10.96.0.9", vec![front("", Protocol::Tcp, 80), udp])]);
    inputs.put_node(node("node-3", vec![address("10.95.0.13")]));
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
    let link = LinkRecord {
        addresses: vec![address("fd00:95::11")],
        role: LinkRole::Node { name: "node-1".into() },
        host_ports: None,
    };
    inputs.attach(PortId(9), link);
    assert_eq!(
        frontends(&build(&inputs)),
        [
            "ClusterIp TCP [fd00:96::9]:80 -> n/web",
            "ExternalIp TCP [2001:db8::7]:80 -> n/web",
            "NodePort TCP [fd00:95::11]:30080 -> n/web",
        ]
    );
}

// S-147, S-163
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
    let (table, clashes) = build_all(&inputs);
    assert!(frontends(&table).contains(&"ExternalIp TCP 203.0.113.7:80 -> n/old".to_owned()));
    assert_eq!(clashes.len(), 1);
    assert!(matches!(&clashes[0].claimant, Claimant::Service(id) if id.to_string() == "n/new"), "{clashes:?}");
    let told = "the external address 203.0.113.7:80/TCP leads elsewhere: it is that of Service n/old";
    assert_eq!(clashes[0].to_string(), told);
    assert!(matches!(&clashes[0].holder, Holder::Service(id) if id.to_string() == "n/old"), "{clashes:?}");
}

#[test]
fn what_belongs_to_a_pod_the_workstation_or_another_service_cannot_be_claimed() {
    let victim = service("victim", "10.96.0.8", vec![front("", Protocol::Tcp, 80)]);
    let mut greedy = service("a-greedy", "10.96.0.9", vec![front("", Protocol::Tcp, 443)]);
    greedy.external_ips = ["10.244.0.2", "10.95.0.1", "10.96.0.8"].map(address).to_vec();
    let (table, clashes) = build_all(&with_services(vec![victim, greedy]));
    assert_eq!(
        frontends(&table),
        ["ClusterIp TCP 10.96.0.8:80 -> n/victim", "ClusterIp TCP 10.96.0.9:443 -> n/a-greedy"]
    );
    let holders: Vec<&Holder> = clashes.iter().map(|clash| &clash.holder).collect();
    assert_eq!(holders, [&Holder::Link, &Holder::ClusterIp("n".into(), "victim".into()), &Holder::Link]);
}

fn pod(name: &str, created: i64, ports: Vec<HostPort>) -> LinkRecord {
    let address = address(if name == "old" { "10.244.0.7" } else { "10.244.0.8" });
    let (namespace, pod) = ("n".to_owned(), name.to_owned());
    let host_ports = Some(HostPorts { namespace, pod, created, ports });
    LinkRecord { addresses: vec![address], role: LinkRole::Pod { node: "node-1".into() }, host_ports }
}

fn host_port(at: Option<&str>, protocol: Protocol, port: u16) -> HostPort {
    HostPort { address: at.map(address), protocol, port, target: 8080 }
}

fn with_pods(mut inputs: Inputs, pods: Vec<LinkRecord>) -> Inputs {
    (100..).map(PortId).zip(pods).for_each(|(port, pod)| inputs.attach(port, pod));
    inputs
}

// D-123, D-124
#[test]
fn a_host_port_is_on_the_addresses_of_its_own_node_and_shared_by_those_who_differ() {
    let everywhere = vec![host_port(None, Protocol::Tcp, 80), host_port(Some("0.0.0.0"), Protocol::Udp, 81)];
    let apart = vec![
        host_port(Some("10.95.0.11"), Protocol::Tcp, 82),
        host_port(Some("127.0.0.1"), Protocol::Tcp, 80),
        host_port(Some("::"), Protocol::Tcp, 83),
        host_port(None, Protocol::Udp, 80),
    ];
    let inputs = with_pods(with_services(Vec::new()), vec![pod("old", 1, everywhere), pod("new", 2, apart)]);
    let (table, clashes) = build_all(&inputs);
    assert_eq!(
        frontends(&table),
        [
            "HostPort TCP 10.95.0.11:80 -> n/pod/old:8080",
            "HostPort TCP 10.95.0.11:82 -> n/pod/new:8080",
            "HostPort UDP 10.95.0.11:80 -> n/pod/new:8080",
            "HostPort UDP 10.95.0.11:81 -> n/pod/old:8080",
        ]
    );
    assert_eq!(clashes, []);
}

// D-062
#[test]
fn of_a_node_port_and_a_host_port_with_one_number_the_later_is_refused_and_told() {
    let web = |created| {
        let mut port = front("", Protocol::Tcp, 80);
        port.node_port = Some(30080);
        ServiceRecord { created, ..service("web", "10.96.0.9", vec![port]) }
    };
    let pod = || pod("old", 5, vec![host_port(None, Protocol::Tcp, 30080)]);
    let at = |created| {
        let (table, clashes) = build_all(&with_pods(with_services(vec![web(created)]), vec![pod()]));
        let told: Vec<String> = clashes.iter().map(ToString::to_string).collect();
        (frontends(&table)[1..].to_vec(), told)
    };
    let both = ["NodePort TCP 10.95.0.11:30080 -> n/web", "NodePort TCP 10.95.0.12:30080 -> n/web"].map(str::to_owned);
    let lost = "the host port 10.95.0.11:30080/TCP leads elsewhere: it is that of Service n/web".to_owned();
    assert_eq!(at(4), (both.to_vec(), vec![lost]), "the Service was first");
    let shared = ["HostPort TCP 10.95.0.11:30080 -> n/pod/old:8080", "NodePort TCP 10.95.0.12:30080 -> n/web"];
    let lost =
        "the node port 10.95.0.11:30080/TCP leads elsewhere: it is that of pod n/old, which has it as a hostPort";
    assert_eq!(at(6), (shared.map(str::to_owned).to_vec(), vec![lost.to_owned()]), "the pod was first");
}

#[test]
fn of_two_pods_bound_by_hand_to_one_host_port_the_older_has_it() {
    let ports = || vec![host_port(None, Protocol::Tcp, 80)];
    let pods = vec![pod("new", 2, ports()), pod("old", 1, ports())];
    let (table, clashes) = build_all(&with_pods(with_services(Vec::new()), pods));
    assert_eq!(frontends(&table), ["HostPort TCP 10.95.0.11:80 -> n/pod/old:8080"]);
    assert_eq!(
        clashes.iter().map(|clash| &clash.claimant).collect::<Vec<_>>(),
        [&Claimant::Pod("n".into(), "new".into())]
    );
}

// S-140
#[test]
fn load_balancers_send_to_nodes_that_are_up_and_not_excluded() {
    let record = |name: &str, excluded, leaving| NodeRecord { excluded, leaving, ..node(name, Vec::new()) };
    let balanced = |excluded, leaving| {
        let mut inputs = with_services(Vec::new());
        inputs.list_nodes(vec![record("node-1", excluded, leaving), record("down", false, false)]);
        let table = build(&inputs);
        let node = |name: &str| table.nodes().iter().find(|node| &*node.name == name).map(|node| node.balanced);
        (node("node-1"), node("node-2"), node("down"))
    };
    assert_eq!(balanced(false, false), (Some(true), Some(true), Some(false)), "node-2 has a link, and no object yet");
    assert_eq!(balanced(true, false), (Some(false), Some(true), Some(false)));
    assert_eq!(balanced(false, true), (Some(false), Some(true), Some(false)));
}

// D-098, D-099, D-100, D-102
#[test]
fn nodes_that_are_up_count_ready_endpoints_of_services_with_a_health_check_port() {
    let ports = || vec![front("a", Protocol::Tcp, 80), front("b", Protocol::Tcp, 81)];
    let mut inputs = with_services(vec![
        ServiceRecord { health_port: Some(32_000), ..service("web", "10.96.0.9", ports()) },
        service("other", "10.96.0.8", ports()),
        ServiceRecord { health_port: Some(32_001), unhandled: true, ..service("hidden", "10.96.0.7", ports()) },
    ]);
    let on = |node: &str, text: &str, ready, terminating| EndpointRecord {
        node: Some(node.into()),
        ..endpoint(text, ready, terminating)
    };
    // A pod with two ports is in two slices here, and counts once.
    let endpoints = [on("node-1", "10.244.0.2", true, false), on("node-2", "10.244.1.2", false, true)];
    for (name, port_name) in [("s1", "a"), ("s2", "b")] {
        let ports = vec![port(port_name, Protocol::Tcp, 8080)];
        let slice = SliceRecord { service: key("web"), ports, endpoints: endpoints.to_vec() };
        inputs.put_slice(key(name), slice);
    }
    let health = Health::of(&inputs);
    assert_eq!(health.nodes.keys().map(|name| &**name).collect::<Vec<_>>(), ["node-1", "node-2"]);
    let services: Vec<_> = health.services.iter().map(|(key, service)| (&*key.name, service.port)).collect();
    assert_eq!(services, [("web", 32_000)]);
    let ready = &health.services[&key("web")].ready;
    assert_eq!(
        ready.iter().map(|(node, count)| (&**node, *count)).collect::<Vec<_>>(),
        [("node-1", 1)],
        "not who drains"
    );
    inputs.switch("node-1", false);
    assert_eq!(Health::of(&inputs).nodes.len(), 1);
}
