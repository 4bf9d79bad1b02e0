//! How long a packet takes: established flows and new ones, with ever more Services, and with somebody looking on.
//!
//! ```sh
//! cargo run --release -p minisvc-translator --example throughput
//! ```
//!
//! What it should show is that neither number grows with the number of Services, and what a trace costs. The absolute numbers are this
//! machine's; they leave out reading and writing, which cost several times as much.

#![expect(clippy::print_stdout, reason = "an example shows its results")]

use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use etherparse::PacketBuilder;
use minisvc_translator::{
    Checksum, Endpoint, Frontend, FrontendKind, Limits, Node, PacketBuf, Policies, PortId, Protocol, Role, Route,
    ServicePort, ServicePortId, ServiceTable, TraceLevel, Translator, Verdict,
};

const CLIENT: Ipv4Addr = Ipv4Addr::new(10, 95, 0, 1);
const FLOWS: u16 = 1000;
const ROUNDS: usize = 501;
const NEW_ROUNDS: u16 = 21;
const FIRST_PORT: u16 = 20_000;

fn main() {
    println!("{:>9}  {:>14}  {:>16}  {:>12}", "Services", "new flow, ns", "known flow, ns", "install, µs");
    let per = |total: Duration, count: u32| total.as_nanos() / u128::from(count);
    for services in [10, 1000, 10_000] {
        let [new, known, install] = measure(services, None);
        println!(
            "{services:>9}  {:>14}  {:>16}  {:>12}",
            per(new, u32::from(FLOWS)),
            per(known, u32::from(FLOWS)),
            install.as_micros()
        );
    }
    println!("\n{:>9}  {:>14}  {:>16}", "trace", "new flow, ns", "known flow, ns");
    let level = |packets, frames| Some(TraceLevel { packets, frames });
    for (name, trace) in
        [("off", None), ("flows", level(false, false)), ("packets", level(true, false)), ("frames", level(true, true))]
    {
        let [new, known, _] = measure(1000, trace);
        println!("{name:>9}  {:>14}  {:>16}", per(new, u32::from(FLOWS)), per(known, u32::from(FLOWS)));
    }
}

/// Time for `FLOWS` new flows (the median of some rounds: the first ones meet a cold memory), for a packet of each of them (the median of all rounds), and for a table to be installed.
fn measure(services: u32, trace: Option<TraceLevel>) -> [Duration; 3] {
    let mut translator = Translator::new(Limits { seed: 1, ..Limits::default() });
    let started = Instant::now();
    translator.install(table(services), started);
    translator.set_trace(trace);
    // Segments of 1400 bytes to Services all over the table.
    let mut fresh: Vec<Duration> = (0..NEW_ROUNDS)
        .map(|round| {
            let port = FIRST_PORT + round * FLOWS;
            let packets =
                (0..FLOWS).map(|flow| segment(vip(u32::from(flow) * 7919 % services), port + flow, flow, true));
            send_all(&mut translator, &mut packets.collect::<Vec<_>>())
        })
        .collect();
    fresh.sort_unstable();
    let new = fresh[fresh.len() / 2];
    let mut rounds = Vec::new();
    for _ in 0..ROUNDS {
        // Packets are edited in place, so each round needs them fresh: building them is not measured.
        let mut packets: Vec<Vec<u8>> = (0..FLOWS)
            .map(|flow| segment(vip(u32::from(flow) * 7919 % services), FIRST_PORT + flow, flow, false))
            .collect();
        rounds.push(send_all(&mut translator, &mut packets));
    }
    rounds.sort_unstable();
    let known = rounds[rounds.len() / 2];
    let next = table(services);
    let started = Instant::now();
    let old = translator.install(next, started);
    let install = started.elapsed();
    drop(old);
    [new, known, install]
}

fn send_all(translator: &mut Translator, packets: &mut [Vec<u8>]) -> Duration {
    let started = Instant::now();
    for packet in packets {
        let len = packet.len();
        let verdict = translator.handle(PortId(0), &mut PacketBuf::new(packet, len, Checksum::Full), started);
        assert!(matches!(verdict, Verdict::Forward(_)), "{verdict:?}");
    }
    // What was decided is taken after each batch, and is none while nobody looks on.
    drop(translator.take_traced());
    started.elapsed()
}

fn vip(service: u32) -> Ipv4Addr {
    Ipv4Addr::from_bits(Ipv4Addr::new(10, 96, 1, 0).to_bits() + service)
}

fn segment(to: Ipv4Addr, port: u16, seq: u16, syn: bool) -> Vec<u8> {
    let tcp = PacketBuilder::ipv4(CLIENT.octets(), to.octets(), 64).tcp(port, 80, seq.into(), 65535);
    let tcp = if syn { tcp.syn() } else { tcp.ack(1) };
    let mut bytes = Vec::new();
    tcp.write(&mut bytes, &[0; 1400]).expect("a vector takes everything");
    bytes
}

fn table(services: u32) -> Arc<ServiceTable> {
    let mut table = ServiceTable::new();
    let node = table.add_node(Node {
        name: "node".into(),
        addresses: vec![Ipv4Addr::new(10, 95, 0, 11).into()],
        zone: None,
        balanced: true,
    });
    table.add_route(CLIENT.into(), Route { port: PortId(0), role: Role::Workstation });
    let pods: Vec<IpAddr> = (0..10).map(|pod| Ipv4Addr::new(10, 244, 0, 10 + pod).into()).collect();
    for (port, &pod) in (1..).zip(&pods) {
        table.add_route(pod, Route { port: PortId(port), role: Role::Pod { node } });
    }
    for service in 0..services {
        let id = ServicePortId {
            namespace: "default".into(),
            service: format!("service-{service}").into(),
            port: "".into(),
            protocol: Protocol::Tcp,
        };
        let endpoints = pods.iter().map(|&addr| Endpoint {
            addr,
            port: 8080,
            ready: true,
            serving: true,
            terminating: false,
            node: Some(node),
            hints: None,
        });
        let port = ServicePort::new(id, Policies::default(), endpoints.collect());
        let frontend = Frontend { addr: vip(service).into(), protocol: Protocol::Tcp, port: 80 };
        table.add_frontend(frontend, FrontendKind::ClusterIp, Arc::new(port));
    }
    Arc::new(table)
}
