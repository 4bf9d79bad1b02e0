//! Fault: packets between places come late, wrong or not at all, for a time. Not of Kubernetes; netd does what it says.

use serde_json::Value;

use super::check::Errors;
use super::json::{at, text};
use crate::registry::{Column, FieldError, Resource, Subresource};
use crate::table;

const COLUMNS: &[Column] = &[
    Column::NAME,
    Column::text("From", "Where packets come from."),
    Column::text("To", "Where they go to."),
    Column::text("Effect", "What happens to them."),
    Column::text("Remaining", "For how long yet."),
    Column::AGE,
];

/// Fields of `spec`, besides its sides.
const NUMBERS: [&str; 9] = [
    "delayMilliseconds",
    "jitterMilliseconds",
    "lossPercent",
    "duplicatePercent",
    "reorderPercent",
    "corruptPercent",
    "rateKilobitsPerSecond",
    "durationSeconds",
    "seed",
];
const SWITCHES: [&str; 3] = ["oneWay", "refuse", "partition"];

/// Fields of a side.
const TEXTS: [&str; 5] = ["namespace", "pod", "service", "node", "zone"];
const PLACES: [&str; 2] = ["workstation", "outside"];

/// Without any of these a Fault does nothing.
const EFFECTS: [&str; 8] = [
    "delayMilliseconds",
    "jitterMilliseconds",
    "lossPercent",
    "duplicatePercent",
    "reorderPercent",
    "corruptPercent",
    "rateKilobitsPerSecond",
    "refuse",
];

/// An hour: whoever waits longer does not wait any more.
const MOST_MILLISECONDS: f64 = 3_600_000.0;

/// About a century: no date beyond can be written.
const MOST_SECONDS: f64 = 3e9;

pub(super) fn resource() -> Resource {
    Resource {
        group: "minisvc.dev",
        kind: "Fault",
        plural: "faults",
        singular: "fault",
        namespaced: false,
        has_status: true,
        has_generation: true,
        subresources: &[Subresource::Status],
        columns: COLUMNS,
        row: |object, now| {
            vec![
                table::name(object).into(),
                side(at(object, "/spec/from")).into(),
                side(at(object, "/spec/to")).into(),
                effect(at(object, "/spec")).into(),
                remaining(object, now).into(),
                table::age(object, now).into(),
            ]
        },
        validate: |new, _| validate(new),
        ..Resource::BASE
    }
}

/// `pod/web-1`, `service/db in other`, `anywhere`.
fn side(side: &Value) -> String {
    let mut parts: Vec<String> = Vec::new();
    for name in ["pod", "service", "node", "zone"] {
        if let Some(value) = side[name].as_str() {
            parts.push(format!("{name}/{value}"));
        }
    }
    let labels = side["matchLabels"].as_object().into_iter().flatten();
    parts.extend(labels.map(|(key, value)| format!("{key}={}", value.as_str().unwrap_or_default())));
    parts.extend(PLACES.iter().filter(|name| side[**name] == true).map(|name| (*name).to_owned()));
    match (parts.is_empty(), text(side, "/namespace")) {
        (true, _) => "anywhere".to_owned(),
        (false, "") => parts.join(","),
        (false, namespace) => format!("{} in {namespace}", parts.join(",")),
    }
}

fn effect(spec: &Value) -> String {
    let number = |name: &str| spec[name].as_f64().filter(|number| *number > 0.0);
    let mut parts: Vec<String> = Vec::new();
    match (number("delayMilliseconds"), number("jitterMilliseconds")) {
        (None, None) => {}
        (delay, None) => parts.push(format!("delay {}ms", delay.unwrap_or_default())),
        (delay, Some(jitter)) => parts.push(format!("delay {}±{jitter}ms", delay.unwrap_or_default())),
    }
    for (name, word) in [
        ("loss", "lossPercent"),
        ("duplicate", "duplicatePercent"),
        ("reorder", "reorderPercent"),
        ("corrupt", "corruptPercent"),
    ] {
        parts.extend(number(word).map(|share| format!("{name} {share}%")));
    }
    parts.extend(number("rateKilobitsPerSecond").map(|rate| format!("rate {rate}kbit")));
    parts.extend(["refuse", "partition"].into_iter().filter(|name| spec[*name] == true).map(str::to_owned));
    parts.join(" ")
}

fn remaining(object: &Value, now: jiff::Timestamp) -> String {
    let created = text(object, "/metadata/creationTimestamp").parse::<jiff::Timestamp>();
    match (at(object, "/spec/durationSeconds").as_i64(), created) {
        (Some(seconds), Ok(created)) => {
            table::human_duration((seconds - (now.as_second() - created.as_second())).max(0))
        }
        _ => "<until removed>".to_owned(),
    }
}

fn validate(new: &Value) -> Vec<FieldError> {
    let mut errors = Errors::default();
    let spec = at(new, "/spec");
    let Some(fields) = spec.as_object() else {
        errors.required("spec", "say what is to happen, such as lossPercent: 10");
        return errors.into_list();
    };
    for (name, value) in fields {
        let field = format!("spec.{name}");
        match name.as_str() {
            "from" | "to" => check_side(&mut errors, &field, value),
            known if NUMBERS.contains(&known) => {
                if let Some(why) = wrong_number(known, value) {
                    errors.invalid(field, value.clone(), why);
                }
            }
            known if SWITCHES.contains(&known) => {
                if !value.is_boolean() {
                    errors.invalid(field, value.clone(), "must be true or false");
                }
            }
            _ => errors.invalid(
                field,
                value.clone(),
                format!("unknown field; there are from, to, {}, {}", NUMBERS.join(", "), SWITCHES.join(", ")),
            ),
        }
    }
    let is_on = |name: &&str| spec[*name] == true || spec[*name].as_f64().is_some_and(|number| number > 0.0);
    if !EFFECTS.iter().chain(&["partition"]).any(is_on) {
        errors.required("spec", &format!("at least one of {} or partition", EFFECTS.join(", ")));
    }
    errors.into_list()
}

/// What is wrong with a number, if something is.
fn wrong_number(name: &str, value: &Value) -> Option<String> {
    let is_share = name.ends_with("Percent");
    let is_whole = value.as_u64().is_some();
    match value.as_f64() {
        Some(number) if is_share => {
            (!(0.0..=100.0).contains(&number)).then(|| "must be between 0 and 100, inclusive".to_owned())
        }
        Some(_) if !is_whole => Some("must be a whole number, not below 0".to_owned()),
        Some(number) if name.ends_with("Milliseconds") => {
            (number > MOST_MILLISECONDS).then(|| format!("must be at most {MOST_MILLISECONDS}, which is an hour"))
        }
        Some(number) if matches!(name, "rateKilobitsPerSecond" | "durationSeconds") => (!(1.0..=MOST_SECONDS)
            .contains(&number))
        .then(|| format!("must be between 1 and {MOST_SECONDS}, inclusive")),
        Some(_) => None,
        None => Some("must be a number".to_owned()),
    }
}

fn check_side(errors: &mut Errors, field: &str, side: &Value) {
    let Some(fields) = side.as_object() else {
        return errors.invalid(field, side.clone(), "must say a place, such as {\"pod\": \"web-1\"}");
    };
    for (name, value) in fields {
        let field = format!("{field}.{name}");
        let (fits, why) = match name.as_str() {
            known if TEXTS.contains(&known) => (value.as_str().is_some_and(|text| !text.is_empty()), "must be a name"),
            known if PLACES.contains(&known) => (value.is_boolean(), "must be true or false"),
            "matchLabels" => {
                let is_label = |labels: &serde_json::Map<String, Value>| labels.values().all(Value::is_string);
                (value.as_object().is_some_and(is_label), "must be labels and their values")
            }
            _ => (
                false,
                "unknown field; there are namespace, pod, matchLabels, service, node, zone, workstation, outside",
            ),
        };
        if !fits {
            errors.invalid(field, value.clone(), why);
        }
    }
    let names_a_pod = ["pod", "matchLabels", "service"].iter().any(|name| fields.contains_key(*name));
    if fields.contains_key("namespace") && !names_a_pod {
        errors.invalid(field, side.clone(), "a namespace is that of a pod, a Service or labels, and none is said");
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_makes_no_sense_is_refused_with_what_would() {
        let rows: [(Value, &[(&str, &str)]); 12] = [
            (json!({"lossPercent": 12.5, "from": {"pod": "a", "namespace": "n"}, "to": {"zone": "zone-a"}}), &[]),
            (json!({"partition": true, "from": {"workstation": true}, "to": {"matchLabels": {"app": "web"}}}), &[]),
            (json!({"rateKilobitsPerSecond": 100, "durationSeconds": 60, "seed": 7, "oneWay": true}), &[]),
            (json!({}), &[("spec", "at least one of")]),
            (json!({"partition": false, "lossPercent": 0}), &[("spec", "at least one of")]),
            (json!({"lossPercent": 101}), &[("spec.lossPercent", "between 0 and 100")]),
            (json!({"delayMilliseconds": 1.5}), &[("spec.delayMilliseconds", "whole number")]),
            (
                json!({"delayMilliseconds": "100ms"}),
                &[("spec.delayMilliseconds", "must be a number"), ("spec", "at least one")],
            ),
            (json!({"refuse": true, "durationSeconds": 0}), &[("spec.durationSeconds", "between 1")]),
            (
                json!({"refuse": true, "delay": 5}),
                &[("spec.delay", "unknown field; there are from, to, delayMilliseconds")],
            ),
            (
                json!({"refuse": true, "from": {"pods": "a"}}),
                &[("spec.from.pods", "unknown field; there are namespace, pod")],
            ),
            (json!({"refuse": true, "to": {"node": "node-1", "namespace": "n"}}), &[("spec.to", "none is said")]),
        ];
        for (spec, expected) in rows {
            let found = validate(&json!({"spec": spec}));
            assert_eq!(found.len(), expected.len(), "{spec}: {found:?}");
            for (error, (field, part)) in found.iter().zip(expected) {
                assert_eq!(error.field, *field, "{spec}");
                assert!(error.detail.contains(part), "{spec}: {}", error.detail);
            }
        }
        assert_eq!(validate(&json!({"metadata": {}}))[0].field, "spec");
    }

    #[test]
    fn a_fault_is_shown_in_words() {
        let fault = json!({
            "metadata": {"name": "slow", "creationTimestamp": "1970-01-01T00:00:00Z"},
            "spec": {"from": {"pod": "a", "namespace": "n"}, "delayMilliseconds": 100, "jitterMilliseconds": 20,
                "lossPercent": 12.5, "partition": true, "durationSeconds": 60},
        });
        let cells = (resource().row)(&fault, jiff::Timestamp::from_second(15).unwrap());
        let expected = json!(["slow", "pod/a in n", "anywhere", "delay 100±20ms loss 12.5% partition", "45s", "15s"]);
        assert_eq!(Value::from(cells), expected);
    }
}
