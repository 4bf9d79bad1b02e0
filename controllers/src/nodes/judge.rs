//! What a node's health means for its conditions, its taints and its pods. Pure.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::{Node, NodeCondition, Taint, Toleration};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use crate::pod::Pod;
use crate::pods;
use crate::taints::tolerates;

const NOT_READY: &str = "node.kubernetes.io/not-ready";
const UNREACHABLE: &str = "node.kubernetes.io/unreachable";
const EFFECTS: [&str; 2] = ["NoExecute", "NoSchedule"];

/// How long pods stay that say nothing about lost nodes (P-118): upstream writes this into every pod at admission.
const DEFAULT_TOLERATION: Duration = Duration::from_secs(300);

/// The status of the node's Ready condition, if it has one.
pub(crate) fn readiness(node: &Node) -> Option<&str> {
    let conditions = node.status.as_ref()?.conditions.as_ref()?;
    conditions.iter().find(|condition| condition.type_ == "Ready").map(|condition| condition.status.as_str())
}

/// When the node last said itself whether it is ready; calling it silent does not change this.
pub(crate) fn reported(node: &Node) -> Option<&Time> {
    let conditions = node.status.as_ref()?.conditions.as_ref()?;
    conditions.iter().find(|condition| condition.type_ == "Ready")?.last_heartbeat_time.as_ref()
}

/// The conditions of a node that has fallen silent, or `None` when they say so already.
pub(crate) fn silenced(node: &Node, now: Timestamp) -> Option<Vec<NodeCondition>> {
    let conditions = node.status.as_ref()?.conditions.clone()?;
    if conditions.iter().all(|condition| condition.status == "Unknown") {
        return None;
    }
    let silence = |mut condition: NodeCondition| {
        if condition.status != "Unknown" {
            condition.status = "Unknown".to_owned();
            condition.reason = Some("NodeStatusUnknown".to_owned());
            condition.message = Some("The node has stopped reporting.".to_owned());
            condition.last_transition_time = Some(Time(now));
        }
        condition
    };
    Some(conditions.into_iter().map(silence).collect())
}

/// The taints that the node's readiness asks for, or `None` when it has them.
pub(crate) fn tainted(node: &Node, now: Timestamp) -> Option<Vec<Taint>> {
    let present = node.spec.as_ref().and_then(|spec| spec.taints.clone()).unwrap_or_default();
    let wanted = match readiness(node) {
        Some("Unknown") => Some(UNREACHABLE),
        Some("False") => Some(NOT_READY),
        _ => None,
    };
    let is_ours = |taint: &Taint| {
        matches!(taint.key.as_str(), NOT_READY | UNREACHABLE) && EFFECTS.contains(&taint.effect.as_str())
    };
    let mut taints: Vec<Taint> =
        present.iter().filter(|taint| !is_ours(taint) || Some(taint.key.as_str()) == wanted).cloned().collect();
    for (key, effect) in wanted.into_iter().flat_map(|key| EFFECTS.map(|effect| (key, effect))) {
        if !taints.iter().any(|taint| taint.key == key && taint.effect == effect) {
            taints.push(Taint {
                key: key.to_owned(),
                effect: effect.to_owned(),
                value: None,
                time_added: (effect == "NoExecute").then_some(Time(now)),
            });
        }
    }
    (taints != present).then_some(taints)
}

/// When a pod has to leave its node: `None` when it may stay, zero when at once.
pub(crate) fn eviction(pod: &Pod, node: &Node, now: Timestamp) -> Option<Duration> {
    let tolerations = pod.spec.as_ref().map(|spec| &*spec.tolerations).unwrap_or_default();
    no_execute(node).filter_map(|taint| leave(taint, tolerations, now)).min()
}

/// Whether there may be pods that have to leave the node.
pub(crate) fn evicts(node: &Node) -> bool {
    no_execute(node).next().is_some()
}

fn no_execute(node: &Node) -> impl Iterator<Item = &Taint> {
    let taints = node.spec.as_ref().and_then(|spec| spec.taints.as_deref()).unwrap_or_default();
    taints.iter().filter(|taint| taint.effect == "NoExecute")
}

fn leave(taint: &Taint, tolerations: &[Toleration], now: Timestamp) -> Option<Duration> {
    let mut matching = tolerations.iter().filter(|toleration| tolerates(toleration, taint)).peekable();
    let stay = if matching.peek().is_some() {
        // One without a limit tolerates for ever, as far as that one goes; the shortest limit counts.
        let seconds = matching.filter_map(|toleration| toleration.toleration_seconds).min()?;
        Duration::from_secs(u64::try_from(seconds).unwrap_or(0))
    } else if matches!(taint.key.as_str(), NOT_READY | UNREACHABLE) {
        DEFAULT_TOLERATION
    } else {
        Duration::ZERO
    };
    let since = taint.time_added.as_ref().map_or(now, |added| added.0);
    let elapsed = now.duration_since(since).max(SignedDuration::ZERO).unsigned_abs();
    Some(stay.saturating_sub(elapsed))
}

/// Whether a pod has nobody left who would remove it (P-058): its node does not exist, or it is to go and never had
/// one.
pub(crate) fn is_orphan(pod: &Pod, node_exists: impl FnOnce(&str) -> bool) -> bool {
    match pods::node_name(pod) {
        Some(node) => !node_exists(node),
        None => pods::is_terminating(pod),
    }
}

#[cfg(test)]
#[path = "judge_tests.rs"]
mod tests;
