//! The roles and bindings that exist from the start, as in any cluster.
//!
//! `admin`, `edit` and `view` are made of other roles: whoever adds kinds of his own adds a role with the label that makes it
//! a part of them.

use serde_json::{Value, json};

use super::{GROUP, Rule, aggregate};
use crate::meta;

const READ: &[&str] = &["get", "list", "watch"];
const WRITE: &[&str] = &["create", "delete", "deletecollection", "patch", "update"];
const ALL: &[&str] = &["create", "delete", "deletecollection", "get", "list", "patch", "update", "watch"];

/// What belongs to a workload and holds no secret.
const VISIBLE: &[(&str, &[&str])] = &[
    (
        "",
        &[
            "bindings",
            "configmaps",
            "endpoints",
            "events",
            "limitranges",
            "namespaces",
            "namespaces/status",
            "persistentvolumeclaims",
            "persistentvolumeclaims/status",
            "pods",
            "pods/log",
            "pods/status",
            "replicationcontrollers",
            "replicationcontrollers/scale",
            "replicationcontrollers/status",
            "resourcequotas",
            "resourcequotas/status",
            "serviceaccounts",
            "services",
            "services/status",
        ],
    ),
    (
        "apps",
        &[
            "controllerrevisions",
            "daemonsets",
            "daemonsets/status",
            "deployments",
            "deployments/scale",
            "deployments/status",
            "replicasets",
            "replicasets/scale",
            "replicasets/status",
            "statefulsets",
            "statefulsets/scale",
            "statefulsets/status",
        ],
    ),
    ("autoscaling", &["horizontalpodautoscalers", "horizontalpodautoscalers/status"]),
    ("batch", &["cronjobs", "cronjobs/status", "jobs", "jobs/status"]),
    ("discovery.k8s.io", &["endpointslices"]),
    ("networking.k8s.io", &["ingresses", "ingresses/status", "networkpolicies"]),
    ("policy", &["poddisruptionbudgets", "poddisruptionbudgets/status"]),
];

/// What somebody changes who runs a workload.
const CHANGEABLE: &[(&str, &[&str])] = &[
    (
        "",
        &[
            "configmaps",
            "events",
            "persistentvolumeclaims",
            "pods",
            "pods/attach",
            "pods/exec",
            "pods/portforward",
            "pods/proxy",
            "replicationcontrollers",
            "replicationcontrollers/scale",
            "secrets",
            "serviceaccounts",
            "services",
            "services/proxy",
        ],
    ),
    (
        "apps",
        &[
            "daemonsets",
            "deployments",
            "deployments/scale",
            "replicasets",
            "replicasets/scale",
            "statefulsets",
            "statefulsets/scale",
        ],
    ),
    ("autoscaling", &["horizontalpodautoscalers"]),
    ("batch", &["cronjobs", "jobs"]),
    ("coordination.k8s.io", &["leases"]),
    ("networking.k8s.io", &["ingresses", "networkpolicies"]),
    ("policy", &["poddisruptionbudgets"]),
];

/// What is a secret or leads into a pod: whoever may change these may read them too, but not whoever may only look.
const CONFIDENTIAL: &[&str] =
    &["pods/attach", "pods/exec", "pods/portforward", "pods/proxy", "secrets", "services/proxy"];

const HEALTH: &[&str] = &["/healthz", "/livez", "/readyz", "/version", "/version/"];

/// All of them, by plural, in the order in which they are made.
pub(crate) fn objects() -> Vec<(&'static str, Value)> {
    let mut roles = cluster_roles();
    // Roles made of others are complete from the start.
    let rules = aggregate::all_rules(&roles);
    for role in &mut roles {
        let complete = rules.get(meta::text(role, "name")).into_iter().flat_map(|rules| rules.iter());
        role["rules"] = complete.map(Rule::to_value).collect();
    }
    let roles = roles.into_iter().map(|role| ("clusterroles", role));
    let bindings = bindings().into_iter().map(|binding| ("clusterrolebindings", binding));
    roles.chain(bindings).collect()
}

fn cluster_roles() -> Vec<Value> {
    vec![
        role("cluster-admin", None, Rule::everything().iter().map(Rule::to_value).collect()),
        aggregated("admin", None),
        aggregated("edit", Some("admin")),
        aggregated("view", Some("edit")),
        role("system:aggregate-to-admin", Some("admin"), admin_rules()),
        role("system:aggregate-to-edit", Some("edit"), edit_rules()),
        role("system:aggregate-to-view", Some("view"), rules(READ, VISIBLE)),
        role("system:basic-user", None, about_oneself()),
        role(
            "system:discovery",
            None,
            vec![paths(&[&["/api", "/api/*", "/apis", "/apis/*", "/openapi", "/openapi/*"], HEALTH].concat())],
        ),
        role("system:public-info-viewer", None, vec![paths(HEALTH)]),
        role(
            "system:monitoring",
            None,
            vec![paths(&[HEALTH, &["/healthz/*", "/livez/*", "/metrics", "/readyz/*"]].concat())],
        ),
    ]
}

fn bindings() -> Vec<Value> {
    vec![
        binding("cluster-admin", &["system:masters"]),
        binding("system:basic-user", &["system:authenticated"]),
        binding("system:discovery", &["system:authenticated"]),
        binding("system:monitoring", &["system:monitoring"]),
        binding("system:public-info-viewer", &["system:authenticated", "system:unauthenticated"]),
    ]
}

fn admin_rules() -> Vec<Value> {
    vec![
        rule(&["create"], "authorization.k8s.io", &["localsubjectaccessreviews"]),
        rule(ALL, GROUP, &["rolebindings", "roles"]),
    ]
}

fn edit_rules() -> Vec<Value> {
    let mut all = rules(WRITE, CHANGEABLE);
    all.extend([
        rule(READ, "", CONFIDENTIAL),
        rule(READ, "coordination.k8s.io", &["leases"]),
        rule(&["create"], "", &["pods/eviction", "serviceaccounts/token"]),
        rule(&["impersonate"], "", &["serviceaccounts"]),
    ]);
    all
}

fn about_oneself() -> Vec<Value> {
    vec![
        rule(&["create"], "authorization.k8s.io", &["selfsubjectaccessreviews", "selfsubjectrulesreviews"]),
        rule(&["create"], "authentication.k8s.io", &["selfsubjectreviews"]),
    ]
}

fn rules(verbs: &[&str], resources: &[(&str, &[&str])]) -> Vec<Value> {
    resources.iter().map(|(group, resources)| rule(verbs, group, resources)).collect()
}

fn rule(verbs: &[&str], group: &str, resources: &[&str]) -> Value {
    json!({"apiGroups": [group], "resources": resources, "verbs": verbs})
}

fn paths(paths: &[&str]) -> Value {
    json!({"nonResourceURLs": paths, "verbs": ["get"]})
}

fn metadata(name: &str) -> Value {
    json!({"name": name, "labels": {"kubernetes.io/bootstrapping": "rbac-defaults"}})
}

fn aggregate_label(part_of: &str) -> String {
    format!("{GROUP}/aggregate-to-{part_of}")
}

fn role(name: &str, part_of: Option<&str>, rules: Vec<Value>) -> Value {
    let mut metadata = metadata(name);
    if let Some(part_of) = part_of {
        metadata["labels"][aggregate_label(part_of)] = json!("true");
    }
    json!({"metadata": metadata, "rules": rules})
}

fn aggregated(name: &str, part_of: Option<&str>) -> Value {
    let mut role = role(name, part_of, Vec::new());
    role["aggregationRule"] = json!({"clusterRoleSelectors": [{"matchLabels": {aggregate_label(name): "true"}}]});
    role
}

fn binding(role: &str, groups: &[&str]) -> Value {
    let subjects: Vec<Value> =
        groups.iter().map(|group| json!({"apiGroup": GROUP, "kind": "Group", "name": group})).collect();
    let role_ref = json!({"apiGroup": GROUP, "kind": "ClusterRole", "name": role});
    json!({"metadata": metadata(role), "roleRef": role_ref, "subjects": subjects})
}

#[cfg(test)]
mod tests {
    use super::super::policy::Policy;
    use super::*;
    use crate::attributes::Attributes;
    use crate::identity::Identity;

    fn policy(role: &str) -> Policy {
        let (roles, bindings): (Vec<_>, Vec<_>) =
            objects().into_iter().partition(|(plural, _)| *plural == "clusterroles");
        let values =
            |objects: Vec<(&str, Value)>| -> Vec<Value> { objects.into_iter().map(|(_, value)| value).collect() };
        let own = json!({
            "metadata": {"name": "own", "namespace": "shop"},
            "roleRef": {"kind": "ClusterRole", "name": role},
            "subjects": [{"kind": "User", "name": "jane"}],
        });
        Policy::new(&values(roles), &[], &values(bindings), &[own])
    }

    //
    #[test]
    fn who_views_reads_who_edits_changes_and_who_administers_grants() {
        let jane = Identity::new("jane", &[]);
        let (view, edit, admin) = (policy("view"), policy("edit"), policy("admin"));
        for (verb, group, resource, may_view, may_edit, may_admin) in [
            ("get", "", "pods", true, true, true),
            ("get", "", "pods/log", true, true, true),
            ("list", "discovery.k8s.io", "endpointslices", true, true, true),
            ("get", "", "secrets", false, true, true),
            ("create", "", "pods", false, true, true),
            ("create", "", "pods/exec", false, true, true),
            ("get", "", "pods/exec", false, true, true),
            ("patch", "apps", "deployments/scale", false, true, true),
            ("create", "", "serviceaccounts/token", false, true, true),
            ("impersonate", "", "serviceaccounts", false, true, true),
            ("create", GROUP, "rolebindings", false, false, true),
            ("create", "authorization.k8s.io", "localsubjectaccessreviews", false, false, true),
            ("update", "", "namespaces", false, false, false),
            ("update", "", "resourcequotas", false, false, false),
            ("get", "", "nodes", false, false, false),
            ("escalate", GROUP, "roles", false, false, false),
        ] {
            let (resource, subresource) = resource.split_once('/').unwrap_or((resource, ""));
            let asked = Attributes::Resource { verb, group, resource, subresource, namespace: "shop", name: "x" };
            let elsewhere = Attributes::Resource { verb, group, resource, subresource, namespace: "bank", name: "x" };
            for (policy, may) in [(&view, may_view), (&edit, may_edit), (&admin, may_admin)] {
                assert_eq!(policy.decide(&jane, &asked).allowed, may, "{asked:?}");
                assert!(!policy.decide(&jane, &elsewhere).allowed, "{elsewhere:?}");
            }
        }
    }

    //
    #[test]
    fn everybody_may_look_around_and_ask_about_himself() {
        let policy = policy("nothing");
        let known = Identity::new("jane", &[]);
        let nobody = Identity {
            user: "system:anonymous".to_owned(),
            groups: vec!["system:unauthenticated".to_owned()],
            ..Identity::default()
        };
        let master = Identity { groups: vec!["system:masters".to_owned()], ..Identity::default() };
        let monitor = Identity::new("prometheus", &["system:monitoring"]);
        for (path, known_may, anyone_may, monitor_may) in [
            ("/api", true, false, true),
            ("/apis/apps/v1/", true, false, true),
            ("/openapi/v3/apis/apps/v1", true, false, true),
            ("/version/", true, true, true),
            ("/readyz", true, true, true),
            ("/readyz/ping", false, false, true),
            ("/metrics", false, false, true),
            ("/", false, false, false),
        ] {
            let asked = Attributes::Path { verb: "get", path };
            assert_eq!(policy.decide(&known, &asked).allowed, known_may, "{path}");
            assert_eq!(policy.decide(&nobody, &asked).allowed, anyone_may, "{path}");
            assert_eq!(policy.decide(&monitor, &asked).allowed, monitor_may, "{path}");
            assert!(policy.decide(&master, &asked).allowed, "{path}");
        }
        for (group, resource, may) in [
            ("authorization.k8s.io", "selfsubjectaccessreviews", true),
            ("authorization.k8s.io", "selfsubjectrulesreviews", true),
            ("authentication.k8s.io", "selfsubjectreviews", true),
            ("authorization.k8s.io", "subjectaccessreviews", false),
            ("authentication.k8s.io", "tokenreviews", false),
        ] {
            let asked =
                Attributes::Resource { verb: "create", group, resource, subresource: "", namespace: "", name: "" };
            assert_eq!(policy.decide(&known, &asked).allowed, may, "{resource}");
            assert!(!policy.decide(&nobody, &asked).allowed, "{resource}");
        }
    }
}
