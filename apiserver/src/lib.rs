//! A Kubernetes-compatible REST API over the object store

pub mod error;
pub mod registry;
pub mod resources;
pub mod serve;
pub mod table;
