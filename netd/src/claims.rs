//! What is claimed beyond clusterIPs: addresses and ports that two may want, and who gets them. Pure.

use std::collections::{HashMap, HashSet};
use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;

use minisvc_translator::{
    Endpoint, Frontend, FrontendKind, NodeId, Policies, Protocol, Role, ServicePort, ServicePortId, ServiceTable,
    TrafficPolicy,
};

use crate::records::{ObjectKey, ServicePortRecord, ServiceRecord};
use crate::table::{Inputs, LinkRecord, LinkRole};

/// Ports of a node that lead to one of its pods: the `hostPort`s of its containers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HostPorts {
    /// Namespace of the pod.
    pub namespace: String,
    /// Name of the pod.
    pub pod: String,
    /// Seconds of Unix time at which it was created: the older of two claims holds.
    pub created: i64,
    /// The ports.
    pub ports: Vec<HostPort>,
}

/// One `hostPort`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HostPort {
    /// The node's address it is at: `hostIP`. None is every one, an unspecified one every one of its family.
    pub address: Option<IpAddr>,
    /// Protocol.
    pub protocol: Protocol,
    /// The port at the node.
    pub port: u16,
    /// The port of the pod.
    pub target: u16,
}

impl HostPort {
    fn is_at(&self, node: IpAddr) -> bool {
        self.address.is_none_or(|own| own == node || own.is_unspecified() && own.is_ipv4() == node.is_ipv4())
    }
}

/// A claim to an address and port that was not granted, because it is somebody else's.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Clash {
    /// Who claimed it.
    pub claimant: Claimant,
    /// As what.
    pub kind: FrontendKind,
    /// What was claimed.
    pub frontend: Frontend,
    /// Whose it is.
    pub holder: Holder,
}

/// Who claims an address and port.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Claimant {
    /// A Service port.
    Service(Arc<ServicePortId>),
    /// A pod, by a hostPort: its namespace and name.
    Pod(String, String),
}

/// Who has an address and port that was claimed.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Holder {
    /// A Service port that has it by a stronger claim, or for longer.
    Service(Arc<ServicePortId>),
    /// A Service whose clusterIP it is, as namespace and name.
    ClusterIp(String, String),
    /// A pod whose hostPort it is, as namespace and name.
    Pod(String, String),
    /// A pod, the workstation or the control plane: what is sent there is theirs.
    Link,
}

impl fmt::Display for Holder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Service(id) => write!(f, "Service {id}"),
            Self::ClusterIp(namespace, name) => write!(f, "Service {namespace}/{name}, whose clusterIP it is"),
            Self::Pod(namespace, name) => write!(f, "pod {namespace}/{name}, which has it as a hostPort"),
            Self::Link => f.write_str("a pod, the workstation or the control plane"),
        }
    }
}

impl fmt::Display for Clash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Frontend { addr, protocol, port } = self.frontend;
        let what = match self.kind {
            FrontendKind::ClusterIp => "cluster address",
            FrontendKind::NodePort => "node port",
            FrontendKind::ExternalIp => "external address",
            FrontendKind::LoadBalancer => "load balancer address",
            FrontendKind::HostPort => "host port",
        };
        write!(f, "the {what} {}/{protocol} leads elsewhere: it is that of ", std::net::SocketAddr::new(addr, port))?;
        self.holder.fmt(f)
    }
}

/// What a Service port of one family may claim.
pub(crate) struct Claim<'a> {
    pub(crate) service: &'a ServiceRecord,
    pub(crate) port: &'a ServicePortRecord,
    pub(crate) target: Arc<ServicePort>,
    pub(crate) ipv4: bool,
}

/// What Services claim besides a clusterIP, granted in this order: what upstream allocates before what anyone may write into
/// a Service.
const CLAIMS: [FrontendKind; 3] = [FrontendKind::NodePort, FrontendKind::LoadBalancer, FrontendKind::ExternalIp];

/// Puts what is claimed into the table, as far as it is free. Claims of Services come in the order of their age.
pub(crate) fn grant(
    table: &mut ServiceTable,
    inputs: &Inputs,
    nodes: &HashMap<Arc<str>, NodeId>,
    claims: &[Claim<'_>],
) -> Vec<Clash> {
    let off: HashSet<NodeId> = inputs.off.iter().filter_map(|name| nodes.get(name.as_str()).copied()).collect();
    let (mut pods, mut clashes) = grant_host_ports(table, inputs, nodes, &off);
    if claims.is_empty() {
        return clashes;
    }
    let owners = inputs.services.values().flat_map(|other| other.cluster_ips.iter().map(move |&ip| (ip, &other.key)));
    let owners: HashMap<IpAddr, &ObjectKey> = owners.collect();
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
    nodes: &HashMap<Arc<str>, NodeId>,
    off: &HashSet<NodeId>,
) -> (PodsBehind<'a>, Vec<Clash>) {
    let (mut pods, mut clashes) = (PodsBehind::new(), Vec::new());
    let mut claims: Vec<(&HostPorts, &LinkRecord, NodeId)> = inputs
        .links
        .values()
        .filter_map(|link| {
            let LinkRole::Pod { node } = &link.role else { return None };
            Some((link.host_ports.as_ref()?, link, *nodes.get(node.as_str())?))
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
                table.add_frontend(frontend, FrontendKind::HostPort, Arc::new(behind(pod, port, own, node)));
                pods.insert(frontend, pod);
            }
        }
    }
    (pods, clashes)
}

/// A host port as a Service port with one endpoint. It keeps its client's address, and does not ask whether the pod is ready: as
/// long as the pod is there, so is its port.
fn behind(pod: &HostPorts, port: &HostPort, addr: IpAddr, node: NodeId) -> ServicePort {
    let id = ServicePortId {
        namespace: pod.namespace.as_str().into(),
        // No Service can have this name.
        service: format!("pod/{}", pod.pod).into(),
        port: port.target.to_string().into(),
        protocol: port.protocol,
    };
    let policies = Policies { external: TrafficPolicy::Local, ..Policies::default() };
    let (ready, serving, terminating) = (true, true, false);
    let node = Some(node);
    let endpoint = Endpoint { addr, port: port.target, ready, serving, terminating, node, hints: None };
    ServicePort::new(id, policies, vec![endpoint])
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
    owners: &HashMap<IpAddr, &ObjectKey>,
    service: &ServiceRecord,
    frontend: &Frontend,
) -> Option<Holder> {
    if let Some(pod) = pods.get(frontend) {
        return Some(Holder::Pod(pod.namespace.clone(), pod.pod.clone()));
    }
    if let Some(target) = table.frontend(frontend) {
        return Some(Holder::Service(Arc::clone(target.service.id())));
    }
    if let Some(&owner) = owners.get(&frontend.addr)
        && *owner != service.key
    {
        return Some(Holder::ClusterIp(owner.namespace.to_string(), owner.name.to_string()));
    }
    // A node's own address is what many clusters give to a Service as an external one.
    table.route(frontend.addr).filter(|route| !matches!(route.role, Role::Node { .. })).map(|_| Holder::Link)
}
