use serde_json::{Value, json};

use super::*;
use crate::fixtures::{Fixture, pod};

const NOW: i64 = 1000;

fn budget(spec: Value, status: Value) -> PodDisruptionBudget {
    let mut spec = spec;
    spec["selector"] = json!({"matchLabels": {"app": "web"}});
    let budget = json!({"metadata": {"name": "web", "generation": 4}, "spec": spec, "status": status});
    serde_json::from_value(budget).unwrap()
}

fn web(name: &str) -> Fixture {
    pod(name).label("app", "web").owned_by("ReplicaSet", "set").phase("Running").ready()
}

fn run(budget: &PodDisruptionBudget, pods: &[Fixture], replicas: Option<i32>) -> PodDisruptionBudgetStatus {
    let pods: Vec<_> = pods.iter().map(|fixture| Arc::new(fixture.pod.clone())).collect();
    let scale = |owner: &OwnerReference| replicas.map(|replicas| (owner.uid.clone(), replicas));
    status(budget, &pods, scale, Timestamp::from_second(NOW).unwrap()).0
}

#[test]
fn the_surplus_of_healthy_pods_may_be_disrupted() {
    let three = || vec![web("a"), web("b"), web("c")];
    let with = |more: Fixture| vec![web("a"), web("b"), more];
    for (label, spec, pods, replicas, healthy, allowed) in [
        ("P-119: minAvailable", json!({"minAvailable": 2}), three(), None, 2, 1),
        ("P-119: all needed", json!({"minAvailable": 3}), three(), None, 3, 0),
        ("P-119: more than there are", json!({"minAvailable": 5}), three(), None, 5, 0),
        ("P-119: percentage, rounded up", json!({"minAvailable": "50%"}), three(), Some(3), 2, 1),
        ("P-119: maxUnavailable", json!({"maxUnavailable": 1}), three(), Some(3), 2, 1),
        ("P-119: of a Deployment that wants more", json!({"maxUnavailable": 1}), three(), Some(5), 4, 0),
        ("P-119: percentage", json!({"maxUnavailable": "34%"}), three(), Some(3), 1, 2),
        ("P-119: not ready", json!({"minAvailable": 2}), with(web("c").not_ready()), None, 2, 0),
        ("P-119: terminating", json!({"minAvailable": 2}), with(web("c").deleted()), None, 2, 0),
        ("P-119: finished", json!({"minAvailable": 2}), with(web("c").phase("Failed")), None, 2, 0),
        ("P-119: of others", json!({"minAvailable": 2}), with(pod("c").label("app", "api").ready()), None, 2, 0),
        ("P-119: no pods", json!({"minAvailable": 0}), vec![], None, 0, 0),
    ] {
        let status = run(&budget(spec, json!({})), &pods, replicas);
        assert_eq!((status.desired_healthy, status.disruptions_allowed), (Some(healthy), Some(allowed)), "{label}");
        assert_eq!(status.observed_generation, Some(4), "{label}");
        let expected = if allowed > 0 { "SufficientPods" } else { "InsufficientPods" };
        assert_eq!(status.conditions.unwrap()[0].reason, expected, "{label}");
    }
}

// P-119
#[test]
fn pods_whose_owner_has_no_size_cannot_be_counted_from_above() {
    let status = run(&budget(json!({"maxUnavailable": 1}), json!({})), &[web("a")], None);
    assert_eq!(status.disruptions_allowed, Some(0));
    let condition = &status.conditions.unwrap()[0];
    assert_eq!((condition.status.as_str(), condition.reason.as_str()), ("False", "SyncFailed"));
}

// P-119
#[test]
fn a_granted_eviction_counts_until_the_pod_goes_or_two_minutes_have_passed() {
    let granted = |at: &str| budget(json!({"minAvailable": 1}), json!({"disruptedPods": {"a": at}}));
    let pods = || vec![web("a"), web("b")];
    let fresh = run(&granted("1970-01-01T00:16:00Z"), &pods(), None);
    assert_eq!((fresh.current_healthy, fresh.disruptions_allowed), (Some(1), Some(0)));
    assert_eq!(fresh.disrupted_pods.unwrap().len(), 1);
    let stale = run(&granted("1970-01-01T00:14:40Z"), &pods(), None);
    assert_eq!((stale.current_healthy, stale.disruptions_allowed), (Some(2), Some(1)));
    assert_eq!(stale.disrupted_pods, None);
    let gone = run(&granted("1970-01-01T00:16:00Z"), &[web("b"), web("c")], None);
    assert_eq!((gone.disrupted_pods, gone.disruptions_allowed), (None, Some(1)));
}
