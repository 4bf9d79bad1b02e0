//! How endpoints are spread over slices (S-188, S-200): with as few writes as possible, because every write of a slice
//! goes to every consumer. Slices are not rebalanced.

use std::collections::BTreeMap;

/// Something that is put into slices.
pub(crate) trait Member: Clone + PartialEq {
    /// What makes it the same one in a later state.
    type Id: Ord;
    fn id(&self) -> Self::Id;
}

/// A slice as it is.
#[derive(Clone, Debug)]
pub(crate) struct Existing<E> {
    pub(crate) index: usize,
    pub(crate) members: Vec<E>,
    /// It must be written whatever its members are (its labels were edited).
    pub(crate) stale: bool,
}

/// What to write.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Packing<E> {
    /// Slices by index, with their new members; never empty ones.
    pub(crate) updates: Vec<(usize, Vec<E>)>,
    /// Members of new slices.
    pub(crate) creates: Vec<Vec<E>>,
    /// Slices with no member left: to be used for something else, or deleted.
    pub(crate) emptied: Vec<usize>,
}

/// Packs `desired` into `existing` slices of at most `max` members (at least 1).
pub(crate) fn pack<E: Member>(existing: Vec<Existing<E>>, desired: Vec<E>, max: usize) -> Packing<E> {
    let max = max.max(1);
    let mut wanted: BTreeMap<E::Id, usize> = BTreeMap::new();
    for (index, member) in desired.iter().enumerate() {
        wanted.entry(member.id()).or_insert(index);
    }
    let mut packing = Packing { updates: Vec::new(), creates: Vec::new(), emptied: Vec::new() };
    let mut unchanged = Vec::new();
    for slice in existing {
        let (kept, changed) = keep(&slice, &desired, &mut wanted, max);
        if kept.is_empty() {
            packing.emptied.push(slice.index);
        } else if changed {
            packing.updates.push((slice.index, kept));
        } else {
            unchanged.push((slice.index, kept));
        }
    }
    // In the order of `desired`, so that equal inputs give equal slices.
    let mut added: Vec<usize> = wanted.into_values().collect();
    added.sort_unstable();
    let mut added: Vec<E> = added.into_iter().filter_map(|index| desired.get(index).cloned()).collect();

    // Room in slices that are written anyway costs nothing; the fullest first.
    packing.updates.sort_by_key(|(index, members)| (std::cmp::Reverse(members.len()), *index));
    for (_, members) in &mut packing.updates {
        let room = max.saturating_sub(members.len()).min(added.len());
        members.extend(added.drain(..room));
    }
    while !added.is_empty() {
        if let Some(position) = fitting(&unchanged, added.len(), max) {
            let (index, mut members) = unchanged.swap_remove(position);
            members.append(&mut added);
            packing.updates.push((index, members));
            break;
        }
        let chunk: Vec<E> = added.drain(..added.len().min(max)).collect();
        match packing.emptied.pop() {
            Some(index) => packing.updates.push((index, chunk)),
            None => packing.creates.push(chunk),
        }
    }
    packing
}

/// The members of a slice that stay, in their present state, and whether that differs from what it has.
fn keep<E: Member>(
    slice: &Existing<E>,
    desired: &[E],
    wanted: &mut BTreeMap<E::Id, usize>,
    max: usize,
) -> (Vec<E>, bool) {
    let mut kept = Vec::with_capacity(slice.members.len());
    let mut changed = slice.stale;
    for member in &slice.members {
        if kept.len() >= max {
            changed = true;
            break;
        }
        match wanted.remove(&member.id()).and_then(|index| desired.get(index)) {
            Some(now) => {
                changed |= now != member;
                kept.push(now.clone());
            }
            None => changed = true,
        }
    }
    (kept, changed)
}

/// The fullest of `slices` that has room for all `count` members.
fn fitting<E>(slices: &[(usize, Vec<E>)], count: usize, max: usize) -> Option<usize> {
    slices
        .iter()
        .enumerate()
        .filter(|(_, (_, members))| members.len() + count <= max)
        .max_by_key(|(_, (index, members))| (members.len(), std::cmp::Reverse(*index)))
        .map(|(position, _)| position)
}

#[cfg(test)]
#[path = "pack_tests.rs"]
mod tests;
