//! Taking and leaving ownership of an object (P-088), as patches that lose against a concurrent change.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};
use serde_json::{Value, json};

use crate::error::Error;

/// A merge patch that adds `owner`.
pub(crate) fn adoption(meta: &ObjectMeta, owner: &OwnerReference) -> Value {
    let mut owners = meta.owner_references.clone().unwrap_or_default();
    owners.push(owner.clone());
    patch(meta, &owners)
}

/// A merge patch that removes the owner with this uid.
pub(crate) fn release(meta: &ObjectMeta, uid: &str) -> Value {
    let mut owners = meta.owner_references.clone().unwrap_or_default();
    owners.retain(|owner| owner.uid != uid);
    patch(meta, &owners)
}

/// A merge patch replaces lists whole, so it must apply to no other state than the one the list was read from.
fn patch(meta: &ObjectMeta, owners: &[OwnerReference]) -> Value {
    json!({"metadata": {
        "uid": meta.uid,
        "resourceVersion": meta.resource_version,
        "ownerReferences": owners,
    }})
}

/// Whether a create was refused because its namespace is going away.
pub(crate) fn is_namespace_terminating(error: &Error) -> bool {
    let Error::Api { source: kube::Error::Api(status), .. } = error else { return false };
    let causes = status.details.as_ref().map(|details| details.causes.as_slice()).unwrap_or_default();
    status.code == 403 && causes.iter().any(|cause| cause.reason == "NamespaceTerminating")
}
