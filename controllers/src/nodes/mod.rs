//! Nodes that fall silent, and what becomes of their pods (P-058, P-118).

mod apply;
mod judge;
mod orphans;
mod tell;

pub(crate) use apply::wire;
pub(crate) use orphans::wire as wire_orphans;
