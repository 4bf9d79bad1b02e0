//! What all workers of a podd share.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use k8s_openapi::api::core::v1::{ConfigMap, ObjectReference, Pod, Secret};
use kube::{Api, Client};
use minisvc_sandbox::{Credentials, Group, Namespace, Process, Sandbox};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::address::AddressPools;
use crate::attach::AttachPoint;
use crate::config::{Config, NodeConfig};
use crate::env::compose::{Objects, Reference};
use crate::env::fields::Facts;
use crate::logs::write::Progress;
use crate::network::Network;
use crate::recorder::Recorder;
use crate::services::Services;

/// Namespace and name of a pod.
pub(crate) type PodKey = (String, String);

/// What all workers share.
pub(crate) struct Shared {
    pub(crate) config: Config,
    pub(crate) client: Client,
    pub(crate) sandbox: Sandbox,
    pub(crate) network: Arc<dyn Network>,
    pub(crate) services: Arc<Services>,
    pub(crate) recorder: Recorder,
    /// Cancelled when podd goes down.
    pub(crate) shutdown: CancellationToken,
    /// Pods that have a worker; as many as the API server has bound to our nodes.
    pub(crate) pods: Mutex<BTreeMap<PodKey, Arc<PodHandle>>>,
    /// Resources of which the user has been told that limits are not kept.
    pub(crate) limits_told: Mutex<BTreeSet<String>>,
}

impl Shared {
    /// Where a pod's logs and volumes are.
    pub(crate) fn pod_dir(&self, uid: &str) -> PathBuf {
        self.config.state_dir.join("pods").join(uid)
    }

    /// The referenced objects of a namespace that exist.
    pub(crate) async fn objects(
        &self,
        namespace: &str,
        references: impl IntoIterator<Item = Reference>,
    ) -> Result<Objects, kube::Error> {
        let config_maps: Api<ConfigMap> = Api::namespaced(self.client.clone(), namespace);
        let secrets: Api<Secret> = Api::namespaced(self.client.clone(), namespace);
        let mut objects = Objects::default();
        for reference in references {
            match reference {
                Reference::ConfigMap(name) => {
                    let found = config_maps.get_opt(&name).await?;
                    objects.config_maps.extend(found.map(|map| (name, map)));
                }
                Reference::Secret(name) => {
                    let found = secrets.get_opt(&name).await?;
                    objects.secrets.extend(found.map(|secret| (name, secret)));
                }
            }
        }
        Ok(objects)
    }

    /// The worker's public side of a pod.
    pub(crate) fn pod(&self, namespace: &str, name: &str) -> Option<Arc<PodHandle>> {
        lock(&self.pods).get(&(namespace.to_owned(), name.to_owned())).cloned()
    }
}

/// One of our nodes.
pub(crate) struct Node {
    pub(crate) config: NodeConfig,
    pub(crate) namespace: Namespace,
    pub(crate) addresses: Mutex<AddressPools>,
    pub(crate) cpu: String,
    pub(crate) memory: String,
}

impl Node {
    /// What the downward API says of a pod here.
    pub(crate) fn facts(&self, pod_ips: &[IpAddr]) -> Facts {
        Facts {
            pod_ips: pod_ips.to_vec(),
            host_ips: self.config.addresses.clone(),
            node_cpu: self.cpu.clone(),
            node_memory: self.memory.clone(),
        }
    }
}

/// What others may know of a pod: for logs, exec and port-forward.
#[derive(Default)]
pub(crate) struct PodHandle {
    pub(crate) uid: String,
    inner: Mutex<Visible>,
}

#[derive(Default)]
struct Visible {
    /// Where it is bound to.
    node: String,
    namespace: Option<Namespace>,
    containers: BTreeMap<String, ContainerView>,
}

/// A container as others see it.
#[derive(Clone, Default)]
pub(crate) struct ContainerView {
    /// Number of the latest instance, if one was started.
    pub(crate) attempt: Option<u32>,
    /// Why there is none.
    pub(crate) waiting: String,
    /// Of the latest instance.
    pub(crate) log: Option<watch::Receiver<Progress>>,
    /// While it runs.
    pub(crate) running: Option<Running>,
    /// The latest instance, for those who attach.
    pub(crate) attach: Option<AttachPoint>,
}

/// A running container.
#[derive(Clone, Debug)]
pub(crate) struct Running {
    pub(crate) process: Process,
    pub(crate) environment: Vec<(std::ffi::OsString, std::ffi::OsString)>,
    pub(crate) user: Option<Credentials>,
    pub(crate) directory: Option<PathBuf>,
    /// If it has limits.
    pub(crate) group: Option<Arc<Group>>,
}

impl PodHandle {
    pub(crate) fn new(uid: String, containers: impl IntoIterator<Item = (String, ContainerView)>) -> Self {
        let containers = containers.into_iter().collect();
        let visible = Visible { node: String::new(), namespace: None, containers };
        Self { uid, inner: Mutex::new(visible) }
    }

    pub(crate) fn set_node(&self, node: &str) {
        lock(&self.inner).node = node.to_owned();
    }

    pub(crate) fn is_on(&self, node: &str) -> bool {
        lock(&self.inner).node == node
    }

    pub(crate) fn set_namespace(&self, namespace: Option<Namespace>) {
        lock(&self.inner).namespace = namespace;
    }

    pub(crate) fn namespace(&self) -> Option<Namespace> {
        lock(&self.inner).namespace.clone()
    }

    pub(crate) fn update(&self, container: &str, change: impl FnOnce(&mut ContainerView)) {
        change(lock(&self.inner).containers.entry(container.to_owned()).or_default());
    }

    pub(crate) fn container(&self, name: &str) -> Option<ContainerView> {
        lock(&self.inner).containers.get(name).cloned()
    }

    /// Names of the containers, sorted.
    pub(crate) fn names(&self) -> Vec<String> {
        lock(&self.inner).containers.keys().cloned().collect()
    }
}

/// How Events refer to a pod, or to one of its containers.
pub(crate) fn reference(pod: &Pod, container: Option<&str>) -> ObjectReference {
    let init = pod.spec.iter().flat_map(|spec| spec.init_containers.iter().flatten());
    let is_init = |name: &str| init.clone().any(|c| c.name == name);
    ObjectReference {
        api_version: Some("v1".to_owned()),
        kind: Some("Pod".to_owned()),
        namespace: pod.metadata.namespace.clone(),
        name: pod.metadata.name.clone(),
        uid: pod.metadata.uid.clone(),
        resource_version: pod.metadata.resource_version.clone(),
        field_path: container.map(|name| {
            let list = if is_init(name) { "initContainers" } else { "containers" };
            format!("spec.{list}{{{name}}}")
        }),
    }
}

/// Locks a table that is whole between any two statements, so that a panic elsewhere cannot have torn it.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
