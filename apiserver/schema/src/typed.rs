//! Values divided as server-side apply divides them: which fields a value has, how two values differ, what merging and
//! removing fields makes of them. It does not know who owns what.

use crate::fields::{FieldSet, key_element, value_element};
use crate::order::interleave;
use crate::table::{Definition, Field, Kind, Ownership, Type};
use serde_json::{Map, Value};
use std::collections::{BTreeMap, HashMap, HashSet};

/// How a value is divided into parts.
#[derive(Clone, Copy)]
pub(crate) enum Shape {
    /// Not at all.
    Leaf,
    /// By the fields of a type.
    Struct(&'static Definition),
    /// By key.
    Map(&'static Type),
    /// A list by the key fields of its elements.
    Keyed(&'static [&'static str], &'static Definition),
    /// A list by the values of its elements.
    Set,
}

impl Shape {
    pub(crate) fn of_kind(kind: Kind) -> Self {
        Self::Struct(kind.definition())
    }

    fn of_field(field: &'static Field) -> Self {
        match (&field.ownership, &field.ty) {
            (Ownership::Granular, Type::Object(id)) => Self::Struct(id.get()),
            (Ownership::Granular, Type::Map(value)) => Self::Map(value),
            (Ownership::Set, _) => Self::Set,
            (Ownership::Keyed(keys), Type::List(element)) => match element.as_ref() {
                Type::Object(id) => Self::Keyed(keys, id.get()),
                _ => Self::Leaf,
            },
            _ => Self::Leaf,
        }
    }

    /// The shape of a value that is not a field's: a map's.
    fn of_value(ty: &'static Type) -> Self {
        match ty {
            Type::Object(id) if !id.get().atomic => Self::Struct(id.get()),
            Type::Map(value) => Self::Map(value),
            _ => Self::Leaf,
        }
    }

    /// Whether parts exist on their own, so that owning them is owning more than what is in them.
    fn parts_are_items(self) -> bool {
        matches!(self, Self::Keyed(..) | Self::Set)
    }
}

/// A part of a value: its name in field sets, its value and how that is divided.
type Part<'v> = (String, &'v Value, Shape);

/// The parts of a value, or `None` if it has none: a leaf, or a list whose elements cannot be told apart.
fn parts(shape: Shape, value: &Value) -> Option<Vec<Part<'_>>> {
    match (shape, value) {
        (Shape::Struct(definition), Value::Object(map)) => {
            let part = |name: &String| definition.field(name).map_or(Shape::Leaf, Shape::of_field);
            Some(members(map).map(|(name, value)| (field_element(name), value, part(name))).collect())
        }
        (Shape::Map(ty), Value::Object(map)) => {
            Some(members(map).map(|(key, value)| (field_element(key), value, Shape::of_value(ty))).collect())
        }
        (Shape::Keyed(keys, definition), Value::Array(items)) => {
            let part = |item| Some((keyed_element(keys, definition, item).ok()?, item, Shape::Struct(definition)));
            distinct(items.iter().map(part).collect::<Option<_>>()?)
        }
        (Shape::Set, Value::Array(items)) => {
            distinct(items.iter().map(|item| (value_element(item), item, Shape::Leaf)).collect())
        }
        _ => None,
    }
}

fn field_element(name: &str) -> String {
    format!("f:{name}")
}

/// Members that are there: null is a way to write that one is not.
fn members(map: &Map<String, Value>) -> impl Iterator<Item = (&String, &Value)> {
    map.iter().filter(|(_, value)| !value.is_null())
}

fn distinct(parts: Vec<Part<'_>>) -> Option<Vec<Part<'_>>> {
    let names: HashSet<&str> = parts.iter().map(|(element, ..)| element.as_str()).collect();
    (names.len() == parts.len()).then_some(parts)
}

/// The name of a list element by its key fields; an error names the field that is missing.
fn keyed_element(keys: &[&'static str], definition: &Definition, item: &Value) -> Result<String, &'static str> {
    let mut found = BTreeMap::new();
    for key in keys {
        let default = || definition.field(key).and_then(|field| field.default.clone());
        let value = item.get(key).filter(|value| !value.is_null()).cloned().or_else(default);
        found.insert((*key).to_owned(), value.ok_or(*key)?);
    }
    Ok(key_element(found))
}

/// The fields that a value has.
pub(crate) fn field_set(shape: Shape, value: &Value) -> FieldSet {
    let parts = parts(shape, value).filter(|parts| !parts.is_empty());
    let Some(parts) = parts else { return FieldSet::leaf() };
    let mut set = FieldSet::default();
    for (element, value, part) in parts {
        let mut part = field_set(part, value);
        if shape.parts_are_items() {
            part.own();
        }
        set.insert(element, part);
    }
    set
}

/// How a value became another one.
#[derive(Default)]
pub(crate) struct Comparison {
    /// What is new or has another value.
    pub(crate) changed: FieldSet,
    /// What is no longer there, with all that was below it.
    pub(crate) removed: FieldSet,
}

impl Comparison {
    pub(crate) fn is_same(&self) -> bool {
        self.changed.is_empty() && self.removed.is_empty()
    }
}

/// Compares two values; the order of lists with distinguishable elements does not count.
pub(crate) fn compare(shape: Shape, old: &Value, new: &Value) -> Comparison {
    if old == new {
        return Comparison::default();
    }
    let (Some(old_parts), Some(new_parts)) = (parts(shape, old), parts(shape, new)) else {
        return Comparison { changed: field_set(shape, new), removed: FieldSet::default() };
    };
    let mut result = Comparison::default();
    if new_parts.is_empty() && !old_parts.is_empty() {
        // Emptied: the value itself is what is left to own.
        result.changed.own();
    }
    let old_by_name: HashMap<&str, &Value> =
        old_parts.iter().map(|(element, value, _)| (element.as_str(), *value)).collect();
    let new_names: HashSet<&str> = new_parts.iter().map(|(element, ..)| element.as_str()).collect();
    for (element, value, part) in &new_parts {
        match old_by_name.get(element.as_str()) {
            Some(old) => {
                let below = compare(*part, old, value);
                result.changed.insert(element.clone(), below.changed);
                result.removed.insert(element.clone(), below.removed);
            }
            None => {
                let mut added = field_set(*part, value);
                if shape.parts_are_items() || matches!(part, Shape::Map(_)) {
                    added.own();
                }
                result.changed.insert(element.clone(), added);
            }
        }
    }
    for (element, ..) in old_parts.iter().filter(|(element, ..)| !new_names.contains(element.as_str())) {
        result.removed.insert(element.clone(), FieldSet::leaf());
    }
    result
}

/// Lays an applied value over a live one. The applied value must have passed [`check`].
pub(crate) fn merge(shape: Shape, live: &Value, applied: &Value) -> Value {
    let (Some(live_parts), Some(applied_parts)) = (parts(shape, live), parts(shape, applied)) else {
        return applied.clone();
    };
    let place = |parts: &[Part<'_>]| -> HashMap<String, usize> {
        parts.iter().enumerate().map(|(at, (element, ..))| (element.clone(), at)).collect()
    };
    let (live_place, applied_place) = (place(&live_parts), place(&applied_parts));
    let mut merged: Vec<(String, Value)> = Vec::with_capacity(live_parts.len());
    for (element, value, part) in &live_parts {
        let over = applied_place.get(element).and_then(|at| applied_parts.get(*at));
        let value = over.map_or_else(|| (*value).clone(), |(_, over, _)| merge(*part, value, over));
        merged.push((element.clone(), value));
    }
    let new = applied_parts.iter().filter(|(element, ..)| !live_place.contains_key(element));
    merged.extend(new.map(|(element, value, part)| (element.clone(), without_nulls(*part, value))));
    if applied.is_array() {
        let sorted = interleave(
            merged,
            |(element, _)| applied_place.get(element).copied(),
            |(element, _)| live_place.get(element).copied(),
        );
        return sorted.into_iter().map(|(_, value)| value).collect();
    }
    // The elements of a struct or map are all `f:` and the name.
    Value::Object(
        merged.into_iter().map(|(element, value)| (element.get(2..).unwrap_or_default().to_owned(), value)).collect(),
    )
}

/// A value as it is stored: without the members that are null.
fn without_nulls(shape: Shape, value: &Value) -> Value {
    match value {
        Value::Object(_) if !matches!(shape, Shape::Leaf) => merge(shape, &Value::Object(Map::new()), value),
        Value::Array(_) if !matches!(shape, Shape::Leaf) => merge(shape, &Value::Array(Vec::new()), value),
        other => other.clone(),
    }
}

/// Takes the fields `gone` out of a value unless they, or something below them, are in `kept`. A map or list that
/// loses all it has goes too; `None` means that nothing is left.
pub(crate) fn remove(shape: Shape, value: &Value, gone: &FieldSet, kept: &FieldSet) -> Option<Value> {
    let Some(parts) = parts(shape, value) else { return Some(value.clone()) };
    let before = parts.len();
    let nothing = FieldSet::default();
    let mut left: Vec<(String, Value)> = Vec::with_capacity(before);
    for (element, value, part) in parts {
        let kept = kept.child(&element).unwrap_or(&nothing);
        let value = match gone.child(&element) {
            Some(gone) if gone.is_owned() && kept.is_empty() => None,
            Some(gone) => remove(part, value, gone, kept),
            None => Some(value.clone()),
        };
        left.extend(value.map(|value| (element, value)));
    }
    if left.is_empty() && before > 0 {
        return None;
    }
    Some(match value {
        Value::Array(_) => left.into_iter().map(|(_, value)| value).collect(),
        _ => Value::Object(
            left.into_iter().map(|(element, v)| (element.get(2..).unwrap_or_default().to_owned(), v)).collect(),
        ),
    })
}

/// Finds what cannot be applied: fields the type does not have, list elements that cannot be told apart.
///
/// # Errors
/// The first finding, as a path and a sentence.
pub(crate) fn check(shape: Shape, path: &mut String, value: &Value) -> Result<(), String> {
    match (shape, value) {
        (Shape::Struct(definition), Value::Object(map)) => {
            for (name, value) in members(map) {
                let Some(field) = definition.field(name) else {
                    return Err(format!("{path}.{name}: field not declared in schema"));
                };
                check_below(Shape::of_field(field), path, &format!(".{name}"), value)?;
            }
        }
        (Shape::Map(ty), Value::Object(map)) => {
            for (key, value) in members(map) {
                check_below(Shape::of_value(ty), path, &format!(".{key}"), value)?;
            }
        }
        (Shape::Keyed(keys, definition), Value::Array(items)) => {
            let mut seen = HashSet::new();
            for (index, item) in items.iter().enumerate() {
                let element = keyed_element(keys, definition, item)
                    .map_err(|key| format!("{path}: element {index} omits the key field {key:?}"))?;
                if !seen.insert(element) {
                    return Err(format!("{path}: element {index} has the same key as another one"));
                }
                check_below(Shape::Struct(definition), path, &format!("[{index}]"), item)?;
            }
        }
        (Shape::Set, Value::Array(items)) => {
            let mut seen = HashSet::new();
            if let Some(twice) = items.iter().find(|item| !seen.insert(value_element(item))) {
                return Err(format!("{path}: duplicate entry {twice}"));
            }
        }
        _ => {}
    }
    Ok(())
}

fn check_below(shape: Shape, path: &mut String, step: &str, value: &Value) -> Result<(), String> {
    let length = path.len();
    path.push_str(step);
    check(shape, path, value)?;
    path.truncate(length);
    Ok(())
}
