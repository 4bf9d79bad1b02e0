//! The scheduler: gives every pod without a node one (A-133, P-041, P-042).
//!
//! It looks at what makes a difference for processes on virtual nodes: node state, selectors, affinity to nodes,
//! taints, host ports, whether what pods request fits into what the node says that it has, and where other pods are.

mod affinity;
mod apply;
mod around;
#[cfg(test)]
mod fixtures;
mod ledger;
mod place;
mod preference;
mod room;
mod spread;
pub(crate) mod terms;

pub(crate) use apply::wire;
