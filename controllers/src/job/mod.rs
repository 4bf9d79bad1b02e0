//! Jobs: pods that run until enough of them have succeeded (P-113, P-114).
//!
//! Counting survives restarts and deleted pods the way upstream's does: every pod of a Job carries a finalizer. A pod that
//! has ended is first written to `status.uncountedTerminatedPods`, then loses its finalizer, and only then moves from that
//! list into the counters. Whatever happens in between, no pod is lost or counted twice.
//!
//! Where each index has a limit of its own, its failures are counted by annotations that pods hand on to those that replace
//! them: the last failed pod of an index keeps its finalizer until there is another.

mod apply;
mod backoff;
mod counting;
mod desired;
mod indexes;
mod pod;
mod rules;
mod running;
mod verdict;

pub(crate) use apply::wire;
pub(crate) use desired::finished;
pub(crate) use pod::{FAILURES, IGNORED_FAILURES, INDEX};
