//! What kubectl does with workloads: rollout, scale and drain, against a server with the controllers at work.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking, also in its helpers")]

mod common;

use std::process::Stdio;

use common::{DEADLINE, Lab, deployment};
use k8s_openapi::api::apps::v1::{DaemonSet, Deployment, StatefulSet};
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::net::TcpListener;
use tokio::process::Command;
use tokio_util::sync::CancellationToken;

/// A lab with a socket, and kubectl set up for it.
struct Kubectl {
    lab: Lab,
    directory: TempDir,
    shutdown: CancellationToken,
}

impl Drop for Kubectl {
    fn drop(&mut self) {
        self.shutdown.cancel();
    }
}

/// None where there is no kubectl; in CI that is a failure.
#[allow(clippy::print_stderr, reason = "whoever runs the tests should know what was left out")]
async fn kubectl(nodes: usize) -> Option<Kubectl> {
    if Command::new("kubectl").args(["version", "--client"]).output().await.is_err() {
        assert!(std::env::var_os("CI").is_none(), "kubectl is missing");
        eprintln!("skipped, because there is no kubectl");
        return None;
    }
    let lab = Lab::start(nodes).await;
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("https://{}", listener.local_addr().unwrap());
    let directory = tempfile::tempdir().unwrap();
    std::fs::write(directory.path().join("config"), lab.server.ca().kubeconfig(&url, "lab")).unwrap();
    let shutdown = CancellationToken::new();
    tokio::spawn({
        let (server, shutdown) = (lab.server.clone(), shutdown.clone());
        async move { server.serve_tls(listener, shutdown).await.unwrap() }
    });
    Some(Kubectl { lab, directory, shutdown })
}

impl Kubectl {
    /// What a command prints that must succeed.
    async fn ok(&self, line: &str) -> String {
        let (is_fine, text, errors) = self.run(line).await;
        assert!(is_fine, "kubectl {line}: {errors}");
        text
    }

    async fn run(&self, line: &str) -> (bool, String, String) {
        let child = Command::new("kubectl")
            .args(line.split_whitespace())
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap_or_default())
            .env("HOME", self.directory.path())
            .env("KUBECONFIG", self.directory.path().join("config"))
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        let output = tokio::time::timeout(2 * DEADLINE, child.wait_with_output()).await;
        let output = output.unwrap_or_else(|_| panic!("kubectl {line} does not end")).unwrap();
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        (output.status.success(), text(&output.stdout), text(&output.stderr))
    }

    async fn json(&self, line: &str) -> Value {
        serde_json::from_str(&self.ok(&format!("{line} -o json")).await).unwrap()
    }

    /// Images of the pods labelled `app=web` that are not on their way out, sorted.
    async fn images(&self) -> Vec<String> {
        let pods = self.json("get pods -l app=web").await;
        let pods = pods["items"].as_array().unwrap().clone();
        let staying = pods.iter().filter(|pod| pod["metadata"].get("deletionTimestamp").is_none());
        let mut images: Vec<String> =
            staying.map(|pod| pod["spec"]["containers"][0]["image"].as_str().unwrap().to_owned()).collect();
        images.sort();
        images
    }

    /// Rolls forward and back and through history, as is the same for all three kinds.
    async fn rolls(&self, what: &str, replicas: usize) {
        let all = |image: &str| vec![image.to_owned(); replicas];
        self.ok(&format!("rollout status {what} --timeout=60s")).await;
        assert_eq!(self.images().await, all("web:1"), "{what}");
        self.ok(&format!("set image {what} main=web:2")).await;
        let told = self.ok(&format!("rollout status {what} --timeout=60s")).await;
        assert!(told.contains("success") || told.contains("complete"), "{what}: {told}");
        assert_eq!(self.images().await, all("web:2"), "{what}");
        let history = self.ok(&format!("rollout history {what}")).await;
        let revisions: Vec<&str> = history.lines().filter_map(|line| line.split_whitespace().next()).collect();
        assert!(revisions.ends_with(&["1", "2"]), "{what}: {history}");
        let first = self.ok(&format!("rollout history {what} --revision=1")).await;
        assert!(first.contains("web:1"), "{what}: {first}");

        self.ok(&format!("rollout undo {what}")).await;
        self.ok(&format!("rollout status {what} --timeout=60s")).await;
        assert_eq!(self.images().await, all("web:1"), "{what}");
        self.ok(&format!("rollout undo {what} --to-revision=2")).await;
        self.ok(&format!("rollout status {what} --timeout=60s")).await;
        assert_eq!(self.images().await, all("web:2"), "{what}");

        let before = self.pod_uids().await;
        self.ok(&format!("rollout restart {what}")).await;
        self.ok(&format!("rollout status {what} --timeout=60s")).await;
        let after = self.pod_uids().await;
        assert!(before.iter().all(|uid| !after.contains(uid)), "{what}: every pod is another one");
        assert_eq!(self.images().await, all("web:2"), "{what}");
    }

    async fn pod_uids(&self) -> Vec<String> {
        let pods = self.json("get pods -l app=web").await;
        let pods = pods["items"].as_array().unwrap().clone();
        let staying = pods.iter().filter(|pod| pod["metadata"].get("deletionTimestamp").is_none());
        staying.map(|pod| pod["metadata"]["uid"].as_str().unwrap().to_owned()).collect()
    }
}

fn workload(kind: &str, more: Value) -> Value {
    let mut workload = deployment("web", 1, "web:1");
    workload["kind"] = json!(kind);
    workload["spec"].as_object_mut().unwrap().remove("replicas");
    for (key, value) in more.as_object().unwrap() {
        workload["spec"][key] = value.clone();
    }
    workload
}

// P-099, P-100, A-156, A-158
#[tokio::test(flavor = "multi_thread")]
async fn a_deployment_rolls() {
    let Some(kubectl) = kubectl(1).await else { return };
    kubectl.lab.create::<Deployment>(deployment("web", 3, "web:1")).await;
    kubectl.rolls("deployment/web", 3).await;
    // Paused, it takes changes and does nothing about them.
    kubectl.ok("rollout pause deployment/web").await;
    kubectl.ok("set image deployment/web main=web:3").await;
    kubectl.ok("scale deployment/web --replicas=4").await;
    kubectl.ok("wait deployment/web --for=jsonpath={.status.availableReplicas}=4 --timeout=60s").await;
    assert_eq!(kubectl.images().await, vec!["web:2".to_owned(); 4]);
    let (is_fine, _, errors) = kubectl.run("rollout undo deployment/web").await;
    assert!(!is_fine && errors.contains("paused"), "{errors}");
    kubectl.ok("rollout resume deployment/web").await;
    kubectl.ok("rollout status deployment/web --timeout=60s").await;
    assert_eq!(kubectl.images().await, vec!["web:3".to_owned(); 4]);
    // One that cannot succeed says so.
    kubectl.ok("patch deployment/web --patch {\"spec\":{\"progressDeadlineSeconds\":1}}").await;
    kubectl.ok("set image deployment/web main=broken:4").await;
    let (is_fine, _, errors) = kubectl.run("rollout status deployment/web --timeout=60s").await;
    assert!(!is_fine && errors.contains("exceeded its progress deadline"), "{errors}");
    kubectl.ok("rollout undo deployment/web").await;
    kubectl.ok("rollout status deployment/web --timeout=60s").await;
}

// P-107, A-156
#[tokio::test(flavor = "multi_thread")]
async fn a_stateful_set_rolls() {
    let Some(kubectl) = kubectl(1).await else { return };
    kubectl.lab.create::<StatefulSet>(workload("StatefulSet", json!({"replicas": 2, "serviceName": "web"}))).await;
    kubectl.rolls("statefulset/web", 2).await;
    kubectl.ok("scale statefulset/web --replicas=3").await;
    kubectl.ok("rollout status statefulset/web --timeout=60s").await;
    assert_eq!(kubectl.ok("get pods -l app=web -o name").await, "pod/web-0\npod/web-1\npod/web-2\n");
}

// P-112, A-156
#[tokio::test(flavor = "multi_thread")]
async fn a_daemon_set_rolls() {
    let Some(kubectl) = kubectl(2).await else { return };
    kubectl.lab.create::<DaemonSet>(workload("DaemonSet", json!({}))).await;
    common::settles(kubectl.lab.api(), "both nodes", |pods: &[Pod]| pods.len() == 2).await;
    kubectl.rolls("daemonset/web", 2).await;
}

// P-119, A-132
#[tokio::test(flavor = "multi_thread")]
async fn draining_a_node_respects_budgets_and_leaves_daemons() {
    let Some(kubectl) = kubectl(2).await else { return };
    kubectl.lab.create::<Deployment>(deployment("web", 4, "web:1")).await;
    let mut agent = workload("DaemonSet", json!({}));
    agent["metadata"]["name"] = json!("agent");
    agent["spec"]["selector"]["matchLabels"]["app"] = json!("agent");
    agent["spec"]["template"]["metadata"]["labels"]["app"] = json!("agent");
    kubectl.lab.create::<DaemonSet>(agent).await;
    let budget = json!({
        "apiVersion": "policy/v1", "kind": "PodDisruptionBudget", "metadata": {"name": "web"},
        "spec": {"maxUnavailable": 1, "selector": {"matchLabels": {"app": "web"}}},
    });
    kubectl.lab.create::<PodDisruptionBudget>(budget).await;
    kubectl.ok("rollout status deployment/web --timeout=60s").await;
    kubectl.ok("rollout status daemonset/agent --timeout=60s").await;
    kubectl.ok("wait pdb/web --for=jsonpath={.status.disruptionsAllowed}=1 --timeout=60s").await;
    let enough = common::Watched::start(kubectl.lab.api(), |pods: &[Pod]| {
        let ready = pods.iter().filter(|pod| serves(pod)).count();
        (ready < 3).then(|| format!("{ready} ready"))
    });
    let (is_fine, _, errors) = kubectl.run("drain n1 --timeout=90s").await;
    assert!(!is_fine && errors.contains("DaemonSet"), "{errors}");
    kubectl.ok("drain n1 --ignore-daemonsets --timeout=90s").await;
    let pods = kubectl.json("get pods").await;
    for pod in pods["items"].as_array().unwrap() {
        let on = &pod["spec"]["nodeName"];
        assert!(on != "n1" || pod["metadata"]["labels"]["app"] == "agent", "{pod}");
    }
    kubectl.ok("rollout status deployment/web --timeout=60s").await;
    enough.verdict();
    kubectl.ok("uncordon n1").await;
}

/// A ready pod of the Deployment.
fn serves(pod: &Pod) -> bool {
    let conditions = pod.status.as_ref().and_then(|status| status.conditions.as_ref());
    pod.metadata.deletion_timestamp.is_none()
        && pod.metadata.labels.as_ref().is_some_and(|labels| labels.get("app").is_some_and(|app| app == "web"))
        && conditions.into_iter().flatten().any(|known| known.type_ == "Ready" && known.status == "True")
}
