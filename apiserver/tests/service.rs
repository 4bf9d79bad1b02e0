//! Services against the pools: addresses and ports are taken, shared with nobody and given back with the object.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking, in its helpers too")]

mod common;

use std::collections::BTreeSet;
use std::net::IpAddr;

use common::{ask, client, named, refusal, server};
use futures::StreamExt as _;
use http::StatusCode;
use ipnet::IpNet;
use k8s_openapi::api::core::v1::{Endpoints, Service, ServicePort, ServiceSpec};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use kube::api::{DeleteParams, Patch, PatchParams, PostParams};
use kube::{Api, ResourceExt};
use minisvc_apiserver::{ApiServer, Identity, Options};
use serde_json::json;

const SERVICES: &str = "/api/v1/namespaces/default/services";

fn service(name: &str, kind: &str, address: Option<&str>) -> Service {
    let port = ServicePort { port: 80, ..ServicePort::default() };
    let spec = ServiceSpec {
        type_: Some(kind.to_owned()),
        cluster_ip: address.map(str::to_owned),
        ports: Some(vec![port]),
        ..ServiceSpec::default()
    };
    Service { metadata: named(name), spec: Some(spec), ..Service::default() }
}

fn address(service: &Service) -> String {
    service.spec.as_ref().unwrap().cluster_ip.clone().unwrap()
}

fn node_port(service: &Service) -> i32 {
    service.spec.as_ref().unwrap().ports.as_ref().unwrap()[0].node_port.unwrap()
}

fn services(client: &kube::Client) -> Api<Service> {
    Api::namespaced(client.clone(), "default")
}

// S-103, S-102
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_service_gets_an_address_of_its_own() {
    let (_server, client) = client().await;
    let creates = (0..40).map(|number| {
        let api = services(&client);
        let object = service(&format!("s{number}"), "ClusterIP", None);
        tokio::spawn(async move { api.create(&PostParams::default(), &object).await.unwrap() })
    });
    let range: IpNet = "10.96.0.0/16".parse().unwrap();
    let mut seen = BTreeSet::new();
    for created in futures::future::join_all(creates).await {
        let created = created.unwrap();
        let ip: IpAddr = address(&created).parse().unwrap();
        assert!(range.contains(&ip), "{ip}");
        assert_eq!(created.spec.unwrap().cluster_ips, Some(vec![ip.to_string()]));
        assert!(seen.insert(ip), "{ip} was given twice");
    }
}

// S-115, S-104
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_many_creates_with_one_address_one_wins() {
    let (_server, client) = client().await;
    let creates = (0..16).map(|number| {
        let api = services(&client);
        let object = service(&format!("s{number}"), "ClusterIP", Some("10.96.7.7"));
        tokio::spawn(async move { api.create(&PostParams::default(), &object).await })
    });
    let outcomes = futures::future::join_all(creates).await;
    let mut won = 0;
    for outcome in outcomes {
        match outcome.unwrap() {
            Ok(created) => {
                assert_eq!(address(&created), "10.96.7.7");
                won += 1;
            }
            error => {
                let (code, _, message) = refusal(error);
                assert_eq!(code, 422);
                assert!(message.contains("provided IP is already allocated"), "{message}");
            }
        }
    }
    assert_eq!(won, 1);
}

// S-103, S-116: the last free addresses and ports are found by everybody who looks at once
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn racing_for_the_last_ports_gives_each_a_different_one() {
    let options = Options { node_ports: 30000..=30007, ..Options::default() };
    let server = ApiServer::open(options).await.unwrap();
    let api = services(&server.client(common::admin()));
    let creates = (0..8).map(|number| {
        let api = api.clone();
        let object = service(&format!("s{number}"), "NodePort", None);
        tokio::spawn(async move { api.create(&PostParams::default(), &object).await.unwrap() })
    });
    let ports: BTreeSet<i32> =
        futures::future::join_all(creates).await.into_iter().map(|created| node_port(&created.unwrap())).collect();
    assert_eq!(ports, (30000..=30007).collect());
    let (code, _, _) = refusal(api.create(&PostParams::default(), &service("late", "NodePort", None)).await);
    assert!(code >= 422, "{code}");
}

// S-111, S-112, S-118
#[tokio::test]
async fn what_a_service_leaves_can_be_taken_again() {
    let (_server, client) = client().await;
    let api = services(&client);
    let first = api.create(&PostParams::default(), &service("a", "NodePort", Some("10.96.7.7"))).await.unwrap();
    let mut second = service("b", "NodePort", None);
    let port = &mut second.spec.as_mut().unwrap().ports.as_mut().unwrap()[0];
    port.node_port = Some(node_port(&first));
    port.protocol = Some("UDP".to_owned());
    assert_eq!(refusal(api.create(&PostParams::default(), &second).await).0, 422);
    let third = service("c", "ClusterIP", Some("10.96.7.7"));
    assert_eq!(refusal(api.create(&PostParams::default(), &third).await).0, 422);
    api.delete("a", &DeleteParams::default()).await.unwrap();
    assert_eq!(node_port(&api.create(&PostParams::default(), &second).await.unwrap()), node_port(&first));
    assert_eq!(address(&api.create(&PostParams::default(), &third).await.unwrap()), "10.96.7.7");
}

// S-111
#[tokio::test]
async fn a_service_that_becomes_an_external_name_gives_its_address_back() {
    let (_server, client) = client().await;
    let api = services(&client);
    api.create(&PostParams::default(), &service("a", "ClusterIP", Some("10.96.7.7"))).await.unwrap();
    let spec =
        json!({"spec": {"type": "ExternalName", "externalName": "x.example", "clusterIP": null, "clusterIPs": null}});
    api.patch("a", &PatchParams::default(), &Patch::Merge(spec)).await.unwrap();
    api.create(&PostParams::default(), &service("b", "ClusterIP", Some("10.96.7.7"))).await.unwrap();
}

// A-056, S-111
#[tokio::test]
async fn dry_runs_and_failed_writes_keep_nothing() {
    let (_server, client) = client().await;
    let api = services(&client);
    let dry = PostParams { dry_run: true, ..PostParams::default() };
    api.create(&dry, &service("a", "ClusterIP", Some("10.96.7.7"))).await.unwrap();
    let mut wrong = service("a", "ClusterIP", Some("10.96.7.7"));
    wrong.spec.as_mut().unwrap().session_affinity = Some("Sometimes".to_owned());
    assert_eq!(refusal(api.create(&PostParams::default(), &wrong).await).0, 422);
    api.create(&PostParams::default(), &service("b", "ClusterIP", Some("10.96.7.7"))).await.unwrap();
}

// S-113, S-103
#[tokio::test]
async fn addresses_stay_taken_across_a_restart() {
    let directory = tempfile::tempdir().unwrap();
    let options = Options { state_dir: Some(directory.path().to_owned()), ..Options::default() };
    let server = ApiServer::open(options.clone()).await.unwrap();
    let api = services(&server.client(common::admin()));
    let before = api.create(&PostParams::default(), &service("a", "ClusterIP", None)).await.unwrap();
    server.close().await;
    let server = ApiServer::open(options).await.unwrap();
    let api = services(&server.client(common::admin()));
    assert_eq!(api.get("a").await.unwrap(), before);
    let again = service("b", "ClusterIP", Some(&address(&before)));
    assert_eq!(refusal(api.create(&PostParams::default(), &again).await).0, 422);
    server.close().await;
}

//
#[tokio::test]
async fn a_put_creates_a_service() {
    let server = server().await;
    let body = json!({"metadata": {"name": "a"}, "spec": {"ports": [{"port": 80}]}});
    let answer = ask("PUT", &format!("{SERVICES}/a")).json(&body).of(&server).await;
    assert_eq!(answer.code, StatusCode::CREATED, "{}", answer.text);
    assert!(answer.json()["spec"]["clusterIP"].is_string());
    let of_another = json!({"metadata": {"name": "b", "uid": "x"}, "spec": {"ports": [{"port": 80}]}});
    assert_eq!(ask("PUT", &format!("{SERVICES}/b")).json(&of_another).of(&server).await.code, StatusCode::CONFLICT);
}

// A-059, S-169, S-171, S-172
#[tokio::test]
async fn the_api_is_a_service_itself() {
    let (_server, client) = client().await;
    let object = services(&client).get("kubernetes").await.unwrap();
    assert_eq!(object.labels(), &common::map(&[("component", "apiserver"), ("provider", "kubernetes")]));
    assert_eq!(address(&object), "10.96.0.1");
    let spec = object.spec.unwrap();
    assert_eq!(spec.ip_family_policy.as_deref(), Some("SingleStack"));
    assert_eq!((spec.selector, spec.session_affinity.as_deref()), (None, Some("None")));
    let ports = spec.ports.unwrap();
    assert_eq!((ports.len(), ports[0].port, ports[0].name.as_deref()), (1, 443, Some("https")));
    let endpoints = Api::<Endpoints>::namespaced(client.clone(), "default").get("kubernetes").await.unwrap();
    assert_eq!(endpoints.labels(), &common::map(&[("endpointslice.kubernetes.io/skip-mirror", "true")]));
    let subset = &endpoints.subsets.unwrap()[0];
    let slice = Api::<EndpointSlice>::namespaced(client, "default").get("kubernetes").await.unwrap();
    assert_eq!(slice.labels().get("kubernetes.io/service-name").map(String::as_str), Some("kubernetes"));
    assert_eq!(subset.addresses.as_ref().unwrap()[0].ip, "10.95.0.2");
    assert_eq!(slice.endpoints.unwrap()[0].addresses, ["10.95.0.2"]);
    assert_eq!(subset.ports.as_ref().unwrap()[0].port, 6443);
    assert_eq!(slice.ports.unwrap()[0].port, Some(6443));
}

// S-169
#[tokio::test]
async fn the_service_of_the_api_has_the_first_address_of_the_primary_range_in_ipv6_too() {
    let service_cidrs = ["fd00:96::/112", "10.96.0.0/16"].map(|range| range.parse().unwrap()).to_vec();
    let advertise = "[fd00:95::2]:6443".parse().unwrap();
    let server = ApiServer::open(Options { service_cidrs, advertise, ..Options::default() }).await.unwrap();
    let client = server.client(Identity::component("test"));
    let object = services(&client).get("kubernetes").await.unwrap();
    assert_eq!(address(&object), "fd00:96::1");
    assert_eq!(object.spec.unwrap().ip_families.unwrap(), ["IPv6"]);
    let slice = Api::<EndpointSlice>::namespaced(client, "default").get("kubernetes").await.unwrap();
    assert_eq!(
        (slice.address_type.as_str(), &slice.endpoints.unwrap()[0].addresses[..]),
        ("IPv6", &["fd00:95::2".to_owned()][..])
    );
}

// S-170
#[tokio::test]
async fn the_service_of_the_api_comes_back_and_its_endpoints_are_repaired() {
    let (_server, client) = client().await;
    let endpoints = Api::<Endpoints>::namespaced(client.clone(), "default");
    endpoints.patch("kubernetes", &PatchParams::default(), &Patch::Merge(json!({"subsets": []}))).await.unwrap();
    services(&client)
        .patch("kubernetes", &PatchParams::default(), &Patch::Merge(json!({"metadata": {"labels": {"x": "y"}}})))
        .await
        .unwrap();
    let watch = kube::runtime::watcher(endpoints, Default::default());
    let mut repaired = Box::pin(watch.filter_map(async |event| match event {
        Ok(kube::runtime::watcher::Event::Apply(object)) => object.subsets.filter(|subsets| !subsets.is_empty()),
        _ => None,
    }));
    common::next(&mut repaired).await;
    let object = services(&client).get("kubernetes").await.unwrap();
    assert_eq!(object.labels().get("x").map(String::as_str), Some("y"), "an edited Service stays as it is");
    services(&client).delete("kubernetes", &DeleteParams::default()).await.unwrap();
    let back = kube::runtime::wait::await_condition(services(&client), "kubernetes", |found: Option<&Service>| {
        found.is_some()
    });
    tokio::time::timeout(common::DEADLINE, back).await.expect("back in time").unwrap();
    assert_eq!(address(&services(&client).get("kubernetes").await.unwrap()), "10.96.0.1");
}

// S-173
#[tokio::test]
async fn a_closed_server_is_no_endpoint() {
    let directory = tempfile::tempdir().unwrap();
    let options = Options { state_dir: Some(directory.path().to_owned()), ..Options::default() };
    let server = ApiServer::open(options).await.unwrap();
    server.close().await;
    // What is kept can still be read from memory.
    let endpoints = ask("GET", "/api/v1/namespaces/default/endpoints/kubernetes").of(&server).await.json();
    assert!(endpoints["subsets"].as_array().is_none_or(Vec::is_empty), "{endpoints}");
    let path = "/apis/discovery.k8s.io/v1/namespaces/default/endpointslices/kubernetes";
    let slice = ask("GET", path).of(&server).await.json();
    assert!(slice["endpoints"].as_array().is_none_or(Vec::is_empty), "{slice}");
}

// S-137
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_balancer_can_say_which_of_its_ports_it_cannot_serve() {
    let (_server, client) = client().await;
    services(&client).create(&PostParams::default(), &service("web", "LoadBalancer", None)).await.unwrap();
    let condition = json!({
        "type": "LoadBalancerPortsError", "status": "True", "reason": "LoadBalancerMixedProtocolNotSupported",
        "message": "no UDP", "lastTransitionTime": "2026-01-01T00:00:00Z",
    });
    let ports =
        json!([{"port": 80, "protocol": "TCP"}, {"port": 81, "protocol": "UDP", "error": "MixedProtocolNotSupported"}]);
    let status = json!({"status": {
        "conditions": [condition],
        "loadBalancer": {"ingress": [{"ip": "192.0.2.1", "ipMode": "VIP", "ports": ports}]},
    }});
    let api = services(&client);
    api.patch_status("web", &PatchParams::default(), &Patch::Merge(status)).await.unwrap();
    let read = serde_json::to_value(api.get("web").await.unwrap()).unwrap();
    assert_eq!(read["status"]["conditions"][0], condition);
    assert_eq!(read["status"]["loadBalancer"]["ingress"][0]["ports"], ports);
}
