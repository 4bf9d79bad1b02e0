//! JSON merge patch, RFC 7386. It knows no schema.

use crate::PatchError;
use serde_json::{Map, Value};

/// Applies a merge patch to an object: objects merge, `null` removes, everything else replaces (A-070).
///
/// ```
/// use serde_json::json;
/// let live = json!({"metadata": {"labels": {"a": "1", "b": "2"}}});
/// let patch = json!({"metadata": {"labels": {"a": null, "c": "3"}}});
/// let merged = minisvc_schema::merge::apply(&live, &patch)?;
/// assert_eq!(merged, json!({"metadata": {"labels": {"b": "2", "c": "3"}}}));
/// # Ok::<(), minisvc_schema::PatchError>(())
/// ```
///
/// # Errors
/// A patch that is not an object: applied to an object it would replace it by something that is none.
pub fn apply(live: &Value, patch: &Value) -> Result<Value, PatchError> {
    if !patch.is_object() {
        return Err(PatchError::Malformed("a merge patch must be a JSON object".into()));
    }
    let mut result = live.clone();
    merge(&mut result, patch);
    Ok(result)
}

fn merge(target: &mut Value, patch: &Value) {
    let Value::Object(patch) = patch else {
        *target = patch.clone();
        return;
    };
    if !target.is_object() {
        *target = Value::Object(Map::new());
    }
    let Value::Object(target) = target else { return };
    remove_nulls(target, patch);
    for (key, value) in patch.iter().filter(|(_, value)| !value.is_null()) {
        merge(target.entry(key.as_str()).or_insert(Value::Null), value);
    }
}

/// Takes out what the patch names with `null`: all at once, because each removal moves everything behind it.
pub(crate) fn remove_nulls(target: &mut Map<String, Value>, patch: &Map<String, Value>) {
    if patch.values().any(Value::is_null) {
        target.retain(|key, _| !patch.get(key).is_some_and(Value::is_null));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::json_value;
    use proptest::prelude::*;
    use serde_json::json;

    /// The merge patch that makes `b` of `a`; `b` must hold no null, which merge patch cannot express.
    fn diff(a: &Value, b: &Value) -> Value {
        let (Value::Object(old), Value::Object(new)) = (a, b) else { return b.clone() };
        let mut patch = Map::new();
        for key in old.keys().filter(|key| !new.contains_key(*key)) {
            patch.insert(key.clone(), Value::Null);
        }
        for (key, value) in new {
            match old.get(key) {
                Some(previous) if previous == value => {}
                // Into anything but an object, an object is merged as into an empty one.
                Some(previous) if previous.is_object() => {
                    patch.insert(key.clone(), diff(previous, value));
                }
                _ => {
                    patch.insert(key.clone(), value.clone());
                }
            }
        }
        Value::Object(patch)
    }

    #[test]
    fn merging_follows_the_rfc() {
        let rows = [
            ("A-070", json!({"a": "b"}), json!({"a": "c"}), json!({"a": "c"})),
            ("A-070", json!({"a": "b"}), json!({"b": "c"}), json!({"a": "b", "b": "c"})),
            ("A-070", json!({"a": "b", "b": "c"}), json!({"a": null}), json!({"b": "c"})),
            ("A-070", json!({"a": ["b"]}), json!({"a": "c"}), json!({"a": "c"})),
            ("A-070", json!({"a": [1, 2]}), json!({"a": [3]}), json!({"a": [3]})),
            ("A-070", json!({"a": 1}), json!({"a": {"b": {"c": null}}}), json!({"a": {"b": {}}})),
            ("A-070", json!({"e": null}), json!({"a": 1}), json!({"e": null, "a": 1})),
        ];
        for (statement, live, patch, wanted) in rows {
            assert_eq!(apply(&live, &patch).expect(statement), wanted, "{statement}: {patch}");
        }
        assert!(matches!(apply(&json!({}), &json!([])), Err(PatchError::Malformed(_))));
    }

    proptest! {
        // A-070
        #[test]
        fn a_difference_applied_leads_there(a in json_value(), b in json_value()) {
            let (a, b) = (json!({"x": a}), json!({"x": b}));
            prop_assert_eq!(apply(&a, &diff(&a, &b)).expect("an object"), b);
        }
    }
}
