//! What happens around a write: create, update, delete and the transaction they end in.
//!
//! Decoding, patching and authorisation come before; rendering the answer comes after.

mod commit;
mod create;
mod delete;
mod update;

use std::sync::Arc;

use bytes::Bytes;
use jiff::Timestamp;
use serde_json::Value;

use crate::error::ApiError;
use crate::identity::Identity;
use crate::meta;
use crate::rbac::escalation;
use crate::registry::Resource;
use crate::schema;
use crate::server::Server;

pub(crate) use delete::{DeleteOptions, Deleted};

/// One write and the circumstances it happens in.
pub(crate) struct Writer<'a> {
    pub(crate) server: &'a Server,
    pub(crate) resource: &'a Arc<Resource>,
    /// Empty for cluster-scoped kinds.
    pub(crate) namespace: &'a str,
    pub(crate) part: Part,
    /// The path segment of the subresource written to, for the record of managers; empty for the object itself.
    pub(crate) subresource: &'static str,
    /// The object comes out of server-side apply, which has recorded its managers already.
    pub(crate) applied: bool,
    pub(crate) dry_run: bool,
    /// Who is recorded as the manager of the fields.
    pub(crate) manager: &'a str,
    /// Who asked for it, for what depends on that; `None` is the server itself.
    pub(crate) asker: Option<&'a Identity>,
    /// One clock reading for the whole request.
    pub(crate) now: Timestamp,
}

/// What of an object a write may change.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Part {
    /// Everything but the status of kinds that have it as a subresource.
    Object,
    /// The status.
    Status,
    /// What the server itself has decided, such as a binding: no hook of the kind has a say.
    Decided,
}

/// What a create or update led to.
#[derive(Debug)]
pub(crate) struct Written {
    /// The object in its stored form, with its revision.
    pub(crate) text: Bytes,
    /// It did not exist before.
    pub(crate) created: bool,
    pub(crate) warnings: Vec<String>,
}

impl Writer<'_> {
    /// Fills in `kind`, `apiVersion` and the namespace, or objects when they contradict the URL.
    fn check_address(&self, object: &mut Value) -> Result<(), ApiError> {
        let Some(fields) = object.as_object_mut() else {
            return Err(ApiError::bad_request("the body of the request is no object"));
        };
        for (key, expected) in [("kind", self.resource.kind.to_owned()), ("apiVersion", self.resource.api_version())] {
            match fields.get(key).and_then(Value::as_str) {
                None | Some("") => {
                    fields.insert(key.to_owned(), Value::from(expected));
                }
                Some(found) if found == expected => {}
                Some(found) => {
                    return Err(ApiError::BadRequest(format!(
                        "the {key} in the data ({found}) does not match the expected {key} ({expected})"
                    )));
                }
            }
        }
        if fields.get("metadata").is_some_and(|m| !m.is_object() && !m.is_null()) {
            return Err(ApiError::bad_request("metadata must be an object"));
        }
        let found = meta::text(object, "namespace");
        if !found.is_empty() && found != self.namespace {
            return Err(ApiError::bad_request(
                "the namespace of the provided object does not match the namespace sent on the request",
            ));
        }
        if self.namespace.is_empty() {
            meta::unset(object, "namespace");
        } else {
            meta::set(object, "namespace", self.namespace);
        }
        Ok(())
    }

    /// What may only be decided with a look at other objects, once this one is complete.
    fn admit(&self, new: &Value, old: Option<&Value>) -> Result<(), ApiError> {
        match self.asker {
            Some(asker) => escalation::check(self.server, asker, self.resource, new, old),
            None => Ok(()),
        }
    }

    /// Records in `managedFields` who has set what.
    fn record_manager(&self, new: &mut Value, old: Option<&Value>) {
        if !self.applied && !self.manager.is_empty() {
            let by = schema::Manager { name: self.manager, subresource: self.subresource, now: self.now };
            schema::track(self.resource, old, new, &by);
        }
    }

    /// From the stored form to the form served.
    fn served(&self, mut object: Value) -> Value {
        if let Some(other) = &self.resource.stored_as {
            (other.from_stored)(&mut object);
        }
        object
    }

    /// From the form served to the stored form.
    fn to_stored(&self, mut object: Value) -> Value {
        if let Some(other) = &self.resource.stored_as {
            (other.to_stored)(&mut object);
        }
        object
    }
}
