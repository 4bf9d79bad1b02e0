//! Carries out what [`desired`] plans.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::networking::v1::{IPAddress, ServiceCIDR};
use kube::api::{Patch, PatchParams};
use kube::{Api, Client};
use serde_json::{Value, json};

use super::desired::{FINALIZER, Hold, desired};
use crate::cache::{Cache, Key};
use crate::caches::Caches;
use crate::error::{Error, is_status};
use crate::queue::{Backoff, Queue, Reason};
use crate::worker::{Next, Reconciler};

const BACKOFF: Backoff = Backoff { base: Duration::from_millis(20), cap: Duration::from_secs(60), retries: 1000 };

/// The controller; keys are ServiceCIDRs.
pub(crate) struct ServiceCidrs {
    client: Client,
    cidrs: Arc<Cache<ServiceCIDR>>,
    addresses: Arc<Cache<IPAddress>>,
    queue: Arc<Queue<Key>>,
}

/// Makes the controller and has the caches feed its queue.
pub(crate) fn wire(client: Client, caches: &Caches) -> Arc<ServiceCidrs> {
    let queue = Arc::new(Queue::new(BACKOFF));
    let (cidrs, to) = (caches.service_cidrs.clone(), queue.clone());
    caches.service_cidrs.on_change(move |change| {
        if let Some(cidr) = change.states().last() {
            to.add(Key::of(&cidr.metadata), "the ServiceCIDR changed");
        }
        // A new range may take over the addresses of one that is to go.
        add_terminating(&cidrs, &to, "another ServiceCIDR changed");
    });
    let (cidrs, to) = (caches.service_cidrs.clone(), queue.clone());
    caches.ip_addresses.on_change(move |change| {
        if change.after.is_none() {
            add_terminating(&cidrs, &to, "an IPAddress is gone");
        }
    });
    Arc::new(ServiceCidrs {
        client,
        cidrs: caches.service_cidrs.clone(),
        addresses: caches.ip_addresses.clone(),
        queue,
    })
}

fn add_terminating(cidrs: &Cache<ServiceCIDR>, queue: &Queue<Key>, reason: Reason) {
    for cidr in cidrs.all().iter().filter(|cidr| cidr.metadata.deletion_timestamp.is_some()) {
        queue.add(Key::of(&cidr.metadata), reason);
    }
}

impl Reconciler for ServiceCidrs {
    const NAME: &'static str = "servicecidr";
    type Key = Key;

    fn queue(&self) -> &Queue<Key> {
        &self.queue
    }

    fn add_all(&self, reason: Reason) {
        for cidr in self.cidrs.all() {
            self.queue.add(Key::of(&cidr.metadata), reason);
        }
    }

    async fn reconcile(&self, key: &Key) -> Result<Next, Error> {
        let Some(cidr) = self.cidrs.get(key) else { return Ok(Next::Wait) };
        let plan = desired(&cidr, &self.cidrs.all(), &self.addresses.all(), Timestamp::now());
        let mut finalizers = cidr.metadata.finalizers.clone().unwrap_or_default();
        match plan.hold {
            Hold::Keep => {}
            Hold::Take => {
                finalizers.push(FINALIZER.to_owned());
                self.patch(&cidr, finalizers_patch(&cidr, &finalizers)).await?;
            }
            Hold::Release => {
                finalizers.retain(|finalizer| finalizer != FINALIZER);
                self.patch(&cidr, finalizers_patch(&cidr, &finalizers)).await?;
            }
        }
        if let Some(condition) = plan.condition {
            let api: Api<ServiceCIDR> = Api::all(self.client.clone());
            // Conditions are merged by type.
            let patch = Patch::Strategic(json!({"status": {"conditions": [condition]}}));
            match api.patch_status(&key.name, &PatchParams::default(), &patch).await {
                Ok(written) => self.cidrs.wrote(written),
                Err(source) if is_status(&source, 404) => {}
                Err(source) => return Err(Error::api("writing the status")(source)),
            }
        }
        Ok(plan.again.map_or(Next::Wait, Next::After))
    }
}

/// The list is replaced whole, so it must be the one that was read.
fn finalizers_patch(cidr: &ServiceCIDR, finalizers: &[String]) -> Value {
    json!({"metadata": {
        "uid": cidr.metadata.uid,
        "resourceVersion": cidr.metadata.resource_version,
        "finalizers": finalizers,
    }})
}

impl ServiceCidrs {
    async fn patch(&self, cidr: &ServiceCIDR, patch: Value) -> Result<(), Error> {
        let api: Api<ServiceCIDR> = Api::all(self.client.clone());
        let key = Key::of(&cidr.metadata);
        match api.patch(&key.name, &PatchParams::default(), &Patch::Merge(patch)).await {
            Ok(written)
                if written.metadata.deletion_timestamp.is_some()
                    && written.metadata.finalizers.iter().flatten().next().is_none() =>
            {
                self.cidrs.gone(&key);
            }
            Ok(written) => self.cidrs.wrote(written),
            Err(source) if is_status(&source, 404) => self.cidrs.gone(&key),
            Err(source) => return Err(Error::api("changing the finalizers of a ServiceCIDR")(source)),
        }
        Ok(())
    }
}
