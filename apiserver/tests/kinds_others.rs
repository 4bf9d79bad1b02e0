//! The other kinds as a client of the API sees them.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking, in its helpers too")]

mod common;

use common::{Answer, ask, server};
use http::StatusCode;
use minisvc_apiserver::ApiServer;
use serde_json::{Value, json};

const DEFAULT: &str = "/api/v1/namespaces/default";
const KUBECTL: &str = "application/json;as=Table;v=v1;g=meta.k8s.io,application/json";
const MERGE: &str = "application/merge-patch+json";

async fn post(server: &ApiServer, path: &str, object: Value) -> Answer {
    ask("POST", path).json(&object).of(server).await
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

//
#[tokio::test]
async fn every_kind_has_its_columns() {
    let server = server().await;
    let rows = [
        ("/api/v1/pods", "Name Ready Status Restarts Age [IP] [Node] [Nominated Node] [Readiness Gates]"),
        ("/api/v1/services", "Name Type Cluster-IP External-IP Port(s) Age [Selector]"),
        ("/api/v1/endpoints", "Name Endpoints Age"),
        ("/apis/discovery.k8s.io/v1/endpointslices", "Name AddressType Ports Endpoints Age"),
        (
            "/api/v1/nodes",
            "Name Status Roles Age Version [Internal-IP] [External-IP] [OS-Image] [Kernel-Version] [Container-Runtime]",
        ),
        ("/api/v1/namespaces", "Name Status Age"),
        ("/api/v1/events", "Last Seen Type Reason Object [Subobject] [Source] Message [First Seen] [Count] [Name]"),
        (
            "/apis/events.k8s.io/v1/events",
            "Last Seen Type Reason Object [Subobject] [Source] Message [First Seen] [Count] [Name]",
        ),
        ("/api/v1/configmaps", "Name Data Age"),
        ("/api/v1/secrets", "Name Type Data Age"),
        ("/api/v1/serviceaccounts", "Name Secrets Age"),
        ("/apis/apps/v1/deployments", "Name Ready Up-to-date Available Age [Containers] [Images] [Selector]"),
        ("/apis/apps/v1/replicasets", "Name Desired Current Ready Age [Containers] [Images] [Selector]"),
        ("/apis/coordination.k8s.io/v1/leases", "Name Holder Age"),
    ];
    for (path, expected) in rows {
        let answer = ask("GET", path).accept(KUBECTL).of(&server).await;
        assert_eq!(answer.code, StatusCode::OK, "{path}: {}", answer.text);
        let table = answer.json();
        let columns = table["columnDefinitions"].as_array().unwrap();
        let name = |column: &Value| match column["priority"].as_i64() {
            Some(0) => column["name"].as_str().unwrap().to_owned(),
            _ => format!("[{}]", column["name"].as_str().unwrap()),
        };
        assert_eq!(columns.iter().map(name).collect::<Vec<_>>().join(" "), expected, "{path}");
    }
}

//
#[tokio::test]
async fn both_event_groups_show_one_store() {
    let server = server().await;
    let old = format!("{DEFAULT}/events");
    let new = "/apis/events.k8s.io/v1/namespaces/default/events";
    let written = post(&server, new, json!({
        "metadata": {"name": "a"}, "regarding": {"kind": "Pod", "namespace": "default", "name": "p"}, "note": "hello",
        "reason": "Started", "type": "Normal", "action": "Start", "reportingController": "minisvc.dev/podd",
        "reportingInstance": "n1", "eventTime": "2026-01-01T00:00:00.000000Z",
    }))
    .await;
    assert_eq!(written.code, StatusCode::CREATED, "{}", written.text);
    assert_eq!(written.json()["apiVersion"], "events.k8s.io/v1");
    let read = ask("GET", &format!("{old}/a")).of(&server).await.json();
    assert_eq!((&read["apiVersion"], &read["message"]), (&json!("v1"), &json!("hello")));
    assert_eq!(read["involvedObject"]["name"], "p");
    let legacy = post(&server, &old, json!({
        "metadata": {"name": "b"}, "involvedObject": {"kind": "Pod", "namespace": "default", "name": "q"}, "message": "bye",
        "reason": "Gone", "type": "Warning", "count": 2, "firstTimestamp": "2026-01-01T00:00:00Z",
        "lastTimestamp": "2026-01-01T00:00:00Z", "source": {"component": "c"},
    }))
    .await;
    assert_eq!(legacy.code, StatusCode::CREATED, "{}", legacy.text);
    let list = ask("GET", &format!("{new}?fieldSelector=regarding.name=q")).of(&server).await.json();
    assert_eq!((list["items"].as_array().unwrap().len(), &list["items"][0]["note"]), (1, &json!("bye")));
    assert_eq!(list["items"][0]["deprecatedCount"], 2);
    let list =
        ask("GET", &format!("{old}?fieldSelector=involvedObject.name=p,involvedObject.kind=Pod")).of(&server).await;
    assert_eq!(list.json()["items"].as_array().unwrap().len(), 1, "{}", list.text);
}

//
#[tokio::test]
async fn secrets_take_plain_text_and_keep_it_encoded() {
    let server = server().await;
    let path = format!("{DEFAULT}/secrets");
    let secret =
        post(&server, &path, json!({"metadata": {"name": "s"}, "stringData": {"a": "plain"}, "immutable": true})).await;
    assert_eq!(secret.code, StatusCode::CREATED, "{}", secret.text);
    assert_eq!((&secret.json()["data"], &secret.json()["type"]), (&json!({"a": "cGxhaW4="}), &json!("Opaque")));
    assert_eq!(secret.json().get("stringData"), None);
    assert_eq!(fields(&patch(&server, &format!("{path}/s"), json!({"stringData": {"a": "other"}})).await), ["data"]);
    let found = ask("GET", &format!("{path}?fieldSelector=type=Opaque")).of(&server).await.json();
    assert_eq!(found["items"].as_array().unwrap().len(), 1);
}

//
#[tokio::test]
async fn immutable_config_maps_stay() {
    let server = server().await;
    let path = format!("{DEFAULT}/configmaps");
    post(&server, &path, json!({"metadata": {"name": "c"}, "data": {"a": "1"}, "immutable": true})).await;
    assert_eq!(fields(&patch(&server, &format!("{path}/c"), json!({"data": {"a": "2"}})).await), ["data"]);
    let labelled = patch(&server, &format!("{path}/c"), json!({"metadata": {"labels": {"a": "b"}}})).await;
    assert_eq!(labelled.code, StatusCode::OK, "{}", labelled.text);
}

//
#[tokio::test]
async fn namespaces_are_labelled_active_and_held() {
    let server = server().await;
    let namespace = post(&server, "/api/v1/namespaces", json!({"metadata": {"name": "team"}})).await.json();
    assert_eq!(namespace["metadata"]["labels"], json!({"kubernetes.io/metadata.name": "team"}));
    assert_eq!(
        (&namespace["status"]["phase"], &namespace["spec"]["finalizers"]),
        (&json!("Active"), &json!(["kubernetes"]))
    );
    let going = ask("DELETE", "/api/v1/namespaces/team").of(&server).await.json();
    assert_eq!(going["status"]["phase"], "Terminating");
    let found = ask("GET", "/api/v1/namespaces?fieldSelector=status.phase=Terminating").of(&server).await.json();
    assert_eq!(found["items"][0]["metadata"]["name"], "team");
    let mut emptied = found["items"][0].clone();
    emptied["spec"]["finalizers"] = json!([]);
    let done = ask("PUT", "/api/v1/namespaces/team/finalize").json(&emptied).of(&server).await;
    assert_eq!(done.code, StatusCode::OK, "{}", done.text);
    assert_eq!(ask("GET", "/api/v1/namespaces/team").of(&server).await.code, StatusCode::NOT_FOUND);
}

//
#[tokio::test]
async fn names_follow_the_rule_of_their_kind() {
    let server = server().await;
    let rows = [
        ("/api/v1/namespaces", json!({"metadata": {"name": "a.b"}}), false),
        ("/api/v1/namespaces", json!({"metadata": {"name": "1a"}}), true),
        ("/api/v1/namespaces/default/configmaps", json!({"metadata": {"name": "a.b"}}), true),
        ("/api/v1/namespaces/default/configmaps", json!({"metadata": {"name": "A"}}), false),
        ("/api/v1/namespaces/default/configmaps", json!({"metadata": {"name": "x".repeat(254)}}), false),
        ("/api/v1/namespaces/default/configmaps", json!({"metadata": {"name": "l", "labels": {"a b": "c"}}}), false),
        (
            "/api/v1/namespaces/default/services",
            json!({"metadata": {"name": "1a"}, "spec": {"ports": [{"port": 80}]}}),
            false,
        ),
    ];
    for (path, object, good) in rows {
        let answer = post(&server, path, object.clone()).await;
        let expected = if good { StatusCode::CREATED } else { StatusCode::UNPROCESSABLE_ENTITY };
        assert_eq!(answer.code, expected, "{object}: {}", answer.text);
    }
}

// S-186, S-206, A-067
#[tokio::test]
async fn endpoint_slices_are_checked() {
    let server = server().await;
    let path = "/apis/discovery.k8s.io/v1/namespaces/default/endpointslices";
    let slice = |kind: &str, address: &str| json!({"metadata": {"name": "s"}, "addressType": kind, "endpoints": [{"addresses": [address]}], "ports": [{"port": 80}]});
    let loopback = post(&server, path, slice("IPv4", "127.0.0.1")).await;
    assert_eq!(fields(&loopback), ["endpoints[0].addresses[0]"]);
    let good = post(&server, path, slice("IPv4", "10.0.0.1")).await;
    assert_eq!(good.code, StatusCode::CREATED, "{}", good.text);
    assert_eq!(good.json()["ports"][0], json!({"port": 80, "name": "", "protocol": "TCP"}));
    let other = ask("PUT", &format!("{path}/s")).json(&slice("IPv6", "fd00::1")).of(&server).await;
    assert_eq!(fields(&other), ["addressType"]);
}

// S-072
#[tokio::test]
async fn whoever_asks_for_endpoints_is_warned() {
    let server = server().await;
    let endpoints =
        json!({"metadata": {"name": "e"}, "subsets": [{"addresses": [{"ip": "10.0.0.1"}], "ports": [{"port": 80}]}]});
    let answer = post(&server, &format!("{DEFAULT}/endpoints"), endpoints).await;
    assert_eq!(answer.code, StatusCode::CREATED, "{}", answer.text);
    assert_eq!(answer.json()["subsets"][0]["ports"][0]["protocol"], "TCP");
    let path = format!("{DEFAULT}/endpoints");
    let read = ask("GET", &format!("{path}/e")).of(&server).await;
    let listed = ask("GET", &path).of(&server).await;
    for answer in [answer, read, listed] {
        let warnings: Vec<&str> =
            answer.headers.get_all("warning").iter().map(|value| value.to_str().unwrap()).collect();
        let expected = "299 - \"v1 Endpoints is deprecated in v1.33+; use discovery.k8s.io/v1 EndpointSlice\"";
        assert_eq!(warnings, [expected]);
    }
}

//
#[tokio::test]
async fn a_lease_is_not_overwritten_blindly() {
    let server = server().await;
    let path = "/apis/coordination.k8s.io/v1/namespaces/default/leases";
    let lease = |holder: &str| json!({"metadata": {"name": "l"}, "spec": {"holderIdentity": holder, "leaseDurationSeconds": 15}});
    let first = post(&server, path, lease("a")).await;
    assert_eq!(first.code, StatusCode::CREATED, "{}", first.text);
    let blind = ask("PUT", &format!("{path}/l")).json(&lease("b")).of(&server).await;
    assert_eq!(fields(&blind), ["metadata.resourceVersion"]);
    assert!(blind.text.contains("must be specified for an update"));
    let mut renewed = first.json();
    renewed["spec"]["holderIdentity"] = json!("b");
    let answer = ask("PUT", &format!("{path}/l")).json(&renewed).of(&server).await;
    assert_eq!(answer.json()["spec"]["holderIdentity"], "b", "{}", answer.text);
}

//
#[tokio::test]
async fn nodes_show_readiness_and_roles() {
    let server = server().await;
    let labels = json!({"node-role.kubernetes.io/worker": ""});
    let node = json!({"metadata": {"name": "n1", "labels": labels}, "spec": {"podCIDR": "10.244.1.0/24", "unschedulable": true}});
    let answer = post(&server, "/api/v1/nodes", node).await;
    assert_eq!(answer.json()["spec"]["podCIDRs"], json!(["10.244.1.0/24"]), "{}", answer.text);
    let status = json!({"status": {"conditions": [{"type": "Ready", "status": "True"}], "addresses": [{"type": "InternalIP", "address": "10.95.0.11"}]}});
    let written = patch(&server, "/api/v1/nodes/n1/status", status).await;
    assert_eq!(written.code, StatusCode::OK, "{}", written.text);
    let table =
        ask("GET", "/api/v1/nodes?fieldSelector=spec.unschedulable=true").accept(KUBECTL).of(&server).await.json();
    let cells = table["rows"][0]["cells"].as_array().unwrap();
    assert_eq!(cells[..3], ["n1", "Ready,SchedulingDisabled", "worker"]);
    assert_eq!(cells[5], "10.95.0.11");
    let moved = patch(
        &server,
        "/api/v1/nodes/n1",
        json!({"spec": {"podCIDR": "10.244.2.0/24", "podCIDRs": ["10.244.2.0/24"]}}),
    )
    .await;
    assert_eq!(fields(&moved), ["spec.podCIDRs"]);
}

// A-051, S-005
#[tokio::test]
async fn a_few_kinds_are_created_by_an_update() {
    let server = server().await;
    let event = json!({"involvedObject": {"kind": "Pod", "namespace": "default", "name": "p"}});
    let slice = json!({"addressType": "IPv4", "endpoints": []});
    let rows = [
        ("/api/v1/namespaces/default/services/a", json!({"spec": {"ports": [{"port": 80}]}}), StatusCode::CREATED),
        ("/api/v1/namespaces/default/endpoints/a", json!({}), StatusCode::CREATED),
        ("/api/v1/namespaces/default/events/a", event, StatusCode::CREATED),
        ("/apis/coordination.k8s.io/v1/namespaces/default/leases/a", json!({"spec": {}}), StatusCode::CREATED),
        ("/api/v1/namespaces/default/configmaps/a", json!({}), StatusCode::NOT_FOUND),
        ("/apis/discovery.k8s.io/v1/namespaces/default/endpointslices/a", slice, StatusCode::NOT_FOUND),
    ];
    for (path, mut object, expected) in rows {
        object["metadata"] = json!({"name": "a"});
        let answer = ask("PUT", path).json(&object).of(&server).await;
        assert_eq!(answer.code, expected, "{path}: {}", answer.text);
    }
}
