//! Empties namespaces that are being deleted, then lets them go (A-090, S-234).

use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::core::v1::Namespace;
use kube::api::{DeleteParams, DynamicObject, ListParams, PostParams, Preconditions};
use kube::core::PartialObjectMeta;
use kube::{Api, Client};

use crate::cache::{Cache, Key};
use crate::caches::Caches;
use crate::error::{Error, is_status};
use crate::queue::{Backoff, Queue, Reason};
use crate::served::Kind;
use crate::worker::{Next, Reconciler};

const BACKOFF: Backoff = Backoff { base: Duration::from_millis(50), cap: Duration::from_secs(60), retries: 100 };

/// How often to look whether what was deleted is gone: pods take their grace period, finalizers any time.
const LOOK_AGAIN: Duration = Duration::from_millis(200);

/// The finalizer in `spec.finalizers` that stands for the contents.
const FINALIZER: &str = "kubernetes";

/// The controller; keys are namespaces.
pub(crate) struct Namespaces {
    client: Client,
    kinds: Arc<[Kind]>,
    namespaces: Arc<Cache<Namespace>>,
    queue: Arc<Queue<Key>>,
}

/// Makes the controller and has the caches feed its queue.
pub(crate) fn wire(client: Client, caches: &Caches, kinds: Arc<[Kind]>) -> Arc<Namespaces> {
    let queue = Arc::new(Queue::new(BACKOFF));
    let to = queue.clone();
    caches.namespaces.on_change(move |change| {
        if let Some(namespace) = change.after.filter(|namespace| needs_emptying(namespace)) {
            to.add(Key::of(&namespace.metadata), "the namespace is being deleted");
        }
    });
    Arc::new(Namespaces { client, kinds, namespaces: caches.namespaces.clone(), queue })
}

fn needs_emptying(namespace: &Namespace) -> bool {
    let finalizers = namespace.spec.as_ref().and_then(|spec| spec.finalizers.as_deref()).unwrap_or_default();
    namespace.metadata.deletion_timestamp.is_some() && finalizers.iter().any(|finalizer| finalizer == FINALIZER)
}

impl Reconciler for Namespaces {
    const NAME: &'static str = "namespace";
    type Key = Key;

    fn queue(&self) -> &Queue<Key> {
        &self.queue
    }

    fn add_all(&self, reason: Reason) {
        for namespace in self.namespaces.all().iter().filter(|namespace| needs_emptying(namespace)) {
            self.queue.add(Key::of(&namespace.metadata), reason);
        }
    }

    async fn reconcile(&self, key: &Key) -> Result<Next, Error> {
        let Some(namespace) = self.namespaces.get(key).filter(|namespace| needs_emptying(namespace)) else {
            return Ok(Next::Wait);
        };
        let mut left = 0;
        for kind in self.kinds.iter().filter(|kind| kind.namespaced) {
            left += self.empty(kind, &key.name).await?;
        }
        if left > 0 {
            tracing::debug!(namespace = %key, left, "waiting for objects to go");
            return Ok(Next::After(LOOK_AGAIN));
        }
        self.finalize(&namespace).await?;
        Ok(Next::Wait)
    }
}

impl Namespaces {
    /// Asks every object of one kind to go and counts those that have not gone at once.
    async fn empty(&self, kind: &Kind, namespace: &str) -> Result<usize, Error> {
        let api: Api<PartialObjectMeta<DynamicObject>> =
            Api::namespaced_with(self.client.clone(), namespace, &kind.resource);
        let listed = api.list(&ListParams::default()).await.map_err(Error::api("listing the contents"))?;
        let mut left = 0;
        for object in listed.items {
            if object.metadata.deletion_timestamp.is_some() {
                left += 1;
                continue;
            }
            let uid = object.metadata.uid;
            let params = DeleteParams::background().preconditions(Preconditions { uid, resource_version: None });
            match api.delete(&object.metadata.name.unwrap_or_default(), &params).await {
                Ok(_) => left += 1,
                Err(source) if is_status(&source, 404) || is_status(&source, 409) => left += 1,
                Err(source) => return Err(Error::api("deleting the contents")(source)),
            }
        }
        if left > 0 {
            // Most kinds go at once: the next look need not wait for them.
            let now = api.list(&ListParams::default()).await.map_err(Error::api("listing the contents"))?;
            left = now.items.len();
        }
        Ok(left)
    }

    async fn finalize(&self, namespace: &Namespace) -> Result<(), Error> {
        let mut empty = namespace.clone();
        if let Some(finalizers) = empty.spec.as_mut().and_then(|spec| spec.finalizers.as_mut()) {
            finalizers.retain(|finalizer| finalizer != FINALIZER);
        }
        let api: Api<Namespace> = Api::all(self.client.clone());
        let name = namespace.metadata.name.as_deref().unwrap_or_default();
        match api.replace_subresource("finalize", name, &PostParams::default(), &empty).await {
            Ok(_) => Ok(()),
            Err(source) if is_status(&source, 404) => Ok(()),
            Err(source) => Err(Error::api("finalizing the namespace")(source)),
        }
    }
}
