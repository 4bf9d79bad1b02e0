//! PodDisruptionBudgets and eviction, against a real API server in memory.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking, also in its helpers")]

mod common;

use common::{Lab, becomes, deployment, settles};
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use kube::Api;
use kube::api::EvictParams;
use serde_json::{Value, json};

fn budget(name: &str, spec: Value) -> Value {
    let mut budget = json!({
        "apiVersion": "policy/v1", "kind": "PodDisruptionBudget", "metadata": {"name": name},
        "spec": {"selector": {"matchLabels": {"app": "web"}}},
    });
    for (key, value) in spec.as_object().unwrap() {
        budget["spec"][key] = value.clone();
    }
    budget
}

/// Healthy now, healthy at least, allowed to go.
fn numbers(budget: &PodDisruptionBudget) -> (i32, i32, i32) {
    let status = budget.status.clone().unwrap_or_default();
    let number = |field: Option<i32>| field.unwrap_or(-1);
    (number(status.current_healthy), number(status.desired_healthy), number(status.disruptions_allowed))
}

async fn evict(pods: &Api<Pod>, name: &str) -> Result<(), (u16, String)> {
    match pods.evict(name, &EvictParams::default()).await {
        Ok(_) => Ok(()),
        Err(kube::Error::Api(status)) => {
            let causes = status.details.as_ref().map(|details| details.causes.clone()).unwrap_or_default();
            Err((status.code, causes.first().map_or_else(String::new, |cause| cause.reason.clone())))
        }
        Err(error) => panic!("{error}"),
    }
}

// P-119, A-132
#[tokio::test(flavor = "multi_thread")]
async fn evictions_wait_for_the_budget() {
    let lab = Lab::start(1).await;
    lab.create::<Deployment>(deployment("web", 3, "web:1")).await;
    lab.create::<PodDisruptionBudget>(budget("web", json!({"maxUnavailable": 1}))).await;
    becomes(lab.api(), "web", "counted", |budget: &PodDisruptionBudget| numbers(budget) == (3, 2, 1)).await;
    let pods: Api<Pod> = lab.api();
    let names: Vec<String> =
        pods.list(&Default::default()).await.unwrap().items.into_iter().map(|pod| pod.metadata.name.unwrap()).collect();
    common::set_pod_ready(&pods, &names[2], "False").await;
    becomes(lab.api(), "web", "nothing to spare", |budget: &PodDisruptionBudget| numbers(budget) == (2, 2, 0)).await;
    assert_eq!(evict(&pods, &names[0]).await, Err((429, "DisruptionBudget".to_owned())));
    assert!(pods.get_opt(&names[0]).await.unwrap().is_some());
    common::set_pod_ready(&pods, &names[2], "True").await;
    becomes(lab.api(), "web", "one to spare", |budget: &PodDisruptionBudget| numbers(budget) == (3, 2, 1)).await;
    assert_eq!(evict(&pods, &names[0]).await, Ok(()));
    settles(lab.api(), "replaced", |pods: &[Pod]| {
        pods.len() == 3 && !pods.iter().any(|pod| pod.metadata.name.as_deref() == Some(&names[0]))
    })
    .await;
    becomes(lab.api(), "web", "whole again", |budget: &PodDisruptionBudget| {
        numbers(budget) == (3, 2, 1) && budget.status.as_ref().unwrap().disrupted_pods.is_none()
    })
    .await;
    lab.stop().await;
}

// P-119
#[tokio::test(flavor = "multi_thread")]
async fn of_many_evictions_at_once_only_as_many_as_allowed_are_granted() {
    let lab = Lab::start(1).await;
    lab.create::<Deployment>(deployment("web", 6, "web:1")).await;
    lab.create::<PodDisruptionBudget>(budget("web", json!({"minAvailable": 4}))).await;
    becomes(lab.api(), "web", "counted", |budget: &PodDisruptionBudget| numbers(budget) == (6, 4, 2)).await;
    let pods: Api<Pod> = lab.api();
    let at_least_four = common::Watched::start(lab.api(), |pods: &[Pod]| {
        let ready = pods.iter().filter(|pod| is_ready(pod)).count();
        (ready < 4).then(|| format!("{ready} ready"))
    });
    let names: Vec<String> =
        pods.list(&Default::default()).await.unwrap().items.into_iter().map(|pod| pod.metadata.name.unwrap()).collect();
    let results = futures::future::join_all(names.iter().map(|name| evict(&pods, name))).await;
    assert!(results.iter().any(Result::is_ok), "{results:?}");
    assert!(results.iter().all(|result| matches!(result, Ok(()) | Err((429, _)))), "{results:?}");
    becomes(lab.api(), "web", "whole again", |budget: &PodDisruptionBudget| numbers(budget) == (6, 4, 2)).await;
    at_least_four.verdict();
    // A second budget over the same pods: nobody knows which one counts.
    lab.create::<PodDisruptionBudget>(budget("other", json!({"minAvailable": 0}))).await;
    let name = pods.list(&Default::default()).await.unwrap().items.remove(0).metadata.name.unwrap();
    becomes(lab.api(), &name, "ready", is_ready).await;
    assert_eq!(evict(&pods, &name).await.unwrap_err().0, 500);
    lab.stop().await;
}

fn is_ready(pod: &Pod) -> bool {
    let conditions = pod.status.as_ref().and_then(|status| status.conditions.as_ref());
    pod.metadata.deletion_timestamp.is_none()
        && conditions.into_iter().flatten().any(|known| known.type_ == "Ready" && known.status == "True")
}
