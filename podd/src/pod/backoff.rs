//! How long a container that keeps ending waits before it is started again (P-035, P-036).

use std::time::Duration;

/// Running this long without trouble clears the record.
const CLEAN_RUN: Duration = Duration::from_secs(600);

/// The limits of the wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Limits {
    /// First wait that is not zero. Kubernetes: 10 s.
    pub(crate) base: Duration,
    /// Longest wait. Kubernetes: 300 s. Below `base` it is the first wait as well.
    pub(crate) cap: Duration,
}

/// One container's record.
#[derive(Clone, Debug, Default)]
pub(crate) struct BackOff {
    /// The wait after the last end; `None` while the next restart is free.
    last: Option<Duration>,
    ended_before: bool,
}

impl BackOff {
    /// The wait after the container ended, having run for `ran`.
    pub(crate) fn after(&mut self, ran: Duration, limits: Limits) -> Duration {
        if ran >= CLEAN_RUN {
            *self = Self::default();
        }
        if !self.ended_before {
            self.ended_before = true;
            return Duration::ZERO;
        }
        let next = self.last.map_or(limits.base, |last| last.saturating_mul(2)).min(limits.cap);
        self.last = Some(next);
        next
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn waits(runs: &[u64], limits: Limits) -> Vec<u64> {
        let mut record = BackOff::default();
        runs.iter().map(|ran| record.after(Duration::from_secs(*ran), limits).as_secs()).collect()
    }

    #[test]
    fn the_waits_double_up_to_the_cap() {
        let kubernetes = Limits { base: Duration::from_secs(10), cap: Duration::from_secs(300) };
        let lab = Limits { base: Duration::from_secs(10), cap: Duration::from_secs(2) };
        let table: [(&str, Limits, &[u64], &[u64]); 3] = [
            ("P-035", kubernetes, &[0; 8], &[0, 10, 20, 40, 80, 160, 300, 300]),
            ("P-035", kubernetes, &[0, 0, 0, 600, 0, 599], &[0, 10, 20, 0, 10, 20]),
            ("P-036", lab, &[0; 4], &[0, 2, 2, 2]),
        ];
        for (statement, limits, runs, expected) in table {
            assert_eq!(waits(runs, limits), expected, "{statement}");
        }
    }
}
