//! Sets of completion indexes and their text, `0-2,5` (P-114). Pure.

use std::collections::BTreeSet;

/// Reads a text written by [`text`]; what is not understood is left out.
pub(crate) fn parse(text: &str) -> BTreeSet<i32> {
    let mut indexes = BTreeSet::new();
    for part in text.split(',') {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        if let (Ok(first), Ok(last)) = (first.parse::<i32>(), last.parse::<i32>()) {
            indexes.extend(first..=last);
        }
    }
    indexes
}

/// Ranges of three and more are joined by a hyphen, neighbours too.
pub(crate) fn text(indexes: &BTreeSet<i32>) -> String {
    let mut ranges: Vec<(i32, i32)> = Vec::new();
    for &index in indexes {
        match ranges.last_mut() {
            Some((_, last)) if last.checked_add(1) == Some(index) => *last = index,
            _ => ranges.push((index, index)),
        }
    }
    let texts: Vec<String> = ranges
        .into_iter()
        .map(|(first, last)| match last - first {
            0 => first.to_string(),
            1 => format!("{first},{last}"),
            _ => format!("{first}-{last}"),
        })
        .collect();
    texts.join(",")
}

#[cfg(test)]
mod tests {
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
            assert_eq!(text(&indexes.into_iter().collect()), expected);
        }
        assert_eq!(parse("0-2,x,7"), BTreeSet::from([0, 1, 2, 7]));
    }

    proptest! {
        // P-114
        #[test]
        fn a_text_means_what_was_written(indexes in prop::collection::btree_set(0_i32..200, 0..60)) {
            prop_assert_eq!(parse(&text(&indexes)), indexes);
        }
    }
}
