//! What kinds share that are stored and served so that manifests are understood, but that nothing acts on.

use serde_json::Value;

use super::check::Errors;
use super::json::{at, text};
use crate::registry::{FieldError, Resource};

/// What the kinds that nothing acts on have in common.
pub(super) const INERT: Resource = Resource { warnings, ..Resource::BASE };

/// Nobody should wait for an effect that will not come.
fn warnings(new: &Value, old: Option<&Value>) -> Vec<String> {
    if old.is_some() {
        return Vec::new();
    }
    vec![format!("minisvc stores objects of kind {} and does not act on them", text(new, "/kind"))]
}

/// Checks that fields, given by their dotted paths, are there, and that others never change.
pub(super) fn rules(new: &Value, old: Option<&Value>, required: &[&str], fixed: &[&str]) -> Vec<FieldError> {
    let pointer = |field: &str| format!("/{}", field.replace('.', "/"));
    let mut errors = Errors::default();
    for field in required {
        let value = at(new, &pointer(field));
        let empty = value.as_str().is_some_and(str::is_empty) || value.as_array().is_some_and(Vec::is_empty);
        if value.is_null() || empty {
            errors.required(*field, "");
        }
    }
    if let Some(old) = old {
        for field in fixed {
            errors.immutable(*field, at(new, &pointer(field)), at(old, &pointer(field)));
        }
    }
    errors.into_list()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    //
    #[test]
    fn what_is_missing_or_changed_is_named() {
        let fields = |new: &Value, old: Option<&Value>| {
            rules(new, old, &["a", "b.c"], &["b.c"]).into_iter().map(|e| e.field).collect::<Vec<_>>()
        };
        assert_eq!(fields(&json!({"a": "", "b": {"c": []}}), None), ["a", "b.c"]);
        let old = json!({"a": 0, "b": {"c": "x"}});
        assert!(fields(&old, Some(&old)).is_empty());
        assert_eq!(fields(&json!({"a": 1, "b": {"c": "y"}}), Some(&old)), ["b.c"]);
    }

    #[test]
    fn whoever_makes_one_is_told_once() {
        let object = json!({"kind": "Ingress"});
        assert_eq!(warnings(&object, None), ["minisvc stores objects of kind Ingress and does not act on them"]);
        assert!(warnings(&object, Some(&object)).is_empty());
    }
}
