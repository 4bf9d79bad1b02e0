//! One spelling for each object: what a server with typed objects would store of a body. It does no defaulting.

use crate::quantity::canonical_quantity;
use crate::table::{Definition, Field, Kind, Scalar, Type};
use serde_json::{Map, Value};

/// Brings a body into the form in which objects are stored and compared.
///
/// Fields that the kind does not have, nulls, and zeros and empty lists that mean the same as nothing are dropped;
/// quantities get their canonical spelling, times are in UTC with whole seconds or microseconds (A-060). Values of a
/// wrong type stay as they are: [`type_errors`](crate::type_errors) names them.
///
/// ```
/// use minisvc_schema::{Kind, normalize};
/// let kind = Kind::find("", "v1", "Pod").expect("in the table");
/// let mut pod = serde_json::json!({
///     "metadata": {"creationTimestamp": null, "labels": {}},
///     "spec": {"hostNetwork": false, "containers": [{"name": "c", "resources": {"limits": {"cpu": 0.5}}}]},
/// });
/// normalize(kind, &mut pod);
/// assert_eq!(pod, serde_json::json!({
///     "metadata": {},
///     "spec": {"containers": [{"name": "c", "resources": {"limits": {"cpu": "500m"}}}]},
/// }));
/// ```
pub fn normalize(kind: Kind, value: &mut Value) {
    tidy_object(kind.definition(), value, true);
}

/// The same, but keeps fields that the kind does not have, for someone who wants to complain of them.
pub(crate) fn normalize_known(kind: Kind, value: &mut Value) {
    tidy_object(kind.definition(), value, false);
}

fn tidy_object(definition: &Definition, value: &mut Value, drop_unknown: bool) {
    let Value::Object(object) = value else { return };
    let before = std::mem::take(object);
    for (name, mut member) in before {
        match definition.field(&name) {
            Some(field) => {
                tidy(&field.ty, &mut member, drop_unknown);
                if !is_nothing(field, &member) {
                    object.insert(name, member);
                }
            }
            None if drop_unknown => {}
            None => {
                object.insert(name, member);
            }
        }
    }
}

/// Whether a member says no more than its absence.
fn is_nothing(field: &Field, value: &Value) -> bool {
    if field.required || field.explicit {
        return value.is_null();
    }
    match value {
        Value::Null => true,
        Value::Bool(flag) => !flag,
        Value::Number(number) => number.as_f64() == Some(0.0),
        Value::String(text) => text.is_empty(),
        Value::Array(items) => items.is_empty(),
        // An empty object of a type says that it is there, such as an empty directory.
        Value::Object(map) => map.is_empty() && matches!(field.ty, Type::Map(_)),
    }
}

fn tidy(ty: &Type, value: &mut Value, drop_unknown: bool) {
    match (ty, &mut *value) {
        (Type::Object(id), _) => tidy_object(id.get(), value, drop_unknown),
        (Type::List(element), Value::Array(items)) => {
            for item in items {
                fill(element, item);
                tidy(element, item, drop_unknown);
            }
        }
        (Type::Map(inner), Value::Object(map)) => {
            for (_, item) in map {
                fill(inner, item);
                tidy(inner, item, drop_unknown);
            }
        }
        (Type::Scalar(scalar), _) => tidy_scalar(*scalar, value),
        _ => {}
    }
}

/// A null where there must be a value stands for the type's zero.
fn fill(ty: &Type, value: &mut Value) {
    if value.is_null() {
        *value = match ty {
            Type::Object(_) | Type::Map(_) => Value::Object(Map::new()),
            Type::List(_) => Value::Array(Vec::new()),
            Type::Scalar(Scalar::String | Scalar::Bytes) => "".into(),
            Type::Scalar(Scalar::Quantity) => "0".into(),
            Type::Scalar(_) => Value::Null,
        };
    }
}

fn tidy_scalar(scalar: Scalar, value: &mut Value) {
    match (scalar, &*value) {
        (Scalar::Quantity, Value::String(text)) => {
            if let Some(canonical) = canonical_quantity(text) {
                *value = canonical.into();
            }
        }
        (Scalar::Quantity, Value::Number(number)) => {
            if let Some(canonical) = canonical_quantity(&number.to_string()) {
                *value = canonical.into();
            }
        }
        (Scalar::Time, Value::String(text)) => {
            if let Ok(time) = text.parse::<jiff::Timestamp>() {
                *value = time.strftime("%Y-%m-%dT%H:%M:%SZ").to_string().into();
            }
        }
        (Scalar::MicroTime, Value::String(text)) => {
            if let Ok(time) = text.parse::<jiff::Timestamp>() {
                *value = time.strftime("%Y-%m-%dT%H:%M:%S.%6fZ").to_string().into();
            }
        }
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::table::definitions;
    use crate::testing::object_of;
    use proptest::prelude::*;
    use serde_json::json;

    fn kind(group: &str, name: &str) -> Kind {
        Kind::find(group, "v1", name).expect("in the table")
    }

    #[test]
    fn bodies_get_one_form() {
        let rows = [
            (
                "A-047",
                kind("", "Pod"),
                json!({"metadata": {"name": "a", "creationTimestamp": null}}),
                json!({"metadata": {"name": "a"}}),
            ),
            (
                "A-060",
                kind("coordination.k8s.io", "Lease"),
                json!({"metadata": {"creationTimestamp": "2026-11-21T01:00:00.9+01:00"}, "spec": {"renewTime": "2026-11-21T00:00:00.5Z"}}),
                json!({"metadata": {"creationTimestamp": "2026-11-21T00:00:00Z"}, "spec": {"renewTime": "2026-11-21T00:00:00.500000Z"}}),
            ),
            // Zero that means zero stays; zero that means nothing goes.
            (
                "A-039",
                kind("apps", "Deployment"),
                json!({"spec": {"replicas": 0, "paused": false, "minReadySeconds": 0, "strategy": {}}}),
                json!({"spec": {"replicas": 0, "strategy": {}}}),
            ),
            (
                "A-039",
                kind("", "Service"),
                json!({"spec": {"clusterIP": "", "externalIPs": [], "selector": {}, "ports": [{"port": 0, "nodePort": 0}]}}),
                json!({"spec": {"ports": [{"port": 0}]}}),
            ),
            (
                "A-039",
                kind("", "ConfigMap"),
                json!({"data": {"empty": "", "null": null}}),
                json!({"data": {"empty": "", "null": ""}}),
            ),
            (
                "A-039",
                kind("", "ResourceQuota"),
                json!({"spec": {"hard": {"pods": 10, "cpu": "1000m"}}}),
                json!({"spec": {"hard": {"pods": "10", "cpu": "1"}}}),
            ),
            // With validation off or only warning, a typed server keeps none of it.
            (
                "A-063",
                kind("", "Service"),
                json!({"spec": {"foo": 1, "ports": [{"port": 1, "prot": 2}]}}),
                json!({"spec": {"ports": [{"port": 1}]}}),
            ),
        ];
        for (statement, kind, mut value, wanted) in rows {
            normalize(kind, &mut value);
            assert_eq!(value, wanted, "{statement}");
        }
    }

    proptest! {
        #[test]
        fn the_form_is_final(seed in any::<u64>()) {
            for definition in definitions().iter().filter(|d| d.gvk.is_some()) {
                let (group, version, name) = definition.gvk.expect("a kind");
                let kind = Kind::find(group, version, name).expect("in the table");
                let object = object_of(definition, seed, |_| true);
                let mut once = object.clone();
                normalize(kind, &mut once);
                // The maker writes no zeros, and everything in its canonical spelling.
                prop_assert_eq!(&once, &object);
            }
        }

        #[test]
        fn arbitrary_json_never_panics(value in crate::testing::json_value()) {
            let mut value = json!({"spec": value.clone(), "metadata": value.clone(), "a": value});
            normalize(kind("", "Pod"), &mut value);
            let once = value.clone();
            normalize(kind("", "Pod"), &mut value);
            prop_assert_eq!(once, value);
        }
    }
}
