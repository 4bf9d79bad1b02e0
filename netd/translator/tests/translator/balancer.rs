//! Flows from outside through a load balancer's address: the node they enter at, and what depends on it.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::time::Duration;

use minisvc_translator::{FrontendKind, Policies, TrafficPolicy, Verdict};

use crate::lab::{
    A1, A2, B1, B2, Ep, Lab, NODE_1, NODE_2, SYN, Svc, WORKSTATION, at, draining, failing, on, ready, seen, tcp, web,
};

const LB: &str = "10.95.1.7:80";

fn balanced(endpoints: &[Ep], external: TrafficPolicy) -> Svc {
    web(endpoints).at(FrontendKind::LoadBalancer, LB).policies(Policies { external, ..Policies::default() })
}

/// How many of 2000 flows from outside each endpoint gets, and as coming from where.
fn spread(lab: &mut Lab) -> BTreeMap<(Ipv4Addr, Ipv4Addr), u32> {
    let mut counts = BTreeMap::new();
    for port in 1..=2000 {
        let out = lab.send(&tcp(on(WORKSTATION, port), at(LB), SYN));
        if let Verdict::Forward(_) = out.verdict {
            let syn = seen(&out.bytes);
            *counts.entry((*syn.dst.ip(), *syn.src.ip())).or_default() += 1;
        }
    }
    counts
}

/// Within four standard deviations of a share of 2000 (D-021).
fn is_share(count: u32, share: f64) -> bool {
    (f64::from(count) - 2000.0 * share).abs() < 4.0 * (2000.0 * share * (1.0 - share)).sqrt()
}

// D-025, D-041
#[test]
fn with_policy_local_each_node_gets_the_same_and_a_node_with_fewer_pods_gives_each_more() {
    let mut lab = Lab::new(&[balanced(&[ready(A1), ready(A2), ready(B2)], TrafficPolicy::Local)]);
    let counts = spread(&mut lab);
    let share = |pod: Ipv4Addr| counts.get(&(pod, WORKSTATION)).copied().unwrap_or_default();
    assert_eq!(counts.len(), 3, "always from the client itself: {counts:?}");
    assert!(is_share(share(A1), 0.5) && is_share(share(A2), 0.25) && is_share(share(B2), 0.25), "{counts:?}");
}

// D-040, D-043, D-045
#[test]
fn with_policy_cluster_the_entered_node_stands_for_the_client_wherever_the_endpoint_is() {
    let mut lab = Lab::new(&[balanced(&[ready(A1), ready(A2)], TrafficPolicy::Cluster)]);
    let counts = spread(&mut lab);
    let routes = [(A1, NODE_1), (A1, NODE_2), (A2, NODE_1), (A2, NODE_2)];
    assert_eq!(counts.keys().copied().collect::<Vec<_>>(), routes, "half of them by a detour, none as the client");
    assert!(counts.values().all(|&count| is_share(count, 0.25)), "{counts:?}");
    // The answer goes back through the node that stood for the client, and its translation is undone.
    lab.connect(on(WORKSTATION, 40000), at(LB));
}

#[test]
fn a_load_balancer_sends_to_nodes_that_are_eligible_and_healthy() {
    use TrafficPolicy::{Cluster, Local};
    type Row<'a> = (&'a str, TrafficPolicy, &'a [Ep], &'a [Ipv4Addr], &'a [Ipv4Addr]);
    let rows: &[Row<'_>] = &[
        ("S-140", Local, &[ready(A1), ready(A2)], &[NODE_1], &[A2]),
        ("S-140", Cluster, &[ready(A1), ready(A2)], &[NODE_1], &[A1, A2]),
        ("S-141", Local, &[ready(A1), ready(B1)], &[], &[A1, B1]),
        ("S-141", Local, &[draining(A1), ready(A2)], &[], &[A2]),
        ("S-141", Local, &[failing(A1), ready(A2)], &[], &[A2]),
        ("D-100", Local, &[draining(A1), draining(A2)], &[], &[A1, A2]),
        ("D-095", Local, &[failing(A1), failing(A2)], &[], &[]),
        ("S-140", Local, &[ready(A1)], &[NODE_1], &[]),
        ("S-140", Cluster, &[ready(A1)], &[NODE_1, NODE_2], &[]),
    ];
    for &(statement, policy, endpoints, excluded, expected) in rows {
        let name = format!("{statement}: {policy:?}, {endpoints:?} without {excluded:?}");
        let mut lab = Lab::new(&[balanced(endpoints, policy)]);
        lab.excluded = excluded.to_vec();
        lab.install();
        let mut reached: Vec<Ipv4Addr> = spread(&mut lab).keys().map(|(pod, _)| *pod).collect();
        reached.dedup();
        assert_eq!(reached, expected, "{name}");
        if expected.is_empty() {
            lab.send(&tcp(on(WORKSTATION, 40000), at(LB), SYN)).reset();
        }
        // Pods do not go through the load balancer.
        if endpoints.iter().any(|endpoint| endpoint.ready) {
            lab.connect(on(B2, 40000), at(LB));
        }
    }
}

// D-071, D-070
#[test]
fn a_load_balancer_knows_its_clients_again_if_the_service_asks_for_it() {
    let affinity = Some(Duration::from_secs(3600));
    let policies = Policies { external: TrafficPolicy::Local, affinity, ..Policies::default() };
    let mut lab = Lab::new(&[balanced(&[ready(A1), ready(A2), ready(B2)], TrafficPolicy::Local).policies(policies)]);
    assert_eq!(spread(&mut lab).len(), 1);
}
