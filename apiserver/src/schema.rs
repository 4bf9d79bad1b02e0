//! The one place that asks `minisvc-schema`: turns its answers into what a client is told.

use jiff::Timestamp;
use minisvc_schema::{ApplyError, Duplicate, Kind, PatchError};
use serde_json::Value;

use crate::body::Decoded;
use crate::error::{ApiError, Cause, FieldError, OtherCause};
use crate::registry::{Resource, group_version};
use crate::request_info::FieldValidation;

/// A kind by its name.
#[derive(Debug, Clone, Copy)]
pub(crate) struct KindName<'a> {
    pub(crate) group: &'a str,
    pub(crate) version: &'a str,
    pub(crate) kind: &'a str,
}

impl<'a> From<&'a Resource> for KindName<'a> {
    fn from(resource: &'a Resource) -> Self {
        Self { group: resource.group, version: resource.version, kind: resource.kind }
    }
}

impl KindName<'_> {
    fn find(&self) -> Option<Kind> {
        Kind::find(self.group, self.version, self.kind)
    }
}

pub(crate) fn decode_json(bytes: &[u8]) -> Result<(Value, Vec<Duplicate>), ApiError> {
    minisvc_schema::decode_json(bytes).map_err(undecodable)
}

pub(crate) fn decode_yaml(bytes: &[u8]) -> Result<(Value, Vec<Duplicate>), ApiError> {
    minisvc_schema::decode_yaml(bytes).map_err(undecodable)
}

/// The object of a protobuf body, `kind` and `apiVersion` included.
pub(crate) fn decode_protobuf(bytes: &[u8]) -> Result<Value, ApiError> {
    match minisvc_schema::decode_protobuf(bytes) {
        Ok(decoded) => Ok(decoded.value),
        Err(error) => Err(ApiError::BadRequest(format!("the object provided is unrecognized: {error}"))),
    }
}

fn undecodable(error: minisvc_schema::DecodeError) -> ApiError {
    ApiError::BadRequest(format!("the object provided is unrecognized: {error}"))
}

/// Elements of one list in an object. Rules compare elements with each other, and nobody should wait for that.
const MOST_ELEMENTS: usize = 5000;

/// Levels of an object. Parsers of JSON, ours and those of clients, end at 128, and lists and watches add some: an object
/// that grows deeper by one patch after the other could be stored, but never be read again.
const DEEPEST: usize = 100;

/// Refuses lists that are too long and values that are nested too deeply; `key` is the nearest one above the value.
fn check_size(key: &str, value: &Value, depth: usize) -> Result<(), ApiError> {
    if depth > DEEPEST {
        return Err(ApiError::BadRequest(format!("the object has more than {DEEPEST} levels, see {key:?}")));
    }
    match value {
        Value::Array(elements) if elements.len() > MOST_ELEMENTS => {
            let count = elements.len();
            let text = format!("the list {key:?} has {count} elements, the limit is {MOST_ELEMENTS}");
            Err(ApiError::RequestEntityTooLarge(text))
        }
        Value::Array(elements) => elements.iter().try_for_each(|element| check_size(key, element, depth + 1)),
        Value::Object(map) => map.iter().try_for_each(|(key, value)| check_size(key, value, depth + 1)),
        _ => Ok(()),
    }
}

/// Holds an object against the schema of its kind: wrong types are refused always, unknown and duplicate fields as asked
/// for.
pub(crate) fn check(
    name: &KindName<'_>,
    mut object: Value,
    duplicates: &[Duplicate],
    validation: FieldValidation,
) -> Result<Decoded, ApiError> {
    if !object.is_object() {
        return Err(ApiError::bad_request("the body of the request is no object"));
    }
    check_size("", &object, 0)?;
    let Some(kind) = name.find() else { return Ok(Decoded { object, warnings: Vec::new() }) };
    let refused = |why: String| {
        let version = group_version(name.group, name.version);
        let kind = name.kind;
        Err(ApiError::BadRequest(format!("{kind} in version \"{version}\" cannot be handled as a {kind}: {why}")))
    };
    let wrong_types = minisvc_schema::type_errors(kind, &object);
    if !wrong_types.is_empty() {
        return refused(wrong_types.join(", "));
    }
    let findings = match validation {
        FieldValidation::Ignore => Vec::new(),
        FieldValidation::Strict | FieldValidation::Warn => minisvc_schema::strict_errors(kind, &object, duplicates),
    };
    if validation == FieldValidation::Strict && !findings.is_empty() {
        return refused(format!("strict decoding error: {}", findings.join(", ")));
    }
    // What the kind does not have is dropped, and what says the same is spelt the same (S-036).
    minisvc_schema::normalize(kind, &mut object);
    Ok(Decoded { object, warnings: findings })
}

/// The formats of PATCH.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum PatchFormat {
    Json,
    Merge,
    Strategic,
    Apply,
}

/// Applies a patch to an object of a kind; the result is not checked.
pub(crate) fn patch(resource: &Resource, format: PatchFormat, live: &Value, patch: &Value) -> Result<Value, ApiError> {
    let patched = match format {
        PatchFormat::Json => minisvc_schema::json_patch::apply(live, patch),
        PatchFormat::Merge => minisvc_schema::merge::apply(live, patch),
        PatchFormat::Strategic => match KindName::from(resource).find() {
            Some(kind) => minisvc_schema::strategic::apply(kind, live, patch),
            // Without a schema nobody knows the merge keys.
            None => {
                return Err(ApiError::UnsupportedMediaType(
                    "application/json-patch+json, application/merge-patch+json",
                ));
            }
        },
        // Apply is no change of one object into another: it may create, and it looks at managers.
        PatchFormat::Apply => return Err(ApiError::UnsupportedMediaType("application/json-patch+json")),
    };
    patched.map_err(|error| unpatchable(resource, live, error))
}

/// Who writes.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Manager<'a> {
    pub(crate) name: &'a str,
    /// Empty for the object itself.
    pub(crate) subresource: &'a str,
    pub(crate) now: Timestamp,
}

impl<'a> Manager<'a> {
    fn writer(&self) -> minisvc_schema::Writer<'a> {
        minisvc_schema::Writer { manager: self.name, subresource: self.subresource, now: self.now }
    }
}

/// Server-side apply of `config` to `live`, or its first form if there is nothing.
pub(crate) fn apply(
    resource: &Resource,
    live: Option<&Value>,
    config: &Value,
    by: &Manager<'_>,
    force: bool,
) -> Result<Value, ApiError> {
    let Some(kind) = KindName::from(resource).find() else {
        // A kind of our own: without a schema nobody owns fields, so what is applied is merged in.
        let nothing = Value::Object(serde_json::Map::new());
        let merged = minisvc_schema::merge::apply(live.unwrap_or(&nothing), config);
        return merged.map_err(|error| unpatchable(resource, live.unwrap_or(&nothing), error));
    };
    minisvc_schema::apply(kind, live, config, &by.writer(), force).map_err(|error| match error {
        ApplyError::Invalid(why) => ApiError::BadRequest(why),
        ApplyError::Conflicts(ref conflicts) => ApiError::ApplyConflict {
            target: Box::new(resource.target(crate::meta::text(config, "name"))),
            message: error.to_string(),
            causes: conflicts
                .iter()
                .map(|conflict| OtherCause {
                    reason: "FieldManagerConflict".to_owned(),
                    message: conflict.message(),
                    field: conflict.field.clone(),
                })
                .collect(),
        },
    })
}

/// Writes into `metadata.managedFields` of `new` who owns what after an ordinary write.
pub(crate) fn track(resource: &Resource, old: Option<&Value>, new: &mut Value, by: &Manager<'_>) {
    let Some(kind) = KindName::from(resource).find() else { return };
    let entries = minisvc_schema::track_update(kind, old, new, &by.writer());
    if entries.is_empty() {
        crate::meta::unset(new, "managedFields");
    } else {
        crate::meta::set(new, "managedFields", entries);
    }
}

fn unpatchable(resource: &Resource, live: &Value, error: PatchError) -> ApiError {
    match error {
        PatchError::Malformed(why) => ApiError::BadRequest(why),
        PatchError::Failed(why) => {
            resource.invalid(crate::meta::text(live, "name"), vec![FieldError::new(Cause::Invalid, "patch", why)])
        }
        PatchError::TooLarge(why) => ApiError::RequestEntityTooLarge(why),
    }
}
