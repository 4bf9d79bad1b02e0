//! What a cluster does by itself: accounts, namespaces, garbage, lost nodes.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking, also in its helpers")]

mod common;

use std::time::Duration;

use common::{Lab, add_node, becomes, deployment, make_service, pod, ready_endpoints, set_ready, settles};
use k8s_openapi::api::apps::v1::{Deployment, ReplicaSet};
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::{ConfigMap, Namespace, Node, Pod, Service, ServiceAccount};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use kube::Api;
use kube::api::{DeleteParams, Patch, PatchParams, PostParams};
use minisvc_controllers::Options;
use serde_json::json;

fn namespaces(lab: &Lab) -> Api<Namespace> {
    Api::all(lab.client.clone())
}

async fn make_namespace(lab: &Lab, name: &str) {
    let namespace = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}});
    namespaces(lab).create(&PostParams::default(), &serde_json::from_value(namespace).unwrap()).await.unwrap();
}

// A-059, P-077
#[tokio::test(flavor = "multi_thread")]
async fn every_namespace_has_an_account_and_the_certificates() {
    let options = Options { root_certificates: "PEM".into(), ..Options::default() };
    let lab = Lab::start_with(0, options).await;
    make_namespace(&lab, "team").await;
    for namespace in ["default", "kube-system", "team"] {
        let accounts: Api<ServiceAccount> = Api::namespaced(lab.client.clone(), namespace);
        becomes(accounts, "default", "the account", |_| true).await;
        let maps: Api<ConfigMap> = Api::namespaced(lab.client.clone(), namespace);
        let is_right = |map: &ConfigMap| map.data.as_ref().is_some_and(|data| data["ca.crt"] == "PEM");
        becomes(maps.clone(), "kube-root-ca.crt", "the certificates", is_right).await;
    }
    let maps: Api<ConfigMap> = Api::namespaced(lab.client.clone(), "team");
    maps.delete("kube-root-ca.crt", &DeleteParams::default()).await.unwrap();
    becomes(maps.clone(), "kube-root-ca.crt", "back again", |_| true).await;
    let tamper = Patch::Merge(json!({"data": {"ca.crt": "other"}}));
    maps.patch("kube-root-ca.crt", &PatchParams::default(), &tamper).await.unwrap();
    let is_right = |map: &ConfigMap| map.data.as_ref().is_some_and(|data| data["ca.crt"] == "PEM");
    becomes(maps, "kube-root-ca.crt", "restored", is_right).await;
    let accounts: Api<ServiceAccount> = Api::namespaced(lab.client.clone(), "team");
    let before = accounts.get("default").await.unwrap().metadata.uid;
    accounts.delete("default", &DeleteParams::default()).await.unwrap();
    becomes(accounts, "default", "another account", |account| account.metadata.uid != before).await;
    lab.stop().await;
}

// A-090, S-234
#[tokio::test(flavor = "multi_thread")]
async fn a_deleted_namespace_is_emptied_and_goes() {
    let lab = Lab::start(1).await;
    make_namespace(&lab, "team").await;
    let deployments: Api<Deployment> = Api::namespaced(lab.client.clone(), "team");
    let object = serde_json::from_value(deployment("web", 3, "web:1")).unwrap();
    deployments.create(&PostParams::default(), &object).await.unwrap();
    let pods: Api<Pod> = Api::namespaced(lab.client.clone(), "team");
    settles(pods.clone(), "three pods", |pods: &[Pod]| pods.len() == 3).await;
    namespaces(&lab).delete("team", &DeleteParams::default()).await.unwrap();
    settles(namespaces(&lab), "gone", |all: &[Namespace]| {
        !all.iter().any(|namespace| namespace.metadata.name.as_deref() == Some("team"))
    })
    .await;
    assert!(pods.list(&Default::default()).await.unwrap().items.is_empty());
    assert!(deployments.list(&Default::default()).await.unwrap().items.is_empty());
    lab.stop().await;
}

// P-086
#[tokio::test(flavor = "multi_thread")]
async fn orphaning_leaves_the_dependants_without_their_owner() {
    let lab = Lab::start(1).await;
    lab.create::<Deployment>(deployment("web", 2, "web:1")).await;
    settles(lab.api(), "two pods", |pods: &[Pod]| pods.len() == 2).await;
    lab.api::<Deployment>().delete("web", &DeleteParams::orphan()).await.unwrap();
    settles(lab.api(), "no deployment", <[Deployment]>::is_empty).await;
    let orphaned =
        |sets: &[ReplicaSet]| sets.len() == 1 && sets[0].metadata.owner_references.iter().flatten().next().is_none();
    settles(lab.api(), "an orphaned set", orphaned).await;
    assert_eq!(lab.api::<Pod>().list(&Default::default()).await.unwrap().items.len(), 2);
    // A Deployment of the same selector and template takes it in again.
    lab.create::<Deployment>(deployment("web", 2, "web:1")).await;
    settles(lab.api(), "an adopted set", |sets: &[ReplicaSet]| {
        sets.len() == 1 && sets[0].metadata.owner_references.iter().flatten().count() == 1
    })
    .await;
    lab.stop().await;
}

// P-086
#[tokio::test(flavor = "multi_thread")]
async fn foreground_keeps_the_owner_until_the_dependants_are_gone() {
    let lab = Lab::start(1).await;
    let owner: ConfigMap =
        lab.create(json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "owner"}})).await;
    let dependant = |name: &str, finalizers: serde_json::Value| {
        json!({
            "apiVersion": "v1", "kind": "ConfigMap",
            "metadata": {"name": name, "finalizers": finalizers, "ownerReferences": [{
                "apiVersion": "v1", "kind": "ConfigMap", "name": "owner", "uid": owner.metadata.uid,
                "blockOwnerDeletion": true,
            }]},
        })
    };
    lab.create::<ConfigMap>(dependant("quick", json!([]))).await;
    lab.create::<ConfigMap>(dependant("slow", json!(["test.minisvc.dev/hold"]))).await;
    let maps: Api<ConfigMap> = lab.api();
    maps.delete("owner", &DeleteParams::foreground()).await.unwrap();
    becomes(maps.clone(), "slow", "asked to go", |map: &ConfigMap| map.metadata.deletion_timestamp.is_some()).await;
    let waiting = settles(maps.clone(), "the quick one gone", |maps: &[ConfigMap]| {
        !maps.iter().any(|map| map.metadata.name.as_deref() == Some("quick"))
    })
    .await;
    let owner = waiting.iter().find(|map| map.metadata.name.as_deref() == Some("owner")).unwrap();
    assert!(owner.metadata.deletion_timestamp.is_some());
    let release = Patch::Merge(json!({"metadata": {"finalizers": []}}));
    maps.patch("slow", &PatchParams::default(), &release).await.unwrap();
    settles(maps, "all gone", |maps: &[ConfigMap]| {
        !maps.iter().any(|map| matches!(map.metadata.name.as_deref(), Some("owner" | "slow")))
    })
    .await;
    lab.stop().await;
}

// P-084, P-085
#[tokio::test(flavor = "multi_thread")]
async fn a_dependant_stays_while_one_owner_does_and_loses_the_dead_reference() {
    let lab = Lab::start(1).await;
    let named = |name: &str| json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}});
    let first: ConfigMap = lab.create(named("first")).await;
    let second: ConfigMap = lab.create(named("second")).await;
    let reference = |owner: &ConfigMap| json!({"apiVersion": "v1", "kind": "ConfigMap", "name": owner.metadata.name, "uid": owner.metadata.uid});
    let mut both = named("both");
    both["metadata"]["ownerReferences"] = json!([reference(&first), reference(&second)]);
    lab.create::<ConfigMap>(both).await;
    let maps: Api<ConfigMap> = lab.api();
    maps.delete("first", &DeleteParams::background()).await.unwrap();
    let kept = becomes(maps.clone(), "both", "one reference", |map: &ConfigMap| {
        map.metadata.owner_references.iter().flatten().count() == 1
    })
    .await;
    assert_eq!(kept.metadata.owner_references.unwrap()[0].name, "second");
    maps.delete("second", &DeleteParams::background()).await.unwrap();
    settles(maps, "gone", |maps: &[ConfigMap]| !maps.iter().any(|map| map.metadata.name.as_deref() == Some("both")))
        .await;
    lab.stop().await;
}

// S-235
#[tokio::test(flavor = "multi_thread")]
async fn a_service_goes_with_its_owner() {
    let lab = Lab::start(1).await;
    let owner: ConfigMap =
        lab.create(json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "operator"}})).await;
    let mut owned = common::service("web");
    owned["metadata"]["ownerReferences"] =
        json!([{"apiVersion": "v1", "kind": "ConfigMap", "name": "operator", "uid": owner.metadata.uid}]);
    lab.create::<Service>(owned).await;
    let has_slice = |slices: &[EndpointSlice]| !common::slices_of(slices, "web").is_empty();
    settles(lab.api(), "its slice", has_slice).await;
    lab.api::<ConfigMap>().delete("operator", &DeleteParams::background()).await.unwrap();
    let is_web = |service: &Service| service.metadata.name.as_deref() == Some("web");
    settles(lab.api(), "gone", |services: &[Service]| !services.iter().any(is_web)).await;
    settles(lab.api(), "its slice too", |slices: &[EndpointSlice]| !has_slice(slices)).await;
    lab.stop().await;
}

// P-118
#[tokio::test(flavor = "multi_thread")]
async fn a_silent_node_is_lost_and_its_pods_leave_their_services() {
    let options = Options { node_grace: Duration::from_secs(4), ..Options::default() };
    let lab = Lab::start_with(1, options).await;
    make_service(&lab, "web").await;
    lab.create::<Pod>(pod("a", json!({"app": "web"}))).await;
    ready_endpoints(&lab, "web", 1).await;
    let leases: Api<Lease> = Api::namespaced(lab.client.clone(), "kube-node-lease");
    let lease = json!({
        "apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": {"name": "n1"},
        "spec": {"holderIdentity": "n1", "renewTime": "2026-01-01T00:00:00.000000Z"},
    });
    leases.create(&PostParams::default(), &serde_json::from_value(lease).unwrap()).await.unwrap();
    let nodes: Api<Node> = Api::all(lab.client.clone());
    let is_lost = |node: &Node| {
        let ready = node.status.as_ref().and_then(|status| status.conditions.as_ref());
        let unknown = ready.into_iter().flatten().any(|known| known.type_ == "Ready" && known.status == "Unknown");
        let taints = node.spec.as_ref().and_then(|spec| spec.taints.as_ref());
        unknown
            && taints
                .into_iter()
                .flatten()
                .any(|taint| taint.key == "node.kubernetes.io/unreachable" && taint.effect == "NoExecute")
    };
    becomes(nodes.clone(), "n1", "lost", is_lost).await;
    let slices: Vec<EndpointSlice> = ready_endpoints(&lab, "web", 0).await;
    assert_eq!(common::endpoints_of(&slices, "web").len(), 1, "it is listed, not ready");
    // What it says of itself counts as a sign of life also before its first heartbeat.
    let is_back = |node: &Node| node.spec.as_ref().and_then(|spec| spec.taints.as_ref()).is_none_or(Vec::is_empty);
    let ready = json!({"type": "Ready", "status": "True", "lastHeartbeatTime": "2026-01-01T00:00:30Z"});
    let back = Patch::Strategic(json!({"status": {"conditions": [ready]}}));
    nodes.patch_status("n1", &PatchParams::default(), &back).await.unwrap();
    becomes(nodes.clone(), "n1", "no taint", is_back).await;
    becomes(nodes.clone(), "n1", "lost again", is_lost).await;
    let renew = Patch::Merge(json!({"spec": {"renewTime": "2026-01-01T00:01:00.000000Z"}}));
    leases.patch("n1", &PatchParams::default(), &renew).await.unwrap();
    set_ready(&lab.client, "n1", "True").await;
    becomes(nodes, "n1", "no taint", is_back).await;
    lab.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn pods_of_a_node_that_is_no_more_are_removed_and_say_why() {
    let options = Options { missing_node_grace: Duration::from_millis(500), ..Options::default() };
    let lab = Lab::start_with(1, options).await;
    let mut held = pod("held", json!({}));
    held["metadata"]["finalizers"] = json!(["test.minisvc.dev/hold"]);
    let mut stays = pod("stays", json!({}));
    stays["spec"]["nodeName"] = json!("n2");
    lab.create::<Pod>(held).await;
    lab.create::<Pod>(pod("plain", json!({}))).await;
    add_node(&lab.client, "n2", "b").await;
    lab.create::<Pod>(stays).await;
    settles(lab.api(), "running", |pods: &[Pod]| {
        let phase = |pod: &Pod| pod.status.as_ref().and_then(|status| status.phase.clone());
        pods.len() == 3 && pods.iter().all(|pod| phase(pod).as_deref() == Some("Running"))
    })
    .await;
    Api::<Node>::all(lab.client.clone()).delete("n1", &DeleteParams::default()).await.unwrap();
    let left = settles(lab.api(), "removed", |pods: &[Pod]| {
        let has = |name: &str| pods.iter().any(|pod| pod.metadata.name.as_deref() == Some(name));
        !has("plain") && pods.iter().any(|pod| pod.metadata.deletion_timestamp.is_some())
    })
    .await;
    let [held, stays] = &left[..] else { panic!("two pods: {left:?}") };
    assert!(stays.metadata.deletion_timestamp.is_none(), "its node is there");
    let status = held.status.as_ref().unwrap();
    let disrupted = status.conditions.iter().flatten().find(|condition| condition.type_ == "DisruptionTarget").unwrap();
    assert_eq!((disrupted.status.as_str(), disrupted.reason.as_deref()), ("True", Some("DeletionByPodGC")));
    assert_eq!(status.phase.as_deref(), Some("Failed"), "a Job may wait for it");
    lab.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_taint_drives_away_what_comes_later_too() {
    let lab = Lab::start(1).await;
    let taint = Patch::Strategic(json!({"spec": {"taints": [{"key": "example.com/repair", "effect": "NoExecute"}]}}));
    Api::<Node>::all(lab.client.clone()).patch("n1", &PatchParams::default(), &taint).await.unwrap();
    lab.create::<Pod>(pod("before", json!({}))).await;
    // Who names the node does not ask the scheduler.
    let mut there = pod("there", json!({}));
    there["spec"]["nodeName"] = json!("n1");
    let mut stays = there.clone();
    stays["metadata"]["name"] = json!("stays");
    stays["spec"]["tolerations"] = json!([{"operator": "Exists"}]);
    lab.create::<Pod>(stays).await;
    lab.create::<Pod>(there).await;
    settles(lab.api(), "driven away", |pods: &[Pod]| {
        let names: Vec<_> = pods.iter().filter_map(|pod| pod.metadata.name.as_deref()).collect();
        names == ["before", "stays"]
    })
    .await;
    lab.stop().await;
}
