//! The stored form of an object: JSON text that begins with `kind`, `apiVersion`, `metadata`, with the revision spliced in.
//!
//! This is the one place that decides how the text is laid out; lists and watches rely on it to cut and join bytes without
//! reading them.

use std::sync::{LazyLock, OnceLock};

use bytes::Bytes;
use minisvc_store::{Head, Key, Revision};
use serde::Deserialize;
use serde::de::IgnoredAny;
use serde_json::value::RawValue;
use serde_json::{Map, Value};

use crate::registry::Registry;

/// Keys of `metadata` that come before `resourceVersion`, in this order.
const BEFORE_REVISION: [&str; 4] = ["name", "generateName", "namespace", "uid"];
/// Keys of `metadata` that come right after it; the rest follows in the order in which it was written.
const AFTER_REVISION: [&str; 4] =
    ["generation", "creationTimestamp", "deletionTimestamp", "deletionGracePeriodSeconds"];

/// The kinds of this program; the store reads heads with a plain function, which can only ask something static.
static KINDS: LazyLock<Registry> = LazyLock::new(|| Registry::new(crate::resources::all()));

/// All kinds served.
pub(crate) fn kinds() -> &'static Registry {
    &KINDS
}

/// An object as text, with a gap for its revision.
#[derive(Debug)]
pub(crate) struct Encoded {
    before: Vec<u8>,
    after: Vec<u8>,
    /// The text with the revision it was stored at: what is kept, told to watchers and answered is one piece of memory.
    stored: OnceLock<Bytes>,
}

impl Encoded {
    /// Writes an object; the `resourceVersion` it carries is left out.
    pub(crate) fn new(object: &Value) -> Self {
        let mut before = Vec::with_capacity(256);
        before.push(b'{');
        for key in ["kind", "apiVersion"] {
            write_entry(&mut before, key, object.get(key).unwrap_or(&Value::String(String::new())));
            before.push(b',');
        }
        before.extend_from_slice(b"\"metadata\":{");
        let empty = Map::new();
        let metadata = object.get("metadata").and_then(Value::as_object).unwrap_or(&empty);
        for key in BEFORE_REVISION {
            if let Some(value) = metadata.get(key) {
                write_entry(&mut before, key, value);
                before.push(b',');
            }
        }
        let mut after = Vec::with_capacity(1024);
        for key in AFTER_REVISION {
            if let Some(value) = metadata.get(key) {
                after.push(b',');
                write_entry(&mut after, key, value);
            }
        }
        for (key, value) in metadata {
            let key = key.as_str();
            if key != "resourceVersion" && !BEFORE_REVISION.contains(&key) && !AFTER_REVISION.contains(&key) {
                after.push(b',');
                write_entry(&mut after, key, value);
            }
        }
        after.push(b'}');
        for (key, value) in object.as_object().into_iter().flatten() {
            if !["kind", "apiVersion", "metadata"].contains(&key.as_str()) {
                after.push(b',');
                write_entry(&mut after, key, value);
            }
        }
        after.push(b'}');
        Self { before, after, stored: OnceLock::new() }
    }

    /// The text as it is stored; a transaction has one revision, so each call gives the same.
    pub(crate) fn stored(&self, revision: Revision) -> Bytes {
        self.stored.get_or_init(|| self.at(revision)).clone()
    }

    /// The text with this revision.
    pub(crate) fn at(&self, revision: Revision) -> Bytes {
        let entry = format!("\"resourceVersion\":\"{revision}\"");
        self.join(entry.as_bytes())
    }

    /// The text of an object that was not stored: a dry run of create has no revision.
    pub(crate) fn unstored(&self) -> Bytes {
        // The entry before the gap ends with a comma, unless there is none; the one after it begins with a comma.
        let mut joined = self.before.clone();
        match (joined.last(), self.after.first()) {
            (Some(b','), _) => {
                joined.pop();
                joined.extend_from_slice(&self.after);
            }
            (_, Some(b',')) => joined.extend_from_slice(&self.after[1..]),
            _ => joined.extend_from_slice(&self.after),
        }
        Bytes::from(joined)
    }

    fn join(&self, entry: &[u8]) -> Bytes {
        let mut joined = Vec::with_capacity(self.before.len() + entry.len() + self.after.len());
        joined.extend_from_slice(&self.before);
        joined.extend_from_slice(entry);
        joined.extend_from_slice(&self.after);
        Bytes::from(joined)
    }
}

/// The text of an object with the revision it carries itself.
pub(crate) fn encode(object: &Value) -> Bytes {
    let encoded = Encoded::new(object);
    match object.pointer("/metadata/resourceVersion") {
        Some(revision) => encoded.join(format!("\"resourceVersion\":{revision}").as_bytes()),
        None => encoded.unstored(),
    }
}

fn write_entry(out: &mut Vec<u8>, key: &str, value: &Value) {
    out.extend_from_slice(Value::from(key).to_string().as_bytes());
    out.push(b':');
    // Writing a value tree to memory cannot fail: its keys are strings and a Vec takes every byte.
    let _ = serde_json::to_writer(out, value);
}

/// The object as a list shows it, without `kind` and `apiVersion` (A-043): everything behind the eighth quotation mark and
/// the comma after it. The opening brace is left to the caller.
pub(crate) fn without_type(text: &[u8]) -> &[u8] {
    let eighth = text.iter().enumerate().filter(|(_, byte)| **byte == b'"').nth(7);
    eighth.and_then(|(index, _)| text.get(index + 2..)).unwrap_or_default()
}

/// The text of an object's metadata, which is found without reading the rest.
pub(crate) fn metadata(text: &[u8]) -> Option<&str> {
    let rest = without_type(text).strip_prefix(b"\"metadata\":")?;
    let mut values = serde_json::Deserializer::from_slice(rest).into_iter::<&RawValue>();
    Some(values.next()?.ok()?.get())
}

/// Whether the object of a text has been asked to go.
pub(crate) fn is_terminating(text: &[u8]) -> bool {
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Metadata {
        deletion_timestamp: Option<IgnoredAny>,
    }
    let metadata = metadata(text).and_then(|metadata| serde_json::from_str::<Metadata>(metadata).ok());
    metadata.is_some_and(|metadata| metadata.deletion_timestamp.is_some())
}

/// Reads the text of a record; what is not JSON reads as null, which no record is.
pub(crate) fn decode(text: &[u8]) -> Value {
    serde_json::from_slice(text).unwrap_or(Value::Null)
}

/// What selectors ask of a record.
pub(crate) fn parse_head(key: &Key, text: &[u8]) -> Head {
    if key.resource.starts_with('+') {
        return Head::default();
    }
    head(key, &decode(text))
}

/// The same of an object in its stored form.
pub(crate) fn head(key: &Key, object: &Value) -> Head {
    let metadata = &object["metadata"];
    let labels = metadata["labels"].as_object().into_iter().flatten();
    let labels = labels.filter_map(|(name, value)| Some((name.as_str(), value.as_str()?)));
    let fields = kinds().of_storage(&key.resource).map_or_else(Vec::new, |kind| (kind.selectable)(object));
    Head::new(metadata["uid"].as_str().unwrap_or_default(), labels, fields)
}

/// A record with the defaults that have come since it was written (S-033).
pub(crate) fn upgrade(key: &Key, text: &[u8]) -> Option<Bytes> {
    let kind = kinds().of_storage(&key.resource)?;
    let before = decode(text);
    let mut object = before.clone();
    (kind.default)(&mut object);
    (object != before).then(|| encode(&object))
}

/// Events are many, short-lived and of no use after a restart.
pub(crate) fn volatile(key: &Key) -> bool {
    &*key.resource == "events"
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    fn json_value() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            ".{0,8}".prop_map(Value::from),
        ];
        leaf.prop_recursive(3, 24, 4, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
                prop::collection::btree_map(".{0,6}", inner, 0..4)
                    .prop_map(|map| Value::Object(map.into_iter().collect())),
            ]
        })
    }

    proptest! {
        // A-043: whatever an object holds, its text reads back as the object, and its list form is the object without type.
        #[test]
        fn text_and_object_are_the_same(spec in json_value(), labels in json_value(), key in ".{0,6}", revision in 1_u64..) {
            let mut object = json!({
                "kind": "K", "apiVersion": "g/v1",
                "metadata": {"name": "n", "uid": "u", "labels": labels, "resourceVersion": revision.to_string()},
            });
            object["metadata"][format!("x{key}")] = json!(key);
            object[format!("x{key}")] = spec;
            let stored = Encoded::new(&object).at(Revision(revision));
            prop_assert_eq!(decode(&stored), object.clone());
            prop_assert_eq!(&encode(&object), &stored);
            prop_assert_eq!(&decode(metadata(&stored).unwrap().as_bytes()), &object["metadata"]);
            let item = [b"{", without_type(&stored)].concat();
            for key in ["kind", "apiVersion"] {
                object.as_object_mut().unwrap().shift_remove(key);
            }
            prop_assert_eq!(decode(&item), object);
        }
    }

    fn text(bytes: &[u8]) -> &str {
        std::str::from_utf8(bytes).unwrap()
    }

    // A-043
    #[test]
    fn type_first_and_revision_among_the_metadata() {
        let object = json!({
            "data": {"a": "\"{"},
            "metadata": {"labels": {"x": "y"}, "resourceVersion": "1", "name": "n", "creationTimestamp": "t"},
            "apiVersion": "v1",
            "kind": "ConfigMap",
        });
        let stored = Encoded::new(&object).at(Revision(77));
        assert_eq!(
            text(&stored),
            r#"{"kind":"ConfigMap","apiVersion":"v1","metadata":{"name":"n","resourceVersion":"77","creationTimestamp":"t","labels":{"x":"y"}},"data":{"a":"\"{"}}"#
        );
        let mut expected = object;
        expected["metadata"]["resourceVersion"] = json!("77");
        assert_eq!(decode(&stored), expected);
        assert!(text(without_type(&stored)).starts_with("\"metadata\":{\"name\":\"n\""));
    }

    // A-056
    #[test]
    fn what_was_not_stored_has_no_revision() {
        for metadata in [json!({"name": "n", "labels": {}}), json!({"labels": {}}), json!({"name": "n"}), json!({})] {
            let object = json!({"kind": "K", "apiVersion": "v1", "metadata": metadata, "spec": 1});
            assert_eq!(decode(&Encoded::new(&object).unstored()), object);
        }
    }
}
