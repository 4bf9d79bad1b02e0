//! Datagrams in fragments.

use std::time::Duration;

use etherparse::{IpFragOffset, IpNumber, Ipv4Header, Ipv6FragmentHeader};
use minisvc_translator::{DialAnswer, DropReason, Limits, Verdict};

use crate::IPV6;
use crate::lab::{
    A1, A2, B1, Ip, Lab, Out, RELAY, RELAY_PORT, Seg, VIP, at, dns, ip_of, ip_packet, on, ping, ready, seen, udp,
};

/// Cuts a packet into fragments with this many bytes each.
fn cut(packet: &[u8], size: usize, id: u16) -> Vec<Vec<u8>> {
    let ip = ip_of(packet);
    let count = ip.payload.len().div_ceil(size);
    let pieces = ip.payload.chunks(size).enumerate().map(|(index, piece)| {
        let offset = IpFragOffset::try_new(u16::try_from(index * size / 8).unwrap()).unwrap();
        let more = index + 1 < count;
        if IPV6 {
            let header = Ipv6FragmentHeader::new(IpNumber(packet[6]), offset, more, id.into()).to_bytes();
            return ip_packet(ip.src, ip.dst, ip.ttl, IpNumber::IPV6_FRAGMENTATION_HEADER, &[&header, piece]);
        }
        let (mut header, _) = Ipv4Header::from_slice(packet).unwrap();
        (header.identification, header.dont_fragment) = (id, false);
        (header.more_fragments, header.fragment_offset) = (more, offset);
        header.set_payload_len(piece.len()).unwrap();
        header.header_checksum = header.calc_header_checksum();
        [&*header.to_bytes(), piece].concat()
    });
    pieces.collect()
}

/// A fragment as its receiver sees it.
struct Piece {
    ip: Ip,
    number: u32,
    offset: usize,
    protocol: IpNumber,
    body: Vec<u8>,
}

fn piece(bytes: &[u8]) -> Piece {
    let ip = ip_of(bytes);
    if IPV6 {
        let (header, body) = Ipv6FragmentHeader::from_slice(&bytes[40..]).unwrap();
        let offset = usize::from(header.fragment_offset.value()) * 8;
        let (number, protocol) = (header.identification, header.next_header);
        return Piece { ip, number, offset, protocol, body: body.to_vec() };
    }
    let (header, body) = Ipv4Header::from_slice(bytes).unwrap();
    let offset = usize::from(header.fragment_offset.value()) * 8;
    Piece { ip, number: header.identification.into(), offset, protocol: header.protocol, body: body.to_vec() }
}

/// Puts fragments together, as their receiver does.
fn join(fragments: &[Vec<u8>]) -> Seg {
    let mut pieces: Vec<Piece> = fragments.iter().map(|bytes| piece(bytes)).collect();
    pieces.sort_by_key(|piece| piece.offset);
    let mut body = Vec::new();
    let first = &pieces[0];
    for piece in &pieces {
        assert_eq!((piece.ip.src, piece.ip.dst, piece.number), (first.ip.src, first.ip.dst, first.number));
        assert_eq!(piece.offset, body.len(), "no gap");
        body.extend_from_slice(&piece.body);
    }
    seen(&ip_packet(first.ip.src, first.ip.dst, first.ip.ttl, first.protocol, &[&body]))
}

fn big(payload: &[u8]) -> Seg {
    udp(on(A1, 40000), at(VIP), payload)
}

fn send_all(lab: &mut Lab, fragments: &[Vec<u8>]) -> Vec<Out> {
    fragments.iter().map(|bytes| lab.send_from(A1, bytes)).collect()
}

// D-107, D-108
#[test]
fn a_datagram_in_fragments_reaches_one_endpoint_whole_and_so_does_the_answer() {
    let mut lab = Lab::new(&[dns(&[ready(A2), ready(B1)])]);
    let payload: Vec<u8> = (0..5000u32).map(|n| n.to_be_bytes()[3]).collect();
    for id in 0..20 {
        let outs = send_all(&mut lab, &cut(&big(&payload).bytes(), 1480, id));
        assert!(outs.iter().all(|out| out.verdict == outs[0].verdict), "all of them to one place");
        let question = join(&outs.into_iter().map(|out| out.bytes).collect::<Vec<_>>());
        assert_eq!(question.payload, payload);
        let endpoint = *question.dst.ip();
        let answer = cut(&question.answer(0, &payload).bytes(), 1480, id);
        let back: Vec<_> = answer.iter().map(|bytes| lab.send_from(endpoint, bytes)).collect();
        assert!(back.iter().all(|out| out.verdict == Verdict::Forward(lab.port_of(A1))));
        let answer = join(&back.into_iter().map(|out| out.bytes).collect::<Vec<_>>());
        assert_eq!((answer.src, answer.dst, answer.payload), (at(VIP), on(A1, 40000), payload.clone()));
    }
    assert_eq!(lab.translator.poll_timeout().map(|then| then > lab.now), Some(true), "only flows are left to time out");
}

// D-107
#[test]
fn fragments_that_overtake_the_first_wait_for_it() {
    let mut lab = Lab::new(&[dns(&[ready(A2)])]);
    let mut fragments = cut(&big(&[7; 4000]).bytes(), 1480, 9);
    fragments.reverse();
    let outs = send_all(&mut lab, &fragments);
    assert_eq!(
        outs.iter().map(|out| out.verdict).collect::<Vec<_>>(),
        [Verdict::Held, Verdict::Held, Verdict::Forward(lab.port_of(A2))]
    );
    let mut arrived = vec![outs[2].bytes.clone()];
    for (port, bytes) in lab.transmitted() {
        assert_eq!(port, lab.port_of(A2));
        arrived.push(bytes);
    }
    assert_eq!(join(&arrived).payload, [7; 4000]);
}

// D-107
#[test]
fn answers_of_two_endpoints_with_one_number_are_not_mixed_up() {
    let mut lab = Lab::new(&[dns(&[ready(A2)])]);
    let first = lab.send(&udp(on(A1, 1), at(VIP), b"")).at(&lab, A2);
    lab.serve(&[dns(&[ready(A2), ready(B1)])]);
    let second = (2..100)
        .map(|port| lab.send(&udp(on(A1, port), at(VIP), b"")))
        .map(|out| seen(&out.bytes))
        .find(|question| *question.dst.ip() == B1)
        .unwrap();
    let answers = [first, second].map(|question| {
        let fragments = cut(&question.answer(0, &[question.src.port().to_be_bytes()[1]; 3000]).bytes(), 1480, 77);
        fragments.iter().map(|bytes| lab.send_from(*question.dst.ip(), bytes).bytes).collect::<Vec<_>>()
    });
    assert_ne!(piece(&answers[0][0]).number, piece(&answers[1][0]).number);
    for fragments in answers {
        let answer = join(&fragments);
        assert_eq!(answer.src, at(VIP));
        assert_eq!(answer.payload, [answer.dst.port().to_be_bytes()[1]; 3000]);
    }
}

#[test]
fn the_fragments_of_a_refused_datagram_are_dropped() {
    let mut lab = Lab::new(&[dns(&[])]);
    let outs = send_all(&mut lab, &cut(&big(&[0; 3000]).bytes(), 1480, 9));
    assert_eq!(outs[0].icmp().3, 3);
    for out in &outs[1..] {
        assert_eq!(out.verdict, Verdict::Drop(DropReason::FragmentRefused));
    }
}

#[test]
fn a_complete_datagram_is_forgotten_so_that_its_number_can_be_used_again() {
    let mut lab = Lab::new(&[dns(&[ready(A2)])]);
    let fragments = cut(&big(&[0; 2000]).bytes(), 1480, 9);
    send_all(&mut lab, &fragments);
    assert_eq!(lab.send_from(A1, &fragments[1]).verdict, Verdict::Held, "it belongs to the next datagram");
}

#[test]
fn held_fragments_are_limited_in_number_and_bytes_and_time() {
    let limits = Limits { max_held: 3, max_held_bytes: 3000, ..Limits::default() };
    let mut lab = Lab::with_limits(&[dns(&[ready(A2)])], limits);
    let tail = |id, size: usize| cut(&big(&vec![0; 1472 + size]).bytes(), 1480, id).remove(1);
    let verdicts: Vec<_> = (0..3).map(|id| lab.send_from(A1, &tail(id, 1400)).verdict).collect();
    assert_eq!(verdicts, [Verdict::Held, Verdict::Held, Verdict::Drop(DropReason::FragmentLimit)], "bytes");
    assert_eq!(lab.send_from(A1, &tail(3, 8)).verdict, Verdict::Held);
    assert_eq!(lab.send_from(A1, &tail(4, 8)).verdict, Verdict::Drop(DropReason::FragmentLimit), "number");
    let timeout = lab.translator.poll_timeout().unwrap();
    assert!(timeout <= lab.now + Duration::from_secs(30));
    lab.now = timeout;
    lab.translator.handle_timeout(timeout);
    assert_eq!(lab.counters().fragments_expired, 3);
    assert_eq!(lab.send_from(A1, &tail(5, 1400)).verdict, Verdict::Held, "time");
}

#[test]
fn datagrams_under_way_are_limited_and_the_oldest_gives_way() {
    let limits = Limits { max_fragmented: 2, ..Limits::default() };
    let mut lab = Lab::with_limits(&[dns(&[ready(A2)])], limits);
    let datagrams: Vec<_> = (0..3).map(|id| cut(&big(&[0; 3000]).bytes(), 1480, id)).collect();
    for datagram in &datagrams {
        lab.send_from(A1, &datagram[0]);
    }
    assert_eq!(lab.counters().fragments_evicted, 1);
    assert_eq!(lab.send_from(A1, &datagrams[0][1]).verdict, Verdict::Held);
    assert_eq!(lab.send_from(A1, &datagrams[1][1]).verdict, Verdict::Forward(lab.port_of(A2)));
    assert_eq!(lab.send_from(A1, &datagrams[2][1]).verdict, Verdict::Forward(lab.port_of(A2)));
}

#[test]
fn a_datagram_whose_rest_never_comes_is_forgotten() {
    let mut lab = Lab::new(&[dns(&[ready(A2)])]);
    let fragments = cut(&big(&[0; 3000]).bytes(), 1480, 9);
    lab.send_from(A1, &fragments[0]);
    lab.pass(Duration::from_secs(30));
    assert_eq!(lab.send_from(A1, &fragments[1]).verdict, Verdict::Held);
}

#[test]
fn nobody_may_continue_the_datagram_of_another() {
    let mut lab = Lab::new(&[dns(&[ready(A2)])]);
    let fragments = cut(&big(&[0; 3000]).bytes(), 1480, 9);
    lab.send_from(A1, &fragments[0]);
    assert_eq!(lab.send_from(B1, &fragments[1]).verdict, Verdict::Drop(DropReason::Spoofed));
    assert_eq!(lab.send_from(B1, &fragments[0]).verdict, Verdict::Drop(DropReason::Spoofed));
    assert_eq!(lab.send_from(A1, &fragments[1]).verdict, Verdict::Forward(lab.port_of(A2)));
}

#[test]
fn a_first_fragment_without_ports_is_dropped() {
    let mut lab = Lab::new(&[dns(&[ready(A2)])]);
    let mut tiny = cut(&crate::lab::tcp(on(A1, 1), at(VIP), 2).bytes(), 8, 9);
    assert_eq!(lab.send_from(A1, &tiny.remove(0)).verdict, Verdict::Drop(DropReason::TinyFragment));
}

#[test]
fn a_big_ping_between_pods_passes() {
    let mut lab = Lab::new(&[]);
    let whole = crate::lab::icmp(
        A1,
        A2,
        etherparse::Icmpv4Type::EchoRequest(etherparse::IcmpEchoHeader { id: 7, seq: 1 }),
        &[1; 4000],
    );
    for bytes in cut(&whole, 1480, 3) {
        assert_eq!(lab.send_from(A1, &bytes).verdict, Verdict::Forward(lab.port_of(A2)));
    }
    assert_eq!(lab.send_from(A1, &ping(A1, A2)).verdict, Verdict::Forward(lab.port_of(A2)));
}

// D-107
#[test]
fn a_datagram_in_fragments_waits_whole_for_its_way_out() {
    for in_order in [true, false] {
        let mut lab = Lab::new(&[]);
        lab.relay = true;
        lab.install();
        let payload: Vec<u8> = (0..3000u32).map(|n| n.to_le_bytes()[0]).collect();
        let sent = udp(on(A1, 40000), at("203.0.113.7:443"), &payload);
        let mut fragments = cut(&sent.bytes(), 1200, 9);
        if !in_order {
            fragments.reverse();
        }
        for out in send_all(&mut lab, &fragments) {
            assert_eq!(out.verdict, Verdict::Held);
        }
        let dial = lab.translator.poll_dial().unwrap();
        lab.translator.answer(&dial, DialAnswer::Open, lab.now);
        let arrived = lab.transmitted();
        assert!(arrived.iter().all(|(port, _)| *port == RELAY_PORT));
        let joined = join(&arrived.into_iter().map(|(_, bytes)| bytes).collect::<Vec<_>>());
        assert_eq!((joined.dst, joined.payload), (on(RELAY, 1), payload));
        // Refused, none of it comes.
        let sent = udp(on(A1, 40001), at("203.0.113.7:443"), &[7; 3000]);
        send_all(&mut lab, &cut(&sent.bytes(), 1200, 10));
        let dial = lab.translator.poll_dial().unwrap();
        lab.translator.answer(&dial, DialAnswer::Refused, lab.now);
        assert_eq!(lab.transmitted().len(), 1, "an ICMP error");
        lab.pass(Duration::from_secs(31));
        assert_eq!(lab.counters().fragments_expired, 2);
    }
}
