//! Strategic merge patch: a merge patch that knows which lists merge and by which key (A-073 to A-075). It does not
//! judge what comes out.

use crate::PatchError;
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
    for (key, value) in patch.iter().filter(|(key, _)| !is_directive(key)) {
        if value.is_null() {
            live.shift_remove(key);
            continue;
        }
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
    let mut merged = live.to_vec();
    // The patch's elements that stay, which is also their order unless another is given.
    let mut kept = Vec::new();
    for element in patch {
        match merge_key {
            None => {
                if !merged.contains(element) {
                    merged.push(element.clone());
                }
                kept.push(element.clone());
            }
            Some(key) => {
                let Value::Object(object) = element else {
                    return Err(PatchError::Malformed(format!("an element of {field} in the patch is no object")));
                };
                if merge_element(shape, key, &mut merged, field, object)? {
                    kept.push(element.clone());
                }
            }
        }
    }
    if let Some(order) = order {
        check_order(&kept, order, merge_key, field)?;
    }
    Ok(in_order(merged, order.unwrap_or(&kept), live, merge_key))
}

/// Merges one element into a list; false if the element deletes instead.
fn merge_element(
    shape: Shape<'_>,
    key: &str,
    list: &mut Vec<Value>,
    field: &str,
    patch: &Object,
) -> Result<bool, PatchError> {
    let Some(id) = patch.get(key) else {
        return Err(PatchError::Failed(format!("an element of {field} does not contain the merge key {key}")));
    };
    let replaces = match directive(patch)? {
        Some(Directive::Delete) => {
            list.retain(|element| element.get(key) != Some(id));
            return Ok(false);
        }
        Some(Directive::Replace) => true,
        Some(Directive::Merge) | None => false,
    };
    let patch = &without_directive(patch);
    // The first match alone: Service ports with equal numbers are the known defect of A-075.
    match list.iter_mut().find(|element| element.get(key) == Some(id)) {
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
    let names: Vec<&str> = retained.iter().filter_map(Value::as_str).collect();
    let foreign =
        patch.iter().find(|(key, value)| !is_directive(key) && !value.is_null() && !names.contains(&key.as_str()));
    if names.len() != retained.len() || foreign.is_some() {
        return Err(PatchError::Malformed(
            "$retainKeys must be a list of names that covers all fields of the patch".into(),
        ));
    }
    live.retain(|key, _| names.contains(&key.as_str()));
    Ok(())
}

fn delete_from_primitives(live: &mut Object, field: &str, gone: &Value) -> Result<(), PatchError> {
    let gone = items(DELETE_FROM, gone)?;
    if let Some(Value::Array(list)) = live.get_mut(field) {
        list.retain(|item| !gone.contains(item));
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

/// Two elements are the same one: equal merge keys, or equal values in a list without a key.
fn same(a: &Value, b: &Value, key: Option<&str>) -> bool {
    match key {
        Some(key) => a.get(key).is_some() && a.get(key) == b.get(key),
        None => a == b,
    }
}

/// The patch's elements must all be in the order list, and in that order.
fn check_order(patch: &[Value], order: &[Value], key: Option<&str>, field: &str) -> Result<(), PatchError> {
    let mut rest = order.iter();
    if patch.iter().all(|element| rest.any(|other| same(element, other, key))) {
        return Ok(());
    }
    Err(PatchError::Malformed(format!("{ELEMENT_ORDER}{field} does not have the order of the patch's list")))
}

/// Sorts a merged list by the elements that `order` names; the others keep their place among their neighbours.
fn in_order(merged: Vec<Value>, order: &[Value], live: &[Value], key: Option<&str>) -> Vec<Value> {
    let place = |list: &[Value], item: &Value| list.iter().position(|other| same(item, other, key));
    interleave(merged, |item| place(order, item), |item| place(live, item))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::json_value;
    use proptest::prelude::*;
    use serde_json::json;

    fn kind(name: &str) -> Kind {
        let (api_version, kind) = name.rsplit_once(' ').expect("API version and kind");
        Kind::find_by_api_version(api_version, kind).expect("in the table")
    }

    /// Statement, what is shown, kind, object, patch, result.
    type Row = (&'static str, &'static str, &'static str, Value, Value, Value);

    fn check(rows: Vec<Row>) {
        for (statement, what, name, live, patch, wanted) in rows {
            let patched = apply(kind(name), &live, &patch).expect(what);
            assert_eq!(patched, wanted, "{statement}: {what}");
        }
    }

    #[test]
    fn maps_merge_and_null_removes() {
        check(vec![
            (
                "A-073",
                "labels merge, null removes",
                "v1 Pod",
                json!({"metadata": {"labels": {"a": "1", "b": "2"}}}),
                json!({"metadata": {"labels": {"a": null, "c": "3"}}}),
                json!({"metadata": {"labels": {"b": "2", "c": "3"}}}),
            ),
            (
                "A-073",
                "null in what is new is not stored",
                "v1 Pod",
                json!({}),
                json!({"metadata": {"labels": {"a": null, "c": "3"}, "annotations": null}}),
                json!({"metadata": {"labels": {"c": "3"}}}),
            ),
            (
                "A-074",
                "a Service's selector merges as a map",
                "v1 Service",
                json!({"spec": {"selector": {"app": "a"}}}),
                json!({"spec": {"selector": {"tier": "b"}}}),
                json!({"spec": {"selector": {"app": "a", "tier": "b"}}}),
            ),
            (
                "A-073",
                "$patch: replace in a map",
                "v1 Service",
                json!({"spec": {"selector": {"app": "a"}}}),
                json!({"spec": {"selector": {"$patch": "replace", "tier": "b"}}}),
                json!({"spec": {"selector": {"tier": "b"}}}),
            ),
            (
                "A-073",
                "$patch: delete in a map empties it",
                "v1 Service",
                json!({"spec": {"selector": {"app": "a"}, "type": "ClusterIP"}}),
                json!({"spec": {"selector": {"$patch": "delete"}}}),
                json!({"spec": {"selector": {}, "type": "ClusterIP"}}),
            ),
            (
                "A-073",
                "$patch: merge is the ordinary merge",
                "v1 Service",
                json!({"spec": {"selector": {"app": "a"}}}),
                json!({"spec": {"$patch": "merge", "selector": {"tier": "b"}}}),
                json!({"spec": {"selector": {"app": "a", "tier": "b"}}}),
            ),
            (
                "A-073",
                "$retainKeys drops what it does not name",
                "apps/v1 Deployment",
                json!({"spec": {"strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 1}}}}),
                json!({"spec": {"strategy": {"$retainKeys": ["type"], "type": "Recreate"}}}),
                json!({"spec": {"strategy": {"type": "Recreate"}}}),
            ),
        ]);
    }

    #[test]
    fn lists_are_replaced_or_merged_by_their_key() {
        check(vec![
            (
                "A-074",
                "args are replaced, env merges by name",
                "v1 Pod",
                json!({"spec": {"containers": [{"name": "c", "args": ["a", "b"], "env": [{"name": "X", "value": "1"}]}]}}),
                json!({"spec": {"containers": [{"name": "c", "args": ["z"], "env": [{"name": "Y", "value": "2"}]}]}}),
                json!({"spec": {"containers": [{"name": "c", "args": ["z"],
                    "env": [{"name": "Y", "value": "2"}, {"name": "X", "value": "1"}]}]}}),
            ),
            (
                "A-074",
                "tolerations are replaced",
                "v1 Pod",
                json!({"spec": {"tolerations": [{"key": "a"}, {"key": "b"}]}}),
                json!({"spec": {"tolerations": [{"key": "c"}]}}),
                json!({"spec": {"tolerations": [{"key": "c"}]}}),
            ),
            (
                "A-073",
                "finalizers join",
                "v1 Pod",
                json!({"metadata": {"finalizers": ["a", "b"]}}),
                json!({"metadata": {"finalizers": ["b", "c"]}}),
                json!({"metadata": {"finalizers": ["a", "b", "c"]}}),
            ),
            (
                "A-073",
                "$deleteFromPrimitiveList takes out, and what is new comes first",
                "v1 Pod",
                json!({"metadata": {"finalizers": ["a", "b", "c"]}}),
                json!({"metadata": {"$deleteFromPrimitiveList/finalizers": ["b", "x"], "finalizers": ["d"]}}),
                json!({"metadata": {"finalizers": ["d", "a", "c"]}}),
            ),
            (
                "A-073",
                "$patch: delete takes an element out",
                "v1 Pod",
                json!({"spec": {"containers": [{"name": "a"}, {"name": "b"}]}}),
                json!({"spec": {"containers": [{"name": "a", "$patch": "delete"}, {"name": "zz", "$patch": "delete"}]}}),
                json!({"spec": {"containers": [{"name": "b"}]}}),
            ),
            (
                "A-073",
                "$patch: replace as an element replaces the list",
                "v1 Pod",
                json!({"spec": {"containers": [{"name": "a", "image": "x"}, {"name": "b"}]}}),
                json!({"spec": {"containers": [{"$patch": "replace"}, {"name": "a"}]}}),
                json!({"spec": {"containers": [{"name": "a"}]}}),
            ),
            (
                "A-073",
                "$patch: replace in an element replaces that element",
                "v1 Pod",
                json!({"spec": {"containers": [{"name": "a", "image": "x"}, {"name": "b"}]}}),
                json!({"spec": {"containers": [{"$patch": "replace", "name": "a", "tty": true}]}}),
                json!({"spec": {"containers": [{"name": "a", "tty": true}, {"name": "b"}]}}),
            ),
            (
                "A-074",
                "volumes retain only the keys named",
                "v1 Pod",
                json!({"spec": {"volumes": [{"name": "v", "emptyDir": {}}]}}),
                json!({"spec": {"volumes": [{"$retainKeys": ["name", "configMap"], "name": "v", "configMap": {"name": "m"}}]}}),
                json!({"spec": {"volumes": [{"name": "v", "configMap": {"name": "m"}}]}}),
            ),
            (
                "A-074",
                "conditions merge by type",
                "v1 Pod",
                json!({"status": {"conditions": [{"type": "Ready", "status": "False"}]}}),
                json!({"status": {"conditions": [{"type": "Ready", "status": "True"}, {"type": "X", "status": "True"}]}}),
                json!({"status": {"conditions": [{"type": "Ready", "status": "True"}, {"type": "X", "status": "True"}]}}),
            ),
            (
                "A-074",
                "owner references merge by uid",
                "v1 Pod",
                json!({"metadata": {"ownerReferences": [{"uid": "1", "name": "a"}]}}),
                json!({"metadata": {"ownerReferences": [{"uid": "1", "controller": true}, {"uid": "2", "name": "b"}]}}),
                json!({"metadata": {"ownerReferences": [{"uid": "1", "name": "a", "controller": true}, {"uid": "2", "name": "b"}]}}),
            ),
        ]);
    }

    #[test]
    fn element_order_is_that_of_the_directive() {
        let names = |names: &[&str]| -> Value { names.iter().map(|n| json!({"name": n})).collect() };
        let pod = |list: &[&str]| json!({"spec": {"containers": names(list)}});
        check(vec![
            (
                "A-073",
                "an order alone sorts and is not stored",
                "v1 Pod",
                pod(&["a", "b", "c"]),
                json!({"spec": {"$setElementOrder/containers": names(&["c", "a", "b"])}}),
                pod(&["c", "a", "b"]),
            ),
            (
                "A-073",
                "as `kubectl set image` sends it",
                "v1 Pod",
                pod(&["a", "b"]),
                json!({"spec": {"$setElementOrder/containers": names(&["a", "b"]), "containers": [{"name": "b", "image": "i"}]}}),
                json!({"spec": {"containers": [{"name": "a"}, {"name": "b", "image": "i"}]}}),
            ),
            (
                "A-073",
                "what the directive does not name keeps its neighbours",
                "v1 Pod",
                pod(&["server1", "a", "server2", "b"]),
                json!({"spec": {"$setElementOrder/containers": names(&["a", "new", "b"]), "containers": names(&["new"])}}),
                pod(&["server1", "a", "new", "server2", "b"]),
            ),
            (
                "A-073",
                "without a directive the patch's order counts among its elements",
                "v1 Pod",
                pod(&["a", "b", "c"]),
                json!({"spec": {"containers": names(&["c", "a"])}}),
                pod(&["b", "c", "a"]),
            ),
            (
                "A-073",
                "primitives",
                "v1 Pod",
                json!({"metadata": {"finalizers": ["a", "b", "c"]}}),
                json!({"metadata": {"$setElementOrder/finalizers": ["c", "d", "a"], "finalizers": ["d"]}}),
                json!({"metadata": {"finalizers": ["b", "c", "d", "a"]}}),
            ),
            (
                "A-073",
                "deletion and order together",
                "v1 Pod",
                pod(&["a", "b", "c"]),
                json!({"spec": {"$setElementOrder/containers": names(&["c", "a"]), "containers": [{"name": "b", "$patch": "delete"}]}}),
                pod(&["c", "a"]),
            ),
        ]);
    }

    // A-075
    #[test]
    fn service_ports_of_one_number_collapse_as_upstream() {
        let live = json!({"spec": {"ports": [{"name": "dns", "port": 53, "protocol": "UDP"}]}});
        let patch = json!({"spec": {"ports": [{"name": "dns-tcp", "port": 53, "protocol": "TCP"}]}});
        let patched = apply(kind("v1 Service"), &live, &patch).expect("a patch");
        assert_eq!(patched, json!({"spec": {"ports": [{"name": "dns-tcp", "port": 53, "protocol": "TCP"}]}}));
    }

    #[test]
    fn ill_formed_patches_are_refused() {
        let live = json!({"spec": {"containers": [{"name": "a"}]}, "metadata": {"finalizers": ["a"]}});
        let rows = [
            ("A-073", json!({"spec": {"containers": [{"image": "x"}]}}), true),
            ("A-073", json!({"spec": {"$patch": "remove"}}), false),
            ("A-073", json!({"spec": {"containers": ["a"]}}), false),
            ("A-073", json!({"spec": {"$setElementOrder/containers": "a"}}), false),
            ("A-073", json!({"metadata": {"$deleteFromPrimitiveList/finalizers": 1}}), false),
            ("A-073", json!({"spec": {"$retainKeys": ["containers"], "nodeName": "n"}}), false),
            (
                "A-073",
                json!({"spec": {"$setElementOrder/containers": [{"name": "a"}], "containers": [{"name": "b"}]}}),
                false,
            ),
            ("A-073", json!([]), false),
        ];
        for (statement, patch, unprocessable) in rows {
            let error = apply(kind("v1 Pod"), &live, &patch).expect_err(statement);
            assert_eq!(matches!(error, PatchError::Failed(_)), unprocessable, "{statement}: {patch}: {error}");
        }
    }

    proptest! {
        #[test]
        fn arbitrary_patches_never_panic(
            live in json_value(),
            patch in json_value(),
            directive in "\\$patch|\\$retainKeys|\\$setElementOrder/containers|\\$deleteFromPrimitiveList/finalizers",
        ) {
            let live = json!({"spec": {"containers": live.clone()}, "metadata": {"finalizers": live}});
            let patch = json!({"spec": {"containers": [patch.clone(), {"name": patch.clone(), directive.clone(): patch.clone()}], directive.clone(): patch.clone()},
                "metadata": {"finalizers": patch.clone(), directive: patch}});
            let _ = apply(kind("v1 Pod"), &live, &patch);
        }

        // A-073
        #[test]
        fn nothing_of_the_directives_is_left(order in Just(vec!["a", "b", "c"]).prop_shuffle(), gone in "[a-c]") {
            let names: Vec<Value> = order.iter().map(|n| json!({"name": n})).collect();
            let live = json!({"spec": {"containers": [{"name": "a"}, {"name": "b"}, {"name": "c"}]}});
            let patch = json!({"spec": {"$setElementOrder/containers": names,
                "containers": [{"name": gone, "$patch": "delete"}]}});
            let patched = apply(kind("v1 Pod"), &live, &patch).expect("a patch");
            let left: Vec<Value> = order.iter().filter(|n| **n != gone).map(|n| json!({"name": n})).collect();
            prop_assert_eq!(patched, json!({"spec": {"containers": left}}));
        }
    }
}
