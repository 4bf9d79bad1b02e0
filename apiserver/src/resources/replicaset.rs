//! ReplicaSet: a number of interchangeable pods (P-089).

use serde_json::{Value, json};

use super::check::Errors;
use super::json::{at, child, integer, set_default};
use super::printing::{containers_and_images, label_selector};
use super::template;
use crate::registry::{Column, FieldError, Resource, ScalePaths, Subresource};
use crate::table;

/// Where a Scale of a ReplicaSet or Deployment reads and writes.
pub(super) const SCALE: Subresource = Subresource::Scale(ScalePaths {
    spec_replicas: "/spec/replicas",
    status_replicas: "/status/replicas",
    selector: "/spec/selector",
});

/// The columns of ReplicaSets and their forerunner.
pub(super) const COLUMNS: &[Column] = &[
    Column::NAME,
    Column::integer("Desired", "How many pods are wished for."),
    Column::integer("Current", "How many pods there are."),
    Column::integer("Ready", "How many pods are ready."),
    Column::AGE,
    Column::text("Containers", "Names of the template's containers.").wide(),
    Column::text("Images", "Images of the template's containers.").wide(),
    Column::text("Selector", "Which pods belong to it.").wide(),
];

pub(super) fn resource() -> Resource {
    Resource {
        group: "apps",
        kind: "ReplicaSet",
        plural: "replicasets",
        singular: "replicaset",
        short_names: &["rs"],
        categories: &["all"],
        has_status: true,
        has_generation: true,
        subresources: &[Subresource::Status, SCALE],
        selectable: |object| {
            vec![("status.replicas", integer(object, "/status/replicas").unwrap_or_default().to_string())]
        },
        selectable_names: &["status.replicas"],
        columns: COLUMNS,
        row,
        default: |object| {
            if let Some(spec) = child(object, "spec") {
                set_default(spec, "replicas", 1);
            }
            template::default(object);
        },
        prepare: |new, old| {
            if old.is_none() {
                super::json::set(new, "status", json!({"replicas": 0}));
            }
        },
        validate,
        ..Resource::BASE
    }
}

fn validate(new: &Value, old: Option<&Value>) -> Vec<FieldError> {
    let mut errors = Errors::default();
    template::validate(&mut errors, new, old);
    errors.into_list()
}

fn row(object: &Value, now: jiff::Timestamp) -> Vec<Value> {
    let count = |pointer: &str| Value::from(integer(object, pointer).unwrap_or_default());
    let [containers, images] = containers_and_images(at(object, "/spec/template/spec"));
    vec![
        table::name(object).into(),
        count("/spec/replicas"),
        count("/status/replicas"),
        count("/status/readyReplicas"),
        table::age(object, now).into(),
        containers,
        images,
        label_selector(at(object, "/spec/selector")),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn replica_set(selector: Value, labels: Value) -> Value {
        let mut object = json!({"metadata": {"name": "r"}, "spec": {"selector": selector, "template": {
            "metadata": {"labels": labels}, "spec": {"containers": [{"name": "c", "image": "i"}]},
        }}});
        (resource().default)(&mut object);
        object
    }

    fn fields(new: &Value, old: Option<&Value>) -> Vec<String> {
        validate(new, old).into_iter().map(|error| error.field).collect()
    }

    // P-083, A-067
    #[test]
    fn the_selector_is_given_matches_and_stays() {
        let labels = || json!({"app": "web"});
        let good = replica_set(json!({"matchLabels": {"app": "web"}}), labels());
        assert_eq!(good["spec"]["replicas"], 1);
        assert!(fields(&good, None).is_empty());
        assert_eq!(fields(&replica_set(json!({}), labels()), None), ["spec.selector"]);
        assert_eq!(fields(&replica_set(Value::Null, labels()), None), ["spec.selector"]);
        let other = replica_set(json!({"matchLabels": {"app": "db"}}), labels());
        assert_eq!(fields(&other, None), ["spec.template.metadata.labels"]);
        let moved = replica_set(json!({"matchLabels": {"app": "db"}}), json!({"app": "db"}));
        let errors = validate(&moved, Some(&good));
        assert_eq!(errors.len(), 1);
        assert!(errors[0].detail.ends_with("field is immutable"), "{}", errors[0].detail);
    }

    #[test]
    fn pods_of_a_workload_always_restart() {
        let mut object = replica_set(json!({"matchLabels": {"a": "b"}}), json!({"a": "b"}));
        object["spec"]["template"]["spec"]["restartPolicy"] = json!("Never");
        object["spec"]["template"]["spec"]["activeDeadlineSeconds"] = json!(3);
        object["spec"]["replicas"] = json!(-1);
        let expected =
            ["spec.replicas", "spec.template.spec.restartPolicy", "spec.template.spec.activeDeadlineSeconds"];
        assert_eq!(fields(&object, None), expected);
    }

    // A-164
    #[test]
    fn the_table_counts_replicas() {
        let mut object = replica_set(json!({"matchLabels": {"a": "b"}}), json!({"a": "b"}));
        object["status"] = json!({"replicas": 2, "readyReplicas": 1});
        let expected = json!(["r", 1, 2, 1, "<unknown>", "c", "i", "a=b"]);
        assert_eq!(Value::from(row(&object, jiff::Timestamp::UNIX_EPOCH)), expected);
    }
}
