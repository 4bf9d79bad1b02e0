//! Every cache there is: one watch per kind, shared by all controllers.

use std::sync::Arc;

use k8s_openapi::api::apps::v1::{ControllerRevision, DaemonSet, Deployment, ReplicaSet, StatefulSet};
use k8s_openapi::api::batch::v1::{CronJob, Job};
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::{
    ConfigMap, Endpoints, Namespace, Node, ReplicationController, Service, ServiceAccount,
};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use k8s_openapi::api::networking::v1::{IPAddress, ServiceCIDR};
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use kube::runtime::watcher;
use kube::{Api, Client};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::cache::{Cache, Object};
use crate::endpointslice;
use crate::loadbalancer;
use crate::membership;
use crate::pod::Pod;
use crate::served::{Kind, is_served};

/// See the module.
pub(crate) struct Caches {
    pub(crate) namespaces: Arc<Cache<Namespace>>,
    pub(crate) nodes: Arc<Cache<Node>>,
    pub(crate) pods: Arc<Cache<Pod>>,
    pub(crate) services: Arc<Cache<Service>>,
    pub(crate) endpoints: Arc<Cache<Endpoints>>,
    pub(crate) slices: Arc<Cache<EndpointSlice>>,
    pub(crate) sets: Arc<Cache<ReplicaSet>>,
    pub(crate) replication_controllers: Arc<Cache<ReplicationController>>,
    pub(crate) deployments: Arc<Cache<Deployment>>,
    pub(crate) stateful_sets: Arc<Cache<StatefulSet>>,
    pub(crate) daemon_sets: Arc<Cache<DaemonSet>>,
    pub(crate) revisions: Arc<Cache<ControllerRevision>>,
    pub(crate) jobs: Arc<Cache<Job>>,
    pub(crate) cron_jobs: Arc<Cache<CronJob>>,
    pub(crate) budgets: Arc<Cache<PodDisruptionBudget>>,
    pub(crate) service_cidrs: Arc<Cache<ServiceCIDR>>,
    pub(crate) ip_addresses: Arc<Cache<IPAddress>>,
    pub(crate) leases: Arc<Cache<Lease>>,
    pub(crate) accounts: Arc<Cache<ServiceAccount>>,
    /// Only those named `kube-root-ca.crt`.
    pub(crate) root_certificates: Arc<Cache<ConfigMap>>,
}

/// The ConfigMap of P-077.
pub(crate) const ROOT_CERTIFICATES: &str = "kube-root-ca.crt";

impl Caches {
    pub(crate) fn new() -> Self {
        Self {
            namespaces: Cache::new(),
            nodes: Cache::new(),
            pods: Cache::new(),
            services: Cache::packing_filed(|service| {
                membership::files(service).into_iter().chain(loadbalancer::files(service)).collect()
            }),
            endpoints: Cache::packing(),
            slices: Cache::packing_filed(|slice| endpointslice::files(slice).into_iter().collect()),
            sets: Cache::new(),
            replication_controllers: Cache::new(),
            deployments: Cache::new(),
            stateful_sets: Cache::new(),
            daemon_sets: Cache::new(),
            revisions: Cache::new(),
            jobs: Cache::new(),
            cron_jobs: Cache::new(),
            budgets: Cache::new(),
            service_cidrs: Cache::new(),
            ip_addresses: Cache::packing(),
            leases: Cache::new(),
            accounts: Cache::new(),
            root_certificates: Cache::new(),
        }
    }

    /// Starts the watches of what is `served`; they end when `shutdown` is cancelled. What is not served stays empty.
    pub(crate) fn start(
        &self,
        tasks: &mut JoinSet<()>,
        client: &Client,
        served: &[Kind],
        shutdown: &CancellationToken,
    ) {
        let all = watcher::Config::default;
        let mut starter = Starter { tasks, client, served, shutdown };
        starter.start(&self.namespaces, all());
        starter.start(&self.nodes, all());
        starter.start(&self.pods, all());
        starter.start(&self.services, all());
        starter.start(&self.endpoints, all());
        starter.start(&self.slices, all());
        starter.start(&self.sets, all());
        starter.start(&self.replication_controllers, all());
        starter.start(&self.deployments, all());
        starter.start(&self.stateful_sets, all());
        starter.start(&self.daemon_sets, all());
        starter.start(&self.revisions, all());
        starter.start(&self.jobs, all());
        starter.start(&self.cron_jobs, all());
        starter.start(&self.budgets, all());
        starter.start(&self.service_cidrs, all());
        starter.start(&self.ip_addresses, all());
        starter.start(&self.leases, all());
        starter.start(&self.accounts, all());
        let named = all().fields(&format!("metadata.name={ROOT_CERTIFICATES}"));
        starter.start(&self.root_certificates, named);
    }

    /// Resolves when all of them know everything.
    pub(crate) async fn synced(&self) {
        self.namespaces.synced().await;
        self.nodes.synced().await;
        self.pods.synced().await;
        self.services.synced().await;
        self.endpoints.synced().await;
        self.slices.synced().await;
        self.sets.synced().await;
        self.replication_controllers.synced().await;
        self.deployments.synced().await;
        self.stateful_sets.synced().await;
        self.daemon_sets.synced().await;
        self.revisions.synced().await;
        self.jobs.synced().await;
        self.cron_jobs.synced().await;
        self.budgets.synced().await;
        self.service_cidrs.synced().await;
        self.ip_addresses.synced().await;
        self.leases.synced().await;
        self.accounts.synced().await;
        self.root_certificates.synced().await;
    }
}

struct Starter<'a> {
    tasks: &'a mut JoinSet<()>,
    client: &'a Client,
    served: &'a [Kind],
    shutdown: &'a CancellationToken,
}

impl Starter<'_> {
    fn start<K: Object>(&mut self, cache: &Arc<Cache<K>>, config: watcher::Config) {
        if is_served::<K>(self.served) {
            self.tasks.spawn(cache.clone().run(Api::all(self.client.clone()), config, self.shutdown.clone()));
        } else {
            cache.is_empty_for_good();
        }
    }
}
