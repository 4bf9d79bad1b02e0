//! Which labels a selector means (P-078, P-083).

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector, LabelSelectorRequirement};

/// Labels of an object.
pub(crate) type Labels = BTreeMap<String, String>;

/// Something that labels are looked up in.
pub(crate) trait Labelled {
    /// The value of a label.
    fn label(&self, key: &str) -> Option<&str>;
}

impl Labelled for Option<Labels> {
    fn label(&self, key: &str) -> Option<&str> {
        self.as_ref()?.get(key).map(String::as_str)
    }
}

/// A Service's selector: every pair must be there; an empty or absent selector selects nothing.
pub(crate) fn service_selects(selector: Option<&Labels>, labels: &impl Labelled) -> bool {
    selector.is_some_and(|selector| !selector.is_empty() && contains(selector, labels))
}

/// The LabelSelector of workloads: pairs and expressions, all of which must hold. An empty one selects everything.
pub(crate) fn selects(selector: &LabelSelector, labels: &impl Labelled) -> bool {
    selector.match_labels.as_ref().is_none_or(|pairs| contains(pairs, labels))
        && selector.match_expressions.iter().flatten().all(|term| term_holds(term, labels))
}

fn contains(pairs: &Labels, labels: &impl Labelled) -> bool {
    pairs.iter().all(|(key, value)| labels.label(key) == Some(value))
}

fn term_holds(term: &LabelSelectorRequirement, labels: &impl Labelled) -> bool {
    let value = labels.label(&term.key);
    let among = |value| term.values.iter().flatten().any(|known| known == value);
    match term.operator.as_str() {
        "In" => value.is_some_and(among),
        "NotIn" => !value.is_some_and(among),
        "Exists" => value.is_some(),
        "DoesNotExist" => value.is_none(),
        // Refused by the API server; selecting nothing is the harmless reading.
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    // P-078
    #[test]
    fn every_operator_says_what_an_absent_key_means() {
        for (operator, value, expected) in [
            ("In", Some("a"), true),
            ("In", Some("c"), false),
            ("In", None, false),
            ("NotIn", Some("a"), false),
            ("NotIn", Some("c"), true),
            ("NotIn", None, true),
            ("Exists", Some("c"), true),
            ("Exists", None, false),
            ("DoesNotExist", Some("c"), false),
            ("DoesNotExist", None, true),
            ("Like", Some("a"), false),
        ] {
            let term = LabelSelectorRequirement {
                key: "k".into(),
                operator: operator.into(),
                values: Some(vec!["a".into(), "b".into()]),
            };
            let selector = LabelSelector { match_expressions: Some(vec![term]), ..LabelSelector::default() };
            let labels = value.map(|value| labels(&[("k", value)]));
            assert_eq!(selects(&selector, &labels), expected, "{operator} {value:?}");
        }
    }

    // P-083
    #[test]
    fn an_empty_selector_is_everything_in_a_workload_and_nothing_in_a_service() {
        assert!(selects(&LabelSelector::default(), &None));
        assert!(!service_selects(Some(&Labels::new()), &Some(labels(&[("a", "b")]))));
        assert!(!service_selects(None, &Some(labels(&[("a", "b")]))));
        let both = labels(&[("a", "b"), ("c", "d")]);
        assert!(service_selects(Some(&labels(&[("a", "b")])), &Some(both.clone())));
        assert!(!service_selects(Some(&both), &Some(labels(&[("a", "b")]))), "comma means AND");
    }

    fn labels(pairs: &[(&str, &str)]) -> Labels {
        pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
    }
}
