//! Addresses, rules and faults that leave somebody out.

mod common;

use common::rows::{Row, WEB, check};
use common::{World, ask, load_balancer, node_port, slice, socket, unready};
use minisvc_why::{Cause, Fault};
use serde_json::{Value, json};

#[test]
fn addresses_and_rules_that_leave_somebody_out() {
    check(&[
        Row {
            label: "an exhausted pool",
            breaks: |world| {
                load_balancer(world);
                world.web()["status"] = json!({});
                world.event(
                    "Service",
                    "default",
                    "web",
                    "SyncLoadBalancerFailed",
                    "Error syncing load balancer: no address is left in the pool 10.95.1.0/30",
                );
            },
            asks: WEB,
            cause: Cause::LoadBalancerPending,
            says: &["no address is left in the pool 10.95.1.0/30"],
            mends: "",
        },
        Row {
            label: "another class",
            breaks: |world| {
                load_balancer(world);
                world.web()["status"] = json!({});
                world.web()["spec"]["loadBalancerClass"] = json!("example.com/elb");
            },
            asks: WEB,
            cause: Cause::LoadBalancerClass,
            says: &["class example.com/elb"],
            mends: r#""loadBalancerClass":null"#,
        },
        Row {
            label: "source ranges",
            breaks: |world| {
                load_balancer(world);
                world.web()["spec"]["loadBalancerSourceRanges"] = json!(["192.0.2.0/24"]);
            },
            asks: ("10.95.1.7:80", None),
            cause: Cause::SourceRange,
            says: &["192.0.2.0/24 only", "the workstation has 10.95.0.1"],
            mends: "10.95.0.1/32",
        },
        Row {
            label: "a node without an endpoint",
            breaks: |world| {
                node_port(world);
                world.web()["spec"]["externalTrafficPolicy"] = json!("Local");
                world.pods.remove(0);
                world.slices = vec![slice("default", "web", &[("10.244.1.2", "node-2")])];
            },
            asks: ("10.95.0.11:30080", None),
            cause: Cause::NoLocalEndpoint,
            says: &["externalTrafficPolicy Local", "node-1 was asked", "on node-2"],
            mends: r#""externalTrafficPolicy":"Cluster""#,
        },
        Row {
            label: "a client on a node without an endpoint",
            breaks: |world| {
                world.web()["spec"]["internalTrafficPolicy"] = json!("Local");
                world.pods.remove(1);
                world.slices = vec![slice("default", "web", &[("10.244.0.2", "node-1")])];
            },
            asks: ("svc/web", Some("shop/client")),
            cause: Cause::NoLocalEndpoint,
            says: &["internalTrafficPolicy Local", "the client is on node-2", "endpoints are on node-1"],
            mends: r#""internalTrafficPolicy":"Cluster""#,
        },
        Row {
            label: "a node port with a typo",
            breaks: node_port,
            asks: ("10.95.0.11:30081", None),
            cause: Cause::NodePortWrong,
            says: &["nothing on node node-1 answers on port 30081", "30080"],
            mends: "why 10.95.0.11:30080",
        },
        Row {
            label: "a node asked on the Service's port",
            breaks: node_port,
            asks: ("10.95.0.12:80", None),
            cause: Cause::NodePortWrong,
            says: &["has 30080 at the nodes, for its port 80"],
            mends: "why 10.95.0.12:30080",
        },
        Row {
            label: "the Service asked on its node port",
            breaks: node_port,
            asks: ("svc/web:30080", None),
            cause: Cause::PortMissing,
            says: &["its port at the nodes, at the Service ask 80"],
            mends: "svc/web:80",
        },
        Row {
            label: "affinity",
            breaks: |world| world.web()["spec"]["sessionAffinity"] = json!("ClientIP"),
            asks: WEB,
            cause: Cause::Affinity,
            says: &["sessionAffinity ClientIP"],
            mends: r#""sessionAffinity":"None""#,
        },
        Row {
            label: "an address of a pod that has gone",
            breaks: |_| {},
            asks: ("10.244.0.77:8080", None),
            cause: Cause::AddressUnknown,
            says: &["no pod has 10.244.0.77 now", "pods of node-1"],
            mends: "",
        },
        Row {
            label: "an address of no Service",
            breaks: |_| {},
            asks: ("10.96.3.3:80", None),
            cause: Cause::AddressUnknown,
            says: &["range of Services"],
            mends: "",
        },
        Row {
            label: "an address of nobody",
            breaks: |_| {},
            asks: ("172.30.0.1", None),
            cause: Cause::AddressUnknown,
            says: &["nobody in the lab has 172.30.0.1"],
            mends: "",
        },
        Row {
            label: "an address that somebody else has",
            breaks: |world| {
                world.rest.frontends = Some(Vec::new());
                world.rest.clashes =
                    vec![minisvc_why::Clash { at: socket("10.96.0.9:80"), holder: "service/shop/other".into() }];
            },
            asks: WEB,
            cause: Cause::NotInTable,
            says: &["does not answer for 10.96.0.9:80", "belongs to service/shop/other"],
            mends: "",
        },
        Row {
            label: "a fault",
            breaks: |world| {
                let spec = json!({"to": {"service": "web"}, "lossPercent": 30, "delayMilliseconds": 100});
                world.rest.faults = vec![fault(&spec)];
            },
            asks: WEB,
            cause: Cause::FaultActive,
            says: &["fault slow", "30% of the packets are lost", "100 ms"],
            mends: "minisvc fault remove slow",
        },
        Row {
            label: "a fault that cuts a node off, so that probes fail",
            breaks: |world| {
                world.both(unready);
                world.rest.faults = vec![fault(&json!({"to": {"zone": "zone-a"}, "partition": true}))];
            },
            asks: WEB,
            cause: Cause::FaultActive,
            says: &["nothing passes"],
            mends: "minisvc fault remove slow",
        },
        Row {
            label: "a fault that only slows down",
            breaks: |world| {
                world.rest.faults = vec![fault(&json!({"from": {"workstation": true}, "delayMilliseconds": 50}))]
            },
            asks: WEB,
            cause: Cause::FaultActive,
            says: &["50 ms later"],
            mends: "minisvc fault remove slow",
        },
        Row {
            label: "a riddle",
            breaks: |world| world.rest.seen.attempt.as_mut().expect("tried").failure = Some("timed out".into()),
            asks: WEB,
            cause: Cause::Unexplained,
            says: &["a connection from the workstation to 10.96.0.9:80 failed: timed out"],
            mends: "",
        },
    ]);
}

fn fault(spec: &Value) -> Fault {
    serde_json::from_value(json!({"metadata": {"name": "slow"}, "spec": spec})).expect("a fault")
}

#[test]
fn faults_between_others_are_no_reason() {
    for spec in [
        json!({"to": {"service": "db"}, "partition": true}),
        json!({"to": {"service": "web", "namespace": "shop"}, "partition": true}),
        json!({"from": {"pod": "client", "namespace": "shop"}, "partition": true}),
        json!({"from": {"node": "node-7"}, "partition": true}),
        json!({"from": {"outside": true}, "partition": true}),
        json!({"from": {"matchLabels": {"app": "db"}}, "partition": true}),
        json!({"to": {"zone": "zone-z"}, "partition": true}),
    ] {
        let mut world = World::working();
        world.rest.faults = vec![fault(&spec)];
        assert_eq!(ask(world, "svc/web", None).cause, Cause::Fine, "{spec}");
    }
}

#[test]
fn rules_that_are_for_others_leave_nobody_out() {
    let mut world = World::working();
    load_balancer(&mut world);
    world.web()["spec"]["loadBalancerSourceRanges"] = json!(["10.95.0.0/24"]);
    world.web()["spec"]["externalTrafficPolicy"] = json!("Local");
    world.web()["spec"]["internalTrafficPolicy"] = json!("Local");
    let findings = ask(world, "10.95.1.7:80", None);
    assert_eq!(findings.cause, Cause::Fine, "{findings:#?}");
}

#[test]
fn host_ports_and_places_that_are_no_objects_are_known() {
    let mut world = World::working();
    world.pods[0]["spec"]["containers"][0]["ports"] = json!([{"containerPort": 8080, "hostPort": 7777}]);
    world.rest.places = [(common::address("10.95.0.1"), "the workstation".to_owned())].into();
    world.rest.seen.attempt = None;
    let findings = ask(world, "10.95.0.11:7777", None);
    assert_eq!(findings.sentence, "pod default/web-1 answers at 10.244.0.2", "{findings:#?}");

    let mut world = World::working();
    world.rest.places = [(common::address("10.95.0.1"), "the workstation".to_owned())].into();
    assert_eq!(ask(world, "10.95.0.1", None).sentence, "10.95.0.1 is the workstation");
}
