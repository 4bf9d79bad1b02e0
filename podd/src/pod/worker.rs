//! Acts for one pod: asks the state machine what to do, does it, reports back, and keeps the API informed.

use std::collections::BTreeMap;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::core::v1::{Container, Pod, PodStatus};
use minisvc_sandbox::ExitStatus;
use nix::libc;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until, timeout};
use tokio_util::task::AbortOnDropHandle;
use tracing::{debug, error, warn};

use super::Now;
use super::asking::{Asking, container_at, handler, has_live_volumes, probe_of, stop_signal};
use super::backoff::Limits;
use super::core::PodState;
use super::event::{Action, Event, Exit, Hook, Instance, Notice, StartFailure};
use super::plan::{Plan, seconds};
use super::publish::{Outcome, delete, patch_status};
use super::sandbox::{self, PodSandbox};
use super::start::{self, Started};
use super::status::{View, agree, end_of, render};
use crate::probe::ProbeKind;
use crate::probe::run::{self, Passed};
use crate::shared::{ContainerView, Node, PodHandle, Running, Shared, reference};

/// How long the last words of a container are waited for after its end.
const LAST_WORDS: Duration = Duration::from_millis(500);
/// They are mostly there at once; when they take longer than this, the container's readiness does not wait for them.
const QUICK_WORDS: Duration = Duration::from_millis(1);
/// A postStart hook that takes longer has failed; Kubernetes has no limit of its own here.
const POST_START_LIMIT: Duration = Duration::from_secs(600);
/// Pause after the API did not take a status.
const PUBLISH_PAUSE: Duration = Duration::from_secs(1);
/// How long what somebody else says of the pod stands before its node says again how it is, so that two who disagree do not
/// chase each other.
const CONTRADICT_PAUSE: Duration = Duration::from_secs(1);

/// What the API wants of a pod now.
#[derive(Clone)]
pub(crate) struct Desired {
    pub(crate) pod: Arc<Pod>,
    /// The object is gone.
    pub(crate) removed: bool,
}

/// What a job of the worker ended with.
enum Done {
    Happened(Event),
    /// The process is gone; its output is still being read.
    Leaving(Instance, Exit, AbortOnDropHandle<()>),
    SandboxMade(Result<PodSandbox, sandbox::Failure>),
    Started(Instance, Result<Started, StartFailure>),
    Published(Box<PodStatus>, Outcome),
    DeleteAnswered(Outcome),
    /// This sandbox (see [`Worker::sandboxes`]) was killed by somebody.
    Lost(u64),
    /// The volumes of this sandbox are up to date.
    Refreshed(u64),
}

/// A running container.
struct Live {
    instance: Instance,
    running: Arc<Running>,
}

/// One pod.
pub(crate) struct Worker {
    shared: Arc<Shared>,
    node: Arc<Node>,
    pod: Arc<Pod>,
    handle: Arc<PodHandle>,
    state: PodState,
    sandbox: Option<Arc<PodSandbox>>,
    /// How many sandboxes the pod has had; what is said of an earlier one does not count.
    sandboxes: u64,
    live: BTreeMap<usize, Live>,
    jobs: JoinSet<Done>,
    /// The last grace that the API demanded, in seconds.
    grace: Option<i64>,
    /// Rendered last.
    shown: PodStatus,
    /// What the API has, as far as we know.
    published: Option<PodStatus>,
    publishing: bool,
    /// When to look whether the API still says something else than was published.
    contradict_at: Option<Instant>,
    /// The status may show something else than it did.
    stale: bool,
    delete_wanted: bool,
    /// The API has no such object any more.
    gone: bool,
}

impl Worker {
    /// A worker for `pod`. What its status says of an earlier run of the lab counts as ended: a start is a reboot.
    pub(crate) fn new(shared: Arc<Shared>, node: Arc<Node>, pod: Arc<Pod>) -> Self {
        let now = Now::read();
        let status = pod.status.clone().unwrap_or_default();
        let limits = Limits { base: shared.config.backoff_base, cap: shared.config.backoff_cap };
        let start_time = status.start_time.as_ref().map(|time| time.0);
        let mut state = PodState::new(Plan::of(&pod), start_time, limits, now);
        let old = status.init_container_statuses.iter().flatten().chain(status.container_statuses.iter().flatten());
        for container in old {
            let Some(past) = container.state.as_ref().filter(|_| container.container_id.is_some()) else { continue };
            let attempt = u32::try_from(container.restart_count).unwrap_or(0);
            let last = container.last_state.as_ref().and_then(|state| state.terminated.as_ref());
            let end = past.terminated.as_ref().or_else(|| last.filter(|_| past.waiting.is_some())).map(end_of);
            state.recall(&container.name, attempt, end, now);
        }
        let uid = pod.metadata.uid.clone().unwrap_or_default();
        let views = state.containers.iter().map(|c| {
            let view = ContainerView {
                attempt: c.attempt,
                waiting: "ContainerCreating".to_owned(),
                ..ContainerView::default()
            };
            (c.plan.name.clone(), view)
        });
        let handle = Arc::new(PodHandle::new(uid, views));
        Self {
            shared,
            node,
            pod,
            handle,
            state,
            sandbox: None,
            sandboxes: 0,
            live: BTreeMap::new(),
            jobs: JoinSet::new(),
            grace: None,
            shown: status.clone(),
            published: Some(status),
            publishing: false,
            contradict_at: None,
            stale: true,
            delete_wanted: false,
            gone: false,
        }
    }

    /// The pod's side for logs and exec.
    pub(crate) fn handle(&self) -> Arc<PodHandle> {
        Arc::clone(&self.handle)
    }

    /// Works until nothing is left of the pod, or podd goes down.
    pub(crate) async fn run(mut self, mut desired_rx: watch::Receiver<Desired>) {
        let first = desired_rx.borrow_and_update().clone();
        self.step(Event::Tick);
        self.take(first);
        let shutdown = self.shared.shutdown.clone();
        let mut going_down = false;
        while !self.state.finished() {
            self.publish();
            let alarm = self.state.poll_timeout().map(Instant::from_std);
            let at = alarm.unwrap_or_else(Instant::now);
            let contradict_at = self.contradict_at.filter(|_| !self.publishing);
            tokio::select! {
                changed = desired_rx.changed(), if !self.gone => match changed {
                    Ok(()) => {
                        let desired = desired_rx.borrow_and_update().clone();
                        self.take(desired);
                    }
                    // The watch ended without the object being gone: podd goes down.
                    Err(_) => self.gone = true,
                },
                Some(done) = self.jobs.join_next() => match done {
                    Ok(done) => self.done(done),
                    Err(problem) if problem.is_panic() => error!(%problem, "a job of a pod's worker failed"),
                    Err(_) => {}
                },
                () = sleep_until(at), if alarm.is_some() => self.step(Event::Tick),
                () = sleep_until(contradict_at.unwrap_or(at)), if contradict_at.is_some() => self.contradict(),
                () = shutdown.cancelled(), if !going_down => {
                    going_down = true;
                    self.gone = true;
                    self.step(Event::Shutdown(self.shared.config.shutdown_grace));
                }
            }
        }
        self.jobs.abort_all();
        if !going_down {
            let directory = self.shared.pod_dir(&self.handle.uid);
            if let Err(error) = tokio::fs::remove_dir_all(&directory).await
                && error.kind() != std::io::ErrorKind::NotFound
            {
                warn!(%error, path = %directory.display(), "files of a pod are left behind");
            }
        }
    }

    /// Takes what the API says now.
    fn take(&mut self, desired: Desired) {
        let Desired { pod, removed } = desired;
        let phase = pod.status.as_ref().and_then(|status| status.phase.clone());
        let grace =
            pod.metadata.deletion_timestamp.as_ref().map(|_| pod.metadata.deletion_grace_period_seconds.unwrap_or(0));
        self.pod = pod;
        self.stale = true;
        if self.is_contradicted() {
            self.contradict_at.get_or_insert_with(|| Instant::now() + CONTRADICT_PAUSE);
        }
        if removed {
            self.gone = true;
            return self.step(Event::Removed);
        }
        if grace.is_some() && grace != self.grace {
            self.grace = grace;
            return self.step(Event::Delete(seconds(grace.unwrap_or(0))));
        }
        if self.state.ending.is_none() && matches!(phase.as_deref(), Some("Succeeded" | "Failed")) {
            return self.step(Event::Declared);
        }
        // Conditions that others set may have changed.
        self.step(Event::Tick);
    }

    /// Whether the API says something else of the pod than its node has said last. It may only not have come round yet.
    fn is_contradicted(&self) -> bool {
        let said = self.pod.status.as_ref();
        !said.zip(self.published.as_ref()).is_some_and(|(said, published)| agree(said, published))
    }

    /// Somebody has written over the node's words, as the node controller does when it takes the node for lost (P-118):
    /// they are sent again.
    fn contradict(&mut self) {
        self.contradict_at = None;
        if self.is_contradicted() {
            debug!("somebody has written over the status; it is sent again");
            self.published = Some(self.pod.status.clone().unwrap_or_default());
            self.stale = true;
        }
    }

    fn done(&mut self, done: Done) {
        match done {
            Done::Happened(event) => self.happened(event),
            Done::Leaving(instance, exit, pump) => self.leaving(instance, exit, pump),
            Done::SandboxMade(Ok(sandbox)) => self.sandbox_made(sandbox),
            Done::SandboxMade(Err((reason, message))) => self.step(Event::SandboxFailed(reason, message)),
            Done::Started(instance, result) => self.start_returned(instance, result),
            Done::Published(status, outcome) => {
                self.publishing = false;
                self.stale = true;
                match outcome {
                    Outcome::Taken => self.published = Some(*status),
                    Outcome::Gone => self.gone = true,
                    // The job has paused already; the next turn of the loop tries again.
                    Outcome::Failed => {}
                }
            }
            Done::DeleteAnswered(Outcome::Failed) => {
                self.delete_wanted = true;
                self.stale = true;
            }
            // The watch will tell.
            Done::DeleteAnswered(Outcome::Taken | Outcome::Gone) => {}
            Done::Lost(sandbox) if sandbox == self.sandboxes => self.step(Event::SandboxLost),
            Done::Refreshed(sandbox) if sandbox == self.sandboxes => self.refresh_later(),
            Done::Lost(_) | Done::Refreshed(_) => {}
        }
    }

    fn happened(&mut self, event: Event) {
        match &event {
            Event::Exited(instance, _) => {
                self.live.remove(&instance.container);
                self.show(*instance, |view| view.running = None);
            }
            Event::SandboxGone => {
                self.live.clear();
                self.handle.set_namespace(None);
            }
            _ => {}
        }
        self.step(event);
    }

    fn sandbox_made(&mut self, sandbox: PodSandbox) {
        let addresses = sandbox.addresses.clone();
        let namespace = sandbox.namespace.clone();
        self.handle.set_namespace(Some(namespace.clone()));
        self.sandbox = Some(Arc::new(sandbox));
        self.sandboxes += 1;
        let number = self.sandboxes;
        self.spawn(async move {
            namespace.closed().await;
            Done::Lost(number)
        });
        self.refresh_later();
        self.step(Event::SandboxReady(addresses));
    }

    fn start_returned(&mut self, instance: Instance, result: Result<Started, StartFailure>) {
        let Some(container) = self.container(instance.container).cloned() else { return };
        let started = match result {
            Ok(started) => started,
            Err(failure) => {
                let reason = match &failure {
                    StartFailure::Refused(waiting) => waiting.reason.clone(),
                    StartFailure::Failed(_) => "StartError".to_owned(),
                };
                self.show(instance, |view| view.waiting = reason);
                return self.step(Event::StartFailed(instance, failure));
            }
        };
        let name = &container.name;
        let image = container.image.as_deref().unwrap_or_default();
        if !image.is_empty() {
            let message = format!("Container image {image:?} already present on machine");
            self.record(Some(name), false, "Pulled", &message);
        }
        self.record(Some(name), false, "Created", &format!("Created container: {name}"));
        let Started { running, log, pump, attach } = started;
        self.show(instance, |view| {
            view.attempt = Some(instance.attempt);
            view.log = Some(log);
            view.attach = Some(attach);
            view.running = Some(running.clone());
        });
        self.wait_for_end(instance, &running, pump);
        self.live.insert(instance.container, Live { instance, running: Arc::new(running) });
        self.step(Event::Started(instance));
    }

    fn wait_for_end(&mut self, instance: Instance, running: &Running, pump: AbortOnDropHandle<()>) {
        let (process, group) = (running.process.clone(), running.group.clone());
        self.spawn(async move {
            let status = process.wait().await;
            // A container that copes with the loss of a process, and ends well, was not ended by it.
            let short = status.as_code() != 0 && group.is_some_and(|group| group.oom_kills() > 0);
            let exit = match status {
                ExitStatus::Signal(signal) if short => {
                    Exit::OutOfMemory { code: status.as_code(), signal: Some(signal) }
                }
                ExitStatus::Code(code) if short => Exit::OutOfMemory { code, signal: None },
                ExitStatus::Code(code) => Exit::Code(code),
                ExitStatus::Signal(signal) => Exit::Signal(signal),
            };
            let mut pump = pump;
            match timeout(QUICK_WORDS, &mut pump).await {
                Ok(_) => Done::Happened(Event::Exited(instance, exit)),
                Err(_) => Done::Leaving(instance, exit, pump),
            }
        });
    }

    /// The process is gone and something still holds its output: no new connection may go there any more (P-030), and the
    /// log is to be complete when the API says that the container has ended.
    fn leaving(&mut self, instance: Instance, exit: Exit, pump: AbortOnDropHandle<()>) {
        self.spawn(async move {
            let _ = timeout(LAST_WORDS, pump).await;
            Done::Happened(Event::Exited(instance, exit))
        });
        self.step(Event::Leaving(instance));
    }

    /// Tells the state machine and does what it says.
    fn step(&mut self, event: Event) {
        // Most of all there is to do are probes that say what they said before: for them no status is rendered.
        let calm = matches!(event, Event::Tick | Event::Probed(..)).then(|| self.state.answers());
        let actions = self.state.handle(event, Now::read());
        let only_asks = actions.iter().all(|action| matches!(action, Action::Probe(..)));
        self.stale |= !only_asks || calm.is_none_or(|before| before != self.state.answers());
        for action in actions {
            self.act(action);
        }
    }

    fn act(&mut self, action: Action) {
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

    /// Sends the status if it has changed, one at a time; then the deletion that was asked for (P-030, P-052).
    fn publish(&mut self) {
        if self.gone || self.publishing || !std::mem::take(&mut self.stale) {
            return;
        }
        let host = &self.node.config.addresses;
        let view = View { pod: &self.pod, last: &self.shown, host, now: jiff::Timestamp::now() };
        let status = render(&self.state, &view);
        self.shown = status.clone();
        if self.published.as_ref() != Some(&status) {
            self.publishing = true;
            let (client, pod) = (self.shared.client.clone(), Arc::clone(&self.pod));
            let before = self.published.clone().unwrap_or_default();
            return self.spawn(async move {
                let outcome = patch_status(&client, &pod, &before, &status).await;
                if outcome == Outcome::Failed {
                    tokio::time::sleep(PUBLISH_PAUSE).await;
                }
                Done::Published(Box::new(status), outcome)
            });
        }
        if std::mem::take(&mut self.delete_wanted) {
            let (client, pod) = (self.shared.client.clone(), Arc::clone(&self.pod));
            self.spawn(async move {
                let outcome = delete(&client, &pod).await;
                if outcome == Outcome::Failed {
                    tokio::time::sleep(PUBLISH_PAUSE).await;
                }
                Done::DeleteAnswered(outcome)
            });
        }
    }

    /// Brings volumes made of API objects up to date, later and again (P-072).
    fn refresh_later(&mut self) {
        let Some(sandbox) = self.sandbox.clone().filter(|_| has_live_volumes(&self.pod)) else { return };
        let number = self.sandboxes;
        let (shared, node, pod) = (Arc::clone(&self.shared), Arc::clone(&self.node), Arc::clone(&self.pod));
        let directory = self.shared.pod_dir(&self.handle.uid);
        self.spawn(async move {
            tokio::time::sleep(shared.config.volume_refresh).await;
            if let Err(problem) = sandbox::prepare_volumes(&shared, &node, &pod, &directory, &sandbox.tokens).await {
                debug!(%problem, "volumes are not refreshed");
            }
            Done::Refreshed(number)
        });
    }

    fn asking(&self, instance: Instance) -> Option<Asking> {
        let live = self.live(instance)?;
        Some(Asking {
            pod: Arc::clone(&self.pod),
            position: instance.container,
            sandbox: Arc::clone(self.sandbox.as_ref()?),
            node: Arc::clone(&self.node),
            address: self.state.addresses.first().copied(),
            running: Arc::clone(&live.running),
        })
    }

    fn live(&self, instance: Instance) -> Option<&Live> {
        self.live.get(&instance.container).filter(|live| live.instance == instance)
    }

    /// The manifest of a container by its position in the plan.
    fn container(&self, index: usize) -> Option<&Container> {
        container_at(&self.pod, index)
    }

    fn show(&self, instance: Instance, change: impl FnOnce(&mut ContainerView)) {
        if let Some(plan) = self.state.plan.containers.get(instance.container) {
            self.handle.update(&plan.name, change);
        }
    }

    fn record(&self, container: Option<&str>, warning: bool, reason: &str, message: &str) {
        self.shared.recorder.record(reference(&self.pod, container), warning, reason, message);
    }

    fn spawn(&mut self, job: impl Future<Output = Done> + Send + 'static) {
        self.jobs.spawn(job);
    }
}

async fn ask(asking: &Asking, kind: ProbeKind, limit: Duration) -> Result<Passed, run::Failure> {
    match asking.container().and_then(|container| Some((container, probe_of(container, kind)?))) {
        Some((container, probe)) => run::probe(&asking.target(container), probe, limit).await,
        // The manifest of a container does not change.
        None => Ok(Passed::Plainly),
    }
}
