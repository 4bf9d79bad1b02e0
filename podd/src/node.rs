//! The Node objects and their heartbeats (P-116).

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::{Node as NodeObject, NodeStatus};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use kube::api::{Patch, PatchParams, PostParams};
use kube::{Api, Client};
use nix::sys::statvfs::{Statvfs, statvfs};
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;
use tracing::warn;

use crate::config::Config;
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
    /// By resource.
    amounts: BTreeMap<String, String>,
    kernel: String,
}

impl Machine {
    /// Looks at this machine. What `config` says that a node has wins.
    pub(crate) fn read(config: &Config) -> Self {
        let cpu = std::thread::available_parallelism().map_or(1, usize::from);
        let memory = std::fs::read_to_string("/proc/meminfo").unwrap_or_default();
        let memory = memory.lines().find_map(|line| line.strip_prefix("MemTotal:")?.trim().strip_suffix(" kB"));
        // Wide enough for every disk also where the kernel's words are short.
        let bytes = |disk: Statvfs| u128::from(disk.blocks()) * u128::from(disk.fragment_size());
        let disk = statvfs(&config.state_dir).ok().map(|disk| bytes(disk) / 1024);
        let mut amounts = BTreeMap::from([
            ("cpu".to_owned(), cpu.to_string()),
            ("memory".to_owned(), format!("{}Ki", memory.unwrap_or("1048576"))),
        ]);
        amounts.extend(disk.map(|disk| ("ephemeral-storage".to_owned(), format!("{disk}Ki"))));
        amounts.extend(config.capacity.clone());
        let kernel = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
        Self { amounts, kernel: kernel.trim().to_owned() }
    }

    /// How much there is of a resource.
    pub(crate) fn amount(&self, resource: &str) -> String {
        self.amounts.get(resource).cloned().unwrap_or_else(|| "0".to_owned())
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

/// Renews the lease of `node`, and mends its status, until `shutdown`.
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
        if let Err(error) = mend(&client, &node, &machine).await {
            warn!(%error, node = node.config.name, "the status of a node is not up to date");
        }
    }
}

/// Says again that the node is ready, should somebody have said otherwise, and lets pods have the extended resources that somebody
/// has added to its capacity.
async fn mend(client: &Client, node: &Node, machine: &Machine) -> Result<(), kube::Error> {
    let nodes: Api<NodeObject> = Api::all(client.clone());
    let known = nodes.get_opt(&node.config.name).await?.and_then(|known| known.status).unwrap_or_default();
    if !known.conditions.iter().flatten().any(|c| c.type_ == "Ready" && c.status == "True") {
        return register(client, node, machine).await;
    }
    let added = added(&known);
    if !added.is_empty() {
        let patch = Patch::Merge(json!({"status": {"allocatable": added}}));
        nodes.patch_status(&node.config.name, &PatchParams::default(), &patch).await?;
    }
    Ok(())
}

/// Extended resources of which pods may not have just as much as the capacity says.
fn added(status: &NodeStatus) -> BTreeMap<&String, &Quantity> {
    let allocatable = |name| status.allocatable.as_ref().and_then(|amounts| amounts.get(name));
    let capacity = status.capacity.iter().flatten();
    capacity.filter(|(name, amount)| name.contains('/') && allocatable(*name) != Some(*amount)).collect()
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
    let mut amounts = BTreeMap::from([("pods".to_owned(), pods.to_string())]);
    amounts.extend(machine.amounts.clone());
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pods_may_have_what_is_added_to_a_nodes_capacity() {
        let status = json!({
            "capacity": {"cpu": "2", "example.com/new": "4", "example.com/less": "1", "example.com/same": "3"},
            "allocatable": {"cpu": "1", "example.com/less": "2", "example.com/same": "3", "example.com/other": "9"},
        });
        let status = serde_json::from_value(status).expect("a status");
        let found: Vec<String> =
            added(&status).into_iter().map(|(name, amount)| format!("{name}={}", amount.0)).collect();
        assert_eq!(found, ["example.com/less=1", "example.com/new=4"]);
    }

    #[test]
    fn a_machine_has_what_it_has_unless_told_otherwise() {
        let mut config = Config::new(Vec::new(), "/");
        let own = Machine::read(&config);
        for resource in ["cpu", "memory", "ephemeral-storage"] {
            let amount = minisvc_schema::Amount::parse(&own.amount(resource)).expect("a quantity");
            assert!(amount.ones() > 0, "{resource}");
        }
        config.capacity =
            [("cpu", "64"), ("example.com/foo", "2")].map(|(name, amount)| (name.into(), amount.into())).into();
        let told = Machine::read(&config);
        assert_eq!(["cpu", "example.com/foo", "example.com/bar"].map(|name| told.amount(name)), ["64", "2", "0"]);
        assert_eq!(told.amount("memory"), own.amount("memory"));
    }
}
