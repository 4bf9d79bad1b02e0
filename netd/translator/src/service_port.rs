//! A Service port: what it asks for, its endpoints, and which of them a new flow may go to.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use ipnet::IpNet;

use crate::table::{Node, NodeId};
use crate::trace::Scope;
use crate::tuple::Protocol;

/// Which port of which Service; the same over all tables.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ServicePortId {
    /// Namespace of the Service.
    pub namespace: Arc<str>,
    /// Name of the Service.
    pub service: Arc<str>,
    /// Name of the port, empty if it has none.
    pub port: Arc<str>,
    /// Protocol.
    pub protocol: Protocol,
}

impl std::fmt::Display for ServicePortId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}", self.namespace, self.service)?;
        if !self.port.is_empty() {
            write!(f, ":{}", self.port)?;
        }
        Ok(())
    }
}

/// `internalTrafficPolicy` or `externalTrafficPolicy`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum TrafficPolicy {
    /// All endpoints.
    #[default]
    Cluster,
    /// Endpoints on the client's (or entered) node only.
    Local,
}

/// What a Service asks for beyond its endpoints.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Policies {
    /// For clusterIPs.
    pub internal: TrafficPolicy,
    /// For nodePorts, external and load balancer addresses.
    pub external: TrafficPolicy,
    /// ClientIP session affinity with its timeout, or none.
    pub affinity: Option<Duration>,
    /// Who may use the load balancer addresses; ranges of a family in which there are none do not restrict it (D-066).
    pub sources: Vec<IpNet>,
}

impl Policies {
    /// Whether a client may use the load balancer addresses.
    pub(crate) fn admits(&self, client: IpAddr) -> bool {
        let mut ranges = self.sources.iter().filter(|range| range.addr().is_ipv4() == client.is_ipv4()).peekable();
        ranges.peek().is_none() || ranges.any(|range| range.contains(&client))
    }
}

/// Whose clients an endpoint prefers: `hints` of an EndpointSlice.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Hints {
    /// Names of nodes.
    pub nodes: Vec<Arc<str>>,
    /// Names of zones.
    pub zones: Vec<Arc<str>>,
}

/// One endpoint of a Service port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Endpoint {
    /// Address.
    pub addr: IpAddr,
    /// Port, already resolved for this endpoint (D-005).
    pub port: u16,
    /// `conditions.ready`.
    pub ready: bool,
    /// `conditions.serving`.
    pub serving: bool,
    /// `conditions.terminating`.
    pub terminating: bool,
    /// The node it is on, if that is known.
    pub node: Option<NodeId>,
    /// Whose clients it prefers, if it says so.
    pub hints: Option<Arc<Hints>>,
}

/// A Service port with its endpoints, prepared so that a choice costs the same however many there are.
#[derive(Clone, Debug)]
pub struct ServicePort {
    id: Arc<ServicePortId>,
    policies: Policies,
    /// Ordered by address and port, each pair once (D-008).
    endpoints: Vec<Endpoint>,
    /// Indices into `endpoints`, ordered.
    cluster: Vec<usize>,
    local: HashMap<NodeId, Vec<usize>>,
    /// Of `cluster`, what is meant for clients of a node or zone, by its name; empty unless all of them have such hints.
    for_nodes: HashMap<Arc<str>, Vec<usize>>,
    for_zones: HashMap<Arc<str>, Vec<usize>>,
}

impl ServicePort {
    /// Prepares a Service port for one address family; endpoints of the other must be left out (D-007, D-011).
    ///
    /// Of several endpoints with one address and port, one that is not terminating wins (D-008), and among those one that is
    /// ready: of two pods in the network of one node, only one can listen.
    pub fn new(id: ServicePortId, policies: Policies, mut endpoints: Vec<Endpoint>) -> Self {
        endpoints.sort_by_key(|e| (e.addr, e.port, e.terminating, !e.ready, !e.serving));
        endpoints.dedup_by_key(|e| (e.addr, e.port));
        let all: Vec<usize> = (0..endpoints.len()).collect();
        let mut by_node: HashMap<NodeId, Vec<usize>> = HashMap::new();
        for (index, endpoint) in endpoints.iter().enumerate() {
            if let Some(node) = endpoint.node {
                by_node.entry(node).or_default().push(index);
            }
        }
        let cluster = usable(&endpoints, &all);
        let local = by_node.into_iter().map(|(node, indices)| (node, usable(&endpoints, &indices))).collect();
        let for_nodes = hinted(&endpoints, |hints| &hints.nodes);
        let for_zones = hinted(&endpoints, |hints| &hints.zones);
        Self { id: Arc::new(id), policies, endpoints, cluster, local, for_nodes, for_zones }
    }

    /// Which Service port this is.
    pub fn id(&self) -> &Arc<ServicePortId> {
        &self.id
    }

    /// What the Service asks for.
    pub fn policies(&self) -> &Policies {
        &self.policies
    }

    /// All endpoints, ready or not, ordered by address and port.
    pub fn endpoints(&self) -> &[Endpoint] {
        &self.endpoints
    }

    /// Whether new flows from anywhere may go to the endpoint at this place of [`Self::endpoints`] (D-013).
    pub fn is_candidate(&self, at: usize) -> bool {
        self.cluster.binary_search(&at).is_ok()
    }

    /// The endpoints new flows may go to from anywhere (D-013).
    pub(crate) fn cluster_set(&self) -> &[usize] {
        &self.cluster
    }

    /// The endpoints new flows from this node should go to: those meant for the node, else those meant for its zone, else
    /// all (D-027 … D-029).
    pub(crate) fn near_set(&self, node: &Node) -> (&[usize], Scope) {
        let of_node = || Some((self.for_nodes.get(&node.name)?.as_slice(), Scope::NearNode));
        let of_zone = || Some((self.for_zones.get(node.zone.as_ref()?)?.as_slice(), Scope::NearZone));
        of_node().or_else(of_zone).unwrap_or((&self.cluster, Scope::All))
    }

    /// The endpoints new flows may go to under policy Local at this node (D-014).
    pub(crate) fn local_set(&self, node: NodeId) -> &[usize] {
        self.local.get(&node).map_or(&[], Vec::as_slice)
    }

    /// Whether a load balancer that asks this node would hear that it has ready endpoints (D-099, S-141).
    pub(crate) fn is_healthy_at(&self, node: NodeId) -> bool {
        // Those that are not ready are there only if none is.
        self.local_set(node).first().and_then(|&at| self.endpoints.get(at)).is_some_and(|endpoint| endpoint.ready)
    }

    /// The place of an address and port in [`Self::endpoints`].
    pub(crate) fn position(&self, addr: IpAddr, port: u16) -> Option<usize> {
        self.endpoints.binary_search_by_key(&(addr, port), |e| (e.addr, e.port)).ok()
    }

    /// Whether this address and port is an endpoint that serves, ready or terminating (D-080, D-081).
    pub(crate) fn is_serving(&self, addr: IpAddr, port: u16) -> bool {
        self.position(addr, port).and_then(|at| self.endpoints.get(at)).is_some_and(|e| e.serving)
    }
}

/// Ready endpoints; only if there are none, those that still serve while they terminate (D-013, D-015, D-016).
fn usable(endpoints: &[Endpoint], indices: &[usize]) -> Vec<usize> {
    let pick = |wanted: fn(&Endpoint) -> bool| -> Vec<usize> {
        indices.iter().copied().filter(|&at| endpoints.get(at).is_some_and(wanted)).collect()
    };
    let ready = pick(|e| e.ready);
    if ready.is_empty() { pick(|e| e.serving && e.terminating) } else { ready }
}

/// The ready endpoints by the names their hints give. Empty if one of them has no such hints: its clients would be nobody's
/// (D-029).
fn hinted(endpoints: &[Endpoint], names: fn(&Hints) -> &Vec<Arc<str>>) -> HashMap<Arc<str>, Vec<usize>> {
    let mut found: HashMap<Arc<str>, Vec<usize>> = HashMap::new();
    for (index, endpoint) in endpoints.iter().enumerate().filter(|(_, endpoint)| endpoint.ready) {
        let names = endpoint.hints.as_deref().map(names).filter(|names| !names.is_empty());
        let Some(names) = names else { return HashMap::new() };
        for name in names {
            let indices = found.entry(Arc::clone(name)).or_default();
            // One that names somebody twice does not count twice.
            if indices.last() != Some(&index) {
                indices.push(index);
            }
        }
    }
    found
}
