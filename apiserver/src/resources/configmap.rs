//! ConfigMap: named texts and blobs for pods.

use serde_json::Value;

use super::check::Errors;
use super::json::{at, entries, has, is_true, size};
use super::meta;
use crate::registry::{Column, FieldError, Resource};
use crate::table;

/// All values of one ConfigMap or Secret together, in bytes.
pub(super) const DATA_BYTES: usize = 1024 * 1024;

const COLUMNS: &[Column] =
    &[Column::NAME, Column::integer("Data", "How many entries data and binaryData have."), Column::AGE];

pub(super) fn resource() -> Resource {
    Resource {
        kind: "ConfigMap",
        plural: "configmaps",
        singular: "configmap",
        short_names: &["cm"],
        columns: COLUMNS,
        row: |object, now| {
            let count = size(object, "/data") + size(object, "/binaryData");
            vec![table::name(object).into(), count.into(), table::age(object, now).into()]
        },
        validate,
        ..Resource::BASE
    }
}

fn validate(new: &Value, old: Option<&Value>) -> Vec<FieldError> {
    let mut errors = Errors::default();
    let mut bytes = 0;
    for (key, value) in entries(new, "/data").chain(entries(new, "/binaryData")) {
        let field = if at(new, "/data").get(key).is_some() { "data" } else { "binaryData" };
        errors.rule(format!("{field}[{key}]"), key, meta::data_key(key));
        bytes += value.as_str().unwrap_or_default().len();
    }
    for (key, _) in entries(new, "/binaryData") {
        if has(at(new, "/data"), &format!("/{key}")) {
            errors.invalid(format!("data[{key}]"), key, "duplicate of key present in binaryData");
        }
    }
    if bytes > DATA_BYTES {
        errors.too_long("", DATA_BYTES);
    }
    if let Some(old) = old {
        check_immutable(&mut errors, new, old, &["data", "binaryData"]);
    }
    errors.into_list()
}

/// `immutable: true` can neither be taken back nor can what it protects change.
pub(super) fn check_immutable(errors: &mut Errors, new: &Value, old: &Value, protected: &[&str]) {
    if !is_true(old, "/immutable") {
        return;
    }
    if !is_true(new, "/immutable") {
        errors.forbidden("immutable", "field is immutable when `immutable` is set");
    }
    for field in protected {
        if size(new, &format!("/{field}")) + size(old, &format!("/{field}")) > 0 && new.get(field) != old.get(field) {
            errors.forbidden(*field, "field is immutable when `immutable` is set");
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    //
    #[test]
    fn immutable_data_stays() {
        let old = json!({"immutable": true, "data": {"a": "1"}});
        let rows = [
            (json!({"immutable": true, "data": {"a": "1"}, "metadata": {"labels": {"x": "y"}}}), vec![]),
            (json!({"immutable": true, "data": {"a": "2"}}), vec!["data"]),
            (json!({"data": {"a": "1"}}), vec!["immutable"]),
            (json!({"immutable": true, "data": {"a": "1"}, "binaryData": {"b": ""}}), vec!["binaryData"]),
        ];
        for (new, expected) in rows {
            let found: Vec<String> = validate(&new, Some(&old)).into_iter().map(|e| e.field).collect();
            assert_eq!(found, expected, "{new}");
        }
    }

    #[test]
    fn keys_are_file_names_and_unique_over_both_maps() {
        let new = json!({"data": {"a.conf": "x", "..x": "", "both": ""}, "binaryData": {"both": "", "a/b": ""}});
        let found: Vec<String> = validate(&new, None).into_iter().map(|e| e.field).collect();
        assert_eq!(found, ["data[..x]", "binaryData[a/b]", "data[both]"]);
        let large = json!({"data": {"a": "x".repeat(DATA_BYTES + 1)}});
        assert_eq!(validate(&large, None).len(), 1);
    }

    //
    #[test]
    fn the_table_counts_both_maps() {
        let object = json!({"metadata": {"name": "c"}, "data": {"a": ""}, "binaryData": {"b": "", "c": ""}});
        let row = (resource().row)(&object, jiff::Timestamp::UNIX_EPOCH);
        assert_eq!(row, [json!("c"), json!(3), json!("<unknown>")]);
    }
}
