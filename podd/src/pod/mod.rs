//! Pods: the state machine (`core`), what it shows (`status`), and the worker that acts for it.

pub(crate) mod admission;
pub(crate) mod asking;
pub(crate) mod backoff;
pub(crate) mod container;
pub(crate) mod core;
pub(crate) mod event;
mod host_ports;
mod limits;
pub(crate) mod plan;
pub(crate) mod publish;
pub(crate) mod sandbox;
pub(crate) mod start;
pub(crate) mod status;
pub(crate) mod worker;

use std::time::Instant;

use jiff::Timestamp;

/// The two clocks, read together: one to count with, one to show.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Now {
    /// For waits.
    pub(crate) instant: Instant,
    /// For the API.
    pub(crate) wall: Timestamp,
}

impl Now {
    /// Reads both clocks. Only the shell calls this.
    pub(crate) fn read() -> Self {
        Self { instant: Instant::now(), wall: Timestamp::now() }
    }
}
