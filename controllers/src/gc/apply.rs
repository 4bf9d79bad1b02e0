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

use super::graph::{Case, FOREGROUND, Graph, ORPHAN, Reference};
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
        for uid in candidates {
            self.queue.add(uid, reason);
        }
    }

    async fn reconcile(&self, uid: &String) -> Result<Next, Error> {
        let Some(case) = self.graph().case(uid).cloned() else { return Ok(Next::Wait) };
        if case.deleting && case.orphan {
            self.orphan_dependants(uid, &case).await?;
            return Ok(Next::Wait);
        }
        if case.waits() {
            self.wait_for_dependants(uid, &case).await?;
        }
        if case.owners.is_empty() {
            return Ok(Next::Wait);
        }
        let mut owners = Vec::with_capacity(case.owners.len());
        for reference in &case.owners {
            owners.push(self.look_up(&case, reference).await?);
        }
        let has_dependants = self.graph().dependants(uid).next().is_some();
        match verdict(&case, &owners, has_dependants) {
            Verdict::Keep => {}
            Verdict::Delete(propagation) => self.delete(uid, &case, propagation).await?,
            Verdict::Unlink(owners) => self.unlink(uid, &case, &owners).await?,
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
        let served = |owner: &OwnerReference| {
            let is_its =
                |kind: &Kind| kind.resource.kind == owner.kind && kind.resource.api_version == owner.api_version;
            self.kinds.iter().position(is_its)
        };
        let case = Case::of(kind, &object.metadata, served);
        let look = self.graph().put(uid, kind, case);
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

    fn api(&self, case: &Case) -> Option<Api<Metadata>> {
        Some(self.kinds.get(case.kind)?.api(&self.client, &case.key.namespace))
    }

    /// How a reference stands; the server has the last word before anything counts as absent.
    async fn look_up(&self, dependant: &Case, reference: &Reference) -> Result<Owner, Error> {
        {
            let graph = self.graph();
            if graph.contains(&reference.uid) {
                let waits = graph.case(&reference.uid).is_some_and(Case::waits);
                return Ok(if waits { Owner::Waiting } else { Owner::There });
            }
        }
        let Some(kind) = reference.kind.and_then(|index| self.kinds.get(index)) else { return Ok(Owner::Unknown) };
        if kind.namespaced && dependant.key.namespace.is_empty() {
            return Ok(Owner::Unknown);
        }
        let api: Api<Metadata> = kind.api(&self.client, &dependant.key.namespace);
        match api.get_opt(&reference.name).await.map_err(Error::api("looking an owner up"))? {
            Some(found) if found.metadata.uid.as_deref() == Some(&*reference.uid) => Ok(Owner::There),
            _ => Ok(Owner::Absent),
        }
    }

    async fn delete(&self, uid: &str, case: &Case, propagation: Propagation) -> Result<(), Error> {
        let Some(api) = self.api(case) else { return Ok(()) };
        tracing::debug!(object = %case.key, ?propagation, "deleting: no owner is left");
        let params = match propagation {
            Propagation::Background => DeleteParams::background(),
            Propagation::Foreground => DeleteParams::foreground(),
            Propagation::Orphan => DeleteParams::orphan(),
        };
        let params = params.preconditions(Preconditions { uid: Some(uid.to_owned()), resource_version: None });
        match api.delete(&case.key.name, &params).await {
            Ok(_) => Ok(()),
            Err(source) if is_status(&source, 404) || is_status(&source, 409) => Ok(()),
            Err(source) => Err(Error::api("deleting a dependant")(source)),
        }
    }

    async fn unlink(&self, uid: &str, case: &Case, owners: &BTreeSet<String>) -> Result<(), Error> {
        self.edit(uid, case, |object| {
            let mut left = object.metadata.owner_references.clone().unwrap_or_default();
            left.retain(|owner| !owners.contains(&owner.uid));
            json!({"ownerReferences": left})
        })
        .await
    }

    async fn wait_for_dependants(&self, uid: &str, case: &Case) -> Result<(), Error> {
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
        self.remove_finalizer(uid, case, FOREGROUND).await
    }

    async fn orphan_dependants(&self, uid: &str, case: &Case) -> Result<(), Error> {
        let dependants: Vec<(String, Case)> = {
            let graph = self.graph();
            graph.dependants(uid).map(|(dependant, case)| (dependant.to_owned(), case.clone())).collect()
        };
        let this = BTreeSet::from([uid.to_owned()]);
        for (dependant, its_case) in dependants {
            self.unlink(&dependant, &its_case, &this).await?;
        }
        self.remove_finalizer(uid, case, ORPHAN).await
    }

    async fn remove_finalizer(&self, uid: &str, case: &Case, name: &str) -> Result<(), Error> {
        self.edit(uid, case, |object| {
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
        case: &Case,
        change: impl Fn(&Metadata) -> serde_json::Value + Send,
    ) -> Result<(), Error> {
        let Some(api) = self.api(case) else { return Ok(()) };
        let found = api.get_opt(&case.key.name).await.map_err(Error::api("reading an object"))?;
        let Some(found) = found.filter(|found| found.metadata.uid.as_deref() == Some(uid)) else { return Ok(()) };
        let mut metadata = change(&found);
        metadata["uid"] = json!(uid);
        metadata["resourceVersion"] = json!(found.metadata.resource_version);
        let patch = Patch::Merge(json!({"metadata": metadata}));
        match api.patch(&case.key.name, &PatchParams::default(), &patch).await {
            Ok(_) => Ok(()),
            Err(source) if is_status(&source, 404) => Ok(()),
            Err(source) => Err(Error::api("editing an object")(source)),
        }
    }
}
