//! Pods: the state machine (`core`), what it shows (`status`), and the worker that acts for it.

pub mod backoff;
pub mod container;
pub mod core;
pub mod plan;
pub mod status;

use std::time::Instant;

use jiff::Timestamp;

/// The two clocks, read together: one to count with, one to show.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Now {
    /// For waits.
    pub instant: Instant,
    /// For the API.
    pub wall: Timestamp,
}

impl Now {
    /// Reads both clocks. Only the shell calls this.
    pub fn read() -> Self {
        Self { instant: Instant::now(), wall: Timestamp::now() }
    }
}
