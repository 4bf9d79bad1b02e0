//! Podd itself: brings the nodes up, gives each pod bound to them a worker, and takes everything down again.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures::{StreamExt as _, TryStreamExt as _};
use k8s_openapi::api::core::v1::Pod;
use kube::api::ListParams;
use kube::{Api, Client};
use minisvc_sandbox::{Namespace, NamespaceSpec, Process, Sandbox, SandboxError, TunSpec};
use thiserror::Error;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;
use tracing::{Instrument as _, error, info_span, warn};

use crate::address::AddressPools;
use crate::config::{Config, NodeConfig};
use crate::exec::{self, ExecError, ExecSpec};
use crate::logs::read::{LogError, LogOptions};
use crate::manager::Manager;
use crate::network::{Link, LinkId, Network, NetworkError, Owner};
use crate::node::{self, Machine};
use crate::processes;
use crate::recorder::Recorder;
use crate::services::Services;
use crate::shared::{Node, Shared, lock};
use crate::streaming::{self, StreamError, StreamRequest, StreamSession};

/// Beyond the grace, how long a worker may take to come down before it is left behind.
const SHUTDOWN_EXTRA: Duration = Duration::from_secs(10);

/// Why podd could not start.
#[derive(Debug, Error)]
pub enum StartError {
    /// The state directory cannot be made.
    #[error("cannot make the directory {path} for logs and volumes")]
    StateDir {
        /// Where.
        path: String,
        /// Why.
        source: std::io::Error,
    },
    /// A pod range has no room.
    #[error("pod range {range} of node {node} is too small: at least 8 addresses are needed")]
    Range {
        /// The node.
        node: String,
        /// Its range.
        range: String,
    },
    /// Addresses and pod ranges do not match.
    #[error("node {node} needs an address and a pod range of each of its IP families, in the same order")]
    Families {
        /// The node.
        node: String,
    },
    /// A node's namespace or interface.
    #[error("cannot make node {node}")]
    Node {
        /// The node.
        node: String,
        /// Why.
        source: SandboxError,
    },
    /// The data plane.
    #[error("cannot connect node {node}")]
    Network {
        /// The node.
        node: String,
        /// Why.
        source: NetworkError,
    },
    /// The API.
    #[error("the API does not take node {node}")]
    Api {
        /// The node.
        node: String,
        /// Why.
        source: Box<kube::Error>,
    },
}

/// A node cannot be switched off or on.
#[derive(Debug, Error)]
pub enum SwitchError {
    /// There is no such node.
    #[error("there is no node {0:?}")]
    Unknown(String),
    /// It is so already.
    #[error("node {node} {state} already")]
    Already {
        /// The node.
        node: String,
        /// What it does: `runs` or `is stopped`.
        state: &'static str,
    },
    /// It could not be made anew.
    #[error(transparent)]
    Start(#[from] StartError),
}

/// Runs the pods of a lab's nodes.
pub struct Podd {
    shared: Arc<Shared>,
    /// Those that run.
    nodes: BTreeMap<String, RunningNode>,
    machine: Arc<Machine>,
    /// The list of Services, Events.
    _helpers: Vec<AbortOnDropHandle<()>>,
}

/// A node with what works for it.
struct RunningNode {
    node: Arc<Node>,
    link: LinkId,
    _heartbeat: AbortOnDropHandle<()>,
    /// Owns the workers of its pods.
    manager: JoinHandle<()>,
}

impl Podd {
    /// Makes the nodes, registers them and begins to run what is bound to them.
    ///
    /// # Errors
    /// When a node cannot be made or registered. Nothing is left behind then, except Node objects.
    pub async fn start(
        config: Config,
        client: Client,
        sandbox: Sandbox,
        network: Arc<dyn Network>,
    ) -> Result<Self, StartError> {
        let state_dir = |source| StartError::StateDir { path: config.state_dir.display().to_string(), source };
        std::fs::create_dir_all(&config.state_dir).map_err(state_dir)?;
        // Mounts are made by a helper with another working directory.
        let config = Config { state_dir: config.state_dir.canonicalize().map_err(state_dir)?, ..config };
        let (recorder, poster) = Recorder::start(client.clone());
        let services = Arc::new(Services::new());
        let following = AbortOnDropHandle::new(tokio::spawn(Arc::clone(&services).follow(client.clone())));
        let shared = Arc::new(Shared {
            config,
            client,
            sandbox,
            network,
            services,
            recorder,
            shutdown: CancellationToken::new(),
            pods: Mutex::default(),
            limits_told: Mutex::default(),
        });
        sweep(&shared).await;
        let counting = AbortOnDropHandle::new(tokio::spawn(processes::watch(Arc::clone(&shared))));
        let machine = Arc::new(Machine::read(&shared.config));
        let mut podd = Self { shared, nodes: BTreeMap::new(), machine, _helpers: vec![poster, following, counting] };
        let making = podd.shared.config.nodes.iter().map(|node| make_node(&podd.shared, node, &podd.machine));
        let made: Vec<_> = futures::stream::iter(making).buffered(16).try_collect().await?;
        for (node, link) in made {
            podd.run_node(node, link);
        }
        Ok(podd)
    }

    /// The namespace of a node: its addresses, its `hostNetwork` pods.
    pub fn node_namespace(&self, name: &str) -> Option<Namespace> {
        self.nodes.get(name).map(|running| running.node.namespace.clone())
    }

    /// The link of a node's interface, as the [`Network`] named it.
    pub fn node_link(&self, name: &str) -> Option<LinkId> {
        self.nodes.get(name).map(|running| running.link)
    }

    /// The namespace of a pod that runs here, for port-forward and the like.
    pub fn pod_namespace(&self, namespace: &str, name: &str) -> Option<Namespace> {
        self.shared.pod(namespace, name)?.namespace()
    }

    /// What a container has printed.
    ///
    /// # Errors
    /// When there is no such container, or nothing was started.
    pub fn logs(
        &self,
        namespace: &str,
        pod: &str,
        options: LogOptions,
    ) -> Result<futures::stream::BoxStream<'static, std::io::Result<bytes::Bytes>>, LogError> {
        exec::logs(&self.shared, namespace, pod, options)
    }

    /// Starts a process inside a running container.
    ///
    /// # Errors
    /// When there is no such container, it does not run, or the program cannot be started.
    pub async fn exec(
        &self,
        namespace: &str,
        pod: &str,
        container: Option<&str>,
        spec: ExecSpec,
    ) -> Result<Process, ExecError> {
        exec::exec(&self.shared, namespace, pod, container, spec).await
    }

    /// Finds what a stream request is about, before its connection is upgraded.
    ///
    /// # Errors
    /// When there is no such pod or container, or it does not run.
    pub fn prepare_stream(
        &self,
        namespace: &str,
        pod: &str,
        request: StreamRequest,
    ) -> Result<StreamSession, StreamError> {
        streaming::prepare(&self.shared, namespace, pod, request)
    }

    /// Stops all containers, removes all namespaces and returns when nothing runs any more. Objects stay as they are.
    pub async fn shutdown(mut self) {
        self.shared.shutdown.cancel();
        let limit = self.shared.config.shutdown_grace + SHUTDOWN_EXTRA;
        let mut nodes = std::mem::take(&mut self.nodes);
        let managers = futures::future::join_all(nodes.values_mut().map(|running| &mut running.manager));
        if tokio::time::timeout(limit, managers).await.is_err() {
            error!("some pods did not come down in time; they die with the sandbox");
        }
        let network = &self.shared.network;
        futures::future::join_all(nodes.into_values().map(|RunningNode { node, link, .. }| async move {
            tokio::join!(network.detach(link), node.namespace.remove());
        }))
        .await;
    }

    /// The nodes that there are, and whether each runs.
    pub fn nodes(&self) -> impl Iterator<Item = (&NodeConfig, bool)> {
        self.shared.config.nodes.iter().map(|node| (node, self.nodes.contains_key(&node.name)))
    }

    /// Fails a node as a machine that loses power: its links fall silent, its processes die, its heartbeat stops, and nobody is
    /// told. What becomes of its pods' objects is up to others.
    ///
    /// # Errors
    /// When there is no such node, or it is stopped already.
    pub async fn stop_node(&mut self, name: &str) -> Result<(), SwitchError> {
        let config = self.node_config(name)?;
        let Some(RunningNode { node, manager, .. }) = self.nodes.remove(name) else {
            return Err(SwitchError::Already { node: config.name, state: "is stopped" });
        };
        self.shared.network.power_off(name).await;
        // Its workers end with it, in the middle of whatever they do.
        manager.abort();
        let mut dead = vec![node.namespace.clone()];
        lock(&self.shared.pods).retain(|_, pod| {
            let is_dead = pod.is_on(name);
            dead.extend(pod.namespace().filter(|_| is_dead));
            !is_dead
        });
        futures::future::join_all(dead.iter().map(Namespace::remove)).await;
        // A worker may have been about to make another namespace, which goes with it.
        let _ = manager.await;
        Ok(())
    }

    /// Starts a node again that was stopped: it registers, and runs what is still bound to it.
    ///
    /// # Errors
    /// When there is no such node, it runs already, or it cannot be made.
    pub async fn start_node(&mut self, name: &str) -> Result<(), SwitchError> {
        let config = self.node_config(name)?;
        if self.nodes.contains_key(name) {
            return Err(SwitchError::Already { node: config.name, state: "runs" });
        }
        self.shared.network.power_on(name).await;
        sweep(&self.shared).await;
        let (node, link) = make_node(&self.shared, &config, &self.machine).await?;
        self.run_node(node, link);
        Ok(())
    }

    fn node_config(&self, name: &str) -> Result<NodeConfig, SwitchError> {
        let found = self.shared.config.nodes.iter().find(|node| node.name == name);
        found.cloned().ok_or_else(|| SwitchError::Unknown(name.to_owned()))
    }

    fn run_node(&mut self, node: Arc<Node>, link: LinkId) {
        let name = node.config.name.clone();
        let (client, shutdown) = (self.shared.client.clone(), self.shared.shutdown.clone());
        let heartbeat = node::beat(client, Arc::clone(&node), Arc::clone(&self.machine), shutdown);
        let heartbeat = AbortOnDropHandle::new(tokio::spawn(heartbeat));
        let manager = Manager::new(Arc::clone(&self.shared), Arc::clone(&node));
        let manager = tokio::spawn(manager.run().instrument(info_span!("node", name)));
        self.nodes.insert(name, RunningNode { node, link, _heartbeat: heartbeat, manager });
    }
}

impl Drop for Podd {
    fn drop(&mut self) {
        // Without `shutdown` the processes die with the sandbox; at least no task goes on working for them.
        self.shared.shutdown.cancel();
    }
}

async fn make_node(shared: &Shared, config: &NodeConfig, machine: &Machine) -> Result<(Arc<Node>, LinkId), StartError> {
    let name = &config.name;
    check_families(config)?;
    let failed = |source| StartError::Node { node: name.clone(), source };
    let ipv6 = config.addresses.iter().any(IpAddr::is_ipv6);
    let spec = NamespaceSpec { name: name.clone(), hostname: name.clone(), ipv6, processes: None };
    let namespace = shared.sandbox.make_namespace(spec).await.map_err(failed)?;
    let tun = TunSpec {
        mtu: shared.config.mtu,
        offload: shared.config.offload,
        ..TunSpec::eth0_with(config.addresses.clone())
    };
    let device = namespace.open_tun(tun).await.map_err(failed)?;
    for address in &config.addresses {
        // Without it only processes in the node's own network notice.
        if let Err(error) = namespace.reflect_ports("eth0", *address, shared.config.node_ports.clone()).await {
            warn!(%error, node = name, %address, "hostNetwork pods cannot reach the nodePorts of their own node");
        }
    }
    let link = Link {
        name: format!("node {name}"),
        device,
        offload: shared.config.offload,
        addresses: config.addresses.clone(),
        owner: Owner::Node { name: name.clone() },
    };
    let refused = |source| StartError::Network { node: name.clone(), source };
    let link = shared.network.attach(link).await.map_err(refused)?;
    let node = Node {
        config: config.clone(),
        namespace,
        // Replaced when the pods of an earlier run are known, before the first address is given out.
        addresses: Mutex::new(AddressPools::new(&config.pod_cidrs, [])),
        cpu: machine.amount("cpu"),
        memory: machine.amount("memory"),
    };
    let unregistered = |source| StartError::Api { node: name.clone(), source: Box::new(source) };
    node::register(&shared.client, &node, machine).await.map_err(unregistered)?;
    Ok((Arc::new(node), link))
}

/// A node has an address and a pod range of the same families, in the same order, and each range has room.
fn check_families(config: &NodeConfig) -> Result<(), StartError> {
    let addresses = config.addresses.iter().map(IpAddr::is_ipv6);
    if config.addresses.is_empty() || !addresses.eq(config.pod_cidrs.iter().map(|range| range.addr().is_ipv6())) {
        return Err(StartError::Families { node: config.name.clone() });
    }
    match config.pod_cidrs.iter().find(|range| range.max_prefix_len() - range.prefix_len() < 3) {
        Some(range) => Err(StartError::Range { node: config.name.clone(), range: range.to_string() }),
        None => Ok(()),
    }
}

/// Removes the files of pods that were deleted while podd was down.
async fn sweep(shared: &Shared) {
    let pods: Api<Pod> = Api::all(shared.client.clone());
    let there: BTreeSet<String> = match pods.list_metadata(&ListParams::default()).await {
        Ok(list) => list.items.into_iter().filter_map(|pod| pod.metadata.uid).collect(),
        Err(error) => return warn!(%error, "files of pods that are gone are left behind"),
    };
    for entry in std::fs::read_dir(shared.pod_dir("")).into_iter().flatten().flatten() {
        if entry.file_name().to_str().is_some_and(|uid| !there.contains(uid))
            && let Err(error) = std::fs::remove_dir_all(entry.path())
        {
            warn!(%error, path = %entry.path().display(), "files of a pod that is gone are left behind");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_needs_an_address_and_a_range_of_the_same_families_in_the_same_order() {
        for (addresses, ranges, expected) in [
            ("10.95.0.11", "10.244.1.0/24", None),
            ("fd00:95::11", "fd00:244:0:1::/64", None),
            ("10.95.0.11 fd00:95::11", "10.244.1.0/24 fd00:244:0:1::/64", None),
            ("", "", Some("of each of its IP families")),
            ("10.95.0.11 fd00:95::11", "10.244.1.0/24", Some("of each of its IP families")),
            ("10.95.0.11 fd00:95::11", "fd00:244:0:1::/64 10.244.1.0/24", Some("in the same order")),
            ("10.95.0.11 fd00:95::11", "10.244.1.0/24 fd00:244::/126", Some("fd00:244::/126 of node n is too small")),
        ] {
            let config = NodeConfig {
                name: "n".to_owned(),
                addresses: addresses.split(' ').filter_map(|text| text.parse().ok()).collect(),
                zone: None,
                pod_cidrs: ranges.split(' ').filter_map(|text| text.parse().ok()).collect(),
            };
            let refused = check_families(&config).err().map(|error| error.to_string());
            match expected {
                None => assert_eq!(refused, None, "{addresses}, {ranges}"),
                Some(why) => assert!(refused.is_some_and(|text| text.contains(why)), "{addresses}, {ranges}"),
            }
        }
    }
}
