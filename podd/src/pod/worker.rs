//! Acts for one pod: asks the state machine what to do, does it ([`acting`]), reports back, and keeps the API informed
//! ([`publishing`]).

mod acting;
mod publishing;

use std::collections::BTreeMap;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::core::v1::{Container, Pod, PodStatus};
use minisvc_sandbox::ExitStatus;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until, timeout};
use tokio_util::task::AbortOnDropHandle;
use tracing::{debug, error, warn};

use super::Now;
use super::asking::{Asking, container_at, has_live_volumes};
use super::backoff::Limits;
use super::core::PodState;
use super::event::{Action, Event, Exit, Instance, StartFailure};
use super::plan::{Plan, seconds};
use super::publish::Outcome;
use super::sandbox::{self, PodSandbox};
use super::start::Started;
use super::status::end_of;
use crate::shared::{ContainerView, Node, PodHandle, Running, Shared, reference};

/// How long the last words of a container are waited for after its end.
const LAST_WORDS: Duration = Duration::from_millis(500);
/// They are mostly there at once; when they take longer than this, the container's readiness does not wait for them.
const QUICK_WORDS: Duration = Duration::from_millis(1);

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
        self.compare_later();
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
