//! Reading and filling JSON trees: the small words the kinds are written in.
//!
//! A field that is absent, `null`, or of another type reads as "not there"; whether a type is right is decided
//! by the schema before any kind sees the object, so nothing here reports errors.

use serde_json::{Map, Value};

/// The value at a JSON pointer such as `/spec/type`; `Null` where there is none.
///
/// The pointers of the kinds have nothing to unescape. That spares the two texts that [`Value::pointer`] makes of every step, which
/// are a part of the time of a write.
pub(super) fn at<'a>(value: &'a Value, pointer: &str) -> &'a Value {
    pointer.split('/').skip(1).fold(value, |value, step| match value {
        Value::Object(map) => map.get(step).unwrap_or(&Value::Null),
        Value::Array(list) => step.parse().ok().and_then(|at: usize| list.get(at)).unwrap_or(&Value::Null),
        _ => &Value::Null,
    })
}

/// The text at a pointer, empty where there is none.
pub(super) fn text<'a>(value: &'a Value, pointer: &str) -> &'a str {
    at(value, pointer).as_str().unwrap_or_default()
}

/// The integer at a pointer.
pub(super) fn integer(value: &Value, pointer: &str) -> Option<i64> {
    at(value, pointer).as_i64()
}

/// Whether the boolean at a pointer is there and true.
pub(super) fn is_true(value: &Value, pointer: &str) -> bool {
    at(value, pointer) == &Value::Bool(true)
}

/// The list at a pointer, empty where there is none.
pub(super) fn list<'a>(value: &'a Value, pointer: &str) -> &'a [Value] {
    at(value, pointer).as_array().map_or(&[], Vec::as_slice)
}

/// The list at a pointer for editing; an iterator over nothing where there is none.
pub(super) fn list_mut<'a>(value: &'a mut Value, pointer: &str) -> impl Iterator<Item = &'a mut Value> {
    value.pointer_mut(pointer).and_then(Value::as_array_mut).into_iter().flatten()
}

/// The texts of the list at a pointer; entries that are no text read as empty.
pub(super) fn texts<'a>(value: &'a Value, pointer: &str) -> Vec<&'a str> {
    list(value, pointer).iter().map(|entry| entry.as_str().unwrap_or_default()).collect()
}

/// The entries of the map at a pointer, in the order they were written.
pub(super) fn entries<'a>(value: &'a Value, pointer: &str) -> impl Iterator<Item = (&'a str, &'a Value)> {
    at(value, pointer).as_object().into_iter().flatten().map(|(key, value)| (key.as_str(), value))
}

/// How many entries the map at a pointer has.
pub(super) fn size(value: &Value, pointer: &str) -> usize {
    at(value, pointer).as_object().map_or(0, Map::len)
}

/// Whether something other than `null` is at the pointer.
pub(super) fn has(value: &Value, pointer: &str) -> bool {
    !at(value, pointer).is_null()
}

/// Sets a field of an object if it is absent or `null`. Does nothing if `value` is no object.
pub(super) fn set_default(value: &mut Value, key: &str, default: impl Into<Value>) {
    if let Some(map) = value.as_object_mut()
        && map.get(key).is_none_or(Value::is_null)
    {
        map.insert(key.to_owned(), default.into());
    }
}

/// Sets a text field if it is absent, `null` or empty.
pub(super) fn set_default_text(value: &mut Value, key: &str, default: &str) {
    if value.get(key).and_then(Value::as_str).unwrap_or_default().is_empty() {
        set(value, key, default);
    }
}

/// Sets a number field if it is absent, `null` or zero.
pub(super) fn set_default_number(value: &mut Value, key: &str, default: i64) {
    if value.get(key).and_then(Value::as_i64).unwrap_or_default() == 0 {
        set(value, key, default);
    }
}

/// Sets a field of an object. Does nothing if `value` is no object.
pub(super) fn set(value: &mut Value, key: &str, new: impl Into<Value>) {
    if let Some(map) = value.as_object_mut() {
        map.insert(key.to_owned(), new.into());
    }
}

/// Takes a field out of an object, keeping the order of the others.
pub(super) fn remove(value: &mut Value, key: &str) -> Option<Value> {
    value.as_object_mut().and_then(|map| map.shift_remove(key))
}

/// Takes a field away if it holds `null`, the empty text or zero, which all mean the same as no field at all.
pub(super) fn remove_empty(value: &mut Value, key: &str) {
    if value.get(key).is_some_and(|found| found.is_null() || found == "" || found == 0) {
        remove(value, key);
    }
}

/// The object under `key`, made if it is absent, so that the caller can fill it.
pub(super) fn child<'a>(value: &'a mut Value, key: &str) -> Option<&'a mut Value> {
    let map = value.as_object_mut()?;
    let entry = map.entry(key).or_insert(Value::Null);
    if entry.is_null() {
        *entry = Value::Object(Map::new());
    }
    entry.is_object().then_some(entry)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn null_and_wrong_types_read_as_absent() {
        let value = json!({"a": null, "n": 5, "s": "x", "l": ["p", 3]});
        assert_eq!(text(&value, "/a"), "");
        assert_eq!(text(&value, "/n"), "");
        assert_eq!(integer(&value, "/s"), None);
        assert_eq!(texts(&value, "/l"), ["p", ""]);
        assert!(list(&value, "/nothing").is_empty());
        assert!(!has(&value, "/a"));
    }

    #[test]
    fn defaults_fill_only_what_is_missing() {
        let mut value = json!({"a": null, "b": 1, "c": ""});
        set_default(&mut value, "a", 2);
        set_default(&mut value, "b", 2);
        set_default_text(&mut value, "c", "x");
        set_default(child(&mut value, "d").unwrap(), "e", true);
        assert_eq!(value, json!({"a": 2, "b": 1, "c": "x", "d": {"e": true}}));
        let mut value = json!({"a": null, "b": "", "c": 0, "d": 1});
        ["a", "b", "c", "d", "e"].into_iter().for_each(|key| remove_empty(&mut value, key));
        assert_eq!(value, json!({"d": 1}));
    }
}
