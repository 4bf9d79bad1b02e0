//! What a Job does next (P-113): a plain function of the Job, its pods and the time.

use std::sync::Arc;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::batch::v1::{Job, JobCondition, JobStatus};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use super::backoff::Failures;
use super::counting::{Count, Outcome, Progress, look, settle};
use super::pod::{New, is_tracked};
use super::rules::Rules;
use super::running::keep_running;
use super::verdict::{Verdict, decided, judge, remaining_time};
use crate::pod::Pod;
use crate::pods;

/// What to do now, in this order.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Plan {
    pub(crate) status: JobStatus,
    /// Pods that lose their finalizer when the status is written.
    pub(crate) free: Vec<Arc<Pod>>,
    /// Pods that go uncounted: too many, or the Job is suspended or has what it wants.
    pub(crate) dismiss: Vec<Arc<Pod>>,
    /// Pods that go because the Job has failed.
    pub(crate) delete: Vec<Arc<Pod>>,
    pub(crate) create: Vec<New>,
    /// The Job's time to live is over.
    pub(crate) remove: bool,
    pub(crate) again: Option<Duration>,
    /// For the user: reason and message.
    pub(crate) event: Option<Note>,
    /// To be remembered once the status is written.
    pub(crate) failures: Failures,
}

/// An Event to be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Note {
    pub(crate) is_warning: bool,
    pub(crate) reason: &'static str,
    pub(crate) message: String,
}

/// When and how the Job has ended: `Complete` or `Failed`.
pub(crate) fn finished(job: &Job) -> Option<&JobCondition> {
    let conditions = job.status.as_ref()?.conditions.as_deref().unwrap_or_default();
    conditions.iter().find(|known| matches!(known.type_.as_str(), "Complete" | "Failed") && known.status == "True")
}

/// Plans one round; `pods` are those that the Job controls, `failures` what was remembered of earlier ones.
pub(crate) fn desired(job: &Job, pods: &[Arc<Pod>], failures: Option<Failures>, now: Timestamp) -> Plan {
    let before = job.status.clone().unwrap_or_default();
    let mut plan = Plan { status: before.clone(), ..Plan::default() };
    let Some(spec) = &job.spec else { return plan };
    let active: Vec<Arc<Pod>> = pods.iter().filter(|pod| pods::is_active(pod)).cloned().collect();
    let finished = finished(job);
    if job.metadata.deletion_timestamp.is_some() || finished.is_some() {
        plan.free = pods.iter().filter(|pod| is_tracked(pod)).cloned().collect();
        if let Some(condition) = finished.filter(|_| job.metadata.deletion_timestamp.is_none()) {
            plan.delete = active;
            live_on(job, condition, &mut plan, now);
        }
        return plan;
    }
    let rules = Rules::of(spec);
    let progress = look(&rules, &before, pods);
    plan.failures = match failures {
        Some(known) => known.and(&progress.new_successes, &progress.new_failures),
        None => anew(&rules, pods),
    };
    let is_suspended = spec.suspend.unwrap_or(false);
    suspend(&mut plan, is_suspended, now);
    let verdict = decided(&before).or_else(|| judge(spec, &rules, &plan.status, &progress, pods, now));
    let counted = settle(&rules, &before, &progress, pods, verdict.as_ref().map(|verdict| verdict.outcome));
    let terminating = pods.iter().filter(|pod| pods::is_terminating(pod) && !pods::is_finished(pod)).count();
    write_counts(&mut plan.status, &counted, &active, terminating);
    write_indexes(&mut plan.status, &rules, &progress);
    plan.free = counted.free;
    if let Some(verdict) = verdict {
        let is_settled = active.is_empty() && terminating == 0 && counted.uncounted.is_none();
        match verdict.outcome {
            Outcome::Success => plan.dismiss = active,
            Outcome::Failure => plan.delete = active,
        }
        end(&mut plan, &verdict, is_settled, now);
    } else if is_suspended {
        plan.dismiss = active;
    } else {
        keep_running(spec, &rules, &progress, pods, active, &mut plan, now);
        let deadline = remaining_time(spec, &plan.status, now);
        plan.again = plan.again.into_iter().chain(deadline).min();
    }
    plan
}

/// The failures in a row, by the pods that are there.
fn anew(rules: &Rules<'_>, pods: &[Arc<Pod>]) -> Failures {
    let ended = |how: &dyn Fn(&Pod) -> bool| pods.iter().filter(|pod| how(pod)).cloned().collect::<Vec<_>>();
    // Without a finalizer, one that is deleted was dismissed.
    let has_failed = |pod: &Pod| pods::phase(pod) == "Failed" || (is_tracked(pod) && rules.has_failed(pod));
    Failures::default().and(&ended(&|pod| pods::phase(pod) == "Succeeded"), &ended(&has_failed))
}

fn write_counts(status: &mut JobStatus, counted: &Count, active: &[Arc<Pod>], terminating: usize) {
    let number = |count: usize| i32::try_from(count).unwrap_or(i32::MAX);
    status.active = Some(number(active.len()));
    status.ready = Some(number(active.iter().filter(|pod| pods::is_ready(pod)).count()));
    status.terminating = Some(number(terminating));
    status.succeeded = Some(counted.succeeded);
    status.failed = Some(counted.failed);
    status.uncounted_terminated_pods = counted.uncounted.clone();
}

fn write_indexes(status: &mut JobStatus, rules: &Rules<'_>, progress: &Progress) {
    if rules.is_indexed {
        status.completed_indexes = (!progress.completed.is_empty()).then(|| progress.completed.to_string());
    }
    if rules.limit_per_index.is_some() {
        // Empty says that it is watched and none has failed.
        status.failed_indexes = Some(progress.failed_indexes.to_string());
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

/// Says how it ends, and once no pod is left, that it has ended.
fn end(plan: &mut Plan, verdict: &Verdict, is_settled: bool, now: Timestamp) {
    let Verdict { outcome, reason, message } = verdict;
    let status = &mut plan.status;
    let (ends, ended) = match outcome {
        Outcome::Success => ("SuccessCriteriaMet", "Complete"),
        Outcome::Failure => ("FailureTarget", "Failed"),
    };
    set(status, ends, true, reason, message, now);
    if !is_settled {
        return;
    }
    set(status, ended, true, reason, message, now);
    plan.event = Some(match outcome {
        Outcome::Success => {
            status.completion_time = Some(Time(now));
            Note { is_warning: false, reason: "Completed", message: "Job completed".to_owned() }
        }
        Outcome::Failure => Note { is_warning: true, reason, message: message.clone() },
    });
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
