//! Binds pods to the nodes that [`place`] chooses.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Binding, Namespace, Node, ObjectReference};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, Time};
use kube::api::{Patch, PatchParams, PostParams};
use kube::core::Status;
use kube::{Api, Client};
use serde_json::json;

use super::around::World;
use super::ledger::Ledger;
use super::place::{Unschedulable, is_ours, place};
use crate::cache::{Cache, Change, Key};
use crate::caches::Caches;
use crate::error::{Error, is_status};
use crate::events::Recorder;
use crate::pod::Pod;
use crate::pods;
use crate::queue::{Backoff, Queue, Reason};
use crate::worker::{Next, Reconciler};

const BACKOFF: Backoff = Backoff { base: Duration::from_millis(100), cap: Duration::from_secs(60), retries: 100 };

/// The controller; keys are pods. It must run with one worker: each decision counts on the one before it.
pub(crate) struct Scheduler {
    client: Client,
    pods: Arc<Cache<Pod>>,
    nodes: Arc<Cache<Node>>,
    namespaces: Arc<Cache<Namespace>>,
    queue: Arc<Queue<Key>>,
    ledger: Arc<Mutex<Ledger>>,
    recorder: Recorder,
}

/// Makes the controller and has the caches feed its queue.
pub(crate) fn wire(client: Client, caches: &Caches, recorder: &Recorder) -> Arc<Scheduler> {
    let queue = Arc::new(Queue::new(BACKOFF));
    let ledger: Arc<Mutex<Ledger>> = Arc::default();
    let (known, to) = (ledger.clone(), queue.clone());
    caches.pods.on_change(move |change| {
        {
            let mut ledger = lock(&known);
            let concerned = ledger.changed(change.before, change.after);
            concerned.into_iter().for_each(|key| to.add(key, "another pod changed"));
        }
        if let Some(pod) = change.after.filter(|pod| is_ours(pod))
            && is_news(change)
        {
            to.add(Key::of(&pod.metadata), "a pod needs a node");
        }
    });
    let (pods, to) = (caches.pods.clone(), queue.clone());
    caches.nodes.on_change(move |_| add_waiting(&pods, &to, "a node changed"));
    let (pods, to) = (caches.pods.clone(), queue.clone());
    caches.namespaces.on_change(move |change| {
        let labels = |namespace: &Namespace| namespace.metadata.labels.clone();
        if change.before.map(labels) != change.after.map(labels) {
            add_waiting(&pods, &to, "a namespace changed");
        }
    });
    let recorder = recorder.named("default-scheduler");
    let (pods, nodes, namespaces) = (caches.pods.clone(), caches.nodes.clone(), caches.namespaces.clone());
    Arc::new(Scheduler { client, pods, nodes, namespaces, queue, ledger, recorder })
}

// A panic leaves it as whole as the statement it came from did.
fn lock(ledger: &Mutex<Ledger>) -> MutexGuard<'_, Ledger> {
    ledger.lock().unwrap_or_else(PoisonError::into_inner)
}

fn add_waiting(pods: &Cache<Pod>, queue: &Queue<Key>, reason: Reason) {
    for pod in pods.all().iter().filter(|pod| is_ours(pod)) {
        queue.add(Key::of(&pod.metadata), reason);
    }
}

/// Whether a change could alter the decision: our own condition on the pod does not.
fn is_news(change: &Change<'_, Pod>) -> bool {
    let (Some(before), Some(after)) = (change.before, change.after) else { return true };
    before.metadata.uid != after.metadata.uid || before.spec != after.spec || before.labels != after.labels
}

impl Reconciler for Scheduler {
    const NAME: &'static str = "scheduler";
    type Key = Key;

    fn queue(&self) -> &Queue<Key> {
        &self.queue
    }

    fn add_all(&self, reason: Reason) {
        add_waiting(&self.pods, &self.queue, reason);
    }

    async fn reconcile(&self, key: &Key) -> Result<Next, Error> {
        let (pod, choice) = {
            let mut ledger = lock(&self.ledger);
            let Some(pod) = self.pods.get(key).filter(|pod| is_ours(pod)) else {
                ledger.waits_no_more(key);
                return Ok(Next::Wait);
            };
            if ledger.assumed(&pod).is_some() {
                return Ok(Next::Wait);
            }
            let world =
                World { pods: &|| self.pods.all(), namespaces: &|name| self.namespaces.get(&Key::new("", name)) };
            let choice = place(&pod, &self.nodes.all(), &ledger, world);
            match &choice {
                Ok(node) => ledger.assume(pod.clone(), node.clone()),
                // Under the same lock, so that room made from now on brings it back.
                Err(_) => ledger.waits(&pod),
            }
            (pod, choice)
        };
        match choice {
            Ok(node) => self.bind(&pod, node).await,
            Err(reason) => self.explain(&pod, &reason).await,
        }
    }
}

impl Scheduler {
    /// Binds the pod to the node that it is assumed on.
    async fn bind(&self, pod: &Pod, node: String) -> Result<Next, Error> {
        let key = Key::of(&pod.metadata);
        let uid = pod.metadata.uid.clone().unwrap_or_default();
        let binding = Binding {
            metadata: ObjectMeta {
                name: Some(key.name.clone()),
                namespace: Some(key.namespace.clone()),
                uid: Some(uid.clone()),
                ..ObjectMeta::default()
            },
            target: ObjectReference {
                api_version: Some("v1".to_owned()),
                kind: Some("Node".to_owned()),
                name: Some(node.clone()),
                ..ObjectReference::default()
            },
        };
        let api: Api<Pod> = Api::namespaced(self.client.clone(), &key.namespace);
        let result: kube::Result<Status> =
            api.create_subresource("binding", &key.name, &PostParams::default(), &binding).await;
        match result {
            Ok(_) => {
                let message = format!("Successfully assigned {key} to {node}");
                self.recorder.normal(pod, "Scheduled", message);
                // The watch may have told of the binding, and the handler found nothing, before this returned.
                if self.pods.get(&key).is_none_or(|now| pods::node_name(&now).is_some()) {
                    lock(&self.ledger).forget(&uid);
                }
                Ok(Next::Wait)
            }
            Err(source) => {
                let mut ledger = lock(&self.ledger);
                if ledger.forget(&uid) {
                    ledger.waiting().for_each(|key| self.queue.add(key.clone(), "a pod was not bound"));
                }
                drop(ledger);
                if is_status(&source, 404) {
                    return Ok(Next::Wait);
                }
                Err(Error::api("binding a pod")(source))
            }
        }
    }

    /// Says why the pod has to wait; a change of nodes or pods brings it back here.
    async fn explain(&self, pod: &Pod, reason: &Unschedulable) -> Result<Next, Error> {
        let message = reason.to_string();
        let known = pods::condition(pod, "PodScheduled");
        if known.is_some_and(|known| known.status == "False" && known.message.as_ref() == Some(&message)) {
            return Ok(Next::Wait);
        }
        let since = known.filter(|known| known.status == "False").and_then(|known| known.last_transition_time.clone());
        let patch = json!({"status": {"conditions": [{
            "type": "PodScheduled",
            "status": "False",
            "reason": "Unschedulable",
            "message": message,
            "lastTransitionTime": since.unwrap_or_else(|| Time(Timestamp::now())),
        }]}});
        let key = Key::of(&pod.metadata);
        let api: Api<Pod> = Api::namespaced(self.client.clone(), &key.namespace);
        match api.patch_status(&key.name, &PatchParams::default(), &Patch::Strategic(patch)).await {
            Ok(patched) => self.pods.wrote(patched),
            Err(source) if is_status(&source, 404) => return Ok(Next::Wait),
            Err(source) => return Err(Error::api("marking a pod as unschedulable")(source)),
        }
        self.recorder.warning(pod, "FailedScheduling", message);
        Ok(Next::Wait)
    }
}
