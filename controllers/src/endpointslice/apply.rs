//! Keeps the slices of Services in the API server as [`plan`] says.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use k8s_openapi::api::core::v1::{Node, Service};
use kube::Client;

use super::desired::{Desired, NodeInfo, desired};
use super::parent::{MANAGER, parent};
use super::plan::plan;
use super::topology;
use super::write::{SliceWriter, service_of};
use crate::cache::{Cache, Key, Origin};
use crate::caches::Caches;
use crate::error::Error;
use crate::events::Recorder;
use crate::membership;
use crate::pod::Pod;
use crate::queue::{Backoff, Queue, Reason};
use crate::trigger::{self, Seen};
use crate::worker::{Next, Reconciler};

/// S-204.
const BACKOFF: Backoff = Backoff { base: Duration::from_secs(1), cap: Duration::from_secs(1000), retries: 15 };

/// Label of nodes that endpoints inherit.
pub(super) const ZONE: &str = "topology.kubernetes.io/zone";

/// The controller; keys are Services.
pub(crate) struct EndpointSlices {
    writer: SliceWriter,
    services: Arc<Cache<Service>>,
    pods: Arc<Cache<Pod>>,
    nodes: Arc<Cache<Node>>,
    queue: Arc<Queue<Key>>,
    /// Bounded by the Services there are: an entry goes with its Service.
    seen: Mutex<BTreeMap<Key, Seen>>,
    /// Whether a Service and family that asks for hints by zone has them: bounded likewise.
    hinted: Mutex<BTreeMap<(Key, bool), bool>>,
    recorder: Recorder,
}

/// Makes the controller and has the caches feed its queue.
pub(crate) fn wire(client: Client, caches: &Caches, recorder: &Recorder) -> Arc<EndpointSlices> {
    let queue = Arc::new(Queue::new(BACKOFF));
    membership::feed(caches, &queue, Queue::add);
    let slice_queue = queue.clone();
    caches.slices.on_change(move |change| {
        // Our own writes are what we wanted. A write of somebody else is looked at (S-199), also when it took the
        // labels away: hence the state before.
        if change.origin == Origin::Watch {
            for key in change.states().filter_map(|slice| service_of(slice, MANAGER)) {
                slice_queue.add(key, "a slice was changed by somebody else");
            }
        }
    });
    let (services, to) = (caches.services.clone(), queue.clone());
    caches.nodes.on_change(move |change| {
        // A heartbeat changes no share of the processors.
        if change.before.and_then(topology::facts) != change.after.and_then(topology::facts) {
            for service in services.all().iter().filter(|service| topology::is_wanted(service)) {
                to.add(Key::of(&service.metadata), "the nodes changed");
            }
        }
    });
    Arc::new(EndpointSlices {
        writer: SliceWriter::new(client, caches.slices.clone()),
        services: caches.services.clone(),
        pods: caches.pods.clone(),
        nodes: caches.nodes.clone(),
        queue,
        seen: Mutex::default(),
        hinted: Mutex::default(),
        recorder: recorder.named("endpoint-slice-controller"),
    })
}

impl EndpointSlices {
    /// Hints in proportion to the zones' processors, where the Service asks for them; says when they come and go (S-210).
    fn give_hints(&self, key: &Key, service: &Service, desired: &mut Desired) {
        let wanted = topology::is_wanted(service);
        let nodes = if wanted { self.nodes.all() } else { Vec::new() };
        let shares = topology::shares(nodes.iter().map(Arc::as_ref));
        for ipv6 in desired.families.clone() {
            let mut hinted = self.hinted.lock().unwrap_or_else(PoisonError::into_inner);
            if !wanted {
                hinted.remove(&(key.clone(), ipv6));
                continue;
            }
            let given = topology::assign(desired, ipv6, shares.as_ref().map_err(|why| *why));
            let before = hinted.insert((key.clone(), ipv6), given.is_ok());
            drop(hinted);
            let family = if ipv6 { "IPv6" } else { "IPv4" };
            match (given, before) {
                (Ok(()), Some(true)) | (Err(_), Some(false)) => {}
                (Ok(()), _) => {
                    let message = format!("Topology Aware Hints are on for {family}: each zone has its endpoints");
                    self.recorder.normal(service, "TopologyAwareHintsEnabled", message);
                }
                (Err(why), _) => {
                    let message = format!("Topology Aware Hints are off for {family}: {why}");
                    self.recorder.warning(service, "TopologyAwareHintsDisabled", message);
                }
            }
        }
    }
}

impl Reconciler for EndpointSlices {
    const NAME: &'static str = "endpointslice";
    type Key = Key;

    fn queue(&self) -> &Queue<Key> {
        &self.queue
    }

    fn add_all(&self, reason: Reason) {
        for key in self.services.keys() {
            self.queue.add(key, reason);
        }
    }

    async fn reconcile(&self, key: &Key) -> Result<Next, Error> {
        let Some(service) = self.services.get(key) else {
            // Its slices go by their owner reference.
            self.seen.lock().unwrap_or_else(PoisonError::into_inner).remove(key);
            self.hinted.lock().unwrap_or_else(PoisonError::into_inner).retain(|(service, _), _| service != key);
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
        let mut desired = desired(&service, pods.iter().map(Arc::as_ref), node);
        self.give_hints(key, &service, &mut desired);
        let changes = plan(&parent(&service), &desired, &self.writer.slices_of(key, MANAGER), triggered);
        self.writer.apply(&key.namespace, changes).await?;
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
