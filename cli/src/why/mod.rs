//! What `minisvc why` needs of a lab: the facts, gathered as fast as they can be, and the words for people.
//!
//! What they mean is decided in the crate `minisvc-why`.

mod collect;
pub(crate) mod inside;
mod look;
mod render;

use minisvc_why::Client;

pub(crate) use collect::answer;
pub(crate) use look::{look_main, sockets_main};
pub(crate) use render::render;

/// A pod that asks, as users write it: `web`, `pod/web` or `shop/web`.
pub(crate) fn client(pod: &str, namespace: &str) -> Client {
    let pod = pod.strip_prefix("pod/").unwrap_or(pod);
    let (namespace, pod) = pod.split_once('/').unwrap_or((namespace, pod));
    Client::Pod((namespace.to_owned(), pod.to_owned()))
}
