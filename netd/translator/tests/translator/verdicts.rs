//! What becomes of a first packet: section 4 of the statements, and what is dropped before it.

use std::net::{Ipv4Addr, SocketAddrV4};

use minisvc_translator::{
    Checksum, DropReason, FrontendKind, Limits, PacketBuf, Policies, PortId, TrafficPolicy, Translator, Verdict,
};

use crate::lab::{
    A1, A2, ACK, B1, Ep, Lab, NODE_1, RST, SYN, Svc, VIP, WORKSTATION, at, dns, draining, expiring, failing, is_tcp,
    on, ping, range, ready, seen, tcp, udp, unreachable, unready, web,
};

/// What a client finds out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    /// The endpoint at this address gets the packet.
    Reaches(Ipv4Addr),
    /// A refusal that the client's socket understands.
    Refused,
    /// An ICMP error with this code of "destination unreachable".
    Unreachable(u8),
    Silence(DropReason),
}

fn local_only(service: Svc) -> Svc {
    service.policies(Policies { internal: TrafficPolicy::Local, ..Policies::default() })
}

/// Sends a first packet of TCP and of UDP, and checks that their fates agree.
#[track_caller]
fn fate(services: [Svc; 2], client: Ipv4Addr, to: &str) -> Fate {
    let mut lab = Lab::new(&services);
    let syn = lab.send(&tcp(on(client, 40000), at(to), SYN));
    let by_tcp = match syn.verdict {
        Verdict::Forward(_) => Fate::Reaches(*seen(&syn.bytes).dst.ip()),
        Verdict::Reply if is_tcp(&syn.bytes) => {
            let rst = syn.reset();
            // D-037: a RST from anyone else is ignored by the client's socket.
            assert_eq!((rst.src, rst.dst), (at(to), on(client, 40000)));
            assert_eq!((rst.flags, rst.ack), (RST | ACK, 1001), "it acknowledges the SYN");
            Fate::Refused
        }
        Verdict::Reply => Fate::Unreachable(syn.icmp().3),
        Verdict::Drop(reason) => Fate::Silence(reason),
        Verdict::Held => panic!("a whole packet is never held"),
    };
    let question = udp(on(client, 40000), at(to), b"question");
    let datagram = lab.send(&question);
    let by_udp = match datagram.verdict {
        Verdict::Forward(_) => Fate::Reaches(*seen(&datagram.bytes).dst.ip()),
        Verdict::Reply => {
            let (_, dst, kind, code, quote) = datagram.icmp();
            assert_eq!((dst, kind), (client, 3));
            // D-037: the client's socket is found by the packet that is quoted.
            assert_eq!(quote, question.bytes());
            if code == 3 { Fate::Refused } else { Fate::Unreachable(code) }
        }
        Verdict::Drop(reason) => Fate::Silence(reason),
        Verdict::Held => panic!("a whole packet is never held"),
    };
    assert_eq!(by_tcp, by_udp, "TCP and UDP");
    by_tcp
}

/// Conditions that make no sense together, but may be written in an EndpointSlice.
const SERVING: Ep =
    Ep { addr: SocketAddrV4::new(A2, 8080), ready: false, serving: true, terminating: false, hints: None };

#[test]
fn a_first_packet_meets_the_fate_of_the_table() {
    use Fate::{Reaches, Refused, Silence, Unreachable};
    let all: fn(Svc) -> Svc = |service| service;
    type Row<'a> = (&'a str, &'a str, fn(Svc) -> Svc, &'a [Ep], Ipv4Addr, &'a str, Fate);
    let rows: &[Row<'_>] = &[
        ("D-013", "a ready endpoint", all, &[ready(A2)], A1, VIP, Reaches(A2)),
        ("D-013", "terminating, as nothing is ready", all, &[draining(A2), unready(B1)], A1, VIP, Reaches(A2)),
        ("D-015", "one ready keeps the terminating out", all, &[draining(A2), ready(B1)], A1, VIP, Reaches(B1)),
        ("D-016", "neither ready nor serving", all, &[unready(A2)], A1, VIP, Refused),
        ("D-016", "serving, but neither ready nor terminating", all, &[SERVING], A1, VIP, Refused),
        ("D-095", "terminating and failing", all, &[failing(A2)], A1, VIP, Refused),
        ("D-032", "no endpoint at all", all, &[], A1, VIP, Refused),
        ("D-014", "local: ready here", local_only, &[ready(A2), ready(B1)], A1, VIP, Reaches(B1)),
        (
            "D-014",
            "local: terminating here, ready elsewhere",
            local_only,
            &[ready(A2), draining(B1)],
            A1,
            VIP,
            Reaches(B1),
        ),
        ("D-017", "local: only elsewhere", local_only, &[ready(A2)], A1, VIP, Silence(DropReason::NoLocalEndpoint)),
        ("D-017", "local: nobody anywhere", local_only, &[unready(A2)], A1, VIP, Refused),
        (
            "D-017",
            "local: a host-network client has a node too",
            local_only,
            &[ready(A2), ready(B1)],
            NODE_1,
            VIP,
            Reaches(B1),
        ),
        ("D-035", "another port of the clusterIP", all, &[ready(A2)], A1, "10.96.0.50:81", Refused),
        (
            "D-035",
            "a service address without a Service",
            all,
            &[ready(A2)],
            A1,
            "10.96.9.9:80",
            Silence(DropReason::NoService),
        ),
        ("no statement", "a pod by its own address", all, &[], A1, "10.244.1.10:8080", Reaches(A2)),
        ("D-023", "the endpoint's pod has gone", all, &[ready(Ipv4Addr::new(10, 244, 7, 7))], A1, VIP, Unreachable(1)),
        ("no statement", "a pod address without a pod", all, &[], A1, "10.244.7.7:80", Unreachable(1)),
        ("no statement", "an address outside", all, &[], WORKSTATION, "192.0.2.1:80", Unreachable(0)),
        ("D-111", "multicast", all, &[], A1, "224.0.0.251:5353", Silence(DropReason::Unroutable)),
        ("D-111", "broadcast", all, &[], A1, "255.255.255.255:67", Silence(DropReason::Unroutable)),
    ];
    for &(statement, name, shape, endpoints, client, to, expected) in rows {
        let services = [shape(web(endpoints)), shape(dns(endpoints))];
        assert_eq!(fate(services, client, to), expected, "{statement}: {name}");
    }
}

#[test]
fn when_all_endpoints_drain_those_that_still_serve_get_the_flows_under_every_policy() {
    use TrafficPolicy::{Cluster, Local};
    let node_port = |policy| {
        move |service: Svc| {
            let policies = Policies { external: policy, ..Policies::default() };
            service.at(FrontendKind::NodePort, "10.95.0.11:30080").policies(policies)
        }
    };
    let internal = |policy| move |service: Svc| service.policies(Policies { internal: policy, ..Policies::default() });
    type Row<'a> = (&'a str, &'a str, &'a dyn Fn(Svc) -> Svc, Ipv4Addr, &'a str);
    let rows: &[Row<'_>] = &[
        ("D-094", "internal, Cluster", &internal(Cluster), A1, VIP),
        ("D-094", "internal, Local", &internal(Local), A1, VIP),
        ("D-094", "external, Cluster", &node_port(Cluster), WORKSTATION, "10.95.0.11:30080"),
        ("D-094", "external, Local", &node_port(Local), WORKSTATION, "10.95.0.11:30080"),
    ];
    for &(statement, name, shape, client, to) in rows {
        let services = |endpoints: &[Ep]| [shape(web(endpoints)), shape(dns(endpoints))];
        assert_eq!(fate(services(&[draining(B1), failing(A1)]), client, to), Fate::Reaches(B1), "{statement}: {name}");
        assert_eq!(fate(services(&[ready(A1), draining(B1)]), client, to), Fate::Reaches(A1), "{statement}: {name}");
    }
}

const LB: &str = "10.95.1.7:80";

/// At a load balancer address, for these clients.
fn for_sources(service: Svc, sources: &[&str]) -> Svc {
    let sources = sources.iter().map(|text| range(text)).collect();
    service.at(FrontendKind::LoadBalancer, LB).policies(Policies { sources, ..Policies::default() })
}

#[test]
fn source_ranges_keep_clients_from_a_load_balancer_address() {
    use Fate::{Reaches, Refused, Silence};
    type Row<'a> = (&'a str, &'a [&'a str], Ipv4Addr, &'a [Ep], Fate);
    let kept_out = Silence(DropReason::SourceRange);
    let rows: &[Row<'_>] = &[
        ("D-066", &[], A1, &[ready(A2)], Reaches(A2)),
        ("D-066", &["0.0.0.0/0"], A1, &[ready(A2)], Reaches(A2)),
        ("D-066", &["10.95.0.1/32"], WORKSTATION, &[ready(A2)], Reaches(A2)),
        ("D-066", &["192.0.2.0/24", "10.244.0.0/24"], A1, &[ready(A2)], Reaches(A2)),
        ("D-066", &["192.0.2.0/24"], WORKSTATION, &[ready(A2)], kept_out),
        ("D-066: only of the other family", &["fd00::/8"], WORKSTATION, &[ready(A2)], Reaches(A2)),
        ("D-068", &["10.95.0.0/24"], A1, &[ready(A2)], kept_out),
        ("D-068", &["10.95.0.0/24"], NODE_1, &[ready(A2)], Reaches(A2)),
        ("section 4: outside, no endpoint", &["192.0.2.0/24"], A1, &[], kept_out),
        ("section 4: inside, no endpoint", &["10.244.0.0/16"], A1, &[], Refused),
    ];
    for &(statement, sources, client, endpoints, expected) in rows {
        let services = [web(endpoints), dns(endpoints)].map(|service| for_sources(service, sources));
        assert_eq!(fate(services, client, LB), expected, "{statement}: {client} of {sources:?}");
    }
}

// D-067
#[test]
fn source_ranges_do_not_protect_the_other_addresses_of_the_service() {
    let mut service = for_sources(web(&[ready(A2)]), &["192.0.2.0/24"]);
    let others = [
        (FrontendKind::ClusterIp, VIP),
        (FrontendKind::NodePort, "10.95.0.11:30080"),
        (FrontendKind::ExternalIp, "203.0.113.5:80"),
    ];
    service.frontends.extend(others.map(|(kind, addr)| (kind, at(addr))));
    let mut lab = Lab::new(&[service]);
    for (_, addr) in others {
        lab.send(&tcp(on(WORKSTATION, 40000), at(addr), SYN)).at(&lab, A2);
    }
    let out = lab.send(&tcp(on(WORKSTATION, 40000), at(LB), SYN));
    assert_eq!(out.verdict, Verdict::Drop(DropReason::SourceRange));
}

// D-069
#[test]
fn new_source_ranges_do_not_end_flows() {
    let mut lab = Lab::new(&[for_sources(web(&[ready(A2)]), &[])]);
    let syn = lab.connect(on(A1, 40000), at(LB));
    lab.serve(&[for_sources(web(&[ready(A2)]), &["192.0.2.0/24"])]);
    lab.send(&tcp(on(A1, 40000), at(LB), ACK).data(b"more")).at(&lab, A2);
    lab.send(&syn.answer(ACK, b"answer")).at(&lab, A1);
    let another = lab.send(&tcp(on(A1, 40001), at(LB), SYN));
    assert_eq!(another.verdict, Verdict::Drop(DropReason::SourceRange));
}

// D-036
#[test]
fn a_load_balancer_address_that_is_a_node_s_own_leaves_the_node_its_other_ports() {
    let mut lab = Lab::new(&[web(&[ready(A2)]).at(FrontendKind::LoadBalancer, "10.95.0.11:80")]);
    lab.send(&tcp(on(A1, 40000), at("10.95.0.11:80"), SYN)).at(&lab, A2);
    lab.send(&tcp(on(A1, 40000), at("10.95.0.11:22"), SYN)).at(&lab, NODE_1);
}

// D-001
#[test]
fn a_service_for_tcp_says_nothing_about_udp() {
    let mut lab = Lab::new(&[web(&[ready(A2)])]);
    lab.send(&tcp(on(A1, 40000), at(VIP), SYN)).at(&lab, A2);
    let (_, _, kind, code, _) = lab.send(&udp(on(A1, 40000), at(VIP), b"")).icmp();
    assert_eq!((kind, code), (3, 3));
}

// D-001
#[test]
fn one_address_may_have_another_service_behind_each_port_and_protocol() {
    let other = web(&[ready(B1)]).at(FrontendKind::ClusterIp, "10.96.0.50:81");
    let mut lab = Lab::new(&[web(&[ready(A2)]), dns(&[ready(A1)]), other]);
    lab.send(&tcp(on(WORKSTATION, 40000), at(VIP), SYN)).at(&lab, A2);
    lab.send(&udp(on(WORKSTATION, 40000), at(VIP), b"")).at(&lab, A1);
    lab.send(&tcp(on(WORKSTATION, 40000), at("10.96.0.50:81"), SYN)).at(&lab, B1);
}

// D-023
#[test]
fn an_endpoint_that_refuses_is_not_replaced_by_another() {
    let mut lab = Lab::new(&[web(&[ready(A2), ready(B1)])]);
    let client = on(A1, 40000);
    let syn = seen(&lab.send(&tcp(client, at(VIP), SYN)).bytes);
    let refusal = lab.send(&syn.answer(RST | ACK, b"")).at(&lab, A1);
    assert_eq!((refusal.src, refusal.flags), (at(VIP), RST | ACK));
}

// D-005
#[test]
fn each_endpoint_may_have_another_port() {
    let endpoints = [Ep { addr: on(A2, 9090), ..ready(A2) }];
    let mut lab = Lab::new(&[web(&endpoints)]);
    assert_eq!(lab.connect(on(A1, 40000), at(VIP)).dst, on(A2, 9090));
}

// D-036
#[test]
fn other_ports_of_a_load_balancer_address_are_refused_and_of_a_node_are_its_own() {
    let lb = web(&[ready(A2)]).at(FrontendKind::LoadBalancer, "10.95.1.7:80");
    let node_port = web(&[ready(A2)]).at(FrontendKind::NodePort, "10.95.0.11:30080");
    let mut lab = Lab::new(&[lb, node_port]);
    lab.send(&tcp(on(A1, 40000), at("10.95.1.7:81"), SYN)).reset();
    lab.send(&tcp(on(A1, 40000), at("10.95.0.11:22"), SYN)).at(&lab, NODE_1);
}

// D-038
#[test]
fn refusals_of_tcp_are_not_limited_and_icmp_errors_are() {
    let limits = Limits { icmp_per_second: 10, icmp_burst: 5, ..Limits::default() };
    let mut lab = Lab::with_limits(&[web(&[]), dns(&[])], limits);
    for port in 1..=1000 {
        lab.send(&tcp(on(A1, port), at(VIP), SYN)).reset();
    }
    let answered = (1..=1000).filter(|&port| lab.send(&udp(on(A1, port), at(VIP), b"")).verdict == Verdict::Reply);
    assert_eq!(answered.count(), 5);
    assert_eq!(lab.counters().dropped(DropReason::IcmpLimit), 995);
    assert_eq!((lab.counters().resets, lab.counters().icmp_errors), (1000, 5));
}

// D-037
#[test]
fn an_icmp_refusal_comes_from_the_clients_node() {
    let mut lab = Lab::new(&[dns(&[])]);
    let (src, ..) = lab.send(&udp(on(A1, 40000), at(VIP), b"")).icmp();
    assert_eq!(src, NODE_1);
}

// D-104
#[test]
fn nobody_answers_a_ping_to_a_service_and_pods_answer_for_themselves() {
    let mut lab = Lab::new(&[web(&[ready(A2)])]);
    let vip = *at(VIP).ip();
    assert_eq!(lab.send_from(A1, &ping(A1, vip)).verdict, Verdict::Drop(DropReason::ServiceIcmp));
    let unused = Ipv4Addr::new(10, 96, 9, 9);
    assert_eq!(lab.send_from(A1, &ping(A1, unused)).verdict, Verdict::Drop(DropReason::NoService));
    let out = lab.send_from(A1, &ping(A1, A2));
    assert_eq!(out.verdict, Verdict::Forward(lab.port_of(A2)));
    assert_eq!(crate::lab::seen_icmp(&out.bytes).2, 8);
}

// D-111
#[test]
fn other_protocols_are_routed_but_never_translated() {
    let mut lab = Lab::new(&[web(&[ready(A2)])]);
    let gre = |dst| crate::lab::ip_packet(A1, dst, 64, etherparse::IpNumber(47), &[b"payload"]);
    let (_, _, kind, code, _) = lab.send_from(A1, &gre(*at(VIP).ip())).icmp();
    assert_eq!((kind, code), (3, 3), "the fate of an unlisted port");
    let out = lab.send_from(A1, &gre(A2));
    assert_eq!(out.verdict, Verdict::Forward(lab.port_of(A2)));
    assert_eq!(crate::lab::ip_of(&out.bytes).payload, b"payload");
}

#[test]
fn a_port_may_only_send_from_its_own_addresses() {
    let mut lab = Lab::new(&[web(&[ready(A2)])]);
    let spoofed = |lab: &mut Lab, from: Ipv4Addr, bytes: &[u8]| {
        assert_eq!(lab.send_from(from, bytes).verdict, Verdict::Drop(DropReason::Spoofed));
    };
    spoofed(&mut lab, B1, &tcp(on(A1, 40000), at(VIP), SYN).bytes());
    spoofed(&mut lab, B1, &tcp(on(Ipv4Addr::new(192, 0, 2, 1), 40000), at(VIP), SYN).bytes());
    spoofed(&mut lab, B1, &ping(A1, A2));
    // Not even into a connection of another: neither as its client nor as its endpoint.
    let syn = lab.connect(on(A1, 40000), at(VIP));
    spoofed(&mut lab, B1, &tcp(on(A1, 40000), at(VIP), RST).bytes());
    spoofed(&mut lab, B1, &syn.answer(RST, b"").bytes());
    spoofed(&mut lab, B1, &unreachable(A2, A1, &syn.bytes()));
    assert_eq!(lab.counters().dropped(DropReason::Spoofed), 6);
}

#[test]
fn what_nobody_owns_goes_to_the_outside_port_if_there_is_one() {
    let mut lab = Lab::new(&[]);
    lab.outside = Some(PortId(99));
    lab.install();
    let outside = on(Ipv4Addr::new(192, 0, 2, 1), 443);
    let out = lab.send(&tcp(on(A1, 40000), outside, SYN));
    assert_eq!(out.verdict, Verdict::Forward(PortId(99)));
    let answer = seen(&out.bytes).answer(SYN | ACK, b"").bytes();
    assert_eq!(seen(&lab.send_bytes(PortId(99), &answer).bytes).src, outside);
    // Outside may not pretend to be inside.
    let forged = tcp(on(Ipv4Addr::new(10, 244, 9, 9), 1), on(A1, 1), SYN).bytes();
    assert_eq!(lab.send_bytes(PortId(99), &forged).verdict, Verdict::Drop(DropReason::Spoofed));
}

#[test]
fn refusals_are_not_answered_with_refusals() {
    let mut lab = Lab::new(&[web(&[])]);
    let rst = lab.send(&tcp(on(A1, 40000), at(VIP), RST));
    assert_eq!(rst.verdict, Verdict::Drop(DropReason::Unanswerable));
    let about_nothing = unreachable(A1, Ipv4Addr::new(192, 0, 2, 1), &udp(at("192.0.2.1:5"), on(A1, 5), b"").bytes());
    assert_eq!(lab.send_from(A1, &about_nothing).verdict, Verdict::Drop(DropReason::UnrelatedIcmp));
    let dying = udp(on(A1, 40000), on(A2, 1), b"").ttl(1);
    assert_eq!(lab.send(&dying).icmp().2, 11, "an ordinary packet gets a time exceeded");
    let error = expiring(unreachable(A1, A2, &udp(on(A2, 5), on(A1, 5), b"").bytes()));
    assert_eq!(lab.send_from(A1, &error).verdict, Verdict::Drop(DropReason::Unanswerable));
}

#[test]
fn bytes_behind_the_packet_are_cut_off() {
    let mut lab = Lab::new(&[web(&[ready(A2)])]);
    let mut bytes = tcp(on(A1, 40000), at(VIP), SYN).bytes();
    bytes.extend_from_slice(b"behind");
    lab.send_from(A1, &bytes).at(&lab, A2);
}

#[test]
fn an_answer_that_does_not_fit_is_dropped() {
    let mut lab = Lab::new(&[dns(&[])]);
    let mut bytes = udp(on(A1, 40000), at(VIP), b"").bytes();
    let len = bytes.len();
    let from = lab.port_of(A1);
    let verdict = lab.translator.handle(from, &mut PacketBuf::new(&mut bytes, len, Checksum::Full), lab.now);
    assert_eq!(verdict, Verdict::Drop(DropReason::NoRoom));
}

#[test]
fn without_a_table_nothing_passes() {
    let mut translator = Translator::new(Limits::default());
    let mut bytes = ping(A1, A2);
    let len = bytes.len();
    let mut buf = PacketBuf::new(&mut bytes, len, Checksum::Full);
    let verdict = translator.handle(PortId(100), &mut buf, std::time::Instant::now());
    assert_eq!(verdict, Verdict::Drop(DropReason::Spoofed));
}
