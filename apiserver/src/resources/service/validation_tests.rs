//! One row per way to be wrong.

use serde_json::json;

use super::super::defaulting::default;
use super::*;

/// A good Service of this type with some fields changed; `null` takes a field away.
fn service(kind: &str, changes: &Value) -> Value {
    let mut service = json!({"metadata": {"name": "s"}, "spec": {"type": kind, "ports": [{"port": 80}]}});
    if kind == EXTERNAL_NAME {
        service["spec"]["externalName"] = json!("db.example.com");
    } else {
        service["spec"]["clusterIP"] = json!("10.96.0.7");
        service["spec"]["clusterIPs"] = json!(["10.96.0.7"]);
    }
    for (key, value) in changes.as_object().unwrap() {
        if key == "annotations" {
            service["metadata"]["annotations"] = value.clone();
        } else {
            service["spec"][key] = value.clone();
        }
    }
    default(&mut service);
    service
}

fn check(statement: &str, found: Vec<FieldError>, expected: &[(&str, &str)]) {
    let shown: Vec<String> = found.iter().map(|error| format!("{}: {}", error.field, error.detail)).collect();
    assert_eq!(found.len(), expected.len(), "{statement}: {shown:?}");
    for (error, (field, detail)) in found.iter().zip(expected) {
        assert_eq!(&error.field, field, "{statement}: {shown:?}");
        assert!(error.detail.contains(detail), "{statement}: {shown:?} lacks {detail}");
    }
}

/// Statement, type, changes, and field and detail of each objection.
type Row<'a> = (&'a str, &'a str, Value, Vec<(&'a str, &'a str)>);

fn on_create(rows: Vec<Row<'_>>) {
    for (statement, kind, changes, expected) in rows {
        check(&format!("{statement} {changes}"), validate(&service(kind, &changes), None), &expected);
    }
}

fn port(changes: Value) -> Value {
    let mut port = json!({"port": 80});
    for (key, value) in changes.as_object().unwrap() {
        port[key] = value.clone();
    }
    json!({"ports": [port]})
}

fn two_ports(one: Value, other: Value) -> Value {
    json!({"ports": [one, other]})
}

#[test]
fn ports() {
    let c = CLUSTER_IP;
    let named = |name: &str, number: i64, protocol: &str| json!({"name": name, "port": number, "protocol": protocol});
    on_create(vec![
        ("S-040", c, json!({"ports": []}), vec![("spec.ports", "Required value")]),
        ("S-040", c, json!({"ports": null, "clusterIP": "None", "clusterIPs": ["None"]}), vec![]),
        ("S-040", EXTERNAL_NAME, json!({"ports": null}), vec![]),
        (
            "S-041",
            c,
            two_ports(named("", 80, "TCP"), named("b", 81, "TCP")),
            vec![("spec.ports[0].name", "Required value")],
        ),
        (
            "S-041",
            c,
            two_ports(named("a", 80, "TCP"), named("a", 81, "TCP")),
            vec![("spec.ports[1].name", "Duplicate value: \"a\"")],
        ),
        ("S-041", c, port(json!({"name": "Http"})), vec![("spec.ports[0].name", "Invalid value: \"Http\"")]),
        ("S-041", c, port(json!({"name": "a".repeat(64)})), vec![("spec.ports[0].name", "no more than 63")]),
        (
            "S-042",
            c,
            port(json!({"port": 0, "targetPort": 1})),
            vec![("spec.ports[0].port", "must be between 1 and 65535, inclusive")],
        ),
        (
            "S-042",
            c,
            port(json!({"port": 65536, "targetPort": 1})),
            vec![("spec.ports[0].port", "Invalid value: 65536")],
        ),
        ("S-042", c, port(json!({"port": 65535})), vec![]),
        (
            "S-043",
            c,
            port(json!({"protocol": "ICMP"})),
            vec![("spec.ports[0].protocol", "supported values: \"SCTP\", \"TCP\", \"UDP\"")],
        ),
        ("S-044", c, port(json!({"targetPort": 65536})), vec![("spec.ports[0].targetPort", "between 1 and 65535")]),
        ("S-044", c, port(json!({"targetPort": "a--b"})), vec![("spec.ports[0].targetPort", "hyphens")]),
        ("S-044", c, port(json!({"targetPort": "8080"})), vec![("spec.ports[0].targetPort", "at least one letter")]),
        ("S-044", c, port(json!({"targetPort": "web-1"})), vec![]),
        ("S-045", c, port(json!({"appProtocol": "kubernetes.io/h2c"})), vec![]),
        ("S-045", c, port(json!({"appProtocol": "a/b/c"})), vec![("spec.ports[0].appProtocol", "")]),
        (
            "S-046",
            c,
            two_ports(named("a", 80, "TCP"), named("b", 80, "TCP")),
            vec![("spec.ports[1]", "Duplicate value")],
        ),
        ("S-046", c, two_ports(named("a", 80, "TCP"), named("b", 80, "UDP")), vec![]),
        (
            "S-048",
            c,
            port(json!({"nodePort": 30080})),
            vec![("spec.ports[0].nodePort", "Forbidden: may not be used when `type` is 'ClusterIP'")],
        ),
        (
            "S-049",
            c,
            json!({"ports": (1..=1000).map(|n| named(&format!("p{n}"), n, "TCP")).collect::<Vec<_>>()}),
            vec![],
        ),
        ("S-046", LOAD_BALANCER, two_ports(named("a", 53, "TCP"), named("b", 53, "SCTP")), vec![]),
    ]);
    let equal = two_ports(
        json!({"name": "a", "port": 80, "nodePort": 30080}),
        json!({"name": "b", "port": 81, "nodePort": 30080}),
    );
    on_create(vec![("S-047", NODE_PORT, equal, vec![("spec.ports[1].nodePort", "Duplicate value: 30080")])]);
}

#[test]
fn types_names_and_selectors() {
    on_create(vec![
        (
            "S-050",
            "Odd",
            json!({}),
            vec![("spec.type", "supported values: \"ClusterIP\", \"ExternalName\", \"LoadBalancer\", \"NodePort\"")],
        ),
        ("S-053", EXTERNAL_NAME, json!({"externalName": null}), vec![("spec.externalName", "Required value")]),
        ("S-053", EXTERNAL_NAME, json!({"externalName": "A_b"}), vec![("spec.externalName", "Invalid value")]),
        ("S-053", EXTERNAL_NAME, json!({"externalName": "db.example.com."}), vec![]),
        ("S-053", EXTERNAL_NAME, json!({"externalName": "10.0.0.1"}), vec![]),
        (
            "S-052",
            EXTERNAL_NAME,
            json!({"clusterIP": "10.0.0.1", "clusterIPs": ["10.0.0.1"]}),
            vec![("spec.clusterIPs", "Forbidden: may not be set for ExternalName services")],
        ),
        ("S-054", CLUSTER_IP, json!({"selector": {"a b": "c"}}), vec![("spec.selector", "Invalid value: \"a b\"")]),
        ("S-054", CLUSTER_IP, json!({"selector": {"a": "-"}}), vec![("spec.selector", "Invalid value: \"-\"")]),
    ]);
}

#[test]
fn affinity_and_policies() {
    let seconds = |seconds: i64| json!({"sessionAffinity": "ClientIP", "sessionAffinityConfig": {"clientIP": {"timeoutSeconds": seconds}}});
    let path = "spec.sessionAffinityConfig.clientIP.timeoutSeconds";
    let why = "must be greater than 0 and less than 86400";
    on_create(vec![
        (
            "S-055",
            CLUSTER_IP,
            json!({"sessionAffinity": "Cookie"}),
            vec![("spec.sessionAffinity", "supported values: \"ClientIP\", \"None\"")],
        ),
        ("S-056", CLUSTER_IP, seconds(0), vec![(path, why)]),
        ("S-056", CLUSTER_IP, seconds(86401), vec![(path, why)]),
        ("S-056", CLUSTER_IP, seconds(86400), vec![]),
        ("S-056", CLUSTER_IP, json!({"sessionAffinity": "ClientIP"}), vec![]),
        (
            "S-067",
            CLUSTER_IP,
            json!({"externalTrafficPolicy": "Local"}),
            vec![("spec.externalTrafficPolicy", "may only be set for externally-accessible services")],
        ),
        (
            "S-067",
            EXTERNAL_NAME,
            json!({"externalTrafficPolicy": "Local"}),
            vec![("spec.externalTrafficPolicy", "Invalid value")],
        ),
        ("S-067", CLUSTER_IP, json!({"externalTrafficPolicy": "Local", "externalIPs": ["192.0.2.1"]}), vec![]),
        (
            "S-067",
            NODE_PORT,
            json!({"externalTrafficPolicy": "Odd"}),
            vec![("spec.externalTrafficPolicy", "supported values: \"Cluster\", \"Local\"")],
        ),
        (
            "S-068",
            CLUSTER_IP,
            json!({"internalTrafficPolicy": "Odd"}),
            vec![("spec.internalTrafficPolicy", "Unsupported value: \"Odd\"")],
        ),
        (
            "S-068",
            EXTERNAL_NAME,
            json!({"internalTrafficPolicy": "Odd"}),
            vec![("spec.internalTrafficPolicy", "Unsupported value")],
        ),
        ("S-068", EXTERNAL_NAME, json!({}), vec![]),
        ("S-070", CLUSTER_IP, json!({"trafficDistribution": "PreferClose"}), vec![]),
        ("S-070", CLUSTER_IP, json!({"trafficDistribution": "PreferSameNode"}), vec![]),
        (
            "S-070",
            CLUSTER_IP,
            json!({"trafficDistribution": "Near"}),
            vec![("spec.trafficDistribution", "Unsupported value: \"Near\"")],
        ),
        (
            "S-071",
            CLUSTER_IP,
            json!({"annotations": {TOPOLOGY_MODE: "Auto", TOPOLOGY_HINTS: "auto"}}),
            vec![("metadata.annotations[service.kubernetes.io/topology-mode]", "Invalid value: \"Auto\"")],
        ),
        ("S-071", CLUSTER_IP, json!({"annotations": {TOPOLOGY_MODE: "Auto", TOPOLOGY_HINTS: "Auto"}}), vec![]),
    ]);
}

#[test]
fn addresses_and_balancers() {
    let only = "Forbidden: may only be used when `type` is 'LoadBalancer'";
    let annotated = |ranges: &str| json!({"annotations": {SOURCE_RANGES_ANNOTATION: ranges}});
    let annotation_path = "metadata.annotations[service.beta.kubernetes.io/load-balancer-source-ranges]";
    let mut rows: Vec<Row<'_>> = vec![
        ("S-059", CLUSTER_IP, json!({"externalIPs": ["010.0.0.1"]}), vec![("spec.externalIPs[0]", "leading 0s")]),
        (
            "S-060",
            NODE_PORT,
            json!({"loadBalancerSourceRanges": ["10.0.0.0/8"]}),
            vec![("spec.LoadBalancerSourceRanges", only)],
        ),
        ("S-060", LOAD_BALANCER, json!({"loadBalancerSourceRanges": [" 10.0.0.0/8 "]}), vec![]),
        (
            "S-060",
            LOAD_BALANCER,
            json!({"loadBalancerSourceRanges": ["10.0.0.0/8", "x"]}),
            vec![(
                "spec.LoadBalancerSourceRanges[1]",
                "must be a valid CIDR value, (e.g. 10.9.8.0/24 or 2001:db8::/64)",
            )],
        ),
        ("S-061", CLUSTER_IP, annotated("10.0.0.0/8"), vec![(annotation_path, only)]),
        ("S-061", LOAD_BALANCER, annotated("10.0.0.0/8, x"), vec![(annotation_path, "must be a valid CIDR value")]),
        (
            "S-061",
            LOAD_BALANCER,
            json!({"annotations": {SOURCE_RANGES_ANNOTATION: "x"}, "loadBalancerSourceRanges": ["10.0.0.0/8"]}),
            vec![],
        ),
        (
            "S-065",
            CLUSTER_IP,
            json!({"allocateLoadBalancerNodePorts": false}),
            vec![("spec.allocateLoadBalancerNodePorts", only)],
        ),
        ("S-066", NODE_PORT, json!({"loadBalancerClass": "a/b"}), vec![("spec.loadBalancerClass", only)]),
        (
            "S-066",
            LOAD_BALANCER,
            json!({"loadBalancerClass": "a/b/c"}),
            vec![("spec.loadBalancerClass", "Invalid value")],
        ),
        (
            "S-069",
            LOAD_BALANCER,
            json!({"healthCheckNodePort": 31000}),
            vec![(
                "spec.healthCheckNodePort",
                "may only be set when `type` is 'LoadBalancer' and `externalTrafficPolicy` is 'Local'",
            )],
        ),
        (
            "S-069",
            LOAD_BALANCER,
            json!({"healthCheckNodePort": -1, "externalTrafficPolicy": "Local"}),
            vec![("spec.healthCheckNodePort", "Invalid value: -1")],
        ),
        ("S-069", LOAD_BALANCER, json!({"healthCheckNodePort": 31000, "externalTrafficPolicy": "Local"}), vec![]),
    ];
    for bad in ["x", "0.0.0.0", "127.0.0.1", "169.254.0.1", "224.0.0.1", "fe80::1", "::1"] {
        rows.push((
            "S-058",
            CLUSTER_IP,
            json!({"externalIPs": ["192.0.2.1", bad]}),
            vec![("spec.externalIPs[1]", "Invalid value")],
        ));
    }
    on_create(rows);
}

#[test]
fn on_update() {
    let local = |port: i64| json!({"externalTrafficPolicy": "Local", "healthCheckNodePort": port});
    let class = |class: &str| json!({"loadBalancerClass": class});
    let once = "may not change once set";
    let rows = [
        (
            "S-076",
            CLUSTER_IP,
            json!({}),
            CLUSTER_IP,
            json!({"clusterIP": "10.96.0.8", "clusterIPs": ["10.96.0.8"]}),
            vec![("spec.clusterIPs[0]", once)],
        ),
        ("S-077", EXTERNAL_NAME, json!({}), CLUSTER_IP, json!({}), vec![]),
        ("S-080", LOAD_BALANCER, class("a/b"), LOAD_BALANCER, class("a/c"), vec![("spec.loadBalancerClass", once)]),
        ("S-080", LOAD_BALANCER, json!({}), LOAD_BALANCER, class("a/c"), vec![("spec.loadBalancerClass", once)]),
        ("S-080", LOAD_BALANCER, class("a/b"), LOAD_BALANCER, json!({}), vec![("spec.loadBalancerClass", once)]),
        ("S-080", CLUSTER_IP, json!({}), LOAD_BALANCER, class("a/c"), vec![]),
        (
            "S-081",
            LOAD_BALANCER,
            local(31000),
            LOAD_BALANCER,
            local(31001),
            vec![("spec.healthCheckNodePort", "Forbidden: field is immutable")],
        ),
        (
            "S-082",
            CLUSTER_IP,
            json!({}),
            NODE_PORT,
            json!({"ports": [{"port": 81}], "selector": {"a": "b"}, "sessionAffinity": "ClientIP", "publishNotReadyAddresses": true}),
            vec![],
        ),
        (
            "S-082",
            LOAD_BALANCER,
            json!({}),
            LOAD_BALANCER,
            json!({"loadBalancerIP": "192.0.2.1", "loadBalancerSourceRanges": ["192.0.2.0/24"], "externalIPs": ["192.0.2.2"], "internalTrafficPolicy": "Local", "trafficDistribution": "PreferSameZone"}),
            vec![],
        ),
        (
            "S-083",
            CLUSTER_IP,
            json!({"externalIPs": ["010.0.0.1"]}),
            CLUSTER_IP,
            json!({"externalIPs": ["010.0.0.1"]}),
            vec![],
        ),
        (
            "S-083",
            LOAD_BALANCER,
            json!({"loadBalancerSourceRanges": ["10.0.0.1/8"]}),
            LOAD_BALANCER,
            json!({"loadBalancerSourceRanges": ["10.0.0.1/8"]}),
            vec![],
        ),
        (
            "S-083",
            CLUSTER_IP,
            json!({"externalIPs": ["010.0.0.1"]}),
            CLUSTER_IP,
            json!({"externalIPs": ["010.0.0.2"]}),
            vec![("spec.externalIPs[0]", "leading 0s")],
        ),
        (
            "S-092",
            LOAD_BALANCER,
            json!({"loadBalancerSourceRanges": ["192.0.2.0/24"]}),
            CLUSTER_IP,
            json!({"loadBalancerSourceRanges": ["192.0.2.0/24"]}),
            vec![("spec.LoadBalancerSourceRanges", "Forbidden")],
        ),
    ];
    for (statement, old_kind, old, new_kind, new, expected) in rows {
        let (old, new) = (service(old_kind, &old), service(new_kind, &new));
        check(&format!("{statement} {new}"), validate(&new, Some(&old)), &expected);
    }
}
