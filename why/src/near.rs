//! Did you mean: what somebody most likely wanted to type.

/// The candidate nearest to `wrong`, if one is near enough to be meant: a third of its letters may differ, a swap of two
/// neighbours counts as one. Ties go to the first.
pub(crate) fn nearest<'a>(wrong: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let limit = wrong.chars().count().div_ceil(3);
    candidates
        .into_iter()
        .filter(|candidate| *candidate != wrong)
        .map(|candidate| (distance(wrong, candidate), candidate))
        .filter(|(distance, _)| *distance <= limit)
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, candidate)| candidate)
}

/// How many letters differ; what only continues the other, as `web` and `web-svc` do, is near.
pub(crate) fn distance(a: &str, b: &str) -> usize {
    let (a, b) = (a.to_lowercase(), b.to_lowercase());
    let continues =
        |long: &str, short: &str| long.strip_prefix(short).is_some_and(|rest| rest.starts_with(['-', '.', '_']));
    if continues(&a, &b) || continues(&b, &a) {
        return 1;
    }
    strsim::damerau_levenshtein(&a, &b)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slip_of_the_finger_is_recognised_and_another_word_is_not() {
        let known = ["web", "frontend", "database", "api-v1"];
        for (wrong, meant) in [
            ("wbe", Some("web")),
            ("frontent", Some("frontend")),
            ("front-end", Some("frontend")),
            ("api", Some("api-v1")),
            ("Database", Some("database")),
            ("queue", None),
            ("web", None),
        ] {
            assert_eq!(nearest(wrong, known), meant, "{wrong}");
        }
    }
}
