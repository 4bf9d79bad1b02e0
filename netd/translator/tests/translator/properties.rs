//! What holds for every packet.

use std::collections::HashSet;

use minisvc_translator::packet::{Packet, fold, pseudo_header, sum};
use minisvc_translator::{Checksum, PacketBuf, Verdict};
use proptest::prelude::*;

use crate::lab::{A1, A2, ACK, HEADER, Lab, SYN, Seg, VIP, at, dns, on, ready, real, seen, tcp, udp, web};

fn payload() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        proptest::collection::vec(any::<u8>(), 0..64),
        proptest::collection::vec(any::<u8>(), 1400..1500),
        (0..65_000usize).prop_map(|len| vec![0xa5; len]),
    ]
}

proptest! {
    // D-002, D-109
    #[test]
    fn there_and_back_the_client_sees_only_the_vip(
        port in 1..u16::MAX, seq: u32, ack: u32, question in payload(), answer in payload(), ttl in 3..=255u8,
        hairpin: bool, is_tcp: bool,
    ) {
        let endpoint = if hairpin { A1 } else { A2 };
        let mut lab = Lab::new(&[web(&[ready(endpoint)]), dns(&[ready(endpoint)])]);
        let client = on(A1, port);
        let sent = if is_tcp {
            lab.connect(client, at(VIP));
            tcp(client, at(VIP), ACK).numbers(seq, ack).data(&question).ttl(ttl)
        } else {
            udp(client, at(VIP), &question).ttl(ttl)
        };
        // `seen`, and with it `at`, recomputes every checksum in full.
        let there = lab.send(&sent).at(&lab, endpoint);
        prop_assert_eq!(there.dst, on(endpoint, 8080));
        let changed = Seg { src: there.src, dst: there.dst, ttl: ttl - 1, ..sent };
        prop_assert_eq!(&there, &changed, "nothing but addresses, ports and TTL");
        let back = there.answer(ACK, &answer).ttl(ttl);
        let received = lab.send(&back).at(&lab, A1);
        prop_assert_eq!(received, Seg { src: at(VIP), dst: client, ttl: ttl - 1, ..back });
    }

    #[test]
    fn a_partial_checksum_stays_the_sum_of_the_pseudo_header(
        port in 1..u16::MAX, data in proptest::collection::vec(any::<u8>(), 0..2000), is_tcp: bool,
    ) {
        let mut lab = Lab::new(&[web(&[ready(A2)]), dns(&[ready(A2)])]);
        let client = on(A1, port);
        let sent = if is_tcp { tcp(client, at(VIP), SYN).data(&data) } else { udp(client, at(VIP), &data) };
        let field = if is_tcp { HEADER + 16..HEADER + 18 } else { HEADER + 6..HEADER + 8 };
        let mut bytes = sent.bytes();
        let number = sent.protocol.number();
        let length = u16::try_from(bytes.len() - HEADER).unwrap();
        let partial = |src: std::net::Ipv4Addr, dst: std::net::Ipv4Addr| {
            fold(pseudo_header(real(src), real(dst), number, length)).to_be_bytes()
        };
        bytes[field.clone()].copy_from_slice(&partial(A1, *at(VIP).ip()));
        let len = bytes.len();
        let from = lab.port_of(A1);
        let mut buf = PacketBuf::new(&mut bytes, len, Checksum::Partial);
        prop_assert_eq!(lab.translator.handle(from, &mut buf, lab.now), Verdict::Forward(lab.port_of(A2)));
        prop_assert_eq!(buf.checksum(), Checksum::Partial);
        prop_assert_eq!(&buf.bytes()[field.clone()], &partial(A1, A2));
        // Whoever completes it gets what the packet should have.
        bytes[field.clone()].fill(0);
        let whole = fold(pseudo_header(real(A1), real(A2), number, length) + sum(&bytes[HEADER..]));
        bytes[field].copy_from_slice(&(if whole == 0xffff && !is_tcp { 0xffff } else { !whole }).to_be_bytes());
        prop_assert_eq!(seen(&bytes).payload, data);
    }

    #[test]
    fn an_answer_to_a_partial_packet_is_complete(data in proptest::collection::vec(any::<u8>(), 0..2000)) {
        let mut lab = Lab::new(&[web(&[])]);
        let mut storage = vec![0; 4096];
        let bytes = tcp(on(A1, 1), at(VIP), SYN).data(&data).bytes();
        storage[..bytes.len()].copy_from_slice(&bytes);
        let mut buf = PacketBuf::new(&mut storage, bytes.len(), Checksum::Partial);
        prop_assert_eq!(lab.translator.handle(lab.port_of(A1), &mut buf, lab.now), Verdict::Reply);
        prop_assert_eq!((buf.checksum(), buf.len()), (Checksum::Full, HEADER + 20));
        prop_assert_eq!(seen(buf.bytes()).dst, on(A1, 1));
    }
}

/// Bytes that are often nearly a packet.
pub(crate) fn bytes() -> impl Strategy<Value = Vec<u8>> {
    let packet =
        (any::<bool>(), 1..4000u16, proptest::collection::vec(any::<u8>(), 0..40)).prop_map(|(is_tcp, port, data)| {
            let (src, dst) = (on(A1, port), at(VIP));
            if is_tcp { tcp(src, dst, SYN).data(&data).bytes() } else { udp(src, dst, &data).bytes() }
        });
    let edits = proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..4);
    let mangled =
        (packet, edits, any::<prop::sample::Index>(), any::<bool>()).prop_map(|(mut bytes, edits, end, cut)| {
            for (at, value) in edits {
                let at = at.index(bytes.len().min(HEADER + 14));
                bytes[at] = value;
            }
            if cut {
                bytes.truncate(end.index(bytes.len() + 1));
            }
            bytes
        });
    prop_oneof![4 => mangled, 1 => proptest::collection::vec(any::<u8>(), 0..100)]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 4000, ..ProptestConfig::default() })]

    #[test]
    fn nothing_from_the_wire_panics_and_every_verdict_is_well_formed(packets in proptest::collection::vec(bytes(), 1..20)) {
        let mut lab = Lab::new(&[web(&[ready(A1), ready(A2)]), dns(&[ready(A1), ready(A2)])]);
        for bytes in &packets {
            let out = lab.send_from(A1, bytes);
            match out.verdict {
                Verdict::Forward(_) | Verdict::Reply => {
                    prop_assert!(Packet::parse(&mut out.bytes.clone(), Checksum::Full).is_ok());
                }
                Verdict::Held => {}
                Verdict::Drop(_) => {}
            }
            if out.verdict == Verdict::Reply {
                crate::lab::ip_of(&out.bytes);
            }
        }
        let counters = lab.counters();
        let dropped: u64 = counters.drops().map(|(_, count)| count).sum();
        prop_assert_eq!(counters.packets, counters.forwarded + counters.replied + counters.held + dropped);
        prop_assert_eq!(counters.packets, u64::try_from(packets.len()).unwrap());
    }
}

/// Clients, source ports and destinations that run into each other on purpose.
fn colliding() -> impl Strategy<Value = Vec<(bool, u8, u16, u8)>> {
    proptest::collection::vec((any::<bool>(), 0..3u8, 1..4u16, 0..4u8), 1..60)
}

proptest! {
    // D-119
    #[test]
    fn no_two_flows_ever_share_a_tuple(sends in colliding(), max_flows in 2..40usize) {
        use crate::lab::{B1, NODE_1};
        let limits = minisvc_translator::Limits { max_flows, ..Default::default() };
        let other = |service: crate::lab::Svc| service.at(minisvc_translator::FrontendKind::ClusterIp, "10.96.0.51:80");
        let pods = [ready(A1)];
        let services = [web(&pods), dns(&pods), other(web(&pods)), other(dns(&pods))];
        let mut lab = Lab::with_limits(&services, limits);
        for (is_tcp, client, port, to) in sends {
            let src = on([A1, B1, NODE_1][usize::from(client)], port);
            let dst = [at(VIP), at("10.96.0.51:80"), on(A1, 8080), on(B1, 8080)][usize::from(to)];
            let segment = if is_tcp { tcp(src, dst, SYN) } else { udp(src, dst, b"") };
            lab.send(&segment);
            let flows = lab.flows();
            prop_assert!(flows.len() <= max_flows);
            let tuples: HashSet<_> = flows.iter().flat_map(|flow| [flow.original, flow.reply]).collect();
            prop_assert_eq!(tuples.len(), 2 * flows.len());
        }
    }
}
