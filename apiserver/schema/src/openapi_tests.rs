use super::*;

fn served(group: &str, kind: &str, plural: &str, namespaced: bool) -> Served {
    Served { group: group.into(), version: "v1".into(), kind: kind.into(), plural: plural.into(), namespaced }
}

fn api() -> OpenApi {
    let kinds = vec![
        served("", "Service", "services", true),
        served("", "Pod", "pods", true),
        served("", "Node", "nodes", false),
        served("apps", "Deployment", "deployments", true),
        served("authorization.k8s.io", "SelfSubjectAccessReview", "selfsubjectaccessreviews", false),
    ];
    OpenApi::new(kinds, "v1.36.0")
}

fn parsed(api: &OpenApi, path: &str) -> Value {
    serde_json::from_str(api.document(path).expect("served")).expect("JSON")
}

//
#[test]
fn the_index_leads_to_each_document_by_hash() {
    let (api, again) = (api(), api());
    let index: Value = serde_json::from_str(api.index()).expect("JSON");
    let paths = index["paths"].as_object().expect("paths");
    assert_eq!(paths.keys().collect::<Vec<_>>(), ["api/v1", "apis/apps/v1", "apis/authorization.k8s.io/v1"]);
    for (path, entry) in paths {
        let url = format!("/openapi/v3/{path}?hash={}", api.hash(path).expect("served"));
        assert_eq!(entry["serverRelativeURL"], url);
        assert!(api.document(path).is_some());
    }
    let other = OpenApi::new(
        vec![served("apps", "Deployment", "deployments", true), served("apps", "DaemonSet", "daemonsets", true)],
        "v1.36.0",
    );
    assert_ne!(api.hash("apis/apps/v1"), other.hash("apis/apps/v1"), "another content, another hash");
    assert_eq!(api.index(), again.index());
}

//
#[test]
fn each_kind_has_a_patch_operation_with_field_validation() {
    let api = api();
    for (path, url, kind) in [
        ("api/v1", "/api/v1/namespaces/{namespace}/services/{name}", "Service"),
        ("api/v1", "/api/v1/nodes/{name}", "Node"),
        ("apis/apps/v1", "/apis/apps/v1/namespaces/{namespace}/deployments/{name}", "Deployment"),
    ] {
        let document = parsed(&api, path);
        let patch = &document["paths"][url]["patch"];
        assert_eq!(patch[GVK]["kind"], kind);
        let parameters = patch["parameters"].as_array().expect("parameters");
        assert!(parameters.iter().any(|p| p["name"] == "fieldValidation" && p["in"] == "query"), "{url}");
    }
    let reviews = parsed(&api, "apis/authorization.k8s.io/v1");
    assert_eq!(reviews["paths"].as_object().expect("paths").len(), 1, "a review is only posted");
}

//
#[test]
fn schemas_are_complete() {
    let api = api();
    for path in ["api/v1", "apis/apps/v1", "apis/authorization.k8s.io/v1"] {
        let document = parsed(&api, path);
        let schemas = document["components"]["schemas"].as_object().expect("schemas");
        assert!(schemas.values().all(|schema| !schema["description"].as_str().unwrap_or_default().is_empty()));
        for part in document.to_string().split("\"$ref\":\"").skip(1) {
            let target = part.split('"').next().and_then(|t| t.strip_prefix(REFERENCE)).expect("a reference");
            assert!(schemas.contains_key(target), "{path}: {target}");
        }
    }
    let core = parsed(&api, "api/v1");
    let service = &core["components"]["schemas"]["io.k8s.api.core.v1.Service"];
    assert_eq!(service[GVK], serde_json::json!([{"group": "", "kind": "Service", "version": "v1"}]));
    assert_eq!(service["properties"]["spec"]["allOf"][0]["$ref"], format!("{REFERENCE}io.k8s.api.core.v1.ServiceSpec"));
    assert!(core["components"]["schemas"]["io.k8s.api.core.v1.PodList"].is_object());
}

//
#[test]
fn schemas_carry_merge_facts_and_defaults() {
    let core = parsed(&api(), "api/v1");
    let schemas = &core["components"]["schemas"];
    let ports = &schemas["io.k8s.api.core.v1.ServiceSpec"]["properties"]["ports"];
    assert_eq!(ports["x-kubernetes-list-type"], "map");
    assert_eq!(ports["x-kubernetes-list-map-keys"], json!(["port", "protocol"]));
    assert_eq!(ports["x-kubernetes-patch-merge-key"], "port");
    assert_eq!(ports["x-kubernetes-patch-strategy"], "merge");
    let volumes = &schemas["io.k8s.api.core.v1.PodSpec"]["properties"]["volumes"];
    assert_eq!(volumes["x-kubernetes-patch-strategy"], "merge,retainKeys");
    assert_eq!(schemas["io.k8s.api.core.v1.ServiceSpec"]["properties"]["selector"]["x-kubernetes-map-type"], "atomic");
    assert_eq!(schemas["io.k8s.apimachinery.pkg.apis.meta.v1.LabelSelector"]["x-kubernetes-map-type"], "atomic");
    assert_eq!(schemas["io.k8s.api.core.v1.ServicePort"]["properties"]["protocol"]["default"], "TCP");
}
