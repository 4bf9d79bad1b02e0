//! What `minisvc why` needs of a lab: the facts, gathered as fast as they can be, and the words for people.
//!
//! What they mean is decided in the crate `minisvc-why`.

mod collect;
pub(crate) mod inside;
mod look;
mod render;

pub(crate) use collect::answer;
pub(crate) use look::{look_main, sockets_main};
pub(crate) use render::render;
