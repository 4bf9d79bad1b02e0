//! Whether a node has room for what a pod requests (P-041). Pure.

use k8s_openapi::api::core::v1::Node;
use minisvc_schema::Amount;

use super::ledger::Taken;
use crate::requests::{CPU, MEMORY, Requests, STORAGE, counted};

/// What the node has too little of, in the words of the message; none when the pod fits.
pub(crate) fn lacking(requests: &Requests, node: &Node, taken: &Taken) -> Vec<String> {
    let full = i128::from(taken.pods()) >= allocatable(node, "pods");
    // A pod that requests none of a resource fits however much is taken of it.
    let short = requests
        .iter()
        .filter(|(resource, amount)| i128::from(*amount) > allocatable(node, resource) - taken.requested(resource));
    let short = short.map(|(resource, _)| format!("Insufficient {resource}"));
    full.then(|| "Too many pods".to_owned()).into_iter().chain(short).collect()
}

/// How full the node would be with the pod, in thousandths, by the fuller of processors and memory.
pub(crate) fn fullness(requests: &Requests, node: &Node, taken: &Taken) -> i128 {
    let of = |resource, amount: i64| {
        (taken.requested(resource) + i128::from(amount)) * 1000 / allocatable(node, resource).max(1)
    };
    of(CPU, requests.cpu).max(of(MEMORY, requests.memory))
}

/// How much of a resource pods may have. A node that tells of none, which a kubelet never leaves at that, has as much as anybody
/// wants of what every node has.
fn allocatable(node: &Node, resource: &str) -> i128 {
    let listed = node.status.as_ref().and_then(|status| status.allocatable.as_ref());
    let Some(listed) = listed.filter(|listed| !listed.is_empty()) else {
        let usual = matches!(resource, CPU | MEMORY | STORAGE | "pods");
        return if usual { i64::MAX.into() } else { 0 };
    };
    let amount = listed.get(resource).and_then(|quantity| Amount::parse(&quantity.0));
    amount.map_or(0, |amount| counted(resource, amount)).into()
}
