//! The files a pod sees in place of the host's: names, resolver, hosts. Text in, text out.

pub mod hosts;
pub mod names;
pub mod resolv;
