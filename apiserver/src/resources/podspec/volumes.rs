//! The rules of a pod's volumes.

use std::collections::BTreeSet;

use serde_json::Value;

use crate::resources::check::Errors;
use crate::resources::json::{entries, list, text};
use crate::resources::meta;

/// Checks the volumes and returns their names, which mounts may refer to.
pub(super) fn validate<'a>(errors: &mut Errors, field: &str, volumes: &'a [Value]) -> BTreeSet<&'a str> {
    let mut names = BTreeSet::new();
    for (index, volume) in volumes.iter().enumerate() {
        let field = format!("{field}[{index}]");
        let name = text(volume, "/name");
        if name.is_empty() {
            errors.required(format!("{field}.name"), "");
        } else {
            errors.rule(format!("{field}.name"), name, meta::label_1123(name));
            if !names.insert(name) {
                errors.duplicate(format!("{field}.name"), name);
            }
        }
        let sources: Vec<&str> =
            entries(volume, "").filter(|(key, value)| *key != "name" && !value.is_null()).map(|(key, _)| key).collect();
        match sources.as_slice() {
            [] => errors.required(field, "must specify a volume type"),
            [source] => check_source(errors, &format!("{field}.{source}"), source, &volume[*source]),
            [_, second, ..] => errors.forbidden(format!("{field}.{second}"), "may not specify more than 1 volume type"),
        }
    }
    names
}

fn check_source(errors: &mut Errors, field: &str, kind: &str, source: &Value) {
    let reference = match kind {
        "configMap" => "name",
        "secret" => "secretName",
        "hostPath" => "path",
        "persistentVolumeClaim" => "claimName",
        _ => "",
    };
    if !reference.is_empty() && text(source, &format!("/{reference}")).is_empty() {
        errors.required(format!("{field}.{reference}"), "");
    }
    if kind == "hostPath" && text(source, "/path").split('/').any(|part| part == "..") {
        errors.invalid(format!("{field}.path"), text(source, "/path"), "must not contain '..'");
    }
    items(errors, field, source);
    for (index, part) in list(source, "/sources").iter().enumerate() {
        for (kind, part) in entries(part, "").filter(|(_, part)| !part.is_null()) {
            items(errors, &format!("{field}.sources[{index}].{kind}"), part);
        }
    }
}

fn items(errors: &mut Errors, field: &str, source: &Value) {
    for (index, item) in list(source, "/items").iter().enumerate() {
        let path = text(item, "/path");
        if path.is_empty() {
            errors.required(format!("{field}.items[{index}].path"), "");
        } else if path.starts_with('/') || path.split('/').any(|part| part == "..") {
            errors.invalid(format!("{field}.items[{index}].path"), path, "must be a relative path without '..'");
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn each_volume_has_a_unique_name_and_one_source() {
        let volumes = [
            json!({"name": "a", "emptyDir": {}}),
            json!({"name": "a", "emptyDir": {}, "hostPath": {"path": "/x"}}),
            json!({"name": "", "secret": {}}),
            json!({"name": "b"}),
            json!({"name": "c", "hostPath": {"path": "/a/../b"}}),
            json!({"name": "d", "projected": {"sources": [{"configMap": {"items": [{"key": "k", "path": "/abs"}]}}]}}),
        ];
        let mut errors = Errors::default();
        let names = validate(&mut errors, "v", &volumes);
        assert_eq!(names, BTreeSet::from(["a", "b", "c", "d"]));
        let found: Vec<String> = errors.into_list().into_iter().map(|error| error.field).collect();
        let expected = [
            "v[1].name",
            "v[1].hostPath",
            "v[2].name",
            "v[2].secret.secretName",
            "v[3]",
            "v[4].hostPath.path",
            "v[5].projected.sources[0].configMap.items[0].path",
        ];
        assert_eq!(found, expected);
    }
}
