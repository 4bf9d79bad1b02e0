//! Node: a virtual machine as far as the network can tell (P-116).

use std::collections::HashSet;

use serde_json::Value;

use super::address::strict_cidr;
use super::check::Errors;
use super::json::{at, child, entries, is_true, list, set, set_default, text, texts};
use super::meta;
use super::printing::{NONE, or_none, or_unknown};
use crate::registry::{Column, FieldError, Resource, Subresource};
use crate::table;

/// A label key that starts so names a role in its remainder.
const ROLE_PREFIX: &str = "node-role.kubernetes.io/";
/// The label whose value is a role.
const ROLE_LABEL: &str = "kubernetes.io/role";

const COLUMNS: &[Column] = &[
    Column::NAME,
    Column::text("Status", "Whether the node is ready, and whether new pods may go there."),
    Column::text("Roles", "Roles from the node's labels."),
    Column::AGE,
    Column::text("Version", "Version of the node agent."),
    Column::text("Internal-IP", "Address inside the lab.").wide(),
    Column::text("External-IP", "Address outside the lab.").wide(),
    Column::text("OS-Image", "Operating system as the node reports it.").wide(),
    Column::text("Kernel-Version", "Kernel as the node reports it.").wide(),
    Column::text("Container-Runtime", "What runs the pods.").wide(),
];

pub(super) fn resource() -> Resource {
    Resource {
        kind: "Node",
        plural: "nodes",
        singular: "node",
        short_names: &["no"],
        namespaced: false,
        has_status: true,
        subresources: &[Subresource::Status, Subresource::Proxy],
        selectable: |object| vec![("spec.unschedulable", is_true(object, "/spec/unschedulable").to_string())],
        selectable_names: &["spec.unschedulable"],
        columns: COLUMNS,
        row,
        default,
        validate,
        ..Resource::BASE
    }
}

/// The single and the plural pod range fill each other.
fn default(object: &mut Value) {
    let Some(spec) = child(object, "spec") else { return };
    if let Some(single) = spec["podCIDR"].as_str().filter(|single| !single.is_empty()).map(str::to_owned) {
        set_default(spec, "podCIDRs", vec![single]);
    } else if let Some(first) = texts(spec, "/podCIDRs").first().map(|first| (*first).to_owned()) {
        set(spec, "podCIDR", first);
    }
    let capacity = at(object, "/status/capacity").clone();
    if capacity.is_object()
        && let Some(status) = child(object, "status")
    {
        set_default(status, "allocatable", capacity);
    }
}

fn validate(new: &Value, old: Option<&Value>) -> Vec<FieldError> {
    let mut errors = Errors::default();
    let ranges = texts(new, "/spec/podCIDRs");
    for (index, range) in ranges.iter().enumerate() {
        errors.rule(format!("spec.podCIDRs[{index}]"), *range, strict_cidr(range).map(drop));
    }
    let families: Vec<bool> = ranges.iter().map(|range| range.contains(':')).collect();
    if ranges.len() > 2 || matches!(families.as_slice(), [a, b] if a == b) {
        errors.invalid("spec.podCIDRs", ranges.clone(), "may specify no more than one CIDR for each IP family");
    }
    if let Some(first) = ranges.first()
        && *first != text(new, "/spec/podCIDR")
    {
        errors.invalid("spec.podCIDRs[0]", *first, "must match the value in podCIDR");
    }
    taints(&mut errors, new);
    if let Some(old) = old {
        let stored = texts(old, "/spec/podCIDRs");
        if !stored.is_empty() && stored != ranges {
            errors.forbidden("spec.podCIDRs", "node updates may not change podCIDR except from \"\" to valid");
        }
        let stored = text(old, "/spec/providerID");
        if !stored.is_empty() && stored != text(new, "/spec/providerID") {
            errors.forbidden("spec.providerID", "node updates may not change providerID except from \"\" to valid");
        }
    }
    errors.into_list()
}

fn taints(errors: &mut Errors, new: &Value) {
    let taints = list(new, "/spec/taints");
    let mut seen = HashSet::new();
    for (index, taint) in taints.iter().enumerate() {
        let field = format!("spec.taints[{index}]");
        let key = text(taint, "/key");
        errors.rule(format!("{field}.key"), key, meta::qualified_name(key));
        let value = text(taint, "/value");
        errors.rule(format!("{field}.value"), value, meta::label_value(value));
        let effects = ["NoExecute", "NoSchedule", "PreferNoSchedule"];
        errors.one_of(format!("{field}.effect"), text(taint, "/effect"), &effects);
        if !seen.insert((key, text(taint, "/effect"))) {
            errors.duplicate(field, taint.clone());
        }
    }
}

fn row(object: &Value, now: jiff::Timestamp) -> Vec<Value> {
    let info = |field: &str| or_unknown(text(object, &format!("/status/nodeInfo/{field}")));
    vec![
        table::name(object).into(),
        status(object).into(),
        or_none(roles(object)),
        table::age(object, now).into(),
        text(object, "/status/nodeInfo/kubeletVersion").into(),
        address(object, "InternalIP").into(),
        address(object, "ExternalIP").into(),
        info("osImage"),
        info("kernelVersion"),
        info("containerRuntimeVersion"),
    ]
}

fn status(object: &Value) -> String {
    let ready = list(object, "/status/conditions").iter().find(|condition| condition["type"] == "Ready");
    let ready = match ready.map(|condition| text(condition, "/status")) {
        Some("True") => "Ready",
        Some(_) => "NotReady",
        None => "Unknown",
    };
    let cordoned = if is_true(object, "/spec/unschedulable") { ",SchedulingDisabled" } else { "" };
    format!("{ready}{cordoned}")
}

fn roles(object: &Value) -> String {
    let mut roles: Vec<&str> = entries(object, "/metadata/labels")
        .filter_map(|(key, value)| match key.strip_prefix(ROLE_PREFIX) {
            Some(role) => Some(role),
            None if key == ROLE_LABEL => value.as_str(),
            None => None,
        })
        .filter(|role| !role.is_empty())
        .collect();
    roles.sort_unstable();
    roles.dedup();
    roles.join(",")
}

fn address<'a>(object: &'a Value, kind: &str) -> &'a str {
    let found = list(object, "/status/addresses").iter().find(|address| address["type"] == kind);
    found.map_or(NONE, |address| text(address, "/address"))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    //
    #[test]
    fn the_table_shows_readiness_roles_and_addresses() {
        let node = json!({
            "metadata": {"name": "n1", "labels": {"node-role.kubernetes.io/worker": "", "kubernetes.io/role": "edge"}},
            "spec": {"unschedulable": true},
            "status": {
                "conditions": [{"type": "Ready", "status": "False"}],
                "addresses": [{"type": "InternalIP", "address": "10.95.0.11"}],
                "nodeInfo": {"kubeletVersion": "v1.36.0", "osImage": "Linux"},
            },
        });
        let expected = json!([
            "n1",
            "NotReady,SchedulingDisabled",
            "edge,worker",
            "<unknown>",
            "v1.36.0",
            "10.95.0.11",
            "<none>",
            "Linux",
            "<unknown>",
            "<unknown>",
        ]);
        assert_eq!(Value::from(row(&node, jiff::Timestamp::UNIX_EPOCH)), expected);
        let bare = row(&json!({"metadata": {"name": "n"}}), jiff::Timestamp::UNIX_EPOCH);
        assert_eq!((&bare[1], &bare[2]), (&json!("Unknown"), &json!("<none>")));
    }

    #[test]
    fn a_pod_range_is_set_once() {
        let mut new = json!({"spec": {"podCIDRs": ["10.244.1.0/24"]}});
        default(&mut new);
        assert_eq!(new["spec"]["podCIDR"], "10.244.1.0/24");
        assert!(validate(&new, Some(&json!({"spec": {}}))).is_empty());
        let mut other = json!({"spec": {"podCIDR": "10.244.2.0/24"}});
        default(&mut other);
        assert_eq!(other["spec"]["podCIDRs"], json!(["10.244.2.0/24"]));
        let found: Vec<String> = validate(&other, Some(&new)).into_iter().map(|e| e.field).collect();
        assert_eq!(found, ["spec.podCIDRs"]);
        let bad = json!({"spec": {"podCIDR": "x", "podCIDRs": ["10.244.1.1/24", "10.244.2.0/24"]}});
        let found: Vec<String> = validate(&bad, None).into_iter().map(|e| e.field).collect();
        assert_eq!(found, ["spec.podCIDRs[0]", "spec.podCIDRs", "spec.podCIDRs[0]"]);
    }

    #[test]
    fn taints_are_checked() {
        let taint = json!({"key": "a", "effect": "NoSchedule"});
        let node = json!({"spec": {"taints": [taint, taint, {"key": "", "effect": "x"}]}});
        let found: Vec<String> = validate(&node, None).into_iter().map(|e| e.field).collect();
        assert_eq!(found, ["spec.taints[1]", "spec.taints[2].key", "spec.taints[2].effect"]);
    }
}
