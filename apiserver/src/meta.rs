//! What the server itself does with `metadata`: reads it, fills it in, keeps what may not change.
//!
//! The rules for names, labels, annotations and owners are in `resources/meta.rs`.

use jiff::Timestamp;
use serde_json::{Map, Value, json};

use crate::error::FieldError;

const MAX_LABEL: usize = 63;

/// Letters of generated names: no vowels, so no words; none that are mistaken for others.
const SUFFIX_LETTERS: &[u8] = b"bcdfghjklmnpqrstvwxz2456789";
const SUFFIX_LENGTH: usize = 5;
/// The base of a generated name is cut so that name and suffix fit a label.
const MAX_GENERATE_BASE: usize = MAX_LABEL - SUFFIX_LENGTH;

/// `now` as API objects write it: whole seconds, `Z`.
pub(crate) fn timestamp(now: Timestamp) -> String {
    now.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}

/// The string at a key of `metadata`; empty when absent.
pub(crate) fn text<'a>(object: &'a Value, key: &str) -> &'a str {
    object.get("metadata").and_then(|m| m.get(key)).and_then(Value::as_str).unwrap_or_default()
}

/// `metadata`, made if need be. `object` must be a JSON object.
pub(crate) fn metadata_mut(object: &mut Value) -> &mut Map<String, Value> {
    if !object.is_object() {
        *object = json!({});
    }
    let metadata = &mut object["metadata"];
    if !metadata.is_object() {
        *metadata = json!({});
    }
    match metadata {
        Value::Object(map) => map,
        _ => unreachable!("made an object in the line before"),
    }
}

/// Sets a key of `metadata`.
pub(crate) fn set(object: &mut Value, key: &str, value: impl Into<Value>) {
    metadata_mut(object).insert(key.to_owned(), value.into());
}

/// Removes a key of `metadata`.
pub(crate) fn unset(object: &mut Value, key: &str) {
    metadata_mut(object).shift_remove(key);
}

/// Makes `metadata.KEY` of `new` what it is in `old`, absent included.
pub(crate) fn carry_over(new: &mut Value, old: &Value, key: &str) {
    match old.get("metadata").and_then(|m| m.get(key)) {
        Some(value) => set(new, key, value.clone()),
        None => unset(new, key),
    }
}

/// `metadata.finalizers`.
pub(crate) fn finalizers(object: &Value) -> Vec<String> {
    let list = object.pointer("/metadata/finalizers").and_then(Value::as_array);
    list.into_iter().flatten().filter_map(Value::as_str).map(str::to_owned).collect()
}

/// Deletion has begun.
pub(crate) fn is_terminating(object: &Value) -> bool {
    !text(object, "deletionTimestamp").is_empty()
}

/// `generateName` plus five letters; `random(n)` yields a number below `n`.
pub(crate) fn generated_name(base: &str, random: impl FnMut(usize) -> usize) -> String {
    let cut = base.char_indices().nth(MAX_GENERATE_BASE).map_or(base.len(), |(index, _)| index);
    format!("{}{}", &base[..cut], suffix(random))
}

/// Five letters that tell names of one base apart.
pub(crate) fn suffix(mut random: impl FnMut(usize) -> usize) -> String {
    (0..SUFFIX_LENGTH).map(|_| char::from(SUFFIX_LETTERS[random(SUFFIX_LETTERS.len())])).collect()
}

/// Objections to how an update changes what identifies it. `new` has already inherited what it left out.
pub(crate) fn validate_update(new: &Value, old: &Value) -> Vec<FieldError> {
    let mut errors = Vec::new();
    for key in ["name", "namespace", "uid", "creationTimestamp"] {
        if text(new, key) != text(old, key) {
            let value = json!(text(new, key));
            errors.push(FieldError::invalid(format!("metadata.{key}"), &value, "field is immutable"));
        }
    }
    errors
}

#[cfg(test)]
mod tests {
    use super::*;

    //
    #[test]
    fn generated_names_fit_a_label_and_spell_nothing() {
        let mut next = 0;
        let name = generated_name(&"x".repeat(80), |bound| {
            next = (next + 7) % bound;
            next
        });
        assert_eq!(name.len(), 63);
        let suffix = &name[58..];
        assert!(!suffix.contains(['a', 'e', 'i', 'o', 'u']), "{suffix}");
    }

    //
    #[test]
    fn timestamps_have_whole_seconds() {
        let now = Timestamp::from_millisecond(1_700_000_000_999).unwrap();
        assert_eq!(timestamp(now), "2023-11-14T22:13:20Z");
    }

    //
    #[test]
    fn identity_is_immutable() {
        let old = json!({"metadata": {"name": "a", "uid": "1"}});
        assert!(validate_update(&old, &old).is_empty());
        for key in ["name", "namespace", "uid", "creationTimestamp"] {
            let mut new = old.clone();
            set(&mut new, key, "b");
            assert_eq!(validate_update(&new, &old)[0].field, format!("metadata.{key}"));
        }
    }
}
