//! What an update may change of a pod's spec (P-123, A-067).

use std::collections::HashSet;

use serde_json::Value;

use super::super::check::Errors;
use super::super::json::{integer, list, list_mut, remove, set};

/// Named in full, because the client sees nothing else.
const FIXED: &str = "pod updates may not change fields other than the images of containers and init containers, \
                     `spec.activeDeadlineSeconds`, added `spec.tolerations` and `spec.terminationGracePeriodSeconds` \
                     (allowed to be set to 1 if it was negative)";

/// Compares the specs after giving the new one the stored values of all that may change.
pub(super) fn validate(errors: &mut Errors, new: &Value, old: &Value) {
    deadline(errors, new, old);
    tolerations(errors, new, old);
    let mut rest = new.clone();
    for lists in ["/containers", "/initContainers"] {
        let stored = list(old, lists);
        if list(new, lists).len() != stored.len() {
            errors.forbidden(format!("spec.{}", &lists[1..]), "pod updates may not add or remove containers");
            return;
        }
        for (container, stored) in list_mut(&mut rest, lists).zip(stored) {
            set(container, "image", stored["image"].clone());
        }
    }
    restore(&mut rest, old, "activeDeadlineSeconds");
    restore(&mut rest, old, "tolerations");
    let lifted = integer(old, "/terminationGracePeriodSeconds").is_some_and(|seconds| seconds < 0)
        && integer(new, "/terminationGracePeriodSeconds") == Some(1);
    if lifted {
        restore(&mut rest, old, "terminationGracePeriodSeconds");
    }
    let gates = list(old, "/schedulingGates");
    if list(new, "/schedulingGates").iter().all(|gate| gates.contains(gate)) {
        restore(&mut rest, old, "schedulingGates");
    }
    if &rest != old {
        errors.forbidden("spec", FIXED);
    }
}

fn restore(spec: &mut Value, old: &Value, field: &str) {
    match old.get(field) {
        Some(stored) => set(spec, field, stored.clone()),
        None => {
            remove(spec, field);
        }
    }
}

fn deadline(errors: &mut Errors, new: &Value, old: &Value) {
    let field = "spec.activeDeadlineSeconds";
    match (integer(new, "/activeDeadlineSeconds"), integer(old, "/activeDeadlineSeconds")) {
        (Some(new), Some(old)) if new > old => {
            errors.invalid(field, new, "must be less than or equal to previous value");
        }
        (None, Some(_)) => errors.invalid(field, Value::Null, "must not update from a positive integer to nil value"),
        _ => {}
    }
}

fn tolerations(errors: &mut Errors, new: &Value, old: &Value) {
    // The time of an existing toleration may change, its meaning may not.
    let meaning = |toleration: &Value| {
        let mut toleration = toleration.clone();
        remove(&mut toleration, "tolerationSeconds");
        toleration
    };
    let kept: HashSet<Value> = list(new, "/tolerations").iter().map(meaning).collect();
    if !list(old, "/tolerations").iter().all(|toleration| kept.contains(&meaning(toleration))) {
        errors.forbidden("spec.tolerations", "existing toleration can not be modified except its tolerationSeconds");
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    // P-123, A-067
    #[test]
    fn little_of_a_spec_may_change() {
        let old = json!({
            "containers": [{"name": "c", "image": "a", "env": []}], "initContainers": [{"name": "i", "image": "a"}],
            "nodeName": "n", "activeDeadlineSeconds": 10, "terminationGracePeriodSeconds": -1,
            "tolerations": [{"key": "a", "operator": "Exists"}], "schedulingGates": [{"name": "g/h"}],
        });
        let rows = [
            ("image", json!({"containers": [{"name": "c", "image": "b", "env": []}]}), vec![]),
            ("init image", json!({"initContainers": [{"name": "i", "image": "b"}]}), vec![]),
            ("lower deadline", json!({"activeDeadlineSeconds": 5}), vec![]),
            ("grace from negative to 1", json!({"terminationGracePeriodSeconds": 1}), vec![]),
            ("gate removed", json!({"schedulingGates": []}), vec![]),
            (
                "toleration added",
                json!({"tolerations": [{"key": "a", "operator": "Exists", "tolerationSeconds": 4}, {"key": "b", "operator": "Exists"}]}),
                vec![],
            ),
            ("higher deadline", json!({"activeDeadlineSeconds": 11}), vec!["spec.activeDeadlineSeconds"]),
            ("deadline removed", json!({"activeDeadlineSeconds": null}), vec!["spec.activeDeadlineSeconds"]),
            ("toleration removed", json!({"tolerations": []}), vec!["spec.tolerations"]),
            ("grace", json!({"terminationGracePeriodSeconds": 2}), vec!["spec"]),
            ("gate added", json!({"schedulingGates": [{"name": "x/y"}]}), vec!["spec"]),
            // Pods are bound through their own subresource.
            ("node", json!({"nodeName": "m"}), vec!["spec"]),
            ("environment", json!({"containers": [{"name": "c", "image": "a", "env": [{"name": "A"}]}]}), vec!["spec"]),
            ("fewer containers", json!({"containers": []}), vec!["spec.containers"]),
            ("restart policy", json!({"restartPolicy": "Never"}), vec!["spec"]),
        ];
        for (label, change, expected) in rows {
            let mut new = old.clone();
            for (key, value) in change.as_object().unwrap() {
                new[key] = value.clone();
            }
            assert_eq!(fields(&new, &old), expected, "{label}");
        }
    }

    fn fields(new: &Value, old: &Value) -> Vec<String> {
        let mut errors = Errors::default();
        validate(&mut errors, new, old);
        errors.into_list().into_iter().map(|error| error.field).collect()
    }
}
