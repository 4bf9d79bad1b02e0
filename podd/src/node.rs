//! The Node objects and their heartbeats (P-116).

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::Node as NodeObject;
use kube::api::{Patch, PatchParams, PostParams};
use kube::{Api, Client};
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;
use tracing::{debug, warn};

use crate::shared::Node;

/// Between two heartbeats.
const HEARTBEAT: Duration = Duration::from_secs(10);
/// For how long a heartbeat counts, in seconds.
const LEASE_SECONDS: i32 = 40;
/// Where the heartbeats are.
const LEASE_NAMESPACE: &str = "kube-node-lease";
/// All nodes of a lab are on one machine.
const REGION: &str = "local";

/// What a machine has for all its nodes: each says that it has it all, because processes share it.
pub(crate) struct Machine {
    pub(crate) cpu: String,
    pub(crate) memory: String,
    kernel: String,
}

impl Machine {
    /// Looks at this machine.
    pub(crate) fn read() -> Self {
        let cpu = std::thread::available_parallelism().map_or(1, usize::from);
        let memory = std::fs::read_to_string("/proc/meminfo").unwrap_or_default();
        let total = memory.lines().find_map(|line| line.strip_prefix("MemTotal:")?.trim().strip_suffix(" kB"));
        let kernel = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
        Self {
            cpu: cpu.to_string(),
            memory: format!("{}Ki", total.unwrap_or("1048576")),
            kernel: kernel.trim().to_owned(),
        }
    }
}

/// Makes the Node object, or brings an old one up to date.
///
/// # Errors
/// When the API does not take it.
pub(crate) async fn register(client: &Client, node: &Node, machine: &Machine) -> Result<(), kube::Error> {
    let nodes: Api<NodeObject> = Api::all(client.clone());
    let name = &node.config.name;
    let object = object(node);
    if nodes.get_opt(name).await?.is_none() {
        let object = serde_json::from_value(object.clone()).map_err(kube::Error::SerdeError)?;
        nodes.create(&PostParams::default(), &object).await?;
    } else {
        // An old object keeps what others put there; a cordon outlives a restart.
        nodes.patch(name, &PatchParams::default(), &Patch::Merge(object)).await?;
    }
    let status = json!({"status": status(node, machine, Timestamp::now())});
    nodes.patch_status(name, &PatchParams::default(), &Patch::Strategic(status)).await?;
    Ok(())
}

/// Renews the lease of `node`, and its Ready condition should somebody have changed it, until `shutdown`.
pub(crate) async fn beat(client: Client, node: Arc<Node>, machine: Arc<Machine>, shutdown: CancellationToken) {
    let mut ticks = tokio::time::interval(HEARTBEAT);
    loop {
        tokio::select! {
            _ = ticks.tick() => {}
            () = shutdown.cancelled() => return,
        }
        if let Err(error) = renew(&client, &node.config.name).await {
            warn!(%error, node = node.config.name, "the heartbeat of a node is not taken");
        }
        match is_ready(&client, &node.config.name).await {
            Ok(true) => {}
            Ok(false) => {
                if let Err(error) = register(&client, &node, &machine).await {
                    warn!(%error, node = node.config.name, "the status of a node is not taken");
                }
            }
            Err(error) => debug!(%error, node = node.config.name, "the node cannot be read"),
        }
    }
}

async fn is_ready(client: &Client, name: &str) -> Result<bool, kube::Error> {
    let node = Api::<NodeObject>::all(client.clone()).get_opt(name).await?;
    let conditions = node.and_then(|node| node.status?.conditions).unwrap_or_default();
    Ok(conditions.iter().any(|c| c.type_ == "Ready" && c.status == "True"))
}

async fn renew(client: &Client, name: &str) -> Result<(), kube::Error> {
    let leases: Api<Lease> = Api::namespaced(client.clone(), LEASE_NAMESPACE);
    let now = Timestamp::now().strftime("%Y-%m-%dT%H:%M:%S.%6fZ").to_string();
    let spec = json!({"holderIdentity": name, "leaseDurationSeconds": LEASE_SECONDS, "renewTime": now});
    let patch = Patch::Merge(json!({"spec": spec}));
    match leases.patch(name, &PatchParams::default(), &patch).await {
        Err(kube::Error::Api(status)) if status.code == 404 => {
            let lease = json!({"metadata": {"name": name}, "spec": spec});
            let lease = serde_json::from_value(lease).map_err(kube::Error::SerdeError)?;
            leases.create(&PostParams::default(), &lease).await.map(drop)
        }
        result => result.map(drop),
    }
}

fn object(node: &Node) -> Value {
    let config = &node.config;
    let mut labels = json!({
        "kubernetes.io/hostname": config.name,
        "kubernetes.io/os": "linux",
        "kubernetes.io/arch": arch(),
        "topology.kubernetes.io/region": REGION,
    });
    if let Some(zone) = &config.zone {
        labels["topology.kubernetes.io/zone"] = json!(zone);
    }
    let ranges: Vec<String> = config.pod_cidrs.iter().map(|range| range.trunc().to_string()).collect();
    json!({
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {"name": config.name, "labels": labels},
        "spec": {"podCIDR": ranges.first(), "podCIDRs": ranges},
    })
}

fn status(node: &Node, machine: &Machine, now: Timestamp) -> Value {
    let now = now.strftime("%Y-%m-%dT%H:%M:%SZ").to_string();
    let condition = |kind: &str, status: &str, reason: &str, message: &str| {
        json!({"type": kind, "status": status, "reason": reason, "message": message,
            "lastHeartbeatTime": now, "lastTransitionTime": now})
    };
    // What the smallest pod range has room for, less its first two addresses and its last.
    let bits = node.config.pod_cidrs.iter().map(|range| range.max_prefix_len() - range.prefix_len()).min();
    let pods = 1_u64.checked_shl(bits.unwrap_or(0).into()).unwrap_or(1 << 16).min(1 << 16).saturating_sub(3);
    let amounts = json!({"cpu": machine.cpu, "memory": machine.memory, "pods": pods.to_string()});
    let own = node.config.addresses.iter().map(|address| json!({"type": "InternalIP", "address": address}));
    // Strategic merge tells addresses apart by their type alone, so two families would become one; the kubelet replaces the
    // list as well.
    let rest = [json!({"type": "Hostname", "address": node.config.name}), json!({"$patch": "replace"})];
    let addresses: Vec<Value> = own.chain(rest).collect();
    json!({
        "addresses": addresses,
        "capacity": amounts,
        "allocatable": amounts,
        "conditions": [
            condition("MemoryPressure", "False", "KubeletHasSufficientMemory", "there is memory"),
            condition("DiskPressure", "False", "KubeletHasNoDiskPressure", "there is room on the disk"),
            condition("PIDPressure", "False", "KubeletHasSufficientPID", "there are process ids"),
            condition("Ready", "True", "KubeletReady", "podd runs the pods of this node"),
        ],
        "nodeInfo": {
            "architecture": arch(),
            "bootID": "",
            "containerRuntimeVersion": concat!("minisvc://", env!("CARGO_PKG_VERSION")),
            "kernelVersion": machine.kernel,
            "kubeProxyVersion": "",
            "kubeletVersion": concat!("v1.36.0-minisvc.", env!("CARGO_PKG_VERSION")),
            "machineID": "",
            "operatingSystem": "linux",
            "osImage": "processes on the host",
            "systemUUID": "",
        },
        "daemonEndpoints": {"kubeletEndpoint": {"Port": 0}},
    })
}

/// As Kubernetes calls it.
fn arch() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}
