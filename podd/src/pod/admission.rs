//! Whether a pod can run on its node at all: its host ports must be free there (P-006, P-010). The scheduler sees to that; a
//! manifest that names its node goes past the scheduler.

use std::net::IpAddr;

use k8s_openapi::api::core::v1::{Pod, PodCondition, PodStatus};

use super::host_ports::host_ports;
use crate::network::HostPort;

/// Reason of the phase and of the Event, as upstream's kubelet has it.
pub(crate) const REASON: &str = "NodePorts";

/// The first port of `pod` that another pod of its node has, as a sentence.
pub(crate) fn taken<'a>(pod: &Pod, others: impl Iterator<Item = &'a Pod>) -> Option<String> {
    let wanted = host_ports(pod);
    if wanted.is_empty() {
        return None;
    }
    let mut others = others.filter(|other| !ended(other) && other.metadata.uid != pod.metadata.uid);
    others.find_map(|other| {
        let theirs = host_ports(other);
        let clash = wanted.iter().find(|port| theirs.iter().any(|their| clash(port, their)))?;
        let name = other.metadata.name.as_deref().unwrap_or_default();
        let namespace = other.metadata.namespace.as_deref().unwrap_or_default();
        Some(format!("Pod was rejected: host port {} of the node belongs to pod {namespace}/{name}", clash.port))
    })
}

fn ended(pod: &Pod) -> bool {
    matches!(pod.status.as_ref().and_then(|status| status.phase.as_deref()), Some("Succeeded" | "Failed"))
}

fn clash(one: &HostPort, other: &HostPort) -> bool {
    let everywhere = |address: Option<IpAddr>| address.is_none_or(|address| address.is_unspecified());
    let same_place = everywhere(one.address) || everywhere(other.address) || one.address == other.address;
    one.protocol == other.protocol && one.port == other.port && same_place
}

/// What is said of a pod that is not taken.
pub(crate) fn rejected(pod: &Pod, message: String) -> PodStatus {
    let unready = |kind: &str| PodCondition {
        type_: kind.to_owned(),
        status: "False".to_owned(),
        reason: Some("PodFailed".to_owned()),
        ..PodCondition::default()
    };
    PodStatus {
        phase: Some("Failed".to_owned()),
        reason: Some(REASON.to_owned()),
        message: Some(message),
        conditions: Some(vec![unready("Ready"), unready("ContainersReady")]),
        observed_generation: pod.metadata.generation,
        ..PodStatus::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn pod(name: &str, phase: &str, port: serde_json::Value) -> Pod {
        let pod = json!({
            "metadata": {"name": name, "namespace": "default", "uid": name}, "status": {"phase": phase},
            "spec": {"containers": [{"name": "app", "ports": [port]}]},
        });
        serde_json::from_value(pod).expect("a pod")
    }

    #[test]
    fn a_port_of_a_node_is_given_once() {
        let holder = json!({"containerPort": 80, "hostPort": 8080});
        for (statement, wanted, held, phase, expected) in [
            ("P-006", json!({"containerPort": 90, "hostPort": 8080}), holder.clone(), "Running", true),
            ("P-006", json!({"containerPort": 90, "hostPort": 8080}), holder.clone(), "Succeeded", false),
            ("P-010", json!({"containerPort": 80}), holder.clone(), "Running", false),
            (
                "P-010",
                json!({"containerPort": 80, "hostPort": 8080, "protocol": "UDP"}),
                holder.clone(),
                "Running",
                false,
            ),
            ("P-010", json!({"containerPort": 80, "hostPort": 8081}), holder.clone(), "Running", false),
            ("P-010", json!({"containerPort": 80, "hostPort": 8080, "hostIP": "10.95.0.11"}), holder, "Running", true),
            (
                "P-010",
                json!({"containerPort": 80, "hostPort": 8080, "hostIP": "10.95.0.11"}),
                json!({"containerPort": 80, "hostPort": 8080, "hostIP": "127.0.0.1"}),
                "Running",
                false,
            ),
        ] {
            let (new, old) = (pod("new", "Pending", wanted), pod("old", phase, held));
            let said = taken(&new, [&old, &new].into_iter());
            assert_eq!(said.is_some(), expected, "{statement} {said:?}");
            assert!(said.is_none_or(|said| said.contains("8080") && said.contains("default/old")));
        }
    }
}
