use serde_json::{Value, json};

use super::super::pod::Failures as OfIndex;
use super::super::pod::{FAILURES, FINALIZER, INDEX};
use super::*;
use crate::fixtures::{Fixture, pod, time};

const NOW: i64 = 1000;

fn job(spec: Value) -> Job {
    let mut job = json!({
        "metadata": {"name": "sum", "namespace": "default", "uid": "u"},
        "spec": {"parallelism": 1, "template": {"spec": {"restartPolicy": "Never", "containers": [{"name": "c"}]}}},
        "status": {"startTime": "1970-01-01T00:16:30Z"},
    });
    for (key, value) in spec.as_object().unwrap() {
        job["spec"][key] = value.clone();
    }
    serde_json::from_value(job).unwrap()
}

fn ours(name: &str, phase: &str) -> Fixture {
    let mut fixture = pod(name).owned_by("Job", "u").phase(phase).created_at(1);
    fixture.pod.metadata.finalizers = Some(vec![FINALIZER.into()]);
    fixture
}

fn at(name: &str, phase: &str, index: i32) -> Fixture {
    ours(name, phase).annotation(INDEX, &index.to_string())
}

fn run(job: &Job, pods: &[Fixture]) -> Plan {
    let pods: Vec<_> = pods.iter().map(|fixture| Arc::new(fixture.pod.clone())).collect();
    desired(job, &pods, None, Timestamp::from_second(NOW).unwrap())
}

fn names(pods: &[Arc<Pod>]) -> Vec<&str> {
    pods.iter().map(|pod| pod.metadata.name.as_deref().unwrap()).collect()
}

fn indexes(plan: &Plan) -> Vec<i32> {
    plan.create.iter().map(|new| new.index.unwrap()).collect()
}

fn condition(plan: &Plan, type_: &str) -> Option<String> {
    let conditions = plan.status.conditions.as_deref().unwrap_or_default();
    conditions
        .iter()
        .find(|known| known.type_ == type_ && known.status == "True")
        .map(|known| known.reason.clone().unwrap())
}

#[test]
fn pods_are_made_up_to_parallelism_and_completions() {
    let running = |count: i32| (0..count).map(|number| ours(&number.to_string(), "Running")).collect::<Vec<_>>();
    let with = |mut pods: Vec<Fixture>, more: Fixture| {
        pods.push(more);
        pods
    };
    for (label, spec, pods, create, dismiss) in [
        ("P-113: one", json!({"completions": 1}), vec![], 1, 0),
        ("P-113: it runs", json!({"completions": 1}), running(1), 0, 0),
        ("P-113: several", json!({"completions": 5, "parallelism": 3}), running(1), 2, 0),
        ("P-113: the last ones", json!({"completions": 2, "parallelism": 3}), running(1), 1, 0),
        (
            "P-113: after a success",
            json!({"completions": 3, "parallelism": 3}),
            with(running(1), ours("s", "Succeeded")),
            1,
            0,
        ),
        ("P-113: fewer wanted", json!({"completions": 9, "parallelism": 1}), running(3), 0, 2),
        ("P-113: none at a time", json!({"completions": 9, "parallelism": 0}), running(2), 0, 2),
        ("P-113: work queue", json!({"parallelism": 3}), running(1), 2, 0),
        ("P-113: work queue that is empty", json!({"parallelism": 3}), with(running(1), ours("s", "Succeeded")), 0, 0),
        ("P-113: a failed pod is replaced", json!({"completions": 1}), vec![ours("f", "Failed")], 1, 0),
        ("P-113: a terminating one too", json!({"completions": 1}), vec![ours("t", "Running").deleted()], 1, 0),
        (
            "P-113: unless it shall have ended",
            json!({"completions": 1, "podReplacementPolicy": "Failed"}),
            vec![ours("t", "Running").deleted()],
            0,
            0,
        ),
        ("P-113: suspended", json!({"completions": 1, "suspend": true}), running(1), 0, 1),
    ] {
        let plan = run(&job(spec), &pods);
        assert_eq!((plan.create.len(), plan.dismiss.len()), (create, dismiss), "{label}");
        assert_eq!(plan.delete, [], "{label}");
    }
}

// P-113
#[test]
fn a_fresh_failure_is_waited_for() {
    let plan = run(&job(json!({"completions": 1})), &[ours("f", "Failed").created_at(NOW - 4)]);
    assert_eq!((plan.create.len(), plan.again), (0, Some(Duration::from_secs(6))));
}

#[test]
fn it_ends() {
    let restarted = |count| ours("r", "Running").restarts(count);
    let on_failure = json!({"spec": {"restartPolicy": "OnFailure", "containers": [{"name": "c"}]}});
    for (label, spec, pods, success, failure) in [
        ("P-113: completions", json!({"completions": 1}), vec![ours("s", "Succeeded")], true, None),
        ("P-113: not yet", json!({"completions": 2}), vec![ours("s", "Succeeded")], false, None),
        ("P-113: nothing to do", json!({"completions": 0}), vec![], true, None),
        ("P-113: work queue", json!({"parallelism": 3}), vec![ours("s", "Succeeded")], true, None),
        (
            "P-113: too many failures",
            json!({"completions": 1, "backoffLimit": 1}),
            vec![ours("f", "Failed"), ours("g", "Failed"), ours("r", "Running")],
            false,
            Some("BackoffLimitExceeded"),
        ),
        (
            "P-113: as many as allowed",
            json!({"completions": 1, "backoffLimit": 1}),
            vec![ours("f", "Failed")],
            false,
            None,
        ),
        (
            "P-113: restarts",
            json!({"completions": 1, "backoffLimit": 3, "template": on_failure}),
            vec![restarted(3)],
            false,
            Some("BackoffLimitExceeded"),
        ),
        (
            "P-113: fewer restarts",
            json!({"completions": 1, "backoffLimit": 3, "template": on_failure}),
            vec![restarted(2)],
            false,
            None,
        ),
        (
            "P-113: deadline",
            json!({"completions": 1, "activeDeadlineSeconds": 10}),
            vec![],
            false,
            Some("DeadlineExceeded"),
        ),
        ("P-113: before it", json!({"completions": 1, "activeDeadlineSeconds": 11}), vec![], false, None),
    ] {
        let plan = run(&job(spec), &pods);
        assert_eq!(condition(&plan, "SuccessCriteriaMet").is_some(), success, "{label}");
        assert_eq!(condition(&plan, "FailureTarget").as_deref(), failure, "{label}");
        let over = success || failure.is_some();
        let active = pods.iter().filter(|fixture| pods::is_active(&fixture.pod)).count();
        assert_eq!(plan.delete.len(), if failure.is_some() { active } else { 0 }, "{label}");
        if over {
            assert_eq!(plan.create, [], "{label}");
        }
    }
}

// P-113
#[test]
fn it_has_ended_when_every_pod_is_counted_and_gone() {
    let mut job = job(json!({"completions": 1, "ttlSecondsAfterFinished": 100}));
    let mut pods = vec![ours("s", "Succeeded")];
    let first = run(&job, &pods);
    assert_eq!(condition(&first, "Complete"), None, "the pod is not counted yet");
    assert_eq!(names(&first.free), ["s"]);
    job.status = Some(first.status);
    pods[0].pod.metadata.finalizers = None;
    let second = run(&job, &pods);
    assert_eq!(condition(&second, "Complete").as_deref(), Some("CompletionsReached"));
    assert_eq!((second.status.succeeded, second.status.completion_time.clone()), (Some(1), Some(time(NOW))));
    assert_eq!(second.event.unwrap().reason, "Completed");
    job.status = Some(second.status);
    let third = run(&job, &pods);
    assert_eq!((third.again, third.remove, third.event), (Some(Duration::from_secs(100)), false, None));
    let over = desired(&job, &[], None, Timestamp::from_second(NOW + 100).unwrap());
    assert!(over.remove);
}

// P-114
#[test]
fn each_index_has_one_pod_until_it_succeeds() {
    let spec = json!({"completions": 4, "parallelism": 3, "completionMode": "Indexed"});
    assert_eq!(indexes(&run(&job(spec.clone()), &[])), [0, 1, 2]);
    let pods = [at("a", "Succeeded", 0), at("b", "Running", 1), at("c", "Failed", 2)];
    let plan = run(&job(spec.clone()), &pods);
    assert_eq!(indexes(&plan), [2, 3]);
    assert_eq!(plan.status.completed_indexes.as_deref(), Some("0"));
    assert_eq!(plan.status.succeeded, Some(1));
    let twice = [at("b", "Running", 1), at("d", "Running", 1), at("e", "Running", 9)];
    assert_eq!(names(&run(&job(spec), &twice).dismiss), ["d", "e"]);
}

// P-113
#[test]
fn suspending_stops_the_clock() {
    let mut job = job(json!({"completions": 1, "suspend": true, "activeDeadlineSeconds": 1}));
    let plan = run(&job, &[]);
    assert_eq!(plan.status.start_time, None);
    assert_eq!(condition(&plan, "Suspended").as_deref(), Some("JobSuspended"));
    assert_eq!(condition(&plan, "FailureTarget"), None);
    job.status = Some(plan.status);
    job.spec.as_mut().unwrap().suspend = Some(false);
    let resumed = run(&job, &[]);
    assert_eq!(resumed.status.start_time, Some(time(NOW)));
    assert_eq!(condition(&resumed, "Suspended"), None);
    assert_eq!(resumed.create.len(), 1);
}

/// `backoffLimitPerIndex: 2` for four indexes.
fn by_index(change: Value) -> Job {
    let mut spec = json!({
        "completions": 4, "parallelism": 4, "completionMode": "Indexed", "backoffLimitPerIndex": 2, "backoffLimit": i32::MAX,
    });
    for (key, value) in change.as_object().unwrap() {
        spec[key] = value.clone();
    }
    job(spec)
}

fn failed(name: &str, index: i32, before: &str) -> Fixture {
    at(name, "Failed", index).annotation(FAILURES, before)
}

#[test]
fn each_index_is_tried_again_in_its_own_time() {
    let pods =
        [failed("a", 0, "0"), failed("b", 1, "1").created_at(NOW - 5), at("c", "Running", 2), failed("d", 3, "2")];
    let plan = run(&by_index(json!({})), &pods);
    let counted = |counted| Some(OfIndex { counted, ignored: 0 });
    assert_eq!(plan.create, [New { index: Some(0), failures: counted(1) }]);
    assert_eq!(plan.again, Some(Duration::from_secs(15)));
    assert_eq!(plan.status.failed_indexes.as_deref(), Some("3"));
    let ignores = json!({"rules": [{"action": "Ignore", "onExitCodes": {"operator": "In", "values": [7]}}]});
    let pods = [failed("a", 0, "1").exited("c", 7)];
    let plan = run(&by_index(json!({"parallelism": 1, "podFailurePolicy": ignores})), &pods);
    assert_eq!(plan.create, [New { index: Some(0), failures: Some(OfIndex { counted: 1, ignored: 1 }) }]);
    let first = run(&by_index(json!({"parallelism": 1})), &[]);
    assert_eq!(first.create, [New { index: Some(0), failures: counted(0) }]);
    assert_eq!(first.status.failed_indexes.as_deref(), Some(""));
}

#[test]
fn policies_end_it() {
    let done = |name: &str, index| at(name, "Succeeded", index);
    let policy =
        |action: &str| json!({"rules": [{"action": action, "onExitCodes": {"operator": "In", "values": [7]}}]});
    let early = json!({"rules": [{"succeededIndexes": "1-3", "succeededCount": 1}]});
    let others = || vec![at("x", "Running", 0), at("y", "Running", 2)];
    let with = |mut pods: Vec<Fixture>, more: Vec<Fixture>| {
        pods.extend(more);
        pods
    };
    for (label, spec, pods, type_, reason, message) in [
        (
            "a rule fails the Job",
            json!({"podFailurePolicy": policy("FailJob")}),
            with(others(), vec![failed("a", 1, "0").exited("c", 7)]),
            "FailureTarget",
            "PodFailurePolicy",
            "Container c for pod default/a failed with exit code 7 matching FailJob rule at index 0",
        ),
        (
            "too many indexes",
            json!({"maxFailedIndexes": 0}),
            with(others(), vec![failed("a", 1, "2")]),
            "FailureTarget",
            "MaxFailedIndexesExceeded",
            "Job has exceeded the specified maximal number of failed indexes",
        ),
        (
            "a rule fails the index",
            json!({"maxFailedIndexes": 0, "podFailurePolicy": policy("FailIndex")}),
            with(others(), vec![failed("a", 1, "0").exited("c", 7)]),
            "FailureTarget",
            "MaxFailedIndexesExceeded",
            "Job has exceeded the specified maximal number of failed indexes",
        ),
        (
            "all are over, one has failed",
            json!({}),
            vec![done("a", 0), done("b", 1), done("c", 2), failed("d", 3, "2")],
            "FailureTarget",
            "FailedIndexes",
            "Job has failed indexes",
        ),
        (
            "enough have succeeded",
            json!({"successPolicy": early}),
            with(others(), vec![done("a", 3)]),
            "SuccessCriteriaMet",
            "SuccessPolicy",
            "Matched rules at index 0",
        ),
    ] {
        let mut job = by_index(spec);
        let plan = run(&job, &pods);
        let of = |plan: &Plan, type_: &str| {
            let mut conditions = plan.status.conditions.clone().unwrap_or_default().into_iter();
            conditions.find(|known| known.type_ == type_).map(|known| (known.reason.unwrap(), known.message.unwrap()))
        };
        let expected = Some((reason.to_owned(), message.to_owned()));
        assert_eq!(of(&plan, type_), expected, "{label}");
        assert_eq!(plan.create, [], "{label}");
        let running = pods.iter().filter(|fixture| pods::is_active(&fixture.pod)).count();
        assert_eq!(plan.delete.len() + plan.dismiss.len(), running, "{label}");
        // It stays decided, and is said again in the same words when all are gone.
        job.status = Some(plan.status);
        let ended = if type_ == "FailureTarget" { "Failed" } else { "Complete" };
        assert_eq!(of(&run(&job, &[]), ended), expected, "{label}");
    }
    let going_on = run(&by_index(json!({"maxFailedIndexes": 1})), &[failed("a", 1, "2")]);
    assert_eq!((condition(&going_on, "FailureTarget"), indexes(&going_on)), (None, vec![0, 2, 3]));
}

// P-113
#[test]
fn failures_count_when_their_pods_are_gone() {
    let mut job = job(json!({"completions": 1, "backoffLimit": 1}));
    let known = run(&job, &[ours("f", "Failed").created_at(NOW - 4)]).failures;
    job.status.as_mut().unwrap().failed = Some(1);
    let look = |job: &Job, pods: &[Fixture]| {
        let pods: Vec<_> = pods.iter().map(|fixture| Arc::new(fixture.pod.clone())).collect();
        desired(job, &pods, Some(known.clone()), Timestamp::from_second(NOW).unwrap())
    };
    assert_eq!(look(&job, &[]).again, Some(Duration::from_secs(6)));
    let plan = look(&job, &[ours("g", "Failed")]);
    assert_eq!(condition(&plan, "FailureTarget").as_deref(), Some("BackoffLimitExceeded"));
}
