//! What a pod should do next: a state machine of plain values.
//!
//! `handle` takes what happened and says what to do; `poll_timeout` says when to ask again. Processes, namespaces,
//! the API and the clock belong to the worker.

mod reports;

use std::net::IpAddr;
use std::time::{Duration, Instant};

use jiff::Timestamp;

use super::Now;
use super::backoff::Limits;
use super::container::{Container, End, KILLED, Manner, Run, StopStage, StopStep};
use super::event::{Action, Event, Hook, Instance, Notice};
use super::plan::{Plan, Role};
use reports::notice;

/// First pause after a sandbox could not be made; doubles up to [`SANDBOX_CAP`].
const SANDBOX_BASE: Duration = Duration::from_millis(250);
const SANDBOX_CAP: Duration = Duration::from_secs(30);

/// The namespace of the pod.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Sandbox {
    /// None; to be made at `retry` (or at once).
    Absent {
        /// Earliest next try.
        retry: Option<Instant>,
    },
    /// Being made. Next: `Ready`, `Absent`.
    Making,
    /// There. Next: `Removing`.
    Ready,
    /// Being removed. Next: `Absent`.
    Removing,
}

/// Why a pod ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Cause {
    /// Its object is deleted.
    Deleted,
    /// All ordinary containers have ended for good.
    Completed,
    /// An init container failed for good.
    InitFailed,
    /// `activeDeadlineSeconds` is over (P-043).
    DeadlineExceeded,
    /// Somebody else set a final phase.
    Declared,
    /// podd goes down.
    Shutdown,
}

/// The end of a pod.
#[derive(Clone, Debug)]
pub(crate) struct Ending {
    /// Why it began.
    pub(crate) cause: Cause,
    /// End of the grace for all containers together.
    pub(crate) deadline: Instant,
    /// Nothing runs and the sandbox is gone.
    pub(crate) done: bool,
}

/// What the object's fate demands, apart from the processes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Object {
    Wanted,
    /// Deletion was asked for; we delete it when all is over.
    Deleting,
    /// We have asked for the deletion.
    DeleteSent,
    Gone,
}

/// The pod.
#[derive(Clone, Debug)]
pub(crate) struct PodState {
    /// What the manifest asks.
    pub(crate) plan: Plan,
    /// Parallel to [`Plan::containers`].
    pub(crate) containers: Vec<Container>,
    /// Its namespace.
    pub(crate) sandbox: Sandbox,
    /// Addresses; kept after the sandbox is gone (P-002).
    pub(crate) addresses: Vec<IpAddr>,
    /// When podd accepted the pod.
    pub(crate) start_time: Timestamp,
    /// All init containers have completed.
    pub(crate) initialized: bool,
    /// The end has begun.
    pub(crate) ending: Option<Ending>,
    object: Object,
    active_until: Option<Instant>,
    sandbox_failures: u32,
    limits: Limits,
    /// The clock at the last [`Self::handle`]: what was due then has been dealt with, or waits for an event.
    seen: Instant,
    finished: bool,
}

impl PodState {
    /// A pod that has never run here. `start_time` is the one in its status, if it had one.
    pub(crate) fn new(plan: Plan, start_time: Option<Timestamp>, limits: Limits, now: Now) -> Self {
        let start_time = start_time.unwrap_or(now.wall);
        let elapsed = Duration::try_from(now.wall.duration_since(start_time)).unwrap_or_default();
        let active_until = plan.active_deadline.map(|limit| now.instant + limit.saturating_sub(elapsed));
        let containers = plan.containers.iter().cloned().map(Container::new).collect();
        Self {
            plan,
            containers,
            sandbox: Sandbox::Absent { retry: None },
            addresses: Vec::new(),
            start_time,
            initialized: false,
            ending: None,
            object: Object::Wanted,
            active_until,
            sandbox_failures: 0,
            limits,
            seen: now.instant,
            finished: false,
        }
    }

    /// Records a container of an earlier run of the lab: a start is a reboot of the nodes, so it has ended.
    ///
    /// `end` is `None` for one that was running then; what has completed for good stays completed.
    pub(crate) fn recall(&mut self, name: &str, attempt: u32, end: Option<End>, now: Now) {
        let Some(container) = self.containers.iter_mut().find(|c| c.plan.name == name) else { return };
        container.attempt = Some(attempt);
        let end = end.unwrap_or_else(|| End {
            code: KILLED,
            signal: None,
            reason: "Error".to_owned(),
            message: "the node was restarted".to_owned(),
            started: None,
            finished: now.wall,
        });
        let again = container.plan.role == Role::Init || container.plan.restarts_after(end.code);
        container.run = Run::Down { restart: again.then_some(now.instant) };
        container.end = Some(end);
    }

    /// Whether the worker may end.
    pub(crate) fn finished(&self) -> bool {
        self.finished
    }

    /// Takes note of what happened and says what to do.
    pub(crate) fn handle(&mut self, event: Event, now: Now) -> Vec<Action> {
        let mut out = Vec::new();
        match event {
            Event::Tick => {}
            Event::SandboxReady(addresses) => {
                self.sandbox = Sandbox::Ready;
                self.sandbox_failures = 0;
                self.addresses = addresses;
            }
            Event::SandboxFailed(reason, message) => self.sandbox_failed(reason, message, now, &mut out),
            Event::SandboxLost => self.sandbox_lost(&mut out),
            Event::SandboxGone => self.sandbox_gone(now),
            Event::Started(instance) => self.started(instance, now, &mut out),
            Event::StartFailed(instance, failure) => self.start_failed(instance, failure, now, &mut out),
            Event::Leaving(instance) => self.leaving(instance),
            Event::Exited(instance, exit) => self.exited(instance, exit, now, &mut out),
            Event::HookReturned(instance, hook, result) => self.hook_returned(instance, hook, result, now, &mut out),
            Event::Probed(instance, kind, result) => self.probed(instance, kind, result, now, &mut out),
            Event::Delete(grace) => {
                if self.object == Object::Wanted {
                    self.object = Object::Deleting;
                }
                self.end(Cause::Deleted, now.instant + grace);
            }
            Event::Removed => {
                self.object = Object::Gone;
                self.end(Cause::Deleted, now.instant);
            }
            Event::Declared => self.end(Cause::Declared, now.instant + self.plan.grace),
            Event::Shutdown(grace) => {
                self.object = Object::Gone;
                self.end(Cause::Shutdown, now.instant + grace);
            }
        }
        self.advance(now, &mut out);
        self.seen = now.instant;
        out
    }

    /// What the probes say of each container: whether it is up, and whether it is ready.
    pub(crate) fn answers(&self) -> Vec<(bool, bool)> {
        self.containers.iter().map(|container| (container.started(), container.ready())).collect()
    }

    /// When to call `handle(Event::Tick)` at the latest.
    pub(crate) fn poll_timeout(&self) -> Option<Instant> {
        let ending = self.ending.is_some();
        let later = |at: &Instant| *at > self.seen;
        let containers = self.containers.iter().filter_map(|c| c.poll_timeout(ending, self.seen)).min();
        let sandbox = match self.sandbox {
            Sandbox::Absent { retry } if !ending => retry,
            _ => None,
        };
        let active = self.active_until.filter(|_| !ending);
        [containers, sandbox, active].into_iter().flatten().filter(later).min()
    }

    fn advance(&mut self, now: Now, out: &mut Vec<Action>) {
        if self.ending.is_none() && self.active_until.is_some_and(|at| at <= now.instant) {
            out.push(Action::Notify(Notice {
                warning: false,
                reason: "DeadlineExceeded",
                message: "Pod was active longer than activeDeadlineSeconds".to_owned(),
                container: None,
            }));
            self.end(Cause::DeadlineExceeded, now.instant + self.plan.grace);
        }
        for index in 0..self.containers.len() {
            let step = self.containers[index].stop_due(now.instant);
            self.stop_step(index, step, out);
        }
        if self.ending.is_none() {
            self.advance_start(now, out);
        }
        // Starting may have found that nothing is left to run.
        if self.ending.is_some() {
            self.advance_ending(now, out);
        }
        let ending = self.ending.is_some();
        for index in 0..self.containers.len() {
            let instance = self.latest(index);
            let due = self.containers[index].take_due_probes(ending, now.instant);
            out.extend(due.into_iter().map(|(kind, timeout)| Action::Probe(instance, kind, timeout)));
        }
    }

    /// Sandbox, then init containers in order, then the ordinary ones (P-039, P-040).
    fn advance_start(&mut self, now: Now, out: &mut Vec<Action>) {
        if let Some(cause) = self.nothing_left() {
            return self.end(cause, now.instant + self.plan.grace);
        }
        match self.sandbox {
            Sandbox::Absent { retry } if retry.is_none_or(|at| at <= now.instant) => {
                self.sandbox = Sandbox::Making;
                return out.push(Action::MakeSandbox);
            }
            Sandbox::Ready => {}
            Sandbox::Absent { .. } | Sandbox::Making | Sandbox::Removing => return,
        }
        for index in 0..self.containers.len() {
            let initialized = self.initialized;
            let container = &mut self.containers[index];
            if container.due(now.instant) && container.stop.is_none() {
                let instance = Instance { container: index, attempt: container.next_attempt() };
                container.run = Run::Starting;
                return out.push(Action::Start(instance));
            }
            let container = &self.containers[index];
            let blocks = match container.plan.role {
                // One at a time: the next waits until this one is done, or up.
                Role::Init => !initialized && !container.ready(),
                Role::Sidecar => !initialized && !container.started(),
                // The next waits for the start and its hook, not for readiness.
                Role::Main => matches!(container.run, Run::Starting | Run::Hooked { .. }),
            };
            if blocks {
                return;
            }
            let last_init = self.containers.get(index + 1).is_none_or(|next| next.plan.role == Role::Main);
            if last_init && container.plan.role != Role::Main {
                self.initialized = true;
            }
        }
    }

    /// Whether the containers have ended in a way that leaves nothing to start.
    fn nothing_left(&self) -> Option<Cause> {
        let over = |c: &Container| matches!(c.run, Run::Down { restart: None });
        let failed = |c: &Container| c.end.as_ref().is_some_and(|end| end.code != 0);
        if self.containers.iter().any(|c| c.plan.role == Role::Init && over(c) && failed(c)) {
            return Some(Cause::InitFailed);
        }
        let mut main = self.containers.iter().filter(|c| c.plan.role == Role::Main).peekable();
        (main.peek().is_some() && main.all(over)).then_some(Cause::Completed)
    }

    /// Ordinary containers in parallel, then sidecars in reverse order, then the sandbox, then the object
    /// (P-048, P-050, P-052, P-057).
    fn advance_ending(&mut self, now: Now, out: &mut Vec<Action>) {
        let Some(ending) = self.ending.clone() else { return };
        if ending.done {
            return self.settle(out);
        }
        for container in &mut self.containers {
            if let Run::Down { restart } = &mut container.run {
                *restart = None;
            }
        }
        for index in 0..self.containers.len() {
            if self.containers[index].plan.role != Role::Sidecar {
                self.stop(index, ending.deadline, now, out);
            }
        }
        let ordinary_gone = !self.containers.iter().any(|c| c.plan.role != Role::Sidecar && c.busy());
        if ordinary_gone && let Some(last) = self.containers.iter().rposition(Container::busy) {
            self.stop(last, ending.deadline, now, out);
        }
        // What has been killed dies with the namespace at the latest.
        let lingering =
            |c: &Container| c.busy() && !c.stop.as_ref().is_some_and(|stop| stop.stage == StopStage::Killed);
        match self.sandbox {
            Sandbox::Ready if !self.containers.iter().any(lingering) => {
                self.sandbox = Sandbox::Removing;
                out.push(Action::RemoveSandbox);
            }
            Sandbox::Absent { .. } => {
                if let Some(ending) = &mut self.ending {
                    ending.done = true;
                }
                self.settle(out);
            }
            Sandbox::Ready | Sandbox::Making | Sandbox::Removing => {}
        }
    }

    fn settle(&mut self, out: &mut Vec<Action>) {
        match self.object {
            Object::Wanted | Object::DeleteSent => {}
            Object::Deleting => {
                self.object = Object::DeleteSent;
                out.push(Action::DeleteObject);
            }
            Object::Gone if !self.finished => {
                self.finished = true;
                out.push(Action::Finish);
            }
            Object::Gone => {}
        }
    }

    fn end(&mut self, cause: Cause, deadline: Instant) {
        match &mut self.ending {
            // A second demand may shorten the grace, never lengthen it (P-046).
            Some(ending) => ending.deadline = ending.deadline.min(deadline),
            None => self.ending = Some(Ending { cause, deadline, done: false }),
        }
    }

    fn stop(&mut self, index: usize, deadline: Instant, now: Now, out: &mut Vec<Action>) {
        let hasty = self.ending.as_ref().is_some_and(|ending| ending.cause == Cause::Shutdown);
        let manner = if hasty { Manner::Hasty } else { Manner::Proper };
        let step = self.containers[index].stop(deadline, manner, now.instant);
        if step.is_some() && !hasty {
            let message = format!("Stopping container {}", self.containers[index].plan.name);
            out.push(notice(false, "Killing", message, index));
        }
        self.stop_step(index, step, out);
    }

    fn stop_step(&self, index: usize, step: Option<StopStep>, out: &mut Vec<Action>) {
        let instance = self.latest(index);
        match step {
            Some(StopStep::Hook) => out.push(Action::RunHook(instance, Hook::PreStop)),
            Some(StopStep::Term) => out.push(Action::Terminate(instance)),
            Some(StopStep::Kill) => out.push(Action::Kill(instance)),
            None => {}
        }
    }
}

#[cfg(test)]
mod tests;
