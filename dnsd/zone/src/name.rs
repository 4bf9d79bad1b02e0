//! Domain names as lists of labels.

use std::fmt;

/// A domain name: its labels as they were written, without the root's.
///
/// Two names are equal when they differ in the case of ASCII letters only (RFC 4343).
#[derive(Debug, Clone, Default)]
pub struct Name {
    labels: Vec<String>,
}

impl Name {
    /// A name from its text; a final dot makes no difference, and so do empty labels, which no name has.
    pub fn new(text: &str) -> Self {
        Self { labels: text.split('.').filter(|label| !label.is_empty()).map(str::to_owned).collect() }
    }

    /// The labels in lower case, from the left.
    pub(crate) fn lower(&self) -> Vec<String> {
        self.labels.iter().map(|label| label.to_ascii_lowercase()).collect()
    }

    /// This name with a label or several in front.
    pub(crate) fn under(&self, front: &str) -> Self {
        let mut name = Self::new(front);
        name.labels.extend(self.labels.iter().cloned());
        name
    }

    /// The labels in front of `parent`, in lower case; `None` if this name is not `parent` and not under it.
    pub(crate) fn relative_to(&self, parent: &Self) -> Option<Vec<String>> {
        let (mut own, parent) = (self.lower(), parent.lower());
        own.ends_with(&parent).then(|| {
            own.truncate(own.len() - parent.len());
            own
        })
    }
}

impl PartialEq for Name {
    fn eq(&self, other: &Self) -> bool {
        self.lower() == other.lower()
    }
}

impl Eq for Name {}

/// With the final dot, as in a zone file.
impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for label in &self.labels {
            write!(f, "{label}.")?;
        }
        if self.labels.is_empty() { f.write_str(".") } else { Ok(()) }
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
    }

    #[test]
    fn a_name_is_under_its_parents_only() {
        let zone = Name::new("cluster.local");
        assert_eq!(Name::new("a.Cluster.Local").relative_to(&zone), Some(vec!["a".to_owned()]));
        assert_eq!(zone.relative_to(&zone), Some(Vec::new()));
        assert_eq!(Name::new("local").relative_to(&zone), None);
        assert_eq!(Name::new("xcluster.local").relative_to(&zone), None);
        assert_eq!(zone.under("a.b"), Name::new("a.b.cluster.local"));
    }
}
