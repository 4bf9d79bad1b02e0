use proptest::prelude::*;

use k8s_openapi::api::batch::v1::JobSpec;
use serde_json::{Value, json};

use super::super::pod::{FAILURES, FINALIZER, INDEX};
use super::*;
use crate::fixtures::{Fixture, pod};

fn spec(change: Value) -> JobSpec {
    let mut spec = json!({"template": {}});
    for (key, value) in change.as_object().unwrap() {
        spec[key] = value.clone();
    }
    serde_json::from_value(spec).unwrap()
}

/// A round, and what the status says after it.
fn round(spec: &JobSpec, before: &JobStatus, pods: &[Fixture], end: Option<Outcome>) -> (Progress, Count, JobStatus) {
    let pods: Vec<_> = pods.iter().map(|fixture| Arc::new(fixture.pod.clone())).collect();
    let rules = Rules::of(spec);
    let progress = look(&rules, before, &pods);
    let count = settle(&rules, before, &progress, &pods, end);
    let after = JobStatus {
        succeeded: Some(count.succeeded),
        failed: Some(count.failed),
        completed_indexes: Some(progress.completed.to_string()),
        failed_indexes: Some(progress.failed_indexes.to_string()),
        uncounted_terminated_pods: count.uncounted.clone(),
        ..before.clone()
    };
    (progress, count, after)
}

fn names(pods: &[Arc<Pod>]) -> Vec<&str> {
    pods.iter().map(|pod| pod.metadata.name.as_deref().unwrap()).collect()
}

fn tracked(name: &str, phase: &str) -> Fixture {
    let mut fixture = pod(name).phase(phase);
    fixture.pod.metadata.finalizers = Some(vec![FINALIZER.into()]);
    fixture
}

// P-113
#[test]
fn a_deleted_pod_that_could_not_say_how_it_ended_has_failed() {
    let spec = spec(json!({"podReplacementPolicy": "Failed"}));
    let mut gone = tracked("a", "Running").deleted();
    let failed = |pod: &Fixture| round(&spec, &JobStatus::default(), std::slice::from_ref(pod), None).0.failed;
    assert_eq!(failed(&gone), 0, "it may yet succeed");
    gone.pod.metadata.deletion_grace_period_seconds = Some(0);
    assert_eq!(failed(&gone), 1);
}

#[test]
fn a_pod_that_was_counted_when_it_was_deleted_cannot_succeed_any_more() {
    let spec = spec(json!({}));
    let (_, _, after) = round(&spec, &JobStatus::default(), &[tracked("a", "Running").deleted()], None);
    let (progress, count, _) = round(&spec, &after, &[tracked("a", "Succeeded").deleted()], None);
    assert_eq!((progress.succeeded, progress.failed), (0, 1));
    assert_eq!(count.uncounted.unwrap().succeeded, None);
}

#[test]
fn what_a_rule_ignores_is_let_go_uncounted() {
    let rule = json!({"action": "Ignore", "onExitCodes": {"operator": "In", "values": [7]}});
    let spec = spec(json!({"podReplacementPolicy": "Failed", "podFailurePolicy": {"rules": [rule]}}));
    let pods = [tracked("a", "Failed").exited("c", 7), tracked("b", "Failed").exited("c", 8)];
    let (progress, count, _) = round(&spec, &JobStatus::default(), &pods, None);
    assert_eq!((progress.failed, progress.new_failures.len()), (1, 2));
    assert_eq!(names(&count.free), ["a", "b"]);
    assert_eq!(count.uncounted.unwrap().failed, Some(vec!["uid-b".to_owned()]));
}

#[test]
fn what_still_runs_has_failed_with_its_job_but_not_when_that_succeeds() {
    let spec = spec(json!({}));
    let pods = [tracked("a", "Running"), tracked("b", "Succeeded")];
    for (end, free, failed) in [
        (None, vec!["b"], None),
        (Some(Outcome::Success), vec!["a", "b"], None),
        (Some(Outcome::Failure), vec!["a", "b"], Some(vec!["uid-a".to_owned()])),
    ] {
        let (_, count, _) = round(&spec, &JobStatus::default(), &pods, end);
        assert_eq!((names(&count.free), count.uncounted.unwrap().failed), (free, failed), "{end:?}");
    }
}

#[test]
fn the_last_failed_pod_of_an_index_stays_until_it_is_replaced() {
    let spec = spec(json!({"completionMode": "Indexed", "completions": 3, "backoffLimitPerIndex": 2}));
    let failed = |name: &str, index: &str, before: &str| {
        tracked(name, "Failed").annotation(INDEX, index).annotation(FAILURES, before)
    };
    let mut pods = vec![failed("a", "0", "0"), failed("b", "0", "1"), failed("c", "1", "2"), failed("d", "7", "0")];
    let (progress, count, after) = round(&spec, &JobStatus::default(), &pods, None);
    assert_eq!((progress.failed, progress.failed_indexes.to_string()), (3, "1".to_owned()));
    let kept: Vec<_> = progress.to_replace.into_iter().map(|(index, pod)| (index, pod.metadata.name.clone())).collect();
    assert_eq!(kept, [(0, Some("b".to_owned()))]);
    assert_eq!(names(&count.free), ["a", "c", "d"], "d has no index of this Job");
    pods.push(tracked("e", "Running").annotation(INDEX, "0").annotation(FAILURES, "2"));
    let (progress, count, _) = round(&spec, &after, &pods, None);
    assert_eq!((progress.failed, progress.to_replace.len()), (3, 0));
    assert_eq!(names(&count.free), ["a", "b", "c", "d"]);
}

#[test]
fn a_status_lists_no_more_pods_than_it_can_hold() {
    let spec = spec(json!({}));
    let mut pods: Vec<Fixture> = (0..1100).map(|number| tracked(&number.to_string(), "Failed")).collect();
    let mut status = JobStatus::default();
    for counted in [0, 500, 1000, 1100] {
        let (progress, count, after) = round(&spec, &status, &pods, None);
        assert_eq!((progress.failed, count.failed), (1100, counted));
        assert_eq!(count.uncounted.map_or(0, |lists| lists.failed.unwrap().len()), count.free.len());
        pods.retain(|pod| !names(&count.free).contains(&pod.pod.metadata.name.as_deref().unwrap()));
        status = after;
    }
    assert!(pods.is_empty());
}

// P-114
#[test]
fn an_index_counts_once_however_many_pods_completed_it() {
    let spec = spec(json!({"completionMode": "Indexed", "completions": 5}));
    let done = |name: &str| tracked(name, "Succeeded").annotation(INDEX, "4");
    let (first, _, after) = round(&spec, &JobStatus::default(), &[done("a"), done("b")], None);
    assert_eq!((first.succeeded, first.completed.to_string()), (1, "4".to_owned()));
    let (again, count, _) = round(&spec, &after, &[done("c")], None);
    assert_eq!((again.succeeded, count.uncounted), (1, None));
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
        let spec = spec(json!({}));
        let look = |status: &JobStatus, present: &[Option<Fixture>]| {
            let pods: Vec<_> = present.iter().flatten().cloned().collect();
            let (progress, count, after) = round(&spec, status, &pods, None);
            ((progress.succeeded, progress.failed), count.free, after)
        };
        let successes = i32::try_from(outcomes.iter().filter(|success| **success).count()).unwrap();
        let failures = i32::try_from(outcomes.len()).unwrap() - successes;
        for (what, which) in happenings {
            match what {
                // A run that gets as far as writing the status; what it may free is freed later, or never.
                0 => {
                    let (known, may_go, after) = look(&status, &present);
                    prop_assert_eq!(known, (successes, failures), "what limits go by is right at any time");
                    (free, status) = (may_go, after);
                }
                1 => free.clear(),
                2 => if let Some(pod) = free.pop() { let_go(&mut present, &pod) },
                // Only pods without a finalizer vanish.
                _ => if let Some(place) = present.get_mut(which)
                    && place.as_ref().is_some_and(|fixture| !is_tracked(&fixture.pod)) { *place = None },
            }
        }
        for _ in 0..2 {
            let (_, may_go, after) = look(&status, &present);
            status = after;
            may_go.iter().for_each(|pod| let_go(&mut present, pod));
        }
        prop_assert_eq!((status.succeeded, status.failed), (Some(successes), Some(failures)));
        prop_assert_eq!(status.uncounted_terminated_pods, None);
    }
}
