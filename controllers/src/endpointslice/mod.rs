//! EndpointSlices for every Service with a selector (S-186 to S-211).

mod apply;
mod desired;
mod pack;
mod plan;

pub(crate) use apply::wire;
