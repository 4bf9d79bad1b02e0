//! Small things that clients rely on, or must not be disturbed by.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails by panicking")]

mod common;

use bytes::Bytes;
use common::*;
use http::StatusCode;
use minisvc_apiserver::{ApiServer, Options};
use minisvc_store::{Expectation, Head, Key, Op, SledBackend, SledOptions, Store, Txn};
use serde_json::{Value, json};

const NS: &str = "/api/v1/namespaces/default";
const TABLE: &str = "application/json;as=Table;v=v1;g=meta.k8s.io";

fn maps() -> String {
    format!("{NS}/configmaps")
}

async fn post(server: &ApiServer, path: &str, object: Value) -> Value {
    let answer = ask("POST", path).json(&object).of(server).await;
    assert_eq!(answer.code, StatusCode::CREATED, "{}", answer.text);
    answer.json()
}

//
#[tokio::test]
async fn parameters_and_headers_nobody_knows_change_nothing() {
    let server = server().await;
    post(&server, &format!("{}?pretty=true&fieldManagerr=x&timeout=8m55s", maps()), json!({"metadata": {"name": "a"}}))
        .await;
    for path in ["/apis", "/api/v1/nodes", "/version", "/openapi/v3"] {
        let plain = ask("GET", path).of(&server).await;
        let adorned = ask("GET", &format!("{path}?timeout=32s&shoe-size=42&=&x"))
            .header("kubectl-command", "kubectl get")
            .header("kubectl-session", "7c2d")
            .header("x-nobody-knows", "this")
            .of(&server)
            .await;
        assert_eq!((adorned.code, adorned.text), (StatusCode::OK, plain.text), "{path}");
    }
    let mut watch = ask("GET", &format!("{}?watch=1&timeoutSeconds=300&timeout=8m55s", maps())).lines(&server).await;
    assert_eq!(watch.brief().await, ("ADDED".to_owned(), "a".to_owned()));
}

//
#[tokio::test]
async fn compression_is_an_offer_that_is_not_taken() {
    let server = server().await;
    post(&server, &maps(), json!({"metadata": {"name": "a"}, "data": {"k": "x".repeat(200_000)}})).await;
    let list = ask("GET", &maps()).header("accept-encoding", "gzip").of(&server).await;
    assert_eq!((list.header("content-encoding"), list.json()["items"].as_array().unwrap().len()), ("", 1));
    let watch = ask("GET", &format!("{}?watch=1", maps())).header("accept-encoding", "gzip");
    assert_eq!(watch.lines(&server).await.brief().await, ("ADDED".to_owned(), "a".to_owned()));
}

//
#[tokio::test]
async fn a_watch_without_events_stays_open() {
    let server = server().await;
    let mut idle = ask("GET", &format!("{}?watch=1&labelSelector=wanted", maps())).lines(&server).await;
    // A lot happens, and nothing of it is for this watch.
    for number in 0..200 {
        post(&server, &maps(), json!({"metadata": {"name": format!("other-{number}")}})).await;
    }
    post(&server, &maps(), json!({"metadata": {"name": "a", "labels": {"wanted": ""}}})).await;
    assert_eq!(idle.brief().await, ("ADDED".to_owned(), "a".to_owned()));
}

//
#[tokio::test]
async fn rows_of_finished_pods_are_marked() {
    let server = server().await;
    let pod = json!({"metadata": {"name": "p"}, "spec": {"containers": [{"name": "c", "image": "i"}]}});
    post(&server, &format!("{NS}/pods"), pod).await;
    for (phase, expected) in [
        ("Running", Value::Null),
        ("Succeeded", json!("The pod has completed successfully.")),
        ("Failed", json!("The pod failed.")),
    ] {
        let status = json!({"status": {"phase": phase}});
        let path = format!("{NS}/pods/p/status");
        ask("PATCH", &path).patch("application/merge-patch+json", &status).of(&server).await;
        let table = ask("GET", &format!("{NS}/pods")).accept(TABLE).of(&server).await.json();
        let condition = &table["rows"][0]["conditions"][0];
        assert_eq!(condition["message"], expected, "{phase}");
        if expected.is_string() {
            assert_eq!((&condition["type"], &condition["reason"]), (&json!("Completed"), &json!(phase)));
        }
    }
}

//
#[tokio::test]
async fn finalize_replaces_the_finalizers_of_a_namespace() {
    let server = server().await;
    let namespace = post(&server, "/api/v1/namespaces", json!({"metadata": {"name": "blue"}})).await;
    assert_eq!(namespace["spec"]["finalizers"], json!(["kubernetes"]));
    let put = async |finalizers: Value, version: &Value| {
        let metadata = json!({"name": "blue", "labels": {"not": "taken"}, "resourceVersion": version});
        let body = json!({"metadata": metadata, "spec": {"finalizers": finalizers}});
        ask("PUT", "/api/v1/namespaces/blue/finalize").json(&body).of(&server).await
    };
    let changed = put(json!(["example.org/own"]), &Value::Null).await;
    assert_eq!((changed.code, &changed.json()["spec"]["finalizers"]), (StatusCode::OK, &json!(["example.org/own"])));
    assert_eq!(changed.json()["metadata"]["labels"].get("not"), None);
    let stale = put(json!([]), &namespace["metadata"]["resourceVersion"]).await;
    assert_eq!(stale.code, StatusCode::CONFLICT);
    // What held it goes, and then it goes too.
    ask("DELETE", "/api/v1/namespaces/blue").of(&server).await;
    let held = ask("GET", "/api/v1/namespaces/blue").of(&server).await.json();
    assert_eq!(held["status"]["phase"], "Terminating");
    assert_eq!(put(json!([]), &Value::Null).await.code, StatusCode::OK);
    assert_eq!(ask("GET", "/api/v1/namespaces/blue").of(&server).await.code, StatusCode::NOT_FOUND);
}

//
#[tokio::test]
async fn what_is_switched_off_is_not_there() {
    let server = server().await;
    let pod = json!({"metadata": {"name": "p"}, "spec": {"containers": [{"name": "c", "image": "i"}]}});
    post(&server, &format!("{NS}/pods"), pod).await;
    for subresource in ["ephemeralcontainers", "resize"] {
        let path = format!("{NS}/pods/p/{subresource}");
        let answer = ask("PATCH", &path).patch("application/strategic-merge-patch+json", &json!({})).of(&server).await;
        assert_eq!(answer.code, StatusCode::NOT_FOUND, "{subresource}");
    }
}

//
#[tokio::test]
async fn a_kind_without_a_schema_takes_no_strategic_patch() {
    let server = server().await;
    let spec = json!({"from": {"workstation": true}, "to": {"pod": "a"}, "delayMilliseconds": 300});
    post(&server, "/apis/minisvc.dev/v1/faults", json!({"metadata": {"name": "slow"}, "spec": spec})).await;
    let patch = async |kind: &str, body: Value| {
        ask("PATCH", "/apis/minisvc.dev/v1/faults/slow").patch(kind, &body).of(&server).await
    };
    let change = json!({"spec": {"delayMilliseconds": 100}});
    let refused = patch("application/strategic-merge-patch+json", change.clone()).await;
    assert_eq!(refused.code, StatusCode::UNSUPPORTED_MEDIA_TYPE);
    assert!(refused.text.contains("application/merge-patch+json"), "{}", refused.text);
    let merged = patch("application/merge-patch+json", change).await;
    assert_eq!((merged.code, &merged.json()["spec"]["delayMilliseconds"]), (StatusCode::OK, &json!(100)));
    let replace = json!([{"op": "replace", "path": "/spec/delayMilliseconds", "value": 200}]);
    assert_eq!(patch("application/json-patch+json", replace).await.code, StatusCode::OK);
}

// S-236
#[tokio::test]
async fn revisions_are_numbers_that_grow_with_each_write() {
    let server = server().await;
    let revision = |object: &Value| -> u64 {
        let text = object["metadata"]["resourceVersion"].as_str().unwrap_or_else(|| panic!("{object}"));
        assert!(!text.starts_with('0'), "{text}");
        text.parse().unwrap()
    };
    let service = json!({"metadata": {"name": "a"}, "spec": {"ports": [{"port": 80}]}});
    let mut last = revision(&post(&server, &format!("{NS}/services"), service).await);
    for (path, patch) in [
        ("services/a", json!({"metadata": {"labels": {"a": "b"}}})),
        ("services/a", json!({"spec": {"type": "NodePort"}})),
        (
            "services/a/status",
            json!({"status": {"conditions": [{"type": "A", "status": "True", "reason": "R", "message": "", "lastTransitionTime": "2026-01-01T00:00:00Z"}]}}),
        ),
        ("services/a", json!({"spec": {"selector": {"a": "b"}}})),
    ] {
        // Writes of other kinds count too: it is one history.
        let other = revision(&post(&server, &maps(), json!({"metadata": {"generateName": "m-"}})).await);
        let changed = ask("PATCH", &format!("{NS}/{path}")).patch("application/merge-patch+json", &patch);
        let now = revision(&changed.of(&server).await.json());
        assert!(last < other && other < now, "{path}: {last} {other} {now}");
        last = now;
    }
    let list = ask("GET", &format!("{NS}/services")).of(&server).await.json();
    assert!(revision(&list) >= last && list["items"].as_array().unwrap().iter().all(|item| revision(item) > 0));
}

// P-080
#[tokio::test]
async fn labels_choose_in_lists_watches_and_deletions() {
    let server = server().await;
    let pods = format!("{NS}/pods");
    for (name, app) in [("a", "web"), ("b", "db"), ("c", "web")] {
        let metadata = json!({"name": name, "labels": {"app": app}});
        post(&server, &pods, json!({"metadata": metadata, "spec": {"containers": [{"name": "c", "image": "i"}]}}))
            .await;
    }
    let names = async |selector: &str| -> Vec<String> {
        let list = ask("GET", &format!("{pods}?labelSelector={selector}")).of(&server).await.json();
        list["items"]
            .as_array()
            .unwrap()
            .iter()
            .map(|pod| pod["metadata"]["name"].as_str().unwrap().to_owned())
            .collect()
    };
    assert_eq!(names("app%3Dweb").await, ["a", "c"]);
    let mut watch = ask("GET", &format!("{pods}?watch=1&labelSelector=app%3Dweb")).lines(&server).await;
    for name in ["a", "c"] {
        assert_eq!(watch.brief().await, ("ADDED".to_owned(), name.to_owned()));
    }
    for (name, app, event) in [("a", "db", "DELETED"), ("b", "web", "ADDED")] {
        let patch = json!({"metadata": {"labels": {"app": app}}});
        ask("PATCH", &format!("{pods}/{name}")).patch("application/merge-patch+json", &patch).of(&server).await;
        assert_eq!(watch.brief().await, (event.to_owned(), name.to_owned()));
    }
    assert_eq!(ask("DELETE", &format!("{pods}?labelSelector=app%3Dweb")).of(&server).await.code, StatusCode::OK);
    assert_eq!(names("").await, ["a"]);
    for name in ["b", "c"] {
        assert_eq!(watch.brief().await, ("DELETED".to_owned(), name.to_owned()));
    }
}

// S-033
#[tokio::test]
async fn an_object_of_an_older_version_is_read_with_the_defaults_of_today() {
    let folder = tempfile::tempdir().unwrap();
    let options = minisvc_store::Options::new(|_, _| Head::default(), |_| false);
    let store = Store::open(SledBackend::open(folder.path(), SledOptions::default()).unwrap(), options).unwrap();
    let key = Key::new("services", "default", "old");
    let text = |revision| {
        let metadata =
            json!({"name": "old", "namespace": "default", "uid": "u", "resourceVersion": format!("{revision}")});
        let spec = json!({"clusterIP": "None", "clusterIPs": ["None"], "ports": [{"port": 80}]});
        let service = json!({"kind": "Service", "apiVersion": "v1", "metadata": metadata, "spec": spec});
        Bytes::from(service.to_string())
    };
    let txn = Txn { expect: vec![Expectation::Absent(key.clone())], ops: vec![Op::put(key, text)] };
    let revision = store.commit(txn).await.unwrap();
    store.close().await;
    let server =
        ApiServer::open(Options { state_dir: Some(folder.path().to_owned()), ..Options::default() }).await.unwrap();
    let service = ask("GET", &format!("{NS}/services/old")).of(&server).await.json();
    let spec = &service["spec"];
    assert_eq!((&spec["type"], &spec["sessionAffinity"]), (&json!("ClusterIP"), &json!("None")), "{service}");
    assert_eq!(spec["ports"][0], json!({"port": 80, "protocol": "TCP", "targetPort": 80}));
    assert_eq!(service["metadata"]["resourceVersion"], format!("{revision}"), "nothing was written");
    let list = ask("GET", &format!("{NS}/services?fieldSelector=spec.type%3DClusterIP")).of(&server).await.json();
    assert!(list["items"].as_array().unwrap().contains(&{
        let mut item = service.clone();
        for key in ["kind", "apiVersion"] {
            item.as_object_mut().unwrap().remove(key);
        }
        item
    }));
    server.close().await;
}
