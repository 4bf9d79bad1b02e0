//! ReplicaSets and ReplicationControllers: so many pods of a template, no more and no less (P-088 to P-095).

mod apply;
mod desired;
mod kinds;
pub(crate) mod order;

pub(crate) use apply::wire;
pub(crate) use order::DELETION_COST;
