use proptest::prelude::*;

use super::*;

fn set(replicas: i32, available: i32) -> Set {
    Set { replicas, pods: replicas, available, max_replicas: None }
}

#[test]
fn single_steps() {
    let limits = |replicas, max_surge, max_unavailable| Limits { replicas, max_surge, max_unavailable };
    for (label, limits, new, old, expected) in [
        ("P-098: surge first", limits(4, 1, 1), set(0, 0), vec![set(4, 4)], (1, vec![3])),
        ("P-098: no surge", limits(4, 0, 1), set(0, 0), vec![set(4, 4)], (0, vec![3])),
        ("P-098: no unavailability", limits(4, 1, 0), set(0, 0), vec![set(4, 4)], (1, vec![4])),
        ("P-098: new pod is available", limits(4, 1, 0), set(1, 1), vec![set(4, 4)], (1, vec![3])),
        ("P-098: new pod is not", limits(4, 1, 0), set(1, 0), vec![set(4, 4)], (1, vec![4])),
        ("P-098: broken old pods go at once", limits(4, 1, 0), set(1, 0), vec![set(4, 0)], (1, vec![4])),
        ("P-098: broken ones first", limits(10, 0, 5), set(0, 0), vec![set(6, 6), set(4, 0)], (0, vec![5, 0])),
        ("P-098: reports from before a shrink", limits(10, 0, 1), set(4, 6), vec![set(6, 6)], (4, vec![5])),
        ("P-097: first rollout", limits(3, 1, 0), set(0, 0), vec![], (3, vec![])),
        ("P-101: the oldest go first", limits(4, 2, 0), set(2, 2), vec![set(2, 2), set(2, 2)], (2, vec![0, 2])),
    ] {
        assert_eq!(step(limits, new, &old), expected, "{label}");
    }
}

#[test]
fn a_new_size_is_shared_in_proportion() {
    let limits = |replicas| Limits { replicas, max_surge: 3, max_unavailable: 2 };
    let sized = |replicas, max| Set { replicas, pods: replicas, available: replicas, max_replicas: Some(max) };
    for (label, limits, sets, expected) in [
        ("P-101: growing", limits(15), vec![sized(5, 13), sized(8, 13)], vec![7, 11]),
        ("P-101: shrinking", limits(5), vec![sized(5, 13), sized(8, 13)], vec![3, 5]),
        ("P-101: to nothing", limits(0), vec![sized(5, 13), sized(8, 13)], vec![0, 0]),
        ("P-101: unannotated", limits(10), vec![set(5, 5), set(8, 8)], vec![5, 8]),
    ] {
        assert_eq!(proportional(limits, &sets), expected, "{label}");
    }
}

/// One thing that happens in a simulated cluster.
#[derive(Clone, Debug)]
enum Happening {
    /// The Deployment controller runs on the statuses it has been told.
    Step,
    /// A ReplicaSet makes or removes pods, those that are not available first, and reports.
    Settle(usize),
    /// A pod that is not available becomes so.
    Ready(usize),
}

fn happening() -> impl Strategy<Value = Happening> {
    prop_oneof![
        3 => Just(Happening::Step),
        3 => (0_usize..3).prop_map(Happening::Settle),
        2 => (0_usize..3).prop_map(Happening::Ready),
    ]
}

/// Index 0 is the new set, the others are old.
struct Cluster {
    wanted: [i32; 3],
    pods: [i32; 3],
    available: [i32; 3],
    reported: [i32; 3],
}

impl Cluster {
    fn step(&mut self, limits: Limits) {
        let set = |index: usize| Set {
            replicas: self.wanted[index],
            pods: self.pods[index],
            available: self.reported[index],
            max_replicas: None,
        };
        let (new, old) = step(limits, set(0), &[set(1), set(2)]);
        self.wanted = [new, old[0], old[1]];
    }

    fn settle(&mut self, index: usize) {
        self.pods[index] = self.wanted[index];
        self.available[index] = self.available[index].min(self.pods[index]);
        self.reported[index] = self.available[index];
    }

    fn ready(&mut self, index: usize) {
        if self.available[index] < self.pods[index] {
            self.available[index] += 1;
            self.reported[index] = self.available[index];
        }
    }
}

proptest! {
    /// From a healthy old revision, in whatever order things happen and however late they are reported.
    // P-098
    #[test]
    fn a_rollout_keeps_within_its_limits_and_ends(
        replicas in 1_i32..20,
        max_surge in 0_i32..6,
        max_unavailable in 0_i32..6,
        older in 0_i32..5,
        happenings in prop::collection::vec(happening(), 0..120),
    ) {
        let max_unavailable = if max_surge == 0 { max_unavailable.max(1) } else { max_unavailable }.min(replicas);
        let limits = Limits { replicas, max_surge, max_unavailable };
        let older = older.min(replicas);
        let start = [0, older, replicas - older];
        let mut cluster = Cluster { wanted: start, pods: start, available: start, reported: start };
        let check = |cluster: &Cluster| {
            let total: i32 = cluster.pods.iter().sum();
            prop_assert!(total <= replicas + max_surge, "total {total}");
            let available: i32 = cluster.available.iter().sum();
            prop_assert!(available >= replicas - max_unavailable, "available {available}");
            Ok(())
        };
        for happening in happenings {
            match happening {
                Happening::Step => cluster.step(limits),
                Happening::Settle(index) => cluster.settle(index),
                Happening::Ready(index) => cluster.ready(index),
            }
            check(&cluster)?;
        }
        // Left alone, it ends.
        for _ in 0..(replicas * 4 + 10) {
            cluster.step(limits);
            for index in 0..3 {
                cluster.settle(index);
                cluster.ready(index);
                check(&cluster)?;
            }
        }
        prop_assert_eq!(cluster.wanted, [replicas, 0, 0]);
    }
}
