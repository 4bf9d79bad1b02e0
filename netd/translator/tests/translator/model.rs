//! The translator against a model of it.
//!
//! One random list of events drives both. The model knows nothing of packets, hashes or timers: it keeps a list of
//! flows, with all segments of each, and works everything out anew every time. Where the translator may choose, the
//! model checks that the choice was allowed and goes along.

use std::collections::BTreeSet;
use std::net::{Ipv4Addr, SocketAddrV4};
use std::time::{Duration, Instant};

use minisvc_translator::{FrontendKind, Limits, Protocol, Verdict};
use proptest::prelude::*;

use crate::lab::{
    A1, A2, ACK, B1, Ep, FIN, Lab, NODE_1, NODE_2, Out, RST, SYN, Seg, VIP, WORKSTATION, at, dns, draining, failing,
    on, ready, seen, sock, tcp, udp, unready, web,
};

const PODS: [Ipv4Addr; 3] = [A1, B1, A2];
const CLIENTS: [Ipv4Addr; 3] = [WORKSTATION, A1, B1];
const OTHER_VIP: &str = "10.96.0.51:80";

#[derive(Clone, Copy, Debug)]
enum Event {
    /// A client sends, from one of two source ports, to one of [`targets`].
    Client {
        client: usize,
        port: u16,
        protocol: Protocol,
        target: usize,
        flags: u8,
    },
    /// The endpoint of some flow answers.
    Answer {
        flow: prop::sample::Index,
        flags: u8,
    },
    /// The endpoints of a Service change.
    Endpoints {
        service: usize,
        conditions: [Condition; 3],
    },
    /// A pod joins or leaves the network.
    Network {
        pod: usize,
        present: bool,
    },
    Pass {
        seconds: u64,
    },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Condition {
    Ready,
    Unready,
    Draining,
    Failing,
    Absent,
}

fn targets() -> [SocketAddrV4; 3] {
    [at(VIP), at(OTHER_VIP), on(A2, 8080)]
}

fn event() -> impl Strategy<Value = Event> {
    let protocol = prop_oneof![2 => Just(Protocol::Tcp), 1 => Just(Protocol::Udp)];
    let flags = prop_oneof![4 => Just(SYN), 3 => Just(ACK), 2 => Just(FIN | ACK), 1 => Just(SYN | ACK), 1 => Just(RST)];
    let answer = prop_oneof![4 => Just(SYN | ACK), 4 => Just(ACK), 2 => Just(FIN | ACK), 1 => Just(RST)];
    let condition = prop_oneof![
        4 => Just(Condition::Ready), 1 => Just(Condition::Unready), 1 => Just(Condition::Draining), 1 => Just(Condition::Failing),
        1 => Just(Condition::Absent),
    ];
    let seconds = prop::sample::select(vec![1, 3, 11, 31, 61, 121, 3601, 86_401]);
    prop_oneof![
        10 => (0..3usize, 40_000..40_002u16, protocol, 0..3usize, flags)
            .prop_map(|(client, port, protocol, target, flags)| Event::Client { client, port, protocol, target, flags }),
        10 => (any::<prop::sample::Index>(), answer).prop_map(|(flow, flags)| Event::Answer { flow, flags }),
        2 => (0..3usize, prop::array::uniform3(condition))
            .prop_map(|(service, conditions)| Event::Endpoints { service, conditions }),
        1 => (0..3usize, any::<bool>()).prop_map(|(pod, present)| Event::Network { pod, present }),
        3 => seconds.prop_map(|seconds| Event::Pass { seconds }),
    ]
}

/// A flow as the model knows it.
#[derive(Clone, Debug)]
struct Flow {
    protocol: Protocol,
    client: SocketAddrV4,
    asked: SocketAddrV4,
    endpoint: SocketAddrV4,
    /// The client as the endpoint sees it.
    seen_as: SocketAddrV4,
    /// Whether it went through a Service, and which.
    service: Option<usize>,
    /// When and from where each packet came, with its flags.
    history: Vec<(Instant, bool, u8)>,
}

impl Flow {
    fn state(&self) -> &'static str {
        match self.protocol {
            Protocol::Tcp => self.tcp_state(),
            _ => self.udp_state(),
        }
    }

    fn tcp_state(&self) -> &'static str {
        let packets: Vec<(bool, u8)> = self.history.iter().map(|&(_, client, flags)| (client, flags)).collect();
        let first = |from: usize, wanted: &dyn Fn(bool, u8) -> bool| {
            (from..packets.len()).find(|&n| wanted(packets[n].0, packets[n].1))
        };
        if first(0, &|_, flags| flags & RST != 0).is_some() {
            return "CLOSED";
        }
        let adopted = packets[0].1 & (SYN | ACK) != SYN;
        let answered = if adopted { Some(0) } else { first(0, &|client, flags| !client && flags == SYN | ACK) };
        let Some(answered) = answered else { return "SYN-SENT" };
        if let Some(fin) = first(answered, &|_, flags| flags & FIN != 0) {
            let closer = packets[fin].0;
            if let Some(second) = first(fin, &|client, flags| client != closer && flags & FIN != 0) {
                let acked = first(second, &|client, flags| client == closer && flags & ACK != 0);
                return if acked.is_some() { "TIME-WAIT" } else { "LAST-ACK" };
            }
            let acked = first(fin, &|client, flags| client != closer && flags & ACK != 0);
            return if acked.is_some() { "CLOSE-WAIT" } else { "FIN-WAIT" };
        }
        let established = match adopted {
            true => first(0, &|client, _| !client),
            false => first(answered, &|client, flags| client && flags & SYN == 0),
        };
        match (established, adopted) {
            (Some(_), _) => "ESTABLISHED",
            (None, true) => "ADOPTED",
            (None, false) => "SYN-RECEIVED",
        }
    }

    fn udp_state(&self) -> &'static str {
        let Some(answer) = self.history.iter().position(|&(_, client, _)| !client) else { return "UNREPLIED" };
        let old = self.history[0].0 + Duration::from_secs(2);
        if self.history[answer..].iter().any(|&(then, ..)| then > old) { "STREAM" } else { "REPLIED" }
    }

    fn expires(&self) -> Instant {
        let seconds = match self.state() {
            "SYN-SENT" | "ADOPTED" | "FIN-WAIT" | "TIME-WAIT" | "STREAM" => 120,
            "SYN-RECEIVED" => 60,
            "ESTABLISHED" => 86_400,
            "CLOSE-WAIT" => 3600,
            "LAST-ACK" | "UNREPLIED" | "REPLIED" => 30,
            "CLOSED" => 10,
            other => panic!("{other}"),
        };
        self.history.last().unwrap().0 + Duration::from_secs(seconds)
    }

    fn is_over(&self) -> bool {
        matches!(self.state(), "TIME-WAIT" | "CLOSED")
    }
}

struct Model {
    lab: Lab,
    flows: Vec<Flow>,
    /// Endpoints of web, other (both TCP) and dns.
    endpoints: [[Condition; 3]; 3],
    present: [bool; 3],
}

impl Model {
    fn new() -> Self {
        // What is limited is another test's business.
        let limits = Limits { icmp_per_second: 1_000_000, icmp_burst: 1_000_000, seed: 7, ..Limits::default() };
        let lab = Lab::with_limits(&[], limits);
        let mut model = Self { lab, flows: Vec::new(), endpoints: [[Condition::Ready; 3]; 3], present: [true; 3] };
        model.install();
        model
    }

    fn install(&mut self) {
        let endpoints = self.endpoints.map(|conditions| {
            let pods = PODS.into_iter().zip(conditions);
            pods.filter_map(|(pod, condition)| match condition {
                Condition::Ready => Some(ready(pod)),
                Condition::Unready => Some(unready(pod)),
                Condition::Draining => Some(draining(pod)),
                Condition::Failing => Some(failing(pod)),
                Condition::Absent => None,
            })
            .collect::<Vec<Ep>>()
        });
        let mut other = web(&endpoints[1]).at(FrontendKind::ClusterIp, OTHER_VIP);
        other.name = "other";
        let mut hosts = Lab::new(&[]).hosts;
        for (pod, present) in PODS.into_iter().zip(self.present) {
            if !present {
                hosts.remove(&pod);
            }
        }
        self.lab.hosts = hosts;
        self.lab.serve(&[web(&endpoints[0]), other, dns(&endpoints[2])]);
    }

    fn apply(&mut self, event: Event) {
        match event {
            Event::Client { client, port, protocol, target, flags } => {
                let src = on(CLIENTS[client], port);
                if self.is_present(CLIENTS[client]) && *targets()[target].ip() != CLIENTS[client] {
                    self.client_sends(protocol, src, targets()[target], flags);
                }
            }
            Event::Answer { flow, flags } => {
                if !self.flows.is_empty() {
                    let at = flow.index(self.flows.len());
                    self.endpoint_sends(at, flags);
                }
            }
            Event::Endpoints { service, conditions } => {
                self.endpoints[service] = conditions;
                self.install();
                let endpoints = self.endpoints[2];
                self.flows.retain(|flow| {
                    let place = PODS.iter().position(|pod| pod == flow.endpoint.ip());
                    let serving =
                        place.is_some_and(|place| matches!(endpoints[place], Condition::Ready | Condition::Draining));
                    flow.protocol == Protocol::Tcp || flow.service.is_none() || serving
                });
                assert_eq!(self.lab.transmitted(), []);
            }
            Event::Network { pod, present } => self.network_changes(pod, present),
            Event::Pass { seconds } => {
                self.lab.pass(Duration::from_secs(seconds));
                let now = self.lab.now;
                self.flows.retain(|flow| flow.expires() > now);
            }
        }
    }

    fn is_present(&self, addr: Ipv4Addr) -> bool {
        PODS.iter().position(|&pod| pod == addr).is_none_or(|pod| self.present[pod])
    }

    /// The Service behind an address and protocol.
    fn service(protocol: Protocol, to: SocketAddrV4) -> Option<usize> {
        match protocol {
            Protocol::Tcp => [VIP, OTHER_VIP].iter().position(|&vip| at(vip) == to),
            _ => (to == at(VIP)).then_some(2),
        }
    }

    /// The pods a new flow to a Service may go to.
    fn allowed(&self, service: usize) -> Vec<Ipv4Addr> {
        let with = |wanted: Condition| -> Vec<Ipv4Addr> {
            let pods = PODS.into_iter().zip(self.endpoints[service]);
            pods.filter(|&(_, condition)| condition == wanted).map(|(pod, _)| pod).collect()
        };
        let ready = with(Condition::Ready);
        if ready.is_empty() { with(Condition::Draining) } else { ready }
    }

    fn client_sends(&mut self, protocol: Protocol, src: SocketAddrV4, to: SocketAddrV4, flags: u8) {
        let segment = match protocol {
            Protocol::Tcp => tcp(src, to, flags),
            _ => udp(src, to, b"question"),
        };
        let flags = segment.flags;
        let is_syn = flags & (SYN | ACK | RST) == SYN;
        let out = self.lab.send(&segment);
        let now = self.lab.now;
        let known = self.flows.iter().position(|f| f.protocol == protocol && f.client == src && f.asked == to);
        if let Some(known) = known {
            if is_syn && self.flows[known].is_over() {
                self.flows.remove(known);
            } else {
                let flow = &mut self.flows[known];
                let arrived = out.at(&self.lab, *flow.endpoint.ip());
                assert_eq!((arrived.src, arrived.dst), (flow.seen_as, flow.endpoint));
                flow.history.push((now, true, flags));
                return;
            }
        }
        match Self::service(protocol, to) {
            Some(service) => self.opens_service(service, &segment, is_syn, &out),
            None if *to.ip() == A2 => self.opens_direct(&segment, is_syn, &out),
            // UDP to the other VIP, which only speaks TCP.
            None => assert_eq!(out.icmp().3, 3),
        }
    }

    fn opens_service(&mut self, service: usize, segment: &Seg, is_syn: bool, out: &Out) {
        if segment.protocol == Protocol::Tcp && !is_syn {
            if segment.flags & RST == 0 {
                assert_eq!(out.reset().src, segment.dst);
            } else {
                assert!(matches!(out.verdict, Verdict::Drop(_)));
            }
            return;
        }
        let allowed = self.allowed(service);
        if allowed.is_empty() {
            match segment.protocol {
                Protocol::Tcp => assert_eq!(out.reset().src, segment.dst),
                _ => assert_eq!(out.icmp().3, 3),
            }
            return;
        }
        let Verdict::Forward(_) = out.verdict else {
            assert_eq!(out.icmp().3, 1, "host unreachable");
            assert!(allowed.iter().any(|&pod| !self.is_present(pod)), "an endpoint was there for all to reach");
            return;
        };
        let arrived = seen(&out.bytes);
        let pod = *arrived.dst.ip();
        assert!(allowed.contains(&pod) && self.is_present(pod), "{pod} was chosen of {allowed:?}");
        assert_eq!(arrived, out.at(&self.lab, pod));
        let hairpin = pod == *segment.src.ip();
        let node = if pod == A2 { NODE_2 } else { NODE_1 };
        assert_eq!(*arrived.src.ip(), if hairpin { node } else { *segment.src.ip() });
        self.begin(segment, arrived, Some(service), hairpin);
    }

    fn opens_direct(&mut self, segment: &Seg, is_syn: bool, out: &Out) {
        let ends = segment.flags & RST != 0;
        if !self.is_present(A2) {
            match segment.protocol {
                Protocol::Tcp if ends => assert!(matches!(out.verdict, Verdict::Drop(_))),
                Protocol::Tcp if !is_syn => assert_eq!(out.reset().src, segment.dst),
                _ => assert_eq!(out.icmp().3, 1),
            }
            return;
        }
        let arrived = out.at(&self.lab, A2);
        assert_eq!((arrived.src.ip(), arrived.dst), (segment.src.ip(), segment.dst));
        if ends {
            assert_eq!(arrived.src, segment.src);
        } else {
            self.begin(segment, arrived, None, false);
        }
    }

    /// A flow begins; its source port was kept if that was possible, and its endpoint can tell it from all others.
    fn begin(&mut self, segment: &Seg, arrived: Seg, service: Option<usize>, hairpin: bool) {
        let is_taken = |source: SocketAddrV4| {
            self.flows.iter().any(|f| (f.protocol, f.seen_as, f.endpoint) == (segment.protocol, source, arrived.dst))
        };
        assert!(!is_taken(arrived.src), "two flows would mix");
        if !hairpin && !is_taken(segment.src) {
            assert_eq!(arrived.src, segment.src);
        }
        self.flows.push(Flow {
            protocol: segment.protocol,
            client: segment.src,
            asked: segment.dst,
            endpoint: arrived.dst,
            seen_as: arrived.src,
            service,
            history: vec![(self.lab.now, true, segment.flags)],
        });
    }

    fn endpoint_sends(&mut self, at: usize, flags: u8) {
        let flow = &mut self.flows[at];
        let segment = match flow.protocol {
            Protocol::Tcp => tcp(flow.endpoint, flow.seen_as, flags),
            _ => udp(flow.endpoint, flow.seen_as, b"answer"),
        };
        let out = self.lab.send_from(*flow.endpoint.ip(), &segment.bytes());
        flow.history.push((self.lab.now, false, segment.flags));
        let arrived = out.at(&self.lab, *flow.client.ip());
        assert_eq!((arrived.src, arrived.dst), (flow.asked, flow.client));
        assert_eq!(arrived.payload, segment.payload);
    }

    fn network_changes(&mut self, pod: usize, present: bool) {
        let ports = self.lab.hosts.clone();
        let left = self.present[pod] && !present;
        self.present[pod] = present;
        self.install();
        let mut resets = Vec::new();
        if left {
            let addr = PODS[pod];
            let (severed, kept) = self
                .flows
                .drain(..)
                .partition::<Vec<_>, _>(|flow| *flow.client.ip() == addr || *flow.endpoint.ip() == addr);
            self.flows = kept;
            for flow in severed.iter().filter(|flow| flow.protocol == Protocol::Tcp && !flow.is_over()) {
                if *flow.client.ip() != addr {
                    resets.push((ports[flow.client.ip()].0, flow.asked, flow.client));
                }
                if *flow.endpoint.ip() != addr {
                    resets.push((ports[flow.endpoint.ip()].0, flow.seen_as, flow.endpoint));
                }
            }
        }
        let mut sent: Vec<_> = self
            .lab
            .transmitted()
            .into_iter()
            .map(|(port, bytes)| {
                let rst = seen(&bytes);
                assert_ne!(rst.flags & RST, 0);
                (port.0, rst.src, rst.dst)
            })
            .collect();
        sent.sort_unstable();
        resets.sort_unstable();
        assert_eq!(sent, resets);
    }

    /// Both know the same flows.
    fn compare(&self) {
        let of_model: BTreeSet<_> = self
            .flows
            .iter()
            .map(|flow| {
                let times = (flow.history[0].0, flow.expires());
                (
                    flow.protocol,
                    sock(flow.client),
                    sock(flow.asked),
                    sock(flow.endpoint),
                    sock(flow.seen_as),
                    flow.state(),
                    times,
                )
            })
            .collect();
        let of_translator: BTreeSet<_> = self
            .lab
            .translator
            .flows()
            .filter(|flow| flow.expires > self.lab.now)
            .map(|flow| {
                let (original, reply) = (flow.original, flow.reply);
                let times = (flow.created, flow.expires);
                let endpoint = flow.endpoint;
                (
                    original.protocol,
                    original.source(),
                    original.destination(),
                    endpoint,
                    reply.destination(),
                    flow.state.as_str(),
                    times,
                )
            })
            .collect();
        assert_eq!(of_translator, of_model);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

    // D-003, D-080, D-090, D-118, D-119
    #[test]
    fn the_translator_and_the_model_agree(events in proptest::collection::vec(event(), 1..80)) {
        let mut model = Model::new();
        for event in events {
            model.apply(event);
            model.compare();
        }
    }
}
