//! Answers: an object or a list in the form the client asked for.
//!
//! Plain JSON is joined from stored bytes; only other forms make value trees.

use std::sync::Arc;

use axum::body::Body;
use axum::response::{IntoResponse, Response};
use bytes::{Bytes, BytesMut};
use http::{HeaderValue, StatusCode, header};
use jiff::Timestamp;
use minisvc_store::{Record, Revision};
use serde_json::{Value, json};

use crate::error::ApiError;
use crate::list_body::ListBody;
use crate::negotiate::{Form, Shape};
use crate::paging::More;
use crate::registry::Resource;
use crate::stored;
use crate::table;

/// What goes into a row's `object`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum IncludeObject {
    Metadata,
    Object,
    None,
}

impl IncludeObject {
    pub(crate) fn parse(text: Option<&str>) -> Result<Self, ApiError> {
        match text {
            None | Some("Metadata") => Ok(Self::Metadata),
            Some("Object") => Ok(Self::Object),
            Some("None") => Ok(Self::None),
            Some(other) => Err(ApiError::BadRequest(format!("invalid includeObject {other:?}"))),
        }
    }
}

/// Everything that decides how objects of one request are written.
#[derive(Clone)]
pub(crate) struct Renderer {
    pub(crate) resource: Arc<Resource>,
    pub(crate) form: Form,
    pub(crate) include: IncludeObject,
    pub(crate) now: Timestamp,
}

impl Renderer {
    /// The answer to a request about one object.
    pub(crate) fn object(&self, code: StatusCode, text: &Bytes, warnings: &[String]) -> Response {
        let mut response = match self.form {
            Form { shape: Shape::Object, yaml: false } => json_bytes(code, line(&self.object_text(text))),
            Form { shape: Shape::Object, .. } => self.value(code, &self.decode(text)),
            Form { shape: Shape::Metadata(version), .. } => {
                self.value(code, &partial(&self.decode(text), "PartialObjectMetadata", version))
            }
            Form { shape: Shape::Table(version), .. } => {
                let object = self.decode(text);
                let revision = object.pointer("/metadata/resourceVersion").cloned().unwrap_or(Value::Null);
                self.value(code, &self.table(version, revision, &[object], true))
            }
        };
        add_warnings(&mut response, warnings);
        response
    }

    /// The answer to a list.
    pub(crate) fn list(&self, records: Vec<Arc<Record>>, revision: Revision, more: &More) -> Response {
        let metadata = list_metadata(revision, more);
        match self.form {
            Form { shape: Shape::Object, yaml: false } if self.resource.stored_as.is_none() => {
                let body = Body::new(ListBody::new(self.list_head(&metadata), records));
                ([(header::CONTENT_TYPE, "application/json")], body).into_response()
            }
            Form { shape: Shape::Object, yaml: false } => {
                json_bytes(StatusCode::OK, self.list_text(&records, &metadata))
            }
            Form { shape: Shape::Object, .. } => {
                let value = stored::decode(&self.list_text(&records, &metadata));
                self.value(StatusCode::OK, &value)
            }
            Form { shape: Shape::Metadata(version), .. } => {
                let items: Vec<Value> =
                    records.iter().map(|r| partial(&self.decode(&r.value), "PartialObjectMetadata", version)).collect();
                let list = json!({
                    "kind": "PartialObjectMetadataList",
                    "apiVersion": format!("meta.k8s.io/{version}"),
                    "metadata": metadata,
                    "items": items,
                });
                self.value(StatusCode::OK, &list)
            }
            Form { shape: Shape::Table(version), .. } => {
                let objects: Vec<Value> = records.iter().map(|r| self.decode(&r.value)).collect();
                let mut table = self.table(version, Value::Null, &objects, true);
                table["metadata"] = metadata;
                self.value(StatusCode::OK, &table)
            }
        }
    }

    /// The text of one object in a watch event; the first Table of a watch carries the columns.
    pub(crate) fn event_object(&self, text: &Bytes, first: bool) -> Bytes {
        match self.form.shape {
            Shape::Object => self.object_text(text),
            Shape::Metadata(version) => self.partial_text(text, version),
            Shape::Table(version) => {
                let object = self.decode(text);
                let revision = object.pointer("/metadata/resourceVersion").cloned().unwrap_or(Value::Null);
                Bytes::from(self.table(version, revision, &[object], first).to_string())
            }
        }
    }

    /// The text of a PartialObjectMetadata: the metadata are cut out of that of the object.
    fn partial_text(&self, text: &Bytes, version: &str) -> Bytes {
        match stored::metadata(text).filter(|_| self.resource.stored_as.is_none()) {
            Some(metadata) => Bytes::from(format!(
                "{{\"kind\":\"PartialObjectMetadata\",\"apiVersion\":\"meta.k8s.io/{version}\",\"metadata\":{metadata}}}"
            )),
            None => Bytes::from(partial(&self.decode(text), "PartialObjectMetadata", version).to_string()),
        }
    }

    /// The object of a bookmark: kind, apiVersion and the revision.
    pub(crate) fn bookmark_object(&self, revision: Revision, initial_end: bool) -> Value {
        let mut metadata = json!({"resourceVersion": revision.to_string()});
        if initial_end {
            metadata["annotations"] = json!({"k8s.io/initial-events-end": "true"});
        }
        match self.form.shape {
            Shape::Object => {
                json!({"kind": self.resource.kind, "apiVersion": self.resource.api_version(), "metadata": metadata})
            }
            Shape::Metadata(version) => json!({
                "kind": "PartialObjectMetadata",
                "apiVersion": format!("meta.k8s.io/{version}"),
                "metadata": metadata,
            }),
            // A row's object carries the annotation, because that is where clients look for it in a Table.
            Shape::Table(version) => json!({
                "kind": "Table",
                "apiVersion": format!("meta.k8s.io/{version}"),
                "metadata": {"resourceVersion": revision.to_string()},
                "columnDefinitions": [],
                "rows": [{"cells": [], "object": {
                    "kind": "PartialObjectMetadata",
                    "apiVersion": format!("meta.k8s.io/{version}"),
                    "metadata": metadata,
                }}],
            }),
        }
    }

    /// The list of objects that a deletecollection has deleted.
    pub(crate) fn deleted_list(&self, texts: &[Bytes], revision: Revision) -> Response {
        json_bytes(StatusCode::OK, self.join(texts.iter(), &list_metadata(revision, &More::default())))
    }

    fn value(&self, code: StatusCode, value: &Value) -> Response {
        if self.form.yaml {
            return match serde_saphyr::to_string(value) {
                Ok(text) => (code, [(header::CONTENT_TYPE, "application/yaml")], text).into_response(),
                Err(error) => ApiError::internal(error).into_response(),
            };
        }
        json_value(code, value)
    }

    /// A value tree in the form served.
    fn decode(&self, text: &[u8]) -> Value {
        let mut object = stored::decode(text);
        if let Some(other) = &self.resource.stored_as {
            (other.from_stored)(&mut object);
        }
        object
    }

    /// The text in the form served; no work at all for most kinds.
    fn object_text(&self, text: &Bytes) -> Bytes {
        match self.resource.stored_as {
            None => text.clone(),
            Some(_) => stored::encode(&self.decode(text)),
        }
    }

    /// What comes before the first object of a list.
    fn list_head(&self, metadata: &Value) -> String {
        let (kind, version) = (self.resource.kind, self.resource.api_version());
        format!("{{\"kind\":\"{kind}List\",\"apiVersion\":\"{version}\",\"metadata\":{metadata},\"items\":[")
    }

    fn list_text(&self, records: &[Arc<Record>], metadata: &Value) -> Bytes {
        self.join(records.iter().map(|record| &record.value), metadata)
    }

    fn join<'a>(&self, texts: impl Iterator<Item = &'a Bytes> + Clone, metadata: &Value) -> Bytes {
        let size: usize = texts.clone().map(Bytes::len).sum();
        let head = self.list_head(metadata);
        let mut joined = BytesMut::with_capacity(head.len() + size + 3);
        joined.extend_from_slice(head.as_bytes());
        for (index, text) in texts.enumerate() {
            joined.extend_from_slice(if index == 0 { b"{" } else { b",{" });
            match self.resource.stored_as {
                None => joined.extend_from_slice(stored::without_type(text)),
                Some(_) => {
                    let text = stored::encode(&self.decode(text));
                    joined.extend_from_slice(stored::without_type(&text));
                }
            }
        }
        joined.extend_from_slice(b"]}\n");
        joined.freeze()
    }

    fn table(&self, version: &str, revision: Value, objects: &[Value], columns: bool) -> Value {
        let rows: Vec<Value> = objects.iter().map(|object| self.row(version, object)).collect();
        let definitions =
            if columns { table::column_definitions(self.resource.columns) } else { Value::Array(Vec::new()) };
        json!({
            "kind": "Table",
            "apiVersion": format!("meta.k8s.io/{version}"),
            "metadata": {"resourceVersion": revision},
            "columnDefinitions": definitions,
            "rows": rows,
        })
    }

    fn row(&self, version: &str, object: &Value) -> Value {
        let mut row = json!({"cells": (self.resource.row)(object, self.now)});
        let conditions = (self.resource.row_conditions)(object);
        if !conditions.is_empty() {
            row["conditions"] = Value::Array(conditions);
        }
        match self.include {
            IncludeObject::Metadata => row["object"] = partial(object, "PartialObjectMetadata", version),
            IncludeObject::Object => row["object"] = object.clone(),
            IncludeObject::None => row["object"] = Value::Null,
        }
        row
    }
}

/// The metadata of a list.
fn list_metadata(revision: Revision, more: &More) -> Value {
    let mut metadata = json!({"resourceVersion": revision.to_string()});
    if let Some(token) = &more.token {
        metadata["continue"] = json!(token);
    }
    if let Some(remaining) = more.remaining {
        metadata["remainingItemCount"] = json!(remaining);
    }
    metadata
}

fn partial(object: &Value, kind: &str, version: &str) -> Value {
    let metadata = object.get("metadata").cloned().unwrap_or_else(|| json!({}));
    json!({"kind": kind, "apiVersion": format!("meta.k8s.io/{version}"), "metadata": metadata})
}

/// A JSON answer from a value tree.
pub(crate) fn json_value(code: StatusCode, value: &Value) -> Response {
    let mut text = value.to_string();
    text.push('\n');
    (code, [(header::CONTENT_TYPE, "application/json")], text).into_response()
}

/// A JSON answer from text that ends with a newline.
fn json_bytes(code: StatusCode, text: Bytes) -> Response {
    (code, [(header::CONTENT_TYPE, "application/json")], text).into_response()
}

fn line(text: &[u8]) -> Bytes {
    let mut line = BytesMut::with_capacity(text.len() + 1);
    line.extend_from_slice(text);
    line.extend_from_slice(b"\n");
    line.freeze()
}

/// `Warning: 299 - "TEXT"` for each text.
pub(crate) fn add_warnings(response: &mut Response, warnings: &[String]) {
    for warning in warnings {
        let text: String = warning
            .chars()
            .filter(|c| !c.is_control())
            .flat_map(|c| if matches!(c, '"' | '\\') { vec!['\\', c] } else { vec![c] })
            .collect();
        if let Ok(value) = HeaderValue::from_bytes(format!("299 - \"{text}\"").as_bytes()) {
            response.headers_mut().append(header::WARNING, value);
        }
    }
}
