//! Jobs and CronJobs, against a real API server in memory.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking, also in its helpers")]

mod common;

use common::{Lab, becomes, settles};
use k8s_openapi::api::batch::v1::{CronJob, Job};
use k8s_openapi::api::core::v1::{Event, Node, Pod};
use kube::Api;
use kube::api::{DeleteParams, EvictParams, Patch, PatchParams, PropagationPolicy};
use serde_json::{Value, json};

fn job(name: &str, image: &str, spec: Value) -> Value {
    let mut job = json!({
        "apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": name},
        "spec": {"template": template(image)},
    });
    for (key, value) in spec.as_object().unwrap() {
        job["spec"][key] = value.clone();
    }
    job
}

fn template(image: &str) -> Value {
    json!({
        "metadata": {"labels": {"app": "work"}},
        "spec": {"restartPolicy": "Never", "containers": [{"name": "main", "image": image}]},
    })
}

fn condition(job: &Job, type_: &str) -> Option<String> {
    let conditions = job.status.as_ref()?.conditions.as_ref()?;
    conditions.iter().find(|known| known.type_ == type_ && known.status == "True")?.reason.clone()
}

fn is_complete(job: &Job) -> bool {
    condition(job, "Complete").is_some()
}

fn is_tracked(pod: &Pod) -> bool {
    pod.metadata.finalizers.iter().flatten().any(|finalizer| finalizer.contains("job-tracking"))
}

// P-113
#[tokio::test(flavor = "multi_thread")]
async fn a_job_runs_until_enough_pods_have_succeeded() {
    let lab = Lab::start(1).await;
    lab.create::<Job>(job("sum", "succeeds:1", json!({"completions": 5, "parallelism": 2}))).await;
    let done = becomes(lab.api(), "sum", "complete", is_complete).await;
    let status = done.status.unwrap();
    let number = |count: Option<i32>| count.unwrap_or(0);
    assert_eq!((number(status.succeeded), number(status.failed), number(status.active)), (5, 0, 0));
    assert!(status.start_time.is_some() && status.completion_time.is_some());
    assert_eq!(status.uncounted_terminated_pods, None);
    let pods = settles(lab.api(), "pods that are let go", |pods: &[Pod]| !pods.iter().any(is_tracked)).await;
    assert_eq!(pods.len(), 5, "finished pods stay");
    let labels = pods[0].metadata.labels.as_ref().unwrap();
    let uid = done.metadata.uid.unwrap();
    for (key, value) in [("batch.kubernetes.io/job-name", "sum"), ("job-name", "sum"), ("controller-uid", &uid)] {
        assert_eq!(labels[key], value, "{key}");
    }
    assert_eq!(labels["batch.kubernetes.io/controller-uid"], uid);
    lab.stop().await;
}

// P-114
#[tokio::test(flavor = "multi_thread")]
async fn an_indexed_job_has_a_pod_for_each_index() {
    let lab = Lab::start(1).await;
    let spec = json!({"completions": 3, "parallelism": 3, "completionMode": "Indexed"});
    lab.create::<Job>(job("part", "succeeds:1", spec)).await;
    let done = becomes(lab.api(), "part", "complete", is_complete).await;
    assert_eq!(done.status.unwrap().completed_indexes.as_deref(), Some("0-2"));
    let pods = lab.api::<Pod>().list(&Default::default()).await.unwrap().items;
    assert_eq!(pods.len(), 3);
    for (index, pod) in pods.iter().enumerate() {
        let name = format!("part-{index}");
        assert!(pod.metadata.name.as_deref().unwrap().starts_with(&format!("{name}-")));
        let spec = pod.spec.as_ref().unwrap();
        assert_eq!(spec.hostname.as_deref(), Some(name.as_str()));
        assert_eq!(spec.containers[0].env.as_ref().unwrap()[0].name, "JOB_COMPLETION_INDEX");
        let annotations = pod.metadata.annotations.as_ref().unwrap();
        assert_eq!(annotations["batch.kubernetes.io/job-completion-index"], index.to_string());
    }
    lab.stop().await;
}

// P-113
#[tokio::test(flavor = "multi_thread")]
async fn a_job_that_fails_too_often_has_failed() {
    let lab = Lab::start(1).await;
    lab.create::<Job>(job("bad", "fails:1", json!({"backoffLimit": 0, "completions": 1}))).await;
    let failed = becomes(lab.api(), "bad", "failed", |job: &Job| condition(job, "Failed").is_some()).await;
    assert_eq!(condition(&failed, "Failed").as_deref(), Some("BackoffLimitExceeded"));
    assert_eq!(failed.status.unwrap().failed, Some(1));
    lab.create::<Job>(job("slow", "web:1", json!({"activeDeadlineSeconds": 1}))).await;
    let failed = becomes(lab.api(), "slow", "failed", |job: &Job| condition(job, "Failed").is_some()).await;
    assert_eq!(condition(&failed, "Failed").as_deref(), Some("DeadlineExceeded"));
    settles(lab.api(), "its pod is gone", |pods: &[Pod]| {
        !pods.iter().any(|pod| pod.metadata.name.as_deref().unwrap().starts_with("slow"))
    })
    .await;
    lab.stop().await;
}

// P-113
#[tokio::test(flavor = "multi_thread")]
async fn a_suspended_job_has_no_pods_until_it_is_resumed() {
    let lab = Lab::start(1).await;
    lab.create::<Job>(job("later", "web:1", json!({"suspend": true}))).await;
    becomes(lab.api(), "later", "suspended", |job: &Job| condition(job, "Suspended").is_some()).await;
    assert_eq!(lab.api::<Pod>().list(&Default::default()).await.unwrap().items.len(), 0);
    let jobs: Api<Job> = lab.api();
    let suspend = |suspend: bool| Patch::Merge(json!({"spec": {"suspend": suspend}}));
    jobs.patch("later", &PatchParams::default(), &suspend(false)).await.unwrap();
    becomes(lab.api(), "later", "active", |job: &Job| {
        job.status.as_ref().is_some_and(|status| status.ready == Some(1))
    })
    .await;
    jobs.patch("later", &PatchParams::default(), &suspend(true)).await.unwrap();
    settles(lab.api(), "no pods", <[Pod]>::is_empty).await;
    let job = becomes(lab.api(), "later", "suspended", |job: &Job| condition(job, "Suspended").is_some()).await;
    assert_eq!(job.status.unwrap().failed.unwrap_or(0), 0, "being suspended is no failure");
    lab.stop().await;
}

// P-113, P-086
#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_left_of_a_job_that_goes() {
    let lab = Lab::start(1).await;
    lab.create::<Job>(job("brief", "succeeds:1", json!({"ttlSecondsAfterFinished": 0}))).await;
    settles(lab.api(), "no jobs", <[Job]>::is_empty).await;
    settles(lab.api(), "no pods", <[Pod]>::is_empty).await;
    lab.create::<Job>(job("running", "web:1", json!({}))).await;
    becomes(lab.api(), "running", "active", |job: &Job| {
        job.status.as_ref().is_some_and(|status| status.ready == Some(1))
    })
    .await;
    let params = DeleteParams { propagation_policy: Some(PropagationPolicy::Background), ..DeleteParams::default() };
    lab.api::<Job>().delete("running", &params).await.unwrap();
    settles(lab.api(), "no pods", <[Pod]>::is_empty).await;
    // The API's own default for Jobs: the pods stay, and nobody holds them.
    lab.create::<Job>(job("orphaning", "web:1", json!({}))).await;
    becomes(lab.api(), "orphaning", "active", |job: &Job| {
        job.status.as_ref().is_some_and(|status| status.ready == Some(1))
    })
    .await;
    lab.api::<Job>().delete("orphaning", &DeleteParams::default()).await.unwrap();
    settles(lab.api(), "an orphan", |pods: &[Pod]| {
        pods.len() == 1 && !is_tracked(&pods[0]) && pods[0].metadata.owner_references.iter().flatten().count() == 0
    })
    .await;
    lab.stop().await;
}

/// Ends a pod as a kubelet would: its container with this code, long ago, so that nobody waits for the next one.
async fn end(lab: &Lab, pod: &Pod, code: i32, conditions: Value) {
    let phase = if code == 0 { "Succeeded" } else { "Failed" };
    let ended = json!({"exitCode": code, "finishedAt": "2020-01-01T00:00:00Z"});
    let container = json!({
        "name": "main", "image": "web:1", "imageID": "", "ready": false, "restartCount": 0, "state": {"terminated": ended},
    });
    let status = json!({"status": {"phase": phase, "conditions": conditions, "containerStatuses": [container]}});
    let name = pod.metadata.name.as_deref().unwrap();
    lab.api::<Pod>().patch_status(name, &PatchParams::default(), &Patch::Strategic(status)).await.unwrap();
}

/// Waits for so many pods that run, and answers them by their names.
async fn running(lab: &Lab, count: usize) -> Vec<Pod> {
    let runs = |pod: &Pod| {
        let phase = pod.status.as_ref().and_then(|status| status.phase.as_deref());
        phase == Some("Running") && pod.metadata.deletion_timestamp.is_none()
    };
    let what = format!("{count} running pods");
    let mut pods = settles(lab.api(), &what, |pods: &[Pod]| pods.iter().filter(|pod| runs(pod)).count() == count).await;
    pods.retain(runs);
    pods
}

fn annotation<'a>(pod: &'a Pod, name: &str) -> Option<&'a str> {
    pod.metadata.annotations.as_ref()?.get(name).map(String::as_str)
}

fn message(job: &Job, type_: &str) -> Option<String> {
    let conditions = job.status.as_ref()?.conditions.as_ref()?;
    conditions.iter().find(|known| known.type_ == type_)?.message.clone()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rule_says_which_failures_are_none_and_which_end_the_job() {
    let lab = Lab::start(1).await;
    let rules = json!([
        {"action": "Ignore", "onPodConditions": [{"type": "DisruptionTarget"}]},
        {"action": "FailJob", "onExitCodes": {"operator": "In", "values": [42]}},
    ]);
    let spec = json!({"backoffLimit": 0, "podFailurePolicy": {"rules": rules}});
    let made = lab.create::<Job>(job("picky", "web:1", spec)).await;
    assert_eq!(made.spec.unwrap().pod_replacement_policy.as_deref(), Some("Failed"));
    let first = running(&lab, 1).await.remove(0);
    end(&lab, &first, 137, json!([{"type": "DisruptionTarget", "status": "True"}])).await;
    let second = settles(lab.api(), "a new pod", |pods: &[Pod]| pods.len() == 2 && !pods.iter().all(is_tracked)).await;
    assert_eq!(second.iter().filter(|pod| !is_tracked(pod)).count(), 1, "the first was let go");
    let second = running(&lab, 1).await.remove(0);
    end(&lab, &second, 42, json!([])).await;
    let failed = becomes(lab.api(), "picky", "failed", |job: &Job| condition(job, "Failed").is_some()).await;
    assert_eq!(condition(&failed, "Failed").as_deref(), Some("PodFailurePolicy"));
    assert_eq!(condition(&failed, "FailureTarget").as_deref(), Some("PodFailurePolicy"));
    let name = second.metadata.name.unwrap();
    let expected =
        format!("Container main for pod default/{name} failed with exit code 42 matching FailJob rule at index 1");
    assert_eq!(message(&failed, "Failed"), Some(expected));
    assert_eq!(failed.status.unwrap().failed, Some(1), "only the second counts");
    lab.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pod_that_has_to_leave_says_so_and_need_not_count() {
    let lab = Lab::start(1).await;
    let rules = json!([{"action": "Ignore", "onPodConditions": [{"type": "DisruptionTarget"}]}]);
    let spec = json!({"backoffLimit": 0, "podFailurePolicy": {"rules": rules}});
    lab.create::<Job>(job("moving", "lingers:1", spec)).await;
    let leaves = async |pod: &Pod, reason: &str| {
        becomes(lab.api(), pod.metadata.name.as_deref().unwrap(), reason, |pod: &Pod| {
            let mut conditions = pod.status.iter().flat_map(|status| status.conditions.iter().flatten());
            let says =
                conditions.any(|known| known.type_ == "DisruptionTarget" && known.reason.as_deref() == Some(reason));
            says && pod.metadata.deletion_timestamp.is_some()
        })
        .await;
        end(&lab, pod, 137, json!([])).await;
    };
    let first = running(&lab, 1).await.remove(0);
    lab.api::<Pod>().evict(first.metadata.name.as_deref().unwrap(), &EvictParams::default()).await.unwrap();
    leaves(&first, "EvictionByEvictionAPI").await;
    let second = running(&lab, 1).await.remove(0);
    let taint = Patch::Strategic(json!({"spec": {"taints": [{"key": "example.com/repair", "effect": "NoExecute"}]}}));
    Api::<Node>::all(lab.client.clone()).patch("n1", &PatchParams::default(), &taint).await.unwrap();
    leaves(&second, "DeletionByTaintManager").await;
    let is_new = |pod: &Pod| pod.metadata.uid != first.metadata.uid && pod.metadata.uid != second.metadata.uid;
    settles(lab.api(), "a third pod", |pods: &[Pod]| pods.iter().any(is_new)).await;
    let job = lab.api::<Job>().get("moving").await.unwrap();
    assert_eq!((condition(&job, "FailureTarget"), job.status.unwrap().failed.unwrap_or(0)), (None, 0));
    lab.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn each_index_has_a_limit_of_its_own() {
    let lab = Lab::start(1).await;
    let spec = json!({"completions": 3, "parallelism": 3, "completionMode": "Indexed", "backoffLimitPerIndex": 1});
    lab.create::<Job>(job("part", "web:1", spec.clone())).await;
    let count = "batch.kubernetes.io/job-index-failure-count";
    let pods = running(&lab, 3).await;
    assert!(pods.iter().all(|pod| annotation(pod, count) == Some("0")));
    end(&lab, &pods[0], 1, json!([])).await;
    let again = running(&lab, 3).await.remove(0);
    assert!(again.metadata.name.as_deref().unwrap().starts_with("part-0-"));
    assert_eq!(annotation(&again, count), Some("1"));
    end(&lab, &again, 1, json!([])).await;
    let failing = becomes(lab.api(), "part", "an index has failed", |job: &Job| {
        job.status.as_ref().and_then(|status| status.failed_indexes.as_deref()) == Some("0")
    })
    .await;
    assert_eq!(condition(&failing, "FailureTarget"), None, "the others go on");
    for pod in &pods[1..] {
        end(&lab, pod, 0, json!([])).await;
    }
    let failed = becomes(lab.api(), "part", "failed", |job: &Job| condition(job, "Failed").is_some()).await;
    assert_eq!(condition(&failed, "Failed").as_deref(), Some("FailedIndexes"));
    let status = failed.status.unwrap();
    assert_eq!((status.failed, status.succeeded), (Some(2), Some(2)));
    assert_eq!((status.failed_indexes.as_deref(), status.completed_indexes.as_deref()), (Some("0"), Some("1,2")));
    let mut strict = spec;
    strict["backoffLimitPerIndex"] = json!(0);
    strict["maxFailedIndexes"] = json!(0);
    lab.create::<Job>(job("strict", "web:1", strict)).await;
    let pods = running(&lab, 3).await;
    end(&lab, &pods[1], 1, json!([])).await;
    let failed = becomes(lab.api(), "strict", "failed", |job: &Job| condition(job, "Failed").is_some()).await;
    assert_eq!(condition(&failed, "Failed").as_deref(), Some("MaxFailedIndexesExceeded"));
    assert_eq!(failed.status.unwrap().failed, Some(3), "those that still ran have failed with it");
    running(&lab, 0).await;
    lab.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_is_done_when_its_success_policy_is_met() {
    let lab = Lab::start(1).await;
    let policy = json!({"rules": [{"succeededIndexes": "1", "succeededCount": 1}]});
    let spec = json!({"completions": 3, "parallelism": 3, "completionMode": "Indexed", "successPolicy": policy});
    lab.create::<Job>(job("lead", "web:1", spec)).await;
    let pods = running(&lab, 3).await;
    end(&lab, &pods[1], 0, json!([])).await;
    let done = becomes(lab.api(), "lead", "complete", is_complete).await;
    for type_ in ["SuccessCriteriaMet", "Complete"] {
        assert_eq!(condition(&done, type_).as_deref(), Some("SuccessPolicy"));
        assert_eq!(message(&done, type_).as_deref(), Some("Matched rules at index 0"));
    }
    let status = done.status.unwrap();
    assert_eq!((status.succeeded, status.failed.unwrap_or(0)), (Some(1), 0), "those that still ran have not failed");
    assert!(status.completion_time.is_some());
    settles(lab.api(), "the others are gone", |pods: &[Pod]| pods.len() == 1 && !is_tracked(&pods[0])).await;
    lab.stop().await;
}

// P-113
#[tokio::test(flavor = "multi_thread")]
async fn a_failure_counts_when_its_pod_is_gone() {
    let lab = Lab::start(1).await;
    lab.create::<Job>(job("bad", "web:1", json!({"backoffLimit": 1}))).await;
    let first = running(&lab, 1).await.remove(0);
    end(&lab, &first, 1, json!([])).await;
    let name = first.metadata.name.unwrap();
    becomes(lab.api(), "bad", "one failure", |job: &Job| job.status.as_ref().unwrap().failed == Some(1)).await;
    lab.api::<Pod>().delete(&name, &DeleteParams::default()).await.unwrap();
    settles(lab.api(), "it is gone", |pods: &[Pod]| pods.iter().all(|pod| pod.metadata.name.as_ref() != Some(&name)))
        .await;
    let second = running(&lab, 1).await.remove(0);
    end(&lab, &second, 1, json!([])).await;
    let failed = becomes(lab.api(), "bad", "failed", |job: &Job| condition(job, "Failed").is_some()).await;
    assert_eq!(condition(&failed, "Failed").as_deref(), Some("BackoffLimitExceeded"));
    assert_eq!(failed.status.unwrap().failed, Some(2));
    lab.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_policy_says_whether_a_terminating_pod_is_replaced() {
    let lab = Lab::start(1).await;
    let counts = |job: &Job| {
        let status = job.status.clone().unwrap_or_default();
        let number = |count: Option<i32>| count.unwrap_or(0);
        (number(status.active), number(status.terminating), number(status.failed))
    };
    lab.create::<Job>(job("patient", "lingers:1", json!({"podReplacementPolicy": "Failed"}))).await;
    let pod = running(&lab, 1).await.remove(0);
    let name = pod.metadata.name.clone().unwrap();
    lab.api::<Pod>().delete(&name, &DeleteParams::default()).await.unwrap();
    becomes(lab.api(), "patient", "waiting", |job: &Job| counts(job) == (0, 1, 0)).await;
    assert_eq!(lab.api::<Pod>().list(&Default::default()).await.unwrap().items.len(), 1);
    end(&lab, &pod, 1, json!([])).await;
    becomes(lab.api(), "patient", "going on", |job: &Job| counts(job) == (1, 0, 1)).await;
    lab.create::<Job>(job(
        "hasty",
        "lingers:1",
        json!({"podReplacementPolicy": "TerminatingOrFailed", "backoffLimit": 0}),
    ))
    .await;
    let pods = running(&lab, 2).await;
    let pod = pods.iter().find(|pod| pod.metadata.name.as_deref().unwrap().starts_with("hasty")).unwrap();
    lab.api::<Pod>().delete(pod.metadata.name.as_deref().unwrap(), &DeleteParams::default()).await.unwrap();
    becomes(lab.api(), "hasty", "failed with its pod", |job: &Job| {
        counts(job) == (0, 1, 1) && condition(job, "FailureTarget").as_deref() == Some("BackoffLimitExceeded")
    })
    .await;
    lab.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_that_somebody_else_manages_is_left_alone() {
    let lab = Lab::start(1).await;
    lab.create::<Job>(job("theirs", "succeeds:1", json!({"managedBy": "example.com/queue"}))).await;
    lab.create::<Job>(job("ours", "succeeds:1", json!({"managedBy": "kubernetes.io/job-controller"}))).await;
    becomes(lab.api(), "ours", "complete", is_complete).await;
    let theirs = lab.api::<Job>().get("theirs").await.unwrap();
    assert_eq!(theirs.status.unwrap_or_default(), Default::default());
    let pods = lab.api::<Pod>().list(&Default::default()).await.unwrap().items;
    assert!(pods.iter().all(|pod| pod.metadata.name.as_deref().unwrap().starts_with("ours-")));
    lab.stop().await;
}

fn cron(name: &str, image: &str, spec: Value) -> Value {
    let mut cron = json!({
        "apiVersion": "batch/v1", "kind": "CronJob", "metadata": {"name": name},
        "spec": {"schedule": "@every 1s", "jobTemplate": {"spec": {"template": template(image)}}},
    });
    for (key, value) in spec.as_object().unwrap() {
        cron["spec"][key] = value.clone();
    }
    cron
}

// P-113
#[tokio::test(flavor = "multi_thread")]
async fn a_cron_job_starts_jobs_and_tells_of_them() {
    let lab = Lab::start(1).await;
    lab.create::<CronJob>(cron("tick", "web:1", json!({"concurrencyPolicy": "Forbid"}))).await;
    let ticked = becomes(lab.api(), "tick", "active", |cron: &CronJob| {
        cron.status.as_ref().is_some_and(|status| status.active.iter().flatten().count() == 1)
    })
    .await;
    let status = ticked.status.unwrap();
    let name = status.active.unwrap()[0].name.clone().unwrap();
    let minute = status.last_schedule_time.unwrap().0.as_second() / 60;
    assert_eq!(name, format!("tick-{minute}"));
    let job = lab.api::<Job>().get(&name).await.unwrap();
    assert_eq!(job.metadata.owner_references.unwrap()[0].name, "tick");
    // It goes with the CronJob.
    lab.api::<CronJob>().delete("tick", &DeleteParams::default()).await.unwrap();
    settles(lab.api(), "no jobs", <[Job]>::is_empty).await;
    settles(lab.api(), "no pods", <[Pod]>::is_empty).await;
    lab.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cron_job_remembers_its_last_success_and_keeps_no_more_than_it_should() {
    let lab = Lab::start(1).await;
    lab.create::<CronJob>(cron("done", "succeeds:1", json!({"successfulJobsHistoryLimit": 0}))).await;
    becomes(lab.api(), "done", "successful", |cron: &CronJob| {
        cron.status.as_ref().is_some_and(|status| status.last_successful_time.is_some())
    })
    .await;
    let pause = Patch::Merge(json!({"spec": {"suspend": true}}));
    lab.api::<CronJob>().patch("done", &PatchParams::default(), &pause).await.unwrap();
    settles(lab.api(), "no jobs are kept", <[Job]>::is_empty).await;
    lab.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_start_that_is_missed_is_told() {
    let lab = Lab::start(1).await;
    // No start is in time to the nanosecond.
    lab.create::<CronJob>(cron("late", "succeeds:1", json!({"startingDeadlineSeconds": 0}))).await;
    let events = settles(lab.api(), "told", |events: &[Event]| {
        events.iter().any(|event| event.reason.as_deref() == Some("MissSchedule"))
    })
    .await;
    let told = events.iter().find(|event| event.reason.as_deref() == Some("MissSchedule")).unwrap();
    assert_eq!((told.involved_object.name.as_deref(), told.type_.as_deref()), (Some("late"), Some("Warning")));
    let message = told.message.as_deref().unwrap();
    assert!(message.starts_with("Missed scheduled time to start a job: "), "{message}");
    assert_eq!(lab.api::<Job>().list(&Default::default()).await.unwrap().items.len(), 0);
    lab.stop().await;
}
