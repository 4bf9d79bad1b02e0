//! Bodies made to be slow or large: each is answered in time that grows with its size and no faster, or refused.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails by panicking")]

mod common;

use common::*;
use http::StatusCode;
use minisvc_apiserver::ApiServer;
use serde_json::{Map, Value, json};

const NS: &str = "/api/v1/namespaces/default";
const JSON_PATCH: &str = "application/json-patch+json";
const MERGE: &str = "application/merge-patch+json";
const STRATEGIC: &str = "application/strategic-merge-patch+json";
const APPLY: &str = "application/apply-patch+yaml";

/// Long enough that comparing all elements with each other shows, and short enough that doing it right takes seconds.
const LONG: usize = 3000;

fn many(count: usize, make: impl Fn(usize) -> Value) -> Value {
    (0..count).map(make).collect()
}

fn keys(count: usize, value: &Value) -> Value {
    Value::Object((0..count).map(|n| (format!("k{n}"), value.clone())).collect::<Map<_, _>>())
}

/// Every request has the deadline of all requests of these tests: work that grows with the square of a body's size takes
/// minutes here.
async fn patch(server: &ApiServer, path: &str, kind: &str, body: &Value) -> StatusCode {
    ask("PATCH", &format!("{path}?fieldManager=t&force=true&dryRun=All")).patch(kind, body).of(server).await.code
}

/// The same without `force`, which only apply knows.
async fn change(server: &ApiServer, path: &str, kind: &str, body: &Value) -> StatusCode {
    ask("PATCH", &format!("{path}?dryRun=All")).patch(kind, body).of(server).await.code
}

// A-012, A-070, A-073
#[tokio::test]
async fn patches_of_many_keys_end() {
    let server = server().await;
    let big = format!("{NS}/configmaps/big");
    let size = 50_000;
    let object = json!({"metadata": {"name": "big"}, "data": keys(size, &json!("v"))});
    assert_eq!(ask("POST", &format!("{NS}/configmaps")).json(&object).of(&server).await.code, StatusCode::CREATED);
    let nulls = json!({"data": keys(size, &Value::Null)});
    for kind in [MERGE, STRATEGIC] {
        assert_eq!(change(&server, &big, kind, &nulls).await, StatusCode::OK, "{kind}");
    }
    let config = json!({"apiVersion": "v1", "kind": "ConfigMap", "data": keys(size, &json!("v"))});
    assert_eq!(patch(&server, &big, APPLY, &config).await, StatusCode::OK);
    let operations = |count: usize| many(count, |n| json!({"op": "remove", "path": format!("/data/k{n}")}));
    assert_eq!(change(&server, &big, JSON_PATCH, &operations(10_000)).await, StatusCode::OK);
    assert_eq!(change(&server, &big, JSON_PATCH, &operations(10_001)).await, StatusCode::PAYLOAD_TOO_LARGE);
    // Copies that would take 10,000 times the object.
    let copies = many(10_000, |n| json!({"op": "copy", "from": "/data", "path": format!("/data/c{n}")}));
    assert_eq!(change(&server, &big, JSON_PATCH, &copies).await, StatusCode::PAYLOAD_TOO_LARGE);
}

// A-012
#[tokio::test]
async fn long_lists_take_their_share_of_time_and_no_more() {
    let server = server().await;
    let ip = |n: usize| format!("1.0.{}.{}", n / 256, n % 256);
    let pod = |spec: Value| json!({"metadata": {"name": "long"}, "spec": spec});
    let container = |key: &str, list: Value| json!({"containers": [{"name": "c", "image": "i", key: list}]});
    let binding = json!({"kind": "ClusterRole", "name": "view"});
    let rbac = "/apis/rbac.authorization.k8s.io/v1";
    let rows = [
        (
            format!("{NS}/configmaps"),
            json!({"metadata": {
                "name": "long",
                "finalizers": many(LONG, |n| json!(format!("a/b{n}"))),
                "ownerReferences": many(LONG, |n| json!({"apiVersion": "v1", "kind": "Pod", "name": "p", "uid": n.to_string()})),
            }}),
        ),
        (
            format!("{NS}/pods"),
            pod(json!({"containers": many(LONG, |n| json!({"name": format!("c{n}"), "image": "i"}))})),
        ),
        (format!("{NS}/pods"), pod(container("env", many(LONG, |n| json!({"name": format!("E{n}")}))))),
        (
            format!("{NS}/pods"),
            pod(container("ports", many(LONG, |n| json!({"containerPort": n + 1, "hostPort": n + 1})))),
        ),
        (
            format!("{NS}/pods"),
            pod(json!({
                "tolerations": many(LONG, |n| json!({"key": format!("k{n}")})),
                "volumes": many(LONG, |n| json!({"name": format!("v{n}"), "emptyDir": {}})),
                "containers": [{
                    "name": "c",
                    "image": "i",
                    "volumeMounts": many(LONG, |n| json!({"name": format!("v{n}"), "mountPath": format!("/m{n}")})),
                }],
            })),
        ),
        (
            format!("{NS}/services"),
            json!({"metadata": {"name": "long"}, "spec": {
                "ports": many(LONG, |n| json!({"name": format!("p{n}"), "port": n + 1})),
                "externalIPs": many(LONG, |n| json!(ip(n))),
            }}),
        ),
        (
            format!("{NS}/endpoints"),
            json!({"metadata": {"name": "long"}, "subsets": [
                {"addresses": many(LONG, |n| json!({"ip": ip(n)})), "ports": many(LONG, |n| json!({"name": format!("p{n}"), "port": n + 1}))},
            ]}),
        ),
        (
            "/api/v1/nodes".to_owned(),
            json!({"metadata": {"name": "long"}, "spec": {"taints": many(LONG, |n| json!({"key": format!("k{n}"), "effect": "NoSchedule"}))}}),
        ),
        (
            format!("{rbac}/clusterroles"),
            json!({"metadata": {"name": "long"}, "rules": many(LONG, |n| json!({"verbs": ["get"], "apiGroups": [""], "resources": [format!("r{n}")]}))}),
        ),
        (
            format!("{rbac}/clusterrolebindings"),
            json!({"metadata": {"name": "long"}, "roleRef": binding, "subjects": many(LONG, |n| json!({"kind": "User", "name": format!("u{n}")}))}),
        ),
    ];
    for (path, object) in rows {
        let made = ask("POST", &path).json(&object).of(&server).await;
        assert_eq!(made.code, StatusCode::CREATED, "{path} {:.300}", made.text);
        let one = format!("{path}/long");
        for code in [
            change(&server, &one, STRATEGIC, &object).await,
            patch(&server, &one, APPLY, &made.json_without("managedFields")).await,
        ] {
            assert!(code.is_success() || code == StatusCode::UNPROCESSABLE_ENTITY, "{path}: {code}");
        }
        ask("DELETE", &format!("{one}?gracePeriodSeconds=0")).of(&server).await;
    }
}

// A-012
#[tokio::test]
async fn what_is_too_much_is_refused() {
    let server = server().await;
    let maps = format!("{NS}/configmaps");
    let post = async |body: String| {
        ask("POST", &maps).header("content-type", "application/json").bytes(body).of(&server).await
    };
    let limit = 3 << 20;
    let fill = |length: usize| format!(r#"{{"metadata":{{"name":"m"}},"data":{{"a":"{}"}}}}"#, "x".repeat(length - 41));
    // A ConfigMap may not be as large as that, but it was read.
    assert_eq!((fill(limit).len(), post(fill(limit)).await.code), (limit, StatusCode::UNPROCESSABLE_ENTITY));
    let large = post(fill(limit + 1)).await;
    assert_eq!((large.code, &large.json()["reason"]), (StatusCode::PAYLOAD_TOO_LARGE, &json!("RequestEntityTooLarge")));

    let long = json!({"metadata": {"name": "l", "finalizers": many(5001, |n| json!(format!("a/b{n}")))}});
    let refused = post(long.to_string()).await;
    assert_eq!(refused.code, StatusCode::PAYLOAD_TOO_LARGE);
    assert!(refused.text.contains("5001 elements, the limit is 5000"), "{}", refused.text);

    for (kind, body) in [
        ("application/json", format!("{{\"data\":{}", "[".repeat(1_000_000))),
        ("application/yaml", format!("data: {}", "[".repeat(1_000_000))),
        ("application/yaml", format!("a: &a [{}]\nb: [{}]", "x,".repeat(1000), "*a,".repeat(100_000))),
        ("application/yaml", format!("a: &a {}\nb: [{}]", "x".repeat(1 << 20), "*a,".repeat(100_000))),
        ("application/vnd.kubernetes.protobuf", "k8s\0".to_owned() + &"\x0a\x7f".repeat(1_000_000)),
    ] {
        let answer = ask("POST", &maps).header("content-type", kind).bytes(body).of(&server).await;
        assert_eq!(answer.code, StatusCode::BAD_REQUEST, "{kind} {:.200}", answer.text);
    }
    for query in ["labelSelector=", "fieldSelector=", "continue=", "limit=", "resourceVersion=", "timeoutSeconds="] {
        let value = if query == "fieldSelector=" { "metadata.name!%3Da," } else { "!a," };
        let answer = ask("GET", &format!("{maps}?{query}{}", value.repeat(3000))).of(&server).await;
        assert_eq!(answer.code, StatusCode::BAD_REQUEST, "{query}");
    }
    assert_eq!(ask("GET", &maps).of(&server).await.code, StatusCode::OK);
}

// A-012
#[tokio::test]
async fn what_is_nested_too_deeply_is_refused_in_every_format() {
    let server = server().await;
    let path = "/apis/apps/v1/namespaces/default/controllerrevisions";
    let head = r#""apiVersion": "apps/v1", "kind": "ControllerRevision", "revision": 1, "metadata": {"name": "deep"}"#;
    for depth in [50, 200, 1000, 2000, 50_000] {
        for (open, close) in [("[", "]"), ("{\"a\": ", "}")] {
            let inner = if open == "[" { "" } else { "1" };
            let deep = format!("{}{inner}{}", open.repeat(depth), close.repeat(depth));
            let body = format!("{{{head}, \"data\": {{\"a\": {deep}}}}}");
            let expected = if depth < 60 { StatusCode::CREATED } else { StatusCode::BAD_REQUEST };
            // With a comment it is no JSON any more, and read by the other parser.
            for (method, kind, text) in [
                ("POST", "application/json", body.clone()),
                ("POST", "application/yaml", format!("# YAML\n{body}")),
                ("PATCH", APPLY, format!("# YAML\n{body}")),
            ] {
                let one = if method == "PATCH" { "/deep?fieldManager=t" } else { "" };
                let asking = ask(method, &format!("{path}{one}")).header("content-type", kind).bytes(text);
                let answer = asking.of(&server).await;
                assert_eq!(answer.code, expected, "{depth} {open} {kind} {:.200}", answer.text);
                ask("DELETE", &format!("{path}/deep")).of(&server).await;
            }
        }
    }
}

// A-012
#[tokio::test]
async fn patches_cannot_make_an_object_that_nobody_can_read() {
    let server = server().await;
    let path = "/apis/apps/v1/namespaces/default/controllerrevisions";
    let nested = |depth: usize| (0..depth).fold(json!({}), |inner, _| json!({"a": inner}));
    let object = json!({"metadata": {"name": "deep"}, "revision": 1, "data": nested(60)});
    assert_eq!(ask("POST", path).json(&object).of(&server).await.code, StatusCode::CREATED);
    let one = format!("{path}/deep");
    let add = json!([{"op": "add", "path": format!("/data{}", "/a".repeat(61)), "value": nested(60)}]);
    let grow = (0..60).fold(nested(60), |inner, _| json!({"a": inner}));
    for (kind, body) in [(JSON_PATCH, add), (MERGE, json!({"data": grow.clone()})), (STRATEGIC, json!({"data": grow}))]
    {
        let answer = ask("PATCH", &one).patch(kind, &body).of(&server).await;
        assert_eq!(answer.code, StatusCode::BAD_REQUEST, "{kind} {:.200}", answer.text);
    }
    assert_eq!(ask("GET", &one).of(&server).await.json()["data"], nested(60));
    assert_eq!(ask("DELETE", &one).of(&server).await.code, StatusCode::OK);
}
