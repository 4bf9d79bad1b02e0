//! The programs behind `minisvc/echo` and `minisvc/pause`: plain threads, a few hundred kilobytes each.
//!
//! They must be called before the process has started a thread, because they block signals for all of them.

mod agnhost;
mod dial;
mod echo;
mod files;
mod http;
mod manner;
mod sctp;
mod tls;

use std::process::ExitCode;

use nix::sys::signal::{SigSet, Signal};

pub use echo::echo_main;
pub use sctp::sctp_connect;

/// The variable in which the built-in server finds the mount paths of its container's volumes, with colons between.
pub(crate) const VOLUMES: &str = "MINISVC_VOLUMES";

/// Waits until it is told to end, then ends with 0.
pub fn pause_main() -> ExitCode {
    let signals = block_signals();
    match wait_for_signal(&signals) {
        Some(_) => ExitCode::SUCCESS,
        None => ExitCode::FAILURE,
    }
}

/// Blocks the signals that ask for an end, for this thread and all that it starts.
fn block_signals() -> SigSet {
    let mut signals = SigSet::empty();
    signals.add(Signal::SIGTERM);
    signals.add(Signal::SIGINT);
    // Fails only for a bad argument, and then the signals end the process by themselves.
    let _ = signals.thread_block();
    signals
}

/// Waits until it is told to end; `None` if the kernel refuses to tell.
fn wait_for_signal(signals: &SigSet) -> Option<Signal> {
    signals.wait().ok()
}
