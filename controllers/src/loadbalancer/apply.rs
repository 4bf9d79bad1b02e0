//! Writes what [`desired`] says, and tells the user about it.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use ipnet::IpNet;
use k8s_openapi::api::core::v1::{Node, Service};
use kube::api::{Patch, PatchParams};
use kube::{Api, Client};
use serde_json::json;

use super::changes::changes;
use super::desired::{Desired, FINALIZER, Pool, desired, has_finalizer, holds, ingress, is_eligible, taken, wants};
use crate::cache::{Cache, Change, Key, Origin};
use crate::caches::Caches;
use crate::error::Error;
use crate::events::Recorder;
use crate::queue::{Backoff, Queue, Reason};
use crate::worker::{Next, Reconciler};

/// An empty pool is looked at again for as long as it takes; a freed address is offered at once besides.
const BACKOFF: Backoff = Backoff { base: Duration::from_secs(1), cap: Duration::from_secs(60), retries: u32::MAX };

/// The controller; keys are Services. It must run with one worker: each decision counts on the one before it.
pub(crate) struct LoadBalancers {
    client: Client,
    pool: Pool,
    services: Arc<Cache<Service>>,
    nodes: Arc<Cache<Node>>,
    queue: Arc<Queue<Key>>,
    recorder: Recorder,
}

/// Makes the controller and has the caches feed its queue.
pub(crate) fn wire(client: Client, caches: &Caches, recorder: &Recorder, pool: Vec<IpNet>) -> Arc<LoadBalancers> {
    let queue = Arc::new(Queue::new(BACKOFF));
    let recorder = recorder.named("service-controller");
    let (services, to, tell) = (caches.services.clone(), queue.clone(), recorder.clone());
    caches.services.on_change(move |change| {
        if let (Some(before), Some(after), Origin::Watch) = (change.before, change.after, change.origin) {
            for (reason, message) in changes(before, after) {
                tell.normal(after, reason, message);
            }
        }
        if let Some(service) = change.after.filter(|_| is_news(change)) {
            to.add(Key::of(&service.metadata), "the Service changed");
        }
        if frees(change) {
            for service in
                services.filed(&balanced()).iter().filter(|service| wants(service) && ingress(service).next().is_none())
            {
                to.add(Key::of(&service.metadata), "an address is free again");
            }
        }
    });
    follow_nodes(caches, &recorder);
    let (services, nodes) = (caches.services.clone(), caches.nodes.clone());
    Arc::new(LoadBalancers { client, pool: Pool::new(pool), services, nodes, queue, recorder })
}

/// Tells when the nodes that load balancers send to are others.
fn follow_nodes(caches: &Caches, recorder: &Recorder) {
    let (nodes, services, recorder) = (caches.nodes.clone(), caches.services.clone(), recorder.clone());
    let known = Mutex::new(BTreeSet::new());
    caches.nodes.on_change(move |_| {
        let eligible = eligible(&nodes);
        let mut known = known.lock().unwrap_or_else(PoisonError::into_inner);
        if *known == eligible {
            return;
        }
        *known = eligible;
        for service in
            services.filed(&balanced()).iter().filter(|service| wants(service) && ingress(service).next().is_some())
        {
            recorder.normal(&**service, "UpdatedLoadBalancer", "Updated load balancer with new hosts".to_owned());
        }
    });
}

fn eligible(nodes: &Cache<Node>) -> BTreeSet<String> {
    nodes.all().iter().filter(|node| is_eligible(node)).filter_map(|node| node.metadata.name.clone()).collect()
}

/// Whether a change matters. A status that somebody wrote by hand stays until the Service itself changes, unless it is
/// empty: nobody has to wait for an address that there is.
fn is_news(change: &Change<'_, Service>) -> bool {
    let Some(after) = change.after else { return false };
    let Some(before) = change.before else { return holds(after) };
    let facts = |service: &Service| {
        let meta = &service.metadata;
        (service.spec.clone(), meta.deletion_timestamp.clone(), meta.finalizers.clone())
    };
    let emptied = ingress(after).next().is_none() && wants(after);
    (holds(before) || holds(after)) && (emptied || facts(before) != facts(after))
}

/// What every Service that concerns this controller is filed under. No namespace has this name.
fn balanced() -> Key {
    Key::new("", "load-balanced")
}

/// The file of a Service that has an address of the pool, or wants one.
pub(crate) fn files(service: &Service) -> Option<Key> {
    holds(service).then(balanced)
}

/// Whether a change gives an address back.
fn frees(change: &Change<'_, Service>) -> bool {
    let held = |service: Option<&Service>| -> Vec<IpAddr> {
        service.filter(|service| holds(service)).map(|service| ingress(service).collect()).unwrap_or_default()
    };
    let after = held(change.after);
    held(change.before).iter().any(|address| !after.contains(address))
}

impl Reconciler for LoadBalancers {
    const NAME: &'static str = "loadbalancer";
    type Key = Key;

    fn queue(&self) -> &Queue<Key> {
        &self.queue
    }

    fn add_all(&self, reason: Reason) {
        // Those that have addresses first: a restart must not give them away.
        let (have, have_not): (Vec<_>, Vec<_>) =
            self.services.filed(&balanced()).into_iter().partition(|s| ingress(s).next().is_some());
        for service in have.iter().chain(&have_not) {
            self.queue.add(Key::of(&service.metadata), reason);
        }
    }

    async fn reconcile(&self, key: &Key) -> Result<Next, Error> {
        let Some(service) = self.services.get(key) else { return Ok(Next::Wait) };
        let all = self.services.filed(&balanced());
        let taken = taken(&service, all.iter().map(|service| &**service));
        match desired(&service, &self.pool, &taken) {
            Ok(Desired::Nothing) => {}
            Ok(Desired::Addresses(addresses)) => self.provide(key, &service, &addresses).await?,
            Ok(Desired::Release) => self.release(key, &service).await?,
            Err(reason) => {
                // What it asks for now it cannot have, and what it had it no longer asks for.
                if ingress(&service).next().is_some() {
                    self.write_status(key, &service, &[]).await?;
                }
                return Err(Error::NoAddress(reason.to_string()));
            }
        }
        Ok(Next::Wait)
    }

    fn failed(&self, key: &Key, error: &Error) {
        if let Some(service) = self.services.get(key) {
            let (reason, what) = if wants(&service) {
                ("SyncLoadBalancerFailed", "syncing")
            } else {
                ("DeleteLoadBalancerFailed", "deleting")
            };
            self.recorder.warning(&*service, reason, format!("Error {what} load balancer: {error}"));
        }
    }
}

impl LoadBalancers {
    async fn provide(&self, key: &Key, service: &Service, addresses: &[IpAddr]) -> Result<(), Error> {
        self.recorder.normal(service, "EnsuringLoadBalancer", "Ensuring load balancer".to_owned());
        if eligible(&self.nodes).is_empty() {
            let message = "There are no available nodes for LoadBalancer".to_owned();
            self.recorder.warning(service, "UnAvailableLoadBalancer", message);
        }
        let mut current = service.clone();
        if !has_finalizer(service) {
            let mut finalizers = service.metadata.finalizers.clone().unwrap_or_default();
            finalizers.push(FINALIZER.to_owned());
            current = self.write_finalizers(key, service, finalizers).await?;
        }
        if !ingress(&current).eq(addresses.iter().copied()) {
            self.write_status(key, &current, addresses).await?;
        }
        self.recorder.normal(service, "EnsuredLoadBalancer", "Ensured load balancer".to_owned());
        Ok(())
    }

    async fn release(&self, key: &Key, service: &Service) -> Result<(), Error> {
        self.recorder.normal(service, "DeletingLoadBalancer", "Deleting load balancer".to_owned());
        let mut current = service.clone();
        if ingress(service).next().is_some() {
            current = self.write_status(key, service, &[]).await?;
        }
        let finalizers = current.metadata.finalizers.iter().flatten();
        let finalizers = finalizers.filter(|finalizer| *finalizer != FINALIZER).cloned().collect();
        self.write_finalizers(key, &current, finalizers).await?;
        self.recorder.normal(service, "DeletedLoadBalancer", "Deleted load balancer".to_owned());
        Ok(())
    }

    fn api(&self, key: &Key) -> Api<Service> {
        Api::namespaced(self.client.clone(), &key.namespace)
    }

    async fn write_finalizers(&self, key: &Key, seen: &Service, finalizers: Vec<String>) -> Result<Service, Error> {
        let revision = &seen.metadata.resource_version;
        let patch = Patch::Merge(json!({"metadata": {"resourceVersion": revision, "finalizers": finalizers}}));
        let written = self.api(key).patch(&key.name, &PatchParams::default(), &patch).await;
        let written = written.map_err(Error::api("write the finalizer of a Service"))?;
        self.services.wrote(written.clone());
        Ok(written)
    }

    async fn write_status(&self, key: &Key, seen: &Service, addresses: &[IpAddr]) -> Result<Service, Error> {
        let ingress: Vec<_> = addresses.iter().map(|address| json!({"ip": address, "ipMode": "VIP"})).collect();
        // `null` takes the list away: a merge patch leaves nothing empty behind.
        let ingress = if ingress.is_empty() { json!(null) } else { json!(ingress) };
        let revision = &seen.metadata.resource_version;
        let patch =
            json!({"metadata": {"resourceVersion": revision}, "status": {"loadBalancer": {"ingress": ingress}}});
        let written = self.api(key).patch_status(&key.name, &PatchParams::default(), &Patch::Merge(patch)).await;
        let written = written.map_err(Error::api("write the status of a Service"))?;
        self.services.wrote(written.clone());
        Ok(written)
    }
}
