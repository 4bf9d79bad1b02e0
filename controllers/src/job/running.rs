//! Which pods a Job that goes on makes and which it can do without (P-113, P-114). Pure.

use std::collections::BTreeSet;
use std::sync::Arc;

use jiff::Timestamp;
use k8s_openapi::api::batch::v1::JobSpec;

use super::backoff;
use super::counting::Progress;
use super::desired::Plan;
use super::pod::{Failures, New, failures, index};
use super::rules::{Action, Rules};
use crate::pod::Pod;
use crate::pods;
use crate::replicaset::order::first_to_go;

/// Pods made in one round.
const BURST: usize = 500;

/// Plans pods to make or to dismiss; `active` are those of `pods` that run or will.
pub(crate) fn keep_running(
    spec: &JobSpec,
    rules: &Rules<'_>,
    progress: &Progress,
    pods: &[Arc<Pod>],
    active: Vec<Arc<Pod>>,
    plan: &mut Plan,
    now: Timestamp,
) {
    let parallelism = usize::try_from(spec.parallelism.unwrap_or(1)).unwrap_or(0);
    let mut active = active;
    if rules.is_indexed {
        plan.dismiss.extend(strays(rules, progress, &mut active));
    }
    let wanted = match rules.completions {
        Some(completions) => {
            usize::try_from(completions.saturating_sub(progress.succeeded)).unwrap_or(0).min(parallelism)
        }
        None if progress.succeeded > 0 => active.len().min(parallelism),
        None => parallelism,
    };
    // With this policy a pod is only replaced when it has ended.
    let is_going = |pod: &&Arc<Pod>| pods::is_terminating(pod) && !pods::is_finished(pod);
    let going = if rules.waits_for_the_end { pods.iter().filter(is_going).count() } else { 0 };
    if active.len() > wanted {
        let surplus = active.len() - wanted;
        plan.dismiss.extend(first_to_go(active, now).into_iter().take(surplus));
        return;
    }
    let missing = wanted.saturating_sub(active.len() + going).min(BURST);
    if missing == 0 {
        return;
    }
    if rules.limit_per_index.is_some() {
        create_by_index(rules, progress, open(rules, progress, pods, missing), plan, now);
        return;
    }
    if let Some(left) = plan.failures.remaining(now) {
        plan.again = Some(left);
        return;
    }
    plan.create = if rules.is_indexed {
        let indexes = open(rules, progress, pods, missing).into_iter();
        indexes.map(|index| New { index: Some(index), failures: None }).collect()
    } else {
        vec![New::default(); missing]
    };
}

/// The first indexes that nobody works on and that are not over.
fn open(rules: &Rules<'_>, progress: &Progress, pods: &[Arc<Pod>], count: usize) -> Vec<i32> {
    let is_taken = |pod: &&Arc<Pod>| pods::is_active(pod) || (rules.waits_for_the_end && !pods::is_finished(pod));
    let mut closed = progress.completed.with(&progress.failed_indexes);
    closed.add(pods.iter().filter(is_taken).filter_map(|pod| index(pod)));
    closed.missing(rules.completions.unwrap_or(0)).take(count).collect()
}

/// Each index waits for its own failures, which its next pod knows of.
fn create_by_index(rules: &Rules<'_>, progress: &Progress, indexes: Vec<i32>, plan: &mut Plan, now: Timestamp) {
    for index in indexes {
        let last = progress.to_replace.get(&index);
        match last.and_then(|last| backoff::remaining_of_index(last, now)) {
            Some(left) => plan.again = Some(plan.again.map_or(left, |other| other.min(left))),
            None => {
                let failures = last.map_or_else(Failures::default, |last| handed_on(rules, last));
                plan.create.push(New { index: Some(index), failures: Some(failures) });
            }
        }
    }
}

/// The failures of an index, that of its last pod included.
fn handed_on(rules: &Rules<'_>, last: &Pod) -> Failures {
    let mut failures = failures(last);
    let counter = if rules.action(last) == Action::Ignore { &mut failures.ignored } else { &mut failures.counted };
    *counter = counter.saturating_add(1);
    failures
}

/// Takes out of `active` what works on an index that is complete, taken by another pod, or not there.
fn strays(rules: &Rules<'_>, progress: &Progress, active: &mut Vec<Arc<Pod>>) -> Vec<Arc<Pod>> {
    let mut taken = BTreeSet::new();
    let (kept, strays) = std::mem::take(active).into_iter().partition(|pod| {
        rules.place(pod).is_some_and(|index| !progress.completed.contains(index) && taken.insert(index))
    });
    *active = kept;
    strays
}
