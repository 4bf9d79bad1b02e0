//! Strategic merge patch: a merge patch that knows which lists merge and by which key (A-073 to A-075). It does not
//! judge what comes out.

use std::collections::{HashMap, HashSet};

use crate::PatchError;
use crate::merge::remove_nulls;
use crate::order::interleave;
use crate::table::{Definition, Field, Kind, MergeStrategy, Type};
use serde_json::{Map, Value};

const DIRECTIVE: &str = "$patch";
const RETAIN_KEYS: &str = "$retainKeys";
const DELETE_FROM: &str = "$deleteFromPrimitiveList/";
const ELEMENT_ORDER: &str = "$setElementOrder/";

/// Applies a strategic merge patch to an object of the kind. No directive is left in the result.
///
/// ```
/// use minisvc_schema::{Kind, strategic};
/// use serde_json::json;
/// let kind = Kind::find("", "v1", "Pod").expect("in the table");
/// let live = json!({"spec": {"containers": [{"name": "a", "image": "x:1"}, {"name": "b", "image": "y"}]}});
/// let patch = json!({"spec": {"containers": [{"name": "a", "image": "x:2"}]}});
/// let patched = strategic::apply(kind, &live, &patch)?;
/// assert_eq!(patched["spec"]["containers"], json!([{"name": "a", "image": "x:2"}, {"name": "b", "image": "y"}]));
/// # Ok::<(), minisvc_schema::PatchError>(())
/// ```
///
/// # Errors
/// `Malformed` if the patch is no object or a directive is ill formed, `Failed` if an element of a merged list lacks
/// its merge key.
pub fn apply(kind: Kind, live: &Value, patch: &Value) -> Result<Value, PatchError> {
    let (Value::Object(live), Value::Object(patch)) = (live, patch) else {
        return Err(PatchError::Malformed("a strategic merge patch must be a JSON object".into()));
    };
    let shape = Shape::Object(kind.definition());
    Ok(Value::Object(merge_map(shape, live.clone(), patch)?))
}

/// What is known of a map's members.
#[derive(Clone, Copy)]
enum Shape<'a> {
    /// An object type with named fields.
    Object(&'a Definition),
    /// A map with values of one type.
    Map(&'a Type),
    /// Free JSON: nothing is known below.
    Free,
}

impl<'a> Shape<'a> {
    fn of(ty: &'a Type) -> Self {
        match ty {
            Type::Object(id) => Self::Object(id.get()),
            Type::Map(value) => Self::Map(value),
            Type::List(_) | Type::Scalar(_) => Self::Free,
        }
    }

    /// Shape and strategy of the member `key`; for a list, the shape is that of its elements.
    fn member(self, key: &str) -> (Self, MergeStrategy) {
        let (ty, strategy) = match self {
            Shape::Object(definition) => match definition.field(key) {
                Some(Field { ty, strategy, .. }) => (ty, *strategy),
                None => return (Shape::Free, MergeStrategy::default()),
            },
            Shape::Map(value) => (value, MergeStrategy::default()),
            Shape::Free => return (Shape::Free, MergeStrategy::default()),
        };
        match ty {
            Type::List(element) => (Self::of(element), strategy),
            other => (Self::of(other), strategy),
        }
    }
}

type Object = Map<String, Value>;

/// Merges a patch into a map: the heart of the format.
fn merge_map(shape: Shape<'_>, mut live: Object, patch: &Object) -> Result<Object, PatchError> {
    match directive(patch)? {
        Some(Directive::Replace) => return merge_map(shape, Object::new(), &without_directive(patch)),
        Some(Directive::Delete) => return Ok(Object::new()),
        Some(Directive::Merge) | None => {}
    }
    if let Some(retained) = patch.get(RETAIN_KEYS) {
        retain(&mut live, patch, retained)?;
    }
    remove_nulls(&mut live, patch);
    for (key, value) in patch.iter().filter(|(key, value)| !is_directive(key) && !value.is_null()) {
        let merged = merge_member(shape.member(key), live.get(key.as_str()), key, value, patch)?;
        live.insert(key.clone(), merged);
    }
    for (key, value) in patch {
        if let Some(field) = key.strip_prefix(DELETE_FROM) {
            delete_from_primitives(&mut live, field, value)?;
        } else if let Some(field) = key.strip_prefix(ELEMENT_ORDER) {
            // With a list of the same name in the patch, the merge has seen to the order.
            if let (Some(Value::Array(list)), false) = (live.get_mut(field), patch.contains_key(field)) {
                let key = shape.member(field).1.key;
                let before = list.clone();
                *list = in_order(std::mem::take(list), items(ELEMENT_ORDER, value)?, &before, key);
            }
        }
    }
    Ok(live)
}

fn merge_member(
    (shape, strategy): (Shape<'_>, MergeStrategy),
    live: Option<&Value>,
    key: &str,
    patch: &Value,
    siblings: &Object,
) -> Result<Value, PatchError> {
    match patch {
        Value::Object(patch) => {
            let live = live.and_then(Value::as_object).cloned().unwrap_or_default();
            Ok(Value::Object(merge_map(shape, live, patch)?))
        }
        Value::Array(patch) if strategy.merge => {
            let live = live.and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
            let order = siblings.get(&format!("{ELEMENT_ORDER}{key}"));
            let order = order.map(|order| items(ELEMENT_ORDER, order)).transpose()?;
            Ok(Value::Array(merge_list(shape, strategy.key, live, key, patch, order)?))
        }
        Value::Array(patch) => Ok(Value::Array(replacement(shape, patch)?)),
        scalar => Ok(scalar.clone()),
    }
}

/// The elements of a list that replaces another one, without the directives that may be in them.
fn replacement(shape: Shape<'_>, patch: &[Value]) -> Result<Vec<Value>, PatchError> {
    let elements = patch.iter().filter(|element| !is_replace_marker(element));
    elements
        .map(|element| match element {
            Value::Object(element) => Ok(Value::Object(merge_map(shape, Object::new(), &without_directive(element))?)),
            other => Ok(other.clone()),
        })
        .collect()
}

fn merge_list(
    shape: Shape<'_>,
    merge_key: Option<&str>,
    live: &[Value],
    field: &str,
    patch: &[Value],
    order: Option<&[Value]>,
) -> Result<Vec<Value>, PatchError> {
    if patch.iter().any(is_replace_marker) {
        return replacement(shape, patch);
    }
    let mut merged = Merged::new(live, merge_key);
    // The patch's elements that stay, which is also their order unless another is given.
    let mut kept = Vec::new();
    for element in patch {
        match merge_key {
            None => {
                if merged.first(element).is_none() {
                    merged.push(element.clone());
                }
                kept.push(element.clone());
            }
            Some(key) => {
                let Value::Object(object) = element else {
                    return Err(PatchError::Malformed(format!("an element of {field} in the patch is no object")));
                };
                if merge_element(shape, key, &mut merged, field, element, object)? {
                    kept.push(element.clone());
                }
            }
        }
    }
    if let Some(order) = order {
        check_order(&kept, order, merge_key, field)?;
    }
    Ok(in_order(merged.into_list(), order.unwrap_or(&kept), live, merge_key))
}

/// A list that is being merged, with its elements found by what identifies them: lists may be long.
struct Merged<'k> {
    key: Option<&'k str>,
    /// `None` where an element was deleted.
    elements: Vec<Option<Value>>,
    /// Where the elements of one identity are.
    places: HashMap<String, Vec<usize>>,
}

impl<'k> Merged<'k> {
    fn new(live: &[Value], key: Option<&'k str>) -> Self {
        let mut merged = Self { key, elements: Vec::with_capacity(live.len()), places: HashMap::new() };
        for element in live {
            merged.push(element.clone());
        }
        merged
    }

    fn push(&mut self, element: Value) {
        if let Some(id) = identity(&element, self.key) {
            self.places.entry(id).or_default().push(self.elements.len());
        }
        self.elements.push(Some(element));
    }

    /// The first element that is the same as this one.
    fn first(&mut self, element: &Value) -> Option<&mut Value> {
        let place = *self.places.get(&identity(element, self.key)?)?.first()?;
        self.elements.get_mut(place)?.as_mut()
    }

    fn delete(&mut self, element: &Value) {
        let gone = identity(element, self.key).and_then(|id| self.places.remove(&id));
        for place in gone.into_iter().flatten() {
            self.elements[place] = None;
        }
    }

    fn into_list(self) -> Vec<Value> {
        self.elements.into_iter().flatten().collect()
    }
}

/// Merges one element into a list; false if the element deletes instead.
fn merge_element(
    shape: Shape<'_>,
    key: &str,
    list: &mut Merged<'_>,
    field: &str,
    element: &Value,
    patch: &Object,
) -> Result<bool, PatchError> {
    if !patch.contains_key(key) {
        return Err(PatchError::Failed(format!("an element of {field} does not contain the merge key {key}")));
    }
    let replaces = match directive(patch)? {
        Some(Directive::Delete) => {
            list.delete(element);
            return Ok(false);
        }
        Some(Directive::Replace) => true,
        Some(Directive::Merge) | None => false,
    };
    let patch = &without_directive(patch);
    // The first match alone: Service ports with equal numbers are the known defect of A-075.
    match list.first(element) {
        Some(Value::Object(live)) => {
            let base = if replaces { Object::new() } else { std::mem::take(live) };
            *live = merge_map(shape, base, patch)?;
        }
        _ => list.push(Value::Object(merge_map(shape, Object::new(), patch)?)),
    }
    Ok(true)
}

enum Directive {
    Merge,
    Replace,
    Delete,
}

fn directive(patch: &Object) -> Result<Option<Directive>, PatchError> {
    match patch.get(DIRECTIVE).map(|value| value.as_str().unwrap_or_default()) {
        None => Ok(None),
        Some("merge") => Ok(Some(Directive::Merge)),
        Some("replace") => Ok(Some(Directive::Replace)),
        Some("delete") => Ok(Some(Directive::Delete)),
        Some(_) => Err(PatchError::Malformed("$patch must be merge, replace or delete".into())),
    }
}

fn without_directive(patch: &Object) -> Object {
    patch.iter().filter(|(key, _)| *key != DIRECTIVE).map(|(k, v)| (k.clone(), v.clone())).collect()
}

/// A list element that only says that the other elements replace the list.
fn is_replace_marker(element: &Value) -> bool {
    element.as_object().is_some_and(|e| e.len() == 1 && e.get(DIRECTIVE).is_some_and(|d| d == "replace"))
}

/// `$retainKeys`: what the list does not name goes, and the patch may set nothing else.
fn retain(live: &mut Object, patch: &Object, retained: &Value) -> Result<(), PatchError> {
    let retained = items(RETAIN_KEYS, retained)?;
    let names: HashSet<&str> = retained.iter().filter_map(Value::as_str).collect();
    let foreign =
        patch.iter().find(|(key, value)| !is_directive(key) && !value.is_null() && !names.contains(key.as_str()));
    if !retained.iter().all(Value::is_string) || foreign.is_some() {
        return Err(PatchError::Malformed(
            "$retainKeys must be a list of names that covers all fields of the patch".into(),
        ));
    }
    live.retain(|key, _| names.contains(key.as_str()));
    Ok(())
}

fn delete_from_primitives(live: &mut Object, field: &str, gone: &Value) -> Result<(), PatchError> {
    let gone: HashSet<String> = items(DELETE_FROM, gone)?.iter().map(Value::to_string).collect();
    if let Some(Value::Array(list)) = live.get_mut(field) {
        list.retain(|item| !gone.contains(&item.to_string()));
    }
    Ok(())
}

fn items<'v>(directive: &str, value: &'v Value) -> Result<&'v [Value], PatchError> {
    let list = value.as_array().map(Vec::as_slice);
    list.ok_or_else(|| PatchError::Malformed(format!("{directive} in the strategic merge patch must be a list")))
}

/// Whether a key steers the merge instead of naming a member.
fn is_directive(key: &str) -> bool {
    key == DIRECTIVE || key == RETAIN_KEYS || key.starts_with(DELETE_FROM) || key.starts_with(ELEMENT_ORDER)
}

/// What makes two elements the same one: equal merge keys, or equal values in a list without a key.
fn identity(element: &Value, key: Option<&str>) -> Option<String> {
    match key {
        Some(key) => element.get(key).map(Value::to_string),
        None => Some(element.to_string()),
    }
}

/// The patch's elements must all be in the order list, and in that order.
fn check_order(patch: &[Value], order: &[Value], key: Option<&str>, field: &str) -> Result<(), PatchError> {
    let mut rest = order.iter().map(|other| identity(other, key));
    let mut found = |element| {
        let wanted = identity(element, key);
        wanted.is_some() && rest.any(|other| other == wanted)
    };
    if patch.iter().all(&mut found) {
        return Ok(());
    }
    Err(PatchError::Malformed(format!("{ELEMENT_ORDER}{field} does not have the order of the patch's list")))
}

/// Sorts a merged list by the elements that `order` names; the others keep their place among their neighbours.
fn in_order(merged: Vec<Value>, order: &[Value], live: &[Value], key: Option<&str>) -> Vec<Value> {
    let places = |list: &[Value]| -> HashMap<String, usize> {
        // From the end, so that of equal elements the first place stays.
        let entries = list.iter().enumerate().rev();
        entries.filter_map(|(place, item)| Some((identity(item, key)?, place))).collect()
    };
    let (order, live) = (places(order), places(live));
    let place = |places: &HashMap<String, usize>, item: &Value| places.get(&identity(item, key)?).copied();
    interleave(merged, |item| place(&order, item), |item| place(&live, item))
}

#[cfg(test)]
#[path = "strategic_tests.rs"]
mod tests;
