//! StatefulSet: pods with names that stay (P-103).

use serde_json::{Value, json};

use super::amount::amount;
use super::check::Errors;
use super::json::{at, child, has, integer, list_mut, set, set_default, set_default_text, text};
use super::printing::{containers_and_images, ready};
use super::replicaset::SCALE;
use super::{meta, storage, template};
use crate::registry::{Column, FieldError, Resource, Subresource};
use crate::table;

const COLUMNS: &[Column] = &[
    Column::NAME,
    Column::text("Ready", "Ready pods of those wished for."),
    Column::AGE,
    Column::text("Containers", "Names of the template's containers.").wide(),
    Column::text("Images", "Images of the template's containers.").wide(),
];

/// The fields of the spec that an update may change.
const CHANGEABLE: [&str; 7] = [
    "replicas",
    "ordinals",
    "template",
    "updateStrategy",
    "revisionHistoryLimit",
    "persistentVolumeClaimRetentionPolicy",
    "minReadySeconds",
];

pub(super) fn resource() -> Resource {
    Resource {
        group: "apps",
        kind: "StatefulSet",
        plural: "statefulsets",
        singular: "statefulset",
        short_names: &["sts"],
        categories: &["all"],
        has_status: true,
        has_generation: true,
        subresources: &[Subresource::Status, SCALE],
        columns: COLUMNS,
        row,
        default,
        prepare: |new, old| {
            if old.is_none() {
                set(new, "status", json!({"replicas": 0, "availableReplicas": 0}));
            }
        },
        validate,
        ..Resource::BASE
    }
}

fn default(object: &mut Value) {
    let Some(spec) = child(object, "spec") else { return };
    set_default(spec, "replicas", 1);
    set_default_text(spec, "podManagementPolicy", "OrderedReady");
    if let Some(strategy) = child(spec, "updateStrategy") {
        set_default_text(strategy, "type", "RollingUpdate");
        if text(strategy, "/type") == "RollingUpdate"
            && let Some(rolling) = child(strategy, "rollingUpdate")
        {
            set_default(rolling, "partition", 0);
        }
    }
    set_default(spec, "revisionHistoryLimit", 10);
    if let Some(retention) = child(spec, "persistentVolumeClaimRetentionPolicy") {
        set_default_text(retention, "whenDeleted", "Retain");
        set_default_text(retention, "whenScaled", "Retain");
    }
    for claim in list_mut(spec, "/volumeClaimTemplates") {
        set_default_text(claim, "kind", "PersistentVolumeClaim");
        set_default_text(claim, "apiVersion", "v1");
        storage::default_claim(claim);
        if let Some(status) = child(claim, "status") {
            set_default_text(status, "phase", "Pending");
        }
    }
    template::default(object);
}

fn validate(new: &Value, old: Option<&Value>) -> Vec<FieldError> {
    let mut errors = Errors::default();
    template::validate(&mut errors, new, old);
    strategy(&mut errors, at(new, "/spec/updateStrategy"));
    let policy = text(new, "/spec/podManagementPolicy");
    errors.one_of("spec.podManagementPolicy", policy, &["OrderedReady", "Parallel"]);
    errors.not_negative("spec.revisionHistoryLimit", integer(new, "/spec/revisionHistoryLimit"));
    errors.not_negative("spec.ordinals.start", integer(new, "/spec/ordinals/start"));
    for which in ["whenDeleted", "whenScaled"] {
        let policy = text(new, &format!("/spec/persistentVolumeClaimRetentionPolicy/{which}"));
        errors.one_of(format!("spec.persistentVolumeClaimRetentionPolicy.{which}"), policy, &["Delete", "Retain"]);
    }
    match old {
        Some(old) => unchanged(&mut errors, new, old),
        None => {
            let service = text(new, "/spec/serviceName");
            if !service.is_empty() {
                errors.rule("spec.serviceName", service, meta::label_1123(service));
            }
        }
    }
    errors.into_list()
}

fn strategy(errors: &mut Errors, strategy: &Value) {
    let rolling = at(strategy, "/rollingUpdate");
    let field = "spec.updateStrategy";
    match text(strategy, "/type") {
        "OnDelete" if !rolling.is_null() => {
            let why = "only allowed for updateStrategy 'RollingUpdate'";
            errors.invalid(format!("{field}.rollingUpdate"), rolling.clone(), why);
        }
        "OnDelete" => {}
        "RollingUpdate" => {
            errors.not_negative(format!("{field}.rollingUpdate.partition"), integer(rolling, "/partition"));
            if has(rolling, "/maxUnavailable") {
                let field = format!("{field}.rollingUpdate.maxUnavailable");
                if amount(errors, &field, at(rolling, "/maxUnavailable")) == Some(0) {
                    errors.invalid(field, at(rolling, "/maxUnavailable").clone(), "cannot be 0");
                }
            }
        }
        other => errors.unsupported(format!("{field}.type"), other, &["OnDelete", "RollingUpdate"]),
    }
}

/// A-067; the selector has a complaint of its own.
fn unchanged(errors: &mut Errors, new: &Value, old: &Value) {
    let fixed = |object: &Value| {
        let mut spec = at(object, "/spec").clone();
        if let Some(fields) = spec.as_object_mut() {
            fields.retain(|field, _| field != "selector" && !CHANGEABLE.contains(&field.as_str()));
        }
        spec
    };
    if fixed(new) != fixed(old) {
        let why = format!("of a StatefulSet only {} may be changed", CHANGEABLE.map(|f| format!("'{f}'")).join(", "));
        errors.forbidden("spec", &why);
    }
}

fn row(object: &Value, now: jiff::Timestamp) -> Vec<Value> {
    let [containers, images] = containers_and_images(at(object, "/spec/template/spec"));
    vec![table::name(object).into(), ready(object), table::age(object, now).into(), containers, images]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stateful_set(change: Value) -> Value {
        let mut object = json!({"metadata": {"name": "s"}, "spec": {
            "serviceName": "db",
            "selector": {"matchLabels": {"app": "db"}},
            "template": {"metadata": {"labels": {"app": "db"}}, "spec": {"containers": [{"name": "c", "image": "i"}]}},
            "volumeClaimTemplates": [{"metadata": {"name": "data"}, "spec": {"accessModes": ["ReadWriteOnce"]}}],
        }});
        for (key, value) in change.as_object().unwrap() {
            object["spec"][key] = value.clone();
        }
        default(&mut object);
        object
    }

    fn fields(new: &Value, old: Option<&Value>) -> Vec<String> {
        validate(new, old).into_iter().map(|error| error.field).collect()
    }

    // A-062, P-107
    #[test]
    fn defaults() {
        let object = stateful_set(json!({}));
        assert_eq!((&object["spec"]["replicas"], &object["spec"]["revisionHistoryLimit"]), (&json!(1), &json!(10)));
        assert_eq!(object["spec"]["podManagementPolicy"], "OrderedReady");
        let strategy = json!({"type": "RollingUpdate", "rollingUpdate": {"partition": 0}});
        assert_eq!(object["spec"]["updateStrategy"], strategy);
        let claim = &object["spec"]["volumeClaimTemplates"][0];
        assert_eq!(
            (&claim["kind"], &claim["spec"]["volumeMode"]),
            (&json!("PersistentVolumeClaim"), &json!("Filesystem"))
        );
        let on_delete = stateful_set(json!({"updateStrategy": {"type": "OnDelete"}}));
        assert_eq!(on_delete["spec"]["updateStrategy"], json!({"type": "OnDelete"}));
        assert_eq!(fields(&object, None), Vec::<String>::new());
    }

    #[test]
    fn on_create() {
        let rolling = |change: Value| json!({"updateStrategy": {"type": "RollingUpdate", "rollingUpdate": change}});
        let rows = [
            ("P-105", json!({"serviceName": "a.b"}), vec!["spec.serviceName"]),
            ("P-105", json!({"serviceName": ""}), vec![]),
            ("P-106", json!({"podManagementPolicy": "Sometimes"}), vec!["spec.podManagementPolicy"]),
            ("P-106", json!({"podManagementPolicy": "Parallel"}), vec![]),
            ("P-107", json!({"updateStrategy": {"type": "Recreate"}}), vec!["spec.updateStrategy.type"]),
            ("P-107", rolling(json!({"partition": -1})), vec!["spec.updateStrategy.rollingUpdate.partition"]),
            ("P-107", rolling(json!({"maxUnavailable": 0})), vec!["spec.updateStrategy.rollingUpdate.maxUnavailable"]),
            (
                "P-107",
                json!({"updateStrategy": {"type": "OnDelete", "rollingUpdate": {"partition": 1}}}),
                vec!["spec.updateStrategy.rollingUpdate"],
            ),
            ("P-103", json!({"ordinals": {"start": -1}}), vec!["spec.ordinals.start"]),
            ("P-083", json!({"selector": {}}), vec!["spec.selector"]),
            ("P-083", json!({"selector": {"matchLabels": {"app": "x"}}}), vec!["spec.template.metadata.labels"]),
        ];
        for (statement, change, expected) in rows {
            assert_eq!(fields(&stateful_set(change.clone()), None), expected, "{statement}: {change}");
        }
    }

    #[test]
    fn on_update() {
        let old = stateful_set(json!({}));
        let rows = [
            ("A-067", json!({"replicas": 3, "minReadySeconds": 5, "ordinals": {"start": 1}}), vec![]),
            ("A-067", json!({"updateStrategy": {"type": "OnDelete"}, "revisionHistoryLimit": 2}), vec![]),
            ("A-067", json!({"serviceName": "other"}), vec!["spec"]),
            ("A-067", json!({"podManagementPolicy": "Parallel"}), vec!["spec"]),
            ("A-067", json!({"volumeClaimTemplates": []}), vec!["spec"]),
            (
                "A-067",
                json!({"selector": {"matchExpressions": [{"key": "app", "operator": "Exists"}]}}),
                vec!["spec.selector"],
            ),
        ];
        for (statement, change, expected) in rows {
            assert_eq!(fields(&stateful_set(change.clone()), Some(&old)), expected, "{statement}: {change}");
        }
    }
}
