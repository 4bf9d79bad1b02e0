//! The status of a StatefulSet: a plain function of its pods, its revisions and the time.

use std::sync::Arc;

use jiff::Timestamp;
use k8s_openapi::api::apps::v1::{StatefulSet, StatefulSetStatus};

use super::pod::revision;
use crate::pod::Pod;
use crate::pods;

/// The status as it should be; `update` is the name of the present template's revision.
pub(crate) fn status(set: &StatefulSet, pods: &[Arc<Pod>], update: &str, now: Timestamp) -> StatefulSetStatus {
    let before = set.status.clone().unwrap_or_default();
    let spec = set.spec.as_ref();
    let wanted = spec.and_then(|spec| spec.replicas).unwrap_or(1);
    let min_ready = spec.and_then(|spec| spec.min_ready_seconds).unwrap_or(0);
    let strategy = spec.and_then(|spec| spec.update_strategy.as_ref());
    let on_delete = strategy.and_then(|strategy| strategy.type_.as_deref()) == Some("OnDelete");
    let mut current = before.current_revision.filter(|name| !name.is_empty()).unwrap_or_else(|| update.to_owned());
    let count = |test: &dyn Fn(&Pod) -> bool| i32::try_from(pods.iter().filter(|pod| test(pod)).count()).unwrap_or(0);
    let is_running_and_ready = |pod: &Pod| pods::phase(pod) == "Running" && pods::is_ready(pod);
    let is_available = |pod: &Pod| {
        is_running_and_ready(pod) && pods::until_available(pod, min_ready, now).is_some_and(|left| left.is_zero())
    };
    let of_revision = |name: &str| count(&|pod| !pods::is_terminating(pod) && revision(pod) == name);
    let replicas = count(&|_| true);
    let ready = count(&is_running_and_ready);
    let updated = of_revision(update);
    // The update is over when everything is of the new revision and well.
    if !on_delete && updated == wanted && replicas == wanted && ready == wanted {
        current = update.to_owned();
    }
    StatefulSetStatus {
        replicas,
        ready_replicas: Some(ready),
        available_replicas: Some(count(&is_available)),
        current_replicas: Some(of_revision(&current)),
        updated_replicas: Some(updated),
        current_revision: Some(current),
        update_revision: Some(update.to_owned()),
        observed_generation: set.metadata.generation,
        collision_count: before.collision_count,
        conditions: before.conditions,
    }
}

#[cfg(test)]
mod tests {
    use k8s_openapi::api::apps::v1::{StatefulSetSpec, StatefulSetUpdateStrategy};

    use super::*;
    use crate::fixtures::{Fixture, meta, pod};
    use crate::revisions::HASH_LABEL;

    fn set(replicas: i32, type_: &str, current: Option<&str>) -> StatefulSet {
        let strategy = StatefulSetUpdateStrategy { type_: Some(type_.into()), ..StatefulSetUpdateStrategy::default() };
        StatefulSet {
            metadata: meta("db"),
            spec: Some(StatefulSetSpec {
                replicas: Some(replicas),
                min_ready_seconds: Some(10),
                update_strategy: Some(strategy),
                ..StatefulSetSpec::default()
            }),
            status: current
                .map(|name| StatefulSetStatus { current_revision: Some(name.into()), ..StatefulSetStatus::default() }),
        }
    }

    fn ours(name: &str, revision: &str) -> Fixture {
        pod(name).label(HASH_LABEL, revision).phase("Running").ready_at(1)
    }

    fn run(set: &StatefulSet, pods: Vec<Fixture>) -> StatefulSetStatus {
        let pods: Vec<_> = pods.into_iter().map(|fixture| Arc::new(fixture.pod)).collect();
        status(set, &pods, "new", Timestamp::from_second(100).unwrap())
    }

    // P-107, A-158
    #[test]
    fn revisions_are_counted_until_the_update_is_over() {
        let half = run(&set(2, "RollingUpdate", Some("old")), vec![ours("db-0", "old"), ours("db-1", "new")]);
        assert_eq!((half.current_replicas, half.updated_replicas), (Some(1), Some(1)));
        assert_eq!(half.current_revision.as_deref(), Some("old"));
        assert_eq!(half.update_revision.as_deref(), Some("new"));
        let over = run(&set(2, "RollingUpdate", Some("old")), vec![ours("db-0", "new"), ours("db-1", "new")]);
        assert_eq!(over.current_revision.as_deref(), Some("new"));
        assert_eq!((over.current_replicas, over.updated_replicas), (Some(2), Some(2)));
        let by_hand = run(&set(1, "OnDelete", Some("old")), vec![ours("db-0", "new")]);
        assert_eq!(by_hand.current_revision.as_deref(), Some("old"));
        let first = run(&set(2, "RollingUpdate", None), vec![]);
        assert_eq!(first.current_revision.as_deref(), Some("new"), "the first revision is current at once");
    }

    // P-106
    #[test]
    fn available_is_ready_for_long_enough() {
        let pods = vec![ours("db-0", "new"), ours("db-1", "new").ready_at(95), ours("db-2", "new").not_ready()];
        let status = run(&set(3, "RollingUpdate", None), pods);
        assert_eq!((status.replicas, status.ready_replicas, status.available_replicas), (3, Some(2), Some(1)));
    }
}
