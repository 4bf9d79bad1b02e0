//! The Endpoints object of every Service with a selector (S-174 to S-185): deprecated, but still read and tested.

mod apply;
mod desired;

pub(crate) use apply::wire;
