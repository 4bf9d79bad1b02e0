//! Who sees which address: section 5 of the statements, hairpins, and flows that would collide.

use std::collections::BTreeSet;
use std::net::Ipv4Addr;

use minisvc_translator::{DropReason, FrontendKind, Policies, TrafficPolicy, Verdict};

use crate::lab::{
    A1, A2, ACK, B1, HEADER, Lab, NODE_1, NODE_2, SYN, Svc, VIP, WORKSTATION, at, dns, on, ready, seen, tcp, udp, web,
};

const LB: &str = "10.95.1.7:80";
const EXTERNAL: &str = "203.0.113.5:80";
const NODE_PORT: &str = "10.95.0.11:30080";

fn policies(internal: TrafficPolicy, external: TrafficPolicy) -> Policies {
    Policies { internal, external, ..Policies::default() }
}

#[test]
fn the_endpoint_sees_the_source_of_the_table() {
    use FrontendKind::{ClusterIp, ExternalIp, HostPort, LoadBalancer, NodePort};
    use TrafficPolicy::{Cluster, Local};
    let row = |statement, kind, client, policy, endpoint, seen| (statement, kind, client, policy, endpoint, seen);
    let rows = [
        row("D-039", ClusterIp, A1, Cluster, B1, A1),
        row("D-039", ClusterIp, A1, Cluster, A2, A1),
        row("D-039", ClusterIp, A1, Local, B1, A1),
        row("D-053", ClusterIp, A1, Cluster, A1, NODE_1),
        row("D-053", ClusterIp, A2, Local, A2, NODE_2),
        row("no statement", ClusterIp, NODE_1, Cluster, A2, NODE_1),
        row("no statement", ClusterIp, WORKSTATION, Cluster, A2, WORKSTATION),
        row("D-043", NodePort, WORKSTATION, Cluster, A2, NODE_1),
        row("D-041", NodePort, WORKSTATION, Local, B1, WORKSTATION),
        row("D-042", NodePort, A2, Cluster, B1, NODE_1),
        row("D-049", NodePort, A1, Local, A2, A1),
        row("D-053", NodePort, A1, Local, A1, NODE_1),
        row("no statement", NodePort, NODE_1, Cluster, A2, NODE_1),
        row("no statement", NodePort, NODE_1, Local, A2, NODE_1),
        row("D-042", LoadBalancer, A1, Cluster, A2, NODE_1),
        row("D-049", LoadBalancer, A1, Local, A2, A1),
        row("D-053", LoadBalancer, A1, Cluster, A1, NODE_1),
        row("D-041", LoadBalancer, WORKSTATION, Local, A2, WORKSTATION),
        row("D-043", LoadBalancer, WORKSTATION, Cluster, A2, NODE_2),
        row("no statement", LoadBalancer, NODE_1, Cluster, A2, NODE_1),
        row("D-042", ExternalIp, A1, Cluster, A2, NODE_1),
        row("D-049", ExternalIp, A1, Local, A2, A1),
        row("D-043", ExternalIp, WORKSTATION, Cluster, A2, NODE_2),
        row("D-123", HostPort, WORKSTATION, Local, A1, WORKSTATION),
        row("D-123", HostPort, A2, Local, A1, A2),
        row("D-123", HostPort, A1, Local, A1, NODE_1),
        row("the last row of the table", NodePort, WORKSTATION, Cluster, NODE_1, WORKSTATION),
        row("the last row of the table", NodePort, A1, Cluster, NODE_1, A1),
    ];
    for (statement, kind, client, policy, endpoint, expected) in rows {
        let to = match kind {
            ClusterIp => VIP,
            NodePort | HostPort => NODE_PORT,
            ExternalIp => EXTERNAL,
            LoadBalancer => LB,
        };
        let service = |service: Svc| service.at(kind, to).policies(policies(policy, policy));
        let mut lab = Lab::new(&[service(web(&[ready(endpoint)])), service(dns(&[ready(endpoint)]))]);
        // So that flows from outside enter at the other node.
        lab.excluded = vec![NODE_1];
        lab.install();
        let name = format!("{statement}: {kind:?}, {policy:?}, {client} to {endpoint}");
        let syn = lab.connect(on(client, 40000), at(to));
        assert_eq!(*syn.src.ip(), expected, "{name}, TCP");
        assert_eq!(lab.flows()[0].source_changed, expected != client, "{name}, record");
        let question = lab.send(&udp(on(client, 40000), at(to), b"question")).at(&lab, endpoint);
        assert_eq!(*question.src.ip(), expected, "{name}, UDP");
        let answer = lab.send(&question.answer(0, b"answer")).at(&lab, client);
        assert_eq!((answer.src, answer.dst), (at(to), on(client, 40000)), "{name}, answer");
        // D-044: a source address that is kept keeps its port.
        if expected == client && endpoint != client {
            assert_eq!(syn.src.port(), 40000, "{name}, port");
        }
    }
}

// D-041, D-018
#[test]
fn external_policy_local_keeps_outside_clients_on_the_entered_node() {
    let service = web(&[ready(A2)])
        .at(FrontendKind::NodePort, NODE_PORT)
        .policies(policies(TrafficPolicy::Cluster, TrafficPolicy::Local));
    let mut lab = Lab::new(&[service]);
    let out = lab.send(&tcp(on(WORKSTATION, 40000), at(NODE_PORT), SYN));
    assert_eq!(out.verdict, Verdict::Drop(DropReason::NoLocalEndpoint));
    // D-048: pods and nodes reach the endpoints of every node.
    lab.send(&tcp(on(A1, 40000), at(NODE_PORT), SYN)).at(&lab, A2);
    lab.send(&tcp(on(NODE_1, 40000), at(NODE_PORT), SYN)).at(&lab, A2);
}

// D-050, D-048
#[test]
fn a_pod_at_another_node_s_port_is_known_to_be_one() {
    let service = web(&[ready(B1)])
        .at(FrontendKind::NodePort, "10.95.0.12:30080")
        .policies(policies(TrafficPolicy::Cluster, TrafficPolicy::Local));
    let mut lab = Lab::new(&[service]);
    let syn = lab.connect(on(A1, 40000), at("10.95.0.12:30080"));
    assert_eq!((*syn.src.ip(), syn.dst), (A1, on(B1, 8080)), "by its range: all endpoints, and its own address");
    let out = lab.send(&tcp(on(WORKSTATION, 40000), at("10.95.0.12:30080"), SYN));
    assert_eq!(out.verdict, Verdict::Drop(DropReason::NoLocalEndpoint));
}

// S-165
#[test]
fn each_traffic_policy_governs_its_own_addresses_only() {
    let service = |internal, external| {
        let mut service = web(&[ready(A2)]).policies(policies(internal, external));
        let others = [
            (FrontendKind::NodePort, NODE_PORT),
            (FrontendKind::LoadBalancer, LB),
            (FrontendKind::ExternalIp, EXTERNAL),
        ];
        service.frontends.extend(others.map(|(kind, addr)| (kind, at(addr))));
        service
    };
    let away = Verdict::Drop(DropReason::NoLocalEndpoint);
    let mut lab = Lab::new(&[service(TrafficPolicy::Local, TrafficPolicy::Cluster)]);
    assert_eq!(lab.send(&tcp(on(A1, 1), at(VIP), SYN)).verdict, away);
    for to in [NODE_PORT, LB, EXTERNAL] {
        lab.send(&tcp(on(WORKSTATION, 1), at(to), SYN)).at(&lab, A2);
    }
    let mut lab = Lab::new(&[service(TrafficPolicy::Cluster, TrafficPolicy::Local)]);
    lab.send(&tcp(on(A1, 1), at(VIP), SYN)).at(&lab, A2);
    assert_eq!(lab.send(&tcp(on(WORKSTATION, 1), at(NODE_PORT), SYN)).verdict, away);
    // The load balancer goes where the endpoint is.
    for to in [LB, EXTERNAL] {
        assert_eq!(*lab.send(&tcp(on(WORKSTATION, 1), at(to), SYN)).at(&lab, A2).src.ip(), WORKSTATION);
    }
}

// D-048, D-051
#[test]
fn internal_policy_local_does_not_restrict_the_way_through_a_load_balancer_address() {
    let service = web(&[ready(A2)])
        .at(FrontendKind::LoadBalancer, LB)
        .policies(policies(TrafficPolicy::Local, TrafficPolicy::Local));
    let mut lab = Lab::new(&[service]);
    lab.send(&tcp(on(A1, 40000), at(LB), SYN)).at(&lab, A2);
}

// D-052, D-053
#[test]
fn a_pod_reaches_itself_through_its_service() {
    let mut lab = Lab::new(&[web(&[ready(A1)]), dns(&[ready(A1)])]);
    let syn = lab.connect(on(A1, 40000), at(VIP));
    assert_eq!((*syn.src.ip(), syn.dst), (NODE_1, on(A1, 8080)));
    let question = lab.send(&udp(on(A1, 40000), at(VIP), b"question")).at(&lab, A1);
    assert_eq!(*question.src.ip(), NODE_1);
    let answer = lab.send(&question.answer(0, b"answer")).at(&lab, A1);
    assert_eq!((answer.src, answer.dst), (at(VIP), on(A1, 40000)));
}

// D-054
#[test]
fn a_node_reaches_its_own_host_network_pod_through_a_service() {
    let mut lab = Lab::new(&[web(&[ready(NODE_1)])]);
    let syn = lab.connect(on(NODE_1, 40000), at(VIP));
    assert_ne!(*syn.src.ip(), NODE_1, "a packet from itself would be no good to it");
}

// D-055
#[test]
fn a_pod_that_is_one_of_several_endpoints_reaches_all_of_them() {
    let mut lab = Lab::new(&[web(&[ready(A1), ready(B1), ready(A2)])]);
    let reached: BTreeSet<Ipv4Addr> = (1..=100).map(|port| *lab.connect(on(A1, port), at(VIP)).dst.ip()).collect();
    assert_eq!(reached, BTreeSet::from([A1, B1, A2]));
}

// D-044, D-046
#[test]
fn a_changed_source_has_a_random_free_port() {
    let mut lab = Lab::new(&[web(&[ready(A1)])]);
    let ports: Vec<u16> = (1..=2000).map(|port| lab.connect(on(A1, port), at(VIP)).src.port()).collect();
    let different: BTreeSet<_> = ports.iter().collect();
    assert_eq!(different.len(), 2000, "no port twice");
    assert!(ports.iter().all(|&port| port >= 1024));
    let ascending = ports.windows(2).filter(|pair| pair[0] < pair[1]).count();
    assert!((800..=1200).contains(&ascending), "half of them at random, not {ascending}");
}

// D-119
#[test]
fn one_source_port_through_two_vips_of_one_backend_does_not_mix() {
    let other = Svc { name: "other", ..web(&[ready(A2)]).at(FrontendKind::ClusterIp, "10.96.0.51:80") };
    let mut lab = Lab::new(&[web(&[ready(A2)]), other]);
    let client = on(A1, 40000);
    let first = lab.connect(client, at(VIP));
    let second = lab.connect(client, at("10.96.0.51:80"));
    assert_eq!(first.src, client);
    assert_eq!(*second.src.ip(), A1);
    assert_ne!(second.src.port(), 40000);
    assert_eq!(lab.counters().ports_changed, 1);
    for (syn, vip) in [(first, VIP), (second, "10.96.0.51:80")] {
        let answer = lab.send(&syn.answer(ACK, b"data")).at(&lab, A1);
        assert_eq!((answer.src, answer.dst), (at(vip), client));
    }
}

// D-119
#[test]
fn a_direct_flow_and_one_through_the_vip_do_not_mix() {
    let client = on(A1, 40000);
    let direct = on(A2, 8080);
    for order in [[at(VIP), direct], [direct, at(VIP)]] {
        let mut lab = Lab::new(&[web(&[ready(A2)])]);
        let syns = order.map(|to| lab.connect(client, to));
        assert_eq!(syns[0].src, client);
        assert_ne!(syns[1].src, client);
        for (syn, to) in syns.iter().zip(order) {
            let answer = lab.send(&syn.answer(ACK, b"data")).at(&lab, A1);
            assert_eq!((answer.src, answer.dst), (to, client));
        }
    }
}

// D-119
#[test]
fn when_every_source_port_is_taken_the_flow_is_dropped() {
    let mut lab = Lab::new(&[dns(&[ready(A2)])]);
    let direct = on(A2, 8080);
    for port in 1024..=65535 {
        lab.send(&udp(on(A1, port), direct, b"")).at(&lab, A2);
    }
    let out = lab.send(&udp(on(A1, 40000), at(VIP), b""));
    assert_eq!(out.verdict, Verdict::Drop(DropReason::NoFreePort));
    // A port below 1024 is free still, and kept.
    lab.send(&udp(on(A1, 53), at(VIP), b"")).at(&lab, A2);
}

#[test]
fn direct_traffic_is_not_translated() {
    let mut lab = Lab::new(&[]);
    for (from, to) in [(A1, A2), (WORKSTATION, A1), (A1, Ipv4Addr::new(10, 95, 0, 2)), (NODE_1, A2), (A1, NODE_2)] {
        let segment = udp(on(from, 1234), on(to, 4321), b"as it is");
        let out = lab.send(&segment).at(&lab, to);
        assert_eq!(out, segment.ttl(63));
    }
}

// D-109
#[test]
fn a_udp_packet_without_checksum_stays_so_both_ways() {
    let mut lab = Lab::new(&[dns(&[ready(A2)])]);
    let without = |segment: &crate::lab::Seg| {
        let mut bytes = segment.bytes();
        bytes[HEADER + 6..HEADER + 8].fill(0);
        bytes
    };
    let out = lab.send_from(A1, &without(&udp(on(A1, 40000), at(VIP), b"question")));
    assert_eq!(out.bytes[HEADER + 6..HEADER + 8], [0, 0]);
    let answer = lab.send_from(A2, &without(&seen(&out.bytes).answer(0, b"answer")));
    assert_eq!(answer.bytes[HEADER + 6..HEADER + 8], [0, 0]);
    assert_eq!(seen(&answer.bytes).src, at(VIP));
}
