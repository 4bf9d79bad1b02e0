//! PodDisruptionBudgets: how many pods may be evicted right now (P-119). The API server asks the status before it evicts.

mod apply;
mod desired;

pub(crate) use apply::wire;
