use k8s_openapi::api::core::v1::{
    NodeAffinity, NodeCondition, NodeSelector, NodeSelectorRequirement, NodeSelectorTerm, NodeSpec, NodeStatus,
    PodSchedulingGate, Taint, Toleration,
};

use super::*;
use crate::fixtures::{Fixture, meta, pod};
use crate::pod::{Affinity, PodSpec};

fn node(name: &str) -> Node {
    let ready = NodeCondition { type_: "Ready".into(), status: "True".into(), ..NodeCondition::default() };
    let mut metadata = meta(name);
    metadata.namespace = None;
    metadata.labels = Some([("zone".to_owned(), format!("z-{name}")), ("size".to_owned(), "8".to_owned())].into());
    Node {
        metadata,
        spec: Some(NodeSpec::default()),
        status: Some(NodeStatus { conditions: Some(vec![ready]), ..NodeStatus::default() }),
    }
}

fn spec(mut pod: Fixture, change: impl FnOnce(&mut PodSpec)) -> Fixture {
    change(pod.pod.spec.as_mut().unwrap());
    pod
}

fn run(pod: &Fixture, nodes: &[Node], pods: &[Fixture]) -> Result<String, Unschedulable> {
    let nodes: Vec<_> = nodes.iter().cloned().map(Arc::new).collect();
    let pods: Vec<_> = pods.iter().map(|fixture| Arc::new(fixture.pod.clone())).collect();
    place(&pod.pod, &nodes, &pods, &Assumed::new())
}

// P-117
#[test]
fn pods_of_an_owner_are_spread_then_the_emptiest_node_is_taken() {
    let nodes = [node("n1"), node("n2"), node("n3")];
    let set = |name: &str| pod(name).owned_by("ReplicaSet", "set");
    assert_eq!(run(&pod("a"), &nodes, &[]), Ok("n1".into()));
    assert_eq!(run(&pod("a"), &nodes, &[pod("b").node("n1"), pod("c").node("n2")]), Ok("n3".into()));
    let crowded =
        [pod("x").node("n2"), pod("y").node("n2"), pod("x").node("n3"), set("b").node("n1"), set("c").node("n3")];
    assert_eq!(run(&set("a"), &nodes, &crowded), Ok("n2".into()), "no sibling there, however full");
    let finished = [pod("b").node("n1").phase("Succeeded"), pod("c").node("n2")];
    assert_eq!(run(&pod("a"), &nodes[..2], &finished), Ok("n1".into()));
}

// P-117
#[test]
fn a_decision_counts_before_its_pod_shows_it() {
    let nodes = [Arc::new(node("n1")), Arc::new(node("n2"))];
    let others = [Arc::new(pod("b").pod)];
    let assumed = Assumed::from([("uid-b".into(), "n1".into())]);
    assert_eq!(place(&pod("a").pod, &nodes, &others, &assumed), Ok("n2".into()));
}

#[test]
fn nodes_that_do_not_take_a_pod_say_why() {
    let cordoned = |mut node: Node| {
        node.spec.as_mut().unwrap().unschedulable = Some(true);
        node
    };
    let not_ready = |mut node: Node| {
        node.status.as_mut().unwrap().conditions.as_mut().unwrap()[0].status = "Unknown".into();
        node
    };
    let tainted = |effect: &str| {
        let mut node = node("n1");
        let taint = Taint { key: "gpu".into(), value: Some("yes".into()), effect: effect.into(), ..Taint::default() };
        node.spec.as_mut().unwrap().taints = Some(vec![taint]);
        node
    };
    let tolerating = |key: Option<&str>, operator: Option<&str>, value: Option<&str>| {
        let text = |text: Option<&str>| text.map(str::to_owned);
        let toleration =
            Toleration { key: text(key), operator: text(operator), value: text(value), ..Toleration::default() };
        spec(pod("a"), |spec| spec.tolerations = [toleration].into())
    };
    let selecting =
        |value: &str| spec(pod("a"), |spec| spec.node_selector = Some([("zone".into(), value.into())].into()));
    let taint = "node(s) had untolerated taint(s) {gpu: yes}";
    let selector = "node(s) didn't match Pod's node affinity/selector";
    for (label, pod, node, expected) in [
        ("P-119", pod("a"), cordoned(node("n1")), Some("node(s) were unschedulable")),
        ("P-041: not ready", pod("a"), not_ready(node("n1")), Some("node(s) were not ready")),
        ("P-041: NoSchedule", pod("a"), tainted("NoSchedule"), Some(taint)),
        ("P-041: NoExecute", pod("a"), tainted("NoExecute"), Some(taint)),
        ("PreferNoSchedule", pod("a"), tainted("PreferNoSchedule"), None),
        ("tolerated", tolerating(Some("gpu"), None, Some("yes")), tainted("NoSchedule"), None),
        ("other value", tolerating(Some("gpu"), Some("Equal"), Some("no")), tainted("NoSchedule"), Some(taint)),
        ("exists", tolerating(Some("gpu"), Some("Exists"), None), tainted("NoExecute"), None),
        ("everything", tolerating(None, Some("Exists"), None), tainted("NoSchedule"), None),
        ("other key", tolerating(Some("cpu"), Some("Exists"), None), tainted("NoSchedule"), Some(taint)),
        ("nodeSelector", selecting("z-n1"), node("n1"), None),
        ("nodeSelector", selecting("elsewhere"), node("n1"), Some(selector)),
    ] {
        match expected {
            None => assert_eq!(run(&pod, &[node], &[]), Ok("n1".into()), "{label}"),
            Some(reason) => {
                let refused = run(&pod, &[node], &[]).unwrap_err();
                assert_eq!(refused.to_string(), format!("0/1 nodes are available: 1 {reason}."), "{label}");
            }
        }
    }
}

// P-041
#[test]
fn required_affinity_has_alternatives_of_conjunctions() {
    let requirement = |key: &str, operator: &str, values: &[&str]| NodeSelectorRequirement {
        key: key.into(),
        operator: operator.into(),
        values: Some(values.iter().map(|value| (*value).to_owned()).collect()),
    };
    let term = |expressions: Vec<NodeSelectorRequirement>| NodeSelectorTerm {
        match_expressions: Some(expressions),
        match_fields: None,
    };
    let with = |terms: Vec<NodeSelectorTerm>| {
        spec(pod("a"), |spec| {
            let required = NodeSelector { node_selector_terms: terms };
            spec.affinity = Some(Box::new(Affinity {
                node_affinity: Some(NodeAffinity {
                    required_during_scheduling_ignored_during_execution: Some(required),
                    ..NodeAffinity::default()
                }),
            }));
        })
    };
    let no = || requirement("zone", "In", &["elsewhere"]);
    let yes = || requirement("size", "Gt", &["4"]);
    let field = NodeSelectorTerm {
        match_expressions: None,
        match_fields: Some(vec![requirement("metadata.name", "In", &["n1"])]),
    };
    for (label, terms, expected) in [
        ("one", vec![term(vec![yes()])], true),
        ("or", vec![term(vec![no()]), term(vec![yes()])], true),
        ("and", vec![term(vec![no(), yes()])], false),
        ("empty", vec![term(vec![])], false),
        ("Lt", vec![term(vec![requirement("size", "Lt", &["4"])])], false),
        ("NotIn", vec![term(vec![requirement("zone", "NotIn", &["elsewhere"])])], true),
        ("DoesNotExist", vec![term(vec![requirement("gpu", "DoesNotExist", &[])])], true),
        ("field", vec![field], true),
    ] {
        assert_eq!(run(&with(terms), &[node("n1")], &[]).is_ok(), expected, "{label}");
    }
}

// P-006
#[test]
fn a_host_port_is_given_once_per_node() {
    let nodes = [node("n1"), node("n2")];
    let taken = [pod("b").node("n1").host_port(80)];
    assert_eq!(run(&pod("a").host_port(80), &nodes, &taken), Ok("n2".into()));
    let refused = run(&pod("a").host_port(80), &nodes[..1], &taken).unwrap_err();
    assert!(refused.to_string().contains("free ports"));
    assert!(run(&pod("a").host_port(81), &nodes[..1], &taken).is_ok());
    assert!(run(&pod("a").host_port(80), &nodes[..1], &[pod("b").node("n1").host_port(80).phase("Failed")]).is_ok());
}

//
#[test]
fn only_pods_that_wait_for_this_scheduler_are_placed() {
    let foreign = spec(pod("a"), |spec| spec.scheduler_name = Some("mine".into()));
    let gated = spec(pod("a"), |spec| spec.scheduling_gates = [PodSchedulingGate { name: "x".into() }].into());
    let named = spec(pod("a"), |spec| spec.scheduler_name = Some("default-scheduler".into()));
    let ours = [
        (pod("a"), true),
        (named, true),
        (foreign, false),
        (gated, false),
        (pod("a").node("n1"), false),
        (pod("a").deleted(), false),
        (pod("a").phase("Failed"), false),
    ];
    for (pod, expected) in ours {
        assert_eq!(is_ours(&pod.pod), expected);
    }
}
