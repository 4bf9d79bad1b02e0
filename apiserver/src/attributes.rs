//! What a request wants to do, in the words of authorisation.

/// The question authorisation answers: may this identity do that?
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Attributes<'a> {
    /// Something below a group-version.
    Resource {
        /// What is to be done: the verb of a request, or one that only rules know, such as `impersonate`.
        verb: &'a str,
        /// API group, empty for core.
        group: &'a str,
        /// Plural resource.
        resource: &'a str,
        /// Subresource, or empty.
        subresource: &'a str,
        /// Namespace, or empty for cluster-wide requests.
        namespace: &'a str,
        /// Object name, or empty.
        name: &'a str,
    },
    /// Discovery, OpenAPI and the like.
    Path {
        /// Lower-case HTTP method.
        verb: &'a str,
        /// The path as requested.
        path: &'a str,
    },
}

impl Attributes<'_> {
    /// The reason given in a 403, such as `User "u" cannot get resource "pods" in API group "" in the namespace "d"`.
    pub(crate) fn refusal(&self, user: &str) -> String {
        match self {
            Self::Path { verb, path } => format!("User \"{user}\" cannot {verb} path \"{path}\""),
            Self::Resource { verb, group, resource, subresource, namespace, .. } => {
                let slash = if subresource.is_empty() { "" } else { "/" };
                let place = if namespace.is_empty() {
                    "at the cluster scope".to_owned()
                } else {
                    format!("in the namespace \"{namespace}\"")
                };
                format!(
                    "User \"{user}\" cannot {verb} resource \"{resource}{slash}{subresource}\" in API group \"{group}\" {place}"
                )
            }
        }
    }
}
