//! What surrounds a pod that is to be placed: where other pods are. Pure.

use std::collections::HashMap;
use std::sync::Arc;

use k8s_openapi::api::core::v1::Node;

use super::ledger::Ledger;
use crate::pod::Pod;
use crate::pods;
use crate::relations::{Namespaces, Relations};

/// What a decision may ask for besides nodes and ledger. Only a pod with relations has it look at all pods.
#[derive(Clone, Copy)]
pub(crate) struct World<'a> {
    pub(crate) pods: &'a dyn Fn() -> Vec<Arc<Pod>>,
    pub(crate) namespaces: Namespaces<'a>,
}

/// Pods that have not ended, each with the index of its node.
pub(crate) struct Placed<'a>(Vec<(&'a Pod, usize)>);

impl<'a> Placed<'a> {
    /// Those of `all` that have a node, or that the ledger has decided on.
    pub(crate) fn of(all: &'a [Arc<Pod>], nodes: &[Arc<Node>], ledger: &Ledger) -> Self {
        if all.is_empty() {
            return Self(Vec::new());
        }
        let names = nodes.iter().enumerate().map(|(index, node)| (node.metadata.name.as_deref(), index));
        let indices: HashMap<_, _> = names.collect();
        let index = |pod| indices.get(&Some(pods::node_name(pod).or_else(|| ledger.assumed(pod))?)).copied();
        let lasting = all.iter().filter(|pod| !pods::is_finished(pod));
        Self(lasting.filter_map(|pod| Some((&**pod, index(pod)?))).collect())
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (&'a Pod, usize)> {
        self.0.iter().copied()
    }
}

/// The value of a node's label.
pub(crate) fn label<'a>(node: &'a Node, key: &str) -> Option<&'a str> {
    node.metadata.labels.as_ref()?.get(key).map(String::as_str)
}

/// What a pod demands of others.
pub(crate) fn relations(pod: &Pod) -> Option<&Arc<Relations>> {
    pod.spec.as_ref()?.relations.as_ref()
}
