//! Which pods a StatefulSet makes and removes next (P-106 to P-108): a plain function of the set, its pods and the time.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::apps::v1::{RollingUpdateStatefulSetStrategy, StatefulSet};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

use super::pod::{ordinal, revision};
use crate::amount::of;
use crate::pod::Pod;
use crate::pods;

/// One write.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Step {
    /// Make the pod of this ordinal, of the revision before the present one if `former`.
    Create {
        ordinal: i32,
        former: bool,
    },
    Delete(Arc<Pod>),
}

/// What to do now, and when to look again if nothing changes.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Plan {
    pub(crate) steps: Vec<Step>,
    pub(crate) again: Option<Duration>,
}

/// How a pod is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Health {
    Missing,
    /// On its way out: its name is free when it is gone (P-108, P-109).
    Terminating,
    /// Failed or Succeeded: its name is needed (P-108).
    Finished,
    /// Not Running and Ready.
    Unready,
    /// Ready, but not for `minReadySeconds` yet: so much is left.
    Settling(Duration),
    Available,
}

/// The spec with its defaults.
struct Shape {
    start: i32,
    replicas: i32,
    ordered: bool,
    on_delete: bool,
    /// The first ordinal that is updated.
    partition: i32,
    max_unavailable: usize,
    min_ready_seconds: i32,
}

impl Shape {
    fn of(set: &StatefulSet) -> Self {
        let spec = set.spec.as_ref();
        let start = spec.and_then(|spec| spec.ordinals.as_ref()?.start).unwrap_or(0);
        let strategy = spec.and_then(|spec| spec.update_strategy.as_ref());
        let rolling = strategy.and_then(|strategy| strategy.rolling_update.as_ref());
        let replicas = spec.and_then(|spec| spec.replicas).unwrap_or(1);
        Self {
            start,
            replicas,
            ordered: spec.and_then(|spec| spec.pod_management_policy.as_deref()) != Some("Parallel"),
            on_delete: strategy.and_then(|strategy| strategy.type_.as_deref()) == Some("OnDelete"),
            partition: start.saturating_add(rolling.and_then(|rolling| rolling.partition).unwrap_or(0)),
            max_unavailable: max_unavailable(rolling, replicas),
            min_ready_seconds: spec.and_then(|spec| spec.min_ready_seconds).unwrap_or(0),
        }
    }

    fn ordinals(&self) -> std::ops::Range<i32> {
        self.start..self.start.saturating_add(self.replicas)
    }
}

fn max_unavailable(rolling: Option<&RollingUpdateStatefulSetStrategy>, replicas: i32) -> usize {
    let value = rolling.and_then(|rolling| rolling.max_unavailable.as_ref()).unwrap_or(&IntOrString::Int(1));
    usize::try_from(of(value, replicas, true)).unwrap_or(1).max(1)
}

/// Plans one round. `pods` are those that the set controls; `update` is the name of the present template's revision.
pub(crate) fn desired(set: &StatefulSet, pods: &[Arc<Pod>], update: &str, now: Timestamp) -> Plan {
    let mut plan = Plan::default();
    if set.metadata.deletion_timestamp.is_some() {
        // The garbage collector has the word, in no order (P-110).
        return plan;
    }
    let shape = Shape::of(set);
    let name = set.metadata.name.as_deref().unwrap_or_default();
    let by_ordinal: BTreeMap<i32, &Arc<Pod>> = pods
        .iter()
        .filter_map(|pod| Some((ordinal(name, pod.metadata.name.as_deref().unwrap_or_default())?, pod)))
        .collect();
    let replicas: Vec<(i32, Option<&Arc<Pod>>, Health)> = shape
        .ordinals()
        .map(|ordinal| {
            let pod = by_ordinal.get(&ordinal).copied();
            (ordinal, pod, pod.map_or(Health::Missing, |pod| health(pod, shape.min_ready_seconds, now)))
        })
        .collect();
    let settling = replicas.iter().filter_map(|(_, _, health)| match health {
        Health::Settling(left) => Some(*left),
        _ => None,
    });
    plan.again = settling.min();
    let settled = fill(&shape, &replicas, &mut plan.steps)
        && shrink(&shape, &by_ordinal, &mut plan.steps, now)
        && !shape.on_delete;
    if settled {
        update_one_by_one(&shape, &replicas, update, &mut plan.steps);
    }
    plan
}

fn health(pod: &Pod, min_ready_seconds: i32, now: Timestamp) -> Health {
    if pods::is_terminating(pod) {
        return Health::Terminating;
    }
    if pods::is_finished(pod) {
        return Health::Finished;
    }
    if pods::phase(pod) != "Running" {
        return Health::Unready;
    }
    match pods::until_available(pod, min_ready_seconds, now) {
        None => Health::Unready,
        Some(left) if left.is_zero() => Health::Available,
        Some(left) => Health::Settling(left.unsigned_abs()),
    }
}

/// Makes what is missing and removes what has ended. Answers whether the round may go on: in order, each pod waits for
/// those before it (P-106).
fn fill(shape: &Shape, replicas: &[(i32, Option<&Arc<Pod>>, Health)], steps: &mut Vec<Step>) -> bool {
    for (ordinal, pod, health) in replicas {
        match (health, pod) {
            (Health::Missing, _) => {
                let former = !shape.on_delete && *ordinal < shape.partition;
                steps.push(Step::Create { ordinal: *ordinal, former });
            }
            (Health::Finished, Some(pod)) => steps.push(Step::Delete((*pod).clone())),
            _ => {}
        }
        if shape.ordered && *health != Health::Available {
            return false;
        }
    }
    true
}

/// Removes pods beyond the wished-for ordinals, the highest first. Answers whether the round may go on.
fn shrink(shape: &Shape, pods: &BTreeMap<i32, &Arc<Pod>>, steps: &mut Vec<Step>, now: Timestamp) -> bool {
    let wanted = shape.ordinals();
    let condemned: Vec<&Arc<Pod>> =
        pods.iter().rev().filter(|(ordinal, _)| !wanted.contains(ordinal)).map(|(_, pod)| *pod).collect();
    let healthy = |pod: &Pod| matches!(health(pod, 0, now), Health::Available);
    for (index, pod) in condemned.iter().enumerate() {
        if pods::is_terminating(pod) {
            if shape.ordered {
                return false;
            }
            continue;
        }
        // One that is not well may be about to start what a lower one waits for; the lowest such goes at once.
        let lower_is_unwell = condemned.iter().skip(index + 1).any(|lower| !healthy(lower));
        if shape.ordered && !healthy(pod) && lower_is_unwell {
            return false;
        }
        steps.push(Step::Delete((*pod).clone()));
        if shape.ordered {
            return false;
        }
    }
    true
}

/// Removes outdated pods from the highest ordinal down, so that no more than `maxUnavailable` are away (P-107).
fn update_one_by_one(
    shape: &Shape,
    replicas: &[(i32, Option<&Arc<Pod>>, Health)],
    update: &str,
    steps: &mut Vec<Step>,
) {
    let away = replicas.iter().filter(|(_, _, health)| *health != Health::Available).count();
    let mut budget = shape.max_unavailable.saturating_sub(away);
    for (ordinal, pod, health) in replicas.iter().rev() {
        if *ordinal < shape.partition {
            return;
        }
        let Some(pod) = pod else { continue };
        let is_going = matches!(health, Health::Terminating | Health::Finished);
        if is_going || revision(pod) == update {
            continue;
        }
        if *health == Health::Available {
            // What is away already costs nothing more.
            if budget == 0 {
                return;
            }
            budget -= 1;
        }
        steps.push(Step::Delete((*pod).clone()));
    }
}

#[cfg(test)]
#[path = "desired_tests.rs"]
mod tests;
