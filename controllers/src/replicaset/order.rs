//! Which of a set's pods go first when it shrinks (P-092). Pure.

use std::cmp::{Ordering, Reverse};
use std::collections::BTreeMap;
use std::sync::Arc;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::Pod;

use crate::pods;

const DELETION_COST: &str = "controller.kubernetes.io/pod-deletion-cost";

/// `pods`, the first to go first.
pub(crate) fn first_to_go(mut pods: Vec<Arc<Pod>>, now: Timestamp) -> Vec<Arc<Pod>> {
    let mut ready_on: BTreeMap<String, usize> = BTreeMap::new();
    for pod in pods.iter().filter(|pod| pods::is_ready(pod)) {
        *ready_on.entry(pods::node_name(pod).unwrap_or_default().to_owned()).or_default() += 1;
    }
    pods.sort_by(|a, b| compare(a, b, &ready_on, now));
    pods
}

fn compare(a: &Pod, b: &Pod, ready_on: &BTreeMap<String, usize>, now: Timestamp) -> Ordering {
    let neighbours = |pod| Reverse(ready_on.get(pods::node_name(pod).unwrap_or_default()).copied().unwrap_or(0));
    let uid = |pod: &Pod| pod.metadata.uid.clone();
    pods::node_name(a)
        .is_some()
        .cmp(&pods::node_name(b).is_some())
        .then_with(|| phase_rank(a).cmp(&phase_rank(b)))
        .then_with(|| pods::is_ready(a).cmp(&pods::is_ready(b)))
        .then_with(|| deletion_cost(a).cmp(&deletion_cost(b)))
        .then_with(|| neighbours(a).cmp(&neighbours(b)))
        .then_with(|| match (pods::ready_since(a), pods::ready_since(b)) {
            (Some(left), Some(right)) if left != right => {
                age(left, now).cmp(&age(right, now)).then_with(|| uid(a).cmp(&uid(b)))
            }
            _ => Ordering::Equal,
        })
        .then_with(|| Reverse(restarts(a)).cmp(&Reverse(restarts(b))))
        .then_with(|| match (created(a), created(b)) {
            (Some(left), Some(right)) if left != right => age(left, now).cmp(&age(right, now)),
            _ => Ordering::Equal,
        })
        .then_with(|| uid(a).cmp(&uid(b)))
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
    let statuses = pod.status.as_ref().and_then(|status| status.container_statuses.as_ref());
    statuses.into_iter().flatten().map(|status| status.restart_count).max().unwrap_or(0)
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
    fn a_pod_with_more_ready_siblings_on_its_node_goes_first() {
        let on = |name: &str, node: &str| Arc::new(pod(name).node(node).phase("Running").ready_at(1).pod);
        let sorted =
            first_to_go(vec![on("a", "n1"), on("b", "n2"), on("c", "n2")], Timestamp::from_second(NOW).unwrap());
        let names: Vec<_> = sorted.iter().map(|pod| pod.metadata.name.clone().unwrap()).collect();
        assert_eq!(names, ["b", "c", "a"]);
    }
}
