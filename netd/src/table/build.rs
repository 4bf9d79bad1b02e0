//! From records and links to the translator's table, a change at a time: what a change does not touch stays, and is shared with
//! the table before. Pure.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::net::IpAddr;
use std::sync::Arc;

use minisvc_translator::{
    Frontend, FrontendKind, NodeId, PortId, Protocol, Relay, Role, Route, ServicePort, ServiceTable,
};

use super::inputs::{Changed, Inputs, LinkRecord, LinkRole};
use super::nodes::{self, NodeIds};
use super::targets;
use crate::claims::{By, Claim, Clash, decide};
use crate::records::{ObjectKey, ServiceRecord};

/// Who has to do with an address. Empty lists, which are most of them, take no memory.
#[derive(Debug, Default)]
struct Address {
    /// The links that have it, in their order: the last one's it is.
    links: Vec<(PortId, Role)>,
    /// The Services whose clusterIP it is, in the order of their names.
    owners: Vec<ObjectKey>,
    /// How many Services refuse packets to its other ports.
    marks: usize,
    /// Ports of it that somebody claims who may not get them, depending on whose address it is.
    contested: BTreeSet<(Protocol, u16)>,
}

impl Address {
    fn is_unused(&self) -> bool {
        self.links.is_empty() && self.owners.is_empty() && self.marks == 0 && self.contested.is_empty()
    }
}

/// The table, and what it takes to change it: everything that was put in, so that it can be taken out again.
#[derive(Debug, Default)]
pub(crate) struct Builder {
    table: ServiceTable,
    nodes: NodeIds,
    at_nodes: Vec<(IpAddr, NodeId)>,
    /// The records that the table was made of.
    services: HashMap<ObjectKey, Arc<ServiceRecord>>,
    links: HashMap<PortId, Arc<LinkRecord>>,
    addresses: HashMap<IpAddr, Address>,
    /// Each in the order of [`Claim::order`].
    claims: HashMap<Frontend, Vec<Claim>>,
    clashes: BTreeMap<(IpAddr, Protocol, u16), Vec<Clash>>,
    clashes_changed: bool,
    /// Whom somebody has to be found for again.
    unsettled: HashSet<Frontend>,
}

impl Builder {
    /// The table as it is now. A copy of it costs nothing.
    pub(crate) fn table(&self) -> &ServiceTable {
        &self.table
    }

    /// The claims that are refused, if they may have changed since this was asked last.
    pub(crate) fn changed_clashes(&mut self) -> Option<Vec<Clash>> {
        std::mem::take(&mut self.clashes_changed).then(|| self.clashes.values().flatten().cloned().collect())
    }

    /// Brings the table to what the records say, where they have changed.
    pub(crate) fn update(&mut self, inputs: &Inputs, changed: &Changed) {
        if changed.everything || self.would_move_a_node(inputs, changed) {
            *self = Self::start(inputs);
            self.clashes_changed = true;
            inputs.links().iter().for_each(|(&port, link)| self.put_link(port, link));
            inputs.services().values().for_each(|service| self.put_service(service, inputs));
        } else {
            for port in &changed.links {
                self.take_link(*port);
                if let Some(link) = inputs.links().get(port) {
                    self.put_link(*port, link);
                }
            }
            for key in &changed.services {
                self.take_service(key);
                if let Some(service) = inputs.services().get(key) {
                    self.put_service(service, inputs);
                }
            }
        }
        for frontend in std::mem::take(&mut self.unsettled) {
            self.settle(frontend);
        }
    }

    /// A table with what everything else depends on.
    fn start(inputs: &Inputs) -> Self {
        let mut table = ServiceTable::new();
        let ranges = inputs.ranges();
        ranges.services.iter().for_each(|cidr| table.add_service_cidr(*cidr));
        ranges.pods.iter().for_each(|cidr| table.add_pod_cidr(*cidr));
        ranges.own.iter().for_each(|cidr| table.add_own_cidr(*cidr));
        let nodes = nodes::add(&mut table, inputs);
        let at_nodes = at_nodes(inputs, &nodes);
        Self { table, nodes, at_nodes, ..Self::default() }
    }

    /// Whether a pod takes a node's address, or gives it back: odd, but then nodePorts are elsewhere.
    fn would_move_a_node(&self, inputs: &Inputs, changed: &Changed) -> bool {
        let before = changed.links.iter().filter_map(|port| self.links.get(port));
        let after = changed.links.iter().filter_map(|port| inputs.links().get(port));
        let is_node = |(_, role): &(PortId, Role)| matches!(role, Role::Node { .. });
        before
            .chain(after)
            .flat_map(|link| &link.addresses)
            .any(|address| self.addresses.get(address).is_some_and(|address| address.links.iter().any(is_node)))
    }

    fn role(&self, role: &LinkRole) -> Option<Role> {
        let node = |name: &str| self.nodes.get(name).copied();
        match role {
            LinkRole::Pod { node: name } => node(name).map(|node| Role::Pod { node }),
            LinkRole::Node { name } => node(name).map(|node| Role::Node { node }),
            LinkRole::Workstation => Some(Role::Workstation),
            LinkRole::ControlPlane => Some(Role::ControlPlane),
            LinkRole::Relay { .. } => Some(Role::Relay),
        }
    }

    fn put_link(&mut self, port: PortId, link: &Arc<LinkRecord>) {
        // Every node that a link names is known, so a role is always found.
        let Some(role) = self.role(&link.role) else { return };
        if let LinkRole::Relay { listen } = link.role {
            self.table.set_relay(Relay { port, addresses: link.addresses.clone(), listen });
        }
        self.links.insert(port, Arc::clone(link));
        for &address in &link.addresses {
            let links = &mut self.addresses.entry(address).or_default().links;
            let at = links.partition_point(|(other, _)| *other <= port);
            links.insert(at, (port, role));
            self.reroute(address);
        }
        if let Role::Pod { node } = role {
            for (frontend, claim) in targets::of_pod(port, link, node, &self.at_nodes) {
                self.put_claim(frontend, claim);
            }
        }
    }

    fn take_link(&mut self, port: PortId) {
        let Some(link) = self.links.remove(&port) else { return };
        for &address in &link.addresses {
            if let Some(known) = self.addresses.get_mut(&address) {
                known.links.retain(|(other, _)| *other != port);
            }
            self.reroute(address);
        }
        if let Some(Role::Pod { node }) = self.role(&link.role) {
            for (frontend, claim) in targets::of_pod(port, &link, node, &self.at_nodes) {
                self.take_claims(frontend, &claim.by);
            }
        }
    }

    /// Has an address lead to the last of its links.
    fn reroute(&mut self, address: IpAddr) {
        match self.addresses.get(&address).and_then(|known| known.links.last()) {
            Some(&(port, role)) => self.table.add_route(address, Route { port, role }),
            None => self.table.remove_route(address),
        }
        self.contest(address);
    }

    fn put_service(&mut self, service: &Arc<ServiceRecord>, inputs: &Inputs) {
        let key = &service.key;
        self.services.insert(key.clone(), Arc::clone(service));
        // Also of a Service that is another proxy's: it has them all the same.
        for &address in &service.cluster_ips {
            let owners = &mut self.addresses.entry(address).or_default().owners;
            if let Err(at) = owners.binary_search(key) {
                // Nearly always the only one.
                owners.reserve_exact(1);
                owners.insert(at, key.clone());
                self.contest(address);
            }
        }
        for address in targets::marks(service) {
            self.addresses.entry(address).or_default().marks += 1;
            self.table.add_service_address(address);
        }
        let mut made: HashMap<(usize, bool), Arc<ServicePort>> = HashMap::new();
        for (frontend, kind, place) in targets::of_service(service, &self.at_nodes) {
            let Some(port) = service.ports.get(place) else { continue };
            let ipv4 = frontend.addr.is_ipv4();
            let target = made
                .entry((place, ipv4))
                .or_insert_with(|| targets::service_port(service, port, inputs.slices_of(key), &self.nodes, ipv4));
            let (by, target) = (By::Service(key.clone()), Arc::clone(target));
            self.put_claim(frontend, Claim { kind, created: service.created, by, port: place, target });
        }
    }

    fn take_service(&mut self, key: &ObjectKey) {
        let Some(service) = self.services.remove(key) else { return };
        let by = By::Service(key.clone());
        for (frontend, ..) in targets::of_service(&service, &self.at_nodes) {
            self.take_claims(frontend, &by);
        }
        for &address in &service.cluster_ips {
            if let Some(known) = self.addresses.get_mut(&address) {
                known.owners.retain(|owner| owner != key);
            }
            self.contest(address);
        }
        for address in targets::marks(&service) {
            let Some(known) = self.addresses.get_mut(&address) else { continue };
            known.marks -= 1;
            if known.marks == 0 {
                self.table.remove_service_address(address);
            }
            self.tidy(address);
        }
    }

    fn put_claim(&mut self, frontend: Frontend, claim: Claim) {
        if claim.kind != FrontendKind::ClusterIp {
            let address = self.addresses.entry(frontend.addr).or_default();
            address.contested.insert((frontend.protocol, frontend.port));
        }
        let claims = self.claims.entry(frontend).or_default();
        let at = claims.partition_point(|other| other.order() <= claim.order());
        // Nearly always the only one.
        claims.reserve_exact(1);
        claims.insert(at, claim);
        self.unsettled.insert(frontend);
    }

    fn take_claims(&mut self, frontend: Frontend, by: &By) {
        let Some(claims) = self.claims.get_mut(&frontend) else { return };
        claims.retain(|claim| claim.by != *by);
        let is_contested = claims.iter().any(|claim| claim.kind != FrontendKind::ClusterIp);
        if claims.is_empty() {
            self.claims.remove(&frontend);
        }
        if !is_contested && let Some(address) = self.addresses.get_mut(&frontend.addr) {
            address.contested.remove(&(frontend.protocol, frontend.port));
        }
        self.unsettled.insert(frontend);
    }

    /// It has changed whose an address is: what is claimed of it is decided again.
    fn contest(&mut self, address: IpAddr) {
        if let Some(known) = self.addresses.get(&address) {
            let frontend = |&(protocol, port)| Frontend { addr: address, protocol, port };
            self.unsettled.extend(known.contested.iter().map(frontend));
        }
        self.tidy(address);
    }

    fn tidy(&mut self, address: IpAddr) {
        if self.addresses.get(&address).is_some_and(Address::is_unused) {
            self.addresses.remove(&address);
        }
    }

    /// Gives a frontend to whom it is due.
    fn settle(&mut self, frontend: Frontend) {
        let address = self.addresses.get(&frontend.addr);
        let owners = address.map_or(&[][..], |address| &address.owners);
        let role = self.table.route(frontend.addr).map(|route| route.role);
        let claims = self.claims.get(&frontend).map_or(&[][..], Vec::as_slice);
        let (winner, clashes) = decide(frontend, claims, owners, role);
        match winner {
            Some(claim) => self.table.add_frontend(frontend, claim.kind, Arc::clone(&claim.target)),
            None => self.table.remove_frontend(&frontend),
        }
        let place = (frontend.addr, frontend.protocol, frontend.port);
        let before = if clashes.is_empty() { self.clashes.remove(&place) } else { self.clashes.insert(place, clashes) };
        self.clashes_changed |= before.as_ref() != self.clashes.get(&place);
        self.tidy(frontend.addr);
    }
}

/// The addresses of nodes that are up, in their order.
fn at_nodes(inputs: &Inputs, nodes: &NodeIds) -> Vec<(IpAddr, NodeId)> {
    // As with routes, the last link of an address has it.
    let owners: BTreeMap<IpAddr, &LinkRole> =
        inputs.links().values().flat_map(|link| link.addresses.iter().map(|&address| (address, &link.role))).collect();
    let up = |(address, role): (IpAddr, &LinkRole)| match role {
        LinkRole::Node { name } if !inputs.is_off(name) => Some((address, *nodes.get(name.as_str())?)),
        _ => None,
    };
    owners.into_iter().filter_map(up).collect()
}
