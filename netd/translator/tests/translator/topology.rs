//! Endpoints that prefer clients of a node or a zone: section 3 of the statements.

use std::collections::BTreeSet;
use std::net::Ipv4Addr;

use minisvc_translator::{FrontendKind, Policies, TrafficPolicy};

use crate::lab::{
    A1, A2, B1, B2, Ep, Lab, NODE_2, SYN, Svc, VIP, WORKSTATION, at, draining, on, ready, seen, tcp, web,
};

type Names = &'static [&'static str];

fn hinted(addr: Ipv4Addr, nodes: Names, zones: Names) -> Ep {
    Ep { hints: Some((nodes, zones)), ..ready(addr) }
}

/// Everywhere that new flows of this client go.
fn reached(service: Svc, client: Ipv4Addr, to: &str) -> BTreeSet<Ipv4Addr> {
    let mut lab = Lab::new(&[service]);
    (1..=100).map(|port| *seen(&lab.send(&tcp(on(client, port), at(to), SYN)).bytes).dst.ip()).collect()
}

#[test]
fn hints_narrow_the_choice_as_far_as_they_are_complete() {
    // Nodes 1 and 2 are in the zones east and west; A and B are pods of either.
    let node = |addr, name: Names| hinted(addr, name, &[]);
    let zone = |addr, name: Names| hinted(addr, &[], name);
    let unready = Ep { ready: false, serving: false, ..ready(B1) };
    type Row<'a> = (&'a str, &'a str, &'a [Ep], Ipv4Addr, &'a [Ipv4Addr]);
    let rows: &[Row<'_>] = &[
        ("D-027", "by node", &[node(A1, &["node-1"]), node(A2, &["node-2"])], B1, &[A1]),
        ("D-027", "a host-network client has a node", &[node(A1, &["node-1"]), node(A2, &["node-2"])], NODE_2, &[A2]),
        ("D-027", "nobody is for this node", &[node(A1, &["node-1"]), node(B1, &["node-1"])], B2, &[A1, B1]),
        ("D-027", "two for one node", &[node(A1, &["node-1"]), node(A2, &["node-2", "node-1"])], B1, &[A1, A2]),
        ("D-028", "by zone", &[zone(A1, &["east"]), zone(A2, &["west"]), zone(B2, &["west"])], B2, &[A2, B2]),
        (
            "D-028",
            "the node before the zone",
            &[hinted(A1, &["node-1"], &["east"]), hinted(A2, &["node-2"], &["east"])],
            B1,
            &[A1],
        ),
        (
            "D-028",
            "the zone, as not all have nodes",
            &[hinted(A1, &[], &["east"]), hinted(A2, &["node-1"], &["west"])],
            B1,
            &[A1],
        ),
        ("D-029", "one without hint", &[zone(A1, &["east"]), ready(A2)], B1, &[A1, A2]),
        (
            "D-029",
            "one without hint that is not ready",
            &[zone(A1, &["east"]), zone(A2, &["west"]), unready],
            B1,
            &[A1],
        ),
        (
            "D-030",
            "the near one is not ready",
            &[Ep { ready: false, ..zone(A1, &["east"]) }, zone(A2, &["west"])],
            B1,
            &[A2],
        ),
        ("D-031", "a zone without endpoints", &[zone(A1, &["east"]), zone(B1, &["east"])], B2, &[A1, B1]),
        (
            "D-026",
            "none is ready, so all that drain",
            &[Ep { hints: Some((&[], &["east"])), ..draining(A1) }, draining(A2)],
            B2,
            &[A1, A2],
        ),
        ("no statement", "a client on no node", &[zone(A1, &["east"]), zone(A2, &["west"])], WORKSTATION, &[A1, A2]),
    ];
    for &(statement, name, endpoints, client, expected) in rows {
        let expected: BTreeSet<Ipv4Addr> = expected.iter().copied().collect();
        assert_eq!(reached(web(endpoints), client, VIP), expected, "{statement}: {name}");
    }
}

// D-019, S-166
#[test]
fn policy_local_does_not_look_at_hints() {
    let endpoints = [hinted(A1, &["node-2"], &["west"]), hinted(A2, &["node-1"], &["east"])];
    let policies = Policies { internal: TrafficPolicy::Local, ..Policies::default() };
    assert_eq!(reached(web(&endpoints).policies(policies), B1, VIP), BTreeSet::from([A1]));
    let policies = Policies { external: TrafficPolicy::Local, ..Policies::default() };
    let node_port = web(&endpoints).at(FrontendKind::NodePort, "10.95.0.11:30080").policies(policies.clone());
    assert_eq!(reached(node_port, WORKSTATION, "10.95.0.11:30080"), BTreeSet::from([A1]));
    // What is not under that policy goes by the hints.
    assert_eq!(reached(web(&endpoints).policies(policies), B1, VIP), BTreeSet::from([A2]));
}

// D-026, D-018
#[test]
fn a_node_port_with_policy_cluster_prefers_what_is_near_to_the_entered_node() {
    let endpoints = [hinted(A1, &[], &["east"]), hinted(A2, &[], &["west"])];
    let service = web(&endpoints).at(FrontendKind::NodePort, "10.95.0.12:30080");
    assert_eq!(reached(service, WORKSTATION, "10.95.0.12:30080"), BTreeSet::from([A2]));
}
