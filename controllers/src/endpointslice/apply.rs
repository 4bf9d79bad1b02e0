//! Keeps the slices in the API server as [`plan`] says.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use k8s_openapi::api::core::v1::{Node, Pod, Service};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use kube::api::{DeleteParams, PostParams};
use kube::{Api, Client};

use super::desired::{NodeInfo, desired};
use super::plan::{Changes, MANAGED_BY, MANAGER, SERVICE_NAME, plan};
use crate::cache::{Cache, Key, Origin};
use crate::caches::Caches;
use crate::error::{Error, is_status};
use crate::events::Recorder;
use crate::membership;
use crate::queue::{Backoff, Queue, Reason};
use crate::trigger::{self, Seen};
use crate::worker::{Next, Reconciler};

/// S-204.
const BACKOFF: Backoff = Backoff { base: Duration::from_secs(1), cap: Duration::from_secs(1000), retries: 15 };

/// Label of nodes that endpoints inherit.
const ZONE: &str = "topology.kubernetes.io/zone";

/// The controller; keys are Services.
pub(crate) struct EndpointSlices {
    client: Client,
    services: Arc<Cache<Service>>,
    pods: Arc<Cache<Pod>>,
    nodes: Arc<Cache<Node>>,
    slices: Arc<Cache<EndpointSlice>>,
    queue: Arc<Queue<Key>>,
    /// Bounded by the Services there are: an entry goes with its Service.
    seen: Mutex<BTreeMap<Key, Seen>>,
    recorder: Recorder,
}

/// Makes the controller and has the caches feed its queue.
pub(crate) fn wire(client: Client, caches: &Caches, recorder: &Recorder) -> Arc<EndpointSlices> {
    let queue = Arc::new(Queue::new(BACKOFF));
    membership::feed(caches, &queue);
    let slice_queue = queue.clone();
    caches.slices.on_change(move |change| {
        // Our own writes are what we wanted. A write of somebody else is looked at (S-199), also when it took the
        // labels away: hence the state before.
        if change.origin == Origin::Watch {
            for key in change.states().filter_map(service_of) {
                slice_queue.add(key, "a slice was changed by somebody else");
            }
        }
    });
    Arc::new(EndpointSlices {
        client,
        services: caches.services.clone(),
        pods: caches.pods.clone(),
        nodes: caches.nodes.clone(),
        slices: caches.slices.clone(),
        queue,
        seen: Mutex::default(),
        recorder: recorder.named("endpoint-slice-controller"),
    })
}

/// The Service of a slice that is ours.
fn service_of(slice: &EndpointSlice) -> Option<Key> {
    let labels = slice.metadata.labels.as_ref()?;
    if labels.get(MANAGED_BY).map(String::as_str) != Some(MANAGER) {
        return None;
    }
    Some(Key::new(slice.metadata.namespace.clone()?, labels.get(SERVICE_NAME)?.clone()))
}

impl Reconciler for EndpointSlices {
    const NAME: &'static str = "endpointslice";
    type Key = Key;

    fn queue(&self) -> &Queue<Key> {
        &self.queue
    }

    fn add_all(&self, reason: Reason) {
        for service in self.services.all() {
            self.queue.add(Key::of(&service.metadata), reason);
        }
    }

    async fn reconcile(&self, key: &Key) -> Result<Next, Error> {
        let Some(service) = self.services.get(key) else {
            // Its slices go by their owner reference.
            self.seen.lock().unwrap_or_else(PoisonError::into_inner).remove(key);
            return Ok(Next::Wait);
        };
        if !membership::has_selector(&service) {
            // S-239: what is there stays.
            return Ok(Next::Wait);
        }
        let pods = membership::selected(&service, &self.pods);
        let triggered = {
            let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
            trigger::observe(seen.entry(key.clone()).or_default(), &service, pods.iter().map(Arc::as_ref))
        };
        let node = |name: &str| {
            let node = self.nodes.get(&Key::new("", name))?;
            Some(NodeInfo { zone: node.metadata.labels.as_ref().and_then(|labels| labels.get(ZONE)).cloned() })
        };
        let desired = desired(&service, pods.iter().map(Arc::as_ref), node);
        let mut slices = self.slices.in_namespace(&key.namespace);
        slices.retain(|slice| service_of(slice).as_ref() == Some(key) && slice.metadata.deletion_timestamp.is_none());
        let changes = plan(&service, &desired, &slices, triggered);
        self.apply(&key.namespace, changes).await?;
        match desired.missing_nodes.first() {
            // S-197. The node's arrival also brings the Service back here.
            Some(node) => Err(Error::Missing(format!("node {node} of a pod"))),
            None => Ok(Next::Wait),
        }
    }

    fn failed(&self, key: &Key, error: &Error) {
        if let (Error::Api { .. }, Some(service)) = (error, self.services.get(key)) {
            let message = format!("Error updating Endpoint Slices for Service {key}: {error}");
            self.recorder.warning(&*service, "FailedToUpdateEndpointSlices", message);
        }
    }
}

impl EndpointSlices {
    async fn apply(&self, namespace: &str, changes: Changes) -> Result<(), Error> {
        let api: Api<EndpointSlice> = Api::namespaced(self.client.clone(), namespace);
        for slice in changes.create {
            let created =
                api.create(&PostParams::default(), &slice).await.map_err(Error::api("creating an EndpointSlice"))?;
            self.slices.wrote(created);
        }
        for slice in changes.update {
            let key = Key::of(&slice.metadata);
            match api.replace(&key.name, &PostParams::default(), &slice).await {
                Ok(updated) => self.slices.wrote(updated),
                Err(source) => {
                    if is_status(&source, 404) {
                        self.slices.gone(&key);
                    }
                    return Err(Error::api("updating an EndpointSlice")(source));
                }
            }
        }
        for name in changes.delete {
            match api.delete(&name, &DeleteParams::default()).await {
                Ok(_) => {}
                Err(source) if is_status(&source, 404) => {}
                Err(source) => return Err(Error::api("deleting an EndpointSlice")(source)),
            }
            self.slices.gone(&Key::new(namespace, name));
        }
        Ok(())
    }
}
