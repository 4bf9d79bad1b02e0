//! SCTP through Services (D-112). The kernel that these tests were written on has no SCTP, so that packets are all there is.

use std::time::Duration;

use etherparse::IpNumber;
use minisvc_translator::{Checksum, DropReason, FlowState, FrontendKind, PacketBuf, Protocol, Verdict};

use crate::lab::{
    A1, A2, B1, Ep, HEADER, Lab, NODE_1, Seg, Svc, VIP, WORKSTATION, at, dns, ip_packet, on, ready, sctp, seen,
    seen_icmp, unreachable, unready, web,
};

/// Chunk types (RFC 9260 3.2).
const DATA: u8 = 0;
const INIT: u8 = 1;
const INIT_ACK: u8 = 2;
const ABORT: u8 = 6;
const SHUTDOWN: u8 = 7;
const SHUTDOWN_ACK: u8 = 8;
const ERROR: u8 = 9;
const COOKIE_ECHO: u8 = 10;
const COOKIE_ACK: u8 = 11;
const SHUTDOWN_COMPLETE: u8 = 14;

/// The tags that client and server want to see.
const TO_CLIENT: u32 = 0xc11e_4711;
const TO_SERVER: u32 = 0x5e7e_0815;

fn signalling(endpoints: &[Ep]) -> Svc {
    Svc { name: "signalling", protocol: Protocol::Sctp, ..web(endpoints) }
}

fn init(client: std::net::SocketAddrV4, to: std::net::SocketAddrV4) -> Seg {
    let fields = [&TO_CLIENT.to_be_bytes()[..], &[0, 1, 0, 0, 0, 1, 0, 1, 0, 0, 0, 1]].concat();
    sctp(client, to, INIT, 0).data(&fields)
}

/// Sets an association up, and returns a packet of the client as its endpoint sees it.
fn associate(lab: &mut Lab, client: std::net::SocketAddrV4, to: std::net::SocketAddrV4) -> Seg {
    let out = lab.send(&init(client, to));
    assert!(matches!(out.verdict, Verdict::Forward(_)), "{:?}", out.verdict);
    let inside = seen(&out.bytes);
    assert_eq!(inside.payload, init(client, to).payload);
    let (there, server) = (inside.src, inside.dst);
    let fields = [&TO_SERVER.to_be_bytes()[..], &[0, 1, 0, 0, 0, 1, 0, 1, 0, 0, 0, 1]].concat();
    let mut state = vec![lab.flows()[0].state];
    for (from_client, kind, tag, data) in [
        (false, INIT_ACK, TO_CLIENT, &fields[..]),
        (true, COOKIE_ECHO, TO_SERVER, b"cookie"),
        (false, COOKIE_ACK, TO_CLIENT, b""),
        (true, DATA, TO_SERVER, b"hello"),
        (false, DATA, TO_CLIENT, b"hello yourself"),
    ] {
        let arrived = if from_client {
            lab.send(&sctp(client, to, kind, tag).data(data)).at(lab, *server.ip())
        } else {
            lab.send(&sctp(server, there, kind, tag).data(data)).at(lab, *client.ip())
        };
        let (src, dst) = if from_client { (there, server) } else { (to, client) };
        assert_eq!((arrived.src, arrived.dst, arrived.flags, arrived.seq), (src, dst, kind, tag));
        assert_eq!(arrived.payload, data);
        state.push(lab.flows()[0].state);
    }
    use FlowState::{Associated, CookieEchoed, CookieWait};
    assert_eq!(state, [CookieWait, CookieWait, CookieEchoed, Associated, Associated, Associated]);
    inside
}

// D-112, D-002
#[test]
fn an_association_goes_through_a_virtual_address_and_its_checksum_follows_the_ports() {
    let mut lab = Lab::new(&[signalling(&[ready(A2)])]);
    let inside = associate(&mut lab, on(A1, 36412), at(VIP));
    assert_eq!((inside.src, inside.dst), (on(A1, 36412), on(A2, 8080)));
    lab.pass(Duration::from_secs(200));
    lab.send(&sctp(on(A1, 36412), at(VIP), DATA, TO_SERVER)).at(&lab, A2);
    lab.send(&sctp(on(A1, 36412), at(VIP), SHUTDOWN, TO_SERVER)).at(&lab, A2);
    assert_eq!(lab.flows()[0].state, FlowState::ShuttingDown);
    lab.send(&sctp(on(A2, 8080), on(A1, 36412), SHUTDOWN_ACK, TO_CLIENT)).at(&lab, A1);
    lab.send(&sctp(on(A1, 36412), at(VIP), SHUTDOWN_COMPLETE, TO_SERVER)).at(&lab, A2);
    assert_eq!(lab.flows()[0].state, FlowState::Closed);
    lab.pass(Duration::from_secs(11));
    assert_eq!(lab.flows().len(), 0);
}

// D-112, D-042
#[test]
fn an_association_through_a_node_port_comes_from_the_node() {
    let mut lab = Lab::new(&[signalling(&[ready(A2)]).at(FrontendKind::NodePort, "10.95.0.11:30080")]);
    let inside = associate(&mut lab, on(WORKSTATION, 36412), at("10.95.0.11:30080"));
    assert_eq!((*inside.src.ip(), inside.dst), (NODE_1, on(A2, 8080)));
    assert_ne!(inside.src.port(), 36412, "a port of the node's own choice");
}

// S-160, D-001
#[test]
fn one_port_number_leads_to_other_endpoints_in_each_protocol() {
    let mut lab = Lab::new(&[web(&[ready(A2)]), dns(&[ready(B1)]), signalling(&[ready(NODE_1)])]);
    lab.send(&crate::lab::tcp(on(A1, 40000), at(VIP), crate::lab::SYN)).at(&lab, A2);
    lab.send(&crate::lab::udp(on(A1, 40000), at(VIP), b"question")).at(&lab, B1);
    lab.send(&init(on(A1, 40000), at(VIP))).at(&lab, NODE_1);
    assert_eq!(lab.flows().len(), 3);
}

// D-112, D-113
#[test]
fn an_association_that_is_not_set_up_is_soon_forgotten_and_one_that_is_stays() {
    let mut lab = Lab::new(&[signalling(&[ready(A2)])]);
    lab.send(&init(on(A1, 36412), at(VIP))).at(&lab, A2);
    lab.pass(Duration::from_secs(4));
    assert_eq!(lab.flows().len(), 0);
    associate(&mut lab, on(A1, 36412), at(VIP));
    lab.pass(Duration::from_secs(209));
    assert_eq!(lab.flows().len(), 1);
    lab.pass(Duration::from_secs(2));
    assert_eq!(lab.flows().len(), 0);
}

// D-112, D-118
#[test]
fn an_association_begins_anew_when_the_one_before_was_aborted_or_its_cookie_was_stale() {
    for (last, from_server) in [(ABORT, false), (ABORT, true), (ERROR, true)] {
        let mut lab = Lab::new(&[signalling(&[ready(A2)])]);
        lab.send(&init(on(A1, 36412), at(VIP))).at(&lab, A2);
        lab.send(&sctp(on(A1, 36412), at(VIP), COOKIE_ECHO, TO_SERVER)).at(&lab, A2);
        let end = sctp(on(A1, 36412), at(VIP), last, TO_SERVER);
        let end = if from_server { sctp(on(A2, 8080), on(A1, 36412), last, TO_CLIENT) } else { end };
        lab.send(&end);
        assert_eq!(lab.flows()[0].state, FlowState::Closed);
        lab.serve(&[signalling(&[ready(B1)])]);
        lab.send(&init(on(A1, 36412), at(VIP))).at(&lab, B1);
    }
}

// D-032, D-116
#[test]
fn what_nobody_serves_is_refused_and_what_belongs_to_no_association_is_told_so() {
    let mut lab = Lab::new(&[signalling(&[unready(A2)])]);
    let asked = init(on(A1, 36412), at(VIP));
    let (from, to, kind, code, quote) = lab.send(&asked).icmp();
    assert_eq!((from, to, kind, code), (NODE_1, A1, 3, 3));
    assert_eq!(quote[..HEADER + 8], asked.bytes()[..HEADER + 8]);
    // RFC 9260 8.4: the tag comes back as it was, and is marked as such.
    for (kind, answer) in [(DATA, ABORT), (COOKIE_ECHO, ABORT), (SHUTDOWN_ACK, SHUTDOWN_COMPLETE)] {
        let out = lab.send(&sctp(on(A1, 36412), at(VIP), kind, 4711));
        assert_eq!(out.verdict, Verdict::Reply);
        let answered = seen(&out.bytes);
        assert_eq!((answered.src, answered.dst), (at(VIP), on(A1, 36412)));
        assert_eq!((answered.flags, answered.seq, answered.ack), (answer, 4711, 1));
    }
    for kind in [ABORT, SHUTDOWN_COMPLETE] {
        let out = lab.send(&sctp(on(A1, 36412), at(VIP), kind, 4711));
        assert_eq!(out.verdict, Verdict::Drop(DropReason::Unanswerable));
    }
    assert_eq!(lab.flows().len(), 0);
}

// D-087, D-096
#[test]
fn associations_outlive_a_change_of_endpoints() {
    let mut lab = Lab::new(&[signalling(&[ready(A2)])]);
    associate(&mut lab, on(A1, 36412), at(VIP));
    lab.serve(&[signalling(&[ready(B1)])]);
    lab.send(&sctp(on(A1, 36412), at(VIP), DATA, TO_SERVER)).at(&lab, A2);
    lab.serve(&[]);
    lab.send(&sctp(on(A1, 36412), at(VIP), DATA, TO_SERVER)).at(&lab, A2);
}

// D-090
#[test]
fn an_association_whose_pod_vanishes_is_aborted_under_the_tag_its_client_knows() {
    let mut lab = Lab::new(&[signalling(&[ready(A2)])]);
    associate(&mut lab, on(A1, 36412), at(VIP));
    lab.hosts.remove(&A2);
    lab.install();
    let sent = lab.transmitted();
    assert_eq!(sent.len(), 1);
    let abort = seen(&sent[0].1);
    assert_eq!((sent[0].0, abort.src, abort.dst), (lab.port_of(A1), at(VIP), on(A1, 36412)));
    assert_eq!((abort.flags, abort.seq, abort.ack), (ABORT, TO_CLIENT, 0));
}

// D-105
#[test]
fn an_error_about_an_association_is_translated_back() {
    let mut lab = Lab::new(&[signalling(&[ready(A2)])]);
    let inside = associate(&mut lab, on(A1, 36412), at(VIP));
    let out = lab.send_from(A2, &unreachable(A2, A1, &inside.bytes()));
    assert_eq!(out.verdict, Verdict::Forward(lab.port_of(A1)));
    let (from, to, _, code, quote) = seen_icmp(&out.bytes);
    assert_eq!((from, to, code), (*at(VIP).ip(), A1, 3));
    assert_eq!(quote[HEADER..HEADER + 4], [36412_u16.to_be_bytes(), 80_u16.to_be_bytes()].concat());
}

// D-112
#[test]
fn a_checksum_that_is_not_there_yet_or_was_wrong_stays_so() {
    let mut lab = Lab::new(&[signalling(&[ready(A2)])]);
    let port = lab.port_of(A1);
    let mut bytes = init(on(A1, 36412), at(VIP)).bytes();
    let field = HEADER + 8..HEADER + 12;
    // A device that computes checksums has none from whom it takes packets.
    bytes[field.clone()].copy_from_slice(&[1, 2, 3, 4]);
    let length = bytes.len();
    let mut buf = PacketBuf::new(&mut bytes, length, Checksum::Partial);
    assert_eq!(lab.translator.handle(port, &mut buf, lab.now), Verdict::Forward(lab.port_of(A2)));
    assert_eq!(
        (&bytes[field.clone()], &bytes[HEADER + 2..HEADER + 4]),
        (&[1, 2, 3, 4][..], &8080_u16.to_be_bytes()[..])
    );
    let mut wrong = init(on(A1, 36413), at(VIP)).bytes();
    wrong[field.start] ^= 0x10;
    let mut out = lab.send_bytes(port, &wrong).bytes;
    out[field.start] ^= 0x10;
    assert_eq!(seen(&out).dst, on(A2, 8080), "wrong in the same bit");
    // Between pods no port changes, and nothing of it.
    let direct = init(on(A1, 1), on(B1, 2)).bytes();
    assert_eq!(lab.send_bytes(port, &direct).bytes[HEADER..], direct[HEADER..]);
}

// D-112, D-111
#[test]
fn what_cannot_be_translated_is_refused_and_nothing_breaks() {
    let mut lab = Lab::new(&[signalling(&[ready(A2)])]);
    let cut = ip_packet(A1, *at(VIP).ip(), 64, IpNumber::SCTP, &[&[0; 11]]);
    assert_eq!(lab.send_from(A1, &cut).verdict, Verdict::Drop(DropReason::Malformed));
    let no_chunk = ip_packet(A1, *at(VIP).ip(), 64, IpNumber::SCTP, &[&[0; 12]]);
    assert_eq!(lab.send_from(A1, &no_chunk).verdict, Verdict::Reply, "to a port of no Service");
    // Only TCP and UDP leave the lab.
    lab.relay = true;
    lab.install();
    let (_, to, kind, code, _) = lab.send(&init(on(A1, 36412), at("203.0.113.5:80"))).icmp();
    assert_eq!((to, kind, code), (A1, 3, 0));
    let outside = Ep { addr: at("203.0.113.5:80"), ..ready(A2) };
    lab.serve(&[signalling(&[outside])]);
    assert_eq!(lab.send(&init(on(A1, 36412), at(VIP))).icmp().2, 3);
}
