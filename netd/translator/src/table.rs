//! What the lab looks like to a packet: an immutable table, built elsewhere and swapped in whole.

use std::collections::{HashMap, HashSet};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use ipnet::IpNet;

use crate::trace::Scope;
use crate::tuple::Protocol;

/// A place where packets come from and go to: a TUN of a pod, of a node, of the workstation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct PortId(pub u32);

/// A node within one table; another table may number the nodes otherwise.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct NodeId(u32);

/// A node of the lab.
#[derive(Clone, Debug)]
pub struct Node {
    /// The name of the Node object.
    pub name: Arc<str>,
    /// Its own addresses, at most one of each family matters.
    pub addresses: Vec<IpAddr>,
    /// The zone it is in, for endpoints that prefer clients of a zone (D-028).
    pub zone: Option<Arc<str>>,
    /// Whether load balancers send to it (S-140): it is up, and nobody has excluded it.
    pub balanced: bool,
}

/// What kind of place an address is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// A pod with its own network.
    Pod {
        /// The node it runs on.
        node: NodeId,
    },
    /// A node: its host-network pods and processes.
    Node {
        /// Which one.
        node: NodeId,
    },
    /// The user's place: inside the lab, but on no node.
    Workstation,
    /// Where the API and DNS listen.
    ControlPlane,
    /// Where flows to the outside are taken over.
    Relay,
}

/// Where flows to the outside are taken over: a place in the lab that listens for them and passes them on.
#[derive(Clone, Debug)]
pub struct Relay {
    /// Its port.
    pub port: PortId,
    /// Its own addresses, at most one of each family. They stand for the machine that the lab runs on.
    pub addresses: Vec<IpAddr>,
    /// The TCP and UDP port it listens on.
    pub listen: u16,
}

impl Role {
    /// The node this place is on, if it is on one.
    pub fn node(self) -> Option<NodeId> {
        match self {
            Self::Pod { node } | Self::Node { node } => Some(node),
            Self::Workstation | Self::ControlPlane | Self::Relay => None,
        }
    }
}

/// Where packets to an address go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Route {
    /// The port whose namespace owns the address.
    pub port: PortId,
    /// What it is.
    pub role: Role,
}

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

/// Where a client sends to: destination address, protocol and port together (D-001).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Frontend {
    /// Destination address.
    pub addr: IpAddr,
    /// Protocol.
    pub protocol: Protocol,
    /// Destination port.
    pub port: u16,
}

/// What a frontend is in the Service's specification.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum FrontendKind {
    /// `spec.clusterIPs` with the Service port.
    ClusterIp,
    /// A node's address with the nodePort.
    NodePort,
    /// `spec.externalIPs` with the Service port.
    ExternalIp,
    /// An ingress address of ipMode VIP with the Service port.
    LoadBalancer,
    /// A node's address with the hostPort of one of its pods, which stands for a Service port of its own (D-123).
    HostPort,
}

/// What stands behind a frontend.
#[derive(Clone, Debug)]
pub struct Target {
    /// What the frontend is.
    pub kind: FrontendKind,
    /// The Service port; all frontends of one share it, and with it its affinity (D-070).
    pub service: Arc<ServicePort>,
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
    /// Of several endpoints with one address and port, one that is not terminating wins (D-008).
    pub fn new(id: ServicePortId, policies: Policies, mut endpoints: Vec<Endpoint>) -> Self {
        endpoints.sort_by_key(|e| (e.addr, e.port, e.terminating));
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

/// Routes, ranges and frontends of a lab at one moment.
///
/// Filled by the `add_…` methods, then shared and never changed. No lookup takes longer because there are more Services.
#[derive(Clone, Debug, Default)]
pub struct ServiceTable {
    nodes: Vec<Node>,
    balanced: Vec<NodeId>,
    routes: HashMap<IpAddr, Route>,
    outside: Option<PortId>,
    relay: Option<Relay>,
    own_cidrs: Vec<IpNet>,
    service_cidrs: Vec<IpNet>,
    pod_cidrs: Vec<IpNet>,
    service_addresses: HashSet<IpAddr>,
    frontends: HashMap<Frontend, Target>,
}

impl ServiceTable {
    /// An empty table: nothing has an address, nothing is routed.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a node and returns the number that routes and endpoints of this table name it by.
    pub fn add_node(&mut self, node: Node) -> NodeId {
        let id = NodeId(u32::try_from(self.nodes.len()).unwrap_or(u32::MAX));
        if node.balanced {
            self.balanced.push(id);
        }
        self.nodes.push(node);
        id
    }

    /// Adds an address and who owns it. The last route of an address holds.
    pub fn add_route(&mut self, addr: IpAddr, route: Route) {
        self.routes.insert(addr, route);
    }

    /// Sends what nobody in the lab owns to this port. Without one such packets are refused.
    pub fn set_outside(&mut self, port: PortId) {
        self.outside = Some(port);
    }

    /// Has flows to the outside, and to the relay's own addresses, taken over by the relay. Its addresses must be routed to its
    /// port too.
    pub fn set_relay(&mut self, relay: Relay) {
        self.relay = Some(relay);
    }

    /// Adds a range of the lab's own: what nobody has in it is nowhere, not outside.
    pub fn add_own_cidr(&mut self, cidr: IpNet) {
        self.own_cidrs.push(cidr);
    }

    /// Adds a range that service addresses come from.
    pub fn add_service_cidr(&mut self, cidr: IpNet) {
        self.service_cidrs.push(cidr);
    }

    /// Adds a range that pod addresses come from.
    pub fn add_pod_cidr(&mut self, cidr: IpNet) {
        self.pod_cidrs.push(cidr);
    }

    /// Marks an address as a Service's: ports of it without a frontend are refused (D-035). `add_frontend` does it for
    /// clusterIPs and load balancer addresses; a Service whose ports are all of other protocols needs it.
    pub fn add_service_address(&mut self, addr: IpAddr) {
        self.service_addresses.insert(addr);
    }

    /// Adds a frontend. The last target of a frontend holds.
    pub fn add_frontend(&mut self, frontend: Frontend, kind: FrontendKind, service: Arc<ServicePort>) {
        match kind {
            FrontendKind::ClusterIp | FrontendKind::LoadBalancer => {
                self.service_addresses.insert(frontend.addr);
            }
            // Other ports of these addresses are their owners' business (D-036).
            FrontendKind::NodePort | FrontendKind::ExternalIp | FrontendKind::HostPort => {}
        }
        self.frontends.insert(frontend, Target { kind, service });
    }

    /// What stands behind a frontend.
    pub fn frontend(&self, frontend: &Frontend) -> Option<&Target> {
        self.frontends.get(frontend)
    }

    /// Every frontend, in no order.
    pub fn frontends(&self) -> impl Iterator<Item = (&Frontend, &Target)> {
        self.frontends.iter()
    }

    /// Who owns an address.
    pub fn route(&self, addr: IpAddr) -> Option<Route> {
        self.routes.get(&addr).copied()
    }

    /// Every route, in no order.
    pub fn routes(&self) -> impl Iterator<Item = (IpAddr, Route)> + '_ {
        self.routes.iter().map(|(&addr, &route)| (addr, route))
    }

    /// Every node.
    pub fn nodes(&self) -> &[Node] {
        &self.nodes
    }

    /// A node by its number.
    pub fn node(&self, id: NodeId) -> Option<&Node> {
        self.nodes.get(usize::try_from(id.0).ok()?)
    }

    /// The nodes that load balancers send to.
    pub(crate) fn balanced(&self) -> &[NodeId] {
        &self.balanced
    }

    /// The first address of a node in the family of `like`.
    pub(crate) fn node_address(&self, id: NodeId, like: IpAddr) -> Option<IpAddr> {
        self.node(id)?.addresses.iter().copied().find(|addr| addr.is_ipv4() == like.is_ipv4())
    }

    /// Some node's address in the family of `like`.
    pub(crate) fn any_node_address(&self, like: IpAddr) -> Option<IpAddr> {
        self.nodes.iter().flat_map(|node| &node.addresses).copied().find(|addr| addr.is_ipv4() == like.is_ipv4())
    }

    /// Where what nobody in the lab owns goes.
    pub(crate) fn outside(&self) -> Option<PortId> {
        self.outside
    }

    /// Whether a port may send with this source address: its own, or from outside one that is nobody's in the lab.
    pub(crate) fn may_send(&self, from: PortId, src: IpAddr) -> bool {
        match self.routes.get(&src) {
            Some(route) => route.port == from,
            None => self.outside == Some(from) && !self.in_lab_range(src),
        }
    }

    fn in_lab_range(&self, addr: IpAddr) -> bool {
        self.service_addresses.contains(&addr)
            || self.service_cidrs.iter().chain(&self.pod_cidrs).chain(&self.own_cidrs).any(|cidr| cidr.contains(&addr))
    }

    /// The relay's port and listener, if packets to this address are for it.
    pub(crate) fn relay_to(&self, addr: IpAddr) -> Option<(PortId, SocketAddr)> {
        let relay = self.relay.as_ref()?;
        let own = relay.addresses.iter().copied().find(|own| own.is_ipv4() == addr.is_ipv4())?;
        let is_beyond = own == addr || matches!(self.destination(addr), Destination::Outside(_));
        is_beyond.then_some((relay.port, SocketAddr::new(own, relay.listen)))
    }

    /// What an address is to a packet that matched no frontend.
    pub(crate) fn destination(&self, addr: IpAddr) -> Destination {
        // First, because a load balancer may be given a node's address, whose other ports stay the node's own (D-036).
        if let Some(route) = self.routes.get(&addr) {
            Destination::Owned(*route)
        } else if self.service_addresses.contains(&addr) {
            Destination::Service
        } else if self.service_cidrs.iter().any(|cidr| cidr.contains(&addr)) {
            Destination::ServiceRange
        } else if self.pod_cidrs.iter().chain(&self.own_cidrs).any(|cidr| cidr.contains(&addr)) {
            Destination::PodRange
        } else {
            Destination::Outside(self.outside)
        }
    }
}

/// What an address is to a packet that matched no frontend.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Destination {
    /// A Service's address.
    Service,
    /// In the service range, and no Service's.
    ServiceRange,
    /// Somebody's in the lab.
    Owned(Route),
    /// In the pod range, and no pod's.
    PodRange,
    /// Not in the lab; with the port that leads there.
    Outside(Option<PortId>),
}
