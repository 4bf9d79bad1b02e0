//! The defaults of a Service that need nothing but the Service itself (S-018 to S-029).
//!
//! Addresses and families are chosen when the object is written: see `families` and `allocation`.

use serde_json::{Value, json};

use super::super::json::{child, has, list_mut, remove, remove_empty, set, set_default, set_default_text, text};
use super::{CLUSTER_IP, EXTERNAL_NAME, LOAD_BALANCER, is_externally_accessible, kind};

/// Three hours (S-023).
const AFFINITY_SECONDS: i64 = 10_800;
/// Fields in which an empty text or zero means that the client wants none, or wants us to choose.
const OPTIONAL: [&str; 6] = [
    "clusterIP",
    "externalName",
    "externalTrafficPolicy",
    "healthCheckNodePort",
    "internalTrafficPolicy",
    "loadBalancerIP",
];

/// Fills in a Service; doing it twice changes nothing.
pub(super) fn default(service: &mut Value) {
    let Some(spec) = child(service, "spec") else { return };
    OPTIONAL.into_iter().for_each(|field| remove_empty(spec, field));
    set_default_text(spec, "type", CLUSTER_IP);
    list_mut(spec, "/ports").for_each(default_port);
    affinity(spec);
    let kind = kind(service).to_owned();
    let external = is_externally_accessible(service);
    let Some(spec) = child(service, "spec") else { return };
    if external {
        set_default_text(spec, "externalTrafficPolicy", "Cluster");
    }
    if kind != EXTERNAL_NAME {
        set_default_text(spec, "internalTrafficPolicy", "Cluster");
    }
    if kind == LOAD_BALANCER {
        set_default(spec, "allocateLoadBalancerNodePorts", true);
    }
    for ingress in list_mut(service, "/status/loadBalancer/ingress") {
        if !text(ingress, "/ip").is_empty() {
            set_default_text(ingress, "ipMode", "VIP");
        }
    }
}

fn default_port(port: &mut Value) {
    set_default_text(port, "protocol", "TCP");
    remove_empty(port, "nodePort");
    let target = &port["targetPort"];
    if (target.is_null() || target == &json!(0) || target == "") && has(port, "/port") {
        let number = port["port"].clone();
        set(port, "targetPort", number);
    }
}

fn affinity(spec: &mut Value) {
    set_default_text(spec, "sessionAffinity", "None");
    match text(spec, "/sessionAffinity") {
        "None" => {
            remove(spec, "sessionAffinityConfig");
        }
        "ClientIP" => {
            let config = child(spec, "sessionAffinityConfig").and_then(|config| child(config, "clientIP"));
            if let Some(client_ip) = config {
                set_default(client_ip, "timeoutSeconds", AFFINITY_SECONDS);
            }
        }
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn defaulted(spec: Value) -> Value {
        let mut service = json!({"spec": spec});
        default(&mut service);
        let once = service.clone();
        default(&mut service);
        assert_eq!(service, once, "defaulting is idempotent");
        service["spec"].take()
    }

    #[test]
    fn each_default_appears_where_it_belongs() {
        let rows = [
            ("S-018", json!({}), "/type", json!("ClusterIP")),
            ("S-020", json!({"ports": [{"port": 80}]}), "/ports/0/protocol", json!("TCP")),
            ("S-021", json!({"ports": [{"port": 80}]}), "/ports/0/targetPort", json!(80)),
            ("S-021", json!({"ports": [{"port": 80, "targetPort": 0}]}), "/ports/0/targetPort", json!(80)),
            ("S-021", json!({"ports": [{"port": 80, "targetPort": ""}]}), "/ports/0/targetPort", json!(80)),
            ("S-021", json!({"ports": [{"port": 80, "targetPort": 8080}]}), "/ports/0/targetPort", json!(8080)),
            ("S-021", json!({"clusterIP": "None", "ports": [{"port": 80}]}), "/ports/0/targetPort", json!(80)),
            ("S-022", json!({}), "/sessionAffinity", json!("None")),
            ("S-022", json!({"sessionAffinityConfig": {"clientIP": {}}}), "/sessionAffinityConfig", Value::Null),
            (
                "S-023",
                json!({"sessionAffinity": "ClientIP"}),
                "/sessionAffinityConfig/clientIP/timeoutSeconds",
                json!(10800),
            ),
            (
                "S-023",
                json!({"sessionAffinity": "ClientIP", "sessionAffinityConfig": {"clientIP": {"timeoutSeconds": 5}}}),
                "/sessionAffinityConfig/clientIP/timeoutSeconds",
                json!(5),
            ),
            ("S-024", json!({}), "/externalTrafficPolicy", Value::Null),
            ("S-024", json!({"externalIPs": ["192.0.2.1"]}), "/externalTrafficPolicy", json!("Cluster")),
            ("S-024", json!({"type": "NodePort"}), "/externalTrafficPolicy", json!("Cluster")),
            ("S-024", json!({"type": "LoadBalancer"}), "/externalTrafficPolicy", json!("Cluster")),
            ("S-024", json!({"type": "ExternalName"}), "/externalTrafficPolicy", Value::Null),
            ("S-025", json!({}), "/internalTrafficPolicy", json!("Cluster")),
            ("S-025", json!({"clusterIP": "None"}), "/internalTrafficPolicy", json!("Cluster")),
            ("S-025", json!({"type": "ExternalName"}), "/internalTrafficPolicy", Value::Null),
            ("S-026", json!({"type": "LoadBalancer"}), "/allocateLoadBalancerNodePorts", json!(true)),
            ("S-026", json!({"type": "NodePort"}), "/allocateLoadBalancerNodePorts", Value::Null),
            ("S-027", json!({}), "/clusterIP", Value::Null),
            ("S-027", json!({}), "/ipFamilyPolicy", Value::Null),
        ];
        for (statement, spec, pointer, expected) in rows {
            let found = defaulted(spec.clone()).pointer(pointer).cloned().unwrap_or_default();
            assert_eq!(found, expected, "{statement}: {spec}");
        }
    }

    #[test]
    fn what_says_nothing_is_not_kept() {
        let spec = defaulted(
            json!({"clusterIP": "", "externalName": null, "healthCheckNodePort": 0, "ports": [{"port": 80, "nodePort": 0}]}),
        );
        for field in ["clusterIP", "externalName", "healthCheckNodePort"] {
            assert_eq!(spec.get(field), None, "{field}");
        }
        assert_eq!(spec["ports"][0].get("nodePort"), None);
    }

    // S-029
    #[test]
    fn an_ingress_address_is_a_vip_unless_it_says_otherwise() {
        let mut service = json!({"spec": {"type": "LoadBalancer"}, "status": {"loadBalancer": {"ingress": [
            {"ip": "192.0.2.1"}, {"hostname": "lb.example.com"}, {"ip": "192.0.2.2", "ipMode": "Proxy"},
        ]}}});
        default(&mut service);
        let modes: Vec<&Value> =
            service["status"]["loadBalancer"]["ingress"].as_array().unwrap().iter().map(|one| &one["ipMode"]).collect();
        assert_eq!(modes, [&json!("VIP"), &Value::Null, &json!("Proxy")]);
    }
}
