//! The status of a PodDisruptionBudget: a plain function of the pods, of what their owners want, and the time.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::policy::v1::{PodDisruptionBudget, PodDisruptionBudgetStatus};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, OwnerReference, Time};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

use crate::amount::of;
use crate::pod::Pod;
use crate::pods;
use crate::selector::selects;

/// For so long an eviction that was granted counts as under way; after that it has come to nothing.
const GRANTED: SignedDuration = SignedDuration::from_secs(120);

/// The numbers a budget demands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Demand {
    /// Pods there should be.
    expected: i32,
    /// Pods that must be healthy.
    healthy: i32,
}

/// The status as it should be, and when it changes by time alone. `pods` are those of the namespace; `scale` tells how
/// many pods a controller wants, if it is of a kind that says so, and who it answers to.
pub(crate) fn status(
    budget: &PodDisruptionBudget,
    pods: &[Arc<Pod>],
    scale: impl Fn(&OwnerReference) -> Option<(String, i32)>,
    now: Timestamp,
) -> (PodDisruptionBudgetStatus, Option<Duration>) {
    let before = budget.status.clone().unwrap_or_default();
    let selector = budget.spec.as_ref().and_then(|spec| spec.selector.as_ref());
    let covered: Vec<&Arc<Pod>> = pods
        .iter()
        .filter(|pod| selector.is_some_and(|selector| selects(selector, &pod.labels)))
        .filter(|pod| !pods::is_finished(pod))
        .collect();
    let (granted, again) = granted(&before, &covered, now);
    let is_healthy = |pod: &Pod| {
        !pods::is_terminating(pod)
            && pods::is_ready(pod)
            && !granted.contains_key(pod.metadata.name.as_deref().unwrap_or_default())
    };
    let healthy = i32::try_from(covered.iter().filter(|pod| is_healthy(pod)).count()).unwrap_or(i32::MAX);
    let demand = demand(budget, &covered, scale);
    let allowed = match &demand {
        Ok(demand) if demand.expected > 0 => (healthy - demand.healthy).max(0),
        _ => 0,
    };
    let known = demand.as_ref().copied().unwrap_or(Demand { expected: 0, healthy: 0 });
    let status = PodDisruptionBudgetStatus {
        current_healthy: Some(healthy),
        desired_healthy: Some(known.healthy),
        expected_pods: Some(known.expected),
        disruptions_allowed: Some(allowed),
        disrupted_pods: (!granted.is_empty()).then_some(granted),
        observed_generation: budget.metadata.generation,
        conditions: Some(vec![condition(budget, allowed, demand.as_ref().err(), now)]),
    };
    (status, again)
}

/// Evictions granted to pods that are still there, and when the next of them expires.
fn granted(
    before: &PodDisruptionBudgetStatus,
    covered: &[&Arc<Pod>],
    now: Timestamp,
) -> (BTreeMap<String, Time>, Option<Duration>) {
    let mut granted = before.disrupted_pods.clone().unwrap_or_default();
    granted.retain(|name, at| {
        let is_staying = |pod: &&Arc<Pod>| pod.metadata.name.as_ref() == Some(name) && !pods::is_terminating(pod);
        covered.iter().any(is_staying) && now.duration_since(at.0) < GRANTED
    });
    let left = granted.values().map(|at| (GRANTED - now.duration_since(at.0)).unsigned_abs());
    let again = left.min();
    (granted, again)
}

fn demand(
    budget: &PodDisruptionBudget,
    covered: &[&Arc<Pod>],
    scale: impl Fn(&OwnerReference) -> Option<(String, i32)>,
) -> Result<Demand, String> {
    let spec = budget.spec.clone().unwrap_or_default();
    let count = i32::try_from(covered.len()).unwrap_or(i32::MAX);
    match (&spec.max_unavailable, &spec.min_available) {
        (Some(most), _) => {
            let expected = expected(covered, scale)?;
            Ok(Demand { expected, healthy: (expected - of(most, expected, true)).max(0) })
        }
        (None, Some(least @ IntOrString::String(_))) => {
            let expected = expected(covered, scale)?;
            Ok(Demand { expected, healthy: of(least, expected, true) })
        }
        (None, Some(IntOrString::Int(least))) => Ok(Demand { expected: count, healthy: *least }),
        (None, None) => Ok(Demand { expected: count, healthy: 1 }),
    }
}

/// How many pods the controllers of the covered pods want together.
fn expected(covered: &[&Arc<Pod>], scale: impl Fn(&OwnerReference) -> Option<(String, i32)>) -> Result<i32, String> {
    let mut scales: BTreeMap<String, i32> = BTreeMap::new();
    for pod in covered {
        let name = pod.metadata.name.as_deref().unwrap_or_default();
        let Some(owner) = pods::controller(&pod.metadata) else {
            return Err(format!("found no controllers for pod {name:?}"));
        };
        let Some((uid, replicas)) = scale(owner) else {
            return Err(format!("{} {:?} does not implement the scale subresource", owner.kind, owner.name));
        };
        scales.insert(uid, replicas);
    }
    Ok(scales.values().sum())
}

fn condition(budget: &PodDisruptionBudget, allowed: i32, problem: Option<&String>, now: Timestamp) -> Condition {
    let (status, reason) = match (problem, allowed) {
        (Some(_), _) => ("False", "SyncFailed"),
        (None, 0) => ("False", "InsufficientPods"),
        (None, _) => ("True", "SufficientPods"),
    };
    let conditions = budget.status.as_ref().and_then(|status| status.conditions.as_deref()).unwrap_or_default();
    let known = conditions.iter().find(|known| known.type_ == "DisruptionAllowed" && known.status == status);
    Condition {
        type_: "DisruptionAllowed".to_owned(),
        status: status.to_owned(),
        reason: reason.to_owned(),
        message: problem.cloned().unwrap_or_default(),
        observed_generation: budget.metadata.generation,
        last_transition_time: known.map_or(Time(now), |known| known.last_transition_time.clone()),
    }
}

#[cfg(test)]
#[path = "desired_tests.rs"]
mod tests;
