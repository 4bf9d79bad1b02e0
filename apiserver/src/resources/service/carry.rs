//! What a write brings along and what it leaves behind (S-084 to S-093): allocated values a manifest does not mention are
//! carried over, and fields that a new type has no use for are cleared, if the client left them as they were.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};

use super::super::json::{at, child, has, list, list_mut, remove, set, text, texts};
use super::{
    EXTERNAL_NAME, LOAD_BALANCER, health_check_port, is_externally_accessible, kind, may_have_node_ports,
    needs_cluster_ip, needs_health_check_port, needs_node_ports, node_port, node_ports,
};

/// Runs before allocation and validation.
pub(super) fn prepare(new: &mut Value, old: Option<&Value>) {
    match old {
        None => set(new, "status", json!({"loadBalancer": {}})),
        Some(old) => {
            carry_over(new, old);
            if kind(new) != LOAD_BALANCER
                && let Some(status) = child(new, "status")
            {
                set(status, "loadBalancer", json!({}));
            }
        }
    }
    align_cluster_ips(new, old);
    if let Some(old) = old {
        drop_unused(new, old);
    }
    drop_internal_policy(new);
}

/// S-084, S-085, S-086
fn carry_over(new: &mut Value, old: &Value) {
    if needs_cluster_ip(old) && needs_cluster_ip(new) {
        if text(new, "/spec/clusterIP").is_empty() {
            copy(new, old, "clusterIP");
        }
        if list(new, "/spec/clusterIPs").is_empty() {
            copy(new, old, "clusterIPs");
        }
    }
    if needs_node_ports(old) && needs_node_ports(new) {
        carry_node_ports(new, old);
    }
    if needs_health_check_port(old) && needs_health_check_port(new) && health_check_port(new).is_none() {
        copy(new, old, "healthCheckNodePort");
    }
}

/// By port name; a number that another new port names explicitly is not carried (S-085).
fn carry_node_ports(new: &mut Value, old: &Value) {
    let claimed: BTreeSet<i64> = node_ports(new).into_iter().collect();
    let known: BTreeMap<&str, i64> = list(old, "/spec/ports")
        .iter()
        .filter_map(|port| Some((text(port, "/name"), node_port(port)?)))
        .filter(|(_, number)| !claimed.contains(number))
        .collect();
    for port in list_mut(new, "/spec/ports").filter(|port| node_port(port).is_none()) {
        if let Some(number) = known.get(text(port, "/name")) {
            set(port, "nodePort", *number);
        }
    }
}

/// `clusterIP` and `clusterIPs` say the same; a client may have touched only one of them (S-087).
fn align_cluster_ips(new: &mut Value, old: Option<&Value>) {
    let single = text(new, "/spec/clusterIP").to_owned();
    let Some(old) = old else {
        if !single.is_empty() && list(new, "/spec/clusterIPs").is_empty() {
            set_spec(new, "clusterIPs", json!([single]));
        }
        return;
    };
    let stored = text(old, "/spec/clusterIP");
    if single == stored || !same_list(new, old, "/spec/clusterIPs") {
        return;
    }
    if !single.is_empty() {
        set_spec(new, "clusterIPs", json!([single]));
    } else if !stored.is_empty() {
        unset_spec(new, "clusterIPs");
    }
}

/// S-088 to S-091. A field the client changed in the same write stays, for validation to judge.
fn drop_unused(new: &mut Value, old: &Value) {
    if needs_cluster_ip(old) && !needs_cluster_ip(new) {
        if same_list(new, old, "/spec/clusterIPs") && same(new, old, "clusterIP") {
            unset_spec(new, "clusterIP");
            unset_spec(new, "clusterIPs");
        }
        if same_list(new, old, "/spec/ipFamilies") {
            unset_spec(new, "ipFamilies");
        }
        drop_same(new, old, "ipFamilyPolicy");
    }
    if may_have_node_ports(old) && !may_have_node_ports(new) {
        let stored = node_ports(old);
        if node_ports(new).iter().all(|number| stored.contains(number)) {
            list_mut(new, "/spec/ports").for_each(|port| drop(remove(port, "nodePort")));
        }
    }
    if needs_health_check_port(old) && !needs_health_check_port(new) {
        drop_same(new, old, "healthCheckNodePort");
    }
    if kind(old) == LOAD_BALANCER && kind(new) != LOAD_BALANCER {
        drop_same(new, old, "allocateLoadBalancerNodePorts");
        drop_same(new, old, "loadBalancerClass");
    }
    if is_externally_accessible(old) && !is_externally_accessible(new) {
        drop_same(new, old, "externalTrafficPolicy");
    }
}

/// An ExternalName never shows an internal policy; an unsupported one is left for validation to refuse (S-025, S-068).
fn drop_internal_policy(new: &mut Value) {
    if kind(new) == EXTERNAL_NAME && ["Cluster", "Local", ""].contains(&text(new, "/spec/internalTrafficPolicy")) {
        unset_spec(new, "internalTrafficPolicy");
    }
}

fn same(new: &Value, old: &Value, field: &str) -> bool {
    at(new, &format!("/spec/{field}")) == at(old, &format!("/spec/{field}"))
}

fn same_list(new: &Value, old: &Value, pointer: &str) -> bool {
    texts(new, pointer) == texts(old, pointer)
}

fn drop_same(new: &mut Value, old: &Value, field: &str) {
    if same(new, old, field) {
        unset_spec(new, field);
    }
}

fn copy(new: &mut Value, old: &Value, field: &str) {
    let pointer = format!("/spec/{field}");
    if has(old, &pointer) {
        set_spec(new, field, at(old, &pointer).clone());
    }
}

fn set_spec(service: &mut Value, field: &str, value: Value) {
    if let Some(spec) = child(service, "spec") {
        set(spec, field, value);
    }
}

fn unset_spec(service: &mut Value, field: &str) {
    if let Some(spec) = service.get_mut("spec") {
        remove(spec, field);
    }
}

#[cfg(test)]
mod tests {
    use super::super::defaulting::default;
    use super::*;

    fn service(spec: Value) -> Value {
        let mut service = json!({"metadata": {"name": "s"}, "spec": spec});
        default(&mut service);
        service
    }

    /// What an update with this spec looks like after `prepare`.
    fn updated(old: &Value, spec: Value) -> Value {
        let mut new = service(spec);
        prepare(&mut new, Some(old));
        new["spec"].take()
    }

    fn with(base: &Value, changes: Value) -> Value {
        let mut spec = base["spec"].clone();
        for (key, value) in changes.as_object().unwrap() {
            spec[key] = value.clone();
        }
        spec
    }

    fn cluster_ip() -> Value {
        service(json!({
            "clusterIP": "10.96.0.7", "clusterIPs": ["10.96.0.7"], "ipFamilies": ["IPv4"], "ipFamilyPolicy": "SingleStack",
            "ports": [{"port": 80}],
        }))
    }

    fn balancer() -> Value {
        service(json!({
            "type": "LoadBalancer", "clusterIP": "10.96.0.7", "clusterIPs": ["10.96.0.7"], "ipFamilies": ["IPv4"],
            "ipFamilyPolicy": "SingleStack", "externalTrafficPolicy": "Local", "healthCheckNodePort": 31000,
            "loadBalancerClass": "example.com/lb", "loadBalancerSourceRanges": ["192.0.2.0/24"],
            "ports": [{"name": "a", "port": 80, "nodePort": 30080}, {"name": "b", "port": 81, "nodePort": 30081}],
        }))
    }

    // S-084
    #[test]
    fn the_original_manifest_can_be_applied_again() {
        let spec = updated(&cluster_ip(), json!({"ports": [{"port": 80}]}));
        assert_eq!((&spec["clusterIP"], &spec["clusterIPs"]), (&json!("10.96.0.7"), &json!(["10.96.0.7"])));
        let headless = service(json!({"clusterIP": "None", "clusterIPs": ["None"]}));
        let spec = updated(&headless, json!({}));
        assert_eq!((&spec["clusterIP"], &spec["clusterIPs"]), (&json!("None"), &json!(["None"])));
    }

    // S-085, S-086
    #[test]
    fn node_ports_are_carried_by_name() {
        let ports = |spec: &Value| -> Vec<Value> {
            spec["ports"].as_array().unwrap().iter().map(|port| port["nodePort"].clone()).collect()
        };
        let base = || json!({"type": "LoadBalancer", "externalTrafficPolicy": "Local"});
        let spec = |list: Value| {
            let mut spec = base();
            spec["ports"] = list;
            spec
        };
        let swapped = updated(&balancer(), spec(json!([{"name": "b", "port": 81}, {"name": "a", "port": 8080}])));
        assert_eq!(ports(&swapped), [json!(30081), json!(30080)]);
        assert_eq!(swapped["healthCheckNodePort"], 31000);
        let renamed = updated(&balancer(), spec(json!([{"name": "c", "port": 80}, {"name": "b", "port": 81}])));
        assert_eq!(ports(&renamed), [Value::Null, json!(30081)]);
        let taken = updated(
            &balancer(),
            spec(json!([{"name": "a", "port": 80}, {"name": "b", "port": 81, "nodePort": 30080}])),
        );
        assert_eq!(ports(&taken), [Value::Null, json!(30080)]);
        let mut declined = spec(json!([{"name": "a", "port": 80}]));
        declined["allocateLoadBalancerNodePorts"] = json!(false);
        assert_eq!(ports(&updated(&balancer(), declined)), [Value::Null]);
    }

    // S-087
    #[test]
    fn a_changed_single_address_rewrites_an_untouched_list() {
        let old = cluster_ip();
        let changed = updated(&old, with(&old, json!({"clusterIP": "10.96.0.8"})));
        assert_eq!(changed["clusterIPs"], json!(["10.96.0.8"]));
        let cleared = updated(&old, with(&old, json!({"clusterIP": ""})));
        assert_eq!((&cleared["clusterIP"], &cleared["clusterIPs"]), (&json!("10.96.0.7"), &json!(["10.96.0.7"])));
        let stale = updated(&old, with(&old, json!({"clusterIPs": ["10.96.0.8"]})));
        assert_eq!((&stale["clusterIP"], &stale["clusterIPs"]), (&json!("10.96.0.7"), &json!(["10.96.0.8"])));
        let mut created = service(json!({"clusterIP": "10.96.0.9"}));
        prepare(&mut created, None);
        assert_eq!(created["spec"]["clusterIPs"], json!(["10.96.0.9"]));
    }

    // S-088, S-091
    #[test]
    fn external_name_has_no_use_for_addresses() {
        let old = cluster_ip();
        let spec = updated(&old, with(&old, json!({"type": "ExternalName", "externalName": "x"})));
        for field in ["clusterIP", "clusterIPs", "ipFamilies", "ipFamilyPolicy", "internalTrafficPolicy"] {
            assert_eq!(spec.get(field), None, "{field}");
        }
        let changed = updated(&old, with(&old, json!({"type": "ExternalName", "ipFamilyPolicy": "PreferDualStack"})));
        assert_eq!(changed["ipFamilyPolicy"], "PreferDualStack");
    }

    // S-089, S-090, S-091, S-092
    #[test]
    fn a_plain_service_has_no_use_for_what_a_balancer_has() {
        let old = balancer();
        let spec = updated(&old, with(&old, json!({"type": "ClusterIP"})));
        for field in
            ["healthCheckNodePort", "allocateLoadBalancerNodePorts", "loadBalancerClass", "externalTrafficPolicy"]
        {
            assert_eq!(spec.get(field), None, "{field}");
        }
        assert!(node_ports(&json!({"spec": spec})).is_empty());
        assert_eq!(spec["loadBalancerSourceRanges"], json!(["192.0.2.0/24"]));
        let own = json!([{"name": "a", "port": 80, "nodePort": 30090}]);
        let spec = updated(&old, with(&old, json!({"type": "ClusterIP", "ports": own})));
        assert_eq!(spec["ports"][0]["nodePort"], 30090);
    }

    // S-132
    #[test]
    fn declining_node_ports_does_not_take_those_sent_back() {
        let old = balancer();
        let spec = updated(&old, with(&old, json!({"allocateLoadBalancerNodePorts": false})));
        assert_eq!(node_ports(&json!({"spec": spec})), [30080, 30081]);
    }

    // S-007, S-008
    #[test]
    fn status_starts_empty_and_loses_its_balancer_with_the_type() {
        let mut created = service(json!({}));
        created["status"] = json!({"loadBalancer": {"ingress": [{"ip": "192.0.2.1"}]}, "conditions": []});
        prepare(&mut created, None);
        assert_eq!(created["status"], json!({"loadBalancer": {}}));
        let mut old = balancer();
        old["status"] = json!({"loadBalancer": {"ingress": [{"ip": "192.0.2.1"}]}});
        let mut new = old.clone();
        prepare(&mut new, Some(&old));
        assert_eq!(new["status"], old["status"]);
        new["spec"]["type"] = json!("NodePort");
        prepare(&mut new, Some(&old));
        assert_eq!(new["status"], json!({"loadBalancer": {}}));
    }

    // S-025
    #[test]
    fn an_external_name_shows_no_internal_policy() {
        for (given, expected) in [("Local", Value::Null), ("Odd", json!("Odd"))] {
            let mut new = service(json!({"type": "ExternalName", "internalTrafficPolicy": given}));
            prepare(&mut new, None);
            assert_eq!(new["spec"].get("internalTrafficPolicy").cloned().unwrap_or_default(), expected);
        }
    }
}
