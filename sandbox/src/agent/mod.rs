//! The agent: PID 1 of one namespace. It serves the main process's requests and reaps every process inside.

mod limits;
mod mounts;
mod net;
mod netlink;
mod process;
mod rules;
mod serve;
mod spawn;
mod tun;

pub use limits::can_limit_processes;
pub use net::open_host_tun;
pub(crate) use serve::run;
