//! The part of SPDY/3.1 that kubectl uses: frames, header blocks, and the streams of exec and port-forward.

mod connection;
mod forward;
mod frame;
mod headers;
mod remote;

pub(super) use forward::forward;
pub(super) use remote::remote;
