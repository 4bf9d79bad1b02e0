//! What the lab looks like to a packet: an immutable table, built elsewhere and swapped in whole.

use std::collections::HashSet;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use ipnet::IpNet;
use minisvc_snapmap::SnapMap;

use crate::service_port::ServicePort;
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

/// Routes, ranges and frontends of a lab at one moment.
///
/// Filled by the `add_…` methods, then shared and never changed. A copy costs next to nothing, and shares with the one it was made
/// from what is not changed afterwards. No lookup takes longer because there are more Services.
#[derive(Clone, Debug, Default)]
pub struct ServiceTable {
    nodes: Vec<Node>,
    balanced: Vec<NodeId>,
    routes: SnapMap<IpAddr, Route>,
    outside: Option<PortId>,
    relay: Option<Relay>,
    own_cidrs: Vec<IpNet>,
    service_cidrs: Vec<IpNet>,
    pod_cidrs: Vec<IpNet>,
    service_addresses: SnapMap<IpAddr, ()>,
    frontends: SnapMap<Frontend, Target>,
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

    /// Takes away who owns an address.
    pub fn remove_route(&mut self, addr: IpAddr) {
        self.routes.remove(&addr);
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
        self.service_addresses.insert(addr, ());
    }

    /// An address is no Service's any more.
    pub fn remove_service_address(&mut self, addr: IpAddr) {
        self.service_addresses.remove(&addr);
    }

    /// Adds a frontend. The last target of a frontend holds.
    pub fn add_frontend(&mut self, frontend: Frontend, kind: FrontendKind, service: Arc<ServicePort>) {
        match kind {
            FrontendKind::ClusterIp | FrontendKind::LoadBalancer => {
                self.service_addresses.insert(frontend.addr, ());
            }
            // Other ports of these addresses are their owners' business (D-036).
            FrontendKind::NodePort | FrontendKind::ExternalIp | FrontendKind::HostPort => {}
        }
        self.frontends.insert(frontend, Target { kind, service });
    }

    /// Takes a frontend away. Its address may still be a Service's.
    pub fn remove_frontend(&mut self, frontend: &Frontend) {
        self.frontends.remove(frontend);
    }

    /// What stands behind a frontend.
    pub fn frontend(&self, frontend: &Frontend) -> Option<&Target> {
        self.frontends.get(frontend)
    }

    /// Every frontend, in no order.
    pub fn frontends(&self) -> impl Iterator<Item = (&Frontend, &Target)> {
        self.frontends.iter()
    }

    /// Every address whose ports without a frontend are refused, in no order.
    pub fn service_addresses(&self) -> impl Iterator<Item = IpAddr> + '_ {
        self.service_addresses.iter().map(|(&addr, ())| addr)
    }

    /// How many addresses somebody has, and how many frontends there are.
    pub fn size(&self) -> (usize, usize) {
        (self.routes.len(), self.frontends.len())
    }

    /// Who owns an address.
    pub fn route(&self, addr: IpAddr) -> Option<Route> {
        self.routes.get(&addr).copied()
    }

    /// Every route, in no order.
    pub fn routes(&self) -> impl Iterator<Item = (IpAddr, Route)> + '_ {
        self.routes.iter().map(|(&addr, &route)| (addr, route))
    }

    /// The addresses that do not lead to the same port in a newer table.
    pub(crate) fn moved_addresses(&self, newer: &Self) -> HashSet<IpAddr> {
        let mut moved = HashSet::new();
        SnapMap::compare(&self.routes, &newer.routes, |&addr, before, now| {
            if before.is_some_and(|before| now.is_none_or(|now| now.port != before.port)) {
                moved.insert(addr);
            }
        });
        moved
    }

    /// Whether a frontend of UDP is not the same in a newer table.
    pub(crate) fn has_other_datagrams(&self, newer: &Self) -> bool {
        let is_same = |before: &Target, now: &Target| Arc::ptr_eq(&before.service, &now.service);
        let mut found = false;
        SnapMap::compare(&self.frontends, &newer.frontends, |frontend, before, now| {
            let same = before.is_some_and(|before| now.is_some_and(|now| is_same(before, now)));
            found |= frontend.protocol == Protocol::Udp && !same;
        });
        found
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
        self.service_addresses.contains_key(&addr)
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
        } else if self.service_addresses.contains_key(&addr) {
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
