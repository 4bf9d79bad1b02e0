//! Ingress, IngressClass and NetworkPolicy: stored and served, not acted on.

use serde_json::json;

use super::inert::{INERT, rules};
use super::json::{at, child, list, list_mut, set, set_default, set_default_text, text};
use super::printing::{first_three, label_selector, or_none};
use crate::registry::{Column, Resource, Subresource};
use crate::table;

const NETWORKING: Resource = Resource { group: "networking.k8s.io", ..INERT };

pub(super) fn ingress() -> Resource {
    const COLUMNS: &[Column] = &[
        Column::NAME,
        Column::text("Class", "Which controller should act on it."),
        Column::text("Hosts", "The hosts it has rules for."),
        Column::text("Address", "Where its load balancer is."),
        Column::text("Ports", "Ports of its load balancer."),
        Column::AGE,
    ];
    Resource {
        kind: "Ingress",
        plural: "ingresses",
        singular: "ingress",
        short_names: &["ing"],
        has_status: true,
        has_generation: true,
        subresources: &[Subresource::Status],
        columns: COLUMNS,
        row: |object, now| {
            let rules = list(object, "/spec/rules").iter();
            let hosts: Vec<String> =
                rules.map(|rule| text(rule, "/host").to_owned()).filter(|host| !host.is_empty()).collect();
            let hosts = if hosts.is_empty() { "*".to_owned() } else { first_three(&hosts) };
            let balancers = list(object, "/status/loadBalancer/ingress").iter();
            let addresses: Vec<&str> = balancers
                .map(|entry| if text(entry, "/ip").is_empty() { text(entry, "/hostname") } else { text(entry, "/ip") })
                .collect();
            let ports = if list(object, "/spec/tls").is_empty() { "80" } else { "80, 443" };
            vec![
                table::name(object).into(),
                or_none(text(object, "/spec/ingressClassName")),
                hosts.into(),
                addresses.join(",").into(),
                ports.into(),
                table::age(object, now).into(),
            ]
        },
        prepare: |new, old| {
            if old.is_none() {
                set(new, "status", json!({"loadBalancer": {}}));
            }
        },
        validate: |new, old| {
            let ruled = !list(new, "/spec/rules").is_empty();
            rules(new, old, if ruled { &[] } else { &["spec.defaultBackend"] }, &[])
        },
        ..NETWORKING
    }
}

pub(super) fn ingress_class() -> Resource {
    const COLUMNS: &[Column] = &[
        Column::NAME,
        Column::text("Controller", "Who acts on Ingresses of this class."),
        Column::text("Parameters", "Where the controller's settings are."),
        Column::AGE,
    ];
    Resource {
        kind: "IngressClass",
        plural: "ingressclasses",
        singular: "ingressclass",
        namespaced: false,
        has_generation: true,
        columns: COLUMNS,
        row: |object, now| {
            let parameters = match (text(object, "/spec/parameters/kind"), text(object, "/spec/parameters/apiGroup")) {
                ("", _) => String::new(),
                (kind, "") => format!("{kind}/{}", text(object, "/spec/parameters/name")),
                (kind, group) => format!("{kind}.{group}/{}", text(object, "/spec/parameters/name")),
            };
            vec![
                table::name(object).into(),
                text(object, "/spec/controller").into(),
                or_none(parameters),
                table::age(object, now).into(),
            ]
        },
        validate: |new, old| rules(new, old, &["spec.controller"], &["spec.controller"]),
        ..NETWORKING
    }
}

pub(super) fn network_policy() -> Resource {
    const COLUMNS: &[Column] = &[Column::NAME, Column::text("Pod-Selector", "Which pods it is about."), Column::AGE];
    Resource {
        kind: "NetworkPolicy",
        plural: "networkpolicies",
        singular: "networkpolicy",
        short_names: &["netpol"],
        has_generation: true,
        columns: COLUMNS,
        row: |object, now| {
            let selector = label_selector(at(object, "/spec/podSelector"));
            vec![table::name(object).into(), selector, table::age(object, now).into()]
        },
        default: |object| {
            let Some(spec) = child(object, "spec") else { return };
            let egress = !list(spec, "/egress").is_empty();
            set_default(spec, "policyTypes", if egress { json!(["Ingress", "Egress"]) } else { json!(["Ingress"]) });
            for direction in ["/ingress", "/egress"] {
                for rule in list_mut(spec, direction) {
                    list_mut(rule, "/ports").for_each(|port| set_default_text(port, "protocol", "TCP"));
                }
            }
        },
        ..NETWORKING
    }
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;

    fn cells(kind: &Resource, object: &Value) -> Value {
        (kind.row)(object, jiff::Timestamp::UNIX_EPOCH).into()
    }

    //
    #[test]
    fn an_ingress_shows_its_hosts() {
        let mut object = json!({"metadata": {"name": "i"}, "spec": {"defaultBackend": {}}});
        assert_eq!(cells(&ingress(), &object), json!(["i", "<none>", "*", "", "80", "<unknown>"]));
        object["spec"] = json!({"ingressClassName": "n", "rules": [{"host": "a"}, {"host": "b"}], "tls": [{}]});
        object["status"] = json!({"loadBalancer": {"ingress": [{"ip": "10.0.0.1"}, {"hostname": "x"}]}});
        assert_eq!(cells(&ingress(), &object), json!(["i", "n", "a,b", "10.0.0.1,x", "80, 443", "<unknown>"]));
    }

    //
    #[test]
    fn a_policy_is_about_what_it_has_rules_for() {
        let kind = network_policy();
        let rows = [
            (json!({"podSelector": {}}), json!(["Ingress"])),
            (json!({"podSelector": {}, "egress": [{}]}), json!(["Ingress", "Egress"])),
            (json!({"podSelector": {}, "policyTypes": ["Egress"]}), json!(["Egress"])),
        ];
        for (spec, expected) in rows {
            let mut object = json!({"spec": spec});
            (kind.default)(&mut object);
            assert_eq!(object["spec"]["policyTypes"], expected);
        }
    }
}
