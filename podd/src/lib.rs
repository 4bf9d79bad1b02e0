//! Plays the kubelet: runs the pods bound to a lab's nodes as local processes in namespaces of their own.
//!
//! What a pod should do next, what it sees and what the API shows of it are plain functions (`pod::core`,
//! `pod::status`, `env`, `files`, `probe`, `address`, `image`); one worker task per pod does what they say.

mod address;
mod env;
mod files;
mod image;
mod pod;
mod probe;
#[cfg(test)]
mod testing;
