//! What a Job does next (P-113): a plain function of the Job, its pods and the time.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::batch::v1::{Job, JobCondition, JobSpec, JobStatus};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use super::backoff;
use super::counting::{Count, count};
use super::indexes;
use super::pod::index;
use crate::pod::Pod;
use crate::pods;
use crate::replicaset::order::first_to_go;

/// Pods made in one round.
const BURST: usize = 500;

/// What to do now, in this order.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Plan {
    pub(crate) status: JobStatus,
    /// Pods that lose their finalizer when the status is written.
    pub(crate) free: Vec<Arc<Pod>>,
    /// Pods that go uncounted: too many, or the Job is suspended.
    pub(crate) dismiss: Vec<Arc<Pod>>,
    /// Pods that go because the Job is over.
    pub(crate) delete: Vec<Arc<Pod>>,
    /// Pods to make; the index of each if the Job is an Indexed one.
    pub(crate) create: Vec<Option<i32>>,
    /// The Job's time to live is over.
    pub(crate) remove: bool,
    pub(crate) again: Option<Duration>,
    /// For the user: reason and message.
    pub(crate) event: Option<Note>,
}

/// An Event to be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Note {
    pub(crate) is_warning: bool,
    pub(crate) reason: &'static str,
    pub(crate) message: String,
}

/// How a Job ends.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Verdict {
    Success,
    Failure(&'static str, &'static str),
}

/// When and how the Job has ended: `Complete` or `Failed`.
pub(crate) fn finished(job: &Job) -> Option<&JobCondition> {
    let conditions = job.status.as_ref()?.conditions.as_deref().unwrap_or_default();
    conditions.iter().find(|known| matches!(known.type_.as_str(), "Complete" | "Failed") && known.status == "True")
}

/// Plans one round; `pods` are those that the Job controls.
pub(crate) fn desired(job: &Job, pods: &[Arc<Pod>], now: Timestamp) -> Plan {
    let before = job.status.clone().unwrap_or_default();
    let mut plan = Plan { status: before.clone(), ..Plan::default() };
    let Some(spec) = &job.spec else { return plan };
    let is_indexed = spec.completion_mode.as_deref() == Some("Indexed");
    let counted = count(&before, pods, is_indexed);
    let active: Vec<Arc<Pod>> = pods.iter().filter(|pod| pods::is_active(pod)).cloned().collect();
    plan.free = counted.free.clone();
    if job.metadata.deletion_timestamp.is_some() {
        return plan;
    }
    if let Some(condition) = finished(job) {
        plan.delete = active;
        live_on(job, condition, &mut plan, now);
        return plan;
    }
    let terminating = pods.iter().filter(|pod| pods::is_terminating(pod) && !pods::is_finished(pod)).count();
    write_counts(&mut plan.status, &counted, is_indexed, &active, terminating);
    let is_suspended = spec.suspend.unwrap_or(false);
    suspend(&mut plan, is_suspended, now);
    let verdict = decided(&before).or_else(|| judge(spec, &plan.status, &counted, pods, now));
    if let Some(verdict) = verdict {
        let is_settled = active.is_empty() && terminating == 0 && counted.uncounted.is_none();
        end(&mut plan, verdict, is_settled, now);
        plan.delete = active;
    } else if is_suspended {
        plan.dismiss = active;
    } else {
        keep_running(spec, &counted, pods, active, terminating, &mut plan, now);
        let deadline = remaining_time(spec, &plan.status, now);
        plan.again = plan.again.into_iter().chain(deadline).min();
    }
    plan
}

fn write_counts(status: &mut JobStatus, counted: &Count, is_indexed: bool, active: &[Arc<Pod>], terminating: usize) {
    let number = |count: usize| i32::try_from(count).unwrap_or(i32::MAX);
    status.active = Some(number(active.len()));
    status.ready = Some(number(active.iter().filter(|pod| pods::is_ready(pod)).count()));
    status.terminating = Some(number(terminating));
    status.succeeded = Some(counted.counted_succeeded);
    status.failed = Some(counted.counted_failed);
    status.uncounted_terminated_pods = counted.uncounted.clone();
    if is_indexed && !counted.completed.is_empty() {
        status.completed_indexes = Some(indexes::text(&counted.completed));
    }
}

/// The time of the Job runs while it is not suspended.
fn suspend(plan: &mut Plan, is_suspended: bool, now: Timestamp) {
    let was_suspended = has(&plan.status, "Suspended");
    let start = plan.status.start_time.is_some();
    if is_suspended {
        plan.status.start_time = None;
    } else if !start {
        plan.status.start_time = Some(Time(now));
    }
    let (reason, message) = match (was_suspended, is_suspended) {
        (false, true) => ("JobSuspended", "Job suspended"),
        (true, false) => ("JobResumed", "Job resumed"),
        _ => return,
    };
    set(&mut plan.status, "Suspended", is_suspended, reason, message, now);
    let reason = if is_suspended { "Suspended" } else { "Resumed" };
    plan.event = Some(Note { is_warning: false, reason, message: message.to_owned() });
}

/// What an earlier round has decided while pods were still ending.
fn decided(status: &JobStatus) -> Option<Verdict> {
    let conditions = status.conditions.as_deref().unwrap_or_default();
    let holds = |type_: &str| conditions.iter().find(|known| known.type_ == type_ && known.status == "True");
    if holds("SuccessCriteriaMet").is_some() {
        return Some(Verdict::Success);
    }
    let target = holds("FailureTarget")?;
    let known = [BACKOFF_LIMIT, DEADLINE].into_iter().find(|(reason, _)| Some(*reason) == target.reason.as_deref());
    known.map(|(reason, message)| Verdict::Failure(reason, message))
}

const BACKOFF_LIMIT: (&str, &str) = ("BackoffLimitExceeded", "Job has reached the specified backoff limit");
const DEADLINE: (&str, &str) = ("DeadlineExceeded", "Job was active longer than specified deadline");

fn judge(spec: &JobSpec, status: &JobStatus, counted: &Count, pods: &[Arc<Pod>], now: Timestamp) -> Option<Verdict> {
    let limit = spec.backoff_limit.unwrap_or(6);
    if counted.failed > limit || too_many_restarts(spec, limit, pods) {
        return Some(Verdict::Failure(BACKOFF_LIMIT.0, BACKOFF_LIMIT.1));
    }
    if remaining_time(spec, status, now).is_some_and(|left| left.is_zero()) {
        return Some(Verdict::Failure(DEADLINE.0, DEADLINE.1));
    }
    let is_done = match spec.completions {
        Some(wanted) => counted.succeeded >= wanted,
        // A work queue: one success says that there is nothing left, the others finish what they have.
        None => counted.succeeded > 0 && !pods.iter().any(|pod| pods::is_active(pod)),
    };
    is_done.then_some(Verdict::Success)
}

/// With restartPolicy OnFailure it is containers that fail, inside of pods that stay.
fn too_many_restarts(spec: &JobSpec, limit: i32, pods: &[Arc<Pod>]) -> bool {
    let policy = spec.template.spec.as_ref().and_then(|spec| spec.restart_policy.as_deref());
    if policy != Some("OnFailure") {
        return false;
    }
    let restarts: i32 = pods
        .iter()
        .filter(|pod| pods::is_active(pod))
        .filter_map(|pod| pod.status.as_ref())
        .flat_map(|status| status.container_statuses.iter().chain(&status.init_container_statuses))
        .map(|status| status.restart_count)
        .sum();
    if limit == 0 { restarts > 0 } else { restarts >= limit }
}

/// What is left of `activeDeadlineSeconds`.
fn remaining_time(spec: &JobSpec, status: &JobStatus, now: Timestamp) -> Option<Duration> {
    let limit = SignedDuration::from_secs(spec.active_deadline_seconds?);
    let left = limit - now.duration_since(status.start_time.as_ref()?.0);
    Some(if left.is_negative() { Duration::ZERO } else { left.unsigned_abs() })
}

/// Says how it ends, and once no pod is left, that it has ended.
fn end(plan: &mut Plan, verdict: Verdict, is_settled: bool, now: Timestamp) {
    let status = &mut plan.status;
    let note = match verdict {
        Verdict::Success => {
            let (reason, message) = ("CompletionsReached", "Reached expected number of succeeded pods");
            set(status, "SuccessCriteriaMet", true, reason, message, now);
            if is_settled {
                set(status, "Complete", true, reason, message, now);
                status.completion_time = Some(Time(now));
            }
            Note { is_warning: false, reason: "Completed", message: "Job completed".to_owned() }
        }
        Verdict::Failure(reason, message) => {
            set(status, "FailureTarget", true, reason, message, now);
            if is_settled {
                set(status, "Failed", true, reason, message, now);
            }
            Note { is_warning: true, reason, message: message.to_owned() }
        }
    };
    if is_settled {
        plan.event = Some(note);
    }
}

fn keep_running(
    spec: &JobSpec,
    counted: &Count,
    pods: &[Arc<Pod>],
    active: Vec<Arc<Pod>>,
    terminating: usize,
    plan: &mut Plan,
    now: Timestamp,
) {
    let parallelism = usize::try_from(spec.parallelism.unwrap_or(1)).unwrap_or(0);
    let is_indexed = spec.completion_mode.as_deref() == Some("Indexed");
    let mut active = active;
    if is_indexed {
        plan.dismiss.extend(strays(spec, counted, &mut active));
    }
    let wanted = match spec.completions {
        Some(completions) => usize::try_from(completions - counted.succeeded).unwrap_or(0).min(parallelism),
        None if counted.succeeded > 0 => active.len().min(parallelism),
        None => parallelism,
    };
    // With this policy a pod is only replaced when it has ended.
    let waits = spec.pod_replacement_policy.as_deref() == Some("Failed");
    let present = active.len() + if waits { terminating } else { 0 };
    if active.len() > wanted {
        let surplus = active.len() - wanted;
        plan.dismiss.extend(first_to_go(active, now).into_iter().take(surplus));
        return;
    }
    let missing = wanted.saturating_sub(present).min(BURST);
    if missing == 0 {
        return;
    }
    if let Some(left) = backoff::remaining(pods.iter().map(|pod| &**pod), now) {
        plan.again = Some(left);
        return;
    }
    if is_indexed {
        let kept = pods.iter().filter(|pod| pods::is_active(pod) || (waits && !pods::is_finished(pod)));
        let taken: BTreeSet<i32> = kept.filter_map(|pod| index(pod)).collect();
        let open = (0..spec.completions.unwrap_or(0))
            .filter(|index| !counted.completed.contains(index) && !taken.contains(index));
        plan.create = open.take(missing).map(Some).collect();
    } else {
        plan.create = vec![None; missing];
    }
}

/// Takes out of `active` what works on an index that is complete, taken by another pod, or not there.
fn strays(spec: &JobSpec, counted: &Count, active: &mut Vec<Arc<Pod>>) -> Vec<Arc<Pod>> {
    let mut taken = BTreeSet::new();
    let completions = spec.completions.unwrap_or(0);
    let (kept, strays) = std::mem::take(active).into_iter().partition(|pod| {
        index(pod)
            .is_some_and(|index| index < completions && !counted.completed.contains(&index) && taken.insert(index))
    });
    *active = kept;
    strays
}

/// A Job that is over stays for its time to live.
fn live_on(job: &Job, condition: &JobCondition, plan: &mut Plan, now: Timestamp) {
    let Some(ttl) = job.spec.as_ref().and_then(|spec| spec.ttl_seconds_after_finished) else { return };
    let completed = job.status.as_ref().and_then(|status| status.completion_time.as_ref());
    let Some(end) = condition.last_transition_time.as_ref().or(completed) else { return };
    let left = SignedDuration::from_secs(ttl.into()) - now.duration_since(end.0);
    if left.is_positive() {
        plan.again = Some(left.unsigned_abs());
    } else {
        plan.remove = true;
    }
}

fn has(status: &JobStatus, type_: &str) -> bool {
    status.conditions.iter().flatten().any(|known| known.type_ == type_ && known.status == "True")
}

fn set(status: &mut JobStatus, type_: &str, holds: bool, reason: &str, message: &str, now: Timestamp) {
    let value = if holds { "True" } else { "False" };
    let conditions = status.conditions.get_or_insert_default();
    if conditions.iter().any(|known| known.type_ == type_ && known.status == value) {
        return;
    }
    conditions.retain(|known| known.type_ != type_);
    conditions.push(JobCondition {
        type_: type_.to_owned(),
        status: value.to_owned(),
        reason: Some(reason.to_owned()),
        message: Some(message.to_owned()),
        last_probe_time: Some(Time(now)),
        last_transition_time: Some(Time(now)),
    });
}

#[cfg(test)]
#[path = "desired_tests.rs"]
mod tests;
