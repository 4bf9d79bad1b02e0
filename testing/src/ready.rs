//! When something in a lab is ready.

use std::sync::Mutex;
use std::time::Duration;

use kube::Api;
use kube::api::{ApiResource, DynamicObject, GroupVersionKind, ListParams};
use kube::runtime::wait::await_condition;
use serde_json::Value;

use crate::error::Error;

/// How often a Service's slices are read again.
const AGAIN: Duration = Duration::from_millis(20);

/// A kind that can be waited for.
struct Known {
    words: &'static [&'static str],
    group: &'static str,
    kind: &'static str,
    namespaced: bool,
    is_ready: fn(&Value, Option<i64>) -> bool,
}

const KNOWN: [Known; 8] = [
    Known { words: &["pod", "pods", "po"], group: "", kind: "Pod", namespaced: true, is_ready: has_condition_ready },
    Known { words: &["node", "nodes"], group: "", kind: "Node", namespaced: false, is_ready: has_condition_ready },
    Known {
        words: &["deployment", "deployments", "deploy"],
        group: "apps",
        kind: "Deployment",
        namespaced: true,
        is_ready: |data, generation| counted(data, generation, "updatedReplicas", "availableReplicas"),
    },
    Known {
        words: &["statefulset", "statefulsets", "sts"],
        group: "apps",
        kind: "StatefulSet",
        namespaced: true,
        is_ready: |data, generation| counted(data, generation, "updatedReplicas", "readyReplicas"),
    },
    Known {
        words: &["replicaset", "replicasets", "rs"],
        group: "apps",
        kind: "ReplicaSet",
        namespaced: true,
        is_ready: |data, generation| counted(data, generation, "replicas", "availableReplicas"),
    },
    Known {
        words: &["daemonset", "daemonsets", "ds"],
        group: "apps",
        kind: "DaemonSet",
        namespaced: true,
        is_ready: covers_its_nodes,
    },
    Known { words: &["job", "jobs"], group: "batch", kind: "Job", namespaced: true, is_ready: is_complete },
    // Only its existence; whether it has endpoints its slices say.
    Known {
        words: &["service", "services", "svc"],
        group: "",
        kind: "Service",
        namespaced: true,
        is_ready: |_, _| true,
    },
];

/// Waits until `KIND/NAME` is ready.
pub(crate) async fn wait(client: kube::Client, namespace: &str, what: &str, within: Duration) -> Result<(), Error> {
    let Some((known, name)) = parse(what) else {
        let known: Vec<&str> = KNOWN.iter().map(|known| known.words[0]).collect();
        return Err(Error::UnknownKind { what: what.to_owned(), known: known.join(", ") });
    };
    let last = Mutex::new("it does not exist".to_owned());
    let seen = |text: String| {
        if let Ok(mut last) = last.lock() {
            *last = text;
        }
    };
    let ready = async {
        until_ready(client.clone(), namespace, known, name, &seen).await?;
        if known.kind == "Service" { until_reachable(client, namespace, name, &seen).await } else { Ok(()) }
    };
    let result = tokio::time::timeout(within, ready).await;
    result.unwrap_or_else(|_| {
        let last = last.lock().map(|last| last.clone()).unwrap_or_default();
        Err(Error::Timeout { what: format!("{what} was not ready"), within, last })
    })
}

fn parse(what: &str) -> Option<(&'static Known, &str)> {
    let (word, name) = what.split_once('/').filter(|(_, name)| !name.is_empty())?;
    let word = word.to_ascii_lowercase();
    KNOWN.iter().find(|known| known.words.contains(&word.as_str())).map(|known| (known, name))
}

async fn until_ready(
    client: kube::Client,
    namespace: &str,
    known: &'static Known,
    name: &str,
    seen: impl Fn(String) + Send,
) -> Result<(), Error> {
    let resource = ApiResource::from_gvk(&GroupVersionKind::gvk(known.group, "v1", known.kind));
    let api: Api<DynamicObject> = if known.namespaced {
        Api::namespaced_with(client, namespace, &resource)
    } else {
        Api::all_with(client, &resource)
    };
    let fits = |object: Option<&DynamicObject>| {
        let Some(object) = object else { return false };
        seen(object.data["status"].to_string());
        (known.is_ready)(&object.data, object.metadata.generation)
    };
    match await_condition(api, name, fits).await {
        Ok(_) => Ok(()),
        Err(error) => Err(kube::Error::Service(Box::new(error)).into()),
    }
}

/// Waits until one of the Service's slices has a ready endpoint.
async fn until_reachable(
    client: kube::Client,
    namespace: &str,
    service: &str,
    seen: impl Fn(String) + Send,
) -> Result<(), Error> {
    let resource = ApiResource::from_gvk(&GroupVersionKind::gvk("discovery.k8s.io", "v1", "EndpointSlice"));
    let slices: Api<DynamicObject> = Api::namespaced_with(client, namespace, &resource);
    let parameters = ListParams::default().labels(&format!("kubernetes.io/service-name={service}"));
    loop {
        let found = slices.list(&parameters).await?;
        let endpoints: Vec<&Value> =
            found.items.iter().flat_map(|slice| slice.data["endpoints"].as_array().into_iter().flatten()).collect();
        // Not said means ready.
        if endpoints.iter().any(|endpoint| endpoint["conditions"]["ready"] != false) {
            return Ok(());
        }
        seen(format!("{} endpoints, none of them ready", endpoints.len()));
        tokio::time::sleep(AGAIN).await;
    }
}

fn has_condition_ready(data: &Value, _: Option<i64>) -> bool {
    has_condition(data, "Ready")
}

fn is_complete(data: &Value, _: Option<i64>) -> bool {
    has_condition(data, "Complete")
}

fn has_condition(data: &Value, name: &str) -> bool {
    let mut conditions = data["status"]["conditions"].as_array().into_iter().flatten();
    conditions.any(|condition| condition["type"] == name && condition["status"] == "True")
}

/// All replicas are there, of the present template, and none of an older one is left.
fn counted(data: &Value, generation: Option<i64>, updated: &str, available: &str) -> bool {
    let status = &data["status"];
    let wanted = data["spec"]["replicas"].as_i64().unwrap_or(1);
    let count = |field: &str| status[field].as_i64().unwrap_or(0);
    is_current(data, generation) && [updated, available, "replicas"].iter().all(|field| count(field) == wanted)
}

fn covers_its_nodes(data: &Value, generation: Option<i64>) -> bool {
    let count = |field: &str| data["status"][field].as_i64();
    let wanted = count("desiredNumberScheduled");
    is_current(data, generation)
        && wanted.is_some()
        && count("updatedNumberScheduled").unwrap_or(0) >= wanted.unwrap_or(0)
        && count("numberAvailable").unwrap_or(0) >= wanted.unwrap_or(0)
}

/// Whether the controller has seen the latest change.
fn is_current(data: &Value, generation: Option<i64>) -> bool {
    data["status"]["observedGeneration"].as_i64() >= generation
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn things_are_named_as_kubectl_names_them() {
        for what in ["deployment/web", "Deploy/web", "svc/web", "pod/web"] {
            assert_eq!(parse(what).expect("known").1, "web", "{what}");
        }
        for what in ["web", "deployment", "deployment/", "gateway/web"] {
            assert!(parse(what).is_none(), "{what}");
        }
    }

    #[test]
    fn a_deployment_is_ready_when_the_present_template_is_everywhere() {
        let (known, _) = parse("deployment/web").expect("known");
        let deployment = |generation: i64, updated: i64, all: i64| {
            json!({"spec": {"replicas": 2}, "status": {"observedGeneration": generation, "updatedReplicas": updated,
                   "availableReplicas": 2, "replicas": all}})
        };
        assert!((known.is_ready)(&deployment(2, 2, 2), Some(2)));
        assert!(!(known.is_ready)(&deployment(1, 2, 2), Some(2)), "the controller has not seen the change");
        assert!(!(known.is_ready)(&deployment(2, 1, 2), Some(2)), "one is of the old template");
        assert!(!(known.is_ready)(&deployment(2, 2, 3), Some(2)), "an old one is left");
    }

    #[test]
    fn a_daemonset_is_ready_when_it_covers_its_nodes_and_a_job_when_it_is_complete() {
        let (daemons, _) = parse("ds/agent").expect("known");
        assert!(!(daemons.is_ready)(&json!({"status": {"observedGeneration": 1}}), Some(1)), "nothing is known yet");
        let status = json!({"status": {"observedGeneration": 1, "desiredNumberScheduled": 2,
                            "updatedNumberScheduled": 2, "numberAvailable": 2}});
        assert!((daemons.is_ready)(&status, Some(1)));
        let (job, _) = parse("job/once").expect("known");
        let ended = |condition: &str| json!({"status": {"conditions": [{"type": condition, "status": "True"}]}});
        assert!((job.is_ready)(&ended("Complete"), None));
        assert!(!(job.is_ready)(&ended("Failed"), None));
    }
}
