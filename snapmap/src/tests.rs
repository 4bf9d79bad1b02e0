//! The map against the standard library's, with good hashes and with bad ones.

use std::collections::{BTreeMap, HashMap};
use std::hash::{BuildHasher, Hasher};

use proptest::collection::vec;
use proptest::prelude::*;

use super::SnapMap;

/// A hasher of whose hashes only some bits tell keys apart: all of them, few, or none.
#[derive(Clone, Debug, Default)]
struct Bad<const MASK: u64>(u64);

impl<const MASK: u64> Hasher for Bad<MASK> {
    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = (self.0 ^ u64::from(*byte)).wrapping_mul(0x9E37_79B9_7F4A_7C15).rotate_left(29);
        }
    }

    fn finish(&self) -> u64 {
        self.0 & MASK
    }
}

impl<const MASK: u64> BuildHasher for Bad<MASK> {
    type Hasher = Self;

    fn build_hasher(&self) -> Self {
        Self::default()
    }
}

/// What is done to a map.
#[derive(Clone, Debug)]
enum Step {
    Insert(u16, u8),
    Remove(u16),
    /// Keeps a copy.
    Keep,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        6 => (0..150_u16, any::<u8>()).prop_map(|(key, value)| Step::Insert(key, value)),
        4 => (0..150_u16).prop_map(Step::Remove),
        1 => Just(Step::Keep),
    ];
    vec(step, 0..400)
}

fn sorted<S>(map: &SnapMap<u16, u8, S>) -> BTreeMap<u16, u8> {
    map.iter().map(|(&key, &value)| (key, value)).collect()
}

/// Takes the steps with both maps; each copy must stay what it was, and differ from the next as the models do.
fn check<S: BuildHasher + Clone + Default>(steps: Vec<Step>) {
    let (mut map, mut model) = (SnapMap::<u16, u8, S>::default(), HashMap::new());
    let mut kept = vec![(map.clone(), model.clone())];
    for step in steps {
        match step {
            Step::Insert(key, value) => assert_eq!(map.insert(key, value), model.insert(key, value)),
            Step::Remove(key) => assert_eq!(map.remove(&key), model.remove(&key)),
            Step::Keep => kept.push((map.clone(), model.clone())),
        }
        assert_eq!(map.len(), model.len());
    }
    kept.push((map, model));
    for (map, model) in &kept {
        assert_eq!(sorted(map), model.iter().map(|(&key, &value)| (key, value)).collect());
        assert!((0..150).all(|key| map.get(&key) == model.get(&key)));
        assert_eq!((map.is_empty(), map.iter().count()), (model.is_empty(), model.len()));
    }
    for pair in kept.windows(2) {
        let mut told = BTreeMap::new();
        SnapMap::compare(&pair[0].0, &pair[1].0, |&key, older, newer| {
            assert_eq!((older, newer), (pair[0].1.get(&key), pair[1].1.get(&key)));
            assert!(told.insert(key, (older, newer)).is_none(), "no key is told twice");
        });
        for key in 0..150 {
            let differs = pair[0].1.get(&key) != pair[1].1.get(&key);
            assert!(!differs || told.contains_key(&key), "{key}");
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(100))]

    #[test]
    fn it_is_a_map_and_its_copies_stay_what_they_were(steps in steps()) {
        check::<Bad<{ u64::MAX }>>(steps);
    }

    #[test]
    fn keys_that_share_hashes_are_kept_apart(steps in steps()) {
        check::<Bad<0x8000_0000_0000_00F0>>(steps.clone());
        check::<Bad<0>>(steps);
    }
}

#[test]
fn comparing_a_copy_looks_at_what_was_changed_only() {
    let older: SnapMap<u32, u32> = (0..10_000).map(|key| (key, key)).collect();
    let mut newer = older.clone();
    newer.insert(17, 0);
    newer.remove(&4711);
    newer.insert(20_000, 1);
    let (mut told, mut differ) = (0, BTreeMap::new());
    SnapMap::compare(&older, &newer, |&key, before, after| {
        told += 1;
        if before != after {
            differ.insert(key, (before.copied(), after.copied()));
        }
    });
    let expected = [(17, (Some(17), Some(0))), (4711, (Some(4711), None)), (20_000, (None, Some(1)))];
    assert_eq!(differ, BTreeMap::from(expected));
    assert!(told < 100, "{told} of ten thousand entries were looked at");
}

#[test]
fn maps_that_share_nothing_can_be_compared_and_shown() {
    let [older, newer]: [SnapMap<u32, u32>; 2] =
        [(0..100, 1), (50..150, 1)].map(|(keys, value)| keys.map(|key| (key, value)).collect());
    let (mut gone, mut come, mut both) = (0, 0, 0);
    SnapMap::compare(&older, &newer, |_, before, after| match (before, after) {
        (Some(_), Some(_)) => both += 1,
        (Some(_), None) => gone += 1,
        _ => come += 1,
    });
    assert_eq!((gone, come, both), (50, 50, 50));
    let one: SnapMap<&str, u32> = [("a", 1)].into_iter().collect();
    assert_eq!(format!("{one:?}"), r#"{"a": 1}"#);
    assert_eq!((one.get("a"), one.contains_key("b"), SnapMap::<u8, u8>::new().len()), (Some(&1), false, 0));
}
