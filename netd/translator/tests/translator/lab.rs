//! A small lab for the tests: two nodes, two pods on each, a workstation and a control plane.
//!
use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddrV4};
use std::sync::Arc;
use std::time::{Duration, Instant};

use minisvc_translator::{
    Checksum, Counters, Endpoint, FlowRecord, Frontend, FrontendKind, Hints, Limits, Node, NodeId, PacketBuf, Policies,
    PortId, Protocol, Relay, Role, Route, ServicePort, ServicePortId, ServiceTable, Translator, Verdict,
};

pub(crate) use crate::wire::*;

pub(crate) const VIP: &str = "10.96.0.50:80";
pub(crate) const NODE_1: Ipv4Addr = Ipv4Addr::new(10, 95, 0, 11);
pub(crate) const NODE_2: Ipv4Addr = Ipv4Addr::new(10, 95, 0, 12);
pub(crate) const WORKSTATION: Ipv4Addr = Ipv4Addr::new(10, 95, 0, 1);
/// Where flows to the outside are taken over.
pub(crate) const RELAY: Ipv4Addr = Ipv4Addr::new(10, 95, 0, 254);
pub(crate) const RELAY_PORT: PortId = PortId(254);
/// Pods of node 1.
pub(crate) const A1: Ipv4Addr = Ipv4Addr::new(10, 244, 0, 10);
pub(crate) const B1: Ipv4Addr = Ipv4Addr::new(10, 244, 0, 11);
/// Pods of node 2.
pub(crate) const A2: Ipv4Addr = Ipv4Addr::new(10, 244, 1, 10);
pub(crate) const B2: Ipv4Addr = Ipv4Addr::new(10, 244, 1, 11);

/// What came of a packet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Out {
    pub(crate) verdict: Verdict,
    pub(crate) bytes: Vec<u8>,
}

impl Out {
    /// The packet as its receiver sees it, which must be at this address' port.
    #[track_caller]
    pub(crate) fn at(&self, lab: &Lab, addr: Ipv4Addr) -> Seg {
        assert_eq!(self.verdict, Verdict::Forward(lab.port_of(addr)), "delivered to {addr}");
        seen(&self.bytes)
    }

    /// The RST the sender gets.
    #[track_caller]
    pub(crate) fn reset(&self) -> Seg {
        assert_eq!(self.verdict, Verdict::Reply);
        let seg = seen(&self.bytes);
        assert_ne!(seg.flags & RST, 0, "a RST");
        seg
    }

    /// The ICMP error the sender gets.
    #[track_caller]
    pub(crate) fn icmp(&self) -> (Ipv4Addr, Ipv4Addr, u8, u8, Vec<u8>) {
        assert_eq!(self.verdict, Verdict::Reply);
        seen_icmp(&self.bytes)
    }
}

/// A Service with one port.
#[derive(Clone, Debug)]
pub(crate) struct Svc {
    pub(crate) name: &'static str,
    pub(crate) protocol: Protocol,
    pub(crate) frontends: Vec<(FrontendKind, SocketAddrV4)>,
    pub(crate) policies: Policies,
    pub(crate) endpoints: Vec<Ep>,
}

/// An endpoint: its place, and its conditions as in an EndpointSlice.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Ep {
    pub(crate) addr: SocketAddrV4,
    pub(crate) ready: bool,
    pub(crate) serving: bool,
    pub(crate) terminating: bool,
    /// Whose clients it prefers: nodes and zones.
    pub(crate) hints: Option<(&'static [&'static str], &'static [&'static str])>,
}

pub(crate) fn ready(addr: Ipv4Addr) -> Ep {
    Ep { addr: on(addr, 8080), ready: true, serving: true, terminating: false, hints: None }
}

pub(crate) fn unready(addr: Ipv4Addr) -> Ep {
    Ep { ready: false, serving: false, ..ready(addr) }
}

pub(crate) fn draining(addr: Ipv4Addr) -> Ep {
    Ep { ready: false, terminating: true, ..ready(addr) }
}

pub(crate) fn failing(addr: Ipv4Addr) -> Ep {
    Ep { ready: false, serving: false, terminating: true, ..ready(addr) }
}

/// A TCP Service called web at [`VIP`].
pub(crate) fn web(endpoints: &[Ep]) -> Svc {
    Svc {
        name: "web",
        protocol: Protocol::Tcp,
        frontends: vec![(FrontendKind::ClusterIp, at(VIP))],
        policies: Policies::default(),
        endpoints: endpoints.to_vec(),
    }
}

/// A UDP Service called dns at [`VIP`].
pub(crate) fn dns(endpoints: &[Ep]) -> Svc {
    Svc { name: "dns", protocol: Protocol::Udp, ..web(endpoints) }
}

impl Svc {
    pub(crate) fn at(self, kind: FrontendKind, addr: &str) -> Self {
        Self { frontends: vec![(kind, at(addr))], ..self }
    }

    pub(crate) fn policies(self, policies: Policies) -> Self {
        Self { policies, ..self }
    }
}

pub(crate) struct Lab {
    pub(crate) translator: Translator,
    pub(crate) now: Instant,
    /// Who is on the network: port and node, if on one.
    pub(crate) hosts: BTreeMap<Ipv4Addr, (u32, Option<usize>)>,
    pub(crate) services: Vec<Svc>,
    /// Nodes that load balancers leave out.
    pub(crate) excluded: Vec<Ipv4Addr>,
    pub(crate) outside: Option<PortId>,
    /// Whether flows to the outside are taken over at [`RELAY`].
    pub(crate) relay: bool,
}

impl Lab {
    pub(crate) fn new(services: &[Svc]) -> Self {
        Self::with_limits(services, Limits { seed: 42, ..Limits::default() })
    }

    pub(crate) fn with_limits(services: &[Svc], limits: Limits) -> Self {
        let control_plane = Ipv4Addr::new(10, 95, 0, 2);
        let hosts = BTreeMap::from([
            (WORKSTATION, (1, None)),
            (control_plane, (2, None)),
            (NODE_1, (11, Some(0))),
            (NODE_2, (12, Some(1))),
            (A1, (100, Some(0))),
            (B1, (101, Some(0))),
            (A2, (110, Some(1))),
            (B2, (111, Some(1))),
        ]);
        let translator = Translator::new(limits);
        let services = services.to_vec();
        let mut lab =
            Self { translator, now: Instant::now(), hosts, services, excluded: vec![], outside: None, relay: false };
        lab.install();
        lab
    }

    /// Installs a table of what the lab is now.
    pub(crate) fn install(&mut self) {
        self.translator.install(Arc::new(self.table()), self.now);
    }

    pub(crate) fn serve(&mut self, services: &[Svc]) {
        self.services = services.to_vec();
        self.install();
    }

    fn table(&self) -> ServiceTable {
        let mut table = ServiceTable::new();
        let nodes = [("node-1", NODE_1, "east"), ("node-2", NODE_2, "west")].map(|(name, addr, zone)| {
            let balanced = self.hosts.contains_key(&addr) && !self.excluded.contains(&addr);
            table.add_node(Node { name: name.into(), addresses: vec![real(addr)], zone: Some(zone.into()), balanced })
        });
        for (&addr, &(port, node)) in &self.hosts {
            let node = node.map(|node| nodes[node]);
            let role = match (addr, node) {
                (NODE_1 | NODE_2, Some(node)) => Role::Node { node },
                (_, Some(node)) => Role::Pod { node },
                (WORKSTATION, None) => Role::Workstation,
                (_, None) => Role::ControlPlane,
            };
            table.add_route(real(addr), Route { port: PortId(port), role });
        }
        table.add_service_cidr(range("10.96.0.0/16"));
        table.add_pod_cidr(range("10.244.0.0/16"));
        if let Some(port) = self.outside {
            table.set_outside(port);
        }
        if self.relay {
            table.add_own_cidr(range("10.95.0.0/16"));
            table.add_route(real(RELAY), Route { port: RELAY_PORT, role: Role::Relay });
            table.set_relay(Relay { port: RELAY_PORT, addresses: vec![real(RELAY)], listen: 1 });
        }
        for service in &self.services {
            let port = Arc::new(self.service_port(service, &nodes));
            for &(kind, addr) in &service.frontends {
                let frontend = Frontend { addr: real(*addr.ip()), protocol: service.protocol, port: addr.port() };
                table.add_frontend(frontend, kind, Arc::clone(&port));
            }
        }
        table
    }

    fn service_port(&self, service: &Svc, nodes: &[NodeId]) -> ServicePort {
        let id = ServicePortId {
            namespace: "default".into(),
            service: service.name.into(),
            port: "".into(),
            protocol: service.protocol,
        };
        let endpoints = service.endpoints.iter().map(|ep| Endpoint {
            addr: real(*ep.addr.ip()),
            port: ep.addr.port(),
            ready: ep.ready,
            serving: ep.serving,
            terminating: ep.terminating,
            node: self.hosts.get(ep.addr.ip()).and_then(|host| host.1).map(|node| nodes[node]),
            hints: ep.hints.map(|(nodes, zones)| {
                let [nodes, zones] = [nodes, zones].map(|names| names.iter().map(|&name| name.into()).collect());
                Arc::new(Hints { nodes, zones })
            }),
        });
        ServicePort::new(id, service.policies.clone(), endpoints.collect())
    }

    pub(crate) fn port_of(&self, addr: Ipv4Addr) -> PortId {
        PortId(self.hosts[&addr].0)
    }

    /// Sends a packet from the port that owns its source address.
    pub(crate) fn send(&mut self, seg: &Seg) -> Out {
        let from = self.port_of(*seg.src.ip());
        self.send_bytes(from, &seg.bytes())
    }

    pub(crate) fn send_bytes(&mut self, from: PortId, bytes: &[u8]) -> Out {
        let mut storage = vec![0; 65536];
        storage[..bytes.len()].copy_from_slice(bytes);
        let mut buf = PacketBuf::new(&mut storage, bytes.len(), Checksum::Full);
        let verdict = self.translator.handle(from, &mut buf, self.now);
        Out { verdict, bytes: buf.bytes().to_vec() }
    }

    /// Sends from an address of the lab.
    pub(crate) fn send_from(&mut self, addr: Ipv4Addr, bytes: &[u8]) -> Out {
        self.send_bytes(self.port_of(addr), bytes)
    }

    /// Opens a connection, and returns the SYN as the endpoint sees it.
    #[track_caller]
    pub(crate) fn connect(&mut self, client: SocketAddrV4, to: SocketAddrV4) -> Seg {
        let out = self.send(&tcp(client, to, SYN));
        let Verdict::Forward(port) = out.verdict else { panic!("{:?}", out.verdict) };
        let syn = seen(&out.bytes);
        assert_eq!(self.port_of(*syn.dst.ip()), port, "it goes where its address is");
        let syn_ack = self.send(&syn.answer(SYN | ACK, b"")).at(self, *client.ip());
        assert_eq!((syn_ack.src, syn_ack.dst), (to, client), "the client sees whom it asked");
        self.send(&syn_ack.answer(ACK, b"")).at(self, *syn.dst.ip());
        syn
    }

    pub(crate) fn pass(&mut self, time: Duration) {
        self.now += time;
        self.translator.handle_timeout(self.now);
    }

    pub(crate) fn counters(&self) -> Counters {
        self.translator.counters()
    }

    pub(crate) fn flows(&self) -> Vec<FlowRecord> {
        self.translator.flows().collect()
    }

    /// The packets of the translator's own.
    pub(crate) fn transmitted(&mut self) -> Vec<(PortId, Vec<u8>)> {
        std::iter::from_fn(|| self.translator.poll_transmit()).collect()
    }
}
