//! Sets of completion indexes and their text, `0-2,5` (P-114). Pure.

use std::fmt;
use std::iter::once;

/// Kept as ranges: a Job may have two billion indexes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Indexes(Vec<(i32, i32)>);

impl Indexes {
    /// Reads a text; what is not understood is left out, and so is what is not below `completions`.
    pub(crate) fn parse(text: &str, completions: i32) -> Self {
        let ranges = text.split(',').filter_map(|part| {
            let (first, last) = part.split_once('-').unwrap_or((part, part));
            let (first, last) = (first.parse::<i32>().ok()?, last.parse::<i32>().ok()?);
            Some((first, last.min(completions.saturating_sub(1))))
        });
        Self::of(ranges.filter(|(first, last)| 0 <= *first && first <= last).collect())
    }

    /// Ranges in any order become ranges that neither overlap nor touch.
    fn of(mut ranges: Vec<(i32, i32)>) -> Self {
        ranges.sort_unstable();
        let mut joined: Vec<(i32, i32)> = Vec::with_capacity(ranges.len());
        for (first, last) in ranges {
            match joined.last_mut() {
                Some((_, end)) if first <= end.saturating_add(1) => *end = last.max(*end),
                _ => joined.push((first, last)),
            }
        }
        Self(joined)
    }

    pub(crate) fn add(&mut self, more: impl IntoIterator<Item = i32>) {
        let known = std::mem::take(&mut self.0);
        *self = Self::of(known.into_iter().chain(more.into_iter().map(|index| (index, index))).collect());
    }

    pub(crate) fn contains(&self, index: i32) -> bool {
        let at = self.0.partition_point(|(_, last)| *last < index);
        self.0.get(at).is_some_and(|(first, _)| *first <= index)
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// How many there are.
    pub(crate) fn count(&self) -> i32 {
        let total: i64 = self.0.iter().map(|(first, last)| i64::from(*last) - i64::from(*first) + 1).sum();
        i32::try_from(total).unwrap_or(i32::MAX)
    }

    /// Those that are in both.
    pub(crate) fn common(&self, other: &Self) -> Self {
        let (mut ours, mut theirs) = (self.0.iter().peekable(), other.0.iter().peekable());
        let mut common = Vec::new();
        while let (Some(a), Some(b)) = (ours.peek(), theirs.peek()) {
            let (first, last) = (a.0.max(b.0), a.1.min(b.1));
            if first <= last {
                common.push((first, last));
            }
            if a.1 < b.1 {
                ours.next();
            } else {
                theirs.next();
            }
        }
        Self::of(common)
    }

    /// Those that are in either.
    pub(crate) fn with(&self, other: &Self) -> Self {
        Self::of(self.0.iter().chain(&other.0).copied().collect())
    }

    /// Those below `end` that are not in it, the lowest first.
    pub(crate) fn missing(&self, end: i32) -> impl Iterator<Item = i32> {
        let starts = once(0).chain(self.0.iter().map(|(_, last)| last.saturating_add(1)));
        let ends = self.0.iter().map(|(first, _)| *first).chain(once(end));
        starts.zip(ends).flat_map(move |(first, next)| first..next.min(end))
    }
}

impl FromIterator<i32> for Indexes {
    fn from_iter<I: IntoIterator<Item = i32>>(indexes: I) -> Self {
        Self::of(indexes.into_iter().map(|index| (index, index)).collect())
    }
}

impl fmt::Display for Indexes {
    /// Ranges of three and more are joined by a hyphen, neighbours by a comma.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (number, (first, last)) in self.0.iter().enumerate() {
            let comma = if number == 0 { "" } else { "," };
            match last - first {
                0 => write!(f, "{comma}{first}")?,
                1 => write!(f, "{comma}{first},{last}")?,
                _ => write!(f, "{comma}{first}-{last}")?,
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    // P-114
    #[test]
    fn ranges_are_joined() {
        for (indexes, expected) in [
            (vec![], ""),
            (vec![3], "3"),
            (vec![0, 1], "0,1"),
            (vec![0, 1, 2, 5], "0-2,5"),
            (vec![1, 3, 4, 5], "1,3-5"),
        ] {
            assert_eq!(indexes.into_iter().collect::<Indexes>().to_string(), expected);
        }
        assert_eq!(Indexes::parse("0-2,x,7,5-4,-3,9", 9).to_string(), "0-2,7");
        assert_eq!(Indexes::parse("0-2147483647", i32::MAX).count(), i32::MAX);
        assert_eq!(Indexes::parse("0", 0), Indexes::default());
    }

    fn some() -> impl Strategy<Value = BTreeSet<i32>> {
        prop::collection::btree_set(0_i32..200, 0..60)
    }

    proptest! {
        // P-114
        #[test]
        fn a_text_means_what_was_written(indexes in some()) {
            let indexes: Indexes = indexes.into_iter().collect();
            prop_assert_eq!(Indexes::parse(&indexes.to_string(), 200), indexes);
        }

        #[test]
        fn it_is_a_set(a in some(), b in some(), end in 0..220) {
            let set = |indexes: &BTreeSet<i32>| indexes.iter().copied().collect::<Indexes>();
            let (left, right) = (set(&a), set(&b));
            prop_assert_eq!(left.common(&right), set(&a.intersection(&b).copied().collect()));
            prop_assert_eq!(left.with(&right), set(&a.union(&b).copied().collect()));
            let mut both = left.clone();
            both.add(b.iter().copied());
            prop_assert_eq!(both, left.with(&right));
            prop_assert_eq!(usize::try_from(left.count()).unwrap(), a.len());
            prop_assert!((0..220).all(|index| left.contains(index) == a.contains(&index)));
            let missing: Vec<i32> = (0..end).filter(|index| !a.contains(index)).collect();
            prop_assert_eq!(left.missing(end).collect::<Vec<_>>(), missing);
        }
    }
}
