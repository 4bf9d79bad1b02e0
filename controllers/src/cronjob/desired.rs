//! What a CronJob does next: a plain function of the CronJob, its Jobs and the time.

use std::sync::Arc;
use std::time::Duration;

use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::batch::v1::{CronJob, CronJobSpec, CronJobStatus, Job};
use k8s_openapi::api::core::v1::ObjectReference;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, Time};

use super::schedule::Schedule;
use crate::job::finished;
use crate::pod_writer::reference;

const SCHEDULED_AT: &str = "batch.kubernetes.io/cronjob-scheduled-timestamp";

/// What to do now.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Plan {
    /// Jobs that make way for a new one, and those that history no longer needs.
    pub(crate) delete: Vec<Arc<Job>>,
    pub(crate) create: Option<Start>,
    pub(crate) status: CronJobStatus,
    pub(crate) again: Option<Duration>,
    /// Normal Events: reason and message.
    pub(crate) notes: Vec<(&'static str, String)>,
    /// The start that comes too late for its deadline.
    pub(crate) missed: Option<Timestamp>,
    /// A Warning: nothing can be started.
    pub(crate) problem: Option<(&'static str, String)>,
}

/// A Job to be started.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Start {
    pub(crate) at: Timestamp,
    pub(crate) job: Box<Job>,
}

/// Plans one round; `jobs` are those that the CronJob controls.
pub(crate) fn desired(cron: &CronJob, jobs: &[Arc<Job>], now: Timestamp) -> Plan {
    let before = cron.status.clone().unwrap_or_default();
    let mut plan = Plan { status: before.clone(), ..Plan::default() };
    let spec = &cron.spec;
    if cron.metadata.deletion_timestamp.is_some() {
        return plan;
    }
    let active: Vec<&Arc<Job>> = jobs.iter().filter(|job| finished(job).is_none()).collect();
    plan.status.active = (!active.is_empty()).then(|| active.iter().map(|job| object_reference(job)).collect());
    look_back(&before, jobs, &mut plan);
    plan.delete = history(spec, jobs);
    if spec.suspend.unwrap_or(false) {
        return plan;
    }
    match clock(spec) {
        Ok((schedule, zone)) => start(cron, spec, &schedule, &zone, &active, &mut plan, now),
        Err(problem) => plan.problem = Some(problem),
    }
    plan
}

fn clock(spec: &CronJobSpec) -> Result<(Schedule, TimeZone), (&'static str, String)> {
    let schedule = Schedule::parse(&spec.schedule)
        .map_err(|error| ("UnparseableSchedule", format!("Unparseable schedule: {error}")))?;
    // Without a name it is UTC: a lab's schedules should not depend on the laptop.
    let name = spec.time_zone.as_deref().filter(|name| !name.is_empty()).unwrap_or("UTC");
    let zone =
        TimeZone::get(name).map_err(|error| ("UnknownTimeZone", format!("Unknown timeZone {name:?}: {error}")))?;
    Ok((schedule, zone))
}

fn start(
    cron: &CronJob,
    spec: &CronJobSpec,
    schedule: &Schedule,
    zone: &TimeZone,
    active: &[&Arc<Job>],
    plan: &mut Plan,
    now: Timestamp,
) {
    let until = |time: Timestamp| time.duration_since(now).unsigned_abs() + Duration::from_millis(10);
    let since = since(cron, now);
    let Some(due) = schedule.last_due(since, now, zone) else {
        plan.again = schedule.next(now.max(since), zone).map(until);
        if let Schedule::Every(_) = schedule {
            plan.again = schedule.next(since, zone).map(until);
        }
        return;
    };
    plan.again = match schedule {
        Schedule::Every(_) => schedule.next(due, zone),
        Schedule::Fields(_) => schedule.next(now, zone),
    }
    .map(until);
    if is_too_late(spec, due, now) {
        plan.missed = Some(due);
        return;
    }
    match spec.concurrency_policy.as_deref() {
        Some("Forbid") if !active.is_empty() => {
            // It is made up for when they end, unless its deadline passes.
            let why = "Not starting job because prior execution is running and concurrency policy is Forbid";
            plan.notes.push(("JobAlreadyActive", why.to_owned()));
            return;
        }
        Some("Replace") => plan.delete.extend(active.iter().map(|job| (*job).clone())),
        _ => {}
    }
    plan.create = Some(Start { at: due, job: Box::new(job(cron, spec, due)) });
}

/// Times after this one are to be started: the last that was.
fn since(cron: &CronJob, now: Timestamp) -> Timestamp {
    let last = cron.status.as_ref().and_then(|status| status.last_schedule_time.as_ref());
    last.or(cron.metadata.creation_timestamp.as_ref()).map_or(now, |time| time.0)
}

fn is_too_late(spec: &CronJobSpec, due: Timestamp, now: Timestamp) -> bool {
    let deadline = spec.starting_deadline_seconds.map(SignedDuration::from_secs);
    deadline.is_some_and(|deadline| now.duration_since(due) > deadline)
}

/// What to tell of a start that was missed.
pub(crate) fn missed_message(due: Timestamp) -> String {
    format!("Missed scheduled time to start a job: {}", due.strftime("%a, %d %b %Y %H:%M:%S +0000"))
}

fn job(cron: &CronJob, spec: &CronJobSpec, at: Timestamp) -> Job {
    let from = spec.job_template.metadata.clone().unwrap_or_default();
    let mut annotations = from.annotations.unwrap_or_default();
    annotations.insert(SCHEDULED_AT.to_owned(), at.to_string());
    // The name follows from the time, so that no time is started twice.
    let name = format!("{}-{}", cron.metadata.name.as_deref().unwrap_or_default(), at.as_second() / 60);
    Job {
        metadata: ObjectMeta {
            name: Some(name),
            namespace: cron.metadata.namespace.clone(),
            labels: from.labels,
            annotations: Some(annotations),
            owner_references: Some(vec![reference(cron)]),
            ..ObjectMeta::default()
        },
        spec: spec.job_template.spec.clone(),
        status: None,
    }
}

/// Tells of Jobs that have ended since the last round, and when the last one succeeded.
fn look_back(before: &CronJobStatus, jobs: &[Arc<Job>], plan: &mut Plan) {
    for job in jobs {
        let Some(condition) = finished(job) else { continue };
        let was_active = |known: &ObjectReference| known.uid == job.metadata.uid;
        if before.active.iter().flatten().any(was_active) {
            let name = job.metadata.name.as_deref().unwrap_or_default();
            let message = format!("Saw completed job: {name}, condition: {}", condition.type_);
            plan.notes.push(("SawCompletedJob", message));
        }
        if condition.type_ == "Complete" {
            let completed = job.status.as_ref().and_then(|status| status.completion_time.clone());
            plan.status.last_successful_time = plan.status.last_successful_time.take().max(completed);
        }
    }
}

/// Ended Jobs beyond the limits, oldest first.
fn history(spec: &CronJobSpec, jobs: &[Arc<Job>]) -> Vec<Arc<Job>> {
    let mut surplus = Vec::new();
    for (type_, limit, default) in
        [("Complete", spec.successful_jobs_history_limit, 3), ("Failed", spec.failed_jobs_history_limit, 1)]
    {
        let mut ended: Vec<&Arc<Job>> =
            jobs.iter().filter(|job| finished(job).is_some_and(|condition| condition.type_ == type_)).collect();
        ended.sort_by_key(|job| {
            let start: Option<Time> = job.status.as_ref().and_then(|status| status.start_time.clone());
            (start, job.metadata.name.clone())
        });
        let keep = usize::try_from(limit.unwrap_or(default)).unwrap_or(0);
        surplus.extend(ended.iter().take(ended.len().saturating_sub(keep)).map(|job| (*job).clone()));
    }
    surplus
}

/// How `status.active` names a Job.
pub(crate) fn object_reference(job: &Job) -> ObjectReference {
    ObjectReference {
        api_version: Some("batch/v1".to_owned()),
        kind: Some("Job".to_owned()),
        name: job.metadata.name.clone(),
        namespace: job.metadata.namespace.clone(),
        uid: job.metadata.uid.clone(),
        ..ObjectReference::default()
    }
}

#[cfg(test)]
#[path = "desired_tests.rs"]
mod tests;
