//! JSON patch, RFC 6902, with the limits of an API server. It knows no schema.

use crate::PatchError;
use json_patch::{PatchErrorKind, PatchOperation};
use serde_json::Value;

/// More operations than this in one patch are refused, as upstream does.
const MOST_OPERATIONS: usize = 10_000;

/// What `copy` may add in all, in bytes: repeated copies of a whole double it each time.
const MOST_COPIED: usize = 16 << 20;

/// Elements of lists that may be moved to make or close a gap, all operations together.
const MOST_MOVED: usize = 20_000_000;

/// What a value takes beside its text, about.
const VALUE_BYTES: usize = 64;

/// Applies a JSON patch: all its operations or none (A-070).
///
/// ```
/// use serde_json::json;
/// let live = json!({"metadata": {"labels": {"a": "1"}}});
/// let patch = json!([{"op": "replace", "path": "/metadata/labels/a", "value": "2"}]);
/// let patched = minisvc_schema::json_patch::apply(&live, &patch)?;
/// assert_eq!(patched["metadata"]["labels"]["a"], "2");
/// # Ok::<(), minisvc_schema::PatchError>(())
/// ```
///
/// # Errors
/// `Malformed` if it is not a list of operations, `Failed` if one does not fit the object, `TooLarge` for more than
/// 10,000 operations, copies that would let the object explode, or work on long lists that would take too long.
pub fn apply(live: &Value, patch: &Value) -> Result<Value, PatchError> {
    let operations =
        patch.as_array().ok_or_else(|| PatchError::Malformed("a JSON patch must be a list of operations".into()))?;
    if operations.len() > MOST_OPERATIONS {
        let text =
            format!("the allowed maximum operations in a JSON patch is {MOST_OPERATIONS}, got {}", operations.len());
        return Err(PatchError::TooLarge(text));
    }
    let mut result = live.clone();
    let (mut copied, mut moved) = (0, 0);
    for (index, operation) in operations.iter().enumerate() {
        let operation: PatchOperation = serde_json::from_value(operation.clone())
            .map_err(|error| PatchError::Malformed(format!("operation {index} of the JSON patch: {error}")))?;
        if let PatchOperation::Copy(copy) = &operation {
            copied += result.pointer(copy.from.as_str()).map_or(0, size);
            if copied > MOST_COPIED {
                return Err(PatchError::TooLarge("the copies of the JSON patch are too large".into()));
            }
        }
        moved += gaps(&result, &operation);
        if moved > MOST_MOVED {
            let text = "the JSON patch changes long lists too often, replace them as a whole";
            return Err(PatchError::TooLarge(text.into()));
        }
        if tests_absence(&result, &operation) {
            continue;
        }
        // One at a time and on a copy, so that a failure needs no undoing.
        json_patch::patch_unsafe(&mut result, std::slice::from_ref(&operation))
            .map_err(|error| failed(index, &operation, &error.kind))?;
    }
    Ok(result)
}

/// A test for null holds for a field that is not there, as clients of upstream count on: kube-rs adds the first finalizer
/// after one.
fn tests_absence(object: &Value, operation: &PatchOperation) -> bool {
    let PatchOperation::Test(test) = operation else { return false };
    let path = test.path.as_str();
    let parent = path.rsplit_once('/').and_then(|(parent, _)| object.pointer(parent));
    test.value.is_null() && parent.is_some_and(Value::is_object) && object.pointer(path).is_none()
}

fn failed(index: usize, operation: &PatchOperation, kind: &PatchErrorKind) -> PatchError {
    let path = operation.path();
    PatchError::Failed(match kind {
        PatchErrorKind::TestFailed => format!("testing value {path} failed"),
        _ => format!("operation {index} of the JSON patch does not apply: {path}: {kind}"),
    })
}

/// How many elements an operation moves, at most: those of the lists that it changes.
fn gaps(object: &Value, operation: &PatchOperation) -> usize {
    let around = |path: &str| {
        let list = path.rsplit_once('/').and_then(|(list, _)| object.pointer(list));
        list.and_then(Value::as_array).map_or(0, Vec::len)
    };
    match operation {
        PatchOperation::Add(add) => around(add.path.as_str()),
        PatchOperation::Remove(remove) => around(remove.path.as_str()),
        PatchOperation::Move(from_to) => around(from_to.from.as_str()) + around(from_to.path.as_str()),
        PatchOperation::Copy(copy) => around(copy.path.as_str()),
        PatchOperation::Replace(_) | PatchOperation::Test(_) => 0,
    }
}

/// How many bytes a value takes, about.
fn size(value: &Value) -> usize {
    VALUE_BYTES
        + match value {
            Value::Array(items) => items.iter().map(size).sum(),
            Value::Object(map) => map.iter().map(|(key, value)| key.len() + size(value)).sum(),
            Value::String(text) => text.len(),
            _ => 0,
        }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::json_value;
    use proptest::prelude::*;
    use serde_json::json;

    #[test]
    fn operations_apply_in_order() {
        let live = json!({"a": {"b": [1, 2]}, "c~d/e": 1});
        let rows = [
            ("A-070", json!([{"op": "add", "path": "/a/b/1", "value": 9}]), json!({"a": {"b": [1, 9, 2]}, "c~d/e": 1})),
            ("A-070", json!([{"op": "add", "path": "/a/b/-", "value": 9}]), json!({"a": {"b": [1, 2, 9]}, "c~d/e": 1})),
            ("A-070", json!([{"op": "remove", "path": "/c~0d~1e"}]), json!({"a": {"b": [1, 2]}})),
            ("A-070", json!([{"op": "move", "from": "/a/b", "path": "/a/c"}]), json!({"a": {"c": [1, 2]}, "c~d/e": 1})),
            (
                "A-081",
                json!([{"op": "test", "path": "/a/b/0", "value": 1}, {"op": "replace", "path": "/a", "value": 0}]),
                json!({"a": 0, "c~d/e": 1}),
            ),
            ("A-070", json!([{"op": "test", "path": "/a/c", "value": null}]), live.clone()),
            ("A-070", json!([]), live.clone()),
        ];
        for (statement, patch, wanted) in rows {
            assert_eq!(apply(&live, &patch).expect(statement), wanted, "{statement}: {patch}");
        }
    }

    #[test]
    fn what_does_not_fit_is_told_from_what_is_malformed() {
        let live = json!({"a": 1});
        let rows = [
            ("A-070", json!([{"op": "test", "path": "/a", "value": 2}]), false),
            ("A-070", json!([{"op": "test", "path": "/a", "value": null}]), false),
            ("A-070", json!([{"op": "test", "path": "/b/c", "value": null}]), false),
            ("A-070", json!([{"op": "remove", "path": "/b"}]), false),
            ("A-070", json!([{"op": "replace", "path": "/b/c", "value": 2}]), false),
            ("A-070", json!([{"op": "twist", "path": "/a"}]), true),
            ("A-070", json!({"op": "remove", "path": "/a"}), true),
            ("A-070", json!([{"op": "add", "path": "no pointer", "value": 1}]), true),
        ];
        for (statement, patch, malformed) in rows {
            let error = apply(&live, &patch).expect_err(statement);
            assert_eq!(matches!(error, PatchError::Malformed(_)), malformed, "{statement}: {patch}: {error:?}");
            assert_eq!(matches!(error, PatchError::Failed(_)), !malformed, "{statement}: {patch}: {error:?}");
        }
    }

    // A-012
    #[test]
    fn work_is_limited() {
        let many = vec![json!({"op": "test", "path": "/a", "value": 1}); MOST_OPERATIONS + 1];
        assert!(matches!(apply(&json!({"a": 1}), &Value::from(many)), Err(PatchError::TooLarge(_))));
        let doubling: Vec<Value> =
            (0..64).map(|n| json!({"op": "copy", "from": "", "path": format!("/x{n}")})).collect();
        assert!(matches!(apply(&json!({"a": 1}), &Value::from(doubling)), Err(PatchError::TooLarge(_))));
        let long = json!({"a": "x".repeat(1 << 20)});
        let texts: Vec<Value> =
            (0..64).map(|n| json!({"op": "copy", "from": "/a", "path": format!("/x{n}")})).collect();
        assert!(matches!(apply(&long, &Value::from(texts)), Err(PatchError::TooLarge(_))));
        let list = json!({"a": vec![0; 10_000]});
        let front = |count: usize| Value::from(vec![json!({"op": "add", "path": "/a/0", "value": 1}); count]);
        assert!(apply(&list, &front(1000)).is_ok());
        assert!(matches!(apply(&list, &front(MOST_OPERATIONS)), Err(PatchError::TooLarge(_))));
    }

    proptest! {
        #[test]
        fn arbitrary_operations_never_panic(
            live in json_value(),
            value in json_value(),
            op in "add|remove|replace|move|copy|test",
            from in "(/[a-d0-2-]){0,3}",
            path in "(/[a-d0-2-]){0,3}",
        ) {
            let _ = apply(&live, &json!([{"op": op, "from": from, "path": path, "value": value}]));
        }
    }
}
