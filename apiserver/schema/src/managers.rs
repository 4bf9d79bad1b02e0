//! `metadata.managedFields`: who wrote which fields, when and how. It does not decide ownership.

use crate::fields::FieldSet;
use serde_json::{Map, Value, json};

/// How a manager writes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Operation {
    /// It says what it wants the object to have.
    Apply,
    /// It writes whatever it changes.
    Update,
}

/// One entry: the fields of one way of writing of one manager.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Entry {
    pub(crate) id: Id,
    /// RFC 3339, as it is stored.
    pub(crate) time: Option<String>,
    pub(crate) fields: FieldSet,
}

/// What there is one entry of.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Id {
    pub(crate) operation: Operation,
    pub(crate) manager: String,
    pub(crate) api_version: String,
    /// Empty for the object itself.
    pub(crate) subresource: String,
}

impl Entry {
    fn from_json(json: &Value) -> Option<Self> {
        let text = |key: &str| json.get(key).and_then(Value::as_str).unwrap_or_default().to_owned();
        let operation = match text("operation").as_str() {
            "Apply" => Operation::Apply,
            "Update" => Operation::Update,
            _ => return None,
        };
        let id = Id {
            operation,
            manager: text("manager"),
            api_version: text("apiVersion"),
            subresource: text("subresource"),
        };
        let time = json.get("time").and_then(Value::as_str).map(str::to_owned);
        let fields = json.get("fieldsV1").map_or_else(|| Some(FieldSet::default()), FieldSet::from_json)?;
        Some(Self { id, time, fields })
    }

    fn into_json(self) -> Value {
        let mut json = Map::with_capacity(7);
        let mut put = |key: &str, value: Value| json.insert(key.to_owned(), value);
        put("manager", self.id.manager.into());
        put("operation", if self.id.operation == Operation::Apply { "Apply" } else { "Update" }.into());
        put("apiVersion", self.id.api_version.into());
        if let Some(time) = self.time {
            put("time", time.into());
        }
        put("fieldsType", "FieldsV1".into());
        put("fieldsV1", self.fields.into_json());
        if !self.id.subresource.is_empty() {
            put("subresource", self.id.subresource.into());
        }
        Value::Object(json)
    }

    /// The manager as conflicts name it.
    pub(crate) fn for_people(&self) -> String {
        let mut text = format!("{:?}", self.id.manager);
        if !self.id.subresource.is_empty() {
            text += &format!(" with subresource {:?}", self.id.subresource);
        }
        if self.id.operation == Operation::Update {
            text += &format!(" using {}", self.id.api_version);
            if let Some(time) = &self.time {
                text += &format!(" at {time}");
            }
        }
        text
    }
}

/// The entries of an object; `None` if it has none, or some that cannot be read: then nothing is known of it.
pub(crate) fn read(object: &Value) -> Option<Vec<Entry>> {
    let list = object.pointer("/metadata/managedFields")?.as_array()?;
    let entries: Vec<Entry> = list.iter().map(Entry::from_json).collect::<Option<_>>()?;
    (!entries.is_empty()).then_some(entries)
}

/// Whether an object asks for its entries to be cleared: a list of one empty entry does, an empty list does not.
pub(crate) fn asks_to_clear(object: &Value) -> bool {
    object.pointer("/metadata/managedFields") == Some(&json!([{}]))
}

/// The entries as they are stored: none that is empty, in the order of operation, time and name.
pub(crate) fn write(mut entries: Vec<Entry>) -> Vec<Value> {
    entries.retain(|entry| !entry.fields.is_empty());
    entries.sort_by(|a, b| {
        let key = |e: &Entry| (e.id.operation, e.time.clone(), e.id.clone());
        key(a).cmp(&key(b))
    });
    entries.into_iter().map(Entry::into_json).collect()
}
