//! What the flow table remembers, for how long, and what gives way when it is full.

use std::collections::BTreeSet;
use std::time::Duration;

use minisvc_translator::{DropReason, FlowState, Limits, Verdict};

use crate::lab::{
    A1, A2, ACK, B1, B2, FIN, HEADER, Lab, RST, SYN, VIP, WORKSTATION, at, dns, on, ready, seen, sock, tcp, udp, web,
};

const SECOND: Duration = Duration::from_secs(1);

// D-002, D-003, D-022
#[test]
fn all_packets_of_a_connection_go_to_one_endpoint_and_come_from_the_vip() {
    let mut lab = Lab::new(&[web(&[ready(A1), ready(B1), ready(A2), ready(B2)])]);
    let client = on(WORKSTATION, 40000);
    let syn = lab.connect(client, at(VIP));
    let endpoint = *syn.dst.ip();
    for round in 0..50 {
        let request = tcp(client, at(VIP), ACK).data(b"request").numbers(round, 0);
        let request = lab.send(&request).at(&lab, endpoint);
        assert_eq!((request.dst, &*request.payload), (syn.dst, &b"request"[..]));
        let answer = lab.send(&request.answer(ACK, b"answer")).at(&lab, WORKSTATION);
        assert_eq!((answer.src, answer.dst, &*answer.payload), (at(VIP), client, &b"answer"[..]));
    }
}

// D-122
#[test]
fn a_record_shows_the_whole_flow() {
    let mut lab = Lab::new(&[web(&[ready(A2)])]);
    lab.connect(on(A1, 40000), at(VIP));
    let [record] = &lab.flows()[..] else { panic!("one flow") };
    assert_eq!(record.original.source(), sock(on(A1, 40000)));
    assert_eq!(record.original.destination(), sock(at(VIP)));
    assert_eq!(record.reply.source(), sock(on(A2, 8080)));
    assert_eq!(record.reply.destination(), sock(on(A1, 40000)));
    assert_eq!(record.endpoint, sock(on(A2, 8080)));
    assert_eq!(record.service.as_ref().unwrap().to_string(), "default/web");
    assert_eq!((record.state, record.source_changed), (FlowState::Established, false));
    assert_eq!(record.expires, lab.now + Duration::from_secs(24 * 3600));
    let segment = u64::try_from(HEADER + 20).unwrap();
    assert_eq!((record.packets, record.bytes), ((2, 1), (2 * segment, segment)));
    assert_eq!(record.ports, (lab.port_of(A1), lab.port_of(A2)));
}

// D-120
#[test]
fn a_retransmitted_syn_goes_to_the_same_endpoint() {
    let mut lab = Lab::new(&[web(&[ready(A1), ready(B1), ready(A2), ready(B2)])]);
    let syn = tcp(on(WORKSTATION, 40000), at(VIP), SYN);
    let first = seen(&lab.send(&syn).bytes).dst;
    for _ in 0..20 {
        lab.pass(SECOND);
        assert_eq!(seen(&lab.send(&syn).bytes).dst, first);
    }
    assert_eq!(lab.flows().len(), 1);
}

// D-116
#[test]
fn a_segment_without_a_flow_is_reset_and_never_balanced() {
    let mut lab = Lab::new(&[web(&[ready(A2)])]);
    for flags in [ACK, FIN | ACK, SYN | ACK] {
        let stray = tcp(on(A1, 40000), at(VIP), flags).numbers(5, 777);
        let rst = lab.send(&stray).reset();
        assert_eq!((rst.src, rst.dst, rst.seq, rst.flags), (at(VIP), on(A1, 40000), 777, RST));
    }
    let bare = lab.send(&tcp(on(A1, 40000), at(VIP), FIN).numbers(5, 0).data(b"abc")).reset();
    assert_eq!((bare.seq, bare.ack, bare.flags), (0, 5 + 3 + 1, RST | ACK), "RFC 9293 3.10.7.1");
    let rst = lab.send(&tcp(on(A1, 40000), at(VIP), RST));
    assert_eq!(rst.verdict, Verdict::Drop(DropReason::Unanswerable));
    assert!(lab.flows().is_empty());
}

/// Ends a connection in one of the ways that leave a record behind.
fn finish(lab: &mut Lab, port: u16, by_reset: bool) {
    let client = on(WORKSTATION, port);
    let endpoint = lab.connect(client, at(VIP));
    if by_reset {
        lab.send(&tcp(client, at(VIP), RST));
        return;
    }
    lab.send(&tcp(client, at(VIP), FIN | ACK));
    lab.send(&endpoint.answer(FIN | ACK, b""));
    lab.send(&tcp(client, at(VIP), ACK));
}

// D-118
#[test]
fn a_syn_on_a_finished_connection_chooses_again() {
    for (by_reset, state) in [(false, FlowState::TimeWait), (true, FlowState::Closed)] {
        let mut lab = Lab::new(&[web(&[ready(A1), ready(B1), ready(A2), ready(B2)])]);
        let mut reached = BTreeSet::new();
        for _ in 0..50 {
            finish(&mut lab, 40000, by_reset);
            let [record] = &lab.flows()[..] else { panic!("one flow") };
            assert_eq!(record.state, state);
            reached.insert(record.endpoint);
        }
        assert_eq!(reached.len(), 4);
    }
}

#[test]
fn a_syn_on_an_established_connection_is_the_endpoints_to_judge() {
    let mut lab = Lab::new(&[web(&[ready(A1), ready(B1), ready(A2), ready(B2)])]);
    let first = lab.connect(on(WORKSTATION, 40000), at(VIP));
    for _ in 0..20 {
        let again = lab.send(&tcp(on(WORKSTATION, 40000), at(VIP), SYN));
        assert_eq!(seen(&again.bytes).dst, first.dst);
    }
    assert_eq!(lab.flows()[0].state, FlowState::Established);
}

/// A flow in a state, and how long it lasts there.
#[test]
fn flows_end_after_the_idle_time_of_their_state() {
    type Walk = fn(&mut Lab);
    const CLIENT: (std::net::Ipv4Addr, u16) = (A1, 40000);
    fn client(lab: &mut Lab, flags: u8) {
        lab.send(&tcp(on(CLIENT.0, CLIENT.1), at(VIP), flags));
    }
    fn server(lab: &mut Lab, flags: u8) {
        lab.send(&tcp(on(A2, 8080), on(CLIENT.0, CLIENT.1), flags));
    }
    fn question(lab: &mut Lab) {
        lab.send(&udp(on(CLIENT.0, CLIENT.1), at(VIP), b""));
    }
    fn answer(lab: &mut Lab) {
        lab.send(&udp(on(A2, 8080), on(CLIENT.0, CLIENT.1), b""));
    }
    fn handshake(lab: &mut Lab) {
        client(lab, SYN);
        server(lab, SYN | ACK);
        client(lab, ACK);
    }
    fn half_closed(lab: &mut Lab) {
        handshake(lab);
        client(lab, FIN | ACK);
        server(lab, ACK);
    }
    let rows: &[(&str, FlowState, u64, Walk)] = &[
        ("D-113", FlowState::SynSent, 120, |lab| client(lab, SYN)),
        ("D-113", FlowState::SynReceived, 60, |lab| {
            client(lab, SYN);
            server(lab, SYN | ACK);
        }),
        ("D-113", FlowState::Established, 86_400, handshake),
        ("D-113", FlowState::FinWait, 120, |lab| {
            handshake(lab);
            server(lab, FIN | ACK);
        }),
        ("D-113", FlowState::CloseWait, 3600, half_closed),
        ("D-113", FlowState::LastAck, 30, |lab| {
            half_closed(lab);
            server(lab, FIN | ACK);
        }),
        ("D-113", FlowState::TimeWait, 120, |lab| {
            half_closed(lab);
            server(lab, FIN | ACK);
            client(lab, ACK);
        }),
        ("D-113", FlowState::Closed, 10, |lab| {
            handshake(lab);
            server(lab, RST);
        }),
        ("D-113", FlowState::Unreplied, 30, question),
        ("D-113", FlowState::Replied, 30, |lab| {
            question(lab);
            answer(lab);
        }),
        ("D-113", FlowState::Stream, 120, |lab| {
            question(lab);
            answer(lab);
            lab.pass(3 * SECOND);
            question(lab);
        }),
        ("D-121", FlowState::Stream, 120, |lab| {
            question(lab);
            answer(lab);
            lab.pass(3 * SECOND);
            answer(lab);
            lab.pass(119 * SECOND);
            answer(lab);
        }),
    ];
    for &(statement, state, seconds, walk) in rows {
        let mut lab = Lab::new(&[web(&[ready(A2)]), dns(&[ready(A2)])]);
        walk(&mut lab);
        let name = format!("{statement}: {state}");
        assert_eq!(lab.flows().iter().map(|flow| flow.state).collect::<Vec<_>>(), [state], "{name}");
        lab.pass(Duration::from_secs(seconds) - SECOND);
        assert_eq!(lab.counters().flows, 1, "{name}: still there");
        // The timer that the caller is told of ends it, with no packet needed.
        let end = lab.now + SECOND;
        while let Some(next) = lab.translator.poll_timeout() {
            assert!(next <= end + SECOND, "{name}: {:?} late", next - end);
            lab.now = next;
            lab.translator.handle_timeout(next);
        }
        assert!(lab.now >= end, "{name}: not before");
        assert_eq!((lab.counters().flows, lab.counters().flows_expired), (0, 1), "{name}: ended");
    }
}

#[test]
fn a_flow_whose_time_has_come_is_not_found_even_if_nobody_handled_the_timeout() {
    let mut lab = Lab::new(&[dns(&[ready(A2)])]);
    lab.send(&udp(on(A1, 40000), at(VIP), b"question"));
    lab.now += 30 * SECOND;
    let late = udp(on(A2, 8080), on(A1, 40000), b"answer");
    let out = lab.send(&late);
    assert_eq!(seen(&out.bytes).src, on(A2, 8080), "it is a packet like any other now");
    assert_eq!(lab.counters().flows_expired, 1);
}

fn small(max_flows: usize) -> Limits {
    Limits { max_flows, ..Limits::default() }
}

// D-114
#[test]
fn when_the_table_is_full_unproven_and_closing_flows_give_way_first() {
    let mut lab = Lab::with_limits(&[web(&[ready(A2)])], small(4));
    lab.connect(on(A1, 1), at(VIP));
    lab.connect(on(A1, 2), at(VIP));
    lab.send(&tcp(on(A1, 3), at(VIP), SYN));
    finish(&mut lab, 4, true);
    let ports = |lab: &Lab| lab.flows().iter().map(|flow| flow.original.src_port).collect::<BTreeSet<_>>();
    lab.connect(on(A1, 5), at(VIP));
    assert_eq!(ports(&lab), BTreeSet::from([1, 2, 4, 5]), "the half-open one went first: it was weak longest");
    lab.connect(on(A1, 6), at(VIP));
    assert_eq!(ports(&lab), BTreeSet::from([1, 2, 5, 6]), "then the closed one");
    assert_eq!(lab.counters().flows_evicted, 2);
}

// D-114, D-115
#[test]
fn when_nothing_may_give_way_new_flows_are_dropped_and_old_ones_go_on() {
    let mut lab = Lab::with_limits(&[web(&[ready(A2)])], small(2));
    let syn = lab.connect(on(A1, 1), at(VIP));
    lab.connect(on(A1, 2), at(VIP));
    let out = lab.send(&tcp(on(A1, 3), at(VIP), SYN));
    assert_eq!(out.verdict, Verdict::Drop(DropReason::FlowLimit));
    lab.send(&tcp(on(A1, 1), at(VIP), ACK)).at(&lab, A2);
    lab.send(&syn.answer(ACK, b"")).at(&lab, A1);
    let counters = lab.counters();
    assert_eq!((counters.dropped(DropReason::FlowLimit), counters.flows), (1, 2));
    // Direct traffic needs no record to be delivered.
    lab.send(&tcp(on(A1, 3), on(A2, 22), SYN)).at(&lab, A2);
    assert_eq!(lab.counters().untracked, 1);
}

#[test]
fn a_direct_connection_whose_record_was_lost_is_adopted() {
    let mut lab = Lab::new(&[]);
    lab.send(&tcp(on(A1, 1), on(A2, 22), ACK)).at(&lab, A2);
    assert_eq!(lab.flows()[0].state, FlowState::Adopted);
    lab.send(&tcp(on(A2, 22), on(A1, 1), ACK)).at(&lab, A1);
    assert_eq!(lab.flows()[0].state, FlowState::Established);
    // What only ends something begins nothing.
    lab.send(&tcp(on(A1, 2), on(A2, 22), RST)).at(&lab, A2);
    assert_eq!(lab.flows().len(), 1);
}

#[test]
fn a_packet_of_a_host_to_itself_is_reflected_and_its_two_directions_stay_apart() {
    let mut lab = Lab::new(&[]);
    let question = lab.send(&udp(on(A1, 7), on(A1, 7), b"")).at(&lab, A1);
    assert_ne!(question.src.port(), 7);
    let answer = lab.send(&question.answer(0, b"")).at(&lab, A1);
    assert_eq!((answer.src, answer.dst), (on(A1, 7), on(A1, 7)));
    assert_eq!(lab.flows().len(), 1);
}
