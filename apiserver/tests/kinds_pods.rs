//! Pods, ReplicaSets and Deployments as a client of the API sees them.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking, in its helpers too")]

mod common;

use common::{Answer, ask, server};
use http::StatusCode;
use minisvc_apiserver::ApiServer;
use serde_json::{Value, json};

const PODS: &str = "/api/v1/namespaces/default/pods";
const DEPLOYMENTS: &str = "/apis/apps/v1/namespaces/default/deployments";
const KUBECTL: &str = "application/json;as=Table;v=v1;g=meta.k8s.io,application/json";
const MERGE: &str = "application/merge-patch+json";

fn pod(name: &str, changes: Value) -> Value {
    let mut pod = json!({"metadata": {"name": name}, "spec": {"containers": [{"name": "c", "image": "minisvc/echo"}]}});
    for (key, value) in changes.as_object().unwrap() {
        pod["spec"][key] = value.clone();
    }
    pod
}

async fn post(server: &ApiServer, path: &str, object: &Value) -> Answer {
    ask("POST", path).json(object).of(server).await
}

async fn patch(server: &ApiServer, path: &str, change: Value) -> Answer {
    ask("PATCH", path).patch(MERGE, &change).of(server).await
}

fn fields(answer: &Answer) -> Vec<String> {
    assert_eq!(answer.code, StatusCode::UNPROCESSABLE_ENTITY, "{}", answer.text);
    let status = answer.json();
    let causes = status["details"]["causes"].as_array().unwrap();
    causes.iter().map(|cause| cause["field"].as_str().unwrap().to_owned()).collect()
}

// A-062, P-022, P-076
#[tokio::test]
async fn a_new_pod_is_pending_complete_and_has_a_token() {
    let server = server().await;
    let answer = post(&server, PODS, &pod("p", json!({}))).await;
    assert_eq!(answer.code, StatusCode::CREATED, "{}", answer.text);
    let pod = answer.json();
    assert_eq!(pod["status"], json!({"phase": "Pending", "qosClass": "BestEffort"}));
    let spec = &pod["spec"];
    let defaults = [
        ("restartPolicy", json!("Always")),
        ("dnsPolicy", json!("ClusterFirst")),
        ("terminationGracePeriodSeconds", json!(30)),
        ("schedulerName", json!("default-scheduler")),
        ("serviceAccountName", json!("default")),
        ("enableServiceLinks", json!(true)),
    ];
    for (field, expected) in defaults {
        assert_eq!(spec[field], expected, "{field}");
    }
    let mount = &spec["containers"][0]["volumeMounts"][0];
    assert_eq!(mount["mountPath"], "/var/run/secrets/kubernetes.io/serviceaccount");
    assert_eq!(spec["volumes"][0]["name"], mount["name"]);
}

// P-046, A-087
#[tokio::test]
async fn deletion_waits_for_pods_that_run() {
    let server = server().await;
    post(&server, PODS, &pod("idle", json!({}))).await;
    let gone = ask("DELETE", &format!("{PODS}/idle")).of(&server).await;
    assert_eq!((gone.code, &gone.json()["kind"]), (StatusCode::OK, &json!("Pod")));
    assert_eq!(ask("GET", &format!("{PODS}/idle")).of(&server).await.code, StatusCode::NOT_FOUND);

    post(&server, PODS, &pod("busy", json!({"nodeName": "n1", "terminationGracePeriodSeconds": 7}))).await;
    let going = ask("DELETE", &format!("{PODS}/busy")).of(&server).await.json();
    assert_eq!(going["metadata"]["deletionGracePeriodSeconds"], 7);
    assert!(going["metadata"]["deletionTimestamp"].is_string());
    let sooner = ask("DELETE", &format!("{PODS}/busy?gracePeriodSeconds=3")).of(&server).await.json();
    assert_eq!(sooner["metadata"]["deletionGracePeriodSeconds"], 3);
    let later = ask("DELETE", &format!("{PODS}/busy?gracePeriodSeconds=60")).of(&server).await.json();
    assert_eq!(later["metadata"]["deletionGracePeriodSeconds"], 3);
    ask("DELETE", &format!("{PODS}/busy?gracePeriodSeconds=0")).of(&server).await;
    assert_eq!(ask("GET", &format!("{PODS}/busy")).of(&server).await.code, StatusCode::NOT_FOUND);
}

// P-046
#[tokio::test]
async fn finished_pods_go_at_once() {
    let server = server().await;
    post(&server, PODS, &pod("done", json!({"nodeName": "n1"}))).await;
    let answer = patch(&server, &format!("{PODS}/done/status"), json!({"status": {"phase": "Succeeded"}})).await;
    assert_eq!(answer.json()["status"]["phase"], "Succeeded", "{}", answer.text);
    ask("DELETE", &format!("{PODS}/done")).of(&server).await;
    assert_eq!(ask("GET", &format!("{PODS}/done")).of(&server).await.code, StatusCode::NOT_FOUND);
}

// P-123, A-067
#[tokio::test]
async fn most_of_a_pod_is_immutable() {
    let server = server().await;
    post(&server, PODS, &pod("p", json!({}))).await;
    let path = format!("{PODS}/p");
    let strategic = json!({"spec": {"containers": [{"name": "c", "image": "minisvc/pause"}]}});
    let image = ask("PATCH", &path).patch("application/strategic-merge-patch+json", &strategic).of(&server).await;
    assert_eq!(image.code, StatusCode::OK, "{}", image.text);
    let labelled = patch(&server, &path, json!({"metadata": {"labels": {"a": "b"}}})).await;
    assert_eq!(labelled.code, StatusCode::OK, "{}", labelled.text);
    assert_eq!(fields(&patch(&server, &path, json!({"spec": {"restartPolicy": "Never"}})).await), ["spec"]);
    assert_eq!(
        fields(&patch(&server, &path, json!({"spec": {"activeDeadlineSeconds": 0}})).await)[0],
        "spec.activeDeadlineSeconds"
    );
}

// P-011
#[tokio::test]
async fn port_names_are_checked() {
    let server = server().await;
    let port = |name: &str| json!({"name": name, "containerPort": 80});
    let with = |ports: Value| pod("p", json!({"containers": [{"name": "c", "image": "i", "ports": ports}]}));
    assert_eq!(
        fields(&post(&server, PODS, &with(json!([port("a"), port("a")]))).await),
        ["spec.containers[0].ports[1].name"]
    );
    assert_eq!(fields(&post(&server, PODS, &with(json!([port("A")]))).await), ["spec.containers[0].ports[0].name"]);
    let good = post(&server, PODS, &with(json!([port("a")]))).await;
    assert_eq!(good.json()["spec"]["containers"][0]["ports"][0]["protocol"], "TCP");
}

// P-121, A-094
#[tokio::test]
async fn pods_are_found_by_node_and_phase() {
    let server = server().await;
    post(&server, PODS, &pod("a", json!({"nodeName": "n1"}))).await;
    post(&server, PODS, &pod("b", json!({"hostNetwork": true}))).await;
    for (selector, expected) in [
        ("spec.nodeName=n1", "a"),
        ("spec.host=n1", "a"),
        ("spec.hostNetwork=true", "b"),
        ("status.phase=Pending,metadata.name!=a", "b"),
        ("status.podIP=,spec.nodeName!=n1", "b"),
    ] {
        let list = ask("GET", &format!("{PODS}?fieldSelector={selector}")).of(&server).await.json();
        let names: Vec<&Value> =
            list["items"].as_array().unwrap().iter().map(|item| &item["metadata"]["name"]).collect();
        assert_eq!(names, [expected], "{selector}");
    }
    let unknown = ask("GET", &format!("{PODS}?fieldSelector=spec.dnsPolicy=x")).of(&server).await;
    assert_eq!(unknown.code, StatusCode::BAD_REQUEST);
}

// P-021, A-163, A-164
#[tokio::test]
async fn the_table_shows_what_a_pod_is_doing() {
    let server = server().await;
    post(&server, PODS, &pod("p", json!({"nodeName": "n1"}))).await;
    let status = json!({"status": {"phase": "Running", "podIP": "10.244.0.2", "podIPs": [{"ip": "10.244.0.2"}], "containerStatuses": [{
        "name": "c", "ready": false, "restartCount": 4, "image": "i", "imageID": "",
        "state": {"waiting": {"reason": "CrashLoopBackOff"}},
    }]}});
    let written = patch(&server, &format!("{PODS}/p/status"), status).await;
    assert_eq!(written.code, StatusCode::OK, "{}", written.text);
    let table = ask("GET", PODS).accept(KUBECTL).of(&server).await.json();
    let names: Vec<&Value> =
        table["columnDefinitions"].as_array().unwrap().iter().map(|column| &column["name"]).collect();
    assert_eq!(
        names,
        ["Name", "Ready", "Status", "Restarts", "Age", "IP", "Node", "Nominated Node", "Readiness Gates"]
    );
    let cells = table["rows"][0]["cells"].as_array().unwrap();
    assert_eq!(cells[..4], ["p", "0/1", "CrashLoopBackOff", "4"]);
    assert_eq!(cells[5..], ["10.244.0.2", "n1", "<none>", "<none>"]);
}

fn deployment(name: &str) -> Value {
    json!({"metadata": {"name": name}, "spec": {
        "selector": {"matchLabels": {"app": "web"}},
        "template": {"metadata": {"labels": {"app": "web"}}, "spec": {"containers": [{"name": "c", "image": "i"}]}},
    }})
}

// A-062, P-099, A-053
#[tokio::test]
async fn a_deployment_is_complete_and_counts_generations() {
    let server = server().await;
    let answer = post(&server, DEPLOYMENTS, &deployment("web")).await;
    assert_eq!(answer.code, StatusCode::CREATED, "{}", answer.text);
    let new = answer.json();
    assert_eq!((&new["spec"]["replicas"], &new["metadata"]["generation"]), (&json!(1), &json!(1)));
    assert_eq!(new["spec"]["strategy"]["rollingUpdate"], json!({"maxUnavailable": "25%", "maxSurge": "25%"}));
    assert_eq!(
        (&new["spec"]["revisionHistoryLimit"], &new["spec"]["progressDeadlineSeconds"]),
        (&json!(10), &json!(600))
    );
    let path = format!("{DEPLOYMENTS}/web");
    let again = ask("PUT", &path).json(&deployment("web")).of(&server).await.json();
    assert_eq!(again["metadata"]["resourceVersion"], new["metadata"]["resourceVersion"]);
    let scaled = patch(&server, &path, json!({"spec": {"replicas": 3}})).await.json();
    assert_eq!(scaled["metadata"]["generation"], 2);
}

// P-083, A-067
#[tokio::test]
async fn selectors_of_workloads_match_and_stay() {
    let server = server().await;
    let mut other = deployment("web");
    other["spec"]["template"]["metadata"]["labels"] = json!({"app": "db"});
    assert_eq!(fields(&post(&server, DEPLOYMENTS, &other).await), ["spec.template.metadata.labels"]);
    let mut empty = deployment("web");
    empty["spec"]["selector"] = json!({});
    assert_eq!(fields(&post(&server, DEPLOYMENTS, &empty).await), ["spec.selector"]);
    post(&server, DEPLOYMENTS, &deployment("web")).await;
    let mut moved = deployment("web");
    moved["spec"]["selector"]["matchLabels"]["tier"] = json!("x");
    moved["spec"]["template"]["metadata"]["labels"]["tier"] = json!("x");
    let answer = ask("PUT", &format!("{DEPLOYMENTS}/web")).json(&moved).of(&server).await;
    assert_eq!(fields(&answer), ["spec.selector"]);
    assert!(answer.json()["message"].as_str().unwrap().contains("field is immutable"), "{}", answer.text);
    assert_eq!(answer.json()["details"]["group"], "apps");
}

// A-131, P-094
#[tokio::test]
async fn workloads_have_a_scale() {
    let server = server().await;
    for plural in ["deployments", "replicasets"] {
        let path = format!("/apis/apps/v1/namespaces/default/{plural}");
        post(&server, &path, &deployment("web")).await;
        let scale = patch(&server, &format!("{path}/web/scale"), json!({"spec": {"replicas": 4}})).await;
        assert_eq!(scale.json()["spec"]["replicas"], 4, "{}", scale.text);
        assert_eq!(scale.json()["status"]["selector"], "app=web");
        let object = ask("GET", &format!("{path}/web")).of(&server).await.json();
        assert_eq!(object["spec"]["replicas"], 4);
    }
}
