//! Gives Services of type LoadBalancer an address of the lab's own pool: the cloud provider of a lab.

mod apply;
mod changes;
mod desired;
#[cfg(test)]
mod desired_tests;

pub(crate) use apply::{files, wire};
