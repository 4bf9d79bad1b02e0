//! What podd is told at start. Nothing here is read from the environment.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::time::Duration;

use ipnet::IpNet;
use minisvc_sandbox::Credentials;

pub use crate::image::ImageCommand;

/// Room for any server that is not broken, and few enough that the machine survives one that is.
const PROCESS_LIMIT: u32 = 4096;

/// One virtual node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeConfig {
    /// Name of the Node object and host name of its `hostNetwork` pods.
    pub name: String,
    /// Its `InternalIP`s, one per IP family, the lab's primary family first; never given to a pod.
    pub addresses: Vec<IpAddr>,
    /// `topology.kubernetes.io/zone`, if it is in one.
    pub zone: Option<String>,
    /// Where its pods get their addresses from: a range of each family of `addresses`, in the same order, each with room for at
    /// least 8 addresses (an IPv4 /29).
    pub pod_cidrs: Vec<IpNet>,
}

/// Everything podd needs to know.
#[derive(Clone, Debug)]
pub struct Config {
    /// The nodes it plays.
    pub nodes: Vec<NodeConfig>,
    /// `cluster.local`, without a final dot.
    pub cluster_domain: String,
    /// Cluster address of the DNS Service; `None` if the lab has no DNS.
    pub dns: Option<IpAddr>,
    /// Logs and volumes live below it. Made if missing.
    pub state_dir: PathBuf,
    /// What image names stand for, beside the built-in ones.
    pub images: BTreeMap<String, ImageCommand>,
    /// Who containers run as unless their manifest names a user; `None` is the user of this process.
    pub run_as: Option<Credentials>,
    /// Variables every container starts from, such as `PATH` and `HOME`; everything else overrides them.
    pub base_environment: BTreeMap<String, String>,
    /// The program that runs the built-in images when started with `__echo` or `__pause`.
    pub builtin_program: PathBuf,
    /// The host's resolver configuration, read when a pod is started.
    pub host_resolv_conf: PathBuf,
    /// First wait of a container that keeps ending (P-035, P-036).
    pub backoff_base: Duration,
    /// Longest wait of a container that keeps ending.
    pub backoff_cap: Duration,
    /// How long containers have between TERM and KILL when podd itself goes down; at least two seconds are given.
    pub shutdown_grace: Duration,
    /// How often volumes made of API objects are brought up to date.
    pub volume_refresh: Duration,
    /// Ports of a node's address that its own processes reach through the data plane instead of directly.
    pub node_ports: RangeInclusive<u16>,
    /// MTU of the interfaces of pods and nodes, in bytes.
    pub mtu: u32,
    /// Open TUN devices with segmentation offload; the [`Network`](crate::Network) is told.
    pub offload: bool,
    /// The most processes and threads of a pod, where the kernel can limit them
    /// ([`can_limit_processes`](minisvc_sandbox::can_limit_processes)). Pods in their node's network are not limited.
    pub process_limit: Option<u32>,
    /// What each node says that it has, by resource, where that is not what the machine has: `cpu`, `memory`, `ephemeral-storage`,
    /// `pods`, or an extended resource such as `example.com/gpu`.
    pub capacity: BTreeMap<String, String>,
    /// How much a container may write to its log before the older half is dropped, in bytes.
    pub log_limit: u64,
}

impl Config {
    /// Kubernetes' defaults for everything that has one.
    pub fn new(nodes: Vec<NodeConfig>, state_dir: impl Into<PathBuf>) -> Self {
        let path = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
        Self {
            nodes,
            cluster_domain: "cluster.local".to_owned(),
            dns: None,
            state_dir: state_dir.into(),
            images: BTreeMap::new(),
            run_as: None,
            base_environment: BTreeMap::from([("PATH".to_owned(), path.to_owned())]),
            builtin_program: std::env::current_exe().unwrap_or_else(|_| PathBuf::from("/proc/self/exe")),
            host_resolv_conf: PathBuf::from("/etc/resolv.conf"),
            backoff_base: Duration::from_secs(10),
            backoff_cap: Duration::from_secs(300),
            shutdown_grace: Duration::from_secs(1),
            volume_refresh: Duration::from_secs(60),
            node_ports: 30000..=32767,
            mtu: 65535,
            offload: false,
            process_limit: Some(PROCESS_LIMIT),
            capacity: BTreeMap::new(),
            log_limit: 20 << 20,
        }
    }
}
