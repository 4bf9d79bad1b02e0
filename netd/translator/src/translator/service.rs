//! Flows to a Service: which endpoint, and which source address it sees.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Instant;

use super::{
    Both, Destination, DropReason, ErrorKind, Flow, FlowRecord, FlowState, Outcome, Packet, PortId, Protocol,
    Translator, Tuple, first_state, is_mid_stream, refuse, sighting,
};
use crate::service_port::{Endpoint, ServicePort, TrafficPolicy};
use crate::table::{FrontendKind, NodeId, Role, Target};
use crate::trace::Scope;

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
        self.note_service(target);
        // D-066, D-067: before anything else, so that whoever is kept out learns nothing.
        if target.kind == FrontendKind::LoadBalancer && !target.service.policies().admits(tuple.src) {
            return Outcome::Drop(DropReason::SourceRange);
        }
        // D-116: only a SYN chooses. Anything else belongs to a connection that is no more.
        if is_mid_stream(packet) {
            return Outcome::Reset;
        }
        let (endpoint, entry) = match self.choose(&tuple, target, now) {
            Ok(chosen) => chosen,
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
                self.severed.remember(FlowRecord::from(&lost));
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
        self.note_opened(address, reply);
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

    /// The endpoint for a new flow, and where it has entered. `Err(None)`: nobody serves, refuse. `Err(Some)`: drop.
    fn choose<'t>(
        &mut self,
        tuple: &Tuple,
        target: &'t Target,
        now: Instant,
    ) -> Result<(&'t Endpoint, Entry), Option<DropReason>> {
        let service = &*target.service;
        let cluster = service.cluster_set();
        let remembered = self.remembered(tuple, service, now);
        let mut entry = self.entry(tuple, target.kind);
        if entry.node.is_none() && matches!(target.kind, FrontendKind::LoadBalancer | FrontendKind::ExternalIp) {
            if cluster.is_empty() {
                return Err(None);
            }
            // A load balancer without a node to send to refuses.
            entry.node = Some(self.balance(service, remembered).ok_or(None)?);
        }
        // A client that is on no node is not restricted to one, and is near to none.
        let all = (cluster, Scope::All);
        let (set, scope) = match entry.node {
            // D-019: hints do not count here.
            Some(node) if wants_local(target, entry) => (service.local_set(node), Scope::Local),
            Some(node) => self.table.node(node).map_or(all, |node| service.near_set(node)),
            None => all,
        };
        if set.is_empty() {
            self.note_choice(target, scope, set, None);
            return Err((!cluster.is_empty()).then_some(DropReason::NoLocalEndpoint));
        }
        let remembered = remembered.filter(|at| set.binary_search(at).is_ok());
        self.note_choice(target, scope, set, remembered);
        // D-020: uniform, whatever was chosen before.
        let at = remembered.or_else(|| set.get(self.random.below(set.len())).copied());
        at.and_then(|at| service.endpoints().get(at)).map(|endpoint| (endpoint, entry)).ok_or(None)
    }

    /// The node that a load balancer sends a flow from outside to: any that is eligible (S-140); with policy Local only those
    /// whose health check says that they have ready endpoints (S-141), unless none does and some still drain theirs. It knows
    /// its clients again if the Service asks for that.
    fn balance(&mut self, service: &ServicePort, remembered: Option<usize>) -> Option<NodeId> {
        let Self { table, random, .. } = self;
        let mut pick = |takes: &dyn Fn(NodeId) -> bool| {
            let able = || table.balanced().iter().copied().filter(|&node| takes(node));
            able().nth(random.below(able().count()))
        };
        if service.policies().external == TrafficPolicy::Cluster {
            return pick(&|_| true);
        }
        let home = remembered.and_then(|at| service.endpoints().get(at)?.node);
        pick(&|node| home == Some(node) && service.is_healthy_at(node))
            .or_else(|| pick(&|node| service.is_healthy_at(node)))
            .or_else(|| pick(&|node| !service.local_set(node).is_empty()))
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
        let node = node_address(entry.node)?;
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
