//! Jobs and CronJobs, against a real API server in memory.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking, also in its helpers")]

mod common;

use common::{Lab, becomes, settles};
use k8s_openapi::api::batch::v1::{CronJob, Job};
use k8s_openapi::api::core::v1::Pod;
use kube::Api;
use kube::api::{DeleteParams, Patch, PatchParams, PropagationPolicy};
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
