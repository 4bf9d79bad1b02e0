//! Did you mean …? The word that somebody most likely wanted to type. Pure.

/// The candidate that is closest to `word`, if one is close enough to be meant: a slip in every three letters at most, and
/// never all of them.
pub(crate) fn closest<'a>(word: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let word = word.to_lowercase();
    let length = word.chars().count();
    let limit = (length / 3).max(1).min(length.saturating_sub(1));
    let distance = |candidate: &str| strsim::damerau_levenshtein(&word, &candidate.to_lowercase());
    let measured = candidates.into_iter().map(|candidate| (distance(candidate), candidate));
    measured.filter(|(distance, _)| *distance <= limit).min_by_key(|(distance, _)| *distance).map(|(_, found)| found)
}

/// The object that is meant by `word`, which is none's name: with a slip, or without the ending that its owner gave it.
pub(crate) fn object<'a>(word: &str, names: &[&'a str]) -> Option<&'a str> {
    let length = word.chars().count();
    let cut = |name: &'a str| name.char_indices().nth(length).map_or(name, |(end, _)| &name[..end]);
    closest(word, names.iter().copied()).or_else(|| {
        if length < 3 {
            // It is the beginning of too much.
            return None;
        }
        let beginning = closest(word, names.iter().map(|name| cut(name)))?;
        names.iter().copied().find(|name| name.starts_with(beginning))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pod_is_meant_by_the_name_of_its_deployment() {
        let names = ["hello-j2mcnkkkx8-pl7gf", "web-0", "wep-1"];
        assert_eq!(object("helo", &names), Some("hello-j2mcnkkkx8-pl7gf"));
        assert_eq!(object("helo-j2mcnkkkx8-pl7gf", &names), Some("hello-j2mcnkkkx8-pl7gf"));
        assert_eq!(object("web-1", &names), Some("web-0"));
        assert_eq!(object("database", &names), None);
        assert_eq!((object("a", &names), object("x", &["y"])), (None, None));
    }

    #[test]
    fn a_slip_is_seen_through_and_another_word_is_not() {
        let known = ["pods", "services", "deployments", "nodes"];
        for (typed, meant) in [
            ("pdos", Some("pods")),
            ("Service", Some("services")),
            ("deploymnets", Some("deployments")),
            ("jobs", None),
            ("x", None),
        ] {
            assert_eq!(closest(typed, known), meant, "{typed}");
        }
        assert_eq!(closest("no", ["nodes"]), None);
    }
}
