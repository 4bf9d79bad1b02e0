//! DaemonSets: one pod on every node that may have it (P-112).

mod apply;
mod desired;
mod pod;

pub(crate) use apply::wire;
