use k8s_openapi::api::apps::v1::{StatefulSetOrdinals, StatefulSetSpec, StatefulSetUpdateStrategy};
use proptest::prelude::*;

use super::*;
use crate::fixtures::{Fixture, meta, pod, time};
use crate::revisions::HASH_LABEL;

const NOW: i64 = 1000;

fn set(replicas: i32) -> StatefulSet {
    let spec = StatefulSetSpec { replicas: Some(replicas), ..StatefulSetSpec::default() };
    StatefulSet { metadata: meta("db"), spec: Some(spec), status: None }
}

fn parallel(replicas: i32) -> StatefulSet {
    let mut set = set(replicas);
    set.spec.as_mut().unwrap().pod_management_policy = Some("Parallel".into());
    set
}

fn updating(mut set: StatefulSet, partition: i32, max_unavailable: i32) -> StatefulSet {
    set.spec.as_mut().unwrap().update_strategy = Some(StatefulSetUpdateStrategy {
        type_: Some("RollingUpdate".into()),
        rolling_update: Some(RollingUpdateStatefulSetStrategy {
            partition: Some(partition),
            max_unavailable: Some(IntOrString::Int(max_unavailable)),
        }),
    });
    set
}

fn member(ordinal: i32, revision: &str) -> Fixture {
    pod(&format!("db-{ordinal}")).label(HASH_LABEL, revision).phase("Running").ready_at(1)
}

fn well(ordinals: std::ops::Range<i32>, revision: &str) -> Vec<Fixture> {
    ordinals.map(|ordinal| member(ordinal, revision)).collect()
}

/// `+2` makes the pod with ordinal 2, `+2old` of the former revision, `-2` deletes it.
fn run(set: &StatefulSet, pods: &[Fixture]) -> Vec<String> {
    let pods: Vec<_> = pods.iter().map(|fixture| Arc::new(fixture.pod.clone())).collect();
    let plan = desired(set, &pods, "new", Timestamp::from_second(NOW).unwrap());
    let text = |step: &Step| match step {
        Step::Create { ordinal, former } => format!("+{ordinal}{}", if *former { "old" } else { "" }),
        Step::Delete(pod) => pod.metadata.name.as_deref().unwrap().replace("db", ""),
    };
    plan.steps.iter().map(text).collect()
}

fn with(mut pods: Vec<Fixture>, more: Fixture) -> Vec<Fixture> {
    pods.push(more);
    pods
}

#[test]
fn pods_come_and_go_in_order() {
    let none: [&str; 0] = [];
    for (label, pods, expected) in [
        ("P-106: the first", vec![], vec!["+0"]),
        ("P-106: the next", well(0..1, "new"), vec!["+1"]),
        ("P-106: not before the one before is ready", vec![member(0, "new").not_ready()], vec![]),
        ("P-106: nor while it is pending", vec![member(0, "new").phase("Pending").not_ready()], vec![]),
        ("P-106: all there", well(0..3, "new"), vec![]),
        ("P-106: the highest goes first", well(0..5, "new"), vec!["-4"]),
        ("P-106: and is gone before the next", with(well(0..4, "new"), member(4, "new").deleted()), vec![]),
        (
            "P-106: nothing goes while one that remains is not ready",
            with(vec![member(0, "new"), member(1, "new").not_ready()], member(3, "new")),
            vec![],
        ),
        ("P-108: failed", vec![member(0, "new").phase("Failed")], vec!["-0"]),
        ("P-108: succeeded", with(well(0..1, "new"), member(1, "new").phase("Succeeded")), vec!["-1"]),
        ("P-108: its name is not free yet", vec![member(0, "new").phase("Failed").deleted()], vec![]),
        ("P-109: stuck on a lost node", vec![member(0, "new").not_ready().deleted()], vec![]),
        ("P-103: the hole is filled", vec![member(0, "new"), member(2, "new")], vec!["+1"]),
    ] {
        assert_eq!(run(&set(3), &pods), expected, "{label}");
    }
    let mut going = set(3);
    going.metadata.deletion_timestamp = Some(time(1));
    assert_eq!(run(&going, &well(0..2, "new")), none, "P-110");
}

// P-106
#[test]
fn parallel_waits_for_nobody() {
    assert_eq!(run(&parallel(3), &[]), ["+0", "+1", "+2"]);
    assert_eq!(run(&parallel(3), &[member(1, "new").not_ready()]), ["+0", "+2"]);
    assert_eq!(run(&parallel(1), &well(0..4, "new")), ["-3", "-2", "-1"]);
    assert_eq!(run(&parallel(1), &[member(0, "new").not_ready(), member(1, "new").deleted()]), Vec::<String>::new());
}

// P-103
#[test]
fn ordinals_may_start_elsewhere() {
    let mut set = parallel(2);
    set.spec.as_mut().unwrap().ordinals = Some(StatefulSetOrdinals { start: Some(5) });
    assert_eq!(run(&set, &[member(4, "new")]), ["+5", "+6", "-4"]);
}

// P-107
#[test]
fn an_update_goes_down_from_the_highest_one_at_a_time() {
    let rolling = |partition| updating(set(3), partition, 1);
    for (label, partition, pods, expected) in [
        ("the highest", 0, well(0..3, "old"), vec!["-2"]),
        ("the next", 0, with(well(0..2, "old"), member(2, "new")), vec!["-1"]),
        ("waits until it is ready", 0, with(well(0..2, "old"), member(2, "new").not_ready()), vec![]),
        ("waits until it is gone", 0, with(well(0..2, "old"), member(2, "old").deleted()), vec![]),
        ("is made anew", 0, well(0..2, "old"), vec!["+2"]),
        ("stops at the partition", 2, with(well(0..2, "old"), member(2, "new")), vec![]),
        ("goes down to the partition", 1, with(well(0..2, "old"), member(2, "new")), vec!["-1"]),
        ("below the partition the old revision is made", 2, vec![member(0, "old")], vec!["+1old"]),
        ("over", 0, well(0..3, "new"), vec![]),
    ] {
        assert_eq!(run(&rolling(partition), &pods), expected, "P-107: {label}");
    }
}

// P-107
#[test]
fn several_may_be_away_if_so_wished() {
    assert_eq!(run(&updating(set(4), 0, 2), &well(0..4, "old")), ["-3", "-2"]);
    let pods = with(well(0..3, "old"), member(3, "new").not_ready());
    assert_eq!(run(&updating(parallel(4), 0, 2), &pods), ["-2"]);
    let broken = with(well(0..2, "old"), member(2, "old").not_ready());
    assert_eq!(run(&updating(parallel(3), 0, 1), &broken), ["-2"], "what does not work anyway costs nothing");
}

// P-107
#[test]
fn on_delete_leaves_the_update_to_the_user() {
    let mut set = set(2);
    let strategy = StatefulSetUpdateStrategy { type_: Some("OnDelete".into()), rolling_update: None };
    set.spec.as_mut().unwrap().update_strategy = Some(strategy);
    assert_eq!(run(&set, &well(0..2, "old")), Vec::<String>::new());
    assert_eq!(run(&set, &well(0..1, "old")), ["+1"]);
}

// P-106, P-107
#[test]
fn minimum_ready_time_holds_up_the_next() {
    let mut set = set(2);
    set.spec.as_mut().unwrap().min_ready_seconds = Some(30);
    let fresh = Arc::new(member(0, "new").ready_at(NOW - 10).pod);
    let plan = desired(&set, &[fresh], "new", Timestamp::from_second(NOW).unwrap());
    assert_eq!(plan, Plan { steps: vec![], again: Some(Duration::from_secs(20)) });
    let old = Arc::new(member(0, "new").ready_at(NOW - 30).pod);
    assert_eq!(desired(&set, &[old], "new", Timestamp::from_second(NOW).unwrap()).steps.len(), 1);
}

/// A cluster in which plans are carried out and pods do something now and then.
struct Cluster {
    pods: BTreeMap<i32, (String, bool, bool)>,
}

impl Cluster {
    fn fixtures(&self) -> Vec<Arc<Pod>> {
        let make = |(ordinal, (revision, ready, going)): (&i32, &(String, bool, bool))| {
            let mut fixture = member(*ordinal, revision);
            if !ready {
                fixture = fixture.not_ready();
            }
            if *going {
                fixture = fixture.deleted();
            }
            Arc::new(fixture.pod)
        };
        self.pods.iter().map(make).collect()
    }

    fn step(&mut self, set: &StatefulSet) {
        let plan = desired(set, &self.fixtures(), "new", Timestamp::from_second(NOW).unwrap());
        for step in plan.steps {
            match step {
                Step::Create { ordinal, former } => {
                    let revision = if former { "old" } else { "new" };
                    let taken = self.pods.insert(ordinal, (revision.into(), false, false));
                    assert!(taken.is_none(), "two pods of one name");
                }
                Step::Delete(pod) => {
                    let ordinal = ordinal("db", pod.metadata.name.as_deref().unwrap()).unwrap();
                    self.pods.get_mut(&ordinal).unwrap().2 = true;
                }
            }
        }
    }

    /// Something about the pod with this ordinal moves on.
    fn happen(&mut self, ordinal: i32) {
        match self.pods.get_mut(&ordinal) {
            Some((_, _, true)) => drop(self.pods.remove(&ordinal)),
            Some((_, ready, false)) => *ready = true,
            None => {}
        }
    }

    fn away(&self, replicas: i32) -> usize {
        (0..replicas).filter(|ordinal| !matches!(self.pods.get(ordinal), Some((_, true, false)))).count()
    }
}

proptest! {
    // P-106, P-107
    #[test]
    fn an_update_never_has_more_pods_away_than_allowed_and_ends(
        replicas in 1_i32..6,
        partition in 0_i32..7,
        max_unavailable in 1_i32..4,
        is_ordered: bool,
        happenings in prop::collection::vec(0_i32..6, 0..60),
    ) {
        let base = if is_ordered { set(replicas) } else { parallel(replicas) };
        let set = updating(base, partition, max_unavailable);
        let pods = (0..replicas).map(|ordinal| (ordinal, ("old".to_owned(), true, false))).collect();
        let mut cluster = Cluster { pods };
        let all = happenings.into_iter().chain((0..replicas * 8).map(|index| index % replicas));
        for ordinal in all {
            cluster.step(&set);
            prop_assert!(cluster.away(replicas) <= usize::try_from(max_unavailable).unwrap());
            cluster.happen(ordinal);
        }
        for _ in 0..replicas * 4 {
            cluster.step(&set);
            (0..replicas).for_each(|ordinal| cluster.happen(ordinal));
        }
        for (ordinal, (revision, ready, going)) in &cluster.pods {
            let expected = if *ordinal < partition { "old" } else { "new" };
            prop_assert_eq!((revision.as_str(), *ready, *going), (expected, true, false));
        }
        prop_assert_eq!(cluster.pods.len(), usize::try_from(replicas).unwrap());
    }
}
