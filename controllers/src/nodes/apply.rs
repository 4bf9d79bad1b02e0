//! Watches heartbeats and carries out what [`judge`](super::judge) says.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use jiff::Timestamp;
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::{Node, NodeSpec};
use kube::api::PostParams;
use kube::{Api, Client};
use serde_json::json;

use super::judge::{eviction, evicts, readiness, reported, silenced, tainted};
use super::tell::{condition, tell};
use crate::cache::{Cache, Key};
use crate::caches::Caches;
use crate::error::{Error, is_status};
use crate::events::Recorder;
use crate::pod::Pod;
use crate::pod_writer::delete_exactly;
use crate::pods;
use crate::queue::{Backoff, Queue, Reason};
use crate::worker::{Next, Reconciler};

const BACKOFF: Backoff = Backoff { base: Duration::from_millis(100), cap: Duration::from_secs(30), retries: 1000 };

/// Where nodes keep their heartbeats.
const LEASES: &str = "kube-node-lease";

/// The controller; keys are nodes.
pub(crate) struct Nodes {
    client: Client,
    grace: Duration,
    nodes: Arc<Cache<Node>>,
    pods: Arc<Cache<Pod>>,
    queue: Arc<Queue<Key>>,
    heartbeats: Arc<Mutex<Heartbeats>>,
    recorder: Recorder,
}

/// By node: the last renewal seen and when it was seen, by our own clock, so that clocks need not agree. One entry per
/// Lease. A node that never had one is not judged: nobody promised to report.
type Heartbeats = BTreeMap<String, (Option<Timestamp>, Instant)>;

/// Makes the controller and has the caches feed its queue; a node may be silent for `grace`.
pub(crate) fn wire(client: Client, caches: &Caches, recorder: &Recorder, grace: Duration) -> Arc<Nodes> {
    let queue = Arc::new(Queue::new(BACKOFF));
    let heartbeats: Arc<Mutex<Heartbeats>> = Arc::default();
    let (known, to) = (heartbeats.clone(), queue.clone());
    caches.leases.on_change(move |change| {
        let Some(lease) = change.states().last().filter(|lease| lease.metadata.namespace.as_deref() == Some(LEASES))
        else {
            return;
        };
        let Some(node) = lease.metadata.name.clone() else { return };
        let mut known = known.lock().unwrap_or_else(PoisonError::into_inner);
        if change.after.is_none() {
            // Without a Lease the silence goes on: its last heartbeat stays.
            return;
        }
        let renewed = renewal(lease);
        if known.get(&node).is_none_or(|(seen, _)| *seen != renewed) {
            let is_first = known.insert(node.clone(), (renewed, Instant::now())).is_none();
            if is_first {
                to.add(Key::new("", node), "first heartbeat");
            }
        }
    });
    let (known, to) = (heartbeats.clone(), queue.clone());
    caches.nodes.on_change(move |change| {
        let Some(node) = change.states().last() else { return };
        let name = node.metadata.name.as_deref().unwrap_or_default();
        let mut known = known.lock().unwrap_or_else(PoisonError::into_inner);
        if change.after.is_none() {
            known.remove(name);
        } else if let Some((_, seen)) = known.get_mut(name)
            && change.before.is_some_and(|before| reported(before) != reported(node))
        {
            // A node that comes back may say how it is before its first heartbeat.
            *seen = Instant::now();
        }
        drop(known);
        to.add(Key::of(&node.metadata), "the node changed");
    });
    let (nodes, to) = (caches.nodes.clone(), queue.clone());
    caches.pods.on_change(move |change| {
        let Some(name) = change.after.and_then(pods::node_name) else { return };
        let key = Key::new("", name);
        if nodes.get(&key).is_some_and(|node| readiness(&node) != Some("True") || evicts(&node)) {
            to.add(key, "a pod changed on a node that is not ready or drives pods away");
        }
    });
    let recorder = recorder.named("node-controller");
    let (nodes, pods) = (caches.nodes.clone(), caches.pods.clone());
    Arc::new(Nodes { client, grace, nodes, pods, queue, heartbeats, recorder })
}

fn renewal(lease: &Lease) -> Option<Timestamp> {
    Some(lease.spec.as_ref()?.renew_time.as_ref()?.0)
}

impl Reconciler for Nodes {
    const NAME: &'static str = "node";
    type Key = Key;

    fn queue(&self) -> &Queue<Key> {
        &self.queue
    }

    fn add_all(&self, reason: Reason) {
        for node in self.nodes.all() {
            self.queue.add(Key::of(&node.metadata), reason);
        }
    }

    async fn reconcile(&self, key: &Key) -> Result<Next, Error> {
        let Some(mut node) = self.nodes.get(key) else { return Ok(Next::Wait) };
        let mut next = None;
        let heartbeat = self.heartbeats.lock().unwrap_or_else(PoisonError::into_inner).get(&key.name).copied();
        if let Some((_, seen)) = heartbeat {
            let left = self.grace.saturating_sub(seen.elapsed());
            if left.is_zero() {
                node = self.silence(key, node).await?;
                next = Some(self.grace);
            } else {
                next = Some(left);
            }
        }
        node = self.taint(key, node).await?;
        let on_node = self.pods_of(&key.name);
        // A node that says itself that it is not ready still speaks for its pods.
        if readiness(&node) == Some("Unknown") {
            for pod in on_node.iter().filter(|pod| pods::is_ready(pod)) {
                self.mark_not_ready(pod).await?;
            }
        }
        for pod in on_node.iter().filter(|pod| pods::is_active(pod)) {
            match eviction(pod, &node, Timestamp::now()) {
                Some(left) if left.is_zero() => self.evict(pod).await?,
                Some(left) => next = Some(next.map_or(left, |known: Duration| known.min(left))),
                None => {}
            }
        }
        Ok(next.map_or(Next::Wait, Next::After))
    }
}

impl Nodes {
    fn pods_of(&self, node: &str) -> Vec<Arc<Pod>> {
        let mut pods = self.pods.all();
        pods.retain(|pod| pods::node_name(pod) == Some(node));
        pods
    }

    async fn silence(&self, key: &Key, node: Arc<Node>) -> Result<Arc<Node>, Error> {
        let Some(conditions) = silenced(&node, Timestamp::now()) else { return Ok(node) };
        let mut silent = (*node).clone();
        silent.status.get_or_insert_default().conditions = Some(conditions);
        let api: Api<Node> = Api::all(self.client.clone());
        let written = api
            .replace_status(&key.name, &PostParams::default(), &silent)
            .await
            .map_err(Error::api("marking a node as lost"))?;
        self.nodes.wrote(written.clone());
        self.recorder.normal(&written, "NodeNotReady", format!("Node {key} status is now: NodeNotReady"));
        Ok(Arc::new(written))
    }

    async fn taint(&self, key: &Key, node: Arc<Node>) -> Result<Arc<Node>, Error> {
        let Some(taints) = tainted(&node, Timestamp::now()) else { return Ok(node) };
        let spec = NodeSpec { taints: Some(taints), ..node.spec.clone().unwrap_or_default() };
        let changed = Node { spec: Some(spec), ..(*node).clone() };
        let api: Api<Node> = Api::all(self.client.clone());
        let written =
            api.replace(&key.name, &PostParams::default(), &changed).await.map_err(Error::api("tainting a node"))?;
        self.nodes.wrote(written.clone());
        Ok(Arc::new(written))
    }

    /// At once, so that the pod leaves its Services (P-118).
    async fn mark_not_ready(&self, pod: &Pod) -> Result<(), Error> {
        let not_ready = condition("Ready", false, "NodeNotReady", "The node is not ready.");
        tell(&self.client, &self.pods, pod, json!({"conditions": [not_ready]})).await
    }

    async fn evict(&self, pod: &Pod) -> Result<(), Error> {
        let key = Key::of(&pod.metadata);
        self.recorder.normal(pod, "TaintManagerEviction", format!("Marking for deletion Pod {key}"));
        let why = "Taint manager: deleting due to NoExecute taint";
        let disrupted = condition("DisruptionTarget", true, "DeletionByTaintManager", why);
        tell(&self.client, &self.pods, pod, json!({"conditions": [disrupted]})).await?;
        let api: Api<Pod> = Api::namespaced(self.client.clone(), &key.namespace);
        // Remembered at once, so that the next look does not evict it again.
        match delete_exactly(&api, pod).await {
            Ok(Some(going)) => self.pods.wrote(going),
            Ok(None) => self.pods.gone(&key),
            Err(source) if is_status(&source, 409) => {}
            Err(source) => return Err(Error::api("evicting a pod")(source)),
        }
        Ok(())
    }
}
