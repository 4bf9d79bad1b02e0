use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

use super::*;
use crate::fixtures::{Fixture, pod, service};

fn web(name: &str, ip: &str) -> Fixture {
    pod(name).label("app", "web").node("n1").ip(ip).phase("Running").ready()
}

fn lists(service: &Service, pods: &[Fixture]) -> Vec<(Vec<String>, Vec<String>, Vec<i32>)> {
    let ips = |list: &Option<Vec<EndpointAddress>>| list.iter().flatten().map(|entry| entry.ip.clone()).collect();
    let (subsets, _) = subsets(service, pods.iter().map(|pod| &pod.pod));
    subsets
        .iter()
        .map(|subset| {
            let ports = subset.ports.iter().flatten().map(|port| port.port).collect();
            (ips(&subset.addresses), ips(&subset.not_ready_addresses), ports)
        })
        .collect()
}

#[test]
fn readiness_decides_the_list_and_the_end_of_a_pod_its_place_in_any() {
    let plain = service("web");
    let mut publishing = service("web");
    publishing.spec.as_mut().unwrap().publish_not_ready_addresses = Some(true);
    let ip = "10.244.0.5";
    let ready = || vec![(vec![ip.to_owned()], vec![], vec![8080])];
    let not_ready = || vec![(vec![], vec![ip.to_owned()], vec![8080])];
    for (statement, service, pod, expected) in [
        ("S-176", &plain, web("a", ip), ready()),
        ("S-176", &plain, web("a", ip).not_ready(), not_ready()),
        ("S-177", &plain, web("a", ip).not_ready().restarts(7), not_ready()),
        ("S-176", &plain, web("a", ip).phase("Succeeded"), vec![]),
        ("P-019", &plain, web("a", ip).phase("Failed"), vec![]),
        ("S-176", &plain, web("a", ip).deleted(), vec![]),
        ("S-152", &publishing, web("a", ip).deleted(), ready()),
        ("S-153", &publishing, web("a", ip).not_ready(), ready()),
        ("S-178", &plain, pod("a").ip("fd00::5").ready(), vec![]),
    ] {
        assert_eq!(lists(service, &[pod]), expected, "{statement}");
    }
}

// S-178
#[test]
fn an_address_tells_its_pod_node_and_host_name() {
    let pod = web("a", "10.244.0.5").hostname("first", "web");
    let (subsets, _) = subsets(&service("web"), [&pod.pod]);
    let address = &subsets[0].addresses.as_ref().unwrap()[0];
    assert_eq!((address.hostname.as_deref(), address.node_name.as_deref()), (Some("first"), Some("n1")));
    assert_eq!(address.target_ref, Some(target(&pod.pod)));
}

// S-179
#[test]
fn each_distinct_set_of_ports_is_one_subset_with_sorted_addresses() {
    let mut service = service("web");
    let ports = service.spec.as_mut().unwrap().ports.as_mut().unwrap();
    ports[0].target_port = Some(IntOrString::String("http".into()));
    ports[0].app_protocol = Some("http".into());
    let pods = [
        web("a", "10.244.0.10").port("http", 8080, "TCP"),
        web("b", "10.244.0.9").port("http", 8080, "TCP"),
        web("c", "10.244.0.3").port("http", 9090, "TCP").not_ready(),
        web("d", "10.244.0.4"),
    ];
    let expected = [
        (vec!["10.244.0.9".to_owned(), "10.244.0.10".to_owned()], vec![], vec![8080]),
        (vec![], vec!["10.244.0.3".to_owned()], vec![9090]),
    ];
    assert_eq!(lists(&service, &pods), expected);
    let (subsets, _) = subsets(&service, [&pods[0].pod]);
    assert_eq!(subsets[0].ports.as_ref().unwrap()[0].app_protocol.as_deref(), Some("http"));
}

// S-179, S-181
#[test]
fn a_headless_service_without_ports_has_addresses_and_a_label() {
    let mut service = service("web");
    let spec = service.spec.as_mut().unwrap();
    (spec.cluster_ip, spec.ports) = (Some("None".into()), None);
    assert_eq!(lists(&service, &[web("a", "10.244.0.5")]), [(vec!["10.244.0.5".to_owned()], vec![], vec![])]);
    let made = desired(&service, [], None, None).unwrap();
    assert_eq!(made.metadata.labels.as_ref().unwrap().get(HEADLESS).map(String::as_str), Some(""));
}

// S-180, S-181
#[test]
fn without_pods_the_object_exists_without_subsets() {
    let mut service = service("web");
    service.metadata.labels = Some(Labels::from([("team".into(), "a".into())]));
    let made = desired(&service, [], None, None).unwrap();
    assert_eq!(made.subsets, None);
    let labels: Vec<_> =
        made.metadata.labels.iter().flatten().map(|(key, value)| (key.as_str(), value.as_str())).collect();
    assert_eq!(labels, [(MANAGED_BY, MANAGER), ("team", "a")]);
}

// S-182, S-184
#[test]
fn nothing_is_written_for_the_trigger_time_alone() {
    let service = service("web");
    let pod = web("a", "10.244.0.5");
    let when = |second| Some(Timestamp::from_second(second).unwrap());
    let made = desired(&service, [&pod.pod], None, when(1)).unwrap();
    let annotation = |made: &Endpoints| made.metadata.annotations.as_ref().unwrap().get(trigger::ANNOTATION).cloned();
    assert_eq!(annotation(&made).as_deref(), Some("1970-01-01T00:00:01Z"));
    assert_eq!(desired(&service, [&pod.pod], Some(&made), when(2)), None);
    let emptied = desired(&service, [], Some(&made), None).unwrap();
    assert_eq!((annotation(&emptied), emptied.subsets), (None, None));
}

// S-183
#[test]
fn more_than_a_thousand_addresses_are_cut_ready_ones_first() {
    let service = service("web");
    let address = |index: i32| format!("10.{}.{}.2", 1 + index / 200, index % 200);
    let ready: Vec<_> = (0..600).map(|index| web(&format!("r{index}"), &address(index))).collect();
    let waiting = (600..1200).map(|index| web(&format!("w{index}"), &address(index)).not_ready());
    let all: Vec<_> = ready.iter().cloned().chain(waiting).collect();
    let made = desired(&service, all.iter().map(|pod| &pod.pod), None, None).unwrap();
    let subset = &made.subsets.as_ref().unwrap()[0];
    let counts = [&subset.addresses, &subset.not_ready_addresses].map(|list| list.as_ref().unwrap().len());
    assert_eq!(counts, [600, 400]);
    assert_eq!(made.metadata.annotations.as_ref().unwrap()[OVER_CAPACITY], "truncated");
    let fits = desired(&service, ready.iter().map(|pod| &pod.pod), Some(&made), None).unwrap();
    assert!(!fits.metadata.annotations.unwrap().contains_key(OVER_CAPACITY));
}

// S-158, S-159
#[test]
fn a_port_takes_its_application_protocol_along() {
    let mut service = service("web");
    service.spec.as_mut().unwrap().ports.as_mut().unwrap()[0].app_protocol = Some("example.com/own".into());
    let (subsets, _) = subsets(&service, [&web("a", "10.244.0.5").pod]);
    let port = &subsets[0].ports.as_ref().unwrap()[0];
    assert_eq!((port.port, port.app_protocol.as_deref()), (8080, Some("example.com/own")));
}
