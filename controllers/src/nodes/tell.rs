//! Writes into the status of pods what their node does not say any more.

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::api::{Patch, PatchParams};
use kube::{Api, Client};
use serde_json::{Value, json};

use crate::cache::{Cache, Key};
use crate::error::{Error, is_status};
use crate::pod::Pod;

/// A condition as of now.
pub(super) fn condition(type_: &str, holds: bool, reason: &str, message: &str) -> Value {
    json!({
        "type": type_,
        "status": if holds { "True" } else { "False" },
        "reason": reason,
        "message": message,
        "lastTransitionTime": Time(Timestamp::now()),
    })
}

/// Merges `status` into that of a pod that may be gone meanwhile.
pub(super) async fn tell(client: &Client, pods: &Cache<Pod>, pod: &Pod, status: Value) -> Result<(), Error> {
    let key = Key::of(&pod.metadata);
    let api: Api<Pod> = Api::namespaced(client.clone(), &key.namespace);
    // With the UID a namesake is not meant.
    let patch = Patch::Strategic(json!({"metadata": {"uid": pod.metadata.uid}, "status": status}));
    match api.patch_status(&key.name, &PatchParams::default(), &patch).await {
        Ok(patched) => pods.wrote(patched),
        Err(source) if is_status(&source, 404) => pods.gone(&key),
        Err(source) if is_status(&source, 409) => {}
        Err(source) => return Err(Error::api("writing into the status of a pod")(source)),
    }
    Ok(())
}
