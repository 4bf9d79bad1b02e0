//! EndpointSlices for Endpoints that users write by hand (S-212 to S-216).

mod apply;
mod desired;

pub(crate) use apply::wire;
