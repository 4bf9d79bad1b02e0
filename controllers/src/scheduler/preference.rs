//! What would rather be than not: preferred affinity, spreading that is not required, and taints that are better avoided. Pure.

use k8s_openapi::api::core::v1::Node;

use super::affinity::Company;
use super::spread::Spread;
use super::terms;
use crate::pod::Pod;

/// How much each of the nodes is preferred. Each kind of preference gives the best node a hundred and the worst none, and they weigh
/// as much against each other as they do upstream.
pub(crate) fn preferences(pod: &Pod, nodes: &[&Node], company: &Company<'_>, spread: &Spread<'_>) -> Vec<f64> {
    let taints = nodes.iter().map(|node| -f64::from(terms::to_avoid(pod, node)));
    let affinity = nodes.iter().map(|node| f64::from(terms::liking(pod, node)));
    let company = nodes.iter().map(|node| company.liking(node));
    let kinds = [
        (3.0, of_a_hundred(taints.collect(), Some(0.0))),
        (2.0, of_a_hundred(affinity.collect(), Some(0.0))),
        (2.0, spread.liking(nodes)),
        (2.0, of_a_hundred(company.collect(), None)),
    ];
    let total = |index: usize| kinds.iter().filter_map(|(weight, all)| Some(weight * all.get(index)?)).sum();
    (0..nodes.len()).map(total).collect()
}

/// The best becomes a hundred, the worst none; `end` is one of the two for as long as nothing is beyond it.
fn of_a_hundred(scores: Vec<f64>, end: Option<f64>) -> Vec<f64> {
    let marks = || scores.iter().copied().chain(end);
    let (low, high) = (marks().fold(f64::INFINITY, f64::min), marks().fold(f64::NEG_INFINITY, f64::max));
    let scaled = |score: f64| if high > low { 100.0 * (score - low) / (high - low) } else { 0.0 };
    scores.into_iter().map(scaled).collect()
}

#[cfg(test)]
#[path = "preference_tests.rs"]
mod tests;
