//! Carries out what [`desired`] plans, in the order that makes counting exact.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::batch::v1::{Job, JobStatus};
use kube::api::{DeleteParams, PostParams, Preconditions};
use kube::{Api, Client};
use serde_json::json;

use super::backoff::Failures;
use super::desired::{Plan, desired, finished};
use super::pod::{FINALIZER, is_tracked, pod};
use crate::cache::{Cache, Key};
use crate::caches::Caches;
use crate::error::{Error, is_status};
use crate::events::Recorder;
use crate::owners;
use crate::pod::Pod;
use crate::pod_writer::{PodWriter, claim, concerned};
use crate::pods;
use crate::queue::{Backoff, Queue, Reason};
use crate::worker::{Next, Reconciler};

const BACKOFF: Backoff = Backoff { base: Duration::from_millis(20), cap: Duration::from_secs(300), retries: 100 };

/// The name of this controller in `spec.managedBy`.
const US: &str = "kubernetes.io/job-controller";
const NAME_LABEL: &str = "batch.kubernetes.io/job-name";

/// The controller; keys are Jobs.
pub(crate) struct Jobs {
    client: Client,
    jobs: Arc<Cache<Job>>,
    writer: PodWriter,
    queue: Arc<Queue<Key>>,
    /// Failures in a row of each Job that is not over, by its name, with its UID.
    failures: Mutex<HashMap<Key, (String, Failures)>>,
}

/// Makes the controller and has the caches feed its queue.
pub(crate) fn wire(client: Client, caches: &Caches, recorder: &Recorder) -> Arc<Jobs> {
    let queue = Arc::new(Queue::new(BACKOFF));
    let to = queue.clone();
    caches.jobs.on_change(move |change| {
        if let Some(job) = change.states().last() {
            to.add(Key::of(&job.metadata), "the Job changed");
        }
    });
    let (known, to) = (caches.jobs.clone(), queue.clone());
    caches.pods.on_change(move |change| {
        for pod in change.states() {
            for key in concerned(&known, pod, |job| job.spec.as_ref()?.selector.as_ref()) {
                to.add(key, "a pod changed");
            }
        }
    });
    let writer =
        PodWriter { client: client.clone(), pods: caches.pods.clone(), recorder: recorder.named("job-controller") };
    Arc::new(Jobs { client, jobs: caches.jobs.clone(), writer, queue, failures: Mutex::default() })
}

impl Reconciler for Jobs {
    const NAME: &'static str = "job";
    type Key = Key;

    fn queue(&self) -> &Queue<Key> {
        &self.queue
    }

    fn add_all(&self, reason: Reason) {
        for job in self.jobs.all() {
            self.queue.add(Key::of(&job.metadata), reason);
        }
        // Pods that were waiting to be let go when their Job went.
        for pod in self.writer.pods.all().iter().filter(|pod| is_tracked(pod)) {
            if let Some(name) = job_name(pod) {
                self.queue.add(Key::new(pod.metadata.namespace.clone().unwrap_or_default(), name), reason);
            }
        }
    }

    async fn reconcile(&self, key: &Key) -> Result<Next, Error> {
        let job = self.jobs.get(key);
        self.let_orphans_go(key, job.as_deref()).await?;
        let Some(job) = job else {
            self.remember(key, None);
            return Ok(Next::Wait);
        };
        let manager = job.spec.as_ref().and_then(|spec| spec.managed_by.as_deref());
        if manager.is_some_and(|manager| manager != US) {
            return Ok(Next::Wait);
        }
        match self.run(&job).await {
            // It will vanish with its namespace.
            Err(error) if owners::is_namespace_terminating(&error) => Ok(Next::Wait),
            other => other,
        }
    }
}

/// The Job a pod was made for.
fn job_name(pod: &Pod) -> Option<String> {
    let owner = pods::controller(&pod.metadata).filter(|owner| owner.kind == "Job").map(|owner| owner.name.clone());
    owner.or_else(|| pod.labels.get(NAME_LABEL).map(str::to_owned))
}

/// Zero and absent are the same to the server.
fn normal(mut status: JobStatus) -> JobStatus {
    for field in
        [&mut status.active, &mut status.ready, &mut status.terminating, &mut status.succeeded, &mut status.failed]
    {
        field.get_or_insert(0);
    }
    status
}

impl Jobs {
    fn own_pods(&self, job: &Job) -> Vec<Arc<Pod>> {
        let uid = job.metadata.uid.as_deref().unwrap_or_default();
        let mut pods = self.writer.pods.in_namespace(job.metadata.namespace.as_deref().unwrap_or_default());
        pods.retain(|pod| pods::is_controlled_by(&pod.metadata, uid));
        pods
    }

    /// Pods of a Job that is gone are counted by nobody.
    async fn let_orphans_go(&self, key: &Key, job: Option<&Job>) -> Result<(), Error> {
        let uid = job.and_then(|job| job.metadata.uid.as_deref());
        for pod in self.writer.pods.in_namespace(&key.namespace) {
            let is_orphan = is_tracked(&pod)
                && job_name(&pod).as_deref() == Some(&key.name)
                && pods::controller(&pod.metadata).is_none_or(|owner| Some(owner.uid.as_str()) != uid);
            if is_orphan {
                self.let_go(&pod).await?;
            }
        }
        Ok(())
    }

    async fn let_go(&self, pod: &Pod) -> Result<(), Error> {
        let kept: Vec<&String> = pod.metadata.finalizers.iter().flatten().filter(|known| *known != FINALIZER).collect();
        let patch = json!({"metadata": {
            "uid": pod.metadata.uid,
            // The list is replaced whole, so it must be the one that was read.
            "resourceVersion": pod.metadata.resource_version,
            "finalizers": kept,
        }});
        self.writer.patch(pod, &patch).await
    }

    async fn run(&self, job: &Job) -> Result<Next, Error> {
        if job.metadata.deletion_timestamp.is_none() {
            self.claim(job).await?;
        }
        let key = Key::of(&job.metadata);
        let plan = desired(job, &self.own_pods(job), self.failures(&key, job), Timestamp::now());
        if plan.remove {
            return self.remove(job).await;
        }
        self.write_status(job, &plan.status).await?;
        // Not before: until then these failures are new.
        self.remember(&key, finished(job).is_none().then(|| (job, plan.failures.clone())));
        if let Some(note) = &plan.event {
            if note.is_warning {
                self.writer.recorder.warning(job, note.reason, note.message.clone());
            } else {
                self.writer.recorder.normal(job, note.reason, note.message.clone());
            }
        }
        self.apply(job, &plan).await?;
        Ok(plan.again.map_or(Next::Wait, Next::After))
    }

    fn failures(&self, key: &Key, job: &Job) -> Option<Failures> {
        let known = self.failures.lock().unwrap_or_else(PoisonError::into_inner);
        known.get(key).filter(|(uid, _)| Some(uid) == job.metadata.uid.as_ref()).map(|(_, failures)| failures.clone())
    }

    fn remember(&self, key: &Key, failures: Option<(&Job, Failures)>) {
        let mut known = self.failures.lock().unwrap_or_else(PoisonError::into_inner);
        match failures {
            Some((job, failures)) => {
                known.insert(key.clone(), (job.metadata.uid.clone().unwrap_or_default(), failures));
            }
            None => drop(known.remove(key)),
        }
    }

    async fn claim(&self, job: &Job) -> Result<(), Error> {
        let Some(selector) = job.spec.as_ref().and_then(|spec| spec.selector.as_ref()) else { return Ok(()) };
        let uid = job.metadata.uid.as_deref().unwrap_or_default();
        let pods = self.writer.pods.in_namespace(job.metadata.namespace.as_deref().unwrap_or_default());
        self.writer.settle(job, &claim(uid, selector, &pods, |_| true)).await
    }

    async fn apply(&self, job: &Job, plan: &Plan) -> Result<(), Error> {
        for pod in &plan.free {
            self.let_go(pod).await?;
        }
        for pod in &plan.dismiss {
            // Without the finalizer it is no failure that it does not end by itself.
            self.let_go(pod).await?;
            self.writer.delete(job, pod).await?;
        }
        for pod in &plan.delete {
            self.writer.delete(job, pod).await?;
        }
        let new = plan.create.iter().map(|new| pod(job, *new)).collect();
        self.writer.create_all(job, new).await
    }

    async fn remove(&self, job: &Job) -> Result<Next, Error> {
        let key = Key::of(&job.metadata);
        let api: Api<Job> = Api::namespaced(self.client.clone(), &key.namespace);
        let uid = job.metadata.uid.clone();
        let params = DeleteParams::background().preconditions(Preconditions { uid, resource_version: None });
        match api.delete(&key.name, &params).await {
            Ok(_) => Ok(Next::Wait),
            Err(source) if is_status(&source, 404) => Ok(Next::Wait),
            Err(source) => Err(Error::api("deleting a Job whose time is over")(source)),
        }
    }

    async fn write_status(&self, job: &Job, wanted: &JobStatus) -> Result<(), Error> {
        if job.status.clone().map(normal).as_ref() == Some(&normal(wanted.clone())) {
            return Ok(());
        }
        let key = Key::of(&job.metadata);
        let updated = Job { status: Some(wanted.clone()), ..job.clone() };
        let api: Api<Job> = Api::namespaced(self.client.clone(), &key.namespace);
        let written = api
            .replace_status(&key.name, &PostParams::default(), &updated)
            .await
            .map_err(Error::api("writing the status"))?;
        self.jobs.wrote(written);
        Ok(())
    }
}
