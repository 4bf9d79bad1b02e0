//! Nobody can grant what he may not do himself: the check behind every write to a role or a binding.
//!
//! Two verbs lift it: `escalate` on a role allows to write any rules into it, `bind` on a role allows to bind it to anybody.

use std::collections::HashMap;

use serde_json::Value;

use super::rule::{Rule, quoted};
use super::{GROUP, Granted, selects_others};
use crate::attributes::Attributes;
use crate::error::{ApiError, Target};
use crate::identity::{Identity, MASTERS};
use crate::meta;
use crate::registry::Resource;
use crate::server::Server;

/// Single permissions that are compared for one write. A role with more can only be written by somebody who may
/// `escalate`, because comparing them would hold up others.
const MOST_SINGLES: usize = 20_000;
/// Rules that a refusal names.
const MOST_NAMED: usize = 20;

/// Refuses a write by `identity` that would grant more than it is granted; `old` is `None` on create.
pub(crate) fn check(
    server: &Server,
    identity: &Identity,
    resource: &Resource,
    new: &Value,
    old: Option<&Value>,
) -> Result<(), ApiError> {
    if resource.group != GROUP || identity.is_in(MASTERS) {
        return Ok(());
    }
    let same = |keys: &[&str]| old.is_some_and(|old| keys.iter().all(|key| old.get(*key) == new.get(*key)));
    match resource.kind {
        "Role" | "ClusterRole" if same(&["rules", "aggregationRule"]) => Ok(()),
        "Role" | "ClusterRole" => role(server, identity, resource, new),
        _ if same(&["roleRef", "subjects"]) => Ok(()),
        _ => binding(server, identity, resource, new),
    }
}

fn role(server: &Server, identity: &Identity, resource: &Resource, new: &Value) -> Result<(), ApiError> {
    let (namespace, name) = (meta::text(new, "namespace"), meta::text(new, "name"));
    if may(server, identity, "escalate", resource.plural, namespace, name) {
        return Ok(());
    }
    let mut rules = Rule::list(new);
    if selects_others(new) {
        // Whatever others are labelled to add comes with it.
        rules.extend(Rule::everything());
    }
    confirm(server, identity, resource.target(name), namespace, &rules)
}

fn binding(server: &Server, identity: &Identity, resource: &Resource, new: &Value) -> Result<(), ApiError> {
    let part = |key: &str| new["roleRef"][key].as_str().unwrap_or_default();
    let (namespace, kind, name) = (meta::text(new, "namespace"), part("kind"), part("name"));
    let plural = if kind == "Role" { "roles" } else { "clusterroles" };
    if may(server, identity, "bind", plural, namespace, name) {
        return Ok(());
    }
    let Some(rules) = server.authorizer.role(&server.store, kind, namespace, name) else {
        return Err(ApiError::NotFound(Box::new(Target { group: GROUP, resource: plural, name: name.to_owned() })));
    };
    confirm(server, identity, resource.target(meta::text(new, "name")), namespace, &rules)
}

fn may(server: &Server, identity: &Identity, verb: &str, resource: &str, namespace: &str, name: &str) -> bool {
    let asked = Attributes::Resource { verb, group: GROUP, resource, subresource: "", namespace, name };
    server.authorizer.decide(&server.store, identity, &asked).allowed
}

fn confirm(
    server: &Server,
    identity: &Identity,
    target: Target,
    namespace: &str,
    rules: &[Rule],
) -> Result<(), ApiError> {
    let granted = server.authorizer.granted(&server.store, identity, namespace);
    let refused = |why: String| {
        let user = format!("user {:?} (groups=[{}])", identity.user, quoted(&identity.groups));
        Err(ApiError::Forbidden { target: Box::new(target.clone()), why: format!("{user} {why}"), causes: Vec::new() })
    };
    match missing(&granted, rules) {
        Ok(missing) if missing.is_empty() => Ok(()),
        Ok(missing) => {
            let mut lines: Vec<String> = missing.iter().take(MOST_NAMED).map(Rule::to_string).collect();
            if missing.len() > MOST_NAMED {
                lines.push(format!("and {} more", missing.len() - MOST_NAMED));
            }
            let mut why = format!("is attempting to grant RBAC permissions not currently held:\n{}", lines.join("\n"));
            if !granted.problems.is_empty() {
                why = format!("{why}; resolution errors: [{}]", granted.problems.join(", "));
            }
            refused(why)
        }
        Err(count) => refused(format!(
            "is attempting to grant {count} permissions at once, more than the {MOST_SINGLES} that can be compared with \
             those currently held: split the role or use '*'"
        )),
    }
}

/// What `rules` allow and nothing in `granted` does, with the verbs of one resource together; `Err` tells how many
/// permissions there are when they are too many.
fn missing(granted: &Granted, rules: &[Rule]) -> Result<Vec<Rule>, usize> {
    let count = rules.iter().fold(0_usize, |count, rule| count.saturating_add(rule.size()));
    if count > MOST_SINGLES {
        return Err(count);
    }
    let mut missing: Vec<Rule> = Vec::new();
    // Where in `missing` the rule is that differs in its verbs alone.
    let mut places: HashMap<Rule, usize> = HashMap::new();
    let uncovered = |single: &Rule| !granted.rules.iter().any(|own| own.covers(single));
    for mut single in rules.iter().flat_map(Rule::singles).filter(uncovered) {
        let verbs = std::mem::take(&mut single.verbs);
        let place = *places.entry(single.clone()).or_insert(missing.len());
        match missing.get_mut(place) {
            Some(found) if verbs.iter().all(|verb| found.verbs.contains(verb)) => {}
            Some(found) => found.verbs.extend(verbs),
            None => missing.push(Rule { verbs, ..single }),
        }
    }
    Ok(missing)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    // A-005
    #[test]
    fn what_is_missing_is_told_by_resource() {
        let rules = |value: Value| Rule::list(&json!({"rules": value}));
        let own = json!([{"verbs": ["get"], "apiGroups": [""], "resources": ["pods", "services"]}]);
        let granted = Granted { rules: rules(own), problems: Vec::new() };
        let wanted = json!([
            {"verbs": ["get", "list"], "apiGroups": [""], "resources": ["pods"]},
            {"verbs": ["watch", "list"], "apiGroups": [""], "resources": ["pods"]},
            {"verbs": ["get"], "nonResourceURLs": ["/metrics"]},
        ]);
        let missing = missing(&granted, &rules(wanted)).unwrap();
        let texts: Vec<String> = missing.iter().map(Rule::to_string).collect();
        assert_eq!(
            texts,
            [
                r#"{APIGroups:[""], Resources:["pods"], Verbs:["list" "watch"]}"#,
                r#"{NonResourceURLs:["/metrics"], Verbs:["get"]}"#
            ]
        );
    }

    #[test]
    fn a_role_of_too_many_combinations_is_not_compared() {
        let many: Vec<String> = (0..1000).map(|number| number.to_string()).collect();
        let rules = Rule::list(&json!({"rules": [{"verbs": many, "apiGroups": many, "resources": many}]}));
        assert_eq!(missing(&Granted::default(), &rules), Err(1_000_000_000));
    }
}
