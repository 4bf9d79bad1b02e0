//! When the change happened that made a controller write (S-182, S-202): a pod becoming ready or not, or the Service
//! being created. Consumers measure how late they are by it.

use std::collections::BTreeMap;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::Service;

use crate::pod::Pod;
use crate::pods;

/// The annotation that carries the time.
pub(crate) const ANNOTATION: &str = "endpoints.kubernetes.io/last-change-trigger-time";

/// What a Service looked like when its endpoints were last computed.
#[derive(Clone, Debug, Default)]
pub(crate) struct Seen {
    created: Option<Timestamp>,
    pods: BTreeMap<String, Timestamp>,
}

/// The earliest change since `seen`, which is brought up to date. `None` when no change has a time, as when a label
/// was edited or a pod deleted.
pub(crate) fn observe<'a>(
    seen: &mut Seen,
    service: &Service,
    pods: impl IntoIterator<Item = &'a Pod>,
) -> Option<Timestamp> {
    let created = service.metadata.creation_timestamp.as_ref().map(|time| time.0);
    let mut earliest = created.filter(|_| created != seen.created);
    let mut now = BTreeMap::new();
    for pod in pods {
        let Some(name) = pod.metadata.name.clone() else { continue };
        let Some(time) = pods::condition(pod, "Ready").and_then(|ready| ready.last_transition_time.as_ref()) else {
            continue;
        };
        if seen.pods.get(&name).is_none_or(|known| *known < time.0) {
            earliest = Some(earliest.map_or(time.0, |earlier| earlier.min(time.0)));
        }
        now.insert(name, time.0);
    }
    *seen = Seen { created, pods: now };
    earliest
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixtures::{pod, service};

    // S-182, S-202
    #[test]
    fn the_earliest_change_since_the_last_look_counts_once() {
        let service = service("web");
        let mut early = pod("a").ready_at(100);
        let late = pod("b").ready_at(200);
        let mut seen = Seen::default();
        let time = |seconds| Some(Timestamp::from_second(seconds).unwrap());
        assert_eq!(observe(&mut seen, &service, [&early.pod, &late.pod]), time(100));
        assert_eq!(observe(&mut seen, &service, [&early.pod, &late.pod]), None, "nothing has changed");
        early = early.ready_at(300);
        assert_eq!(observe(&mut seen, &service, [&early.pod, &late.pod]), time(300));
        assert_eq!(observe(&mut seen, &service, [&early.pod]), None, "a deletion has no time");
    }
}
