//! Domain names as texts.

use std::fmt;
use std::sync::Arc;

/// A domain name: its labels as they were written with dots between them, without the root's. Cheap to copy.
///
/// Two names are equal when they differ in the case of ASCII letters only (RFC 4343).
#[derive(Debug, Clone)]
pub struct Name {
    text: Arc<str>,
}

impl Name {
    /// A name from its text; a final dot makes no difference, and so do empty labels, which no name has.
    pub fn new(text: &str) -> Self {
        let text = text.strip_suffix('.').unwrap_or(text);
        if text.starts_with('.') || text.ends_with('.') || text.contains("..") {
            let labels: Vec<&str> = text.split('.').filter(|label| !label.is_empty()).collect();
            return Self { text: labels.join(".").into() };
        }
        Self { text: text.into() }
    }

    /// Whether both have the same letters in the same case.
    pub fn is_written_as(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.text, &other.text) || self.text == other.text
    }

    /// Its labels as they were written.
    pub(crate) fn text(&self) -> &str {
        &self.text
    }

    /// This name with a label or several in front.
    pub(crate) fn under(&self, front: &str) -> Self {
        Self { text: format!("{front}.{}", self.text).into() }
    }

    /// What is in front of `parent`, in lower case; `None` if this name is not `parent` and not under it.
    pub(crate) fn relative_to(&self, parent: &Self) -> Option<String> {
        self.in_front_of(&parent.text)
    }

    /// The same for a parent that is known by its text, without a final dot.
    pub(crate) fn in_front_of(&self, parent: &str) -> Option<String> {
        let length = self.text.len().checked_sub(parent.len())?;
        // A suffix may begin inside of a character that is not ASCII; such a name has no such parent.
        let (front, end) = self.text.split_at_checked(length)?;
        if !end.eq_ignore_ascii_case(parent) {
            return None;
        }
        let front = if front.is_empty() || parent.is_empty() { front } else { front.strip_suffix('.')? };
        Some(front.to_ascii_lowercase())
    }

    /// The labels of what [`Name::relative_to`] answers.
    pub(crate) fn labels(front: &str) -> Vec<&str> {
        if front.is_empty() { Vec::new() } else { front.split('.').collect() }
    }
}

impl PartialEq for Name {
    fn eq(&self, other: &Self) -> bool {
        self.text.eq_ignore_ascii_case(&other.text)
    }
}

impl Eq for Name {}

/// With the final dot, as in a zone file.
impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)?;
        f.write_str(".")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    // N-008
    #[test]
    fn case_does_not_matter_but_is_kept() {
        let name = Name::new("Web.Default.svc");
        assert_eq!(name, Name::new("web.default.SVC."));
        assert_eq!(name.to_string(), "Web.Default.svc.");
        assert_eq!(Name::new(".").to_string(), ".");
        assert_eq!(Name::new(".a..b.").to_string(), "a.b.");
    }

    #[test]
    fn a_name_is_under_its_parents_only() {
        let zone = Name::new("cluster.local");
        assert_eq!(Name::new("a.B.Cluster.Local").relative_to(&zone).as_deref(), Some("a.b"));
        assert_eq!(zone.relative_to(&zone).as_deref(), Some(""));
        assert_eq!(Name::new("local").relative_to(&zone), None);
        assert_eq!(Name::new("xcluster.local").relative_to(&zone), None);
        assert_eq!(Name::new("äcluster.local").relative_to(&zone), None);
        assert_eq!(Name::new("éluster.local").relative_to(&zone), None, "a parent that would begin inside of a letter");
        assert_eq!(Name::new("a.b").relative_to(&Name::new(".")).as_deref(), Some("a.b"));
        assert_eq!(zone.under("a.b"), Name::new("a.b.cluster.local"));
        assert_eq!(Name::labels(""), Vec::<&str>::new());
    }
}
