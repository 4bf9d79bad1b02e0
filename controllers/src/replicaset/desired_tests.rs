use k8s_openapi::api::apps::v1::{ReplicaSet, ReplicaSetSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector, ObjectMeta};

use super::*;
use crate::fixtures::{Fixture, meta, pod, template, time};

const NOW: i64 = 1000;

fn set(replicas: i32) -> ReplicaSet {
    let selector =
        LabelSelector { match_labels: Some(Labels::from([("app".into(), "web".into())])), ..LabelSelector::default() };
    ReplicaSet {
        metadata: ObjectMeta { uid: Some("set".into()), ..meta("web") },
        spec: Some(ReplicaSetSpec {
            replicas: Some(replicas),
            selector,
            template: Some(template("web:1")),
            ..ReplicaSetSpec::default()
        }),
        status: None,
    }
}

fn ours(name: &str) -> Fixture {
    pod(name).label("app", "web").owned_by("ReplicaSet", "set").node("n").phase("Running").ready_at(1)
}

fn plan(set: &ReplicaSet, pods: &[Fixture]) -> Plan {
    let pods: Vec<_> = pods.iter().map(|fixture| Arc::new(fixture.pod.clone())).collect();
    desired(set, &pods, Timestamp::from_second(NOW).unwrap())
}

#[test]
fn the_number_of_active_pods_is_kept() {
    for (statement, replicas, pods, create, delete) in [
        ("P-089", 3, vec![], 3, 0),
        ("P-089", 3, vec![ours("a"), ours("b")], 1, 0),
        ("P-089", 1, vec![ours("a"), ours("b"), ours("c")], 0, 2),
        ("P-090", 2, vec![ours("a"), ours("b").deleted()], 1, 0),
        ("P-090", 2, vec![ours("a"), ours("b").phase("Failed")], 1, 0),
        ("P-090", 2, vec![ours("a"), ours("b").phase("Succeeded")], 1, 0),
        ("P-091", 501, vec![], 500, 0),
        ("P-088", 2, vec![ours("a"), pod("b").label("app", "web").owned_by("ReplicaSet", "another")], 1, 0),
    ] {
        let plan = plan(&set(replicas), &pods);
        assert_eq!((plan.create, plan.delete.len()), (create, delete), "{statement} {replicas}");
    }
    let mut unset = set(0);
    unset.spec.as_mut().unwrap().replicas = None;
    assert_eq!(plan(&unset, &[]).create, 1, "P-089: the default is 1");
}

// P-082, P-088
#[test]
fn orphans_that_match_are_adopted_and_pods_that_no_longer_do_released() {
    let pods = [pod("orphan").label("app", "web"), ours("moved").label("app", "other"), pod("stranger")];
    let plan = plan(&set(2), &pods);
    let names = |pods: &[Arc<Pod>]| pods.iter().map(|pod| pod.metadata.name.clone().unwrap()).collect::<Vec<_>>();
    assert_eq!(names(&plan.adopt), ["orphan"]);
    assert_eq!(names(&plan.release), ["moved"]);
    assert_eq!(plan.create, 1, "the released pod is replaced, the adopted one counts");
}

// P-085
#[test]
fn a_set_that_is_being_deleted_leaves_its_pods_to_the_collector() {
    let mut set = set(3);
    set.metadata.deletion_timestamp = Some(time(1));
    assert_eq!(plan(&set, &[ours("a")]), Plan::default());
}

// P-093
#[test]
fn the_status_counts_what_is_ready_available_and_going() {
    let mut set = set(5);
    set.spec.as_mut().unwrap().min_ready_seconds = Some(30);
    let pods = [
        ours("old"),
        ours("fresh").ready_at(NOW - 10),
        ours("fresher").ready_at(NOW - 5),
        ours("waiting").not_ready(),
        ours("going").deleted(),
        ours("done").phase("Succeeded"),
        pod("orphan").label("app", "web").ready(),
    ];
    let pods: Vec<_> = pods.iter().map(|fixture| Arc::new(fixture.pod.clone())).collect();
    let (counts, next) = counts(&set, &pods, Timestamp::from_second(NOW).unwrap());
    let expected = Counts { replicas: 4, fully_labeled: 4, ready: 3, available: 1, terminating: 1 };
    assert_eq!(counts, expected);
    assert_eq!(next, Some(Duration::from_secs(20)));
}
