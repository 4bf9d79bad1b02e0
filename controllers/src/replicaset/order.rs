//! Which of a set's pods go first when it shrinks (P-092). Pure.

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::sync::Arc;

use jiff::Timestamp;

use crate::pod::Pod;
use crate::pods;

pub(crate) const DELETION_COST: &str = "controller.kubernetes.io/pod-deletion-cost";

/// `pods`, the first to go first.
///
/// Every rule is a part of one key, so that this is an order: upstream decides pods whose ages are in one bucket by their
/// UIDs unless the ages are equal to the nanosecond, and then by restarts, which three pods can bring into a circle. Here
/// the same bucket leaves the decision to the rules that follow.
pub(crate) fn first_to_go(mut pods: Vec<Arc<Pod>>, now: Timestamp) -> Vec<Arc<Pod>> {
    let mut ready_on: BTreeMap<String, usize> = BTreeMap::new();
    for pod in pods.iter().filter(|pod| pods::is_ready(pod)) {
        *ready_on.entry(pods::node_name(pod).unwrap_or_default().to_owned()).or_default() += 1;
    }
    let neighbours = |pod: &Pod| ready_on.get(pods::node_name(pod).unwrap_or_default()).copied().unwrap_or(0);
    let bucket = |since: Option<Timestamp>| since.map(|since| age(since, now));
    pods.sort_by_cached_key(|pod| {
        (
            pods::node_name(pod).is_some(),
            phase_rank(pod),
            pods::is_ready(pod),
            deletion_cost(pod),
            Reverse(neighbours(pod)),
            bucket(pods::ready_since(pod)),
            Reverse(restarts(pod)),
            bucket(created(pod)),
            pod.metadata.uid.clone(),
        )
    });
    pods
}

fn phase_rank(pod: &Pod) -> u8 {
    match pods::phase(pod) {
        "Pending" | "" => 0,
        "Unknown" => 1,
        _ => 2,
    }
}

fn deletion_cost(pod: &Pod) -> i32 {
    let text = pod.metadata.annotations.as_ref().and_then(|annotations| annotations.get(DELETION_COST));
    text.and_then(|text| text.parse().ok()).unwrap_or(0)
}

fn restarts(pod: &Pod) -> i32 {
    let statuses = pod.status.iter().flat_map(|status| &status.container_statuses);
    statuses.map(|status| status.restart_count).max().unwrap_or(0)
}

fn created(pod: &Pod) -> Option<Timestamp> {
    pod.metadata.creation_timestamp.as_ref().map(|time| time.0)
}

/// The bucket of an age on a logarithmic scale: pods of similar age are not told apart by it.
fn age(since: Timestamp, now: Timestamp) -> i32 {
    let nanoseconds = now.duration_since(since).as_nanos();
    if nanoseconds <= 0 { -1 } else { i32::try_from(nanoseconds.ilog2()).unwrap_or(i32::MAX) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixtures::{Fixture, pod};

    const NOW: i64 = 1_000_000;

    // P-092
    #[test]
    fn each_rule_decides_when_the_ones_before_it_do_not() {
        let base = |name: &str| pod(name).node("n").phase("Running").ready_at(NOW - 1000).created_at(NOW - 2000);
        let table: Vec<(&str, Fixture, Fixture)> = vec![
            ("not assigned", base("x").unassigned(), base("a").phase("Pending")),
            ("pending before unknown", base("x").phase("Pending"), base("a").phase("Unknown").not_ready()),
            ("unknown before running", base("x").phase("Unknown"), base("a").not_ready()),
            ("not ready", base("x").not_ready().annotation(DELETION_COST, "9"), base("a")),
            ("lower cost", base("x").annotation(DELETION_COST, "-1"), base("a").ready_at(NOW - 1)),
            ("ready for less", base("x").ready_at(NOW - 10), base("a").restarts(9)),
            ("more restarts", base("x").restarts(2), base("a").created_at(NOW - 1010)),
            ("younger", base("x").created_at(NOW - 1010), base("a").created_at(NOW - 9000)),
            ("similar age: by uid", base("a").ready_at(NOW - 1000), base("x").ready_at(NOW - 999)),
        ];
        for (label, first, second) in table {
            for pods in [[&first, &second], [&second, &first]] {
                let pods = pods.map(|fixture| Arc::new(fixture.pod.clone())).to_vec();
                let sorted = first_to_go(pods, Timestamp::from_second(NOW).unwrap());
                assert_eq!(sorted[0].metadata.name, first.pod.metadata.name, "{label}");
            }
        }
    }

    // P-092
    #[test]
    fn many_pods_have_one_order_whatever_they_are_sorted_from() {
        let mut pods: Vec<Arc<Pod>> = (0..200_i64)
            .map(|n| {
                let name = format!("p{}", n * 7919 % 200);
                let restarts = i32::try_from(n % 3).unwrap();
                let fixture = pod(&name).node("n").phase("Running").ready_at(NOW - 1000 - n % 5).restarts(restarts);
                Arc::new(fixture.created_at(NOW - 2000 - n % 7).pod)
            })
            .collect();
        let now = Timestamp::from_second(NOW).unwrap();
        let sorted = first_to_go(pods.clone(), now);
        pods.reverse();
        assert_eq!(first_to_go(pods, now), sorted);
    }

    // P-092
    #[test]
    fn a_pod_with_more_ready_siblings_on_its_node_goes_first() {
        let on = |name: &str, node: &str| Arc::new(pod(name).node(node).phase("Running").ready_at(1).pod);
        let sorted =
            first_to_go(vec![on("a", "n1"), on("b", "n2"), on("c", "n2")], Timestamp::from_second(NOW).unwrap());
        let names: Vec<_> = sorted.iter().map(|pod| pod.metadata.name.clone().unwrap()).collect();
        assert_eq!(names, ["b", "c", "a"]);
    }
}
