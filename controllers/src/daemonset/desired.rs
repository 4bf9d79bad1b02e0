//! On which nodes a DaemonSet makes pods and which pods go (P-112): a plain function of the set, the nodes, its pods and
//! the time.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::apps::v1::{DaemonSet, DaemonSetStatus};
use k8s_openapi::api::core::v1::Node;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

use super::pod::{Fit, fit, target};
use crate::amount::of;
use crate::pod::Pod;
use crate::pods;
use crate::revisions::HASH_LABEL;

/// How long a failed pod stays before it is replaced: keeps one that fails at once from being remade without end.
const FAILED_STAYS: Duration = Duration::from_secs(10);

/// What to do now, and when to look again if nothing changes.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Plan {
    /// Nodes to make a pod for.
    pub(crate) create: Vec<String>,
    pub(crate) delete: Vec<Arc<Pod>>,
    pub(crate) again: Option<Duration>,
}

/// The rules of an update.
struct Rolling {
    on_delete: bool,
    max_unavailable: usize,
    max_surge: usize,
    min_ready_seconds: i32,
}

impl Rolling {
    fn of(set: &DaemonSet, eligible: usize) -> Self {
        let spec = set.spec.as_ref();
        let strategy = spec.and_then(|spec| spec.update_strategy.as_ref());
        let rolling = strategy.and_then(|strategy| strategy.rolling_update.as_ref());
        let nodes = i32::try_from(eligible).unwrap_or(i32::MAX);
        let number = |value: Option<&IntOrString>, default: i32| {
            usize::try_from(of(value.unwrap_or(&IntOrString::Int(default)), nodes, true)).unwrap_or(0)
        };
        let max_surge = number(rolling.and_then(|rolling| rolling.max_surge.as_ref()), 0);
        let max_unavailable = number(rolling.and_then(|rolling| rolling.max_unavailable.as_ref()), 1);
        Self {
            on_delete: strategy.and_then(|strategy| strategy.type_.as_deref()) == Some("OnDelete"),
            // Both 0 would be a standstill.
            max_unavailable: if max_surge == 0 { max_unavailable.max(1) } else { max_unavailable },
            max_surge,
            min_ready_seconds: spec.and_then(|spec| spec.min_ready_seconds).unwrap_or(0),
        }
    }

    fn is_available(&self, pod: &Pod, now: Timestamp) -> bool {
        pods::until_available(pod, self.min_ready_seconds, now).is_some_and(|left| left.is_zero())
    }
}

/// The pods of one eligible node that are not on their way out.
#[derive(Default)]
struct Present<'a> {
    new: Option<&'a Arc<Pod>>,
    old: Option<&'a Arc<Pod>>,
    /// Terminating pods: the node waits for them.
    going: usize,
}

/// Plans one round. `pods` are those that the set controls; `hash` is that of the present template's revision.
pub(crate) fn desired(set: &DaemonSet, nodes: &[Arc<Node>], pods: &[Arc<Pod>], hash: &str, now: Timestamp) -> Plan {
    let mut plan = Plan::default();
    let Some(spec) = set.spec.as_ref().filter(|_| set.metadata.deletion_timestamp.is_none()) else { return plan };
    let fits: BTreeMap<&str, Fit> = nodes
        .iter()
        .map(|node| (node.metadata.name.as_deref().unwrap_or_default(), fit(&spec.template, node)))
        .collect();
    let rolling = Rolling::of(set, fits.values().filter(|fit| **fit == Fit::Run).count());
    let mut by_node: BTreeMap<&str, Present<'_>> = BTreeMap::new();
    for pod in oldest_first(pods) {
        let Some(node) = target(pod) else { continue };
        match fits.get(node) {
            Some(Fit::Run | Fit::Keep) => {}
            _ if pods::is_terminating(pod) => continue,
            _ => {
                plan.delete.push(pod.clone());
                continue;
            }
        }
        let present = by_node.entry(node).or_default();
        if pods::is_terminating(pod) {
            present.going += 1;
        } else if pods::is_finished(pod) {
            match stays(pod, now) {
                None => plan.delete.push(pod.clone()),
                Some(left) => {
                    present.going += 1;
                    plan.again = Some(plan.again.map_or(left, |known| known.min(left)));
                }
            }
        } else {
            let place = if is_of(pod, hash) { &mut present.new } else { &mut present.old };
            match place {
                // The oldest stays.
                Some(_) => plan.delete.push(pod.clone()),
                None => *place = Some(pod),
            }
        }
    }
    let eligible = fits.iter().filter(|(_, fit)| **fit == Fit::Run).map(|(node, _)| *node);
    let nodes: Vec<(&str, Present<'_>)> =
        eligible.map(|node| (node, by_node.remove(node).unwrap_or_default())).collect();
    let empty = nodes.iter().filter(|(_, present)| present.new.is_none() && present.old.is_none());
    plan.create = empty.filter(|(_, present)| present.going == 0).map(|(node, _)| (*node).to_owned()).collect();
    if rolling.max_surge > 0 {
        surge(&rolling, &nodes, &mut plan, now);
    } else {
        replace(&rolling, &nodes, &mut plan, now);
    }
    let settling = pods.iter().filter_map(|pod| pods::until_available(pod, rolling.min_ready_seconds, now));
    let settling = settling.filter(|left| !left.is_zero()).map(|left| left.unsigned_abs());
    plan.again = plan.again.into_iter().chain(settling).min();
    plan
}

fn oldest_first(pods: &[Arc<Pod>]) -> Vec<&Arc<Pod>> {
    let mut pods: Vec<&Arc<Pod>> = pods.iter().collect();
    pods.sort_by_key(|pod| {
        let created = pod.metadata.creation_timestamp.as_ref().map(|time| time.0);
        (pods::node_name(pod).is_none(), created, pod.metadata.name.clone())
    });
    pods
}

fn is_of(pod: &Pod, hash: &str) -> bool {
    pod.labels.get(HASH_LABEL) == Some(hash)
}

/// How much longer a finished pod is left alone.
fn stays(pod: &Pod, now: Timestamp) -> Option<Duration> {
    let started = pod.status.as_ref().and_then(|status| status.start_time.as_ref()).map(|time| time.0);
    let since = started.or_else(|| pod.metadata.creation_timestamp.as_ref().map(|time| time.0))?;
    let age = now.duration_since(since);
    let age = if age.is_negative() { Duration::ZERO } else { age.unsigned_abs() };
    FAILED_STAYS.checked_sub(age).filter(|left| !left.is_zero())
}

/// Old pods go first, and their nodes are empty for a while.
fn replace(rolling: &Rolling, nodes: &[(&str, Present<'_>)], plan: &mut Plan, now: Timestamp) {
    for (_, present) in nodes {
        // Both there: a surge that is no longer wished for, or an orphan adopted.
        if let (Some(_), Some(old)) = (present.new, present.old) {
            plan.delete.push(old.clone());
        }
    }
    if rolling.on_delete {
        return;
    }
    let works = |pod: Option<&Arc<Pod>>| pod.is_some_and(|pod| rolling.is_available(pod, now));
    let unavailable = nodes.iter().filter(|(_, present)| !works(present.new) && !works(present.old)).count();
    let mut budget = rolling.max_unavailable.saturating_sub(unavailable);
    for (_, present) in nodes {
        let (None, Some(old)) = (present.new, present.old) else { continue };
        if rolling.is_available(old, now) {
            if budget == 0 {
                continue;
            }
            budget -= 1;
        }
        plan.delete.push(old.clone());
    }
}

/// New pods come first; the old one goes when the new one is available.
fn surge(rolling: &Rolling, nodes: &[(&str, Present<'_>)], plan: &mut Plan, now: Timestamp) {
    for (_, present) in nodes {
        if let (Some(new), Some(old)) = (present.new, present.old)
            && (rolling.is_available(new, now) || !rolling.is_available(old, now))
        {
            plan.delete.push(old.clone());
        }
    }
    if rolling.on_delete {
        return;
    }
    let both = nodes.iter().filter(|(_, present)| present.new.is_some() && present.old.is_some()).count();
    let mut budget = rolling.max_surge.saturating_sub(both);
    for (node, present) in nodes {
        let (None, Some(old)) = (present.new, present.old) else { continue };
        if rolling.is_available(old, now) {
            if budget == 0 {
                continue;
            }
            budget -= 1;
        }
        plan.create.push((*node).to_owned());
    }
}

/// The status as it should be.
pub(crate) fn status(
    set: &DaemonSet,
    nodes: &[Arc<Node>],
    pods: &[Arc<Pod>],
    hash: &str,
    now: Timestamp,
) -> DaemonSetStatus {
    let before = set.status.clone().unwrap_or_default();
    let template = set.spec.as_ref().map(|spec| spec.template.clone()).unwrap_or_default();
    let rolling = Rolling::of(set, 0);
    let mut status = DaemonSetStatus {
        observed_generation: set.metadata.generation,
        collision_count: before.collision_count,
        conditions: before.conditions,
        ..DaemonSetStatus::default()
    };
    let (mut available, mut updated) = (0, 0);
    for node in nodes {
        let name = node.metadata.name.as_deref();
        let on_it: Vec<&Arc<Pod>> =
            oldest_first(pods).into_iter().filter(|pod| target(pod) == name && pods::is_active(pod)).collect();
        if fit(&template, node) != Fit::Run {
            status.number_misscheduled += i32::from(!on_it.is_empty());
            continue;
        }
        status.desired_number_scheduled += 1;
        status.current_number_scheduled += i32::from(!on_it.is_empty());
        status.number_ready += i32::from(on_it.iter().any(|pod| pods::is_ready(pod)));
        available += i32::from(on_it.iter().any(|pod| rolling.is_available(pod, now)));
        updated += i32::from(on_it.iter().any(|pod| is_of(pod, hash)));
    }
    status.number_available = Some(available);
    status.number_unavailable = Some(status.desired_number_scheduled - available);
    status.updated_number_scheduled = Some(updated);
    status
}

#[cfg(test)]
#[path = "desired_tests.rs"]
mod tests;
