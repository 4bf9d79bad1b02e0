//! Makes, removes, adopts and releases pods as [`desired`] says.

use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use futures::future::join_all;
use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::api::{Patch, PatchParams, PostParams};
use kube::{Api, Client};

use super::desired::{Plan, counts, desired};
use super::kinds::{Failure, Replicated};
use crate::cache::{Cache, Key};
use crate::error::{Error, is_status, sentence};
use crate::events::Recorder;
use crate::owners;
use crate::pod::{self, Pod};
use crate::pod_writer::{delete_exactly, pod_from, reference};
use crate::pods;
use crate::queue::{Backoff, Queue, Reason};
use crate::selector::selects;
use crate::worker::{Next, Reconciler};

const BACKOFF: Backoff = Backoff { base: Duration::from_millis(20), cap: Duration::from_secs(300), retries: 100 };

/// Deletions under way at once.
const PARALLEL_DELETES: usize = 16;

/// The controller of one of the two kinds; keys are objects of that kind.
pub(crate) struct Replicas<K> {
    client: Client,
    sets: Arc<Cache<K>>,
    pods: Arc<Cache<Pod>>,
    queue: Arc<Queue<Key>>,
    recorder: Recorder,
}

/// Makes the controller and has the caches feed its queue.
pub(crate) fn wire<K: Replicated>(
    client: Client,
    sets: &Arc<Cache<K>>,
    pods: &Arc<Cache<Pod>>,
    recorder: &Recorder,
) -> Arc<Replicas<K>> {
    let queue = Arc::new(Queue::new(BACKOFF));
    let to = queue.clone();
    sets.on_change(move |change| {
        if let Some(set) = change.states().last() {
            to.add(Key::of(set.meta()), "the object changed");
        }
    });
    let (known, to) = (sets.clone(), queue.clone());
    pods.on_change(move |change| {
        let only_status = change.before.zip(change.after).is_some_and(|(before, after)| counts_the_same(before, after));
        for pod in change.states() {
            for key in owners_of(&known, pod) {
                if only_status {
                    to.add_behind(key, "a pod changed");
                } else {
                    to.add(key, "a pod changed");
                }
            }
        }
    });
    let recorder = recorder.named(K::COMPONENT);
    Arc::new(Replicas { client, sets: sets.clone(), pods: pods.clone(), queue, recorder })
}

/// Whether a pod counts for its set as it did. One that comes, goes, ends or has another set is to be made up for; all else is
/// a number in the status.
fn counts_the_same(before: &Pod, after: &Pod) -> bool {
    let is_counted = |pod: &Pod| !pods::is_finished(pod) && !pods::is_terminating(pod);
    is_counted(before) == is_counted(after)
        && before.labels == after.labels
        && before.metadata.owner_references == after.metadata.owner_references
}

/// The set that controls a pod or, for an orphan, those that would adopt it.
fn owners_of<K: Replicated>(sets: &Cache<K>, pod: &Pod) -> Vec<Key> {
    let namespace = pod.metadata.namespace.as_deref().unwrap_or_default();
    if let Some(owner) = pods::controller(&pod.metadata) {
        let ours = owner.kind == K::kind(&()) && owner.api_version == K::api_version(&());
        return if ours { vec![Key::new(namespace, owner.name.clone())] } else { Vec::new() };
    }
    let matching = sets.in_namespace(namespace).into_iter();
    matching.filter(|set| selects(&set.selector(), &pod.labels)).map(|set| Key::of(set.meta())).collect()
}

impl<K: Replicated> Reconciler for Replicas<K> {
    const NAME: &'static str = K::CONTROLLER;
    type Key = Key;

    fn queue(&self) -> &Queue<Key> {
        &self.queue
    }

    fn add_all(&self, reason: Reason) {
        for set in self.sets.all() {
            self.queue.add(Key::of(set.meta()), reason);
        }
    }

    async fn reconcile(&self, key: &Key) -> Result<Next, Error> {
        let Some(set) = self.sets.get(key) else { return Ok(Next::Wait) };
        let plan = desired(&*set, &self.pods.in_namespace(&key.namespace), Timestamp::now());
        let outcome = self.apply(&set, plan).await;
        // The pods as they are after our own writes.
        let now = Timestamp::now();
        let (counts, next) = counts(&*set, &self.pods.in_namespace(&key.namespace), now);
        let failure = outcome.as_ref().err().and_then(|failed| failed.condition.as_ref());
        if let Some(updated) = set.with_status(counts, failure, Time(now)) {
            let api: Api<K> = Api::namespaced(self.client.clone(), &key.namespace);
            match api.replace_status(&key.name, &PostParams::default(), &updated).await {
                Ok(written) => self.sets.wrote(written),
                Err(source) if is_status(&source, 404) => return Ok(Next::Wait),
                Err(source) => return Err(Error::api("writing the status")(source)),
            }
        }
        match outcome {
            Ok(()) => Ok(next.map_or(Next::Wait, Next::After)),
            // It will vanish with its namespace.
            Err(failed) if owners::is_namespace_terminating(&failed.error) => Ok(Next::Wait),
            Err(failed) => Err(failed.error),
        }
    }
}

/// A failure, and how the object's condition tells it if it is worth telling.
struct Failed {
    condition: Option<Failure>,
    error: Error,
}

impl From<Error> for Failed {
    fn from(error: Error) -> Self {
        Self { condition: None, error }
    }
}

impl<K: Replicated> Replicas<K> {
    async fn apply(&self, set: &K, plan: Plan) -> Result<(), Failed> {
        let api = Api::namespaced(self.client.clone(), set.meta().namespace.as_deref().unwrap_or_default());
        let owner = reference(set);
        for pod in plan.adopt {
            self.patch(&api, &pod, &owners::adoption(&pod.metadata, &owner)).await?;
        }
        for pod in plan.release {
            self.patch(&api, &pod, &owners::release(&pod.metadata, &owner.uid)).await?;
        }
        if plan.create > 0 {
            self.create(set, plan.create).await?;
        }
        self.delete(&api, set, plan.delete).await
    }

    async fn patch(&self, api: &Api<Pod>, pod: &Pod, patch: &serde_json::Value) -> Result<(), Error> {
        let key = Key::of(&pod.metadata);
        match api.patch(&key.name, &PatchParams::default(), &Patch::Merge(patch)).await {
            Ok(patched) => self.pods.wrote(patched),
            Err(source) if is_status(&source, 404) => self.pods.gone(&key),
            Err(source) => return Err(Error::api("changing the owner of a pod")(source)),
        }
        Ok(())
    }

    /// Slow start (P-091): what fails for one pod usually fails for all, so the first is tried alone.
    async fn create(&self, set: &K, count: usize) -> Result<(), Failed> {
        let Some(template) = set.template() else { return Ok(()) };
        let new = pod_from(template, set);
        let (mut remaining, mut batch) = (count, 1);
        while remaining > 0 {
            let size = batch.min(remaining);
            let results = join_all((0..size).map(|_| pod::create(&self.client, &new))).await;
            let mut failed = None;
            for result in results {
                match result {
                    Ok(created) => {
                        let name = created.metadata.name.clone().unwrap_or_default();
                        self.pods.wrote(created);
                        self.recorder.normal(set, "SuccessfulCreate", format!("Created pod: {name}"));
                    }
                    Err(source) => failed = Some(source),
                }
            }
            if let Some(source) = failed {
                let message = sentence(&source);
                let error = Error::api("creating a pod")(source);
                if owners::is_namespace_terminating(&error) {
                    return Err(error.into());
                }
                self.recorder.warning(set, "FailedCreate", format!("Error creating: {message}"));
                let condition = Some(Failure { reason: "FailedCreate", message });
                return Err(Failed { condition, error });
            }
            remaining -= size;
            batch *= 2;
        }
        Ok(())
    }

    async fn delete(&self, api: &Api<Pod>, set: &K, doomed: Vec<Arc<Pod>>) -> Result<(), Failed> {
        let mut results = futures::stream::iter(doomed)
            .map(|pod| async move { (Key::of(&pod.metadata), delete_exactly(api, &pod).await) })
            .buffer_unordered(PARALLEL_DELETES);
        let mut failed = None;
        while let Some((key, result)) = results.next().await {
            match result {
                Ok(Some(going)) => self.pods.wrote(going),
                Ok(None) => self.pods.gone(&key),
                Err(source) => {
                    self.recorder.warning(set, "FailedDelete", format!("Error deleting: {}", sentence(&source)));
                    failed = Some(source);
                    continue;
                }
            }
            self.recorder.normal(set, "SuccessfulDelete", format!("Deleted pod: {}", key.name));
        }
        match failed {
            None => Ok(()),
            Some(source) => {
                let condition = Some(Failure { reason: "FailedDelete", message: sentence(&source) });
                Err(Failed { condition, error: Error::api("deleting a pod")(source) })
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixtures::{Fixture, pod};

    #[test]
    fn a_pod_counts_the_same_unless_it_ends_or_may_have_another_set() {
        let web = || pod("a").label("app", "web").owned_by("ReplicaSet", "1");
        let same = |changed: Fixture| counts_the_same(&web().pod, &changed.pod);
        assert!(same(web()));
        assert!(same(web().ready().ip("10.244.0.9").phase("Running")));
        assert!(!same(web().deleted()));
        assert!(!same(web().phase("Failed")));
        assert!(!same(web().label("app", "db")));
        assert!(!same(pod("a").label("app", "web").owned_by("ReplicaSet", "2")));
        assert!(!same(pod("a").label("app", "web")));
    }
}
