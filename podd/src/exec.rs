//! What others ask of a running pod: its logs, and processes inside its containers.

use std::ffi::OsString;
use std::io;
use std::os::fd::OwnedFd;

use bytes::Bytes;
use futures::StreamExt as _;
use futures::stream::BoxStream;
use minisvc_sandbox::{MountSpace, Namespace, Process, ProcessSpec, SpawnError};
use thiserror::Error;

use crate::attach::AttachPoint;
use crate::logs::read::{self, LogError, LogOptions, Source};
use crate::logs::write;
use crate::pod::sandbox::log_dir;
use crate::shared::{PodHandle, Running, Shared};

/// A process to be started inside a container, with the container's environment, user and files.
#[derive(Debug, Default)]
pub struct ExecSpec {
    /// Program and arguments.
    pub argv: Vec<OsString>,
    /// Variables besides the container's, such as `TERM`.
    pub environment: Vec<(OsString, OsString)>,
    /// Descriptor 0; `/dev/null` if not given.
    pub stdin: Option<OwnedFd>,
    /// Descriptor 1; `/dev/null` if not given.
    pub stdout: Option<OwnedFd>,
    /// Descriptor 2; `/dev/null` if not given.
    pub stderr: Option<OwnedFd>,
    /// `stdin` is a terminal, which shall control the process.
    pub terminal: bool,
}

/// Why there is no process.
#[derive(Debug, Error)]
pub enum ExecError {
    /// No such pod on our nodes.
    #[error("pod {0:?} not found")]
    NoPod(String),
    /// No such container, or more than one to choose from.
    #[error("container {container:?} not found in pod {pod:?}, which has: [{}]", choices.join(" "))]
    NoContainer {
        /// The pod.
        pod: String,
        /// The container asked for, or empty.
        container: String,
        /// Its containers.
        choices: Vec<String>,
    },
    /// It does not run.
    #[error("container {0:?} is not running")]
    NotRunning(String),
    /// The program.
    #[error(transparent)]
    Spawn(#[from] SpawnError),
}

/// A container that runs, and where.
#[derive(Debug)]
pub(crate) struct RunningContainer {
    place: Namespace,
    running: Running,
    /// How to attach to it.
    pub(crate) attach: Option<AttachPoint>,
}

impl RunningContainer {
    /// Starts a process in it, with its environment, user and files.
    pub(crate) async fn spawn(self, spec: ExecSpec) -> Result<Process, SpawnError> {
        let Self { place, running, .. } = self;
        let process = ProcessSpec {
            argv: spec.argv,
            env: running.environment.into_iter().chain(spec.environment).collect(),
            cwd: running.directory,
            user: running.user,
            stdin: spec.stdin,
            stdout: spec.stdout,
            stderr: spec.stderr,
            mounts: MountSpace::Of(running.process.id()),
            terminal: spec.terminal,
            ..ProcessSpec::default()
        };
        place.spawn(process).await
    }
}

/// See [`Podd::exec`](crate::Podd::exec).
pub(crate) async fn exec(
    shared: &Shared,
    namespace: &str,
    pod: &str,
    container: Option<&str>,
    spec: ExecSpec,
) -> Result<Process, ExecError> {
    Ok(running(shared, namespace, pod, container)?.spawn(spec).await?)
}

/// The container of this name, or the one that is meant when none is named, provided that it runs.
pub(crate) fn running(
    shared: &Shared,
    namespace: &str,
    pod: &str,
    container: Option<&str>,
) -> Result<RunningContainer, ExecError> {
    let handle = shared.pod(namespace, pod).ok_or_else(|| ExecError::NoPod(pod.to_owned()))?;
    let choices = handle.names();
    let name = container.or_else(|| running_only(&handle, &choices));
    let view = name.and_then(|name| handle.container(name));
    let (Some(name), Some(view)) = (name, view) else {
        let container = container.unwrap_or_default().to_owned();
        return Err(ExecError::NoContainer { pod: pod.to_owned(), container, choices });
    };
    let (Some(running), Some(place)) = (view.running, handle.namespace()) else {
        return Err(ExecError::NotRunning(name.to_owned()));
    };
    Ok(RunningContainer { place, running, attach: view.attach })
}

/// The container that is meant when none is named.
fn running_only<'a>(handle: &PodHandle, names: &'a [String]) -> Option<&'a str> {
    let runs = |name: &&String| handle.container(name).is_some_and(|view| view.running.is_some());
    let mut running = names.iter().filter(runs);
    match (names, running.next(), running.next()) {
        ([only], ..) => Some(only),
        (_, Some(only), None) => Some(only),
        _ => None,
    }
}

/// See [`Podd::logs`](crate::Podd::logs).
pub(crate) fn logs(
    shared: &Shared,
    namespace: &str,
    pod: &str,
    options: LogOptions,
) -> Result<BoxStream<'static, io::Result<Bytes>>, LogError> {
    let handle = shared.pod(namespace, pod).ok_or_else(|| LogError::NoPod(pod.to_owned()))?;
    let names = handle.names();
    let name = match (&options.container, names.as_slice()) {
        (Some(name), _) => name.clone(),
        (None, [only]) => only.clone(),
        (None, _) => return Err(LogError::Ambiguous { pod: pod.to_owned(), choices: names }),
    };
    let missing = || LogError::NoContainer { pod: pod.to_owned(), container: name.clone() };
    let view = handle.container(&name).ok_or_else(missing)?;
    let unstarted =
        || LogError::NotStarted { pod: pod.to_owned(), container: name.clone(), reason: view.waiting.clone() };
    let latest = view.attempt.ok_or_else(unstarted)?;
    let directory = log_dir(shared, &handle.uid, &name);
    let source = if options.previous {
        let before = latest.checked_sub(1).map(|attempt| write::path(&directory, attempt));
        let path = before.filter(|path| path.exists());
        let none = || LogError::NoPrevious { pod: pod.to_owned(), container: name.clone() };
        Source { path: path.ok_or_else(none)?, progress: None }
    } else {
        Source { path: write::path(&directory, latest), progress: view.log.clone() }
    };
    Ok(read::read(source, options).boxed())
}
