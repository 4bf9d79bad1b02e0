//! Namespace: a scope for names; it goes only when its contents have gone.

use serde_json::{Value, json};

use super::check::Errors;
use super::json::{child, has, list, set, set_default, text};
use super::meta;
use crate::registry::{Column, FieldError, NameRule, Resource, Subresource};
use crate::table;

/// The label every namespace carries, so that selectors can name it.
const NAME_LABEL: &str = "kubernetes.io/metadata.name";

const COLUMNS: &[Column] =
    &[Column::NAME, Column::text("Status", "Active, or Terminating while its contents go."), Column::AGE];

pub(super) fn resource() -> Resource {
    Resource {
        kind: "Namespace",
        plural: "namespaces",
        singular: "namespace",
        short_names: &["ns"],
        namespaced: false,
        has_status: true,
        subresources: &[Subresource::Status, Subresource::Finalize],
        name_rule: NameRule::Label1123,
        returns_deleted_object: true,
        begin_delete: Some(|object| {
            if let Some(status) = child(object, "status") {
                set(status, "phase", "Terminating");
            }
        }),
        held: |object| !list(object, "/spec/finalizers").is_empty(),
        selectable: |object| vec![("status.phase", text(object, "/status/phase").to_owned())],
        selectable_names: &["status.phase"],
        columns: COLUMNS,
        row: |object, now| {
            let phase = text(object, "/status/phase");
            vec![table::name(object).into(), phase.into(), table::age(object, now).into()]
        },
        default,
        prepare,
        validate,
        ..Resource::BASE
    }
}

fn default(object: &mut Value) {
    let name = text(object, "/metadata/name").to_owned();
    if name.is_empty() {
        return;
    }
    if let Some(labels) = child(object, "metadata").and_then(|metadata| child(metadata, "labels")) {
        set(labels, NAME_LABEL, name);
    }
}

/// A new namespace is held by its contents; later only `/finalize` may change that.
fn prepare(new: &mut Value, old: Option<&Value>) {
    match old {
        None => {
            set(new, "status", json!({"phase": "Active"}));
            let Some(spec) = child(new, "spec") else { return };
            set_default(spec, "finalizers", json!([]));
            if let Some(finalizers) = spec.get_mut("finalizers").and_then(Value::as_array_mut)
                && !finalizers.contains(&json!("kubernetes"))
            {
                finalizers.push(json!("kubernetes"));
            }
        }
        Some(old) => {
            if let Some(spec) = child(new, "spec") {
                set(spec, "finalizers", old["spec"]["finalizers"].clone());
            }
        }
    }
}

fn validate(new: &Value, _old: Option<&Value>) -> Vec<FieldError> {
    let mut errors = Errors::default();
    for (index, finalizer) in list(new, "/spec/finalizers").iter().enumerate() {
        let finalizer = finalizer.as_str().unwrap_or_default();
        errors.rule(format!("spec.finalizers[{index}]"), finalizer, meta::qualified_name(finalizer));
    }
    if has(new, "/metadata/namespace") && !text(new, "/metadata/namespace").is_empty() {
        errors.forbidden("metadata.namespace", "not allowed on this type");
    }
    errors.into_list()
}

#[cfg(test)]
mod tests {
    use super::*;

    //
    #[test]
    fn a_namespace_is_labelled_active_and_held() {
        let mut new = json!({"metadata": {"name": "a", "labels": {"x": "y"}}});
        default(&mut new);
        prepare(&mut new, None);
        let expected = json!({
            "metadata": {"name": "a", "labels": {"x": "y", "kubernetes.io/metadata.name": "a"}},
            "status": {"phase": "Active"},
            "spec": {"finalizers": ["kubernetes"]},
        });
        assert_eq!(new, expected);
        assert!((resource().held)(&new));
    }

    //
    #[test]
    fn only_finalize_lets_go_of_it() {
        let old = json!({"metadata": {"name": "a"}, "spec": {"finalizers": ["kubernetes"]}});
        let mut new = json!({"metadata": {"name": "a"}, "spec": {}});
        prepare(&mut new, Some(&old));
        assert_eq!(new["spec"], old["spec"]);
        let mut going = old.clone();
        (resource().begin_delete.unwrap())(&mut going);
        assert_eq!(going["status"]["phase"], "Terminating");
        assert!(!(resource().held)(&json!({"spec": {"finalizers": []}})));
    }
}
