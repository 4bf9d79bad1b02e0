use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

use super::*;
use crate::fixtures::{Fixture, pod, service};

fn web(name: &str) -> Fixture {
    pod(name).label("app", "web").node("n1").ip("10.244.0.5").phase("Running").ready()
}

fn node(name: &str) -> Option<NodeInfo> {
    (name != "lost").then(|| NodeInfo { zone: (name == "n1").then(|| "z1".to_owned()) })
}

fn only(service: &Service, pod: &Fixture) -> Endpoint {
    let desired = desired(service, [&pod.pod], node);
    let mut endpoints: Vec<_> = desired.groups.into_values().flat_map(|group| group.endpoints).collect();
    assert_eq!(endpoints.len(), 1);
    endpoints.remove(0)
}

#[test]
fn conditions_follow_readiness_and_deletion() {
    let mut publishing = service("web");
    publishing.spec.as_mut().unwrap().publish_not_ready_addresses = Some(true);
    let plain = service("web");
    for (statement, service, pod, expected) in [
        ("S-194", &plain, web("a"), [true, true, false]),
        ("S-193", &plain, web("a").not_ready(), [false, false, false]),
        ("S-028", &plain, web("a").not_ready(), [false, false, false]),
        ("S-193", &plain, web("a").phase("Pending").not_ready(), [false, false, false]),
        ("S-194", &plain, web("a").deleted(), [false, true, true]),
        ("S-194", &plain, web("a").deleted().not_ready(), [false, false, true]),
        ("S-152", &publishing, web("a").not_ready(), [true, false, false]),
        ("S-152", &publishing, web("a").deleted(), [true, true, true]),
    ] {
        let conditions = only(service, &pod).conditions.unwrap();
        let actual = [conditions.ready, conditions.serving, conditions.terminating].map(Option::unwrap);
        assert_eq!(actual, expected, "{statement}");
    }
}

#[test]
fn pods_without_an_address_or_at_their_end_are_left_out() {
    let service = service("web");
    for (statement, pod) in [
        ("S-193", web("a").phase("Succeeded")),
        ("P-019", web("a").phase("Failed")),
        ("S-193", pod("a").label("app", "web").node("n1")),
        ("S-193", pod("a").label("app", "web").node("n1").ip("fd00::5")),
    ] {
        assert!(desired(&service, [&pod.pod], node).groups.is_empty(), "{statement}");
    }
}

// S-196
#[test]
fn an_endpoint_tells_where_it_comes_from() {
    let endpoint = only(&service("web"), &web("a").hostname("first", "web"));
    assert_eq!(endpoint.addresses, ["10.244.0.5"]);
    assert_eq!(endpoint.node_name.as_deref(), Some("n1"));
    assert_eq!(endpoint.zone.as_deref(), Some("z1"));
    assert_eq!(endpoint.hostname.as_deref(), Some("first"));
    let target = endpoint.target_ref.unwrap();
    let fields = [target.kind, target.namespace, target.name, target.uid].map(Option::unwrap);
    assert_eq!(fields, ["Pod", "default", "a", "uid-a"]);
    assert_eq!(only(&service("web"), &web("a").hostname("first", "api")).hostname, None);
    assert_eq!(only(&service("web"), &web("a").node("n2")).zone, None);
}

// S-197
#[test]
fn a_pod_on_an_unknown_node_waits_unless_readiness_is_ignored() {
    let mut service = service("web");
    let lost = web("a").node("lost");
    let waiting = desired(&service, [&lost.pod], node);
    assert!(waiting.groups.is_empty());
    assert_eq!(waiting.missing_nodes, ["lost"]);
    service.spec.as_mut().unwrap().publish_not_ready_addresses = Some(true);
    assert_eq!(only(&service, &lost).node_name.as_deref(), Some("lost"));
}

// S-156, S-157, S-189
#[test]
fn a_named_port_is_resolved_in_each_pod() {
    let mut service = service("web");
    let port = &mut service.spec.as_mut().unwrap().ports.as_mut().unwrap()[0];
    port.target_port = Some(IntOrString::String("http".into()));
    let pods = [
        web("a").port("http", 8080, "TCP"),
        web("b").port("http", 9090, "TCP"),
        web("c").port("http", 8080, "TCP"),
        web("d").port("http", 53, "UDP"),
    ];
    let desired = desired(&service, pods.iter().map(|pod| &pod.pod), node);
    let by_port: BTreeMap<Vec<Option<i32>>, usize> = desired
        .groups
        .iter()
        .map(|(key, group)| (key.ports.iter().map(|port| port.port).collect(), group.endpoints.len()))
        .collect();
    assert_eq!(by_port, BTreeMap::from([(vec![], 1), (vec![Some(8080)], 2), (vec![Some(9090)], 1)]));
}

// S-187, S-189
#[test]
fn each_family_has_its_own_endpoints() {
    let mut service = service("web");
    service.spec.as_mut().unwrap().ip_families = Some(vec!["IPv6".into(), "IPv4".into()]);
    let desired = desired(&service, [&web("a").ip("fd00::5").pod], node);
    let families: Vec<_> =
        desired.groups.iter().map(|(key, group)| (key.ipv6, group.endpoints[0].addresses[0].clone())).collect();
    assert_eq!(families, [(false, "10.244.0.5".to_owned()), (true, "fd00::5".to_owned())]);
    assert_eq!(desired.families, [true, false]);
}

#[test]
fn hints_follow_traffic_distribution() {
    for (statement, distribution, node, zones, nodes) in [
        ("S-208", Some("PreferClose"), "n1", Some("z1"), None),
        ("S-208", Some("PreferSameZone"), "n1", Some("z1"), None),
        ("S-208", Some("PreferSameZone"), "n2", None, None),
        ("S-209", Some("PreferSameNode"), "n1", Some("z1"), Some("n1")),
        ("S-209", Some("PreferSameNode"), "n2", None, Some("n2")),
        ("S-211", None, "n1", None, None),
    ] {
        let mut service = service("web");
        service.spec.as_mut().unwrap().traffic_distribution = distribution.map(str::to_owned);
        let hints = only(&service, &web("a").node(node)).hints.unwrap_or_default();
        let zone = hints.for_zones.map(|zones| zones[0].name.clone());
        let on = hints.for_nodes.map(|nodes| nodes[0].name.clone());
        assert_eq!((zone.as_deref(), on.as_deref()), (zones, nodes), "{statement} {distribution:?} {node}");
    }
    let mut service = service("web");
    service.spec.as_mut().unwrap().traffic_distribution = Some("PreferClose".into());
    assert_eq!(only(&service, &web("a").not_ready()).hints, None, "S-208: only ready ones");
}

// S-155, S-158, S-159
#[test]
fn a_port_takes_its_name_and_application_protocol_along_and_its_number_needs_no_container() {
    let mut service = service("web");
    let ports = service.spec.as_mut().unwrap().ports.as_mut().unwrap();
    ports[0].app_protocol = Some("kubernetes.io/h2c".into());
    let only_port = |service: &Service| {
        let desired = desired(service, [&web("a").pod], node);
        let (_, group) = desired.groups.into_iter().next().unwrap();
        EndpointPort::from(group.ports[0].clone())
    };
    let unnamed = only_port(&service);
    assert_eq!((unnamed.name.as_deref(), unnamed.port), (Some(""), Some(8080)), "the pod declares no port");
    assert_eq!(unnamed.app_protocol.as_deref(), Some("kubernetes.io/h2c"));
    service.spec.as_mut().unwrap().ports.as_mut().unwrap()[0].name = Some("http".into());
    assert_eq!(only_port(&service).name.as_deref(), Some("http"));
}
