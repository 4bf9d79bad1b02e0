//! What EndpointSlices and Endpoints take alike from a Service and its pods. Pure.

use k8s_openapi::api::core::v1::{ObjectReference, Service, ServicePort};

use crate::pod::Pod;

/// Label on slices and Endpoints of headless Services.
pub(crate) const HEADLESS: &str = "service.kubernetes.io/headless";

/// Whether the Service wants pods listed as ready whatever they are (S-152).
pub(crate) fn publishes_not_ready(service: &Service) -> bool {
    service.spec.as_ref().and_then(|spec| spec.publish_not_ready_addresses).unwrap_or(false)
}

/// Whether the Service has no virtual address.
pub(crate) fn is_headless(service: &Service) -> bool {
    service.spec.as_ref().is_none_or(|spec| matches!(spec.cluster_ip.as_deref(), None | Some("" | "None")))
}

/// The Service's families in its order, `true` for IPv6; at least one.
pub(crate) fn families(service: &Service) -> Vec<bool> {
    let Some(spec) = &service.spec else { return vec![false] };
    let listed: Vec<bool> = spec.ip_families.iter().flatten().map(|family| family == "IPv6").collect();
    if listed.is_empty() {
        // Not set by the server yet: the address tells.
        return vec![spec.cluster_ip.as_deref().is_some_and(|ip| ip.contains(':'))];
    }
    listed
}

/// The family that Endpoints are about (S-178).
pub(crate) fn primary_is_ipv6(service: &Service) -> bool {
    families(service).first().copied().unwrap_or(false)
}

/// The Service's ports.
pub(crate) fn ports_of(service: &Service) -> impl Iterator<Item = &ServicePort> {
    service.spec.iter().flat_map(|spec| spec.ports.iter().flatten())
}

/// The pod's host name within the Service's domain, if it has one (S-178, S-196).
pub(crate) fn hostname(service: &Service, pod: &Pod) -> Option<String> {
    let spec = pod.spec.as_ref()?;
    let hostname = spec.hostname.as_ref().filter(|name| !name.is_empty())?;
    (spec.subdomain.is_some() && spec.subdomain == service.metadata.name).then(|| hostname.clone())
}

/// A reference to the pod behind an address.
pub(crate) fn target(pod: &Pod) -> ObjectReference {
    ObjectReference {
        kind: Some("Pod".to_owned()),
        namespace: pod.metadata.namespace.clone(),
        name: pod.metadata.name.clone(),
        uid: pod.metadata.uid.clone(),
        ..ObjectReference::default()
    }
}
