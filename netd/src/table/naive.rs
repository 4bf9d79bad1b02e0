//! The table made of all records at once, as plainly as can be: what the builder's must be like.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::net::IpAddr;
use std::sync::Arc;

use minisvc_translator::{Frontend, FrontendKind, NodeId, Relay, Role, Route, ServicePort, ServiceTable};

use super::inputs::{Inputs, LinkRecord, LinkRole};
use super::nodes::{self, NodeIds};
use super::targets;
use crate::claims::{Claimant, Clash, Holder, HostPorts};
use crate::records::{ObjectKey, ServicePortRecord, ServiceRecord};

/// Builds the table.
pub(super) fn build(inputs: &Inputs) -> (ServiceTable, Vec<Clash>) {
    let mut table = ServiceTable::new();
    let ranges = inputs.ranges();
    ranges.services.iter().for_each(|cidr| table.add_service_cidr(*cidr));
    ranges.pods.iter().for_each(|cidr| table.add_pod_cidr(*cidr));
    ranges.own.iter().for_each(|cidr| table.add_own_cidr(*cidr));
    let nodes = nodes::add(&mut table, inputs);
    for (&port, link) in inputs.links() {
        let role = match &link.role {
            LinkRole::Pod { node } => Role::Pod { node: nodes[node.as_str()] },
            LinkRole::Node { name } => Role::Node { node: nodes[name.as_str()] },
            LinkRole::Workstation => Role::Workstation,
            LinkRole::ControlPlane => Role::ControlPlane,
            LinkRole::Relay { listen } => {
                table.set_relay(Relay { port, addresses: link.addresses.clone(), listen: *listen });
                Role::Relay
            }
        };
        for &address in &link.addresses {
            table.add_route(address, Route { port, role });
        }
    }
    let clashes = add_services(&mut table, inputs, &nodes);
    (table, clashes)
}

fn add_services(table: &mut ServiceTable, inputs: &Inputs, nodes: &NodeIds) -> Vec<Clash> {
    // The oldest first, then by name, so that the same objects always give the same table.
    let mut ordered: Vec<&ServiceRecord> =
        inputs.services().values().map(Arc::as_ref).filter(|service| !service.unhandled).collect();
    ordered.sort_by_key(|service| (service.created, &service.key));
    let mut claims: Vec<Claim<'_>> = Vec::new();
    for service in ordered {
        // Also without a port of a protocol that is translated (D-035).
        for &address in &service.cluster_ips {
            table.add_service_address(address);
        }
        for &address in &service.load_balancer_ips {
            table.add_service_address(address);
        }
        for port in &service.ports {
            for ipv4 in families(service) {
                let target = targets::service_port(service, port, inputs.slices_of(&service.key), nodes, ipv4);
                for &addr in service.cluster_ips.iter().filter(|address| address.is_ipv4() == ipv4) {
                    let frontend = Frontend { addr, protocol: port.protocol, port: port.port };
                    table.add_frontend(frontend, FrontendKind::ClusterIp, Arc::clone(&target));
                }
                if port.node_port.is_some() || !service.load_balancer_ips.is_empty() || !service.external_ips.is_empty()
                {
                    claims.push(Claim { service, port, target, ipv4 });
                }
            }
        }
    }
    grant(table, inputs, nodes, &claims)
}

/// What a Service port of one family may claim.
struct Claim<'a> {
    service: &'a ServiceRecord,
    port: &'a ServicePortRecord,
    target: Arc<ServicePort>,
    ipv4: bool,
}

/// The families that a Service has clusterIPs of.
fn families(service: &ServiceRecord) -> impl Iterator<Item = bool> {
    [true, false].into_iter().filter(|&ipv4| service.cluster_ips.iter().any(|address| address.is_ipv4() == ipv4))
}

/// What Services claim besides a clusterIP, granted in this order: what upstream allocates before what anyone may write into
/// a Service.
const CLAIMS: [FrontendKind; 3] = [FrontendKind::NodePort, FrontendKind::LoadBalancer, FrontendKind::ExternalIp];

/// Puts what is claimed into the table, as far as it is free. Claims of Services come in the order of their age.
fn grant(table: &mut ServiceTable, inputs: &Inputs, nodes: &NodeIds, claims: &[Claim<'_>]) -> Vec<Clash> {
    let off: HashSet<NodeId> = nodes.iter().filter(|(name, _)| inputs.is_off(name)).map(|(_, &node)| node).collect();
    let (mut pods, mut clashes) = grant_host_ports(table, inputs, nodes, &off);
    if claims.is_empty() {
        return clashes;
    }
    let mut owners: HashMap<IpAddr, BTreeSet<&ObjectKey>> = HashMap::new();
    for other in inputs.services().values() {
        for &address in &other.cluster_ips {
            owners.entry(address).or_default().insert(&other.key);
        }
    }
    let node_addresses = node_addresses(table, |node| !off.contains(&node));
    for kind in CLAIMS {
        for Claim { service, port, target, ipv4 } in claims {
            let (addresses, number) = match kind {
                FrontendKind::NodePort => (&node_addresses, port.node_port),
                FrontendKind::LoadBalancer => (&service.load_balancer_ips, Some(port.port)),
                _ => (&service.external_ips, Some(port.port)),
            };
            let Some(number) = number else { continue };
            for &addr in addresses.iter().filter(|address| address.is_ipv4() == *ipv4) {
                let frontend = Frontend { addr, protocol: port.protocol, port: number };
                // D-062: the later of a nodePort and a hostPort gives way.
                if kind == FrontendKind::NodePort
                    && let Some(pod) = pods.get(&frontend).copied()
                    && service.created <= pod.created
                {
                    pods.remove(&frontend);
                    table.add_frontend(frontend, kind, Arc::clone(target));
                    let holder = Holder::Service(Arc::clone(target.id()));
                    clashes.push(Clash { claimant: claimant(pod), kind: FrontendKind::HostPort, frontend, holder });
                    continue;
                }
                match holder(table, &pods, &owners, service, &frontend) {
                    None => table.add_frontend(frontend, kind, Arc::clone(target)),
                    Some(holder) => {
                        let claimant = Claimant::Service(Arc::clone(target.id()));
                        clashes.push(Clash { claimant, kind, frontend, holder });
                    }
                }
            }
        }
    }
    clashes
}

fn claimant(pod: &HostPorts) -> Claimant {
    Claimant::Pod(pod.namespace.clone(), pod.pod.clone())
}

/// The host ports in the table, and whose they are.
type PodsBehind<'a> = HashMap<Frontend, &'a HostPorts>;

/// Puts the host ports of all pods into the table: each on the addresses of the pod's own node (D-123). The scheduler keeps two
/// pods of one node from claiming the same; of those that were bound by hand the older one has it.
fn grant_host_ports<'a>(
    table: &mut ServiceTable,
    inputs: &'a Inputs,
    nodes: &NodeIds,
    off: &HashSet<NodeId>,
) -> (PodsBehind<'a>, Vec<Clash>) {
    let (mut pods, mut clashes) = (PodsBehind::new(), Vec::new());
    let mut claims: Vec<(&HostPorts, &LinkRecord, NodeId)> = inputs
        .links()
        .values()
        .filter_map(|link| {
            let LinkRole::Pod { node } = &link.role else { return None };
            Some((link.host_ports.as_ref()?, link.as_ref(), *nodes.get(node.as_str())?))
        })
        .collect();
    claims.sort_by_key(|(pod, ..)| (pod.created, &pod.namespace, &pod.pod));
    for (pod, link, node) in claims {
        let addresses = node_addresses(table, |other| other == node && !off.contains(&node));
        for port in &pod.ports {
            for &addr in addresses.iter().filter(|address| port.is_at(**address)) {
                let Some(&own) = link.addresses.iter().find(|own| own.is_ipv4() == addr.is_ipv4()) else { continue };
                let frontend = Frontend { addr, protocol: port.protocol, port: port.port };
                if let Some(other) = pods.get(&frontend) {
                    // Two containers of one pod: the first has it, and nobody else lost anything.
                    if std::ptr::eq(*other, pod) {
                        continue;
                    }
                    let holder = Holder::Pod(other.namespace.clone(), other.pod.clone());
                    clashes.push(Clash { claimant: claimant(pod), kind: FrontendKind::HostPort, frontend, holder });
                    continue;
                }
                table.add_frontend(frontend, FrontendKind::HostPort, Arc::new(targets::behind(pod, port, own, node)));
                pods.insert(frontend, pod);
            }
        }
    }
    (pods, clashes)
}

/// Where nodePorts are (D-056, D-057), and hostPorts: the addresses of nodes that are up. A node that is not does not answer,
/// though it still has its address in the API.
fn node_addresses(table: &ServiceTable, wanted: impl Fn(NodeId) -> bool) -> Vec<IpAddr> {
    let of_node = |role| matches!(role, Role::Node { node } if wanted(node));
    let mut addresses: Vec<IpAddr> =
        table.routes().filter(|(_, route)| of_node(route.role)).map(|(address, _)| address).collect();
    addresses.sort_unstable();
    addresses
}

/// Who has what a Service claims, if it is not free.
fn holder(
    table: &ServiceTable,
    pods: &PodsBehind<'_>,
    owners: &HashMap<IpAddr, BTreeSet<&ObjectKey>>,
    service: &ServiceRecord,
    frontend: &Frontend,
) -> Option<Holder> {
    if let Some(pod) = pods.get(frontend) {
        return Some(Holder::Pod(pod.namespace.clone(), pod.pod.clone()));
    }
    if let Some(target) = table.frontend(frontend) {
        return Some(Holder::Service(Arc::clone(target.service.id())));
    }
    if let Some(owners) = owners.get(&frontend.addr)
        && !owners.contains(&service.key)
        && let Some(owner) = owners.first()
    {
        return Some(Holder::ClusterIp(owner.namespace.to_string(), owner.name.to_string()));
    }
    // A node's own address is what many clusters give to a Service as an external one.
    table.route(frontend.addr).filter(|route| !matches!(route.role, Role::Node { .. })).map(|_| Holder::Link)
}
