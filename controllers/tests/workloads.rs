//! Deployments, ReplicaSets and the scheduler, against a real API server in memory.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking, also in its helpers")]

mod common;

use std::collections::BTreeSet;

use common::{Lab, Watched, add_node, becomes, deployment, pod, settles};
use k8s_openapi::api::apps::v1::{Deployment, ReplicaSet};
use k8s_openapi::api::core::v1::{Event, Node, Pod, ReplicationController};
use kube::Api;
use kube::api::{DeleteParams, Patch, PatchParams};
use serde_json::json;

fn is_active(pod: &Pod) -> bool {
    pod.metadata.deletion_timestamp.is_none()
}

fn is_ready(pod: &Pod) -> bool {
    let conditions = pod.status.as_ref().and_then(|status| status.conditions.as_ref());
    conditions.into_iter().flatten().any(|condition| condition.type_ == "Ready" && condition.status == "True")
}

fn image(pod: &Pod) -> &str {
    pod.spec.as_ref().unwrap().containers[0].image.as_deref().unwrap()
}

fn count(pods: &[Pod], test: impl Fn(&Pod) -> bool) -> usize {
    pods.iter().filter(|pod| is_active(pod) && test(pod)).count()
}

/// The rollout is over, as `kubectl rollout status` sees it.
fn is_complete(deployment: &Deployment) -> bool {
    let status = deployment.status.clone().unwrap_or_default();
    let wanted = deployment.spec.as_ref().unwrap().replicas;
    status.observed_generation >= deployment.metadata.generation
        && status.updated_replicas == wanted
        && status.replicas == wanted
        && status.available_replicas == wanted
}

fn condition(deployment: &Deployment, type_: &str) -> Option<String> {
    let conditions = deployment.status.as_ref()?.conditions.as_ref()?;
    conditions.iter().find(|condition| condition.type_ == type_)?.reason.clone()
}

// P-089, P-091, P-096, P-100, A-156
#[tokio::test(flavor = "multi_thread")]
async fn a_deployment_makes_its_pods_and_says_when_they_are_there() {
    let lab = Lab::start(2).await;
    lab.create::<Deployment>(deployment("web", 3, "web:1")).await;
    let done = becomes(lab.api(), "web", "complete", is_complete).await;
    assert_eq!(condition(&done, "Available").as_deref(), Some("MinimumReplicasAvailable"));
    let done = becomes(lab.api(), "web", "progressed", |deployment| {
        condition(deployment, "Progressing").as_deref() == Some("NewReplicaSetAvailable")
    })
    .await;
    assert_eq!(done.metadata.annotations.unwrap()["deployment.kubernetes.io/revision"], "1");
    let sets = lab.api::<ReplicaSet>().list(&Default::default()).await.unwrap().items;
    assert_eq!(sets.len(), 1);
    let set = &sets[0];
    let hash = &set.metadata.labels.as_ref().unwrap()["pod-template-hash"];
    assert_eq!(set.metadata.name, Some(format!("web-{hash}")));
    let pods = lab.api::<Pod>().list(&Default::default()).await.unwrap().items;
    assert_eq!(pods.len(), 3);
    for pod in &pods {
        let suffix = pod.metadata.name.as_deref().unwrap().strip_prefix(&format!("web-{hash}-")).unwrap();
        assert_eq!(suffix.len(), 5);
        assert_eq!(&pod.metadata.labels.as_ref().unwrap()["pod-template-hash"], hash);
    }
    lab.stop().await;
}

// P-089: a burst of events must not make too many pods, and lost ones are replaced
#[tokio::test(flavor = "multi_thread")]
async fn lost_pods_are_replaced_one_for_one() {
    let lab = Lab::start(2).await;
    lab.create::<Deployment>(deployment("web", 20, "web:1")).await;
    becomes(lab.api(), "web", "complete", is_complete).await;
    let watched = Watched::start(lab.api(), |pods: &[Pod]| {
        let active = count(pods, |_| true);
        (active > 20).then(|| format!("{active} pods"))
    });
    let pods: Api<Pod> = lab.api();
    let doomed: BTreeSet<String> = pods
        .list(&Default::default())
        .await
        .unwrap()
        .items
        .into_iter()
        .take(10)
        .map(|pod| pod.metadata.name.unwrap())
        .collect();
    for name in &doomed {
        pods.delete(name, &DeleteParams::default()).await.unwrap();
    }
    settles(lab.api(), "twenty other pods", |pods: &[Pod]| {
        let left = pods.iter().any(|pod| doomed.contains(pod.metadata.name.as_ref().unwrap()));
        !left && count(pods, is_ready) == 20
    })
    .await;
    watched.verdict();
    lab.stop().await;
}

// P-097, P-098, P-102
#[tokio::test(flavor = "multi_thread")]
async fn a_rolling_update_keeps_its_promises() {
    let lab = Lab::start(2).await;
    let mut object = deployment("web", 8, "web:1");
    object["spec"]["strategy"] =
        json!({"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 2, "maxUnavailable": 1}});
    lab.create::<Deployment>(object).await;
    becomes(lab.api(), "web", "complete", is_complete).await;
    settles(lab.api(), "eight ready pods", |pods: &[Pod]| count(pods, is_ready) == 8).await;
    let watched = Watched::start(lab.api(), |pods: &[Pod]| {
        let (active, ready) = (count(pods, |_| true), count(pods, is_ready));
        (active > 10 || ready < 7).then(|| format!("{active} pods, {ready} ready"))
    });
    let patch = json!({"spec": {"template": {"spec": {"containers": [{"name": "main", "image": "web:2"}]}}}});
    let patched =
        lab.api::<Deployment>().patch("web", &PatchParams::default(), &Patch::Strategic(patch)).await.unwrap();
    assert_eq!(patched.metadata.generation, Some(2));
    becomes(lab.api(), "web", "complete again", is_complete).await;
    let pods = settles(lab.api(), "only new pods", |pods: &[Pod]| pods.len() == 8).await;
    assert!(pods.iter().all(|pod| image(pod) == "web:2"));
    watched.verdict();
    let sets = lab.api::<ReplicaSet>().list(&Default::default()).await.unwrap().items;
    assert_eq!(sets.len(), 2, "the old one is kept for going back");
    lab.stop().await;
}

// P-098, P-099, A-157
#[tokio::test(flavor = "multi_thread")]
async fn a_broken_update_stops_and_going_back_mends_it() {
    let lab = Lab::start(2).await;
    lab.create::<Deployment>(deployment("web", 4, "web:1")).await;
    becomes(lab.api(), "web", "complete", is_complete).await;
    let change = |image: &str| {
        Patch::Strategic(json!({"spec": {"template": {"spec": {"containers": [{"name": "main", "image": image}]}}}}))
    };
    let api: Api<Deployment> = lab.api();
    api.patch("web", &PatchParams::default(), &change("broken:2")).await.unwrap();
    // 25 % of 4: one more, one fewer.
    settles(lab.api(), "a stuck rollout", |pods: &[Pod]| {
        count(pods, |pod| image(pod) == "broken:2") == 2
            && count(pods, |pod| image(pod) == "web:1" && is_ready(pod)) == 3
    })
    .await;
    api.patch("web", &PatchParams::default(), &change("web:1")).await.unwrap();
    let done = becomes(lab.api(), "web", "complete again", is_complete).await;
    assert_eq!(done.metadata.annotations.unwrap()["deployment.kubernetes.io/revision"], "3");
    let pods = settles(lab.api(), "four pods", |pods: &[Pod]| pods.len() == 4).await;
    assert!(pods.iter().all(|pod| image(pod) == "web:1"));
    assert_eq!(lab.api::<ReplicaSet>().list(&Default::default()).await.unwrap().items.len(), 2);
    lab.stop().await;
}

// P-097
#[tokio::test(flavor = "multi_thread")]
async fn recreate_never_runs_two_revisions() {
    let lab = Lab::start(1).await;
    let mut object = deployment("web", 3, "web:1");
    object["spec"]["strategy"] = json!({"type": "Recreate"});
    lab.create::<Deployment>(object).await;
    becomes(lab.api(), "web", "complete", is_complete).await;
    let watched = Watched::start(lab.api(), |pods: &[Pod]| {
        let images: BTreeSet<&str> = pods.iter().map(image).collect();
        (images.len() > 1).then(|| format!("{images:?} at once"))
    });
    let patch = json!({"spec": {"template": {"spec": {"containers": [{"name": "main", "image": "web:2"}]}}}});
    lab.api::<Deployment>().patch("web", &PatchParams::default(), &Patch::Strategic(patch)).await.unwrap();
    settles(lab.api(), "three new pods", |pods: &[Pod]| count(pods, |pod| image(pod) == "web:2" && is_ready(pod)) == 3)
        .await;
    watched.verdict();
    lab.stop().await;
}

// P-089, P-094
#[tokio::test(flavor = "multi_thread")]
async fn scaling_follows_and_says_so_in_events() {
    let lab = Lab::start(2).await;
    lab.create::<Deployment>(deployment("web", 2, "web:1")).await;
    becomes(lab.api(), "web", "complete", is_complete).await;
    let api: Api<Deployment> = lab.api();
    for replicas in [6, 1, 0, 3] {
        let patch = Patch::Merge(json!({"spec": {"replicas": replicas}}));
        api.patch_scale("web", &PatchParams::default(), &patch).await.unwrap();
        settles(lab.api(), "as many pods", |pods: &[Pod]| pods.len() == replicas && count(pods, is_ready) == replicas)
            .await;
    }
    let has = |events: &[Event], reason: &str, text: &str| {
        events.iter().any(|event| {
            event.reason.as_deref() == Some(reason) && event.message.as_deref().unwrap_or_default().contains(text)
        })
    };
    settles(lab.api(), "events", |events: &[Event]| {
        has(events, "ScalingReplicaSet", "from 2 to 6")
            && has(events, "ScalingReplicaSet", "Scaled down")
            && has(events, "SuccessfulCreate", "Created pod: web-")
            && has(events, "SuccessfulDelete", "Deleted pod: web-")
            && has(events, "Scheduled", "Successfully assigned default/web-")
    })
    .await;
    lab.stop().await;
}

// P-085, P-087
#[tokio::test(flavor = "multi_thread")]
async fn a_deleted_deployment_takes_sets_and_pods_with_it() {
    let lab = Lab::start(1).await;
    lab.create::<Deployment>(deployment("web", 3, "web:1")).await;
    becomes(lab.api(), "web", "complete", is_complete).await;
    lab.api::<Deployment>().delete("web", &DeleteParams::background()).await.unwrap();
    settles(lab.api(), "no set", <[ReplicaSet]>::is_empty).await;
    settles(lab.api(), "no pod", <[Pod]>::is_empty).await;
    lab.stop().await;
}

// P-082, P-088
#[tokio::test(flavor = "multi_thread")]
async fn a_relabelled_pod_is_let_go_and_replaced_and_taken_back() {
    let lab = Lab::start(1).await;
    lab.create::<Deployment>(deployment("web", 2, "web:1")).await;
    becomes(lab.api(), "web", "complete", is_complete).await;
    let pods: Api<Pod> = lab.api();
    let name = pods.list(&Default::default()).await.unwrap().items.remove(0).metadata.name.unwrap();
    let label = |app: &str| Patch::Merge(json!({"metadata": {"labels": {"app": app}}}));
    pods.patch(&name, &PatchParams::default(), &label("debug")).await.unwrap();
    let owners = |pod: &Pod| pod.metadata.owner_references.iter().flatten().count();
    becomes(lab.api(), &name, "an orphan", |pod: &Pod| owners(pod) == 0).await;
    settles(lab.api(), "a replacement", |pods: &[Pod]| count(pods, |pod| owners(pod) == 1) == 2).await;
    pods.patch(&name, &PatchParams::default(), &label("web")).await.unwrap();
    // One too many now: it is adopted, and one of the three goes.
    settles(lab.api(), "two owned pods", |pods: &[Pod]| pods.len() == 2 && count(pods, |pod| owners(pod) == 1) == 2)
        .await;
    lab.stop().await;
}

// P-041, P-042, P-119, A-133
#[tokio::test(flavor = "multi_thread")]
async fn a_pod_waits_with_a_reason_until_a_node_takes_it() {
    let lab = Lab::start(1).await;
    let nodes: Api<Node> = Api::all(lab.client.clone());
    let cordon = Patch::Merge(json!({"spec": {"unschedulable": true}}));
    nodes.patch("n1", &PatchParams::default(), &cordon).await.unwrap();
    lab.create::<Pod>(pod("a", json!({}))).await;
    let waiting = becomes(lab.api(), "a", "unschedulable", |pod: &Pod| {
        let conditions = pod.status.as_ref().and_then(|status| status.conditions.as_ref());
        conditions.into_iter().flatten().any(|known| {
            known.type_ == "PodScheduled" && known.status == "False" && known.reason.as_deref() == Some("Unschedulable")
        })
    })
    .await;
    assert!(waiting.spec.unwrap().node_name.is_none());
    settles(lab.api(), "an event", |events: &[Event]| {
        events.iter().any(|event| {
            event.reason.as_deref() == Some("FailedScheduling")
                && event.message.as_deref() == Some("0/1 nodes are available: 1 node(s) were unschedulable.")
        })
    })
    .await;
    add_node(&lab.client, "n2", "z2").await;
    let bound = becomes(lab.api(), "a", "bound", |pod: &Pod| pod.spec.as_ref().unwrap().node_name.is_some()).await;
    assert_eq!(bound.spec.unwrap().node_name.as_deref(), Some("n2"));
    let scheduled = becomes(lab.api(), "a", "scheduled", |pod: &Pod| {
        let conditions = pod.status.as_ref().and_then(|status| status.conditions.as_ref());
        conditions.into_iter().flatten().any(|known| known.type_ == "PodScheduled" && known.status == "True")
    });
    scheduled.await;
    lab.stop().await;
}

// P-041, P-042
#[tokio::test(flavor = "multi_thread")]
async fn a_pod_waits_for_room_and_gets_what_others_leave() {
    let lab = Lab::start(1).await;
    let has = |amounts: serde_json::Value| Patch::Merge(json!({"status": {"allocatable": amounts}}));
    let nodes: Api<Node> = Api::all(lab.client.clone());
    let little = has(json!({"cpu": "1", "memory": "1Gi", "pods": "10"}));
    nodes.patch_status("n1", &PatchParams::default(), &little).await.unwrap();
    let asking = |name: &str, resources: serde_json::Value| {
        let mut pod = pod(name, json!({}));
        pod["spec"]["containers"][0]["resources"] = resources;
        pod
    };
    let bound = |name: &'static str| {
        becomes(lab.api(), name, "bound", |pod: &Pod| pod.spec.as_ref().unwrap().node_name.is_some())
    };
    let waits = |name: &'static str, message: &'static str| {
        becomes(lab.api(), name, message, move |pod: &Pod| {
            let conditions = pod.status.as_ref().and_then(|status| status.conditions.as_ref());
            conditions.into_iter().flatten().any(|known| {
                known.type_ == "PodScheduled" && known.status == "False" && known.message.as_deref() == Some(message)
            })
        })
    };
    lab.create::<Pod>(asking("a", json!({"requests": {"cpu": "700m"}}))).await;
    bound("a").await;
    // What is limited is requested.
    lab.create::<Pod>(asking("b", json!({"limits": {"cpu": "0.6"}}))).await;
    waits("b", "0/1 nodes are available: 1 Insufficient cpu.").await;
    settles(lab.api(), "an event", |events: &[Event]| {
        let said = "0/1 nodes are available: 1 Insufficient cpu.";
        events
            .iter()
            .any(|event| event.involved_object.name.as_deref() == Some("b") && event.message.as_deref() == Some(said))
    })
    .await;
    lab.create::<Pod>(pod("free", json!({}))).await;
    bound("free").await;
    let pods: Api<Pod> = lab.api();
    pods.delete("a", &DeleteParams::default()).await.unwrap();
    bound("b").await;
    lab.create::<Pod>(asking(
        "c",
        json!({"requests": {"cpu": "1", "example.com/foo": "2"}, "limits": {"example.com/foo": "2"}}),
    ))
    .await;
    waits("c", "0/1 nodes are available: 1 Insufficient cpu, 1 Insufficient example.com/foo.").await;
    // Else the kubelet says that it runs when it has ended.
    becomes(lab.api(), "b", "running", is_ready).await;
    let ended = Patch::Merge(json!({"status": {"phase": "Succeeded"}}));
    pods.patch_status("b", &PatchParams::default(), &ended).await.unwrap();
    waits("c", "0/1 nodes are available: 1 Insufficient example.com/foo.").await;
    nodes.patch_status("n1", &PatchParams::default(), &has(json!({"example.com/foo": "2"}))).await.unwrap();
    bound("c").await;
    lab.stop().await;
}

// P-117
#[tokio::test(flavor = "multi_thread")]
async fn pods_are_spread_over_the_nodes() {
    let lab = Lab::start(3).await;
    lab.create::<Deployment>(deployment("web", 9, "web:1")).await;
    becomes(lab.api(), "web", "complete", is_complete).await;
    let pods = lab.api::<Pod>().list(&Default::default()).await.unwrap().items;
    for node in ["n1", "n2", "n3"] {
        let there = count(&pods, |pod| pod.spec.as_ref().unwrap().node_name.as_deref() == Some(node));
        assert_eq!(there, 3, "{node}");
    }
    lab.stop().await;
}

// P-095, P-089, P-094
#[tokio::test(flavor = "multi_thread")]
async fn a_replication_controller_keeps_its_pods() {
    let lab = Lab::start(1).await;
    let template = json!({
        "metadata": {"labels": {"app": "web"}}, "spec": {"containers": [{"name": "main", "image": "web:1"}]},
    });
    let spec = json!({"replicas": 2, "selector": {"app": "web"}, "template": template});
    let old = json!({"apiVersion": "v1", "kind": "ReplicationController", "metadata": {"name": "web"}, "spec": spec});
    lab.create::<ReplicationController>(old).await;
    settles(lab.api(), "two pods", |pods: &[Pod]| count(pods, is_ready) == 2).await;
    let sets: Api<ReplicationController> = lab.api();
    let three = Patch::Merge(json!({"spec": {"replicas": 3}}));
    sets.patch_scale("web", &PatchParams::default(), &three).await.unwrap();
    becomes(lab.api(), "web", "three pods", |set: &ReplicationController| {
        let status = set.status.clone().unwrap_or_default();
        status.replicas == 3
            && status.ready_replicas == Some(3)
            && status.observed_generation == set.metadata.generation
    })
    .await;
    let name = lab.api::<Pod>().list(&Default::default()).await.unwrap().items.remove(0).metadata.name.unwrap();
    lab.api::<Pod>().delete(&name, &DeleteParams::default()).await.unwrap();
    settles(lab.api(), "another pod", |pods: &[Pod]| {
        count(pods, is_ready) == 3 && !pods.iter().any(|pod| pod.metadata.name.as_deref() == Some(&name))
    })
    .await;
    lab.stop().await;
}
