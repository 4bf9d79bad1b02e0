//! What clients learn about the server before they ask for objects.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking, in its helpers too")]

mod common;

use common::{ask, server};
use http::StatusCode;
use serde_json::{Value, json};

fn entry<'a>(list: &'a Value, name: &str) -> &'a Value {
    let found = list["resources"].as_array().unwrap().iter().find(|r| r["name"] == name || r["resource"] == name);
    found.unwrap_or_else(|| panic!("no {name} in {list}"))
}

//
#[tokio::test]
async fn the_version_is_one_tools_can_parse() {
    let server = server().await;
    for path in ["/version", "/version/", "/version?timeout=32s"] {
        let version = ask("GET", path).of(&server).await.json();
        assert_eq!((&version["major"], &version["minor"]), (&json!("1"), &json!("36")), "{path}");
        assert_eq!(version["gitVersion"], "v1.36.0");
        for key in ["gitCommit", "gitTreeState", "buildDate", "goVersion", "compiler", "platform"] {
            assert!(version[key].is_string(), "{key}");
        }
    }
}

//
#[tokio::test]
async fn legacy_discovery_leads_to_every_resource() {
    let server = server().await;
    let versions = ask("GET", "/api/").of(&server).await.json();
    assert_eq!((&versions["kind"], &versions["versions"]), (&json!("APIVersions"), &json!(["v1"])));
    let core = ask("GET", "/api/v1/").of(&server).await.json();
    assert_eq!((&core["kind"], &core["groupVersion"]), (&json!("APIResourceList"), &json!("v1")));
    let config_maps = entry(&core, "configmaps");
    let expected = json!({
        "name": "configmaps", "singularName": "configmap", "namespaced": true, "kind": "ConfigMap",
        "verbs": ["create", "delete", "deletecollection", "get", "list", "patch", "update", "watch"],
        "shortNames": ["cm"],
    });
    assert_eq!(config_maps, &expected);
    let groups = ask("GET", "/apis").of(&server).await.json();
    assert_eq!(groups["kind"], "APIGroupList");
    for group in groups["groups"].as_array().unwrap() {
        let name = group["name"].as_str().unwrap();
        assert_ne!(name, "", "core is not among the named groups");
        let alone = ask("GET", &format!("/apis/{name}/")).of(&server).await.json();
        assert_eq!((&alone["kind"], &alone["preferredVersion"]), (&json!("APIGroup"), &group["preferredVersion"]));
        for version in group["versions"].as_array().unwrap() {
            let path = format!("/apis/{}", version["groupVersion"].as_str().unwrap());
            let list = ask("GET", &path).of(&server).await.json();
            assert!(!list["resources"].as_array().unwrap().is_empty(), "{path}");
        }
    }
}

//
#[tokio::test]
async fn aggregated_discovery_in_both_versions() {
    let server = server().await;
    for version in ["v2", "v2beta1"] {
        let content_type = format!("application/json;g=apidiscovery.k8s.io;v={version};as=APIGroupDiscoveryList");
        let accept = format!("{content_type},application/json");
        let core = ask("GET", "/api").accept(&accept).of(&server).await;
        assert_eq!(core.header("content-type"), content_type);
        let core = core.json();
        assert_eq!(core["kind"], "APIGroupDiscoveryList");
        assert_eq!(core["apiVersion"], format!("apidiscovery.k8s.io/{version}"));
        assert_eq!(core["items"].as_array().unwrap().len(), 1);
        let v1 = &core["items"][0]["versions"][0];
        assert_eq!((&v1["version"], &v1["freshness"]), (&json!("v1"), &json!("Current")));
        let config_maps = entry(v1, "configmaps");
        assert_eq!(config_maps["responseKind"], json!({"group": "", "version": "v1", "kind": "ConfigMap"}));
        assert_eq!(
            (&config_maps["scope"], &config_maps["singularResource"]),
            (&json!("Namespaced"), &json!("configmap"))
        );
        let namespaces = entry(v1, "namespaces");
        assert_eq!(namespaces["scope"], "Cluster");
        let status = &namespaces["subresources"].as_array().unwrap().iter().find(|s| s["subresource"] == "status");
        assert_eq!(status.unwrap()["verbs"], json!(["get", "patch", "update"]));
        let groups = ask("GET", "/apis").accept(&accept).of(&server).await.json();
        assert!(groups["items"].as_array().unwrap().iter().all(|group| group["metadata"]["name"].is_string()));
    }
}

//
#[tokio::test]
async fn subresources_of_other_groups() {
    let server = server().await;
    let core = ask("GET", "/api/v1").of(&server).await.json();
    let eviction = entry(&core, "pods/eviction");
    assert_eq!(
        (&eviction["group"], &eviction["version"], &eviction["kind"]),
        (&json!("policy"), &json!("v1"), &json!("Eviction"))
    );
    assert_eq!(entry(&core, "pods")["categories"], json!(["all"]));
    assert_eq!(entry(&core, "pods/log")["verbs"], json!(["get"]));
    let apps = ask("GET", "/apis/apps/v1").of(&server).await.json();
    for name in ["deployments/scale", "replicasets/scale"] {
        let scale = entry(&apps, name);
        assert_eq!(
            (&scale["group"], &scale["version"], &scale["kind"]),
            (&json!("autoscaling"), &json!("v1"), &json!("Scale"))
        );
    }
}

//
#[tokio::test]
async fn groups_that_are_not_served_are_absent() {
    let server = server().await;
    let groups = ask("GET", "/apis").of(&server).await;
    assert!(!groups.text.contains("metrics.k8s.io"));
    assert_eq!(ask("GET", "/apis/metrics.k8s.io").of(&server).await.code, StatusCode::NOT_FOUND);
}

//
#[tokio::test]
async fn openapi_leads_to_a_patch_with_field_validation() {
    let server = server().await;
    let index = ask("GET", "/openapi/v3").of(&server).await.json();
    let url = index["paths"]["api/v1"]["serverRelativeURL"].as_str().unwrap();
    assert!(url.starts_with("/openapi/v3/api/v1?hash="), "{url}");
    let answer = ask("GET", url).of(&server).await;
    assert!(!answer.header("etag").is_empty());
    let document = answer.json();
    let patch = &document["paths"]["/api/v1/namespaces/{namespace}/configmaps/{name}"]["patch"];
    let kind = json!({"group": "", "version": "v1", "kind": "ConfigMap"});
    assert_eq!(patch["x-kubernetes-group-version-kind"], kind);
    let parameters = patch["parameters"].as_array().unwrap();
    assert!(parameters.iter().any(|p| p["name"] == "fieldValidation" && p["in"] == "query"), "{parameters:?}");
    let index = index["paths"].as_object().unwrap();
    assert!(index.contains_key("apis/authorization.k8s.io/v1"), "reviews are described too");
}

//
#[tokio::test]
async fn openapi_v2_is_a_message_for_kubectl_and_json_for_others() {
    let server = server().await;
    for accept in ["application/json", "*/*"] {
        let answer = ask("GET", "/openapi/v2").accept(accept).of(&server).await;
        assert_eq!((answer.code, answer.header("content-type")), (StatusCode::OK, "application/json"));
        let definitions = &answer.json()["definitions"];
        for name in ["core.v1.Service", "apps.v1.Deployment", "authorization.v1.SelfSubjectAccessReview"] {
            assert!(definitions[format!("io.k8s.api.{name}")].is_object(), "{name}");
        }
        let tag = answer.header("etag");
        let again = ask("GET", "/openapi/v2").accept(accept).header("if-none-match", tag).of(&server).await;
        assert_eq!((again.code, again.text.as_str()), (StatusCode::NOT_MODIFIED, ""));
        let message = "application/com.github.proto-openapi.spec.v2@v1.0+protobuf";
        let other = ask("HEAD", "/openapi/v2").accept(message).of(&server).await;
        assert!(!other.header("etag").is_empty() && other.header("etag") != tag, "another form, another tag");
    }
    let mut request = http::Request::get("/openapi/v2").body(axum::body::Body::empty()).unwrap();
    request.extensions_mut().insert(common::admin());
    let message = "application/com.github.proto-openapi.spec.v2@v1.0+protobuf";
    request.headers_mut().insert("accept", message.parse().unwrap());
    let answer = tower::ServiceExt::oneshot(server.router(), request).await.unwrap();
    assert_eq!(answer.headers()["content-type"], "application/com.github.proto-openapi.spec.v2.v1.0+protobuf");
    let bytes = http_body_util::BodyExt::collect(answer.into_body()).await.unwrap().to_bytes();
    // Field 1, three bytes: swagger.
    assert_eq!(&bytes[..5], b"\x0a\x032.0");
}

//
#[tokio::test]
async fn reviews_answer_who_and_whether() {
    let server = server().await;
    let authorization = ask("GET", "/apis/authorization.k8s.io/v1").of(&server).await.json();
    assert_eq!(entry(&authorization, "selfsubjectaccessreviews")["verbs"], json!(["create"]));
    let path = "/apis/authentication.k8s.io/v1/selfsubjectreviews";
    let me = ask("POST", path).json(&json!({})).of(&server).await;
    assert_eq!((me.code, &me.json()["status"]["userInfo"]["username"]), (StatusCode::CREATED, &json!("admin")));
    let path = "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews";
    let question = json!({"spec": {"resourceAttributes": {"verb": "get", "resource": "pods", "namespace": "default"}}});
    let answer = ask("POST", path).json(&question).of(&server).await;
    assert_eq!((answer.code, &answer.json()["status"]["allowed"]), (StatusCode::CREATED, &json!(true)));
    let nothing = ask("POST", path).json(&json!({"spec": {}})).of(&server).await;
    assert_eq!(nothing.code, StatusCode::UNPROCESSABLE_ENTITY);
    assert_eq!(ask("GET", path).of(&server).await.code, StatusCode::METHOD_NOT_ALLOWED);
}

#[tokio::test]
async fn of_a_kind_that_is_only_read_there_is_none() {
    let server = server().await;
    let group = "/apis/apiextensions.k8s.io/v1";
    let resources = ask("GET", group).of(&server).await.json();
    assert_eq!(entry(&resources, "customresourcedefinitions")["verbs"], json!(["get", "list", "watch"]));
    let path = format!("{group}/customresourcedefinitions");
    let list = ask("GET", &path).of(&server).await.json();
    assert_eq!((&list["kind"], &list["items"]), (&json!("CustomResourceDefinitionList"), &json!([])));
    assert_eq!(ask("GET", &format!("{path}/a.b")).of(&server).await.json()["reason"], "NotFound");
    let object = json!({"kind": "CustomResourceDefinition", "metadata": {"name": "a.b"}});
    for (method, path) in [("POST", path.clone()), ("PUT", format!("{path}/a.b")), ("DELETE", path)] {
        let answer = ask(method, &path).json(&object).of(&server).await;
        assert_eq!(answer.code, StatusCode::NOT_FOUND, "{method}");
        let said = answer.json()["message"].as_str().unwrap().to_owned();
        assert!(said.contains("does not serve custom resources"), "{method}: {said}");
    }
}

// kube's own discovery finds its way
#[tokio::test]
async fn kube_discovery_works() {
    let server = server().await;
    let discovery = kube::discovery::Discovery::new(server.client(common::admin())).run().await.unwrap();
    let core = discovery.get("").expect("the core group");
    let (resource, capabilities) = core.recommended_kind("ConfigMap").expect("ConfigMaps");
    assert_eq!(resource.plural, "configmaps");
    assert!(capabilities.supports_operation("watch"));
}
