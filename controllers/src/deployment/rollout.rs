//! The arithmetic of a rolling update (P-097, P-098, P-101): numbers in, numbers out.

use std::cmp::Reverse;

/// What the Deployment promises.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Limits {
    pub(crate) replicas: i32,
    /// Pods above `replicas` while rolling.
    pub(crate) max_surge: i32,
    /// Pods that may be missing from `replicas` while rolling.
    pub(crate) max_unavailable: i32,
}

/// A ReplicaSet of the Deployment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Set {
    /// `spec.replicas`.
    pub(crate) replicas: i32,
    /// Pods that are not terminating, as last reported.
    pub(crate) pods: i32,
    /// Available pods, as last reported.
    pub(crate) available: i32,
    /// `max-replicas` as annotated when it was last scaled: what its share is measured by (P-101).
    pub(crate) max_replicas: Option<i32>,
}

impl Set {
    /// The most pods it may have now: those still to be made count, and those still to be removed.
    fn most(&self) -> i32 {
        self.pods.max(self.replicas)
    }

    /// Available pods that will still be there: a report from before a scale-down counts pods that are about to go.
    fn available(&self) -> i32 {
        self.available.min(self.replicas)
    }
}

/// The size of the new set and of each old one (oldest first) in the next step of a rolling update.
pub(crate) fn step(limits: Limits, new: Set, old: &[Set]) -> (i32, Vec<i32>) {
    let grown = Set { replicas: grow(limits, new, old), ..new };
    (grown.replicas, shrink(limits, grown, old))
}

/// As many new pods as fit below replicas + surge.
fn grow(limits: Limits, new: Set, old: &[Set]) -> i32 {
    if new.replicas >= limits.replicas {
        return limits.replicas;
    }
    let total = new.most() + old.iter().map(Set::most).sum::<i32>();
    let room = (limits.replicas + limits.max_surge - total).max(0);
    new.replicas + room.min(limits.replicas - new.replicas)
}

/// As few old pods as the promise of availability allows.
fn shrink(limits: Limits, new: Set, old: &[Set]) -> Vec<i32> {
    let mut sizes: Vec<i32> = old.iter().map(|set| set.replicas).collect();
    let total = new.replicas + sizes.iter().sum::<i32>();
    let minimum = limits.replicas - limits.max_unavailable;
    // New pods that are not available yet are assumed never to become so.
    let mut budget = total - minimum - (new.replicas - new.available());
    if budget <= 0 {
        return sizes;
    }
    // Old pods that do not work anyway go first: they hold up the new ones and help nobody.
    for (size, set) in sizes.iter_mut().zip(old) {
        let broken = (*size - set.available()).min(budget).max(0);
        *size -= broken;
        budget -= broken;
    }
    let available = new.available() + old.iter().map(Set::available).sum::<i32>();
    let mut surplus = (available - minimum).min(budget).max(0);
    for size in &mut sizes {
        let going = (*size).min(surplus);
        *size -= going;
        surplus -= going;
    }
    sizes
}

/// Shares a change of `replicas` among the active sets of a rollout in progress, in proportion to their sizes (P-101).
/// `sets` are ordered newest first.
pub(crate) fn proportional(limits: Limits, sets: &[Set]) -> Vec<i32> {
    let mut sizes: Vec<i32> = sets.iter().map(|set| set.replicas).collect();
    let total: i32 = sizes.iter().sum();
    let allowed = if limits.replicas > 0 { limits.replicas + limits.max_surge } else { 0 };
    let change = allowed - total;
    let mut order: Vec<usize> = (0..sets.len()).collect();
    if change > 0 {
        order.sort_by_key(|index| (Reverse(sizes.get(*index).copied()), *index));
    } else {
        order.sort_by_key(|index| (Reverse(sizes.get(*index).copied()), Reverse(*index)));
    }
    let mut shared = 0;
    for &index in &order {
        let (Some(set), Some(size)) = (sets.get(index), sizes.get_mut(index)) else { continue };
        let part = share(set, allowed, limits);
        let part = if change > 0 { part.clamp(0, change - shared) } else { part.clamp(change - shared, 0) };
        *size = (*size + part).max(0);
        shared += part;
    }
    // What rounding left goes to the largest.
    if let Some(size) = order.first().and_then(|index| sizes.get_mut(*index)) {
        *size = (*size + change - shared).max(0);
    }
    sizes
}

fn share(set: &Set, allowed: i32, limits: Limits) -> i32 {
    if limits.replicas == 0 {
        return -set.replicas;
    }
    let before = i64::from(set.max_replicas.filter(|max| *max > 0).unwrap_or(limits.replicas + limits.max_surge));
    let scaled = (2 * i64::from(set.replicas) * i64::from(allowed) + before) / (2 * before);
    i32::try_from(scaled).unwrap_or(i32::MAX) - set.replicas
}

#[cfg(test)]
#[path = "rollout_tests.rs"]
mod tests;
