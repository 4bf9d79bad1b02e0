//! Nodes and decisions for tests.

use std::sync::Arc;

use k8s_openapi::api::core::v1::{Namespace, Node, NodeCondition, NodeSpec, NodeStatus};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use serde_json::{Value, json};

use super::around::World;
use super::ledger::Ledger;
use super::place::{Unschedulable, place};
use crate::fixtures::{Fixture, meta};
use crate::selector::Labels;

/// No pods and no namespaces.
pub(crate) const NOWHERE: World<'static> = World { pods: &Vec::new, namespaces: &|_| None };

fn labels(pairs: &[(&str, &str)]) -> Labels {
    pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
}

/// A node that is Ready and has these labels.
pub(crate) fn labelled(name: &str, pairs: &[(&str, &str)]) -> Node {
    let ready = NodeCondition { type_: "Ready".into(), status: "True".into(), ..NodeCondition::default() };
    Node {
        metadata: ObjectMeta { namespace: None, labels: Some(labels(pairs)), ..meta(name) },
        spec: Some(NodeSpec::default()),
        status: Some(NodeStatus { conditions: Some(vec![ready]), ..NodeStatus::default() }),
    }
}

/// A pod as it would be read: `place` is `namespace/name` or `name`, labels are `key=value key=value`, and `spec` is what
/// decides where it goes.
pub(crate) fn reads(place: &str, labels: &str, spec: Value) -> Fixture {
    let (namespace, name) = place.split_once('/').unwrap_or(("default", place));
    let pairs: Labels = labels.split_whitespace().filter_map(|pair| pair.split_once('=')).fold(
        Labels::new(),
        |mut all, (key, value)| {
            all.insert(key.to_owned(), value.to_owned());
            all
        },
    );
    let metadata = json!({"namespace": namespace, "name": name, "uid": format!("uid-{place}"), "labels": pairs});
    Fixture { pod: serde_json::from_value(json!({"metadata": metadata, "spec": spec})).unwrap() }
}

/// Where `pod` goes with these pods about; the namespace `other` has the label `team=b`.
pub(crate) fn run(pod: &Fixture, nodes: &[Node], pods: &[Fixture]) -> Result<String, Unschedulable> {
    let nodes: Vec<_> = nodes.iter().cloned().map(Arc::new).collect();
    let all: Vec<_> = pods.iter().map(|fixture| Arc::new(fixture.pod.clone())).collect();
    let mut ledger = Ledger::default();
    for pod in &all {
        ledger.changed(None, Some(pod));
    }
    let other = Namespace {
        metadata: ObjectMeta { labels: Some(labels(&[("team", "b")])), ..ObjectMeta::default() },
        ..Namespace::default()
    };
    let other = Arc::new(other);
    let namespaces = |name: &str| (name == "other").then(|| other.clone());
    place(&pod.pod, &nodes, &ledger, World { pods: &|| all.clone(), namespaces: &namespaces })
}
