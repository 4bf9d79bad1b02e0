//! The rules for names, labels, annotations, finalizers and owners that all kinds share (A-066, S-038, S-039, P-079).
//!
//! What a server fills in (uid, times, revision) and what may never change is not decided here.

use std::collections::BTreeMap;

use serde_json::Value;

use super::check::Errors;
use super::json::{at, entries, has, is_true, list, text};
use crate::registry::{FieldError, NameRule};

/// Annotations of one object together, keys included, in bytes.
const ANNOTATION_BYTES: usize = 256 * 1024;
/// A DNS name (RFC 1123 section 2.1).
const SUBDOMAIN_LENGTH: usize = 253;
/// A DNS label (RFC 1035 section 2.3.4).
const LABEL_LENGTH: usize = 63;
/// A service name (RFC 6335 section 5.1).
const PORT_NAME_LENGTH: usize = 15;
/// The finalizers that may lack a domain.
const PLAIN_FINALIZERS: [&str; 3] = ["foregroundDeletion", "kubernetes", "orphan"];

fn check_name(rule: NameRule, name: &str) -> Result<(), String> {
    match rule {
        NameRule::Subdomain => subdomain(name),
        NameRule::Label1123 => label_1123(name),
        NameRule::Label1035 => label_1035(name),
        NameRule::PathSegment if matches!(name, "." | "..") => Err("may not be '.' or '..'".to_owned()),
        NameRule::PathSegment if name.contains(['/', '%']) => Err("may not contain '/' or '%'".to_owned()),
        NameRule::PathSegment | NameRule::IpAddress => Ok(()),
    }
}

/// Checks `metadata` of an object about to be stored, whatever its kind.
pub(crate) fn validate(new: &Value, old: Option<&Value>, rule: NameRule) -> Vec<FieldError> {
    let mut errors = Errors::default();
    let name = text(new, "/metadata/name");
    if name.is_empty() {
        errors.required("metadata.name", "name or generateName is required");
    } else if old.is_none() {
        errors.rule("metadata.name", name, check_name(rule, name));
    }
    labels(&mut errors, "metadata.labels", at(new, "/metadata/labels"));
    annotations(&mut errors, new);
    finalizers(&mut errors, new, old);
    owners(&mut errors, new);
    errors.into_list()
}

/// Checks a map of labels, such as `metadata.labels` or a node selector.
pub(super) fn labels(errors: &mut Errors, field: &str, map: &Value) {
    for (key, value) in entries(map, "") {
        errors.rule(field, key, qualified_name(key));
        let value = value.as_str().unwrap_or_default();
        errors.rule(field, value, label_value(value));
    }
}

fn annotations(errors: &mut Errors, new: &Value) {
    let mut bytes = 0;
    for (key, value) in entries(new, "/metadata/annotations") {
        // The case of an annotation's key is free.
        errors.rule("metadata.annotations", key, qualified_name(&key.to_ascii_lowercase()));
        bytes += key.len() + value.as_str().unwrap_or_default().len();
    }
    if bytes > ANNOTATION_BYTES {
        errors.too_long("metadata.annotations", ANNOTATION_BYTES);
    }
}

fn finalizers(errors: &mut Errors, new: &Value, old: Option<&Value>) {
    let stored = old.map_or(&[][..], |old| list(old, "/metadata/finalizers"));
    let terminating = old.is_some_and(|old| has(old, "/metadata/deletionTimestamp"));
    for (index, finalizer) in list(new, "/metadata/finalizers").iter().enumerate() {
        let finalizer_text = finalizer.as_str().unwrap_or_default();
        let field = format!("metadata.finalizers[{index}]");
        errors.rule(field.as_str(), finalizer_text, qualified_name(finalizer_text));
        if !finalizer_text.contains('/') && !PLAIN_FINALIZERS.contains(&finalizer_text) {
            errors.invalid(field, finalizer_text, "must be a standard finalizer or start with a domain and '/'");
        }
        if terminating && !stored.contains(finalizer) {
            errors.forbidden("metadata.finalizers", "no finalizer may be added to an object that is being deleted");
        }
    }
}

fn owners(errors: &mut Errors, new: &Value) {
    let owners = list(new, "/metadata/ownerReferences");
    for (index, owner) in owners.iter().enumerate() {
        for part in ["apiVersion", "kind", "name", "uid"] {
            if owner[part].as_str().unwrap_or_default().is_empty() {
                errors.required(format!("metadata.ownerReferences[{index}].{part}"), "must not be empty");
            }
        }
    }
    if owners.iter().filter(|owner| is_true(owner, "/controller")).count() > 1 {
        errors.invalid(
            "metadata.ownerReferences",
            owners.to_vec(),
            "only one reference can have controller set to true",
        );
    }
}

/// A label of RFC 1123: lower case, digits and inner hyphens, at most 63.
pub(super) fn label_1123(name: &str) -> Result<(), String> {
    limited(name, LABEL_LENGTH)?;
    if is_label_1123(name) {
        return Ok(());
    }
    Err("must be a lower case RFC 1123 label: letters, digits and '-', with a letter or digit at both ends \
         (e.g. 'my-name' or '123-abc')"
        .to_owned())
}

/// A label of RFC 1035: as RFC 1123, but the first character is a letter (S-038).
pub(super) fn label_1035(name: &str) -> Result<(), String> {
    limited(name, LABEL_LENGTH)?;
    if is_label_1123(name) && name.starts_with(|c: char| c.is_ascii_lowercase()) {
        return Ok(());
    }
    Err("must be a DNS-1035 label: lower case letters, digits and '-', a letter first and a letter or digit last \
         (e.g. 'my-name' or 'abc-123')"
        .to_owned())
}

/// Labels of RFC 1123 joined by dots, at most 253.
pub(super) fn subdomain(name: &str) -> Result<(), String> {
    limited(name, SUBDOMAIN_LENGTH)?;
    if name.split('.').all(is_label_1123) {
        return Ok(());
    }
    Err("must be a lower case RFC 1123 subdomain: letters, digits, '-' and '.', with a letter or digit at both ends \
         of each part (e.g. 'example.com')"
        .to_owned())
}

/// The key of a label: an optional subdomain and '/', then a name of at most 63 (P-079).
pub(crate) fn qualified_name(key: &str) -> Result<(), String> {
    let name = match key.split_once('/') {
        Some(("", _)) => return Err("the part before '/' must not be empty".to_owned()),
        Some((prefix, name)) => {
            subdomain(prefix).map_err(|why| format!("the part before '/' {why}"))?;
            name
        }
        None => key,
    };
    if name.is_empty() {
        return Err("the name must not be empty".to_owned());
    }
    limited(name, LABEL_LENGTH)?;
    if is_label_name(name) {
        return Ok(());
    }
    Err("must be a qualified name: letters, digits, '-', '_' and '.', with a letter or digit at both ends, optionally \
         after a DNS subdomain and '/' (e.g. 'example.com/MyName')"
        .to_owned())
}

/// The value of a label: empty, or at most 63 with letters or digits at both ends (P-079).
pub(crate) fn label_value(value: &str) -> Result<(), String> {
    limited(value, LABEL_LENGTH)?;
    if value.is_empty() || is_label_name(value) {
        return Ok(());
    }
    Err("a valid label must be empty or consist of letters, digits, '-', '_' and '.', with a letter or digit at both \
         ends (e.g. 'my_value')"
        .to_owned())
}

/// The name of a port as RFC 6335 section 5.1 has it (S-044, P-011).
pub(super) fn port_name(name: &str) -> Result<(), String> {
    limited(name, PORT_NAME_LENGTH)?;
    let shape = name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-');
    let letter = name.bytes().any(|b| b.is_ascii_lowercase());
    let why = match () {
        () if !shape => "must contain only lower case letters, digits and '-'",
        () if !letter => "must contain at least one letter",
        () if name.contains("--") => "must not contain two hyphens in a row",
        () if name.starts_with('-') || name.ends_with('-') => "must not begin or end with a hyphen",
        () => return Ok(()),
    };
    Err(why.to_owned())
}

/// The key of a ConfigMap's or Secret's data: a plain file name.
pub(super) fn data_key(key: &str) -> Result<(), String> {
    limited(key, SUBDOMAIN_LENGTH)?;
    let shape = key.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.'));
    if key.is_empty() || !shape {
        return Err("a valid key must consist of letters, digits, '-', '_' and '.'".to_owned());
    }
    if key == "." || key.starts_with("..") {
        return Err("must not be '.' or start with '..'".to_owned());
    }
    Ok(())
}

fn limited(text: &str, limit: usize) -> Result<(), String> {
    if text.len() > limit { Err(format!("must be no more than {limit} bytes")) } else { Ok(()) }
}

fn is_label_1123(label: &str) -> bool {
    let inner = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit();
    !label.is_empty()
        && label.len() <= LABEL_LENGTH
        && label.bytes().all(|b| inner(b) || b == b'-')
        && !label.starts_with('-')
        && !label.ends_with('-')
}

fn is_label_name(name: &str) -> bool {
    let ends = |c: Option<char>| c.is_some_and(|c| c.is_ascii_alphanumeric());
    ends(name.chars().next())
        && ends(name.chars().next_back())
        && name.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.'))
}

/// Checks a `LabelSelector` (`matchLabels` and `matchExpressions`).
pub(super) fn selector(errors: &mut Errors, field: &str, selector: &Value) {
    labels(errors, &format!("{field}.matchLabels"), at(selector, "/matchLabels"));
    for (index, expression) in list(selector, "/matchExpressions").iter().enumerate() {
        let field = format!("{field}.matchExpressions[{index}]");
        let key = text(expression, "/key");
        errors.rule(format!("{field}.key"), key, qualified_name(key));
        let values = list(expression, "/values");
        match text(expression, "/operator") {
            "In" | "NotIn" if values.is_empty() => {
                errors.required(format!("{field}.values"), "must be specified when `operator` is 'In' or 'NotIn'");
            }
            "Exists" | "DoesNotExist" if !values.is_empty() => {
                errors.forbidden(
                    format!("{field}.values"),
                    "may not be specified when `operator` is 'Exists' or 'DoesNotExist'",
                );
            }
            "In" | "NotIn" | "Exists" | "DoesNotExist" => {}
            other => errors.invalid(format!("{field}.operator"), other, "not a valid selector operator"),
        }
    }
}

/// Whether a `LabelSelector` has no requirement at all.
pub(super) fn selects_everything(selector: &Value) -> bool {
    entries(selector, "/matchLabels").next().is_none() && list(selector, "/matchExpressions").is_empty()
}

/// Whether a `LabelSelector` matches a map of labels (P-078).
pub(crate) fn selector_matches(selector: &Value, labels: &Value) -> bool {
    let labels: BTreeMap<&str, &str> =
        entries(labels, "").map(|(key, value)| (key, value.as_str().unwrap_or_default())).collect();
    let equal = entries(selector, "/matchLabels").all(|(key, value)| labels.get(key).copied() == value.as_str());
    let expressed = list(selector, "/matchExpressions").iter().all(|expression| {
        let label = labels.get(text(expression, "/key")).copied();
        let listed = || list(expression, "/values").iter().any(|value| value.as_str() == label);
        match text(expression, "/operator") {
            "In" => label.is_some() && listed(),
            "NotIn" => label.is_none() || !listed(),
            "Exists" => label.is_some(),
            "DoesNotExist" => label.is_none(),
            _ => false,
        }
    });
    equal && expressed
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    // S-038
    #[test]
    fn service_names_are_labels_of_rfc_1035() {
        for name in ["a", "web", "redis-primary", "a1", &"a".repeat(63)] {
            assert_eq!(label_1035(name), Ok(()), "{name}");
        }
        for name in ["", "1a", "-a", "a-", "A", "a.b", "a_b", "ä", &"a".repeat(64)] {
            assert!(label_1035(name).is_err(), "{name}");
        }
        assert_eq!(label_1123("1a"), Ok(()));
    }

    //
    #[test]
    fn names_are_dns_subdomains() {
        for name in ["a", "a.b", "1.2", "a-b.c", &vec!["a"; 127].join(".")] {
            assert_eq!(subdomain(name), Ok(()), "{name}");
        }
        for name in ["", ".", "a.", ".a", "a..b", "A", "a_b", "a/b", &vec!["a"; 128].join(".")] {
            assert!(subdomain(name).is_err(), "{name}");
        }
    }

    // P-079
    #[test]
    fn label_keys_and_values_have_their_limits() {
        for key in ["app", "example.com/App_x.y-z", "a/b", &format!("{}/b", vec!["a"; 127].join("."))] {
            assert_eq!(qualified_name(key), Ok(()), "{key}");
        }
        for key in ["", "/b", "a/", "a/b/c", "-a", "a-", "A.com/b", "a b", &"a".repeat(64)] {
            assert!(qualified_name(key).is_err(), "{key}");
        }
        assert_eq!(label_value(""), Ok(()));
        assert_eq!(label_value(&"v".repeat(63)), Ok(()));
        assert!(label_value(&"v".repeat(64)).is_err());
        assert!(label_value("-v").is_err());
    }

    // S-044, P-011
    #[test]
    fn port_names_follow_the_iana_rule() {
        for name in ["http", "a", "p-1", "x1234567890abcd"] {
            assert_eq!(port_name(name), Ok(()), "{name}");
        }
        for name in ["", "80", "-a", "a-", "a--b", "HTTP", "a_b", "x1234567890abcde"] {
            assert!(port_name(name).is_err(), "{name}");
        }
    }

    // S-039, A-066
    #[test]
    fn metadata_is_checked_as_a_whole() {
        let good = json!({"metadata": {
            "name": "web",
            "labels": {"app": "web"},
            "annotations": {"Example.com/Note": "x"},
            "finalizers": ["kubernetes", "example.com/cleanup"],
            "ownerReferences": [{"apiVersion": "v1", "kind": "Pod", "name": "p", "uid": "u", "controller": true}],
        }});
        assert_eq!(fields(&good, None), Vec::<String>::new());
        let bad = json!({"metadata": {
            "name": "Web",
            "labels": {"-": "x", "a": "-"},
            "annotations": {"a b": "", "big": "x".repeat(ANNOTATION_BYTES)},
            "finalizers": ["plain"],
            "ownerReferences": [{"apiVersion": "v1", "kind": "Pod", "name": "p"}],
        }});
        let expected = [
            "metadata.name",
            "metadata.labels",
            "metadata.labels",
            "metadata.annotations",
            "metadata.annotations",
            "metadata.finalizers[0]",
            "metadata.ownerReferences[0].uid",
        ];
        assert_eq!(fields(&bad, None), expected);
    }

    //
    #[test]
    fn a_terminating_object_takes_no_more_finalizers() {
        let old = json!({"metadata": {"name": "a", "deletionTimestamp": "2026-01-01T00:00:00Z", "finalizers": ["a/b", "a/c"]}});
        let fewer = json!({"metadata": {"name": "a", "finalizers": ["a/c"]}});
        let more = json!({"metadata": {"name": "a", "finalizers": ["a/b", "a/d"]}});
        assert_eq!(fields(&fewer, Some(&old)), Vec::<String>::new());
        assert_eq!(fields(&more, Some(&old)), ["metadata.finalizers"]);
    }

    // P-078
    #[test]
    fn set_selectors_match_as_documented() {
        let labels = json!({"app": "web", "tier": "front"});
        let rows = [
            ("In", json!(["web", "db"]), "app", true),
            ("In", json!(["web"]), "none", false),
            ("NotIn", json!(["web"]), "app", false),
            ("NotIn", json!(["web"]), "none", true),
            ("Exists", json!([]), "tier", true),
            ("DoesNotExist", json!([]), "tier", false),
            ("DoesNotExist", json!([]), "none", true),
        ];
        for (operator, values, key, expected) in rows {
            let selector = json!({"matchExpressions": [{"key": key, "operator": operator, "values": values}]});
            assert_eq!(selector_matches(&selector, &labels), expected, "{operator} {key}");
        }
        assert!(selector_matches(&json!({"matchLabels": {"app": "web"}}), &labels));
        assert!(!selector_matches(&json!({"matchLabels": {"app": "db"}}), &labels));
        assert!(selects_everything(&json!({})));
    }

    fn fields(new: &Value, old: Option<&Value>) -> Vec<String> {
        validate(new, old, NameRule::Subdomain).into_iter().map(|error| error.field).collect()
    }

    proptest! {
        #[test]
        fn no_text_makes_a_rule_panic(text in ".*") {
            let results = [
                label_1123(&text), label_1035(&text), subdomain(&text), qualified_name(&text), label_value(&text),
                port_name(&text), data_key(&text),
            ];
            // Whatever is a label of RFC 1035 is one of RFC 1123 and a subdomain.
            prop_assert!(results[1].is_err() || (results[0].is_ok() && results[2].is_ok()));
        }
    }
}
