//! What a request wants to do, in the words of authorisation.

use crate::request_info::Verb;

/// The question authorisation answers: may this identity do that?
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Attributes {
    /// Something below a group-version.
    Resource {
        /// What is to be done.
        verb: Verb,
        /// API group, empty for core.
        group: String,
        /// Plural resource.
        resource: String,
        /// Subresource, or empty.
        subresource: String,
        /// Namespace, or empty for cluster-wide requests.
        namespace: String,
        /// Object name, or empty.
        name: String,
    },
    /// Discovery, OpenAPI and the like: everybody who is known may read them.
    Path {
        /// Lower-case HTTP method.
        verb: String,
        /// The path as requested.
        path: String,
    },
}

impl Attributes {
    /// The reason given in a 403, such as `User "u" cannot get resource "pods" in API group "" in the namespace "d"`.
    pub fn refusal(&self, user: &str) -> String {
        match self {
            Self::Path { verb, path } => format!("User \"{user}\" cannot {verb} path \"{path}\""),
            Self::Resource { verb, group, resource, subresource, namespace, .. } => {
                let slash = if subresource.is_empty() { "" } else { "/" };
                let place = if namespace.is_empty() {
                    "at the cluster scope".to_owned()
                } else {
                    format!("in the namespace \"{namespace}\"")
                };
                let verb = verb.as_str();
                format!(
                    "User \"{user}\" cannot {verb} resource \"{resource}{slash}{subresource}\" in API group \"{group}\" {place}"
                )
            }
        }
    }
}
