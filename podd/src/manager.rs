//! The pods of one node: each has a worker, if the node can take it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt as _;
use k8s_openapi::api::core::v1::Pod;
use kube::runtime::{WatchStreamExt as _, watcher};
use kube::{Api, ResourceExt as _};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tracing::{Instrument as _, error, info_span, warn};

use crate::address::AddressPools;
use crate::pod::admission;
use crate::pod::publish::{Outcome, patch_status};
use crate::pod::worker::{Desired, Worker};
use crate::shared::{Node, Shared, lock, reference};

/// Pause after the API did not take that a pod is rejected.
const REJECT_PAUSE: Duration = Duration::from_secs(1);

/// Gives each pod of one node a worker.
pub(crate) struct Manager {
    shared: Arc<Shared>,
    node: Arc<Node>,
    /// By uid.
    workers: BTreeMap<String, watch::Sender<Desired>>,
    running: JoinSet<String>,
    /// Pods of the list that is being received.
    listing: Option<Vec<Pod>>,
    /// Whether a list has been received.
    listed: bool,
}

impl Manager {
    pub(crate) fn new(shared: Arc<Shared>, node: Arc<Node>) -> Self {
        Self { shared, node, workers: BTreeMap::new(), running: JoinSet::new(), listing: None, listed: false }
    }

    pub(crate) async fn run(mut self) {
        let pods: Api<Pod> = Api::all(self.shared.client.clone());
        let config = watcher::Config::default().fields(&format!("spec.nodeName={}", self.node.config.name));
        let slim = watcher(pods, config).default_backoff().modify(|pod| pod.managed_fields_mut().clear());
        let mut events = std::pin::pin!(slim);
        let shutdown = self.shared.shutdown.clone();
        loop {
            tokio::select! {
                event = events.next() => match event {
                    Some(Ok(event)) => self.handle(event),
                    Some(Err(error)) => warn!(%error, "the list of pods is not up to date"),
                    None => break,
                },
                Some(ended) = self.running.join_next() => self.ended(ended),
                () = shutdown.cancelled() => break,
            }
        }
        // Each worker has seen the same token.
        while let Some(ended) = self.running.join_next().await {
            self.ended(ended);
        }
    }

    fn handle(&mut self, event: watcher::Event<Pod>) {
        match event {
            watcher::Event::Init => self.listing = Some(Vec::new()),
            watcher::Event::InitApply(pod) => self.listing.get_or_insert_default().push(pod),
            watcher::Event::InitDone => self.listed(),
            watcher::Event::Apply(pod) => self.apply(pod),
            watcher::Event::Delete(pod) => self.removed(&pod),
        }
    }

    fn listed(&mut self) {
        let mut pods = self.listing.take().unwrap_or_default();
        if !std::mem::replace(&mut self.listed, true) {
            let used = pods.iter().filter_map(|pod| pod.status.as_ref()?.pod_ips.as_ref()).flatten();
            let used = used.filter_map(|ip| ip.ip.parse().ok());
            *lock(&self.node.addresses) = AddressPools::new(&self.node.config.pod_cidrs, used);
        }
        let there: BTreeSet<String> = pods.iter().filter_map(|pod| pod.metadata.uid.clone()).collect();
        for (_, desired_tx) in self.workers.iter().filter(|(uid, _)| !there.contains(*uid)) {
            desired_tx.send_modify(|desired| desired.removed = true);
        }
        // After a restart, who was here first keeps what only one can have.
        pods.sort_by_key(|pod| pod.metadata.creation_timestamp.clone());
        for pod in pods {
            self.apply(pod);
        }
    }

    fn apply(&mut self, pod: Pod) {
        let Some(uid) = pod.metadata.uid.clone() else { return };
        if let Some(desired_tx) = self.workers.get(&uid) {
            desired_tx.send_modify(|desired| desired.pod = Arc::new(pod));
            return;
        }
        // A pod that ended in an earlier run of the lab, or was never ours to run.
        if matches!(pod.status.as_ref().and_then(|s| s.phase.as_deref()), Some("Succeeded" | "Failed")) {
            return;
        }
        let key = (pod.namespace().unwrap_or_default(), pod.name_any());
        let span = info_span!("pod", namespace = key.0, name = key.1);
        let pod = Arc::new(pod);
        if let Some(problem) = self.refusal(&pod) {
            let (desired_tx, _) = watch::channel(Desired { pod: Arc::clone(&pod), removed: false });
            self.workers.insert(uid.clone(), desired_tx);
            let shared = Arc::clone(&self.shared);
            self.running.spawn(async move {
                reject(&shared, &pod, problem).await;
                uid
            });
            return;
        }
        let worker = Worker::new(Arc::clone(&self.shared), Arc::clone(&self.node), Arc::clone(&pod));
        let handle = worker.handle();
        handle.set_node(&self.node.config.name);
        lock(&self.shared.pods).insert(key.clone(), handle);
        // manager → worker: the latest object only, so it can never fill up.
        let (desired_tx, desired_rx) = watch::channel(Desired { pod, removed: false });
        self.workers.insert(uid.clone(), desired_tx);
        let shared = Arc::clone(&self.shared);
        let run = async move {
            worker.run(desired_rx).await;
            let mut pods = lock(&shared.pods);
            // A namesake may have come meanwhile.
            if pods.get(&key).is_some_and(|handle| handle.uid == uid) {
                pods.remove(&key);
            }
            uid
        };
        self.running.spawn(run.instrument(span));
    }

    /// Why the node cannot run the pod, beside those that it runs.
    fn refusal(&self, pod: &Pod) -> Option<String> {
        let others: Vec<Desired> = self.workers.values().map(|desired_tx| desired_tx.borrow().clone()).collect();
        let others = others.iter().filter(|other| !other.removed).map(|other| other.pod.as_ref());
        admission::taken(pod, others)
    }

    fn removed(&self, pod: &Pod) {
        let uid = pod.metadata.uid.as_deref().unwrap_or_default();
        if let Some(desired_tx) = self.workers.get(uid) {
            desired_tx.send_modify(|desired| desired.removed = true);
        }
    }

    fn ended(&mut self, ended: Result<String, tokio::task::JoinError>) {
        match ended {
            Ok(uid) => {
                self.workers.remove(&uid);
            }
            Err(error) => error!(%error, "the worker of a pod failed; its processes die with the sandbox"),
        }
    }
}

/// Says that the pod is not run, until the API has taken it.
async fn reject(shared: &Shared, pod: &Pod, problem: String) {
    shared.recorder.record(reference(pod, None), true, admission::REASON, problem.clone());
    let before = pod.status.clone().unwrap_or_default();
    let status = admission::rejected(pod, problem);
    while patch_status(&shared.client, pod, &before, &status).await == Outcome::Failed {
        tokio::select! {
            () = shared.shutdown.cancelled() => return,
            () = tokio::time::sleep(REJECT_PAUSE) => {}
        }
    }
}
