//! Where a pod goes: a plain function of the pod, the nodes and the pods that are there.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use k8s_openapi::api::core::v1::Node;

use super::terms;
use crate::pod::Pod;
use crate::pods;

/// The node each pod is on, for pods of which the cache does not know it yet: by uid.
pub(crate) type Assumed = HashMap<String, String>;

/// Why no node takes the pod: how many nodes for which reason.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Unschedulable {
    pub(crate) nodes: usize,
    pub(crate) reasons: BTreeMap<String, usize>,
}

impl std::fmt::Display for Unschedulable {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "0/{} nodes are available", self.nodes)?;
        for (index, (reason, count)) in self.reasons.iter().enumerate() {
            let separator = if index == 0 { ": " } else { ", " };
            write!(f, "{separator}{count} {reason}")?;
        }
        f.write_str(".")
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

/// Chooses the node for `pod`: of those that may take it, the one with the fewest pods of the same owner, then with
/// the fewest pods, then the first by name.
pub(crate) fn place(
    pod: &Pod,
    nodes: &[Arc<Node>],
    all_pods: &[Arc<Pod>],
    assumed: &Assumed,
) -> Result<String, Unschedulable> {
    let mut on_node: BTreeMap<&str, Vec<&Pod>> = BTreeMap::new();
    for other in all_pods.iter().filter(|other| !pods::is_finished(other)) {
        let uid = other.metadata.uid.as_deref().unwrap_or_default();
        if let Some(node) = pods::node_name(other).or_else(|| assumed.get(uid).map(String::as_str)) {
            on_node.entry(node).or_default().push(other);
        }
    }
    let owner = pods::controller(&pod.metadata).map(|owner| owner.uid.as_str());
    let mut refused = Unschedulable { nodes: nodes.len(), ..Unschedulable::default() };
    let mut best: Option<((usize, usize, &str), &str)> = None;
    for node in nodes {
        let name = node.metadata.name.as_deref().unwrap_or_default();
        let present = on_node.get(name).map(Vec::as_slice).unwrap_or_default();
        if let Err(reason) = fits(pod, node, present) {
            *refused.reasons.entry(reason).or_default() += 1;
            continue;
        }
        let siblings = present
            .iter()
            .filter(|other| owner.is_some_and(|owner| pods::is_controlled_by(&other.metadata, owner)))
            .count();
        let score = (siblings, present.len(), name);
        if best.is_none_or(|(known, _)| score < known) {
            best = Some((score, name));
        }
    }
    best.map(|(_, name)| name.to_owned()).ok_or(refused)
}

fn fits(pod: &Pod, node: &Node, present: &[&Pod]) -> Result<(), String> {
    if node.metadata.deletion_timestamp.is_some() {
        return Err("node(s) were being deleted".to_owned());
    }
    if terms::is_cordoned(pod, node) {
        return Err("node(s) were unschedulable".to_owned());
    }
    if let Some(taint) = terms::untolerated(pod, node) {
        let value = taint.value.clone().unwrap_or_default();
        return Err(format!("node(s) had untolerated taint(s) {{{}: {value}}}", taint.key));
    }
    if !terms::is_ready(node) {
        return Err("node(s) were not ready".to_owned());
    }
    if !terms::selects_node(pod, node) {
        return Err("node(s) didn't match Pod's node affinity/selector".to_owned());
    }
    let wanted = pod.spec.as_ref().map(terms::host_ports).unwrap_or_default();
    let taken: Vec<_> = present.iter().filter_map(|other| other.spec.as_ref()).flat_map(terms::host_ports).collect();
    if wanted.iter().any(|port| taken.iter().any(|other| terms::conflict(port, other))) {
        return Err("node(s) didn't have free ports for the requested pod ports".to_owned());
    }
    Ok(())
}

#[cfg(test)]
#[path = "place_tests.rs"]
mod tests;
