//! DaemonSet: one pod on each node (P-112).

use serde_json::{Value, json};

use super::amount::at_most_all;
use super::check::Errors;
use super::json::{at, child, has, integer, set, set_default, set_default_text, text};
use super::printing::{containers_and_images, label_map, label_selector, or_none};
use super::template;
use crate::registry::{Column, FieldError, Resource, Subresource};
use crate::table;

const COLUMNS: &[Column] = &[
    Column::NAME,
    Column::integer("Desired", "How many nodes should have the pod."),
    Column::integer("Current", "How many of them have it."),
    Column::integer("Ready", "How many of the pods are ready."),
    Column::integer("Up-to-date", "How many of the pods are of the newest template."),
    Column::integer("Available", "How many of the pods have been ready for long enough."),
    Column::text("Node Selector", "Which nodes are meant."),
    Column::AGE,
    Column::text("Containers", "Names of the template's containers.").wide(),
    Column::text("Images", "Images of the template's containers.").wide(),
    Column::text("Selector", "Which pods belong to it.").wide(),
];

pub(super) fn resource() -> Resource {
    Resource {
        group: "apps",
        kind: "DaemonSet",
        plural: "daemonsets",
        singular: "daemonset",
        short_names: &["ds"],
        categories: &["all"],
        has_status: true,
        has_generation: true,
        subresources: &[Subresource::Status],
        columns: COLUMNS,
        row,
        default,
        prepare: |new, old| {
            if old.is_none() {
                let numbers = ["currentNumberScheduled", "desiredNumberScheduled", "numberMisscheduled", "numberReady"];
                set(new, "status", numbers.into_iter().map(|name| (name.to_owned(), json!(0))).collect::<Value>());
            }
        },
        validate,
        ..Resource::BASE
    }
}

fn default(object: &mut Value) {
    let Some(spec) = child(object, "spec") else { return };
    if let Some(strategy) = child(spec, "updateStrategy") {
        set_default_text(strategy, "type", "RollingUpdate");
        if text(strategy, "/type") == "RollingUpdate"
            && let Some(rolling) = child(strategy, "rollingUpdate")
        {
            set_default(rolling, "maxUnavailable", 1);
            set_default(rolling, "maxSurge", 0);
        }
    }
    set_default(spec, "revisionHistoryLimit", 10);
    template::default(object);
}

fn validate(new: &Value, old: Option<&Value>) -> Vec<FieldError> {
    let mut errors = Errors::default();
    template::validate(&mut errors, new, old);
    strategy(&mut errors, at(new, "/spec/updateStrategy"));
    errors.not_negative("spec.revisionHistoryLimit", integer(new, "/spec/revisionHistoryLimit"));
    errors.into_list()
}

fn strategy(errors: &mut Errors, strategy: &Value) {
    let field = "spec.updateStrategy.rollingUpdate";
    match text(strategy, "/type") {
        "OnDelete" => {}
        "RollingUpdate" if !has(strategy, "/rollingUpdate") => errors.required(field, ""),
        "RollingUpdate" => {
            let unavailable = at(strategy, "/rollingUpdate/maxUnavailable");
            let surge = at(strategy, "/rollingUpdate/maxSurge");
            let counts = (
                at_most_all(errors, &format!("{field}.maxUnavailable"), unavailable),
                at_most_all(errors, &format!("{field}.maxSurge"), surge),
            );
            match counts {
                (Some(0), Some(0)) => {
                    errors.required(format!("{field}.maxUnavailable"), "cannot be 0 when maxSurge is 0");
                }
                (Some(1..), Some(1..)) => {
                    let why = "may not be set when maxUnavailable is non-zero";
                    errors.invalid(format!("{field}.maxSurge"), surge.clone(), why);
                }
                _ => {}
            }
        }
        other => errors.unsupported("spec.updateStrategy.type", other, &["OnDelete", "RollingUpdate"]),
    }
}

fn row(object: &Value, now: jiff::Timestamp) -> Vec<Value> {
    let count = |name: &str| Value::from(integer(object, &format!("/status/{name}")).unwrap_or_default());
    let [containers, images] = containers_and_images(at(object, "/spec/template/spec"));
    vec![
        table::name(object).into(),
        count("desiredNumberScheduled"),
        count("currentNumberScheduled"),
        count("numberReady"),
        count("updatedNumberScheduled"),
        count("numberAvailable"),
        or_none(label_map(at(object, "/spec/template/spec/nodeSelector"))),
        table::age(object, now).into(),
        containers,
        images,
        label_selector(at(object, "/spec/selector")),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn daemon_set(strategy: Value) -> Value {
        let mut object = json!({"metadata": {"name": "d"}, "spec": {
            "selector": {"matchLabels": {"app": "log"}},
            "template": {"metadata": {"labels": {"app": "log"}}, "spec": {"containers": [{"name": "c", "image": "i"}]}},
            "updateStrategy": strategy,
        }});
        default(&mut object);
        object
    }

    // A-062, P-112
    #[test]
    fn defaults() {
        let object = daemon_set(Value::Null);
        let rolling = json!({"type": "RollingUpdate", "rollingUpdate": {"maxUnavailable": 1, "maxSurge": 0}});
        assert_eq!(object["spec"]["updateStrategy"], rolling);
        assert_eq!(object["spec"]["revisionHistoryLimit"], 10);
        assert!(validate(&object, None).is_empty());
    }

    #[test]
    fn strategies() {
        let rolling = |unavailable: Value, surge: Value| json!({"type": "RollingUpdate", "rollingUpdate": {"maxUnavailable": unavailable, "maxSurge": surge}});
        let [unavailable, surge] =
            ["maxUnavailable", "maxSurge"].map(|f| format!("spec.updateStrategy.rollingUpdate.{f}"));
        let rows = [
            ("P-112", rolling(json!(0), json!(1)), vec![]),
            ("P-112", rolling(json!(0), json!(0)), vec![unavailable.as_str()]),
            ("P-112", rolling(json!(1), json!("10%")), vec![surge.as_str()]),
            ("P-112", rolling(json!("200%"), json!(0)), vec![unavailable.as_str()]),
            ("P-112", json!({"type": "OnDelete"}), vec![]),
            ("P-112", json!({"type": "Recreate"}), vec!["spec.updateStrategy.type"]),
        ];
        for (statement, strategy, expected) in rows {
            let found: Vec<String> =
                validate(&daemon_set(strategy.clone()), None).into_iter().map(|e| e.field).collect();
            assert_eq!(found, expected, "{statement}: {strategy}");
        }
    }

    // A-067, P-083
    #[test]
    fn the_selector_stays() {
        let old = daemon_set(Value::Null);
        let mut new = old.clone();
        new["spec"]["selector"] = json!({"matchExpressions": [{"key": "app", "operator": "Exists"}]});
        let errors = validate(&new, Some(&old));
        assert_eq!(errors.len(), 1);
        assert!(errors[0].field == "spec.selector" && errors[0].detail.ends_with("field is immutable"), "{errors:?}");
    }

    //
    #[test]
    fn the_table_counts_nodes() {
        let mut object = daemon_set(Value::Null);
        object["spec"]["template"]["spec"]["nodeSelector"] = json!({"b": "2", "a": "1"});
        object["status"] = json!({"desiredNumberScheduled": 3, "currentNumberScheduled": 2, "numberReady": 1});
        let expected = json!(["d", 3, 2, 1, 0, 0, "a=1,b=2", "<unknown>", "c", "i", "app=log"]);
        assert_eq!(Value::from(row(&object, jiff::Timestamp::UNIX_EPOCH)), expected);
    }
}
