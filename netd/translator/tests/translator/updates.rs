//! What a new table does to flows that are there.

use std::collections::BTreeSet;
use std::net::Ipv4Addr;
use std::time::Duration;

use minisvc_translator::{FlowState, FrontendKind, Verdict};

use crate::lab::{
    A1, A2, ACK, B1, B2, Ep, FIN, Lab, RST, SYN, Svc, VIP, WORKSTATION, at, dns, draining, failing, on, ready, seen,
    sock, tcp, udp, unready, web,
};

/// Sends on an established connection both ways.
#[track_caller]
fn goes_on(lab: &mut Lab, port: u16, endpoint: Ipv4Addr) {
    let data = lab.send(&tcp(on(WORKSTATION, port), at(VIP), ACK).data(b"more")).at(lab, endpoint);
    let answer = lab.send(&data.answer(ACK, b"more")).at(lab, WORKSTATION);
    assert_eq!(answer.src, at(VIP));
}

// D-003, D-034, D-089
#[test]
fn connections_go_on_whatever_becomes_of_their_endpoint() {
    let changes: [(&str, &[Ep]); 4] =
        [("unready", &[unready(A2)]), ("draining", &[draining(A2)]), ("failing", &[failing(A2)]), ("removed", &[])];
    for (name, endpoints) in changes {
        let mut lab = Lab::new(&[web(&[ready(A2)])]);
        lab.connect(on(WORKSTATION, 40000), at(VIP));
        lab.serve(&[web(endpoints)]);
        goes_on(&mut lab, 40000, A2);
        // And while the old one goes on, a new one meets what is there now.
        let out = lab.send(&tcp(on(WORKSTATION, 40001), at(VIP), SYN));
        assert_eq!(out.verdict == Verdict::Reply, name != "draining", "{name}");
        lab.serve(&[web(&[ready(B1)])]);
        goes_on(&mut lab, 40000, A2);
        lab.send(&tcp(on(WORKSTATION, 40002), at(VIP), SYN)).at(&lab, B1);
    }
}

// D-096, D-097
#[test]
fn connections_go_on_when_their_service_changes_or_goes() {
    let mut lab = Lab::new(&[web(&[ready(A2)])]);
    lab.connect(on(WORKSTATION, 40000), at(VIP));
    lab.serve(&[web(&[ready(A2)]).at(FrontendKind::ClusterIp, "10.96.0.50:81")]);
    goes_on(&mut lab, 40000, A2);
    lab.serve(&[]);
    goes_on(&mut lab, 40000, A2);
    assert!(lab.transmitted().is_empty(), "nobody was reset");
    let out = lab.send(&tcp(on(WORKSTATION, 40001), at(VIP), SYN));
    assert_eq!(out.verdict, Verdict::Drop(minisvc_translator::DropReason::NoService));
}

// D-090
#[test]
fn when_a_pod_leaves_the_network_its_connections_are_reset_at_the_other_end() {
    let mut lab = Lab::new(&[web(&[ready(A2)])]);
    let client = on(WORKSTATION, 40000);
    let syn = lab.connect(client, at(VIP));
    lab.send(&tcp(client, at(VIP), ACK).data(b"12345").numbers(1001, 2001));
    lab.send(&syn.answer(ACK, b"123").numbers(2001, 1006));
    lab.hosts.remove(&A2);
    lab.install();
    let sent = lab.transmitted();
    let [(port, bytes)] = &sent[..] else { panic!("one RST: {sent:?}") };
    assert_eq!(*port, lab.port_of(WORKSTATION));
    let rst = seen(bytes);
    assert_eq!((rst.src, rst.dst, rst.flags), (at(VIP), client, RST | ACK));
    assert_eq!((rst.seq, rst.ack), (2004, 1006), "exactly where the connection stands (RFC 5961 3.2)");
    assert_eq!((lab.flows().len(), lab.counters().flows_severed), (0, 1));
    // Should it have been lost, the next segment is answered too.
    let again = lab.send(&tcp(client, at(VIP), ACK).numbers(1006, 2004)).reset();
    assert_eq!((again.src, again.seq), (at(VIP), 2004));
}

// D-090
#[test]
fn a_reset_fits_after_the_sequence_numbers_wrapped_and_a_segment_came_twice() {
    let mut lab = Lab::new(&[web(&[ready(A2)])]);
    let client = on(WORKSTATION, 40000);
    let syn = lab.connect(client, at(VIP));
    let data = |seq: u32| syn.answer(ACK, &[0; 100]).numbers(seq, 1001);
    // The numbers move by less than half the circle at a time (RFC 9293 3.4).
    for seq in [0x7000_0000, 0xe000_0000, u32::MAX - 49, u32::MAX - 149] {
        lab.send(&data(seq)).at(&lab, WORKSTATION);
    }
    lab.hosts.remove(&A2);
    lab.install();
    assert_eq!(seen(&lab.transmitted()[0].1).seq, 50);
}

// D-090
#[test]
fn a_connection_that_was_not_answered_yet_is_refused_when_its_pod_leaves() {
    let mut lab = Lab::new(&[web(&[ready(A2)])]);
    lab.send(&tcp(on(WORKSTATION, 40000), at(VIP), SYN).numbers(500, 0));
    lab.hosts.remove(&A2);
    lab.install();
    let rst = seen(&lab.transmitted()[0].1);
    assert_eq!((rst.flags, rst.seq, rst.ack), (RST | ACK, 0, 501), "as a closed port answers a SYN");
}

// D-090
#[test]
fn when_a_client_leaves_the_network_its_endpoints_are_reset() {
    let mut lab = Lab::new(&[web(&[ready(A2)])]);
    let syn = lab.connect(on(A1, 40000), at(VIP));
    lab.connect(on(A1, 40001), on(B2, 22));
    lab.connect(on(B1, 40000), at(VIP));
    lab.hosts.remove(&A1);
    lab.install();
    let sent: Vec<_> = lab.transmitted().into_iter().map(|(port, bytes)| (port, seen(&bytes))).collect();
    assert_eq!(sent.iter().map(|(port, _)| *port).collect::<Vec<_>>(), [lab.port_of(A2), lab.port_of(B2)]);
    assert_eq!((sent[0].1.src, sent[0].1.dst, sent[0].1.seq), (syn.src, syn.dst, 1001));
    assert_eq!(lab.flows().len(), 1, "the other client's connection goes on");
}

// D-090
#[test]
fn a_pod_that_took_over_an_address_gets_nothing_of_its_predecessors_connections() {
    let mut lab = Lab::new(&[web(&[ready(A2)]), dns(&[ready(A2)])]);
    let client = on(WORKSTATION, 40000);
    lab.connect(client, at(VIP));
    lab.send(&udp(client, at(VIP), b"question"));
    lab.hosts.insert(A2, (777, Some(1)));
    lab.install();
    assert!(lab.flows().is_empty());
    assert_eq!(lab.transmitted().len(), 1);
    lab.send(&tcp(client, at(VIP), ACK)).reset();
}

#[test]
fn segments_to_a_pod_that_has_gone_are_reset_without_a_service_too() {
    let mut lab = Lab::new(&[]);
    lab.connect(on(A1, 40000), on(A2, 22));
    lab.hosts.remove(&A2);
    lab.install();
    assert_eq!(lab.transmitted().len(), 1);
    let rst = lab.send(&tcp(on(A1, 40000), on(A2, 22), ACK)).reset();
    assert_eq!(rst.src, on(A2, 22));
    // A new connection is told that nobody is there.
    assert_eq!(lab.send(&tcp(on(A1, 40001), on(A2, 22), SYN)).icmp().3, 1);
}

#[test]
fn resets_of_our_own_are_limited() {
    let limits = minisvc_translator::Limits { max_pending: 3, ..Default::default() };
    let mut lab = Lab::with_limits(&[web(&[ready(A2)])], limits);
    for port in 1..=5 {
        lab.connect(on(WORKSTATION, port), at(VIP));
    }
    lab.hosts.remove(&A2);
    lab.install();
    assert_eq!((lab.transmitted().len(), lab.counters().pending_limit), (3, 2));
}

/// Whether a UDP flow to `A2` is gone after the Service became this.
fn is_cleared(after: &[Svc]) -> bool {
    let mut lab = Lab::new(&[dns(&[ready(A2)])]);
    lab.send(&udp(on(A1, 40000), at(VIP), b"question")).at(&lab, A2);
    lab.serve(after);
    let cleared = lab.flows().is_empty();
    assert_eq!(lab.counters().flows_cleared, u64::from(cleared));
    cleared
}

#[test]
fn udp_flows_end_when_their_endpoint_no_longer_serves() {
    let moved = Ep { addr: on(A2, 9090), ..ready(A2) };
    let rows: &[(&str, &str, Vec<Svc>, bool)] = &[
        ("D-080", "nothing changed", vec![dns(&[ready(A2)])], false),
        ("D-080", "another endpoint instead", vec![dns(&[ready(B1)])], true),
        ("D-080", "another targetPort", vec![dns(&[moved])], true),
        ("D-081", "terminating, still serving", vec![dns(&[draining(A2), ready(B1)])], false),
        ("D-086", "unready", vec![dns(&[unready(A2), ready(B1)])], true),
        ("D-086", "another one unready", vec![dns(&[ready(A2), unready(B1)])], false),
        ("D-082", "no endpoint left", vec![dns(&[])], true),
        ("D-082", "the Service deleted", vec![], true),
        ("D-083", "another port of the Service gone", vec![dns(&[ready(A2)]), web(&[])], false),
        ("D-096", "the port renumbered", vec![dns(&[ready(A2)]).at(FrontendKind::ClusterIp, "10.96.0.50:81")], true),
    ];
    for (statement, name, after, expected) in rows {
        assert_eq!(is_cleared(after), *expected, "{statement}: {name}");
    }
}

// D-079, D-085
#[test]
fn a_client_with_a_constant_source_port_stays_and_then_reaches_the_new_pod() {
    let mut lab = Lab::new(&[dns(&[ready(A1), ready(A2), ready(B1), ready(B2)])]);
    let question = udp(on(WORKSTATION, 40000), at(VIP), b"question");
    let first = *seen(&lab.send(&question).bytes).dst.ip();
    for _ in 0..20 {
        lab.send(&question).at(&lab, first);
    }
    lab.hosts.remove(&first);
    let new = Ipv4Addr::new(10, 244, 1, 20);
    lab.hosts.insert(new, (120, Some(1)));
    lab.serve(&[dns(&[ready(new)])]);
    lab.send(&question).at(&lab, new);
}

// D-084
#[test]
fn a_flow_from_before_the_service_does_not_keep_its_client_away() {
    let node_port = |endpoints: &[Ep]| [dns(endpoints).at(FrontendKind::NodePort, "10.95.0.11:30053")];
    let mut lab = Lab::new(&[]);
    let question = udp(on(WORKSTATION, 40000), at("10.95.0.11:30053"), b"question");
    lab.send(&question).at(&lab, crate::lab::NODE_1);
    lab.serve(&node_port(&[unready(A2)]));
    assert_eq!(lab.flows().len(), 1, "not when the first endpoint appears unready");
    lab.serve(&node_port(&[ready(A2)]));
    lab.send(&question).at(&lab, A2);
}

// D-088
#[test]
fn the_new_rules_hold_before_flows_are_cleared_so_that_none_comes_back() {
    let mut lab = Lab::new(&[dns(&[ready(A2)])]);
    let question = |port| udp(on(A1, port), at(VIP), b"question");
    for port in 1..=100 {
        lab.send(&question(port)).at(&lab, A2);
    }
    lab.serve(&[dns(&[ready(B1)])]);
    assert_eq!((lab.flows().len(), lab.counters().flows_cleared), (0, 100), "all at once");
    for port in 1..=100 {
        lab.send(&question(port)).at(&lab, B1);
    }
    // Nothing is left to be cleared with the next change.
    lab.serve(&[dns(&[ready(B1), ready(B2)])]);
    assert_eq!((lab.flows().len(), lab.counters().flows_cleared), (100, 100));
}

// D-117
#[test]
fn without_its_flows_the_translator_ends_connections_and_mixes_none_up() {
    let services = [web(&[ready(A2), ready(B1)]), dns(&[ready(A2)])];
    let mut lab = Lab::new(&services);
    let client = on(A1, 40000);
    let syn = lab.connect(client, at(VIP));
    // Another translator, which has seen nothing.
    let mut lab = Lab::new(&services);
    let reset = lab.send(&tcp(client, at(VIP), ACK).data(b"more")).reset();
    assert_eq!((reset.src, reset.dst), (at(VIP), client));
    // The endpoint's packets reach whom they are for, as what they are: the client knows no such connection and resets it.
    let stray = lab.send(&syn.answer(ACK, b"more")).at(&lab, A1);
    assert_eq!((stray.src, stray.dst), (syn.dst, client));
    let reset = lab.send(&stray.answer(RST, b"")).at(&lab, *syn.dst.ip());
    assert_eq!((reset.src, reset.dst), (client, syn.dst));
    lab.connect(client, at(VIP));
    lab.send(&udp(client, at(VIP), b"question")).at(&lab, A2);
}

// D-087
#[test]
fn tcp_flows_are_never_cleared() {
    let mut lab = Lab::new(&[web(&[ready(A2)])]);
    lab.connect(on(A1, 40000), at(VIP));
    lab.serve(&[]);
    assert_eq!(lab.flows().len(), 1);
    assert_eq!(lab.counters().flows_cleared, 0);
}

// D-126, D-129, D-130
#[test]
fn every_change_shows_in_new_flows() {
    let mut lab = Lab::new(&[]);
    let mut port = 0;
    let mut reached = |lab: &mut Lab, to: &str| -> BTreeSet<Ipv4Addr> {
        let outs = (0..40).map(|_| {
            port += 1;
            lab.send(&tcp(on(WORKSTATION, port), at(to), SYN))
        });
        outs.filter(|out| matches!(out.verdict, Verdict::Forward(_))).map(|out| *seen(&out.bytes).dst.ip()).collect()
    };
    assert_eq!(reached(&mut lab, VIP), BTreeSet::new());
    lab.serve(&[web(&[ready(A1)])]);
    assert_eq!(reached(&mut lab, VIP), BTreeSet::from([A1]), "scaled to one");
    lab.serve(&[web(&[ready(A1), ready(B1), ready(A2)])]);
    assert_eq!(reached(&mut lab, VIP), BTreeSet::from([A1, B1, A2]), "scaled to three");
    lab.serve(&[web(&[unready(A1), ready(B1), draining(A2)])]);
    assert_eq!(reached(&mut lab, VIP), BTreeSet::from([B1]), "readiness");
    let other = web(&[ready(B1)]).at(FrontendKind::ClusterIp, "10.96.0.51:80");
    lab.serve(&[web(&[ready(B1)]), other.clone()]);
    assert_eq!(reached(&mut lab, "10.96.0.51:80"), BTreeSet::from([B1]), "another Service with the same pods");
    assert_eq!(reached(&mut lab, VIP), BTreeSet::from([B1]));
    lab.serve(&[other]);
    assert_eq!(reached(&mut lab, VIP), BTreeSet::new(), "the old address is gone");
    assert_eq!(reached(&mut lab, "10.96.0.51:80"), BTreeSet::from([B1]));
}

// D-127, D-128
#[test]
fn a_renumbered_port_is_refused_at_the_old_number() {
    let mut lab = Lab::new(&[web(&[ready(A2)])]);
    lab.send(&tcp(on(A1, 1), at(VIP), SYN)).at(&lab, A2);
    let mut moved = web(&[ready(A2)]).at(FrontendKind::ClusterIp, "10.96.0.50:8000");
    moved.frontends.push((FrontendKind::NodePort, at("10.95.0.11:30080")));
    lab.serve(std::slice::from_ref(&moved));
    lab.send(&tcp(on(A1, 2), at(VIP), SYN)).reset();
    lab.send(&tcp(on(A1, 2), at("10.96.0.50:8000"), SYN)).at(&lab, A2);
    lab.send(&tcp(on(A1, 2), at("10.95.0.11:30080"), SYN)).at(&lab, A2);
    moved.frontends[1].1.set_port(30081);
    lab.serve(&[moved]);
    lab.send(&tcp(on(A1, 3), at("10.95.0.11:30081"), SYN)).at(&lab, A2);
    // The old nodePort is the node's own again, whose stack refuses it (D-060).
    lab.send(&tcp(on(A1, 3), at("10.95.0.11:30080"), SYN)).at(&lab, crate::lab::NODE_1);
}

// D-093
#[test]
fn a_terminating_pod_still_opens_connections_and_is_reached_by_its_address() {
    let mut lab = Lab::new(&[web(&[draining(A1), ready(A2)])]);
    assert_eq!(*lab.connect(on(A1, 40000), at(VIP)).dst.ip(), A2);
    lab.connect(on(WORKSTATION, 40000), on(A1, 8080));
    assert!(lab.flows().iter().all(|flow| flow.state == FlowState::Established));
}

/// A connection to the web Service that both sides close in order.
fn closed_in_order(lab: &mut Lab, port: u16) {
    let client = on(WORKSTATION, port);
    let syn = lab.connect(client, at(VIP));
    lab.send(&tcp(client, at(VIP), FIN | ACK));
    lab.send(&syn.answer(FIN | ACK, b""));
    lab.send(&tcp(client, at(VIP), ACK));
}

// D-090
#[test]
fn closed_connections_do_not_push_out_the_memory_of_broken_ones() {
    let mut lab = Lab::new(&[web(&[ready(A2)])]);
    let refused = on(WORKSTATION, 40_000);
    let syn = lab.send(&tcp(refused, at(VIP), SYN)).at(&lab, A2);
    lab.send(&syn.answer(RST | ACK, b""));
    // More than are remembered.
    for port in 20_000..21_100 {
        closed_in_order(&mut lab, port);
        lab.now += Duration::from_millis(1);
    }
    lab.hosts.remove(&A2);
    lab.install();
    assert_eq!(lab.counters().flows_severed, 1101);
    let remembered: Vec<_> = lab.translator.severed().map(|flow| flow.original.source()).collect();
    let (broken, closed) = remembered.split_last().expect("some are remembered");
    assert_eq!(*broken, sock(refused));
    assert_eq!(closed.len(), 1024);
    assert_eq!((closed[0], closed[1023]), (sock(on(WORKSTATION, 20_076)), sock(on(WORKSTATION, 21_099))));
}
