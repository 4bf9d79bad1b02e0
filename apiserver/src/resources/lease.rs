//! Lease: a lock with a heartbeat, for leader election and node liveness.

use serde_json::Value;

use super::check::Errors;
use super::json::{has, integer, text};
use crate::registry::{Column, FieldError, Resource};
use crate::table;

const COLUMNS: &[Column] = &[Column::NAME, Column::text("Holder", "Who holds the lease."), Column::AGE];

pub(super) fn resource() -> Resource {
    Resource {
        group: "coordination.k8s.io",
        kind: "Lease",
        plural: "leases",
        singular: "lease",
        allow_create_on_update: true,
        // Two candidates must not overwrite each other blindly.
        allow_unconditional_update: false,
        columns: COLUMNS,
        row: |object, now| {
            let holder = text(object, "/spec/holderIdentity");
            vec![table::name(object).into(), holder.into(), table::age(object, now).into()]
        },
        validate,
        ..Resource::BASE
    }
}

fn validate(new: &Value, _old: Option<&Value>) -> Vec<FieldError> {
    let mut errors = Errors::default();
    if let Some(seconds) = integer(new, "/spec/leaseDurationSeconds")
        && seconds <= 0
    {
        errors.invalid("spec.leaseDurationSeconds", seconds, "must be greater than 0");
    }
    errors.not_negative("spec.leaseTransitions", integer(new, "/spec/leaseTransitions"));
    if has(new, "/spec/preferredHolder") && text(new, "/spec/strategy").is_empty() {
        errors.forbidden("spec.preferredHolder", "must be specified with `strategy`");
    }
    errors.into_list()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn durations_are_positive() {
        let new = json!({"spec": {"leaseDurationSeconds": 0, "leaseTransitions": -1}});
        let found: Vec<String> = validate(&new, None).into_iter().map(|e| e.field).collect();
        assert_eq!(found, ["spec.leaseDurationSeconds", "spec.leaseTransitions"]);
        assert!(validate(&json!({"spec": {"holderIdentity": "a", "leaseDurationSeconds": 15}}), None).is_empty());
    }
}
