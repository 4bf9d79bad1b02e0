//! Nodes that lose their power, and come back.

use std::path::PathBuf;

use k8s_openapi::api::coordination::v1::Lease;
use kube::Api;
use kube::api::{Patch, PatchParams};
use serde_json::json;

use crate::lab::{Lab, NODE, condition, restarts, shared_directory, shell, status};
use crate::tests;

tests![
    test_a_node_without_power_says_nothing_and_runs_its_pods_again_when_it_is_back,
    test_a_node_has_the_last_word_about_its_pods,
];

async fn heartbeat(lab: &Lab) -> Option<String> {
    let leases = Api::<Lease>::namespaced(lab.client.clone(), "kube-node-lease");
    let lease = leases.get(NODE).await.expect("a lease");
    lease.spec.and_then(|spec| spec.renew_time).map(|time| time.0.to_string())
}

/// Whether the process that wrote its number there is alive.
fn lives(file: &PathBuf) -> bool {
    let inside = std::fs::read_to_string(file).expect("written");
    let marker = format!("sleep 77{}", inside.trim());
    let processes = std::fs::read_dir("/proc").expect("readable").flatten();
    processes.map(|entry| entry.path().join("cmdline")).any(|file| {
        std::fs::read(file).is_ok_and(|line| String::from_utf8_lossy(&line).replace('\0', " ").contains(&marker))
    })
}

async fn test_a_node_without_power_says_nothing_and_runs_its_pods_again_when_it_is_back() {
    let mut lab = Lab::start().await;
    let (volume, path) = shared_directory(&lab, "out");
    let number = std::process::id();
    let mut container = shell(
        "app",
        &format!("echo {number} > /out/number; trap 'echo asked >> /out/ended' TERM; exec sleep 77{number}"),
    );
    container["volumeMounts"] = json!([{"name": "out", "mountPath": "/out"}]);
    lab.pod("lost", json!({"containers": [container], "volumes": [volume]})).await;
    lab.pod("host", json!({"hostNetwork": true, "containers": [shell("app", "exec sleep 1000")]})).await;
    lab.ready("lost").await;
    lab.ready("host").await;
    assert!(lives(&path.join("number")));
    let before = lab.pods().get("lost").await.expect("a pod");

    lab.podd.stop_node(NODE).await.expect("it ran");
    assert!(!lives(&path.join("number")), "its processes are dead when this returns");
    assert!(!path.join("ended").exists(), "and were not asked");
    assert_eq!(lab.plug.attached(), ["node node-2"]);
    let beat = heartbeat(&lab).await;
    assert!(lab.podd.pod_namespace("default", "lost").is_none());
    assert!(lab.podd.stop_node(NODE).await.expect_err("once").to_string().contains("is stopped already"));
    assert!(lab.podd.stop_node("node-9").await.expect_err("none").to_string().contains("no node \"node-9\""));
    assert_eq!(lab.podd.nodes().map(|(_, runs)| runs).collect::<Vec<_>>(), [false, true]);
    let after = lab.pods().get("lost").await.expect("a pod");
    assert_eq!(after.metadata.resource_version, before.metadata.resource_version, "nobody is told");
    assert_eq!(heartbeat(&lab).await, beat);

    lab.podd.start_node(NODE).await.expect("it was stopped");
    assert!(lab.podd.start_node(NODE).await.expect_err("once").to_string().contains("runs already"));
    for name in ["lost", "host"] {
        let again = |pod: Option<&k8s_openapi::api::core::v1::Pod>| {
            pod.is_some_and(|pod| restarts(pod) == 1 && status(pod).phase.as_deref() == Some("Running"))
        };
        lab.until(name, "running again", again).await;
        lab.ready(name).await;
    }
    assert!(lives(&path.join("number")));
    lab.stop().await;
}

async fn test_a_node_has_the_last_word_about_its_pods() {
    let lab = Lab::start().await;
    lab.pod("web", json!({"containers": [{"name": "echo", "image": "minisvc/echo:latest"}]})).await;
    lab.ready("web").await;
    // As the node controller does when it has not yet heard that the node is back.
    let lost = json!({"status": {"conditions": [
        {"type": "Ready", "status": "False", "reason": "NodeNotReady"},
        {"type": "example.com/other", "status": "False", "reason": "Other"},
    ]}});
    let written =
        lab.pods().patch_status("web", &PatchParams::default(), &Patch::Strategic(lost)).await.expect("taken");
    assert_eq!(condition(&written, "Ready"), "False");
    let pod = lab.ready("web").await;
    assert_eq!(condition(&pod, "example.com/other"), "False", "what others say is left alone");
    lab.stop().await;
}
