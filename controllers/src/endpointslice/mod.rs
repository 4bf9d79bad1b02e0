//! EndpointSlices for every Service with a selector (S-186 to S-211).

mod apply;
pub(crate) mod desired;
mod pack;
mod parent;
pub(crate) mod plan;
mod topology;
pub(crate) mod write;

pub(crate) use apply::wire;
pub(crate) use write::files;
