//! Jobs: pods that run until enough of them have succeeded (P-113, P-114).
//!
//! Counting survives restarts and deleted pods the way upstream's does: every pod of a Job carries a finalizer. A pod that
//! has ended is first written to `status.uncountedTerminatedPods`, then loses its finalizer, and only then moves from that
//! list into the counters. Whatever happens in between, no pod is lost or counted twice.

mod apply;
mod backoff;
mod counting;
mod desired;
mod indexes;
mod pod;

pub(crate) use apply::wire;
pub(crate) use desired::finished;
pub(crate) use pod::{FAILURES, IGNORED_FAILURES, INDEX};
