//! Who asks. Set as a request extension by an authenticator or the in-memory client, and by nobody else.

use std::collections::BTreeMap;

use serde_json::{Value, json};

/// The group that may do everything.
pub const MASTERS: &str = "system:masters";
/// The group of everybody who is known.
pub const AUTHENTICATED: &str = "system:authenticated";
/// The user that nobody known is, and the group of it.
pub(crate) const ANONYMOUS: &str = "system:anonymous";
pub(crate) const UNAUTHENTICATED: &str = "system:unauthenticated";

/// A user as the API sees one.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub struct Identity {
    /// User name, such as `system:node:node-1`.
    pub user: String,
    /// Groups, such as `system:masters`.
    pub groups: Vec<String>,
    /// What tells users of one name apart over time; empty when nothing does.
    pub uid: String,
    /// What else is known, such as the pod that a token is bound to.
    pub extra: BTreeMap<String, Vec<String>>,
}

impl Identity {
    /// A user with these groups and, as everybody who is known, `system:authenticated`.
    pub fn new(user: impl Into<String>, groups: &[&str]) -> Self {
        let mut groups: Vec<String> = groups.iter().map(|g| (*g).to_owned()).collect();
        if !groups.iter().any(|g| g == AUTHENTICATED) {
            groups.push(AUTHENTICATED.to_owned());
        }
        Self { user: user.into(), groups, ..Self::default() }
    }

    /// One of minisvc's own components, which may do everything.
    pub fn component(name: &str) -> Self {
        Self::new(format!("system:minisvc:{name}"), &[MASTERS])
    }

    /// As reviews show it.
    pub(crate) fn to_value(&self) -> Value {
        let mut info = json!({"username": self.user});
        if !self.uid.is_empty() {
            info["uid"] = json!(self.uid);
        }
        info["groups"] = json!(self.groups);
        if !self.extra.is_empty() {
            info["extra"] = json!(self.extra);
        }
        info
    }

    /// Member of a group.
    pub fn is_in(&self, group: &str) -> bool {
        self.groups.iter().any(|g| g == group)
    }
}
