//! The rules of what a pod spec demands of the nodes and pods around it: affinity and spreading.

use std::collections::BTreeSet;

use serde_json::Value;

use crate::resources::check::Errors;
use crate::resources::json::{at, has, integer, list, text, texts};
use crate::resources::meta;

const REQUIRED: &str = "requiredDuringSchedulingIgnoredDuringExecution";
const PREFERRED: &str = "preferredDuringSchedulingIgnoredDuringExecution";

/// Checks what decides where the pod goes, of a spec whose path is `field`.
pub(super) fn validate(errors: &mut Errors, field: &str, spec: &Value) {
    let affinity = at(spec, "/affinity");
    node_affinity(errors, &format!("{field}.affinity.nodeAffinity"), at(affinity, "/nodeAffinity"));
    for kind in ["podAffinity", "podAntiAffinity"] {
        pod_affinity(errors, &format!("{field}.affinity.{kind}"), at(affinity, &format!("/{kind}")));
    }
    let mut known = BTreeSet::new();
    for (index, constraint) in list(spec, "/topologySpreadConstraints").iter().enumerate() {
        let field = format!("{field}.topologySpreadConstraints[{index}]");
        spread(errors, &field, constraint);
        let pair = (text(constraint, "/topologyKey"), text(constraint, "/whenUnsatisfiable"));
        if !known.insert(pair) {
            errors.duplicate(
                format!("{field}.{{topologyKey, whenUnsatisfiable}}"),
                format!("{{{}, {}}}", pair.0, pair.1),
            );
        }
    }
}

fn node_affinity(errors: &mut Errors, field: &str, affinity: &Value) {
    let required = at(affinity, &format!("/{REQUIRED}"));
    if !required.is_null() {
        let field = format!("{field}.{REQUIRED}.nodeSelectorTerms");
        let terms = list(required, "/nodeSelectorTerms");
        if terms.is_empty() {
            errors.required(field.as_str(), "must have at least one node selector term");
        }
        for (index, term) in terms.iter().enumerate() {
            node_term(errors, &format!("{field}[{index}]"), term);
        }
    }
    for (index, preferred) in list(affinity, &format!("/{PREFERRED}")).iter().enumerate() {
        let field = format!("{field}.{PREFERRED}[{index}]");
        weight(errors, &field, preferred);
        node_term(errors, &format!("{field}.preference"), at(preferred, "/preference"));
    }
}

fn node_term(errors: &mut Errors, field: &str, term: &Value) {
    for (index, requirement) in list(term, "/matchExpressions").iter().enumerate() {
        let field = format!("{field}.matchExpressions[{index}]");
        let (key, count) = (text(requirement, "/key"), list(requirement, "/values").len());
        match text(requirement, "/operator") {
            "In" | "NotIn" if count == 0 => {
                errors.required(format!("{field}.values"), "must be specified when `operator` is 'In' or 'NotIn'");
            }
            "Exists" | "DoesNotExist" if count > 0 => {
                let why = "may not be specified when `operator` is 'Exists' or 'DoesNotExist'";
                errors.forbidden(format!("{field}.values"), why);
            }
            "Gt" | "Lt" if count != 1 => {
                let why = "must be specified single value when `operator` is 'Lt' or 'Gt'";
                errors.required(format!("{field}.values"), why);
            }
            "In" | "NotIn" | "Exists" | "DoesNotExist" | "Gt" | "Lt" => {}
            other => errors.invalid(format!("{field}.operator"), other, "not a valid selector operator"),
        }
        errors.rule(format!("{field}.key"), key, meta::qualified_name(key));
    }
    for (index, requirement) in list(term, "/matchFields").iter().enumerate() {
        let field = format!("{field}.matchFields[{index}]");
        match text(requirement, "/operator") {
            "In" | "NotIn" if list(requirement, "/values").len() != 1 => {
                let why = "must be only one value when `operator` is 'In' or 'NotIn' for node field selector";
                errors.required(format!("{field}.values"), why);
            }
            "In" | "NotIn" => {}
            other => errors.invalid(format!("{field}.operator"), other, "not a valid selector operator"),
        }
        let key = text(requirement, "/key");
        if key != "metadata.name" {
            errors.invalid(format!("{field}.key"), key, "not a valid field selector key");
        }
    }
}

fn pod_affinity(errors: &mut Errors, field: &str, affinity: &Value) {
    for (index, term) in list(affinity, &format!("/{REQUIRED}")).iter().enumerate() {
        pod_term(errors, &format!("{field}.{REQUIRED}[{index}]"), term);
    }
    for (index, preferred) in list(affinity, &format!("/{PREFERRED}")).iter().enumerate() {
        let field = format!("{field}.{PREFERRED}[{index}]");
        weight(errors, &field, preferred);
        pod_term(errors, &format!("{field}.podAffinityTerm"), at(preferred, "/podAffinityTerm"));
    }
}

fn pod_term(errors: &mut Errors, field: &str, term: &Value) {
    for name in ["labelSelector", "namespaceSelector"] {
        meta::selector(errors, &format!("{field}.{name}"), at(term, &format!("/{name}")));
    }
    for (index, name) in texts(term, "/namespaces").into_iter().enumerate() {
        errors.rule(format!("{field}.namespaces[{index}]"), name, meta::label_1123(name));
    }
    for name in ["matchLabelKeys", "mismatchLabelKeys"] {
        label_keys(errors, field, name, term);
    }
    let same = texts(term, "/matchLabelKeys");
    for (index, key) in texts(term, "/mismatchLabelKeys").into_iter().enumerate() {
        if same.contains(&key) {
            let why = "exists in both matchLabelKeys and mismatchLabelKeys";
            errors.invalid(format!("{field}.mismatchLabelKeys[{index}]"), key, why);
        }
    }
    topology_key(errors, field, term);
}

fn spread(errors: &mut Errors, field: &str, constraint: &Value) {
    let least_one = |errors: &mut Errors, name: &str, number: i64| {
        if number < 1 {
            errors.invalid(format!("{field}.{name}"), number, "must be greater than zero");
        }
    };
    least_one(errors, "maxSkew", integer(constraint, "/maxSkew").unwrap_or_default());
    topology_key(errors, field, constraint);
    let otherwise = text(constraint, "/whenUnsatisfiable");
    errors.one_of(format!("{field}.whenUnsatisfiable"), otherwise, &["DoNotSchedule", "ScheduleAnyway"]);
    if let Some(domains) = integer(constraint, "/minDomains") {
        least_one(errors, "minDomains", domains);
        if otherwise == "ScheduleAnyway" {
            let why = "can only use minDomains if whenUnsatisfiable=DoNotSchedule, not ScheduleAnyway";
            errors.invalid(format!("{field}.minDomains"), domains, why);
        }
    }
    for name in ["nodeAffinityPolicy", "nodeTaintsPolicy"] {
        let pointer = format!("/{name}");
        if has(constraint, &pointer) {
            errors.one_of(format!("{field}.{name}"), text(constraint, &pointer), &["Honor", "Ignore"]);
        }
    }
    label_keys(errors, field, "matchLabelKeys", constraint);
    meta::selector(errors, &format!("{field}.labelSelector"), at(constraint, "/labelSelector"));
}

fn weight(errors: &mut Errors, field: &str, preferred: &Value) {
    let weight = integer(preferred, "/weight").unwrap_or_default();
    if !(1..=100).contains(&weight) {
        errors.invalid(format!("{field}.weight"), weight, "must be in the range 1-100");
    }
}

fn topology_key(errors: &mut Errors, field: &str, term: &Value) {
    let key = text(term, "/topologyKey");
    if key.is_empty() {
        errors.required(format!("{field}.topologyKey"), "can not be empty");
    } else {
        errors.rule(format!("{field}.topologyKey"), key, meta::qualified_name(key));
    }
}

fn label_keys(errors: &mut Errors, field: &str, name: &str, term: &Value) {
    let keys = texts(term, &format!("/{name}"));
    if !keys.is_empty() && !has(term, "/labelSelector") {
        errors.forbidden(format!("{field}.{name}"), "must not be specified when labelSelector is not set");
    }
    for (index, key) in keys.into_iter().enumerate() {
        errors.rule(format!("{field}.{name}[{index}]"), key, meta::qualified_name(key));
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn found(spec: &Value) -> Vec<String> {
        let mut errors = Errors::default();
        validate(&mut errors, "spec", spec);
        errors.into_list().into_iter().map(|error| error.field).collect()
    }

    #[test]
    fn node_affinity_names_its_field() {
        let term = |key: &str, operator: &str, values: &[&str]| json!({"matchExpressions": [{"key": key, "operator": operator, "values": values}]});
        let name = |key: &str, operator: &str, values: &[&str]| json!({"matchFields": [{"key": key, "operator": operator, "values": values}]});
        let expression = ".matchExpressions[0]";
        for (term, expected) in [
            (json!({}), vec![]),
            (term("a", "In", &["b", "c"]), vec![]),
            (term("a", "In", &[]), vec![format!("{expression}.values")]),
            (term("a", "Exists", &[]), vec![]),
            (term("a", "Exists", &["b"]), vec![format!("{expression}.values")]),
            (term("a", "Gt", &["1"]), vec![]),
            (term("a", "Gt", &["1", "2"]), vec![format!("{expression}.values")]),
            (term("a b", "Like", &[]), vec![format!("{expression}.operator"), format!("{expression}.key")]),
            (name("metadata.name", "In", &["n1"]), vec![]),
            (name("metadata.name", "In", &["n1", "n2"]), vec![".matchFields[0].values".to_owned()]),
            (
                name("metadata.uid", "Exists", &[]),
                vec![".matchFields[0].operator".to_owned(), ".matchFields[0].key".to_owned()],
            ),
        ] {
            let required = json!({"affinity": {"nodeAffinity": {(REQUIRED): {"nodeSelectorTerms": [term]}}}});
            let at = format!("spec.affinity.nodeAffinity.{REQUIRED}.nodeSelectorTerms[0]");
            let fields: Vec<_> = expected.iter().map(|field| format!("{at}{field}")).collect();
            assert_eq!(found(&required), fields, "{term}");
            let preferred = json!({"affinity": {"nodeAffinity": {(PREFERRED): [{"weight": 1, "preference": term}]}}});
            let at = format!("spec.affinity.nodeAffinity.{PREFERRED}[0].preference");
            let fields: Vec<_> = expected.iter().map(|field| format!("{at}{field}")).collect();
            assert_eq!(found(&preferred), fields, "{term}");
        }
        let none = json!({"affinity": {"nodeAffinity": {(REQUIRED): {"nodeSelectorTerms": []}}}});
        assert_eq!(found(&none), [format!("spec.affinity.nodeAffinity.{REQUIRED}.nodeSelectorTerms")]);
    }

    #[test]
    fn affinity_between_pods_names_its_field() {
        for (term, expected) in [
            (json!({"topologyKey": "a"}), vec![]),
            (json!({"topologyKey": "a", "labelSelector": {}, "namespaces": ["b"], "matchLabelKeys": ["c"]}), vec![]),
            (json!({}), vec!["topologyKey"]),
            (json!({"topologyKey": "a b"}), vec!["topologyKey"]),
            (json!({"topologyKey": "a", "namespaces": ["B"]}), vec!["namespaces[0]"]),
            (json!({"topologyKey": "a", "matchLabelKeys": ["c"]}), vec!["matchLabelKeys"]),
            (
                json!({"topologyKey": "a", "labelSelector": {}, "matchLabelKeys": ["c d"], "mismatchLabelKeys": ["c d"]}),
                vec!["matchLabelKeys[0]", "mismatchLabelKeys[0]", "mismatchLabelKeys[0]"],
            ),
            (
                json!({"topologyKey": "a", "namespaceSelector": {"matchExpressions": [{"key": "a", "operator": "Like"}]}}),
                vec!["namespaceSelector.matchExpressions[0].operator"],
            ),
        ] {
            for kind in ["podAffinity", "podAntiAffinity"] {
                let required = json!({"affinity": {kind: {(REQUIRED): [term]}}});
                let at = format!("spec.affinity.{kind}.{REQUIRED}[0]");
                let fields: Vec<_> = expected.iter().map(|field| format!("{at}.{field}")).collect();
                assert_eq!(found(&required), fields, "{term}");
                let preferred = json!({"affinity": {kind: {(PREFERRED): [{"weight": 101, "podAffinityTerm": term}]}}});
                let at = format!("spec.affinity.{kind}.{PREFERRED}[0]");
                let below = expected.iter().map(|field| format!("{at}.podAffinityTerm.{field}"));
                let fields: Vec<_> = [format!("{at}.weight")].into_iter().chain(below).collect();
                assert_eq!(found(&preferred), fields, "{term}");
            }
        }
    }

    #[test]
    fn spread_constraints_name_their_field() {
        let good =
            || json!({"maxSkew": 1, "topologyKey": "a", "whenUnsatisfiable": "DoNotSchedule", "labelSelector": {}});
        for (change, expected) in [
            (json!({}), vec![]),
            (json!({"minDomains": 2, "nodeAffinityPolicy": "Ignore", "matchLabelKeys": ["b"]}), vec![]),
            (json!({"maxSkew": 0}), vec!["maxSkew"]),
            (json!({"topologyKey": ""}), vec!["topologyKey"]),
            (json!({"whenUnsatisfiable": "Wait"}), vec!["whenUnsatisfiable"]),
            (json!({"minDomains": 0}), vec!["minDomains"]),
            (json!({"minDomains": 2, "whenUnsatisfiable": "ScheduleAnyway"}), vec!["minDomains"]),
            (json!({"nodeTaintsPolicy": "Respect"}), vec!["nodeTaintsPolicy"]),
            (json!({"labelSelector": null, "matchLabelKeys": ["b"]}), vec!["matchLabelKeys"]),
        ] {
            let mut constraint = good();
            constraint.as_object_mut().unwrap().extend(change.as_object().unwrap().clone());
            let spec = json!({"topologySpreadConstraints": [constraint]});
            let fields: Vec<_> =
                expected.iter().map(|field| format!("spec.topologySpreadConstraints[0].{field}")).collect();
            assert_eq!(found(&spec), fields, "{change}");
        }
        let twice = json!({"topologySpreadConstraints": [good(), good()]});
        assert_eq!(found(&twice), ["spec.topologySpreadConstraints[1].{topologyKey, whenUnsatisfiable}"]);
    }
}
