//! The verbs on whole objects and collections.

use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::body::Body;
use axum::response::Response;
use http::StatusCode;
use minisvc_store::{Record, Revision};
use serde_json::{Value, json};

use super::Call;
use crate::error::{ApiError, success_status};
use crate::paging::{self, More, Records, Token};
use crate::registry::{Resource, Subresource};
use crate::render::json_value;
use crate::request_info::{ListOptions, VersionMatch, WriteOptions, resource_version};
use crate::schema::{self, PatchFormat};
use crate::selectors::{FieldSelector, LabelSelector};
use crate::write::{DeleteOptions, Deleted, Part, Writer, Written};
use crate::{body, meta, stored};

/// How long a read waits for a revision that is still to come.
const FUTURE_PATIENCE: Duration = Duration::from_secs(3);

/// Formats of PATCH named in a 415.
const PATCH_TYPES: &str = "application/json-patch+json, application/merge-patch+json, \
                           application/strategic-merge-patch+json, application/apply-patch+yaml";

pub(super) async fn get(call: &Call<'_>) -> Result<Response, ApiError> {
    let renderer = call.renderer()?;
    reach(call, resource_version(&call.query)?).await?;
    let record = call.server.record(call.resource, call.namespace(), call.name()?)?;
    Ok(renderer.object(StatusCode::OK, &record.value, &[]))
}

/// Waits until the store is at least at the revision the client has already seen.
pub(super) async fn reach(call: &Call<'_>, revision: Option<u64>) -> Result<(), ApiError> {
    let wanted = Revision(revision.unwrap_or(0));
    if wanted <= call.server.store.revision() {
        return Ok(());
    }
    let reached = call.server.store.wait_for(wanted, FUTURE_PATIENCE).await;
    reached.map_err(|late| ApiError::RevisionTooLarge { wanted: late.requested.0, current: late.current.0 })
}

/// Which objects of a kind are meant.
#[derive(Debug, Clone)]
pub(super) struct Selection {
    resource: Arc<Resource>,
    labels: LabelSelector,
    fields: FieldSelector,
}

impl Selection {
    pub(super) fn parse(call: &Call<'_>, options: &ListOptions) -> Result<Self, ApiError> {
        let labels = LabelSelector::parse(&options.label_selector)?;
        let mut fields = FieldSelector::parse(&options.field_selector, call.resource.selectable_names)?;
        if let Some(name) = &call.path.name {
            if fields.name().is_some_and(|other| other != name) {
                return Err(ApiError::bad_request("fieldSelector metadata.name doesn't match requested name"));
            }
            fields = fields.and(FieldSelector::by_name(name));
        }
        Ok(Self { resource: Arc::clone(call.resource), labels, fields })
    }

    /// No selector leaves anything out.
    pub(super) fn is_everything(&self) -> bool {
        self.labels.is_empty() && self.fields.is_empty()
    }

    pub(super) fn matches(&self, record: &Record) -> bool {
        if self.is_everything() {
            return true;
        }
        let head = &record.head;
        // The head has the fields of the stored kind; one that is only served has others.
        let own = match &self.resource.stored_as {
            Some(other) if !self.fields.is_empty() => {
                let mut object = stored::decode(&record.value);
                (other.from_stored)(&mut object);
                Some((self.resource.selectable)(&object))
            }
            _ => None,
        };
        let field = |name: &str| match (name, &own) {
            ("metadata.name", _) => Some(&*record.key.name),
            ("metadata.namespace", _) => Some(&*record.key.namespace),
            (other, Some(fields)) => fields.iter().find(|(key, _)| *key == other).map(|(_, value)| value.as_str()),
            (other, None) => head.field(other),
        };
        self.fields.matches(field) && self.labels.matches(|key| head.label(key))
    }
}

/// The records a request selects, and the revision at which these were all.
pub(super) fn select(call: &Call<'_>, selection: &Selection) -> (Vec<Arc<Record>>, Revision) {
    let namespace = call.path.namespace.as_deref();
    let (mut records, revision) = call.server.store.list(&call.resource.storage(), namespace);
    records.retain(|record| selection.matches(record));
    (records, revision)
}

pub(super) async fn list(call: &Call<'_>) -> Result<Response, ApiError> {
    let renderer = call.renderer()?;
    let options = ListOptions::from_query(&call.query, false)?;
    let selection = Selection::parse(call, &options)?;
    reach(call, options.resource_version).await?;
    let storage = call.resource.storage();
    let namespace = call.path.namespace.as_deref();
    let (present, now) = (call.server.store.list(&storage, namespace), Instant::now());
    let (all, revision): (Records, Revision) = match options.token.as_ref().and_then(|token| token.revision) {
        Some(moment) if moment != present.1.0 => {
            let kept = call.server.snapshots.find(&storage, namespace, Revision(moment), now);
            let expired = || options.token.clone().map(|token| token.without_moment().encode()).unwrap_or_default();
            (kept.ok_or_else(|| ApiError::ContinueExpired { token: expired() })?, Revision(moment))
        }
        _ => (present.0.into(), present.1),
    };
    if options.version_match == Some(VersionMatch::Exact) && options.resource_version != Some(revision.0) {
        // Only the present is kept whole; the past cannot be put together again.
        let wanted = options.resource_version.unwrap_or_default();
        return Err(ApiError::Expired(format!("The provided resource version is too old: {wanted} ({revision})")));
    }
    let rest = options.token.as_ref().map_or(&*all, |token| paging::after(&all, &token.after));
    let mut records: Vec<Arc<Record>> = rest.iter().filter(|record| selection.matches(record)).cloned().collect();
    // Who is content with any moment gets everything at once.
    let limit = options.limit.filter(|_| options.token.is_some() || options.resource_version != Some(0));
    let mut more = More::default();
    if let Some(limit) = limit.filter(|limit| *limit < records.len()) {
        more.remaining = selection.is_everything().then(|| records.len() - limit);
        records.truncate(limit);
        let key = records.last().map(|record| &record.key);
        let after = key.map(|key| (key.namespace.to_string(), key.name.to_string())).unwrap_or_default();
        // The rest of a list that has lost its moment goes on without one.
        let lost = options.token.as_ref().is_some_and(|token| token.revision.is_none());
        let moment = (!lost).then_some(revision.0);
        if !lost {
            call.server.snapshots.keep(&storage, namespace, revision, &all, now);
        }
        more.token = Some(Token { revision: moment, after }.encode());
    }
    Ok(renderer.list(records, revision, &more))
}

/// A writer for this request.
pub(super) fn writer<'a>(call: &'a Call<'a>, part: Part, dry_run: bool, manager: &'a str) -> Writer<'a> {
    Writer {
        server: call.server,
        resource: call.resource,
        namespace: call.namespace(),
        part,
        subresource: call.subresource.map_or("", Subresource::segment),
        applied: false,
        dry_run,
        manager,
        asker: Some(&call.identity),
        now: call.now,
    }
}

pub(super) async fn create(call: &Call<'_>, body: Body) -> Result<Response, ApiError> {
    if call.path.name.is_some() {
        return Err(call.not_allowed());
    }
    let renderer = call.renderer()?;
    let options = WriteOptions::from_query(&call.query)?;
    let bytes = body::collect(body).await?;
    let kind = (&**call.resource).into();
    let decoded = body::decode_object(call.headers, &bytes, &kind, options.field_validation)?;
    let manager = call.manager(options.field_manager.as_deref());
    let written = writer(call, Part::Object, options.dry_run, &manager).create(decoded.object).await?;
    let warnings = [decoded.warnings, written.warnings].concat();
    Ok(renderer.object(StatusCode::CREATED, &written.text, &warnings))
}

pub(super) async fn update(call: &Call<'_>, body: Body) -> Result<Response, ApiError> {
    let renderer = call.renderer()?;
    let part = part_of(call);
    let options = WriteOptions::from_query(&call.query)?;
    let bytes = body::collect(body).await?;
    let kind = (&**call.resource).into();
    let decoded = body::decode_object(call.headers, &bytes, &kind, options.field_validation)?;
    let manager = call.manager(options.field_manager.as_deref());
    let writer = writer(call, part, options.dry_run, &manager);
    let name = call.name()?;
    let written = match writer.update(name, &mut |_| Ok(decoded.object.clone())).await {
        Err(ApiError::NotFound(_)) if part == Part::Object && call.resource.allow_create_on_update => {
            let mut object = decoded.object;
            check_name(&object, name)?;
            let uid = meta::text(&object, "uid");
            if !uid.is_empty() {
                let why = format!("Precondition failed: UID in precondition: {uid}, UID in object meta: ");
                return Err(ApiError::Conflict { target: Box::new(call.resource.target(name)), why });
            }
            call.authorize_create()?;
            meta::set(&mut object, "name", name);
            // There is nothing that the revision could be of.
            meta::unset(&mut object, "resourceVersion");
            writer.create(object).await?
        }
        other => other?,
    };
    let warnings = [decoded.warnings, written.warnings].concat();
    Ok(renderer.object(Call::created_or_ok(written.created), &written.text, &warnings))
}

/// The part of the object that the path addresses.
fn part_of(call: &Call<'_>) -> Part {
    if call.subresource.is_some() { Part::Status } else { Part::Object }
}

/// The patch format the content type names.
pub(super) fn patch_format(call: &Call<'_>) -> Result<PatchFormat, ApiError> {
    match body::content_type(call.headers).as_str() {
        "application/json-patch+json" => Ok(PatchFormat::Json),
        "application/merge-patch+json" => Ok(PatchFormat::Merge),
        "application/strategic-merge-patch+json" => Ok(PatchFormat::Strategic),
        "application/apply-patch+yaml" => Ok(PatchFormat::Apply),
        _ => Err(ApiError::UnsupportedMediaType(PATCH_TYPES)),
    }
}

pub(super) async fn patch(call: &Call<'_>, body: Body) -> Result<Response, ApiError> {
    let renderer = call.renderer()?;
    let format = patch_format(call)?;
    let options = WriteOptions::from_query(&call.query)?;
    let bytes = body::collect(body).await?;
    let written = apply_patch(call, format, &options, &bytes).await?;
    Ok(renderer.object(Call::created_or_ok(written.created), &written.text, &written.warnings))
}

async fn apply_patch(
    call: &Call<'_>,
    format: PatchFormat,
    options: &WriteOptions,
    bytes: &[u8],
) -> Result<Written, ApiError> {
    if options.force.is_some() && format != PatchFormat::Apply {
        let error = crate::error::FieldError::forbidden("force", "may not be specified for non-apply patch");
        let name = String::new();
        return Err(ApiError::Invalid { group: "meta.k8s.io", kind: "PatchOptions", name, errors: vec![error] });
    }
    if format == PatchFormat::Apply {
        return apply(call, options, bytes).await;
    }
    let (patch, duplicates) = schema::decode_json(bytes)?;
    // The operations of a JSON patch are no part of the object; a merge has its shape.
    let duplicates = if format == PatchFormat::Json { Vec::new() } else { duplicates };
    let manager = call.manager(options.field_manager.as_deref());
    let writer = writer(call, part_of(call), options.dry_run, &manager);
    let mut warnings = Vec::new();
    let mut change = |old: &Value| {
        let patched = schema::patch(call.resource, format, old, &patch)?;
        let checked = schema::check(&(&**call.resource).into(), patched, &duplicates, options.field_validation)?;
        warnings = checked.warnings;
        Ok(checked.object)
    };
    let mut written = writer.update(call.name()?, &mut change).await?;
    written.warnings.extend(warnings);
    Ok(written)
}

/// Server-side apply: creates what is not there.
async fn apply(call: &Call<'_>, options: &WriteOptions, bytes: &[u8]) -> Result<Written, ApiError> {
    let Some(manager) = options.field_manager.as_deref() else {
        let error = crate::error::FieldError::required("fieldManager", "is required for apply patch");
        let name = String::new();
        return Err(ApiError::Invalid { group: "meta.k8s.io", kind: "PatchOptions", name, errors: vec![error] });
    };
    let name = call.name()?;
    let (config, duplicates) = schema::decode_yaml(bytes)?;
    let decoded = schema::check(&(&**call.resource).into(), config, &duplicates, options.field_validation)?;
    let config = decoded.object;
    check_name(&config, name)?;
    let force = options.force.unwrap_or(false);
    let mut writer = writer(call, part_of(call), options.dry_run, manager);
    writer.applied = true;
    let by = schema::Manager { name: manager, subresource: writer.subresource, now: call.now };
    let mut change = |old: &Value| schema::apply(call.resource, Some(old), &config, &by, force);
    let mut written = match writer.update(name, &mut change).await {
        Err(ApiError::NotFound(_)) if writer.part == Part::Object => {
            call.authorize_create()?;
            let mut object = schema::apply(call.resource, None, &config, &by, force)?;
            meta::set(&mut object, "name", name);
            writer.create(object).await?
        }
        other => other?,
    };
    written.warnings.extend(decoded.warnings);
    Ok(written)
}

/// The name in a body, if any, must be that of the URL.
fn check_name(object: &Value, name: &str) -> Result<(), ApiError> {
    match meta::text(object, "name") {
        "" => Ok(()),
        found if found == name => Ok(()),
        found => Err(ApiError::BadRequest(format!(
            "the name of the object ({found}) does not match the name on the URL ({name})"
        ))),
    }
}

/// The DeleteOptions of a request.
pub(super) async fn delete_options(call: &Call<'_>, body: Body) -> Result<DeleteOptions, ApiError> {
    let bytes = body::collect(body).await?;
    let options = body::decode_optional(call.headers, &bytes)?;
    DeleteOptions::read(options.as_ref(), &call.query)
}

pub(super) async fn delete(call: &Call<'_>, body: Body) -> Result<Response, ApiError> {
    let renderer = call.renderer()?;
    let options = delete_options(call, body).await?;
    let name = call.name()?;
    let deleted = writer(call, Part::Object, options.dry_run, "").delete(name, &options).await?;
    if !deleted.gone || call.resource.returns_deleted_object {
        return Ok(renderer.object(StatusCode::OK, &deleted.text, &[]));
    }
    Ok(json_value(StatusCode::OK, &deleted_status(call, name, &deleted)))
}

fn deleted_status(call: &Call<'_>, name: &str, deleted: &Deleted) -> Value {
    let mut details = json!({"name": name});
    if !call.resource.group.is_empty() {
        details["group"] = json!(call.resource.group);
    }
    details["kind"] = json!(call.resource.plural);
    details["uid"] = json!(deleted.uid);
    success_status(None, Some(details))
}

/// Deletes what the selectors choose, one by one; what others delete meanwhile is simply gone.
pub(super) async fn delete_collection(call: &Call<'_>, body: Body) -> Result<Response, ApiError> {
    let renderer = call.renderer()?;
    let list_options = ListOptions::from_query(&call.query, false)?;
    let selection = Selection::parse(call, &list_options)?;
    let options = delete_options(call, body).await?;
    let (records, _) = select(call, &selection);
    let writer = writer(call, Part::Object, options.dry_run, "");
    let mut texts = Vec::with_capacity(records.len());
    for record in records {
        match writer.delete(&record.key.name, &options).await {
            Ok(deleted) => texts.push(deleted.text),
            Err(ApiError::NotFound(_)) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(renderer.deleted_list(&texts, call.server.store.revision()))
}
