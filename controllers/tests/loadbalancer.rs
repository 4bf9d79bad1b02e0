//! Addresses for Services of type LoadBalancer, against a real API server in memory.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking, also in its helpers")]

mod common;

use common::{Lab, becomes, settles};
use k8s_openapi::api::core::v1::{Event, Service};
use kube::api::{DeleteParams, Patch, PatchParams};
use minisvc_controllers::Options;
use serde_json::{Value, json};

const FINALIZER: &str = "service.kubernetes.io/load-balancer-cleanup";

fn balancer(name: &str) -> Value {
    let mut service = common::service(name);
    service["spec"]["type"] = json!("LoadBalancer");
    service
}

fn ingress(service: &Service) -> Vec<String> {
    let balancer = service.status.as_ref().and_then(|status| status.load_balancer.as_ref());
    balancer.into_iter().flat_map(|b| b.ingress.iter().flatten()).filter_map(|i| i.ip.clone()).collect()
}

fn has_finalizer(service: &Service) -> bool {
    service.metadata.finalizers.iter().flatten().any(|finalizer| finalizer == FINALIZER)
}

async fn gets(lab: &Lab, name: &str, address: &str) -> Service {
    becomes(lab.api(), name, address, |service: &Service| ingress(service) == [address]).await
}

async fn change(lab: &Lab, name: &str, spec: Value) {
    let patch = Patch::Merge(json!({"spec": spec}));
    lab.api::<Service>().patch(name, &PatchParams::default(), &patch).await.unwrap();
}

/// Waits for an Event about a Service and answers its message.
async fn told(lab: &Lab, name: &str, type_: &str, reason: &str) -> String {
    let is_it = |event: &Event| {
        event.involved_object.name.as_deref() == Some(name)
            && event.reason.as_deref() == Some(reason)
            && event.type_.as_deref() == Some(type_)
    };
    let events = settles(lab.api(), reason, |events: &[Event]| events.iter().any(is_it)).await;
    events.into_iter().find(is_it).and_then(|event| event.message).unwrap()
}

async fn lab_with_pool(range: &str) -> Lab {
    let options = Options { load_balancer_pool: vec![range.parse().unwrap()], ..Options::default() };
    Lab::start_with(1, options).await
}

// S-127, S-128, S-138, S-139
#[tokio::test(flavor = "multi_thread")]
async fn an_address_is_given_kept_and_freed() {
    let lab = lab_with_pool("192.0.2.0/30").await;
    let made: Service = lab.create(balancer("web")).await;
    assert!(ingress(&made).is_empty(), "nobody waits for it");
    let web = gets(&lab, "web", "192.0.2.1").await;
    assert!(has_finalizer(&web));
    told(&lab, "web", "Normal", "EnsuringLoadBalancer").await;
    told(&lab, "web", "Normal", "EnsuredLoadBalancer").await;
    change(&lab, "web", json!({"ports": [{"port": 81}], "selector": {"app": "other"}})).await;
    lab.create::<Service>(balancer("second")).await;
    gets(&lab, "second", "192.0.2.2").await;
    gets(&lab, "web", "192.0.2.1").await;
    lab.api::<Service>().delete("web", &DeleteParams::default()).await.unwrap();
    settles(lab.api(), "web is gone", |all: &[Service]| {
        !all.iter().any(|service| service.metadata.name.as_deref() == Some("web"))
    })
    .await;
    told(&lab, "web", "Normal", "DeletedLoadBalancer").await;
    lab.create::<Service>(balancer("third")).await;
    gets(&lab, "third", "192.0.2.1").await;
    lab.stop().await;
}

// S-126, S-128, S-139
#[tokio::test(flavor = "multi_thread")]
async fn an_empty_pool_is_said_and_made_up_for() {
    let lab = lab_with_pool("192.0.2.7/32").await;
    lab.create::<Service>(balancer("first")).await;
    gets(&lab, "first", "192.0.2.7").await;
    let second: Service = lab.create(balancer("second")).await;
    assert!(second.spec.unwrap().ports.unwrap()[0].node_port.is_some(), "its other addresses work all the same");
    let message = told(&lab, "second", "Warning", "SyncLoadBalancerFailed").await;
    assert_eq!(message, "Error syncing load balancer: no address is left in the pool 192.0.2.7/32");
    assert!(ingress(&lab.api::<Service>().get("second").await.unwrap()).is_empty());
    change(&lab, "first", json!({"type": "ClusterIP"})).await;
    gets(&lab, "second", "192.0.2.7").await;
    lab.stop().await;
}

// S-139, S-142
#[tokio::test(flavor = "multi_thread")]
async fn another_type_gives_everything_back() {
    let lab = lab_with_pool("192.0.2.0/30").await;
    lab.create::<Service>(balancer("web")).await;
    gets(&lab, "web", "192.0.2.1").await;
    change(&lab, "web", json!({"type": "NodePort"})).await;
    becomes(lab.api(), "web", "a plain Service", |service: &Service| {
        ingress(service).is_empty() && !has_finalizer(service)
    })
    .await;
    assert_eq!(told(&lab, "web", "Normal", "Type").await, "LoadBalancer -> NodePort");
    told(&lab, "web", "Normal", "DeletedLoadBalancer").await;
    change(&lab, "web", json!({"type": "LoadBalancer"})).await;
    gets(&lab, "web", "192.0.2.1").await;
    lab.stop().await;
}

// S-129, S-131
#[tokio::test(flavor = "multi_thread")]
async fn classes_and_asked_for_addresses_are_honoured() {
    let lab = lab_with_pool("192.0.2.0/29").await;
    let mut foreign = balancer("foreign");
    foreign["spec"]["loadBalancerClass"] = json!("example.com/other");
    lab.create::<Service>(foreign).await;
    let mut ours = balancer("ours");
    ours["spec"]["loadBalancerClass"] = json!("minisvc.dev/pool");
    ours["spec"]["loadBalancerIP"] = json!("192.0.2.5");
    lab.create::<Service>(ours).await;
    gets(&lab, "ours", "192.0.2.5").await;
    let mut late = balancer("late");
    late["spec"]["loadBalancerIP"] = json!("192.0.2.5");
    lab.create::<Service>(late).await;
    let message = told(&lab, "late", "Warning", "SyncLoadBalancerFailed").await;
    assert_eq!(message, "Error syncing load balancer: the loadBalancerIP 192.0.2.5 is in use by default/ours");
    lab.api::<Service>().delete("ours", &DeleteParams::default()).await.unwrap();
    gets(&lab, "late", "192.0.2.5").await;
    let foreign = lab.api::<Service>().get("foreign").await.unwrap();
    assert!(ingress(&foreign).is_empty() && !has_finalizer(&foreign), "it is left alone");
    lab.stop().await;
}

// S-130
#[tokio::test(flavor = "multi_thread")]
async fn an_ip_mode_that_somebody_set_stays() {
    let lab = lab_with_pool("192.0.2.0/30").await;
    lab.create::<Service>(balancer("web")).await;
    gets(&lab, "web", "192.0.2.1").await;
    let proxy = json!({"status": {"loadBalancer": {"ingress": [{"ip": "192.0.2.1", "ipMode": "Proxy"}]}}});
    lab.api::<Service>().patch_status("web", &PatchParams::default(), &Patch::Merge(proxy)).await.unwrap();
    change(&lab, "web", json!({"ports": [{"port": 81}]})).await;
    // The controller has seen both changes when it has seen a later one.
    lab.create::<Service>(balancer("later")).await;
    gets(&lab, "later", "192.0.2.2").await;
    let web = lab.api::<Service>().get("web").await.unwrap();
    let mode = web.status.unwrap().load_balancer.unwrap().ingress.unwrap().remove(0).ip_mode;
    assert_eq!(mode.as_deref(), Some("Proxy"));
    lab.stop().await;
}

// S-019
#[tokio::test(flavor = "multi_thread")]
async fn each_type_has_all_that_the_one_before_has() {
    let lab = lab_with_pool("192.0.2.0/30").await;
    let mut seen = Vec::new();
    for (kind, declines) in [("ClusterIP", false), ("NodePort", false), ("LoadBalancer", false), ("LoadBalancer", true)]
    {
        let name = format!("{}{declines}", kind.to_lowercase());
        let mut service = common::service(&name);
        service["spec"]["type"] = json!(kind);
        if declines {
            service["spec"]["allocateLoadBalancerNodePorts"] = json!(false);
        }
        lab.create::<Service>(service).await;
        let service = becomes(lab.api(), &name, "all that it is to have", |service: &Service| {
            kind != "LoadBalancer" || !ingress(service).is_empty()
        })
        .await;
        let spec = service.spec.clone().unwrap();
        let has_ip = spec.cluster_ip.is_some_and(|ip| ip.parse::<std::net::IpAddr>().is_ok());
        let has_port = spec.ports.unwrap()[0].node_port.is_some_and(|port| (30000..=32767).contains(&port));
        seen.push((has_ip, has_port, !ingress(&service).is_empty()));
    }
    assert_eq!(seen, [(true, false, false), (true, true, false), (true, true, true), (true, false, true)]);
    lab.stop().await;
}
