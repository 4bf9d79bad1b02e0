//! The status of a Deployment (P-099, P-100, A-156): a plain function of its ReplicaSets and the time.

use std::sync::Arc;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::apps::v1::{Deployment, DeploymentCondition, DeploymentStatus, ReplicaSet};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use super::desired::{limits, newest, size};

/// The reason once a rollout has ended well.
const COMPLETE: &str = "NewReplicaSetAvailable";

/// The status as it should be, and when it changes by time alone.
pub(crate) fn status(
    deployment: &Deployment,
    sets: &[Arc<ReplicaSet>],
    now: Timestamp,
) -> (DeploymentStatus, Option<Duration>) {
    let new = newest(deployment, sets);
    let before = deployment.status.clone().unwrap_or_default();
    let sum = |count: fn(&ReplicaSet) -> i32| sets.iter().map(|set| count(set)).sum::<i32>();
    let replicas = sum(|set| set.status.as_ref().map_or(0, |status| status.replicas));
    let ready = sum(|set| set.status.as_ref().and_then(|status| status.ready_replicas).unwrap_or(0));
    let available = sum(|set| set.status.as_ref().and_then(|status| status.available_replicas).unwrap_or(0));
    let terminating = sum(|set| set.status.as_ref().and_then(|status| status.terminating_replicas).unwrap_or(0));
    let updated = new.as_ref().and_then(|new| new.status.as_ref()).map_or(0, |status| status.replicas);
    let mut status = DeploymentStatus {
        observed_generation: deployment.metadata.generation,
        replicas: Some(replicas),
        updated_replicas: Some(updated),
        ready_replicas: Some(ready),
        available_replicas: Some(available),
        unavailable_replicas: Some((sum(size) - available).max(0)),
        terminating_replicas: Some(terminating),
        collision_count: before.collision_count,
        conditions: before.conditions.clone(),
    };
    let limits = limits(deployment);
    let enough = available >= limits.replicas - limits.max_unavailable;
    let available_condition = if enough {
        condition("Available", "True", "MinimumReplicasAvailable", "Deployment has minimum availability.".to_owned())
    } else {
        let message = "Deployment does not have minimum availability.".to_owned();
        condition("Available", "False", "MinimumReplicasUnavailable", message)
    };
    set(&mut status, available_condition, now);
    let next = progressing(deployment, new.as_deref(), &before, &mut status, now);
    replica_failure(sets, &mut status, now);
    (status, next)
}

/// Whether two statuses say the same; absent numbers are zero.
pub(crate) fn is_same(a: &DeploymentStatus, b: &DeploymentStatus) -> bool {
    let normal = |status: &DeploymentStatus| {
        let mut status = status.clone();
        for field in [
            &mut status.replicas,
            &mut status.updated_replicas,
            &mut status.ready_replicas,
            &mut status.available_replicas,
            &mut status.unavailable_replicas,
            &mut status.terminating_replicas,
        ] {
            field.get_or_insert(0);
        }
        status
    };
    normal(a) == normal(b)
}

fn progressing(
    deployment: &Deployment,
    new: Option<&ReplicaSet>,
    before: &DeploymentStatus,
    status: &mut DeploymentStatus,
    now: Timestamp,
) -> Option<Duration> {
    let spec = deployment.spec.as_ref()?;
    let deadline = spec.progress_deadline_seconds.unwrap_or(600);
    if deadline == i32::MAX {
        // Upstream's way of saying "no deadline".
        status.conditions.iter_mut().for_each(|list| list.retain(|known| known.type_ != "Progressing"));
        return None;
    }
    let known = find(before, "Progressing").cloned();
    let is = |reason: &str| known.as_ref().and_then(|known| known.reason.as_deref()) == Some(reason);
    if spec.paused.unwrap_or(false) {
        if !is("DeploymentPaused") {
            set(
                status,
                condition("Progressing", "Unknown", "DeploymentPaused", "Deployment is paused".to_owned()),
                now,
            );
        }
        return None;
    }
    if is("DeploymentPaused") {
        let message = "Deployment is resumed".to_owned();
        set(status, condition("Progressing", "Unknown", "DeploymentResumed", message), now);
    }
    let wanted = spec.replicas.unwrap_or(1);
    let complete = status.updated_replicas == Some(wanted)
        && status.replicas == Some(wanted)
        && status.available_replicas == Some(wanted)
        && new.is_some();
    let name = new.and_then(|new| new.metadata.name.clone());
    let named = |what: &str| match &name {
        Some(name) => format!("ReplicaSet \"{name}\" {what}"),
        None => format!("Deployment {what}"),
    };
    if is(COMPLETE) && status.replicas == status.updated_replicas && new.is_some() {
        // The rollout is over: pods that fail later are no matter of progress.
        return None;
    }
    if complete {
        set(status, condition("Progressing", "True", COMPLETE, named("has successfully progressed.")), now);
        return None;
    }
    if known.is_none() {
        let reason = if before.observed_generation.is_none() { "NewReplicaSetCreated" } else { "FoundNewReplicaSet" };
        set(status, condition("Progressing", "True", reason, named("was created.")), now);
    } else if has_progressed(before, status) {
        touch(status, condition("Progressing", "True", "ReplicaSetUpdated", named("is progressing.")), now);
    }
    // Still counted from the last sign of progress.
    let since = find(status, "Progressing")?.last_update_time.as_ref()?.0;
    let left = SignedDuration::from_secs(deadline.into()) - now.duration_since(since);
    if left > SignedDuration::ZERO {
        return Some(left.unsigned_abs());
    }
    let message = named("has timed out progressing.");
    set(status, condition("Progressing", "False", "ProgressDeadlineExceeded", message), now);
    None
}

/// More new pods, fewer old ones, or more that work.
fn has_progressed(before: &DeploymentStatus, status: &DeploymentStatus) -> bool {
    let value = |field: Option<i32>| field.unwrap_or(0);
    let old = |status: &DeploymentStatus| value(status.replicas) - value(status.updated_replicas);
    value(status.updated_replicas) > value(before.updated_replicas)
        || old(status) < old(before)
        || value(status.ready_replicas) > value(before.ready_replicas)
        || value(status.available_replicas) > value(before.available_replicas)
}

fn replica_failure(sets: &[Arc<ReplicaSet>], status: &mut DeploymentStatus, now: Timestamp) {
    let failing = sets.iter().filter_map(|set| set.status.as_ref()?.conditions.as_ref()).flatten();
    let failure = failing.into_iter().find(|known| known.type_ == "ReplicaFailure" && known.status == "True");
    match failure {
        Some(failure) => {
            let reason = failure.reason.clone().unwrap_or_default();
            set(status, condition("ReplicaFailure", "True", &reason, failure.message.clone().unwrap_or_default()), now);
        }
        None => status.conditions.iter_mut().for_each(|list| list.retain(|known| known.type_ != "ReplicaFailure")),
    }
}

fn condition(type_: &str, status: &str, reason: &str, message: String) -> DeploymentCondition {
    DeploymentCondition {
        type_: type_.to_owned(),
        status: status.to_owned(),
        reason: Some(reason.to_owned()),
        message: Some(message),
        last_transition_time: None,
        last_update_time: None,
    }
}

fn find<'a>(status: &'a DeploymentStatus, type_: &str) -> Option<&'a DeploymentCondition> {
    status.conditions.iter().flatten().find(|known| known.type_ == type_)
}

/// Sets a condition unless it says this already.
fn set(status: &mut DeploymentStatus, wanted: DeploymentCondition, now: Timestamp) {
    let same =
        find(status, &wanted.type_).is_some_and(|known| known.status == wanted.status && known.reason == wanted.reason);
    if !same {
        touch(status, wanted, now);
    }
}

/// Sets a condition and its update time; the transition time moves only with the status.
fn touch(status: &mut DeploymentStatus, mut wanted: DeploymentCondition, now: Timestamp) {
    let unchanged_since = find(status, &wanted.type_)
        .filter(|known| known.status == wanted.status)
        .and_then(|known| known.last_transition_time.clone());
    // To the second, as it is stored: otherwise the next run would see a difference.
    let now = Timestamp::from_second(now.as_second()).unwrap_or(now);
    wanted.last_transition_time = unchanged_since.or(Some(Time(now)));
    wanted.last_update_time = Some(Time(now));
    let conditions = status.conditions.get_or_insert_default();
    match conditions.iter_mut().find(|known| known.type_ == wanted.type_) {
        Some(known) => *known = wanted,
        None => conditions.push(wanted),
    }
}

#[cfg(test)]
#[path = "conditions_tests.rs"]
mod tests;
