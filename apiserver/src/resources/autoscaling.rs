//! HorizontalPodAutoscaler: stored and served, not acted on.

use serde_json::{Value, json};

use super::inert::{INERT, rules};
use super::json::{at, child, integer, list, set, set_default, text};
use super::printing::or_none;
use crate::registry::{Column, Resource, Subresource};
use crate::table;

const COLUMNS: &[Column] = &[
    Column::NAME,
    Column::text("Reference", "What it would scale."),
    Column::text("Targets", "Present and wished values."),
    Column::text("MinPods", "How many pods at least."),
    Column::integer("MaxPods", "How many pods at most."),
    Column::integer("Replicas", "How many pods there are."),
    Column::AGE,
];

pub(super) fn resource() -> Resource {
    Resource {
        group: "autoscaling",
        version: "v2",
        kind: "HorizontalPodAutoscaler",
        plural: "horizontalpodautoscalers",
        singular: "horizontalpodautoscaler",
        short_names: &["hpa"],
        categories: &["all"],
        has_status: true,
        subresources: &[Subresource::Status],
        columns: COLUMNS,
        row,
        default: |object| {
            let Some(spec) = child(object, "spec") else { return };
            set_default(spec, "minReplicas", 1);
            if list(spec, "/metrics").is_empty() {
                let cpu = json!({"name": "cpu", "target": {"type": "Utilization", "averageUtilization": 80}});
                set(spec, "metrics", json!([{"type": "Resource", "resource": cpu}]));
            }
        },
        prepare: |new, old| {
            if old.is_none() {
                set(new, "status", json!({"desiredReplicas": 0}));
            }
        },
        validate: |new, old| {
            rules(new, old, &["spec.maxReplicas", "spec.scaleTargetRef.kind", "spec.scaleTargetRef.name"], &[])
        },
        ..INERT
    }
}

fn row(object: &Value, now: jiff::Timestamp) -> Vec<Value> {
    let reference =
        format!("{}/{}", text(object, "/spec/scaleTargetRef/kind"), text(object, "/spec/scaleTargetRef/name"));
    let minimum = integer(object, "/spec/minReplicas").map_or_else(|| "<unset>".to_owned(), |n| n.to_string());
    let targets: Vec<String> = list(object, "/spec/metrics").iter().filter_map(target).collect();
    vec![
        table::name(object).into(),
        reference.into(),
        or_none(targets.join(", ")),
        minimum.into(),
        integer(object, "/spec/maxReplicas").unwrap_or_default().into(),
        integer(object, "/status/currentReplicas").unwrap_or_default().into(),
        table::age(object, now).into(),
    ]
}

/// `cpu: <unknown>/80%`; nobody measures, so the present value is never known.
fn target(metric: &Value) -> Option<String> {
    let resource = at(metric, "/resource");
    let wished = match integer(resource, "/target/averageUtilization") {
        Some(share) => format!("{share}%"),
        None => text(resource, "/target/averageValue").to_owned(),
    };
    (!resource.is_null()).then(|| format!("{}: <unknown>/{wished}", text(resource, "/name")))
}

#[cfg(test)]
mod tests {
    use super::*;

    //
    #[test]
    fn the_table_shows_the_target() {
        let kind = resource();
        let target = json!({"kind": "Deployment", "name": "web"});
        let mut object = json!({"metadata": {"name": "h"}, "spec": {"maxReplicas": 5, "scaleTargetRef": target}});
        (kind.default)(&mut object);
        let expected = json!(["h", "Deployment/web", "cpu: <unknown>/80%", "1", 5, 0, "<unknown>"]);
        assert_eq!(Value::from(row(&object, jiff::Timestamp::UNIX_EPOCH)), expected);
        assert!((kind.validate)(&object, None).is_empty());
    }
}
