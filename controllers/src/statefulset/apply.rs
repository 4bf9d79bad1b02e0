//! Carries out what [`desired`] plans, and keeps the revisions.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::apps::v1::{ControllerRevision, StatefulSet, StatefulSetStatus};
use k8s_openapi::api::core::v1::PodTemplateSpec;
use kube::api::PostParams;
use kube::{Api, Client};

use super::desired::{Step, desired};
use super::pod::{ordinal, pod, revision};
use super::status::status;
use crate::cache::{Cache, Key};
use crate::caches::Caches;
use crate::error::{Error, is_status};
use crate::events::Recorder;
use crate::owners;
use crate::pod::Pod;
use crate::pod_writer::{PodWriter, claim, concerned};
use crate::pods;
use crate::queue::{Backoff, Queue, Reason};
use crate::revisions::{Revisions, template};
use crate::worker::{Next, Reconciler};

const BACKOFF: Backoff = Backoff { base: Duration::from_millis(20), cap: Duration::from_secs(300), retries: 100 };

/// The controller; keys are StatefulSets.
pub(crate) struct StatefulSets {
    client: Client,
    sets: Arc<Cache<StatefulSet>>,
    writer: PodWriter,
    revisions: Revisions,
    queue: Arc<Queue<Key>>,
}

/// Makes the controller and has the caches feed its queue.
pub(crate) fn wire(client: Client, caches: &Caches, recorder: &Recorder) -> Arc<StatefulSets> {
    let queue = Arc::new(Queue::new(BACKOFF));
    let to = queue.clone();
    caches.stateful_sets.on_change(move |change| {
        if let Some(set) = change.states().last() {
            to.add(Key::of(&set.metadata), "the StatefulSet changed");
        }
    });
    let (known, to) = (caches.stateful_sets.clone(), queue.clone());
    caches.pods.on_change(move |change| {
        for pod in change.states() {
            for key in concerned(&known, pod, |set| set.spec.as_ref().map(|spec| &spec.selector)) {
                to.add(key, "a pod changed");
            }
        }
    });
    let recorder = recorder.named("statefulset-controller");
    Arc::new(StatefulSets {
        sets: caches.stateful_sets.clone(),
        writer: PodWriter { client: client.clone(), pods: caches.pods.clone(), recorder },
        revisions: Revisions { client: client.clone(), cache: caches.revisions.clone() },
        client,
        queue,
    })
}

impl Reconciler for StatefulSets {
    const NAME: &'static str = "statefulset";
    type Key = Key;

    fn queue(&self) -> &Queue<Key> {
        &self.queue
    }

    fn add_all(&self, reason: Reason) {
        for set in self.sets.all() {
            self.queue.add(Key::of(&set.metadata), reason);
        }
    }

    async fn reconcile(&self, key: &Key) -> Result<Next, Error> {
        let Some(set) = self.sets.get(key) else { return Ok(Next::Wait) };
        let Some(spec) = &set.spec else { return Ok(Next::Wait) };
        let outcome = self.run(&set, &spec.template).await;
        match outcome {
            // It will vanish with its namespace.
            Err(error) if owners::is_namespace_terminating(&error) => Ok(Next::Wait),
            other => other,
        }
    }
}

/// Zero and absent are the same to the server.
fn normal(mut status: StatefulSetStatus) -> StatefulSetStatus {
    for field in [
        &mut status.ready_replicas,
        &mut status.available_replicas,
        &mut status.current_replicas,
        &mut status.updated_replicas,
    ] {
        field.get_or_insert(0);
    }
    status
}

impl StatefulSets {
    fn own_pods(&self, set: &StatefulSet) -> Vec<Arc<Pod>> {
        let uid = set.metadata.uid.as_deref().unwrap_or_default();
        let mut pods = self.writer.pods.in_namespace(set.metadata.namespace.as_deref().unwrap_or_default());
        pods.retain(|pod| pods::is_controlled_by(&pod.metadata, uid));
        pods
    }

    async fn run(&self, set: &StatefulSet, template: &PodTemplateSpec) -> Result<Next, Error> {
        if set.metadata.deletion_timestamp.is_some() {
            return Ok(Next::Wait);
        }
        self.claim(set).await?;
        let update = self.revisions.ensure(set, template).await?;
        let update_name = update.metadata.name.clone().unwrap_or_default();
        let plan = desired(set, &self.own_pods(set), &update_name, Timestamp::now());
        let mut outcome = Ok(());
        for step in plan.steps {
            outcome = self.carry_out(set, step, &update).await;
            if outcome.is_err() {
                break;
            }
        }
        // The pods as they are after our own writes.
        let status = self.write_status(set, &update_name).await;
        outcome.and(status)?;
        let mut live: BTreeSet<String> = self.own_pods(set).iter().map(|pod| revision(pod).to_owned()).collect();
        live.insert(update_name);
        live.extend(
            self.sets.get(&Key::of(&set.metadata)).and_then(|set| set.status.as_ref()?.current_revision.clone()),
        );
        let limit = set.spec.as_ref().and_then(|spec| spec.revision_history_limit).unwrap_or(10);
        self.revisions.prune(set, &live, limit).await?;
        Ok(plan.again.map_or(Next::Wait, Next::After))
    }

    async fn claim(&self, set: &StatefulSet) -> Result<(), Error> {
        let Some(spec) = &set.spec else { return Ok(()) };
        let uid = set.metadata.uid.as_deref().unwrap_or_default();
        let name = set.metadata.name.as_deref().unwrap_or_default();
        let pods = self.writer.pods.in_namespace(set.metadata.namespace.as_deref().unwrap_or_default());
        let is_named = |pod: &Pod| ordinal(name, pod.metadata.name.as_deref().unwrap_or_default()).is_some();
        self.writer.settle(set, &claim(uid, &spec.selector, &pods, is_named)).await
    }

    async fn carry_out(&self, set: &StatefulSet, step: Step, update: &ControllerRevision) -> Result<(), Error> {
        match step {
            Step::Create { ordinal, former } => {
                let current = if former { self.current(set) } else { None };
                let made_of = current.as_deref().unwrap_or(update);
                let template = template(made_of).ok_or_else(|| Error::Missing("the revision's template".to_owned()))?;
                let name = made_of.metadata.name.as_deref().unwrap_or_default();
                self.writer.create(set, &pod(set, ordinal, &template, name)).await
            }
            Step::Delete(pod) => {
                if pods::is_finished(&pod) {
                    let name = pod.metadata.name.as_deref().unwrap_or_default();
                    let message = format!("StatefulSet is recreating {} Pod {name}", pods::phase(&pod).to_lowercase());
                    self.writer.recorder.warning(set, "RecreatingFailedPod", message);
                }
                self.writer.delete(set, &pod).await
            }
        }
    }

    /// The revision from before the update that is under way.
    fn current(&self, set: &StatefulSet) -> Option<Arc<ControllerRevision>> {
        let name = set.status.as_ref()?.current_revision.as_deref()?;
        self.revisions.of(set).into_iter().find(|revision| revision.metadata.name.as_deref() == Some(name))
    }

    async fn write_status(&self, set: &StatefulSet, update: &str) -> Result<(), Error> {
        let wanted = status(set, &self.own_pods(set), update, Timestamp::now());
        if set.status.clone().map(normal).as_ref() == Some(&wanted) {
            return Ok(());
        }
        let key = Key::of(&set.metadata);
        let updated = StatefulSet { status: Some(wanted), ..set.clone() };
        let api: Api<StatefulSet> = Api::namespaced(self.client.clone(), &key.namespace);
        match api.replace_status(&key.name, &PostParams::default(), &updated).await {
            Ok(written) => self.sets.wrote(written),
            Err(source) if is_status(&source, 404) => {}
            Err(source) => return Err(Error::api("writing the status")(source)),
        }
        Ok(())
    }
}
