//! Pods that wait for where other pods are, against a real API server in memory.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking, also in its helpers")]

mod common;

use common::{Lab, add_node, becomes, pod};
use k8s_openapi::api::core::v1::{Namespace, Node, Pod};
use kube::Api;
use kube::api::{DeleteParams, Patch, PatchParams, PostParams};
use serde_json::{Value, json};

/// A pod with more in its spec.
fn wanting(name: &str, labels: Value, wants: &Value) -> Value {
    let mut pod = pod(name, labels);
    pod["spec"].as_object_mut().unwrap().extend(wants.as_object().unwrap().clone());
    pod
}

/// What is selected by label `app`, as near as this label of nodes says.
fn selects(key: &str, app: &str) -> Value {
    json!({"topologyKey": key, "labelSelector": {"matchLabels": {"app": app}}})
}

fn required(kind: &str, term: &Value) -> Value {
    json!({"affinity": {kind: {"requiredDuringSchedulingIgnoredDuringExecution": [term]}}})
}

async fn waits(lab: &Lab, name: &str, message: &str) {
    becomes(lab.api(), name, message, |pod: &Pod| {
        let conditions = pod.status.as_ref().and_then(|status| status.conditions.as_ref());
        conditions.into_iter().flatten().any(|known| {
            (known.type_.as_str(), known.status.as_str()) == ("PodScheduled", "False")
                && known.reason.as_deref() == Some("Unschedulable")
                && known.message.as_deref() == Some(message)
        })
    })
    .await;
}

/// The node that a pod gets.
async fn bound(api: Api<Pod>, name: &str) -> String {
    let node = |pod: &Pod| pod.spec.as_ref().unwrap().node_name.clone();
    node(&becomes(api, name, "bound", |pod: &Pod| node(pod).is_some()).await).unwrap()
}

fn label(key: &str, value: &str) -> Patch<Value> {
    Patch::Merge(json!({"metadata": {"labels": {key: value}}}))
}

const HOST: &str = "kubernetes.io/hostname";

// P-041
#[tokio::test(flavor = "multi_thread")]
async fn a_pod_waits_for_another_to_be_near_or_for_a_node_apart() {
    let lab = Lab::start(2).await;
    lab.create::<Pod>(wanting("near", json!({}), &required("podAffinity", &selects(HOST, "web")))).await;
    waits(&lab, "near", "0/2 nodes are available: 2 node(s) didn't match pod affinity rules.").await;
    lab.create::<Pod>(wanting("a", json!({}), &json!({"nodeSelector": {HOST: "n2"}}))).await;
    assert_eq!(bound(lab.api(), "a").await, "n2");
    let pods: Api<Pod> = lab.api();
    pods.patch("a", &PatchParams::default(), &label("app", "web")).await.unwrap();
    assert_eq!(bound(lab.api(), "near").await, "n2", "the label came later than the pod");
    let apart = required("podAntiAffinity", &selects(HOST, "web"));
    lab.create::<Pod>(wanting("b", json!({"app": "web"}), &apart)).await;
    assert_eq!(bound(lab.api(), "b").await, "n1");
    lab.create::<Pod>(wanting("c", json!({"app": "web"}), &apart)).await;
    waits(&lab, "c", "0/2 nodes are available: 2 node(s) didn't match pod anti-affinity rules.").await;
    lab.create::<Pod>(wanting("d", json!({"app": "web"}), &json!({"nodeSelector": {HOST: "n1"}}))).await;
    let message = "0/2 nodes are available: 1 node(s) didn't match Pod's node affinity/selector, 1 node(s) didn't satisfy existing pods anti-affinity rules.";
    waits(&lab, "d", message).await;
    add_node(&lab.client, "n3", "z3").await;
    assert_eq!(bound(lab.api(), "c").await, "n3");
    pods.delete("b", &DeleteParams::default()).await.unwrap();
    assert_eq!(bound(lab.api(), "d").await, "n1");
    lab.stop().await;
}

// P-041
#[tokio::test(flavor = "multi_thread")]
async fn a_pod_waits_for_a_namespace_to_be_meant() {
    let lab = Lab::start(1).await;
    let namespaces: Api<Namespace> = Api::all(lab.client.clone());
    let namespace = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "elsewhere"}});
    namespaces.create(&PostParams::default(), &serde_json::from_value(namespace).unwrap()).await.unwrap();
    let there: Api<Pod> = Api::namespaced(lab.client.clone(), "elsewhere");
    let web = serde_json::from_value(pod("web", json!({"app": "web"}))).unwrap();
    there.create(&PostParams::default(), &web).await.unwrap();
    bound(there, "web").await;
    let mut term = selects(HOST, "web");
    term["namespaceSelector"] = json!({"matchLabels": {"team": "b"}});
    lab.create::<Pod>(wanting("near", json!({}), &required("podAffinity", &term))).await;
    waits(&lab, "near", "0/1 nodes are available: 1 node(s) didn't match pod affinity rules.").await;
    namespaces.patch("elsewhere", &PatchParams::default(), &label("team", "b")).await.unwrap();
    bound(lab.api(), "near").await;
    lab.stop().await;
}

// P-041
#[tokio::test(flavor = "multi_thread")]
async fn a_pod_waits_until_the_places_are_even_enough() {
    let lab = Lab::start(3).await;
    let nodes: Api<Node> = Api::all(lab.client.clone());
    let cordon = |is: bool| Patch::Merge(json!({"spec": {"unschedulable": is}}));
    nodes.patch("n3", &PatchParams::default(), &cordon(true)).await.unwrap();
    let mut constraint = selects("topology.kubernetes.io/zone", "web");
    constraint["maxSkew"] = 1.into();
    constraint["whenUnsatisfiable"] = "DoNotSchedule".into();
    let spread = json!({"topologySpreadConstraints": [constraint]});
    let mut taken = Vec::new();
    for name in ["a", "b"] {
        lab.create::<Pod>(wanting(name, json!({"app": "web"}), &spread)).await;
        taken.push(bound(lab.api(), name).await);
    }
    taken.sort();
    assert_eq!(taken, ["n1", "n2"]);
    // Nobody may go to the third zone, but it counts.
    let message = "0/3 nodes are available: 1 node(s) were unschedulable, 2 node(s) didn't match pod topology spread constraints.";
    for name in ["c", "d"] {
        lab.create::<Pod>(wanting(name, json!({"app": "web"}), &spread)).await;
        waits(&lab, name, message).await;
    }
    let pods: Api<Pod> = lab.api();
    pods.delete("c", &DeleteParams::default()).await.unwrap();
    let left = bound(lab.api(), "a").await;
    pods.delete("a", &DeleteParams::default()).await.unwrap();
    assert_eq!(bound(lab.api(), "d").await, left);
    lab.create::<Pod>(wanting("e", json!({"app": "web"}), &spread)).await;
    waits(&lab, "e", message).await;
    nodes.patch("n3", &PatchParams::default(), &cordon(false)).await.unwrap();
    assert_eq!(bound(lab.api(), "e").await, "n3");
    lab.stop().await;
}
