//! Deployment: ReplicaSets that succeed each other (P-096).

use serde_json::Value;

use super::amount::{amount, at_most_all};
use super::check::Errors;
use super::json::{at, child, has, integer, set_default, set_default_text, text};
use super::printing::{containers_and_images, label_selector, ready};
use super::replicaset::SCALE;
use super::template;
use crate::registry::{Column, FieldError, Resource, Subresource};
use crate::table;

const COLUMNS: &[Column] = &[
    Column::NAME,
    Column::text("Ready", "Ready pods of those wished for."),
    Column::integer("Up-to-date", "How many pods are of the newest template."),
    Column::integer("Available", "How many pods have been ready for long enough."),
    Column::AGE,
    Column::text("Containers", "Names of the template's containers.").wide(),
    Column::text("Images", "Images of the template's containers.").wide(),
    Column::text("Selector", "Which pods belong to it.").wide(),
];

pub(super) fn resource() -> Resource {
    Resource {
        group: "apps",
        kind: "Deployment",
        plural: "deployments",
        singular: "deployment",
        short_names: &["deploy"],
        categories: &["all"],
        has_status: true,
        has_generation: true,
        subresources: &[Subresource::Status, SCALE],
        columns: COLUMNS,
        row,
        default,
        validate,
        ..Resource::BASE
    }
}

fn default(object: &mut Value) {
    let Some(spec) = child(object, "spec") else { return };
    set_default(spec, "replicas", 1);
    if let Some(strategy) = child(spec, "strategy") {
        set_default_text(strategy, "type", "RollingUpdate");
        if text(strategy, "/type") == "RollingUpdate"
            && let Some(rolling) = child(strategy, "rollingUpdate")
        {
            set_default(rolling, "maxUnavailable", "25%");
            set_default(rolling, "maxSurge", "25%");
        }
    }
    set_default(spec, "revisionHistoryLimit", 10);
    set_default(spec, "progressDeadlineSeconds", 600);
    template::default(object);
}

fn validate(new: &Value, old: Option<&Value>) -> Vec<FieldError> {
    let mut errors = Errors::default();
    template::validate(&mut errors, new, old);
    strategy(&mut errors, at(new, "/spec/strategy"));
    errors.not_negative("spec.revisionHistoryLimit", integer(new, "/spec/revisionHistoryLimit"));
    if let Some(deadline) = integer(new, "/spec/progressDeadlineSeconds")
        && deadline <= integer(new, "/spec/minReadySeconds").unwrap_or_default()
    {
        errors.invalid("spec.progressDeadlineSeconds", deadline, "must be greater than minReadySeconds");
    }
    errors.into_list()
}

fn strategy(errors: &mut Errors, strategy: &Value) {
    let field = "spec.strategy.rollingUpdate";
    match text(strategy, "/type") {
        "Recreate" if has(strategy, "/rollingUpdate") => {
            errors.forbidden(field, "may not be specified when strategy `type` is 'Recreate'");
        }
        "Recreate" => {}
        "RollingUpdate" => {
            let written = at(strategy, "/rollingUpdate/maxUnavailable");
            let unavailable = at_most_all(errors, &format!("{field}.maxUnavailable"), written);
            let surge = amount(errors, &format!("{field}.maxSurge"), at(strategy, "/rollingUpdate/maxSurge"));
            if unavailable == Some(0) && surge == Some(0) {
                let why = "may not be 0 when `maxSurge` is 0";
                errors.invalid(format!("{field}.maxUnavailable"), written.clone(), why);
            }
        }
        other => errors.unsupported("spec.strategy.type", other, &["Recreate", "RollingUpdate"]),
    }
}

fn row(object: &Value, now: jiff::Timestamp) -> Vec<Value> {
    let count = |pointer: &str| integer(object, pointer).unwrap_or_default();
    let [containers, images] = containers_and_images(at(object, "/spec/template/spec"));
    vec![
        table::name(object).into(),
        ready(object),
        count("/status/updatedReplicas").into(),
        count("/status/availableReplicas").into(),
        table::age(object, now).into(),
        containers,
        images,
        label_selector(at(object, "/spec/selector")),
    ]
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn deployment(change: Value) -> Value {
        let mut object = json!({"metadata": {"name": "d"}, "spec": {
            "selector": {"matchLabels": {"app": "web"}},
            "template": {"metadata": {"labels": {"app": "web"}}, "spec": {"containers": [{"name": "c", "image": "i"}]}},
        }});
        for (key, value) in change.as_object().unwrap() {
            object["spec"][key] = value.clone();
        }
        default(&mut object);
        object
    }

    // A-062, P-097, P-099
    #[test]
    fn a_rollout_has_defaults() {
        let object = deployment(json!({}));
        assert_eq!(object["spec"]["replicas"], 1);
        let rolling = json!({"type": "RollingUpdate", "rollingUpdate": {"maxUnavailable": "25%", "maxSurge": "25%"}});
        assert_eq!(object["spec"]["strategy"], rolling);
        assert_eq!(object["spec"]["revisionHistoryLimit"], 10);
        assert_eq!(object["spec"]["progressDeadlineSeconds"], 600);
        assert_eq!(object["spec"]["template"]["spec"]["restartPolicy"], "Always");
        assert!(validate(&object, None).is_empty());
        let mut again = object.clone();
        default(&mut again);
        assert_eq!(again, object);
        assert_eq!(
            deployment(json!({"strategy": {"type": "Recreate"}}))["spec"]["strategy"],
            json!({"type": "Recreate"})
        );
    }

    // P-097, P-099
    #[test]
    fn strategies_are_checked() {
        let rolling = |unavailable: Value, surge: Value| json!({"strategy": {"rollingUpdate": {"maxUnavailable": unavailable, "maxSurge": surge}}});
        let field = "spec.strategy.rollingUpdate.maxUnavailable";
        let rows = [
            (rolling(json!(1), json!(0)), vec![]),
            (rolling(json!(0), json!("0%")), vec![field]),
            (rolling(json!(-1), json!(1)), vec![field]),
            (rolling(json!("x"), json!(1)), vec![field]),
            (rolling(json!("101%"), json!(1)), vec![field]),
            (json!({"strategy": {"type": "Recreate", "rollingUpdate": {}}}), vec!["spec.strategy.rollingUpdate"]),
            (json!({"strategy": {"type": "Odd"}}), vec!["spec.strategy.type"]),
            (json!({"minReadySeconds": 600}), vec!["spec.progressDeadlineSeconds"]),
        ];
        for (change, expected) in rows {
            let found: Vec<String> = validate(&deployment(change.clone()), None).into_iter().map(|e| e.field).collect();
            assert_eq!(found, expected, "{change}");
        }
    }

    //
    #[test]
    fn the_selector_is_immutable() {
        let old = deployment(json!({}));
        let mut new = old.clone();
        new["spec"]["selector"] = json!({"matchExpressions": [{"key": "app", "operator": "Exists"}]});
        let found: Vec<String> = validate(&new, Some(&old)).into_iter().map(|e| e.field).collect();
        assert_eq!(found, ["spec.selector"]);
    }

    //
    #[test]
    fn the_table_shows_progress() {
        let mut object = deployment(json!({"replicas": 3}));
        object["status"] = json!({"readyReplicas": 1, "updatedReplicas": 2, "availableReplicas": 1});
        let expected = json!(["d", "1/3", 2, 1, "<unknown>", "c", "i", "app=web"]);
        assert_eq!(Value::from(row(&object, jiff::Timestamp::UNIX_EPOCH)), expected);
    }
}
