//! Event, in both groups over one store: what happened to an object, for people to read.
//!
//! The stored form is the core one; `events.k8s.io/v1` is another spelling of the same fields.

use serde_json::Value;

use super::check::Errors;
use super::json::{at, has, integer, remove, set, text};
use super::meta;
use crate::registry::{Column, FieldError, Resource, StoredAs};
use crate::table;

/// The fields that have another name in `events.k8s.io/v1`: (core, other).
const SPELLINGS: [(&str, &str); 7] = [
    ("involvedObject", "regarding"),
    ("message", "note"),
    ("reportingComponent", "reportingController"),
    ("source", "deprecatedSource"),
    ("firstTimestamp", "deprecatedFirstTimestamp"),
    ("lastTimestamp", "deprecatedLastTimestamp"),
    ("count", "deprecatedCount"),
];
/// Where events about cluster-scoped objects may be written.
const CLUSTER_NAMESPACES: [&str; 2] = ["default", "kube-system"];

const CORE_NAMES: &[&str] = &[
    "involvedObject.kind",
    "involvedObject.namespace",
    "involvedObject.name",
    "involvedObject.uid",
    "involvedObject.apiVersion",
    "involvedObject.resourceVersion",
    "involvedObject.fieldPath",
    "reason",
    "reportingComponent",
    "source",
    "type",
];
const OTHER_NAMES: &[&str] = &[
    "regarding.kind",
    "regarding.namespace",
    "regarding.name",
    "regarding.uid",
    "regarding.apiVersion",
    "regarding.resourceVersion",
    "regarding.fieldPath",
    "reason",
    "reportingController",
    "type",
];

const COLUMNS: &[Column] = &[
    Column::text("Last Seen", "Time since it last happened."),
    Column::text("Type", "Normal or Warning."),
    Column::text("Reason", "One word for what happened."),
    Column::text("Object", "Kind and name of what it happened to."),
    Column::text("Subobject", "The part of the object it happened to.").wide(),
    Column::text("Source", "Who reported it, and from where.").wide(),
    Column::text("Message", "What happened."),
    Column::text("First Seen", "Time since it first happened.").wide(),
    Column::integer("Count", "How often it happened.").wide(),
    Column { priority: 1, ..Column::NAME },
];

pub(super) fn core() -> Resource {
    Resource {
        selectable: |event| selectable(event, CORE_NAMES),
        selectable_names: CORE_NAMES,
        row: |event, now| row(event, now),
        validate: |new, _old| validate(new),
        ..base()
    }
}

pub(super) fn events_group() -> Resource {
    Resource {
        group: "events.k8s.io",
        selectable: |event| selectable(event, OTHER_NAMES),
        selectable_names: OTHER_NAMES,
        row: |event, now| row(&core_form(event), now),
        validate: |new, old| {
            let mut errors = Errors::default();
            if old.is_none() && !has(new, "/eventTime") {
                errors.required("eventTime", "");
            }
            let mut errors = errors.into_list();
            errors.extend(validate(&core_form(new)).into_iter().map(other_field));
            errors
        },
        stored_as: Some(StoredAs {
            storage: "events",
            to_stored: |event| respell(event, "v1", SPELLINGS.map(|(core, other)| (other, core))),
            from_stored: |event| respell(event, "events.k8s.io/v1", SPELLINGS),
        }),
        ..base()
    }
}

fn base() -> Resource {
    Resource {
        kind: "Event",
        plural: "events",
        singular: "event",
        short_names: &["ev"],
        allow_create_on_update: true,
        columns: COLUMNS,
        ..Resource::BASE
    }
}

fn respell(event: &mut Value, api_version: &str, spellings: [(&str, &str); 7]) {
    set(event, "apiVersion", api_version);
    for (from, to) in spellings {
        if let Some(value) = remove(event, from) {
            set(event, to, value);
        }
    }
}

fn core_form(event: &Value) -> Value {
    let mut event = event.clone();
    respell(&mut event, "v1", SPELLINGS.map(|(core, other)| (other, core)));
    event
}

fn other_field(mut error: FieldError) -> FieldError {
    for (core, other) in SPELLINGS {
        if let Some(rest) = error.field.strip_prefix(core) {
            error.field = format!("{other}{rest}");
            break;
        }
    }
    error
}

fn selectable(event: &Value, names: &[&'static str]) -> Vec<(&'static str, String)> {
    let one = |name: &&'static str| {
        let value = match *name {
            "source" => source(event).0,
            "reportingComponent" | "reportingController" => reporter(event),
            path => text(event, &format!("/{}", path.replace('.', "/"))),
        };
        (*name, value.to_owned())
    };
    names.iter().map(one).collect()
}

fn reporter(event: &Value) -> &str {
    let core = text(event, "/reportingComponent");
    if core.is_empty() { text(event, "/reportingController") } else { core }
}

/// Component and host; the newer fields stand in where the older ones are empty.
fn source(event: &Value) -> (&str, &str) {
    let component = text(event, "/source/component");
    if component.is_empty() {
        (reporter(event), text(event, "/reportingInstance"))
    } else {
        (component, text(event, "/source/host"))
    }
}

/// Old-style events are taken as they are; those with an `eventTime` follow the stricter rules of the newer group.
fn validate(event: &Value) -> Vec<FieldError> {
    let mut errors = Errors::default();
    let namespace = text(event, "/metadata/namespace");
    let involved = text(event, "/involvedObject/namespace");
    let fits = if involved.is_empty() { CLUSTER_NAMESPACES.contains(&namespace) } else { involved == namespace };
    if !fits {
        errors.invalid("involvedObject.namespace", involved, "does not match event.namespace");
    }
    if !has(event, "/eventTime") {
        return errors.into_list();
    }
    let reporter = text(event, "/reportingComponent");
    if reporter.is_empty() {
        errors.required("reportingComponent", "");
    } else {
        errors.rule("reportingComponent", reporter, meta::qualified_name(reporter));
    }
    for field in ["reportingInstance", "action", "reason"] {
        let value = text(event, &format!("/{field}"));
        match value.len() {
            0 => errors.required(field, ""),
            1..=128 => {}
            _ => errors.too_long(field, 128),
        }
    }
    if text(event, "/message").len() > 1024 {
        errors.too_long("message", 1024);
    }
    let kind = text(event, "/type");
    if !["Normal", "Warning"].contains(&kind) {
        errors.invalid("type", kind, "has invalid value");
    }
    errors.into_list()
}

fn row(event: &Value, now: jiff::Timestamp) -> Vec<Value> {
    let since = |pointer: &str| table::since(event.pointer(pointer), now);
    let first = if has(event, "/firstTimestamp") { since("/firstTimestamp") } else { since("/eventTime") };
    let last = match () {
        () if has(event, "/series") => since("/series/lastObservedTime"),
        () if has(event, "/lastTimestamp") => since("/lastTimestamp"),
        () => first.clone(),
    };
    let count = integer(event, "/series/count").or_else(|| integer(event, "/count")).unwrap_or_default().max(1);
    let kind = text(event, "/involvedObject/kind").to_lowercase();
    let object = match text(event, "/involvedObject/name") {
        "" => kind,
        name => format!("{kind}/{name}"),
    };
    let source = match source(event) {
        (component, "") => component.to_owned(),
        (component, host) => format!("{component}, {host}"),
    };
    vec![
        last.into(),
        at(event, "/type").clone(),
        at(event, "/reason").clone(),
        object.into(),
        text(event, "/involvedObject/fieldPath").into(),
        source.into(),
        text(event, "/message").trim().into(),
        first.into(),
        count.into(),
        table::name(event).into(),
    ]
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn new_style() -> Value {
        json!({
            "apiVersion": "events.k8s.io/v1", "kind": "Event", "metadata": {"name": "e", "namespace": "a"},
            "regarding": {"kind": "Pod", "namespace": "a", "name": "p", "fieldPath": "spec"},
            "note": " started ", "reason": "Started", "type": "Normal", "action": "Start",
            "reportingController": "minisvc.dev/podd", "reportingInstance": "n1",
            "eventTime": "1970-01-01T00:00:00.000000Z",
            "series": {"count": 3, "lastObservedTime": "1970-01-01T00:01:00.000000Z"},
        })
    }

    //
    #[test]
    fn both_groups_are_spellings_of_one_object() {
        let stored_as = events_group().stored_as.unwrap();
        let mut event = new_style();
        (stored_as.to_stored)(&mut event);
        assert_eq!((&event["apiVersion"], &event["involvedObject"]["name"]), (&json!("v1"), &json!("p")));
        assert_eq!(
            (&event["message"], &event["reportingComponent"]),
            (&json!(" started "), &json!("minisvc.dev/podd"))
        );
        assert!(event.get("note").is_none());
        (stored_as.from_stored)(&mut event);
        assert_eq!(event, new_style());
    }

    //
    #[test]
    fn describe_finds_events_by_object() {
        let found = (events_group().selectable)(&new_style());
        assert!(found.contains(&("regarding.name", "p".to_owned())));
        assert!(found.contains(&("reportingController", "minisvc.dev/podd".to_owned())));
        let found = (core().selectable)(&core_form(&new_style()));
        assert!(found.contains(&("involvedObject.name", "p".to_owned())));
        assert!(found.contains(&("involvedObject.uid", String::new())));
        assert!(found.contains(&("source", "minisvc.dev/podd".to_owned())));
        assert_eq!(found.len(), CORE_NAMES.len());
    }

    //
    #[test]
    fn the_table_falls_back_to_the_newer_fields() {
        let now = jiff::Timestamp::from_second(100).unwrap();
        let expected =
            json!(["40s", "Normal", "Started", "pod/p", "spec", "minisvc.dev/podd, n1", "started", "100s", 3, "e"]);
        assert_eq!(Value::from((events_group().row)(&new_style(), now)), expected);
        let old_style = json!({
            "metadata": {"name": "e"}, "involvedObject": {"kind": "Node", "name": "n"}, "type": "Warning",
            "reason": "Gone", "message": "m", "source": {"component": "c"}, "count": 2,
            "firstTimestamp": "1970-01-01T00:00:40Z", "lastTimestamp": "1970-01-01T00:01:30Z",
        });
        let expected = json!(["10s", "Warning", "Gone", "node/n", "", "c", "m", "60s", 2, "e"]);
        assert_eq!(Value::from((core().row)(&old_style, now)), expected);
    }

    #[test]
    fn newer_events_have_stricter_rules() {
        assert!((events_group().validate)(&new_style(), None).is_empty());
        let mut bad = new_style();
        bad["regarding"]["namespace"] = json!("b");
        bad["action"] = json!("");
        bad["note"] = json!("x".repeat(1025));
        bad["type"] = json!("Odd");
        let found: Vec<String> = (events_group().validate)(&bad, None).into_iter().map(|e| e.field).collect();
        assert_eq!(found, ["regarding.namespace", "action", "note", "type"]);
        let old_style = json!({"metadata": {"namespace": "default"}, "involvedObject": {"kind": "Node", "name": "n"}});
        assert!((core().validate)(&old_style, None).is_empty());
    }
}
