//! Keeps the mirrored slices in the API server as [`desired`] says.

use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::core::v1::{Endpoints, Service};
use kube::Client;

use super::desired::{LeftOut, MANAGER, desired, is_mirrored, parent};
use crate::cache::{Cache, Key, Origin};
use crate::caches::Caches;
use crate::endpointslice::plan::{Changes, plan};
use crate::endpointslice::write::{SliceWriter, service_of};
use crate::error::Error;
use crate::events::Recorder;
use crate::queue::{Backoff, Queue, Reason};
use crate::worker::{Next, Reconciler};

const BACKOFF: Backoff = Backoff { base: Duration::from_secs(1), cap: Duration::from_secs(100), retries: 15 };

/// The controller; keys are Endpoints, which have the names of their Services.
pub(crate) struct Mirrors {
    writer: SliceWriter,
    services: Arc<Cache<Service>>,
    endpoints: Arc<Cache<Endpoints>>,
    queue: Arc<Queue<Key>>,
    recorder: Recorder,
}

/// Makes the controller and has the caches feed its queue.
pub(crate) fn wire(client: Client, caches: &Caches, recorder: &Recorder) -> Arc<Mirrors> {
    let queue = Arc::new(Queue::new(BACKOFF));
    let to = queue.clone();
    caches.endpoints.on_change(move |change| {
        if let Some(endpoints) = change.states().last() {
            to.add(Key::of(&endpoints.metadata), "Endpoints changed");
        }
    });
    let (endpoints, to) = (caches.endpoints.clone(), queue.clone());
    caches.services.on_change(move |change| {
        let keys = change.states().last().map(|service| Key::of(&service.metadata));
        // Its selector may have come or gone.
        if let Some(key) = keys.filter(|key| endpoints.get(key).is_some()) {
            to.add(key, "the Service changed");
        }
    });
    let to = queue.clone();
    caches.slices.on_change(move |change| {
        if change.origin == Origin::Watch {
            for key in change.states().filter_map(|slice| service_of(slice, MANAGER)) {
                to.add(key, "a slice was changed by somebody else");
            }
        }
    });
    Arc::new(Mirrors {
        writer: SliceWriter::new(client, caches.slices.clone()),
        services: caches.services.clone(),
        endpoints: caches.endpoints.clone(),
        queue,
        recorder: recorder.named("endpoint-slice-mirroring-controller"),
    })
}

impl Reconciler for Mirrors {
    const NAME: &'static str = "endpointslice-mirroring";
    type Key = Key;

    fn queue(&self) -> &Queue<Key> {
        &self.queue
    }

    fn add_all(&self, reason: Reason) {
        for key in self.endpoints.keys() {
            self.queue.add(key, reason);
        }
    }

    async fn reconcile(&self, key: &Key) -> Result<Next, Error> {
        let slices = self.writer.slices_of(key, MANAGER);
        let service = self.services.get(key);
        let endpoints = self.endpoints.get(key).filter(|endpoints| is_mirrored(endpoints, service.as_deref()));
        let changes = match endpoints {
            None => {
                let delete = slices.iter().filter_map(|slice| slice.metadata.name.clone()).collect();
                Changes { delete, ..Changes::default() }
            }
            Some(endpoints) => {
                let (desired, left_out) = desired(&endpoints);
                self.tell(&endpoints, &left_out);
                plan(&parent(&endpoints), &desired, &slices, None)
            }
        };
        self.writer.apply(&key.namespace, changes).await?;
        Ok(Next::Wait)
    }
}

impl Mirrors {
    fn tell(&self, endpoints: &Endpoints, left_out: &LeftOut) {
        if left_out.invalid > 0 {
            let message = format!("Skipped {} invalid IP addresses when mirroring to EndpointSlices", left_out.invalid);
            self.recorder.warning(endpoints, "InvalidIPAddress", message);
        }
        if left_out.surplus > 0 {
            let message = format!("{} addresses are over the limit and are not mirrored", left_out.surplus);
            self.recorder.warning(endpoints, "TooManyAddressesToMirror", message);
        }
    }
}
