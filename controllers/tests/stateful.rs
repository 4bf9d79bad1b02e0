//! StatefulSets and DaemonSets, against a real API server in memory.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking, also in its helpers")]

mod common;

use std::collections::BTreeMap;

use common::{Lab, Watched, add_node, becomes, set_pod_ready, settles};
use k8s_openapi::api::apps::v1::{ControllerRevision, DaemonSet, StatefulSet};
use k8s_openapi::api::core::v1::{Node, Pod};
use kube::Api;
use kube::api::{DeleteParams, Patch, PatchParams};
use serde_json::{Value, json};

fn template(name: &str, image: &str) -> Value {
    json!({"metadata": {"labels": {"app": name}}, "spec": {"containers": [{"name": "main", "image": image}]}})
}

fn stateful_set(name: &str, replicas: i32, image: &str) -> Value {
    json!({
        "apiVersion": "apps/v1", "kind": "StatefulSet", "metadata": {"name": name},
        "spec": {
            "replicas": replicas, "serviceName": name,
            "selector": {"matchLabels": {"app": name}},
            "template": template(name, image),
        },
    })
}

fn daemon_set(name: &str, image: &str) -> Value {
    json!({
        "apiVersion": "apps/v1", "kind": "DaemonSet", "metadata": {"name": name},
        "spec": {"selector": {"matchLabels": {"app": name}}, "template": template(name, image)},
    })
}

fn name(pod: &Pod) -> &str {
    pod.metadata.name.as_deref().unwrap()
}

fn names(pods: &[Pod]) -> Vec<&str> {
    pods.iter().map(name).collect()
}

fn image(pod: &Pod) -> &str {
    pod.spec.as_ref().unwrap().containers[0].image.as_deref().unwrap()
}

fn is_ready(pod: &Pod) -> bool {
    let conditions = pod.status.as_ref().and_then(|status| status.conditions.as_ref());
    pod.metadata.deletion_timestamp.is_none()
        && conditions.into_iter().flatten().any(|known| known.type_ == "Ready" && known.status == "True")
}

fn new_image(image: &str) -> Patch<Value> {
    Patch::Strategic(json!({"spec": {"template": {"spec": {"containers": [{"name": "main", "image": image}]}}}}))
}

/// The update is over, as `kubectl rollout status` sees it.
fn is_updated(set: &StatefulSet) -> bool {
    let status = set.status.clone().unwrap_or_default();
    let wanted = set.spec.as_ref().unwrap().replicas.unwrap();
    status.observed_generation >= set.metadata.generation
        && status.ready_replicas == Some(wanted)
        && status.replicas == wanted
        && status.update_revision.is_some()
        && status.update_revision == status.current_revision
}

// P-103, P-104, P-105, P-106
#[tokio::test(flavor = "multi_thread")]
async fn pods_come_one_after_the_other_and_go_in_reverse() {
    let lab = Lab::start(1).await;
    // At no time is there a pod whose predecessor is not ready.
    let in_order = Watched::start(lab.api(), |pods: &[Pod]| {
        let highest = pods.iter().filter_map(|pod| name(pod).strip_prefix("db-")?.parse::<usize>().ok()).max()?;
        let missing = (0..highest).find(|ordinal| !pods.iter().any(|pod| name(pod) == format!("db-{ordinal}")));
        missing.map(|ordinal| format!("db-{highest} without db-{ordinal}"))
    });
    lab.create::<StatefulSet>(stateful_set("db", 3, "db-broken:1")).await;
    let pods: Api<Pod> = lab.api();
    for ordinal in 0..3 {
        becomes(lab.api(), &format!("db-{ordinal}"), "running", |pod: &Pod| {
            pod.status.as_ref().is_some_and(|status| status.pod_ip.is_some())
        })
        .await;
        let there = pods.list(&Default::default()).await.unwrap().items;
        assert_eq!(there.len(), ordinal + 1, "the next waits until this one is ready: {:?}", names(&there));
        set_pod_ready(&pods, &format!("db-{ordinal}"), "True").await;
    }
    becomes(lab.api(), "db", "complete", is_updated).await;
    let second = pods.get("db-1").await.unwrap();
    let labels = second.metadata.labels.clone().unwrap();
    assert_eq!(labels["statefulset.kubernetes.io/pod-name"], "db-1");
    assert_eq!(labels["apps.kubernetes.io/pod-index"], "1");
    let revision = lab.api::<StatefulSet>().get("db").await.unwrap().status.unwrap().current_revision.unwrap();
    assert_eq!(labels["controller-revision-hash"], revision);
    let spec = second.spec.unwrap();
    assert_eq!((spec.hostname.as_deref(), spec.subdomain.as_deref()), (Some("db-1"), Some("db")));

    let sets: Api<StatefulSet> = lab.api();
    let one = Patch::Merge(json!({"spec": {"replicas": 1}}));
    sets.patch_scale("db", &PatchParams::default(), &one).await.unwrap();
    settles(lab.api(), "one pod", |pods: &[Pod]| names(pods) == ["db-0"]).await;
    in_order.verdict();
    lab.stop().await;
}

// P-103, P-108
#[tokio::test(flavor = "multi_thread")]
async fn a_pod_that_ends_or_is_deleted_comes_back_under_its_name() {
    let lab = Lab::start(1).await;
    lab.create::<StatefulSet>(stateful_set("db", 2, "db:1")).await;
    becomes(lab.api(), "db", "complete", is_updated).await;
    let pods: Api<Pod> = lab.api();
    let old = pods.get("db-0").await.unwrap().metadata.uid;
    pods.delete("db-0", &DeleteParams::default()).await.unwrap();
    let again = becomes(lab.api(), "db-0", "another", |pod: &Pod| pod.metadata.uid != old && is_ready(pod)).await;
    let failed = Patch::Merge(json!({"status": {"phase": "Failed"}}));
    pods.patch_status("db-0", &PatchParams::default(), &failed).await.unwrap();
    let uid = again.metadata.uid;
    becomes(lab.api(), "db-0", "yet another", |pod: &Pod| pod.metadata.uid != uid && is_ready(pod)).await;
    lab.stop().await;
}

// P-107
#[tokio::test(flavor = "multi_thread")]
async fn an_update_goes_down_to_the_partition_and_back_up_by_its_revisions() {
    let lab = Lab::start(1).await;
    lab.create::<StatefulSet>(stateful_set("db", 3, "db:1")).await;
    becomes(lab.api(), "db", "complete", is_updated).await;
    let one_away = Watched::start(lab.api(), |pods: &[Pod]| {
        let ready = pods.iter().filter(|pod| is_ready(pod)).count();
        (ready < 2).then(|| format!("{ready} ready"))
    });
    let sets: Api<StatefulSet> = lab.api();
    let partition = Patch::Merge(json!({"spec": {"updateStrategy": {"rollingUpdate": {"partition": 2}}}}));
    sets.patch("db", &PatchParams::default(), &partition).await.unwrap();
    sets.patch("db", &PatchParams::default(), &new_image("db:2")).await.unwrap();
    let images = |pods: &[Pod]| pods.iter().map(|pod| image(pod).to_owned()).collect::<Vec<_>>();
    settles(lab.api(), "only the last is new", |pods: &[Pod]| {
        images(pods) == ["db:1", "db:1", "db:2"] && pods.iter().all(is_ready)
    })
    .await;
    becomes(lab.api(), "db", "counted", |set: &StatefulSet| {
        let status = set.status.clone().unwrap_or_default();
        status.updated_replicas == Some(1)
            && status.current_replicas == Some(2)
            && status.current_revision != status.update_revision
    })
    .await;
    // Below the partition a replacement is of the old revision.
    lab.api::<Pod>().delete("db-0", &DeleteParams::default()).await.unwrap();
    let all = Patch::Merge(json!({"spec": {"updateStrategy": {"rollingUpdate": {"partition": 0}}}}));
    settles(lab.api(), "as before", |pods: &[Pod]| {
        images(pods) == ["db:1", "db:1", "db:2"] && pods.iter().all(is_ready)
    })
    .await;
    sets.patch("db", &PatchParams::default(), &all).await.unwrap();
    becomes(lab.api(), "db", "complete", is_updated).await;
    let pods = lab.api::<Pod>().list(&Default::default()).await.unwrap().items;
    assert_eq!(images(&pods), ["db:2", "db:2", "db:2"]);
    one_away.verdict();
    let mut revisions = lab.api::<ControllerRevision>().list(&Default::default()).await.unwrap().items;
    revisions.sort_by_key(|revision| revision.revision);
    assert_eq!(revisions.iter().map(|revision| revision.revision).collect::<Vec<_>>(), [1, 2]);
    // Undo is a patch with the old revision's data; it becomes the newest.
    let back = revisions[0].data.as_ref().unwrap().0.clone();
    sets.patch("db", &PatchParams::default(), &Patch::Strategic(back)).await.unwrap();
    settles(lab.api(), "the old image", |pods: &[Pod]| images(pods) == ["db:1", "db:1", "db:1"]).await;
    becomes(
        lab.api(),
        revisions[0].metadata.name.as_deref().unwrap(),
        "the newest",
        |revision: &ControllerRevision| revision.revision == 3,
    )
    .await;
    lab.stop().await;
}

// P-110, P-087
#[tokio::test(flavor = "multi_thread")]
async fn pods_and_revisions_go_with_their_set() {
    let lab = Lab::start(1).await;
    let mut parallel = stateful_set("db", 3, "db:1");
    parallel["spec"]["podManagementPolicy"] = json!("Parallel");
    lab.create::<StatefulSet>(parallel).await;
    becomes(lab.api(), "db", "complete", is_updated).await;
    lab.api::<StatefulSet>().delete("db", &DeleteParams::default()).await.unwrap();
    settles(lab.api(), "no pods", <[Pod]>::is_empty).await;
    settles(lab.api(), "no revisions", <[ControllerRevision]>::is_empty).await;
    lab.stop().await;
}

fn by_node(pods: &[Pod]) -> BTreeMap<String, usize> {
    let mut nodes = BTreeMap::new();
    for pod in pods.iter().filter(|pod| is_ready(pod)) {
        *nodes.entry(pod.spec.as_ref().unwrap().node_name.clone().unwrap()).or_default() += 1;
    }
    nodes
}

fn one_on(nodes: &[&str]) -> BTreeMap<String, usize> {
    nodes.iter().map(|node| ((*node).to_owned(), 1)).collect()
}

// P-112
#[tokio::test(flavor = "multi_thread")]
async fn every_node_has_one_pod_also_new_and_cordoned_ones() {
    let lab = Lab::start(2).await;
    let nodes: Api<Node> = Api::all(lab.client.clone());
    let cordon = Patch::Merge(json!({"spec": {"unschedulable": true}}));
    nodes.patch("n2", &PatchParams::default(), &cordon).await.unwrap();
    let set: DaemonSet = lab.create(daemon_set("agent", "agent:1")).await;
    let pods = settles(lab.api(), "both nodes", |pods: &[Pod]| by_node(pods) == one_on(&["n1", "n2"])).await;
    assert!(pods.iter().all(|pod| name(pod).starts_with("agent-")));
    assert_eq!(pods[0].metadata.owner_references.as_ref().unwrap()[0].uid, set.metadata.uid.unwrap());
    add_node(&lab.client, "n3", "z3").await;
    settles(lab.api(), "the new node", |pods: &[Pod]| by_node(pods) == one_on(&["n1", "n2", "n3"])).await;
    becomes(lab.api(), "agent", "counted", |set: &DaemonSet| {
        let status = set.status.clone().unwrap_or_default();
        status.desired_number_scheduled == 3
            && status.number_available == Some(3)
            && status.updated_number_scheduled == Some(3)
            && status.observed_generation == set.metadata.generation
    })
    .await;
    nodes.delete("n3", &DeleteParams::default()).await.unwrap();
    settles(lab.api(), "without the node", |pods: &[Pod]| by_node(pods) == one_on(&["n1", "n2"])).await;
    lab.stop().await;
}

// P-112
#[tokio::test(flavor = "multi_thread")]
async fn an_update_takes_one_node_at_a_time() {
    let lab = Lab::start(3).await;
    lab.create::<DaemonSet>(daemon_set("agent", "agent:1")).await;
    settles(lab.api(), "all nodes", |pods: &[Pod]| by_node(pods).len() == 3).await;
    let one_away = Watched::start(lab.api(), |pods: &[Pod]| {
        let covered = by_node(pods).len();
        (covered < 2).then(|| format!("{covered} nodes covered"))
    });
    let sets: Api<DaemonSet> = lab.api();
    sets.patch("agent", &PatchParams::default(), &new_image("agent:2")).await.unwrap();
    settles(lab.api(), "all new", |pods: &[Pod]| {
        pods.len() == 3 && by_node(pods).len() == 3 && pods.iter().all(|pod| image(pod) == "agent:2")
    })
    .await;
    one_away.verdict();
    let revisions = lab.api::<ControllerRevision>().list(&Default::default()).await.unwrap().items;
    assert_eq!(revisions.len(), 2);
    lab.stop().await;
}
