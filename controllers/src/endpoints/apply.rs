//! Keeps the Endpoints objects in the API server as [`desired`] says.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use k8s_openapi::api::core::v1::{Endpoints, Service};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::api::{DeleteParams, PostParams};
use kube::{Api, Client};

use super::desired::desired;
use crate::cache::{Cache, Key, Origin};
use crate::caches::Caches;
use crate::error::{Error, is_status};
use crate::events::Recorder;
use crate::membership;
use crate::pod::Pod;
use crate::queue::{Backoff, Queue, Reason};
use crate::trigger::{self, Seen};
use crate::worker::{Next, Reconciler};

/// S-185.
const BACKOFF: Backoff = Backoff { base: Duration::from_secs(1), cap: Duration::from_secs(1000), retries: 15 };

/// Marks an Endpoints object that old clients elect a leader with (S-175).
const LEADER: &str = "control-plane.alpha.kubernetes.io/leader";

/// The controller; keys are Services.
pub(crate) struct EndpointsController {
    client: Client,
    services: Arc<Cache<Service>>,
    pods: Arc<Cache<Pod>>,
    endpoints: Arc<Cache<Endpoints>>,
    queue: Arc<Queue<Key>>,
    /// Bounded by the Services there are: an entry goes with its Service.
    seen: Mutex<BTreeMap<Key, Seen>>,
    recorder: Recorder,
}

/// Makes the controller and has the caches feed its queue.
pub(crate) fn wire(client: Client, caches: &Caches, recorder: &Recorder) -> Arc<EndpointsController> {
    let queue = Arc::new(Queue::new(BACKOFF));
    membership::feed(caches, &queue, Queue::add_behind);
    let (services, to) = (caches.services.clone(), queue.clone());
    caches.endpoints.on_change(move |change| {
        if change.origin == Origin::Own {
            return;
        }
        let keys = change.states().map(|endpoints| Key::of(&endpoints.metadata));
        // Without a Service it is the user's: running for it would delete it.
        for key in keys.filter(|key| services.get(key).is_some()) {
            to.add(key, "Endpoints were changed by somebody else");
        }
    });
    Arc::new(EndpointsController {
        client,
        services: caches.services.clone(),
        pods: caches.pods.clone(),
        endpoints: caches.endpoints.clone(),
        queue,
        seen: Mutex::default(),
        recorder: recorder.named("endpoint-controller"),
    })
}

impl Reconciler for EndpointsController {
    const NAME: &'static str = "endpoints";
    type Key = Key;

    fn queue(&self) -> &Queue<Key> {
        &self.queue
    }

    fn add_all(&self, reason: Reason) {
        for key in self.services.keys() {
            self.queue.add(key, reason);
        }
        // Left over by Services that were deleted while nobody looked.
        for endpoints in self.endpoints.all() {
            let leader = endpoints.metadata.annotations.as_ref().is_some_and(|known| known.contains_key(LEADER));
            if !leader {
                self.queue.add(Key::of(&endpoints.metadata), reason);
            }
        }
    }

    async fn reconcile(&self, key: &Key) -> Result<Next, Error> {
        let Some(service) = self.services.get(key) else {
            self.seen.lock().unwrap_or_else(PoisonError::into_inner).remove(key);
            return self.delete(key).await;
        };
        if !membership::has_selector(&service) || service.metadata.deletion_timestamp.is_some() {
            return Ok(Next::Wait);
        }
        let pods = membership::selected(&service, &self.pods);
        let triggered = {
            let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
            trigger::observe(seen.entry(key.clone()).or_default(), &service, pods.iter().map(Arc::as_ref))
        };
        let present = self.endpoints.get(key);
        let Some(wanted) = desired(&service, pods.iter().map(Arc::as_ref), present.as_deref(), triggered) else {
            return Ok(Next::Wait);
        };
        let api: Api<Endpoints> = Api::namespaced(self.client.clone(), &key.namespace);
        let written = if present.is_some() {
            let result = api.replace(&key.name, &PostParams::default(), &wanted).await;
            if result.as_ref().is_err_and(|error| is_status(error, 404)) {
                self.endpoints.gone(key);
            }
            result.map_err(Error::api("updating Endpoints"))?
        } else {
            api.create(&PostParams::default(), &wanted).await.map_err(Error::api("creating Endpoints"))?
        };
        self.endpoints.wrote(written);
        Ok(Next::Wait)
    }

    fn failed(&self, key: &Key, error: &Error) {
        let (reason, object) = match self.endpoints.get(key) {
            Some(present) => ("FailedToUpdateEndpoint", (*present).clone()),
            None => ("FailedToCreateEndpoint", named(key)),
        };
        self.recorder.warning(&object, reason, format!("Failed to update endpoint {key}: {error}"));
    }
}

impl EndpointsController {
    /// S-175: whoever made it.
    async fn delete(&self, key: &Key) -> Result<Next, Error> {
        if self.endpoints.get(key).is_none() {
            return Ok(Next::Wait);
        }
        let api: Api<Endpoints> = Api::namespaced(self.client.clone(), &key.namespace);
        match api.delete(&key.name, &DeleteParams::default()).await {
            Ok(_) => {}
            Err(source) if is_status(&source, 404) => {}
            Err(source) => return Err(Error::api("deleting Endpoints")(source)),
        }
        self.endpoints.gone(key);
        Ok(Next::Wait)
    }
}

fn named(key: &Key) -> Endpoints {
    let metadata =
        ObjectMeta { namespace: Some(key.namespace.clone()), name: Some(key.name.clone()), ..ObjectMeta::default() };
    Endpoints { metadata, subsets: None }
}
