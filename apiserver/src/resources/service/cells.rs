//! A Service's row in a table (S-013 to S-015).

use serde_json::Value;

use super::super::json::{at, integer, list, text, texts};
use super::super::printing::{NONE, label_map, or_none};
use super::{CLUSTER_IP, EXTERNAL_NAME, LOAD_BALANCER, NODE_PORT, kind, node_port};
use crate::registry::Column;
use crate::table;

pub(super) const COLUMNS: &[Column] = &[
    Column::NAME,
    Column::text("Type", "How the Service is reached: ClusterIP, NodePort, LoadBalancer or ExternalName."),
    Column::text("Cluster-IP", "The address inside the cluster, None for a headless Service."),
    Column::text("External-IP", "Addresses from outside, or the name an ExternalName stands for."),
    Column::text("Port(s)", "Ports, with node ports after a colon."),
    Column::AGE,
    Column::text("Selector", "Which pods are its backends.").wide(),
];

pub(super) fn row(service: &Value, now: jiff::Timestamp) -> Vec<Value> {
    vec![
        table::name(service).into(),
        kind(service).into(),
        or_none(cluster_ip(service)),
        external_ip(service).into(),
        or_none(ports(service)),
        table::age(service, now).into(),
        or_none(label_map(at(service, "/spec/selector"))),
    ]
}

fn cluster_ip(service: &Value) -> &str {
    match texts(service, "/spec/clusterIPs").first() {
        Some(first) => first,
        None => text(service, "/spec/clusterIP"),
    }
}

fn external_ip(service: &Value) -> String {
    let external = texts(service, "/spec/externalIPs");
    match kind(service) {
        CLUSTER_IP | NODE_PORT if external.is_empty() => NONE.to_owned(),
        CLUSTER_IP | NODE_PORT => external.join(","),
        LOAD_BALANCER => {
            let mut shown = ingress(service);
            shown.extend(external);
            if shown.is_empty() { "<pending>".to_owned() } else { shown.join(",") }
        }
        EXTERNAL_NAME => text(service, "/spec/externalName").to_owned(),
        _ => "<unknown>".to_owned(),
    }
}

/// Each entry's address, else its name; sorted and without repetition.
fn ingress(service: &Value) -> Vec<&str> {
    let mut shown: Vec<&str> = list(service, "/status/loadBalancer/ingress")
        .iter()
        .map(|entry| match text(entry, "/ip") {
            "" => text(entry, "/hostname"),
            ip => ip,
        })
        .filter(|entry| !entry.is_empty())
        .collect();
    shown.sort_unstable();
    shown.dedup();
    shown
}

fn ports(service: &Value) -> String {
    let one = |port: &Value| {
        let number = integer(port, "/port").unwrap_or_default();
        let protocol = text(port, "/protocol");
        match node_port(port) {
            Some(node_port) => format!("{number}:{node_port}/{protocol}"),
            None => format!("{number}/{protocol}"),
        }
    };
    list(service, "/spec/ports").iter().map(one).collect::<Vec<_>>().join(",")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn cell(spec: Value, ingress: Value, column: &str) -> Value {
        let service =
            json!({"metadata": {"name": "s"}, "spec": spec, "status": {"loadBalancer": {"ingress": ingress}}});
        let index = COLUMNS.iter().position(|c| c.name == column).unwrap();
        row(&service, jiff::Timestamp::UNIX_EPOCH).remove(index)
    }

    #[test]
    fn cells_say_what_kubectl_users_know() {
        let balancer = || json!({"type": "LoadBalancer"});
        let two =
            json!([{"hostname": "lb"}, {"ip": "192.0.2.9", "hostname": "x"}, {"ip": "192.0.2.1"}, {"ip": "192.0.2.1"}]);
        let rows = [
            ("S-013", json!({"selector": {"b": "2", "a": "1"}}), json!([]), "Selector", "a=1,b=2"),
            ("S-013", json!({}), json!([]), "Selector", "<none>"),
            ("S-014", json!({"type": "ClusterIP"}), json!([]), "External-IP", "<none>"),
            (
                "S-014",
                json!({"type": "NodePort", "externalIPs": ["192.0.2.2", "192.0.2.1"]}),
                json!([]),
                "External-IP",
                "192.0.2.2,192.0.2.1",
            ),
            ("S-014", balancer(), json!([]), "External-IP", "<pending>"),
            ("S-014", balancer(), two, "External-IP", "192.0.2.1,192.0.2.9,lb"),
            (
                "S-014",
                json!({"type": "LoadBalancer", "externalIPs": ["198.51.100.1"]}),
                json!([{"ip": "192.0.2.1"}]),
                "External-IP",
                "192.0.2.1,198.51.100.1",
            ),
            (
                "S-014",
                json!({"type": "ExternalName", "externalName": "db.example.com"}),
                json!([]),
                "External-IP",
                "db.example.com",
            ),
            (
                "S-015",
                json!({"ports": [{"port": 80, "protocol": "TCP"}, {"port": 53, "protocol": "UDP", "nodePort": 30053}]}),
                json!([]),
                "Port(s)",
                "80/TCP,53:30053/UDP",
            ),
            ("S-015", json!({}), json!([]), "Port(s)", "<none>"),
            ("S-015", json!({"clusterIPs": ["10.96.0.1", "fd00::1"]}), json!([]), "Cluster-IP", "10.96.0.1"),
            ("S-015", json!({"clusterIPs": ["None"]}), json!([]), "Cluster-IP", "None"),
            ("S-015", json!({"type": "ExternalName"}), json!([]), "Cluster-IP", "<none>"),
        ];
        for (statement, spec, ingress, column, expected) in rows {
            assert_eq!(cell(spec.clone(), ingress, column), expected, "{statement}: {spec}");
        }
    }

    // S-013, A-164
    #[test]
    fn selector_is_the_only_wide_column() {
        let names: Vec<&str> = COLUMNS.iter().map(|column| column.name).collect();
        assert_eq!(names, ["Name", "Type", "Cluster-IP", "External-IP", "Port(s)", "Age", "Selector"]);
        let wide: Vec<&str> = COLUMNS.iter().filter(|column| column.priority == 1).map(|column| column.name).collect();
        assert_eq!(wide, ["Selector"]);
    }
}
