//! Counting pods that have ended, each exactly once (see the module `job`): plain functions of the status and the pods.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use k8s_openapi::api::batch::v1::{JobStatus, UncountedTerminatedPods};

use super::backoff;
use super::indexes::Indexes;
use super::pod::{failures, index, is_tracked};
use super::rules::{Action, Rules};
use crate::pod::Pod;
use crate::pods;

/// More UIDs than this are not listed in a status at once; other pods keep their finalizer until it is their turn.
const LISTED: usize = 500;

/// How far the Job is, by its status and its pods.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Progress {
    /// All successes and failures, those still to be moved into the counters included.
    pub(crate) succeeded: i32,
    pub(crate) failed: i32,
    /// Of an Indexed Job.
    pub(crate) completed: Indexes,
    /// Of an Indexed Job whose indexes have a limit each.
    pub(crate) failed_indexes: Indexes,
    /// The last failed pod of each index that is to be tried again. It is not let go before there is another that knows
    /// how often the index has failed.
    pub(crate) to_replace: BTreeMap<i32, Arc<Pod>>,
    /// Pods whose end no status has told of yet.
    pub(crate) new_successes: Vec<Arc<Pod>>,
    pub(crate) new_failures: Vec<Arc<Pod>>,
}

/// How the Job ends, if it does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    Success,
    Failure,
}

/// What the status says next.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Count {
    pub(crate) succeeded: i32,
    pub(crate) failed: i32,
    pub(crate) uncounted: Option<UncountedTerminatedPods>,
    /// Pods that may lose their finalizer once it is written.
    pub(crate) free: Vec<Arc<Pod>>,
}

/// The UIDs in `status.uncountedTerminatedPods`.
struct Uncounted {
    succeeded: BTreeSet<String>,
    failed: BTreeSet<String>,
}

impl Uncounted {
    fn of(status: &JobStatus) -> Self {
        let lists = status.uncounted_terminated_pods.clone().unwrap_or_default();
        let set = |list: Option<Vec<String>>| list.into_iter().flatten().collect();
        Self { succeeded: set(lists.succeeded), failed: set(lists.failed) }
    }

    fn has(&self, uid: &str) -> bool {
        self.succeeded.contains(uid) || self.failed.contains(uid)
    }
}

/// Looks at `pods`, which are those that the Job controls.
pub(crate) fn look(rules: &Rules<'_>, before: &JobStatus, pods: &[Arc<Pod>]) -> Progress {
    let uncounted = Uncounted::of(before);
    let ended: Vec<&Arc<Pod>> = pods.iter().filter(|pod| is_tracked(pod) && rules.belongs(pod)).collect();
    let new = |how: &dyn Fn(&Pod) -> bool| -> Vec<Arc<Pod>> {
        let pods = ended.iter().filter(|pod| how(pod) && !uncounted.has(uid(pod)));
        pods.map(|pod| (*pod).clone()).collect()
    };
    let mut progress = Progress {
        new_successes: new(&|pod| pods::phase(pod) == "Succeeded"),
        new_failures: new(&|pod| rules.has_failed(pod)),
        ..Progress::default()
    };
    let counted = progress.new_failures.iter().filter(|pod| rules.action(pod) != Action::Ignore);
    let total = |counter: Option<i32>, uncounted: &BTreeSet<String>, new: usize| {
        counter.unwrap_or(0).saturating_add(number(uncounted.len() + new))
    };
    progress.failed = total(before.failed, &uncounted.failed, counted.count());
    progress.succeeded = total(before.succeeded, &uncounted.succeeded, progress.new_successes.len());
    if rules.is_indexed {
        look_at_indexes(rules, before, &ended, pods, &mut progress);
    }
    progress
}

fn look_at_indexes(
    rules: &Rules<'_>,
    before: &JobStatus,
    ended: &[&Arc<Pod>],
    pods: &[Arc<Pod>],
    progress: &mut Progress,
) {
    let completions = rules.completions.unwrap_or(0);
    let told = |text: &Option<String>| Indexes::parse(text.as_deref().unwrap_or_default(), completions);
    progress.completed = told(&before.completed_indexes);
    progress.completed.add(progress.new_successes.iter().filter_map(|pod| index(pod)));
    progress.succeeded = progress.completed.count();
    if rules.limit_per_index.is_none() {
        return;
    }
    progress.failed_indexes = told(&before.failed_indexes);
    progress.failed_indexes.add(ended.iter().filter(|pod| rules.fails_index(pod)).filter_map(|pod| index(pod)));
    let active: BTreeSet<i32> = pods.iter().filter(|pod| pods::is_active(pod)).filter_map(|pod| index(pod)).collect();
    for pod in ended.iter().filter(|pod| rules.has_failed(pod)) {
        let Some(index) = index(pod).filter(|index| !active.contains(index)) else { continue };
        if progress.completed.contains(index) || progress.failed_indexes.contains(index) {
            continue;
        }
        let age = |pod: &Pod| (failures(pod).total(), backoff::end(pod));
        let last = progress.to_replace.entry(index).or_insert_with(|| (*pod).clone());
        if age(pod) > age(last) {
            *last = (*pod).clone();
        }
    }
}

/// What to write and whom to let go, given what was seen and how the Job ends, if it does.
pub(crate) fn settle(
    rules: &Rules<'_>,
    before: &JobStatus,
    progress: &Progress,
    pods: &[Arc<Pod>],
    end: Option<Outcome>,
) -> Count {
    let mut uncounted = Uncounted::of(before);
    let tracked: BTreeMap<&str, &Arc<Pod>> =
        pods.iter().filter(|pod| is_tracked(pod)).map(|pod| (uid(pod), pod)).collect();
    let mut count =
        Count { succeeded: before.succeeded.unwrap_or(0), failed: before.failed.unwrap_or(0), ..Count::default() };
    // Those whose finalizer is gone are history.
    let history = |list: &mut BTreeSet<String>, counter: &mut i32| {
        let all = list.len();
        list.retain(|uid| tracked.contains_key(uid.as_str()));
        *counter = counter.saturating_add(number(all - list.len()));
    };
    history(&mut uncounted.succeeded, &mut count.succeeded);
    history(&mut uncounted.failed, &mut count.failed);
    for (uid, pod) in tracked {
        if uncounted.succeeded.len() + uncounted.failed.len() >= LISTED && !uncounted.has(uid) {
            continue;
        }
        let has_succeeded = pods::phase(pod) == "Succeeded";
        let is_replaced =
            || !index(pod).and_then(|index| progress.to_replace.get(&index)).is_some_and(|kept| Arc::ptr_eq(kept, pod));
        let has_failed = rules.has_failed(pod);
        if end.is_none() && !has_succeeded && !(has_failed && is_replaced()) {
            continue;
        }
        count.free.push(pod.clone());
        // When the Job has failed, so has what still runs.
        let fails = !has_succeeded && (has_failed || end == Some(Outcome::Failure));
        if has_succeeded && !rules.is_indexed && !uncounted.failed.contains(uid) {
            uncounted.succeeded.insert(uid.to_owned());
        } else if fails && rules.belongs(pod) && rules.action(pod) != Action::Ignore {
            uncounted.failed.insert(uid.to_owned());
        }
    }
    if rules.is_indexed {
        // An index is complete or not: writing it twice does no harm.
        count.succeeded = progress.completed.count();
    }
    let list = |uids: BTreeSet<String>| (!uids.is_empty()).then(|| uids.into_iter().collect());
    let lists = UncountedTerminatedPods { succeeded: list(uncounted.succeeded), failed: list(uncounted.failed) };
    count.uncounted = (lists != UncountedTerminatedPods::default()).then_some(lists);
    count
}

fn uid(pod: &Pod) -> &str {
    pod.metadata.uid.as_deref().unwrap_or_default()
}

fn number(count: usize) -> i32 {
    i32::try_from(count).unwrap_or(i32::MAX)
}

#[cfg(test)]
#[path = "counting_tests.rs"]
mod tests;
