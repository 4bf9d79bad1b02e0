//! Flows to a Service: which endpoint, and which source address it sees.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Instant;

use super::{
    Both, Destination, DropReason, ErrorKind, Flow, FlowRecord, FlowState, Outcome, Packet, PortId, Protocol,
    Translator, Tuple, first_state, is_mid_stream, refuse, sighting,
};
use crate::table::{Endpoint, FrontendKind, NodeId, Role, ServicePort, Target, TrafficPolicy};

/// Where the client of a new flow is, as far as policies depend on it.
#[derive(Clone, Copy, Debug)]
struct Entry {
    /// The node whose proxy would see the packet first.
    node: Option<NodeId>,
    /// Whether the client is a pod or a node; the workstation and the control plane count as outside.
    inside: bool,
}

impl Translator {
    pub(super) fn open_to_service(
        &mut self,
        from: PortId,
        packet: &mut Packet<'_>,
        tuple: Tuple,
        target: &Target,
        now: Instant,
    ) -> Outcome {
        // D-066, D-067: before anything else, so that whoever is kept out learns nothing.
        if target.kind == FrontendKind::LoadBalancer && !target.service.policies().admits(tuple.src) {
            return Outcome::Drop(DropReason::SourceRange);
        }
        // D-116: only a SYN chooses. Anything else belongs to a connection that is no more.
        if is_mid_stream(packet) {
            return Outcome::Reset;
        }
        let entry = self.entry(&tuple, target.kind);
        let endpoint = match self.choose(&tuple, target, entry, now) {
            Ok(endpoint) => endpoint,
            Err(None) => return refuse(packet),
            Err(Some(reason)) => return Outcome::Drop(reason),
        };
        // D-011: an IPv4 packet cannot go to an IPv6 endpoint.
        if endpoint.addr.is_ipv4() != tuple.dst.is_ipv4() {
            return Outcome::Error(ErrorKind::HostUnreachable);
        }
        let address = SocketAddr::new(endpoint.addr, endpoint.port);
        let relayed = self.table.relay_to(endpoint.addr);
        if relayed.is_some() && tuple.protocol == Protocol::Sctp {
            return Outcome::Error(ErrorKind::NetUnreachable);
        }
        let (port, inner) = match (relayed, self.table.destination(endpoint.addr)) {
            (Some((port, listener)), _) => (port, listener),
            (None, Destination::Owned(route)) => (route.port, address),
            (None, Destination::Outside(Some(port))) => (port, address),
            // D-023: no second choice. The endpoint's pod has gone, but its endpoint has not yet.
            _ => {
                let reply = Tuple::new(tuple.protocol, address, tuple.source());
                let ports = Both { original: from, reply: from };
                let service = Some(Arc::clone(target.service.id()));
                let lost = Flow::new(tuple, reply, ports, service, first_state(packet), now);
                self.remember_severed(FlowRecord::from(&lost));
                return Outcome::Error(ErrorKind::HostUnreachable);
            }
        };
        if relayed.is_some() && self.dials.is_full() {
            return Outcome::Drop(DropReason::RelayLimit);
        }
        let source = self.changed_source(&tuple, target, entry, endpoint);
        let template = Tuple {
            protocol: tuple.protocol,
            src: inner.ip(),
            src_port: inner.port(),
            dst: source.unwrap_or(tuple.src),
            dst_port: tuple.src_port,
        };
        let preferred = source.is_none().then_some(tuple.src_port);
        let Some(reply) = self.reserve(&tuple, template, preferred, now) else {
            return Outcome::Drop(DropReason::NoFreePort);
        };
        let ports = Both { original: from, reply: port };
        let service = Some(Arc::clone(target.service.id()));
        let mut flow = Flow::new(tuple, reply, ports, service, first_state(packet), now);
        if relayed.is_some() {
            flow.beyond = Some(address);
            flow.state = FlowState::Dialing;
        }
        if self.flows.insert(flow, sighting(packet), now).is_err() {
            return Outcome::Drop(DropReason::FlowLimit);
        }
        self.counters.flows_created += 1;
        self.remember(&tuple, &target.service, endpoint, now);
        if relayed.is_some() {
            return self.dial(reply, address, packet);
        }
        packet.rewrite(&reply.reversed());
        packet.decrement_ttl();
        Outcome::Forward(port)
    }

    fn entry(&self, tuple: &Tuple, kind: FrontendKind) -> Entry {
        let role = |addr: IpAddr| self.table.route(addr).map(|route| route.role);
        let client = role(tuple.src);
        let node = match kind {
            FrontendKind::NodePort | FrontendKind::HostPort => role(tuple.dst).and_then(Role::node),
            FrontendKind::ClusterIp | FrontendKind::ExternalIp | FrontendKind::LoadBalancer => {
                client.and_then(Role::node)
            }
        };
        Entry { node, inside: matches!(client, Some(Role::Pod { .. } | Role::Node { .. })) }
    }

    /// The endpoint for a new flow. `Err(None)`: nobody serves, refuse. `Err(Some)`: drop.
    fn choose<'t>(
        &mut self,
        tuple: &Tuple,
        target: &'t Target,
        entry: Entry,
        now: Instant,
    ) -> Result<&'t Endpoint, Option<DropReason>> {
        let service = &*target.service;
        let cluster = service.cluster_set();
        // A client that is on no node is not restricted to one, and is near to none.
        let set = match entry.node {
            // D-019: hints do not count here.
            Some(node) if wants_local(target, entry) => service.local_set(node),
            Some(node) => self.table.node(node).map_or(cluster, |node| service.near_set(node)),
            None => cluster,
        };
        if set.is_empty() {
            return Err((!cluster.is_empty()).then_some(DropReason::NoLocalEndpoint));
        }
        let remembered = self.remembered(tuple, service, now).filter(|at| set.binary_search(at).is_ok());
        // D-020: uniform, whatever was chosen before.
        let at = remembered.or_else(|| set.get(self.random.below(set.len())).copied());
        at.and_then(|at| service.endpoints().get(at)).ok_or(None)
    }

    /// The endpoint that session affinity asks for, as its place among the endpoints.
    fn remembered(&self, tuple: &Tuple, service: &ServicePort, now: Instant) -> Option<usize> {
        let timeout = service.policies().affinity?;
        let endpoint = self.affinities.get(tuple.src, service.id(), timeout, now)?;
        service.position(endpoint.ip(), endpoint.port())
    }

    /// D-072: every new flow counts, and nothing else does.
    fn remember(&mut self, tuple: &Tuple, service: &ServicePort, endpoint: &Endpoint, now: Instant) {
        if let Some(timeout) = service.policies().affinity {
            let endpoint = SocketAddr::new(endpoint.addr, endpoint.port);
            if !self.affinities.put(tuple.src, service.id(), endpoint, timeout, now) {
                self.counters.affinity_limit += 1;
            }
        }
    }

    /// The source address the endpoint sees, if it is not the client's: the table of section 5.
    fn changed_source(&self, tuple: &Tuple, target: &Target, entry: Entry, endpoint: &Endpoint) -> Option<IpAddr> {
        let node_address = |node: Option<NodeId>| node.and_then(|node| self.table.node_address(node, tuple.src));
        if endpoint.addr == tuple.src {
            // D-052, D-053: it would not take a packet from itself. A node would not either: it sees the VIP (D-054).
            return Some(node_address(entry.node).filter(|&addr| addr != tuple.src).unwrap_or(tuple.dst));
        }
        let external = target.kind != FrontendKind::ClusterIp;
        if !external || target.service.policies().external == TrafficPolicy::Local {
            return None;
        }
        // An outside client's load balancer may choose any node: it chooses the endpoint's.
        let node = node_address(entry.node.or(endpoint.node))?;
        // What is delivered to the node itself keeps its source, and a node has its own already.
        (node != endpoint.addr && node != tuple.src).then_some(node)
    }
}

/// Whether only endpoints on the entered node will do (D-017, D-018, D-048).
fn wants_local(target: &Target, entry: Entry) -> bool {
    let policies = target.service.policies();
    match target.kind {
        FrontendKind::ClusterIp => policies.internal == TrafficPolicy::Local,
        FrontendKind::NodePort | FrontendKind::ExternalIp | FrontendKind::LoadBalancer | FrontendKind::HostPort => {
            policies.external == TrafficPolicy::Local && !entry.inside
        }
    }
}
