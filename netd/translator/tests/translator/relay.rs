//! Flows to the outside, through the relay.

use std::time::Duration;

use minisvc_translator::{Checksum, Dial, DialAnswer, DropReason, Limits, PacketBuf, Verdict};

use crate::lab::*;

const OUTSIDE: &str = "192.0.2.1:443";

fn lab(services: &[Svc]) -> Lab {
    let mut lab = Lab::new(services);
    lab.relay = true;
    lab.install();
    lab
}

fn dialled(lab: &mut Lab) -> Dial {
    lab.translator.poll_dial().expect("the relay is asked")
}

/// Answers a dial; what comes of it, packet by packet.
fn answer(lab: &mut Lab, dial: &Dial, answer: DialAnswer) -> Vec<Out> {
    lab.translator.answer(dial, answer, lab.now);
    std::iter::from_fn(|| lab.translator.poll_transmit())
        .map(|(port, bytes)| Out { verdict: Verdict::Forward(port), bytes })
        .collect()
}

#[test]
fn a_connection_begins_when_its_other_half_is_open() {
    let mut lab = lab(&[]);
    let client = on(A1, 40000);
    assert_eq!(lab.send(&tcp(client, at(OUTSIDE), SYN)).verdict, Verdict::Held);
    let dial = dialled(&mut lab);
    assert_eq!((dial.client(), dial.destination), (sock(client), sock(at(OUTSIDE))));
    assert_eq!(
        lab.send(&tcp(client, at(OUTSIDE), SYN)).verdict,
        Verdict::Drop(DropReason::RelayLimit),
        "once is enough"
    );
    assert_eq!(lab.translator.poll_dial(), None);
    let out = answer(&mut lab, &dial, DialAnswer::Open);
    assert_eq!(out.len(), 1);
    assert_eq!(out[0].verdict, Verdict::Forward(RELAY_PORT));
    let syn = seen(&out[0].bytes);
    assert_eq!((syn.src, syn.dst, syn.ttl), (client, on(RELAY, 1), 63));
    let syn_ack = lab.send_bytes(RELAY_PORT, &syn.answer(SYN | ACK, b"").bytes()).at(&lab, A1);
    assert_eq!((syn_ack.src, syn_ack.dst), (at(OUTSIDE), client), "the relay is not seen");
    let ack = lab.send(&syn_ack.answer(ACK, b"hello"));
    assert_eq!((ack.verdict, seen(&ack.bytes).dst), (Verdict::Forward(RELAY_PORT), on(RELAY, 1)));
    let flow = lab.translator.flows().next().unwrap();
    assert_eq!((flow.endpoint, flow.state.as_str()), (sock(at(OUTSIDE)), "ESTABLISHED"));
}

#[test]
fn refusals_of_the_other_half_are_refusals_here() {
    let mut lab = lab(&[]);
    lab.send(&tcp(on(A1, 40000), at(OUTSIDE), SYN));
    let dial = dialled(&mut lab);
    let out = answer(&mut lab, &dial, DialAnswer::Refused);
    let reset = out[0].at(&lab, A1);
    assert_eq!((reset.src, reset.flags & RST, reset.ack), (at(OUTSIDE), RST, 1001));
    for (how, code) in [(DialAnswer::Refused, 3), (DialAnswer::Unreachable, 1)] {
        let question = udp(on(A1, 40000), at(OUTSIDE), b"?");
        lab.send(&question);
        let dial = dialled(&mut lab);
        let out = answer(&mut lab, &dial, how);
        let (src, dst, kind, seen_code, quoted) = seen_icmp(&out[0].bytes);
        assert_eq!((src, dst, kind, seen_code), (NODE_1, A1, 3, code));
        assert_eq!(quoted, question.bytes(), "as the client sent it");
    }
    lab.send(&tcp(on(A1, 40000), at(OUTSIDE), SYN));
    let dial = dialled(&mut lab);
    assert!(answer(&mut lab, &dial, DialAnswer::Silent).is_empty());
    assert_eq!(lab.translator.flows().count(), 0, "nothing is left of them");
}

#[test]
fn datagrams_wait_in_their_order() {
    let mut lab = lab(&[]);
    for payload in [b"1", b"2", b"3"] {
        assert_eq!(lab.send(&udp(on(WORKSTATION, 40000), at(OUTSIDE), payload)).verdict, Verdict::Held);
    }
    let dial = dialled(&mut lab);
    let out = answer(&mut lab, &dial, DialAnswer::Open);
    let seen: Vec<_> = out.iter().map(|out| seen(&out.bytes)).collect();
    assert_eq!(seen.iter().map(|seg| seg.payload.as_slice()).collect::<Vec<_>>(), [b"1", b"2", b"3"]);
    let back = lab.send_bytes(RELAY_PORT, &seen[0].answer(0, b"!").bytes()).at(&lab, WORKSTATION);
    assert_eq!((back.src, back.payload.as_slice()), (at(OUTSIDE), b"!".as_slice()));
}

#[test]
fn the_relay_s_address_is_the_machine_and_nothing_else_of_the_lab_is_outside() {
    let mut lab = lab(&[]);
    lab.send(&tcp(on(A1, 40000), on(RELAY, 5432), SYN));
    assert_eq!(dialled(&mut lab).destination, sock(on(RELAY, 5432)));
    for nobody in ["10.95.0.77:80", "10.95.1.7:80", "10.244.3.3:80"] {
        let (_, _, kind, code, _) = lab.send(&tcp(on(A1, 40000), at(nobody), SYN)).icmp();
        assert_eq!((kind, code), (3, 1), "{nobody}");
    }
    assert_eq!(lab.translator.poll_dial(), None);
    let (_, _, kind, code, _) = lab.send_from(A1, &ping(A1, *at(OUTSIDE).ip())).icmp();
    assert_eq!((kind, code), (3, 0), "only TCP and UDP pass");
}

#[test]
fn one_source_port_serves_many_destinations() {
    let mut lab = lab(&[]);
    let mut clients = Vec::new();
    for host in 1..=100 {
        let verdict = lab.send(&tcp(on(A1, 40000), at(&format!("192.0.2.{host}:443")), SYN)).verdict;
        assert_eq!(verdict, Verdict::Held);
        clients.push(dialled(&mut lab).client());
    }
    clients.sort();
    clients.dedup();
    assert_eq!(clients.len(), 100, "the relay can tell them apart");
}

// D-002, D-039
#[test]
fn an_endpoint_outside_is_reached_through_the_relay() {
    let endpoint = Ep { addr: at("192.0.2.1:5432"), ..ready(A1) };
    let mut lab = lab(&[web(&[endpoint])]);
    let client = on(B1, 40000);
    assert_eq!(lab.send(&tcp(client, at(VIP), SYN)).verdict, Verdict::Held);
    let dial = dialled(&mut lab);
    assert_eq!(dial.destination, sock(at("192.0.2.1:5432")));
    let syn = seen(&answer(&mut lab, &dial, DialAnswer::Open)[0].bytes);
    assert_eq!((syn.src, syn.dst), (client, on(RELAY, 1)));
    let back = lab.send_bytes(RELAY_PORT, &syn.answer(SYN | ACK, b"").bytes()).at(&lab, B1);
    assert_eq!(back.src, at(VIP));
}

// D-082
#[test]
fn udp_flows_to_an_endpoint_outside_live_as_long_as_it_serves() {
    let endpoint = Ep { addr: at("192.0.2.1:53"), ..ready(A1) };
    let mut lab = lab(&[dns(&[endpoint])]);
    lab.send(&udp(on(B1, 40000), at(VIP), b"?"));
    let dial = dialled(&mut lab);
    answer(&mut lab, &dial, DialAnswer::Open);
    lab.install();
    assert_eq!(lab.translator.flows().count(), 1, "a table that says the same changes nothing");
    lab.serve(&[dns(&[])]);
    assert_eq!(lab.translator.flows().count(), 0);
}

#[test]
fn what_waits_is_limited_and_an_answer_that_comes_too_late_does_no_harm() {
    let mut lab = Lab::with_limits(&[], Limits { max_dials: 2, ..Limits::default() });
    lab.relay = true;
    lab.install();
    let verdicts: Vec<_> = (1..=3).map(|port| lab.send(&tcp(on(A1, port), at(OUTSIDE), SYN)).verdict).collect();
    assert_eq!(verdicts, [Verdict::Held, Verdict::Held, Verdict::Drop(DropReason::RelayLimit)]);
    let dial = dialled(&mut lab);
    answer(&mut lab, &dial, DialAnswer::Open);
    assert_eq!(lab.send(&tcp(on(A1, 3), at(OUTSIDE), SYN)).verdict, Verdict::Held, "there is room again");
    let dial = dialled(&mut lab);
    lab.now += Duration::from_secs(600);
    lab.translator.handle_timeout(lab.now);
    assert!(answer(&mut lab, &dial, DialAnswer::Open).is_empty());
    assert_eq!(lab.send(&tcp(on(A1, 9), at(OUTSIDE), SYN)).verdict, Verdict::Held, "there is room again");
}

#[test]
fn a_checksum_that_the_device_would_have_completed_is_complete_when_a_packet_waited() {
    let mut lab = lab(&[]);
    for segment in [tcp(on(A1, 40000), at(OUTSIDE), SYN), udp(on(A1, 40000), at(OUTSIDE), b"odd")] {
        let mut bytes = segment.bytes();
        let field = HEADER + if segment.flags == 0 { 6 } else { 16 };
        let length = u16::try_from(bytes.len() - HEADER).unwrap();
        let (client, outside) = (real(A1), real(*at(OUTSIDE).ip()));
        let pseudo = minisvc_translator::packet::pseudo_header(client, outside, segment.protocol.number(), length);
        bytes[field..field + 2].copy_from_slice(&minisvc_translator::packet::fold(pseudo).to_be_bytes());
        let mut storage = vec![0; 2048];
        storage[..bytes.len()].copy_from_slice(&bytes);
        let mut buf = PacketBuf::new(&mut storage, bytes.len(), Checksum::Partial);
        assert_eq!(lab.translator.handle(lab.port_of(A1), &mut buf, lab.now), Verdict::Held);
        let dial = dialled(&mut lab);
        let out = answer(&mut lab, &dial, DialAnswer::Open);
        assert_eq!(seen(&out[0].bytes).dst, on(RELAY, 1));
    }
}

#[test]
fn datagrams_that_were_sent_in_one_go_leave_one_by_one_when_they_had_to_wait() {
    let mut lab = lab(&[]);
    let client = on(A1, 40000);
    let sent: Vec<u8> = (0..2500u32).map(|n| n.to_le_bytes()[0]).collect();
    let mut bytes = udp(client, at(OUTSIDE), &sent).bytes();
    // As a device leaves it: the sum of the pseudo-header only.
    let length = u16::try_from(bytes.len() - HEADER).unwrap();
    let pseudo = minisvc_translator::packet::pseudo_header(real(A1), real(*at(OUTSIDE).ip()), 17, length);
    let sum = minisvc_translator::packet::fold(pseudo).to_be_bytes();
    bytes[HEADER + 6..HEADER + 8].copy_from_slice(&sum);
    let send = |lab: &mut Lab| {
        let mut storage = bytes.clone();
        let mut buf = PacketBuf::new(&mut storage, bytes.len(), Checksum::Partial).in_datagrams(1000);
        lab.translator.handle(lab.port_of(A1), &mut buf, lab.now)
    };
    assert_eq!((send(&mut lab), send(&mut lab)), (Verdict::Held, Verdict::Held));
    let dial = dialled(&mut lab);
    let out = answer(&mut lab, &dial, DialAnswer::Open);
    let arrived: Vec<Vec<u8>> = out.iter().map(|out| seen(&out.bytes).payload).collect();
    assert_eq!(arrived.iter().map(Vec::len).collect::<Vec<_>>(), [1000, 1000, 500, 1000, 1000, 500]);
    assert_eq!(arrived.concat(), [&sent[..], &sent].concat());
}

#[test]
fn what_waits_is_limited_in_bytes_and_makes_room_when_it_goes() {
    let mut lab = Lab::with_limits(&[], Limits { max_dial_bytes: 3000, max_held_per_dial: 4, ..Limits::default() });
    lab.relay = true;
    lab.install();
    let question = |port| udp(on(A1, port), at(OUTSIDE), &[7; 1000]);
    let verdicts: Vec<_> = [1, 1, 1, 1, 2].map(|port| lab.send(&question(port)).verdict).to_vec();
    let full = Verdict::Drop(DropReason::RelayLimit);
    assert_eq!(verdicts, [Verdict::Held, Verdict::Held, Verdict::Held, full, full]);
    let dial = dialled(&mut lab);
    assert_eq!(answer(&mut lab, &dial, DialAnswer::Open).len(), 3);
    assert_eq!(lab.send(&question(2)).verdict, Verdict::Held);
}

#[test]
fn the_middle_of_a_connection_that_nobody_knows_is_reset() {
    let mut lab = lab(&[]);
    lab.send(&tcp(on(A1, 40000), at(OUTSIDE), ACK)).reset();
    assert_eq!(lab.translator.poll_dial(), None);
}
