use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;

use super::*;

/// A member that is (id, state).
impl Member for (u16, u8) {
    type Id = u16;

    fn id(&self) -> u16 {
        self.0
    }
}

type M = (u16, u8);

fn slice(index: usize, ids: impl IntoIterator<Item = u16>) -> Existing<M> {
    Existing { index, members: ids.into_iter().map(|id| (id, 0)).collect(), stale: false }
}

fn members(ids: impl IntoIterator<Item = u16>) -> Vec<M> {
    ids.into_iter().map(|id| (id, 0)).collect()
}

// S-200
#[test]
fn nothing_is_written_when_nothing_changed() {
    let packing = pack(vec![slice(0, 0..5), slice(1, 5..9)], members(0..9), 10);
    assert_eq!(packing, Packing { updates: vec![], creates: vec![], emptied: vec![] });
}

// S-200
#[test]
fn a_slice_that_is_edited_anyway_takes_new_members_before_others_the_fullest_first() {
    // 0 loses a member (5 left), 1 loses one (7 left), 2 is unchanged with room for all.
    let existing = vec![slice(0, 0..6), slice(1, 10..18), slice(2, 20..22)];
    let desired: Vec<M> = members((1..6).chain(11..18).chain(20..22).chain(50..54));
    let packing = pack(existing, desired, 10);
    let sizes: BTreeMap<usize, usize> =
        packing.updates.iter().map(|(index, members)| (*index, members.len())).collect();
    assert_eq!(sizes, BTreeMap::from([(0, 6), (1, 10)]));
    assert!(packing.creates.is_empty());
}

// S-200
#[test]
fn what_remains_goes_to_one_unchanged_slice_with_room_for_all_of_it_else_to_a_new_one() {
    let existing = || vec![slice(0, 0..7), slice(1, 10..16), slice(2, 20..22)];
    let present = || (0..7).chain(10..16).chain(20..22);
    let packing = pack(existing(), members(present().chain(50..54)), 10);
    assert_eq!(packing.updates.iter().map(|(index, members)| (*index, members.len())).collect::<Vec<_>>(), [(1, 10)]);
    let packing = pack(existing(), members(present().chain(50..59)), 10);
    assert!(packing.updates.is_empty());
    assert_eq!(packing.creates, [members(50..59)]);
}

// S-200
#[test]
fn an_emptied_slice_is_reused() {
    let packing = pack(vec![slice(0, 0..10), slice(1, 10..20)], members((0..10).chain(30..40)), 10);
    assert_eq!(packing.updates, [(1, members(30..40))]);
    assert!(packing.creates.is_empty() && packing.emptied.is_empty());
    assert_eq!(pack(vec![slice(0, 0..10)], vec![], 10).emptied, [0]);
}

// S-201
#[test]
fn a_member_in_two_slices_is_left_in_one() {
    let packing = pack(vec![slice(0, 0..2), slice(1, 1..3)], members(0..3), 10);
    assert_eq!(packing.updates, [(1, members(2..3))]);
}

proptest! {
    /// Whatever is there and whatever is wanted: everything once, nothing too large, no write without need.
    // S-188, S-200
    #[test]
    fn every_member_is_in_exactly_one_slice_and_untouched_slices_stay(
        groups in prop::collection::vec(prop::collection::vec((0_u16..200, 0_u8..2), 0..14), 0..8),
        wanted in prop::collection::btree_map(0_u16..200, 0_u8..2, 0..120),
        max in 1_usize..13,
    ) {
        let existing: Vec<Existing<M>> = groups
            .iter()
            .enumerate()
            .map(|(index, members)| Existing { index, members: members.clone(), stale: false })
            .collect();
        let desired: Vec<M> = wanted.iter().map(|(id, state)| (*id, *state)).collect();
        let packing = pack(existing, desired.clone(), max);

        let updated: BTreeMap<usize, Vec<M>> = packing.updates.iter().cloned().collect();
        prop_assert_eq!(updated.len(), packing.updates.len(), "each slice is written once");
        let mut result: Vec<Vec<M>> = packing.creates.clone();
        for (index, members) in groups.iter().enumerate() {
            match updated.get(&index) {
                Some(now) => {
                    prop_assert!(now != members, "a write that changes nothing");
                    result.push(now.clone());
                }
                None if packing.emptied.contains(&index) => {}
                None => result.push(members.clone()),
            }
        }
        prop_assert!(result.iter().all(|members| !members.is_empty() && members.len() <= max));
        let mut all: Vec<M> = result.into_iter().flatten().collect();
        all.sort_unstable();
        prop_assert_eq!(all, desired);

        // Minimal churn: a slice is written only if it lost or changed a member, or took new ones; and at most one
        // otherwise unchanged slice takes new ones.
        let known: BTreeSet<u16> = groups.iter().flatten().map(|(id, _)| *id).collect();
        let grown = packing.updates.iter().filter(|(index, now)| {
            let before = &groups[*index];
            !before.is_empty() && before.iter().all(|member| now.contains(member))
        });
        let grown: Vec<_> = grown.collect();
        prop_assert!(grown.len() <= 1);
        prop_assert!(
            grown.iter().all(|(index, now)| now.iter().any(|member| !known.contains(&member.0) || !groups[*index].contains(member)))
        );
    }
}
