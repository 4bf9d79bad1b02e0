//! The order of a merged list. It does not know what the elements are.

/// Sorts merged elements: those that `named` gives a place have that order, the others keep the order of `live`, and
/// where the two meet, an unnamed element goes before a named one if it did so in the live list.
pub(crate) fn interleave<T>(
    merged: Vec<T>,
    named: impl Fn(&T) -> Option<usize>,
    live: impl Fn(&T) -> Option<usize>,
) -> Vec<T> {
    let (mut first, mut rest): (Vec<T>, Vec<T>) = merged.into_iter().partition(|item| named(item).is_some());
    first.sort_by_cached_key(&named);
    rest.sort_by_cached_key(|item| live(item).unwrap_or(usize::MAX));
    let mut result = Vec::with_capacity(first.len() + rest.len());
    let mut rest = rest.into_iter().peekable();
    for item in first {
        if let Some(own) = live(&item) {
            while let Some(earlier) = rest.next_if(|other| live(other).is_some_and(|at| at < own)) {
                result.push(earlier);
            }
        }
        result.push(item);
    }
    result.extend(rest);
    result
}
