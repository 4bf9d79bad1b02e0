use k8s_openapi::api::core::v1::{Node, Taint};
use serde_json::{Value, json};

use super::*;
use crate::fixtures::Fixture;
use crate::scheduler::fixtures::{labelled, reads, run};

/// Two nodes in one zone and one in another.
fn nodes() -> [Node; 3] {
    [("n1", "z1"), ("n2", "z1"), ("n3", "z2")].map(|(name, zone)| labelled(name, &[("host", name), ("zone", zone)]))
}

fn avoided(names: &[&str]) -> [Node; 3] {
    let mut nodes = nodes();
    for node in nodes.iter_mut().filter(|node| names.contains(&node.metadata.name.as_deref().unwrap())) {
        let taint = Taint { key: "slow".into(), effect: "PreferNoSchedule".into(), ..Taint::default() };
        node.spec.as_mut().unwrap().taints = Some(vec![taint]);
    }
    nodes
}

/// Preferred node affinity: weights with labels.
fn nodes_with(liked: &[(i32, &str, &str)]) -> Value {
    let term =
        |key: &str, value: &str| json!({"matchExpressions": [{"key": key, "operator": "In", "values": [value]}]});
    let terms = liked.iter().map(|(weight, key, value)| json!({"weight": weight, "preference": term(key, value)}));
    json!({"preferredDuringSchedulingIgnoredDuringExecution": terms.collect::<Vec<_>>()})
}

/// Preferred affinity between pods: weights with keys and labels `app`.
fn pods_with(liked: &[(i32, &str, &str)]) -> Value {
    let terms = liked.iter().map(|(weight, key, app)| {
        json!({"weight": weight, "podAffinityTerm": {"topologyKey": key, "labelSelector": {"matchLabels": {"app": app}}}})
    });
    json!({"preferredDuringSchedulingIgnoredDuringExecution": terms.collect::<Vec<_>>()})
}

fn wishing(affinity: Value) -> Fixture {
    reads("a", "app=web", json!({"affinity": affinity}))
}

fn spreading(keys: &[&str]) -> Fixture {
    let constraints = keys.iter().map(|key| {
        json!({
            "topologyKey": key, "maxSkew": 1, "whenUnsatisfiable": "ScheduleAnyway",
            "labelSelector": {"matchLabels": {"app": "web"}},
        })
    });
    reads("a", "app=web", json!({"topologySpreadConstraints": constraints.collect::<Vec<_>>()}))
}

fn there(name: &str, app: &str, node: &str) -> Fixture {
    reads(name, &format!("app={app}"), json!({})).node(node)
}

#[test]
fn the_preferred_node_is_taken_though_it_has_more_pods() {
    let crowd = || vec![there("x", "x", "n3"), there("y", "y", "n3"), there("z", "z", "n2")];
    let with = |more: Vec<Fixture>| crowd().into_iter().chain(more).collect::<Vec<_>>();
    let web = |node: &str| with(vec![there("w", "web", node)]);
    let node = |liked: &[(i32, &str, &str)]| wishing(json!({"nodeAffinity": nodes_with(liked)}));
    let near = |liked: &[(i32, &str, &str)]| wishing(json!({"podAffinity": pods_with(liked)}));
    let apart = |liked: &[(i32, &str, &str)]| wishing(json!({"podAntiAffinity": pods_with(liked)}));
    let empty =
        json!({"nodeAffinity": {"preferredDuringSchedulingIgnoredDuringExecution": [{"weight": 9, "preference": {}}]}});
    for (label, pod, nodes, pods, expected) in [
        ("nothing is preferred", wishing(json!({})), nodes(), crowd(), "n1"),
        ("a node", node(&[(1, "host", "n3")]), nodes(), crowd(), "n3"),
        ("a zone, and in it the emptier node", node(&[(5, "zone", "z1")]), nodes(), web("n1"), "n1"),
        ("weights add up", node(&[(3, "host", "n1"), (2, "host", "n3"), (2, "zone", "z2")]), nodes(), crowd(), "n3"),
        ("what no node has", node(&[(9, "host", "n9")]), nodes(), crowd(), "n1"),
        ("nothing in particular", wishing(empty), nodes(), crowd(), "n1"),
        ("a pod", near(&[(1, "host", "web")]), nodes(), web("n3"), "n3"),
        ("a pod in the zone", near(&[(1, "zone", "web")]), nodes(), web("n2"), "n1"),
        (
            "the more pods",
            near(&[(1, "host", "web")]),
            nodes(),
            with(vec![there("w", "web", "n1"), there("v", "web", "n2"), there("u", "web", "n2")]),
            "n2",
        ),
        ("no pod", apart(&[(1, "zone", "web")]), nodes(), web("n1"), "n3"),
        (
            "weights of both",
            wishing(
                json!({"podAffinity": pods_with(&[(2, "host", "x")]), "podAntiAffinity": pods_with(&[(1, "zone", "x")])}),
            ),
            nodes(),
            crowd(),
            "n3",
        ),
        ("a taint", wishing(json!({})), avoided(&["n1"]), crowd(), "n2"),
        ("taints everywhere", wishing(json!({})), avoided(&["n1", "n2", "n3"]), crowd(), "n1"),
        ("a taint weighs more than a wish", node(&[(100, "host", "n1")]), avoided(&["n1"]), crowd(), "n2"),
        (
            "but not than two",
            wishing(
                json!({"nodeAffinity": nodes_with(&[(1, "host", "n3")]), "podAffinity": pods_with(&[(1, "host", "x")])}),
            ),
            avoided(&["n3"]),
            crowd(),
            "n3",
        ),
        ("spread over zones", spreading(&["zone"]), nodes(), web("n2"), "n3"),
        (
            "spread over nodes",
            spreading(&["host"]),
            nodes(),
            with(vec![there("w", "web", "n1"), there("v", "web", "n2")]),
            "n3",
        ),
        (
            "spread over both",
            spreading(&["zone", "host"]),
            nodes(),
            with(vec![there("w", "web", "n1"), there("v", "web", "n3")]),
            "n2",
        ),
        ("spread over what no node has", spreading(&["rack"]), nodes(), web("n1"), "n1"),
    ] {
        assert_eq!(run(&pod, &nodes, &pods).as_deref(), Ok(expected), "{label}");
    }
}

#[test]
fn what_pods_prefer_that_are_there_counts() {
    let has = |affinity: Value| reads("w", "", json!({"affinity": affinity})).node("n3");
    let required = json!({"podAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": [
        {"topologyKey": "host", "labelSelector": {"matchLabels": {"app": "web"}}},
    ]}});
    let near = json!({"podAffinity": pods_with(&[(1, "host", "web")])});
    let apart = json!({"podAntiAffinity": pods_with(&[(1, "zone", "web")])});
    let crowd = || [there("x", "x", "n1"), there("y", "y", "n2"), there("v", "v", "n1"), there("u", "u", "n2")];
    let pod = |app: &str| reads("a", &format!("app={app}"), json!({}));
    for (label, pod, other, expected) in [
        ("it likes the pod", pod("web"), has(near.clone()), "n3"),
        ("it needs the pod", pod("web"), has(required), "n3"),
        ("it avoids the pod", pod("web"), has(apart.clone()), "n1"),
        ("it avoids another", pod("db"), has(apart), "n3"),
    ] {
        let pods: Vec<_> = crowd().into_iter().chain([other]).collect();
        assert_eq!(run(&pod, &nodes(), &pods).as_deref(), Ok(expected), "{label}");
    }
}

#[test]
fn a_node_without_the_label_is_liked_least() {
    let mut nodes = nodes();
    nodes[0].metadata.labels.as_mut().unwrap().remove("zone");
    let pods = [there("w", "web", "n2"), there("v", "web", "n3")];
    assert_eq!(run(&spreading(&["zone"]), &nodes, &pods).as_deref(), Ok("n2"));
}

#[test]
fn a_tolerated_taint_is_not_avoided() {
    let toleration = json!({"tolerations": [{"key": "slow", "operator": "Exists"}]});
    let pods = [there("w", "web", "n2"), there("v", "web", "n3")];
    assert_eq!(run(&reads("a", "", toleration), &avoided(&["n1"]), &pods).as_deref(), Ok("n1"));
    assert_eq!(run(&reads("a", "", json!({})), &avoided(&["n1"]), &pods).as_deref(), Ok("n2"));
}

#[test]
fn scores_are_of_a_hundred() {
    for (scores, end, expected) in [
        (vec![], None, vec![]),
        (vec![5.0, 5.0], None, vec![0.0, 0.0]),
        (vec![-2.0, 0.0, 2.0], None, vec![0.0, 50.0, 100.0]),
        (vec![2.0, 4.0], Some(0.0), vec![50.0, 100.0]),
        (vec![-2.0, -1.0], Some(0.0), vec![0.0, 50.0]),
    ] {
        assert_eq!(of_a_hundred(scores.clone(), end), expected, "{scores:?}");
    }
}
