//! What controllers read from a Pod. Pure.

use std::net::IpAddr;

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::ContainerPort;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

use crate::pod::{Condition, Pod};

/// `status.phase`, empty when not set yet.
pub(crate) fn phase(pod: &Pod) -> &str {
    pod.status.as_ref().and_then(|status| status.phase.as_deref()).unwrap_or_default()
}

/// Succeeded or Failed: such a pod never runs again (P-012).
pub(crate) fn is_finished(pod: &Pod) -> bool {
    matches!(phase(pod), "Succeeded" | "Failed")
}

/// Has been asked to go.
pub(crate) fn is_terminating(pod: &Pod) -> bool {
    pod.metadata.deletion_timestamp.is_some()
}

/// Counts for its ReplicaSet (P-090).
pub(crate) fn is_active(pod: &Pod) -> bool {
    !is_finished(pod) && !is_terminating(pod)
}

/// A condition by type.
pub(crate) fn condition<'a>(pod: &'a Pod, type_: &str) -> Option<&'a Condition> {
    pod.status.as_ref()?.conditions.iter().find(|condition| condition.type_ == type_)
}

/// Whether the Ready condition is True: the only thing that makes a pod an endpoint (P-017).
pub(crate) fn is_ready(pod: &Pod) -> bool {
    condition(pod, "Ready").is_some_and(|ready| ready.status == "True")
}

/// Since when the pod is ready.
pub(crate) fn ready_since(pod: &Pod) -> Option<Timestamp> {
    condition(pod, "Ready").filter(|ready| ready.status == "True")?.last_transition_time.as_ref().map(|time| time.0)
}

/// How long until a pod that is ready counts as available (P-093): zero when it does already, `None` when not ready.
pub(crate) fn until_available(pod: &Pod, min_ready_seconds: i32, now: Timestamp) -> Option<SignedDuration> {
    if !is_ready(pod) {
        return None;
    }
    if min_ready_seconds <= 0 {
        return Some(SignedDuration::ZERO);
    }
    let since = ready_since(pod)?;
    let elapsed = now.duration_since(since);
    Some((SignedDuration::from_secs(min_ready_seconds.into()) - elapsed).max(SignedDuration::ZERO))
}

/// `spec.nodeName`, if the pod is bound.
pub(crate) fn node_name(pod: &Pod) -> Option<&str> {
    pod.spec.as_ref()?.node_name.as_deref().filter(|name| !name.is_empty())
}

/// The pod's address in one family.
pub(crate) fn address(pod: &Pod, ipv6: bool) -> Option<IpAddr> {
    let status = pod.status.as_ref()?;
    let listed = status.pod_ips.iter().map(|entry| entry.ip.as_str());
    listed
        .chain(status.pod_ip.as_deref())
        .filter_map(|text| text.parse::<IpAddr>().ok())
        .find(|address| address.is_ipv6() == ipv6)
}

/// The port number that a Service's `targetPort` means in this pod: a name is looked up with its protocol in the
/// containers, then in the restartable init containers (S-156).
pub(crate) fn resolve_port(pod: &Pod, port: i32, target: Option<&IntOrString>, protocol: &str) -> Option<i32> {
    let name = match target {
        None | Some(IntOrString::Int(0)) => return Some(port),
        Some(IntOrString::Int(number)) => return Some(*number),
        Some(IntOrString::String(name)) if name.is_empty() => return Some(port),
        Some(IntOrString::String(name)) => name,
    };
    let spec = pod.spec.as_ref()?;
    let is_it = |declared: &&ContainerPort| {
        declared.name.as_deref() == Some(name) && declared.protocol.as_deref().unwrap_or("TCP") == protocol
    };
    spec.lasting_containers().flat_map(|container| &container.ports).find(is_it).map(|declared| declared.container_port)
}

/// The owner that controls an object.
pub(crate) fn controller(meta: &ObjectMeta) -> Option<&OwnerReference> {
    meta.owner_references.iter().flatten().find(|owner| owner.controller == Some(true))
}

/// Whether the object with this uid controls `meta`.
pub(crate) fn is_controlled_by(meta: &ObjectMeta, uid: &str) -> bool {
    controller(meta).is_some_and(|owner| owner.uid == uid)
}
