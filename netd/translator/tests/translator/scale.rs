//! Ten thousand Services: what a packet costs, and what a new table does to flows that are there.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use minisvc_translator::{
    Checksum, Endpoint, Frontend, FrontendKind, Limits, Node, PacketBuf, Policies, PortId, Protocol, Role, Route,
    ServicePort, ServicePortId, ServiceTable, Translator, Verdict,
};

use crate::lab::{A1, A2, ACK, NODE_2, SYN, on, real, seen, tcp};

const CLIENT: PortId = PortId(1);
const POD: PortId = PortId(2);

/// The address of a Service, by its number.
fn vip(service: u32) -> std::net::Ipv4Addr {
    std::net::Ipv4Addr::from_bits(std::net::Ipv4Addr::new(10, 96, 0, 10).to_bits() + service)
}

/// So many Services with ten endpoints each; the first of each is a pod, the others are somewhere in the pod range.
fn table(services: u32) -> ServiceTable {
    let mut table = ServiceTable::new();
    let node = Node { name: "node".into(), addresses: vec![real(NODE_2)], zone: None, balanced: true };
    let node = table.add_node(node);
    table.add_route(real(A1), Route { port: CLIENT, role: Role::Pod { node } });
    table.add_route(real(A2), Route { port: POD, role: Role::Pod { node } });
    for service in 0..services {
        let endpoint = |addr: IpAddr, port| Endpoint {
            addr,
            port,
            // Only the first gets flows.
            ready: port == 8080,
            serving: true,
            terminating: false,
            node: Some(node),
            hints: None,
        };
        let id = ServicePortId {
            namespace: "default".into(),
            service: format!("service-{service}").into(),
            port: "".into(),
            protocol: Protocol::Tcp,
        };
        let endpoints = (8080..8090).map(|port| endpoint(real(A2), port)).collect();
        let frontend = Frontend { addr: real(vip(service)), protocol: Protocol::Tcp, port: 80 };
        let port = Arc::new(ServicePort::new(id, Policies::default(), endpoints));
        table.add_frontend(frontend, FrontendKind::ClusterIp, port);
    }
    table
}

fn send(translator: &mut Translator, from: PortId, bytes: &mut [u8], now: Instant) -> Verdict {
    let length = bytes.len();
    translator.handle(from, &mut PacketBuf::new(bytes, length, Checksum::Full), now)
}

/// The quickest of many times: for a hundred flows to begin, and for a packet of each of them.
fn cost(services: u32) -> [Duration; 2] {
    let now = Instant::now();
    let mut translator = Translator::new(Limits::default());
    translator.install(Arc::new(table(services)), now);
    let mut quickest = [Duration::MAX; 2];
    for round in 0..100_u16 {
        let packets = |flags| -> Vec<Vec<u8>> {
            let to = |flow: u16| on(vip(u32::from(flow) * 7919 % services), 80);
            (0..100).map(|flow| tcp(on(A1, 1024 + round * 100 + flow), to(flow), flags).bytes()).collect()
        };
        for (place, mut packets) in quickest.iter_mut().zip([packets(SYN), packets(ACK)]) {
            let begun = Instant::now();
            for bytes in &mut packets {
                assert_eq!(send(&mut translator, CLIENT, bytes, now), Verdict::Forward(POD));
            }
            *place = begun.elapsed().min(*place);
        }
    }
    quickest
}

#[test]
fn a_packet_costs_the_same_however_many_services_there_are() {
    let [few, many] = [cost(10), cost(10_000)];
    for (what, few, many) in [("a new flow", few[0], many[0]), ("a known flow", few[1], many[1])] {
        // A list that is searched would take a thousand times as long; memory that is not at hand takes a little longer.
        assert!(many < few * 5, "{what}: {few:?} with 10 Services, {many:?} with 10,000");
    }
}

// D-003, D-089
#[test]
fn a_table_of_ten_thousand_services_and_a_hundred_thousand_endpoints_is_put_in_place_at_once() {
    let mut translator = Translator::new(Limits::default());
    let now = Instant::now();
    let tables = [table(10_000), table(10_000), table(9_000), table(10_000)].map(Arc::new);
    translator.install(Arc::clone(&tables[0]), now);
    let flows: Vec<u16> = (20_000..30_000).collect();
    for &port in &flows {
        let mut syn = tcp(on(A1, port), on(vip(u32::from(port - 20_000)), 80), SYN).bytes();
        assert_eq!(send(&mut translator, CLIENT, &mut syn, now), Verdict::Forward(POD));
    }
    let mut quickest = Duration::MAX;
    for table in &tables[1..] {
        let begun = Instant::now();
        let old = translator.install(Arc::clone(table), now);
        quickest = begun.elapsed().min(quickest);
        drop(old);
        for &port in &flows {
            let mut data = tcp(on(A1, port), on(vip(u32::from(port - 20_000)), 80), ACK).data(b"more").bytes();
            assert_eq!(send(&mut translator, CLIENT, &mut data, now), Verdict::Forward(POD), "no packet is lost");
            assert_eq!(seen(&data).dst, on(A2, 8080));
        }
    }
    assert!(quickest < Duration::from_millis(50), "{quickest:?}");
}
