//! Commands about nodes and the cluster: cordon, drain, taint, top, proxy, cluster-info and paths as they are.

use serde_json::{Value, json};

use crate::common::{Beside, eventually};
use crate::kubectl::Kubectl;

/// Two pods that answer HTTP, and a Service in front of them.
fn web(kubectl: &Kubectl<'_>, name: &str) {
    let labels = json!({"app": name});
    let container = json!({"name": "web", "image": "minisvc/echo", "env": [{"name": "PORT", "value": "8080"}]});
    let template = json!({"metadata": {"labels": labels}, "spec": {"containers": [container]}});
    let deployment = json!({
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": name},
        "spec": {"replicas": 2, "selector": {"matchLabels": labels}, "template": template},
    });
    kubectl.ok_with("create -f -", &deployment.to_string());
    kubectl.ok(&format!("expose deployment {name} --port=80 --target-port=8080"));
    kubectl.ok(&format!("rollout status deployment/{name} --timeout=60s"));
}

/// What is passed through: to the API, and by the API to pods.
pub(crate) fn proxies(kubectl: &Kubectl<'_>) {
    web(kubectl, "web");
    let service = format!("/api/v1/namespaces/{}/services/web:80/proxy", kubectl.namespace());
    let answer = eventually("an endpoint", || {
        let output = kubectl.line(&format!("get --raw '{service}/some/path?x=y'"), "");
        output.status.success().then(|| String::from_utf8_lossy(&output.stdout).into_owned())
    });
    assert!(answer.contains("/some/path?x=y"), "{answer}");
    let pod = kubectl.ok("get pod -l app=web -o jsonpath='{.items[0].metadata.name}'");
    let raw = format!("/api/v1/namespaces/{}/pods", kubectl.namespace());
    assert!(kubectl.ok(&format!("get --raw {raw}/{pod}:8080/proxy/here")).contains("/here"));
    let maps = format!("/api/v1/namespaces/{}/configmaps", kubectl.namespace());
    let map = json!({"kind": "ConfigMap", "apiVersion": "v1", "metadata": {"name": "raw"}}).to_string();
    assert!(kubectl.ok_with(&format!("create --raw {maps} -f -"), &map).contains("\"raw\""));
    assert!(kubectl.ok_with(&format!("replace --raw {maps}/raw -f -"), &map).contains("\"raw\""));
    assert!(kubectl.ok(&format!("delete --raw {maps}/raw")).contains("Success"));

    let mut proxy = Beside::start(kubectl.command(&["proxy", "--port=0"]));
    let line = proxy.line("its address", |line| line.starts_with("Starting to serve on "));
    let address = line.trim_start_matches("Starting to serve on ").to_owned();
    let page = fetch(&address, &format!("{service}/through"));
    assert!(page.contains("200 OK") && page.contains("/through"), "{page}");
    let version = fetch(&address, "/version");
    assert!(version.contains("\"gitVersion\""), "{version}");
    let bare = fetch(&address, &service);
    assert!(bare.contains("301") && bare.contains(&format!("{service}/\r\n")), "{bare}");
}

/// A GET without any client in between.
fn fetch(address: &str, path: &str) -> String {
    use std::io::{Read as _, Write as _};
    let mut stream = std::net::TcpStream::connect(address).expect("connected");
    stream.set_read_timeout(Some(crate::common::PATIENCE)).expect("set");
    write!(stream, "GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n").expect("asked");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("answered");
    answer
}

/// What the cluster is, and what it has not.
pub(crate) fn cluster(kubectl: &Kubectl<'_>) {
    let info = kubectl.inside("kube-system").ok("cluster-info");
    assert!(info.contains("is running at https://127.0.0.1:"), "{info}");
    assert!(info.contains("/api/v1/namespaces/kube-system/services/kube-dns:dns/proxy"), "{info}");
    kubectl.ok("run one --image=minisvc/pause");
    kubectl.ok("wait pod/one --for=condition=Ready --timeout=60s");
    let dump = kubectl.ok(&format!("cluster-info dump --namespaces={}", kubectl.namespace()));
    assert!(dump.contains("\"kind\": \"NodeList\"") && dump.contains("==== START logs for container"), "{dump:.2000}");
    for line in ["top nodes", "top pods"] {
        let refused = kubectl.fails(line, "");
        assert!(refused.contains("Metrics API not available"), "{refused}");
    }
}

/// A node that its pods are moved from: none of others', which run at the same time.
pub(crate) fn drains(kubectl: &Kubectl<'_>) {
    web(kubectl, "moved");
    let nodes = kubectl.json("get nodes");
    let nodes: Vec<&str> =
        nodes["items"].as_array().into_iter().flatten().filter_map(|n| n["metadata"]["name"].as_str()).collect();
    let [first, ..] = nodes[..] else { panic!("no nodes") };
    assert_eq!(kubectl.ok(&format!("cordon {first}")).trim(), format!("node/{first} cordoned"));
    assert!(kubectl.ok(&format!("get node {first}")).contains("Ready,SchedulingDisabled"));
    kubectl.ok(&format!("uncordon {first}"));
    assert!(!kubectl.ok(&format!("get node {first}")).contains("SchedulingDisabled"));
    assert!(kubectl.ok(&format!("taint node {first} x=y:NoSchedule")).contains("tainted"));
    assert_eq!(kubectl.json(&format!("get node {first}"))["spec"]["taints"][0]["key"], "x");
    assert!(kubectl.ok(&format!("taint node {first} x-")).contains("untainted"));
    let told = kubectl.ok(&format!(
        "drain {first} --pod-selector=app=moved --ignore-daemonsets --delete-emptydir-data --force --timeout=90s"
    ));
    assert!(told.contains(&format!("node/{first} drained")), "{told}");
    kubectl.ok("rollout status deployment/moved --timeout=60s");
    let pods = kubectl.json("get pods -l app=moved");
    let places: Vec<&Value> = pods["items"]
        .as_array()
        .into_iter()
        .flatten()
        .filter(|pod| pod["metadata"]["deletionTimestamp"].is_null())
        .map(|pod| &pod["spec"]["nodeName"])
        .collect();
    assert!(!places.is_empty() && places.iter().all(|place| **place != first), "{places:?}");
    kubectl.ok(&format!("uncordon {first}"));
}

/// What pods request: no more than there is, of what a node is said to have, and it is shown.
pub(crate) fn requests(kubectl: &Kubectl<'_>) {
    let amounts = json!({"cpu": "100m", "example.com/token": "1"});
    let container = json!({"name": "main", "image": "minisvc/pause", "resources": {"limits": amounts}});
    let pod =
        json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "asks"}, "spec": {"containers": [container]}});
    kubectl.ok_with("create -f -", &pod.to_string());
    let told = eventually("why it waits", || {
        Some(kubectl.ok("describe pod asks")).filter(|told| told.contains("FailedScheduling"))
    });
    assert!(told.contains("Insufficient example.com/token"), "{told}");
    for node in ["node-1", "node-2"] {
        let more = json!({"status": {"capacity": {"example.com/token": "1"}}});
        kubectl.ok(&format!("patch node {node} --subresource=status --type=merge -p '{more}'"));
    }
    kubectl.ok("wait pod/asks --for=condition=Ready --timeout=90s");
    let node = kubectl.ok("get pod asks -o jsonpath='{.spec.nodeName}'");
    let told = kubectl.ok(&format!("describe node {node}"));
    let row = |first: &str| {
        let rows = told.lines().map(|line| line.split_whitespace().collect::<Vec<_>>());
        rows.filter(|words| words.first() == Some(&first)).map(|words| words[1..].join(" ")).collect::<Vec<_>>()
    };
    assert!(row(kubectl.namespace())[0].starts_with("asks 100m ("), "{told}");
    assert!(told.contains("Allocated resources:") && row("example.com/token") == ["1 1"], "{told}");
    assert_eq!((row("example.com/token:").len(), row("ephemeral-storage:").len()), (2, 2), "{told}");
}
