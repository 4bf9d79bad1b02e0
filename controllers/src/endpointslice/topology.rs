//! Hints in proportion to the processors of each zone, for Services that ask for it by annotation (S-210). Pure.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{Node, Service};
use k8s_openapi::api::discovery::v1::{Endpoint, EndpointHints, ForZone};
use minisvc_schema::Amount;

use super::apply::ZONE;
use super::desired::Desired;

/// The older spelling of the annotation: it is read first.
const HINTS: &str = "service.kubernetes.io/topology-aware-hints";
const MODE: &str = "service.kubernetes.io/topology-mode";

/// Nodes with one of these labels serve no clients.
const CONTROL_PLANE: [&str; 2] = ["node-role.kubernetes.io/control-plane", "node-role.kubernetes.io/master"];

/// How much more than its share a zone's endpoints may have to bear.
const OVERLOAD: f64 = 0.2;

/// Why there are no hints: the words of the event.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum NoHints {
    /// A ready node has no zone.
    #[error("one or more ready nodes have no zone")]
    NodeWithoutZone,
    /// A ready node does not say how much it has.
    #[error("one or more ready nodes have no allocatable CPU")]
    NodeWithoutCpu,
    /// Nothing to choose from.
    #[error("the nodes are in fewer than 2 zones")]
    FewZones,
    /// Some zone would have none.
    #[error("there are fewer endpoints than zones")]
    FewEndpoints,
    /// It cannot be counted for any zone.
    #[error("one or more endpoints have no zone")]
    EndpointWithoutZone,
    /// So few endpoints cannot be shared out fairly.
    #[error("a zone would be overloaded by more than 20%")]
    Overload,
}

/// Whether the Service asks for it.
pub(crate) fn is_wanted(service: &Service) -> bool {
    let annotations = service.metadata.annotations.as_ref();
    let value = |key: &str| annotations.and_then(|all| all.get(key));
    value(HINTS).or_else(|| value(MODE)).is_some_and(|value| value == "Auto" || value == "auto")
}

/// What a node has to do with it: its zone and its processors; `None` for one that serves nobody.
pub(crate) fn facts(node: &Node) -> Option<(Option<&String>, Option<f64>)> {
    let labels = node.metadata.labels.as_ref();
    let is_control_plane = labels.is_some_and(|labels| CONTROL_PLANE.iter().any(|key| labels.contains_key(*key)));
    let zone = labels.and_then(|labels| labels.get(ZONE)).filter(|zone| !zone.is_empty());
    (is_ready(node) && !is_control_plane).then(|| (zone, cpus(node)))
}

/// What share of all processors each zone has.
///
/// # Errors
/// When the nodes do not tell, or all are in one zone.
pub(crate) fn shares<'a>(nodes: impl IntoIterator<Item = &'a Node>) -> Result<BTreeMap<String, f64>, NoHints> {
    let mut by_zone: BTreeMap<String, f64> = BTreeMap::new();
    for (zone, cpus) in nodes.into_iter().filter_map(facts) {
        let zone = zone.ok_or(NoHints::NodeWithoutZone)?;
        *by_zone.entry(zone.clone()).or_default() += cpus.ok_or(NoHints::NodeWithoutCpu)?;
    }
    if by_zone.len() < 2 {
        return Err(NoHints::FewZones);
    }
    let all: f64 = by_zone.values().sum();
    by_zone.values_mut().for_each(|share| *share /= all);
    Ok(by_zone)
}

fn is_ready(node: &Node) -> bool {
    let mut conditions = node.status.iter().flat_map(|status| status.conditions.iter().flatten());
    conditions.any(|condition| condition.type_ == "Ready" && condition.status == "True")
}

/// The node's processors, in thousandths; `None` for none.
fn cpus(node: &Node) -> Option<f64> {
    let amount = Amount::parse(&node.status.as_ref()?.allocatable.as_ref()?.get("cpu")?.0)?;
    // Four million processors count as many as any more.
    let thousandths = u32::try_from(amount.thousandths().max(0)).unwrap_or(u32::MAX);
    (thousandths > 0).then(|| f64::from(thousandths))
}

/// Gives the ready endpoints of one family their hints, or takes all hints of the family away.
///
/// # Errors
/// When hints would do harm.
pub(crate) fn assign(
    desired: &mut Desired,
    ipv6: bool,
    shares: Result<&BTreeMap<String, f64>, NoHints>,
) -> Result<(), NoHints> {
    let mut endpoints: Vec<&mut Endpoint> = desired
        .groups
        .iter_mut()
        .filter(|(key, _)| key.ipv6 == ipv6)
        .flat_map(|(_, group)| group.endpoints.iter_mut())
        .collect();
    endpoints.iter_mut().for_each(|endpoint| endpoint.hints = None);
    endpoints.retain(|endpoint| endpoint.conditions.as_ref().and_then(|conditions| conditions.ready) == Some(true));
    let targets = targets(shares?, endpoints.len())?;
    // At first everyone serves its own zone.
    let mut zones: Vec<String> = Vec::with_capacity(endpoints.len());
    for endpoint in &endpoints {
        zones.push(endpoint.zone.clone().filter(|zone| !zone.is_empty()).ok_or(NoHints::EndpointWithoutZone)?);
    }
    // Then zones with more than they need lend their last ones to those with too few.
    let mut have: BTreeMap<&str, usize> = BTreeMap::new();
    for zone in &zones {
        *have.entry(zone).or_default() += 1;
    }
    let wanted = |zone: &str| targets.get(zone).copied().unwrap_or(0);
    let mut short: Vec<String> = Vec::new();
    for (zone, target) in &targets {
        let missing = target.saturating_sub(have.get(zone.as_str()).copied().unwrap_or(0));
        short.extend(std::iter::repeat_n(zone.clone(), missing));
    }
    let mut spare: BTreeMap<String, usize> =
        have.iter().map(|(zone, count)| ((*zone).to_owned(), count.saturating_sub(wanted(zone)))).collect();
    for zone in zones.iter_mut().rev() {
        let Some(left) = spare.get_mut(zone.as_str()).filter(|left| **left > 0) else { continue };
        let Some(poor) = short.pop() else { break };
        *left -= 1;
        *zone = poor;
    }
    for (endpoint, zone) in endpoints.into_iter().zip(zones) {
        endpoint.hints = Some(EndpointHints { for_zones: Some(vec![ForZone { name: zone }]), for_nodes: None });
    }
    Ok(())
}

/// How many endpoints serve each zone: its share, rounded so that they are all in all, and no zone has so few that it is
/// overloaded.
fn targets(shares: &BTreeMap<String, f64>, endpoints: usize) -> Result<BTreeMap<String, usize>, NoHints> {
    if endpoints < shares.len() {
        return Err(NoHints::FewEndpoints);
    }
    let all = f64::from(u32::try_from(endpoints).unwrap_or(u32::MAX));
    let mut targets = BTreeMap::new();
    let mut left = endpoints;
    let mut wishes: Vec<(f64, &String)> = Vec::new();
    for (zone, share) in shares {
        let exact = share * all;
        let least = whole((exact / (1.0 + OVERLOAD)).ceil());
        left = left.checked_sub(least).ok_or(NoHints::Overload)?;
        let more = whole(exact.round()).saturating_sub(least);
        wishes.extend((0..more).map(|number| (exact - f64::from(u32::try_from(least + number).unwrap_or(0)), zone)));
        targets.insert(zone.clone(), least);
    }
    // Whoever is farthest from its share first; what nobody wishes goes where it is worth most.
    wishes.sort_by(|a, b| b.0.total_cmp(&a.0));
    for (_, zone) in wishes.into_iter().take(left) {
        *targets.entry(zone.clone()).or_default() += 1;
        left -= 1;
    }
    let richest = shares.iter().max_by(|a, b| a.1.total_cmp(b.1)).map(|(zone, _)| zone.clone());
    if let Some(zone) = richest {
        *targets.entry(zone).or_default() += left;
    }
    Ok(targets)
}

/// A small number without a fraction.
fn whole(number: f64) -> usize {
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "not negative, and saturates")]
    let whole = number.max(0.0) as usize;
    whole
}

#[cfg(test)]
#[path = "topology_tests.rs"]
mod tests;
