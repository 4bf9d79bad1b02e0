//! Does what the state machine says: sandboxes, processes, hooks, probes. Each is a job that reports what came of it.

use std::sync::Arc;
use std::time::Duration;

use nix::libc;

use super::{Done, Worker};
use crate::pod::Now;
use crate::pod::asking::{Asking, handler, probe_of, stop_signal};
use crate::pod::event::{Action, Event, Hook, Instance, Notice};
use crate::pod::{sandbox, start};
use crate::probe::ProbeKind;
use crate::probe::run::{self, Passed};
use crate::shared::reference;

/// A postStart hook that takes longer has failed; Kubernetes has no limit of its own here.
const POST_START_LIMIT: Duration = Duration::from_secs(600);

impl Worker {
    pub(super) fn act(&mut self, action: Action) {
        match action {
            Action::MakeSandbox => {
                let (shared, node, pod) = (Arc::clone(&self.shared), Arc::clone(&self.node), Arc::clone(&self.pod));
                self.spawn(async move { Done::SandboxMade(sandbox::make(&shared, &node, &pod).await) });
            }
            Action::RemoveSandbox => self.remove_sandbox(),
            Action::Start(instance) => self.start(instance),
            Action::Terminate(instance) => {
                let signal = self.container(instance.container).map_or(libc::SIGTERM, stop_signal);
                self.signal(instance, signal);
            }
            // The agent kills the rest of the container with its first process.
            Action::Kill(instance) => self.signal(instance, libc::SIGKILL),
            Action::RunHook(instance, hook) => self.run_hook(instance, hook),
            Action::Probe(instance, kind, limit) => self.probe(instance, kind, limit),
            Action::Notify(notice) => self.notify(&notice),
            Action::DeleteObject => self.delete_wanted = true,
            // The loop sees it.
            Action::Finish => {}
        }
    }

    fn remove_sandbox(&mut self) {
        let Some(sandbox) = self.sandbox.take() else {
            return self.step(Event::SandboxGone);
        };
        let (shared, node) = (Arc::clone(&self.shared), Arc::clone(&self.node));
        let processes: Vec<_> = self.live.values().map(|live| live.running.process.clone()).collect();
        self.spawn(async move {
            // Before the network goes: the kernel ends the connections of a dead process, and its clients hear of it. In
            // the node's network, nothing else would kill them.
            let killing = processes.iter().map(|process| async move {
                process.signal(libc::SIGKILL).await;
                process.wait().await;
            });
            futures::future::join_all(killing).await;
            sandbox::remove(&shared, &node, &sandbox).await;
            Done::Happened(Event::SandboxGone)
        });
    }

    fn start(&mut self, instance: Instance) {
        let (Some(sandbox), Some(container)) = (self.sandbox.clone(), self.container(instance.container).cloned())
        else {
            return;
        };
        let (shared, node, pod) = (Arc::clone(&self.shared), Arc::clone(&self.node), Arc::clone(&self.pod));
        self.spawn(async move {
            let result = start::start(&shared, &node, &pod, &container, &sandbox, instance).await;
            Done::Started(instance, result)
        });
    }

    fn signal(&mut self, instance: Instance, signal: i32) {
        let Some(live) = self.live(instance) else { return };
        let process = live.running.process.clone();
        self.spawn(async move {
            process.signal(signal).await;
            Done::Happened(Event::Tick)
        });
    }

    fn run_hook(&mut self, instance: Instance, hook: Hook) {
        let now = Now::read().instant;
        let limit = match hook {
            Hook::PostStart => POST_START_LIMIT,
            Hook::PreStop => {
                let stop = self.state.containers.get(instance.container).and_then(|c| c.stop.as_ref());
                stop.map_or(Duration::ZERO, |stop| stop.deadline.saturating_duration_since(now))
            }
        };
        let asking = self.asking(instance);
        self.spawn(async move {
            let container = asking.as_ref().and_then(Asking::container);
            let handler = container.and_then(|container| handler(container.lifecycle.as_ref()?, hook));
            let result = match (&asking, container, handler) {
                (Some(asking), Some(container), Some(handler)) => {
                    run::hook(&asking.target(container), handler, limit).await.map_err(|failure| failure.to_string())
                }
                _ => Ok(()),
            };
            Done::Happened(Event::HookReturned(instance, hook, result))
        });
    }

    fn probe(&mut self, instance: Instance, kind: ProbeKind, limit: Duration) {
        let Some(asking) = self.asking(instance) else { return };
        let shared = Arc::clone(&self.shared);
        self.spawn(async move {
            let result = match ask(&asking, kind, limit).await {
                Ok(Passed::Plainly) => Ok(()),
                Ok(Passed::WithWarning(message)) => {
                    let about = reference(&asking.pod, asking.container().map(|container| container.name.as_str()));
                    shared.recorder.record(about, true, "ProbeWarning", format!("{} probe: {message}", kind.title()));
                    Ok(())
                }
                Err(failure) => Err(failure.to_string()),
            };
            Done::Happened(Event::Probed(instance, kind, result))
        });
    }

    fn notify(&self, notice: &Notice) {
        let name = notice.container.and_then(|index| self.state.plan.containers.get(index)).map(|c| c.name.as_str());
        self.record(name, notice.warning, notice.reason, &notice.message);
    }
}

async fn ask(asking: &Asking, kind: ProbeKind, limit: Duration) -> Result<Passed, run::Failure> {
    match asking.container().and_then(|container| Some((container, probe_of(container, kind)?))) {
        Some((container, probe)) => run::probe(&asking.target(container), probe, limit).await,
        // The manifest of a container does not change.
        None => Ok(Passed::Plainly),
    }
}
