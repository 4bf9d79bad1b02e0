//! Updates: read, change, check, write back, and again when somebody was faster.

use std::sync::Arc;

use minisvc_store::Record;
use serde_json::{Value, json};

use super::commit::{Lost, Outcome};
use super::{Part, Writer, Written};
use crate::error::{ApiError, FieldError};
use crate::registry::AllocationPlan;
use crate::{meta, resources, stored};

/// How often an update without a revision of its own is tried when others write in between.
const TRIES: usize = 5;
/// How often a lost race for an address or port is run again.
const RACES: usize = 64;

/// What the text of a stale write says; clients look for the reason, people for this.
pub(super) const STALE: &str =
    "the object has been modified; please apply your changes to the latest version and try again";

/// Metadata that no update decides; what the client sends there is ignored.
const KEPT: [&str; 5] =
    ["creationTimestamp", "deletionTimestamp", "deletionGracePeriodSeconds", "generation", "selfLink"];

/// How the wished state comes from the present one; both in the form served.
pub(crate) type Change<'a> = dyn FnMut(&Value) -> Result<Value, ApiError> + Send + 'a;

impl Writer<'_> {
    /// Changes an object that exists.
    pub(crate) async fn update(&self, name: &str, change: &mut Change<'_>) -> Result<Written, ApiError> {
        let (mut tries, mut races) = (1, 0);
        loop {
            let record = self.server.record(self.resource, self.namespace, name)?;
            match self.update_once(&record, name, change).await {
                Ok(written) => return Ok(written),
                Err(Lost::Failed(error)) => return Err(error),
                Err(Lost::Race(key)) if key == record.key && tries < TRIES => tries += 1,
                Err(Lost::Race(key)) if key != record.key && races < RACES => races += 1,
                Err(Lost::Race(_)) => return Err(self.stale(name)),
            }
        }
    }

    pub(super) fn stale(&self, name: &str) -> ApiError {
        ApiError::Conflict { target: Box::new(self.resource.target(name)), why: STALE.to_owned() }
    }

    async fn update_once(&self, record: &Arc<Record>, name: &str, change: &mut Change<'_>) -> Result<Written, Lost> {
        let old_stored = stored::decode(&record.value);
        let old = self.served(old_stored.clone());
        let mut new = change(&old).map_err(Lost::Failed)?;
        self.check_address(&mut new).map_err(Lost::Failed)?;
        self.check_identity(&mut new, &old, name).map_err(Lost::Failed)?;
        for key in KEPT {
            meta::carry_over(&mut new, &old, key);
        }
        match self.part {
            Part::Status => new = only_status(&new, &old),
            Part::Object if self.resource.has_status => set_or_remove(&mut new, "status", old.get("status")),
            Part::Object | Part::Decided => {}
        }
        (self.resource.default)(&mut new);
        if self.part == Part::Object {
            (self.resource.prepare)(&mut new, Some(&old));
        }
        // Before anything is allocated, because what the server sets belongs to no client.
        self.record_manager(&mut new, Some(&old));
        let mut plan = AllocationPlan::default();
        let mut errors = Vec::new();
        match self.part {
            Part::Status => errors.extend((self.resource.validate_status)(&new, &old)),
            Part::Object => {
                plan = self.allocate(Some(&mut new), Some(&old)).map_err(Lost::Failed)?;
                errors.extend((self.resource.validate)(&new, Some(&old)));
            }
            Part::Decided => {}
        }
        errors.extend(resources::meta::validate(&new, Some(&old), self.resource.name_rule));
        errors.extend(meta::validate_update(&new, &old));
        if !errors.is_empty() {
            return Err(Lost::Failed(self.resource.invalid(name, errors)));
        }
        self.admit(&new, Some(&old)).map_err(Lost::Failed)?;
        let warnings = (self.resource.warnings)(&new, Some(&old));
        if self.resource.has_generation && spec_differs(&new, &old) {
            bump_generation(&mut new);
        }
        let new = self.to_stored(new);
        if new == old_stored && !self.may_go(&new) {
            // Nothing changes, so nothing is written and nobody is told.
            return Ok(Written { text: record.value.clone(), created: false, warnings });
        }
        let text = if self.may_go(&new) {
            let plan = self.allocate(None, Some(&old)).map_err(Lost::Failed)?;
            self.commit(Outcome::Removed(record), &new, &plan).await?
        } else {
            self.commit(Outcome::Updated(record), &new, &plan).await?
        };
        Ok(Written { text, created: false, warnings })
    }

    /// Name, uid and revision must be those of the object, as far as the client states them.
    fn check_identity(&self, new: &mut Value, old: &Value, name: &str) -> Result<(), ApiError> {
        match meta::text(new, "name") {
            "" => meta::set(new, "name", name),
            found if found == name => {}
            found => {
                return Err(ApiError::BadRequest(format!(
                    "the name of the object ({found}) does not match the name on the URL ({name})"
                )));
            }
        }
        let (uid, found) = (meta::text(old, "uid").to_owned(), meta::text(new, "uid"));
        if !found.is_empty() && found != uid {
            return Err(ApiError::Conflict {
                target: Box::new(self.resource.target(name)),
                why: format!("Precondition failed: UID in precondition: {found}, UID in object meta: {uid}"),
            });
        }
        meta::set(new, "uid", uid);
        match (meta::text(new, "resourceVersion"), meta::text(old, "resourceVersion")) {
            ("", _) if !self.resource.allow_unconditional_update => {
                let error =
                    FieldError::invalid("metadata.resourceVersion", &json!(0), "must be specified for an update");
                return Err(self.resource.invalid(name, vec![error]));
            }
            ("", current) => meta::set(new, "resourceVersion", current),
            (wanted, current) if wanted == current => {}
            _ => return Err(self.stale(name)),
        }
        Ok(())
    }

    /// A terminating object that nothing holds any more.
    pub(super) fn may_go(&self, object: &Value) -> bool {
        let grace = object.pointer("/metadata/deletionGracePeriodSeconds").and_then(Value::as_i64).unwrap_or(0);
        meta::is_terminating(object)
            && grace == 0
            && meta::finalizers(object).is_empty()
            && !(self.resource.held)(object)
    }
}

/// A write to `/status` takes the status, labels, annotations and finalizers; everything else stays.
fn only_status(new: &Value, old: &Value) -> Value {
    let mut merged = old.clone();
    set_or_remove(&mut merged, "status", new.get("status"));
    for key in ["labels", "annotations", "finalizers", "managedFields"] {
        meta::carry_over(&mut merged, new, key);
    }
    merged
}

fn set_or_remove(object: &mut Value, key: &str, value: Option<&Value>) {
    let Some(fields) = object.as_object_mut() else { return };
    match value {
        Some(value) => {
            fields.insert(key.to_owned(), value.clone());
        }
        None => {
            fields.shift_remove(key);
        }
    }
}

/// Something besides metadata and status differs.
fn spec_differs(new: &Value, old: &Value) -> bool {
    let substance = |object: &Value| -> Vec<(String, Value)> {
        let fields = object.as_object().into_iter().flatten();
        let mut kept: Vec<(String, Value)> = fields
            .filter(|(key, _)| !["metadata", "status"].contains(&key.as_str()))
            .map(|(key, value)| (key.clone(), value.clone()))
            .collect();
        kept.sort_by(|a, b| a.0.cmp(&b.0));
        kept
    };
    substance(new) != substance(old)
}

pub(super) fn bump_generation(object: &mut Value) {
    let generation = object.pointer("/metadata/generation").and_then(Value::as_i64).unwrap_or(0);
    meta::set(object, "generation", json!(generation + 1));
}
