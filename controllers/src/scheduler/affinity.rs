//! Affinity between pods: which nodes are near the pods that a pod must, must not, or would rather be near. Pure.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use k8s_openapi::api::core::v1::Node;

use super::around::{Placed, World, label, relations};
use super::ledger::{Ledger, Taken};
use crate::pod::Pod;
use crate::relations::Term;

/// What upstream counts an affinity as that another pod requires and this one satisfies; there it can be set.
const WEIGHT_OF_REQUIRED: i32 = 1;

/// Nodes that have the same value of a label: its key and the value.
type Place<'a> = (&'a str, &'a str);

/// Where a pod may go by affinity, its own and that of others.
#[derive(Default)]
pub(crate) struct Company<'a> {
    required: &'a [Term],
    /// Places with a pod that all required terms select.
    near: HashSet<Place<'a>>,
    /// The pod is the first of a group whose pods are to be near each other.
    is_first: bool,
    /// Places with a pod that the pod must be apart from.
    apart: HashSet<Place<'a>>,
    /// Places with a pod that must be apart from the pod.
    unwelcome: HashSet<Place<'a>>,
    /// What preferences add up to, by place.
    liked: HashMap<Place<'a>, f64>,
}

impl<'a> Company<'a> {
    pub(crate) fn of(
        pod: &'a Pod,
        nodes: &'a [Arc<Node>],
        ledger: &'a Ledger,
        placed: &Placed<'_>,
        world: World<'_>,
    ) -> Self {
        let mut company = Self::default();
        company.ask_others(pod, nodes, ledger, world);
        if let Some(own) = relations(pod).filter(|own| own.concern_others()) {
            company.required = &own.near;
            let accepts = |other: &Pod| own.near.iter().all(|term| term.selects(other, world.namespaces));
            for (other, index) in placed.iter() {
                let Some(node) = nodes.get(index) else { continue };
                let selects = |term: &&Term| term.selects(other, world.namespaces);
                if !own.near.is_empty() && accepts(other) {
                    company.near.extend(own.near.iter().filter_map(|term| place(term, node)));
                }
                company.apart.extend(own.apart.iter().filter(selects).filter_map(|term| place(term, node)));
                for (weight, term) in own.liked.iter().filter(|(_, term)| selects(&term)) {
                    company.like(term, node, *weight, 1);
                }
            }
            company.is_first = company.near.is_empty() && accepts(pod);
        }
        company
    }

    /// What pods that have a node say of the pod.
    fn ask_others(&mut self, pod: &Pod, nodes: &'a [Arc<Node>], ledger: &'a Ledger, world: World<'_>) {
        for node in nodes {
            let taken = ledger.taken(node.metadata.name.as_deref().unwrap_or_default());
            for (theirs, count) in taken.into_iter().flat_map(Taken::relations) {
                let selects = |term: &&Term| term.selects(pod, world.namespaces);
                self.unwelcome.extend(theirs.apart.iter().filter(selects).filter_map(|term| place(term, node)));
                theirs.near.iter().filter(selects).for_each(|term| self.like(term, node, WEIGHT_OF_REQUIRED, count));
                for (weight, term) in theirs.liked.iter().filter(|(_, term)| selects(&term)) {
                    self.like(term, node, *weight, count);
                }
            }
        }
    }

    fn like(&mut self, term: &'a Term, node: &'a Node, weight: i32, pods: u32) {
        if let Some(place) = place(term, node) {
            *self.liked.entry(place).or_default() += f64::from(weight) * f64::from(pods);
        }
    }

    /// Why the node is out of the question.
    pub(crate) fn against(&self, node: &Node) -> Option<&'static str> {
        // A place must have a name to be the right one, also for the first.
        let fits = |term: &Term| place(term, node).is_some_and(|place| self.is_first || self.near.contains(&place));
        if !self.required.iter().all(fits) {
            Some("node(s) didn't match pod affinity rules")
        } else if is_in(node, &self.apart) {
            Some("node(s) didn't match pod anti-affinity rules")
        } else if is_in(node, &self.unwelcome) {
            Some("node(s) didn't satisfy existing pods anti-affinity rules")
        } else {
            None
        }
    }

    /// How much the node is preferred; less than nothing when it is rather to be avoided.
    pub(crate) fn liking(&self, node: &Node) -> f64 {
        // Sums of whole numbers: their order makes no difference.
        self.liked.iter().filter(|((key, value), _)| label(node, key) == Some(value)).map(|(_, liking)| liking).sum()
    }
}

/// Where the node is, as a term sees it.
fn place<'a>(term: &'a Term, node: &'a Node) -> Option<Place<'a>> {
    Some((&term.topology_key, label(node, &term.topology_key)?))
}

fn is_in(node: &Node, places: &HashSet<Place<'_>>) -> bool {
    let mut labels = node.metadata.labels.iter().flatten();
    !places.is_empty() && labels.any(|(key, value)| places.contains(&(key.as_str(), value.as_str())))
}

#[cfg(test)]
#[path = "affinity_tests.rs"]
mod tests;
