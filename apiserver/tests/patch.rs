//! PATCH in its formats, and the status and scale that are written apart from their object.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking, in its helpers too")]

mod common;

use common::{ask, client, config_map, config_maps, map, refusal, server};
use http::StatusCode;
use k8s_openapi::api::core::v1::ConfigMap;
use kube::ResourceExt as _;
use kube::api::{Patch, PatchParams, PostParams};
use minisvc_apiserver::ApiServer;
use serde_json::{Value, json};

const CONFIG_MAPS: &str = "/api/v1/namespaces/default/configmaps";
const MERGE: &str = "application/merge-patch+json";
const JSON: &str = "application/json-patch+json";
const STRATEGIC: &str = "application/strategic-merge-patch+json";

async fn with_config_map() -> ApiServer {
    let server = server().await;
    let object = json!({"metadata": {"name": "a", "labels": {"x": "1"}}, "data": {"k": "v", "l": "w"}});
    let answer = ask("POST", CONFIG_MAPS).json(&object).of(&server).await;
    assert_eq!(answer.code, StatusCode::CREATED, "{}", answer.text);
    server
}

// A-068, A-070
#[tokio::test]
async fn merge_and_json_patches_change_what_they_name() {
    let server = with_config_map().await;
    let path = format!("{CONFIG_MAPS}/a");
    let merged = ask("PATCH", &path).patch(MERGE, &json!({"data": {"k": null, "m": "x"}})).of(&server).await;
    assert_eq!((merged.code, &merged.json()["data"]), (StatusCode::OK, &json!({"l": "w", "m": "x"})));
    let operations = json!([
        {"op": "test", "path": "/data/l", "value": "w"},
        {"op": "replace", "path": "/data/l", "value": "z"},
        {"op": "remove", "path": "/data/m"},
    ]);
    let patched = ask("PATCH", &path).patch(JSON, &operations).of(&server).await;
    assert_eq!((patched.code, &patched.json()["data"]), (StatusCode::OK, &json!({"l": "z"})));
}

// A-068
#[tokio::test]
async fn strategic_patches_merge_by_key() {
    let server = with_config_map().await;
    let patch = json!({"metadata": {"finalizers": ["a.example/x"]}, "data": {"k": "2"}});
    let path = format!("{CONFIG_MAPS}/a");
    ask("PATCH", &path).patch(STRATEGIC, &patch).of(&server).await;
    let more = json!({"metadata": {"finalizers": ["b.example/y"]}});
    let patched = ask("PATCH", &path).patch(STRATEGIC, &more).of(&server).await.json();
    let finalizers = patched["metadata"]["finalizers"].as_array().unwrap();
    assert_eq!(finalizers.len(), 2, "{patched}");
    assert_eq!(patched["data"], json!({"k": "2", "l": "w"}));
}

// A-070
#[tokio::test]
async fn patches_that_do_not_fit_are_invalid_and_broken_ones_bad() {
    let server = with_config_map().await;
    let path = format!("{CONFIG_MAPS}/a");
    for (patch, code) in [
        (json!([{"op": "test", "path": "/data/k", "value": "other"}]), 422),
        (json!([{"op": "remove", "path": "/data/none"}]), 422),
        (json!([{"op": "dance", "path": "/data/k"}]), 400),
        (json!({"op": "remove"}), 400),
    ] {
        let answer = ask("PATCH", &path).patch(JSON, &patch).of(&server).await;
        assert_eq!(answer.code.as_u16(), code, "{patch}");
        let reason = if code == 422 { "Invalid" } else { "BadRequest" };
        assert_eq!(answer.json()["reason"], reason, "{patch}");
    }
}

// A-068
#[tokio::test]
async fn other_content_types_are_unsupported() {
    let server = with_config_map().await;
    for kind in ["application/json", "application/apply-patch+cbor", "text/plain"] {
        let answer = ask("PATCH", &format!("{CONFIG_MAPS}/a")).patch(kind, &json!({})).of(&server).await;
        assert_eq!((answer.code.as_u16(), &answer.json()["reason"]), (415, &json!("UnsupportedMediaType")), "{kind}");
    }
}

// A-072
#[tokio::test]
async fn a_patch_of_nothing_is_not_found() {
    let server = server().await;
    let answer = ask("PATCH", &format!("{CONFIG_MAPS}/none")).patch(MERGE, &json!({})).of(&server).await;
    assert_eq!(answer.code, StatusCode::NOT_FOUND);
}

// A-071
#[tokio::test]
async fn a_patch_with_a_stale_revision_conflicts() {
    let (_server, client) = client().await;
    let api = config_maps(&client);
    let old = api.create(&PostParams::default(), &config_map("a", &[])).await.unwrap();
    let set =
        |revision: Option<String>| Patch::Merge(json!({"metadata": {"resourceVersion": revision}, "data": {"k": "v"}}));
    api.patch("a", &PatchParams::default(), &set(old.resource_version())).await.unwrap();
    let (code, reason, _) = refusal(api.patch("a", &PatchParams::default(), &set(old.resource_version())).await);
    assert_eq!((code, reason.as_str()), (409, "Conflict"));
}

// A-071
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn patches_at_once_all_arrive() {
    let (_server, client) = client().await;
    let api = config_maps(&client);
    api.create(&PostParams::default(), &config_map("a", &[])).await.unwrap();
    // Each round loses to at most three others, and the server tries five times.
    let patches = (0..4).map(|writer| {
        let api = api.clone();
        tokio::spawn(async move {
            for round in 0..10 {
                let patch = json!({"data": {format!("{writer}-{round}"): "x"}});
                let options = PatchParams::default();
                while api.patch("a", &options, &Patch::Merge(&patch)).await.is_err() {}
            }
        })
    });
    for patch in patches.collect::<Vec<_>>() {
        patch.await.unwrap();
    }
    assert_eq!(api.get("a").await.unwrap().data.unwrap().len(), 40);
}

// A-052, A-056
#[tokio::test]
async fn patches_may_change_nothing_or_pretend_to() {
    let (_server, client) = client().await;
    let api = config_maps(&client);
    let before = api.create(&PostParams::default(), &config_map("a", &[("k", "v")])).await.unwrap();
    let same = api.patch("a", &PatchParams::default(), &Patch::Merge(json!({"data": {"k": "v"}}))).await.unwrap();
    assert_eq!(same.resource_version(), before.resource_version());
    let dry = PatchParams { dry_run: true, ..PatchParams::default() };
    let pretended: ConfigMap = api.patch("a", &dry, &Patch::Merge(json!({"data": {"k": "w"}}))).await.unwrap();
    assert_eq!(pretended.data, Some(map(&[("k", "w")])));
    assert_eq!(api.get("a").await.unwrap().data, Some(map(&[("k", "v")])));
}

// A-055
#[tokio::test]
async fn a_patch_cannot_make_another_object_of_it() {
    let server = with_config_map().await;
    let path = format!("{CONFIG_MAPS}/a");
    for patch in [
        json!({"metadata": {"name": "b"}}),
        json!({"metadata": {"namespace": "kube-public"}}),
        json!({"metadata": {"uid": "other"}}),
        json!({"kind": "Secret"}),
    ] {
        let answer = ask("PATCH", &path).patch(MERGE, &patch).of(&server).await;
        assert!(answer.code.is_client_error(), "{patch}: {}", answer.text);
    }
    let before = ask("GET", &path).of(&server).await.json();
    let patch =
        json!({"metadata": {"creationTimestamp": "2001-01-01T00:00:00Z", "deletionTimestamp": "2001-01-01T00:00:00Z"}});
    let answer = ask("PATCH", &path).patch(MERGE, &patch).of(&server).await.json();
    assert_eq!(answer["metadata"]["creationTimestamp"], before["metadata"]["creationTimestamp"]);
    assert_eq!(answer["metadata"]["deletionTimestamp"], Value::Null);
}

// A-063
#[tokio::test]
async fn patches_are_held_against_the_schema_too() {
    let server = with_config_map().await;
    let path = format!("{CONFIG_MAPS}/a?fieldValidation=Strict");
    let answer = ask("PATCH", &path).patch(MERGE, &json!({"dta": {"k": "v"}})).of(&server).await;
    assert_eq!(answer.code, StatusCode::BAD_REQUEST);
    assert!(answer.text.contains(r#"unknown field \"dta\""#), "{}", answer.text);
}
