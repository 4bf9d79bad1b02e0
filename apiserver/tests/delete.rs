//! Deletion: at once, held by finalizers, with preconditions, of collections.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking, in its helpers too")]

mod common;

use common::{Answer, ask, client, config_map, config_maps, named, refusal, server};
use http::StatusCode;
use k8s_openapi::api::core::v1::Namespace;
use kube::api::{DeleteParams, ListParams, ObjectMeta, Patch, PatchParams, PostParams, Preconditions};
use kube::{Api, ResourceExt};
use minisvc_apiserver::ApiServer;
use serde_json::{Value, json};

const CONFIG_MAPS: &str = "/api/v1/namespaces/default/configmaps";

async fn create(server: &ApiServer, object: Value) -> Value {
    let answer = ask("POST", CONFIG_MAPS).json(&object).of(server).await;
    assert_eq!(answer.code, StatusCode::CREATED, "{}", answer.text);
    answer.json()
}

async fn delete(server: &ApiServer, name: &str, options: &Value) -> Answer {
    ask("DELETE", &format!("{CONFIG_MAPS}/{name}")).json(options).of(server).await
}

async fn get(server: &ApiServer, name: &str) -> Answer {
    ask("GET", &format!("{CONFIG_MAPS}/{name}")).of(server).await
}

//
#[tokio::test]
async fn what_nothing_holds_goes_at_once() {
    let server = server().await;
    let object = create(&server, json!({"metadata": {"name": "a"}})).await;
    let answer = delete(&server, "a", &json!({"propagationPolicy": "Background"})).await;
    let details = json!({"name": "a", "kind": "configmaps", "uid": object["metadata"]["uid"]});
    let expected =
        json!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "details": details});
    assert_eq!((answer.code, answer.json()), (StatusCode::OK, expected));
    assert_eq!(get(&server, "a").await.code, StatusCode::NOT_FOUND);
    let again = delete(&server, "a", &json!({})).await;
    assert_eq!((again.code, &again.json()["details"]["name"]), (StatusCode::NOT_FOUND, &json!("a")));
}

// no body at all
#[tokio::test]
async fn a_bare_delete_is_enough() {
    let server = server().await;
    create(&server, json!({"metadata": {"name": "a"}})).await;
    assert_eq!(ask("DELETE", &format!("{CONFIG_MAPS}/a")).of(&server).await.code, StatusCode::OK);
    assert_eq!(get(&server, "a").await.code, StatusCode::NOT_FOUND);
}

//
#[tokio::test]
async fn finalizers_hold_it_until_the_last_is_gone() {
    let server = server().await;
    create(&server, json!({"metadata": {"name": "a", "finalizers": ["x.example/1", "x.example/2"]}})).await;
    let answer = delete(&server, "a", &json!({})).await;
    let object = answer.json();
    assert_eq!((answer.code, &object["kind"]), (StatusCode::OK, &json!("ConfigMap")));
    assert!(object["metadata"]["deletionTimestamp"].is_string());
    assert_eq!(object["metadata"]["deletionGracePeriodSeconds"], 0);
    let merge = "application/merge-patch+json";
    let path = format!("{CONFIG_MAPS}/a");
    let set = |list: Value| ask("PATCH", &path).patch(merge, &json!({"metadata": {"finalizers": list}}));
    let added = set(json!(["x.example/1", "x.example/3"])).of(&server).await;
    assert_eq!(added.code, StatusCode::UNPROCESSABLE_ENTITY);
    assert_eq!(set(json!(["x.example/2"])).of(&server).await.code, StatusCode::OK);
    assert_eq!(get(&server, "a").await.code, StatusCode::OK);
    assert_eq!(set(json!([])).of(&server).await.code, StatusCode::OK);
    assert_eq!(get(&server, "a").await.code, StatusCode::NOT_FOUND);
}

// a second delete changes nothing
#[tokio::test]
async fn a_second_delete_keeps_the_time_of_the_first() {
    let server = server().await;
    create(&server, json!({"metadata": {"name": "a", "finalizers": ["x.example/1"]}})).await;
    let first = delete(&server, "a", &json!({})).await.json();
    let second = delete(&server, "a", &json!({})).await.json();
    assert_eq!(first, second);
}

//
#[tokio::test]
async fn preconditions_are_kept() {
    let (_server, client) = client().await;
    let api = config_maps(&client);
    let object = api.create(&PostParams::default(), &config_map("a", &[])).await.unwrap();
    let by = |uid: Option<String>, resource_version: Option<String>| DeleteParams {
        preconditions: Some(Preconditions { uid, resource_version }),
        ..DeleteParams::default()
    };
    let (code, reason, message) = refusal(api.delete("a", &by(Some("wrong".to_owned()), None)).await);
    assert_eq!((code, reason.as_str()), (409, "Conflict"));
    assert!(message.contains("wrong") && message.contains(&object.uid().unwrap()), "{message}");
    let (code, _, message) = refusal(api.delete("a", &by(None, Some("1".to_owned()))).await);
    assert!(code == 409 && message.contains(&object.resource_version().unwrap()), "{message}");
    api.delete("a", &by(object.uid(), object.resource_version())).await.unwrap();
    assert_eq!(refusal(api.get("a").await).0, 404);
}

//
#[tokio::test]
async fn a_dry_run_in_the_body_deletes_nothing() {
    let server = server().await;
    create(&server, json!({"metadata": {"name": "a"}})).await;
    assert_eq!(delete(&server, "a", &json!({"dryRun": ["All"]})).await.code, StatusCode::OK);
    assert_eq!(get(&server, "a").await.code, StatusCode::OK);
    let by_query = ask("DELETE", &format!("{CONFIG_MAPS}/a?dryRun=All")).of(&server).await;
    assert_eq!(by_query.code, StatusCode::OK);
    assert_eq!(get(&server, "a").await.code, StatusCode::OK);
    assert_eq!(delete(&server, "a", &json!({"dryRun": ["Some"]})).await.code, StatusCode::BAD_REQUEST);
}

//
#[tokio::test]
async fn the_policy_becomes_a_finalizer() {
    for (policy, finalizer) in [("Foreground", "foregroundDeletion"), ("Orphan", "orphan")] {
        let server = server().await;
        create(&server, json!({"metadata": {"name": "a"}})).await;
        let object = delete(&server, "a", &json!({"propagationPolicy": policy})).await.json();
        assert_eq!(object["metadata"]["finalizers"], json!([finalizer]), "{policy}");
        assert!(object["metadata"]["deletionTimestamp"].is_string(), "{policy}");
    }
}

//
#[tokio::test]
async fn collections_go_by_selector() {
    let (_server, client) = client().await;
    let api = config_maps(&client);
    for (name, color) in [("a", "red"), ("b", "blue"), ("c", "red")] {
        let mut object = config_map(name, &[]);
        object.metadata.labels = Some(common::map(&[("color", color)]));
        api.create(&PostParams::default(), &object).await.unwrap();
    }
    let red = ListParams::default().labels("color=red");
    let deleted = api.delete_collection(&DeleteParams::default(), &red).await.unwrap().left().expect("a list");
    assert_eq!(deleted.iter().map(ResourceExt::name_any).collect::<Vec<_>>(), ["a", "c"]);
    let left = api.list(&ListParams::default()).await.unwrap();
    assert_eq!(left.iter().map(ResourceExt::name_any).collect::<Vec<_>>(), ["b"]);
}

//
#[tokio::test]
async fn a_namespace_waits_for_its_own_finalizers() {
    let (server, client) = client().await;
    let api: Api<Namespace> = Api::all(client);
    let namespace = Namespace { metadata: named("blue"), ..Namespace::default() };
    api.create(&PostParams::default(), &namespace).await.unwrap();
    api.delete("blue", &DeleteParams::default()).await.unwrap();
    let terminating = api.get("blue").await.unwrap();
    assert_eq!(terminating.status.clone().unwrap().phase.as_deref(), Some("Terminating"));
    let mut body = serde_json::to_value(&terminating).unwrap();
    body["spec"]["finalizers"] = json!([]);
    let answer = ask("PUT", "/api/v1/namespaces/blue/finalize").json(&body).of(&server).await;
    assert_eq!(answer.code, StatusCode::OK, "{}", answer.text);
    assert_eq!(refusal(api.get("blue").await).0, 404);
}

// taking the last finalizer away through the typed client
#[tokio::test]
async fn kube_clients_can_let_go() {
    let (_server, client) = client().await;
    let api = config_maps(&client);
    let metadata = ObjectMeta { finalizers: Some(vec!["x.example/1".to_owned()]), ..named("a") };
    let object = k8s_openapi::api::core::v1::ConfigMap { metadata, ..Default::default() };
    api.create(&PostParams::default(), &object).await.unwrap();
    assert!(
        api.delete("a", &DeleteParams::default()).await.unwrap().is_left(),
        "the object, because it is still there"
    );
    let patch: Patch<Value> =
        Patch::Json(serde_json::from_value(json!([{"op": "remove", "path": "/metadata/finalizers"}])).unwrap());
    api.patch("a", &PatchParams::default(), &patch).await.unwrap();
    assert_eq!(refusal(api.get("a").await).0, 404);
}
