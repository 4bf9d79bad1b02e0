//! Resources that another part of the lab answers for.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking, in its helpers too")]

mod common;

use axum::Router;
use axum::routing::get;
use common::{ask, server};
use http::StatusCode;
use minisvc_apiserver::{Extension, ExtensionResource, Identity};
use serde_json::json;

fn flows() -> Extension {
    let resource = ExtensionResource {
        plural: "flows",
        singular: "flow",
        kind: "Flow",
        short_names: &["fl"],
        namespaced: false,
        verbs: &["get", "list"],
    };
    let router = Router::new().route("/apis/minisvc.dev/v1/flows", get(|| async { "every flow" }));
    Extension { group: "minisvc.dev", version: "v1", resources: vec![resource], router }
}

#[tokio::test]
async fn an_extension_is_listed_authorised_and_asked() {
    let server = server().await;
    let path = "/apis/minisvc.dev/v1/flows";
    assert_eq!(ask("GET", path).of(&server).await.code, StatusCode::NOT_FOUND, "before somebody answers");
    server.set_extension(flows());
    let answer = ask("GET", path).of(&server).await;
    assert_eq!((answer.code, answer.text.as_str()), (StatusCode::OK, "every flow"));
    assert_eq!(ask("GET", path).anonymous().of(&server).await.code, StatusCode::UNAUTHORIZED);
    let stranger = Identity::new("jane", &[]);
    assert_eq!(ask("GET", path).identity(stranger).of(&server).await.code, StatusCode::FORBIDDEN);
    assert_eq!(ask("GET", "/apis/minisvc.dev/v1/floods").of(&server).await.code, StatusCode::NOT_FOUND);
    let group = ask("GET", "/apis/minisvc.dev").of(&server).await.json();
    assert_eq!(group["preferredVersion"]["groupVersion"], "minisvc.dev/v1");
    let resources = ask("GET", "/apis/minisvc.dev/v1").of(&server).await.json();
    let listed = json!({"name": "flows", "singularName": "flow", "namespaced": false, "kind": "Flow",
        "verbs": ["get", "list"], "shortNames": ["fl"]});
    let names: Vec<_> =
        resources["resources"].as_array().unwrap().iter().map(|r| r["name"].as_str().unwrap()).collect();
    assert_eq!(names, ["faults", "faults/status", "flows"], "beside what is stored of the same group");
    assert_eq!(resources["resources"][2], listed);
    let all = ask("GET", "/apis").accept("application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList");
    let all = all.of(&server).await.json();
    let ours = all["items"].as_array().unwrap().iter().find(|item| item["metadata"]["name"] == "minisvc.dev").unwrap();
    assert_eq!(ours["versions"][0]["resources"][1]["responseKind"]["kind"], "Flow");
}
