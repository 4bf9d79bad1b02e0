//! Holds a value against its kind: fields that do not exist, values of the wrong type. It does not judge meaning.

use crate::decode::Duplicate;
use crate::quantity::canonical_quantity;
use crate::table::{Definition, Kind, Scalar, Type};
use base64::Engine;
use serde_json::Value;
use std::fmt::Write;

/// No more findings than this are reported: a person reads them.
const MOST_FINDINGS: usize = 100;

/// Longer paths are cut: only made-up keys are that long.
const LONGEST_PATH: usize = 1000;

/// Everything that `fieldValidation=Strict` refuses and `Warn` warns of, in full sentences (A-063).
///
/// ```
/// use minisvc_schema::{Kind, decode_json, strict_errors};
/// let kind = Kind::find("", "v1", "ConfigMap").expect("in the table");
/// let (value, duplicates) = decode_json(br#"{"data":{"k":"1","k":"2"},"foo":1}"#)?;
/// assert_eq!(strict_errors(kind, &value, &duplicates), [r#"unknown field "foo""#, r#"duplicate field "data.k""#]);
/// # Ok::<(), minisvc_schema::DecodeError>(())
/// ```
#[must_use]
pub fn strict_errors(kind: Kind, value: &Value, duplicates: &[Duplicate]) -> Vec<String> {
    let mut errors = unknown_fields(kind, value);
    errors.extend(duplicates.iter().map(|d| format!("duplicate field \"{}\"", d.path)));
    errors.truncate(MOST_FINDINGS);
    errors
}

/// The fields that the kind does not have, as `unknown field "spec.ports[0].foo"`, in the order of the document.
///
/// ```
/// use minisvc_schema::{Kind, unknown_fields};
/// let kind = Kind::find("", "v1", "Pod").expect("in the table");
/// let pod = serde_json::json!({"spec": {"containers": [{"imge": "x"}]}});
/// assert_eq!(unknown_fields(kind, &pod), [r#"unknown field "spec.containers[0].imge""#]);
/// ```
#[must_use]
pub fn unknown_fields(kind: Kind, value: &Value) -> Vec<String> {
    findings(kind, value).unknown
}

/// The values that do not have the type of their field (A-064). They are errors in every validation mode. `null`
/// stands for an absent value and fits everywhere.
///
/// ```
/// use minisvc_schema::{Kind, type_errors};
/// let kind = Kind::find("apps", "v1", "Deployment").expect("in the table");
/// let deployment = serde_json::json!({"spec": {"replicas": "3"}});
/// assert_eq!(type_errors(kind, &deployment), ["cannot unmarshal string into field spec.replicas of type int32"]);
/// ```
#[must_use]
pub fn type_errors(kind: Kind, value: &Value) -> Vec<String> {
    findings(kind, value).types
}

#[derive(Default)]
struct Findings {
    /// From the top to the value being looked at.
    path: String,
    unknown: Vec<String>,
    types: Vec<String>,
}

fn findings(kind: Kind, value: &Value) -> Findings {
    let mut findings = Findings::default();
    match value {
        Value::Object(_) => findings.object(kind.definition(), value),
        _ => findings.types.push(format!("cannot unmarshal {} into an object", type_name(value))),
    }
    findings
}

impl Findings {
    fn object(&mut self, definition: &Definition, value: &Value) {
        for (key, member) in value.as_object().into_iter().flatten() {
            self.step(key, |findings| match definition.field(key) {
                Some(field) => findings.value(&field.ty, member),
                None if findings.unknown.len() < MOST_FINDINGS => {
                    findings.unknown.push(format!("unknown field \"{}\"", findings.shown_path()));
                }
                None => {}
            });
        }
    }

    fn value(&mut self, ty: &Type, value: &Value) {
        match (ty, value) {
            (_, Value::Null) => {}
            (Type::Object(id), Value::Object(_)) => self.object(id.get(), value),
            (Type::List(element), Value::Array(items)) => {
                for (index, item) in items.iter().enumerate() {
                    let length = self.path.len();
                    let _ = write!(self.path, "[{index}]");
                    self.value(element, item);
                    self.path.truncate(length);
                }
            }
            (Type::Map(inner), Value::Object(map)) => {
                for (key, item) in map {
                    self.step(key, |findings| findings.value(inner, item));
                }
            }
            (Type::Scalar(scalar), _) if scalar_fits(*scalar, value) => {}
            _ if self.types.len() < MOST_FINDINGS => {
                let (got, wanted) = (type_name(value), wanted_name(ty));
                self.types.push(format!("cannot unmarshal {got} into field {} of type {wanted}", self.shown_path()));
            }
            _ => {}
        }
    }

    fn shown_path(&self) -> String {
        self.path.chars().take(LONGEST_PATH).collect()
    }

    fn step(&mut self, key: &str, then: impl FnOnce(&mut Self)) {
        let length = self.path.len();
        if length > 0 {
            self.path.push('.');
        }
        self.path.push_str(key);
        then(self);
        self.path.truncate(length);
    }
}

fn scalar_fits(scalar: Scalar, value: &Value) -> bool {
    let int32 = || value.as_i64().is_some_and(|n| i32::try_from(n).is_ok());
    match scalar {
        Scalar::String => value.is_string(),
        Scalar::Bool => value.is_boolean(),
        Scalar::Int32 => int32(),
        Scalar::Int64 => value.as_i64().is_some(),
        Scalar::Double => value.is_number(),
        Scalar::Bytes => {
            value.as_str().is_some_and(|text| base64::engine::general_purpose::STANDARD.decode(text).is_ok())
        }
        Scalar::Time | Scalar::MicroTime => value.as_str().is_some_and(|text| text.parse::<jiff::Timestamp>().is_ok()),
        Scalar::IntOrString => value.is_string() || int32(),
        Scalar::Quantity => match value {
            Value::String(text) => canonical_quantity(text).is_some(),
            other => other.is_number(),
        },
        Scalar::Raw => true,
        Scalar::Fields => value.is_object(),
    }
}

fn type_name(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "bool",
        Value::Number(_) => "number",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    }
}

fn wanted_name(ty: &Type) -> String {
    match ty {
        Type::Object(id) => id.get().name.rsplit('.').next().unwrap_or_default().to_owned(),
        Type::List(element) => format!("list of {}", wanted_name(element)),
        Type::Map(value) => format!("map of {}", wanted_name(value)),
        Type::Scalar(scalar) => match scalar {
            Scalar::String => "string",
            Scalar::Bool => "bool",
            Scalar::Int32 => "int32",
            Scalar::Int64 => "int64",
            Scalar::Double => "float64",
            Scalar::Bytes => "base64 text",
            Scalar::Time | Scalar::MicroTime => "RFC 3339 time",
            Scalar::IntOrString => "int32 or string",
            Scalar::Quantity => "quantity",
            Scalar::Raw => "any",
            Scalar::Fields => "object",
        }
        .to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn kind(name: &str) -> Kind {
        let (api_version, kind) = name.rsplit_once(' ').expect("API version and kind");
        Kind::find_by_api_version(api_version, kind).expect("in the table")
    }

    #[test]
    fn unknown_fields_are_named_with_their_path() {
        let rows = [
            ("A-063", "v1 Service", json!({"spec": {"foo": 1}}), vec!["spec.foo"]),
            ("A-063", "v1 Service", json!({"spec": {"ports": [{"port": 1}, {"prot": 2}]}}), vec!["spec.ports[1].prot"]),
            ("A-063", "v1 Pod", json!({"foo": {"bar": 1}, "spec": {"Containers": []}}), vec!["foo", "spec.Containers"]),
            // Keys of maps are free, and so is whatever lies in a raw extension.
            ("A-063", "v1 ConfigMap", json!({"data": {"anything": "x"}}), vec![]),
            ("A-063", "apps/v1 ControllerRevision", json!({"data": {"any": {"thing": 1}}, "revision": 1}), vec![]),
            ("A-047", "v1 Pod", json!({"metadata": {"creationTimestamp": null}, "status": {}}), vec![]),
            ("A-078", "v1 Pod", json!({"metadata": {"managedFields": [{"fieldsV1": {"f:spec": {}}}]}}), vec![]),
        ];
        for (statement, name, value, paths) in rows {
            let wanted: Vec<_> = paths.iter().map(|p| format!("unknown field \"{p}\"")).collect();
            assert_eq!(unknown_fields(kind(name), &value), wanted, "{statement}: {value}");
            assert_eq!(type_errors(kind(name), &value), Vec::<String>::new(), "{statement}: {value}");
        }
    }

    #[test]
    fn values_of_another_type_are_errors() {
        let rows = [
            ("A-064", "apps/v1 Deployment", json!({"spec": {"replicas": "3"}}), "string", "spec.replicas"),
            ("A-064", "apps/v1 Deployment", json!({"spec": {"replicas": 1.5}}), "number", "spec.replicas"),
            (
                "A-064",
                "apps/v1 Deployment",
                json!({"spec": {"replicas": 2_147_483_648_i64}}),
                "number",
                "spec.replicas",
            ),
            ("A-064", "v1 Service", json!({"spec": {"ports": {}}}), "object", "spec.ports"),
            ("A-064", "v1 Service", json!({"spec": {"ports": ["a"]}}), "string", "spec.ports[0]"),
            (
                "A-064",
                "v1 Service",
                json!({"spec": {"ports": [{"targetPort": true}]}}),
                "bool",
                "spec.ports[0].targetPort",
            ),
            ("A-064", "v1 Service", json!({"metadata": {"labels": {"a": 1}}}), "number", "metadata.labels.a"),
            ("A-064", "v1 Secret", json!({"data": {"a": "no base64!"}}), "string", "data.a"),
            (
                "A-064",
                "v1 Pod",
                json!({"metadata": {"creationTimestamp": "yesterday"}}),
                "string",
                "metadata.creationTimestamp",
            ),
        ];
        for (statement, name, value, got, path) in rows {
            let errors = type_errors(kind(name), &value);
            let [error] = errors.as_slice() else { panic!("{statement}: {value}: {errors:?}") };
            assert!(
                error.starts_with(&format!("cannot unmarshal {got} into field {path} of type ")),
                "{statement}: {error}"
            );
        }
        assert_eq!(type_errors(kind("v1 Pod"), &json!([])).len(), 1);
    }

    // A-064
    #[test]
    fn the_usual_spellings_of_a_value_fit() {
        let pod = json!({
            "metadata": {"creationTimestamp": "2026-11-21T00:00:00Z", "labels": null},
            "spec": {"containers": [{"name": "c", "resources": {"limits": {"cpu": 1, "memory": "1Gi"}},
                "livenessProbe": {"httpGet": {"port": "http"}, "tcpSocket": {"port": 80}}}]}
        });
        assert_eq!(type_errors(kind("v1 Pod"), &pod), Vec::<String>::new());
        assert_eq!(unknown_fields(kind("v1 Pod"), &pod), Vec::<String>::new());
    }

    // A-063
    #[test]
    fn a_flood_of_mistakes_is_cut() {
        let many: serde_json::Map<String, Value> = (0..1000).map(|n| (format!("f{n}"), json!(1))).collect();
        assert_eq!(strict_errors(kind("v1 Pod"), &Value::Object(many), &[]).len(), MOST_FINDINGS);
    }
}
