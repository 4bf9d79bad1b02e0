use k8s_openapi::api::core::v1::{NodeSpec, NodeStatus};

use super::*;
use crate::fixtures::{meta, pod, time};

const NOW: i64 = 1000;

fn now() -> Timestamp {
    Timestamp::from_second(NOW).unwrap()
}

fn node(ready: &str) -> Node {
    let condition = |type_: &str, status: &str| NodeCondition {
        type_: type_.into(),
        status: status.into(),
        last_transition_time: Some(time(1)),
        ..NodeCondition::default()
    };
    Node {
        metadata: meta("n1"),
        spec: Some(NodeSpec::default()),
        status: Some(NodeStatus {
            conditions: Some(vec![condition("MemoryPressure", "False"), condition("Ready", ready)]),
            ..NodeStatus::default()
        }),
    }
}

fn with_taints(ready: &str, taints: Vec<Taint>) -> Node {
    let mut node = node(ready);
    node.spec.as_mut().unwrap().taints = Some(taints);
    node
}

fn taint(key: &str, added: i64) -> Taint {
    Taint { key: key.into(), effect: "NoExecute".into(), time_added: Some(time(added)), value: None }
}

// P-118
#[test]
fn a_silent_node_is_unknown_in_everything_once() {
    let mut silent = node("True");
    let conditions = silenced(&silent, now()).unwrap();
    assert!(conditions.iter().all(|condition| condition.status == "Unknown"));
    assert_eq!(conditions[1].last_transition_time, Some(time(NOW)));
    silent.status.as_mut().unwrap().conditions = Some(conditions);
    assert_eq!(silenced(&silent, now()), None);
}

// P-118
#[test]
fn taints_follow_readiness_and_leave_others_alone() {
    let keys = |taints: Vec<Taint>| taints.into_iter().map(|taint| (taint.key, taint.effect)).collect::<Vec<_>>();
    let both = |key: &str| EFFECTS.map(|effect| (key.to_owned(), effect.to_owned())).to_vec();
    assert_eq!(tainted(&node("True"), now()), None);
    assert_eq!(keys(tainted(&node("Unknown"), now()).unwrap()), both(UNREACHABLE));
    assert_eq!(keys(tainted(&node("False"), now()).unwrap()), both(NOT_READY));
    let lost = with_taints("Unknown", tainted(&node("Unknown"), now()).unwrap());
    assert_eq!(tainted(&lost, now()), None);
    let back = with_taints("True", vec![taint("mine", 1), taint(UNREACHABLE, 1)]);
    assert_eq!(tainted(&back, now()), Some(vec![taint("mine", 1)]));
}

#[test]
fn tolerations_say_how_long_a_pod_stays() {
    let tolerating = |key: &str, seconds: Option<i64>| {
        let mut pod = pod("a");
        pod.pod.spec.as_mut().unwrap().tolerations = [Toleration {
            key: Some(key.into()),
            operator: Some("Exists".into()),
            toleration_seconds: seconds,
            ..Toleration::default()
        }]
        .into();
        pod
    };
    for (label, pod, taint, expected) in [
        ("P-118: nothing said", pod("a"), taint(UNREACHABLE, NOW - 100), Some(200)),
        ("P-118: nothing said, late", pod("a"), taint(UNREACHABLE, NOW - 400), Some(0)),
        ("P-118: own time", tolerating(UNREACHABLE, Some(30)), taint(UNREACHABLE, NOW - 10), Some(20)),
        ("P-118: for ever", tolerating(UNREACHABLE, None), taint(UNREACHABLE, NOW - 9999), None),
        ("another taint", tolerating(UNREACHABLE, None), taint("mine", NOW), Some(0)),
    ] {
        let left = eviction(&pod.pod, &with_taints("Unknown", vec![taint]), now());
        assert_eq!(left.map(|left| left.as_secs()), expected, "{label}");
    }
    assert_eq!(eviction(&pod("a").pod, &node("True"), now()), None);
}

// P-058
#[test]
fn pods_without_anybody_to_remove_them_are_orphans() {
    assert!(is_orphan(&pod("a").node("gone").pod, |_| false));
    assert!(!is_orphan(&pod("a").node("n1").deleted().pod, |_| true));
    assert!(is_orphan(&pod("a").deleted().pod, |_| true));
    assert!(!is_orphan(&pod("a").pod, |_| true));
}
