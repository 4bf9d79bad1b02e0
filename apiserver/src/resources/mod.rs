//! The kinds served, one file each; this file lists them in discovery order.

mod address;
mod check;
mod configmap;
mod deployment;
mod endpoints;
mod endpointslice;
mod event;
#[cfg(test)]
mod every_kind_tests;
mod json;
mod lease;
pub(crate) mod meta;
mod namespace;
mod node;
mod pod;
mod podspec;
mod printing;
mod replicaset;
mod secret;
mod service;
mod serviceaccount;
mod template;

use crate::registry::Resource;

/// Every kind: core first, and the preferred version of a group first.
pub fn all() -> Vec<Resource> {
    vec![
        configmap::resource(),
        endpoints::resource(),
        event::core(),
        namespace::resource(),
        node::resource(),
        pod::resource(),
        secret::resource(),
        serviceaccount::resource(),
        service::resource(),
        deployment::resource(),
        replicaset::resource(),
        lease::resource(),
        endpointslice::resource(),
        event::events_group(),
    ]
}
