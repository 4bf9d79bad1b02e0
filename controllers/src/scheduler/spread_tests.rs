use k8s_openapi::api::core::v1::{Node, Taint};
use serde_json::{Value, json};

use crate::fixtures::Fixture;
use crate::scheduler::fixtures::{labelled, reads, run};

const UNEVEN: &str = "node(s) didn't match pod topology spread constraints";
const NOWHERE: &str = "node(s) didn't match pod topology spread constraints (missing required label)";

/// Two nodes in one zone and one in another.
fn nodes() -> [Node; 3] {
    [("n1", "z1"), ("n2", "z1"), ("n3", "z2")].map(|(name, zone)| labelled(name, &[("host", name), ("zone", zone)]))
}

fn constraint(key: &str, besides: &Value) -> Value {
    let mut constraint = json!({
        "topologyKey": key, "maxSkew": 1, "whenUnsatisfiable": "DoNotSchedule",
        "labelSelector": {"matchLabels": {"app": "web"}},
    });
    constraint.as_object_mut().unwrap().extend(besides.as_object().unwrap().clone());
    constraint
}

fn web(constraints: &[Value]) -> Fixture {
    reads("a", "app=web hash=2", json!({"topologySpreadConstraints": constraints}))
}

/// Pods with these labels on these nodes, each given as often as it is there.
fn there(labels: &str, nodes: &str) -> Vec<Fixture> {
    let nodes = nodes.split_whitespace().enumerate();
    nodes.map(|(index, node)| reads(&format!("{labels}-{index}"), labels, json!({})).node(node)).collect()
}

/// What each node says; nothing when it takes the pod.
fn answers(pod: &Fixture, nodes: &[Node], pods: &[Fixture]) -> Vec<Option<String>> {
    let ask = |at: usize| {
        let mut nodes = nodes.to_vec();
        for (index, node) in nodes.iter_mut().enumerate() {
            node.status = node.status.take().filter(|_| index == at);
        }
        let mut reasons = run(pod, &nodes, pods).err()?.reasons.into_keys();
        reasons.find(|reason| reason != "node(s) were not ready")
    };
    (0..nodes.len()).map(ask).collect()
}

/// The nodes that take the pod; the others must find it too uneven.
fn takers(pod: &Fixture, nodes: &[Node], pods: &[Fixture]) -> String {
    let answers = answers(pod, nodes, pods);
    assert!(answers.iter().flatten().all(|reason| reason == UNEVEN), "{answers:?}");
    let takers = nodes.iter().zip(answers).filter(|(_, answer)| answer.is_none());
    takers.filter_map(|(node, _)| node.metadata.name.clone()).collect::<Vec<_>>().join(" ")
}

#[test]
fn no_place_gets_too_many_more_than_the_one_with_the_fewest() {
    let zone = |besides: Value| web(&[constraint("zone", &besides)]);
    let host = || web(&[constraint("host", &json!({}))]);
    let both = || web(&[constraint("zone", &json!({})), constraint("host", &json!({}))]);
    let other_labels = reads("a", "app=db", json!({"topologySpreadConstraints": [constraint("zone", &json!({}))]}));
    for (label, pod, pods, expected) in [
        ("none yet", zone(json!({})), "", "n1 n2 n3"),
        ("one", zone(json!({})), "n1", "n3"),
        ("as many", zone(json!({})), "n1 n3", "n1 n2 n3"),
        ("two more are too many", zone(json!({})), "n1 n2 n3", "n3"),
        ("unless they are allowed", zone(json!({"maxSkew": 2})), "n1 n2 n3", "n1 n2 n3"),
        ("by node", host(), "n1", "n2 n3"),
        ("by both", both(), "n1", "n3"),
        ("by both, next", both(), "n1 n3", "n2"),
        ("a pod that does not count itself", other_labels, "n1", "n1 n2 n3"),
        ("too few places count as one with none", zone(json!({"minDomains": 3})), "n1", "n3"),
        ("and stop all", zone(json!({"minDomains": 3})), "n1 n3", ""),
        ("enough places", zone(json!({"minDomains": 2})), "n1 n3", "n1 n2 n3"),
        ("a node that is not there", zone(json!({})), "n9", "n1 n2 n3"),
        ("everything counts nothing", zone(json!({"labelSelector": {}})), "n1 n1", "n1 n2 n3"),
        ("nor does no selector", zone(json!({"labelSelector": null})), "n1 n1", "n1 n2 n3"),
    ] {
        assert_eq!(takers(&pod, &nodes(), &there("app=web", pods)), expected, "{label}");
    }
}

#[test]
fn pods_count_that_are_of_the_kind_and_stay() {
    let pod = |besides: Value| web(&[constraint("zone", &besides)]);
    let one = || reads("w", "app=web hash=1", json!({})).node("n1");
    let keys = || json!({"matchLabelKeys": ["hash", "absent"]});
    for (label, pod, there, counts) in [
        ("one", pod(json!({})), one(), true),
        ("another kind", pod(json!({})), reads("w", "app=db", json!({})).node("n1"), false),
        ("another namespace", pod(json!({})), reads("other/w", "app=web", json!({})).node("n1"), false),
        ("it is to go", pod(json!({})), one().deleted(), false),
        ("it has ended", pod(json!({})), one().phase("Succeeded"), false),
        ("it has no node", pod(json!({})), one().unassigned(), false),
        ("another value of a key", pod(keys()), one(), false),
        ("the same value", pod(keys()), reads("w", "app=web hash=2", json!({})).node("n1"), true),
    ] {
        assert_eq!(takers(&pod, &nodes(), &[there]), if counts { "n3" } else { "n1 n2 n3" }, "{label}");
    }
}

#[test]
fn places_count_that_the_pod_may_go_to() {
    let tainted = || {
        let mut nodes = nodes();
        let taint = Taint { key: "gpu".into(), effect: "NoSchedule".into(), ..Taint::default() };
        nodes[2].spec.as_mut().unwrap().taints = Some(vec![taint]);
        nodes
    };
    let cordoned = || {
        let mut nodes = nodes();
        nodes[2].spec.as_mut().unwrap().unschedulable = Some(true);
        nodes
    };
    let selecting = |besides: Value| {
        let constraints = [constraint("zone", &besides)];
        reads("a", "app=web", json!({"nodeSelector": {"zone": "z1"}, "topologySpreadConstraints": constraints}))
    };
    let pod = |besides: Value| web(&[constraint("zone", &besides)]);
    let honor = || json!({"nodeTaintsPolicy": "Honor"});
    for (label, pod, nodes, accepted) in [
        ("a place that is not selected", selecting(json!({})), nodes(), true),
        ("unless they are to", selecting(json!({"nodeAffinityPolicy": "Ignore"})), nodes(), false),
        ("a tainted place counts", pod(json!({})), tainted(), false),
        ("unless it is not to", pod(honor()), tainted(), true),
        ("so does a cordoned one", pod(json!({})), cordoned(), false),
        ("unless", pod(honor()), cordoned(), true),
    ] {
        let answers = answers(&pod, &nodes, &there("app=web", "n1"));
        let expected = (!accepted).then(|| UNEVEN.to_owned());
        assert_eq!(answers[..2], [expected.clone(), expected], "{label}");
    }
}

#[test]
fn a_node_needs_the_labels() {
    let mut nodes = nodes();
    nodes[2].metadata.labels.as_mut().unwrap().remove("zone");
    let both = web(&[constraint("host", &json!({})), constraint("zone", &json!({}))]);
    let nowhere = Some(NOWHERE.to_owned());
    assert_eq!(answers(&both, &nodes, &[]), [None, None, nowhere.clone()]);
    let uneven = Some(UNEVEN.to_owned());
    // The node without a zone is no place to begin with, so the one with the fewest is n2.
    assert_eq!(answers(&both, &nodes, &there("app=web", "n1")), [uneven, None, nowhere.clone()]);
    nodes.iter_mut().for_each(|node| node.metadata.labels = None);
    assert_eq!(answers(&both, &nodes, &[]), [nowhere.clone(), nowhere.clone(), nowhere]);
}
