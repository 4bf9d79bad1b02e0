//! What Services and pods claim: addresses and ports that two may want, and who gets them. Pure.

use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;

use minisvc_translator::{Frontend, FrontendKind, PortId, Protocol, Role, ServicePort, ServicePortId};

use crate::records::ObjectKey;

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
    pub(crate) fn is_at(&self, node: IpAddr) -> bool {
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

/// Who claims.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum By {
    /// A Service.
    Service(ObjectKey),
    /// A pod, with its link: a pod that comes again under its name is another one.
    Pod(ObjectKey, PortId),
}

/// A claim to a frontend.
#[derive(Debug, Clone)]
pub(crate) struct Claim {
    pub(crate) kind: FrontendKind,
    /// Seconds of Unix time at which the claimant was created.
    pub(crate) created: i64,
    pub(crate) by: By,
    /// Which of the claimant's ports it is.
    pub(crate) port: usize,
    pub(crate) target: Arc<ServicePort>,
}

impl Claim {
    /// The order in which claims to one frontend are heard: what upstream allocates before what anyone may write into a Service,
    /// then the older before the younger, then by name, so that the same objects always give the same table.
    pub(crate) fn order(&self) -> impl Ord + '_ {
        let rank = match self.kind {
            FrontendKind::ClusterIp => 0,
            FrontendKind::HostPort => 1,
            FrontendKind::NodePort => 2,
            FrontendKind::LoadBalancer => 3,
            FrontendKind::ExternalIp => 4,
        };
        (rank, self.created, &self.by, self.port)
    }

    fn claimant(&self) -> Claimant {
        match &self.by {
            By::Service(_) => Claimant::Service(Arc::clone(self.target.id())),
            By::Pod(pod, _) => Claimant::Pod(pod.namespace.to_string(), pod.name.to_string()),
        }
    }

    fn holder(&self) -> Holder {
        match &self.by {
            By::Service(_) => Holder::Service(Arc::clone(self.target.id())),
            By::Pod(pod, _) => Holder::Pod(pod.namespace.to_string(), pod.name.to_string()),
        }
    }
}

/// Who gets a frontend, and who does not: of claims in their order.
///
/// `owners` are the Services whose clusterIP the address is, and `role` is what leads to it, if a link does.
pub(crate) fn decide<'a>(
    frontend: Frontend,
    claims: &'a [Claim],
    owners: &[ObjectKey],
    role: Option<Role>,
) -> (Option<&'a Claim>, Vec<Clash>) {
    let mut held: Option<&Claim> = None;
    let mut clashes = Vec::new();
    for claim in claims {
        let refuse = |claim: &Claim, holder| Clash { claimant: claim.claimant(), kind: claim.kind, frontend, holder };
        match (claim.kind, held) {
            (FrontendKind::ClusterIp, _) => held = Some(claim),
            // Two containers of one pod: the first has it, and nobody else lost anything.
            (FrontendKind::HostPort, Some(other)) if other.by == claim.by => {}
            (FrontendKind::HostPort, Some(other)) if other.kind == FrontendKind::HostPort => {
                clashes.push(refuse(claim, other.holder()));
            }
            (FrontendKind::HostPort, _) => held = Some(claim),
            // D-062: the later of a nodePort and a hostPort gives way.
            (FrontendKind::NodePort, Some(pod))
                if pod.kind == FrontendKind::HostPort && claim.created <= pod.created =>
            {
                clashes.push(refuse(pod, claim.holder()));
                held = Some(claim);
            }
            (_, Some(other)) => clashes.push(refuse(claim, other.holder())),
            (_, None) => match owned(claim, owners, role) {
                Some(holder) => clashes.push(refuse(claim, holder)),
                None => held = Some(claim),
            },
        }
    }
    (held, clashes)
}

/// Who has the address as a whole, if that keeps a claim to one of its ports from being granted.
fn owned(claim: &Claim, owners: &[ObjectKey], role: Option<Role>) -> Option<Holder> {
    let own = |owner: &ObjectKey| matches!(&claim.by, By::Service(key) if key == owner);
    if let Some(owner) = owners.first().filter(|_| !owners.iter().any(own)) {
        return Some(Holder::ClusterIp(owner.namespace.to_string(), owner.name.to_string()));
    }
    // A node's own address is what many clusters give to a Service as an external one.
    role.filter(|role| !matches!(role, Role::Node { .. })).map(|_| Holder::Link)
}
