//! The kinds served, one file each; this file lists them in discovery order.

mod address;
mod amount;
mod autoscaling;
mod check;
mod configmap;
mod controllerrevision;
mod cronjob;
mod customresourcedefinition;
mod daemonset;
mod deployment;
mod endpoints;
mod endpointslice;
mod event;
#[cfg(test)]
mod every_kind_tests;
mod fault;
mod inert;
mod ingress;
pub(crate) mod ipaddress;
mod job;
mod json;
mod lease;
pub(crate) mod meta;
mod namespace;
mod node;
mod pod;
mod poddisruptionbudget;
mod podspec;
mod podtemplate;
mod policy;
mod printing;
mod rbac;
mod replicaset;
mod replicationcontroller;
mod secret;
mod service;
mod serviceaccount;
pub(crate) mod servicecidr;
mod statefulset;
mod storage;
mod template;

use crate::registry::Resource;

/// Every kind: core first, and the preferred version of a group first.
pub fn all() -> Vec<Resource> {
    let core = [
        configmap::resource(),
        endpoints::resource(),
        event::core(),
        policy::limit_range(),
        namespace::resource(),
        node::resource(),
        storage::persistent_volume_claim(),
        storage::persistent_volume(),
        pod::resource(),
        podtemplate::resource(),
        replicationcontroller::resource(),
        policy::resource_quota(),
        secret::resource(),
        serviceaccount::resource(),
        service::resource(),
    ];
    let groups = [
        controllerrevision::resource(),
        daemonset::resource(),
        deployment::resource(),
        replicaset::resource(),
        statefulset::resource(),
        autoscaling::resource(),
        cronjob::resource(),
        job::resource(),
        lease::resource(),
        endpointslice::resource(),
        event::events_group(),
        ingress::ingress_class(),
        ingress::ingress(),
        ingress::network_policy(),
        ipaddress::resource(),
        servicecidr::resource(),
        policy::runtime_class(),
        poddisruptionbudget::resource(),
        policy::priority_class(),
        customresourcedefinition::resource(),
        fault::resource(),
    ];
    core.into_iter().chain(groups).chain(rbac::all()).chain(storage::all()).collect()
}
