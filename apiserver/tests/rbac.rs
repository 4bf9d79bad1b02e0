//! Who may do what: roles, bindings, impersonation and the reviews that tell about them, over the whole API.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails by panicking")]

mod common;

use std::time::Duration;

use common::*;
use http::StatusCode;
use minisvc_apiserver::{ApiServer, Identity};
use serde_json::{Value, json};

const RBAC: &str = "/apis/rbac.authorization.k8s.io/v1";
const SECRETS: &str = "/api/v1/namespaces/default/secrets";

fn user(name: &str) -> Identity {
    Identity::new(name, &[])
}

async fn post(server: &ApiServer, path: &str, body: Value) -> Value {
    let answer = ask("POST", path).json(&body).of(server).await;
    assert_eq!(answer.code, StatusCode::CREATED, "{}", answer.text);
    answer.json()
}

async fn cluster_role(server: &ApiServer, name: &str, rules: Value) {
    post(server, &format!("{RBAC}/clusterroles"), json!({"metadata": {"name": name}, "rules": rules})).await;
}

/// Binds a ClusterRole to a user in a namespace; everywhere when that is empty.
async fn bind(server: &ApiServer, namespace: &str, role: &str, user: &str) {
    let path = match namespace {
        "" => format!("{RBAC}/clusterrolebindings"),
        namespace => format!("{RBAC}/namespaces/{namespace}/rolebindings"),
    };
    let body = json!({
        "metadata": {"name": format!("{role}-{user}")},
        "roleRef": {"kind": "ClusterRole", "name": role},
        "subjects": [{"kind": "User", "name": user}],
    });
    post(server, &path, body).await;
}

async fn code(server: &ApiServer, who: &Identity, method: &str, path: &str) -> u16 {
    ask(method, path).identity(who.clone()).of(server).await.code.as_u16()
}

//
#[tokio::test]
async fn a_binding_counts_from_its_answer_to_its_deletion() {
    let server = server().await;
    let jane = user("jane");
    let refused = ask("GET", SECRETS).identity(jane.clone()).of(&server).await.json();
    assert_eq!(
        refused["message"],
        "secrets is forbidden: User \"jane\" cannot list resource \"secrets\" in API group \"\" in the namespace \"default\""
    );
    cluster_role(&server, "secrets", json!([{"verbs": ["list"], "apiGroups": [""], "resources": ["secrets"]}])).await;
    bind(&server, "default", "secrets", "jane").await;
    assert_eq!(code(&server, &jane, "GET", SECRETS).await, 200);
    assert_eq!(code(&server, &jane, "GET", "/api/v1/namespaces/kube-system/secrets").await, 403);
    assert_eq!(code(&server, &jane, "GET", "/api/v1/secrets").await, 403);
    assert_eq!(code(&server, &jane, "GET", &format!("{SECRETS}/x")).await, 403);
    assert_eq!(code(&server, &user("joan"), "GET", SECRETS).await, 403);

    ask("DELETE", &format!("{RBAC}/clusterroles/secrets")).of(&server).await;
    let dangling = ask("GET", SECRETS).identity(jane.clone()).of(&server).await.json();
    let message = dangling["message"].as_str().unwrap();
    let suffix = ": RBAC: clusterrole.rbac.authorization.k8s.io \"secrets\" not found";
    assert!(message.ends_with(suffix), "{message}");
    ask("DELETE", &format!("{RBAC}/namespaces/default/rolebindings/secrets-jane")).of(&server).await;
    assert_eq!(ask("GET", SECRETS).identity(jane).of(&server).await.json(), refused);
}

//
#[tokio::test]
async fn names_subresources_and_paths_are_told_apart() {
    let server = server().await;
    let jane = user("jane");
    let rules = json!([
        {"verbs": ["get", "list", "watch"], "apiGroups": [""], "resources": ["configmaps"], "resourceNames": ["mine"]},
        {"verbs": ["get"], "apiGroups": [""], "resources": ["pods/log"]},
        {"verbs": ["get"], "nonResourceURLs": ["/metrics"]},
    ]);
    cluster_role(&server, "some", rules).await;
    bind(&server, "", "some", "jane").await;
    let maps = "/api/v1/namespaces/default/configmaps";
    post(&server, maps, json!({"metadata": {"name": "mine"}})).await;
    for (path, expected) in [
        (format!("{maps}/mine"), 200),
        (format!("{maps}/other"), 403),
        (maps.to_owned(), 403),
        // Only one object can come, and that one may be seen.
        (format!("{maps}?fieldSelector=metadata.name%3Dmine"), 200),
        (format!("{maps}?fieldSelector=metadata.name%3Dother"), 403),
        ("/api/v1/namespaces/default/pods/p/log".to_owned(), 404),
        ("/api/v1/namespaces/default/pods/p".to_owned(), 403),
        ("/metrics".to_owned(), 200),
        ("/nothing".to_owned(), 403),
    ] {
        assert_eq!(code(&server, &jane, "GET", &path).await, expected, "{path}");
    }
    assert_eq!(code(&server, &user("joan"), "GET", "/metrics").await, 403);
    let line = |watch: &str| format!("{maps}?watch=1&fieldSelector=metadata.name%3D{watch}");
    let mut lines = ask("GET", &line("mine")).identity(jane.clone()).lines(&server).await;
    assert_eq!(lines.brief().await, ("ADDED".to_owned(), "mine".to_owned()));
    assert_eq!(code(&server, &jane, "GET", &line("other")).await, 403);
}

//
#[tokio::test]
async fn what_creates_needs_the_right_to_create() {
    let server = server().await;
    let jane = user("jane");
    let verbs = |verbs: Value| json!([{"verbs": verbs, "apiGroups": [""], "resources": ["services"]}]);
    cluster_role(&server, "change", verbs(json!(["get", "patch", "update"]))).await;
    bind(&server, "default", "change", "jane").await;
    let service =
        json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "s"}, "spec": {"ports": [{"port": 80}]}});
    let path = "/api/v1/namespaces/default/services/s";
    let put = async || ask("PUT", path).identity(jane.clone()).json(&service).of(&server).await;
    let apply = async || {
        let asking = ask("PATCH", &format!("{path}?fieldManager=t&force=true")).identity(jane.clone());
        asking.patch("application/apply-patch+yaml", &service).of(&server).await
    };
    for answer in [put().await, apply().await] {
        assert_eq!(answer.code, StatusCode::FORBIDDEN, "{}", answer.text);
        assert!(answer.text.contains("cannot create resource"), "{}", answer.text);
    }
    post(&server, "/api/v1/namespaces/default/services", service.clone()).await;
    assert_eq!((put().await.code, apply().await.code), (StatusCode::OK, StatusCode::OK));
    ask("DELETE", path).of(&server).await;
    cluster_role(&server, "create", verbs(json!(["create"]))).await;
    bind(&server, "default", "create", "jane").await;
    assert_eq!(apply().await.code, StatusCode::CREATED);
}

//
#[tokio::test]
async fn the_usual_roles_are_there_and_filled_in() {
    let server = server().await;
    let rules = async |name: &str| -> Vec<Value> {
        let role = ask("GET", &format!("{RBAC}/clusterroles/{name}")).of(&server).await.json();
        role["rules"].as_array().unwrap_or_else(|| panic!("{name}: {role}")).clone()
    };
    for name in ["cluster-admin", "system:discovery", "system:basic-user", "system:public-info-viewer"] {
        assert!(!rules(name).await.is_empty(), "{name}");
        assert_eq!(ask("GET", &format!("{RBAC}/clusterrolebindings/{name}")).of(&server).await.code, StatusCode::OK);
    }
    let deadline = tokio::time::Instant::now() + DEADLINE;
    let holds = |rules: &[Value], group: &str| rules.iter().any(|rule| rule["apiGroups"][0] == group);
    let filled = async || {
        let (admin, edit, view) = (rules("admin").await, rules("edit").await, rules("view").await);
        holds(&admin, "rbac.authorization.k8s.io")
            && holds(&admin, "apps")
            && holds(&edit, "apps")
            && holds(&view, "apps")
    };
    while !filled().await {
        assert!(tokio::time::Instant::now() < deadline, "the aggregated roles stay empty");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    // Who adds a kind adds a role with the label, and it counts at once.
    let jane = user("jane");
    bind(&server, "default", "view", "jane").await;
    assert_eq!(code(&server, &jane, "GET", "/api/v1/namespaces/default/pods").await, 200);
    let leases = "/apis/coordination.k8s.io/v1/namespaces/default/leases";
    assert_eq!(code(&server, &jane, "GET", leases).await, 403);
    let labels = json!({"rbac.authorization.k8s.io/aggregate-to-view": "true"});
    let more = json!([{"verbs": ["list"], "apiGroups": ["coordination.k8s.io"], "resources": ["leases"]}]);
    post(&server, &format!("{RBAC}/clusterroles"), json!({"metadata": {"name": "l", "labels": labels}, "rules": more}))
        .await;
    assert_eq!(code(&server, &jane, "GET", leases).await, 200);
    while !holds(&rules("view").await, "coordination.k8s.io") {
        assert!(tokio::time::Instant::now() < deadline, "the role is not filled in");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

//
#[tokio::test]
async fn nobody_grants_what_he_does_not_hold() {
    let server = server().await;
    let jane = user("jane");
    bind(&server, "default", "admin", "jane").await;
    let roles = format!("{RBAC}/namespaces/default/roles");
    let bindings = format!("{RBAC}/namespaces/default/rolebindings");
    let send = async |method: &str, path: &str, body: Value| {
        let answer = ask(method, path).identity(jane.clone()).json(&body).of(&server).await;
        (answer.code.as_u16(), answer.json())
    };
    let role = |name: &str, verb: &str, resource: &str| {
        let rules = json!([{"verbs": [verb], "apiGroups": [""], "resources": [resource]}]);
        json!({"metadata": {"name": name}, "rules": rules})
    };
    let binding = |name: &str, kind: &str, role: &str| {
        let subjects = json!([{"kind": "User", "name": "joan"}]);
        json!({"metadata": {"name": name}, "roleRef": {"kind": kind, "name": role}, "subjects": subjects})
    };
    assert_eq!(send("POST", &roles, role("held", "get", "pods")).await.0, 201);
    let (code, status) = send("POST", &roles, role("nodes", "get", "nodes")).await;
    assert_eq!((code, &status["reason"]), (403, &json!("Forbidden")));
    let text = "roles.rbac.authorization.k8s.io \"nodes\" is forbidden: user \"jane\" (groups=[\"system:authenticated\"]) is \
                attempting to grant RBAC permissions not currently held:\n{APIGroups:[\"\"], Resources:[\"nodes\"], Verbs:[\"get\"]}";
    assert_eq!(status["message"], text);
    // Neither by a change, a patch, an apply nor a dry run.
    assert_eq!(send("PUT", &format!("{roles}/held"), role("held", "*", "pods")).await.0, 403);
    let patch = role("held", "impersonate", "users");
    for (kind, force) in [("application/merge-patch+json", ""), ("application/apply-patch+yaml", "&force=true")] {
        let path = format!("{roles}/held?fieldManager=t&dryRun=All{force}");
        let answer = ask("PATCH", &path).identity(jane.clone()).patch(kind, &patch).of(&server).await;
        assert_eq!(answer.code, StatusCode::FORBIDDEN, "{kind}: {}", answer.text);
    }
    // What leaves the rules alone is no grant.
    post(&server, &roles, role("given", "get", "nodes")).await;
    let label = json!({"metadata": {"labels": {"a": "b"}}});
    let labelled = ask("PATCH", &format!("{roles}/given")).identity(jane.clone());
    assert_eq!(labelled.patch("application/merge-patch+json", &label).of(&server).await.code, StatusCode::OK);

    assert_eq!(send("POST", &bindings, binding("own", "Role", "held")).await.0, 201);
    assert_eq!(send("POST", &bindings, binding("view", "ClusterRole", "view")).await.0, 201);
    assert_eq!(send("POST", &bindings, binding("more", "ClusterRole", "cluster-admin")).await.0, 403);
    assert_eq!(send("POST", &bindings, binding("given", "Role", "given")).await.0, 403);
    let (code, status) = send("POST", &bindings, binding("gone", "Role", "gone")).await;
    assert_eq!((code, &status["message"]), (404, &json!("roles.rbac.authorization.k8s.io \"gone\" not found")));

    // Two verbs lift the check.
    let lifted = json!([
        {"verbs": ["escalate"], "apiGroups": ["rbac.authorization.k8s.io"], "resources": ["roles"], "resourceNames": ["given"]},
        {"verbs": ["bind"], "apiGroups": ["rbac.authorization.k8s.io"], "resources": ["clusterroles"]},
    ]);
    cluster_role(&server, "lifted", lifted).await;
    bind(&server, "default", "lifted", "jane").await;
    assert_eq!(send("PUT", &format!("{roles}/given"), role("given", "*", "nodes")).await.0, 200);
    assert_eq!(send("PUT", &format!("{roles}/held"), role("held", "*", "nodes")).await.0, 403);
    assert_eq!(send("POST", &bindings, binding("more", "ClusterRole", "cluster-admin")).await.0, 201);
}

//
#[tokio::test]
async fn aggregation_is_for_those_who_hold_everything() {
    let server = server().await;
    let rules = json!([{"verbs": ["*"], "apiGroups": ["rbac.authorization.k8s.io"], "resources": ["clusterroles"]}]);
    cluster_role(&server, "roles", rules).await;
    bind(&server, "", "roles", "jane").await;
    let body = |rules: Value| {
        let selectors = json!([{"matchLabels": {"x": "y"}}]);
        json!({"metadata": {"name": "sum"}, "aggregationRule": {"clusterRoleSelectors": selectors}, "rules": rules})
    };
    // `*` on ClusterRoles includes `escalate`; without that, selecting others is granting everything.
    let narrow =
        json!([{"verbs": ["create"], "apiGroups": ["rbac.authorization.k8s.io"], "resources": ["clusterroles"]}]);
    cluster_role(&server, "create", narrow).await;
    bind(&server, "", "create", "joan").await;
    let path = format!("{RBAC}/clusterroles");
    let refused = ask("POST", &path).identity(user("joan")).json(&body(json!([]))).of(&server).await;
    assert_eq!(refused.code, StatusCode::FORBIDDEN, "{}", refused.text);
    let made = ask("POST", &path).identity(user("jane")).json(&body(json!([]))).of(&server).await;
    assert_eq!(made.code, StatusCode::CREATED, "{}", made.text);
}

//
#[tokio::test]
async fn who_may_impersonate_acts_as_somebody_else() {
    let server = server().await;
    let me = "/apis/authentication.k8s.io/v1/selfsubjectreviews";
    let answer = ask("POST", me)
        .header("impersonate-user", "jane")
        .header("impersonate-group", "dev")
        .header("impersonate-uid", "7")
        .header("impersonate-extra-scope", "a")
        .json(&json!({}))
        .of(&server)
        .await
        .json();
    let expected =
        json!({"username": "jane", "uid": "7", "groups": ["dev", "system:authenticated"], "extra": {"scope": ["a"]}});
    assert_eq!(answer["status"]["userInfo"], expected);
    // Rights are those of the other, not one's own.
    let narrow = ask("GET", SECRETS).header("impersonate-user", "jane").of(&server).await;
    assert_eq!(narrow.code, StatusCode::FORBIDDEN);
    assert!(narrow.text.contains("User \\\"jane\\\" cannot list"), "{}", narrow.text);

    let rules = json!([
        {"verbs": ["impersonate"], "apiGroups": [""], "resources": ["users"], "resourceNames": ["jane"]},
        {"verbs": ["impersonate"], "apiGroups": ["authentication.k8s.io"], "resources": ["userextras/scope"]},
    ]);
    cluster_role(&server, "act", rules).await;
    bind(&server, "", "act", "boss").await;
    bind(&server, "default", "edit", "boss").await;
    for (headers, code) in [
        (&[("impersonate-user", "jane")][..], 201),
        (&[("impersonate-user", "jane"), ("impersonate-extra-scope", "a")], 201),
        (&[("impersonate-user", "joan")], 403),
        (&[("impersonate-user", "jane"), ("impersonate-group", "system:masters")], 403),
        (&[("impersonate-user", "jane"), ("impersonate-uid", "1")], 403),
        (&[("impersonate-user", "jane"), ("impersonate-extra-other", "a")], 403),
        (&[("impersonate-group", "system:masters")], 400),
        // `edit` includes the accounts of its namespace.
        (&[("impersonate-user", "system:serviceaccount:default:robot")], 201),
        (&[("impersonate-user", "system:serviceaccount:kube-system:robot")], 403),
    ] {
        let mut asking = ask("POST", me).identity(user("boss")).json(&json!({}));
        for (name, value) in headers {
            asking = asking.header(name, value);
        }
        let answer = asking.of(&server).await;
        assert_eq!(answer.code.as_u16(), code, "{headers:?} {}", answer.text);
    }
    let refused = ask("GET", SECRETS).identity(user("boss")).header("impersonate-user", "joan").of(&server).await;
    assert_eq!(
        refused.json()["message"],
        "users \"joan\" is forbidden: User \"boss\" cannot impersonate resource \"users\" in API group \"\" at the cluster scope"
    );
    // Nobody is somebody who may not, even where no credentials are needed.
    let anonymous = ask("GET", "/version").anonymous().header("impersonate-user", "admin").of(&server).await;
    assert_eq!(anonymous.code, StatusCode::FORBIDDEN);
}

//
#[tokio::test]
async fn reviews_say_what_the_rules_say() {
    let server = server().await;
    bind(&server, "default", "view", "jane").await;
    let status = async |who: &Identity, kind: &str, spec: Value| {
        let (group, namespace) = match kind {
            "tokenreviews" => ("authentication", ""),
            "localsubjectaccessreviews" => ("authorization", "/namespaces/default"),
            _ => ("authorization", ""),
        };
        let path = format!("/apis/{group}.k8s.io/v1{namespace}/{kind}");
        let answer = ask("POST", &path).identity(who.clone()).json(&json!({"spec": spec})).of(&server).await;
        (answer.code.as_u16(), answer.json()["status"].clone())
    };
    let pods = |verb: &str, namespace: &str| json!({"verb": verb, "resource": "pods", "namespace": namespace});
    let reason = "RBAC: allowed by RoleBinding \"view-jane/default\" of ClusterRole \"view\" to User \"jane\"";
    for (verb, namespace, expected) in [
        ("list", "default", json!({"allowed": true, "reason": reason})),
        ("list", "kube-system", json!({"allowed": false})),
        ("delete", "default", json!({"allowed": false})),
        ("*", "default", json!({"allowed": false})),
    ] {
        let attributes = json!({"resourceAttributes": pods(verb, namespace)});
        let own = status(&user("jane"), "selfsubjectaccessreviews", attributes.clone()).await;
        assert_eq!(own, (201, expected.clone()), "{attributes}");
        let mut of_jane = attributes.clone();
        of_jane["user"] = json!("jane");
        assert_eq!(status(&admin(), "subjectaccessreviews", of_jane.clone()).await, (201, expected.clone()));
        let local = status(&admin(), "localsubjectaccessreviews", of_jane.clone()).await;
        assert_eq!(local, if namespace == "default" { (201, expected) } else { (422, json!("Failure")) });
        assert_eq!(status(&user("jane"), "subjectaccessreviews", of_jane).await.0, 403);
    }
    let path = |path: &str| json!({"nonResourceAttributes": {"verb": "get", "path": path}});
    for (asked, allowed) in [("/api", true), ("/metrics", false)] {
        let (_, found) = status(&user("jane"), "selfsubjectaccessreviews", path(asked)).await;
        assert_eq!(found["allowed"], allowed, "{asked}");
    }
    assert_eq!(status(&user("jane"), "selfsubjectaccessreviews", json!({})).await.0, 422);

    let (code, rules) = status(&user("jane"), "selfsubjectrulesreviews", json!({"namespace": "default"})).await;
    assert_eq!((code, &rules["incomplete"]), (201, &json!(false)));
    let has = |rules: &Value, list: &str, key: &str, value: &str| {
        rules[list]
            .as_array()
            .unwrap()
            .iter()
            .any(|rule| rule[key].as_array().is_some_and(|v| v.contains(&json!(value))))
    };
    assert!(
        has(&rules, "resourceRules", "resources", "pods/log")
            && has(&rules, "nonResourceRules", "nonResourceURLs", "/api")
    );
    let (_, elsewhere) = status(&user("jane"), "selfsubjectrulesreviews", json!({"namespace": "kube-system"})).await;
    assert!(!has(&elsewhere, "resourceRules", "resources", "pods/log"), "{elsewhere}");
    let (_, all) = status(&admin(), "selfsubjectrulesreviews", json!({"namespace": "default"})).await;
    assert!(has(&all, "resourceRules", "verbs", "*") && has(&all, "nonResourceRules", "nonResourceURLs", "*"), "{all}");
}

//
#[tokio::test]
async fn a_token_is_told_by_a_review() {
    let server = server().await;
    let accounts = "/api/v1/namespaces/default/serviceaccounts";
    let account = post(&server, accounts, json!({"metadata": {"name": "robot"}})).await;
    let token = async |audiences: Value| {
        let made = post(&server, &format!("{accounts}/robot/token"), json!({"spec": {"audiences": audiences}})).await;
        made["status"]["token"].clone()
    };
    let review = async |token: &Value, audiences: Value| {
        let body = json!({"spec": {"token": token, "audiences": audiences}});
        post(&server, "/apis/authentication.k8s.io/v1/tokenreviews", body).await["status"].clone()
    };
    let (own, vault) = (token(json!([])).await, token(json!(["vault"])).await);
    let found = review(&own, json!([])).await;
    assert_eq!(found["authenticated"], true, "{found}");
    assert_eq!(found["user"]["username"], "system:serviceaccount:default:robot");
    assert_eq!(found["user"]["uid"], account["metadata"]["uid"]);
    assert_eq!(review(&vault, json!(["vault", "bank"])).await["audiences"], json!(["vault"]));
    for (token, audiences) in [(&vault, json!([])), (&own, json!(["vault"])), (&json!("nonsense"), json!([]))] {
        let found = review(token, audiences).await;
        assert!(found.get("authenticated").is_none() && found["error"].is_string(), "{found}");
    }
}
