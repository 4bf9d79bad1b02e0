//! What all requests share: the store, the registry, the pools and who else must be asked.

use std::sync::{Arc, PoisonError, RwLock};

use minisvc_schema::OpenApi;
use minisvc_store::{Key, Record, Store};
use rand::RngExt as _;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::dialer::Dialer;
use crate::error::{ApiError, OtherCause};
use crate::extension::Extension;
use crate::metrics::Metrics;
use crate::node_service::NodeService;
use crate::paging::Snapshots;
use crate::rbac::Authorizer;
use crate::registry::{Claim, PoolConfig, Pools, Registry, Resource};
use crate::resources::{ipaddress, servicecidr};
use crate::serve::{Authenticator, Ca};
use crate::{Options, openapi, stored};

/// The state behind every handler.
pub(crate) struct Server {
    pub(crate) store: Store,
    pub(crate) registry: &'static Registry,
    pub(crate) options: Options,
    pub(crate) pools: PoolConfig,
    /// Cancelled when the server closes: ends watches and its own tasks.
    pub(crate) closing: CancellationToken,
    pub(crate) openapi: OpenApi,
    /// The lab's own authority: certificates and tokens.
    pub(crate) ca: Ca,
    /// Upgraded connections; they end with `closing`.
    pub(crate) upgraded: TaskTracker,
    /// For lists that are read in pages.
    pub(crate) snapshots: Snapshots,
    /// Who may do what.
    pub(crate) authorizer: Authorizer,
    /// What is told at `/metrics`.
    pub(crate) metrics: Metrics,
    node_service: RwLock<Option<Arc<dyn NodeService>>>,
    dialer: RwLock<Option<Arc<dyn Dialer>>>,
    extension: RwLock<Option<Arc<Extension>>>,
}

impl Server {
    pub(crate) fn new(store: Store, ca: Ca, options: Options) -> Self {
        let pools = PoolConfig { service_cidrs: options.service_cidrs.clone(), node_ports: options.node_ports.clone() };
        Self {
            store,
            registry: stored::kinds(),
            options,
            pools,
            closing: CancellationToken::new(),
            openapi: openapi::documents(stored::kinds()),
            ca,
            upgraded: TaskTracker::new(),
            snapshots: Snapshots::default(),
            authorizer: Authorizer::default(),
            metrics: Metrics::default(),
            node_service: RwLock::new(None),
            dialer: RwLock::new(None),
            extension: RwLock::new(None),
        }
    }

    pub(crate) fn set_dialer(&self, dialer: Arc<dyn Dialer>) {
        *self.dialer.write().unwrap_or_else(PoisonError::into_inner) = Some(dialer);
    }

    pub(crate) fn dialer(&self) -> Option<Arc<dyn Dialer>> {
        self.dialer.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Checks tokens against the ServiceAccounts that exist.
    pub(crate) fn authenticator(&self) -> Authenticator {
        let store = self.store.clone();
        let find = move |namespace: &str, name: &str| service_account_uid(&store, namespace, name);
        Authenticator::new(Arc::clone(self.ca.tokens()), Arc::new(find))
    }

    pub(crate) fn set_node_service(&self, service: Arc<dyn NodeService>) {
        *self.node_service.write().unwrap_or_else(PoisonError::into_inner) = Some(service);
    }

    pub(crate) fn node_service(&self) -> Option<Arc<dyn NodeService>> {
        self.node_service.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(crate) fn set_extension(&self, extension: Extension) {
        *self.extension.write().unwrap_or_else(PoisonError::into_inner) = Some(Arc::new(extension));
    }

    pub(crate) fn extension(&self) -> Option<Arc<Extension>> {
        self.extension.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Where an object of a kind is kept.
    pub(crate) fn key(resource: &Resource, namespace: &str, name: &str) -> Key {
        Key::new(resource.storage(), namespace, name)
    }

    /// The record of an object, or a 404 about it.
    pub(crate) fn record(&self, resource: &Resource, namespace: &str, name: &str) -> Result<Arc<Record>, ApiError> {
        let found = self.store.get(&Self::key(resource, namespace, name));
        found.ok_or_else(|| ApiError::NotFound(Box::new(resource.target(name))))
    }

    /// The namespace's record, provided that new objects may be created in it.
    pub(crate) fn open_namespace(
        &self,
        resource: &Resource,
        namespace: &str,
        name: &str,
    ) -> Result<Arc<Record>, ApiError> {
        let Some(record) = self.store.get(&Key::new("namespaces", "", namespace)) else {
            let target = crate::error::Target { group: "", resource: "namespaces", name: namespace.to_owned() };
            return Err(ApiError::NotFound(Box::new(target)));
        };
        if stored::is_terminating(&record.value) {
            return Err(ApiError::Forbidden {
                target: Box::new(resource.target(name)),
                why: format!("unable to create new content in namespace {namespace} because it is being terminated"),
                causes: vec![OtherCause {
                    reason: "NamespaceTerminating".to_owned(),
                    message: format!("namespace {namespace} is being terminated"),
                    field: "metadata.namespace".to_owned(),
                }],
            });
        }
        Ok(record)
    }

    /// Runs `with` over the pools as they are now.
    pub(crate) fn with_pools<T>(&self, with: impl FnOnce(&Pools<'_>) -> T) -> T {
        // Whoever makes an IPAddress reserves it (S-225).
        let reserved = |claim: &Claim| address_key(claim).is_some_and(|key| self.store.get(&key).is_some());
        let taken = |claim: &Claim| self.store.get(&claim_key(claim)).is_some() || reserved(claim);
        let random = |bound: u64| rand::rng().random_range(0..bound);
        let (records, _) = self.store.list(servicecidr::STORAGE, Some(""));
        let cidrs: Vec<_> = records.iter().map(|record| stored::decode(&record.value)).collect();
        let mut pools = Pools::new(&self.pools, &taken, &random);
        pools.ranges = servicecidr::ready_ranges(&cidrs);
        with(&pools)
    }
}

/// The uid of a ServiceAccount, as long as it exists: tokens are worth no more than that.
fn service_account_uid(store: &Store, namespace: &str, name: &str) -> Option<String> {
    store.get(&Key::new("serviceaccounts", namespace, name)).map(|record| record.head.uid().to_owned())
}

/// Where the IPAddress that goes with a claim is kept (S-224).
pub(crate) fn address_key(claim: &Claim) -> Option<Key> {
    match claim {
        Claim::ClusterIp(_) => Some(Key::new(ipaddress::STORAGE, "", claim.name())),
        Claim::NodePort(_) => None,
    }
}

/// Where a claim is recorded.
pub(crate) fn claim_key(claim: &Claim) -> Key {
    Key::new(claim.storage(), "", claim.name())
}
