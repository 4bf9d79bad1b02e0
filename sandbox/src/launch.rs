//! The main process's side of a lab: starts the helper, asks it for namespaces, ends it.

use std::ffi::OsString;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::PathBuf;
use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

use nix::sys::wait::{Id, WaitPidFlag, waitid};
use tokio::io::unix::AsyncFd;
use tokio::process::{Child, Command};
use tokio::sync::{mpsc, oneshot};
use tokio::task::AbortHandle;
use tokio::time::timeout;

use crate::cgroups::{self, Cgroups, Group, Limits};
use crate::error::{LaunchError, SandboxError};
use crate::fds::{FdSocket, watch_fd};
use crate::namespace::Namespace;
use crate::protocol::{Hello, Launched, Made, MakeNamespace, OsText, decode, encode};
use crate::spec::NamespaceSpec;
use crate::sys;

/// How long the helper may take to set up the lab's namespaces, which takes milliseconds on an idle machine.
const LAUNCH_LIMIT: Duration = Duration::from_secs(30);
/// Requests for namespaces that wait for the helper; further callers wait for a place.
const WAITING_LIMIT: usize = 64;

/// How to launch a sandbox.
#[derive(Debug, Clone)]
pub struct LaunchOptions {
    /// The program that calls [`helper_main`](crate::helper_main).
    pub program: PathBuf,
    /// Its arguments, which must make it do so before it starts any thread.
    pub args: Vec<OsString>,
    /// The lab's name, which `ps` shows.
    pub lab: String,
}

impl LaunchOptions {
    /// The running program, as `minisvc __sandbox LAB`.
    pub fn this_program(lab: impl Into<String>) -> Self {
        let lab = lab.into();
        Self { program: "/proc/self/exe".into(), args: vec!["__sandbox".into(), lab.clone().into()], lab }
    }
}

/// A lab's helper process and everything below it. Clones are handles of the same; when the last is dropped, or the process that
/// launched it ends in whatever way, everything in the lab is killed.
#[derive(Debug, Clone)]
pub struct Sandbox {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    pidfd: AsyncFd<OwnedFd>,
    /// callers → asker
    request_tx: mpsc::Sender<MakeRequest>,
    asker: AbortHandle,
    own_user_namespace: bool,
    cgroups: Arc<Cgroups>,
}

type MakeRequest = (NamespaceSpec, oneshot::Sender<Result<(OwnedFd, OwnedFd), SandboxError>>);

impl Sandbox {
    /// Starts the helper and waits until the lab's namespaces exist.
    ///
    /// # Errors
    /// The program does not start or does not call [`helper_main`](crate::helper_main), or the kernel refuses a namespace.
    pub async fn launch(options: LaunchOptions) -> Result<Self, LaunchError> {
        let cgroups = Arc::new(Cgroups::prepare(&options.lab));
        // Not waited for: it is about labs that do not run any more.
        tokio::task::spawn_blocking(cgroups::remove_abandoned_groups);
        let (socket, theirs) = FdSocket::pair()?;
        let mut starter = Command::new(&options.program)
            .arg0("minisvc")
            .args(&options.args)
            // The helper needs none, and what is secret in ours must not be seen in a pod as the environment of PID 1.
            .env_clear()
            .stdin(Stdio::from(theirs))
            .stdout(Stdio::null())
            .kill_on_drop(true)
            .spawn()
            .map_err(|source| LaunchError::Start { program: options.program.clone(), source })?;
        let silence = |status| LaunchError::NoAnswer { program: options.program.clone(), status };
        let groups = cgroups.directories().into_iter().map(|path| OsText(path.into())).collect();
        let hello = greet(&socket, Hello { lab: options.lab.clone(), groups });
        let (launched, mut fds) = match timeout(LAUNCH_LIMIT, hello).await {
            Ok(Ok(Some(answer))) => answer,
            Ok(_) => return Err(silence(exit_status(&mut starter).await)),
            Err(_) => return Err(silence(None)),
        };
        let own_user_namespace = match launched {
            Launched::Up { own_user_namespace } => own_user_namespace,
            Launched::Failed(SandboxError::Refused { step, source }) => {
                return Err(LaunchError::Refused { step, source });
            }
            Launched::Failed(_) => return Err(silence(None)),
        };
        let Some(pidfd) = fds.pop() else { return Err(silence(None)) };
        // The started process only made the helper, which is its sibling, and exits at once.
        exit_status(&mut starter).await;
        Ok(Self { inner: Arc::new(Inner::new(pidfd, socket, own_user_namespace, cgroups)?) })
    }

    /// Whether the lab has a user namespace, in which only the user's own uid exists: without root, in short.
    pub fn is_rootless(&self) -> bool {
        self.inner.own_user_namespace
    }

    /// Makes a namespace and waits until it is set up: `lo` is up, and it has no other interface.
    ///
    /// # Errors
    /// [`SandboxError::Gone`] after the helper has ended, [`SandboxError::Refused`] if a limit of the kernel is reached.
    pub async fn make_namespace(&self, spec: NamespaceSpec) -> Result<Namespace, SandboxError> {
        let name = spec.name.clone();
        let (answer_tx, answer_rx) = oneshot::channel();
        self.inner.request_tx.send((spec, answer_tx)).await.map_err(|_| SandboxError::Gone)?;
        let (socket, pidfd) = answer_rx.await.map_err(|_| SandboxError::Gone)??;
        Namespace::connect(name, socket, pidfd).await
    }

    /// Makes a control group for a container of a pod, with limits for the container and for the pod as a whole. What cannot be
    /// limited on this machine is not, and said by [`Group::unkept`].
    pub fn make_group(&self, pod: &str, container: &str, of_pod: Limits, own: Limits) -> Group {
        Group::make(&self.inner.cgroups, pod, container, of_pod, own)
    }

    /// Resolves when the helper, and with it everything in the lab, is dead.
    pub async fn closed(&self) {
        // An error means that the runtime is shutting down, which ends the wait as well.
        let _ = self.inner.pidfd.readable().await;
    }

    /// Kills everything in the lab and returns when it is dead.
    pub async fn shutdown(self) {
        self.inner.kill();
        self.closed().await;
        reap_now(self.inner.pidfd.get_ref());
        remove_groups(Arc::clone(&self.inner.cgroups)).await;
    }
}

impl Inner {
    fn new(
        pidfd: OwnedFd,
        socket: FdSocket,
        own_user_namespace: bool,
        cgroups: Arc<Cgroups>,
    ) -> Result<Self, LaunchError> {
        let reaped = watch_fd(pidfd.try_clone()?)?;
        // Ends with the helper; detached because the zombie must be reaped even if nobody waits for it.
        tokio::spawn(reap(reaped, Arc::clone(&cgroups)));
        // A full queue makes the callers of make_namespace wait.
        let (request_tx, request_rx) = mpsc::channel(WAITING_LIMIT);
        let asker = tokio::spawn(ask(socket, request_rx)).abort_handle();
        Ok(Self { pidfd: watch_fd(pidfd)?, request_tx, asker, own_user_namespace, cgroups })
    }

    fn kill(&self) {
        // The kernel kills the lab's whole PID namespace with its PID 1.
        if let Err(error) = sys::pidfd_kill(self.pidfd.get_ref()) {
            tracing::warn!(%error, "cannot kill the sandbox helper");
        }
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.kill();
        self.asker.abort();
    }
}

async fn greet(socket: &FdSocket, hello: Hello) -> io::Result<Option<(Launched, Vec<OwnedFd>)>> {
    socket.send(&encode(&hello)?, &[]).await?;
    let Some((bytes, fds)) = socket.recv().await? else { return Ok(None) };
    Ok(Some((decode(&bytes)?, fds)))
}

async fn exit_status(starter: &mut Child) -> Option<std::process::ExitStatus> {
    timeout(LAUNCH_LIMIT, starter.wait()).await.ok()?.ok()
}

/// The helper is our child (see `helper.rs`), so its zombie is ours to reap.
async fn reap(pidfd: AsyncFd<OwnedFd>, cgroups: Arc<Cgroups>) {
    let _ = pidfd.readable().await;
    reap_now(pidfd.get_ref());
    remove_groups(cgroups).await;
}

/// The directories outlive the processes, which are dead with the helper.
async fn remove_groups(cgroups: Arc<Cgroups>) {
    // An error means that the runtime is shutting down; then the next start removes them.
    let _ = tokio::task::spawn_blocking(move || cgroups.remove()).await;
}

fn reap_now(pidfd: &OwnedFd) {
    if let Err(error) = waitid(Id::PIDFd(pidfd.as_fd()), WaitPidFlag::WEXITED | WaitPidFlag::WNOHANG) {
        tracing::trace!(%error, "the sandbox helper is reaped already");
    }
}

/// Passes requests to the helper, one after the other, until either side is gone.
async fn ask(socket: FdSocket, mut request_rx: mpsc::Receiver<MakeRequest>) {
    while let Some((spec, answer_tx)) = request_rx.recv().await {
        let result = match ask_once(&socket, spec).await {
            Ok(result) => result,
            Err(error) => {
                tracing::debug!(%error, "the sandbox helper does not answer");
                return;
            }
        };
        // A caller that has gone away drops the descriptors, which ends the agent.
        let _ = answer_tx.send(result);
    }
}

async fn ask_once(socket: &FdSocket, spec: NamespaceSpec) -> io::Result<Result<(OwnedFd, OwnedFd), SandboxError>> {
    socket.send(&encode(&MakeNamespace { spec })?, &[]).await?;
    let gone = || io::Error::from(io::ErrorKind::UnexpectedEof);
    let (bytes, fds) = socket.recv().await?.ok_or_else(gone)?;
    match decode(&bytes)? {
        Made::Failed(error) => Ok(Err(error)),
        Made::Agent => {
            let [socket, pidfd] = <[OwnedFd; 2]>::try_from(fds).map_err(|_| gone())?;
            Ok(Ok((socket, pidfd)))
        }
    }
}
