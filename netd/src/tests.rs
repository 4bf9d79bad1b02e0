//! The data plane with sockets in place of TUNs: packets go in at one and come out at another.

use std::io::{Read as _, Write as _};
use std::net::Ipv4Addr;
use std::os::unix::net::UnixStream;
use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant};

use etherparse::{PacketBuilder, SlicedPacket};
use nix::sys::socket::{AddressFamily, SockFlag, SockType, socketpair};

use super::*;
use crate::records::{EndpointRecord, ObjectKey, PortRecord, ServicePortRecord, ServiceRecord, SliceRecord};

const VIP: Ipv4Addr = Ipv4Addr::new(10, 96, 0, 9);
const CLIENT: Ipv4Addr = Ipv4Addr::new(10, 244, 0, 2);
const BACKEND: Ipv4Addr = Ipv4Addr::new(10, 244, 0, 3);

/// A stand-in for a TUN: a socket that keeps packets apart. The first end is the namespace's.
fn wire() -> (UnixStream, OwnedFd) {
    let flags = SockFlag::SOCK_CLOEXEC;
    let (inside, outside) = socketpair(AddressFamily::Unix, SockType::SeqPacket, None, flags).expect("a socket pair");
    let outside = UnixStream::from(outside);
    outside.set_nonblocking(true).expect("non-blocking");
    let inside = UnixStream::from(inside);
    inside.set_read_timeout(Some(Duration::from_secs(10))).expect("a timeout");
    (inside, outside.into())
}

fn link(netd: &Netd, address: Ipv4Addr) -> (UnixStream, PortId) {
    let (inside, device) = wire();
    let role = LinkRole::Pod { node: "node-1".into() };
    let addresses = vec![address.into()];
    let link = Link { name: address.to_string(), device, addresses, role, host_ports: None };
    (inside, netd.attach(link))
}

/// A Service that every client reaches at [`VIP`] port 80, with one endpoint.
fn publish_service(netd: &Netd) {
    let key = ObjectKey::new(Some("default"), Some("web"));
    let port = ServicePortRecord { name: "".into(), protocol: Protocol::Udp, port: 80, node_port: Some(30080) };
    let service = ServiceRecord {
        key: key.clone(),
        cluster_ips: vec![VIP.into()],
        load_balancer_ips: vec![],
        external_ips: vec![],
        ports: vec![port],
        policies: minisvc_translator::Policies::default(),
        health_port: None,
        created: 0,
        unhandled: false,
    };
    let endpoint = EndpointRecord {
        address: BACKEND.into(),
        ready: true,
        serving: true,
        terminating: false,
        node: None,
        hints: None,
    };
    let port = PortRecord { name: "".into(), protocol: Protocol::Udp, port: 8080 };
    let slice = SliceRecord { service: key.clone(), ports: vec![port], endpoints: vec![endpoint] };
    netd.shared.publisher.update(|inputs| {
        inputs.put_service(service);
        inputs.put_slice(key, slice);
    });
}

fn udp(from: (Ipv4Addr, u16), to: (Ipv4Addr, u16), payload: &[u8]) -> Vec<u8> {
    let mut packet = Vec::new();
    let builder = PacketBuilder::ipv4(from.0.octets(), to.0.octets(), 64).udp(from.1, to.1);
    builder.write(&mut packet, payload).expect("a packet");
    packet
}

/// Source and destination of the next packet.
fn next(wire: &mut UnixStream) -> ((Ipv4Addr, u16), (Ipv4Addr, u16)) {
    let mut storage = [0; 2048];
    let length = wire.read(&mut storage).expect("a packet before the deadline");
    let packet = SlicedPacket::from_ip(&storage[..length]).expect("well formed");
    let (Some(etherparse::NetSlice::Ipv4(ip)), Some(etherparse::TransportSlice::Udp(udp))) =
        (packet.net, packet.transport)
    else {
        panic!("no UDP over IPv4")
    };
    let (source, destination) = (ip.header().source_addr(), ip.header().destination_addr());
    ((source, udp.source_port()), (destination, udp.destination_port()))
}

fn netd() -> Netd {
    start(false)
}

fn start(offload: bool) -> Netd {
    let net = |text: &str| text.parse().expect("a range");
    let config = Config::new(vec![net("10.96.0.0/16")], vec![net("10.244.0.0/16")]);
    Netd::start(Config { offload, ..config }).expect("started")
}

// D-002, D-039
#[test]
fn a_datagram_goes_to_the_endpoint_and_its_answer_comes_from_the_virtual_address() {
    let netd = netd();
    let ((mut client, _), (mut backend, _)) = (link(&netd, CLIENT), link(&netd, BACKEND));
    publish_service(&netd);
    client.write_all(&udp((CLIENT, 4000), (VIP, 80), b"ping")).expect("sent");
    assert_eq!(next(&mut backend), ((CLIENT, 4000), (BACKEND, 8080)), "the backend sees the client's own address");
    backend.write_all(&udp((BACKEND, 8080), (CLIENT, 4000), b"pong")).expect("sent");
    assert_eq!(next(&mut client), ((VIP, 80), (CLIENT, 4000)), "the client sees the address it asked");
    assert_eq!(netd.flows(10, |_| true).current.len(), 1);
    assert_eq!(netd.stats().translator.forwarded, 2);
    netd.shutdown();
}

#[test]
fn what_is_observed_has_the_names_of_who_takes_part() {
    use crate::observe::{self, FlowQuery, NameMatch, PlaceKind, ServicePortQuery};
    let netd = netd();
    let ((mut client, _), (mut backend, port)) = (link(&netd, CLIENT), link(&netd, BACKEND));
    publish_service(&netd);
    client.write_all(&udp((CLIENT, 4000), (VIP, 80), b"ping")).expect("sent");
    next(&mut backend);
    client.write_all(&udp((CLIENT, 4001), (BACKEND, 9000), b"direct")).expect("sent");
    next(&mut backend);
    let all = FlowQuery { clients: vec![], service: None, pod: None, node: None, port: None, limit: 10 };
    let ports = |query: &FlowQuery| -> Vec<u16> {
        observe::flows(&netd, query).iter().map(|flow| flow.client.port()).collect()
    };
    assert_eq!(ports(&all), [4000, 4001], "the oldest first");
    assert_eq!(ports(&FlowQuery { limit: 1, ..all.clone() }), [4001], "the newest are kept");
    let name = |text: &str| Some(NameMatch::parse(text));
    assert_eq!(ports(&FlowQuery { service: name("web"), ..all.clone() }), [4000]);
    assert_eq!(ports(&FlowQuery { service: name("other/web"), ..all.clone() }), [0; 0]);
    assert_eq!(ports(&FlowQuery { port: Some(9000), ..all.clone() }), [4001]);
    assert_eq!(ports(&FlowQuery { port: Some(8080), ..all.clone() }), [4000], "the endpoint's counts too");
    assert_eq!(ports(&FlowQuery { node: Some("node-1".into()), ..all.clone() }), [4000, 4001]);
    let client = "10.244.0.2:4001".parse().expect("an address");
    assert_eq!(ports(&FlowQuery { clients: vec![client], ..all.clone() }), [4001]);
    let ports_of_web = observe::service_ports(&netd, &ServicePortQuery::default());
    let endpoint = &ports_of_web[0].endpoints[0];
    assert_eq!((endpoint.flows, endpoint.packets, endpoint.bytes, endpoint.candidate), (1, (1, 0), (32, 0), true));
    assert_eq!(endpoint.at.as_ref().map(|at| at.name.as_str()), Some("10.244.0.3"));
    let frontends = observe::frontends(&netd);
    assert_eq!(frontends[0].candidates, ["10.244.0.3:8080".parse().expect("an address")]);
    netd.detach(port);
    let deadline = Instant::now() + Duration::from_secs(10);
    let of_backend = FlowQuery { pod: name("10.244.0.3"), ..all };
    loop {
        let flows = observe::flows(&netd, &of_backend);
        if flows.len() == 2 && flows.iter().all(|flow| flow.state == "Severed") {
            let to = flows[0].to.as_ref().expect("still known by name");
            assert_eq!((to.kind, to.gone), (PlaceKind::Pod, true));
            break;
        }
        assert!(Instant::now() < deadline, "{flows:?}");
        std::thread::yield_now();
    }
    netd.shutdown();
}

#[test]
fn decisions_are_told_while_somebody_looks_on() {
    use std::collections::VecDeque;

    use crate::observe::{self, MAX_TRACES, NameMatch, TraceLine, TraceQuery};
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().expect("a runtime");
    let netd = netd();
    let next = |(trace, told): &mut (observe::Trace, VecDeque<TraceLine>)| -> TraceLine {
        if told.is_empty() {
            let next = async { tokio::time::timeout(Duration::from_secs(10), trace.next()).await };
            told.extend(runtime.block_on(next).expect("before the deadline").expect("the data plane runs"));
        }
        told.pop_front().expect("at least one")
    };
    let look_on = |query| (observe::trace(&netd, query).expect("few look on"), VecDeque::new());
    let ((mut client, _), (mut backend, _)) = (link(&netd, CLIENT), link(&netd, BACKEND));
    publish_service(&netd);
    let of_web = TraceQuery { service: Some(NameMatch::parse("default/web")), ..TraceQuery::default() };
    let mut flows = look_on(of_web.clone());
    let mut frames = look_on(TraceQuery { packets: true, frames: true, ..of_web });
    let mut drops = look_on(TraceQuery { drops: true, ..TraceQuery::default() });
    for port in [4000, 4001] {
        client.write_all(&udp((CLIENT, port), (BACKEND, 9000), b"direct, which nobody asked for")).expect("sent");
        client.write_all(&udp((CLIENT, port), (VIP, 80), b"ping")).expect("sent");
        client.write_all(&udp((CLIENT, port), (VIP, 80), b"pong")).expect("sent");
        client.write_all(&udp((CLIENT, port), (VIP, 81), b"refused")).expect("sent");
    }
    for port in [4000, 4001] {
        let line = next(&mut flows);
        assert_eq!((line.event, line.source), ("flow", Some(format!("{CLIENT}:{port}"))));
        assert_eq!((line.why.as_str(), line.before), ("the only endpoint", None));
        assert_eq!(line.to.map(|to| to.name), Some(BACKEND.to_string()));
        let events = [next(&mut frames), next(&mut frames)];
        assert_eq!(events.clone().map(|line| line.event), ["flow", "packet"]);
        let packet = udp((CLIENT, port), (VIP, 80), b"pong");
        assert_eq!(events[1].before.as_deref(), Some(&packet[..]));
        assert_eq!(events[1].after.as_ref().map(|after| after[16..20].to_vec()), Some(BACKEND.octets().to_vec()));
        let line = next(&mut drops);
        assert_eq!((line.event, line.why.as_str()), ("refused", "the Service has no such port (port unreachable)"));
    }
    drop((flows, frames));
    let all: Vec<_> = (1..MAX_TRACES).map(|_| observe::trace(&netd, TraceQuery::default())).collect();
    assert!(all.iter().all(Option::is_some) && observe::trace(&netd, TraceQuery::default()).is_none());
    // Those who have gone are told nothing, and those who do not listen keep nobody waiting.
    for port in 0..5000 {
        client.write_all(&udp((CLIENT, 5000 + port), (VIP, 81), b"refused")).expect("sent");
        if port % 64 == 0 {
            netd.stats();
        }
    }
    assert_eq!(next(&mut drops).event, "lost");
    netd.shutdown();
    let _ = backend.read(&mut [0; 2048]);
}

#[test]
fn a_link_that_is_let_go_is_closed_and_no_longer_routed_to() {
    let netd = netd();
    let ((mut client, _), (mut backend, port)) = (link(&netd, CLIENT), link(&netd, BACKEND));
    client.write_all(&udp((CLIENT, 4000), (BACKEND, 8080), b"direct")).expect("sent");
    assert_eq!(next(&mut backend), ((CLIENT, 4000), (BACKEND, 8080)));
    netd.detach(port);
    assert_eq!(backend.read(&mut [0; 16]).expect("closed, not timed out"), 0, "end of file");
    let deadline = Instant::now() + Duration::from_secs(10);
    let to_backend = |flow: &FlowRecord| flow.endpoint.ip() == IpAddr::V4(BACKEND);
    while netd.flows(10, to_backend).severed.len() != 1 {
        assert!(Instant::now() < deadline, "the flow is severed, and remembered as such");
        std::thread::yield_now();
    }
    assert!(netd.flows(10, to_backend).current.is_empty());
    client.write_all(&udp((CLIENT, 4001), (BACKEND, 8080), b"nobody")).expect("sent");
    let deadline = Instant::now() + Duration::from_secs(10);
    while netd.stats().translator.packets < 2 && Instant::now() < deadline {
        std::thread::yield_now();
    }
    assert_eq!(netd.stats().translator.forwarded, 1);
    netd.shutdown();
    let mut rest = [0; 2048];
    while client.read(&mut rest).expect("closed, not timed out") > 0 {}
}

// D-003, D-089
#[test]
fn a_flow_goes_on_while_tables_of_ten_thousand_services_come_and_go() {
    let netd = netd();
    let ((mut client, _), (mut backend, _)) = (link(&netd, CLIENT), link(&netd, BACKEND));
    publish_service(&netd);
    let others: Vec<_> = (0..10_000).map(big_service).collect();
    let (publisher, done) = (Arc::clone(&netd.shared.publisher), Arc::new(AtomicBool::new(false)));
    let finished = Arc::clone(&done);
    let changing = std::thread::spawn(move || {
        for _ in 0..3 {
            publisher.update(|inputs| {
                for (service, slice) in &others {
                    inputs.put_service(service.clone());
                    inputs.put_slice(service.key.clone(), slice.clone());
                }
            });
            publisher.update(|inputs| {
                for (service, _) in &others {
                    inputs.remove_service(&service.key);
                    inputs.remove_slice(&service.key);
                }
            });
        }
        finished.store(true, Ordering::SeqCst);
    });
    let mut passed = 0_u32;
    while !done.load(Ordering::SeqCst) {
        client.write_all(&udp((CLIENT, 4000), (VIP, 80), &passed.to_be_bytes())).expect("sent");
        let mut storage = [0; 2048];
        let length = backend.read(&mut storage).expect("a packet before the deadline");
        assert_eq!(storage[length - 4..length], passed.to_be_bytes(), "the one that was sent, and none was lost");
        passed += 1;
    }
    changing.join().expect("no panic");
    let counters = netd.stats().translator;
    assert_eq!((counters.forwarded, counters.flows), (u64::from(passed), 1));
    netd.shutdown();
}

/// A Service with ten endpoints, by its number.
fn big_service(number: u32) -> (ServiceRecord, SliceRecord) {
    let key = ObjectKey::new(Some("big"), Some(&format!("service-{number}")));
    let address = |first: Ipv4Addr, number: u32| IpAddr::from(Ipv4Addr::from_bits(first.to_bits() + number));
    let port = ServicePortRecord { name: "".into(), protocol: Protocol::Tcp, port: 80, node_port: None };
    let service = ServiceRecord {
        key: key.clone(),
        cluster_ips: vec![address(Ipv4Addr::new(10, 96, 8, 0), number)],
        load_balancer_ips: vec![],
        external_ips: vec![],
        ports: vec![port],
        policies: minisvc_translator::Policies::default(),
        health_port: None,
        created: 0,
        unhandled: false,
    };
    let endpoint = |place: u32| EndpointRecord {
        address: address(Ipv4Addr::new(10, 245, 0, 0), number * 10 + place),
        ready: true,
        serving: true,
        terminating: false,
        node: None,
        hints: None,
    };
    let ports = vec![PortRecord { name: "".into(), protocol: Protocol::Tcp, port: 8080 }];
    (service, SliceRecord { service: key, ports, endpoints: (0..10).map(endpoint).collect() })
}

/// What comes out of a wire with offload: the header, and the packet after it.
fn next_frame(wire: &mut UnixStream) -> ([u8; 10], Vec<u8>) {
    let mut storage = [0; 65_600];
    let length = wire.read(&mut storage).expect("a packet before the deadline");
    let (header, packet) = storage[..length].split_first_chunk::<10>().expect("a header");
    (*header, packet.to_vec())
}

#[test]
fn a_packet_that_is_still_to_be_cut_passes_whole_and_with_its_header() {
    let netd = start(true);
    let ((mut client, _), (mut backend, _)) = (link(&netd, CLIENT), link(&netd, BACKEND));
    publish_service(&netd);
    let payload: Vec<u8> = (0..60_000u32).map(|n| n.to_be_bytes()[3]).collect();
    let mut packet = udp((CLIENT, 4000), (VIP, 80), &payload);
    // As the kernel leaves it: the sum of the pseudo-header, to be completed over what begins at byte 20.
    let sum = |dst: Ipv4Addr| {
        let words = [CLIENT, dst].map(Ipv4Addr::to_bits).map(|bits| (bits >> 16) + (bits & 0xffff));
        let mut sum = words[0] + words[1] + 17 + 60_008;
        while sum > 0xffff {
            sum = (sum >> 16) + (sum & 0xffff);
        }
        u16::try_from(sum).expect("folded").to_be_bytes()
    };
    packet[26..28].copy_from_slice(&sum(VIP));
    // Needs a checksum; UDP to be cut into pieces of 1400; 28 bytes of headers; the field is at 20 + 6.
    let header = [1, 5, 28, 0, 0x78, 5, 20, 0, 6, 0];
    client.write_all(&[&header[..], &packet].concat()).expect("sent");
    let (arrived, packet) = next_frame(&mut backend);
    assert_eq!(arrived, header);
    assert_eq!((&packet[16..20], &packet[28..]), (&BACKEND.octets()[..], &payload[..]));
    assert_eq!(packet[26..28], sum(BACKEND), "addresses count, ports do not");
    netd.shutdown();
}

#[test]
fn an_answer_to_a_packet_that_is_still_to_be_cut_is_complete() {
    let netd = start(true);
    let (mut client, _) = link(&netd, CLIENT);
    let packet = udp((CLIENT, 4000), (BACKEND, 80), &[7; 3000]);
    client.write_all(&[&[1, 5, 28, 0, 0x78, 5, 20, 0, 6, 0][..], &packet].concat()).expect("sent");
    let (header, error) = next_frame(&mut client);
    assert_eq!(header, [0; 10]);
    let packet = SlicedPacket::from_ip(&error).expect("well formed");
    assert!(matches!(packet.transport, Some(etherparse::TransportSlice::Icmpv4(_))), "{packet:?}");
    netd.shutdown();
}

#[test]
fn a_fragment_that_had_to_wait_comes_with_a_header_of_its_own() {
    let netd = start(true);
    let ((mut client, _), (mut backend, _)) = (link(&netd, CLIENT), link(&netd, BACKEND));
    let whole = udp((CLIENT, 4000), (BACKEND, 80), &[7; 2000]);
    let fragment = |body: &[u8], offset: u16, more: bool| {
        let mut header = etherparse::Ipv4Header::from_slice(&whole).expect("IPv4").0;
        header.set_payload_len(body.len()).expect("it fits");
        (header.identification, header.dont_fragment, header.more_fragments) = (9, false, more);
        header.fragment_offset = etherparse::IpFragOffset::try_new(offset / 8).expect("it fits");
        header.header_checksum = header.calc_header_checksum();
        [&[0; 10][..], &header.to_bytes(), body].concat()
    };
    let (first, rest) = whole[20..].split_at(1200);
    client.write_all(&fragment(rest, 1200, false)).expect("sent");
    client.write_all(&fragment(first, 0, true)).expect("sent");
    let mut arrived = [next_frame(&mut backend), next_frame(&mut backend)].map(|(header, packet)| {
        assert_eq!(header, [0; 10]);
        packet.len() - 20
    });
    arrived.sort_unstable();
    assert_eq!(arrived, [808, 1200]);
    netd.shutdown();
}

#[test]
fn packets_suffer_faults_between_the_translator_and_the_devices() {
    use serde_json::json;
    for offload in [false, true] {
        let netd = start(offload);
        let ((mut client, _), (mut backend, _)) = (link(&netd, CLIENT), link(&netd, BACKEND));
        publish_service(&netd);
        let header: &[u8] = if offload { &[0; 10] } else { &[] };
        let send = |client: &mut UnixStream, port: u16, payload: &[u8]| {
            client.write_all(&[header, &udp((CLIENT, port), (VIP, 80), payload)].concat()).expect("sent");
        };
        let mut receive = || {
            let mut storage = [0; 2048];
            let length = backend.read(&mut storage).expect("a packet before the deadline");
            storage[header.len()..length].to_vec()
        };
        let suffer = |rules| {
            netd.shared.mailbox.send(Command::Faults(rules));
            // Commands are obeyed in order, but a packet may be served before them.
            netd.stats();
        };
        let all = fault::between_all;

        suffer(all(json!({"delayMilliseconds": 50, "duplicatePercent": 100})));
        let sent = Instant::now();
        send(&mut client, 4000, b"late");
        let (first, second) = (receive(), receive());
        assert!(sent.elapsed() >= Duration::from_millis(50), "{:?}", sent.elapsed());
        assert_eq!((&first, &first[28..]), (&second, &b"late"[..]));

        suffer(all(json!({"corruptPercent": 100})));
        send(&mut client, 4001, b"wrong");
        let wrong = receive();
        let packet = SlicedPacket::from_ip(&wrong).expect("the IP header is whole");
        let (Some(etherparse::NetSlice::Ipv4(ip)), Some(etherparse::TransportSlice::Udp(datagram))) =
            (packet.net, packet.transport)
        else {
            panic!("no UDP over IPv4")
        };
        let right = datagram.to_header().calc_checksum_ipv4(&ip.header().to_header(), datagram.payload());
        assert_ne!(right, Ok(datagram.checksum()), "its checksum tells");

        suffer(all(json!({"partition": true})));
        send(&mut client, 4002, b"lost");
        while netd.stats().faults.lost == 0 {
            assert!(sent.elapsed() < Duration::from_secs(10));
        }
        suffer(all(json!({"refuse": true})));
        send(&mut client, 4003, b"refused");
        let mut storage = [0; 2048];
        let length = client.read(&mut storage).expect("an answer before the deadline");
        let answer = SlicedPacket::from_ip(&storage[header.len()..length]).expect("well formed");
        let Some(etherparse::NetSlice::Ipv4(ip)) = &answer.net else { panic!("no IPv4") };
        assert_eq!(ip.header().source_addr(), VIP, "as if the Service had refused");
        assert!(matches!(answer.transport, Some(etherparse::TransportSlice::Icmpv4(_))), "{answer:?}");

        suffer(vec![]);
        send(&mut client, 4004, b"well");
        assert_eq!(receive()[28..], *b"well", "and neither of the two before");
        let counts = FaultCounts { lost: 1, refused: 1, delayed: 1, duplicated: 1, corrupted: 1, overflowed: 0 };
        assert_eq!(netd.stats().faults, counts);
        netd.shutdown();
    }
}

// D-057, D-133
#[test]
fn a_node_without_power_is_silent_and_nobody_is_told() {
    let netd = netd();
    let (mut client, _) = link(&netd, CLIENT);
    let attach = |name: &str, address: Ipv4Addr, role: LinkRole| {
        let (inside, device) = wire();
        netd.attach(Link { name: name.to_owned(), device, addresses: vec![address.into()], role, host_ports: None });
        inside
    };
    let node = Ipv4Addr::new(10, 95, 0, 12);
    let mut backend = attach("default/web", BACKEND, LinkRole::Pod { node: "node-2".into() });
    let _node = attach("node-2", node, LinkRole::Node { name: "node-2".into() });
    publish_service(&netd);
    let node_port = Frontend { addr: node.into(), protocol: Protocol::Udp, port: 30080 };
    assert!(netd.table().frontend(&node_port).is_some());
    client.write_all(&udp((CLIENT, 4000), (VIP, 80), b"ping")).expect("sent");
    next(&mut backend);

    netd.power_off("node-2");
    assert_eq!(backend.read(&mut [0; 16]).expect("closed, not timed out"), 0, "end of file");
    assert!(netd.table().frontend(&node_port).is_none(), "its nodePorts are no more");
    for (port, to) in [(4000, (VIP, 80)), (4001, (VIP, 80)), (4002, (BACKEND, 8080))] {
        client.write_all(&udp((CLIENT, port), to, b"lost")).expect("sent");
    }
    let deadline = Instant::now() + Duration::from_secs(10);
    while netd.stats().no_such_port < 3 {
        assert!(Instant::now() < deadline, "{:?}", netd.stats());
    }
    assert_eq!((netd.stats().translator.replied, netd.stats().translator.resets), (0, 0), "nobody is told");
    assert_eq!(netd.flows(10, |_| true).severed, [], "the flows do not know either");

    netd.power_on("node-2");
    client.write_all(&udp((CLIENT, 4003), (BACKEND, 8080), b"nobody")).expect("sent");
    let mut storage = [0; 2048];
    let length = client.read(&mut storage).expect("an answer before the deadline");
    let answer = SlicedPacket::from_ip(&storage[..length]).expect("well formed");
    assert!(matches!(answer.transport, Some(etherparse::TransportSlice::Icmpv4(_))), "the pod is gone: {answer:?}");
    netd.shutdown();
}
