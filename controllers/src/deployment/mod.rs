//! Deployments: from one revision of a template to the next without going below what was promised (P-096 to P-102).

mod apply;
mod conditions;
mod desired;
mod rollout;
pub(crate) mod template;

pub(crate) use apply::wire;
