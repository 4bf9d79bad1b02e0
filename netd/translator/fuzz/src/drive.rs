//! Drives a translator with bytes of a stranger's choosing, and checks what must hold whatever they are.
//!
//! Used by the fuzz target, and by an ordinary test that replays the corpus.

use std::collections::HashSet;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use minisvc_translator::packet::{Packet, checksum};
use minisvc_translator::{
    Checksum, Endpoint, Frontend, FrontendKind, Limits, Node, NodeId, PacketBuf, Policies, PortId, Protocol, Role,
    Route, ServicePort, ServicePortId, ServiceTable, Translator, Verdict,
};

/// Addresses of the lab, each at the port of its place here.
const HOSTS: [[u8; 4]; 4] = [[10, 244, 0, 10], [10, 244, 0, 11], [10, 95, 0, 11], [10, 95, 0, 1]];

/// The IPv6 address that a host has besides, and that a Service address becomes.
fn beside(addr: [u8; 4]) -> IpAddr {
    let [a, b, c, d] = addr.map(u16::from);
    Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, a << 8 | b, c << 8 | d).into()
}

/// Runs a list of records: an operation byte, and for packets a length in two bytes and as many bytes of packet.
///
/// Operations below 0xc0 send a packet from one of the hosts, below 0xe0 let time pass, others install another table.
///
/// # Panics
/// When the translator does what it must never do.
pub fn packets(data: &[u8]) {
    let mut now = Instant::now();
    let limits = Limits { max_flows: 8, max_fragmented: 4, max_held: 4, max_pending: 8, ..Limits::default() };
    let mut translator = Translator::new(limits);
    translator.install(table(0), now);
    let mut rest = data;
    while let Some((&operation, after)) = rest.split_first() {
        rest = after;
        match operation {
            0..0xc0 => {
                let Some((length, after)) = rest.split_first_chunk::<2>() else { break };
                let length = usize::from(u16::from_be_bytes(*length)).min(after.len());
                let (packet, after) = after.split_at(length);
                rest = after;
                send(&mut translator, operation, packet, now);
            }
            0xc0..0xe0 => {
                now += Duration::from_secs(u64::from(operation & 0x1f).pow(3));
                translator.handle_timeout(now);
                assert!(translator.poll_timeout().is_none_or(|next| next > now), "a timeout that is never handled");
            }
            0xe0.. => drop(translator.install(table(operation & 0x1f), now)),
        }
        while let Some((_, mut packet)) = translator.poll_transmit() {
            well_formed(&mut packet);
        }
    }
    let flows: Vec<_> = translator.flows().collect();
    let tuples: HashSet<_> = flows.iter().flat_map(|flow| [flow.original, flow.reply]).collect();
    assert_eq!(tuples.len(), 2 * flows.len(), "two flows share a tuple");
    let counters = translator.counters();
    let dropped: u64 = counters.drops().map(|(_, count)| count).sum();
    assert_eq!(counters.packets, counters.forwarded + counters.replied + counters.held + dropped);
}

fn send(translator: &mut Translator, operation: u8, packet: &[u8], now: Instant) {
    let from = PortId(u32::from(operation) % 4);
    let partial = operation & 0x80 != 0;
    let mut storage = vec![0; packet.len() + 1280];
    storage[..packet.len()].copy_from_slice(packet);
    let kind = if partial { Checksum::Partial } else { Checksum::Full };
    let mut buf = PacketBuf::new(&mut storage, packet.len(), kind);
    let verdict = translator.handle(from, &mut buf, now);
    let len = buf.len();
    match verdict {
        Verdict::Forward(port) => {
            assert!(port.0 < 4, "a port that nobody has");
            assert_eq!(buf.checksum(), kind);
            let view = Packet::parse(&mut storage[..len], kind).expect("what is forwarded is a packet");
            assert!(view.ttl() > 0);
        }
        Verdict::Reply => {
            assert_eq!(buf.checksum(), Checksum::Full);
            well_formed(&mut storage[..len]);
        }
        Verdict::Held | Verdict::Drop(_) => {}
    }
}

fn well_formed(packet: &mut [u8]) {
    // A held fragment is somebody else's packet: its checksum is as right as it was. What is ours is never fragmented.
    let view = Packet::parse(packet, Checksum::Full).expect("what is sent is a packet");
    if view.src().is_ipv4() && view.fragment_offset() == 0 && !view.more_fragments() {
        assert_eq!(checksum(&view.bytes()[..view.header_len()]), 0, "the header checksum is right");
    }
}

/// One of a few tables: bits say who is there and who is ready.
fn table(variant: u8) -> Arc<ServiceTable> {
    let mut table = ServiceTable::new();
    let addresses = vec![HOSTS[2].into(), beside(HOSTS[2])];
    let node = table.add_node(Node { name: "node".into(), addresses, zone: None, balanced: true });
    let roles = [Role::Pod { node }, Role::Pod { node }, Role::Node { node }, Role::Workstation];
    for ((port, addr), role) in (0..).zip(HOSTS).zip(roles) {
        if port != 1 || variant & 1 == 0 {
            table.add_route(IpAddr::from(addr), Route { port: PortId(port), role });
            table.add_route(beside(addr), Route { port: PortId(port), role });
        }
    }
    for cidr in ["10.96.0.0/16", "fd00::a60:0/112"] {
        table.add_service_cidr(cidr.parse().expect("a range"));
    }
    for cidr in ["10.244.0.0/16", "fd00::af4:0/112"] {
        table.add_pod_cidr(cidr.parse().expect("a range"));
    }
    add_services(&mut table, variant, node, |addr| addr.into());
    add_services(&mut table, variant, node, beside);
    Arc::new(table)
}

/// One Service on both protocols, in the family that `address` gives.
fn add_services(table: &mut ServiceTable, variant: u8, node: NodeId, address: fn([u8; 4]) -> IpAddr) {
    let endpoints = [(0, 2), (1, 4)].map(|(host, bit): (usize, u8)| Endpoint {
        addr: address(HOSTS[host]),
        port: 8080,
        ready: variant & bit == 0,
        serving: variant & bit == 0,
        terminating: false,
        node: Some(node),
        hints: None,
    });
    for protocol in [Protocol::Tcp, Protocol::Udp, Protocol::Sctp] {
        let id = ServicePortId { namespace: "default".into(), service: "web".into(), port: "".into(), protocol };
        let affinity = (variant & 8 != 0).then_some(Duration::from_secs(60));
        let policies = Policies { affinity, ..Policies::default() };
        let service = Arc::new(ServicePort::new(id, policies, endpoints.to_vec()));
        let frontends = [
            (FrontendKind::ClusterIp, [10, 96, 0, 50], 80),
            (FrontendKind::NodePort, HOSTS[2], 30080),
            (FrontendKind::LoadBalancer, [10, 95, 1, 7], 80),
        ];
        for (kind, addr, port) in frontends {
            let frontend = Frontend { addr: address(addr), protocol, port };
            table.add_frontend(frontend, kind, Arc::clone(&service));
        }
    }
}
