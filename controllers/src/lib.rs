//! The reconcile loops that turn Services, Pods and workloads into each other.
//!
//! Every controller is an ordinary client of the API: it sees what `kubectl` sees and may be pointed at any server. A
//! controller is a plain function from what is there to what should change (`desired`, `plan`, `place`, `verdict`) and
//! a small applier around it. This crate starts no process and moves no packet.

mod accounts;
mod amount;
mod budget;
mod cache;
mod caches;
mod counters;
mod cronjob;
mod daemonset;
mod deployment;
mod endpoint_facts;
mod endpoints;
mod endpointslice;
mod error;
mod events;
#[cfg(test)]
mod fixtures;
mod gc;
mod job;
mod loadbalancer;
mod membership;
mod mirroring;
mod namespaces;
mod nodes;
mod objects;
mod owners;
mod pod;
mod pod_writer;
mod pods;
mod queue;
mod relations;
mod replicaset;
mod requests;
mod revisions;
mod scheduler;
mod selector;
mod served;
mod servicecidr;
mod statefulset;
mod taints;
mod trigger;
mod worker;

use std::net::Ipv4Addr;
use std::sync::Arc;
use std::time::Duration;

use ipnet::{IpNet, Ipv4Net};
use k8s_openapi::api::apps::v1::ReplicaSet;
use k8s_openapi::api::core::v1::ReplicationController;
use kube::Client;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::caches::Caches;
pub use crate::counters::{ControllerStats, Counters};
use crate::served::Kind;
use crate::worker::Reconciler;

/// What the controllers need to know besides what the API tells.
#[derive(Clone, Debug)]
pub struct Options {
    /// The certificates that API clients in pods are to trust, PEM: content of the ConfigMap `kube-root-ca.crt` of
    /// each namespace.
    pub root_certificates: String,
    /// How long a node may let its Lease in `kube-node-lease` go without renewal before it counts as lost (P-118).
    pub node_grace: Duration,
    /// How long a node may be missing before the pods bound to it are given up: it may only be registering anew (P-058).
    pub missing_node_grace: Duration,
    /// Ranges that load balancers get their addresses from; without any they stay `<pending>` (S-128).
    pub load_balancer_pool: Vec<IpNet>,
    /// What the controllers count.
    pub counters: Arc<Counters>,
}

/// The documented pool of load balancer addresses.
const DEFAULT_POOL: IpNet = IpNet::V4(Ipv4Net::new_assert(Ipv4Addr::new(10, 95, 1, 0), 24));

impl Default for Options {
    fn default() -> Self {
        Self {
            root_certificates: String::new(),
            node_grace: Duration::from_secs(50),
            missing_node_grace: Duration::from_secs(40),
            load_balancer_pool: vec![DEFAULT_POOL],
            counters: Arc::default(),
        }
    }
}

/// Keys of one controller worked on at once. Writes wait for the store's sync, so a few overlap well; more only queue.
const WORKERS: usize = 4;

/// The same for EndpointSlices. A pod that many Services select is a write for each, and packets wait for all of them: what is asked for
/// at once is synced at once.
const SLICE_WORKERS: usize = 16;

/// Runs all controllers until `shutdown` is cancelled; returns when every task has ended.
///
/// Waits for the API server as long as need be. Kinds that it does not serve are left out.
pub async fn run(client: Client, options: Options, shutdown: CancellationToken) {
    let Some(kinds) = served::wait_for_kinds(&client, &shutdown).await else { return };
    let kinds: Arc<[Kind]> = kinds.into();
    let mut tasks = JoinSet::new();
    let (recorder, writer) = events::recorder(client.clone());
    tasks.spawn(writer.run(shutdown.clone()));

    let caches = Caches::new();
    let slices = endpointslice::wire(client.clone(), &caches, &recorder);
    let endpoints = endpoints::wire(client.clone(), &caches, &recorder);
    let sets = replicaset::wire::<ReplicaSet>(client.clone(), &caches.sets, &caches.pods, &recorder);
    let old_sets = &caches.replication_controllers;
    let old_sets = replicaset::wire::<ReplicationController>(client.clone(), old_sets, &caches.pods, &recorder);
    let deployments = deployment::wire(client.clone(), &caches, &recorder);
    let stateful_sets = statefulset::wire(client.clone(), &caches, &recorder);
    let daemon_sets = daemonset::wire(client.clone(), &caches, &recorder);
    let jobs = job::wire(client.clone(), &caches, &recorder);
    let budgets = budget::wire(client.clone(), &caches);
    let cron_jobs = cronjob::wire(client.clone(), &caches, &recorder);
    let cidrs = servicecidr::wire(client.clone(), &caches);
    let addresses = servicecidr::wire_addresses(client.clone(), &caches, &recorder);
    let scheduler = scheduler::wire(client.clone(), &caches, &recorder);
    let accounts = accounts::wire(client.clone(), &caches, options.root_certificates);
    let namespaces = namespaces::wire(client.clone(), &caches, kinds.clone());
    let nodes = nodes::wire(client.clone(), &caches, &recorder, options.node_grace);
    let orphans = nodes::wire_orphans(client.clone(), &caches, options.missing_node_grace);
    let mirrors = mirroring::wire(client.clone(), &caches, &recorder);
    let balancers = loadbalancer::wire(client.clone(), &caches, &recorder, options.load_balancer_pool);
    let collector = gc::wire(client.clone(), kinds.clone());

    // Handlers first, watches second: no change goes unheard.
    caches.start(&mut tasks, &client, &kinds, &shutdown);
    for index in 0..kinds.len() {
        tasks.spawn(gc::watch_kind(collector.clone(), index, shutdown.clone()));
    }
    let all_known = async {
        caches.synced().await;
        collector.synced().await;
    };
    tokio::select! {
        () = all_known => {}
        () = shutdown.cancelled() => {}
    }
    tracing::debug!("controllers start");
    let mut start = Starter { tasks: &mut tasks, counters: &options.counters, shutdown: &shutdown };
    start.start(slices, SLICE_WORKERS);
    start.start(endpoints, WORKERS);
    start.start(sets, WORKERS);
    start.start(old_sets, WORKERS);
    start.start(deployments, WORKERS);
    start.start(stateful_sets, WORKERS);
    start.start(daemon_sets, WORKERS);
    start.start(jobs, WORKERS);
    start.start(budgets, WORKERS);
    start.start(cron_jobs, WORKERS);
    start.start(cidrs, 1);
    start.start(addresses, 1);
    start.start(scheduler, 1);
    start.start(accounts, WORKERS);
    start.start(namespaces, WORKERS);
    start.start(nodes, WORKERS);
    start.start(orphans, 1);
    start.start(mirrors, WORKERS);
    start.start(balancers, 1);
    start.start(collector, WORKERS);
    while let Some(ended) = tasks.join_next().await {
        if let Err(error) = ended {
            tracing::error!(%error, "a task of the controllers ended badly");
        }
    }
}

struct Starter<'a> {
    tasks: &'a mut JoinSet<()>,
    counters: &'a Counters,
    shutdown: &'a CancellationToken,
}

impl Starter<'_> {
    fn start<R: Reconciler>(&mut self, reconciler: Arc<R>, workers: usize) {
        let tally = self.counters.tally(R::NAME);
        self.tasks.spawn(worker::run(reconciler, workers, tally, self.shutdown.clone()));
    }
}
