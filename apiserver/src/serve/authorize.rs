//! Who may do what: a fixed rule, not a policy language.

use crate::attributes::Attributes;
use crate::identity::{AUTHENTICATED, Identity, MASTERS};
use crate::request_info::Verb;

/// The group of nodes; podd is all of them.
const NODES: &str = "system:nodes";

/// Whether `identity` may do what `attributes` say.
///
/// Administrators and minisvc's own components may do everything. Everybody else who is known may look at what the API
/// offers and ask about themselves, which is what a cluster grants before anyone has written a rule. Anybody may ask how
/// the server is and which version it has.
#[must_use]
pub fn authorize(identity: &Identity, attributes: &Attributes) -> bool {
    if identity.is_in(MASTERS) || identity.is_in(NODES) {
        return true;
    }
    let known = identity.is_in(AUTHENTICATED);
    match attributes {
        Attributes::Path { verb, path } => {
            matches!(verb.as_str(), "get" | "head") && (is_public(path) || known && is_discovery(path))
        }
        Attributes::Resource { verb, group, resource, subresource, .. } => {
            known && *verb == Verb::Create && subresource.is_empty() && is_about_oneself(group, resource)
        }
    }
}

/// What is answered without credentials.
pub(super) fn is_public(path: &str) -> bool {
    let path = path.trim_matches('/');
    let first = path.split('/').next().unwrap_or_default();
    matches!(first, "healthz" | "livez" | "readyz") || path == "version"
}

fn is_discovery(path: &str) -> bool {
    let words: Vec<&str> = path.trim_matches('/').split('/').collect();
    matches!(words[..], ["api"] | ["api", _] | ["apis"] | ["apis", _] | ["apis", _, _] | ["openapi", ..])
}

fn is_about_oneself(group: &str, resource: &str) -> bool {
    matches!(
        (group, resource),
        ("authorization.k8s.io", "selfsubjectaccessreviews" | "selfsubjectrulesreviews")
            | ("authentication.k8s.io", "selfsubjectreviews")
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn resource(verb: Verb, group: &str, resource: &str) -> Attributes {
        Attributes::Resource {
            verb,
            group: group.to_owned(),
            resource: resource.to_owned(),
            subresource: String::new(),
            namespace: "shop".to_owned(),
            name: String::new(),
        }
    }

    fn path(verb: &str, path: &str) -> Attributes {
        Attributes::Path { verb: verb.to_owned(), path: path.to_owned() }
    }

    //
    #[test]
    fn masters_may_everything_and_others_only_look_around() {
        let admin = Identity::new("kubernetes-admin", &[MASTERS]);
        let account = Identity::new("system:serviceaccount:shop:cart", &["system:serviceaccounts"]);
        let nobody =
            Identity { user: "system:anonymous".to_owned(), groups: vec!["system:unauthenticated".to_owned()] };
        for (attributes, account_may, anyone_may) in [
            (resource(Verb::Delete, "", "pods"), false, false),
            (resource(Verb::Get, "", "secrets"), false, false),
            (resource(Verb::List, "", "services"), false, false),
            (resource(Verb::Create, "authorization.k8s.io", "selfsubjectaccessreviews"), true, false),
            (resource(Verb::Create, "authentication.k8s.io", "selfsubjectreviews"), true, false),
            (resource(Verb::Create, "authorization.k8s.io", "subjectaccessreviews"), false, false),
            (resource(Verb::Create, "", "selfsubjectreviews"), false, false),
            (path("get", "/api"), true, false),
            (path("get", "/apis/apps/v1/"), true, false),
            (path("get", "/openapi/v3/apis/apps/v1"), true, false),
            (path("get", "/api/v1/pods"), false, false),
            (path("get", "/version/"), true, true),
            (path("get", "/readyz/ping"), true, true),
            (path("get", "/versions"), false, false),
            (path("get", "/metrics"), false, false),
            (path("post", "/version"), false, false),
        ] {
            assert!(authorize(&admin, &attributes), "{attributes:?}");
            assert_eq!(authorize(&account, &attributes), account_may, "{attributes:?}");
            assert_eq!(authorize(&nobody, &attributes), anyone_may, "{attributes:?}");
        }
        let own = [Identity::component("netd"), Identity::new("system:node:node-1", &[NODES])];
        assert!(own.iter().all(|identity| authorize(identity, &resource(Verb::Patch, "", "services"))));
    }
}
