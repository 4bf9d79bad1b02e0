//! Quotas, limits and classes of pods: stored and served, not acted on.

use serde_json::{Value, json};

use super::inert::{INERT, rules};
use super::json::{child, entries, integer, is_true, list_mut, set, set_default, set_default_text, text};
use crate::registry::{Column, Resource, Subresource};
use crate::table;

pub(super) fn limit_range() -> Resource {
    Resource {
        kind: "LimitRange",
        plural: "limitranges",
        singular: "limitrange",
        short_names: &["limits"],
        default: |object| {
            for limit in list_mut(object, "/spec/limits").filter(|limit| text(limit, "/type") == "Container") {
                // What is not said about the middle follows from the ends.
                for (field, source) in [("default", "max"), ("defaultRequest", "default"), ("defaultRequest", "min")] {
                    fill(limit, field, source);
                }
            }
        },
        ..INERT
    }
}

/// Copies the amounts that only `source` names into `field`.
fn fill(limit: &mut Value, field: &str, source: &str) {
    let found: Vec<(String, Value)> =
        entries(limit, &format!("/{source}")).map(|(name, amount)| (name.to_owned(), amount.clone())).collect();
    if found.is_empty() {
        return;
    }
    if let Some(target) = child(limit, field) {
        found.into_iter().for_each(|(name, amount)| set_default(target, &name, amount));
    }
}

pub(super) fn resource_quota() -> Resource {
    const COLUMNS: &[Column] = &[
        Column::NAME,
        Column::text("Request", "Used and allowed requests and counts."),
        Column::text("Limit", "Used and allowed limits."),
        Column::AGE,
    ];
    Resource {
        kind: "ResourceQuota",
        plural: "resourcequotas",
        singular: "resourcequota",
        short_names: &["quota"],
        has_status: true,
        returns_deleted_object: true,
        subresources: &[Subresource::Status],
        columns: COLUMNS,
        row: |object, now| {
            let cell = |limits: bool| {
                let ours = entries(object, "/status/hard").filter(|(name, _)| name.starts_with("limits.") == limits);
                let mut parts: Vec<String> = ours
                    .map(|(name, hard)| {
                        let used = object.pointer("/status/used").and_then(|used| used.get(name));
                        let used = used.and_then(Value::as_str).unwrap_or("0");
                        format!("{name}: {used}/{}", hard.as_str().unwrap_or_default())
                    })
                    .collect();
                parts.sort_unstable();
                Value::from(parts.join(", "))
            };
            vec![table::name(object).into(), cell(false), cell(true), table::age(object, now).into()]
        },
        prepare: |new, old| {
            if old.is_none() {
                set(new, "status", json!({}));
            }
        },
        ..INERT
    }
}

pub(super) fn priority_class() -> Resource {
    const COLUMNS: &[Column] = &[
        Column::NAME,
        Column::integer("Value", "The higher, the more important."),
        Column::text("Global-Default", "Whether pods without a class have it."),
        Column::AGE,
        Column::text("PreemptionPolicy", "Whether its pods displace others."),
    ];
    Resource {
        group: "scheduling.k8s.io",
        kind: "PriorityClass",
        plural: "priorityclasses",
        singular: "priorityclass",
        short_names: &["pc"],
        namespaced: false,
        has_generation: true,
        columns: COLUMNS,
        row: |object, now| {
            vec![
                table::name(object).into(),
                integer(object, "/value").unwrap_or_default().into(),
                is_true(object, "/globalDefault").to_string().into(),
                table::age(object, now).into(),
                text(object, "/preemptionPolicy").into(),
            ]
        },
        default: |object| set_default_text(object, "preemptionPolicy", "PreemptLowerPriority"),
        validate: |new, old| rules(new, old, &[], &["value", "preemptionPolicy"]),
        ..INERT
    }
}

pub(super) fn runtime_class() -> Resource {
    const COLUMNS: &[Column] = &[Column::NAME, Column::text("Handler", "What runs its pods."), Column::AGE];
    Resource {
        group: "node.k8s.io",
        kind: "RuntimeClass",
        plural: "runtimeclasses",
        singular: "runtimeclass",
        namespaced: false,
        columns: COLUMNS,
        row: |object, now| {
            vec![table::name(object).into(), text(object, "/handler").into(), table::age(object, now).into()]
        },
        validate: |new, old| rules(new, old, &["handler"], &["handler"]),
        ..INERT
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_of_containers_have_a_middle() {
        let mut object = json!({"spec": {"limits": [
            {"type": "Container", "max": {"cpu": "2"}, "min": {"memory": "1Mi"}}, {"type": "Pod", "max": {"cpu": "2"}},
        ]}});
        (limit_range().default)(&mut object);
        let expected = json!({
            "type": "Container", "max": {"cpu": "2"}, "min": {"memory": "1Mi"}, "default": {"cpu": "2"},
            "defaultRequest": {"cpu": "2", "memory": "1Mi"},
        });
        assert_eq!(object["spec"]["limits"][0], expected);
        assert_eq!(object["spec"]["limits"][1].get("default"), None);
    }

    //
    #[test]
    fn a_quota_shows_requests_and_limits_apart() {
        let hard = json!({"pods": "10", "limits.cpu": "4", "requests.cpu": "2"});
        let object = json!({"metadata": {"name": "q"}, "status": {"hard": hard, "used": {"pods": "3"}}});
        let cells = (resource_quota().row)(&object, jiff::Timestamp::UNIX_EPOCH);
        assert_eq!(Value::from(cells), json!(["q", "pods: 3/10, requests.cpu: 0/2", "limits.cpu: 0/4", "<unknown>"]));
    }
}
