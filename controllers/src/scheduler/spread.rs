//! Spread constraints: how many pods of a kind the places have, and which nodes would make that too uneven. Pure.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use k8s_openapi::api::core::v1::Node;

use super::around::{Placed, label, relations};
use super::terms;
use crate::pod::Pod;
use crate::relations::Constraint;

/// What the constraints of a pod come to.
#[derive(Default)]
pub(crate) struct Spread<'a> {
    required: Vec<Counts<'a>>,
    wished: Vec<Counts<'a>>,
}

/// How many pods there are by value of the constraint's label. Places that count and have none are there, too.
struct Counts<'a> {
    constraint: &'a Constraint,
    pods: HashMap<&'a str, u32>,
    /// What the pod itself adds.
    own: u32,
}

impl<'a> Spread<'a> {
    pub(crate) fn of(pod: &'a Pod, nodes: &'a [Arc<Node>], placed: &Placed<'_>) -> Self {
        let Some(own) = relations(pod).filter(|own| !own.spread.is_empty()) else { return Self::default() };
        let of_kind = |required: bool| {
            let constraints: Vec<_> = own.spread.iter().filter(|one| one.required == required).collect();
            constraints.iter().map(|one| Counts::of(one, &constraints, pod, nodes, placed)).collect()
        };
        Self { required: of_kind(true), wished: of_kind(false) }
    }

    /// Why the node is out of the question.
    pub(crate) fn against(&self, node: &Node) -> Option<&'static str> {
        self.required.iter().find_map(|counts| {
            let Some(pods) = counts.at(node) else {
                return Some("node(s) didn't match pod topology spread constraints (missing required label)");
            };
            let skew = i64::from(pods) + i64::from(counts.own) - counts.least();
            let uneven = skew > i64::from(counts.constraint.max_skew);
            uneven.then_some("node(s) didn't match pod topology spread constraints")
        })
    }

    /// How much each of the nodes is preferred, of a hundred: the more, the fewer pods there are where it is.
    pub(crate) fn liking(&self, nodes: &[&Node]) -> Vec<f64> {
        let in_all = |node: &&&Node| self.wished.iter().all(|counts| counts.at(node).is_some());
        let weights: Vec<f64> = self.wished.iter().map(|counts| counts.weight(nodes.iter().filter(in_all))).collect();
        let crowd = |node: &Node| -> Option<f64> {
            let all = self.wished.iter().zip(&weights);
            let parts = all.map(|(counts, weight)| {
                let skew = f64::from(counts.constraint.max_skew.saturating_sub(1));
                Some(f64::from(counts.at(node)?) * weight + skew)
            });
            parts.sum()
        };
        // A node that has no place is liked least.
        let crowds: Vec<_> = nodes.iter().map(|node| crowd(node)).collect();
        let most = crowds.iter().flatten().copied().fold(0.0, f64::max);
        let least = crowds.iter().flatten().copied().fold(most, f64::min);
        let liking = |crowd: f64| if most > 0.0 { 100.0 * (most + least - crowd) / most } else { 100.0 };
        crowds.into_iter().map(|crowd| crowd.map_or(0.0, liking)).collect()
    }
}

impl<'a> Counts<'a> {
    /// Only nodes count that have the labels of all `constraints` of its kind.
    fn of(
        constraint: &'a Constraint,
        constraints: &[&Constraint],
        pod: &Pod,
        nodes: &'a [Arc<Node>],
        placed: &Placed<'_>,
    ) -> Self {
        let is_whole = |node: &Node| constraints.iter().all(|one| label(node, &one.topology_key).is_some());
        let value = |node: &'a Arc<Node>| {
            let counts = is_whole(node) && is_eligible(constraint, pod, node);
            counts.then(|| label(node, &constraint.topology_key)).flatten()
        };
        let values: Vec<_> = nodes.iter().map(value).collect();
        let mut pods: HashMap<&str, u32> = values.iter().flatten().map(|value| (*value, 0)).collect();
        let namespace = pod.metadata.namespace.as_deref().unwrap_or_default();
        for (other, index) in placed.iter() {
            let Some(value) = values.get(index).copied().flatten() else { continue };
            if constraint.counts(namespace, other) {
                *pods.entry(value).or_default() += 1;
            }
        }
        Self { constraint, pods, own: constraint.counts_itself(pod).into() }
    }

    /// How many pods there are where the node is; `None` when it is nowhere.
    fn at(&self, node: &Node) -> Option<u32> {
        Some(self.pods.get(label(node, &self.constraint.topology_key)?).copied().unwrap_or_default())
    }

    /// The fewest pods that any place has.
    fn least(&self) -> i64 {
        let enough =
            i64::try_from(self.pods.len()).is_ok_and(|places| places >= i64::from(self.constraint.min_domains));
        // Without any place, all there are is as even as can be.
        if enough { self.pods.values().min().map_or(i64::MAX / 2, |least| i64::from(*least)) } else { 0 }
    }

    /// Evens out that a pod more makes less of a difference where there are fewer places.
    fn weight<'n>(&self, nodes: impl Iterator<Item = &'n &'n Node>) -> f64 {
        let places: HashSet<_> = nodes.filter_map(|node| label(node, &self.constraint.topology_key)).collect();
        f64::from(u32::try_from(places.len()).unwrap_or(u32::MAX).saturating_add(2)).ln()
    }
}

/// Whether the pods of a node count.
fn is_eligible(constraint: &Constraint, pod: &Pod, node: &Node) -> bool {
    let kept_away = || terms::is_cordoned(pod, node) || terms::untolerated(pod, node).is_some();
    (constraint.all_nodes || terms::selects_node(pod, node)) && !(constraint.heeds_taints && kept_away())
}

#[cfg(test)]
#[path = "spread_tests.rs"]
mod tests;
