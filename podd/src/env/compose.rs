//! Puts a container's environment together (P-065 to P-067, P-074).

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::api::core::v1::{ConfigMap, Container, EnvVar, Pod, Secret};
use thiserror::Error;

use super::expand::expand;
use super::fields::{self, Facts, FieldError};

/// Something a container refers to.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Reference {
    /// A ConfigMap of the pod's namespace.
    ConfigMap(String),
    /// A Secret of the pod's namespace.
    Secret(String),
}

/// The referenced objects that exist.
#[derive(Clone, Debug, Default)]
pub(crate) struct Objects {
    /// By name.
    pub(crate) config_maps: BTreeMap<String, ConfigMap>,
    /// By name.
    pub(crate) secrets: BTreeMap<String, Secret>,
}

/// Why a container cannot have its environment (yet).
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub(crate) enum EnvError {
    /// A ConfigMap or Secret is missing.
    #[error("{kind} {name:?} not found")]
    Missing {
        /// `configmap` or `secret`.
        kind: &'static str,
        /// Its name.
        name: String,
    },
    /// It has no such key.
    #[error("couldn't find key {key} in {kind} {name}")]
    MissingKey {
        /// `ConfigMap` or `Secret`.
        kind: &'static str,
        /// Its name.
        name: String,
        /// The key asked for.
        key: String,
    },
    /// A downward API reference.
    #[error(transparent)]
    Field(#[from] FieldError),
    /// A source this runtime does not have.
    #[error("variable {0:?} has a source that is not supported")]
    Source(String),
}

/// The objects that have to be read before [`environment`] can be called.
pub(crate) fn references(container: &Container) -> BTreeSet<Reference> {
    let mut out = BTreeSet::new();
    for source in container.env_from.iter().flatten() {
        out.extend(source.config_map_ref.as_ref().map(|r| Reference::ConfigMap(r.name.clone())));
        out.extend(source.secret_ref.as_ref().map(|r| Reference::Secret(r.name.clone())));
    }
    for from in container.env.iter().flatten().filter_map(|var| var.value_from.as_ref()) {
        out.extend(from.config_map_key_ref.as_ref().map(|r| Reference::ConfigMap(r.name.clone())));
        out.extend(from.secret_key_ref.as_ref().map(|r| Reference::Secret(r.name.clone())));
    }
    out
}

/// All variables of `container`, lowest precedence first: `base` (the image's and the runtime's), Services,
/// `envFrom` in order, `env` in order.
///
/// # Errors
/// When something referred to and not marked optional is missing.
pub(crate) fn environment(
    pod: &Pod,
    container: &Container,
    base: BTreeMap<String, String>,
    services: BTreeMap<String, String>,
    objects: &Objects,
    facts: &Facts,
) -> Result<BTreeMap<String, String>, EnvError> {
    // What `$(VAR)` may refer to; `base` is not part of it, as with an image's own variables.
    let mut known = services;
    for source in container.env_from.iter().flatten() {
        let prefix = source.prefix.as_deref().unwrap_or_default();
        let mut add = |key: &str, value: String| known.insert(format!("{prefix}{key}"), value);
        if let Some(wanted) = &source.config_map_ref {
            match objects.config_maps.get(&wanted.name) {
                Some(map) => map.data.iter().flatten().for_each(|(key, value)| {
                    add(key, value.clone());
                }),
                None if wanted.optional == Some(true) => {}
                None => return Err(EnvError::Missing { kind: "configmap", name: wanted.name.clone() }),
            }
        }
        if let Some(wanted) = &source.secret_ref {
            match objects.secrets.get(&wanted.name) {
                Some(secret) => secret.data.iter().flatten().for_each(|(key, value)| {
                    add(key, String::from_utf8_lossy(&value.0).into_owned());
                }),
                None if wanted.optional == Some(true) => {}
                None => return Err(EnvError::Missing { kind: "secret", name: wanted.name.clone() }),
            }
        }
    }
    for var in container.env.iter().flatten() {
        if let Some(value) = value_of(pod, container, var, &known, objects, facts)? {
            known.insert(var.name.clone(), value);
        }
    }
    let mut all = base;
    all.extend(known);
    Ok(all)
}

fn value_of(
    pod: &Pod,
    container: &Container,
    var: &EnvVar,
    known: &BTreeMap<String, String>,
    objects: &Objects,
    facts: &Facts,
) -> Result<Option<String>, EnvError> {
    let Some(from) = &var.value_from else {
        let text = var.value.as_deref().unwrap_or_default();
        return Ok(Some(expand(text, |name| known.get(name).cloned())));
    };
    if let Some(field) = &from.field_ref {
        return Ok(Some(fields::env_field(pod, facts, &field.field_path)?));
    }
    if let Some(wanted) = &from.resource_field_ref {
        let divisor = wanted.divisor.as_ref().map(|d| d.0.as_str());
        let name = wanted.container_name.as_deref();
        return Ok(Some(fields::resource(pod, Some(container), name, &wanted.resource, divisor, facts)?));
    }
    if let Some(wanted) = &from.config_map_key_ref {
        let map = objects.config_maps.get(&wanted.name);
        let value = map.and_then(|map| map.data.as_ref()?.get(&wanted.key).cloned());
        let found = map.is_some();
        return settle(value, found, wanted.optional, ("configmap", "ConfigMap"), &wanted.name, &wanted.key);
    }
    if let Some(wanted) = &from.secret_key_ref {
        let secret = objects.secrets.get(&wanted.name);
        let value = secret.and_then(|secret| secret.data.as_ref()?.get(&wanted.key));
        let value = value.map(|bytes| String::from_utf8_lossy(&bytes.0).into_owned());
        let found = secret.is_some();
        return settle(value, found, wanted.optional, ("secret", "Secret"), &wanted.name, &wanted.key);
    }
    Err(EnvError::Source(var.name.clone()))
}

fn settle(
    value: Option<String>,
    found: bool,
    optional: Option<bool>,
    (lower, upper): (&'static str, &'static str),
    name: &str,
    key: &str,
) -> Result<Option<String>, EnvError> {
    match (value, found) {
        (Some(value), _) => Ok(Some(value)),
        (None, _) if optional == Some(true) => Ok(None),
        (None, false) => Err(EnvError::Missing { kind: lower, name: name.to_owned() }),
        (None, true) => Err(EnvError::MissingKey { kind: upper, name: name.to_owned(), key: key.to_owned() }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn objects() -> Objects {
        let map = json!({"metadata": {"name": "conf"}, "data": {"MODE": "fast", "a.b-c": "odd", "SHARED": "conf"}});
        let late = json!({"metadata": {"name": "late"}, "data": {"SHARED": "late"}});
        let secret = json!({"metadata": {"name": "key"}, "data": {"TOKEN": "czNjcmV0"}});
        let read = |value| serde_json::from_value(value).expect("a ConfigMap");
        Objects {
            config_maps: BTreeMap::from([("conf".to_owned(), read(map)), ("late".to_owned(), read(late))]),
            secrets: BTreeMap::from([("key".to_owned(), serde_json::from_value(secret).expect("a Secret"))]),
        }
    }

    fn compose(container: Value) -> Result<BTreeMap<String, String>, EnvError> {
        let container: Container = serde_json::from_value(container).expect("a container");
        let base =
            BTreeMap::from([("HOSTNAME".to_owned(), "web-0".to_owned()), ("PATH".to_owned(), "/bin".to_owned())]);
        let services = BTreeMap::from([
            ("WEB_SERVICE_HOST".to_owned(), "10.96.0.7".to_owned()),
            ("SHARED".to_owned(), "service".to_owned()),
        ]);
        environment(&Pod::default(), &container, base, services, &objects(), &Facts::default())
    }

    // P-065, P-067, P-074
    #[test]
    fn later_sources_win() {
        let got = compose(json!({
            "name": "app",
            "envFrom": [{"configMapRef": {"name": "conf"}}, {"configMapRef": {"name": "late"}},
                {"prefix": "P_", "secretRef": {"name": "key"}}, {"configMapRef": {"name": "none", "optional": true}}],
            "env": [{"name": "MODE", "value": "own"}],
        }))
        .expect("complete");
        let expected = [
            ("HOSTNAME", "web-0"),
            ("MODE", "own"),
            ("PATH", "/bin"),
            ("P_TOKEN", "s3cret"),
            ("SHARED", "late"),
            ("WEB_SERVICE_HOST", "10.96.0.7"),
            ("a.b-c", "odd"),
        ];
        let got: Vec<_> = got.iter().map(|(k, v)| (k.as_str(), v.as_str())).collect();
        assert_eq!(got, expected);
    }

    // P-066
    #[test]
    fn references_reach_back_only() {
        let got = compose(json!({
            "name": "app",
            "envFrom": [{"configMapRef": {"name": "conf"}}],
            "env": [
                {"name": "EARLY", "value": "$(LATER)"},
                {"name": "LATER", "value": "$(WEB_SERVICE_HOST)/$(MODE)"},
                {"name": "LAST", "value": "$(LATER)"},
                {"name": "ESCAPED", "value": "$$(MODE)"},
            ],
        }))
        .expect("complete");
        assert_eq!(got["EARLY"], "$(LATER)");
        assert_eq!(got["LATER"], "10.96.0.7/fast");
        assert_eq!(got["LAST"], "10.96.0.7/fast");
        assert_eq!(got["ESCAPED"], "$(MODE)");
    }

    #[test]
    fn keys_are_looked_up_and_missing_ones_named() {
        let one = |from: Value| compose(json!({"name": "app", "env": [{"name": "X", "valueFrom": from}]}));
        let got = one(json!({"secretKeyRef": {"name": "key", "key": "TOKEN"}})).expect("there");
        assert_eq!(got["X"], "s3cret");
        let missing = one(json!({"configMapKeyRef": {"name": "conf", "key": "NOPE"}})).expect_err("no such key");
        assert_eq!(missing.to_string(), "couldn't find key NOPE in ConfigMap conf");
        let missing = one(json!({"secretKeyRef": {"name": "nope", "key": "A"}})).expect_err("no such secret");
        assert_eq!(missing.to_string(), "secret \"nope\" not found");
        let optional = one(json!({"configMapKeyRef": {"name": "nope", "key": "A", "optional": true}}));
        assert!(!optional.expect("optional").contains_key("X"));
    }

    #[test]
    fn references_name_every_object() {
        let container: Container = serde_json::from_value(json!({
            "name": "app",
            "envFrom": [{"secretRef": {"name": "s"}}],
            "env": [{"name": "A", "valueFrom": {"configMapKeyRef": {"name": "c", "key": "k"}}}, {"name": "B", "value": "x"}],
        }))
        .expect("a container");
        let expected = [Reference::ConfigMap("c".to_owned()), Reference::Secret("s".to_owned())];
        assert_eq!(references(&container), BTreeSet::from(expected));
    }
}
