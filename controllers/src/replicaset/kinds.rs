//! The two kinds that keep a number of pods, seen alike.

use std::borrow::Cow;

use k8s_openapi::api::apps::v1::{ReplicaSet, ReplicaSetCondition, ReplicaSetStatus};
use k8s_openapi::api::core::v1::{
    PodTemplateSpec, ReplicationController, ReplicationControllerCondition, ReplicationControllerStatus,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector, Time};
use kube::core::NamespaceResourceScope;
use serde::Serialize;

use super::desired::Counts;
use crate::cache::Object;

/// Something that keeps a number of pods.
pub(crate) trait Replicated: Object + kube::Resource<Scope = NamespaceResourceScope> + Serialize {
    /// For logs.
    const CONTROLLER: &'static str;
    /// For Events.
    const COMPONENT: &'static str;

    fn replicas(&self) -> i32;
    fn min_ready_seconds(&self) -> i32;
    /// The selector in workload form.
    fn selector(&self) -> Cow<'_, LabelSelector>;
    fn template(&self) -> Option<&PodTemplateSpec>;
    /// The object with this status, or `None` when it has it.
    fn with_status(&self, counts: Counts, failure: Option<&Failure>, now: Time) -> Option<Self>;
}

/// Why pods could not be made or removed: condition `ReplicaFailure`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Failure {
    pub(crate) reason: &'static str,
    pub(crate) message: String,
}

impl Replicated for ReplicaSet {
    const CONTROLLER: &'static str = "replicaset";
    const COMPONENT: &'static str = "replicaset-controller";

    fn replicas(&self) -> i32 {
        self.spec.as_ref().and_then(|spec| spec.replicas).unwrap_or(1)
    }

    fn min_ready_seconds(&self) -> i32 {
        self.spec.as_ref().and_then(|spec| spec.min_ready_seconds).unwrap_or(0)
    }

    fn selector(&self) -> Cow<'_, LabelSelector> {
        self.spec.as_ref().map_or_else(|| Cow::Owned(nothing()), |spec| Cow::Borrowed(&spec.selector))
    }

    fn template(&self) -> Option<&PodTemplateSpec> {
        self.spec.as_ref()?.template.as_ref()
    }

    fn with_status(&self, counts: Counts, failure: Option<&Failure>, now: Time) -> Option<Self> {
        let present = self.status.clone().unwrap_or_default();
        let mut conditions = present.conditions.clone().unwrap_or_default();
        let position = conditions.iter().position(|condition| condition.type_ == FAILURE);
        match (failure, position) {
            (None, Some(position)) => drop(conditions.remove(position)),
            (Some(failure), None) => conditions.push(ReplicaSetCondition {
                type_: FAILURE.to_owned(),
                status: "True".to_owned(),
                reason: Some(failure.reason.to_owned()),
                message: Some(failure.message.clone()),
                last_transition_time: Some(now),
            }),
            _ => {}
        }
        let status = ReplicaSetStatus {
            replicas: counts.replicas,
            fully_labeled_replicas: Some(counts.fully_labeled),
            ready_replicas: Some(counts.ready),
            available_replicas: Some(counts.available),
            terminating_replicas: Some(counts.terminating),
            observed_generation: self.metadata.generation,
            conditions: (!conditions.is_empty()).then_some(conditions),
        };
        let same = self.status.is_some() && normal(present) == normal(status.clone());
        (!same).then(|| Self { status: Some(status), ..self.clone() })
    }
}

/// Zero and absent are the same to the server.
fn normal(mut status: ReplicaSetStatus) -> ReplicaSetStatus {
    for field in [
        &mut status.fully_labeled_replicas,
        &mut status.ready_replicas,
        &mut status.available_replicas,
        &mut status.terminating_replicas,
    ] {
        field.get_or_insert(0);
    }
    status.conditions = status.conditions.filter(|conditions| !conditions.is_empty());
    status
}

impl Replicated for ReplicationController {
    const CONTROLLER: &'static str = "replicationcontroller";
    const COMPONENT: &'static str = "replication-controller";

    fn replicas(&self) -> i32 {
        self.spec.as_ref().and_then(|spec| spec.replicas).unwrap_or(1)
    }

    fn min_ready_seconds(&self) -> i32 {
        self.spec.as_ref().and_then(|spec| spec.min_ready_seconds).unwrap_or(0)
    }

    fn selector(&self) -> Cow<'_, LabelSelector> {
        let pairs = self.spec.as_ref().and_then(|spec| spec.selector.clone()).filter(|pairs| !pairs.is_empty());
        Cow::Owned(
            pairs.map_or_else(nothing, |pairs| LabelSelector { match_labels: Some(pairs), match_expressions: None }),
        )
    }

    fn template(&self) -> Option<&PodTemplateSpec> {
        self.spec.as_ref()?.template.as_ref()
    }

    fn with_status(&self, counts: Counts, failure: Option<&Failure>, now: Time) -> Option<Self> {
        let present = self.status.clone().unwrap_or_default();
        let mut conditions = present.conditions.clone().unwrap_or_default();
        let position = conditions.iter().position(|condition| condition.type_ == FAILURE);
        match (failure, position) {
            (None, Some(position)) => drop(conditions.remove(position)),
            (Some(failure), None) => conditions.push(ReplicationControllerCondition {
                type_: FAILURE.to_owned(),
                status: "True".to_owned(),
                reason: Some(failure.reason.to_owned()),
                message: Some(failure.message.clone()),
                last_transition_time: Some(now),
            }),
            _ => {}
        }
        let status = ReplicationControllerStatus {
            replicas: counts.replicas,
            fully_labeled_replicas: Some(counts.fully_labeled),
            ready_replicas: Some(counts.ready),
            available_replicas: Some(counts.available),
            observed_generation: self.metadata.generation,
            conditions: (!conditions.is_empty()).then_some(conditions),
        };
        let same = present.replicas == status.replicas
            && present.fully_labeled_replicas.unwrap_or(0) == counts.fully_labeled
            && present.ready_replicas.unwrap_or(0) == counts.ready
            && present.available_replicas.unwrap_or(0) == counts.available
            && present.observed_generation == status.observed_generation
            && present.conditions.filter(|conditions| !conditions.is_empty()) == status.conditions;
        (!same).then(|| Self { status: Some(status), ..self.clone() })
    }
}

const FAILURE: &str = "ReplicaFailure";

/// A selector that selects no pod, for objects without one.
fn nothing() -> LabelSelector {
    use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelectorRequirement;
    let never = LabelSelectorRequirement { key: "x".to_owned(), operator: "In".to_owned(), values: None };
    LabelSelector { match_labels: None, match_expressions: Some(vec![never]) }
}
