//! The garbage collector: deletes what its owners have left behind (P-084 to P-087, S-192, S-233, S-235).

mod apply;
mod graph;
mod metadata;
mod verdict;

pub(crate) use apply::{watch_kind, wire};
