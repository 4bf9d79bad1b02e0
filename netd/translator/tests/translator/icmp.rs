//! ICMP errors about translated flows.

use etherparse::{Icmpv4Type, icmpv4};
use minisvc_translator::{DropReason, Verdict};

use crate::lab::{
    A1, A2, B1, HEADER, Lab, NODE_1, Seg, VIP, WORKSTATION, at, dns, icmp, on, ready, seen, seen_icmp, tcp, udp,
    unreachable, web,
};

// D-105
#[test]
fn a_port_unreachable_of_the_endpoint_reaches_the_client_as_if_from_the_vip() {
    let mut lab = Lab::new(&[dns(&[ready(A2)])]);
    let question = udp(on(A1, 40000), at(VIP), b"question");
    let arrived = lab.send(&question);
    let out = lab.send_from(A2, &unreachable(A2, A1, &arrived.bytes));
    assert_eq!(out.verdict, Verdict::Forward(lab.port_of(A1)));
    let (src, dst, kind, code, quote) = seen_icmp(&out.bytes);
    assert_eq!((src, dst, kind, code), (*at(VIP).ip(), A1, 3, 3));
    assert_eq!(seen(&quote), question.ttl(63), "all checksums inside are right, and only the TTL shows the way");
}

// D-105
#[test]
fn an_error_of_the_client_about_an_answer_reaches_the_endpoint() {
    let mut lab = Lab::new(&[dns(&[ready(A2)])]);
    let question = lab.send(&udp(on(A1, 40000), at(VIP), b"question")).at(&lab, A2);
    let answer = question.answer(0, b"answer");
    let arrived = lab.send(&answer);
    let out = lab.send_from(A1, &unreachable(A1, *at(VIP).ip(), &arrived.bytes));
    assert_eq!(out.verdict, Verdict::Forward(lab.port_of(A2)));
    let (src, dst, _, _, quote) = seen_icmp(&out.bytes);
    assert_eq!((src, dst), (A1, A2));
    assert_eq!(seen(&quote), answer.ttl(63));
}

// D-105, D-053
#[test]
fn errors_of_a_hairpin_find_their_way_back() {
    let mut lab = Lab::new(&[dns(&[ready(A1)])]);
    let question = udp(on(A1, 40000), at(VIP), b"question");
    let arrived = lab.send(&question);
    assert_eq!(*seen(&arrived.bytes).src.ip(), NODE_1);
    let out = lab.send_from(A1, &unreachable(A1, NODE_1, &arrived.bytes));
    assert_eq!(out.verdict, Verdict::Forward(lab.port_of(A1)));
    let (src, dst, _, _, quote) = seen_icmp(&out.bytes);
    assert_eq!((src, dst), (*at(VIP).ip(), A1));
    assert_eq!(seen(&quote), question.ttl(63));
}

// D-106
#[test]
fn fragmentation_needed_reaches_the_client_with_the_vip_inside() {
    let mut lab = Lab::new(&[web(&[ready(A2)])]);
    let syn = lab.connect(on(A1, 40000), at(VIP));
    let data: Seg = tcp(on(A1, 40000), at(VIP), 16).data(&[0; 1400]);
    let arrived = lab.send(&data);
    let kind =
        Icmpv4Type::DestinationUnreachable(icmpv4::DestUnreachableHeader::FragmentationNeeded { next_hop_mtu: 1280 });
    // RFC 792 quotes no more than this.
    let out = lab.send_from(A2, &icmp(A2, *syn.src.ip(), kind, &arrived.bytes[..HEADER + 8]));
    assert_eq!(out.verdict, Verdict::Forward(lab.port_of(A1)));
    let (_, dst, kind, code, quote) = seen_icmp(&out.bytes);
    assert_eq!((dst, kind, code, quote.len()), (A1, 3, 4, HEADER + 8));
    assert_eq!(out.bytes[HEADER + 6..HEADER + 8], 1280u16.to_be_bytes(), "the MTU is kept");
    let original = data.ttl(63).bytes();
    assert_eq!(quote, original[..HEADER + 8], "addresses, ports and header checksum are those of the client's packet");
}

// D-105
#[test]
fn the_address_of_a_router_on_the_way_is_kept() {
    let mut lab = Lab::new(&[dns(&[ready(A2)])]);
    let arrived = lab.send(&udp(on(WORKSTATION, 40000), at(VIP), b"question"));
    // Another address behind the endpoint's port.
    let router = std::net::Ipv4Addr::new(10, 244, 1, 99);
    lab.hosts.insert(router, (lab.port_of(A2).0, Some(1)));
    lab.install();
    let expired = icmp(
        router,
        WORKSTATION,
        Icmpv4Type::TimeExceeded(icmpv4::TimeExceededCode::TtlExceededInTransit),
        &arrived.bytes,
    );
    let out = lab.send_from(router, &expired);
    let (src, dst, kind, _, quote) = seen_icmp(&out.bytes);
    assert_eq!((src, dst, kind, seen(&quote).dst), (router, WORKSTATION, 11, at(VIP)));
}

#[test]
fn an_error_from_a_third_party_or_to_one_is_dropped() {
    let mut lab = Lab::new(&[dns(&[ready(A2)])]);
    let arrived = lab.send(&udp(on(A1, 40000), at(VIP), b"question"));
    for (from, to) in [(B1, A1), (A2, B1)] {
        let out = lab.send_from(from, &unreachable(from, to, &arrived.bytes));
        assert_eq!(out.verdict, Verdict::Drop(DropReason::UnrelatedIcmp));
    }
}

#[test]
fn an_error_about_no_flow_is_routed_like_any_packet_but_not_to_a_service() {
    let mut lab = Lab::new(&[dns(&[ready(A2)])]);
    let unknown = udp(on(A2, 5), on(A1, 5), b"").bytes();
    let out = lab.send_from(A1, &unreachable(A1, A2, &unknown));
    assert_eq!(out.verdict, Verdict::Forward(lab.port_of(A2)));
    assert_eq!(seen_icmp(&out.bytes).4, unknown, "as it is");
    let out = lab.send_from(A1, &unreachable(A1, *at(VIP).ip(), &udp(at(VIP), on(A1, 5), b"").bytes()));
    assert_eq!(out.verdict, Verdict::Drop(DropReason::ServiceIcmp));
}

#[test]
fn an_error_does_not_keep_a_flow_alive() {
    let mut lab = Lab::new(&[dns(&[ready(A2)])]);
    let arrived = lab.send(&udp(on(A1, 40000), at(VIP), b"question"));
    let before = lab.flows();
    lab.pass(std::time::Duration::from_secs(20));
    lab.send_from(A2, &unreachable(A2, A1, &arrived.bytes));
    assert_eq!(lab.flows(), before);
}
