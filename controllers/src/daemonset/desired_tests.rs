use k8s_openapi::api::apps::v1::{DaemonSetSpec, DaemonSetUpdateStrategy, RollingUpdateDaemonSet};
use k8s_openapi::api::core::v1::{NodeSpec, Taint};
use proptest::prelude::*;

use super::*;
use crate::fixtures::{Fixture, meta, pod, template, time};

const NOW: i64 = 1000;

fn set(max_unavailable: i32, max_surge: i32) -> DaemonSet {
    let rolling = RollingUpdateDaemonSet {
        max_unavailable: Some(IntOrString::Int(max_unavailable)),
        max_surge: Some(IntOrString::Int(max_surge)),
    };
    let strategy = DaemonSetUpdateStrategy { type_: Some("RollingUpdate".into()), rolling_update: Some(rolling) };
    let spec =
        DaemonSetSpec { template: template("web:1"), update_strategy: Some(strategy), ..DaemonSetSpec::default() };
    DaemonSet { metadata: meta("agent"), spec: Some(spec), status: None }
}

fn node(name: &str, taint: Option<(&str, &str)>) -> Arc<Node> {
    let taint = taint.map(|(key, effect)| Taint { key: key.into(), effect: effect.into(), ..Taint::default() });
    let spec = NodeSpec { taints: taint.map(|taint| vec![taint]), ..NodeSpec::default() };
    Arc::new(Node { metadata: meta(name), spec: Some(spec), status: None })
}

fn nodes(count: usize) -> Vec<Arc<Node>> {
    (1..=count).map(|index| node(&format!("n{index}"), None)).collect()
}

fn on(node: &str, hash: &str) -> Fixture {
    pod(&format!("{hash}-{node}")).node(node).label(HASH_LABEL, hash).phase("Running").ready_at(1).created_at(1)
}

fn run(set: &DaemonSet, nodes: &[Arc<Node>], pods: &[Fixture]) -> (Vec<String>, Vec<String>) {
    let pods: Vec<_> = pods.iter().map(|fixture| Arc::new(fixture.pod.clone())).collect();
    let plan = desired(set, nodes, &pods, "new", Timestamp::from_second(NOW).unwrap());
    let mut deleted: Vec<_> = plan.delete.iter().map(|pod| pod.metadata.name.clone().unwrap()).collect();
    deleted.sort();
    (plan.create, deleted)
}

#[test]
fn every_eligible_node_has_one_pod() {
    let reserved = |effect| vec![node("n1", Some(("mine", effect)))];
    for (label, nodes, pods, create, delete) in [
        ("P-112: empty nodes", nodes(2), vec![], vec!["n1", "n2"], vec![]),
        ("P-112: the missing one", nodes(2), vec![on("n1", "new")], vec!["n2"], vec![]),
        ("P-112: a node that is gone", nodes(1), vec![on("n1", "new"), on("n2", "new")], vec![], vec!["new-n2"]),
        ("P-112: no new pods by taint", reserved("NoSchedule"), vec![], vec![], vec![]),
        ("P-112: but old ones stay", reserved("NoSchedule"), vec![on("n1", "new")], vec![], vec![]),
        ("P-112: unless driven off", reserved("NoExecute"), vec![on("n1", "new")], vec![], vec!["new-n1"]),
        ("P-112: one too many", nodes(1), vec![on("n1", "new"), on("n1", "new").uid("2")], vec![], vec!["new-n1"]),
        ("P-112: waits for the one that goes", nodes(1), vec![on("n1", "new").deleted()], vec![], vec![]),
        ("P-112: a failed pod is removed", nodes(1), vec![on("n1", "new").phase("Failed")], vec!["n1"], vec!["new-n1"]),
        ("P-112: but not at once", nodes(1), vec![on("n1", "new").phase("Failed").created_at(NOW - 3)], vec![], vec![]),
    ] {
        let (created, deleted) = run(&set(1, 0), &nodes, &pods);
        assert_eq!(
            (created, deleted),
            (create.into_iter().map(str::to_owned).collect(), delete.into_iter().map(str::to_owned).collect()),
            "{label}"
        );
    }
    let mut going = set(1, 0);
    going.metadata.deletion_timestamp = Some(time(1));
    assert_eq!(run(&going, &nodes(2), &[]), (vec![], vec![]));
}

#[test]
fn updates() {
    let old = |node: &str| on(node, "old");
    let new = |node: &str| on(node, "new");
    for (label, unavailable, surge, pods, create, delete) in [
        ("P-112: one at a time", 1, 0, vec![old("n1"), old("n2"), old("n3")], vec![], vec!["old-n1"]),
        ("P-112: two at a time", 2, 0, vec![old("n1"), old("n2"), old("n3")], vec![], vec!["old-n1", "old-n2"]),
        ("P-112: waits", 1, 0, vec![new("n1").not_ready(), old("n2"), old("n3")], vec![], vec![]),
        ("P-112: goes on", 1, 0, vec![new("n1"), old("n2"), old("n3")], vec![], vec!["old-n2"]),
        ("P-112: fills first", 1, 0, vec![old("n2"), old("n3")], vec!["n1"], vec![]),
        (
            "P-112: broken ones cost nothing",
            1,
            0,
            vec![old("n1").not_ready(), old("n2"), old("n3")],
            vec![],
            vec!["old-n1"],
        ),
        ("P-112: surge comes first", 0, 1, vec![old("n1"), old("n2"), old("n3")], vec!["n1"], vec![]),
        ("P-112: surge waits", 0, 1, vec![old("n1"), new("n1").not_ready(), old("n2"), old("n3")], vec![], vec![]),
        (
            "P-112: then the old one goes",
            0,
            1,
            vec![old("n1"), new("n1"), old("n2"), old("n3")],
            vec![],
            vec!["old-n1"],
        ),
    ] {
        let (created, deleted) = run(&set(unavailable, surge), &nodes(3), &pods);
        assert_eq!(
            (created, deleted),
            (create.into_iter().map(str::to_owned).collect(), delete.into_iter().map(str::to_owned).collect()),
            "{label}"
        );
    }
    let mut by_hand = set(1, 0);
    by_hand.spec.as_mut().unwrap().update_strategy =
        Some(DaemonSetUpdateStrategy { type_: Some("OnDelete".into()), rolling_update: None });
    assert_eq!(run(&by_hand, &nodes(1), &[old("n1")]), (vec![], vec![]));
}

// P-112
#[test]
fn the_status_counts_nodes() {
    let mut all = nodes(3);
    all.push(node("n4", Some(("mine", "NoSchedule"))));
    let pods = [on("n1", "new"), on("n2", "old").not_ready(), on("n4", "new")];
    let pods: Vec<_> = pods.iter().map(|fixture| Arc::new(fixture.pod.clone())).collect();
    let status = status(&set(1, 0), &all, &pods, "new", Timestamp::from_second(NOW).unwrap());
    assert_eq!((status.desired_number_scheduled, status.current_number_scheduled), (3, 2));
    assert_eq!((status.number_misscheduled, status.number_ready), (1, 1));
    assert_eq!((status.number_available, status.number_unavailable), (Some(1), Some(2)));
    assert_eq!(status.updated_number_scheduled, Some(1));
}

proptest! {
    // P-112
    #[test]
    fn an_update_keeps_its_limits_and_ends(
        count in 1_usize..6,
        max_unavailable in 0_usize..4,
        max_surge in 0_usize..4,
        happenings in prop::collection::vec(0_usize..12, 0..60),
    ) {
        let max_unavailable = if max_surge == 0 { max_unavailable.max(1) } else { max_unavailable };
        // One that does not surge may not be told to do both.
        let max_unavailable = if max_surge > 0 { 0 } else { max_unavailable };
        let set = set(i32::try_from(max_unavailable).unwrap(), i32::try_from(max_surge).unwrap());
        let nodes = nodes(count);
        // By node and revision: ready, going.
        let mut pods: BTreeMap<(String, &str), (bool, bool)> =
            (1..=count).map(|index| ((format!("n{index}"), "old"), (true, false))).collect();
        let ending = (0..count * 24).map(|index| index % (count * 2));
        for happening in happenings.into_iter().chain(ending) {
            let present: Vec<Arc<Pod>> = pods.iter().map(|((node, hash), (ready, going))| {
                let mut fixture = on(node, hash);
                if !ready { fixture = fixture.not_ready(); }
                if *going { fixture = fixture.deleted(); }
                Arc::new(fixture.pod)
            }).collect();
            let plan = desired(&set, &nodes, &present, "new", Timestamp::from_second(NOW).unwrap());
            for node in plan.create {
                prop_assert!(pods.insert((node, "new"), (false, false)).is_none(), "two new pods on a node");
            }
            for pod in plan.delete {
                let name = pod.metadata.name.as_deref().unwrap();
                let (hash, node) = name.split_once('-').unwrap();
                let hash = if hash == "new" { "new" } else { "old" };
                pods.get_mut(&(node.to_owned(), hash)).unwrap().1 = true;
            }
            let works = |node: usize| ["old", "new"].iter().any(|hash| {
                matches!(pods.get(&(format!("n{node}"), *hash)), Some((true, false)))
            });
            let away = (1..=count).filter(|node| !works(*node)).count();
            prop_assert!(away <= max_unavailable, "{away} nodes without");
            let staying = pods.values().filter(|(_, going)| !going).count();
            prop_assert!(staying <= count + max_surge, "{staying} pods on {count} nodes");
            let hash = if happening % 2 == 0 { "new" } else { "old" };
            let key = (format!("n{}", happening / 2 + 1), hash);
            match pods.get_mut(&key) {
                Some((_, true)) => drop(pods.remove(&key)),
                Some((ready, false)) => *ready = true,
                None => {}
            }
        }
        let over: BTreeMap<(String, &str), (bool, bool)> =
            (1..=count).map(|index| ((format!("n{index}"), "new"), (true, false))).collect();
        prop_assert_eq!(pods, over);
    }
}
