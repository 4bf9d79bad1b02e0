//! Watches the metadata of every kind and carries out verdicts.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures::StreamExt;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use kube::api::{DeleteParams, Patch, PatchParams, Preconditions};
use kube::runtime::watcher::{self, Event};
use kube::runtime::{WatchStreamExt, watcher as watch};
use kube::{Api, Client};
use serde_json::json;
use tokio::sync::watch as flag;
use tokio_util::sync::CancellationToken;

use super::graph::{Entry, FOREGROUND, Graph, ORPHAN};
use super::metadata::Metadata;
use super::verdict::{Owner, Propagation, Verdict, blocks, verdict};
use crate::error::{Error, is_status};
use crate::queue::{Backoff, Queue, Reason};
use crate::served::Kind;
use crate::worker::{Next, Reconciler};

const BACKOFF: Backoff = Backoff { base: Duration::from_millis(50), cap: Duration::from_secs(60), retries: 100 };

/// The controller; keys are uids.
pub(crate) struct Collector {
    client: Client,
    kinds: Arc<[Kind]>,
    graph: Mutex<Graph>,
    queue: Queue<String>,
    /// How many kinds have been listed.
    listed: flag::Sender<BTreeSet<usize>>,
}

/// Makes the collector; each of `kinds` needs a [`watch_kind`].
pub(crate) fn wire(client: Client, kinds: Arc<[Kind]>) -> Arc<Collector> {
    let listed = flag::Sender::new(BTreeSet::new());
    Arc::new(Collector { client, kinds, graph: Mutex::default(), queue: Queue::new(BACKOFF), listed })
}

/// Feeds the collector with the objects of the kind at `index` until `shutdown`.
pub(crate) async fn watch_kind(collector: Arc<Collector>, index: usize, shutdown: CancellationToken) {
    let Some(kind) = collector.kinds.get(index) else { return };
    if kind.resource.kind == "Event" {
        // Nothing owns Events, and they own nothing.
        collector.listed.send_modify(|listed| listed.extend([index]));
        return;
    }
    let api: Api<Metadata> = Api::all_with(collector.client.clone(), &kind.resource);
    let mut events = std::pin::pin!(watch(api, watcher::Config::default()).default_backoff());
    let mut unlisted = BTreeSet::new();
    loop {
        let event = tokio::select! {
            () = shutdown.cancelled() => return,
            event = events.next() => event,
        };
        match event {
            Some(Ok(Event::Init)) => unlisted = collector.graph().of_kind(index),
            Some(Ok(Event::InitApply(object))) => {
                unlisted.remove(object.metadata.uid.as_deref().unwrap_or_default());
                collector.put(index, &object);
            }
            Some(Ok(Event::InitDone)) => {
                for uid in std::mem::take(&mut unlisted) {
                    collector.remove(&uid);
                }
                collector.listed.send_modify(|listed| listed.extend([index]));
            }
            Some(Ok(Event::Apply(object))) => collector.put(index, &object),
            Some(Ok(Event::Delete(object))) => {
                collector.remove(object.metadata.uid.as_deref().unwrap_or_default());
            }
            Some(Err(error)) => tracing::warn!(kind = kind.resource.kind, %error, "watch interrupted, will be resumed"),
            None => return,
        }
    }
}

impl Reconciler for Collector {
    const NAME: &'static str = "garbage-collector";
    type Key = String;

    fn queue(&self) -> &Queue<String> {
        &self.queue
    }

    fn add_all(&self, reason: Reason) {
        let candidates = self.graph().candidates();
        for uid in candidates.into_keys() {
            self.queue.add(uid, reason);
        }
    }

    async fn reconcile(&self, uid: &String) -> Result<Next, Error> {
        let Some(entry) = self.graph().get(uid).cloned() else { return Ok(Next::Wait) };
        if entry.deleting && entry.orphan {
            self.orphan_dependants(uid, &entry).await?;
            return Ok(Next::Wait);
        }
        if entry.waits() {
            self.wait_for_dependants(uid, &entry).await?;
        }
        if entry.owners.is_empty() {
            return Ok(Next::Wait);
        }
        let mut owners = Vec::with_capacity(entry.owners.len());
        for reference in &entry.owners {
            owners.push(self.look_up(&entry, reference).await?);
        }
        let has_dependants = self.graph().dependants(uid).next().is_some();
        match verdict(&entry, &owners, has_dependants) {
            Verdict::Keep => {}
            Verdict::Delete(propagation) => self.delete(uid, &entry, propagation).await?,
            Verdict::Unlink(owners) => self.unlink(uid, &entry, &owners).await?,
        }
        Ok(Next::Wait)
    }
}

impl Collector {
    /// Resolves when every kind has been listed: before that, owners would seem absent.
    pub(crate) async fn synced(&self) {
        let all = self.kinds.len();
        // The sender lives in self, so the wait can only end with the condition.
        let _ = self.listed.subscribe().wait_for(|listed| listed.len() >= all).await;
    }

    fn graph(&self) -> MutexGuard<'_, Graph> {
        // No code that can panic runs under the lock.
        self.graph.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn put(&self, kind: usize, object: &Metadata) {
        let Some(uid) = &object.metadata.uid else { return };
        let look = self.graph().put(uid, Entry::new(kind, &object.metadata));
        for uid in look {
            self.queue.add(uid, "an object or its owner changed");
        }
    }

    fn remove(&self, uid: &str) {
        let look = self.graph().remove(uid);
        for uid in look {
            self.queue.add(uid, "an owner or dependant is gone");
        }
    }

    fn api(&self, entry: &Entry) -> Option<Api<Metadata>> {
        Some(self.kinds.get(entry.kind)?.api(&self.client, &entry.key.namespace))
    }

    /// How a reference stands; the server has the last word before anything counts as absent.
    async fn look_up(&self, dependant: &Entry, reference: &OwnerReference) -> Result<Owner, Error> {
        if let Some(owner) = self.graph().get(&reference.uid) {
            return Ok(if owner.waits() { Owner::Waiting } else { Owner::There });
        }
        let kind = self
            .kinds
            .iter()
            .find(|kind| kind.resource.kind == reference.kind && kind.resource.api_version == reference.api_version);
        let Some(kind) = kind else { return Ok(Owner::Unknown) };
        if kind.namespaced && dependant.key.namespace.is_empty() {
            return Ok(Owner::Unknown);
        }
        let api: Api<Metadata> = kind.api(&self.client, &dependant.key.namespace);
        match api.get_opt(&reference.name).await.map_err(Error::api("looking an owner up"))? {
            Some(found) if found.metadata.uid.as_deref() == Some(reference.uid.as_str()) => Ok(Owner::There),
            _ => Ok(Owner::Absent),
        }
    }

    async fn delete(&self, uid: &str, entry: &Entry, propagation: Propagation) -> Result<(), Error> {
        let Some(api) = self.api(entry) else { return Ok(()) };
        tracing::debug!(object = %entry.key, ?propagation, "deleting: no owner is left");
        let params = match propagation {
            Propagation::Background => DeleteParams::background(),
            Propagation::Foreground => DeleteParams::foreground(),
            Propagation::Orphan => DeleteParams::orphan(),
        };
        let params = params.preconditions(Preconditions { uid: Some(uid.to_owned()), resource_version: None });
        match api.delete(&entry.key.name, &params).await {
            Ok(_) => Ok(()),
            Err(source) if is_status(&source, 404) || is_status(&source, 409) => Ok(()),
            Err(source) => Err(Error::api("deleting a dependant")(source)),
        }
    }

    async fn unlink(&self, uid: &str, entry: &Entry, owners: &BTreeSet<String>) -> Result<(), Error> {
        self.edit(uid, entry, |object| {
            let mut left = object.metadata.owner_references.clone().unwrap_or_default();
            left.retain(|owner| !owners.contains(&owner.uid));
            json!({"ownerReferences": left})
        })
        .await
    }

    async fn wait_for_dependants(&self, uid: &str, entry: &Entry) -> Result<(), Error> {
        let (waiting, look): (bool, Vec<String>) = {
            let graph = self.graph();
            let waiting = graph.dependants(uid).any(|(_, dependant)| blocks(dependant, uid));
            (waiting, graph.dependants(uid).map(|(dependant, _)| dependant.to_owned()).collect())
        };
        if waiting {
            for dependant in look {
                self.queue.add(dependant, "its owner waits for it");
            }
            return Ok(());
        }
        self.remove_finalizer(uid, entry, FOREGROUND).await
    }

    async fn orphan_dependants(&self, uid: &str, entry: &Entry) -> Result<(), Error> {
        let dependants: Vec<(String, Entry)> = {
            let graph = self.graph();
            graph.dependants(uid).map(|(dependant, entry)| (dependant.to_owned(), entry.clone())).collect()
        };
        let this = BTreeSet::from([uid.to_owned()]);
        for (dependant, its_entry) in dependants {
            self.unlink(&dependant, &its_entry, &this).await?;
        }
        self.remove_finalizer(uid, entry, ORPHAN).await
    }

    async fn remove_finalizer(&self, uid: &str, entry: &Entry, name: &str) -> Result<(), Error> {
        self.edit(uid, entry, |object| {
            let mut left = object.metadata.finalizers.clone().unwrap_or_default();
            left.retain(|finalizer| finalizer != name);
            json!({"finalizers": left})
        })
        .await
    }

    /// Changes an object's metadata from its latest state; loses against a concurrent change and is then repeated.
    async fn edit(
        &self,
        uid: &str,
        entry: &Entry,
        change: impl Fn(&Metadata) -> serde_json::Value + Send,
    ) -> Result<(), Error> {
        let Some(api) = self.api(entry) else { return Ok(()) };
        let found = api.get_opt(&entry.key.name).await.map_err(Error::api("reading an object"))?;
        let Some(found) = found.filter(|found| found.metadata.uid.as_deref() == Some(uid)) else { return Ok(()) };
        let mut metadata = change(&found);
        metadata["uid"] = json!(uid);
        metadata["resourceVersion"] = json!(found.metadata.resource_version);
        let patch = Patch::Merge(json!({"metadata": metadata}));
        match api.patch(&entry.key.name, &PatchParams::default(), &patch).await {
            Ok(_) => Ok(()),
            Err(source) if is_status(&source, 404) => Ok(()),
            Err(source) => Err(Error::api("editing an object")(source)),
        }
    }
}
