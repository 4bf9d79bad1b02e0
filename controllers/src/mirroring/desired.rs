//! Which slices a hand-written Endpoints object becomes. Pure.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use k8s_openapi::api::core::v1::{EndpointAddress, EndpointPort, Endpoints, Service};
use k8s_openapi::api::discovery::v1::{Endpoint, EndpointConditions};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;

use crate::endpointslice::desired::{Desired, Group, GroupKey, Port};
use crate::endpointslice::plan::{MANAGED_BY, Parent, SERVICE_NAME};
use crate::selector::Labels;
use crate::trigger;

/// Our value of [`MANAGED_BY`].
pub(crate) const MANAGER: &str = "endpointslicemirroring-controller.k8s.io";

const SKIP: &str = "endpointslice.kubernetes.io/skip-mirror";
const LEADER: &str = "control-plane.alpha.kubernetes.io/leader";
const LAST_APPLIED: &str = "kubectl.kubernetes.io/last-applied-configuration";

/// Addresses of a subset that are mirrored (S-214), which is also what fits into one slice.
const MAX_ADDRESSES: usize = 1000;

/// What was left out, for Events.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct LeftOut {
    /// Addresses that are none.
    pub(crate) invalid: usize,
    /// Addresses beyond the limit.
    pub(crate) surplus: usize,
}

/// Whether `endpoints` are to be mirrored for `service` (S-213, S-239).
pub(crate) fn is_mirrored(endpoints: &Endpoints, service: Option<&Service>) -> bool {
    let Some(service) = service else { return false };
    let meta = &endpoints.metadata;
    let skipped = meta.labels.as_ref().and_then(|labels| labels.get(SKIP)).is_some_and(|value| value == "true");
    let leader = meta.annotations.as_ref().is_some_and(|annotations| annotations.contains_key(LEADER));
    let selects = service.spec.as_ref().and_then(|spec| spec.selector.as_ref()).is_some_and(|pairs| !pairs.is_empty());
    !skipped && !leader && !selects && meta.deletion_timestamp.is_none()
}

/// The slices' content.
pub(crate) fn desired(endpoints: &Endpoints) -> (Desired, LeftOut) {
    let mut desired = Desired::default();
    let mut left_out = LeftOut::default();
    let mut known: BTreeMap<GroupKey, BTreeSet<IpAddr>> = BTreeMap::new();
    for subset in endpoints.subsets.iter().flatten() {
        let ports: Vec<Port> = subset.ports.iter().flatten().map(port).collect();
        let ready = subset.addresses.iter().flatten().map(|address| (address, true));
        let not_ready = subset.not_ready_addresses.iter().flatten().map(|address| (address, false));
        for (index, (address, is_ready)) in ready.chain(not_ready).enumerate() {
            if index >= MAX_ADDRESSES {
                left_out.surplus += 1;
                continue;
            }
            let Ok(ip) = address.ip.parse::<IpAddr>() else {
                left_out.invalid += 1;
                continue;
            };
            let key = GroupKey::new(ip.is_ipv6(), ports.clone());
            // Subsets with equal ports merge; the first mention of an address wins.
            if known.entry(key.clone()).or_default().insert(ip) {
                let group =
                    desired.groups.entry(key).or_insert_with(|| Group { ports: ports.clone(), endpoints: Vec::new() });
                group.endpoints.push(endpoint(address, is_ready));
            }
        }
    }
    // Both families, so that slices of one that has no address any more are removed.
    desired.families = vec![false, true];
    (desired, left_out)
}

/// The Endpoints object as the parent of slices (S-212, S-216).
pub(crate) fn parent(endpoints: &Endpoints) -> Parent {
    let meta = &endpoints.metadata;
    let name = meta.name.clone().unwrap_or_default();
    let mut labels: Labels = meta.labels.clone().unwrap_or_default();
    labels.insert(SERVICE_NAME.to_owned(), name.clone());
    labels.insert(MANAGED_BY.to_owned(), MANAGER.to_owned());
    let mut annotations = meta.annotations.clone().unwrap_or_default();
    annotations.remove(trigger::ANNOTATION);
    annotations.remove(LAST_APPLIED);
    Parent {
        namespace: meta.namespace.clone().unwrap_or_default(),
        labels,
        annotations: Some(annotations),
        owner: OwnerReference {
            api_version: "v1".to_owned(),
            kind: "Endpoints".to_owned(),
            name: name.clone(),
            uid: meta.uid.clone().unwrap_or_default(),
            controller: Some(true),
            block_owner_deletion: Some(true),
        },
        name,
        max: MAX_ADDRESSES,
        placeholder: false,
        closing: false,
    }
}

fn port(port: &EndpointPort) -> Port {
    Port {
        name: port.name.clone().unwrap_or_default(),
        protocol: port.protocol.clone().unwrap_or_else(|| "TCP".to_owned()),
        port: Some(port.port),
        app_protocol: port.app_protocol.clone(),
    }
}

/// S-215.
fn endpoint(address: &EndpointAddress, ready: bool) -> Endpoint {
    Endpoint {
        addresses: vec![address.ip.clone()],
        conditions: Some(EndpointConditions { ready: Some(ready), serving: None, terminating: None }),
        hostname: address.hostname.clone().filter(|hostname| !hostname.is_empty()),
        node_name: address.node_name.clone(),
        target_ref: address.target_ref.clone(),
        ..Endpoint::default()
    }
}

#[cfg(test)]
#[path = "desired_tests.rs"]
mod tests;
