//! What depends on how an IPv4 header looks.

use std::net::IpAddr;

use etherparse::{IpNumber, NetSlice, SlicedPacket, TransportSlice};
use minisvc_translator::packet::{Packet, Transport};
use minisvc_translator::{Checksum, DropReason, Protocol, Verdict};
use proptest::prelude::*;

use crate::lab::{A1, A2, ACK, Lab, SYN, VIP, at, on, ready, seen, tcp, udp, web};
use crate::properties::bytes;

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
        Vec::new(),
        vec![0x45],
        broken(|bytes| bytes[0] = 0x55),
        broken(|bytes| bytes[0] = 0x44),
        broken(|bytes| bytes[0] = 0x4f),
        broken(|bytes| bytes[3] = 19),
        broken(|bytes| bytes[3] += 1),
        broken(|bytes| bytes[25] = 7),
        broken(|bytes| bytes[25] = 50),
        broken(|bytes| bytes[9] = 6),
    ];
    for bytes in &malformed {
        let out = lab.send_from(A1, bytes);
        assert_eq!(out.verdict, Verdict::Drop(DropReason::Malformed), "{bytes:02x?}");
    }
    assert_eq!(lab.counters().dropped(DropReason::Malformed), 10);
    assert_eq!(lab.send_from(A1, &good).verdict, Verdict::Forward(lab.port_of(A2)));
    let counters = lab.counters();
    assert_eq!((counters.packets, counters.forwarded), (11, 1));
    assert_eq!(counters.drops().map(|(_, count)| count).sum::<u64>(), 10);
}

// D-110
#[test]
fn a_router_takes_one_from_the_ttl_and_keeps_the_rest_of_the_header() {
    let mut lab = Lab::new(&[web(&[ready(A2)])]);
    let mut bytes = tcp(on(A1, 40000), at(VIP), SYN).ttl(9).bytes();
    // DSCP and ECN, with the header checksum made to fit.
    bytes[1] = 0xb9;
    let header = etherparse::Ipv4Header::from_slice(&bytes).unwrap().0;
    bytes[10..12].copy_from_slice(&header.calc_header_checksum().to_be_bytes());
    let out = lab.send_from(A1, &bytes);
    assert_eq!(out.at(&lab, A2).ttl, 8);
    assert_eq!(out.bytes[1], 0xb9);
    let dying = lab.send(&tcp(on(A1, 40000), at(VIP), ACK).ttl(1));
    let (_, to, kind, _, quote) = dying.icmp();
    assert_eq!((to, kind), (A1, 11));
    assert_eq!(seen(&quote).dst, at(VIP), "the quoted packet is the one that was sent");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 4000, ..ProptestConfig::default() })]

    #[test]
    fn our_view_agrees_with_etherparse(bytes in bytes()) {
        prop_assume!(bytes.first().is_none_or(|first| first >> 4 != 6));
        let mut copy = bytes.clone();
        let ours = Packet::parse(&mut copy, Checksum::Full);
        let theirs = SlicedPacket::from_ip(&bytes);
        let Ok(ours) = ours else {
            // What we refuse, they refuse; but for what we do not carry, or are stricter about.
            if let Ok(SlicedPacket { net: Some(NetSlice::Ipv4(ip)), .. }) = &theirs {
                let tiny = ours.unwrap_err() == DropReason::TinyFragment;
                let length = ip.payload().payload.get(4..6).map(|field| u16::from_be_bytes([field[0], field[1]]));
                // They take a UDP length of 0 to mean all there is, as for jumbograms, and never look into fragments.
                let no_length = ip.payload_ip_number() == IpNumber::UDP && length.is_some_and(|length| length < 8);
                // They do not know SCTP.
                let is_short = ip.payload_ip_number() == IpNumber::SCTP && ip.payload().payload.len() < 12;
                prop_assert!(tiny || no_length || is_short || ip.is_payload_fragmented(), "only we refuse {bytes:02x?}");
            }
            return Ok(());
        };
        let Ok(SlicedPacket { net: Some(NetSlice::Ipv4(ip)), transport, .. }) = theirs else {
            // Unless they look into IGMP or an authentication header, which to us are any other protocols.
            prop_assert!(matches!(bytes[9], 2 | 51), "only we accept {bytes:02x?}");
            return Ok(());
        };
        let header = ip.header();
        prop_assert_eq!(ours.src(), IpAddr::from(header.source_addr()));
        prop_assert_eq!(ours.dst(), IpAddr::from(header.destination_addr()));
        prop_assert_eq!(ours.ttl(), header.ttl());
        prop_assert_eq!(ours.bytes().len(), usize::from(header.total_len()));
        prop_assert_eq!(ours.header_len(), header.slice().len());
        prop_assert_eq!(ours.identification(), u32::from(header.identification()));
        prop_assert_eq!(ours.more_fragments(), header.more_fragments());
        prop_assert_eq!(ours.fragment_offset(), usize::from(header.fragments_offset().value()) * 8);
        prop_assert_eq!(ours.protocol(), header.protocol().0);
        match transport {
            Some(TransportSlice::Tcp(tcp)) => {
                let tuple = ours.tuple().unwrap();
                prop_assert_eq!((tuple.protocol, tuple.src_port, tuple.dst_port), (Protocol::Tcp, tcp.source_port(), tcp.destination_port()));
                prop_assert_eq!((ours.tcp_seq(), ours.tcp_ack()), (tcp.sequence_number(), tcp.acknowledgment_number()));
                prop_assert_eq!(ours.tcp_flags() & 0x3f, tcp.header_slice()[13] & 0x3f);
                prop_assert_eq!(ours.payload(), tcp.payload());
            }
            Some(TransportSlice::Udp(udp)) => {
                let tuple = ours.tuple().unwrap();
                prop_assert_eq!((tuple.protocol, tuple.src_port, tuple.dst_port), (Protocol::Udp, udp.source_port(), udp.destination_port()));
            }
            Some(TransportSlice::Icmpv4(icmp)) => {
                prop_assert_eq!((ours.transport(), ours.icmp_type()), (Transport::Icmp, icmp.type_u8()));
            }
            // They do not know SCTP.
            None if ours.transport() == Transport::Sctp => {}
            Some(TransportSlice::Icmpv6(_) | TransportSlice::Igmp(_)) | None => {
                prop_assert!(ours.tuple().is_none() || ours.more_fragments());
            }
        }
    }
}
