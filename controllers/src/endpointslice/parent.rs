//! What all slices of a Service have in common. Pure.

use k8s_openapi::api::core::v1::Service;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;

use super::plan::{MANAGED_BY, Parent, SERVICE_NAME};
use crate::endpoint_facts::{HEADLESS, is_headless};
use crate::selector::Labels;

/// Our value of [`MANAGED_BY`].
pub(crate) const MANAGER: &str = "endpointslice-controller.k8s.io";

/// S-188.
const MAX_PER_SLICE: usize = 100;

/// The Service as the parent of slices.
pub(crate) fn parent(service: &Service) -> Parent {
    Parent {
        namespace: service.metadata.namespace.clone().unwrap_or_default(),
        name: service.metadata.name.clone().unwrap_or_default(),
        labels: labels(service),
        annotations: None,
        owner: owner(service),
        max: MAX_PER_SLICE,
        placeholder: true,
        closing: service.metadata.deletion_timestamp.is_some(),
    }
}

/// S-191: the Service's labels and ours, which win.
fn labels(service: &Service) -> Labels {
    let mut labels = service.metadata.labels.clone().unwrap_or_default();
    labels.remove(HEADLESS);
    labels.insert(SERVICE_NAME.to_owned(), service.metadata.name.clone().unwrap_or_default());
    labels.insert(MANAGED_BY.to_owned(), MANAGER.to_owned());
    if is_headless(service) {
        labels.insert(HEADLESS.to_owned(), String::new());
    }
    labels
}

/// S-192.
fn owner(service: &Service) -> OwnerReference {
    OwnerReference {
        api_version: "v1".to_owned(),
        kind: "Service".to_owned(),
        name: service.metadata.name.clone().unwrap_or_default(),
        uid: service.metadata.uid.clone().unwrap_or_default(),
        controller: Some(true),
        block_owner_deletion: Some(true),
    }
}
