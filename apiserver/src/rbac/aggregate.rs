//! Roles that are made of others: a ClusterRole with an `aggregationRule` has the rules of all that its selectors match.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::sync::{Arc, Weak};

use jiff::Timestamp;
use minisvc_store::WatchClosed;
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use super::rule::Rule;
use super::{CLUSTER_ROLES, GROUP, read};
use crate::error::ApiError;
use crate::meta;
use crate::resources::meta::selector_matches;
use crate::server::Server;
use crate::write::{Part, Writer};

/// Who is recorded as having written the rules.
const MANAGER: &str = "clusterrole-aggregation-controller";

/// The rules of every ClusterRole as they count, by name.
pub(super) fn all_rules(roles: &[Value]) -> BTreeMap<String, Arc<[Rule]>> {
    let by_name: BTreeMap<&str, &Value> = roles.iter().map(|role| (meta::text(role, "name"), role)).collect();
    let collected = |name: &str| {
        let mut rules = Vec::new();
        collect(name, &by_name, &mut BTreeSet::new(), &mut rules);
        let mut known = HashSet::new();
        rules.retain(|rule| known.insert(rule.clone()));
        rules.into()
    };
    by_name.keys().map(|name| ((*name).to_owned(), collected(name))).collect()
}

/// Adds the rules of a role. Each role counts once, so that roles which select each other come to an end.
fn collect<'a>(
    name: &'a str,
    roles: &BTreeMap<&'a str, &'a Value>,
    seen: &mut BTreeSet<&'a str>,
    rules: &mut Vec<Rule>,
) {
    let Some(role) = roles.get(name).filter(|_| seen.insert(name)) else { return };
    match selectors(role) {
        None => rules.extend(Rule::list(role)),
        Some(selectors) => {
            for selector in selectors {
                let members = roles.iter().filter(|(_, role)| selector_matches(selector, &role["metadata"]["labels"]));
                for (member, _) in members {
                    collect(member, roles, seen, rules);
                }
            }
        }
    }
}

/// Whether a role is made of others.
pub(super) fn selects_others(role: &Value) -> bool {
    selectors(role).is_some()
}

fn selectors(role: &Value) -> Option<&[Value]> {
    let rule = role.get("aggregationRule").filter(|rule| rule.is_object())?;
    Some(rule["clusterRoleSelectors"].as_array().map_or(&[], Vec::as_slice))
}

/// Writes the rules of aggregated roles into them, so that readers see what counts; until the server closes.
pub(crate) async fn keep(server: Weak<Server>, closing: CancellationToken) {
    loop {
        // Nothing holds the server while nothing happens; with it the store goes, and the watch ends.
        let Some(alive) = server.upgrade() else { return };
        let seen = alive.store.changed_at(&[CLUSTER_ROLES]);
        if let Err(error) = fill_in(&alive).await {
            tracing::warn!(%error, "the rules of aggregated roles could not be filled in");
        }
        let watch = alive.store.watch(CLUSTER_ROLES, seen);
        drop(alive);
        let Ok(mut watch) = watch else { continue };
        tokio::select! {
            next = watch.next() => if matches!(next, Err(WatchClosed::StoreClosed)) { return },
            () = closing.cancelled() => return,
        }
    }
}

async fn fill_in(server: &Server) -> Result<(), ApiError> {
    let roles = read(&server.store, CLUSTER_ROLES);
    let rules = all_rules(&roles);
    for role in roles.iter().filter(|role| selects_others(role)) {
        let name = meta::text(role, "name");
        let Some(wanted) = rules.get(name) else { continue };
        let wanted: Vec<Value> = wanted.iter().map(Rule::to_value).collect();
        if role["rules"] == json!(wanted) {
            continue;
        }
        match write(server, name, &wanted).await {
            // It went meanwhile.
            Err(ApiError::NotFound(_)) => {}
            other => other?,
        }
    }
    Ok(())
}

async fn write(server: &Server, name: &str, rules: &[Value]) -> Result<(), ApiError> {
    let Some(resource) = server.registry.find(GROUP, "v1", "clusterroles") else { return Ok(()) };
    let writer = Writer {
        server,
        resource,
        namespace: "",
        part: Part::Object,
        subresource: "",
        applied: false,
        dry_run: false,
        manager: MANAGER,
        asker: None,
        now: Timestamp::now(),
    };
    let mut change = |old: &Value| {
        let mut new = old.clone();
        new["rules"] = json!(rules);
        Ok(new)
    };
    writer.update(name, &mut change).await.map(|_| ())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn role(name: &str, label: &str, resource: &str) -> Value {
        let rules = json!([{"verbs": ["get"], "apiGroups": [""], "resources": [resource]}]);
        json!({"metadata": {"name": name, "labels": {label: "true"}}, "rules": rules})
    }

    fn aggregated(name: &str, label: &str, wanted: &str) -> Value {
        let rule = json!({"clusterRoleSelectors": [{"matchLabels": {wanted: "true"}}]});
        json!({"metadata": {"name": name, "labels": {label: "true"}}, "aggregationRule": rule, "rules": [{"verbs": ["*"]}]})
    }

    fn resources(rules: &BTreeMap<String, Arc<[Rule]>>, name: &str) -> Vec<String> {
        rules[name].iter().flat_map(|rule| rule.resources.clone()).collect()
    }

    //
    #[test]
    fn an_aggregated_role_has_the_rules_of_those_it_selects() {
        let roles = [
            aggregated("edit", "to-admin", "to-edit"),
            aggregated("admin", "none", "to-admin"),
            role("b", "to-edit", "pods"),
            role("a", "to-edit", "services"),
            role("c", "to-admin", "roles"),
            role("d", "to-admin", "roles"),
            role("e", "none", "nodes"),
        ];
        let rules = all_rules(&roles);
        assert_eq!(resources(&rules, "edit"), ["services", "pods"]);
        // Whatever was written into it does not count.
        assert!(rules["edit"].iter().all(|rule| rule.verbs == ["get"]));
        assert_eq!(resources(&rules, "admin"), ["roles", "services", "pods"]);
        assert_eq!(resources(&rules, "e"), ["nodes"]);
    }

    #[test]
    fn roles_that_select_each_other_end() {
        let roles = [aggregated("a", "x", "y"), aggregated("b", "y", "x"), role("c", "y", "pods")];
        let rules = all_rules(&roles);
        assert_eq!(
            (resources(&rules, "a"), resources(&rules, "b")),
            (vec!["pods".to_owned()], vec!["pods".to_owned()])
        );
    }
}
