//! One rule of a role: what it allows, what it covers, and how it is shown.

use std::fmt;

use serde_json::{Value, json};

use crate::attributes::Attributes;

/// One rule, as roles list them.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub(crate) struct Rule {
    pub(crate) verbs: Vec<String>,
    pub(crate) groups: Vec<String>,
    /// `pods`, `pods/log`, `*/scale` or `*`.
    pub(crate) resources: Vec<String>,
    /// Empty: all names.
    pub(crate) names: Vec<String>,
    /// Paths outside of resources; `*` at the end stands for anything.
    pub(crate) urls: Vec<String>,
}

impl Rule {
    /// The rules of a role as it is stored.
    pub(crate) fn list(role: &Value) -> Vec<Self> {
        role["rules"].as_array().into_iter().flatten().map(Self::read).collect()
    }

    fn read(rule: &Value) -> Self {
        let texts = |key: &str| {
            let list = rule[key].as_array().into_iter().flatten();
            list.filter_map(|text| text.as_str().map(str::to_owned)).collect()
        };
        Self {
            verbs: texts("verbs"),
            groups: texts("apiGroups"),
            resources: texts("resources"),
            names: texts("resourceNames"),
            urls: texts("nonResourceURLs"),
        }
    }

    /// What it looks like in a role: lists that are empty are left out.
    pub(crate) fn to_value(&self) -> Value {
        let mut rule = json!({"verbs": self.verbs});
        for (key, list) in [
            ("apiGroups", &self.groups),
            ("resources", &self.resources),
            ("resourceNames", &self.names),
            ("nonResourceURLs", &self.urls),
        ] {
            if !list.is_empty() {
                rule[key] = json!(list);
            }
        }
        rule
    }

    /// The two rules that allow whatever there is.
    pub(crate) fn everything() -> [Self; 2] {
        let all = || vec!["*".to_owned()];
        [
            Self { verbs: all(), groups: all(), resources: all(), ..Self::default() },
            Self { verbs: all(), urls: all(), ..Self::default() },
        ]
    }

    /// Whether it allows what is asked.
    pub(crate) fn allows(&self, attributes: &Attributes<'_>) -> bool {
        match *attributes {
            Attributes::Resource { verb, group, resource, subresource, name, .. } => {
                listed(&self.verbs, verb)
                    && listed(&self.groups, group)
                    && self.resources.iter().any(|pattern| is_resource(pattern, resource, subresource))
                    && (self.names.is_empty() || self.names.iter().any(|allowed| allowed == name))
            }
            Attributes::Path { verb, path } => {
                listed(&self.verbs, verb) && self.urls.iter().any(|pattern| is_path(pattern, path))
            }
        }
    }

    /// How many single permissions it stands for.
    pub(crate) fn size(&self) -> usize {
        let of_resources =
            self.groups.len().saturating_mul(self.resources.len()).saturating_mul(self.names.len().max(1));
        self.verbs.len().saturating_mul(of_resources.saturating_add(self.urls.len()))
    }

    /// The single permissions it stands for: of each list one entry.
    pub(crate) fn singles(&self) -> Vec<Self> {
        let one = |text: &String| vec![text.clone()];
        let names: Vec<Vec<String>> =
            if self.names.is_empty() { vec![Vec::new()] } else { self.names.iter().map(one).collect() };
        let mut singles = Vec::with_capacity(self.size());
        for verb in &self.verbs {
            for (group, resource) in self.groups.iter().flat_map(|g| self.resources.iter().map(move |r| (g, r))) {
                singles.extend(names.iter().map(|names| Self {
                    verbs: one(verb),
                    groups: one(group),
                    resources: one(resource),
                    names: names.clone(),
                    urls: Vec::new(),
                }));
            }
            singles.extend(self.urls.iter().map(|url| Self { verbs: one(verb), urls: one(url), ..Self::default() }));
        }
        singles
    }

    /// Whether everything that the single permission `other` allows is allowed by this rule too.
    pub(crate) fn covers(&self, other: &Self) -> bool {
        let all_listed = |own: &[String], asked: &[String]| asked.iter().all(|text| listed(own, text));
        let resource = |asked: &String| {
            let sub = asked.split_once('/').map(|(_, sub)| sub);
            self.resources
                .iter()
                .any(|own| own == "*" || own == asked || sub.is_some_and(|sub| own.strip_prefix("*/") == Some(sub)))
        };
        let names = self.names.is_empty()
            || !other.names.is_empty() && other.names.iter().all(|name| self.names.contains(name));
        all_listed(&self.verbs, &other.verbs)
            && all_listed(&self.groups, &other.groups)
            && other.resources.iter().all(resource)
            && (other.resources.is_empty() || names)
            && other.urls.iter().all(|asked| self.urls.iter().any(|own| covers_path(own, asked)))
    }
}

/// As refusals name it: `{APIGroups:[""], Resources:["pods"], Verbs:["get"]}`.
impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let lists = [
            ("NonResourceURLs", &self.urls),
            ("APIGroups", &self.groups),
            ("Resources", &self.resources),
            ("ResourceNames", &self.names),
            ("Verbs", &self.verbs),
        ];
        let shown: Vec<String> = lists
            .into_iter()
            .filter(|(_, list)| !list.is_empty())
            .map(|(name, list)| format!("{name}:[{}]", quoted(list)))
            .collect();
        write!(f, "{{{}}}", shown.join(", "))
    }
}

/// `"a" "b"`.
pub(super) fn quoted(list: &[String]) -> String {
    let quoted: Vec<String> = list.iter().map(|text| format!("{text:?}")).collect();
    quoted.join(" ")
}

fn listed(list: &[String], text: &str) -> bool {
    list.iter().any(|allowed| allowed == "*" || allowed == text)
}

fn is_resource(pattern: &str, resource: &str, subresource: &str) -> bool {
    if pattern == "*" {
        return true;
    }
    match pattern.split_once('/') {
        None => subresource.is_empty() && pattern == resource,
        Some((main, sub)) => !subresource.is_empty() && sub == subresource && (main == "*" || main == resource),
    }
}

fn is_path(pattern: &str, path: &str) -> bool {
    match pattern.strip_suffix('*') {
        Some(prefix) => path.starts_with(prefix),
        None => pattern == path,
    }
}

fn covers_path(own: &str, asked: &str) -> bool {
    own == asked || own.strip_suffix('*').is_some_and(|prefix| asked.trim_end_matches('*').starts_with(prefix))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rule(value: Value) -> Rule {
        Rule::read(&value)
    }

    fn asked<'a>(verb: &'a str, group: &'a str, resource: &'a str, name: &'a str) -> Attributes<'a> {
        let (resource, subresource) = resource.split_once('/').unwrap_or((resource, ""));
        Attributes::Resource { verb, group, resource, subresource, namespace: "shop", name }
    }

    // A-005
    #[test]
    fn verb_group_resource_and_name_must_all_be_listed() {
        let pods = json!({"verbs": ["get", "list"], "apiGroups": [""], "resources": ["pods", "pods/log"]});
        let named = json!({"verbs": ["*"], "apiGroups": ["*"], "resources": ["*"], "resourceNames": ["a", "b"]});
        let scale = json!({"verbs": ["update"], "apiGroups": ["apps"], "resources": ["*/scale"]});
        let everything = json!({"verbs": ["*"], "apiGroups": ["*"], "resources": ["*"]});
        for (rule_value, attributes, allowed) in [
            (&pods, asked("get", "", "pods", "x"), true),
            (&pods, asked("list", "", "pods", ""), true),
            (&pods, asked("get", "", "pods/log", "x"), true),
            (&pods, asked("get", "", "pods/exec", "x"), false),
            (&pods, asked("delete", "", "pods", "x"), false),
            (&pods, asked("get", "apps", "pods", "x"), false),
            (&pods, asked("get", "", "secrets", "x"), false),
            (&named, asked("get", "", "secrets", "a"), true),
            (&named, asked("get", "", "secrets", "c"), false),
            // Creation knows no name yet, and a list is of all.
            (&named, asked("create", "", "secrets", ""), false),
            (&scale, asked("update", "apps", "deployments/scale", "x"), true),
            (&scale, asked("update", "apps", "deployments", "x"), false),
            (&scale, asked("update", "apps", "deployments/status", "x"), false),
            (&everything, asked("impersonate", "x.example", "anything/at-all", "x"), true),
            (&json!({}), asked("get", "", "pods", "x"), false),
        ] {
            assert_eq!(rule(rule_value.clone()).allows(&attributes), allowed, "{rule_value} {attributes:?}");
        }
    }

    // A-005
    #[test]
    fn a_star_ends_a_path() {
        let discovery = rule(json!({"verbs": ["get"], "nonResourceURLs": ["/api", "/api/*", "/version"]}));
        for (verb, path, allowed) in [
            ("get", "/api", true),
            ("get", "/api/v1", true),
            ("get", "/apis", false),
            ("get", "/version", true),
            ("get", "/version/", false),
            ("post", "/api", false),
        ] {
            assert_eq!(discovery.allows(&Attributes::Path { verb, path }), allowed, "{verb} {path}");
        }
        // What is about paths says nothing about resources, and the other way round.
        let [resources, urls] = Rule::everything();
        assert!(!urls.allows(&asked("get", "", "pods", "x")));
        assert!(!resources.allows(&Attributes::Path { verb: "get", path: "/metrics" }));
        assert!(urls.allows(&Attributes::Path { verb: "get", path: "/metrics" }));
    }

    // A-005
    #[test]
    fn a_rule_covers_what_it_allows_and_no_more() {
        let own = rule(json!({"verbs": ["get", "list"], "apiGroups": [""], "resources": ["pods", "*/scale"]}));
        let named = rule(json!({"verbs": ["get"], "apiGroups": [""], "resources": ["pods"], "resourceNames": ["a"]}));
        let urls = rule(json!({"verbs": ["get"], "nonResourceURLs": ["/a/*"]}));
        let single = |verb: &str, group: &str, resource: &str, names: &[&str]| {
            rule(json!({"verbs": [verb], "apiGroups": [group], "resources": [resource], "resourceNames": names}))
        };
        for (rule, other, covered) in [
            (&own, single("get", "", "pods", &[]), true),
            (&own, single("get", "", "pods", &["a"]), true),
            (&own, single("*", "", "pods", &[]), false),
            (&own, single("get", "*", "pods", &[]), false),
            (&own, single("get", "", "*", &[]), false),
            (&own, single("get", "", "deployments/scale", &[]), true),
            (&own, single("get", "", "*/scale", &[]), true),
            (&own, single("get", "", "pods/log", &[]), false),
            (&named, single("get", "", "pods", &["a"]), true),
            (&named, single("get", "", "pods", &[]), false),
            (&named, single("get", "", "pods", &["b"]), false),
        ] {
            assert_eq!(rule.covers(&other), covered, "{rule} {other}");
        }
        for (path, covered) in
            [("/a/b", true), ("/a/*", true), ("/a/b/*", true), ("/a", false), ("/*", false), ("*", false)]
        {
            assert_eq!(urls.covers(&rule(json!({"verbs": ["get"], "nonResourceURLs": [path]}))), covered, "{path}");
        }
        let [resources, paths] = Rule::everything();
        assert!(resources.covers(&single("x", "y", "z", &[])) && !resources.covers(&urls) && paths.covers(&urls));
    }

    #[test]
    fn singles_are_every_combination() {
        let many = rule(json!({
            "verbs": ["get", "list"], "apiGroups": ["", "apps"], "resources": ["a", "b", "c"], "resourceNames": ["n"],
        }));
        let urls = rule(json!({"verbs": ["get"], "nonResourceURLs": ["/a", "/b"]}));
        for (rule, count) in [(&many, 12), (&urls, 2), (&Rule::default(), 0)] {
            assert_eq!((rule.size(), rule.singles().len()), (count, count), "{rule}");
            assert!(rule.singles().iter().all(|single| rule.covers(single)), "{rule}");
        }
        let text = r#"{APIGroups:["" "apps"], Resources:["a" "b" "c"], ResourceNames:["n"], Verbs:["get" "list"]}"#;
        assert_eq!(many.to_string(), text);
    }
}
