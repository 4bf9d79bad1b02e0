//! What the sandbox, containers, hooks and probes report, and what follows from it.

use std::time::Duration;

use super::{PodState, SANDBOX_BASE, SANDBOX_CAP, Sandbox};
use crate::pod::Now;
use crate::pod::container::{End, KILLED, Manner, Run};
use crate::pod::event::{Action, Exit, Hook, Instance, Notice, StartFailure};
use crate::pod::plan::Role;
use crate::probe::ProbeKind;

impl PodState {
    pub(super) fn sandbox_failed(&mut self, reason: &'static str, message: String, now: Now, out: &mut Vec<Action>) {
        let pause = SANDBOX_BASE.saturating_mul(1 << self.sandbox_failures.min(10)).min(SANDBOX_CAP);
        self.sandbox_failures = self.sandbox_failures.saturating_add(1);
        self.sandbox = Sandbox::Absent { retry: Some(now.instant + pause) };
        out.push(Action::Notify(Notice { warning: true, reason, message, container: None }));
    }

    pub(super) fn sandbox_lost(&mut self, out: &mut Vec<Action>) {
        if self.sandbox != Sandbox::Ready {
            return;
        }
        self.sandbox = Sandbox::Removing;
        out.push(Action::RemoveSandbox);
        if self.ending.is_none() {
            let message = "Pod sandbox changed, it will be killed and re-created.".to_owned();
            out.push(Action::Notify(Notice { warning: false, reason: "SandboxChanged", message, container: None }));
        }
    }

    /// Whatever had not reported its end has died with the namespace; a new one starts from the init containers.
    pub(super) fn sandbox_gone(&mut self, now: Now) {
        self.sandbox = Sandbox::Absent { retry: None };
        let ended = killed(now);
        for container in &mut self.containers {
            if container.busy() {
                container.finish(ended.clone(), now, self.limits);
            }
        }
        if self.ending.is_none() && self.nothing_left().is_none() {
            self.initialized = false;
            for container in self.containers.iter_mut().filter(|c| c.plan.role == Role::Init) {
                if let Run::Down { restart } = &mut container.run {
                    *restart = Some(now.instant);
                }
            }
        }
    }

    pub(super) fn started(&mut self, instance: Instance, now: Now, out: &mut Vec<Action>) {
        let container = &mut self.containers[instance.container];
        if !matches!(container.run, Run::Starting) || instance.attempt != container.next_attempt() {
            return;
        }
        container.begin(now);
        let message = format!("Started container {}", container.plan.name);
        out.push(notice(false, "Started", message, instance.container));
        if matches!(container.run, Run::Hooked { .. }) {
            out.push(Action::RunHook(instance, Hook::PostStart));
        }
    }

    pub(super) fn start_failed(&mut self, instance: Instance, failure: StartFailure, now: Now, out: &mut Vec<Action>) {
        let limits = self.limits;
        let container = &mut self.containers[instance.container];
        if !matches!(container.run, Run::Starting) || instance.attempt != container.next_attempt() {
            return;
        }
        match failure {
            StartFailure::Refused(waiting) => {
                out.push(notice(true, "Failed", format!("Error: {}", waiting.message), instance.container));
                container.refuse(waiting, now.instant);
            }
            StartFailure::Failed(message) => {
                out.push(notice(true, "Failed", format!("Error: {message}"), instance.container));
                let wait = container.fail_start(message, now, limits);
                self.back_off(instance.container, wait, out);
            }
        }
    }

    pub(super) fn leaving(&mut self, instance: Instance) {
        if self.is_latest(instance) {
            self.containers[instance.container].leave();
        }
    }

    pub(super) fn exited(&mut self, instance: Instance, exit: Exit, now: Now, out: &mut Vec<Action>) {
        if !self.is_latest(instance) || !self.containers[instance.container].ran() {
            return;
        }
        let (code, signal, reason) = match exit {
            Exit::Code(0) => (0, None, "Completed"),
            Exit::Code(code) => (code, None, "Error"),
            Exit::Signal(signal) => (128 + signal, Some(signal), "Error"),
            Exit::OutOfMemory { code, signal } => (code, signal, "OOMKilled"),
        };
        let end =
            End { code, signal, reason: reason.to_owned(), message: String::new(), started: None, finished: now.wall };
        let wait = self.containers[instance.container].finish(end, now, self.limits);
        self.back_off(instance.container, wait, out);
    }

    fn back_off(&self, index: usize, wait: Duration, out: &mut Vec<Action>) {
        if !wait.is_zero() && self.ending.is_none() {
            let name = &self.containers[index].plan.name;
            let message = format!("Back-off restarting failed container {name} for {} s", wait.as_secs_f32());
            out.push(notice(true, "BackOff", message, index));
        }
    }

    pub(super) fn hook_returned(
        &mut self,
        instance: Instance,
        hook: Hook,
        result: Result<(), String>,
        now: Now,
        out: &mut Vec<Action>,
    ) {
        if !self.is_latest(instance) {
            return;
        }
        let index = instance.container;
        match (hook, result) {
            (Hook::PostStart, Ok(())) => self.containers[index].hook_returned(now),
            (Hook::PostStart, Err(message)) => {
                out.push(notice(true, "FailedPostStartHook", format!("PostStart hook failed: {message}"), index));
                self.stop(index, now.instant + self.plan.grace, now, out);
            }
            (Hook::PreStop, result) => {
                if let Err(message) = result {
                    out.push(notice(true, "FailedPreStopHook", format!("PreStop hook failed: {message}"), index));
                }
                let step = self.containers[index].stop_hook_returned(now.instant);
                self.stop_step(index, step, out);
            }
        }
    }

    pub(super) fn probed(
        &mut self,
        instance: Instance,
        kind: ProbeKind,
        result: Result<(), String>,
        now: Now,
        out: &mut Vec<Action>,
    ) {
        if !self.is_latest(instance) {
            return;
        }
        let index = instance.container;
        let tells = self.containers[index].tells(kind, now.instant);
        let kill = self.containers[index].probed(kind, result.is_ok(), now);
        if let (Err(message), true) = (result, tells) {
            out.push(notice(true, "Unhealthy", format!("{} probe failed: {message}", kind.title()), index));
        }
        if let Some(grace) = kill.filter(|_| self.ending.is_none()) {
            let name = &self.containers[index].plan.name;
            let message = format!("Container {name} failed {} probe, will be restarted", kind.title().to_lowercase());
            out.push(notice(false, "Killing", message, index));
            let deadline = now.instant + grace.unwrap_or(self.plan.grace);
            let step = self.containers[index].stop(deadline, Manner::Proper, now.instant);
            self.stop_step(index, step, out);
        }
    }

    pub(super) fn latest(&self, index: usize) -> Instance {
        Instance { container: index, attempt: self.containers[index].attempt.unwrap_or(0) }
    }

    fn is_latest(&self, instance: Instance) -> bool {
        self.containers.get(instance.container).is_some_and(|c| c.attempt == Some(instance.attempt))
    }
}

pub(super) fn notice(warning: bool, reason: &'static str, message: String, container: usize) -> Action {
    Action::Notify(Notice { warning, reason, message, container: Some(container) })
}

fn killed(now: Now) -> End {
    End {
        code: KILLED,
        signal: Some(9),
        reason: "Error".to_owned(),
        message: String::new(),
        started: None,
        finished: now.wall,
    }
}
