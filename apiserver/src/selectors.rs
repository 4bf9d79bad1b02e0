//! Label and field selectors: read from their text form, matched against a record (A-093 to A-096).

use crate::error::ApiError;
use crate::resources::meta;

/// Terms and values in one selector, more than anybody writes by hand.
const MOST_TERMS: usize = 1000;

/// A conjunction of requirements on labels; empty matches everything.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct LabelSelector {
    requirements: Vec<Requirement>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Requirement {
    key: String,
    operator: Operator,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Operator {
    In(Vec<String>),
    NotIn(Vec<String>),
    Exists,
    Absent,
    Greater(i64),
    Less(i64),
}

impl Requirement {
    /// What the label is compared with as text.
    fn values(&self) -> &[String] {
        match &self.operator {
            Operator::In(values) | Operator::NotIn(values) => values,
            Operator::Exists | Operator::Absent | Operator::Greater(_) | Operator::Less(_) => &[],
        }
    }
}

impl LabelSelector {
    /// Reads the query form, such as `app=web,tier in (a, b),!old`.
    pub(crate) fn parse(text: &str) -> Result<Self, ApiError> {
        let mut requirements = Vec::new();
        if text.trim().is_empty() {
            return Ok(Self::default());
        }
        let mut size = 0;
        for term in split_terms(text) {
            let term = term.trim();
            let requirement = parse_requirement(term).ok_or_else(|| unreadable(text, term))?;
            check_requirement(&requirement).map_err(|why| ApiError::BadRequest(format!("{}: {why}", prefix(text))))?;
            size += 1 + requirement.values().len();
            check_size(size)?;
            requirements.push(requirement);
        }
        Ok(Self { requirements })
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.requirements.is_empty()
    }

    /// `label` looks a label up.
    pub(crate) fn matches<'a>(&self, label: impl Fn(&str) -> Option<&'a str>) -> bool {
        self.requirements.iter().all(|requirement| {
            let value = label(&requirement.key);
            match &requirement.operator {
                Operator::In(values) => value.is_some_and(|v| values.iter().any(|w| w == v)),
                Operator::NotIn(values) => value.is_none_or(|v| values.iter().all(|w| w != v)),
                Operator::Exists => value.is_some(),
                Operator::Absent => value.is_none(),
                Operator::Greater(bound) => value.and_then(|v| v.parse::<i64>().ok()).is_some_and(|v| v > *bound),
                Operator::Less(bound) => value.and_then(|v| v.parse::<i64>().ok()).is_some_and(|v| v < *bound),
            }
        })
    }
}

fn prefix(text: &str) -> String {
    format!("unable to parse requirement in label selector {text:?}")
}

fn unreadable(text: &str, term: &str) -> ApiError {
    ApiError::BadRequest(format!("{}: {term:?} is no requirement", prefix(text)))
}

/// Splits at commas outside parentheses.
fn split_terms(text: &str) -> Vec<&str> {
    let mut terms = Vec::new();
    let (mut depth, mut start) = (0_usize, 0);
    for (index, letter) in text.char_indices() {
        match letter {
            '(' => depth += 1,
            ')' => depth = depth.saturating_sub(1),
            ',' if depth == 0 => {
                terms.push(&text[start..index]);
                start = index + 1;
            }
            _ => {}
        }
    }
    terms.push(&text[start..]);
    terms
}

fn parse_requirement(term: &str) -> Option<Requirement> {
    let requirement = |key: &str, operator| Some(Requirement { key: key.trim().to_owned(), operator });
    if let Some(key) = term.strip_prefix('!') {
        return requirement(key, Operator::Absent);
    }
    if let Some((head, rest)) = term.split_once('(') {
        let values = rest.trim_end().strip_suffix(')')?;
        if values.contains(['(', ')']) {
            return None;
        }
        let values: Vec<String> = values.split(',').map(|v| v.trim().to_owned()).collect();
        let mut words = head.split_whitespace();
        let (key, word) = (words.next()?, words.next()?);
        if words.next().is_some() {
            return None;
        }
        return match word {
            "in" => requirement(key, Operator::In(values)),
            "notin" => requirement(key, Operator::NotIn(values)),
            _ => None,
        };
    }
    if let Some((key, value)) = term.split_once("!=") {
        return requirement(key, Operator::NotIn(vec![value.trim().to_owned()]));
    }
    if let Some((key, value)) = term.split_once("==").or_else(|| term.split_once('=')) {
        return requirement(key, Operator::In(vec![value.trim().to_owned()]));
    }
    if let Some((key, bound)) = term.split_once('>') {
        return requirement(key, Operator::Greater(bound.trim().parse().ok()?));
    }
    if let Some((key, bound)) = term.split_once('<') {
        return requirement(key, Operator::Less(bound.trim().parse().ok()?));
    }
    let mut words = term.split_whitespace();
    match (words.next(), words.next(), words.next(), words.next()) {
        (Some(key), None, ..) => requirement(key, Operator::Exists),
        (Some(key), Some("gt"), Some(bound), None) => requirement(key, Operator::Greater(bound.parse().ok()?)),
        (Some(key), Some("lt"), Some(bound), None) => requirement(key, Operator::Less(bound.parse().ok()?)),
        _ => None,
    }
}

fn check_requirement(requirement: &Requirement) -> Result<(), String> {
    meta::qualified_name(&requirement.key).map_err(|why| format!("key {:?}: {why}", requirement.key))?;
    for value in requirement.values() {
        meta::label_value(value).map_err(|why| format!("value {value:?}: {why}"))?;
    }
    Ok(())
}

/// Every term and value costs a comparison for each object, so there must not be any number of them.
fn check_size(count: usize) -> Result<(), ApiError> {
    if count > MOST_TERMS {
        let text = format!("the selector has more than {MOST_TERMS} terms and values: ask for less at once");
        return Err(ApiError::BadRequest(text));
    }
    Ok(())
}

/// A conjunction of (in)equalities on fields; empty matches everything.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct FieldSelector {
    terms: Vec<FieldTerm>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct FieldTerm {
    field: String,
    equal: bool,
    value: String,
}

impl FieldSelector {
    /// Reads the query form, such as `metadata.name=web,status.phase!=Failed`; `supported` lists the kind's own fields.
    pub(crate) fn parse(text: &str, supported: &[&str]) -> Result<Self, ApiError> {
        let mut terms = Vec::new();
        for term in split_unescaped(text).into_iter().filter(|term| !term.is_empty()) {
            let term = parse_field_term(term).ok_or_else(|| {
                ApiError::BadRequest(format!("invalid field selector {text:?}: no operator in {term:?}"))
            })?;
            let everywhere = ["metadata.name", "metadata.namespace"];
            if !everywhere.contains(&term.field.as_str()) && !supported.contains(&term.field.as_str()) {
                return Err(ApiError::BadRequest(format!("field label not supported: {}", term.field)));
            }
            terms.push(term);
            check_size(terms.len())?;
        }
        Ok(Self { terms })
    }

    /// Everything of this one name.
    pub(crate) fn by_name(name: &str) -> Self {
        Self { terms: vec![FieldTerm { field: "metadata.name".to_owned(), equal: true, value: name.to_owned() }] }
    }

    /// The name all matches must have, if the selector says so: lets a lookup replace a scan.
    pub(crate) fn name(&self) -> Option<&str> {
        self.terms.iter().find(|t| t.equal && t.field == "metadata.name").map(|t| t.value.as_str())
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.terms.is_empty()
    }

    /// Adds the requirements of another selector.
    pub(crate) fn and(mut self, other: Self) -> Self {
        self.terms.extend(other.terms);
        self
    }

    /// `field` looks a field up; an absent one compares as the empty string (A-095).
    pub(crate) fn matches<'a>(&self, field: impl Fn(&str) -> Option<&'a str>) -> bool {
        self.terms.iter().all(|term| (field(&term.field).unwrap_or_default() == term.value) == term.equal)
    }
}

/// Splits at commas without a backslash before them.
fn split_unescaped(text: &str) -> Vec<&str> {
    let mut terms = Vec::new();
    let (mut escaped, mut start) = (false, 0);
    for (index, letter) in text.char_indices() {
        match letter {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            ',' => {
                terms.push(&text[start..index]);
                start = index + 1;
            }
            _ => {}
        }
    }
    terms.push(&text[start..]);
    terms
}

fn parse_field_term(term: &str) -> Option<FieldTerm> {
    let at = term.find(['=', '!'])?;
    let (field, rest) = term.split_at(at);
    let (equal, value) = if let Some(value) = rest.strip_prefix("!=") {
        (false, value)
    } else if let Some(value) = rest.strip_prefix("==") {
        (true, value)
    } else {
        (true, rest.strip_prefix('=')?)
    };
    Some(FieldTerm { field: field.to_owned(), equal, value: unescape(value)? })
}

fn unescape(value: &str) -> Option<String> {
    let mut plain = String::with_capacity(value.len());
    let mut letters = value.chars();
    while let Some(letter) = letters.next() {
        match letter {
            '\\' => plain.push(letters.next().filter(|c| matches!(c, '\\' | ',' | '='))?),
            '=' | ',' => return None,
            other => plain.push(other),
        }
    }
    Some(plain)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Whether a label that has this value, or is absent, meets a requirement about that value.
    type Meaning = fn(Option<&str>, &str) -> bool;

    #[derive(Debug, Clone)]
    struct Term {
        text: String,
        meaning: Meaning,
        key: &'static str,
        value: &'static str,
    }

    /// One requirement as text, and what it says by the words of A-093.
    fn requirement() -> impl Strategy<Value = Term> {
        let key = prop_oneof![Just("a"), Just("b"), Just("c")];
        let value = prop_oneof![Just("x"), Just("y"), Just("")];
        let form: Vec<(&str, Meaning)> = vec![
            ("K=V", |label, value| label == Some(value)),
            ("K == V", |label, value| label == Some(value)),
            ("K!=V", |label, value| label != Some(value)),
            ("K in (V,never)", |label, value| label == Some(value)),
            ("K notin (V,never)", |label, value| label != Some(value)),
            ("K", |label, _| label.is_some()),
            ("!K", |label, _| label.is_none()),
        ];
        (key, value, prop::sample::select(form)).prop_map(|(key, value, (form, meaning))| Term {
            text: form.replace('K', key).replace('V', value),
            meaning,
            key,
            value,
        })
    }

    proptest! {
        // A-093
        #[test]
        fn conjunctions_mean_all_of_their_terms(
            terms in prop::collection::vec(requirement(), 0..5),
            labels in prop::collection::btree_map("[ab]", "[xy]?", 0..3),
        ) {
            let text: Vec<&str> = terms.iter().map(|term| term.text.as_str()).collect();
            let selector = LabelSelector::parse(&text.join(",")).unwrap();
            let lookup = |key: &str| labels.get(key).map(String::as_str);
            let expected = terms.iter().all(|term| (term.meaning)(lookup(term.key), term.value));
            prop_assert_eq!(selector.matches(lookup), expected, "{:?}", text);
        }

        // A-093, A-094
        #[test]
        fn any_text_is_read_or_refused(text in ".{0,40}") {
            let _ = (LabelSelector::parse(&text), FieldSelector::parse(&text, &["x"]));
        }

        // A-094
        #[test]
        fn escaped_values_come_back(value in "[a,=\\\\]{0,10}") {
            let escaped: String =
                value.chars().flat_map(|c| if c == 'a' { vec![c] } else { vec!['\\', c] }).collect();
            let selector = FieldSelector::parse(&format!("x={escaped},metadata.name=n"), &["x"]).unwrap();
            let field = |name: &str| if name == "x" { Some(value.as_str()) } else { Some("n") };
            prop_assert!(selector.matches(field));
        }
    }

    fn label_match(selector: &str, labels: &[(&'static str, &'static str)]) -> bool {
        let selector = LabelSelector::parse(selector).unwrap();
        selector.matches(|key| labels.iter().find(|(k, _)| *k == key).map(|(_, v)| *v))
    }

    // A-093
    #[test]
    fn every_form_of_a_label_requirement() {
        let labels = &[("app", "web"), ("n", "5")];
        let rows = [
            ("", true),
            ("app=web", true),
            ("app==web", true),
            ("app=db", false),
            ("app!=db", true),
            ("app!=web", false),
            ("absent!=x", true),
            ("app in (db, web)", true),
            ("app in (db)", false),
            ("app notin (db)", true),
            ("app notin (web,db)", false),
            ("absent notin (x)", true),
            ("app", true),
            ("absent", false),
            ("!absent", true),
            ("!app", false),
            ("app=web,n=5", true),
            ("app=web,n=6", false),
            ("n gt 4", true),
            ("n>5", false),
            ("n<6", true),
            ("absent=", false),
            (" app = web , n ", true),
        ];
        for (selector, expected) in rows {
            assert_eq!(label_match(selector, labels), expected, "{selector}");
        }
    }

    // A-093
    #[test]
    fn malformed_label_selectors_are_refused() {
        for selector in ["a b c d", "app in web", "app in (web", "=x", "a=b,", "a/b/c=d", "app=sp ace", "n gt x", "!"] {
            let error = LabelSelector::parse(selector).unwrap_err();
            assert_eq!(error.code().as_u16(), 400, "{selector}");
        }
    }

    // A-093, A-094
    #[test]
    fn selectors_have_a_limit() {
        let values = |count: usize| format!("a in ({})", vec!["b"; count].join(","));
        let negated = |count: usize| vec!["!a"; count].join(",");
        for (selector, fits) in
            [(values(999), true), (values(1000), false), (negated(1000), true), (negated(1001), false)]
        {
            assert_eq!(LabelSelector::parse(&selector).is_ok(), fits, "{}", selector.len());
        }
        let fields = |count: usize| FieldSelector::parse(&vec!["metadata.name!=a"; count].join(","), &[]);
        assert!(fields(1000).is_ok());
        let refused = fields(1001).unwrap_err();
        assert_eq!(refused.code().as_u16(), 400);
        assert!(refused.to_string().contains("more than 1000 terms"), "{refused}");
    }

    fn field_match(selector: &str) -> bool {
        let fields = [("metadata.name", "web"), ("status.phase", "Running"), ("type", "a,b=c\\d")];
        let selector = FieldSelector::parse(selector, &["status.phase", "type", "absent"]).unwrap();
        selector.matches(|name| fields.iter().find(|(k, _)| *k == name).map(|(_, v)| *v))
    }

    // A-094, A-095, A-096
    #[test]
    fn field_terms_in_any_order() {
        let rows = [
            ("", true),
            ("metadata.name=web", true),
            ("metadata.name==web", true),
            ("metadata.name!=web", false),
            ("metadata.name=web,status.phase!=Failed", true),
            ("status.phase!=Failed,metadata.name=web", true),
            ("status.phase=Failed,metadata.name=web", false),
            ("absent=", true),
            ("absent!=", false),
            ("metadata.namespace=", true),
            (r"type=a\,b\=c\\d", true),
        ];
        for (selector, expected) in rows {
            assert_eq!(field_match(selector), expected, "{selector}");
        }
    }

    // A-095
    #[test]
    fn unsupported_fields_are_named() {
        let error = FieldSelector::parse("spec.color=red", &["status.phase"]).unwrap_err();
        assert_eq!(error, ApiError::BadRequest("field label not supported: spec.color".to_owned()));
        assert!(FieldSelector::parse("metadata.name", &[]).is_err());
    }
}
