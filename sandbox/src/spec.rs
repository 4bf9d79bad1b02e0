//! What can be asked of a sandbox: plain values, no behaviour.

use std::ffi::OsString;
use std::net::IpAddr;
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::cgroups::Group;
use crate::protocol::os_text;

/// A namespace to be made: one pod, one node, the workstation or the control plane.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NamespaceSpec {
    /// Shown by `ps` as the name of the namespace's agent; the kernel keeps 15 bytes of it.
    pub name: String,
    /// What `hostname` answers inside; at most 64 bytes.
    pub hostname: String,
    /// Whether interfaces inside may have IPv6 addresses. Off, the kernel sends no router solicitations into the TUN.
    pub ipv6: bool,
    /// The most processes (and threads) at a time, where the kernel can limit them for a namespace: see
    /// [`can_limit_processes`](crate::can_limit_processes).
    pub processes: Option<u32>,
}

impl NamespaceSpec {
    /// A namespace without IPv6 and without a limit of processes.
    pub fn new(name: impl Into<String>, hostname: impl Into<String>) -> Self {
        Self { name: name.into(), hostname: hostname.into(), ipv6: false, processes: None }
    }
}

/// A TUN device to be opened inside a namespace.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TunSpec {
    /// The interface's name, 1 to 15 bytes.
    pub name: String,
    /// Assigned with a host prefix (/32 or /128).
    pub addresses: Vec<IpAddr>,
    /// In bytes, 68 to 65535.
    pub mtu: u32,
    /// Send everything that has no better route through this interface.
    pub default_route: bool,
    /// Further destinations (address, prefix length) that are reached through this interface.
    pub routes: Vec<(IpAddr, u8)>,
    /// Segmentation and checksum offload: each packet read or written starts with a 10-byte `virtio_net_hdr`, and may be longer
    /// than the MTU. A kernel that cannot do it refuses the whole request.
    pub offload: bool,
}

impl TunSpec {
    /// `eth0` with one address and the default route, MTU 1500, no offload.
    pub fn eth0(address: IpAddr) -> Self {
        Self::eth0_with(vec![address])
    }

    /// The same with several addresses, and a default route for each of their families.
    pub fn eth0_with(addresses: Vec<IpAddr>) -> Self {
        Self { name: "eth0".into(), addresses, mtu: 1500, default_route: true, routes: Vec::new(), offload: false }
    }
}

/// A kind of Internet socket.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum SocketKind {
    /// TCP over IPv4.
    Tcp4,
    /// TCP over IPv6.
    Tcp6,
    /// UDP over IPv4.
    Udp4,
    /// UDP over IPv6.
    Udp6,
}

/// Who a process runs as.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Credentials {
    /// User id as the host sees it.
    pub uid: u32,
    /// Primary group id.
    pub gid: u32,
    /// Supplementary groups, complete.
    pub groups: Vec<u32>,
}

/// Names a process within its namespace; never used twice there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct ProcessId(pub(crate) u64);

/// What a process sees of the file tree.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub enum MountSpace {
    /// The namespace's own: the host's tree with a `/proc` of the namespace.
    #[default]
    Agent,
    /// A new one, a container's: the host's tree, changed by these mounts, `Hide`s first and the others in order. When its
    /// process ends, everything else that runs in it is killed.
    New(Vec<Mount>),
    /// The one of a running process that was started in the same namespace.
    Of(ProcessId),
}

/// One change to the file tree. Missing mount points are made, visible in this mount space only; symbolic links in a target are
/// followed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Mount {
    /// The file or directory `source` of the host appears at `target`.
    Bind {
        /// An absolute path on the host, looked up before any mount of the list is made.
        #[serde(with = "os_text")]
        source: PathBuf,
        /// An absolute path.
        #[serde(with = "os_text")]
        target: PathBuf,
        /// Refuse writes through `target`.
        read_only: bool,
    },
    /// An empty directory in memory, writable for everyone, appears at `target`.
    Tmpfs {
        /// An absolute path.
        #[serde(with = "os_text")]
        target: PathBuf,
        /// The most it can hold; `None` is the kernel's default, half of the memory.
        size_bytes: Option<u64>,
    },
    /// What is at `target` cannot be seen: a directory appears empty, anything else as an empty device. Nothing happens if
    /// nothing is there.
    Hide {
        /// An absolute path.
        #[serde(with = "os_text")]
        target: PathBuf,
    },
}

/// A process to be started.
#[derive(Debug, Default)]
pub struct ProcessSpec {
    /// The program and its arguments; a program without a slash is looked up in the `PATH` of `env`, inside the mount space.
    pub argv: Vec<OsString>,
    /// The complete environment.
    pub env: Vec<(OsString, OsString)>,
    /// The working directory, inside the mount space; `/` if not given.
    pub cwd: Option<PathBuf>,
    /// Who runs it; the user of the main process if not given. Only root can choose another: otherwise see
    /// [`Process::ran_as_requested`](crate::Process::ran_as_requested).
    pub user: Option<Credentials>,
    /// Descriptor 0; `/dev/null` if not given.
    pub stdin: Option<OwnedFd>,
    /// Descriptor 1; `/dev/null` if not given.
    pub stdout: Option<OwnedFd>,
    /// Descriptor 2; `/dev/null` if not given.
    pub stderr: Option<OwnedFd>,
    /// What it sees of the file tree.
    pub mounts: MountSpace,
    /// The control group that it and everything it starts is limited by. One that is started in the mount space of another is in
    /// that one's group too.
    pub group: Option<Arc<Group>>,
    /// Make the terminal at `stdin` the controlling terminal. Every process gets a session of its own either way.
    pub terminal: bool,
}

/// How a process ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum ExitStatus {
    /// It exited with this code, 0 to 255.
    Code(i32),
    /// A signal killed it.
    Signal(i32),
}

impl ExitStatus {
    /// As one number, as a shell would say it: 128 + n for signal n.
    pub fn as_code(self) -> i32 {
        match self {
            Self::Code(code) => code,
            Self::Signal(signal) => 128 + signal,
        }
    }
}
