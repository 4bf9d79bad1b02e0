//! CronJob: Jobs by the clock.

mod schedule;

use serde_json::{Value, json};

use super::check::Errors;
use super::json::{at, child, has, integer, is_true, list, set, set_default, set_default_text, text};
use super::printing::{containers_and_images, label_selector, or_none};
use super::{job, template};
use crate::registry::{Column, FieldError, Resource, Subresource};
use crate::table;

/// A Job's name is the CronJob's and eleven characters more, and must fit a label.
const NAME_LENGTH: usize = 52;

const COLUMNS: &[Column] = &[
    Column::NAME,
    Column::text("Schedule", "When it makes Jobs."),
    Column::text("Timezone", "Whose time the schedule is in."),
    Column::text("Suspend", "Whether it makes no Jobs for now."),
    Column::integer("Active", "How many of its Jobs run."),
    Column::text("Last Schedule", "Time since it last made a Job."),
    Column::AGE,
    Column::text("Containers", "Names of the template's containers.").wide(),
    Column::text("Images", "Images of the template's containers.").wide(),
    Column::text("Selector", "Which pods belong to its Jobs.").wide(),
];

pub(super) fn resource() -> Resource {
    Resource {
        group: "batch",
        kind: "CronJob",
        plural: "cronjobs",
        singular: "cronjob",
        short_names: &["cj"],
        categories: &["all"],
        has_status: true,
        has_generation: true,
        subresources: &[Subresource::Status],
        columns: COLUMNS,
        row,
        default,
        prepare: |new, old| {
            if old.is_none() {
                set(new, "status", json!({}));
            }
        },
        validate,
        ..Resource::BASE
    }
}

fn default(object: &mut Value) {
    let Some(spec) = child(object, "spec") else { return };
    set_default_text(spec, "concurrencyPolicy", "Allow");
    set_default(spec, "suspend", false);
    set_default(spec, "successfulJobsHistoryLimit", 3);
    set_default(spec, "failedJobsHistoryLimit", 1);
    if let Some(job) = spec.pointer_mut("/jobTemplate/spec") {
        job::default_policy(job);
    }
    if let Some(template) = spec.pointer_mut("/jobTemplate/spec/template") {
        template::default_template(template);
    }
}

fn validate(new: &Value, old: Option<&Value>) -> Vec<FieldError> {
    let mut errors = Errors::default();
    let name = text(new, "/metadata/name");
    if old.is_none() && name.len() > NAME_LENGTH {
        errors.invalid("metadata.name", name, format!("must be no more than {NAME_LENGTH} characters"));
    }
    let written = text(new, "/spec/schedule");
    if written.is_empty() {
        errors.required("spec.schedule", "");
    } else if let Err(why) = schedule::check(written) {
        errors.invalid("spec.schedule", written, why);
    }
    if has(new, "/spec/timeZone") {
        let zone = text(new, "/spec/timeZone");
        errors.rule("spec.timeZone", zone, time_zone(zone));
    }
    for name in ["startingDeadlineSeconds", "successfulJobsHistoryLimit", "failedJobsHistoryLimit"] {
        errors.not_negative(format!("spec.{name}"), integer(new, &format!("/spec/{name}")));
    }
    let policy = text(new, "/spec/concurrencyPolicy");
    errors.one_of("spec.concurrencyPolicy", policy, &["Allow", "Forbid", "Replace"]);
    if !has(new, "/spec/jobTemplate") {
        errors.required("spec.jobTemplate", "");
        return errors.into_list();
    }
    let template = at(new, "/spec/jobTemplate/spec");
    if has(template, "/selector") && !is_true(template, "/manualSelector") {
        let selector = at(template, "/selector").clone();
        errors.invalid("spec.jobTemplate.spec.selector", selector, "`selector` will be auto-generated");
    }
    if is_true(template, "/manualSelector") {
        errors.unsupported("spec.jobTemplate.spec.manualSelector", "true", &["nil", "false"]);
    }
    job::validate_spec(&mut errors, "spec.jobTemplate.spec", template);
    errors.into_list()
}

fn time_zone(name: &str) -> Result<(), String> {
    if name.is_empty() || name.eq_ignore_ascii_case("local") {
        return Err("timeZone must be the name of a time zone such as Europe/Berlin".to_owned());
    }
    // A machine without a list of time zones cannot tell; whoever runs the schedule will.
    let zones = jiff::tz::db();
    if zones.is_definitively_empty() || zones.get(name).is_ok() {
        return Ok(());
    }
    Err(format!("unknown time zone {name}"))
}

fn row(object: &Value, now: jiff::Timestamp) -> Vec<Value> {
    let template = at(object, "/spec/jobTemplate/spec");
    let [containers, images] = containers_and_images(at(template, "/template/spec"));
    let last = at(object, "/status/lastScheduleTime");
    let suspend = match at(object, "/spec/suspend") {
        Value::Bool(true) => "True",
        Value::Bool(false) => "False",
        _ => "<unset>",
    };
    vec![
        table::name(object).into(),
        text(object, "/spec/schedule").into(),
        or_none(text(object, "/spec/timeZone")),
        suspend.into(),
        list(object, "/status/active").len().into(),
        or_none(if last.is_null() { String::new() } else { table::since(Some(last), now) }),
        table::age(object, now).into(),
        containers,
        images,
        label_selector(at(template, "/selector")),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cron_job(change: Value) -> Value {
        let mut object = json!({"metadata": {"name": "c"}, "spec": {"schedule": "*/5 * * * *", "jobTemplate": {"spec": {
            "template": {"spec": {"restartPolicy": "OnFailure", "containers": [{"name": "c", "image": "i"}]}},
        }}}});
        for (key, value) in change.as_object().unwrap() {
            object["spec"][key] = value.clone();
        }
        default(&mut object);
        object
    }

    fn fields(object: &Value) -> Vec<String> {
        validate(object, None).into_iter().map(|error| error.field).collect()
    }

    //
    #[test]
    fn defaults() {
        let object = cron_job(json!({}));
        let expected = [
            ("concurrencyPolicy", json!("Allow")),
            ("suspend", json!(false)),
            ("successfulJobsHistoryLimit", json!(3)),
            ("failedJobsHistoryLimit", json!(1)),
        ];
        for (field, value) in expected {
            assert_eq!(object["spec"][field], value, "{field}");
        }
        // What a Job fills in is left to the Job.
        assert_eq!(object["spec"]["jobTemplate"]["spec"].get("backoffLimit"), None);
        assert_eq!(object["spec"]["jobTemplate"]["spec"]["template"]["spec"]["dnsPolicy"], "ClusterFirst");
        assert!(fields(&object).is_empty());
    }

    #[test]
    fn each_rule_names_its_field() {
        let template = json!({"spec": {"selector": {}, "parallelism": -1, "template": {"spec": {"containers": [{"name": "c", "image": "i"}]}}}});
        let inner =
            ["selector", "parallelism", "template.spec.restartPolicy"].map(|f| format!("spec.jobTemplate.spec.{f}"));
        let rows = [
            (json!({"schedule": ""}), vec!["spec.schedule"]),
            (json!({"schedule": "60 * * * *"}), vec!["spec.schedule"]),
            (json!({"timeZone": "Etc/UTC"}), vec![]),
            (json!({"timeZone": "Local"}), vec!["spec.timeZone"]),
            (json!({"concurrencyPolicy": "Maybe"}), vec!["spec.concurrencyPolicy"]),
            (json!({"startingDeadlineSeconds": -1}), vec!["spec.startingDeadlineSeconds"]),
            (json!({"jobTemplate": null}), vec!["spec.jobTemplate"]),
            (json!({"jobTemplate": template}), inner.iter().map(String::as_str).collect()),
        ];
        for (change, expected) in rows {
            assert_eq!(fields(&cron_job(change.clone())), expected, "{change}");
        }
        let mut long = cron_job(json!({}));
        long["metadata"]["name"] = json!("x".repeat(53));
        assert_eq!(fields(&long), ["metadata.name"]);
    }

    //
    #[test]
    fn the_table_shows_the_schedule() {
        let mut object = cron_job(json!({"suspend": true}));
        let cells = |object: &Value| Value::from(row(object, jiff::Timestamp::from_second(5).unwrap())[..6].to_vec());
        assert_eq!(cells(&object), json!(["c", "*/5 * * * *", "<none>", "True", 0, "<none>"]));
        object["status"] = json!({"active": [{}], "lastScheduleTime": "1970-01-01T00:00:00Z"});
        assert_eq!(cells(&object), json!(["c", "*/5 * * * *", "<none>", "True", 1, "5s"]));
    }
}
