//! Server-side apply and who is recorded as the manager of which fields.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking, in its helpers too")]

mod common;

use common::{Answer, ask, server};
use http::StatusCode;
use minisvc_apiserver::ApiServer;
use serde_json::{Value, json};

const CONFIG_MAPS: &str = "/api/v1/namespaces/default/configmaps";
const APPLY: &str = "application/apply-patch+yaml";

async fn apply(server: &ApiServer, query: &str, data: Value) -> Answer {
    let config = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "a"}, "data": data});
    ask("PATCH", &format!("{CONFIG_MAPS}/a?{query}")).patch(APPLY, &config).of(server).await
}

fn managers(object: &Value) -> Vec<(String, String)> {
    let entries = object["metadata"]["managedFields"].as_array().into_iter().flatten();
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    let mut managers: Vec<(String, String)> =
        entries.map(|entry| (text(&entry["manager"]), text(&entry["operation"]))).collect();
    managers.sort();
    managers
}

fn pair(manager: &str, operation: &str) -> (String, String) {
    (manager.to_owned(), operation.to_owned())
}

//
#[tokio::test]
async fn apply_creates_then_changes_and_removes_what_it_omits() {
    let server = server().await;
    let created = apply(&server, "fieldManager=me&force=true", json!({"k": "1", "l": "2"})).await;
    assert_eq!(created.code, StatusCode::CREATED, "{}", created.text);
    assert_eq!(managers(&created.json()), [pair("me", "Apply")]);
    let changed = apply(&server, "fieldManager=me", json!({"k": "3"})).await;
    assert_eq!((changed.code, &changed.json()["data"]), (StatusCode::OK, &json!({"k": "3"})));
    let same = apply(&server, "fieldManager=me", json!({"k": "3"})).await.json();
    assert_eq!(same["metadata"], changed.json()["metadata"]);
}

//
#[tokio::test]
async fn conflicts_are_told_and_forced() {
    let server = server().await;
    apply(&server, "fieldManager=me", json!({"k": "1"})).await;
    let refused = apply(&server, "fieldManager=you", json!({"k": "2"})).await;
    let status = refused.json();
    assert_eq!((refused.code, &status["reason"]), (StatusCode::CONFLICT, &json!("Conflict")));
    assert_eq!(status["message"], "Apply failed with 1 conflict: conflict with \"me\": .data.k");
    let cause = json!({"reason": "FieldManagerConflict", "message": "conflict with \"me\"", "field": ".data.k"});
    assert_eq!(status["details"]["causes"], json!([cause]));
    let forced = apply(&server, "fieldManager=you&force=true", json!({"k": "2"})).await;
    assert_eq!((forced.code, &forced.json()["data"]), (StatusCode::OK, &json!({"k": "2"})));
}

//
#[tokio::test]
async fn apply_needs_a_manager_and_no_managed_fields() {
    let server = server().await;
    let nobody = apply(&server, "", json!({})).await;
    let status = nobody.json();
    assert_eq!((nobody.code, &status["reason"]), (StatusCode::UNPROCESSABLE_ENTITY, &json!("Invalid")));
    assert!(status["message"].as_str().unwrap().contains("is required for apply patch"), "{status}");
    let config = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "a", "managedFields": [{"manager": "x"}]}});
    let path = format!("{CONFIG_MAPS}/a?fieldManager=me");
    assert_eq!(ask("PATCH", &path).patch(APPLY, &config).of(&server).await.code, StatusCode::BAD_REQUEST);
    let forced_merge = ask("PATCH", &format!("{CONFIG_MAPS}/a?force=true"));
    let answer = forced_merge.patch("application/merge-patch+json", &json!({})).of(&server).await;
    assert_eq!(answer.code, StatusCode::UNPROCESSABLE_ENTITY);
}

//
#[tokio::test]
async fn applied_yaml_is_held_against_the_schema() {
    let server = server().await;
    let yaml = |text: &str| {
        let path = format!("{CONFIG_MAPS}/a?fieldManager=me&fieldValidation=Strict");
        ask("PATCH", &path).header("content-type", APPLY).bytes(text)
    };
    let head = "apiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: a\n";
    let good = yaml(&format!("{head}data:\n  k: v\n")).of(&server).await;
    assert_eq!((good.code, &good.json()["data"]["k"]), (StatusCode::CREATED, &json!("v")));
    let unknown = yaml(&format!("{head}dta: 1\n")).of(&server).await;
    assert_eq!(unknown.code, StatusCode::BAD_REQUEST);
    let other_name = yaml("apiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: b\n").of(&server).await;
    assert_eq!(other_name.code, StatusCode::BAD_REQUEST);
}

//
#[tokio::test]
async fn a_dry_apply_stores_nothing() {
    let server = server().await;
    let answer = apply(&server, "fieldManager=me&dryRun=All", json!({"k": "1"})).await;
    assert_eq!((answer.code, &answer.json()["data"]["k"]), (StatusCode::CREATED, &json!("1")));
    assert_eq!(ask("GET", &format!("{CONFIG_MAPS}/a")).of(&server).await.code, StatusCode::NOT_FOUND);
}

//
#[tokio::test]
async fn ordinary_writers_are_recorded_too() {
    let server = server().await;
    let object = json!({"metadata": {"name": "a"}, "data": {"k": "1"}});
    let created = ask("POST", CONFIG_MAPS).header("user-agent", "curl/8.1 (x)").json(&object).of(&server).await.json();
    assert_eq!(managers(&created), [pair("curl", "Update")]);
    let path = format!("{CONFIG_MAPS}/a?fieldManager=editor");
    let patch = json!({"data": {"l": "2"}});
    let patched = ask("PATCH", &path).patch("application/merge-patch+json", &patch).of(&server).await.json();
    assert_eq!(managers(&patched), [pair("curl", "Update"), pair("editor", "Update")]);
    let same = ask("PATCH", &path).patch("application/merge-patch+json", &patch).of(&server).await.json();
    assert_eq!(same["metadata"], patched["metadata"]);
}

//
#[tokio::test]
async fn ownership_is_moved_by_a_guarded_json_patch() {
    let server = server().await;
    let object = json!({"metadata": {"name": "a"}, "data": {"k": "1"}});
    let path = format!("{CONFIG_MAPS}?fieldManager=kubectl-client-side-apply");
    let created = ask("POST", &path).json(&object).of(&server).await.json();
    let mut entries = created["metadata"]["managedFields"].clone();
    entries[0]["manager"] = json!("kubectl");
    entries[0]["operation"] = json!("Apply");
    let patch = json!([
        {"op": "replace", "path": "/metadata/managedFields", "value": entries},
        {"op": "replace", "path": "/metadata/resourceVersion", "value": created["metadata"]["resourceVersion"]},
    ]);
    let moved = ask("PATCH", &format!("{CONFIG_MAPS}/a")).patch("application/json-patch+json", &patch);
    let moved = moved.of(&server).await;
    assert_eq!((moved.code, managers(&moved.json())), (StatusCode::OK, vec![pair("kubectl", "Apply")]));
    let again =
        ask("PATCH", &format!("{CONFIG_MAPS}/a")).patch("application/json-patch+json", &patch).of(&server).await;
    assert_eq!(again.code, StatusCode::CONFLICT);
    let applied = apply(&server, "fieldManager=kubectl", json!({"l": "2"})).await;
    assert_eq!((applied.code, &applied.json()["data"]), (StatusCode::OK, &json!({"l": "2"})));
}

//
#[tokio::test]
async fn one_empty_entry_clears_the_record_and_none_does_not() {
    let server = server().await;
    apply(&server, "fieldManager=me", json!({"k": "1"})).await;
    let set = |list: Value| {
        let patch = json!({"metadata": {"managedFields": list}});
        ask("PATCH", &format!("{CONFIG_MAPS}/a")).patch("application/merge-patch+json", &patch)
    };
    assert_eq!(managers(&set(json!([])).of(&server).await.json()), [pair("me", "Apply")]);
    assert_eq!(managers(&set(json!([{}])).of(&server).await.json()), []);
}
