//! Server-side apply and the tracking of who owns which field (A-077 to A-082). It does no defaulting and decides
//! nothing about the kind: the caller does that to what comes out.

use crate::fields::FieldSet;
use crate::managers::{self, Entry, Id, Operation};
use crate::normalize::normalize_known;
use crate::table::Kind;
use crate::typed::{Comparison, Shape, check, compare, field_set, merge, remove};
use serde_json::{Map, Value};
use std::collections::BTreeMap;
use std::sync::OnceLock;

/// Entries of ordinary writers beyond this are joined into one, oldest first, as upstream does.
const MOST_UPDATE_ENTRIES: usize = 10;

/// The manager that gets what the joined entries owned.
const ANCIENT: &str = "ancient-changes";

/// The manager that owns what was there before anything was tracked.
const BEFORE_FIRST_APPLY: &str = "before-first-apply";

/// Who writes, where and when.
#[derive(Debug, Clone, Copy)]
pub struct Writer<'a> {
    /// Name of the field manager.
    pub manager: &'a str,
    /// `status`, `scale` and so on; empty for the object itself.
    pub subresource: &'a str,
    /// The time that changed entries get, in whole seconds.
    pub now: jiff::Timestamp,
}

/// Why a configuration cannot be applied.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ApplyError {
    /// The configuration itself is wrong: 400 BadRequest.
    #[error("{0}")]
    Invalid(String),
    /// Other managers own what it would change: 409 Conflict (A-080).
    #[error("{}", conflicts_text(.0))]
    Conflicts(Vec<Conflict>),
}

/// One field that another manager owns.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Conflict {
    /// Who, as in `"kubectl" using apps/v1 at 2026-11-21T00:00:00Z`.
    pub manager: String,
    /// Path of the field, such as `.spec.replicas`.
    pub field: String,
}

impl Conflict {
    /// The message of the cause that stands for this conflict, `conflict with "M" using GV at TIME`.
    #[must_use]
    pub fn message(&self) -> String {
        format!("conflict with {}", self.manager)
    }
}

fn conflicts_text(conflicts: &[Conflict]) -> String {
    if let [one] = conflicts {
        return format!("Apply failed with 1 conflict: {}: {}", one.message(), one.field);
    }
    let mut by_manager: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for conflict in conflicts {
        by_manager.entry(&conflict.manager).or_default().push(&conflict.field);
    }
    let mut lines = Vec::new();
    for (manager, fields) in by_manager {
        lines.push(format!("conflicts with {manager}:"));
        lines.extend(fields.iter().map(|field| format!("- {field}")));
    }
    format!("Apply failed with {} conflicts: {}", conflicts.len(), lines.join("\n"))
}

/// Applies a configuration to an object, or makes the object of it if there is none.
///
/// The result has the fields of both, those of the configuration winning; what this manager applied before and now
/// leaves out is removed unless someone else owns it; `metadata.managedFields` says who owns what. A configuration that
/// changes nothing gives back an equal object. A null in it says nothing. `status` counts on the status subresource only, `spec` not there. The
/// caller checks types beforehand ([`type_errors`](crate::type_errors)) and `resourceVersion` afterwards.
///
/// ```
/// use minisvc_schema::{Kind, Writer, apply};
/// use serde_json::json;
/// let kind = Kind::find("", "v1", "ConfigMap").expect("in the table");
/// let writer = |manager| Writer { manager, subresource: "", now: jiff::Timestamp::UNIX_EPOCH };
/// let config = |data| json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "c"}, "data": data});
/// let live = apply(kind, None, &config(json!({"a": "1"})), &writer("x"), false)?;
/// let error = apply(kind, Some(&live), &config(json!({"a": "2"})), &writer("y"), false).expect_err("owned by x");
/// assert_eq!(error.to_string(), r#"Apply failed with 1 conflict: conflict with "x": .data.a"#);
/// # Ok::<(), minisvc_schema::ApplyError>(())
/// ```
///
/// # Errors
/// `Conflicts` if `force` is not set and another manager owns a field that would change; `Invalid` for a configuration
/// with `managedFields`, with fields the kind does not have, or with list elements that cannot be told apart.
pub fn apply(
    kind: Kind,
    live: Option<&Value>,
    config: &Value,
    writer: &Writer<'_>,
    force: bool,
) -> Result<Value, ApplyError> {
    let shape = Shape::of_kind(kind);
    let config = prepare(kind, shape, config, writer)?;
    let nothing = Value::Object(Map::new());
    let base = live.unwrap_or(&nothing);
    let mut entries = entries_before_apply(shape, live, kind);
    let id = id(kind, writer, Operation::Apply);
    let previous = take(&mut entries, &id);
    let wanted = unstripped(field_set(shape, &config));

    let merged = merge(shape, base, &config);
    let kept = entries.iter().fold(wanted.clone(), |kept, entry| kept.union(&entry.fields));
    let gone = previous.as_ref().map(|entry| entry.fields.difference(&wanted)).unwrap_or_default();
    let mut result = remove(shape, &merged, &gone, &kept).unwrap_or_else(|| nothing.clone());

    let comparison = stripped_comparison(shape, base, &result);
    if !force {
        let conflicts = conflicts(&entries, &comparison);
        if !conflicts.is_empty() {
            return Err(ApplyError::Conflicts(conflicts));
        }
    }
    give_up(&mut entries, &comparison);
    let unchanged = previous.filter(|entry| entry.fields == wanted && comparison.is_same());
    entries.push(unchanged.unwrap_or_else(|| Entry { id, time: Some(time(writer)), fields: wanted }));
    put(&mut result, managers::write(entries));
    Ok(result)
}

/// The `managedFields` of an object after an ordinary write, create (`old` absent) or update.
///
/// Fields that the write changed move to the writer's entry, fields that it removed to none; a write that changes
/// nothing leaves the entries as they were. A list that the write itself carries in `new` replaces the old one first,
/// and a list of one empty entry clears it (A-082). Call it after defaulting and before the server allocates or stamps
/// anything, which no client owns.
///
/// ```
/// use minisvc_schema::{Kind, Writer, track_update};
/// use serde_json::json;
/// let kind = Kind::find("", "v1", "ConfigMap").expect("in the table");
/// let writer = Writer { manager: "kubectl-create", subresource: "", now: jiff::Timestamp::UNIX_EPOCH };
/// let entries = track_update(kind, None, &json!({"metadata": {"name": "c"}, "data": {"a": "1"}}), &writer);
/// assert_eq!(entries[0]["fieldsV1"], json!({"f:data": {".": {}, "f:a": {}}}));
/// ```
#[must_use]
pub fn track_update(kind: Kind, old: Option<&Value>, new: &Value, writer: &Writer<'_>) -> Vec<Value> {
    let shape = Shape::of_kind(kind);
    let nothing = Value::Object(Map::new());
    if managers::asks_to_clear(new) {
        return Vec::new();
    }
    let mut entries = managers::read(new).or_else(|| managers::read(old?)).unwrap_or_default();
    let comparison = stripped_comparison(shape, old.unwrap_or(&nothing), new);
    if comparison.is_same() {
        return managers::write(entries);
    }
    give_up(&mut entries, &comparison);
    let id = id(kind, writer, Operation::Update);
    let before = take(&mut entries, &id).map(|entry| entry.fields).unwrap_or_default();
    let fields = before.join(comparison.changed);
    entries.push(Entry { id, time: Some(time(writer)), fields });
    join_oldest(&mut entries);
    managers::write(entries)
}

/// The configuration as it counts here: normal in form, without what this endpoint ignores, checked.
fn prepare(kind: Kind, shape: Shape, config: &Value, writer: &Writer<'_>) -> Result<Value, ApplyError> {
    if config.pointer("/metadata/managedFields").is_some_and(|fields| !fields.is_null()) {
        return Err(ApplyError::Invalid("metadata.managedFields must be nil".into()));
    }
    let mut config = config.clone();
    normalize_known(kind, &mut config);
    let Value::Object(object) = &mut config else {
        return Err(ApplyError::Invalid("the applied configuration must be an object".into()));
    };
    match writer.subresource {
        "" => object.shift_remove("status"),
        "status" => object.shift_remove("spec"),
        _ => None,
    };
    check(shape, &mut String::new(), &config).map_err(ApplyError::Invalid)?;
    Ok(config)
}

/// The entries of the live object. Of one that was never tracked, a manager of its own owns everything, so that the
/// first apply does not silently take it over.
fn entries_before_apply(shape: Shape, live: Option<&Value>, kind: Kind) -> Vec<Entry> {
    let Some(live) = live else { return Vec::new() };
    managers::read(live).unwrap_or_else(|| {
        let writer = Writer { manager: BEFORE_FIRST_APPLY, subresource: "", now: jiff::Timestamp::UNIX_EPOCH };
        let fields = unstripped(field_set(shape, live));
        vec![Entry { id: id(kind, &writer, Operation::Update), time: None, fields }]
    })
}

fn id(kind: Kind, writer: &Writer<'_>, operation: Operation) -> Id {
    Id {
        operation,
        manager: writer.manager.to_owned(),
        api_version: kind.api_version(),
        subresource: writer.subresource.to_owned(),
    }
}

fn time(writer: &Writer<'_>) -> String {
    writer.now.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}

fn take(entries: &mut Vec<Entry>, id: &Id) -> Option<Entry> {
    let at = entries.iter().position(|entry| entry.id == *id)?;
    Some(entries.remove(at))
}

fn conflicts(entries: &[Entry], comparison: &Comparison) -> Vec<Conflict> {
    let of_entry = |entry: &Entry| {
        let manager = entry.for_people();
        let paths = entry.fields.intersection(&comparison.changed).paths();
        paths.into_iter().map(move |field| Conflict { manager: manager.clone(), field })
    };
    entries.iter().flat_map(of_entry).collect()
}

/// Everyone loses what was changed by someone else, or is no longer there.
fn give_up(entries: &mut [Entry], comparison: &Comparison) {
    for entry in entries {
        entry.fields.subtract(&comparison.changed);
        entry.fields.cut(&comparison.removed);
    }
}

fn stripped_comparison(shape: Shape, old: &Value, new: &Value) -> Comparison {
    let Comparison { changed, removed } = compare(shape, old, new);
    Comparison { changed: unstripped(changed), removed: unstripped(removed) }
}

/// A set without the fields that identify an object or are the server's: nobody owns them.
fn unstripped(mut set: FieldSet) -> FieldSet {
    static STRIPPED: OnceLock<(FieldSet, FieldSet)> = OnceLock::new();
    let (below, alone) = STRIPPED.get_or_init(|| {
        let mut metadata = FieldSet::default();
        for name in [
            "creationTimestamp",
            "generation",
            "managedFields",
            "name",
            "namespace",
            "resourceVersion",
            "selfLink",
            "uid",
        ] {
            metadata.insert(format!("f:{name}"), FieldSet::leaf());
        }
        let mut below = FieldSet::default();
        below.insert("f:apiVersion".into(), FieldSet::leaf());
        below.insert("f:kind".into(), FieldSet::leaf());
        below.insert("f:metadata".into(), metadata);
        let mut alone = FieldSet::default();
        alone.insert("f:metadata".into(), FieldSet::leaf());
        (below, alone)
    });
    set.cut(below);
    set.subtract(alone);
    set
}

/// Keeps the entries of ordinary writers few: the oldest of an API version become one.
fn join_oldest(entries: &mut Vec<Entry>) {
    let is_update = |entry: &Entry| entry.id.operation == Operation::Update && entry.id.subresource.is_empty();
    loop {
        let mut updates: Vec<usize> = (0..entries.len()).filter(|at| is_update(&entries[*at])).collect();
        if updates.len() <= MOST_UPDATE_ENTRIES {
            return;
        }
        updates.sort_by(|a, b| entries[*a].time.cmp(&entries[*b].time));
        let (first, second) = (entries[updates[0]].clone(), entries[updates[1]].clone());
        let id = Id { manager: ANCIENT.to_owned(), ..second.id.clone() };
        let joined = Entry { id, time: second.time.clone(), fields: first.fields.union(&second.fields) };
        entries.retain(|entry| *entry != first && *entry != second);
        entries.push(joined);
    }
}

fn put(object: &mut Value, entries: Vec<Value>) {
    let Value::Object(object) = object else { return };
    let metadata = object.entry("metadata").or_insert_with(|| Value::Object(Map::new()));
    if let Value::Object(metadata) = metadata {
        if entries.is_empty() {
            metadata.shift_remove("managedFields");
        } else {
            metadata.insert("managedFields".to_owned(), Value::Array(entries));
        }
    }
}

#[cfg(test)]
#[path = "apply_tests.rs"]
mod tests;
