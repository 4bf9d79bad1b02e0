//! Writes a pod's status to the API, and deletes its object when it has ended.

use k8s_openapi::api::core::v1::{Pod, PodStatus};
use kube::api::{DeleteParams, Patch, PatchParams, Preconditions};
use kube::{Api, Client};
use serde_json::{Value, json};
use tracing::{debug, warn};

/// What the API said.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// Done.
    Taken,
    /// There is no such object any more.
    Gone,
    /// Not now; worth another try.
    Failed,
}

/// Sends `status`; the API has `before`. Conditions of others are left alone, because lists of conditions merge by type.
pub(crate) async fn patch_status(client: &Client, pod: &Pod, before: &PodStatus, status: &PodStatus) -> Outcome {
    let (pods, name) = (api(client, pod), name(pod));
    let patch = match status_patch(pod, before, status) {
        Ok(patch) => patch,
        Err(error) => {
            warn!(%error, pod = name, "a status cannot be encoded");
            return Outcome::Failed;
        }
    };
    match pods.patch_status(name, &PatchParams::default(), &Patch::Strategic(patch)).await {
        Ok(_) => Outcome::Taken,
        Err(error) => judge(&error, &[404, 410], name, "status"),
    }
}

/// Removes the object at once; only if it still is this very pod (P-052).
pub(crate) async fn delete(client: &Client, pod: &Pod) -> Outcome {
    let (pods, name) = (api(client, pod), name(pod));
    let preconditions = Preconditions { uid: pod.metadata.uid.clone(), ..Preconditions::default() };
    let params = DeleteParams::default().grace_period(0).preconditions(preconditions);
    match pods.delete(name, &params).await {
        Ok(_) => Outcome::Taken,
        // A conflict: another uid under this name.
        Err(error) => judge(&error, &[404, 409, 410], name, "deletion"),
    }
}

fn status_patch(pod: &Pod, before: &PodStatus, status: &PodStatus) -> serde_json::Result<Value> {
    let mut value = serde_json::to_value(status)?;
    // Addresses merge by value: one that is not ours any more has to be taken out by name.
    let old = before.pod_ips.iter().flatten().map(|ip| &ip.ip);
    let kept: Vec<&String> = status.pod_ips.iter().flatten().map(|ip| &ip.ip).collect();
    let stale: Vec<Value> =
        old.filter(|ip| !kept.contains(ip)).map(|ip| json!({"$patch": "delete", "ip": ip})).collect();
    if let (false, Some(list)) = (stale.is_empty(), value.get_mut("podIPs").and_then(Value::as_array_mut)) {
        list.extend(stale);
    }
    // What is merged keeps what the patch does not name: a condition that is true again has no reason any more.
    for condition in value.get_mut("conditions").and_then(Value::as_array_mut).into_iter().flatten() {
        if let Value::Object(condition) = condition {
            for field in ["reason", "message"] {
                condition.entry(field).or_insert(Value::Null);
            }
        }
    }
    Ok(json!({"metadata": {"uid": pod.metadata.uid}, "status": value}))
}

fn judge(error: &kube::Error, gone: &[u16], pod: &str, what: &str) -> Outcome {
    match error {
        kube::Error::Api(status) if gone.contains(&status.code) => {
            debug!(pod, what, reason = status.reason, "the pod is gone");
            Outcome::Gone
        }
        _ => {
            warn!(%error, pod, what, "the API did not take it; will try again");
            Outcome::Failed
        }
    }
}

fn api(client: &Client, pod: &Pod) -> Api<Pod> {
    Api::namespaced(client.clone(), pod.metadata.namespace.as_deref().unwrap_or("default"))
}

fn name(pod: &Pod) -> &str {
    pod.metadata.name.as_deref().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use k8s_openapi::api::core::v1::{PodCondition, PodIP};

    #[test]
    fn a_condition_loses_the_reason_it_no_longer_has() {
        let condition =
            PodCondition { type_: "Ready".to_owned(), status: "True".to_owned(), ..PodCondition::default() };
        let status = PodStatus { conditions: Some(vec![condition]), ..PodStatus::default() };
        let pod = crate::testing::pod(json!({}));
        let patch = status_patch(&pod, &PodStatus::default(), &status).expect("a patch");
        let condition = patch["status"]["conditions"][0].as_object().expect("an object");
        assert_eq!((condition.get("reason"), condition.get("message")), (Some(&Value::Null), Some(&Value::Null)));
    }

    #[test]
    fn an_address_of_before_is_taken_out() {
        let with = |ip: &str| PodStatus { pod_ips: Some(vec![PodIP { ip: ip.to_owned() }]), ..PodStatus::default() };
        let pod = crate::testing::pod(json!({}));
        let patch = status_patch(&pod, &with("10.244.1.2"), &with("10.244.1.9")).expect("a patch");
        assert_eq!(patch["status"]["podIPs"], json!([{"ip": "10.244.1.9"}, {"$patch": "delete", "ip": "10.244.1.2"}]));
        let patch = status_patch(&pod, &with("10.244.1.9"), &with("10.244.1.9")).expect("a patch");
        assert_eq!(patch["status"]["podIPs"], json!([{"ip": "10.244.1.9"}]));
        assert_eq!(patch["metadata"]["uid"], "u-1");
    }
}
