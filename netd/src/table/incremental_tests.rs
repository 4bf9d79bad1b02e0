//! A table that is kept up to date is the one that would be made of all records at once.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use minisvc_translator::{Frontend, Policies, PortId, Protocol, ServiceTable};
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;
use proptest::sample::select;

use super::{Builder, Inputs, LinkRecord, LinkRole, Ranges, naive};
use crate::claims::{Clash, HostPort, HostPorts};
use crate::health::Health;
use crate::records::{
    EndpointRecord, NodeRecord, ObjectKey, PortRecord, ServicePortRecord, ServiceRecord, SliceRecord,
};

/// Few addresses, so that they are claimed by many: of Services, of pods, of nodes, of nobody.
const ADDRESSES: [&str; 10] = [
    "10.96.0.1",
    "10.96.0.2",
    "fd00:96::1",
    "10.244.0.2",
    "10.244.0.3",
    "fd00:244::2",
    "10.95.0.11",
    "10.95.0.12",
    "fd00:95::11",
    "203.0.113.7",
];
const NODES: [&str; 3] = ["node-1", "node-2", "node-3"];

/// What happens to the records.
#[derive(Clone, Debug)]
enum Step {
    PutService(ServiceRecord),
    RemoveService(ObjectKey),
    ListServices(Vec<ServiceRecord>),
    PutSlice(ObjectKey, SliceRecord),
    RemoveSlice(ObjectKey),
    ListSlices(Vec<(ObjectKey, SliceRecord)>),
    PutNode(NodeRecord),
    RemoveNode(&'static str),
    ListNodes(Vec<NodeRecord>),
    Attach(PortId, LinkRecord),
    Detach(PortId),
    Switch(&'static str, bool),
}

fn address() -> impl Strategy<Value = IpAddr> {
    select(&ADDRESSES[..]).prop_map(|text| text.parse().expect("an address"))
}

fn key() -> impl Strategy<Value = ObjectKey> {
    (0..4).prop_map(|number| ObjectKey::new(Some("n"), Some(&format!("name-{number}"))))
}

fn protocol() -> impl Strategy<Value = Protocol> {
    select(&[Protocol::Tcp, Protocol::Udp][..])
}

fn service() -> impl Strategy<Value = ServiceRecord> {
    let port = (select(&["", "b"][..]), protocol(), 80..82_u16, option::of(select(&[80_u16, 30_080][..])));
    let port = port.prop_map(|(name, protocol, port, node_port)| ServicePortRecord {
        name: name.into(),
        protocol,
        port,
        node_port,
    });
    let addresses = (vec(address(), 0..3), vec(address(), 0..2), vec(address(), 0..3));
    let rest = (0..3_i64, prop::bool::weighted(0.1), option::of(Just(32_000_u16)), any::<bool>());
    (key(), addresses, vec(port, 0..3), rest).prop_map(|(key, addresses, ports, rest)| {
        let (cluster_ips, load_balancer_ips, external_ips) = addresses;
        let (created, unhandled, health_port, sticks) = rest;
        let policies = Policies { affinity: sticks.then_some(Duration::from_secs(9)), ..Policies::default() };
        ServiceRecord {
            key,
            cluster_ips,
            load_balancer_ips,
            external_ips,
            ports,
            policies,
            health_port,
            created,
            unhandled,
        }
    })
}

/// A slice; it may become another Service's.
fn slice() -> impl Strategy<Value = (ObjectKey, SliceRecord)> {
    let port = (select(&["", "b"][..]), protocol(), 8080..8082_u16);
    let port = port.prop_map(|(name, protocol, port)| PortRecord { name: name.into(), protocol, port });
    let endpoint = (address(), any::<[bool; 3]>(), option::of(select(&NODES[..])));
    let endpoint = endpoint.prop_map(|(address, [ready, serving, terminating], node)| EndpointRecord {
        address,
        ready,
        serving,
        terminating,
        node: node.map(Into::into),
        hints: None,
    });
    (key(), key(), vec(port, 0..3), vec(endpoint, 0..3))
        .prop_map(|(key, service, ports, endpoints)| (key, SliceRecord { service, ports, endpoints }))
}

fn node() -> impl Strategy<Value = NodeRecord> {
    (select(&NODES[..]), vec(address(), 0..2), option::of(Just("zone")), any::<[bool; 2]>()).prop_map(
        |(name, addresses, zone, [excluded, leaving])| NodeRecord {
            name: name.into(),
            addresses,
            zone: zone.map(Into::into),
            excluded,
            leaving,
        },
    )
}

fn link() -> impl Strategy<Value = (PortId, LinkRecord)> {
    let role = prop_oneof![
        6 => select(&NODES[..]).prop_map(|node| LinkRole::Pod { node: node.into() }),
        2 => select(&NODES[..]).prop_map(|name| LinkRole::Node { name: name.into() }),
        1 => Just(LinkRole::Workstation),
        1 => Just(LinkRole::Relay { listen: 9 }),
    ];
    let at = prop_oneof![2 => Just(None), 1 => address().prop_map(Some), 1 => Just("0.0.0.0".parse().ok())];
    let port = (at, protocol(), select(&[80_u16, 30_080][..]));
    let port = port.prop_map(|(address, protocol, port)| HostPort { address, protocol, port, target: 8080 });
    let host_ports = (select(&["a", "b"][..]), 0..3_i64, vec(port, 1..3)).prop_map(|(pod, created, ports)| HostPorts {
        namespace: "n".into(),
        pod: pod.into(),
        created,
        ports,
    });
    let link = (0..8_u32, vec(address(), 1..3), role, option::of(host_ports));
    link.prop_map(|(port, addresses, role, host_ports)| (PortId(port), LinkRecord { addresses, role, host_ports }))
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        8 => service().prop_map(Step::PutService),
        3 => key().prop_map(Step::RemoveService),
        1 => vec(service(), 0..4).prop_map(Step::ListServices),
        8 => slice().prop_map(|(key, slice)| Step::PutSlice(key, slice)),
        3 => key().prop_map(Step::RemoveSlice),
        1 => vec(slice(), 0..4).prop_map(Step::ListSlices),
        1 => node().prop_map(Step::PutNode),
        1 => select(&NODES[..]).prop_map(Step::RemoveNode),
        1 => vec(node(), 0..4).prop_map(Step::ListNodes),
        6 => link().prop_map(|(port, link)| Step::Attach(port, link)),
        3 => (0..8_u32).prop_map(|port| Step::Detach(PortId(port))),
        1 => (select(&NODES[..]), any::<bool>()).prop_map(|(node, on)| Step::Switch(node, on)),
    ]
}

/// Nodes that are there from the start, so that most of what happens is no change of everything.
fn begun() -> Inputs {
    let mut inputs = Inputs::new(Ranges::default());
    let record = |name: &str| NodeRecord {
        name: name.into(),
        addresses: Vec::new(),
        zone: None,
        excluded: false,
        leaving: false,
    };
    inputs.list_nodes(NODES.map(record).to_vec());
    for (port, name, address) in [(20, NODES[0], ADDRESSES[6]), (21, NODES[1], ADDRESSES[7])] {
        let addresses = vec![address.parse().expect("an address")];
        inputs.attach(
            PortId(port),
            LinkRecord { addresses, role: LinkRole::Node { name: name.into() }, host_ports: None },
        );
    }
    inputs
}

fn take(step: Step, inputs: &mut Inputs) {
    match step {
        Step::PutService(record) => inputs.put_service(record),
        Step::RemoveService(key) => inputs.remove_service(&key),
        Step::ListServices(records) => inputs.list_services(records),
        Step::PutSlice(key, record) => inputs.put_slice(key, record),
        Step::RemoveSlice(key) => inputs.remove_slice(&key),
        Step::ListSlices(records) => inputs.list_slices(records),
        Step::PutNode(record) => inputs.put_node(record),
        Step::RemoveNode(name) => inputs.remove_node(name),
        Step::ListNodes(records) => inputs.list_nodes(records),
        Step::Attach(port, link) => inputs.attach(port, link),
        Step::Detach(port) => inputs.detach(port),
        Step::Switch(node, on) => inputs.switch(node, on),
    }
}

/// Everything in a table, in some order.
fn shown(table: &ServiceTable) -> Vec<String> {
    let mut lines: Vec<String> = table.routes().map(|route| format!("{route:?}")).collect();
    lines.extend(table.service_addresses().map(|address| format!("a Service's: {address}")));
    lines.extend(table.frontends().map(|(frontend, target)| {
        let service = &target.service;
        format!("{frontend:?} {:?} {} {:?} {:?}", target.kind, service.id(), service.policies(), service.endpoints())
    }));
    lines.sort();
    lines.insert(0, format!("{:?}", table.nodes()));
    lines
}

fn told(clashes: &[Clash]) -> Vec<String> {
    let mut lines: Vec<String> = clashes.iter().map(|clash| format!("{clash:?}")).collect();
    lines.sort();
    lines
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(500))]

    #[test]
    fn a_table_kept_up_to_date_is_the_one_made_at_once(batches in vec(vec(step(), 1..4), 1..30)) {
        let mut inputs = begun();
        let (mut builder, mut clashes, mut health) = (Builder::default(), Vec::new(), Health::default());
        let mut before = builder.table().clone();
        for batch in batches {
            let known = shown(&before);
            batch.into_iter().for_each(|step| take(step, &mut inputs));
            let changed = inputs.take_changed();
            if !changed.is_nothing() {
                builder.update(&inputs, &changed);
            }
            let (full, refused) = naive::build(&inputs);
            prop_assert_eq!(shown(builder.table()), shown(&full), "after {:?}", changed);
            clashes = builder.changed_clashes().unwrap_or(clashes);
            prop_assert_eq!(told(&clashes), told(&refused), "after {:?}", changed);
            health = health.after(&inputs, &changed).unwrap_or(health);
            prop_assert_eq!(&health, &Health::of(&inputs));
            prop_assert_eq!(shown(&before), known, "a table that is in use does not change");
            before = builder.table().clone();
        }
    }
}

/// A Service with one endpoint, by its number.
fn numbered(number: u8) -> (ServiceRecord, ObjectKey, SliceRecord) {
    let key = ObjectKey::new(Some("n"), Some(&format!("web-{number}")));
    let ports = vec![ServicePortRecord { name: "".into(), protocol: Protocol::Tcp, port: 80, node_port: None }];
    let service = ServiceRecord {
        key: key.clone(),
        cluster_ips: vec![IpAddr::from([10, 96, 1, number])],
        load_balancer_ips: vec![],
        external_ips: vec![],
        ports,
        policies: Policies::default(),
        health_port: None,
        created: 0,
        unhandled: false,
    };
    let endpoint = EndpointRecord {
        address: IpAddr::from([10, 244, 1, number]),
        ready: true,
        serving: true,
        terminating: false,
        node: None,
        hints: None,
    };
    let ports = vec![PortRecord { name: "".into(), protocol: Protocol::Tcp, port: 8080 }];
    let slice = SliceRecord { service: key.clone(), ports, endpoints: vec![endpoint] };
    (service, key, slice)
}

#[test]
fn what_a_change_does_not_touch_is_shared_and_what_changes_nothing_is_no_change() {
    let mut inputs = Inputs::new(Ranges::default());
    let mut builder = Builder::default();
    for (service, key, slice) in (0..200).map(numbered) {
        inputs.put_service(service);
        inputs.put_slice(key, slice);
    }
    let changed = inputs.take_changed();
    builder.update(&inputs, &changed);
    let before = builder.table().clone();
    let (service, key, mut slice) = numbered(7);
    inputs.put_service(service);
    inputs.put_slice(key.clone(), slice.clone());
    assert!(inputs.take_changed().is_nothing(), "the same records again");
    slice.endpoints[0].ready = false;
    inputs.put_slice(key, slice);
    let changed = inputs.take_changed();
    assert_eq!((changed.everything, changed.services.len()), (false, 1));
    builder.update(&inputs, &changed);
    let is_shared = |number: &u8| {
        let frontend = Frontend { addr: IpAddr::from([10, 96, 1, *number]), protocol: Protocol::Tcp, port: 80 };
        let service = |table: &ServiceTable| Arc::clone(&table.frontend(&frontend).expect("a frontend").service);
        Arc::ptr_eq(&service(&before), &service(builder.table()))
    };
    assert_eq!((0..200).filter(|number| !is_shared(number)).collect::<BTreeSet<_>>(), BTreeSet::from([7]));
}
