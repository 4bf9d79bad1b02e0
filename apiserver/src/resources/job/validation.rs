//! The rules of a Job, and of the template of one (A-067, P-113, P-114).

use serde_json::{Value, json};

use super::{NAME_LABELS, UID_LABELS, policies};
use crate::registry::FieldError;
use crate::resources::check::Errors;
use crate::resources::json::{at, has, integer, is_true, text};
use crate::resources::meta;
use crate::resources::template::{self, Restart};

/// More pods than this at a time are not allowed where each has a number, because the status names them all.
const INDEXED_PARALLELISM: i64 = 100_000;
/// The name of whoever manages a Job in place of our controller.
const MANAGER_LENGTH: usize = 63;
/// Fields that never change.
const FIXED: [&str; 7] = [
    "selector",
    "completionMode",
    "podFailurePolicy",
    "successPolicy",
    "backoffLimitPerIndex",
    "managedBy",
    "manualSelector",
];

pub(super) fn validate(new: &Value, old: Option<&Value>) -> Vec<FieldError> {
    let mut errors = Errors::default();
    let spec = at(new, "/spec");
    validate_spec(&mut errors, "spec", spec);
    let selector = at(spec, "/selector");
    if selector.is_null() {
        errors.required("spec.selector", "");
    } else {
        meta::selector(&mut errors, "spec.selector", selector);
        template::matches(&mut errors, selector, at(spec, "/template"));
    }
    match old {
        None if !is_true(spec, "/manualSelector") => generated(&mut errors, new),
        None => {}
        Some(old) => unchanged(&mut errors, spec, at(old, "/spec")),
    }
    errors.into_list()
}

/// Checks what is known before there is a Job; `field` is the path of the spec.
pub(in crate::resources) fn validate_spec(errors: &mut Errors, field: &str, spec: &Value) {
    let numbers = [
        "parallelism",
        "completions",
        "backoffLimit",
        "activeDeadlineSeconds",
        "ttlSecondsAfterFinished",
        "backoffLimitPerIndex",
        "maxFailedIndexes",
    ];
    for name in numbers {
        errors.not_negative(format!("{field}.{name}"), integer(spec, &format!("/{name}")));
    }
    let indexed = text(spec, "/completionMode") == "Indexed";
    if has(spec, "/completionMode") {
        let mode = text(spec, "/completionMode");
        errors.one_of(format!("{field}.completionMode"), mode, &["Indexed", "NonIndexed"]);
    }
    if indexed && !has(spec, "/completions") {
        errors.required(format!("{field}.completions"), "when completion mode is Indexed");
    }
    if let Some(parallelism) = integer(spec, "/parallelism")
        && indexed
        && parallelism > INDEXED_PARALLELISM
    {
        let why = format!("must be less than or equal to {INDEXED_PARALLELISM} when completion mode is Indexed");
        errors.invalid(format!("{field}.parallelism"), parallelism, why);
    }
    policies::validate(errors, field, spec);
    if has(spec, "/managedBy") {
        let manager = text(spec, "/managedBy");
        if manager.len() > MANAGER_LENGTH {
            errors.too_long(format!("{field}.managedBy"), MANAGER_LENGTH);
        }
        errors.rule(format!("{field}.managedBy"), manager, domain_prefixed(manager));
    }
    if has(spec, "/template") {
        let template = at(spec, "/template");
        template::validate_template(errors, &format!("{field}.template"), template, Restart::UntilFinished);
    } else {
        errors.required(format!("{field}.template"), "");
    }
}

fn domain_prefixed(name: &str) -> Result<(), String> {
    if name.contains('/') {
        return meta::qualified_name(name);
    }
    Err("must be a domain-prefixed path (such as \"acme.io/foo\")".to_owned())
}

/// What the server has generated is as it must be: nobody else's pods are taken (P-113).
fn generated(errors: &mut Errors, new: &Value) {
    let mut expected = json!({});
    for (keys, pointer) in [(UID_LABELS, "/metadata/uid"), (NAME_LABELS, "/metadata/name")] {
        let value = text(new, pointer);
        for key in keys {
            expected[key] = json!(value);
            let found = &at(new, "/spec/template/metadata/labels")[key];
            if found != value {
                let field = format!("spec.template.metadata.labels[{key}]");
                errors.invalid(field, found.clone(), format!("must be '{value}'"));
            }
        }
    }
    let selector = at(new, "/spec/selector");
    if !meta::selector_matches(selector, &expected) {
        errors.invalid("spec.selector", selector.clone(), "`selector` not auto-generated");
    }
}

fn unchanged(errors: &mut Errors, new: &Value, old: &Value) {
    for name in FIXED {
        errors.immutable(format!("spec.{name}"), &new[name], &old[name]);
    }
    // An indexed Job may grow and shrink as a whole.
    let elastic = text(new, "/completionMode") == "Indexed" && new["completions"] == new["parallelism"];
    if !elastic {
        errors.immutable("spec.completions", &new["completions"], &old["completions"]);
    }
    // While it is suspended, where its pods may run is open.
    let fixed = |spec: &Value| {
        let mut template = at(spec, "/template").clone();
        if is_true(old, "/suspend") {
            for (parent, fields) in [
                ("/metadata", &["labels", "annotations"][..]),
                ("/spec", &["nodeSelector", "affinity", "tolerations", "schedulingGates"]),
            ] {
                if let Some(parent) = template.pointer_mut(parent).and_then(Value::as_object_mut) {
                    parent.retain(|field, _| !fields.contains(&field.as_str()));
                }
            }
        }
        template
    };
    if fixed(new) != fixed(old) {
        errors.immutable("spec.template", at(new, "/template"), at(old, "/template"));
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::job;
    use super::*;

    fn fields(new: &Value, old: Option<&Value>) -> Vec<String> {
        validate(new, old).into_iter().map(|error| error.field).collect()
    }

    #[test]
    fn on_create() {
        let pod = |policy: Value| json!({"template": {"spec": {"restartPolicy": policy, "containers": [{"name": "c", "image": "i"}]}}});
        let rows = [
            ("P-113", json!({}), vec![]),
            ("P-113", pod(json!("OnFailure")), vec![]),
            ("P-113", pod(Value::Null), vec!["spec.template.spec.restartPolicy"]),
            ("P-113", json!({"parallelism": -1, "backoffLimit": -1}), vec!["spec.parallelism", "spec.backoffLimit"]),
            (
                "P-113",
                json!({"selector": {"matchLabels": {"app": "x"}}}),
                vec!["spec.template.metadata.labels", "spec.selector"],
            ),
            ("P-113", json!({"manualSelector": true}), vec!["spec.selector"]),
            ("managed", json!({"managedBy": "example.com/queue"}), vec![]),
            ("managed by whom?", json!({"managedBy": "queue"}), vec!["spec.managedBy"]),
            ("managed by many words", json!({"managedBy": format!("a.b/{}", "c".repeat(60))}), vec!["spec.managedBy"]),
            ("P-114", json!({"completionMode": "Indexed", "completions": 3}), vec![]),
            ("P-114", json!({"completionMode": "Indexed", "parallelism": 2}), vec!["spec.completions"]),
            ("P-114", json!({"completionMode": "Twice"}), vec!["spec.completionMode"]),
        ];
        for (statement, change, expected) in rows {
            assert_eq!(fields(&job(change.clone()), None), expected, "{statement}: {change}");
        }
    }

    #[test]
    fn on_update() {
        let change = |mut object: Value, pointer: &str, value: Value| {
            let (parent, field) = pointer.rsplit_once('/').unwrap();
            object.pointer_mut(parent).unwrap()[field] = value;
            object
        };
        let plain = job(json!({}));
        let suspended = job(json!({"suspend": true}));
        let indexed = job(json!({"completionMode": "Indexed", "completions": 3, "parallelism": 3}));
        let image = "/spec/template/spec/containers/0/image";
        let mut grown = change(indexed.clone(), "/spec/completions", json!(5));
        assert_eq!(fields(&grown, Some(&indexed)), ["spec.completions"], "A-067");
        grown["spec"]["parallelism"] = json!(5);
        assert!(fields(&grown, Some(&indexed)).is_empty(), "P-114");
        let by_index = job(json!({"completionMode": "Indexed", "completions": 3, "backoffLimitPerIndex": 1}));
        let early = json!({"rules": [{"succeededCount": 1}]});
        let policy = json!({"rules": []});
        let rows = [
            ("A-067", &plain, "/spec/parallelism", json!(4), vec![]),
            ("A-067", &plain, "/spec/suspend", json!(true), vec![]),
            ("A-067", &plain, "/spec/completions", json!(4), vec!["spec.completions"]),
            ("A-067", &plain, image, json!("other"), vec!["spec.template"]),
            ("A-067", &plain, "/spec/template/spec/nodeSelector", json!({"a": "b"}), vec!["spec.template"]),
            ("A-067", &suspended, "/spec/template/spec/nodeSelector", json!({"a": "b"}), vec![]),
            ("A-067", &suspended, image, json!("other"), vec!["spec.template"]),
            ("fixed", &plain, "/spec/managedBy", json!("example.com/queue"), vec!["spec.managedBy"]),
            ("fixed", &indexed, "/spec/backoffLimitPerIndex", json!(1), vec!["spec.backoffLimitPerIndex"]),
            ("fixed", &indexed, "/spec/successPolicy", early, vec!["spec.successPolicy"]),
            (
                "fixed",
                &plain,
                "/spec/podFailurePolicy",
                policy,
                vec!["spec.podReplacementPolicy", "spec.podFailurePolicy"],
            ),
            ("free", &plain, "/spec/backoffLimit", json!(1), vec![]),
            ("free", &plain, "/spec/podReplacementPolicy", json!("Failed"), vec![]),
            ("free", &by_index, "/spec/maxFailedIndexes", json!(1), vec![]),
            ("A-067", &plain, "/spec/selector", json!({"matchLabels": {"job-name": "j"}}), vec!["spec.selector"]),
        ];
        for (statement, old, pointer, value, expected) in rows {
            assert_eq!(fields(&change(old.clone(), pointer, value), Some(old)), expected, "{statement}: {pointer}");
        }
    }
}
