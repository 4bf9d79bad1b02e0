//! Carries out what [`desired`] plans.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::batch::v1::{CronJob, CronJobStatus, Job};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::api::{DeleteParams, PostParams, Preconditions};
use kube::{Api, Client};

use super::desired::{Start, desired, missed_message, object_reference};
use crate::cache::{Cache, Key};
use crate::caches::Caches;
use crate::error::{Error, is_status, sentence};
use crate::events::Recorder;
use crate::owners;
use crate::pods;
use crate::queue::{Backoff, Queue, Reason};
use crate::worker::{Next, Reconciler};

const BACKOFF: Backoff = Backoff { base: Duration::from_millis(20), cap: Duration::from_secs(300), retries: 100 };

/// Timers are set no longer than this, because a suspended laptop's timers stand still.
const LONGEST_SLEEP: Duration = Duration::from_secs(60);

/// The controller; keys are CronJobs.
pub(crate) struct CronJobs {
    client: Client,
    crons: Arc<Cache<CronJob>>,
    jobs: Arc<Cache<Job>>,
    queue: Arc<Queue<Key>>,
    recorder: Recorder,
    /// The missed start of each CronJob that was told of last: a miss is seen again until the next start.
    missed: Mutex<HashMap<Key, Timestamp>>,
}

/// Makes the controller and has the caches feed its queue.
pub(crate) fn wire(client: Client, caches: &Caches, recorder: &Recorder) -> Arc<CronJobs> {
    let queue = Arc::new(Queue::new(BACKOFF));
    let to = queue.clone();
    caches.cron_jobs.on_change(move |change| {
        if let Some(cron) = change.states().last() {
            to.add(Key::of(&cron.metadata), "the CronJob changed");
        }
    });
    let to = queue.clone();
    caches.jobs.on_change(move |change| {
        for job in change.states() {
            if let Some(owner) = pods::controller(&job.metadata).filter(|owner| owner.kind == "CronJob") {
                let namespace = job.metadata.namespace.clone().unwrap_or_default();
                to.add(Key::new(namespace, owner.name.clone()), "a Job changed");
            }
        }
    });
    let recorder = recorder.named("cronjob-controller");
    Arc::new(CronJobs {
        client,
        crons: caches.cron_jobs.clone(),
        jobs: caches.jobs.clone(),
        queue,
        recorder,
        missed: Mutex::default(),
    })
}

impl Reconciler for CronJobs {
    const NAME: &'static str = "cronjob";
    type Key = Key;

    fn queue(&self) -> &Queue<Key> {
        &self.queue
    }

    fn add_all(&self, reason: Reason) {
        for cron in self.crons.all() {
            self.queue.add(Key::of(&cron.metadata), reason);
        }
    }

    async fn reconcile(&self, key: &Key) -> Result<Next, Error> {
        let Some(cron) = self.crons.get(key) else {
            self.is_new_miss(key, None);
            return Ok(Next::Wait);
        };
        let uid = cron.metadata.uid.as_deref().unwrap_or_default();
        let mut jobs = self.jobs.in_namespace(&key.namespace);
        jobs.retain(|job| pods::is_controlled_by(&job.metadata, uid));
        let plan = desired(&cron, &jobs, Timestamp::now());
        for (reason, message) in plan.notes {
            self.recorder.normal(&*cron, reason, message);
        }
        if self.is_new_miss(key, plan.missed)
            && let Some(due) = plan.missed
        {
            self.recorder.warning(&*cron, "MissSchedule", missed_message(due));
        }
        if let Some((reason, message)) = plan.problem {
            self.recorder.warning(&*cron, reason, message);
        }
        for job in &plan.delete {
            self.delete(&cron, job).await?;
        }
        let mut status = plan.status;
        if let Some(start) = plan.create {
            match self.start(&cron, start, &mut status).await {
                // It will vanish with its namespace.
                Err(error) if owners::is_namespace_terminating(&error) => return Ok(Next::Wait),
                other => other?,
            }
        }
        self.write_status(&cron, status).await?;
        Ok(plan.again.map_or(Next::Wait, |delay| Next::After(delay.min(LONGEST_SLEEP))))
    }
}

impl CronJobs {
    /// Remembers the start that a CronJob has missed; whether it is another than before.
    fn is_new_miss(&self, key: &Key, missed: Option<Timestamp>) -> bool {
        let mut known = self.missed.lock().unwrap_or_else(PoisonError::into_inner);
        let before = match missed {
            Some(due) => known.insert(key.clone(), due),
            None => known.remove(key),
        };
        before != missed
    }

    async fn start(&self, cron: &CronJob, start: Start, status: &mut CronJobStatus) -> Result<(), Error> {
        let api: Api<Job> =
            Api::namespaced(self.client.clone(), cron.metadata.namespace.as_deref().unwrap_or_default());
        let name = start.job.metadata.name.clone().unwrap_or_default();
        match api.create(&PostParams::default(), &start.job).await {
            Ok(job) => {
                self.recorder.normal(cron, "SuccessfulCreate", format!("Created job {name}"));
                status.active.get_or_insert_default().push(object_reference(&job));
                self.jobs.wrote(job);
            }
            // An earlier round has started it and was stopped before it could say so.
            Err(source) if is_status(&source, 409) => {}
            Err(source) => {
                let error = Error::api("creating a Job");
                self.recorder.warning(cron, "FailedCreate", format!("Error creating job: {}", sentence(&source)));
                return Err(error(source));
            }
        }
        status.last_schedule_time = Some(Time(start.at));
        Ok(())
    }

    async fn delete(&self, cron: &CronJob, job: &Job) -> Result<(), Error> {
        let key = Key::of(&job.metadata);
        let api: Api<Job> = Api::namespaced(self.client.clone(), &key.namespace);
        let only_it = Preconditions { uid: job.metadata.uid.clone(), resource_version: None };
        match api.delete(&key.name, &DeleteParams::background().preconditions(only_it)).await {
            Ok(_) => self.recorder.normal(cron, "SuccessfulDelete", format!("Deleted job {}", key.name)),
            Err(source) if is_status(&source, 404) => {}
            Err(source) => return Err(Error::api("deleting a Job")(source)),
        }
        self.jobs.gone(&key);
        Ok(())
    }

    async fn write_status(&self, cron: &CronJob, wanted: CronJobStatus) -> Result<(), Error> {
        if cron.status.clone().unwrap_or_default() == wanted {
            return Ok(());
        }
        let key = Key::of(&cron.metadata);
        let updated = CronJob { status: Some(wanted), ..cron.clone() };
        let api: Api<CronJob> = Api::namespaced(self.client.clone(), &key.namespace);
        let written = api
            .replace_status(&key.name, &PostParams::default(), &updated)
            .await
            .map_err(Error::api("writing the status"))?;
        self.crons.wrote(written);
        Ok(())
    }
}
