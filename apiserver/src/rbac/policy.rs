//! All roles and bindings at one moment, ordered by who is granted something: a plain function of the stored objects.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use serde_json::Value;

use super::rule::Rule;
use super::{GROUP, aggregate};
use crate::attributes::Attributes;
use crate::identity::Identity;
use crate::{meta, serve};

/// The answer to one question.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Decision {
    pub(crate) allowed: bool,
    /// By which binding, or what is wrong with the bindings; empty when there is nothing to say.
    pub(crate) reason: String,
}

/// All that somebody may do.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Granted {
    pub(crate) rules: Vec<Rule>,
    /// Bindings whose role does not exist.
    pub(crate) problems: Vec<String>,
}

/// What one binding gives to one subject.
#[derive(Debug)]
struct Grant {
    /// `None`: the role does not exist.
    rules: Option<Arc<[Rule]>>,
    binding: Arc<BindingName>,
    everywhere: bool,
    /// The subject as its binding names it, such as `Group "dev"`.
    subject: String,
}

#[derive(Debug)]
struct BindingName {
    /// `ClusterRoleBinding "b"` or `RoleBinding "b/shop"`.
    text: String,
    role_kind: String,
    role: String,
}

/// What a subject is granted: everywhere, and in one namespace each.
#[derive(Debug, Default)]
struct Grants {
    everywhere: Vec<Grant>,
    inside: HashMap<String, Vec<Grant>>,
}

/// Who is granted what.
#[derive(Debug, Default)]
pub(super) struct Policy {
    users: HashMap<String, Grants>,
    groups: HashMap<String, Grants>,
    cluster_roles: BTreeMap<String, Arc<[Rule]>>,
    /// By namespace and name.
    roles: BTreeMap<(String, String), Arc<[Rule]>>,
}

impl Policy {
    pub(super) fn new(
        cluster_roles: &[Value],
        roles: &[Value],
        cluster_bindings: &[Value],
        bindings: &[Value],
    ) -> Self {
        let mut policy = Self { cluster_roles: aggregate::all_rules(cluster_roles), ..Self::default() };
        for role in roles {
            let key = (meta::text(role, "namespace").to_owned(), meta::text(role, "name").to_owned());
            policy.roles.insert(key, Rule::list(role).into());
        }
        for binding in cluster_bindings.iter().chain(bindings) {
            policy.add(binding);
        }
        policy
    }

    /// The rules of a role, if there is such a role.
    pub(super) fn role(&self, kind: &str, namespace: &str, name: &str) -> Option<Arc<[Rule]>> {
        match kind {
            "ClusterRole" => self.cluster_roles.get(name).cloned(),
            "Role" => self.roles.get(&(namespace.to_owned(), name.to_owned())).cloned(),
            _ => None,
        }
    }

    fn add(&mut self, binding: &Value) {
        let (name, namespace) = (meta::text(binding, "name"), meta::text(binding, "namespace"));
        let text = if namespace.is_empty() {
            format!("ClusterRoleBinding {name:?}")
        } else {
            format!("RoleBinding {:?}", format!("{name}/{namespace}"))
        };
        let part = |key: &str| binding["roleRef"][key].as_str().unwrap_or_default().to_owned();
        let name = Arc::new(BindingName { text, role_kind: part("kind"), role: part("name") });
        let rules = self.role(&name.role_kind, namespace, &name.role);
        for subject in binding["subjects"].as_array().into_iter().flatten() {
            let part = |key: &str| subject[key].as_str().unwrap_or_default();
            let (kind, called) = (part("kind"), part("name"));
            let (grants, shown) = match kind {
                "User" => (self.users.entry(called.to_owned()), called.to_owned()),
                "Group" => (self.groups.entry(called.to_owned()), called.to_owned()),
                "ServiceAccount" => {
                    // In a RoleBinding an account of the same namespace may be meant.
                    let home = if part("namespace").is_empty() { namespace } else { part("namespace") };
                    (self.users.entry(serve::account_user(home, called)), format!("{called}/{home}"))
                }
                _ => continue,
            };
            let subject = format!("{kind} {shown:?}");
            let everywhere = namespace.is_empty();
            let grant = Grant { rules: rules.clone(), binding: Arc::clone(&name), everywhere, subject };
            let grants = grants.or_default();
            match namespace {
                "" => grants.everywhere.push(grant),
                namespace => grants.inside.entry(namespace.to_owned()).or_default().push(grant),
            }
        }
    }

    /// What somebody is granted in a namespace: first by bindings that count everywhere.
    fn of<'a>(&'a self, identity: &'a Identity, namespace: &'a str) -> impl Iterator<Item = &'a Grant> {
        let all = move || {
            let user = self.users.get(&identity.user);
            user.into_iter().chain(identity.groups.iter().filter_map(|group| self.groups.get(group)))
        };
        let inside = all().filter_map(move |grants| grants.inside.get(namespace)).flatten();
        all().flat_map(|grants| &grants.everywhere).chain(inside)
    }

    pub(super) fn decide(&self, identity: &Identity, attributes: &Attributes<'_>) -> Decision {
        let namespace = match attributes {
            Attributes::Resource { namespace, .. } => namespace,
            Attributes::Path { .. } => "",
        };
        let mut problems = Vec::new();
        for grant in self.of(identity, namespace) {
            match &grant.rules {
                Some(rules) if rules.iter().any(|rule| rule.allows(attributes)) => {
                    let Grant { binding, subject, .. } = grant;
                    let BindingName { text, role_kind, role } = &**binding;
                    let reason = format!("RBAC: allowed by {text} of {role_kind} {role:?} to {subject}");
                    return Decision { allowed: true, reason };
                }
                Some(_) => {}
                None => add_problem(&mut problems, &grant.binding),
            }
        }
        let reason = match problems.as_slice() {
            [] => String::new(),
            [single] => format!("RBAC: {single}"),
            several => format!("RBAC: [{}]", several.join(", ")),
        };
        Decision { allowed: false, reason }
    }

    pub(super) fn granted(&self, identity: &Identity, namespace: &str) -> Granted {
        let mut granted = Granted::default();
        for grant in self.of(identity, namespace) {
            match &grant.rules {
                // Paths belong to no namespace, so a binding inside of one cannot grant them.
                Some(rules) => {
                    let counting = rules.iter().filter(|rule| grant.everywhere || rule.urls.is_empty());
                    granted.rules.extend(counting.cloned());
                }
                None => add_problem(&mut granted.problems, &grant.binding),
            }
        }
        granted
    }
}

fn add_problem(problems: &mut Vec<String>, binding: &BindingName) {
    let problem = format!("{}.{GROUP} {:?} not found", binding.role_kind.to_lowercase(), binding.role);
    if !problems.contains(&problem) {
        problems.push(problem);
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn role(name: &str, namespace: &str, rules: Value) -> Value {
        json!({"metadata": {"name": name, "namespace": namespace}, "rules": rules})
    }

    fn binding(name: &str, namespace: &str, role: (&str, &str), subjects: Value) -> Value {
        let role = json!({"apiGroup": GROUP, "kind": role.0, "name": role.1});
        json!({"metadata": {"name": name, "namespace": namespace}, "roleRef": role, "subjects": subjects})
    }

    fn policy() -> Policy {
        let read = |resource: &str| json!([{"verbs": ["get", "list"], "apiGroups": [""], "resources": [resource]}]);
        let paths = json!([{"verbs": ["get"], "nonResourceURLs": ["/metrics"]}]);
        Policy::new(
            &[role("pods", "", read("pods")), role("paths", "", paths)],
            &[role("secrets", "shop", read("secrets")), role("secrets", "bank", read("secrets"))],
            &[
                binding("everywhere", "", ("ClusterRole", "pods"), json!([{"kind": "User", "name": "ann"}])),
                binding("figures", "", ("ClusterRole", "paths"), json!([{"kind": "Group", "name": "watchers"}])),
                binding("hole", "", ("ClusterRole", "gone"), json!([{"kind": "User", "name": "eve"}])),
            ],
            &[
                binding(
                    "keys",
                    "shop",
                    ("Role", "secrets"),
                    json!([
                        {"kind": "Group", "name": "dev"},
                        {"kind": "ServiceAccount", "name": "cart", "namespace": "bank"},
                        {"kind": "ServiceAccount", "name": "till"},
                    ]),
                ),
                binding("look", "shop", ("ClusterRole", "pods"), json!([{"kind": "User", "name": "bob"}])),
                binding("paths", "shop", ("ClusterRole", "paths"), json!([{"kind": "User", "name": "bob"}])),
                // A Role of another namespace cannot be meant.
                binding("hole", "tiny", ("Role", "secrets"), json!([{"kind": "User", "name": "eve"}])),
            ],
        )
    }

    fn get<'a>(resource: &'a str, namespace: &'a str) -> Attributes<'a> {
        Attributes::Resource { verb: "get", group: "", resource, subresource: "", namespace, name: "x" }
    }

    // A-005
    #[test]
    fn bindings_count_for_their_subjects_in_their_namespace() {
        let policy = policy();
        let user = |name: &str| Identity { user: name.to_owned(), ..Identity::default() };
        let dev = Identity { groups: vec!["dev".to_owned()], ..user("zoe") };
        let account = |namespace: &str, name: &str| user(&format!("system:serviceaccount:{namespace}:{name}"));
        let figures = Attributes::Path { verb: "get", path: "/metrics" };
        let watcher = Identity { groups: vec!["watchers".to_owned()], ..Identity::default() };
        for (who, what, allowed) in [
            (&user("ann"), get("pods", "shop"), true),
            (&user("ann"), get("pods", ""), true),
            (&user("ann"), get("secrets", "shop"), false),
            (&user("bob"), get("pods", "shop"), true),
            (&user("bob"), get("pods", "bank"), false),
            (&user("bob"), get("pods", ""), false),
            (&user("bob"), figures, false),
            (&watcher, figures, true),
            (&dev, get("secrets", "shop"), true),
            (&dev, get("secrets", "bank"), false),
            (&user("dev"), get("secrets", "shop"), false),
            (&account("bank", "cart"), get("secrets", "shop"), true),
            (&account("shop", "cart"), get("secrets", "shop"), false),
            (&account("shop", "till"), get("secrets", "shop"), true),
            (&Identity::default(), get("pods", "shop"), false),
        ] {
            assert_eq!(policy.decide(who, &what).allowed, allowed, "{who:?} {what:?}");
        }
    }

    // A-119
    #[test]
    fn reasons_name_the_binding_or_what_is_missing() {
        let policy = policy();
        let user = |name: &str| Identity { user: name.to_owned(), ..Identity::default() };
        let reason = |name: &str, namespace: &str| policy.decide(&user(name), &get("pods", namespace)).reason;
        assert_eq!(
            reason("ann", "shop"),
            r#"RBAC: allowed by ClusterRoleBinding "everywhere" of ClusterRole "pods" to User "ann""#
        );
        assert_eq!(
            reason("bob", "shop"),
            r#"RBAC: allowed by RoleBinding "look/shop" of ClusterRole "pods" to User "bob""#
        );
        assert_eq!(reason("zoe", "shop"), "");
        assert_eq!(reason("eve", "shop"), r#"RBAC: clusterrole.rbac.authorization.k8s.io "gone" not found"#);
        assert_eq!(
            reason("eve", "tiny"),
            r#"RBAC: [clusterrole.rbac.authorization.k8s.io "gone" not found, role.rbac.authorization.k8s.io "secrets" not found]"#
        );
    }

    // A-155
    #[test]
    fn all_that_is_granted_can_be_listed() {
        let policy = policy();
        let dev = Identity { user: "ann".to_owned(), groups: vec!["dev".to_owned()], ..Identity::default() };
        let resources = |namespace: &str| -> Vec<String> {
            policy.granted(&dev, namespace).rules.into_iter().flat_map(|rule| rule.resources).collect()
        };
        assert_eq!(resources("shop"), ["pods", "secrets"]);
        assert_eq!(resources("bank"), ["pods"]);
        // A role of paths alone gives nothing when it is bound in a namespace.
        let bob = Identity { user: "bob".to_owned(), ..Identity::default() };
        assert!(policy.granted(&bob, "shop").rules.iter().all(|rule| rule.urls.is_empty()));
        assert!(!policy.granted(&bob, "shop").rules.is_empty());
        let eve = Identity { user: "eve".to_owned(), ..Identity::default() };
        assert_eq!(
            policy.granted(&eve, "shop").problems,
            [r#"clusterrole.rbac.authorization.k8s.io "gone" not found"#]
        );
    }
}
