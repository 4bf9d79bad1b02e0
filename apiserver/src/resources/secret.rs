//! Secret: like a ConfigMap, but base64 and typed; `stringData` is the convenient way to write it.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;

use super::check::Errors;
use super::configmap::{DATA_BYTES, check_immutable};
use super::json::{child, entries, has, remove, set, set_default_text, size, text};
use super::meta;
use crate::registry::{Column, FieldError, Resource};
use crate::table;

/// The keys that a type promises to its readers.
const TYPE_KEYS: [(&str, &[&str]); 4] = [
    ("kubernetes.io/dockercfg", &[".dockercfg"]),
    ("kubernetes.io/dockerconfigjson", &[".dockerconfigjson"]),
    ("kubernetes.io/ssh-auth", &["ssh-privatekey"]),
    ("kubernetes.io/tls", &["tls.crt", "tls.key"]),
];
const BASIC_AUTH: &str = "kubernetes.io/basic-auth";
const SERVICE_ACCOUNT_TOKEN: &str = "kubernetes.io/service-account-token";
const SERVICE_ACCOUNT_NAME: &str = "kubernetes.io/service-account.name";

const COLUMNS: &[Column] = &[
    Column::NAME,
    Column::text("Type", "What the data is for."),
    Column::integer("Data", "How many entries data has."),
    Column::AGE,
];

pub(super) fn resource() -> Resource {
    Resource {
        kind: "Secret",
        plural: "secrets",
        singular: "secret",
        selectable: |object| vec![("type", text(object, "/type").to_owned())],
        selectable_names: &["type"],
        columns: COLUMNS,
        row: |object, now| {
            vec![
                table::name(object).into(),
                text(object, "/type").into(),
                size(object, "/data").into(),
                table::age(object, now).into(),
            ]
        },
        default: |object| set_default_text(object, "type", "Opaque"),
        prepare: |new, _old| merge_string_data(new),
        validate,
        ..Resource::BASE
    }
}

/// Moves `stringData` into `data`, where it wins over what is there.
fn merge_string_data(new: &mut Value) {
    let Some(Value::Object(plain)) = remove(new, "stringData") else { return };
    if plain.is_empty() {
        return;
    }
    let Some(data) = child(new, "data") else { return };
    for (key, value) in plain {
        set(data, &key, STANDARD.encode(value.as_str().unwrap_or_default()));
    }
}

fn validate(new: &Value, old: Option<&Value>) -> Vec<FieldError> {
    let mut errors = Errors::default();
    let mut bytes = 0;
    for (key, value) in entries(new, "/data") {
        let field = format!("data[{key}]");
        errors.rule(field.as_str(), key, meta::data_key(key));
        match STANDARD.decode(value.as_str().unwrap_or_default()) {
            Ok(decoded) => bytes += decoded.len(),
            Err(_) => errors.invalid(field, "<secret contents redacted>", "must be base64"),
        }
    }
    if bytes > DATA_BYTES {
        errors.too_long("data", DATA_BYTES);
    }
    check_type(&mut errors, new);
    if let Some(old) = old {
        errors.immutable("type", &new["type"], &old["type"]);
        check_immutable(&mut errors, new, old, &["data"]);
    }
    errors.into_list()
}

fn check_type(errors: &mut Errors, new: &Value) {
    let kind = text(new, "/type");
    let present = |key: &str| new["data"].get(key).is_some_and(|value| !value.is_null());
    for (_, keys) in TYPE_KEYS.iter().filter(|(name, _)| *name == kind) {
        for key in keys.iter().filter(|key| !present(key)) {
            errors.required(format!("data[{key}]"), "");
        }
    }
    if kind == BASIC_AUTH && !present("username") && !present("password") {
        errors.required("data[username]", "");
        errors.required("data[password]", "");
    }
    let account = new["metadata"]["annotations"].get(SERVICE_ACCOUNT_NAME);
    if kind == SERVICE_ACCOUNT_TOKEN && !account.is_some_and(|account| has(account, "")) {
        errors.required(format!("metadata.annotations[{SERVICE_ACCOUNT_NAME}]"), "");
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    //
    #[test]
    fn string_data_is_merged_and_not_kept() {
        let mut new = json!({"stringData": {"a": "plain"}, "data": {"a": "b2xk", "b": "b2xk"}});
        (resource().prepare)(&mut new, None);
        assert_eq!(new, json!({"data": {"a": "cGxhaW4=", "b": "b2xk"}}));
        let mut alone = json!({"stringData": {"a": ""}});
        (resource().prepare)(&mut alone, None);
        assert_eq!(alone, json!({"data": {"a": ""}}));
    }

    #[test]
    fn types_promise_keys() {
        let rows = [
            (json!({"type": "Opaque", "data": {"a": "!"}}), vec!["data[a]"]),
            (json!({"type": "kubernetes.io/tls", "data": {"tls.crt": ""}}), vec!["data[tls.key]"]),
            (json!({"type": "kubernetes.io/basic-auth", "data": {"username": ""}}), vec![]),
            (
                json!({"type": "kubernetes.io/service-account-token"}),
                vec!["metadata.annotations[kubernetes.io/service-account.name]"],
            ),
        ];
        for (new, expected) in rows {
            let found: Vec<String> = validate(&new, None).into_iter().map(|e| e.field).collect();
            assert_eq!(found, expected, "{new}");
        }
    }

    //
    #[test]
    fn type_and_immutable_data_stay() {
        let old = json!({"type": "Opaque", "immutable": true, "data": {"a": ""}});
        let new = json!({"type": "example.com/other", "immutable": true, "data": {"a": "eA=="}});
        let found: Vec<String> = validate(&new, Some(&old)).into_iter().map(|e| e.field).collect();
        assert_eq!(found, ["type", "data"]);
    }
}
