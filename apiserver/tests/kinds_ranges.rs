//! ServiceCIDRs and IPAddresses as a client of the API sees them.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking, in its helpers too")]

mod common;

use common::{Answer, ask, server};
use http::StatusCode;
use minisvc_apiserver::ApiServer;
use serde_json::{Value, json};

const NETWORKING: &str = "/apis/networking.k8s.io/v1";
const SERVICES: &str = "/api/v1/namespaces/default/services";

async fn post(server: &ApiServer, path: &str, object: Value) -> Answer {
    ask("POST", path).json(&object).of(server).await
}

async fn get(server: &ApiServer, path: &str) -> Answer {
    ask("GET", path).of(server).await
}

async fn delete(server: &ApiServer, path: &str) {
    let answer = ask("DELETE", path).of(server).await;
    assert_eq!(answer.code, StatusCode::OK, "{path}: {}", answer.text);
}

/// A Service that asks for an address, or for any if it is empty.
async fn service(server: &ApiServer, name: &str, address: &str) -> Answer {
    let mut spec = json!({"ports": [{"port": 80}]});
    if !address.is_empty() {
        spec["clusterIP"] = json!(address);
    }
    post(server, SERVICES, json!({"metadata": {"name": name}, "spec": spec})).await
}

async fn range(server: &ApiServer, name: &str, cidr: &str) -> Answer {
    post(server, &format!("{NETWORKING}/servicecidrs"), json!({"metadata": {"name": name}, "spec": {"cidrs": [cidr]}}))
        .await
}

fn cluster_ip(answer: &Answer) -> String {
    assert_eq!(answer.code, StatusCode::CREATED, "{}", answer.text);
    answer.json()["spec"]["clusterIP"].as_str().unwrap().to_owned()
}

// S-217, S-218, S-226
#[tokio::test]
async fn the_configured_range_is_an_object() {
    let server = server().await;
    let cidr = get(&server, &format!("{NETWORKING}/servicecidrs/kubernetes")).await.json();
    assert_eq!(cidr["spec"]["cidrs"], json!(["10.96.0.0/16"]));
    let kubectl = "application/json;as=Table;v=v1;g=meta.k8s.io,application/json";
    for (plural, expected, cells) in [
        ("servicecidrs", &["Name", "CIDRs", "Age"][..], json!(["kubernetes", "10.96.0.0/16"])),
        ("ipaddresses", &["Name", "ParentRef"], json!(["10.96.0.1", "services/default/kubernetes"])),
    ] {
        let table = ask("GET", &format!("{NETWORKING}/{plural}")).accept(kubectl).of(&server).await.json();
        let columns: Vec<&str> =
            table["columnDefinitions"].as_array().unwrap().iter().map(|c| c["name"].as_str().unwrap()).collect();
        assert_eq!(columns, expected);
        assert_eq!(table["rows"][0]["cells"].as_array().unwrap()[..2], cells.as_array().unwrap()[..]);
    }
    let list = get(&server, NETWORKING).await.json();
    let names: Vec<&str> = list["resources"].as_array().unwrap().iter().map(|r| r["name"].as_str().unwrap()).collect();
    assert!(names.contains(&"servicecidrs/status") && !names.contains(&"ipaddresses/status"), "{names:?}");
}

// S-224, S-233, S-111
#[tokio::test]
async fn every_address_has_an_object_as_long_as_its_service_lives() {
    let server = server().await;
    let address = cluster_ip(&service(&server, "web", "").await);
    let path = format!("{NETWORKING}/ipaddresses/{address}");
    let object = get(&server, &path).await.json();
    let labels = json!({"ipaddress.kubernetes.io/ip-family": "IPv4", "ipaddress.kubernetes.io/managed-by": "ipallocator.k8s.io"});
    assert_eq!(object["metadata"]["labels"], labels);
    let parent = json!({"group": "", "resource": "services", "namespace": "default", "name": "web"});
    assert_eq!(object["spec"]["parentRef"], parent);
    let web = get(&server, &format!("{SERVICES}/web")).await.json();
    assert_eq!(object["metadata"]["resourceVersion"], web["metadata"]["resourceVersion"], "one transaction");
    delete(&server, &format!("{SERVICES}/web")).await;
    assert_eq!(get(&server, &path).await.code, StatusCode::NOT_FOUND);
    assert_eq!(cluster_ip(&service(&server, "again", &address).await), address);
}

// S-225, S-104
#[tokio::test]
async fn whoever_makes_an_address_reserves_it() {
    let server = server().await;
    let path = format!("{NETWORKING}/ipaddresses");
    let parent = json!({"parentRef": {"group": "g.io", "resource": "gateways", "name": "x"}});
    let made = post(&server, &path, json!({"metadata": {"name": "10.96.7.7"}, "spec": parent})).await;
    assert_eq!(made.code, StatusCode::CREATED, "{}", made.text);
    let refused = service(&server, "web", "10.96.7.7").await;
    assert!(refused.text.contains("provided IP is already allocated"), "{}", refused.text);
    delete(&server, &format!("{path}/10.96.7.7")).await;
    assert_eq!(cluster_ip(&service(&server, "web", "10.96.7.7").await), "10.96.7.7");
    // Whose object is gone has its address still.
    delete(&server, &format!("{path}/10.96.7.7")).await;
    let refused = service(&server, "other", "10.96.7.7").await;
    assert!(refused.text.contains("provided IP is already allocated"), "{}", refused.text);
    let wrong = post(&server, &path, json!({"metadata": {"name": "010.0.0.1"}, "spec": parent})).await;
    assert_eq!(wrong.code, StatusCode::UNPROCESSABLE_ENTITY, "{}", wrong.text);
}

// S-223, S-104
#[tokio::test]
async fn a_range_can_be_added_while_services_run() {
    let server = server().await;
    let before = service(&server, "early", "10.97.0.5").await;
    assert!(before.text.contains("the provided network does not match the current range"), "{}", before.text);
    assert_eq!(range(&server, "more", "10.97.0.0/24").await.code, StatusCode::CREATED);
    assert_eq!(cluster_ip(&service(&server, "static", "10.97.0.5").await), "10.97.0.5");
    delete(&server, &format!("{NETWORKING}/servicecidrs/kubernetes")).await;
    assert!(cluster_ip(&service(&server, "dynamic", "").await).starts_with("10.97.0."));
}

// S-222, S-227, S-105
#[tokio::test]
async fn nothing_is_taken_from_a_range_that_goes() {
    let server = server().await;
    let path = format!("{NETWORKING}/servicecidrs/kubernetes");
    let held = json!({"metadata": {"finalizers": ["networking.k8s.io/service-cidr-finalizer"]}});
    ask("PATCH", &path).patch("application/merge-patch+json", &held).of(&server).await;
    delete(&server, &path).await;
    assert!(get(&server, &path).await.json()["metadata"]["deletionTimestamp"].is_string());
    let dynamic = service(&server, "a", "").await;
    assert_eq!(dynamic.code, StatusCode::INTERNAL_SERVER_ERROR);
    let full = "Internal error occurred: failed to allocate a serviceIP: range is full";
    assert_eq!(dynamic.json()["message"], full);
    let explicit = service(&server, "b", "10.96.0.77").await;
    assert!(explicit.text.contains("the provided network does not match the current range"), "{}", explicit.text);
}
