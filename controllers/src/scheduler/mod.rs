//! The scheduler: gives every pod without a node one (A-133, P-041, P-042).
//!
//! It looks at what makes a difference for processes on virtual nodes: node state, selectors, affinity to nodes,
//! taints and host ports. Resource requests are not weighed: all nodes are the same machine.

mod apply;
mod place;
pub(crate) mod terms;

pub(crate) use apply::wire;
