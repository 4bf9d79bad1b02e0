//! Namespaces, mounts, TUN devices and processes: everything that needs the kernel, behind one helper process.
//!
//! A lab has one [`Sandbox`]: a single-threaded helper that is PID 1 of the lab's PID namespace. It makes [`Namespace`]s, each
//! with an agent that is PID 1 of a PID, network, mount, UTS and IPC namespace of its own. The main process never changes
//! namespace; it asks, and gets file descriptors and exit statuses back. Every name is anonymous and every process a descendant
//! of the helper, so nothing outlives the lab, not even after `kill -9` of the main process or of the helper. The one exception
//! are the directories of control groups, which the next start removes when both were killed: see [`Group`].
//!
//! The program that launches a sandbox must call [`helper_main`] when it is started with the arguments in
//! [`LaunchOptions::args`], before it starts any thread.
//!
//! This crate does not decide what runs where, which addresses are used, or what happens to a packet.

mod agent;
mod cgroups;
mod error;
mod fds;
mod helper;
mod launch;
mod namespace;
mod preflight;
mod protocol;
mod slice;
mod spec;
mod sys;

pub use agent::{can_limit_processes, open_host_tun};
pub use cgroups::{Group, Limits, abandoned_groups, remove_abandoned_groups};
pub use error::{LaunchError, OsError, SandboxError, SpawnError};
pub use fds::{FdListener, FdSocket, MESSAGE_LIMIT, PeerCredentials, watch_fd};
pub use helper::helper_main;
pub use launch::{LaunchOptions, Sandbox};
pub use namespace::{Namespace, Process};
pub use preflight::{Problem, preflight, remarks};
pub use slice::take_short_turns;
pub use spec::{
    Credentials, ExitStatus, Mount, MountSpace, NamespaceSpec, ProcessId, ProcessSpec, SocketKind, TunSpec,
};
