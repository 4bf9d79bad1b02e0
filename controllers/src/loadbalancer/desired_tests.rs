use std::net::IpAddr;

use ipnet::IpNet;
use k8s_openapi::api::core::v1::{LoadBalancerIngress, LoadBalancerStatus, Node, NodeSpec, Service, Taint};
use proptest::prelude::*;

use super::changes::changes;
use super::desired::*;
use crate::cache::Key;
use crate::fixtures::{meta, time};

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn pool(ranges: &[&str]) -> Pool {
    Pool::new(ranges.iter().map(|range| range.parse().unwrap()).collect())
}

fn balancer(name: &str) -> Service {
    let mut service = crate::fixtures::service(name);
    service.spec.as_mut().unwrap().type_ = Some("LoadBalancer".into());
    service
}

fn with_status(mut service: Service, addresses: &[&str]) -> Service {
    let ingress = addresses.iter().map(|ip| LoadBalancerIngress { ip: Some((*ip).into()), ..Default::default() });
    let load_balancer = Some(LoadBalancerStatus { ingress: Some(ingress.collect()) });
    service.status.get_or_insert_default().load_balancer = load_balancer;
    service.metadata.finalizers.get_or_insert_default().push(FINALIZER.into());
    service
}

fn asking(mut service: Service, address: &str) -> Service {
    service.spec.as_mut().unwrap().load_balancer_ip = Some(address.into());
    service
}

fn of_class(mut service: Service, class: &str) -> Service {
    service.spec.as_mut().unwrap().load_balancer_class = Some(class.into());
    service
}

fn others(addresses: &[&str]) -> Taken {
    addresses.iter().map(|address| (ip(address), Key::new("default", "other"))).collect()
}

fn given(service: &Service, ranges: &[&str], taken: &[&str]) -> Result<Vec<String>, String> {
    match desired(service, &pool(ranges), &others(taken)) {
        Ok(Desired::Addresses(addresses)) => Ok(addresses.iter().map(ToString::to_string).collect()),
        Ok(Desired::Nothing) => Ok(vec!["nothing".into()]),
        Ok(Desired::Release) => Ok(vec!["release".into()]),
        Err(error) => Err(error.to_string()),
    }
}

// S-128, S-129, S-131, S-138, S-142
#[test]
fn what_a_service_gets() {
    let web = || balancer("web");
    let kept = |address: &str| with_status(web(), &[address]);
    let dual = |mut service: Service| {
        service.spec.as_mut().unwrap().ip_families = Some(vec!["IPv6".into(), "IPv4".into()]);
        service
    };
    let plain = |mut service: Service| {
        service.spec.as_mut().unwrap().type_ = Some("NodePort".into());
        service
    };
    let deleted = |mut service: Service| {
        service.metadata.deletion_timestamp = Some(time(9));
        service
    };
    let p30: &[&str] = &["192.0.2.0/30"];
    let ok = |texts: &[&str]| -> Result<Vec<String>, String> { Ok(texts.iter().map(|text| (*text).into()).collect()) };
    let rows = [
        ("S-128 the first of the range", given(&web(), p30, &[]), ok(&["192.0.2.1"])),
        ("S-128 the first that is free", given(&web(), p30, &["192.0.2.1"]), ok(&["192.0.2.2"])),
        (
            "S-128 the second range",
            given(&web(), &["192.0.2.0/32", "192.0.2.9/32"], &["192.0.2.0"]),
            ok(&["192.0.2.9"]),
        ),
        ("S-128 the same again", given(&kept("192.0.2.2"), p30, &[]), ok(&["nothing"])),
        ("S-128 moved out of the pool", given(&kept("198.51.100.1"), p30, &[]), ok(&["192.0.2.1"])),
        ("S-128 taken by an older one", given(&kept("192.0.2.1"), p30, &["192.0.2.1"]), ok(&["192.0.2.2"])),
        (
            "S-128 one of each family",
            given(&dual(web()), &["192.0.2.0/30", "2001:db8::/126"], &[]),
            ok(&["2001:db8::1", "192.0.2.1"]),
        ),
        ("S-128 the family there is", given(&dual(web()), p30, &[]), ok(&["192.0.2.1"])),
        (
            "S-128 no such family",
            given(&web(), &["2001:db8::/126"], &[]),
            Err("the pool 2001:db8::/126 has no addresses of the Service's IP families".into()),
        ),
        (
            "S-128 exhausted",
            given(&web(), p30, &["192.0.2.1", "192.0.2.2"]),
            Err("no address is left in the pool 192.0.2.0/30".into()),
        ),
        ("S-129 as asked", given(&asking(web(), "192.0.2.2"), p30, &[]), ok(&["192.0.2.2"])),
        ("S-129 another than before", given(&asking(kept("192.0.2.1"), "192.0.2.2"), p30, &[]), ok(&["192.0.2.2"])),
        (
            "S-129 taken",
            given(&asking(web(), "192.0.2.2"), p30, &["192.0.2.2"]),
            Err("the loadBalancerIP 192.0.2.2 is in use by default/other".into()),
        ),
        (
            "S-129 not in the pool",
            given(&asking(web(), "192.0.2.9"), p30, &[]),
            Err("the loadBalancerIP 192.0.2.9 is not in the pool 192.0.2.0/30".into()),
        ),
        (
            "S-129 broadcast",
            given(&asking(web(), "192.0.2.3"), p30, &[]),
            Err("the loadBalancerIP 192.0.2.3 is not in the pool 192.0.2.0/30".into()),
        ),
        (
            "S-129 malformed",
            given(&asking(web(), "any"), p30, &[]),
            Err("the loadBalancerIP \"any\" is not an IP address".into()),
        ),
        ("S-131 our class", given(&of_class(web(), CLASS), p30, &[]), ok(&["192.0.2.1"])),
        ("S-131 another class", given(&of_class(web(), "example.com/x"), p30, &[]), ok(&["nothing"])),
        (
            "S-131 another class, deleted",
            given(&deleted(of_class(kept("192.0.2.1"), "example.com/x")), p30, &[]),
            ok(&["release"]),
        ),
        ("S-138 deleted", given(&deleted(kept("192.0.2.1")), p30, &[]), ok(&["release"])),
        ("S-142 another type", given(&plain(kept("192.0.2.1")), p30, &[]), ok(&["release"])),
        ("S-142 never was one", given(&plain(web()), p30, &[]), ok(&["nothing"])),
    ];
    for (label, got, wanted) in rows {
        assert_eq!(got, wanted, "{label}");
    }
}

#[test]
fn of_two_services_with_one_address_the_older_has_it() {
    let made = |name: &str, second| {
        let mut service = with_status(balancer(name), &["192.0.2.1"]);
        service.metadata.creation_timestamp = Some(time(second));
        service
    };
    let (old, young) = (made("b", 1), made("a", 2));
    assert!(taken(&old, [&old, &young]).is_empty());
    assert_eq!(taken(&young, [&old, &young]).get(&ip("192.0.2.1")), Some(&Key::new("default", "b")));
    // A Service that has never been given anything here does not count.
    let mut stranger = with_status(of_class(balancer("x"), "example.com/x"), &["192.0.2.7"]);
    stranger.metadata.finalizers = None;
    assert!(taken(&old, [&stranger]).is_empty());
}

proptest! {
    // S-128
    #[test]
    fn no_address_is_given_twice_and_none_is_wasted(prefix in 24_u8..=32, count in 0..300_usize) {
        let range: IpNet = format!("192.0.2.0/{prefix}").parse().unwrap();
        let pool = Pool::new(vec![range]);
        let mut given = Taken::new();
        for _ in 0..count {
            match desired(&balancer("web"), &pool, &given) {
                Ok(Desired::Addresses(addresses)) => {
                    prop_assert_eq!(addresses.len(), 1);
                    prop_assert!(range.contains(&addresses[0]));
                    prop_assert!(given.insert(addresses[0], Key::new("default", "other")).is_none());
                }
                other => {
                    prop_assert_eq!(other, Err(NoAddress::Exhausted(range.to_string())));
                    let room = 1_usize << (32 - prefix);
                    prop_assert_eq!(given.len(), if room > 2 { room - 2 } else { room });
                }
            }
        }
    }
}

// S-140
#[test]
fn nodes_that_load_balancers_send_to() {
    let node = |label: Option<&str>, tainted: Option<&str>| {
        let mut node = Node { metadata: meta("n1"), ..Node::default() };
        node.metadata.labels = label.map(|label| [(label.to_owned(), String::new())].into());
        let taint = |key: &str| Taint { key: key.into(), effect: "NoSchedule".into(), ..Taint::default() };
        node.spec = Some(NodeSpec { taints: Some(tainted.map(taint).into_iter().collect()), ..NodeSpec::default() });
        node
    };
    assert!(is_eligible(&node(None, None)));
    assert!(is_eligible(&node(Some("other"), Some("node.kubernetes.io/unreachable"))), "readiness does not matter");
    assert!(!is_eligible(&node(Some("node.kubernetes.io/exclude-from-external-load-balancers"), None)));
    assert!(!is_eligible(&node(None, Some("ToBeDeletedByClusterAutoscaler"))));
    let mut leaving = node(None, None);
    leaving.metadata.deletion_timestamp = Some(time(1));
    assert!(!is_eligible(&leaving));
}

// S-139
#[test]
fn changes_of_a_load_balancer_are_told() {
    let before = balancer("web");
    let mut after = asking(before.clone(), "192.0.2.1");
    let spec = after.spec.as_mut().unwrap();
    spec.type_ = Some("NodePort".into());
    spec.load_balancer_source_ranges = Some(vec!["192.0.2.0/24".into(), "198.51.100.0/24".into()]);
    spec.external_traffic_policy = Some("Local".into());
    spec.health_check_node_port = Some(32000);
    spec.external_ips = Some(vec!["203.0.113.1".into()]);
    let mut told = changes(&before, &after);
    told.sort();
    let wanted = [
        ("ExternalIP", "Count: 0 -> Count: 1"),
        ("ExternalTrafficPolicy", " -> Local"),
        ("HealthCheckNodePort", "0 -> 32000"),
        ("LoadBalancerSourceRanges", "[] -> [192.0.2.0/24 198.51.100.0/24]"),
        ("LoadbalancerIP", " -> 192.0.2.1"),
        ("Type", "LoadBalancer -> NodePort"),
    ];
    assert_eq!(told, wanted.map(|(reason, message)| (reason, message.to_owned())));
    assert!(changes(&before, &before).is_empty());
    let plain = crate::fixtures::service("web");
    assert!(changes(&plain, &asking(plain.clone(), "192.0.2.1")).is_empty(), "nobody's load balancer");
}
