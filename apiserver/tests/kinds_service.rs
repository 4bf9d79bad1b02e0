//! Services as a client of the API sees them.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking, in its helpers too")]

mod common;

use std::net::{Ipv4Addr, SocketAddr};

use common::{Answer, ask, server};
use http::StatusCode;
use minisvc_apiserver::{ApiServer, Options};
use serde_json::{Value, json};

const SERVICES: &str = "/api/v1/namespaces/default/services";
const KUBECTL: &str = "application/json;as=Table;v=v1;g=meta.k8s.io,application/json";

fn service(name: &str, spec: Value) -> Value {
    json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": name}, "spec": spec})
}

fn web() -> Value {
    json!({"selector": {"app": "web"}, "ports": [{"port": 80, "targetPort": 8080}]})
}

async fn post(server: &ApiServer, name: &str, spec: Value) -> Answer {
    ask("POST", SERVICES).json(&service(name, spec)).of(server).await
}

async fn created(server: &ApiServer, name: &str, spec: Value) -> Value {
    let answer = post(server, name, spec).await;
    assert_eq!(answer.code, StatusCode::CREATED, "{}", answer.text);
    answer.json()
}

async fn patched(server: &ApiServer, name: &str, patch: Value) -> Answer {
    ask("PATCH", &format!("{SERVICES}/{name}")).patch("application/merge-patch+json", &patch).of(server).await
}

fn causes(answer: &Answer) -> Vec<(String, String)> {
    let status = answer.json();
    let causes = status["details"]["causes"].as_array().cloned().unwrap_or_default();
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    causes.iter().map(|cause| (text(&cause["field"]), text(&cause["reason"]))).collect()
}

async fn small(range: &str) -> ApiServer {
    let advertise = SocketAddr::from((Ipv4Addr::new(10, 95, 0, 2), 6443));
    let options = Options { service_cidrs: vec![range.parse().unwrap()], advertise, ..Options::default() };
    ApiServer::open(options).await.unwrap()
}

// S-001, S-018, S-021, S-025, S-027
#[tokio::test]
async fn a_created_service_is_complete() {
    let server = server().await;
    let spec = created(&server, "web", web()).await["spec"].clone();
    let address = spec["clusterIP"].as_str().unwrap();
    assert!(address.starts_with("10.96."), "{address}");
    let expected = json!({
        "selector": {"app": "web"},
        "ports": [{"port": 80, "targetPort": 8080, "protocol": "TCP"}],
        "type": "ClusterIP", "sessionAffinity": "None", "internalTrafficPolicy": "Cluster",
        "clusterIP": address, "clusterIPs": [address], "ipFamilies": ["IPv4"], "ipFamilyPolicy": "SingleStack",
    });
    assert_eq!(spec, expected);
}

// S-103
#[tokio::test]
async fn addresses_are_unique() {
    let server = server().await;
    let mut seen = std::collections::BTreeSet::new();
    for index in 0..40 {
        let address = created(&server, &format!("s{index}"), web()).await["spec"]["clusterIP"].to_string();
        assert!(seen.insert(address.clone()), "{address} was handed out twice");
    }
}

// S-004
#[tokio::test]
async fn delete_answers_with_the_service() {
    let server = server().await;
    created(&server, "web", web()).await;
    let answer = ask("DELETE", &format!("{SERVICES}/web")).of(&server).await;
    assert_eq!((answer.code, &answer.json()["kind"]), (StatusCode::OK, &json!("Service")));
}

// S-005
#[tokio::test]
async fn put_creates_overwrites_and_conflicts() {
    let server = server().await;
    let path = format!("{SERVICES}/web");
    let first = ask("PUT", &path).json(&service("web", web())).of(&server).await;
    assert_eq!(first.code, StatusCode::CREATED, "{}", first.text);
    let again = ask("PUT", &path).json(&service("web", web())).of(&server).await;
    assert_eq!(again.code, StatusCode::OK, "{}", again.text);
    assert_eq!(again.json()["spec"]["clusterIP"], first.json()["spec"]["clusterIP"]);
    patched(&server, "web", json!({"metadata": {"labels": {"a": "b"}}})).await;
    let stale = ask("PUT", &path).json(&first.json()).of(&server).await;
    assert_eq!((stale.code, &stale.json()["reason"]), (StatusCode::CONFLICT, &json!("Conflict")));
    assert_eq!(
        stale.json()["message"],
        "Operation cannot be fulfilled on services \"web\": the object has been modified; please apply your changes to \
         the latest version and try again"
    );
}

// S-006
#[tokio::test]
async fn field_selectors_of_services() {
    let server = server().await;
    created(&server, "fixed", json!({"clusterIP": "10.96.0.77", "ports": [{"port": 80}]})).await;
    created(&server, "node", json!({"type": "NodePort", "ports": [{"port": 80}]})).await;
    let names = |selector: &'static str| {
        let server = server.clone();
        async move {
            let list = ask("GET", &format!("{SERVICES}?fieldSelector={selector}")).of(&server).await.json();
            let items = list["items"].as_array().unwrap().clone();
            items.iter().map(|item| item["metadata"]["name"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
        }
    };
    assert_eq!(names("spec.clusterIP=10.96.0.77").await, ["fixed"]);
    assert_eq!(names("spec.type=NodePort").await, ["node"]);
    assert_eq!(names("metadata.name=fixed,metadata.namespace=default").await, ["fixed"]);
    let other = ask("GET", &format!("{SERVICES}?fieldSelector=spec.sessionAffinity=None")).of(&server).await;
    assert_eq!(other.code, StatusCode::BAD_REQUEST);
}

// S-007, S-008, S-029
#[tokio::test]
async fn spec_and_status_are_written_apart() {
    let server = server().await;
    let mut sent = service("lb", json!({"type": "LoadBalancer", "ports": [{"port": 80}]}));
    sent["status"] = json!({"loadBalancer": {"ingress": [{"ip": "192.0.2.1"}]}});
    let new = ask("POST", SERVICES).json(&sent).of(&server).await;
    assert_eq!(new.json()["status"], json!({"loadBalancer": {}}));
    let patch = json!({
        "metadata": {"labels": {"a": "b"}}, "spec": {"sessionAffinity": "ClientIP"},
        "status": {"loadBalancer": {"ingress": [{"ip": "192.0.2.1"}]}},
    });
    let path = format!("{SERVICES}/lb/status");
    let answer = ask("PATCH", &path).patch("application/merge-patch+json", &patch).of(&server).await.json();
    assert_eq!(answer["status"]["loadBalancer"]["ingress"], json!([{"ip": "192.0.2.1", "ipMode": "VIP"}]));
    assert_eq!(
        (&answer["spec"]["sessionAffinity"], &answer["metadata"]["labels"]),
        (&json!("None"), &json!({"a": "b"}))
    );
    let kept = patched(&server, "lb", json!({"status": null, "spec": {"sessionAffinity": "ClientIP"}})).await.json();
    assert_eq!(kept["status"], answer["status"]);
    let plain = patched(&server, "lb", json!({"spec": {"type": "ClusterIP"}})).await;
    assert_eq!(plain.json()["status"], json!({"loadBalancer": {}}), "{}", plain.text);
}

// S-074, S-136
#[tokio::test]
async fn only_a_load_balancer_has_ingress() {
    let server = server().await;
    created(&server, "web", web()).await;
    let path = format!("{SERVICES}/web/status");
    let put = |status: Value| ask("PATCH", &path).patch("application/merge-patch+json", &json!({"status": status}));
    let refused = put(json!({"loadBalancer": {"ingress": [{"ip": "192.0.2.1"}]}})).of(&server).await;
    assert_eq!(refused.code, StatusCode::UNPROCESSABLE_ENTITY);
    let expected = ("status.loadBalancer.ingress".to_owned(), "FieldValueForbidden".to_owned());
    assert_eq!(causes(&refused), [expected]);
    let conditions = json!([{"type": "Anything", "status": "True", "reason": "", "message": ""}]);
    let taken = put(json!({"conditions": conditions})).of(&server).await;
    assert_eq!(taken.json()["status"]["conditions"], conditions, "{}", taken.text);
}

// S-009, S-038
#[tokio::test]
async fn generated_names_obey_the_name_rule() {
    let server = server().await;
    let named = |base: &str| json!({"metadata": {"generateName": base}, "spec": web()});
    let good = ask("POST", SERVICES).json(&named("web-")).of(&server).await;
    assert_eq!(good.code, StatusCode::CREATED, "{}", good.text);
    let bad = ask("POST", SERVICES).json(&named("1-")).of(&server).await;
    assert_eq!(bad.code, StatusCode::UNPROCESSABLE_ENTITY);
    assert_eq!(causes(&bad), [("metadata.name".to_owned(), "FieldValueInvalid".to_owned())]);
}

// S-012
#[tokio::test]
async fn the_last_selector_key_can_be_taken_away() {
    let server = server().await;
    created(&server, "web", web()).await;
    let answer = patched(&server, "web", json!({"spec": {"selector": {"app": null}}})).await;
    assert_eq!(answer.code, StatusCode::OK, "{}", answer.text);
    let selector = answer.json()["spec"]["selector"].clone();
    assert!(selector.is_null() || selector == json!({}), "{selector}");
}

// S-013, S-014, S-015
#[tokio::test]
async fn the_table_is_the_one_kubectl_users_know() {
    let server = server().await;
    created(&server, "lb", json!({"type": "LoadBalancer", "clusterIP": "10.96.0.9", "selector": {"a": "b"}, "ports": [{"port": 80, "nodePort": 30080}]})).await;
    let table =
        ask("GET", &format!("{SERVICES}?fieldSelector=metadata.name=lb")).accept(KUBECTL).of(&server).await.json();
    let names: Vec<&Value> =
        table["columnDefinitions"].as_array().unwrap().iter().map(|column| &column["name"]).collect();
    assert_eq!(names, ["Name", "Type", "Cluster-IP", "External-IP", "Port(s)", "Age", "Selector"]);
    let cells = table["rows"][0]["cells"].as_array().unwrap();
    assert_eq!(cells[..5], ["lb", "LoadBalancer", "10.96.0.9", "<pending>", "80:30080/TCP"]);
    assert_eq!(cells[6], "a=b");
}

// S-017
#[tokio::test]
async fn a_dry_run_takes_nothing() {
    let server = small("10.96.0.0/29").await;
    let path = format!("{SERVICES}?dryRun=All");
    for _ in 0..10 {
        let answer = ask("POST", &path)
            .json(&service("web", json!({"type": "NodePort", "ports": [{"port": 80}]})))
            .of(&server)
            .await;
        assert_eq!(answer.code, StatusCode::CREATED, "{}", answer.text);
        assert!(answer.json()["spec"]["ports"][0]["nodePort"].is_number());
    }
    created(&server, "node", json!({"type": "NodePort", "ports": [{"port": 80, "nodePort": 30080}]})).await;
    let taken = service("other", json!({"type": "NodePort", "ports": [{"port": 80, "nodePort": 30080}]}));
    let answer = ask("POST", &path).json(&taken).of(&server).await;
    assert_eq!(answer.code, StatusCode::UNPROCESSABLE_ENTITY);
}

// S-034, S-035, S-041, S-042
#[tokio::test]
async fn every_objection_is_listed() {
    let server = server().await;
    let answer =
        post(&server, "web", json!({"ports": [{"port": 0, "targetPort": 1}, {"port": 81, "name": "a"}]})).await;
    assert_eq!(answer.code, StatusCode::UNPROCESSABLE_ENTITY);
    let status = answer.json();
    assert_eq!(
        (&status["reason"], &status["details"]["kind"], &status["details"]["name"]),
        (&json!("Invalid"), &json!("Service"), &json!("web"))
    );
    assert_eq!(
        status["message"],
        "Service \"web\" is invalid: [spec.ports[0].name: Required value, spec.ports[0].port: Invalid value: 0: must be \
         between 1 and 65535, inclusive]"
    );
    let reason = |reason: &str| reason.to_owned();
    let expected = [
        (reason("spec.ports[0].name"), reason("FieldValueRequired")),
        (reason("spec.ports[0].port"), reason("FieldValueInvalid")),
    ];
    assert_eq!(causes(&answer), expected);
}

// S-037
#[tokio::test]
async fn existing_and_absent_names_are_told() {
    let server = server().await;
    created(&server, "web", web()).await;
    let again = post(&server, "web", web()).await;
    assert_eq!(
        (again.code, again.json()["message"].as_str()),
        (StatusCode::CONFLICT, Some("services \"web\" already exists"))
    );
    let absent = ask("GET", &format!("{SERVICES}/none")).of(&server).await;
    assert_eq!(
        (absent.code, absent.json()["message"].as_str()),
        (StatusCode::NOT_FOUND, Some("services \"none\" not found"))
    );
}

// S-073
#[tokio::test]
async fn warnings_come_as_headers() {
    let server = server().await;
    let answer = post(&server, "web", json!({"externalIPs": ["192.0.2.1"], "ports": [{"port": 80}]})).await;
    assert_eq!(answer.code, StatusCode::CREATED);
    assert!(answer.header("warning").starts_with("299 "), "{:?}", answer.headers);
    assert!(answer.header("warning").contains("spec.externalIPs is deprecated"));
}

// S-084, S-085
#[tokio::test]
async fn the_manifest_can_be_sent_again() {
    let server = server().await;
    let spec = || json!({"type": "NodePort", "ports": [{"name": "http", "port": 80}]});
    let first = created(&server, "web", spec()).await;
    let again = ask("PUT", &format!("{SERVICES}/web")).json(&service("web", spec())).of(&server).await;
    assert_eq!(again.json()["spec"], first["spec"], "{}", again.text);
    assert_eq!(again.json()["metadata"]["resourceVersion"], first["metadata"]["resourceVersion"]);
}

// S-088, S-093, S-111, S-112
#[tokio::test]
async fn external_name_gives_the_address_back() {
    let server = small("10.96.0.0/30").await;
    // kubernetes has .1, so .2 is the only one left.
    assert_eq!(created(&server, "web", web()).await["spec"]["clusterIP"], "10.96.0.2");
    let external =
        patched(&server, "web", json!({"spec": {"type": "ExternalName", "externalName": "db.example.com"}})).await;
    assert_eq!(external.code, StatusCode::OK, "{}", external.text);
    assert_eq!(external.json()["spec"].get("clusterIP"), None);
    assert_eq!(external.json()["spec"].get("internalTrafficPolicy"), None);
    assert_eq!(created(&server, "other", web()).await["spec"]["clusterIP"], "10.96.0.2");
    ask("DELETE", &format!("{SERVICES}/other")).of(&server).await;
    let back = patched(&server, "web", json!({"spec": {"type": "ClusterIP"}})).await;
    assert_eq!(back.json()["spec"]["clusterIP"], "10.96.0.2", "{}", back.text);
}

// S-104, S-117, S-118
#[tokio::test]
async fn what_is_taken_is_refused() {
    let server = server().await;
    let ask_for = |ip: &str, port: i64, protocol: &str| json!({"type": "NodePort", "clusterIP": ip, "ports": [{"port": 80, "nodePort": port, "protocol": protocol}]});
    created(&server, "web", ask_for("10.96.0.50", 30050, "TCP")).await;
    let address = post(&server, "other", ask_for("10.96.0.50", 30051, "TCP")).await;
    assert_eq!(address.code, StatusCode::UNPROCESSABLE_ENTITY);
    assert_eq!(causes(&address), [("spec.clusterIPs".to_owned(), "FieldValueInvalid".to_owned())]);
    assert!(address.text.contains("failed to allocate IP 10.96.0.50: provided IP is already allocated"));
    let port = post(&server, "other", ask_for("10.96.0.51", 30050, "UDP")).await;
    assert_eq!(causes(&port), [("spec.ports[0].nodePort".to_owned(), "FieldValueInvalid".to_owned())]);
    assert!(port.text.contains("provided port is already allocated"));
    // What the refused writes had asked for besides is still free (S-111).
    created(&server, "third", ask_for("10.96.0.51", 30051, "TCP")).await;
}

// S-105
#[tokio::test]
async fn an_exhausted_range_is_an_internal_error() {
    let server = small("10.96.0.0/30").await;
    created(&server, "web", web()).await;
    let answer = post(&server, "other", web()).await;
    assert_eq!((answer.code, &answer.json()["reason"]), (StatusCode::INTERNAL_SERVER_ERROR, &json!("InternalError")));
    assert_eq!(answer.json()["message"], "Internal error occurred: failed to allocate a serviceIP: range is full");
}

// S-115
#[tokio::test]
async fn of_two_racing_for_one_address_one_wins() {
    let server = server().await;
    let tries = (0..12).map(|index| {
        let server = server.clone();
        tokio::spawn(async move {
            let spec = json!({"clusterIP": "10.96.0.99", "ports": [{"port": 80}]});
            post(&server, &format!("s{index}"), spec).await.code
        })
    });
    let codes: Vec<StatusCode> = futures::future::join_all(tries).await.into_iter().map(Result::unwrap).collect();
    assert_eq!(codes.iter().filter(|code| **code == StatusCode::CREATED).count(), 1, "{codes:?}");
    assert_eq!(codes.iter().filter(|code| **code == StatusCode::UNPROCESSABLE_ENTITY).count(), 11, "{codes:?}");
}

// S-103, S-115
#[tokio::test]
async fn racing_for_any_address_all_win_different_ones() {
    let server = small("10.96.0.0/27").await;
    let tries = (0..29).map(|index| {
        let server = server.clone();
        tokio::spawn(async move { post(&server, &format!("s{index}"), web()).await })
    });
    let mut seen = std::collections::BTreeSet::new();
    for answer in futures::future::join_all(tries).await {
        let answer = answer.unwrap();
        assert_eq!(answer.code, StatusCode::CREATED, "{}", answer.text);
        assert!(seen.insert(answer.json()["spec"]["clusterIP"].to_string()));
    }
}

// S-116, S-119, S-123
#[tokio::test]
async fn node_ports_come_and_go_with_the_type() {
    let server = server().await;
    let ports = json!([{"name": "t", "port": 53, "protocol": "TCP"}, {"name": "u", "port": 53, "protocol": "UDP"}]);
    let service = created(&server, "dns", json!({"type": "NodePort", "ports": ports})).await;
    let number = service["spec"]["ports"][0]["nodePort"].as_i64().unwrap();
    assert!((30000..=32767).contains(&number), "{number}");
    assert_eq!(service["spec"]["ports"][1]["nodePort"], number);
    let plain = patched(&server, "dns", json!({"spec": {"type": "ClusterIP"}})).await;
    assert_eq!(plain.json()["spec"]["ports"][0].get("nodePort"), None, "{}", plain.text);
    created(&server, "other", json!({"type": "NodePort", "ports": [{"port": 80, "nodePort": number}]})).await;
}

// S-124, S-134
#[tokio::test]
async fn a_local_balancer_shows_its_health_check_port() {
    let server = server().await;
    let local = |port: Value| json!({"type": "LoadBalancer", "externalTrafficPolicy": "Local", "healthCheckNodePort": port, "ports": [{"port": 80}]});
    let service = created(&server, "lb", local(Value::Null)).await;
    let number = service["spec"]["healthCheckNodePort"].as_i64().unwrap();
    assert!((30000..=32767).contains(&number), "{number}");
    let taken = post(&server, "other", local(json!(number))).await;
    assert_eq!(taken.code, StatusCode::INTERNAL_SERVER_ERROR);
    let start = format!("Internal error occurred: failed to allocate requested HealthCheck NodePort {number}:");
    assert!(taken.json()["message"].as_str().unwrap().starts_with(&start), "{}", taken.text);
}

// S-076, S-078, S-098
#[tokio::test]
async fn addresses_stay_what_they_are() {
    let server = server().await;
    let service = created(&server, "web", web()).await;
    let moved = patched(&server, "web", json!({"spec": {"clusterIP": "10.96.0.70"}})).await;
    assert_eq!(moved.code, StatusCode::UNPROCESSABLE_ENTITY);
    assert_eq!(causes(&moved), [("spec.clusterIPs[0]".to_owned(), "FieldValueInvalid".to_owned())]);
    let two = patched(&server, "web", json!({"spec": {"ipFamilies": ["IPv4", "IPv6"]}})).await;
    assert_eq!(causes(&two), [("spec.ipFamilyPolicy".to_owned(), "FieldValueInvalid".to_owned())]);
    let headless = patched(&server, "web", json!({"spec": {"clusterIP": "None"}})).await;
    assert_eq!(causes(&headless), [("spec.clusterIPs[0]".to_owned(), "FieldValueInvalid".to_owned())]);
    let now = ask("GET", &format!("{SERVICES}/web")).of(&server).await;
    assert_eq!(now.json(), service);
}

// S-094, S-096, S-101
#[tokio::test]
async fn headless_services_on_one_family() {
    let server = server().await;
    let selecting = created(&server, "a", json!({"clusterIP": "None", "selector": {"a": "b"}})).await;
    assert_eq!(
        (&selecting["spec"]["ipFamilies"], &selecting["spec"]["clusterIPs"]),
        (&json!(["IPv4"]), &json!(["None"]))
    );
    let manual = created(&server, "b", json!({"clusterIP": "None"})).await;
    assert_eq!(manual["spec"]["ipFamilies"], json!(["IPv4", "IPv6"]));
    assert_eq!(
        (&manual["spec"]["ipFamilyPolicy"], &manual["spec"]["clusterIPs"]),
        (&json!("RequireDualStack"), &json!(["None"]))
    );
    let dual = post(&server, "c", json!({"ipFamilyPolicy": "RequireDualStack", "ports": [{"port": 80}]})).await;
    assert_eq!(causes(&dual), [("spec.ipFamilyPolicy".to_owned(), "FieldValueInvalid".to_owned())]);
    assert!(dual.text.contains("this cluster is not configured for dual-stack services"));
}

// S-095, S-099, S-102
#[tokio::test]
async fn a_cluster_of_two_families_gives_two_addresses() {
    let ranges = vec!["10.96.0.0/16".parse().unwrap(), "fd00:96::/112".parse().unwrap()];
    let server = ApiServer::open(Options { service_cidrs: ranges, ..Options::default() }).await.unwrap();
    let service = created(&server, "web", json!({"ipFamilyPolicy": "PreferDualStack", "ports": [{"port": 80}]})).await;
    let spec = &service["spec"];
    assert_eq!((&spec["ipFamilies"], &spec["clusterIP"]), (&json!(["IPv4", "IPv6"]), &spec["clusterIPs"][0]));
    assert!(spec["clusterIPs"][1].as_str().unwrap().starts_with("fd00:96::"));
    let single = patched(&server, "web", json!({"spec": {"ipFamilyPolicy": "SingleStack"}})).await.json();
    assert_eq!(single["spec"]["clusterIPs"], json!([spec["clusterIP"]]));
    assert_eq!(single["spec"]["ipFamilies"], json!(["IPv4"]));
}

// S-104, S-117
#[tokio::test]
async fn a_restart_remembers_what_is_taken() {
    let directory = tempfile::tempdir().unwrap();
    let options = || Options {
        state_dir: Some(directory.path().to_owned()),
        service_cidrs: vec!["10.96.0.0/29".parse().unwrap()],
        ..Options::default()
    };
    let before = ApiServer::open(options()).await.unwrap();
    let spec = || json!({"type": "NodePort", "ports": [{"port": 80, "nodePort": 30080}]});
    let address = created(&before, "web", spec()).await["spec"]["clusterIP"].clone();
    before.close().await;
    drop(before);
    let after = ApiServer::open(options()).await.unwrap();
    let port = post(&after, "other", spec()).await;
    assert!(port.text.contains("provided port is already allocated"), "{}", port.text);
    let fixed = post(&after, "other", json!({"clusterIP": address, "ports": [{"port": 80}]})).await;
    assert!(fixed.text.contains("provided IP is already allocated"), "{}", fixed.text);
    after.close().await;
}

// S-002, S-003
#[tokio::test]
async fn services_are_listed_everywhere_and_deleted_together() {
    let server = server().await;
    ask("POST", "/api/v1/namespaces").json(&json!({"metadata": {"name": "team"}})).of(&server).await;
    let labelled = json!({"metadata": {"name": "a", "labels": {"x": "y"}}, "spec": web()});
    let answer = ask("POST", "/api/v1/namespaces/team/services").json(&labelled).of(&server).await;
    assert_eq!(answer.code, StatusCode::CREATED, "{}", answer.text);
    created(&server, "b", web()).await;
    let names = |server: ApiServer| async move {
        let list = ask("GET", "/api/v1/services").of(&server).await.json();
        let items = list["items"].as_array().unwrap().clone();
        items.iter().map(|item| item["metadata"]["name"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    let before = names(server.clone()).await;
    assert!(before.contains(&"a".to_owned()) && before.contains(&"b".to_owned()), "{before:?}");
    let gone = ask("DELETE", "/api/v1/namespaces/team/services?labelSelector=x=y").of(&server).await;
    assert_eq!(gone.code, StatusCode::OK, "{}", gone.text);
    let after = names(server.clone()).await;
    assert!(!after.contains(&"a".to_owned()) && after.contains(&"b".to_owned()), "{after:?}");
    let scale = ask("GET", &format!("{SERVICES}/b/scale")).of(&server).await;
    assert_eq!(scale.code, StatusCode::NOT_FOUND);
}

// S-036
#[tokio::test]
async fn wrong_types_and_unknown_fields_are_bad_requests() {
    let server = server().await;
    let typed = post(&server, "web", json!({"ports": [{"port": "eighty"}]})).await;
    assert_eq!((typed.code, &typed.json()["reason"]), (StatusCode::BAD_REQUEST, &json!("BadRequest")));
    let unknown = service("web", json!({"ports": [{"port": 80}], "prots": []}));
    let strict = ask("POST", &format!("{SERVICES}?fieldValidation=Strict&dryRun=All")).json(&unknown).of(&server).await;
    assert_eq!(strict.code, StatusCode::BAD_REQUEST, "{}", strict.text);
    let warned = ask("POST", &format!("{SERVICES}?dryRun=All")).json(&unknown).of(&server).await;
    assert_eq!(warned.code, StatusCode::CREATED, "{}", warned.text);
    assert!(warned.header("warning").contains("unknown field"), "{:?}", warned.headers);
    assert_eq!(warned.json()["spec"].get("prots"), None);
}

// S-089, S-091, S-092
#[tokio::test]
async fn a_balancer_becomes_a_plain_service_when_its_ranges_are_gone() {
    let server = server().await;
    let spec = json!({
        "type": "LoadBalancer", "loadBalancerClass": "example.com/lb", "loadBalancerSourceRanges": ["192.0.2.0/24"],
        "ports": [{"port": 80}],
    });
    created(&server, "lb", spec).await;
    let refused = patched(&server, "lb", json!({"spec": {"type": "ClusterIP"}})).await;
    assert_eq!(causes(&refused), [("spec.LoadBalancerSourceRanges".to_owned(), "FieldValueForbidden".to_owned())]);
    let change = json!({"spec": {"type": "ClusterIP", "loadBalancerSourceRanges": null}});
    let plain = patched(&server, "lb", change).await;
    assert_eq!(plain.code, StatusCode::OK, "{}", plain.text);
    let spec = plain.json()["spec"].clone();
    for field in ["allocateLoadBalancerNodePorts", "loadBalancerClass", "externalTrafficPolicy"] {
        assert_eq!(spec.get(field), None, "{field}");
    }
    assert_eq!(spec["ports"][0].get("nodePort"), None);
}

// S-011, S-085, A-052
#[tokio::test]
async fn an_applied_manifest_keeps_what_was_allocated() {
    let server = server().await;
    let path = format!("{SERVICES}/web?fieldManager=test");
    let apply = |ports: Value| {
        let object = service("web", json!({"type": "NodePort", "ports": ports}));
        ask("PATCH", &path).patch("application/apply-patch+yaml", &object)
    };
    let http = || json!({"name": "http", "port": 80, "protocol": "TCP"});
    let first = apply(json!([http()])).of(&server).await;
    assert_eq!(first.code, StatusCode::CREATED, "{}", first.text);
    let again = apply(json!([http()])).of(&server).await.json();
    assert_eq!(again["metadata"]["resourceVersion"], first.json()["metadata"]["resourceVersion"]);
    let more = apply(json!([http(), {"name": "dns", "port": 80, "protocol": "UDP"}])).of(&server).await;
    assert_eq!(more.code, StatusCode::OK, "{}", more.text);
    let (before, after) = (&first.json()["spec"], &more.json()["spec"]);
    assert_eq!(after["clusterIP"], before["clusterIP"]);
    assert_eq!(after["ports"][0], before["ports"][0]);
    let added = &after["ports"][1]["nodePort"];
    assert!(added.is_number() && added != &before["ports"][0]["nodePort"], "{after}");
}
