//! Allocation against a pool that is a plain set.

use std::cell::RefCell;
use std::collections::BTreeMap;

use proptest::prelude::*;

use super::super::{carry, defaulting, validation};
use super::*;
use crate::registry::PoolConfig;

/// A cluster: its ranges, what is taken, and dice that always show 0.
struct Cluster {
    config: PoolConfig,
    taken: RefCell<BTreeSet<Claim>>,
}

impl Cluster {
    fn new(ranges: &[&str]) -> Self {
        let service_cidrs = ranges.iter().map(|range| range.parse().unwrap()).collect();
        let config = PoolConfig { service_cidrs, node_ports: 30000..=32767 };
        Self { config, taken: RefCell::default() }
    }

    fn single() -> Self {
        Self::new(&["10.96.0.0/24"])
    }

    /// A write as the server does it: default, prepare, allocate, validate; then the plan comes true.
    fn write(&self, spec: Value, old: Option<&Value>) -> Result<Value, ApiError> {
        self.run(spec, old, false)
    }

    fn run(&self, spec: Value, old: Option<&Value>, dry_run: bool) -> Result<Value, ApiError> {
        let mut new = json!({"metadata": {"name": "s", "namespace": "a"}, "spec": spec});
        defaulting::default(&mut new);
        carry::prepare(&mut new, old);
        let plan = self.plan(Some(&mut new), old, dry_run)?;
        let errors = validation::validate(&new, old);
        if !errors.is_empty() {
            return Err(invalid(&new, errors));
        }
        self.settle(&plan);
        Ok(new)
    }

    fn plan(&self, new: Option<&mut Value>, old: Option<&Value>, dry_run: bool) -> Result<AllocationPlan, ApiError> {
        let taken = |claim: &Claim| self.taken.borrow().contains(claim);
        let random = |_| 0;
        Allocator.plan(new, old, &Pools::new(&self.config, &taken, &random), dry_run)
    }

    fn settle(&self, plan: &AllocationPlan) {
        let mut taken = self.taken.borrow_mut();
        for claim in &plan.take {
            assert!(taken.insert(*claim), "{claim:?} was taken twice");
        }
        for claim in &plan.give {
            assert!(taken.remove(claim), "{claim:?} was not held");
        }
    }

    fn delete(&self, old: &Value) {
        let plan = self.plan(None, Some(old), false).unwrap();
        self.settle(&plan);
    }

    fn holds(&self) -> Vec<String> {
        self.taken.borrow().iter().map(Claim::name).collect()
    }
}

fn message(result: Result<Value, ApiError>) -> String {
    result.unwrap_err().to_string()
}

fn tcp(port: i64) -> Value {
    json!({"ports": [{"port": port}]})
}

fn node_port_service(ports: Value) -> Value {
    json!({"type": "NodePort", "ports": ports})
}

// S-103, S-102, S-027
#[test]
fn the_create_response_shows_address_and_families() {
    let cluster = Cluster::single();
    let service = cluster.write(tcp(80), None).unwrap();
    assert_eq!(service["spec"]["clusterIP"], "10.96.0.17");
    assert_eq!(service["spec"]["clusterIPs"], json!(["10.96.0.17"]));
    assert_eq!(service["spec"]["ipFamilies"], json!(["IPv4"]));
    assert_eq!(service["spec"]["ipFamilyPolicy"], "SingleStack");
    let other = cluster.write(tcp(80), None).unwrap();
    assert_eq!(other["spec"]["clusterIP"], "10.96.0.18");
}

// S-104
#[test]
fn an_address_can_be_asked_for() {
    let cluster = Cluster::single();
    let ask = |ip: &str| json!({"clusterIP": ip, "ports": [{"port": 80}]});
    assert_eq!(cluster.write(ask("10.96.0.5"), None).unwrap()["spec"]["clusterIPs"], json!(["10.96.0.5"]));
    let rows = [
        ("10.96.0.5", "failed to allocate IP 10.96.0.5: provided IP is already allocated"),
        (
            "10.96.0.255",
            "failed to allocate IP 10.96.0.255: the provided IP (10.96.0.255) is not in the valid range. The range of \
             valid IPs is 10.96.0.0/24",
        ),
        ("10.97.0.1", "failed to allocate IP 10.97.0.1: the provided network does not match the current range"),
    ];
    for (ip, why) in rows {
        let expected = format!("Service \"s\" is invalid: spec.clusterIPs: Invalid value: [\"{ip}\"]: {why}");
        assert_eq!(message(cluster.write(ask(ip), None)), expected);
    }
}

// S-105
#[test]
fn a_full_range_is_an_internal_error() {
    let cluster = Cluster::new(&["10.96.0.0/30"]);
    cluster.write(tcp(80), None).unwrap();
    cluster.write(tcp(80), None).unwrap();
    let error = cluster.write(tcp(80), None).unwrap_err();
    assert_eq!(error.code(), 500);
    assert_eq!(error.to_string(), "Internal error occurred: failed to allocate a serviceIP: range is full");
}

// S-111, S-112, S-123
#[test]
fn what_is_given_up_can_be_had_again() {
    let cluster = Cluster::single();
    let service = cluster.write(node_port_service(json!([{"port": 80, "nodePort": 30080}])), None).unwrap();
    assert_eq!(cluster.holds(), ["10.96.0.17", "30080"]);
    cluster.delete(&service);
    assert!(cluster.holds().is_empty());
    let service = cluster
        .write(json!({"clusterIP": "10.96.0.17", "type": "NodePort", "ports": [{"port": 80, "nodePort": 30080}]}), None)
        .unwrap();
    let mut plain = service["spec"].clone();
    plain["type"] = json!("ClusterIP");
    let service = cluster.write(plain, Some(&service)).unwrap();
    assert_eq!(cluster.holds(), ["10.96.0.17"]);
    let mut external = service["spec"].clone();
    external["type"] = json!("ExternalName");
    external["externalName"] = json!("db.example.com");
    let service = cluster.write(external, Some(&service)).unwrap();
    assert!(cluster.holds().is_empty());
    // S-093: and back, with a leftover name.
    let back = json!({"type": "ClusterIP", "externalName": "db.example.com", "ports": [{"port": 80}]});
    let service = cluster.write(back, Some(&service)).unwrap();
    assert_eq!(service["spec"]["clusterIP"], "10.96.0.17");
}

// S-099, S-111
#[test]
fn a_second_family_comes_and_goes() {
    let cluster = Cluster::new(&["10.96.0.0/24", "fd00:96::/112"]);
    let service = cluster.write(tcp(80), None).unwrap();
    let mut spec = service["spec"].clone();
    spec["ipFamilyPolicy"] = json!("PreferDualStack");
    let service = cluster.write(spec, Some(&service)).unwrap();
    assert_eq!(service["spec"]["clusterIPs"], json!(["10.96.0.17", "fd00:96::101"]));
    let mut spec = service["spec"].clone();
    spec["ipFamilyPolicy"] = json!("SingleStack");
    let service = cluster.write(spec, Some(&service)).unwrap();
    assert_eq!(service["spec"]["clusterIPs"], json!(["10.96.0.17"]));
    assert_eq!(cluster.holds(), ["10.96.0.17"]);
}

// S-116, S-117, S-118
#[test]
fn node_ports_are_given_or_asked_for() {
    let cluster = Cluster::single();
    let service =
        cluster.write(node_port_service(json!([{"name": "a", "port": 80}, {"name": "b", "port": 81}])), None).unwrap();
    assert_eq!(node_ports(&service), [30086, 30087]);
    let ask =
        |port: i64, protocol: &str| node_port_service(json!([{"port": 53, "protocol": protocol, "nodePort": port}]));
    assert_eq!(node_ports(&cluster.write(ask(30001, "UDP"), None).unwrap()), [30001]);
    let at = "Service \"s\" is invalid: spec.ports[0].nodePort: Invalid value:";
    assert_eq!(
        message(cluster.write(ask(30001, "TCP"), None)),
        format!("{at} 30001: provided port is already allocated")
    );
    let range = "provided port is not in the valid range. The range of valid ports is 30000-32767";
    assert_eq!(message(cluster.write(ask(29999, "TCP"), None)), format!("{at} 29999: {range}"));
    let balancer = json!({"type": "LoadBalancer", "ports": [{"port": 80}]});
    assert_eq!(node_ports(&cluster.write(balancer, None).unwrap()), [30088]);
}

#[test]
fn protocols_of_one_port_share_on_create_only() {
    let both = |tcp: Value, udp: Value| {
        let port = |name: &str, protocol: &str, node_port: Value| json!({"name": name, "port": 53, "protocol": protocol, "nodePort": node_port});
        node_port_service(json!([port("t", "TCP", tcp), port("u", "UDP", udp)]))
    };
    let none = Value::Null;
    let rows = [
        ("S-119", both(none.clone(), none.clone()), Ok(vec![30086, 30086])),
        ("S-119", both(json!(30053), none.clone()), Ok(vec![30053, 30053])),
        ("S-119", both(none.clone(), json!(30053)), Ok(vec![30053, 30053])),
        ("S-119", both(json!(30053), json!(30054)), Ok(vec![30053, 30054])),
        ("S-119", both(json!(30053), json!(30053)), Ok(vec![30053, 30053])),
        (
            "S-047",
            node_port_service(
                json!([{"name": "a", "port": 80, "nodePort": 30080}, {"name": "b", "port": 81, "nodePort": 30080}]),
            ),
            Err("spec.ports[1].nodePort: Invalid value: 30080: provided port is already allocated"),
        ),
    ];
    for (statement, spec, expected) in rows {
        let found = Cluster::single().write(spec.clone(), None);
        match expected {
            Ok(ports) => assert_eq!(node_ports(&found.unwrap()), ports, "{statement}: {spec}"),
            Err(part) => assert!(message(found).contains(part), "{statement}: {spec}"),
        }
    }
    // S-119, S-120: on update each gets its own.
    let cluster = Cluster::single();
    let plain = json!({"ports": [{"name": "t", "port": 53}, {"name": "u", "port": 53, "protocol": "UDP"}]});
    let service = cluster.write(plain, None).unwrap();
    let service = cluster.write(both(none.clone(), none.clone()), Some(&service)).unwrap();
    assert_eq!(node_ports(&service), [30086, 30087]);
    let mut spec = service["spec"].clone();
    spec["ports"].as_array_mut().unwrap().push(json!({"name": "s", "port": 53, "protocol": "SCTP"}));
    assert_eq!(node_ports(&cluster.write(spec, Some(&service)).unwrap()), [30086, 30087, 30088]);
}

// S-085, S-123
#[test]
fn a_renamed_port_gets_another_number_and_the_old_one_is_freed() {
    let cluster = Cluster::single();
    let service = cluster.write(node_port_service(json!([{"name": "a", "port": 80}])), None).unwrap();
    let service = cluster.write(node_port_service(json!([{"name": "b", "port": 80}])), Some(&service)).unwrap();
    assert_eq!(node_ports(&service), [30087]);
    assert_eq!(cluster.holds(), ["10.96.0.17", "30087"]);
}

// S-122
#[test]
fn all_node_ports_in_use_is_an_internal_error() {
    let mut cluster = Cluster::single();
    cluster.config.node_ports = 30000..=30000;
    cluster.write(node_port_service(json!([{"port": 80}])), None).unwrap();
    let error = cluster.write(node_port_service(json!([{"port": 80}])), None).unwrap_err();
    assert_eq!(error.code(), 500);
    assert_eq!(error.to_string(), "Internal error occurred: failed to allocate a nodePort: range is full");
}

// S-120
#[test]
fn a_port_that_is_added_gets_a_number_of_its_own() {
    let cluster = Cluster::single();
    let service = cluster.write(node_port_service(json!([{"name": "t", "port": 53}])), None).unwrap();
    let first = node_ports(&service)[0];
    let mut ports = service["spec"]["ports"].clone();
    // The same number in another protocol: on create it would have shared the node port.
    ports.as_array_mut().unwrap().push(json!({"name": "u", "port": 53, "protocol": "UDP"}));
    let mut spec = service["spec"].clone();
    spec["ports"] = ports;
    let service = cluster.write(spec, Some(&service)).unwrap();
    let [kept, added] = node_ports(&service)[..] else { panic!("two: {service}") };
    assert_eq!(kept, first);
    assert_ne!(added, first);
}

// S-135, S-160
#[test]
fn a_balancer_may_have_ports_of_every_protocol() {
    let cluster = Cluster::single();
    let ports = json!([
        {"name": "t", "port": 53, "protocol": "TCP"},
        {"name": "u", "port": 53, "protocol": "UDP"},
        {"name": "s", "port": 132, "protocol": "SCTP"},
    ]);
    for kind in ["LoadBalancer", "NodePort", "ClusterIP"] {
        let service = cluster.write(json!({"type": kind, "ports": ports}), None).unwrap();
        assert_eq!(list(&service, "/spec/ports").len(), 3, "{kind}");
        assert_eq!(node_ports(&service).len(), if kind == "ClusterIP" { 0 } else { 3 }, "{kind}");
    }
}

// S-124, S-134
#[test]
fn a_local_balancer_has_a_health_check_port() {
    let cluster = Cluster::single();
    let balancer = |extra: Value| {
        let mut spec = json!({"type": "LoadBalancer", "externalTrafficPolicy": "Local", "ports": [{"port": 80}]});
        for (key, value) in extra.as_object().unwrap() {
            spec[key] = value.clone();
        }
        spec
    };
    let service = cluster.write(balancer(json!({})), None).unwrap();
    assert_eq!(service["spec"]["healthCheckNodePort"], 30087);
    for (asked, why) in [(30087, "provided port is already allocated"), (1, "provided port is not in the valid range.")]
    {
        let error = cluster.write(balancer(json!({"healthCheckNodePort": asked})), None).unwrap_err();
        assert_eq!(error.code(), 500);
        let start =
            format!("Internal error occurred: failed to allocate requested HealthCheck NodePort {asked}: {why}");
        assert!(error.to_string().starts_with(&start), "{error}");
    }
    let mut spec = service["spec"].clone();
    spec["externalTrafficPolicy"] = json!("Cluster");
    let service = cluster.write(spec, Some(&service)).unwrap();
    assert_eq!(service["spec"].get("healthCheckNodePort"), None);
    assert_eq!(cluster.holds(), ["10.96.0.17", "30086"]);
}

// S-132
#[test]
fn a_balancer_may_decline_node_ports() {
    let cluster = Cluster::single();
    let declining =
        |ports: Value| json!({"type": "LoadBalancer", "allocateLoadBalancerNodePorts": false, "ports": ports});
    assert!(node_ports(&cluster.write(declining(json!([{"port": 80}])), None).unwrap()).is_empty());
    let service = cluster.write(declining(json!([{"port": 80, "nodePort": 30080}])), None).unwrap();
    assert_eq!(node_ports(&service), [30080]);
    let freed = cluster.write(declining(json!([{"port": 80}])), Some(&service)).unwrap();
    assert!(node_ports(&freed).is_empty());
    assert!(!cluster.holds().contains(&"30080".to_owned()));
    let allocating = json!({"type": "LoadBalancer", "allocateLoadBalancerNodePorts": true, "ports": [{"port": 80}]});
    assert_eq!(node_ports(&cluster.write(allocating, Some(&freed)).unwrap()), [30086]);
}

// S-017
#[test]
fn a_dry_run_takes_nothing() {
    let cluster = Cluster::single();
    cluster
        .write(json!({"type": "NodePort", "clusterIP": "10.96.0.5", "ports": [{"port": 80, "nodePort": 30080}]}), None)
        .unwrap();
    let before = cluster.holds();
    let shown = cluster.run(node_port_service(json!([{"port": 80}])), None, true).unwrap();
    assert_eq!(shown["spec"]["clusterIP"], "10.96.0.0");
    assert_eq!(node_ports(&shown).len(), 1);
    let taken_address = cluster.run(json!({"clusterIP": "10.96.0.5", "ports": [{"port": 80}]}), None, true);
    assert_eq!(taken_address.unwrap()["spec"]["clusterIP"], "10.96.0.5");
    let taken_port = cluster.run(node_port_service(json!([{"port": 80, "nodePort": 30080}])), None, true);
    assert!(message(taken_port).contains("provided port is already allocated"));
    assert_eq!(cluster.holds(), before);
}

// S-103
#[test]
fn headless_services_take_no_address() {
    let cluster = Cluster::single();
    let service = cluster
        .write(json!({"clusterIP": "None", "selector": {"a": "b"}, "ports": [{"port": 80, "targetPort": 8080}]}), None)
        .unwrap();
    assert_eq!(service["spec"]["clusterIPs"], json!(["None"]));
    assert_eq!(service["spec"]["ports"][0]["targetPort"], 8080);
    assert!(cluster.holds().is_empty());
}

// S-034
#[test]
fn allocation_errors_come_alone() {
    let cluster = Cluster::single();
    let spec = json!({"clusterIP": "10.97.0.1", "ports": [{"port": 0}]});
    let error = message(cluster.write(spec, None));
    assert!(error.contains("failed to allocate IP") && !error.contains("spec.ports"), "{error}");
}

// S-076, S-084
#[test]
fn an_address_never_changes() {
    let cluster = Cluster::single();
    let service = cluster.write(tcp(80), None).unwrap();
    assert_eq!(cluster.write(tcp(81), Some(&service)).unwrap()["spec"]["clusterIP"], "10.96.0.17");
    let error = message(cluster.write(json!({"clusterIP": "10.96.0.9", "ports": [{"port": 80}]}), Some(&service)));
    assert!(error.contains("spec.clusterIPs[0]") && error.contains("may not change once set"), "{error}");
    assert_eq!(cluster.holds(), ["10.96.0.17"]);
}

/// One step of somebody's life with Services.
#[derive(Clone, Debug)]
enum Step {
    /// Create or update the Service of this number.
    Write(usize, Value),
    Delete(usize),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let address = prop_oneof![Just(Value::Null), (1_u8..14).prop_map(|last| json!(format!("10.96.0.{last}")))];
    let number = || prop_oneof![2 => Just(Value::Null), 1 => (30000_i64..30006).prop_map(Value::from)];
    let port = |name: &'static str, protocol: &'static str| {
        number().prop_map(move |node| json!({"name": name, "port": 53, "protocol": protocol, "nodePort": node}))
    };
    let kinds = prop::sample::select(&["ClusterIP", "NodePort", "LoadBalancer", "ExternalName"][..]);
    let policies = prop::sample::select(&["SingleStack", "PreferDualStack"][..]);
    let spec = (kinds, address, port("t", "TCP"), port("u", "UDP"), any::<bool>(), policies, any::<bool>()).prop_map(
        |(kind, address, one, other, both, policy, local)| {
            let mut ports = vec![one];
            ports.extend(both.then_some(other));
            let mut spec = json!({"type": kind, "ports": ports, "externalName": "db.example.com"});
            if kind != "ExternalName" {
                spec["clusterIP"] = address;
                spec["ipFamilyPolicy"] = json!(policy);
            }
            if local && kind == "LoadBalancer" {
                spec["externalTrafficPolicy"] = json!("Local");
            }
            spec
        },
    );
    let step = prop_oneof![
        4 => (0_usize..6, spec).prop_map(|(index, spec)| Step::Write(index, spec)),
        1 => (0_usize..6).prop_map(Step::Delete),
    ];
    prop::collection::vec(step, 1..60)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    // S-103, S-111, S-123
    #[test]
    fn what_is_taken_is_what_live_services_hold(steps in steps()) {
        let mut cluster = Cluster::new(&["10.96.0.0/28", "fd00:96::/124"]);
        cluster.config.node_ports = 30000..=30005;
        let mut live: BTreeMap<usize, Value> = BTreeMap::new();
        for step in steps {
            match step {
                Step::Write(index, spec) => {
                    if let Ok(service) = cluster.write(spec, live.get(&index)) {
                        live.insert(index, service);
                    }
                }
                Step::Delete(index) => {
                    if let Some(service) = live.remove(&index) {
                        cluster.delete(&service);
                    }
                }
            }
            let held: Vec<Claim> = live.values().flat_map(claims).collect();
            let distinct: BTreeSet<Claim> = held.iter().copied().collect();
            prop_assert_eq!(distinct.len(), held.len(), "two Services hold the same: {:?}", held);
            prop_assert_eq!(&distinct, &*cluster.taken.borrow());
            for service in live.values().filter(|service| needs_cluster_ip(service)) {
                prop_assert!(!texts(service, "/spec/clusterIPs").is_empty());
                prop_assert_eq!(text(service, "/spec/clusterIP"), texts(service, "/spec/clusterIPs")[0]);
            }
        }
    }
}
