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
    holds(&term.operator, labels.label(&term.key), term.values.iter().flatten().map(String::as_str))
}

fn holds<'a>(operator: &str, value: Option<&str>, mut values: impl Iterator<Item = &'a str>) -> bool {
    match operator {
        "In" => value.is_some_and(|value| values.any(|known| known == value)),
        "NotIn" => !value.is_some_and(|value| values.any(|known| known == value)),
        "Exists" => value.is_some(),
        "DoesNotExist" => value.is_none(),
        // Refused by the API server; selecting nothing is the harmless reading.
        _ => false,
    }
}

/// A LabelSelector as pods keep it: in little room, and fit to be a key. An absent one selects nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) struct Selector(Option<Box<[Requirement]>>);

/// One of the things that a [`Selector`] requires.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Requirement {
    key: Box<str>,
    operator: Box<str>,
    values: Box<[Box<str>]>,
}

impl Requirement {
    /// The label has one of these values.
    pub(crate) fn among<'a>(key: &str, values: impl IntoIterator<Item = &'a str>) -> Self {
        Self::new(key, "In", values)
    }

    /// The label has another value, or is not there.
    pub(crate) fn is_not(key: &str, value: &str) -> Self {
        Self::new(key, "NotIn", [value])
    }

    fn new<'a>(key: &str, operator: &str, values: impl IntoIterator<Item = &'a str>) -> Self {
        Self { key: key.into(), operator: operator.into(), values: values.into_iter().map(Into::into).collect() }
    }
}

impl Selector {
    /// `selector`, and what is required `besides`, which makes no selector of none.
    pub(crate) fn new(selector: Option<&LabelSelector>, besides: impl IntoIterator<Item = Requirement>) -> Self {
        let Some(selector) = selector else { return Self(None) };
        let pairs = selector.match_labels.iter().flatten();
        let pairs = pairs.map(|(key, value)| Requirement::among(key, [value.as_str()]));
        let terms = selector.match_expressions.iter().flatten().map(|term| {
            let values = term.values.iter().flatten();
            Requirement::new(&term.key, &term.operator, values.map(String::as_str))
        });
        Self(Some(pairs.chain(terms).chain(besides).collect()))
    }

    pub(crate) fn selects(&self, labels: &impl Labelled) -> bool {
        self.0.as_ref().is_some_and(|requirements| {
            requirements.iter().all(|required| {
                holds(&required.operator, labels.label(&required.key), required.values.iter().map(|value| &**value))
            })
        })
    }

    /// Whether it selects everything, by requiring nothing.
    pub(crate) fn is_everything(&self) -> bool {
        self.0.as_ref().is_some_and(|requirements| requirements.is_empty())
    }

    /// Whether it selects nothing, by being absent.
    pub(crate) fn is_nothing(&self) -> bool {
        self.0.is_none()
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
            assert_eq!(Selector::new(Some(&selector), []).selects(&labels), expected, "{operator} {value:?}, as kept");
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

    #[test]
    fn a_selector_is_kept_with_what_is_required_besides() {
        let pair = LabelSelector { match_labels: Some(labels(&[("a", "b")])), ..LabelSelector::default() };
        let besides = || [Requirement::among("c", ["d"]), Requirement::is_not("e", "f")];
        let kept = Selector::new(Some(&pair), besides());
        for (known, expected) in [
            (&[("a", "b"), ("c", "d")][..], true),
            (&[("a", "b"), ("c", "d"), ("e", "g")], true),
            (&[("a", "b"), ("c", "d"), ("e", "f")], false),
            (&[("a", "b"), ("c", "x")], false),
            (&[("c", "d")], false),
        ] {
            assert_eq!(kept.selects(&Some(labels(known))), expected, "{known:?}");
        }
        let (all, none) = (Selector::new(Some(&LabelSelector::default()), []), Selector::new(None, besides()));
        assert!(all.is_everything() && !all.is_nothing() && all.selects(&None));
        assert!(!none.is_everything() && none.is_nothing() && !none.selects(&Some(labels(&[("c", "d")]))));
    }

    fn labels(pairs: &[(&str, &str)]) -> Labels {
        pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
    }
}
