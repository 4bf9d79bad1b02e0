//! What the checks ask of an object.

use std::collections::BTreeMap;
use std::net::IpAddr;

use serde_json::Value;

use super::{Condition, ContainerPort, Endpoint, Meta, Node, Pod, Service, ServicePort};
use crate::facts::Key;

impl Meta {
    /// Namespace and name.
    pub fn key(&self) -> Key {
        (self.namespace.clone(), self.name.clone())
    }

    /// `namespace/name`.
    pub(crate) fn path(&self) -> String {
        format!("{}/{}", self.namespace, self.name)
    }

    pub(crate) fn leaves(&self) -> bool {
        self.deletion_timestamp.is_some()
    }
}

impl Service {
    pub(crate) fn is_headless(&self) -> bool {
        self.spec.cluster_ip == "None"
    }

    pub(crate) fn is_external_name(&self) -> bool {
        self.spec.kind == "ExternalName"
    }

    /// Addresses at which its ports are, besides those of nodes: clusterIPs, load balancers, external ones.
    pub(crate) fn addresses(&self) -> impl Iterator<Item = IpAddr> {
        self.cluster_ips().into_iter().chain(self.outside_addresses())
    }

    pub(crate) fn cluster_ips(&self) -> Vec<IpAddr> {
        self.spec.cluster_ips.iter().filter_map(|ip| ip.parse().ok()).collect()
    }

    pub(crate) fn load_balancer_ips(&self) -> Vec<IpAddr> {
        self.status.load_balancer.ingress.iter().filter_map(|entry| entry.ip.parse().ok()).collect()
    }

    pub(crate) fn outside_addresses(&self) -> Vec<IpAddr> {
        let external = self.spec.external_ips.iter().filter_map(|ip| ip.parse().ok());
        self.load_balancer_ips().into_iter().chain(external).collect()
    }

    pub(crate) fn selects(&self, pod: &Pod) -> bool {
        pod.metadata.namespace == self.metadata.namespace && self.selects_labels(&pod.metadata.labels)
    }

    pub(crate) fn selects_labels(&self, labels: &BTreeMap<String, String>) -> bool {
        !self.spec.selector.is_empty() && self.spec.selector.iter().all(|(key, value)| labels.get(key) == Some(value))
    }
}

impl ServicePort {
    /// `80/TCP`.
    pub(crate) fn label(&self) -> String {
        format!("{}/{}", self.port, self.protocol())
    }

    pub(crate) fn protocol(&self) -> &str {
        if self.protocol.is_empty() { "TCP" } else { &self.protocol }
    }

    /// The name of the target port, if it is one.
    pub(crate) fn target_name(&self) -> Option<&str> {
        self.target_port.as_str()
    }

    /// The target port as it is written.
    pub(crate) fn target(&self) -> String {
        match &self.target_port {
            Value::String(name) => name.clone(),
            Value::Number(number) => number.to_string(),
            _ => self.port.to_string(),
        }
    }

    /// The port of `pod` that this port leads to; `None` when no container has a port of that name.
    pub(crate) fn resolve(&self, pod: &Pod) -> Option<u16> {
        match self.target_name() {
            Some(name) => pod
                .spec
                .containers
                .iter()
                .flat_map(|container| &container.ports)
                .find(|port| port.name == name && port.protocol() == self.protocol())
                .map(|port| port.container_port),
            None => Some(self.target_port.as_u64().and_then(|port| port.try_into().ok()).unwrap_or(self.port)),
        }
    }
}

impl ContainerPort {
    pub(crate) fn protocol(&self) -> &str {
        if self.protocol.is_empty() { "TCP" } else { &self.protocol }
    }
}

impl Pod {
    pub(crate) fn condition(&self, kind: &str) -> Option<&Condition> {
        self.status.conditions.iter().find(|condition| condition.kind == kind)
    }

    pub(crate) fn is_ready(&self) -> bool {
        self.condition("Ready").is_some_and(|condition| condition.status == "True")
    }

    pub(crate) fn has_ended(&self) -> bool {
        matches!(self.status.phase.as_str(), "Succeeded" | "Failed")
    }

    pub(crate) fn ips(&self) -> Vec<IpAddr> {
        self.status
            .pod_ips
            .iter()
            .map(|entry| &entry.ip)
            .chain([&self.status.pod_ip])
            .filter_map(|ip| ip.parse().ok())
            .collect()
    }
}

impl Endpoint {
    /// As the data plane reads it: what is not said is fine.
    pub(crate) fn is_ready(&self) -> bool {
        self.conditions.ready != Some(false)
    }

    /// Whether it may get traffic when nobody is ready (D-018).
    pub(crate) fn is_last_resort(&self) -> bool {
        self.conditions.terminating == Some(true) && self.conditions.serving != Some(false)
    }
}

impl Node {
    pub(crate) fn is_ready(&self) -> bool {
        self.status.conditions.iter().any(|condition| condition.kind == "Ready" && condition.status == "True")
    }

    pub(crate) fn has(&self, address: IpAddr) -> bool {
        self.status.addresses.iter().any(|own| own.address.parse() == Ok(address))
    }
}
