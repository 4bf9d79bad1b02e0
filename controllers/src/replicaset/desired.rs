//! How many pods to make and which to remove: a plain function of the set, its pods and the time.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;

use super::kinds::Replicated;
use super::order;
use crate::pod::{Pod, PodLabels};
use crate::pods;
use crate::selector::{Labels, selects};

/// Pods made or removed in one run (P-091).
pub(crate) const BURST: usize = 500;

/// What to do about the pods of a set.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Plan {
    /// Orphans to become ours (P-088).
    pub(crate) adopt: Vec<Arc<Pod>>,
    /// Pods that are no longer selected (P-082, P-088).
    pub(crate) release: Vec<Arc<Pod>>,
    /// How many pods to make.
    pub(crate) create: usize,
    /// Pods to delete, the first to go first (P-092).
    pub(crate) delete: Vec<Arc<Pod>>,
}

/// The numbers of a set's status (P-093).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Counts {
    pub(crate) replicas: i32,
    pub(crate) fully_labeled: i32,
    pub(crate) ready: i32,
    pub(crate) available: i32,
    pub(crate) terminating: i32,
}

/// Plans one run; `pods` are those of the set's namespace.
pub(crate) fn desired<K: Replicated>(set: &K, pods: &[Arc<Pod>], now: Timestamp) -> Plan {
    let mut plan = Plan::default();
    if set.meta().deletion_timestamp.is_some() {
        // The garbage collector has the word.
        return plan;
    }
    let uid = set.meta().uid.as_deref().unwrap_or_default();
    let selector = set.selector();
    let mut active = Vec::new();
    for pod in pods {
        let matches = selects(&selector, &pod.labels);
        match pods::controller(&pod.metadata) {
            Some(owner) if owner.uid == uid && !matches => plan.release.push(pod.clone()),
            Some(owner) if owner.uid == uid && pods::is_active(pod) => active.push(pod.clone()),
            None if matches && pods::is_active(pod) => {
                plan.adopt.push(pod.clone());
                active.push(pod.clone());
            }
            _ => {}
        }
    }
    let wanted = usize::try_from(set.replicas()).unwrap_or(0);
    if active.len() < wanted {
        plan.create = (wanted - active.len()).min(BURST);
    } else {
        let surplus = (active.len() - wanted).min(BURST);
        plan.delete = order::first_to_go(active, now).into_iter().take(surplus).collect();
    }
    plan
}

/// Counts the pods that `set` controls, and tells when a ready one becomes available.
pub(crate) fn counts<K: Replicated>(set: &K, pods: &[Arc<Pod>], now: Timestamp) -> (Counts, Option<Duration>) {
    let uid = set.meta().uid.as_deref().unwrap_or_default();
    let template = set.template().and_then(|template| template.metadata.as_ref()?.labels.as_ref());
    let mut counts = Counts::default();
    let mut next: Option<Duration> = None;
    for pod in pods.iter().filter(|pod| pods::is_controlled_by(&pod.metadata, uid)) {
        if !pods::is_active(pod) {
            counts.terminating += i32::from(pods::is_terminating(pod) && !pods::is_finished(pod));
            continue;
        }
        counts.replicas += 1;
        counts.fully_labeled += i32::from(carries(&pod.labels, template));
        counts.ready += i32::from(pods::is_ready(pod));
        let Some(wait) = pods::until_available(pod, set.min_ready_seconds(), now) else { continue };
        if wait.is_zero() {
            counts.available += 1;
        } else {
            let wait = wait.unsigned_abs();
            next = Some(next.map_or(wait, |earlier| earlier.min(wait)));
        }
    }
    (counts, next)
}

fn carries(labels: &PodLabels, template: Option<&Labels>) -> bool {
    template.is_none_or(|template| template.iter().all(|(key, value)| labels.get(key) == Some(value)))
}

#[cfg(test)]
#[path = "desired_tests.rs"]
mod tests;
