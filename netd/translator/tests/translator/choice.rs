//! Which endpoint a new flow gets: uniform choice and session affinity.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::time::Duration;

use minisvc_translator::{FrontendKind, Limits, Policies, PortId};

use crate::lab::{A1, A2, B1, B2, Lab, SYN, Svc, VIP, WORKSTATION, at, dns, on, ready, seen, tcp, udp, unready, web};

const HOUR: Duration = Duration::from_secs(3600);

fn sticky(service: Svc, timeout: Duration) -> Svc {
    service.policies(Policies { affinity: Some(timeout), ..Policies::default() })
}

/// Where the next new flow of this client goes.
fn next(lab: &mut Lab, client: Ipv4Addr, port: u16) -> Ipv4Addr {
    let out = lab.send(&tcp(on(client, port), at(VIP), SYN));
    *seen(&out.bytes).dst.ip()
}

// D-020, D-021
#[test]
fn new_flows_spread_uniformly_and_independently() {
    for n in 1..=4usize {
        let pods = &[A1, B1, A2, B2][..n];
        let endpoints: Vec<_> = pods.iter().map(|&pod| ready(pod)).collect();
        let mut lab = Lab::new(&[web(&endpoints)]);
        let flows = 20_000u16;
        let mut counts = BTreeMap::new();
        let mut pairs = BTreeMap::new();
        let mut last = None;
        for port in 1..=flows {
            let pod = next(&mut lab, WORKSTATION, port);
            *counts.entry(pod).or_insert(0.0) += 1.0;
            if let Some(last) = last.replace(pod) {
                *pairs.entry((last, pod)).or_insert(0.0) += 1.0;
            }
        }
        let check = |count: f64, p: f64| {
            let mean = f64::from(flows) * p;
            let deviation = (mean * (1.0 - p)).sqrt();
            assert!((count - mean).abs() <= 4.0 * deviation + 1.0, "{count} of {mean} ± {deviation}, {n} endpoints");
        };
        let n_real = f64::from(u32::try_from(n).unwrap());
        assert_eq!(counts.len(), n);
        counts.values().for_each(|&count| check(count, 1.0 / n_real));
        // Independently: each ordered pair of neighbours is as frequent as any other.
        assert_eq!(pairs.len(), n * n);
        pairs.values().for_each(|&count| check(count, 1.0 / (n_real * n_real)));
    }
}

// D-008
#[test]
fn an_endpoint_in_two_slices_counts_once_and_two_ports_count_twice() {
    let mut twice = ready(A1);
    twice.addr.set_port(9090);
    let mut lab = Lab::new(&[web(&[ready(A1), ready(A1), ready(A1), twice])]);
    let ports: Vec<_> = (1..=2000)
        .map(|port| seen(&lab.send(&tcp(on(WORKSTATION, port), at(VIP), SYN)).bytes).dst.port())
        .filter(|&port| port == 9090)
        .collect();
    // 1000 ± 4 × 22.4; were the copies counted it would be 500.
    assert!((910..=1090).contains(&ports.len()), "{}", ports.len());
}

// D-008
#[test]
fn of_two_copies_of_an_endpoint_the_one_that_is_not_terminating_wins() {
    use crate::lab::draining;
    for copies in [[draining(A1), ready(A1)], [ready(A1), draining(A1)]] {
        let mut lab = Lab::new(&[web(&[copies[0], copies[1], ready(A2)])]);
        let reached: std::collections::BTreeSet<_> = (1..=100).map(|port| next(&mut lab, WORKSTATION, port)).collect();
        assert!(reached.contains(&A1), "it counts as ready, though another is ready too");
    }
}

#[test]
fn of_two_pods_at_one_address_the_one_that_is_ready_wins() {
    for copies in [[unready(A1), ready(A1)], [ready(A1), unready(A1)]] {
        let mut lab = Lab::new(&[web(&copies)]);
        assert_eq!(next(&mut lab, WORKSTATION, 1), A1);
    }
}

// D-071, D-077
#[test]
fn with_affinity_a_client_stays_and_without_it_moves() {
    let pods = [ready(A1), ready(B1), ready(A2), ready(B2)];
    let mut lab = Lab::new(&[sticky(web(&pods), HOUR)]);
    let first = next(&mut lab, WORKSTATION, 1);
    assert!((2..=16).all(|port| next(&mut lab, WORKSTATION, port) == first));
    lab.serve(&[web(&pods)]);
    assert!((17..=64).any(|port| next(&mut lab, WORKSTATION, port) != first));
}

// D-076
#[test]
fn switching_affinity_on_and_off_acts_on_the_next_flows() {
    let pods = [ready(A1), ready(B1), ready(A2), ready(B2)];
    let mut lab = Lab::new(&[web(&pods)]);
    next(&mut lab, WORKSTATION, 1);
    lab.serve(&[sticky(web(&pods), HOUR)]);
    let first = next(&mut lab, WORKSTATION, 2);
    assert!((3..=18).all(|port| next(&mut lab, WORKSTATION, port) == first));
    lab.serve(&[web(&pods)]);
    assert!((19..=64).any(|port| next(&mut lab, WORKSTATION, port) != first));
}

// D-072
#[test]
fn affinity_lasts_from_the_last_new_flow() {
    let timeout = Duration::from_secs(60);
    let pods = [ready(A1), ready(B1), ready(A2), ready(B2)];
    let trial = |lab: &mut Lab, port: u16, refresh: bool| -> bool {
        let first = next(lab, WORKSTATION, port);
        lab.pass(Duration::from_secs(40));
        if refresh {
            assert_eq!(next(lab, WORKSTATION, port + 1), first);
        } else {
            // Packets of the flow that is there already do not count.
            lab.send(&tcp(on(WORKSTATION, port), at(VIP), SYN)).at(lab, first);
        }
        lab.pass(Duration::from_secs(40));
        next(lab, WORKSTATION, port + 2) == first
    };
    let mut lab = Lab::new(&[sticky(web(&pods), timeout)]);
    assert!((0..20).all(|round| trial(&mut lab, 1 + 3 * round, true)), "every new flow refreshes");
    lab.pass(timeout);
    let mut kept = 0;
    for round in 0..40 {
        kept += usize::from(trial(&mut lab, 1000 + 3 * round, false));
        lab.pass(timeout);
    }
    assert!(kept < 30, "10 of 40 by chance, {kept} stayed");
}

// D-075
#[test]
fn affinity_moves_when_the_endpoint_is_not_ready_and_stays_there() {
    let pods = [ready(A1), ready(B1), ready(A2)];
    let mut lab = Lab::new(&[sticky(web(&pods), HOUR)]);
    let first = next(&mut lab, WORKSTATION, 1);
    let without: Vec<_> = pods.iter().map(|ep| if *ep.addr.ip() == first { unready(first) } else { *ep }).collect();
    lab.serve(&[sticky(web(&without), HOUR)]);
    let second = next(&mut lab, WORKSTATION, 2);
    assert_ne!(second, first);
    lab.serve(&[sticky(web(&pods), HOUR)]);
    assert!((3..=40).all(|port| next(&mut lab, WORKSTATION, port) == second));
}

// D-070, D-061
#[test]
fn all_addresses_of_a_service_port_share_affinity_and_other_clients_and_ports_do_not() {
    let pods = [ready(A1), ready(B1), ready(A2), ready(B2)];
    let mut service = sticky(web(&pods), HOUR);
    service.frontends.push((FrontendKind::NodePort, at("10.95.0.11:30080")));
    service.frontends.push((FrontendKind::ExternalIp, at("203.0.113.5:80")));
    let mut other = sticky(web(&pods), HOUR).at(FrontendKind::ClusterIp, "10.96.0.51:80");
    other.name = "other";
    let mut lab = Lab::new(&[service, other]);
    let mut others = 0;
    for round in 0..40u8 {
        // Another client each time: a pod of its own.
        let client = Ipv4Addr::new(10, 244, 0, 100 + round);
        lab.hosts.insert(client, (1000 + u32::from(round), Some(0)));
        lab.install();
        let mut ask = |to: &str| *seen(&lab.send(&tcp(on(client, 7), at(to), SYN)).bytes).dst.ip();
        let first = ask(VIP);
        assert_eq!(ask("10.95.0.11:30080"), first);
        assert_eq!(ask("203.0.113.5:80"), first);
        others += usize::from(ask("10.96.0.51:80") == first);
    }
    assert!(others < 30, "10 of 40 by chance, {others} agreed");
    assert_eq!(lab.counters().affinities, 80);
}

// D-074
#[test]
fn whoever_has_one_address_has_one_affinity() {
    let mut lab = Lab::new(&[sticky(web(&[ready(A1), ready(B1), ready(A2), ready(B2)]), HOUR)]);
    lab.outside = Some(PortId(99));
    lab.install();
    let behind_nat = Ipv4Addr::new(198, 51, 100, 7);
    let reached = |lab: &mut Lab, port| {
        let out = lab.send_bytes(PortId(99), &tcp(on(behind_nat, port), at(VIP), SYN).bytes());
        *seen(&out.bytes).dst.ip()
    };
    let first = reached(&mut lab, 1);
    assert!((2..=30).all(|port| reached(&mut lab, port) == first));
    assert_eq!(lab.counters().affinities, 1);
}

// D-078
#[test]
fn a_client_is_remembered_at_one_endpoint_only() {
    let mut lab = Lab::new(&[sticky(web(&[ready(A1)]), HOUR)]);
    assert_eq!(next(&mut lab, WORKSTATION, 1), A1);
    lab.serve(&[sticky(web(&[unready(A1), ready(A2)]), HOUR)]);
    assert_eq!(next(&mut lab, WORKSTATION, 2), A2);
    lab.serve(&[sticky(web(&[ready(A1), ready(A2)]), HOUR)]);
    assert!((3..=30).all(|port| next(&mut lab, WORKSTATION, port) == A2), "the record of A1 is no more");
    let records: Vec<_> = lab.translator.affinities(lab.now).map(|record| record.endpoint.ip()).collect();
    assert_eq!(records, [crate::lab::real(A2)]);
}

#[test]
fn the_affinity_table_is_limited_and_makes_room_when_records_are_stale() {
    let limits = Limits { max_affinities: 1, ..Limits::default() };
    let timeout = Duration::from_secs(60);
    let mut lab = Lab::with_limits(&[sticky(dns(&[ready(A2)]), timeout)], limits);
    for client in [A1, B1] {
        lab.send(&udp(on(client, 1), at(VIP), b"")).at(&lab, A2);
    }
    assert_eq!((lab.counters().affinities, lab.counters().affinity_limit), (1, 1));
    lab.pass(timeout);
    lab.send(&udp(on(B1, 2), at(VIP), b"")).at(&lab, A2);
    assert_eq!((lab.counters().affinities, lab.counters().affinity_limit), (1, 1));
}
