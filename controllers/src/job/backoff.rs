//! How long a Job waits after failures before it makes the next pod (P-113). Pure.

use std::time::Duration;

use jiff::Timestamp;

use crate::pod::Pod;
use crate::pods;

const FIRST: Duration = Duration::from_secs(10);
const LONGEST: Duration = Duration::from_secs(600);

/// What is left of the wait, judged by the pods that are still there: that is how it survives a restart. Failures from
/// before the last success do not count.
pub(crate) fn remaining<'a>(pods: impl Iterator<Item = &'a Pod> + Clone, now: Timestamp) -> Option<Duration> {
    let ended = |phase: &'static str| pods.clone().filter(move |pod| pods::phase(pod) == phase).filter_map(end);
    let last_success = ended("Succeeded").max();
    let failures = ended("Failed").filter(|end| last_success.is_none_or(|success| *end > success));
    let (count, last) = failures.fold((0_u32, None), |(count, last), end| (count + 1, last.max(Some(end))));
    let elapsed = now.duration_since(last?);
    let elapsed = if elapsed.is_negative() { Duration::ZERO } else { elapsed.unsigned_abs() };
    delay(count).checked_sub(elapsed).filter(|left| !left.is_zero())
}

/// The wait after so many failures in a row.
fn delay(failures: u32) -> Duration {
    match failures {
        0 => Duration::ZERO,
        _ => FIRST.saturating_mul(2_u32.saturating_pow(failures - 1)).min(LONGEST),
    }
}

/// When the last container of a pod that has ended has ended.
fn end(pod: &Pod) -> Option<Timestamp> {
    let containers = pod
        .status
        .iter()
        .flat_map(|status| &status.container_statuses)
        .filter_map(|status| status.terminated.as_ref()?.finished_at.as_ref());
    let ready = pods::condition(pod, "Ready").and_then(|ready| ready.last_transition_time.as_ref());
    containers.max().or(ready).or(pod.metadata.creation_timestamp.as_ref()).map(|time| time.0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixtures::{Fixture, pod};

    // P-113
    #[test]
    fn the_wait_doubles_from_ten_seconds_to_ten_minutes() {
        let seconds: Vec<u64> = (0..9).map(|failures| delay(failures).as_secs()).collect();
        assert_eq!(seconds, [0, 10, 20, 40, 80, 160, 320, 600, 600]);
    }

    // P-113
    #[test]
    fn failures_since_the_last_success_count_from_the_last() {
        let ended = |phase: &str, at: i64| pod("x").phase(phase).created_at(at);
        let left = |pods: &[Fixture], now: i64| {
            remaining(pods.iter().map(|fixture| &fixture.pod), Timestamp::from_second(now).unwrap())
        };
        assert_eq!(left(&[], 100), None);
        assert_eq!(left(&[ended("Failed", 100)], 103), Some(Duration::from_secs(7)));
        assert_eq!(left(&[ended("Failed", 100)], 110), None);
        assert_eq!(left(&[ended("Failed", 90), ended("Failed", 100)], 110), Some(Duration::from_secs(10)));
        let pods = [ended("Failed", 90), ended("Succeeded", 95), ended("Failed", 100)];
        assert_eq!(left(&pods, 105), Some(Duration::from_secs(5)));
        assert_eq!(left(&[ended("Failed", 90), ended("Succeeded", 95)], 96), None);
    }
}
