//! Whether and how a Job ends (P-113). Pure.

use std::sync::Arc;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::batch::v1::{JobSpec, JobStatus, SuccessPolicy};

use super::counting::{Outcome, Progress};
use super::indexes::Indexes;
use super::rules::{Action, Rules};
use crate::pod::Pod;
use crate::pods;

/// How a Job ends, in words for its conditions.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Verdict {
    pub(crate) outcome: Outcome,
    pub(crate) reason: &'static str,
    pub(crate) message: String,
}

impl Verdict {
    fn new(outcome: Outcome, reason: &'static str, message: impl Into<String>) -> Self {
        Self { outcome, reason, message: message.into() }
    }

    fn failure(reason: &'static str, message: impl Into<String>) -> Self {
        Self::new(Outcome::Failure, reason, message)
    }
}

const POD_FAILURE_POLICY: &str = "PodFailurePolicy";
const BACKOFF_LIMIT: &str = "BackoffLimitExceeded";
const DEADLINE: &str = "DeadlineExceeded";
const MAX_FAILED_INDEXES: &str = "MaxFailedIndexesExceeded";
const FAILED_INDEXES: &str = "FailedIndexes";
const SUCCESS_POLICY: &str = "SuccessPolicy";
const COMPLETIONS: &str = "CompletionsReached";
const REASONS: [&str; 7] =
    [POD_FAILURE_POLICY, BACKOFF_LIMIT, DEADLINE, MAX_FAILED_INDEXES, FAILED_INDEXES, SUCCESS_POLICY, COMPLETIONS];

/// What an earlier round has decided while pods were still ending.
pub(crate) fn decided(status: &JobStatus) -> Option<Verdict> {
    let conditions = status.conditions.as_deref().unwrap_or_default();
    [("SuccessCriteriaMet", Outcome::Success), ("FailureTarget", Outcome::Failure)].into_iter().find_map(
        |(type_, outcome)| {
            let condition = conditions.iter().find(|known| known.type_ == type_ && known.status == "True")?;
            let reason = REASONS.into_iter().find(|reason| Some(*reason) == condition.reason.as_deref())?;
            Some(Verdict::new(outcome, reason, condition.message.clone().unwrap_or_default()))
        },
    )
}

/// Decides by what there is now.
pub(crate) fn judge(
    spec: &JobSpec,
    rules: &Rules<'_>,
    status: &JobStatus,
    progress: &Progress,
    pods: &[Arc<Pod>],
    now: Timestamp,
) -> Option<Verdict> {
    let limit = spec.backoff_limit.unwrap_or(6);
    if let Some(message) = failed_by_policy(rules, pods) {
        return Some(Verdict::failure(POD_FAILURE_POLICY, message));
    }
    if progress.failed > limit || too_many_restarts(spec, limit, pods) {
        return Some(Verdict::failure(BACKOFF_LIMIT, "Job has reached the specified backoff limit"));
    }
    if remaining_time(spec, status, now).is_some_and(|left| left.is_zero()) {
        return Some(Verdict::failure(DEADLINE, "Job was active longer than specified deadline"));
    }
    let failed = failed_by_index(spec, rules, progress);
    failed.or_else(|| succeeded_early(spec, rules, progress)).or_else(|| succeeded(rules, progress, pods))
}

fn failed_by_policy(rules: &Rules<'_>, pods: &[Arc<Pod>]) -> Option<String> {
    pods.iter().filter(|pod| rules.has_failed(pod)).find_map(|pod| match rules.action(pod) {
        Action::FailJob(message) => Some(message),
        _ => None,
    })
}

fn failed_by_index(spec: &JobSpec, rules: &Rules<'_>, progress: &Progress) -> Option<Verdict> {
    rules.limit_per_index?;
    let failed = progress.failed_indexes.count();
    if spec.max_failed_indexes.is_some_and(|limit| failed > limit) {
        let message = "Job has exceeded the specified maximal number of failed indexes";
        return Some(Verdict::failure(MAX_FAILED_INDEXES, message));
    }
    let is_over = failed.saturating_add(progress.succeeded) >= rules.completions.unwrap_or(0);
    (failed > 0 && is_over).then(|| Verdict::failure(FAILED_INDEXES, "Job has failed indexes"))
}

fn succeeded_early(spec: &JobSpec, rules: &Rules<'_>, progress: &Progress) -> Option<Verdict> {
    let policy = spec.success_policy.as_ref().filter(|_| rules.is_indexed)?;
    let rule = matched(policy, rules.completions.unwrap_or(0), &progress.completed)?;
    Some(Verdict::new(Outcome::Success, SUCCESS_POLICY, format!("Matched rules at index {rule}")))
}

/// The first rule of the policy that these completed indexes satisfy.
fn matched(policy: &SuccessPolicy, completions: i32, completed: &Indexes) -> Option<usize> {
    if completed.is_empty() {
        return None;
    }
    policy.rules.iter().position(|rule| {
        let has = |count: i32| rule.succeeded_count.is_some_and(|wanted| count >= wanted);
        let Some(text) = &rule.succeeded_indexes else { return has(completed.count()) };
        let wanted = Indexes::parse(text, completions);
        let done = wanted.common(completed);
        !wanted.is_empty() && (done == wanted || has(done.count()))
    })
}

fn succeeded(rules: &Rules<'_>, progress: &Progress, pods: &[Arc<Pod>]) -> Option<Verdict> {
    let is_done = match rules.completions {
        Some(wanted) => progress.succeeded >= wanted,
        // A work queue: one success says that there is nothing left, the others finish what they have.
        None => progress.succeeded > 0 && !pods.iter().any(|pod| pods::is_active(pod)),
    };
    let message = "Reached expected number of succeeded pods";
    is_done.then(|| Verdict::new(Outcome::Success, COMPLETIONS, message))
}

/// With restartPolicy OnFailure it is containers that fail, inside of pods that stay.
fn too_many_restarts(spec: &JobSpec, limit: i32, pods: &[Arc<Pod>]) -> bool {
    let policy = spec.template.spec.as_ref().and_then(|spec| spec.restart_policy.as_deref());
    if policy != Some("OnFailure") {
        return false;
    }
    let restarts = pods
        .iter()
        .filter(|pod| pods::is_active(pod))
        .filter_map(|pod| pod.status.as_ref())
        .flat_map(|status| status.container_statuses.iter().chain(&status.init_container_statuses))
        .fold(0_i32, |sum, status| sum.saturating_add(status.restart_count));
    if limit == 0 { restarts > 0 } else { restarts >= limit }
}

/// What is left of `activeDeadlineSeconds`.
pub(crate) fn remaining_time(spec: &JobSpec, status: &JobStatus, now: Timestamp) -> Option<Duration> {
    let limit = SignedDuration::from_secs(spec.active_deadline_seconds?);
    let left = limit - now.duration_since(status.start_time.as_ref()?.0);
    Some(if left.is_negative() { Duration::ZERO } else { left.unsigned_abs() })
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    #[test]
    fn a_success_policy_is_met_by_its_first_rule_that_is() {
        let indexes = |text: &str| json!({"succeededIndexes": text});
        let both = |text: &str, count: i32| json!({"succeededIndexes": text, "succeededCount": count});
        let count = |count: i32| json!({"succeededCount": count});
        for (label, rules, completed, expected) in [
            ("none yet", vec![count(0)], "", None),
            ("so many", vec![count(2)], "3,7", Some(0)),
            ("not so many", vec![count(3)], "3,7", None),
            ("these", vec![indexes("0,2-4")], "0-5", Some(0)),
            ("not all of these", vec![indexes("0,2-4")], "0,2,4-9", None),
            ("so many of these", vec![both("0,2-4", 2)], "3,4", Some(0)),
            ("so many, but not of these", vec![both("0,2-4", 2)], "4-9", None),
            ("the second rule", vec![indexes("9"), count(1)], "3", Some(1)),
            ("indexes that are not there", vec![indexes("10-12")], "0-9", None),
        ] {
            let policy: SuccessPolicy = serde_json::from_value(json!({"rules": Value::from(rules)})).unwrap();
            assert_eq!(matched(&policy, 10, &Indexes::parse(completed, 10)), expected, "{label}");
        }
    }
}
