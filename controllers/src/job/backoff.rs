//! How long a Job waits after failures before it makes the next pod (P-113). Pure.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};

use super::pod::failures;
use crate::pod::{ContainerStatus, Pod};
use crate::pods;

const FIRST: Duration = Duration::from_secs(10);
const LONGEST: Duration = Duration::from_secs(600);

/// The failures of a Job since its last success. It is remembered between rounds, so that pods that were deleted
/// meanwhile count, and made anew from those that are still there by a controller that has just started.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Failures {
    count: u32,
    last: Option<Timestamp>,
    /// UIDs of pods that were there last time: one that is not let go at the first attempt is seen again.
    noted: BTreeSet<String>,
}

impl Failures {
    /// With pods that have ended since; some may have been noted already.
    pub(crate) fn and(&self, succeeded: &[Arc<Pod>], failed: &[Arc<Pod>]) -> Self {
        let uid = |pod: &Arc<Pod>| pod.metadata.uid.clone().unwrap_or_default();
        let new_end = |pod: &Arc<Pod>| end(pod).filter(|_| !self.noted.contains(&uid(pod)));
        let success = succeeded.iter().filter_map(new_end).max();
        let (count, last) = if success.is_some() { (0, None) } else { (self.count, self.last) };
        let failures = failed.iter().filter_map(new_end);
        let failures = failures.filter(|end| success.is_none_or(|success| *end > success));
        let (count, last) =
            failures.fold((count, last), |(count, last), end| (count.saturating_add(1), last.max(Some(end))));
        Self { count, last, noted: succeeded.iter().chain(failed).map(uid).collect() }
    }

    /// What is left of the wait.
    pub(crate) fn remaining(&self, now: Timestamp) -> Option<Duration> {
        remaining(self.count, self.last?, now)
    }
}

/// What is left of the wait for an index with a limit of its own, whose last pod is this one.
pub(crate) fn remaining_of_index(last: &Pod, now: Timestamp) -> Option<Duration> {
    let before = u32::try_from(failures(last).total()).unwrap_or(0);
    remaining(before.saturating_add(1), end(last)?, now)
}

fn remaining(failures: u32, last: Timestamp, now: Timestamp) -> Option<Duration> {
    let elapsed = now.duration_since(last);
    let elapsed = if elapsed.is_negative() { Duration::ZERO } else { elapsed.unsigned_abs() };
    delay(failures).checked_sub(elapsed).filter(|left| !left.is_zero())
}

/// The wait after so many failures in a row.
fn delay(failures: u32) -> Duration {
    match failures {
        0 => Duration::ZERO,
        _ => FIRST.saturating_mul(2_u32.saturating_pow(failures - 1)).min(LONGEST),
    }
}

/// When a pod has ended: as the last of its containers did or, if that is not known, when it was said not to be ready any
/// more, when it was deleted, and at worst when it was made.
pub(crate) fn end(pod: &Pod) -> Option<Timestamp> {
    let not_ready = || {
        let ready = pods::condition(pod, "Ready").filter(|ready| ready.status == "False")?;
        ready.last_transition_time.as_ref().map(|time| time.0)
    };
    let deleted = || {
        let until = pod.metadata.deletion_timestamp.as_ref()?.0;
        let grace = SignedDuration::from_secs(pod.metadata.deletion_grace_period_seconds.unwrap_or(0));
        until.checked_sub(grace).ok()
    };
    let made = || pod.metadata.creation_timestamp.as_ref().map(|time| time.0);
    containers_end(pod).or_else(not_ready).or_else(deleted).or_else(made)
}

fn containers_end(pod: &Pod) -> Option<Timestamp> {
    let end = |status: &ContainerStatus| Some(status.terminated.as_ref()?.finished_at.as_ref()?.0);
    let status = pod.status.as_ref()?;
    // Sidecars are init containers that end last.
    let init = status.init_container_statuses.iter().filter_map(end).max();
    let main: Option<Vec<Timestamp>> = status.container_statuses.iter().map(end).collect();
    main?.into_iter().max().map(|main| init.map_or(main, |init| init.max(main)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixtures::{Fixture, pod, time};

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    fn ended(at: i64) -> Arc<Pod> {
        Arc::new(pod(&at.to_string()).phase("Failed").created_at(at).pod)
    }

    // P-113
    #[test]
    fn the_wait_doubles_from_ten_seconds_to_ten_minutes() {
        let seconds: Vec<u64> = (0..9).map(|failures| delay(failures).as_secs()).collect();
        assert_eq!(seconds, [0, 10, 20, 40, 80, 160, 320, 600, 600]);
    }

    // P-113
    #[test]
    fn failures_since_the_last_success_count_from_the_last() {
        let left = |succeeded: &[i64], failed: &[i64], now: i64| {
            let pods = |ends: &[i64]| ends.iter().map(|end| ended(*end)).collect::<Vec<_>>();
            let left = Failures::default().and(&pods(succeeded), &pods(failed)).remaining(at(now));
            left.map(|left| left.as_secs())
        };
        assert_eq!(left(&[], &[], 100), None);
        assert_eq!(left(&[], &[100], 103), Some(7));
        assert_eq!(left(&[], &[100], 110), None);
        assert_eq!(left(&[], &[100, 90], 110), Some(10));
        assert_eq!(left(&[95], &[90, 100], 105), Some(5));
        assert_eq!(left(&[95], &[90], 96), None);
    }

    // P-113
    #[test]
    fn failures_that_nobody_sees_any_more_count() {
        let first = Failures::default().and(&[], &[ended(90), ended(95)]);
        let second = first.and(&[], &[ended(100)]);
        assert_eq!(second.remaining(at(101)), Some(Duration::from_secs(39)));
        assert_eq!(second.and(&[], &[]).remaining(at(101)), Some(Duration::from_secs(39)));
        assert_eq!(second.and(&[], &[ended(100)]), second, "it was seen before");
        assert_eq!(second.and(&[ended(102)], &[]).remaining(at(103)), None);
    }

    #[test]
    fn an_index_waits_by_itself() {
        let failed =
            |before: &str| pod("x").phase("Failed").created_at(100).annotation(super::super::pod::FAILURES, before);
        assert_eq!(remaining_of_index(&failed("0").pod, at(104)), Some(Duration::from_secs(6)));
        assert_eq!(remaining_of_index(&failed("2").pod, at(104)), Some(Duration::from_secs(36)));
        assert_eq!(remaining_of_index(&failed("2").pod, at(140)), None);
    }

    #[test]
    fn a_pod_has_ended_when_the_last_of_it_has() {
        let base = || pod("x").created_at(1);
        let gone = |grace| {
            let mut fixture = base().deleted();
            fixture.pod.metadata.deletion_grace_period_seconds = Some(grace);
            fixture
        };
        let mut running_still: Fixture = base().exited("a", 1);
        let status = running_still.pod.status.as_mut().unwrap();
        status.container_statuses[0].terminated.as_mut().unwrap().finished_at = None;
        let mut done = base().exited("a", 1).not_ready();
        let terminated = done.pod.status.as_mut().unwrap().container_statuses[0].terminated.as_mut().unwrap();
        terminated.finished_at = Some(time(7));
        for (label, fixture, expected) in [
            ("made", base(), 1),
            ("it runs", base().ready_at(3), 1),
            ("deleted", gone(2), 3),
            ("the container", done, 7),
            ("not all containers", running_still, 1),
        ] {
            assert_eq!(end(&fixture.pod), Some(at(expected)), "{label}");
        }
    }
}
