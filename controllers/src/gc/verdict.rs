//! What is to happen to an object, given which of its owners are there. Pure.

use std::collections::BTreeSet;

use super::graph::Case;

/// How an owner reference stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Owner {
    /// It exists.
    There,
    /// It exists, is being deleted, and waits for its dependants.
    Waiting,
    /// No object has that uid at that place.
    Absent,
    /// It cannot be judged: its kind is not served, or the reference crosses namespaces.
    Unknown,
}

/// How an object is to be deleted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Propagation {
    Background,
    Foreground,
    Orphan,
}

/// What to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    Keep,
    Delete(Propagation),
    /// Remove the references with these uids (P-085).
    Unlink(BTreeSet<String>),
}

/// Judges `case`, whose owners stand as in `owners` (same order).
pub(crate) fn verdict(case: &Case, owners: &[Owner], has_dependants: bool) -> Verdict {
    if owners.is_empty() || (case.deleting && !case.foreground) {
        return Verdict::Keep;
    }
    if owners.contains(&Owner::There) || owners.contains(&Owner::Unknown) {
        let useless: BTreeSet<String> = case
            .owners
            .iter()
            .zip(owners)
            .filter(|(_, owner)| matches!(owner, Owner::Absent | Owner::Waiting))
            .map(|(reference, _)| reference.uid.to_string())
            .collect();
        // One owner is enough to stay. Owners that wait for this object must not wait for ever.
        return if useless.is_empty() { Verdict::Keep } else { Verdict::Unlink(useless) };
    }
    if case.deleting {
        return Verdict::Keep;
    }
    if owners.contains(&Owner::Waiting) && has_dependants {
        return Verdict::Delete(Propagation::Foreground);
    }
    Verdict::Delete(if case.orphan { Propagation::Orphan } else { Propagation::Background })
}

/// Dependants that hold up a foreground deletion are those that say so (P-086).
pub(crate) fn blocks(dependant: &Case, owner: &str) -> bool {
    dependant.owners.iter().any(|reference| *reference.uid == *owner && reference.blocks)
}

#[cfg(test)]
#[path = "verdict_tests.rs"]
mod tests;
