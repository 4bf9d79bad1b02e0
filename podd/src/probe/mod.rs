//! Probes: when to ask, and what a row of answers means. `run` does the asking; nothing here waits or connects.

mod grpc;
pub(crate) mod run;
mod tls;

use std::time::{Duration, Instant};

use k8s_openapi::api::core::v1::Probe;

/// What a probe says it is, unless its manifest says otherwise (P-025).
const USER_AGENT: &str = "kube-probe/1.36";
/// First pause between two looks at a container that is not ready yet; it doubles up to the period (P-029).
const EAGER_FIRST: Duration = Duration::from_millis(20);
/// Failures before that are nothing to tell: the container has hardly begun.
const TOLD_FROM: Duration = Duration::from_secs(1);

/// Which question a probe answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum ProbeKind {
    /// Has it come up? Holds the other two back until it has (P-026).
    Startup,
    /// Must it be restarted? (P-028)
    Liveness,
    /// May it have traffic? (P-027)
    Readiness,
}

impl ProbeKind {
    /// As it appears in events.
    pub(crate) fn title(self) -> &'static str {
        match self {
            Self::Startup => "Startup",
            Self::Liveness => "Liveness",
            Self::Readiness => "Readiness",
        }
    }
}

/// The numbers of a probe, with the defaults of P-024 filled in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Timing {
    /// From the container's start to the first look.
    pub(crate) initial_delay: Duration,
    /// Between looks, at least a second.
    pub(crate) period: Duration,
    /// An answer later than this is a failure (P-029).
    pub(crate) timeout: Duration,
    /// Successes in a row that turn a failure around.
    pub(crate) successes: u32,
    /// Failures in a row that turn a success around.
    pub(crate) failures: u32,
    /// Overrides the pod's grace when this probe kills (P-028).
    pub(crate) grace: Option<Duration>,
}

impl Timing {
    /// Reads the numbers of `probe`.
    pub(crate) fn of(probe: &Probe) -> Self {
        let count = |value: Option<i32>, default: u32| {
            value.and_then(|v| u32::try_from(v).ok()).filter(|v| *v > 0).unwrap_or(default)
        };
        Self {
            initial_delay: Duration::from_secs(count(probe.initial_delay_seconds, 0).into()),
            period: Duration::from_secs(count(probe.period_seconds, 10).into()),
            timeout: Duration::from_secs(count(probe.timeout_seconds, 1).into()),
            successes: count(probe.success_threshold, 1),
            failures: count(probe.failure_threshold, 3),
            grace: probe.termination_grace_period_seconds.map(crate::pod::plan::seconds),
        }
    }
}

/// What a row of answers amounts to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// The thresholds say yes.
    Pass,
    /// The thresholds say no.
    Fail,
}

/// One probe of one run of a container.
#[derive(Clone, Debug)]
pub(crate) struct Prober {
    /// Which question.
    pub(crate) kind: ProbeKind,
    timing: Timing,
    first: Instant,
    /// `None` while a look is under way.
    next: Option<Instant>,
    verdict: Option<Verdict>,
    /// The answer the current row consists of, and its length.
    row: (bool, u32),
    eager: Duration,
}

impl Prober {
    /// A probe whose container started at `up`, and which may begin at `now` (later than `up` behind a startup probe).
    pub(crate) fn new(kind: ProbeKind, timing: Timing, up: Instant, now: Instant) -> Self {
        let first = (up + timing.initial_delay).max(now);
        Self { kind, timing, first, next: Some(first), verdict: None, row: (false, 0), eager: EAGER_FIRST }
    }

    /// The settled answer so far; `None` before the first threshold is reached.
    pub(crate) fn verdict(&self) -> Option<Verdict> {
        self.verdict
    }

    /// Whether a failure now is worth an Event: not while a container that has just started is looked at more often than it
    /// asked for.
    pub(crate) fn tells(&self, now: Instant) -> bool {
        !self.is_eager() || now >= self.first + TOLD_FROM
    }

    fn is_eager(&self) -> bool {
        self.kind == ProbeKind::Readiness && self.verdict != Some(Verdict::Pass)
    }

    /// The grace this probe gives a container that it kills.
    pub(crate) fn grace(&self) -> Option<Duration> {
        self.timing.grace
    }

    /// How long a look may take.
    pub(crate) fn timeout(&self) -> Duration {
        self.timing.timeout
    }

    /// When the next look is due; `None` while one is under way.
    pub(crate) fn poll_timeout(&self) -> Option<Instant> {
        self.next
    }

    /// Takes the look that is due, if one is: the caller performs it and reports to [`Self::handle`].
    pub(crate) fn take_due(&mut self, now: Instant) -> bool {
        let due = self.next.is_some_and(|at| at <= now);
        if due {
            self.next = None;
        }
        due
    }

    /// Counts an answer and says the new verdict if it changed (or was reached for the first time).
    pub(crate) fn handle(&mut self, passed: bool, now: Instant) -> Option<Verdict> {
        self.row = if self.row.0 == passed { (passed, self.row.1.saturating_add(1)) } else { (passed, 1) };
        let (threshold, verdict) =
            if passed { (self.timing.successes, Verdict::Pass) } else { (self.timing.failures, Verdict::Fail) };
        self.next = Some(now + self.pause(passed));
        if self.row.1 < threshold || self.verdict == Some(verdict) {
            return None;
        }
        self.verdict = Some(verdict);
        Some(verdict)
    }

    /// A container that has not become ready is looked at more often at first, so that a short start is not
    /// rounded up to a whole period; everything else keeps the period (P-029).
    fn pause(&mut self, passed: bool) -> Duration {
        if passed || !self.is_eager() {
            return self.timing.period;
        }
        let pause = self.eager.min(self.timing.period);
        self.eager = self.eager.saturating_mul(2).min(self.timing.period);
        pause
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn timing(successes: u32, failures: u32) -> Timing {
        Timing {
            initial_delay: Duration::from_secs(3),
            period: Duration::from_secs(10),
            timeout: Duration::from_secs(1),
            successes,
            failures,
            grace: None,
        }
    }

    // P-024
    #[test]
    fn defaults_are_filled_in() {
        let timing = Timing::of(&Probe::default());
        assert_eq!(timing.initial_delay, Duration::ZERO);
        assert_eq!(timing.period, Duration::from_secs(10));
        assert_eq!(timing.timeout, Duration::from_secs(1));
        assert_eq!((timing.successes, timing.failures), (1, 3));
    }

    #[test]
    fn the_first_look_waits_for_the_initial_delay() {
        let up = Instant::now();
        let mut prober = Prober::new(ProbeKind::Liveness, timing(1, 3), up, up);
        assert!(!prober.take_due(up + Duration::from_secs(2)));
        assert!(prober.take_due(up + Duration::from_secs(3)));
        assert!(!prober.take_due(up + Duration::from_secs(30)), "one look at a time");
    }

    // P-027
    #[test]
    fn only_whole_rows_change_the_verdict() {
        let now = Instant::now();
        let mut prober = Prober::new(ProbeKind::Readiness, timing(2, 3), now, now);
        assert_eq!(prober.verdict(), None);
        let answers = [true, false, true, true, false, false, true, false, false, false, true, true];
        let changes: Vec<_> = answers.iter().map(|passed| prober.handle(*passed, now)).collect();
        let changed: Vec<_> =
            changes.iter().enumerate().filter_map(|(at, change)| change.map(|verdict| (at, verdict))).collect();
        assert_eq!(changed, [(3, Verdict::Pass), (9, Verdict::Fail), (11, Verdict::Pass)]);
    }

    // P-029
    #[test]
    fn readiness_is_eager_until_ready_and_periodic_after() {
        let now = Instant::now();
        let mut prober = Prober::new(ProbeKind::Readiness, timing(1, 3), now, now);
        let mut pauses = Vec::new();
        assert!(!prober.tells(now), "what has just started is not unhealthy");
        for _ in 0..11 {
            prober.handle(false, now);
            pauses.push(prober.poll_timeout().expect("a next look") - now);
        }
        assert_eq!(pauses[0], Duration::from_millis(20));
        assert!(prober.tells(now + Duration::from_secs(4)), "a second after its first look");
        assert!(pauses.windows(2).all(|pair| pair[0] <= pair[1]), "the pauses grow: {pauses:?}");
        assert_eq!(pauses[10], Duration::from_secs(10), "up to the period");
        prober.handle(true, now);
        prober.handle(false, now);
        assert_eq!(prober.poll_timeout(), Some(now + Duration::from_secs(10)));
    }
}
