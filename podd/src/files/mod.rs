//! The files a pod sees in place of the host's: names, resolver, hosts. Text in, text out.

pub(crate) mod hosts;
pub(crate) mod names;
pub(crate) mod resolv;
