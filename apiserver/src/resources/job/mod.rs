//! Job: pods that run until enough of them have finished (P-113, P-114).

mod policies;
mod validation;

use serde_json::{Value, json};

use super::json::{at, child, has, integer, is_true, list, set, set_default, set_default_text, size, text};
use super::printing::{containers_and_images, label_selector};
use super::template;
use crate::registry::{Column, Resource, Subresource};
use crate::table;

pub(super) use validation::validate_spec;

/// Labels that tell the pods of a Job, each in its present form and as it was before v1.27.
const UID_LABELS: [&str; 2] = ["batch.kubernetes.io/controller-uid", "controller-uid"];
const NAME_LABELS: [&str; 2] = ["batch.kubernetes.io/job-name", "job-name"];

const COLUMNS: &[Column] = &[
    Column::NAME,
    Column::text("Status", "How far it has come."),
    Column::text("Completions", "Finished pods of those wished for."),
    Column::text("Duration", "Time from start to completion, or until now."),
    Column::AGE,
    Column::text("Containers", "Names of the template's containers.").wide(),
    Column::text("Images", "Images of the template's containers.").wide(),
    Column::text("Selector", "Which pods belong to it.").wide(),
];

pub(super) fn resource() -> Resource {
    Resource {
        group: "batch",
        kind: "Job",
        plural: "jobs",
        singular: "job",
        categories: &["all"],
        has_status: true,
        has_generation: true,
        orphans_dependents: true,
        subresources: &[Subresource::Status],
        selectable: |object| {
            let succeeded = integer(object, "/status/succeeded").unwrap_or_default();
            vec![("status.successful", succeeded.to_string())]
        },
        selectable_names: &["status.successful"],
        columns: COLUMNS,
        row,
        default,
        prepare,
        validate: validation::validate,
        ..Resource::BASE
    }
}

fn default(object: &mut Value) {
    let Some(spec) = child(object, "spec") else { return };
    // Who wants several at a time but names no number has a work queue, which is done when one pod says so.
    if !has(spec, "/completions") && !has(spec, "/parallelism") {
        set(spec, "completions", 1);
    }
    set_default(spec, "parallelism", 1);
    let limit = if has(spec, "/backoffLimitPerIndex") { i32::MAX } else { 6 };
    set_default(spec, "backoffLimit", limit);
    set_default_text(spec, "completionMode", "NonIndexed");
    set_default(spec, "suspend", false);
    let replacement = if has(spec, "/podFailurePolicy") { "Failed" } else { "TerminatingOrFailed" };
    set_default_text(spec, "podReplacementPolicy", replacement);
    default_policy(spec);
    template::default(object);
}

/// What is also filled in before there is a Job: a condition that a rule names is one that holds.
pub(super) fn default_policy(spec: &mut Value) {
    let rules = spec.pointer_mut("/podFailurePolicy/rules").and_then(Value::as_array_mut);
    let patterns = rules.into_iter().flatten().filter_map(|rule| rule.get_mut("onPodConditions")?.as_array_mut());
    patterns.flatten().for_each(|pattern| set_default_text(pattern, "status", "True"));
}

/// Gives a new Job the selector and labels that tell its pods from all others (P-113).
fn prepare(new: &mut Value, old: Option<&Value>) {
    if old.is_some() {
        return;
    }
    set(new, "status", json!({}));
    if !is_true(new, "/spec/manualSelector") {
        generate_selector(new);
    }
    let labels = at(new, "/spec/template/metadata/labels").clone();
    if size(new, "/metadata/labels") == 0
        && !labels.is_null()
        && let Some(metadata) = child(new, "metadata")
    {
        set(metadata, "labels", labels);
    }
}

fn generate_selector(new: &mut Value) {
    let (uid, name) = (text(new, "/metadata/uid").to_owned(), text(new, "/metadata/name").to_owned());
    let Some(spec) = child(new, "spec") else { return };
    let labels = child(spec, "template").and_then(|t| child(t, "metadata")).and_then(|m| child(m, "labels"));
    if let Some(labels) = labels {
        for (keys, value) in [(UID_LABELS, &uid), (NAME_LABELS, &name)] {
            keys.into_iter().for_each(|key| set_default(labels, key, value.as_str()));
        }
    }
    if let Some(selected) = child(spec, "selector").and_then(|selector| child(selector, "matchLabels")) {
        set_default(selected, UID_LABELS[0], uid);
    }
}

fn row(object: &Value, now: jiff::Timestamp) -> Vec<Value> {
    let [containers, images] = containers_and_images(at(object, "/spec/template/spec"));
    vec![
        table::name(object).into(),
        status(object).into(),
        completions(object).into(),
        duration(object, now).into(),
        table::age(object, now).into(),
        containers,
        images,
        label_selector(at(object, "/spec/selector")),
    ]
}

fn status(object: &Value) -> &'static str {
    let holds =
        |name: &str| list(object, "/status/conditions").iter().any(|c| c["type"] == name && c["status"] == "True");
    match () {
        () if holds("Complete") => "Complete",
        () if holds("Failed") => "Failed",
        () if has(object, "/metadata/deletionTimestamp") => "Terminating",
        () if holds("Suspended") => "Suspended",
        () if holds("FailureTarget") => "FailureTarget",
        () => "Running",
    }
}

fn completions(object: &Value) -> String {
    let succeeded = integer(object, "/status/succeeded").unwrap_or_default();
    match (integer(object, "/spec/completions"), integer(object, "/spec/parallelism").unwrap_or_default()) {
        (Some(wished), _) => format!("{succeeded}/{wished}"),
        (None, 2..) => format!("{succeeded}/1 of {}", integer(object, "/spec/parallelism").unwrap_or_default()),
        (None, _) => format!("{succeeded}/1"),
    }
}

fn duration(object: &Value, now: jiff::Timestamp) -> String {
    let start = at(object, "/status/startTime");
    let end = text(object, "/status/completionTime").parse().unwrap_or(now);
    if start.is_null() { String::new() } else { table::since(Some(start), end) }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A Job as it is after defaults and preparation.
    pub(super) fn job(change: Value) -> Value {
        let mut object = json!({"metadata": {"name": "j", "uid": "u-1"}, "spec": {"template": {"spec": {
            "restartPolicy": "Never", "containers": [{"name": "c", "image": "i"}],
        }}}});
        for (key, value) in change.as_object().unwrap() {
            object["spec"][key] = value.clone();
        }
        default(&mut object);
        prepare(&mut object, None);
        object
    }

    // A-062, P-113
    #[test]
    fn defaults() {
        let object = job(json!({}));
        let expected = [
            ("completions", json!(1)),
            ("parallelism", json!(1)),
            ("backoffLimit", json!(6)),
            ("completionMode", json!("NonIndexed")),
            ("suspend", json!(false)),
            ("podReplacementPolicy", json!("TerminatingOrFailed")),
        ];
        for (field, value) in expected {
            assert_eq!(object["spec"][field], value, "{field}");
        }
        let rules = json!([{"action": "Ignore", "onPodConditions": [{"type": "DisruptionTarget"}]}]);
        let careful = job(json!({"backoffLimitPerIndex": 1, "podFailurePolicy": {"rules": rules}}));
        assert_eq!(careful["spec"]["backoffLimit"], json!(i32::MAX));
        assert_eq!(careful["spec"]["podReplacementPolicy"], "Failed");
        assert_eq!(at(&careful, "/spec/podFailurePolicy/rules/0/onPodConditions/0/status"), "True");
        let queue = job(json!({"parallelism": 3}));
        assert_eq!(queue["spec"].get("completions"), None);
    }

    // P-113
    #[test]
    fn its_pods_are_told_by_labels_of_their_own() {
        let object = job(json!({}));
        let labels = json!({
            "batch.kubernetes.io/controller-uid": "u-1", "controller-uid": "u-1",
            "batch.kubernetes.io/job-name": "j", "job-name": "j",
        });
        assert_eq!(object["spec"]["template"]["metadata"]["labels"], labels);
        assert_eq!(object["metadata"]["labels"], labels);
        assert_eq!(object["spec"]["selector"], json!({"matchLabels": {"batch.kubernetes.io/controller-uid": "u-1"}}));
        let own = json!({"matchLabels": {"app": "x"}});
        let manual = job(json!({"manualSelector": true, "selector": own}));
        assert_eq!(manual["spec"]["selector"], own);
    }

    //
    #[test]
    fn the_table_tells_how_far_it_is() {
        let mut object = job(json!({"completions": 3}));
        let cells = |object: &Value| Value::from(row(object, jiff::Timestamp::from_second(90).unwrap())[1..4].to_vec());
        assert_eq!(cells(&object), json!(["Running", "0/3", ""]));
        object["status"] = json!({"succeeded": 2, "startTime": "1970-01-01T00:00:00Z"});
        assert_eq!(cells(&object), json!(["Running", "2/3", "90s"]));
        object["status"]["completionTime"] = json!("1970-01-01T00:00:10Z");
        for (condition, expected) in [("Complete", "Complete"), ("Failed", "Failed"), ("Suspended", "Suspended")] {
            object["status"]["conditions"] = json!([{"type": condition, "status": "True"}]);
            assert_eq!(cells(&object), json!([expected, "2/3", "10s"]));
        }
        assert_eq!(cells(&job(json!({"parallelism": 4})))[1], "0/1 of 4");
    }
}
