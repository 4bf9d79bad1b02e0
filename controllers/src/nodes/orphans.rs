//! Removes pods that nobody else would (P-058): the node that should confirm their end does not exist.

use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::core::v1::Node;
use kube::api::{DeleteParams, Preconditions};
use kube::{Api, Client};
use serde_json::{Value, json};

use super::judge::is_orphan;
use super::tell::{condition, tell};
use crate::cache::{Cache, Key};
use crate::caches::Caches;
use crate::error::{Error, is_status};
use crate::pod::Pod;
use crate::pods;
use crate::queue::{Backoff, Queue, Reason};
use crate::worker::{Next, Reconciler};

const BACKOFF: Backoff = Backoff { base: Duration::from_millis(100), cap: Duration::from_secs(60), retries: 100 };

/// The controller; keys are pods.
pub(crate) struct Orphans {
    client: Client,
    /// How long a node may be missing.
    grace: Duration,
    nodes: Arc<Cache<Node>>,
    pods: Arc<Cache<Pod>>,
    queue: Arc<Queue<Key>>,
}

/// Makes the controller and has the caches feed its queue.
pub(crate) fn wire(client: Client, caches: &Caches, grace: Duration) -> Arc<Orphans> {
    let queue = Arc::new(Queue::new(BACKOFF));
    let (nodes, to) = (caches.nodes.clone(), queue.clone());
    caches.pods.on_change(move |change| {
        let Some(pod) = change.after else { return };
        if is_orphan(pod, |_| true) {
            to.add(Key::of(&pod.metadata), "a pod is to go and has no node");
        } else if is_orphan(pod, |node| nodes.get(&Key::new("", node)).is_some()) {
            to.add_after(Key::of(&pod.metadata), grace, "its node does not exist");
        }
    });
    let (pods, to) = (caches.pods.clone(), queue.clone());
    caches.nodes.on_change(move |change| {
        let (Some(node), None) = (change.before, change.after) else { return };
        for pod in pods.all().iter().filter(|pod| pods::node_name(pod) == node.metadata.name.as_deref()) {
            to.add_after(Key::of(&pod.metadata), grace, "its node is gone");
        }
    });
    Arc::new(Orphans { client, grace, nodes: caches.nodes.clone(), pods: caches.pods.clone(), queue })
}

impl Reconciler for Orphans {
    const NAME: &'static str = "pod-garbage";
    type Key = Key;

    fn queue(&self) -> &Queue<Key> {
        &self.queue
    }

    fn add_all(&self, reason: Reason) {
        for pod in self.pods.all() {
            if is_orphan(&pod, |node| self.nodes.get(&Key::new("", node)).is_some()) {
                self.queue.add_after(Key::of(&pod.metadata), self.grace, reason);
            }
        }
    }

    async fn reconcile(&self, key: &Key) -> Result<Next, Error> {
        let Some(pod) = self.pods.get(key) else { return Ok(Next::Wait) };
        if !is_orphan(&pod, |node| self.nodes.get(&Key::new("", node)).is_some()) {
            return Ok(Next::Wait);
        }
        if !pods::is_finished(&pod) {
            // Nobody else says how it ended, which a Job may wait for.
            let gone = condition("DisruptionTarget", true, "DeletionByPodGC", "PodGC: node no longer exists");
            let conditions: Vec<Value> = pods::node_name(&pod).map(|_| gone).into_iter().collect();
            tell(&self.client, &self.pods, &pod, json!({"phase": "Failed", "conditions": conditions})).await?;
        }
        let params = DeleteParams::background()
            .grace_period(0)
            .preconditions(Preconditions { uid: pod.metadata.uid.clone(), resource_version: None });
        let api: Api<Pod> = Api::namespaced(self.client.clone(), &key.namespace);
        match api.delete(&key.name, &params).await {
            Ok(_) => {}
            Err(source) if is_status(&source, 404) || is_status(&source, 409) => {}
            Err(source) => return Err(Error::api("removing a pod without a node")(source)),
        }
        Ok(Next::Wait)
    }
}
