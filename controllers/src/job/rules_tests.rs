use serde_json::{Value, json};

use super::super::pod::{FAILURES, INDEX};
use super::*;
use crate::fixtures::{Fixture, pod};

fn spec(change: Value) -> JobSpec {
    let mut spec = json!({"template": {}});
    for (key, value) in change.as_object().unwrap() {
        spec[key] = value.clone();
    }
    serde_json::from_value(spec).unwrap()
}

fn exited(codes: &[(&str, i32)]) -> Fixture {
    let mut fixture = pod("p").phase("Failed");
    let ended = |(name, exit_code): &(&str, i32)| {
        let ended = Terminated { name: (*name).into(), exit_code: *exit_code, finished_at: None };
        ContainerStatus { terminated: Some(Box::new(ended)), ..ContainerStatus::default() }
    };
    let status = fixture.pod.status.get_or_insert_default();
    status.container_statuses = codes.iter().map(ended).chain([ContainerStatus::default()]).collect();
    fixture
}

#[test]
fn the_first_rule_that_matches_decides() {
    let codes = |action: &str, operator: &str, values: Value, container: Value| json!({"action": action, "onExitCodes": {"operator": operator, "values": values, "containerName": container}});
    let disrupted =
        |action: &str| json!({"action": action, "onPodConditions": [{"type": "DisruptionTarget", "status": "True"}]});
    let evicted = || exited(&[("main", 137)]).condition("DisruptionTarget", "True");
    let fails = |what: &str, rule: usize| Action::FailJob(format!("{what} matching FailJob rule at index {rule}"));
    for (label, rules, pod, expected) in [
        ("no rules", vec![], exited(&[("main", 1)]), Action::Count),
        ("in", vec![codes("Ignore", "In", json!([1, 42]), Value::Null)], exited(&[("main", 42)]), Action::Ignore),
        ("not in", vec![codes("Ignore", "In", json!([1, 42]), Value::Null)], exited(&[("main", 2)]), Action::Count),
        (
            "others",
            vec![codes("FailIndex", "NotIn", json!([1]), Value::Null)],
            exited(&[("main", 2)]),
            Action::FailIndex,
        ),
        (
            "not others",
            vec![codes("FailIndex", "NotIn", json!([1]), Value::Null)],
            exited(&[("main", 1)]),
            Action::Count,
        ),
        (
            "success is no failure",
            vec![codes("Ignore", "NotIn", json!([1]), Value::Null)],
            exited(&[("a", 0)]),
            Action::Count,
        ),
        (
            "of one container",
            vec![codes("FailJob", "In", json!([3]), json!("b"))],
            exited(&[("a", 4), ("b", 3)]),
            fails("Container b for pod default/p failed with exit code 3", 0),
        ),
        (
            "of another",
            vec![codes("FailJob", "In", json!([3]), json!("a"))],
            exited(&[("a", 4), ("b", 3)]),
            Action::Count,
        ),
        (
            "the first one",
            vec![disrupted("Ignore"), codes("FailJob", "In", json!([137]), Value::Null)],
            evicted(),
            Action::Ignore,
        ),
        (
            "the second one",
            vec![disrupted("Ignore"), codes("FailJob", "In", json!([137]), Value::Null)],
            exited(&[("main", 137)]),
            fails("Container main for pod default/p failed with exit code 137", 1),
        ),
        (
            "a condition",
            vec![disrupted("FailJob")],
            evicted(),
            fails("Pod default/p has condition DisruptionTarget", 0),
        ),
        (
            "that does not hold",
            vec![disrupted("FailJob")],
            exited(&[]).condition("DisruptionTarget", "False"),
            Action::Count,
        ),
        ("counted for good", vec![disrupted("Count"), disrupted("FailJob")], evicted(), Action::Count),
    ] {
        let spec = spec(json!({"podFailurePolicy": {"rules": rules}}));
        assert_eq!(Rules::of(&spec).action(&pod.pod), expected, "{label}");
    }
}

#[test]
fn init_containers_count_too() {
    let rule = json!({"action": "Ignore", "onExitCodes": {"operator": "In", "values": [7]}});
    let spec = spec(json!({"podFailurePolicy": {"rules": [rule]}}));
    let mut pod = exited(&[("init", 7)]).pod;
    let status = pod.status.as_mut().unwrap();
    status.init_container_statuses = std::mem::take(&mut status.container_statuses);
    assert_eq!(Rules::of(&spec).action(&pod), Action::Ignore);
}

#[test]
fn a_deleted_pod_has_failed_unless_its_end_is_waited_for() {
    let failed = |policy: &str, fixture: Fixture| {
        Rules::of(&spec(json!({"podReplacementPolicy": policy}))).has_failed(&fixture.pod)
    };
    let running = || pod("p").phase("Running");
    assert!(failed("TerminatingOrFailed", running().deleted()));
    assert!(!failed("TerminatingOrFailed", running()));
    assert!(!failed("TerminatingOrFailed", pod("p").phase("Succeeded").deleted()));
    assert!(!failed("Failed", running().deleted()), "it may yet succeed");
    assert!(failed("Failed", pod("p").phase("Failed").deleted()));
    let mut gone = running().deleted();
    gone.pod.metadata.deletion_grace_period_seconds = Some(0);
    assert!(failed("Failed", gone), "it could not say how it ended");
}

#[test]
fn an_index_fails_by_its_limit_or_by_a_rule() {
    let rule = |action: &str| json!({"rules": [{"action": action, "onExitCodes": {"operator": "In", "values": [7]}}]});
    let at =
        |failures: &str, code: i32| exited(&[("main", code)]).annotation(INDEX, "0").annotation(FAILURES, failures);
    for (label, policy, pod, expected) in [
        ("below the limit", Value::Null, at("1", 1), false),
        ("at the limit", Value::Null, at("2", 1), true),
        ("nonsense is none", Value::Null, at("-5", 1), false),
        ("ignored", rule("Ignore"), at("2", 7), false),
        ("at once", rule("FailIndex"), at("0", 7), true),
        ("another code", rule("FailIndex"), at("0", 8), false),
    ] {
        let spec = spec(json!({
            "completionMode": "Indexed", "completions": 1, "backoffLimitPerIndex": 2, "podFailurePolicy": policy,
        }));
        assert_eq!(Rules::of(&spec).fails_index(&pod.pod), expected, "{label}");
    }
}
