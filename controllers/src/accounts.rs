//! What every namespace gets: the ServiceAccount `default` and the ConfigMap `kube-root-ca.crt` (A-059, P-077).

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::core::v1::{ConfigMap, Namespace, ServiceAccount};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::api::PostParams;
use kube::{Api, Client};

use crate::cache::{Cache, Key};
use crate::caches::{Caches, ROOT_CERTIFICATES};
use crate::error::{Error, is_status};
use crate::owners::is_namespace_terminating;
use crate::queue::{Backoff, Queue, Reason};
use crate::worker::{Next, Reconciler};

const BACKOFF: Backoff = Backoff { base: Duration::from_millis(50), cap: Duration::from_secs(60), retries: 100 };

const ACCOUNT: &str = "default";
const CERTIFICATE_KEY: &str = "ca.crt";

/// The controller; keys are namespaces.
pub(crate) struct Accounts {
    client: Client,
    certificates: String,
    namespaces: Arc<Cache<Namespace>>,
    accounts: Arc<Cache<ServiceAccount>>,
    config_maps: Arc<Cache<ConfigMap>>,
    queue: Arc<Queue<Key>>,
}

/// Makes the controller and has the caches feed its queue; `certificates` is PEM.
pub(crate) fn wire(client: Client, caches: &Caches, certificates: String) -> Arc<Accounts> {
    let queue = Arc::new(Queue::new(BACKOFF));
    let to = queue.clone();
    caches.namespaces.on_change(move |change| {
        if let Some(namespace) = change.after {
            to.add(Key::of(&namespace.metadata), "the namespace changed");
        }
    });
    let to = queue.clone();
    caches.accounts.on_change(move |change| {
        let before = change.before.filter(|account| account.metadata.name.as_deref() == Some(ACCOUNT));
        if let (Some(account), None) = (before, change.after) {
            to.add(Key::new("", account.metadata.namespace.clone().unwrap_or_default()), "the account was deleted");
        }
    });
    let to = queue.clone();
    caches.root_certificates.on_change(move |change| {
        if let Some(map) = change.before {
            to.add(Key::new("", map.metadata.namespace.clone().unwrap_or_default()), "the certificates were changed");
        }
    });
    Arc::new(Accounts {
        client,
        certificates,
        namespaces: caches.namespaces.clone(),
        accounts: caches.accounts.clone(),
        config_maps: caches.root_certificates.clone(),
        queue,
    })
}

impl Reconciler for Accounts {
    const NAME: &'static str = "serviceaccount";
    type Key = Key;

    fn queue(&self) -> &Queue<Key> {
        &self.queue
    }

    fn add_all(&self, reason: Reason) {
        for namespace in self.namespaces.all() {
            self.queue.add(Key::of(&namespace.metadata), reason);
        }
    }

    async fn reconcile(&self, key: &Key) -> Result<Next, Error> {
        let namespace = self.namespaces.get(key);
        if namespace.is_none_or(|namespace| namespace.metadata.deletion_timestamp.is_some()) {
            return Ok(Next::Wait);
        }
        let outcome = match self.account(&key.name).await {
            Ok(()) => self.config_map(&key.name).await,
            failed => failed,
        };
        match outcome {
            Err(error) if is_namespace_terminating(&error) => Ok(Next::Wait),
            other => other.map(|()| Next::Wait),
        }
    }
}

impl Accounts {
    async fn account(&self, namespace: &str) -> Result<(), Error> {
        if self.accounts.get(&Key::new(namespace, ACCOUNT)).is_some() {
            return Ok(());
        }
        let account = ServiceAccount { metadata: named(namespace, ACCOUNT), ..ServiceAccount::default() };
        let api: Api<ServiceAccount> = Api::namespaced(self.client.clone(), namespace);
        match api.create(&PostParams::default(), &account).await {
            Ok(created) => self.accounts.wrote(created),
            Err(source) if is_status(&source, 409) => {}
            Err(source) => return Err(Error::api("creating the ServiceAccount default")(source)),
        }
        Ok(())
    }

    async fn config_map(&self, namespace: &str) -> Result<(), Error> {
        let data = BTreeMap::from([(CERTIFICATE_KEY.to_owned(), self.certificates.clone())]);
        let api: Api<ConfigMap> = Api::namespaced(self.client.clone(), namespace);
        let written = match self.config_maps.get(&Key::new(namespace, ROOT_CERTIFICATES)) {
            Some(present) if present.data.as_ref() == Some(&data) => return Ok(()),
            Some(present) => {
                let restored = ConfigMap { data: Some(data), ..(*present).clone() };
                api.replace(ROOT_CERTIFICATES, &PostParams::default(), &restored).await
            }
            None => {
                let metadata = named(namespace, ROOT_CERTIFICATES);
                let map = ConfigMap { metadata, data: Some(data), ..ConfigMap::default() };
                api.create(&PostParams::default(), &map).await
            }
        };
        self.config_maps.wrote(written.map_err(Error::api("writing the root certificates"))?);
        Ok(())
    }
}

fn named(namespace: &str, name: &str) -> ObjectMeta {
    ObjectMeta { namespace: Some(namespace.to_owned()), name: Some(name.to_owned()), ..ObjectMeta::default() }
}
