//! What the containers of a pod may use at most, from the manifest to the sandbox.

use std::sync::Arc;

use k8s_openapi::api::core::v1::{Container, Pod, ResourceRequirements};
use minisvc_sandbox::{Group, Limits};
use minisvc_schema::Amount;

use super::event::Instance;
use crate::shared::{Shared, lock, reference};

/// Makes the control group of an instance of a container, if it or its pod has limits.
pub(super) fn group(shared: &Shared, pod: &Pod, container: &Container, instance: Instance) -> Option<Arc<Group>> {
    let of_pod = limits(pod.spec.as_ref().and_then(|spec| spec.resources.as_ref()));
    let own = limits(container.resources.as_ref());
    if [of_pod, own] == [Limits::default(); 2] {
        return None;
    }
    let uid = pod.metadata.uid.as_deref().unwrap_or_default();
    // The group of the instance before may still have processes that are about to die.
    let name = format!("{}.{}", container.name, instance.attempt);
    let group = shared.sandbox.make_group(uid, &name, of_pod, own);
    // It is the machine's fault, so it is said once of each resource and not for each pod.
    let resources = group.unkept().iter().filter_map(|unkept| Some(unkept.split_once(':')?.0.to_owned()));
    let news = {
        let mut told = lock(&shared.limits_told);
        resources.filter(|resource| told.insert(resource.clone())).count()
    };
    if news > 0 {
        let message = format!(
            "Limits are not kept here ({}); minisvc doctor says what mends it, and this is not said again for other pods",
            group.unkept().join("; ")
        );
        shared.recorder.record(reference(pod, Some(&container.name)), true, "LimitsNotKept", message);
    }
    Some(Arc::new(group))
}

fn limits(resources: Option<&ResourceRequirements>) -> Limits {
    let Some(limits) = resources.and_then(|resources| resources.limits.as_ref()) else { return Limits::default() };
    // The API server has refused what is no quantity or less than nothing.
    let amount = |resource| Amount::parse(&limits.get(resource)?.0);
    let memory = amount("memory").and_then(|amount| amount.ones().try_into().ok());
    let cpu = amount("cpu").and_then(|amount| amount.thousandths().try_into().ok());
    Limits { memory, cpu }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn limits_are_bytes_and_thousandths_of_a_processor() {
        for (manifest, memory, cpu) in [
            (json!({"limits": {"memory": "64Mi", "cpu": "200m"}}), Some(64 << 20), Some(200)),
            (json!({"limits": {"cpu": "1.5"}}), None, Some(1500)),
            (json!({"limits": {"cpu": "0.0001", "memory": "1k"}}), Some(1000), Some(1)),
            (json!({"requests": {"memory": "64Mi", "cpu": "1"}}), None, None),
            (json!({}), None, None),
        ] {
            let resources: ResourceRequirements = serde_json::from_value(manifest.clone()).expect("resources");
            assert_eq!(limits(Some(&resources)), Limits { memory, cpu }, "{manifest}");
        }
        assert_eq!(limits(None), Limits::default());
    }
}
