//! Counting pods that have ended, each exactly once (see the module `job`): a plain function of the status and the pods.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use k8s_openapi::api::batch::v1::{JobStatus, UncountedTerminatedPods};

use super::indexes;
use super::pod::{index, is_tracked};
use crate::pod::Pod;
use crate::pods;

/// How a pod has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Outcome {
    Succeeded,
    Failed,
}

/// The count after one look.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Count {
    /// Successes, those still to be moved into the counters included.
    pub(crate) succeeded: i32,
    pub(crate) failed: i32,
    /// Of an Indexed Job.
    pub(crate) completed: BTreeSet<i32>,
    /// Pods that may lose their finalizer once this count is written.
    pub(crate) free: Vec<Arc<Pod>>,
    /// What the status says then.
    pub(crate) counted_succeeded: i32,
    pub(crate) counted_failed: i32,
    pub(crate) uncounted: Option<UncountedTerminatedPods>,
}

/// Looks at `pods`, which are those that the Job controls.
pub(crate) fn count(before: &JobStatus, pods: &[Arc<Pod>], is_indexed: bool) -> Count {
    let uncounted = before.uncounted_terminated_pods.clone().unwrap_or_default();
    let mut succeeded: BTreeSet<String> = uncounted.succeeded.into_iter().flatten().collect();
    let mut failed: BTreeSet<String> = uncounted.failed.into_iter().flatten().collect();
    let tracked: BTreeMap<&str, &Arc<Pod>> = pods
        .iter()
        .filter(|pod| is_tracked(pod))
        .map(|pod| (pod.metadata.uid.as_deref().unwrap_or_default(), pod))
        .collect();
    let mut count = Count {
        counted_succeeded: before.succeeded.unwrap_or(0),
        counted_failed: before.failed.unwrap_or(0),
        completed: indexes::parse(before.completed_indexes.as_deref().unwrap_or_default()),
        ..Count::default()
    };
    // Those whose finalizer is gone are history.
    let settle = |list: &mut BTreeSet<String>, counter: &mut i32| {
        let all = list.len();
        list.retain(|uid| tracked.contains_key(uid.as_str()));
        *counter += i32::try_from(all - list.len()).unwrap_or(0);
    };
    settle(&mut succeeded, &mut count.counted_succeeded);
    settle(&mut failed, &mut count.counted_failed);
    for (uid, pod) in tracked {
        match (outcome(pod), is_indexed) {
            (None, _) => continue,
            // An index is complete or not: writing it twice does no harm.
            (Some(Outcome::Succeeded), true) => count.completed.extend(index(pod)),
            (Some(Outcome::Succeeded), false) => drop(succeeded.insert(uid.to_owned())),
            (Some(Outcome::Failed), _) => drop(failed.insert(uid.to_owned())),
        }
        count.free.push(pod.clone());
    }
    if is_indexed {
        count.counted_succeeded = i32::try_from(count.completed.len()).unwrap_or(i32::MAX);
    }
    count.succeeded = count.counted_succeeded + i32::try_from(succeeded.len()).unwrap_or(0);
    count.failed = count.counted_failed + i32::try_from(failed.len()).unwrap_or(0);
    let list = |uids: BTreeSet<String>| (!uids.is_empty()).then(|| uids.into_iter().collect());
    let uncounted = UncountedTerminatedPods { succeeded: list(succeeded), failed: list(failed) };
    count.uncounted = (uncounted != UncountedTerminatedPods::default()).then_some(uncounted);
    count
}

fn outcome(pod: &Pod) -> Option<Outcome> {
    match pods::phase(pod) {
        "Succeeded" => Some(Outcome::Succeeded),
        "Failed" => Some(Outcome::Failed),
        // Deleted, and its processes are gone: it did not get to say how it ended.
        _ if pods::is_terminating(pod) && pod.metadata.deletion_grace_period_seconds == Some(0) => {
            Some(Outcome::Failed)
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::pod::{FINALIZER, INDEX};
    use super::*;
    use crate::fixtures::{Fixture, pod};

    fn tracked(name: &str, phase: &str) -> Fixture {
        let mut fixture = pod(name).phase(phase);
        fixture.pod.metadata.finalizers = Some(vec![FINALIZER.into()]);
        fixture
    }

    fn written(before: &JobStatus, count: &Count) -> JobStatus {
        JobStatus {
            succeeded: Some(count.counted_succeeded),
            failed: Some(count.counted_failed),
            completed_indexes: Some(indexes::text(&count.completed)),
            uncounted_terminated_pods: count.uncounted.clone(),
            ..before.clone()
        }
    }

    // P-113
    #[test]
    fn a_deleted_pod_that_could_not_say_how_it_ended_has_failed() {
        let mut gone = tracked("a", "Running").deleted();
        assert_eq!(count(&JobStatus::default(), &[Arc::new(gone.pod.clone())], false).failed, 0, "it may yet succeed");
        gone.pod.metadata.deletion_grace_period_seconds = Some(0);
        assert_eq!(count(&JobStatus::default(), &[Arc::new(gone.pod)], false).failed, 1);
    }

    // P-114
    #[test]
    fn an_index_counts_once_however_many_pods_completed_it() {
        let done = |name: &str| Arc::new(tracked(name, "Succeeded").annotation(INDEX, "4").pod);
        let first = count(&JobStatus::default(), &[done("a"), done("b")], true);
        assert_eq!((first.succeeded, first.completed.clone()), (1, BTreeSet::from([4])));
        let again = count(&written(&JobStatus::default(), &first), &[done("c")], true);
        assert_eq!((again.succeeded, again.uncounted), (1, None));
    }

    proptest! {
        /// The controller may be stopped between any two of its writes, and users may delete pods it has let go.
        // P-113
        #[test]
        fn every_pod_is_counted_exactly_once(
            outcomes in prop::collection::vec(any::<bool>(), 1..12),
            happenings in prop::collection::vec((0_u8..4, 0_usize..12), 0..80),
        ) {
            let mut status = JobStatus::default();
            let mut present: Vec<Option<Fixture>> = outcomes.iter().enumerate().map(|(number, success)| {
                Some(tracked(&number.to_string(), if *success { "Succeeded" } else { "Failed" }))
            }).collect();
            let mut free: Vec<Arc<Pod>> = Vec::new();
            let let_go = |present: &mut Vec<Option<Fixture>>, pod: &Pod| {
                for fixture in present.iter_mut().flatten().filter(|fixture| fixture.pod.metadata.uid == pod.metadata.uid) {
                    fixture.pod.metadata.finalizers = None;
                }
            };
            let look = |status: &JobStatus, present: &[Option<Fixture>]| {
                let pods: Vec<_> = present.iter().flatten().map(|fixture| Arc::new(fixture.pod.clone())).collect();
                count(status, &pods, false)
            };
            for (what, which) in happenings {
                match what {
                    // A run that gets as far as writing the status; what it may free is freed later, or never.
                    0 => {
                        let counted = look(&status, &present);
                        free = counted.free.clone();
                        status = written(&status, &counted);
                    }
                    1 => free.clear(),
                    2 => if let Some(pod) = free.pop() { let_go(&mut present, &pod) },
                    // Only pods without a finalizer vanish.
                    _ => if let Some(place) = present.get_mut(which)
                        && place.as_ref().is_some_and(|fixture| !is_tracked(&fixture.pod)) { *place = None },
                }
            }
            for _ in 0..2 {
                let counted = look(&status, &present);
                status = written(&status, &counted);
                counted.free.iter().for_each(|pod| let_go(&mut present, pod));
            }
            let successes = i32::try_from(outcomes.iter().filter(|success| **success).count()).unwrap();
            let failures = i32::try_from(outcomes.len()).unwrap() - successes;
            prop_assert_eq!((status.succeeded, status.failed), (Some(successes), Some(failures)));
            prop_assert_eq!(status.uncounted_terminated_pods, None);
        }
    }
}
