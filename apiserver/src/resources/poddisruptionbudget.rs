//! PodDisruptionBudget: how many pods of an application may be evicted at a time.

use serde_json::{Value, json};

use super::amount::{at_most_all, cell};
use super::check::Errors;
use super::json::{at, has, integer, set, text};
use super::meta;
use crate::registry::{Column, FieldError, Resource, Subresource};
use crate::table;

const COLUMNS: &[Column] = &[
    Column::NAME,
    Column::text("Min Available", "How many pods must stay."),
    Column::text("Max Unavailable", "How many pods may be missing."),
    Column::integer("Allowed Disruptions", "How many pods may be evicted now."),
    Column::AGE,
];

pub(super) fn resource() -> Resource {
    Resource {
        group: "policy",
        kind: "PodDisruptionBudget",
        plural: "poddisruptionbudgets",
        singular: "poddisruptionbudget",
        short_names: &["pdb"],
        has_status: true,
        has_generation: true,
        subresources: &[Subresource::Status],
        columns: COLUMNS,
        row: |object, now| {
            vec![
                table::name(object).into(),
                cell(at(object, "/spec/minAvailable")),
                cell(at(object, "/spec/maxUnavailable")),
                integer(object, "/status/disruptionsAllowed").unwrap_or_default().into(),
                table::age(object, now).into(),
            ]
        },
        prepare: |new, old| {
            if old.is_none() {
                let status =
                    json!({"disruptionsAllowed": 0, "currentHealthy": 0, "desiredHealthy": 0, "expectedPods": 0});
                set(new, "status", status);
            }
        },
        validate,
        ..Resource::BASE
    }
}

fn validate(new: &Value, _old: Option<&Value>) -> Vec<FieldError> {
    let mut errors = Errors::default();
    let bounds = ["minAvailable", "maxUnavailable"];
    if bounds.iter().all(|bound| has(new, &format!("/spec/{bound}"))) {
        errors.invalid("spec", at(new, "/spec").clone(), "minAvailable and maxUnavailable cannot be both set");
    }
    for bound in bounds {
        let value = at(new, &format!("/spec/{bound}"));
        if !value.is_null() {
            at_most_all(&mut errors, &format!("spec.{bound}"), value);
        }
    }
    meta::selector(&mut errors, "spec.selector", at(new, "/spec/selector"));
    if has(new, "/spec/unhealthyPodEvictionPolicy") {
        let policy = text(new, "/spec/unhealthyPodEvictionPolicy");
        errors.one_of("spec.unhealthyPodEvictionPolicy", policy, &["AlwaysAllow", "IfHealthyBudget"]);
    }
    errors.into_list()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_rule_names_its_field() {
        let rows = [
            (json!({"minAvailable": 1, "selector": {}}), vec![]),
            (json!({"minAvailable": "50%"}), vec![]),
            (json!({"minAvailable": 1, "maxUnavailable": 1}), vec!["spec"]),
            (json!({"minAvailable": -1}), vec!["spec.minAvailable"]),
            (json!({"maxUnavailable": "101%"}), vec!["spec.maxUnavailable"]),
            (json!({"selector": {"matchLabels": {"a b": "c"}}}), vec!["spec.selector.matchLabels"]),
            (json!({"unhealthyPodEvictionPolicy": "Maybe"}), vec!["spec.unhealthyPodEvictionPolicy"]),
        ];
        for (spec, expected) in rows {
            let found: Vec<String> = validate(&json!({"spec": spec}), None).into_iter().map(|e| e.field).collect();
            assert_eq!(found, expected, "{spec}");
        }
    }

    //
    #[test]
    fn the_table_says_what_is_not_limited() {
        let object =
            json!({"metadata": {"name": "p"}, "spec": {"maxUnavailable": "25%"}, "status": {"disruptionsAllowed": 2}});
        let cells = (resource().row)(&object, jiff::Timestamp::UNIX_EPOCH);
        assert_eq!(Value::from(cells), json!(["p", "N/A", "25%", 2, "<unknown>"]));
    }
}
