//! Roles and their bindings: stored and served; who may do what is a fixed rule (A-005).

use serde_json::{Value, json};

use super::inert::{INERT, rules};
use super::json::{child, list, list_mut, set_default, set_default_text, text};
use crate::registry::{Column, NameRule, Resource};
use crate::table;

const GROUP: &str = "rbac.authorization.k8s.io";

const RBAC: Resource = Resource { group: GROUP, name_rule: NameRule::PathSegment, ..INERT };

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
    validate: |new, old| rules(new, old, &["roleRef.kind", "roleRef.name"], &["roleRef"]),
    ..RBAC
};

pub(super) fn all() -> Vec<Resource> {
    vec![
        Resource {
            kind: "ClusterRoleBinding",
            plural: "clusterrolebindings",
            singular: "clusterrolebinding",
            namespaced: false,
            ..BINDING
        },
        Resource {
            kind: "ClusterRole",
            plural: "clusterroles",
            singular: "clusterrole",
            namespaced: false,
            default: default_rules,
            ..RBAC
        },
        Resource { kind: "RoleBinding", plural: "rolebindings", singular: "rolebinding", ..BINDING },
        Resource { kind: "Role", plural: "roles", singular: "role", default: default_rules, ..RBAC },
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
        let errors = (BINDING.validate)(&new, Some(&old));
        assert_eq!(errors.iter().map(|e| e.field.as_str()).collect::<Vec<_>>(), ["roleRef"]);
    }
}
