use serde_json::{Value, json};

use crate::fixtures::Fixture;
use crate::scheduler::fixtures::{labelled, reads, run};
use k8s_openapi::api::core::v1::Node;

/// Two nodes in one zone, one in another, and one in none.
fn nodes() -> [Node; 4] {
    [("n1", "z1"), ("n2", "z1"), ("n3", "z2"), ("n4", "")].map(|(name, zone)| {
        let pairs = [("host", name), ("zone", zone)];
        labelled(name, if zone.is_empty() { &pairs[..1] } else { &pairs })
    })
}

fn term(key: &str, app: &str) -> Value {
    json!({"topologyKey": key, "labelSelector": {"matchLabels": {"app": app}}})
}

/// A term with something besides its selector.
fn with(key: &str, app: &str, besides: &Value) -> Value {
    let mut term = term(key, app);
    term.as_object_mut().unwrap().extend(besides.as_object().unwrap().clone());
    term
}

fn near(labels: &str, terms: &[Value]) -> Fixture {
    reads("a", labels, json!({"affinity": {"podAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": terms}}}))
}

fn apart(place: &str, labels: &str, terms: &[Value]) -> Fixture {
    let terms = json!({"requiredDuringSchedulingIgnoredDuringExecution": terms});
    reads(place, labels, json!({"affinity": {"podAntiAffinity": terms}}))
}

fn there(place: &str, labels: &str, node: &str) -> Fixture {
    reads(place, labels, json!({})).node(node)
}

/// The nodes that take the pod, and what the others say.
fn answers(pod: &Fixture, pods: &[Fixture]) -> (String, Vec<String>) {
    let (mut takers, mut reasons) = (Vec::new(), Vec::new());
    let nodes = nodes();
    for node in &nodes {
        // All nodes are there, but only one may be chosen.
        let others = nodes.iter().map(|other| {
            let mut other = other.clone();
            other.spec.as_mut().unwrap().unschedulable = Some(other.metadata.name != node.metadata.name);
            other
        });
        match run(pod, &others.collect::<Vec<_>>(), pods) {
            Ok(name) => takers.push(name),
            Err(refused) => {
                reasons.extend(refused.reasons.into_keys().filter(|reason| reason != "node(s) were unschedulable"));
            }
        }
    }
    reasons.dedup();
    (takers.join(" "), reasons)
}

const NOT_NEAR: &str = "node(s) didn't match pod affinity rules";
const NOT_APART: &str = "node(s) didn't match pod anti-affinity rules";
const UNWELCOME: &str = "node(s) didn't satisfy existing pods anti-affinity rules";

#[test]
fn a_pod_goes_where_all_pods_are_that_it_is_to_be_near() {
    let web = || there("w", "app=web", "n1");
    let other = || there("other/w", "app=web", "n3");
    let exists =
        json!({"topologyKey": "zone", "labelSelector": {"matchExpressions": [{"key": "app", "operator": "Exists"}]}});
    let all = json!({"topologyKey": "zone", "labelSelector": {}});
    let none = json!({"topologyKey": "zone"});
    for (label, terms, pods, expected) in [
        ("the node", vec![term("host", "web")], vec![web()], "n1"),
        ("the zone", vec![term("zone", "web")], vec![web()], "n1 n2"),
        ("no such pod", vec![term("zone", "db")], vec![web()], ""),
        ("no pod at all", vec![term("zone", "web")], vec![], ""),
        ("no such label of nodes", vec![term("rack", "web")], vec![web()], ""),
        ("a pod where the label is not", vec![term("zone", "web")], vec![there("w", "app=web", "n4")], ""),
        ("a node that has gone", vec![term("zone", "web")], vec![there("w", "app=web", "n9")], ""),
        ("a pod that has ended", vec![term("zone", "web")], vec![web().phase("Succeeded")], ""),
        ("a pod that is to go", vec![term("zone", "web")], vec![web().deleted()], "n1 n2"),
        ("an expression", vec![exists], vec![web()], "n1 n2"),
        ("everything", vec![all], vec![web()], "n1 n2"),
        ("without selector", vec![none], vec![web()], ""),
        ("both of two", vec![term("zone", "web"), term("host", "web")], vec![web()], "n1"),
        (
            "one pod must be both",
            vec![term("zone", "web"), term("host", "db")],
            vec![web(), there("d", "app=db", "n1")],
            "",
        ),
        ("another namespace", vec![term("zone", "web")], vec![other()], ""),
        ("a named one", vec![with("zone", "web", &json!({"namespaces": ["other"]}))], vec![other()], "n3"),
        ("not its own then", vec![with("zone", "web", &json!({"namespaces": ["other"]}))], vec![web()], ""),
        ("all", vec![with("zone", "web", &json!({"namespaceSelector": {}}))], vec![web(), other()], "n1 n2 n3"),
        (
            "by label",
            vec![with("zone", "web", &json!({"namespaceSelector": {"matchLabels": {"team": "b"}}}))],
            vec![web(), other()],
            "n3",
        ),
        (
            "by label or name",
            vec![with(
                "zone",
                "web",
                &json!({"namespaceSelector": {"matchLabels": {"team": "b"}}, "namespaces": ["default"]}),
            )],
            vec![web(), other()],
            "n1 n2 n3",
        ),
    ] {
        let (takers, reasons) = answers(&near("app=x", &terms), &pods);
        assert_eq!(takers, expected, "{label}");
        assert_eq!(reasons, [NOT_NEAR], "{label}");
    }
}

#[test]
fn the_first_of_a_group_needs_nobody() {
    for (label, pod, pods, expected) in [
        ("the first", near("app=web", &[term("zone", "web")]), vec![], "n1 n2 n3"),
        ("the second", near("app=web", &[term("zone", "web")]), vec![there("w", "app=web", "n3")], "n3"),
        ("of two groups", near("app=web", &[term("zone", "web"), term("host", "db")]), vec![], ""),
        (
            "one that is where the label is not",
            near("app=web", &[term("zone", "web")]),
            vec![there("w", "app=web", "n4")],
            "n1 n2 n3",
        ),
        (
            "not in this namespace",
            near("app=web", &[with("zone", "web", &json!({"namespaces": ["other"]}))]),
            vec![],
            "",
        ),
    ] {
        assert_eq!(answers(&pod, &pods).0, expected, "{label}");
    }
}

#[test]
fn a_pod_stays_away_from_what_it_is_to_be_apart_from_and_from_what_is_to_be_apart_from_it() {
    let web = || there("w", "app=web", "n1");
    let free = || reads("a", "app=web", json!({}));
    let shy = |key: &str| apart("w", "app=w", &[term(key, "web")]);
    for (label, pod, pods, expected, reason) in [
        ("the node", apart("a", "", &[term("host", "web")]), vec![web()], "n2 n3 n4", NOT_APART),
        ("the zone", apart("a", "", &[term("zone", "web")]), vec![web()], "n3 n4", NOT_APART),
        (
            "either of two",
            apart("a", "", &[term("zone", "web"), term("host", "db")]),
            vec![web(), there("d", "app=db", "n4")],
            "n3",
            NOT_APART,
        ),
        ("another's node", free(), vec![shy("host").node("n1")], "n2 n3 n4", UNWELCOME),
        ("another's zone", free(), vec![shy("zone").node("n1")], "n3 n4", UNWELCOME),
        ("which is to go", free(), vec![shy("zone").node("n1").deleted()], "n3 n4", UNWELCOME),
        (
            "another that means namespaces by label",
            reads("other/a", "app=web", json!({})),
            vec![
                apart("w", "", &[with("zone", "web", &json!({"namespaceSelector": {"matchLabels": {"team": "b"}}}))])
                    .node("n1"),
            ],
            "n3 n4",
            UNWELCOME,
        ),
    ] {
        let (takers, reasons) = answers(&pod, &pods);
        assert_eq!((takers.as_str(), reasons), (expected, vec![reason.to_owned()]), "{label}");
    }
    for (label, pod, pods) in [
        ("nobody there", apart("a", "app=web", &[term("zone", "web")]), vec![]),
        ("another label", apart("a", "", &[term("zone", "db")]), vec![web()]),
        ("has ended", free(), vec![shy("zone").node("n1").phase("Failed")]),
        ("has no node", free(), vec![shy("zone")]),
        ("means another", reads("a", "app=db", json!({})), vec![shy("zone").node("n1")]),
        ("in another namespace", reads("other/a", "app=web", json!({})), vec![shy("zone").node("n1")]),
    ] {
        assert_eq!(answers(&pod, &pods), ("n1 n2 n3 n4".to_owned(), vec![]), "{label}");
    }
}

#[test]
fn label_keys_stand_for_the_values_that_the_pod_has() {
    let old = || there("old", "app=web hash=1", "n1");
    let new = || there("new", "app=web hash=2", "n3");
    let same = || with("zone", "web", &json!({"matchLabelKeys": ["hash", "absent"]}));
    let other = || with("zone", "web", &json!({"mismatchLabelKeys": ["hash"]}));
    let labels = "app=web hash=2";
    for (label, pod, expected) in [
        ("the same", near(labels, &[same()]), "n3"),
        ("another", near(labels, &[other()]), "n1 n2"),
        ("apart from the same", apart("a", labels, &[same()]), "n1 n2 n4"),
        ("apart from another", apart("a", labels, &[other()]), "n3 n4"),
    ] {
        assert_eq!(answers(&pod, &[old(), new()]).0, expected, "{label}");
    }
}
