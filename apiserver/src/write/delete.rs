//! Deletion: at once, or marked and waiting for finalizers, grace and dependants.

use std::sync::Arc;

use bytes::Bytes;
use jiff::{SignedDuration, Timestamp};
use minisvc_store::Record;
use serde_json::{Value, json};

use super::Writer;
use super::commit::{Lost, Outcome};
use super::update::bump_generation;
use crate::error::{ApiError, FieldError};
use crate::request_info::{self, Query};
use crate::{meta, stored};

/// How often a deletion is tried when others write in between.
const TRIES: usize = 8;

const FOREGROUND: &str = "foregroundDeletion";
const ORPHAN: &str = "orphan";

/// What becomes of objects that name the deleted one as owner.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Propagation {
    /// The owner goes at once, the garbage collector deletes the dependants.
    Background,
    /// The owner waits for its dependants.
    Foreground,
    /// The dependants stay and lose the reference.
    Orphan,
}

/// How to delete, from the body or the query.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct DeleteOptions {
    pub(crate) grace_seconds: Option<i64>,
    pub(crate) propagation: Option<Propagation>,
    pub(crate) uid: Option<String>,
    pub(crate) resource_version: Option<String>,
    pub(crate) dry_run: bool,
}

impl DeleteOptions {
    /// Reads a DeleteOptions object; what the body leaves open comes from the query.
    pub(crate) fn read(body: Option<&Value>, query: &Query) -> Result<Self, ApiError> {
        let body = body.unwrap_or(&Value::Null);
        let text = |key: &str| body[key].as_str().or_else(|| query.get(key));
        let grace_seconds = match &body["gracePeriodSeconds"] {
            Value::Null => query.number("gracePeriodSeconds")?,
            number => {
                Some(number.as_i64().ok_or_else(|| ApiError::bad_request("gracePeriodSeconds must be an integer"))?)
            }
        };
        if grace_seconds.is_some_and(|seconds| seconds < 0) {
            return Err(invalid_options(
                "gracePeriodSeconds",
                json!(grace_seconds),
                "must be greater than or equal to 0",
            ));
        }
        let orphan = body["orphanDependents"].as_bool().or_else(|| query.optional_flag("orphanDependents"));
        let propagation = match (text("propagationPolicy"), orphan) {
            (Some(_), Some(_)) => {
                let why = "orphanDependents and propagationPolicy cannot be both set";
                return Err(invalid_options("propagationPolicy", body["propagationPolicy"].clone(), why));
            }
            (Some("Background"), None) | (None, Some(false)) => Some(Propagation::Background),
            (Some("Foreground"), None) => Some(Propagation::Foreground),
            (Some("Orphan"), None) | (None, Some(true)) => Some(Propagation::Orphan),
            (Some(other), None) => {
                let why = "must be one of Background, Foreground, Orphan";
                return Err(invalid_options("propagationPolicy", json!(other), why));
            }
            (None, None) => None,
        };
        let dry_runs: Vec<&str> = match &body["dryRun"] {
            Value::Array(values) => values.iter().map(|value| value.as_str().unwrap_or("?")).collect(),
            _ => query.get("dryRun").into_iter().collect(),
        };
        let precondition = |key: &str| body["preconditions"][key].as_str().map(str::to_owned);
        Ok(Self {
            grace_seconds,
            propagation,
            uid: precondition("uid"),
            resource_version: precondition("resourceVersion"),
            dry_run: request_info::dry_run(&dry_runs)?,
        })
    }
}

fn invalid_options(field: &str, value: Value, why: &str) -> ApiError {
    let errors = vec![FieldError::invalid(field, &value, why)];
    ApiError::Invalid { group: "meta.k8s.io", kind: "DeleteOptions", name: String::new(), errors }
}

/// What a deletion led to.
#[derive(Debug)]
pub(crate) struct Deleted {
    /// The object's last or present state, stored form.
    pub(crate) text: Bytes,
    /// It is gone; otherwise it is terminating.
    pub(crate) gone: bool,
    pub(crate) uid: String,
}

impl Writer<'_> {
    /// Deletes an object or begins to.
    pub(crate) async fn delete(&self, name: &str, options: &DeleteOptions) -> Result<Deleted, ApiError> {
        for _ in 0..TRIES {
            let record = self.server.record(self.resource, self.namespace, name)?;
            match self.delete_once(&record, name, options).await {
                Ok(deleted) => return Ok(deleted),
                Err(Lost::Failed(error)) => return Err(error),
                Err(Lost::Race(key)) => tracing::debug!(%key, "deletion lost a race, trying again"),
            }
        }
        Err(self.stale(name))
    }

    async fn delete_once(&self, record: &Arc<Record>, name: &str, options: &DeleteOptions) -> Result<Deleted, Lost> {
        let old = stored::decode(&record.value);
        self.check_preconditions(&old, name, options).map_err(Lost::Failed)?;
        let uid = meta::text(&old, "uid").to_owned();
        let grace = self.resource.graceful.map_or(0, |grace| grace(&old, options.grace_seconds));
        let mut new = old.clone();
        set_finalizers(&mut new, self.propagation(&old, options));
        self.mark(&mut new, &old, grace);
        if self.may_go(&new) {
            let plan = self.allocate(None, Some(&self.served(old.clone()))).map_err(Lost::Failed)?;
            let last = if meta::is_terminating(&old) { &new } else { &old };
            let text = self.commit(Outcome::Removed(record), last, &plan).await?;
            return Ok(Deleted { text, gone: true, uid });
        }
        if new == old {
            return Ok(Deleted { text: record.value.clone(), gone: false, uid });
        }
        let text = self.commit(Outcome::Updated(record), &new, &Default::default()).await?;
        Ok(Deleted { text, gone: false, uid })
    }

    /// What was asked for, else what the object's own finalizers say, else what is usual for its kind (P-086).
    fn propagation(&self, old: &Value, options: &DeleteOptions) -> Option<Propagation> {
        let decided = meta::finalizers(old).iter().any(|finalizer| finalizer == FOREGROUND || finalizer == ORPHAN);
        let usual = (self.resource.orphans_dependents && !decided).then_some(Propagation::Orphan);
        options.propagation.or(usual)
    }

    /// Refuses what is not meant for the object as it is.
    pub(crate) fn check_preconditions(&self, old: &Value, name: &str, options: &DeleteOptions) -> Result<(), ApiError> {
        let failed = |what: &str, wanted: &str, found: &str| ApiError::Conflict {
            target: Box::new(self.resource.target(name)),
            why: format!("Precondition failed: {what} in precondition: {wanted}, {what} in object meta: {found}"),
        };
        let stated = [("UID", &options.uid, "uid"), ("ResourceVersion", &options.resource_version, "resourceVersion")];
        for (what, wanted, key) in stated {
            let found = meta::text(old, key);
            if let Some(wanted) = wanted
                && wanted != found
            {
                return Err(failed(what, wanted, found));
            }
        }
        Ok(())
    }

    /// Sets the deletion time; a second deletion can only shorten the grace.
    fn mark(&self, new: &mut Value, old: &Value, grace: i64) {
        let present = old.pointer("/metadata/deletionGracePeriodSeconds").and_then(Value::as_i64);
        if meta::is_terminating(old) {
            let Some(present) = present.filter(|present| *present > grace) else { return };
            let shift = SignedDuration::from_secs(grace - present);
            let due = meta::text(old, "deletionTimestamp").parse::<Timestamp>().ok();
            let due = due.and_then(|due| due.checked_add(shift).ok()).unwrap_or(self.now);
            meta::set(new, "deletionTimestamp", meta::timestamp(due));
            meta::set(new, "deletionGracePeriodSeconds", grace);
            return;
        }
        let due = self.now.checked_add(SignedDuration::from_secs(grace)).unwrap_or(Timestamp::MAX);
        meta::set(new, "deletionTimestamp", meta::timestamp(due));
        meta::set(new, "deletionGracePeriodSeconds", grace);
        if old.pointer("/metadata/generation").is_some() {
            bump_generation(new);
        }
        if let Some(begin) = self.resource.begin_delete {
            begin(new);
        }
    }
}

/// The garbage collector's finalizers follow the policy; without one they stay as they are.
fn set_finalizers(object: &mut Value, propagation: Option<Propagation>) {
    let Some(propagation) = propagation else { return };
    let mut finalizers = meta::finalizers(object);
    finalizers.retain(|finalizer| finalizer != FOREGROUND && finalizer != ORPHAN);
    match propagation {
        Propagation::Background => {}
        Propagation::Foreground => finalizers.push(FOREGROUND.to_owned()),
        Propagation::Orphan => finalizers.push(ORPHAN.to_owned()),
    }
    if finalizers.is_empty() {
        meta::unset(object, "finalizers");
    } else {
        meta::set(object, "finalizers", finalizers);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    //
    #[test]
    fn options_come_from_the_body_or_the_query() {
        let query = Query::parse(Some("gracePeriodSeconds=7&propagationPolicy=Orphan"));
        let from_query = DeleteOptions::read(None, &query).unwrap();
        assert_eq!((from_query.grace_seconds, from_query.propagation), (Some(7), Some(Propagation::Orphan)));
        let body = json!({"gracePeriodSeconds": 0, "dryRun": ["All"], "preconditions": {"uid": "u"}});
        let from_body = DeleteOptions::read(Some(&body), &query).unwrap();
        assert_eq!((from_body.grace_seconds, from_body.dry_run), (Some(0), true));
        assert_eq!(from_body.uid.as_deref(), Some("u"));
        let old_style = DeleteOptions::read(Some(&json!({"orphanDependents": true})), &Query::default()).unwrap();
        assert_eq!(old_style.propagation, Some(Propagation::Orphan));
        for wrong in [json!({"gracePeriodSeconds": -1}), json!({"propagationPolicy": "Maybe"})] {
            assert_eq!(
                DeleteOptions::read(Some(&wrong), &Query::default()).unwrap_err().code().as_u16(),
                422,
                "{wrong}"
            );
        }
    }

    //
    #[test]
    fn the_policy_replaces_the_collectors_finalizers_only() {
        let mut object = json!({"metadata": {"finalizers": ["orphan", "a.b/c"]}});
        set_finalizers(&mut object, None);
        assert_eq!(meta::finalizers(&object), ["orphan", "a.b/c"]);
        set_finalizers(&mut object, Some(Propagation::Foreground));
        assert_eq!(meta::finalizers(&object), ["a.b/c", "foregroundDeletion"]);
        set_finalizers(&mut object, Some(Propagation::Background));
        assert_eq!(meta::finalizers(&object), ["a.b/c"]);
    }
}
