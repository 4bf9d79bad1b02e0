//! ControllerRevision: a template as it once was, kept so that a StatefulSet or DaemonSet can go back to it.

use serde_json::Value;

use super::check::Errors;
use super::json::{at, has, integer, is_true, list, text};
use super::printing::or_none;
use crate::registry::{Column, FieldError, Resource};
use crate::table;

const COLUMNS: &[Column] = &[
    Column::NAME,
    Column::text("Controller", "Whose template it is."),
    Column::integer("Revision", "Its number; the newest is the highest."),
    Column::AGE,
];

pub(super) fn resource() -> Resource {
    Resource {
        group: "apps",
        kind: "ControllerRevision",
        plural: "controllerrevisions",
        singular: "controllerrevision",
        columns: COLUMNS,
        row: |object, now| {
            vec![
                table::name(object).into(),
                or_none(controller(object)),
                integer(object, "/revision").unwrap_or_default().into(),
                table::age(object, now).into(),
            ]
        },
        validate,
        ..Resource::BASE
    }
}

/// `statefulset.apps/web`
fn controller(object: &Value) -> String {
    let owners = list(object, "/metadata/ownerReferences");
    let Some(owner) = owners.iter().find(|owner| is_true(owner, "/controller")) else { return String::new() };
    let kind = text(owner, "/kind").to_lowercase();
    match text(owner, "/apiVersion").split_once('/') {
        Some((group, _)) => format!("{kind}.{group}/{}", text(owner, "/name")),
        None => format!("{kind}/{}", text(owner, "/name")),
    }
}

fn validate(new: &Value, old: Option<&Value>) -> Vec<FieldError> {
    let mut errors = Errors::default();
    if !has(new, "/data") {
        errors.required("data", "data is mandatory");
    }
    errors.not_negative("revision", integer(new, "/revision"));
    if let Some(old) = old {
        errors.immutable("data", at(new, "/data"), at(old, "/data"));
    }
    errors.into_list()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    // A-067
    #[test]
    fn the_past_does_not_change() {
        let old = json!({"metadata": {"name": "r"}, "data": {"spec": 1}, "revision": 1});
        let fields =
            |new: Value, old: Option<&Value>| validate(&new, old).into_iter().map(|e| e.field).collect::<Vec<_>>();
        assert!(fields(old.clone(), None).is_empty());
        assert_eq!(fields(json!({"revision": -1}), None), ["data", "revision"]);
        assert_eq!(fields(json!({"data": {"spec": 2}, "revision": 2}), Some(&old)), ["data"]);
        assert!(fields(json!({"data": {"spec": 1}, "revision": 2}), Some(&old)).is_empty());
    }

    // A-164
    #[test]
    fn the_table_shows_the_controller() {
        let owner = json!({"apiVersion": "apps/v1", "kind": "StatefulSet", "name": "web", "controller": true});
        let object = json!({"metadata": {"name": "web-1", "ownerReferences": [owner]}, "revision": 3});
        let cells = (resource().row)(&object, jiff::Timestamp::UNIX_EPOCH);
        assert_eq!(Value::from(cells), json!(["web-1", "statefulset.apps/web", 3, "<unknown>"]));
    }
}
