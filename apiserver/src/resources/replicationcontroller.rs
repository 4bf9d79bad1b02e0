//! ReplicationController: what came before the ReplicaSet, with a selector that is a plain map (P-095).

use serde_json::{Value, json};

use super::check::Errors;
use super::json::{at, child, has, integer, set, set_default, size};
use super::meta;
use super::printing::{containers_and_images, label_map, or_none};
use super::replicaset::{COLUMNS, SCALE};
use super::template::{self, Restart};
use crate::registry::{FieldError, Resource, Subresource};
use crate::table;

pub(super) fn resource() -> Resource {
    Resource {
        kind: "ReplicationController",
        plural: "replicationcontrollers",
        singular: "replicationcontroller",
        short_names: &["rc"],
        categories: &["all"],
        has_status: true,
        has_generation: true,
        orphans_dependents: true,
        subresources: &[Subresource::Status, SCALE],
        selectable: |object| {
            vec![("status.replicas", integer(object, "/status/replicas").unwrap_or_default().to_string())]
        },
        selectable_names: &["status.replicas"],
        columns: COLUMNS,
        row,
        default,
        prepare: |new, old| {
            if old.is_none() {
                set(new, "status", json!({"replicas": 0}));
            }
        },
        validate,
        ..Resource::BASE
    }
}

/// What the template's pods are labelled with is what the controller selects and is labelled with, unless it says
/// otherwise.
fn default(object: &mut Value) {
    let labels = at(object, "/spec/template/metadata/labels").clone();
    let labelled = labels.as_object().is_some_and(|labels| !labels.is_empty());
    if labelled
        && size(object, "/metadata/labels") == 0
        && let Some(metadata) = child(object, "metadata")
    {
        set(metadata, "labels", labels.clone());
    }
    if let Some(spec) = child(object, "spec") {
        if labelled && size(spec, "/selector") == 0 {
            set(spec, "selector", labels);
        }
        set_default(spec, "replicas", 1);
    }
    template::default(object);
}

fn validate(new: &Value, _old: Option<&Value>) -> Vec<FieldError> {
    let mut errors = Errors::default();
    errors.not_negative("spec.replicas", integer(new, "/spec/replicas"));
    errors.not_negative("spec.minReadySeconds", integer(new, "/spec/minReadySeconds"));
    let selector = at(new, "/spec/selector");
    if size(selector, "") == 0 {
        errors.required("spec.selector", "");
    }
    meta::labels(&mut errors, "spec.selector", selector);
    if !has(new, "/spec/template") {
        errors.required("spec.template", "");
        return errors.into_list();
    }
    template::matches(&mut errors, &json!({"matchLabels": selector}), at(new, "/spec/template"));
    template::validate_template(&mut errors, "spec.template", at(new, "/spec/template"), Restart::Always);
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
        or_none(label_map(at(object, "/spec/selector"))),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn controller(selector: Value) -> Value {
        let mut object = json!({"metadata": {"name": "r"}, "spec": {"selector": selector, "template": {
            "metadata": {"labels": {"app": "web"}}, "spec": {"containers": [{"name": "c", "image": "i"}]},
        }}});
        default(&mut object);
        object
    }

    fn fields(new: &Value) -> Vec<String> {
        validate(new, None).into_iter().map(|error| error.field).collect()
    }

    // P-095
    #[test]
    fn the_selector_comes_from_the_template() {
        let object = controller(Value::Null);
        assert_eq!(object["spec"]["selector"], json!({"app": "web"}));
        assert_eq!(object["metadata"]["labels"], json!({"app": "web"}));
        assert_eq!(object["spec"]["replicas"], 1);
        assert!(fields(&object).is_empty());
    }

    #[test]
    fn the_selector_matches_its_pods() {
        assert_eq!(fields(&controller(json!({"app": "db"}))), ["spec.template.metadata.labels"]);
        let mut unlabelled = controller(json!({}));
        unlabelled["spec"]["selector"] = json!({});
        unlabelled["spec"]["replicas"] = json!(-1);
        assert_eq!(fields(&unlabelled), ["spec.replicas", "spec.selector"]);
    }
}
