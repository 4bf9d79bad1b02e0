//! Eviction: a deletion that PodDisruptionBudgets may forbid (A-132, P-119).

use axum::body::Body;
use axum::response::Response;
use http::StatusCode;
use serde_json::{Map, Value, json};

use super::Call;
use super::objects::writer;
use super::subresources::set_condition;
use crate::error::{ApiError, OtherCause, success_status};
use crate::render::json_value;
use crate::request_info::WriteOptions;
use crate::resources;
use crate::write::{DeleteOptions, Part, Writer};
use crate::{body, meta, stored};

/// After so many seconds it makes sense to ask again.
const RETRY_AFTER: u32 = 10;

/// A budget remembers so many granted evictions; more at once are refused until the first have happened.
const MOST_GRANTED: usize = 2000;

/// Deletes a pod the way `kubectl drain` wants it.
pub(super) async fn evict(call: &Call<'_>, body: Body) -> Result<Response, ApiError> {
    let bytes = body::collect(body).await?;
    let eviction = body::decode_optional(call.headers, &bytes)?.unwrap_or(Value::Null);
    let name = call.name()?;
    let named = meta::text(&eviction, "name");
    if !named.is_empty() && named != name {
        return Err(ApiError::bad_request("name in URL does not match name in Eviction object"));
    }
    let mut options = DeleteOptions::read(eviction.get("deleteOptions"), &call.query)?;
    options.dry_run |= WriteOptions::from_query(&call.query)?.dry_run;
    let pod = stored::decode(&call.server.record(call.resource, call.namespace(), name)?.value);
    if needs_budget(&pod) {
        ask_budget(call, &pod, options.dry_run).await?;
        // What was granted is this pod's, not a namesake's.
        options.uid.get_or_insert_with(|| meta::text(&pod, "uid").to_owned());
    }
    if !options.dry_run {
        mark(call, name, &mut options).await?;
    }
    writer(call, Part::Object, options.dry_run, "").delete(name, &options).await?;
    Ok(json_value(StatusCode::CREATED, &success_status(Some(StatusCode::CREATED), None)))
}

/// Notes on the pod why it goes, which a Job may want to know.
async fn mark(call: &Call<'_>, name: &str, options: &mut DeleteOptions) -> Result<(), ApiError> {
    let writer = writer(call, Part::Decided, false, "");
    let why = ("EvictionByEvictionAPI", "Eviction API: evicting");
    let mut change = |old: &Value| {
        writer.check_preconditions(old, name, options)?;
        let mut new = old.clone();
        set_condition(&mut new, "DisruptionTarget", Some(why), &meta::timestamp(call.now));
        Ok(new)
    };
    let written = writer.update(name, &mut change).await?;
    if options.resource_version.is_some() {
        options.resource_version = Some(meta::text(&stored::decode(&written.text), "resourceVersion").to_owned());
    }
    Ok(())
}

/// A pod that serves nobody yet, or no longer, may always go.
fn needs_budget(pod: &Value) -> bool {
    let phase = pod.pointer("/status/phase").and_then(Value::as_str).unwrap_or_default();
    !meta::is_terminating(pod) && !matches!(phase, "" | "Pending" | "Succeeded" | "Failed")
}

/// Takes one disruption from the budget that covers the pod, if one does.
async fn ask_budget(call: &Call<'_>, pod: &Value, dry_run: bool) -> Result<(), ApiError> {
    let Some(resource) = call.server.registry.find("policy", "v1", "poddisruptionbudgets") else { return Ok(()) };
    let (records, _) = call.server.store.list(&resource.storage(), Some(call.namespace()));
    let mut covering = records.iter().map(|record| stored::decode(&record.value)).filter(|budget| covers(budget, pod));
    let Some(budget) = covering.next() else { return Ok(()) };
    if covering.next().is_some() {
        let why = "This pod has more than one PodDisruptionBudget, which the eviction subresource does not support.";
        return Err(ApiError::Internal(why.to_owned()));
    }
    let writer = Writer {
        asker: Some(&call.identity),
        server: call.server,
        resource,
        namespace: call.namespace(),
        part: Part::Status,
        subresource: "status",
        applied: false,
        dry_run,
        manager: "",
        now: call.now,
    };
    let mut change = |budget: &Value| granted(budget, pod, &meta::timestamp(call.now));
    match writer.update(meta::text(&budget, "name"), &mut change).await {
        // Others are being evicted at this very moment.
        Err(ApiError::Conflict { .. }) => Err(refused(&budget, "is being changed by others")),
        // It has just been deleted: nothing forbids any more.
        Err(ApiError::NotFound(_)) => Ok(()),
        other => other.map(|_| ()),
    }
}

fn covers(budget: &Value, pod: &Value) -> bool {
    let selector = budget.pointer("/spec/selector").unwrap_or(&Value::Null);
    let labels = pod.pointer("/metadata/labels").unwrap_or(&Value::Null);
    selector.is_object() && resources::meta::selector_matches(selector, labels)
}

/// The budget after it has granted the eviction of `pod`, or why it does not.
fn granted(budget: &Value, pod: &Value, now: &str) -> Result<Value, ApiError> {
    let number = |path: &str| budget.pointer(path).and_then(Value::as_i64).unwrap_or(0);
    if is_beyond_saving(budget, pod, &number) {
        return Ok(budget.clone());
    }
    if number("/status/observedGeneration") < number("/metadata/generation") {
        return Err(refused(budget, "is still being processed by the server"));
    }
    let granted = budget.pointer("/status/disruptedPods").and_then(Value::as_object).cloned().unwrap_or_default();
    if granted.len() >= MOST_GRANTED {
        return Err(refused(budget, "has granted many evictions that have not happened yet"));
    }
    let allowed = number("/status/disruptionsAllowed");
    if allowed <= 0 {
        let (wanted, present) = (number("/status/desiredHealthy"), number("/status/currentHealthy"));
        return Err(refused(budget, &format!("needs {wanted} healthy pods and has {present} currently")));
    }
    Ok(after(budget, allowed - 1, granted, meta::text(pod, "name"), now))
}

fn after(budget: &Value, allowed: i64, mut granted: Map<String, Value>, pod: &str, now: &str) -> Value {
    granted.insert(pod.to_owned(), json!(now));
    let mut new = budget.clone();
    new["status"]["disruptionsAllowed"] = json!(allowed);
    new["status"]["disruptedPods"] = Value::Object(granted);
    new
}

/// A pod that is not ready counts for no budget; its policy says when such a one may go.
fn is_beyond_saving(budget: &Value, pod: &Value, number: &dyn Fn(&str) -> i64) -> bool {
    let conditions = pod.pointer("/status/conditions").and_then(Value::as_array);
    let is_ready = conditions.into_iter().flatten().any(|known| known["type"] == "Ready" && known["status"] == "True");
    if is_ready {
        return false;
    }
    let always = budget.pointer("/spec/unhealthyPodEvictionPolicy").is_some_and(|policy| policy == "AlwaysAllow");
    let desired = number("/status/desiredHealthy");
    always || (desired > 0 && number("/status/currentHealthy") >= desired)
}

fn refused(budget: &Value, why: &str) -> ApiError {
    ApiError::TooManyRequests {
        message: "Cannot evict pod as it would violate the pod's disruption budget.".to_owned(),
        retry_after: RETRY_AFTER,
        causes: vec![OtherCause {
            reason: "DisruptionBudget".to_owned(),
            message: format!("The disruption budget {} {why}", meta::text(budget, "name")),
            field: String::new(),
        }],
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pod(ready: &str) -> Value {
        json!({
            "metadata": {"name": "a", "labels": {"app": "web"}},
            "status": {"phase": "Running", "conditions": [{"type": "Ready", "status": ready}]},
        })
    }

    fn budget(allowed: i64, healthy: i64) -> Value {
        json!({
            "metadata": {"name": "web", "generation": 2},
            "spec": {"selector": {"matchLabels": {"app": "web"}}},
            "status": {
                "observedGeneration": 2, "disruptionsAllowed": allowed, "desiredHealthy": 2, "currentHealthy": healthy,
            },
        })
    }

    fn cause(budget: &Value, pod: &Value) -> String {
        match granted(budget, pod, "now") {
            Err(ApiError::TooManyRequests { causes, .. }) => {
                assert_eq!(causes[0].reason, "DisruptionBudget");
                causes[0].message.clone()
            }
            other => panic!("{other:?}"),
        }
    }

    // A-132, P-119
    #[test]
    fn a_budget_grants_what_it_has() {
        let after = granted(&budget(1, 3), &pod("True"), "now").unwrap();
        assert_eq!(after["status"]["disruptionsAllowed"], 0);
        assert_eq!(after["status"]["disruptedPods"], json!({"a": "now"}));
        let why = cause(&after, &pod("True"));
        assert_eq!(why, "The disruption budget web needs 2 healthy pods and has 3 currently");
        let mut unseen = budget(5, 5);
        unseen["metadata"]["generation"] = json!(3);
        assert_eq!(cause(&unseen, &pod("True")), "The disruption budget web is still being processed by the server");
    }

    // P-119
    #[test]
    fn a_pod_that_is_not_ready_goes_when_its_policy_lets_it() {
        let enough = budget(0, 2);
        assert_eq!(granted(&enough, &pod("False"), "now").unwrap(), enough, "nothing is taken");
        cause(&budget(0, 1), &pod("False"));
        let mut always = budget(0, 1);
        always["spec"]["unhealthyPodEvictionPolicy"] = json!("AlwaysAllow");
        assert!(granted(&always, &pod("False"), "now").is_ok());
        cause(&always, &pod("True"));
    }

    // P-119
    #[test]
    fn only_pods_that_serve_are_protected_and_only_by_their_own_budget() {
        assert!(needs_budget(&pod("False")));
        for phase in ["Pending", "Succeeded", "Failed"] {
            assert!(!needs_budget(&json!({"status": {"phase": phase}})), "{phase}");
        }
        assert!(covers(&budget(0, 0), &pod("True")));
        assert!(!covers(&budget(0, 0), &json!({"metadata": {"labels": {"app": "api"}}})));
        assert!(covers(&json!({"spec": {"selector": {}}}), &pod("True")), "an empty selector covers every pod");
        assert!(!covers(&json!({"spec": {}}), &pod("True")));
    }
}
