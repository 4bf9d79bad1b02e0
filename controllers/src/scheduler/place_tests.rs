use k8s_openapi::api::core::v1::{
    NodeAffinity, NodeSelector, NodeSelectorRequirement, NodeSelectorTerm, PodSchedulingGate, Taint, Toleration,
};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;

use super::*;
use crate::fixtures::{Fixture, pod};
use crate::pod::{Affinity, PodSpec};
use crate::scheduler::fixtures::{NOWHERE, labelled, run};

fn node(name: &str) -> Node {
    labelled(name, &[("zone", &format!("z-{name}")), ("size", "8")])
}

fn spec(mut pod: Fixture, change: impl FnOnce(&mut PodSpec)) -> Fixture {
    change(pod.pod.spec.as_mut().unwrap());
    pod
}

fn having(name: &str, allocatable: &[(&str, &str)]) -> Node {
    let mut node = node(name);
    let amounts = allocatable.iter().map(|(resource, amount)| ((*resource).to_owned(), Quantity((*amount).to_owned())));
    node.status.as_mut().unwrap().allocatable = Some(amounts.collect());
    node
}

fn asking(pod: Fixture, cpu: i64, memory: i64) -> Fixture {
    spec(pod, |spec| (spec.requests.cpu, spec.requests.memory) = (cpu, memory))
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
    let mut ledger = Ledger::default();
    ledger.assume(Arc::new(pod("b").pod), "n1".into());
    assert_eq!(place(&pod("a").pod, &nodes, &ledger, NOWHERE), Ok("n2".into()));
}

#[test]
fn what_is_requested_must_be_there() {
    let node = || having("n1", &[("cpu", "2"), ("memory", "1Ki"), ("pods", "3"), ("example.com/foo", "1")]);
    let there = || asking(pod("b").node("n1"), 1500, 1000);
    let ended = || asking(pod("b").node("n1"), 1500, 1000).phase("Succeeded");
    let foo = |name: &str, amount: i64| {
        spec(pod("a"), |spec| spec.requests.others = [(name.to_owned().into_boxed_str(), amount)].into())
    };
    let full = "Too many pods";
    let others = |count: usize| (0..count).map(|index| pod(&format!("o{index}")).node("n1")).collect::<Vec<_>>();
    for (label, pod, pods, expected) in [
        ("it just fits", asking(pod("a"), 500, 24), vec![there()], None),
        ("no processor", asking(pod("a"), 501, 24), vec![there()], Some("1 Insufficient cpu")),
        ("no memory", asking(pod("a"), 500, 25), vec![there()], Some("1 Insufficient memory")),
        ("neither", asking(pod("a"), 501, 25), vec![there()], Some("1 Insufficient cpu, 1 Insufficient memory")),
        ("what has ended takes nothing", asking(pod("a"), 2000, 1024), vec![ended()], None),
        ("nothing fits everywhere", pod("a"), vec![asking(pod("b").node("n1"), 9000, 9000)], None),
        ("nor counts elsewhere", asking(pod("a"), 2000, 24), vec![asking(pod("b").node("n2"), 1500, 1000)], None),
        ("a rare resource", foo("example.com/foo", 1), vec![], None),
        ("too much of it", foo("example.com/foo", 2), vec![], Some("1 Insufficient example.com/foo")),
        ("one that is not there", foo("example.com/bar", 1), vec![], Some("1 Insufficient example.com/bar")),
        ("room for pods", pod("a"), others(2), None),
        ("no room for pods", pod("a"), others(3), Some("1 Too many pods")),
        (full, asking(pod("a"), 2001, 0), others(3), Some("1 Insufficient cpu, 1 Too many pods")),
    ] {
        let answer = run(&pod, &[node()], &pods).map_err(|refused| refused.to_string());
        let expected = expected.map(|why| format!("0/1 nodes are available: {why}."));
        assert_eq!(answer.err(), expected, "P-041: {label}");
    }
    let vast = asking(pod("a"), i64::MAX, i64::MAX);
    assert!(run(&vast, &[having("n1", &[])], &[]).is_ok(), "a node that tells of nothing");
    assert!(run(&vast, &[having("n1", &[("pods", "110")])], &[]).is_err(), "one that tells of something else");
    assert!(run(&foo("example.com/foo", 1), &[having("n1", &[])], &[]).is_err());
}

// P-041
#[test]
fn all_nodes_say_what_they_lack() {
    let nodes = || ["n1", "n2", "n3"].map(|name| having(name, &[("cpu", "1"), ("pods", "9")]));
    let mut mixed = nodes();
    mixed[2].spec.as_mut().unwrap().unschedulable = Some(true);
    let wanted = asking(pod("a"), 600, 0);
    let taken = ["n1", "n2", "n3"].map(|name| asking(pod(name).node(name), 500, 0));
    let said = |nodes: &[Node]| run(&wanted, nodes, &taken).unwrap_err().to_string();
    assert_eq!(said(&nodes()), "0/3 nodes are available: 3 Insufficient cpu.");
    assert_eq!(said(&mixed), "0/3 nodes are available: 1 node(s) were unschedulable, 2 Insufficient cpu.");
    assert_eq!(said(&[]), "no nodes available to schedule pods");
    assert_eq!(run(&wanted, &nodes(), &taken[..1]), Ok("n2".into()), "the first that has room");
    let uneven = [asking(pod("b").node("n1"), 300, 0), asking(pod("c").node("n2"), 200, 0)];
    assert_eq!(run(&wanted, &nodes()[..2], &uneven), Ok("n2".into()), "as many pods, and less requested");
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
