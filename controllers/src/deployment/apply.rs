//! Carries out what [`desired`] plans, one step per run.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::apps::v1::{Deployment, ReplicaSet};
use kube::api::{DeleteParams, Patch, PatchParams, PostParams, Preconditions};
use kube::{Api, Client};
use serde_json::json;

use super::conditions::{is_same, status};
use super::desired::{Changes, REVISION, desired, newest, old_sets, owner, size};
use super::template::same;
use crate::cache::{Cache, Key};
use crate::caches::Caches;
use crate::error::{Error, is_status, sentence};
use crate::events::Recorder;
use crate::owners;
use crate::pod::Pod;
use crate::pods;
use crate::queue::{Backoff, Queue, Reason};
use crate::selector::selects;
use crate::worker::{Next, Reconciler};

const BACKOFF: Backoff = Backoff { base: Duration::from_millis(20), cap: Duration::from_secs(300), retries: 100 };

/// The controller; keys are Deployments.
pub(crate) struct Deployments {
    client: Client,
    deployments: Arc<Cache<Deployment>>,
    sets: Arc<Cache<ReplicaSet>>,
    pods: Arc<Cache<Pod>>,
    queue: Arc<Queue<Key>>,
    recorder: Recorder,
}

/// Makes the controller and has the caches feed its queue.
pub(crate) fn wire(client: Client, caches: &Caches, recorder: &Recorder) -> Arc<Deployments> {
    let queue = Arc::new(Queue::new(BACKOFF));
    let to = queue.clone();
    caches.deployments.on_change(move |change| {
        if let Some(deployment) = change.states().last() {
            to.add(Key::of(&deployment.metadata), "the Deployment changed");
        }
    });
    let (deployments, to) = (caches.deployments.clone(), queue.clone());
    caches.sets.on_change(move |change| {
        for set in change.states() {
            for key in parents(&deployments, set) {
                to.add(key, "a ReplicaSet changed");
            }
        }
    });
    let (sets, to) = (caches.sets.clone(), queue.clone());
    caches.pods.on_change(move |change| {
        // Recreate waits for the last pod to go.
        let (Some(pod), None) = (change.before, change.after) else { return };
        let Some(owner) = pods::controller(&pod.metadata).filter(|owner| owner.kind == "ReplicaSet") else { return };
        let namespace = pod.metadata.namespace.clone().unwrap_or_default();
        let Some(set) = sets.get(&Key::new(namespace.clone(), owner.name.clone())) else { return };
        if let Some(parent) = pods::controller(&set.metadata).filter(|owner| owner.kind == "Deployment") {
            to.add(Key::new(namespace, parent.name.clone()), "a pod is gone");
        }
    });
    Arc::new(Deployments {
        client,
        deployments: caches.deployments.clone(),
        sets: caches.sets.clone(),
        pods: caches.pods.clone(),
        queue,
        recorder: recorder.named("deployment-controller"),
    })
}

/// The Deployment that controls a ReplicaSet or, for an orphan, those that would adopt it.
fn parents(deployments: &Cache<Deployment>, set: &ReplicaSet) -> Vec<Key> {
    let namespace = set.metadata.namespace.as_deref().unwrap_or_default();
    if let Some(owner) = pods::controller(&set.metadata) {
        let ours = owner.kind == "Deployment";
        return if ours { vec![Key::new(namespace, owner.name.clone())] } else { Vec::new() };
    }
    let all = deployments.in_namespace(namespace).into_iter();
    all.filter(|deployment| matches(deployment, set)).map(|deployment| Key::of(&deployment.metadata)).collect()
}

fn matches(deployment: &Deployment, set: &ReplicaSet) -> bool {
    deployment.spec.as_ref().is_some_and(|spec| selects(&spec.selector, &set.metadata.labels))
}

impl Reconciler for Deployments {
    const NAME: &'static str = "deployment";
    type Key = Key;

    fn queue(&self) -> &Queue<Key> {
        &self.queue
    }

    fn add_all(&self, reason: Reason) {
        for deployment in self.deployments.all() {
            self.queue.add(Key::of(&deployment.metadata), reason);
        }
    }

    async fn reconcile(&self, key: &Key) -> Result<Next, Error> {
        let Some(deployment) = self.deployments.get(key) else { return Ok(Next::Wait) };
        if deployment.metadata.deletion_timestamp.is_none() {
            self.claim(&deployment).await?;
            let sets = self.own_sets(&deployment);
            let changes = desired(&deployment, &sets, self.has_old_pods(&deployment, &sets));
            match self.apply(&deployment, changes).await {
                // It will vanish with its namespace.
                Err(error) if owners::is_namespace_terminating(&error) => return Ok(Next::Wait),
                other => other?,
            }
        }
        self.write_status(key).await
    }
}

impl Deployments {
    fn own_sets(&self, deployment: &Deployment) -> Vec<Arc<ReplicaSet>> {
        let uid = deployment.metadata.uid.as_deref().unwrap_or_default();
        let mut sets = self.sets.in_namespace(deployment.metadata.namespace.as_deref().unwrap_or_default());
        sets.retain(|set| pods::is_controlled_by(&set.metadata, uid) && set.metadata.deletion_timestamp.is_none());
        sets
    }

    /// Adopts matching orphans and releases what no longer matches (P-088).
    async fn claim(&self, deployment: &Deployment) -> Result<(), Error> {
        let uid = deployment.metadata.uid.as_deref().unwrap_or_default();
        let namespace = deployment.metadata.namespace.as_deref().unwrap_or_default();
        let api: Api<ReplicaSet> = Api::namespaced(self.client.clone(), namespace);
        for set in self.sets.in_namespace(namespace) {
            let matches = matches(deployment, &set);
            let patch = match pods::controller(&set.metadata) {
                Some(controller) if controller.uid == uid && !matches => owners::release(&set.metadata, uid),
                None if matches && set.metadata.deletion_timestamp.is_none() => {
                    owners::adoption(&set.metadata, &owner(deployment))
                }
                _ => continue,
            };
            let key = Key::of(&set.metadata);
            let patched = api
                .patch(&key.name, &PatchParams::default(), &Patch::Merge(patch))
                .await
                .map_err(Error::api("changing the owner of a ReplicaSet"))?;
            self.sets.wrote(patched);
        }
        Ok(())
    }

    /// Whether a pod of an old set is left that may still run, terminating ones included (P-097).
    fn has_old_pods(&self, deployment: &Deployment, sets: &[Arc<ReplicaSet>]) -> bool {
        let new = newest(deployment, sets);
        let old = old_sets(sets, new.as_deref());
        self.pods
            .in_namespace(deployment.metadata.namespace.as_deref().unwrap_or_default())
            .iter()
            .filter(|pod| !pods::is_finished(pod))
            .filter_map(|pod| pods::controller(&pod.metadata).map(|owner| owner.uid.clone()))
            .any(|uid| old.iter().any(|set| set.metadata.uid.as_deref() == Some(uid.as_str())))
    }

    async fn apply(&self, deployment: &Deployment, changes: Changes) -> Result<(), Error> {
        let namespace = deployment.metadata.namespace.as_deref().unwrap_or_default();
        let api: Api<ReplicaSet> = Api::namespaced(self.client.clone(), namespace);
        if let Some(set) = changes.create {
            self.create(&api, deployment, &set).await?;
        }
        for set in changes.update {
            let key = Key::of(&set.metadata);
            let before = self.sets.get(&key).map_or(0, |known| size(&known));
            let result = api.replace(&key.name, &PostParams::default(), &set).await;
            if result.as_ref().is_err_and(|error| is_status(error, 404)) {
                self.sets.gone(&key);
            }
            self.sets.wrote(result.map_err(Error::api("scaling a ReplicaSet"))?);
            self.tell_scaling(deployment, &key.name, before, size(&set));
        }
        for name in changes.delete {
            let key = Key::new(namespace, name);
            let uid = self.sets.get(&key).and_then(|set| set.metadata.uid.clone());
            let params = DeleteParams::background().preconditions(Preconditions { uid, resource_version: None });
            match api.delete(&key.name, &params).await {
                Ok(_) => {}
                Err(source) if is_status(&source, 404) => {}
                Err(source) => return Err(Error::api("deleting an old ReplicaSet")(source)),
            }
            self.sets.gone(&key);
        }
        if let Some(revision) = changes.revision {
            let patch = json!({"metadata": {"annotations": {(REVISION): revision}}});
            let api: Api<Deployment> = Api::namespaced(self.client.clone(), namespace);
            let name = deployment.metadata.name.as_deref().unwrap_or_default();
            let patched = api
                .patch(name, &PatchParams::default(), &Patch::Merge(patch))
                .await
                .map_err(Error::api("writing the revision"))?;
            self.deployments.wrote(patched);
        }
        Ok(())
    }

    async fn create(&self, api: &Api<ReplicaSet>, deployment: &Deployment, set: &ReplicaSet) -> Result<(), Error> {
        let source = match api.create(&PostParams::default(), set).await {
            Ok(created) => {
                let name = created.metadata.name.clone().unwrap_or_default();
                self.sets.wrote(created);
                self.tell_scaling(deployment, &name, 0, size(set));
                return Ok(());
            }
            Err(source) => source,
        };
        if !is_status(&source, 409) {
            self.recorder.warning(
                deployment,
                "ReplicaSetCreateError",
                format!("Failed to create new replica set: {}", sentence(&source)),
            );
            return Err(Error::api("creating a ReplicaSet")(source));
        }
        // The name is taken. Either this very set exists and the watch has not told yet, or the hash collides.
        let name = set.metadata.name.as_deref().unwrap_or_default();
        let holder = api.get(name).await.map_err(Error::api("reading a ReplicaSet"))?;
        let template = |set: &ReplicaSet| set.spec.as_ref().and_then(|spec| spec.template.clone()).unwrap_or_default();
        let uid = deployment.metadata.uid.as_deref().unwrap_or_default();
        if pods::is_controlled_by(&holder.metadata, uid) && same(&template(&holder), &template(set)) {
            self.sets.wrote(holder);
            return Ok(());
        }
        let collisions = deployment.status.as_ref().and_then(|status| status.collision_count).unwrap_or(0);
        let patch = json!({"status": {"collisionCount": collisions + 1}});
        let namespace = deployment.metadata.namespace.as_deref().unwrap_or_default();
        let api: Api<Deployment> = Api::namespaced(self.client.clone(), namespace);
        let patched = api
            .patch_status(
                deployment.metadata.name.as_deref().unwrap_or_default(),
                &PatchParams::default(),
                &Patch::Merge(patch),
            )
            .await
            .map_err(Error::api("counting a hash collision"))?;
        self.deployments.wrote(patched);
        Err(Error::api("creating a ReplicaSet")(source))
    }

    fn tell_scaling(&self, deployment: &Deployment, set: &str, before: i32, after: i32) {
        if before == after {
            return;
        }
        let direction = if after > before { "up" } else { "down" };
        let message = format!("Scaled {direction} replica set {set} from {before} to {after}");
        self.recorder.normal(deployment, "ScalingReplicaSet", message);
    }

    async fn write_status(&self, key: &Key) -> Result<Next, Error> {
        let Some(deployment) = self.deployments.get(key) else { return Ok(Next::Wait) };
        let (wanted, next) = status(&deployment, &self.own_sets(&deployment), Timestamp::now());
        if !deployment.status.as_ref().is_some_and(|known| is_same(known, &wanted)) {
            let updated = Deployment { status: Some(wanted), ..(*deployment).clone() };
            let api: Api<Deployment> = Api::namespaced(self.client.clone(), &key.namespace);
            match api.replace_status(&key.name, &PostParams::default(), &updated).await {
                Ok(written) => self.deployments.wrote(written),
                Err(source) if is_status(&source, 404) => return Ok(Next::Wait),
                Err(source) => return Err(Error::api("writing the status")(source)),
            }
        }
        Ok(next.map_or(Next::Wait, Next::After))
    }
}
