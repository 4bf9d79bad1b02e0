//! Plays the kubelet: runs the pods bound to a lab's nodes as local processes in namespaces of their own.
//!
//! What a pod should do next, what it sees and what the API shows of it are plain functions (`pod::core`,
//! `pod::status`, `env`, `files`, `probe`, `address`, `image`, `volumes::content`); one worker task per pod does what
//! they say, through the sandbox and a [`Network`]. Nothing here enters a namespace or touches a packet.

mod address;
mod attach;
pub mod builtin;
mod config;
mod env;
mod exec;
mod files;
mod image;
mod kubelet;
mod logs;
mod manager;
mod network;
mod node;
mod pod;
mod probe;
mod processes;
mod recorder;
mod services;
mod shared;
mod streaming;
mod terminal;
#[cfg(test)]
mod testing;
mod volumes;

pub use config::{Config, ImageCommand, NodeConfig};
pub use exec::{ExecError, ExecSpec};
pub use image::bring::find_program;
pub use image::{ImageListing, list as list_images};
pub use kubelet::{Podd, StartError, SwitchError};
pub use logs::{LogError, LogOptions, OutputStream};
pub use network::{HostPort, HostProtocol, Link, LinkId, Network, NetworkError, Owner};
pub use streaming::{Framing, StreamError, StreamRequest, StreamSession, Streams};
