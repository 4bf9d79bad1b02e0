//! One container's life as the state machine sees it. No processes here.

use std::time::{Duration, Instant};

use jiff::Timestamp;

use super::Now;
use super::backoff::{BackOff, Limits};
use super::plan::{ContainerPlan, Role};
use crate::probe::{ProbeKind, Prober, Verdict};

/// What `kill -9` reports; also said of containers that vanished with their node.
pub(crate) const KILLED: i32 = 137;
/// A stop gets at least this long between TERM and KILL, however short the grace (P-049, P-053).
pub(crate) const MINIMUM_GRACE: Duration = Duration::from_secs(2);
/// First pause before a refused start is tried again; doubles up to [`REFUSAL_CAP`].
const REFUSAL_BASE: Duration = Duration::from_secs(1);
const REFUSAL_CAP: Duration = Duration::from_secs(20);

/// How an instance of a container ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct End {
    /// Exit code, or 128 + the signal.
    pub(crate) code: i32,
    /// The signal that ended it.
    pub(crate) signal: Option<i32>,
    /// `Completed`, `Error`, `OOMKilled`, `StartError`.
    pub(crate) reason: String,
    /// More than the code says, or empty.
    pub(crate) message: String,
    /// When the instance was started, if it was.
    pub(crate) started: Option<Timestamp>,
    /// When it ended.
    pub(crate) finished: Timestamp,
}

/// Why a container is not there yet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Waiting {
    /// Waiting reason of the API (P-020).
    pub(crate) reason: String,
    /// A sentence for the user, or empty.
    pub(crate) message: String,
}

/// Where a container is.
#[derive(Clone, Debug)]
pub(crate) enum Run {
    /// Never started in this sandbox, its turn has not come. Next: `Starting`.
    Idle,
    /// Could not be created for a reason that may go away. Next: `Starting` at `retry`.
    Refused {
        /// What the status shows.
        waiting: Waiting,
        /// When to try again.
        retry: Instant,
    },
    /// The shell is preparing and starting the process. Next: `Hooked`, `Up`, `Refused`, `Down`.
    Starting,
    /// The process runs, the postStart hook has not returned. Next: `Up`, `Down`.
    Hooked {
        /// When the process was started.
        since: Now,
    },
    /// The process runs. Next: `Leaving`, `Down`.
    Up {
        /// When the process was started.
        since: Now,
    },
    /// The process is gone and its last output is still being read: it has no readiness any more, and its end is told
    /// when its log is complete. Next: `Down`.
    Leaving {
        /// When the process was started.
        since: Now,
    },
    /// Ended; [`Container::end`] says how. Next: `Starting` if `restart` says when.
    Down {
        /// When to start again; `None` for never.
        restart: Option<Instant>,
    },
}

/// A stop in progress.
#[derive(Clone, Debug)]
pub(crate) struct Stop {
    /// End of the grace.
    pub(crate) deadline: Instant,
    /// How far it is.
    pub(crate) stage: StopStage,
}

/// The steps of a stop, in order (P-048).
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum StopStage {
    /// The preStop hook runs.
    Hook,
    /// TERM has been sent.
    Term {
        /// When patience ends.
        kill_at: Instant,
    },
    /// KILL has been sent.
    Killed,
}

/// How much a stop cares for the container.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Manner {
    /// With its preStop hook and [`MINIMUM_GRACE`].
    Proper,
    /// podd goes down: TERM, the grace, KILL.
    Hasty,
}

/// What a stop wants done next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum StopStep {
    /// Run the preStop hook.
    Hook,
    /// Send the stop signal to the main process.
    Term,
    /// Kill everything of the container.
    Kill,
}

/// One container.
#[derive(Clone, Debug)]
pub(crate) struct Container {
    /// What the manifest says.
    pub(crate) plan: ContainerPlan,
    /// Where it is.
    pub(crate) run: Run,
    /// Number of the latest instance, which is also the restart count; `None` before the first.
    pub(crate) attempt: Option<u32>,
    /// How the latest instance ended.
    pub(crate) end: Option<End>,
    /// How the one before ended.
    pub(crate) previous: Option<End>,
    /// Whether it has to wait before it is started again: `CrashLoopBackOff`.
    pub(crate) waits: bool,
    /// A stop in progress.
    pub(crate) stop: Option<Stop>,
    /// Probes of the running instance.
    pub(crate) probers: Vec<Prober>,
    backoff: BackOff,
    refusals: u32,
}

impl Container {
    /// A container that was never started.
    pub(crate) fn new(plan: ContainerPlan) -> Self {
        Self {
            plan,
            run: Run::Idle,
            attempt: None,
            end: None,
            previous: None,
            waits: false,
            stop: None,
            probers: Vec::new(),
            backoff: BackOff::default(),
            refusals: 0,
        }
    }

    /// The number the next instance gets.
    pub(crate) fn next_attempt(&self) -> u32 {
        self.attempt.map_or(0, |attempt| attempt.saturating_add(1))
    }

    /// Whether a process exists or may come to exist.
    pub(crate) fn busy(&self) -> bool {
        matches!(self.run, Run::Starting | Run::Hooked { .. } | Run::Up { .. } | Run::Leaving { .. })
    }

    /// Whether the process exists.
    pub(crate) fn alive(&self) -> bool {
        matches!(self.run, Run::Hooked { .. } | Run::Up { .. })
    }

    /// Whether there is a process whose end has not been told yet.
    pub(crate) fn ran(&self) -> bool {
        self.alive() || matches!(self.run, Run::Leaving { .. })
    }

    /// `started` of the API: running, postStart done, startup probe passed.
    pub(crate) fn started(&self) -> bool {
        matches!(self.run, Run::Up { .. })
            && (self.plan.startup.is_none() || self.verdict(ProbeKind::Startup) == Some(Verdict::Pass))
    }

    /// `ready` of the API (P-018, P-027).
    pub(crate) fn ready(&self) -> bool {
        match self.plan.role {
            // An init container is ready once it has completed.
            Role::Init => {
                matches!(self.run, Run::Down { restart: None }) && self.end.as_ref().is_some_and(|e| e.code == 0)
            }
            Role::Sidecar | Role::Main => {
                self.started()
                    && (self.plan.readiness.is_none() || self.verdict(ProbeKind::Readiness) == Some(Verdict::Pass))
            }
        }
    }

    /// Whether the container may be started now.
    pub(crate) fn due(&self, now: Instant) -> bool {
        match self.run {
            Run::Idle => true,
            Run::Refused { retry, .. } => retry <= now,
            Run::Down { restart } => restart.is_some_and(|at| at <= now),
            Run::Starting | Run::Hooked { .. } | Run::Up { .. } | Run::Leaving { .. } => false,
        }
    }

    /// The process has been started.
    pub(crate) fn begin(&mut self, now: Now) {
        self.attempt = Some(self.next_attempt());
        self.previous = self.end.take().or_else(|| self.previous.take());
        self.refusals = 0;
        self.waits = false;
        self.probers.clear();
        if self.plan.post_start {
            self.run = Run::Hooked { since: now };
        } else {
            self.go_up(now, now);
        }
    }

    /// The postStart hook has returned.
    pub(crate) fn hook_returned(&mut self, now: Now) {
        if let Run::Hooked { since } = self.run {
            self.go_up(since, now);
        }
    }

    fn go_up(&mut self, since: Now, now: Now) {
        self.run = Run::Up { since };
        if let Some(timing) = &self.plan.startup {
            self.probers = vec![Prober::new(ProbeKind::Startup, timing.clone(), since.instant, now.instant)];
        } else {
            self.begin_later_probes(since, now);
        }
    }

    fn begin_later_probes(&mut self, since: Now, now: Now) {
        let later = [(ProbeKind::Liveness, &self.plan.liveness), (ProbeKind::Readiness, &self.plan.readiness)];
        for (kind, timing) in later {
            if let Some(timing) = timing {
                self.probers.push(Prober::new(kind, timing.clone(), since.instant, now.instant));
            }
        }
    }

    /// Counts a probe's answer; `Some` means that the container has to be killed, with that grace override.
    pub(crate) fn probed(&mut self, kind: ProbeKind, passed: bool, now: Now) -> Option<Option<Duration>> {
        let Run::Up { since } = self.run else { return None };
        let prober = self.probers.iter_mut().find(|prober| prober.kind == kind)?;
        let change = prober.handle(passed, now.instant);
        match (kind, change) {
            (ProbeKind::Startup, Some(Verdict::Pass)) => {
                self.begin_later_probes(since, now);
                None
            }
            (ProbeKind::Startup | ProbeKind::Liveness, Some(Verdict::Fail)) if self.stop.is_none() => {
                Some(prober.grace())
            }
            _ => None,
        }
    }

    /// Whether a failure of this probe is worth an Event.
    pub(crate) fn tells(&self, kind: ProbeKind, now: Instant) -> bool {
        self.probers.iter().any(|prober| prober.kind == kind && prober.tells(now))
    }

    fn verdict(&self, kind: ProbeKind) -> Option<Verdict> {
        self.probers.iter().find(|prober| prober.kind == kind).and_then(Prober::verdict)
    }

    /// Takes the probes that are due, with their timeouts. A container being stopped is only asked whether it is
    /// ready; so is one whose pod is `ending` (P-031). A startup probe ends with its success.
    pub(crate) fn take_due_probes(&mut self, ending: bool, now: Instant) -> Vec<(ProbeKind, Duration)> {
        if !matches!(self.run, Run::Up { .. }) {
            return Vec::new();
        }
        let only_readiness = ending || self.stop.is_some();
        let wanted = |prober: &Prober| asked(prober, only_readiness);
        let due = self
            .probers
            .iter_mut()
            .filter(|p| wanted(p))
            .filter_map(|p| p.take_due(now).then(|| (p.kind, p.timeout())));
        due.collect()
    }

    /// When this container wants attention next, after `seen`.
    pub(crate) fn poll_timeout(&self, ending: bool, seen: Instant) -> Option<Instant> {
        let run = match self.run {
            Run::Refused { retry, .. } if !ending => Some(retry),
            Run::Down { restart } if !ending => restart,
            _ => None,
        };
        let stop = self.stop.as_ref().filter(|_| self.alive()).and_then(|stop| match stop.stage {
            StopStage::Hook => Some(stop.deadline),
            StopStage::Term { kill_at } => Some(kill_at),
            StopStage::Killed => None,
        });
        let only_readiness = ending || self.stop.is_some();
        let asking = matches!(self.run, Run::Up { .. });
        let probers = self.probers.iter().filter(|p| asking && asked(p, only_readiness));
        let probes = probers.filter_map(Prober::poll_timeout);
        [run, stop].into_iter().flatten().chain(probes).filter(|at| *at > seen).min()
    }

    /// The start was refused for a reason that may go away.
    pub(crate) fn refuse(&mut self, waiting: Waiting, now: Instant) {
        let pause = REFUSAL_BASE.saturating_mul(1 << self.refusals.min(10)).min(REFUSAL_CAP);
        self.refusals = self.refusals.saturating_add(1);
        self.run = Run::Refused { waiting, retry: now + pause };
    }

    /// The process could not be started: that instance ends before it ran.
    pub(crate) fn fail_start(&mut self, message: String, now: Now, limits: Limits) -> Duration {
        self.attempt = Some(self.next_attempt());
        self.previous = self.end.take().or_else(|| self.previous.take());
        let end = End {
            code: 128,
            signal: None,
            reason: "StartError".to_owned(),
            message,
            started: None,
            finished: now.wall,
        };
        self.finish(end, now, limits)
    }

    /// The process is gone, its output not yet.
    pub(crate) fn leave(&mut self) {
        if let Run::Hooked { since } | Run::Up { since } = self.run {
            self.run = Run::Leaving { since };
        }
    }

    /// The process ended and its output is read: decides whether and when the container comes back, and says how long it has to wait.
    pub(crate) fn finish(&mut self, mut end: End, now: Now, limits: Limits) -> Duration {
        let since = match self.run {
            Run::Hooked { since } | Run::Up { since } | Run::Leaving { since } => Some(since),
            Run::Idle | Run::Refused { .. } | Run::Starting | Run::Down { .. } => None,
        };
        end.started = end.started.or_else(|| since.map(|since| since.wall));
        let ran = since.map_or(Duration::ZERO, |since| now.instant.saturating_duration_since(since.instant));
        let wait = if self.plan.restarts_after(end.code) { Some(self.backoff.after(ran, limits)) } else { None };
        self.run = Run::Down { restart: wait.map(|wait| now.instant + wait) };
        self.waits = wait.is_some_and(|wait| !wait.is_zero());
        self.end = Some(end);
        self.stop = None;
        self.probers.clear();
        wait.unwrap_or_default()
    }

    /// Begins to stop a live container, or shortens a stop in progress.
    pub(crate) fn stop(&mut self, deadline: Instant, manner: Manner, now: Instant) -> Option<StopStep> {
        let patience = if manner == Manner::Proper { MINIMUM_GRACE } else { Duration::ZERO };
        if !self.alive() {
            return None;
        }
        if let Some(stop) = &mut self.stop {
            stop.deadline = stop.deadline.min(deadline);
            if let StopStage::Term { kill_at } = &mut stop.stage {
                *kill_at = (*kill_at).min(deadline.max(now + patience));
            }
            return None;
        }
        if manner == Manner::Proper && self.plan.pre_stop && deadline > now {
            self.stop = Some(Stop { deadline, stage: StopStage::Hook });
            return Some(StopStep::Hook);
        }
        self.stop = Some(Stop { deadline, stage: StopStage::Term { kill_at: deadline.max(now + patience) } });
        Some(StopStep::Term)
    }

    /// The preStop hook has returned.
    pub(crate) fn stop_hook_returned(&mut self, now: Instant) -> Option<StopStep> {
        let stop = self.stop.as_mut().filter(|stop| stop.stage == StopStage::Hook)?;
        stop.stage = StopStage::Term { kill_at: stop.deadline.max(now + MINIMUM_GRACE) };
        Some(StopStep::Term)
    }

    /// The step that has become due by the clock alone.
    pub(crate) fn stop_due(&mut self, now: Instant) -> Option<StopStep> {
        if !self.alive() {
            return None;
        }
        let stop = self.stop.as_mut()?;
        match stop.stage {
            StopStage::Hook if stop.deadline <= now => {
                stop.stage = StopStage::Term { kill_at: now + MINIMUM_GRACE };
                Some(StopStep::Term)
            }
            StopStage::Term { kill_at } if kill_at <= now => {
                stop.stage = StopStage::Killed;
                Some(StopStep::Kill)
            }
            StopStage::Hook | StopStage::Term { .. } | StopStage::Killed => None,
        }
    }
}

fn asked(prober: &Prober, only_readiness: bool) -> bool {
    match prober.kind {
        ProbeKind::Startup => !only_readiness && prober.verdict() != Some(Verdict::Pass),
        ProbeKind::Liveness => !only_readiness,
        ProbeKind::Readiness => true,
    }
}
