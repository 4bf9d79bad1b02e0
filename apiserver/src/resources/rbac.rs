//! Roles and their bindings: who may do what. They are evaluated in `rbac/`.

use serde_json::{Value, json};

use super::check::Errors;
use super::json::{at, child, has, list, list_mut, set_default, set_default_text, text};
use super::meta;
use crate::rbac::GROUP;
use crate::registry::{Column, FieldError, NameRule, Resource};
use crate::table;

const RBAC: Resource = Resource { group: GROUP, name_rule: NameRule::PathSegment, ..Resource::BASE };

const BINDING: Resource = Resource {
    columns: &[
        Column::NAME,
        Column::text("Role", "What may be done."),
        Column::AGE,
        Column::text("Users", "Users who may.").wide(),
        Column::text("Groups", "Groups who may.").wide(),
        Column::text("ServiceAccounts", "Accounts of pods which may.").wide(),
    ],
    row: binding_row,
    default: default_binding,
    ..RBAC
};

pub(super) fn all() -> Vec<Resource> {
    vec![
        Resource {
            kind: "ClusterRoleBinding",
            plural: "clusterrolebindings",
            singular: "clusterrolebinding",
            namespaced: false,
            validate: |new, old| binding_rules(new, old, &["ClusterRole"]),
            ..BINDING
        },
        Resource {
            kind: "ClusterRole",
            plural: "clusterroles",
            singular: "clusterrole",
            namespaced: false,
            default: default_rules,
            validate: |new, _| role_rules(new, false),
            ..RBAC
        },
        Resource {
            kind: "RoleBinding",
            plural: "rolebindings",
            singular: "rolebinding",
            validate: |new, old| binding_rules(new, old, &["Role", "ClusterRole"]),
            ..BINDING
        },
        Resource {
            kind: "Role",
            plural: "roles",
            singular: "role",
            default: default_rules,
            validate: |new, _| role_rules(new, true),
            ..RBAC
        },
    ]
}

/// Clients that read roles with types expect the list even where it is empty.
fn default_rules(object: &mut Value) {
    set_default(object, "rules", json!([]));
}

fn default_binding(object: &mut Value) {
    if let Some(role) = child(object, "roleRef") {
        set_default_text(role, "apiGroup", GROUP);
    }
    for subject in list_mut(object, "/subjects") {
        if ["User", "Group"].contains(&text(subject, "/kind")) {
            set_default(subject, "apiGroup", GROUP);
        }
    }
}

fn role_rules(role: &Value, namespaced: bool) -> Vec<FieldError> {
    let mut errors = Errors::default();
    for (index, rule) in list(role, "/rules").iter().enumerate() {
        policy_rule(&mut errors, &format!("rules[{index}]"), rule, namespaced);
    }
    if !namespaced && has(role, "/aggregationRule") {
        let selectors = list(role, "/aggregationRule/clusterRoleSelectors");
        if selectors.is_empty() {
            errors.required(
                "aggregationRule.clusterRoleSelectors",
                "at least one clusterRoleSelector required if aggregationRule is non-nil",
            );
        }
        for (index, selector) in selectors.iter().enumerate() {
            let field = format!("aggregationRule.clusterRoleSelectors[{index}]");
            meta::selector(&mut errors, &field, selector);
        }
    }
    errors.into_list()
}

/// A rule is about resources or about paths, and a Role's can only be about what lies in its namespace.
fn policy_rule(errors: &mut Errors, field: &str, rule: &Value, namespaced: bool) {
    let given = |key: &str| !list(rule, &format!("/{key}")).is_empty();
    if !given("verbs") {
        errors.required(format!("{field}.verbs"), "verbs must contain at least one value");
    }
    let urls = at(rule, "/nonResourceURLs").clone();
    let field_of_urls = format!("{field}.nonResourceURLs");
    match (given("nonResourceURLs"), given("apiGroups") || given("resources") || given("resourceNames")) {
        (true, _) if namespaced => {
            errors.invalid(field_of_urls, urls, "namespaced rules cannot apply to non-resource URLs");
        }
        (true, true) => {
            let why = "rules cannot apply to both regular resources and non-resource URLs";
            errors.invalid(field_of_urls, urls, why);
        }
        (true, false) => {}
        (false, _) => {
            for (key, what) in [("apiGroups", "api group"), ("resources", "resource")] {
                if !given(key) {
                    let hint = format!("resource rules must supply at least one {what}");
                    errors.required(format!("{field}.{key}"), &hint);
                }
            }
        }
    }
}

fn binding_rules(new: &Value, old: Option<&Value>, kinds: &[&str]) -> Vec<FieldError> {
    let mut errors = Errors::default();
    errors.one_of("roleRef.apiGroup", text(new, "/roleRef/apiGroup"), &[GROUP]);
    errors.one_of("roleRef.kind", text(new, "/roleRef/kind"), kinds);
    if text(new, "/roleRef/name").is_empty() {
        errors.required("roleRef.name", "");
    }
    if old.is_some_and(|old| old["roleRef"] != new["roleRef"]) {
        errors.invalid("roleRef", new["roleRef"].clone(), "cannot change roleRef");
    }
    let namespaced = kinds.contains(&"Role");
    for (index, subject) in list(new, "/subjects").iter().enumerate() {
        let field = |key: &str| format!("subjects[{index}].{key}");
        if text(subject, "/name").is_empty() {
            errors.required(field("name"), "");
        }
        match text(subject, "/kind") {
            "ServiceAccount" => {
                errors.one_of(field("apiGroup"), text(subject, "/apiGroup"), &[""]);
                if text(subject, "/namespace").is_empty() && !namespaced {
                    errors.required(field("namespace"), "");
                }
            }
            "User" | "Group" => errors.one_of(field("apiGroup"), text(subject, "/apiGroup"), &[GROUP]),
            other => errors.unsupported(field("kind"), other, &["ServiceAccount", "User", "Group"]),
        }
    }
    errors.into_list()
}

fn binding_row(object: &Value, now: jiff::Timestamp) -> Vec<Value> {
    let subjects = |kind: &str| {
        let ours = list(object, "/subjects").iter().filter(|subject| text(subject, "/kind") == kind);
        let names: Vec<String> = ours
            .map(|subject| match text(subject, "/namespace") {
                namespace if kind == "ServiceAccount" => format!("{namespace}/{}", text(subject, "/name")),
                _ => text(subject, "/name").to_owned(),
            })
            .collect();
        Value::from(names.join(", "))
    };
    vec![
        table::name(object).into(),
        format!("{}/{}", text(object, "/roleRef/kind"), text(object, "/roleRef/name")).into(),
        table::age(object, now).into(),
        subjects("User"),
        subjects("Group"),
        subjects("ServiceAccount"),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    // A-067
    #[test]
    fn a_binding_stays_with_its_role() {
        let role = json!({"kind": "Role", "name": "r"});
        let subjects =
            json!([{"kind": "User", "name": "u"}, {"kind": "ServiceAccount", "name": "s", "namespace": "n"}]);
        let mut old = json!({"metadata": {"name": "b"}, "roleRef": role, "subjects": subjects});
        default_binding(&mut old);
        assert_eq!((&old["roleRef"]["apiGroup"], &old["subjects"][0]["apiGroup"]), (&json!(GROUP), &json!(GROUP)));
        assert_eq!(old["subjects"][1].get("apiGroup"), None);
        let cells = binding_row(&old, jiff::Timestamp::UNIX_EPOCH);
        assert_eq!(Value::from(cells), json!(["b", "Role/r", "<unknown>", "u", "", "n/s"]));
        let mut new = old.clone();
        new["roleRef"]["name"] = json!("other");
        let fields = |errors: Vec<FieldError>| errors.into_iter().map(|e| e.field).collect::<Vec<_>>();
        assert_eq!(fields(binding_rules(&new, Some(&old), &["Role"])), ["roleRef"]);
        assert!(binding_rules(&old, Some(&old), &["Role"]).is_empty());
    }

    // A-065
    #[test]
    fn what_is_wrong_with_a_rule_or_a_binding_is_named() {
        let fields = |errors: Vec<FieldError>| errors.into_iter().map(|e| e.field).collect::<Vec<_>>();
        let rules = json!([
            {"verbs": ["get"], "apiGroups": [""], "resources": ["pods"]},
            {"apiGroups": [""]},
            {"verbs": ["get"], "nonResourceURLs": ["/x"], "resources": ["pods"]},
            {"verbs": ["get"], "nonResourceURLs": ["/x"]},
        ]);
        let role = json!({"rules": rules, "aggregationRule": {"clusterRoleSelectors": []}});
        assert_eq!(
            fields(role_rules(&role, false)),
            [
                "rules[1].verbs",
                "rules[1].resources",
                "rules[2].nonResourceURLs",
                "aggregationRule.clusterRoleSelectors"
            ]
        );
        assert_eq!(fields(role_rules(&role, true)).last().unwrap(), "rules[3].nonResourceURLs");
        let mut binding = json!({
            "roleRef": {"kind": "Role"},
            "subjects": [
                {"kind": "User", "name": "u"},
                {"kind": "ServiceAccount", "name": "s"},
                {"kind": "Robot"},
                {"kind": "Group", "name": "g", "apiGroup": "x"},
            ],
        });
        default_binding(&mut binding);
        let inside = ["roleRef.name", "subjects[2].name", "subjects[2].kind", "subjects[3].apiGroup"];
        assert_eq!(fields(binding_rules(&binding, None, &["Role", "ClusterRole"])), inside);
        let everywhere = fields(binding_rules(&binding, None, &["ClusterRole"]));
        assert!(everywhere.contains(&"roleRef.kind".to_owned()), "{everywhere:?}");
        assert!(everywhere.contains(&"subjects[1].namespace".to_owned()), "{everywhere:?}");
    }
}
