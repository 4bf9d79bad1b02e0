//! Where a pod goes: a plain function of the pod, the nodes, what is taken of them, and where other pods are.

use std::collections::BTreeMap;
use std::sync::Arc;

use k8s_openapi::api::core::v1::Node;

use super::affinity::Company;
use super::around::{Placed, World, relations};
use super::ledger::{Ledger, Taken};
use super::preference::preferences;
use super::room::{fullness, lacking};
use super::spread::Spread;
use super::terms;
use crate::pod::Pod;
use crate::pods;
use crate::requests::Requests;

/// Why no node takes the pod: how many nodes for which reason.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Unschedulable {
    pub(crate) nodes: usize,
    pub(crate) reasons: BTreeMap<String, usize>,
}

impl std::fmt::Display for Unschedulable {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if self.nodes == 0 {
            return f.write_str("no nodes available to schedule pods");
        }
        let mut reasons: Vec<_> = self.reasons.iter().map(|(reason, count)| format!("{count} {reason}")).collect();
        // As texts, numbers and all, as upstream.
        reasons.sort_unstable();
        write!(f, "0/{} nodes are available: {}.", self.nodes, reasons.join(", "))
    }
}

/// Whether the pod is for this scheduler to place.
pub(crate) fn is_ours(pod: &Pod) -> bool {
    let Some(spec) = &pod.spec else { return false };
    pods::node_name(pod).is_none()
        && pods::is_active(pod)
        && matches!(spec.scheduler_name.as_deref(), None | Some("" | "default-scheduler"))
        && spec.scheduling_gates.is_empty()
}

/// Chooses the node for `pod`: of those that may take it, the one that is preferred most, then the one with the fewest pods of the
/// same owner, then with the fewest pods, then the one of which the least is requested, then the first by name.
pub(crate) fn place(
    pod: &Pod,
    nodes: &[Arc<Node>],
    ledger: &Ledger,
    world: World<'_>,
) -> Result<String, Unschedulable> {
    let (nothing, no_requests) = (Taken::default(), Requests::default());
    let taken = |node: &Node| ledger.taken(name(node)).unwrap_or(&nothing);
    let requests = pod.spec.as_ref().map_or(&no_requests, |spec| &spec.requests);
    let all = relations(pod).map(|_| (world.pods)()).unwrap_or_default();
    let placed = Placed::of(&all, nodes, ledger);
    let company = Company::of(pod, nodes, ledger, &placed, world);
    let spread = Spread::of(pod, nodes, &placed);
    let mut refused = Unschedulable { nodes: nodes.len(), ..Unschedulable::default() };
    let mut takers: Vec<&Node> = Vec::new();
    for node in nodes {
        let mut reasons =
            against(pod, node, taken(node)).map_or_else(|| lacking(requests, node, taken(node)), |reason| vec![reason]);
        if reasons.is_empty() {
            let elsewhere = spread.against(node).or_else(|| company.against(node));
            reasons.extend(elsewhere.map(str::to_owned));
        }
        if reasons.is_empty() {
            takers.push(node);
        }
        reasons.into_iter().for_each(|reason| *refused.reasons.entry(reason).or_default() += 1);
    }
    let owner = pods::controller(&pod.metadata).map(|owner| owner.uid.as_str());
    let crowd = |node: &Node| {
        let taken = taken(node);
        let siblings = owner.map_or(0, |owner| taken.of_owner(owner));
        (siblings, taken.pods(), fullness(requests, node, taken))
    };
    let preferred = preferences(pod, &takers, &company, &spread);
    let scored = preferred.into_iter().zip(takers).map(|(preferred, node)| (preferred, crowd(node), name(node)));
    let best = scored.min_by(|a, b| b.0.total_cmp(&a.0).then_with(|| (a.1, a.2).cmp(&(b.1, b.2))));
    best.map(|(.., name)| name.to_owned()).ok_or(refused)
}

fn name(node: &Node) -> &str {
    node.metadata.name.as_deref().unwrap_or_default()
}

/// Why the node is out of the question, however much room it has.
fn against(pod: &Pod, node: &Node, taken: &Taken) -> Option<String> {
    if node.metadata.deletion_timestamp.is_some() {
        return Some("node(s) were being deleted".to_owned());
    }
    if terms::is_cordoned(pod, node) {
        return Some("node(s) were unschedulable".to_owned());
    }
    if let Some(taint) = terms::untolerated(pod, node) {
        let value = taint.value.clone().unwrap_or_default();
        return Some(format!("node(s) had untolerated taint(s) {{{}: {value}}}", taint.key));
    }
    if !terms::is_ready(node) {
        return Some("node(s) were not ready".to_owned());
    }
    if !terms::selects_node(pod, node) {
        return Some("node(s) didn't match Pod's node affinity/selector".to_owned());
    }
    let wanted = pod.spec.as_ref().map(terms::host_ports).unwrap_or_default();
    let free = wanted.iter().all(|port| taken.leaves(port));
    (!free).then(|| "node(s) didn't have free ports for the requested pod ports".to_owned())
}

#[cfg(test)]
#[path = "place_tests.rs"]
mod tests;
