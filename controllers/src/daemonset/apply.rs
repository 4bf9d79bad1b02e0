//! Carries out what [`desired`] plans, and keeps the revisions.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::apps::v1::{ControllerRevision, DaemonSet, DaemonSetStatus};
use k8s_openapi::api::core::v1::Node;
use kube::api::PostParams;
use kube::{Api, Client};

use super::desired::{Plan, desired, status};
use super::pod::{pod, target};
use crate::cache::{Cache, Key};
use crate::caches::Caches;
use crate::error::{Error, is_status};
use crate::events::Recorder;
use crate::owners;
use crate::pod::Pod;
use crate::pod_writer::{PodWriter, claim, concerned};
use crate::pods;
use crate::queue::{Backoff, Queue, Reason};
use crate::revisions::{HASH_LABEL, Revisions, short};
use crate::worker::{Next, Reconciler};

const BACKOFF: Backoff = Backoff { base: Duration::from_millis(20), cap: Duration::from_secs(300), retries: 100 };

/// The controller; keys are DaemonSets.
pub(crate) struct DaemonSets {
    client: Client,
    sets: Arc<Cache<DaemonSet>>,
    nodes: Arc<Cache<Node>>,
    writer: PodWriter,
    revisions: Revisions,
    queue: Arc<Queue<Key>>,
}

/// Makes the controller and has the caches feed its queue.
pub(crate) fn wire(client: Client, caches: &Caches, recorder: &Recorder) -> Arc<DaemonSets> {
    let queue = Arc::new(Queue::new(BACKOFF));
    let to = queue.clone();
    caches.daemon_sets.on_change(move |change| {
        if let Some(set) = change.states().last() {
            to.add(Key::of(&set.metadata), "the DaemonSet changed");
        }
    });
    let (known, to) = (caches.daemon_sets.clone(), queue.clone());
    caches.pods.on_change(move |change| {
        for pod in change.states() {
            for key in concerned(&known, pod, |set| set.spec.as_ref().map(|spec| &spec.selector)) {
                to.add(key, "a pod changed");
            }
        }
    });
    let (known, to) = (caches.daemon_sets.clone(), queue.clone());
    caches.nodes.on_change(move |change| {
        if let (Some(before), Some(after)) = (change.before, change.after)
            && before.metadata.labels == after.metadata.labels
            && before.spec == after.spec
        {
            // A heartbeat.
            return;
        }
        for set in known.all() {
            to.add(Key::of(&set.metadata), "a node changed");
        }
    });
    let recorder = recorder.named("daemonset-controller");
    Arc::new(DaemonSets {
        sets: caches.daemon_sets.clone(),
        nodes: caches.nodes.clone(),
        writer: PodWriter { client: client.clone(), pods: caches.pods.clone(), recorder },
        revisions: Revisions { client: client.clone(), cache: caches.revisions.clone() },
        client,
        queue,
    })
}

impl Reconciler for DaemonSets {
    const NAME: &'static str = "daemonset";
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
        if set.metadata.deletion_timestamp.is_some() {
            return Ok(Next::Wait);
        }
        match self.run(&set).await {
            // It will vanish with its namespace.
            Err(error) if owners::is_namespace_terminating(&error) => Ok(Next::Wait),
            other => other,
        }
    }
}

/// Zero and absent are the same to the server.
fn normal(mut status: DaemonSetStatus) -> DaemonSetStatus {
    for field in [&mut status.number_available, &mut status.number_unavailable, &mut status.updated_number_scheduled] {
        field.get_or_insert(0);
    }
    status
}

impl DaemonSets {
    fn own_pods(&self, set: &DaemonSet) -> Vec<Arc<Pod>> {
        let uid = set.metadata.uid.as_deref().unwrap_or_default();
        let mut pods = self.writer.pods.in_namespace(set.metadata.namespace.as_deref().unwrap_or_default());
        pods.retain(|pod| pods::is_controlled_by(&pod.metadata, uid));
        pods
    }

    async fn run(&self, set: &DaemonSet) -> Result<Next, Error> {
        let Some(spec) = &set.spec else { return Ok(Next::Wait) };
        let uid = set.metadata.uid.as_deref().unwrap_or_default();
        let all = self.writer.pods.in_namespace(set.metadata.namespace.as_deref().unwrap_or_default());
        let has_node = |pod: &Pod| target(pod).is_some();
        self.writer.settle(set, &claim(uid, &spec.selector, &all, has_node)).await?;
        let revision = self.revisions.ensure(set, &spec.template).await?;
        let hash = short(&revision);
        let plan = desired(set, &self.nodes.all(), &self.own_pods(set), &hash, Timestamp::now());
        let again = plan.again;
        let outcome = self.apply(set, plan, &hash).await;
        // The pods as they are after our own writes.
        let status = self.write_status(set, &hash).await;
        outcome.and(status)?;
        self.prune(set, &revision).await?;
        Ok(again.map_or(Next::Wait, Next::After))
    }

    async fn apply(&self, set: &DaemonSet, plan: Plan, hash: &str) -> Result<(), Error> {
        let Some(spec) = &set.spec else { return Ok(()) };
        for pod in plan.delete {
            if pods::is_finished(&pod) {
                let name = pod.metadata.name.as_deref().unwrap_or_default();
                let node = pods::node_name(&pod).unwrap_or_default();
                let message = format!("Found failed daemon pod {name} on node {node}, will try to kill it");
                self.writer.recorder.warning(set, "FailedDaemonPod", message);
            }
            self.writer.delete(set, &pod).await?;
        }
        let new = plan.create.iter().map(|node| pod(set, &spec.template, hash, node)).collect();
        self.writer.create_all(set, new).await
    }

    async fn prune(&self, set: &DaemonSet, present: &ControllerRevision) -> Result<(), Error> {
        let hash_of = |pod: &Arc<Pod>| pod.labels.get(HASH_LABEL).map(str::to_owned);
        let hashes: BTreeSet<String> = self.own_pods(set).iter().filter_map(hash_of).collect();
        let in_use = |revision: &&Arc<ControllerRevision>| hashes.contains(&short(revision));
        let mut live: BTreeSet<String> = self
            .revisions
            .of(set)
            .iter()
            .filter(in_use)
            .filter_map(|revision| revision.metadata.name.clone())
            .collect();
        live.extend(present.metadata.name.clone());
        let limit = set.spec.as_ref().and_then(|spec| spec.revision_history_limit).unwrap_or(10);
        self.revisions.prune(set, &live, limit).await
    }

    async fn write_status(&self, set: &DaemonSet, hash: &str) -> Result<(), Error> {
        let wanted = status(set, &self.nodes.all(), &self.own_pods(set), hash, Timestamp::now());
        if set.status.clone().map(normal).as_ref() == Some(&wanted) {
            return Ok(());
        }
        let key = Key::of(&set.metadata);
        let updated = DaemonSet { status: Some(wanted), ..set.clone() };
        let api: Api<DaemonSet> = Api::namespaced(self.client.clone(), &key.namespace);
        match api.replace_status(&key.name, &PostParams::default(), &updated).await {
            Ok(written) => self.sets.wrote(written),
            Err(source) if is_status(&source, 404) => {}
            Err(source) => return Err(Error::api("writing the status")(source)),
        }
        Ok(())
    }
}
