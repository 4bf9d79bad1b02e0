//! What there is only in IPv6: extension headers, what stays on a link, and both families in one lab.

use std::net::{IpAddr, Ipv6Addr};
use std::sync::Arc;

use etherparse::{IpNumber, NetSlice, SlicedPacket, TransportSlice};
use minisvc_translator::packet::{Packet, Transport};
use minisvc_translator::{
    Checksum, DropReason, Endpoint, Frontend, FrontendKind, Limits, Node, PacketBuf, Policies, PortId, Protocol, Role,
    Route, ServicePort, ServicePortId, ServiceTable, Translator, Verdict,
};
use proptest::prelude::*;

use crate::lab::{A1, A2, ACK, Lab, SYN, VIP, at, dns, ip_of, on, ready, real, seen, tcp, udp, unreachable, web};
use crate::properties::bytes;

/// Hop-by-hop options, destination options, a routing header that is used up, a whole packet's fragment header: 8 bytes
/// each, which begin with the number of what comes next.
const HOP_BY_HOP: u8 = 0;
const ROUTING: u8 = 43;
const FRAGMENT: u8 = 44;
const DESTINATION: u8 = 60;

/// Puts extension headers of these kinds between the IP header and the rest.
fn extended(packet: &[u8], kinds: &[u8]) -> Vec<u8> {
    let mut bytes = packet[..40].to_vec();
    let transport = bytes[6];
    for (index, _) in kinds.iter().enumerate() {
        let next = kinds.get(index + 1).copied().unwrap_or(transport);
        // Of options, PadN over what is left.
        let rest = if matches!(kinds[index], HOP_BY_HOP | DESTINATION) { [1, 4, 0, 0, 0, 0] } else { [0; 6] };
        bytes.extend_from_slice(&[next, 0]);
        bytes.extend_from_slice(&rest);
    }
    bytes[6] = kinds.first().copied().unwrap_or(transport);
    bytes.extend_from_slice(&packet[40..]);
    let length = u16::try_from(bytes.len() - 40).unwrap();
    bytes[4..6].copy_from_slice(&length.to_be_bytes());
    bytes
}

#[test]
fn ports_are_found_behind_extension_headers_which_are_kept() {
    for kinds in [
        &[HOP_BY_HOP][..],
        &[DESTINATION],
        &[ROUTING],
        &[FRAGMENT],
        &[HOP_BY_HOP, DESTINATION, ROUTING, FRAGMENT, DESTINATION],
    ] {
        let mut lab = Lab::new(&[web(&[ready(A2)]), dns(&[ready(A2)])]);
        for segment in [tcp(on(A1, 40000), at(VIP), SYN), udp(on(A1, 40000), at(VIP), b"question")] {
            let sent = extended(&segment.bytes(), kinds);
            let out = lab.send_from(A1, &sent);
            let arrived = out.at(&lab, A2);
            assert_eq!((arrived.src, arrived.dst), (on(A1, 40000), on(A2, 8080)), "{kinds:?}");
            assert_eq!(out.bytes[40..40 + 8 * kinds.len()], sent[40..40 + 8 * kinds.len()], "{kinds:?}");
        }
    }
}

// D-105
#[test]
fn an_error_about_a_packet_with_extension_headers_is_translated() {
    let mut lab = Lab::new(&[dns(&[ready(A2)])]);
    let sent = extended(&udp(on(A1, 40000), at(VIP), b"question").bytes(), &[DESTINATION]);
    let arrived = lab.send_from(A1, &sent);
    let out = lab.send_from(A2, &unreachable(A2, A1, &arrived.bytes));
    assert_eq!(out.verdict, Verdict::Forward(lab.port_of(A1)));
    let quote = &out.bytes[48..];
    assert_eq!(seen(quote).dst, at(VIP));
    assert_eq!((&quote[..7], &quote[8..]), (&sent[..7], &sent[8..]), "all but the hop limit is as it was sent");
}

#[test]
fn a_packet_that_is_to_go_on_from_its_destination_is_never_translated() {
    let mut lab = Lab::new(&[web(&[ready(A2)])]);
    let routed = |to| {
        let mut bytes = extended(&tcp(on(A1, 40000), to, SYN).bytes(), &[ROUTING]);
        bytes[43] = 1;
        bytes
    };
    assert_eq!(lab.send_from(A1, &routed(at(VIP))).icmp().3, 3);
    let out = lab.send_from(A1, &routed(on(A2, 80)));
    assert_eq!(out.verdict, Verdict::Forward(lab.port_of(A2)));
    assert_eq!(out.bytes[40..], routed(on(A2, 80))[40..]);
}

#[test]
fn what_is_malformed_is_dropped_and_counted() {
    let mut lab = Lab::new(&[]);
    let good = udp(on(A1, 1), on(A2, 2), b"hello").bytes();
    let broken = |change: fn(&mut Vec<u8>)| {
        let mut bytes = good.clone();
        change(&mut bytes);
        bytes
    };
    let malformed = [
        vec![0x60],
        good[..39].to_vec(),
        broken(|bytes| bytes[0] = 0x50),
        // More than there is, less than a header, and a jumbogram.
        broken(|bytes| bytes[5] += 1),
        broken(|bytes| bytes[5] = 7),
        broken(|bytes| bytes[5] = 0),
        broken(|bytes| bytes[6] = 6),
        // UDP lengths.
        broken(|bytes| bytes[45] = 7),
        broken(|bytes| bytes[45] = 50),
        // Options beyond the end, two fragment headers, and more headers than make sense.
        extended(&good, &[DESTINATION]).into_iter().enumerate().map(|(at, b)| if at == 41 { 9 } else { b }).collect(),
        extended(&good, &[FRAGMENT, FRAGMENT]),
        extended(&good, &[DESTINATION; 7]),
    ];
    for bytes in &malformed {
        let out = lab.send_from(A1, bytes);
        assert_eq!(out.verdict, Verdict::Drop(DropReason::Malformed), "{bytes:02x?}");
    }
    assert_eq!(lab.counters().dropped(DropReason::Malformed), u64::try_from(malformed.len()).unwrap());
    assert_eq!(lab.send_from(A1, &good).verdict, Verdict::Forward(lab.port_of(A2)));
}

/// A message of this ICMPv6 type. Nobody looks at its checksum on the way.
fn message(src: Ipv6Addr, dst: Ipv6Addr, kind: u8) -> Vec<u8> {
    [&[0x60, 0, 0, 0, 0, 8, 58, 255][..], &src.octets(), &dst.octets(), &[kind, 0, 0, 0, 0, 0, 0, 0]].concat()
}

#[test]
fn what_neighbours_say_to_each_other_is_dropped_without_an_answer() {
    let mut lab = Lab::new(&[]);
    let (own, IpAddr::V6(pod)) = ("fe80::1".parse().unwrap(), real(A1)) else { panic!("IPv6") };
    let other = "fe80::2".parse().unwrap();
    let IpAddr::V6(far) = real(A2) else { panic!("IPv6") };
    let rows = [
        ("router solicitation", message(own, "ff02::2".parse().unwrap(), 133)),
        ("router solicitation, no address yet", message(Ipv6Addr::UNSPECIFIED, "ff02::2".parse().unwrap(), 133)),
        ("neighbour solicitation", message(pod, "ff02::1:ff00:1".parse().unwrap(), 135)),
        ("neighbour advertisement to another pod", message(pod, far, 136)),
        ("redirect", message(pod, far, 137)),
        ("multicast listener report", message(own, "ff02::16".parse().unwrap(), 143)),
        ("ping to a link-local address", message(pod, other, 128)),
        ("ping from a link-local address", message(own, far, 128)),
    ];
    for (name, bytes) in &rows {
        let out = lab.send_from(A1, bytes);
        assert_eq!(out.verdict, Verdict::Drop(DropReason::LinkLocal), "{name}");
    }
    assert_eq!(lab.counters().dropped(DropReason::LinkLocal), u64::try_from(rows.len()).unwrap());
}

// D-111
#[test]
fn multicast_and_addresses_that_never_leave_a_host_are_dropped() {
    let mut lab = Lab::new(&[]);
    let IpAddr::V6(pod) = real(A1) else { panic!("IPv6") };
    for to in ["ff0e::1", "::1", "::"] {
        let out = lab.send_from(A1, &message(pod, to.parse().unwrap(), 128));
        assert_eq!(out.verdict, Verdict::Drop(DropReason::Unroutable), "{to}");
    }
}

// D-110
#[test]
fn a_router_takes_one_from_the_hop_limit_and_keeps_the_rest_of_the_header() {
    let mut lab = Lab::new(&[web(&[ready(A2)])]);
    let mut bytes = tcp(on(A1, 40000), at(VIP), SYN).ttl(9).bytes();
    // Traffic class and flow label.
    bytes[..4].copy_from_slice(&[0x6b, 0x91, 0x23, 0x45]);
    let out = lab.send_from(A1, &bytes);
    assert_eq!(out.at(&lab, A2).ttl, 8);
    assert_eq!(out.bytes[..7], bytes[..7]);
    let dying = lab.send(&tcp(on(A1, 40000), at(VIP), ACK).ttl(1));
    let (_, to, kind, _, quote) = dying.icmp();
    assert_eq!((to, kind), (A1, 11));
    assert_eq!(seen(&quote).dst, at(VIP), "the quoted packet is the one that was sent");
}

#[test]
fn an_error_quotes_as_much_as_fits_into_the_least_mtu() {
    let mut lab = Lab::new(&[dns(&[])]);
    let question = udp(on(A1, 40000), at(VIP), &[7; 3000]).bytes();
    let out = lab.send_from(A1, &question);
    assert_eq!(out.icmp().4, question[..1280 - 48]);
    assert_eq!(out.bytes.len(), 1280);
}

// D-109
#[test]
fn a_udp_checksum_never_becomes_none() {
    // Of all payloads of two bytes, some make every sum there is, zero among them.
    let mut lab = Lab::new(&[dns(&[ready(A2)])]);
    let mut least = u16::MAX;
    for payload in 0..=u16::MAX {
        let out = lab.send(&udp(on(A1, 40000), at(VIP), &payload.to_be_bytes()));
        let field = u16::from_be_bytes([out.bytes[46], out.bytes[47]]);
        assert_ne!(field, 0, "{payload:04x}");
        least = least.min(field);
        if field == 0xffff {
            // It stands for zero, and is right.
            assert_eq!(seen(&out.bytes).payload, payload.to_be_bytes());
        }
    }
    assert_eq!(least, 1);
}

// D-011, D-012
#[test]
fn a_service_of_both_families_keeps_them_apart() {
    let addr = |text: &str| -> IpAddr { text.parse().unwrap() };
    let mut table = ServiceTable::new();
    let node = table.add_node(Node {
        name: "node".into(),
        addresses: vec![addr("10.95.0.11"), addr("fd00:95::11")],
        zone: None,
        balanced: true,
    });
    for (port, addresses) in [(1, ["10.244.0.10", "fd00:244::10"]), (2, ["10.244.0.11", "fd00:244::11"])] {
        for text in addresses {
            table.add_route(addr(text), Route { port: PortId(port), role: Role::Pod { node } });
        }
    }
    for (vip, pod) in [("10.96.0.50", "10.244.0.11"), ("fd00:96::50", "fd00:244::11")] {
        let id = ServicePortId {
            namespace: "default".into(),
            service: "web".into(),
            port: "".into(),
            protocol: Protocol::Tcp,
        };
        let endpoint = Endpoint {
            addr: addr(pod),
            port: 8080,
            ready: true,
            serving: true,
            terminating: false,
            node: Some(node),
            hints: None,
        };
        let service = Arc::new(ServicePort::new(id, Policies::default(), vec![endpoint]));
        let frontend = Frontend { addr: addr(vip), protocol: Protocol::Tcp, port: 80 };
        table.add_frontend(frontend, FrontendKind::ClusterIp, service);
    }
    let mut translator = Translator::new(Limits::default());
    let now = std::time::Instant::now();
    translator.install(Arc::new(table), now);
    let syn = |src: IpAddr, dst: IpAddr| {
        let builder = match (src, dst) {
            (IpAddr::V4(src), IpAddr::V4(dst)) => etherparse::PacketBuilder::ipv4(src.octets(), dst.octets(), 64),
            (IpAddr::V6(src), IpAddr::V6(dst)) => etherparse::PacketBuilder::ipv6(src.octets(), dst.octets(), 64),
            _ => panic!("of two families"),
        };
        let mut bytes = Vec::new();
        builder.tcp(40000, 80, 1, 65535).syn().write(&mut bytes, &[]).unwrap();
        bytes
    };
    for (client, vip, pod) in
        [("10.244.0.10", "10.96.0.50", "10.244.0.11"), ("fd00:244::10", "fd00:96::50", "fd00:244::11")]
    {
        let mut bytes = syn(addr(client), addr(vip));
        let len = bytes.len();
        let mut buf = PacketBuf::new(&mut bytes, len, Checksum::Full);
        assert_eq!(translator.handle(PortId(1), &mut buf, now), Verdict::Forward(PortId(2)));
        assert_eq!(Packet::parse(&mut bytes, Checksum::Full).unwrap().dst(), addr(pod));
    }
    assert_eq!(translator.flows().count(), 2);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 4000, ..ProptestConfig::default() })]

    #[test]
    fn our_view_agrees_with_etherparse(
        bytes in bytes(), kinds in proptest::collection::vec(prop::sample::select(vec![HOP_BY_HOP, ROUTING, FRAGMENT, DESTINATION]), 0..3),
    ) {
        let bytes = if bytes.len() >= 40 { extended(&bytes, &kinds) } else { bytes };
        let mut copy = bytes.clone();
        let ours = Packet::parse(&mut copy, Checksum::Full);
        let theirs = SlicedPacket::from_ip(&bytes);
        let Ok(ours) = ours else { return Ok(()) };
        let Ok(SlicedPacket { net: Some(NetSlice::Ipv6(ip)), transport, .. }) = theirs else {
            // They look into an authentication header, which to us is any other protocol, want hop-by-hop options to be first,
            // and go by all lengths in what is no ours to look into.
            return Ok(());
        };
        let header = ip.header();
        prop_assert_eq!(ours.src(), IpAddr::from(header.source_addr()));
        prop_assert_eq!(ours.dst(), IpAddr::from(header.destination_addr()));
        prop_assert_eq!(ours.ttl(), header.hop_limit());
        prop_assert_eq!(ours.bytes().len(), 40 + usize::from(header.payload_length()));
        match transport {
            Some(TransportSlice::Tcp(tcp)) if ours.transport() == Transport::Tcp => {
                let tuple = ours.tuple().unwrap();
                prop_assert_eq!((tuple.src_port, tuple.dst_port), (tcp.source_port(), tcp.destination_port()));
                prop_assert_eq!((ours.tcp_seq(), ours.tcp_ack()), (tcp.sequence_number(), tcp.acknowledgment_number()));
                prop_assert_eq!(ours.payload(), tcp.payload());
            }
            Some(TransportSlice::Udp(udp)) if ours.transport() == Transport::Udp => {
                let tuple = ours.tuple().unwrap();
                prop_assert_eq!((tuple.src_port, tuple.dst_port), (udp.source_port(), udp.destination_port()));
            }
            // A routing header that is not used up ends our look into the packet.
            Some(TransportSlice::Tcp(_) | TransportSlice::Udp(_)) => {
                prop_assert!(matches!(ours.transport(), Transport::Other(ROUTING)), "{:?}", ours.transport());
            }
            Some(TransportSlice::Icmpv6(icmp)) => prop_assert_eq!(ours.icmp_type(), icmp.type_u8()),
            // They do not know SCTP.
            None if ours.transport() == Transport::Sctp => {}
            Some(TransportSlice::Icmpv4(_) | TransportSlice::Igmp(_)) | None => {
                prop_assert!(ours.tuple().is_none() || ours.more_fragments(), "{:?}", IpNumber(ours.protocol()));
            }
        }
    }
}

#[test]
fn an_address_of_the_tests_is_one_of_ipv6() {
    assert_eq!(ip_of(&tcp(on(A1, 1), on(A2, 2), SYN).bytes()).src, A1);
    assert_eq!(real(A1), "fd00::af4:a".parse::<IpAddr>().unwrap());
}
