//! What is known: objects, what the data plane says, and what was seen inside the lab.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

use crate::records::{Event, Fault, Meta, Node, Pod, Service, Slice, Workload};

/// Namespace and name.
pub type Key = (String, String);

/// Everything that is known when the question is answered.
#[derive(Debug, Clone, Default)]
pub struct Facts {
    /// The lab's domain, such as `cluster.local`.
    pub domain: String,
    /// Names of the namespaces.
    pub namespaces: Vec<String>,
    /// Services of all namespaces.
    pub services: Vec<Service>,
    /// Pods of all namespaces.
    pub pods: Vec<Pod>,
    /// EndpointSlices of all namespaces.
    pub slices: Vec<Slice>,
    /// Nodes.
    pub nodes: Vec<Node>,
    /// Events of all namespaces, in the server's order.
    pub events: Vec<Event>,
    /// What makes pods.
    pub workloads: Vec<Workload>,
    /// What the data plane answers for; `None` when it was not asked.
    pub frontends: Option<Vec<Frontend>>,
    /// Addresses of what is neither a Service, a pod nor a node, with what it is, such as `the workstation`.
    pub places: BTreeMap<IpAddr, String>,
    /// What it does not, because somebody else has the address.
    pub clashes: Vec<Clash>,
    /// Connections that were made of late, the oldest first.
    pub flows: Vec<Flow>,
    /// Addresses of Services, as ranges.
    pub service_cidrs: Vec<IpNet>,
    /// Nodes whose machine has no power, whether or not the API has noticed.
    pub stopped: Vec<String>,
    /// Faults that are made on purpose at the moment.
    pub faults: Vec<Fault>,
    /// What listens inside a pod; nothing for pods that were not asked or did not answer.
    pub sockets: BTreeMap<Key, Vec<Listener>>,
    /// The last line that a container wrote before it ended, by pod and container.
    pub last_lines: BTreeMap<(Key, String), String>,
    /// What the client saw; nothing when it was not asked or did not answer.
    pub seen: Seen,
}

/// What was seen from where the client is.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Seen {
    /// The address with which the client would ask.
    pub source: Option<IpAddr>,
    /// How one connection went.
    pub attempt: Option<Attempt>,
    /// Names that were looked up.
    pub lookups: Vec<Lookup>,
}

/// One connection that was tried.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Attempt {
    /// Where to.
    pub target: SocketAddr,
    /// `None` when it was accepted, else what the system said.
    pub failure: Option<String>,
}

/// One name as a resolver looked it up.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Lookup {
    /// The name as it was given.
    pub name: String,
    /// Each name that was asked for, in order.
    pub steps: Vec<LookupStep>,
    /// The addresses in the answer.
    pub addresses: Vec<IpAddr>,
    /// Why nobody could be asked, if so.
    pub failure: Option<String>,
}

/// One question of a lookup.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct LookupStep {
    /// The complete name.
    pub name: String,
    /// Why it was asked for, such as `search svc.cluster.local`.
    pub reason: String,
    /// What the answer was.
    pub verdict: String,
    /// Whether there was a record.
    pub found: bool,
}

/// A socket that takes connections or datagrams.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Listener {
    /// `TCP` or `UDP`.
    pub protocol: String,
    /// The address it is bound to.
    pub address: IpAddr,
    /// Its port.
    pub port: u16,
}

/// An address and port that the data plane answers for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Frontend {
    /// The address and port.
    pub at: SocketAddr,
    /// `TCP`, `UDP` or `SCTP`.
    pub protocol: String,
}

/// An address and port that a Service claims and somebody else has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Clash {
    /// The address and port.
    pub at: SocketAddr,
    /// Who has it, in the data plane's words.
    pub holder: String,
}

/// A connection that the data plane knows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Flow {
    /// `namespace/name:port` of the Service, if it goes to one.
    pub service: Option<String>,
    /// Who made it.
    pub client: SocketAddr,
    /// Where it went.
    pub endpoint: SocketAddr,
    /// Its state, in the data plane's words.
    pub state: String,
}

impl Facts {
    pub(crate) fn service(&self, namespace: &str, name: &str) -> Option<&Service> {
        self.services.iter().find(|service| service.metadata.namespace == namespace && service.metadata.name == name)
    }

    pub(crate) fn pod(&self, namespace: &str, name: &str) -> Option<&Pod> {
        self.pods.iter().find(|pod| pod.metadata.namespace == namespace && pod.metadata.name == name)
    }

    pub(crate) fn slices_of<'a>(&'a self, service: &'a Service) -> impl Iterator<Item = &'a Slice> {
        self.slices.iter().filter(|slice| {
            slice.metadata.namespace == service.metadata.namespace
                && slice.metadata.labels.get(SERVICE_NAME) == Some(&service.metadata.name)
        })
    }

    /// The latest event about an object with one of these reasons.
    pub(crate) fn event(&self, kind: &str, about: &Meta, reasons: &[&str]) -> Option<&Event> {
        let fits = |event: &&Event| {
            event.involved_object.kind == kind
                && event.involved_object.namespace == about.namespace
                && event.involved_object.name == about.name
                && reasons.contains(&event.reason.as_str())
        };
        // Times in the API's format sort as text.
        self.events.iter().filter(fits).max_by(|a, b| a.last_timestamp.cmp(&b.last_timestamp))
    }

    /// What has to be changed to change a pod for good: the Deployment behind its ReplicaSet, or its other owner.
    pub(crate) fn maker(&self, pod: &Pod) -> Option<&Workload> {
        let mut found = self.owner_of(&pod.metadata)?;
        while let Some(above) = self.owner_of(&found.metadata) {
            found = above;
        }
        Some(found)
    }

    fn owner_of(&self, meta: &Meta) -> Option<&Workload> {
        let owner = meta.owner_references.first()?;
        self.workloads.iter().find(|workload| {
            workload.metadata.namespace == meta.namespace
                && workload.kind == owner.kind
                && workload.metadata.name == owner.name
        })
    }
}

/// The label that says whose a slice is.
pub(crate) const SERVICE_NAME: &str = "kubernetes.io/service-name";
