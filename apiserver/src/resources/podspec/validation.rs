//! The rules of a pod spec that concern the pod as a whole.

use std::collections::BTreeSet;

use serde_json::Value;

use super::containers::{self, Context};
use super::{placement, volumes};
use crate::resources::address::strict_ip;
use crate::resources::check::Errors;
use crate::resources::json::{at, has, integer, is_true, list, text, texts};
use crate::resources::meta;

const MAX_SECONDS: i64 = i32::MAX as i64;

/// Checks a pod spec whose path is `field`, such as `spec` or `spec.template.spec`.
pub(in crate::resources) fn validate(errors: &mut Errors, field: &str, spec: &Value) {
    let volumes = volumes::validate(errors, &format!("{field}.volumes"), list(spec, "/volumes"));
    let context = Context { volumes: &volumes, host_network: is_true(spec, "/hostNetwork") };
    containers::validate(errors, field, spec, &context);
    policies(errors, field, spec);
    names(errors, field, spec);
    meta::labels(errors, &format!("{field}.nodeSelector"), at(spec, "/nodeSelector"));
    tolerations(errors, field, spec);
    placement::validate(errors, field, spec);
    host_aliases(errors, field, spec);
    let mut gates = BTreeSet::new();
    for (index, gate) in list(spec, "/schedulingGates").iter().enumerate() {
        let name = text(gate, "/name");
        errors.rule(format!("{field}.schedulingGates[{index}]"), name, meta::qualified_name(name));
        if !gates.insert(name) {
            errors.duplicate(format!("{field}.schedulingGates[{index}]"), name);
        }
    }
    for (index, gate) in list(spec, "/readinessGates").iter().enumerate() {
        let name = text(gate, "/conditionType");
        errors.rule(format!("{field}.readinessGates[{index}].conditionType"), name, meta::qualified_name(name));
    }
}

fn policies(errors: &mut Errors, field: &str, spec: &Value) {
    let restart = ["Always", "OnFailure", "Never"];
    errors.one_of(format!("{field}.restartPolicy"), text(spec, "/restartPolicy"), &restart);
    let dns = ["ClusterFirstWithHostNet", "ClusterFirst", "Default", "None"];
    errors.one_of(format!("{field}.dnsPolicy"), text(spec, "/dnsPolicy"), &dns);
    if text(spec, "/dnsPolicy") == "None" && list(spec, "/dnsConfig/nameservers").is_empty() {
        errors.required(
            format!("{field}.dnsConfig.nameservers"),
            "must provide at least one DNS nameserver when `dnsPolicy` is None",
        );
    }
    let nameservers = texts(spec, "/dnsConfig/nameservers");
    if nameservers.len() > 3 {
        errors.invalid(
            format!("{field}.dnsConfig.nameservers"),
            nameservers.clone(),
            "must not have more than 3 nameservers",
        );
    }
    for (index, server) in nameservers.iter().enumerate() {
        errors.rule(format!("{field}.dnsConfig.nameservers[{index}]"), *server, strict_ip(server).map(drop));
    }
    errors.not_negative(
        format!("{field}.terminationGracePeriodSeconds"),
        integer(spec, "/terminationGracePeriodSeconds"),
    );
    errors.between(format!("{field}.activeDeadlineSeconds"), integer(spec, "/activeDeadlineSeconds"), 1, MAX_SECONDS);
}

fn names(errors: &mut Errors, field: &str, spec: &Value) {
    for name in ["hostname", "subdomain"] {
        let value = text(spec, &format!("/{name}"));
        if !value.is_empty() {
            errors.rule(format!("{field}.{name}"), value, meta::label_1123(value));
        }
    }
    for name in ["nodeName", "serviceAccountName", "priorityClassName"] {
        let value = text(spec, &format!("/{name}"));
        if !value.is_empty() {
            errors.rule(format!("{field}.{name}"), value, meta::subdomain(value));
        }
    }
    if text(spec, "/schedulerName").is_empty() {
        errors.required(format!("{field}.schedulerName"), "");
    }
}

fn tolerations(errors: &mut Errors, field: &str, spec: &Value) {
    for (index, toleration) in list(spec, "/tolerations").iter().enumerate() {
        let field = format!("{field}.tolerations[{index}]");
        let key = text(toleration, "/key");
        if !key.is_empty() {
            errors.rule(format!("{field}.key"), key, meta::qualified_name(key));
        }
        let value = text(toleration, "/value");
        match text(toleration, "/operator") {
            "Equal" | "" if key.is_empty() => {
                errors.invalid(format!("{field}.operator"), "", "operator must be Exists when `key` is empty");
            }
            "Equal" | "" => errors.rule(format!("{field}.value"), value, meta::label_value(value)),
            "Exists" if value.is_empty() => {}
            "Exists" => {
                errors.invalid(format!("{field}.value"), value, "value must be empty when `operator` is 'Exists'")
            }
            other => errors.unsupported(format!("{field}.operator"), other, &["Equal", "Exists"]),
        }
        let effects = ["", "NoSchedule", "PreferNoSchedule", "NoExecute"];
        let effect = text(toleration, "/effect");
        if !effects.contains(&effect) {
            errors.unsupported(format!("{field}.effect"), effect, &effects[1..]);
        }
        if has(toleration, "/tolerationSeconds") && effect != "NoExecute" {
            errors.invalid(
                format!("{field}.effect"),
                effect,
                "effect must be 'NoExecute' when `tolerationSeconds` is set",
            );
        }
    }
}

fn host_aliases(errors: &mut Errors, field: &str, spec: &Value) {
    for (index, alias) in list(spec, "/hostAliases").iter().enumerate() {
        let field = format!("{field}.hostAliases[{index}]");
        let ip = text(alias, "/ip");
        errors.rule(format!("{field}.ip"), ip, strict_ip(ip).map(drop));
        for (index, name) in texts(alias, "/hostnames").into_iter().enumerate() {
            errors.rule(format!("{field}.hostnames[{index}]"), name, meta::subdomain(name));
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::resources::podspec::{Owner, default};

    #[test]
    fn each_rule_names_its_field() {
        let rows = [
            (json!({}), vec![]),
            (json!({"restartPolicy": "Sometimes"}), vec!["spec.restartPolicy"]),
            (json!({"dnsPolicy": "None"}), vec!["spec.dnsConfig.nameservers"]),
            (json!({"dnsConfig": {"nameservers": ["x"]}}), vec!["spec.dnsConfig.nameservers[0]"]),
            (json!({"terminationGracePeriodSeconds": -1}), vec!["spec.terminationGracePeriodSeconds"]),
            (json!({"activeDeadlineSeconds": 0}), vec!["spec.activeDeadlineSeconds"]),
            (json!({"hostname": "a.b", "subdomain": "A"}), vec!["spec.hostname", "spec.subdomain"]),
            (json!({"nodeName": "A"}), vec!["spec.nodeName"]),
            (json!({"nodeSelector": {"a b": "c"}}), vec!["spec.nodeSelector"]),
            (json!({"tolerations": [{"operator": "Exists"}, {"key": "a", "value": "b"}]}), vec![]),
            (json!({"tolerations": [{"operator": "Equal"}]}), vec!["spec.tolerations[0].operator"]),
            (json!({"tolerations": [{"key": "a", "tolerationSeconds": 3}]}), vec!["spec.tolerations[0].effect"]),
            (
                json!({"hostAliases": [{"ip": "x", "hostnames": ["A"]}]}),
                vec!["spec.hostAliases[0].ip", "spec.hostAliases[0].hostnames[0]"],
            ),
            (json!({"schedulingGates": [{"name": "a/b"}, {"name": "a/b"}]}), vec!["spec.schedulingGates[1]"]),
            (json!({"containers": []}), vec!["spec.containers"]),
        ];
        for (change, expected) in rows {
            let mut spec = json!({"containers": [{"name": "c", "image": "i"}]});
            for (key, value) in change.as_object().unwrap() {
                spec[key] = value.clone();
            }
            default(&mut spec, Owner::Pod);
            let mut errors = Errors::default();
            validate(&mut errors, "spec", &spec);
            let found: Vec<String> = errors.into_list().into_iter().map(|error| error.field).collect();
            assert_eq!(found, expected, "{change}");
        }
    }
}
