//! The main process's side of a namespace: requests to its agent, and what the agent reports.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::ops::RangeInclusive;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use nix::libc;
use nix::sys::socket::{SockaddrStorage, bind};
use tokio::io::unix::AsyncFd;
use tokio::net::{TcpSocket, TcpStream};
use tokio::sync::{Semaphore, oneshot, watch};
use tokio::task::AbortHandle;

use crate::error::{SandboxError, SpawnError};
use crate::fds::{FdSocket, MESSAGE_LIMIT, watch_fd};
use crate::protocol::{Answer, Notice, OsText, Reflection, Request, RequestBody, SpawnRequest, decode, encode};
use crate::spec::{ExitStatus, ProcessId, ProcessSpec, SocketKind, TunSpec};
use crate::sys;

/// Sockets that are asked for at once, where many are needed.
const SPARE_LIMIT: usize = 8;
/// Requests under way in one namespace; further callers wait for their turn.
const REQUEST_LIMIT: usize = 32;

/// A network, PID, mount, UTS and IPC namespace. Clones are handles of the same; when the last handle and the last
/// [`Process`] of it are dropped, everything inside is killed.
#[derive(Debug, Clone)]
pub struct Namespace {
    handle: Arc<Handle>,
}

/// Keeps the agent alive.
#[derive(Debug)]
struct Handle {
    name: String,
    shared: Arc<Shared>,
    reader: AbortHandle,
}

impl Drop for Handle {
    fn drop(&mut self) {
        self.shared.kill();
        self.reader.abort();
    }
}

/// What the handles and the reader task share.
#[derive(Debug)]
struct Shared {
    socket: FdSocket,
    pidfd: AsyncFd<OwnedFd>,
    turns: Semaphore,
    /// Held for table operations only, never across an await.
    state: Mutex<State>,
}

/// An answer, and what belongs to it on this side.
#[derive(Debug)]
struct Reply {
    answer: Answer,
    fds: Vec<OwnedFd>,
    /// Of the process, if the answer is `Spawned`.
    status: Option<watch::Receiver<Option<ExitStatus>>>,
}

#[derive(Debug, Default)]
struct State {
    last_id: u64,
    waiting: BTreeMap<u64, oneshot::Sender<Reply>>,
    running: BTreeMap<u64, watch::Sender<Option<ExitStatus>>>,
    gone: bool,
    spare: Spare,
}

/// Sockets that came with one that was asked for, so that who asks often need not wait for the agent each time.
#[derive(Debug, Default)]
struct Spare {
    /// Those of [`Self::kind`].
    sockets: Vec<OwnedFd>,
    kind: Option<SocketKind>,
    /// How many of the kind have been needed: a namespace that needs few gets none to spare.
    needed: usize,
}

impl Spare {
    /// One that is there, or how many to ask for.
    fn take(&mut self, kind: SocketKind) -> Result<OwnedFd, usize> {
        if self.kind != Some(kind) {
            *self = Self { kind: Some(kind), ..Self::default() };
        }
        self.needed = self.needed.saturating_add(1);
        self.sockets.pop().ok_or_else(|| self.needed.min(SPARE_LIMIT))
    }

    fn keep(&mut self, kind: SocketKind, sockets: Vec<OwnedFd>) {
        if self.kind == Some(kind) {
            self.sockets.extend(sockets);
            self.sockets.truncate(SPARE_LIMIT);
        }
    }
}

impl Namespace {
    pub(crate) async fn connect(name: String, socket: OwnedFd, pidfd: OwnedFd) -> Result<Self, SandboxError> {
        let unusable = |error: io::Error| SandboxError::refused("watch the namespace's agent", error);
        let shared = Arc::new(Shared {
            socket: FdSocket::from_fd(socket).map_err(unusable)?,
            pidfd: watch_fd(pidfd).map_err(unusable)?,
            turns: Semaphore::new(REQUEST_LIMIT),
            state: Mutex::default(),
        });
        let first = shared.socket.recv().await.ok().flatten().ok_or(SandboxError::Gone)?;
        match decode(&first.0) {
            Ok(Notice::Up(result)) => result?,
            _ => return Err(SandboxError::Gone),
        }
        let reader = tokio::spawn(read_notices(Arc::clone(&shared))).abort_handle();
        Ok(Self { handle: Arc::new(Handle { name, shared, reader }) })
    }

    /// The name it was made with.
    pub fn name(&self) -> &str {
        &self.handle.name
    }

    /// Opens a TUN device inside and configures it. The device lives as long as the returned descriptor, which is non-blocking
    /// and works from any process. Closing it takes the kernel some 25 ms: close many in parallel.
    ///
    /// # Errors
    /// [`SandboxError::TunNode`] if `/dev/net/tun` cannot be opened, else [`SandboxError::Refused`] or [`SandboxError::Gone`].
    pub async fn open_tun(&self, spec: TunSpec) -> Result<OwnedFd, SandboxError> {
        self.descriptors(RequestBody::OpenTun(spec)).await?.pop().ok_or(SandboxError::Gone)
    }

    /// Makes packets from inside to these ports of `address`, which is the namespace's own, leave through the interface instead
    /// of staying: so a process on a node reaches the node's nodePorts, which are not served by the node itself.
    ///
    /// # Errors
    /// [`SandboxError::Refused`] if there is no such interface, else [`SandboxError::Gone`].
    pub async fn reflect_ports(
        &self,
        interface: &str,
        address: IpAddr,
        ports: RangeInclusive<u16>,
    ) -> Result<(), SandboxError> {
        let (first, last) = ports.into_inner();
        let reflection = Reflection { interface: interface.to_owned(), address, first, last };
        let reply = self.handle.shared.request(RequestBody::ReflectPorts(reflection), &[]).await?;
        match reply.answer {
            Answer::Done => Ok(()),
            Answer::Failed(error) => Err(error),
            _ => Err(SandboxError::Gone),
        }
    }

    /// A new non-blocking socket of the namespace's network, not yet bound, listening or connected.
    ///
    /// # Errors
    /// [`SandboxError::Gone`], or [`SandboxError::Refused`], for IPv6 where the kernel has none.
    pub async fn socket(&self, kind: SocketKind) -> Result<OwnedFd, SandboxError> {
        let shared = &self.handle.shared;
        let count = {
            let mut state = shared.state();
            if state.gone {
                return Err(SandboxError::Gone);
            }
            match state.spare.take(kind) {
                Ok(socket) => return Ok(socket),
                Err(count) => count,
            }
        };
        let mut sockets = self.descriptors(RequestBody::Sockets { kind, count }).await?;
        let socket = sockets.pop().ok_or(SandboxError::Gone)?;
        let mut state = shared.state();
        if !state.gone {
            state.spare.keep(kind, sockets);
        }
        Ok(socket)
    }

    /// Connects from inside the namespace.
    ///
    /// # Errors
    /// What connect(2) says; `NotConnected` if the namespace is gone.
    pub async fn connect_tcp(&self, target: SocketAddr) -> io::Result<TcpStream> {
        self.tcp_socket(target).await?.connect(target).await
    }

    /// Listens inside the namespace.
    ///
    /// # Errors
    /// What bind(2) and listen(2) say; `NotConnected` if the namespace is gone.
    pub async fn listen_tcp(&self, address: SocketAddr) -> io::Result<tokio::net::TcpListener> {
        let socket = self.tcp_socket(address).await?;
        socket.set_reuseaddr(true)?;
        socket.bind(address)?;
        socket.listen(1024)
    }

    /// Binds a UDP socket inside the namespace.
    ///
    /// # Errors
    /// What bind(2) says; `NotConnected` if the namespace is gone.
    pub async fn bind_udp(&self, address: SocketAddr) -> io::Result<tokio::net::UdpSocket> {
        let kind = if address.is_ipv4() { SocketKind::Udp4 } else { SocketKind::Udp6 };
        let socket = self.socket(kind).await.map_err(not_connected)?;
        bind(socket.as_raw_fd(), &SockaddrStorage::from(address))?;
        tokio::net::UdpSocket::from_std(socket.into())
    }

    /// Starts a process; returns when its program runs.
    ///
    /// # Errors
    /// Why it does not run.
    pub async fn spawn(&self, spec: ProcessSpec) -> Result<Process, SpawnError> {
        let (request, fds) = split(spec)?;
        let fds: Vec<BorrowedFd<'_>> = fds.iter().map(AsFd::as_fd).collect();
        let reply = self.handle.shared.request(RequestBody::Spawn(request), &fds).await?;
        match (reply.answer, reply.status) {
            (Answer::Spawned { process, pid, ran_as_requested }, Some(status)) => {
                let handle = Arc::clone(&self.handle);
                Ok(Process { id: ProcessId(process), pid, ran_as_requested, status, handle })
            }
            (Answer::NotSpawned(error), _) => Err(error),
            (Answer::Failed(error), _) => Err(error.into()),
            _ => Err(SandboxError::Gone.into()),
        }
    }

    /// How many processes there are inside, the agent included.
    ///
    /// # Errors
    /// [`SandboxError::Gone`].
    pub async fn count_processes(&self) -> Result<usize, SandboxError> {
        match self.handle.shared.request(RequestBody::CountProcesses, &[]).await?.answer {
            Answer::Processes(count) => Ok(count),
            _ => Err(SandboxError::Gone),
        }
    }

    /// Kills everything inside and returns when it is dead. The kernel takes the network down soon after.
    pub async fn remove(&self) {
        self.handle.shared.kill();
        self.closed().await;
    }

    /// Resolves when everything inside is dead.
    pub async fn closed(&self) {
        // An error means that the runtime is shutting down, which ends the wait as well.
        let _ = self.handle.shared.pidfd.readable().await;
    }

    async fn descriptors(&self, body: RequestBody) -> Result<Vec<OwnedFd>, SandboxError> {
        let reply = self.handle.shared.request(body, &[]).await?;
        match reply.answer {
            Answer::Descriptors => Ok(reply.fds),
            Answer::Failed(error) => Err(error),
            _ => Err(SandboxError::Gone),
        }
    }

    async fn tcp_socket(&self, address: SocketAddr) -> io::Result<TcpSocket> {
        let kind = if address.is_ipv4() { SocketKind::Tcp4 } else { SocketKind::Tcp6 };
        let socket = self.socket(kind).await.map_err(not_connected)?;
        Ok(TcpSocket::from_std_stream(socket.into()))
    }
}

/// A process started in a namespace. Clones are handles of the same; dropping them does not end it.
#[derive(Debug, Clone)]
pub struct Process {
    id: ProcessId,
    pid: i32,
    ran_as_requested: bool,
    status: watch::Receiver<Option<ExitStatus>>,
    /// Keeps the namespace.
    handle: Arc<Handle>,
}

impl Process {
    /// Its name within the namespace.
    pub fn id(&self) -> ProcessId {
        self.id
    }

    /// Its process id, as seen inside the namespace.
    pub fn pid(&self) -> i32 {
        self.pid
    }

    /// False if another user was asked for and the sandbox is without root, so that it runs as its owner.
    pub fn ran_as_requested(&self) -> bool {
        self.ran_as_requested
    }

    /// Sends a signal to the process alone; one that has ended, or whose namespace is gone, is left in peace.
    pub async fn signal(&self, signal: i32) {
        let body = RequestBody::Signal { process: self.id.0, signal };
        // Without a namespace there is no process.
        if let Ok(Reply { answer: Answer::Failed(error), .. }) = self.handle.shared.request(body, &[]).await {
            tracing::warn!(%error, pid = self.pid, signal, "cannot signal a process");
        }
    }

    /// Waits for its end; may be called any number of times. A process whose namespace went away was killed with it.
    pub async fn wait(&self) -> ExitStatus {
        let mut status = self.status.clone();
        let ended = status.wait_for(Option::is_some).await.ok().and_then(|status| *status);
        ended.unwrap_or(ExitStatus::Signal(libc::SIGKILL))
    }

    /// Its exit status, if it has ended.
    pub fn exit_status(&self) -> Option<ExitStatus> {
        *self.status.borrow()
    }
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        // Nothing panics while it is held; were it so, the tables are still whole.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn kill(&self) {
        // The kernel kills the whole PID namespace with its PID 1.
        if let Err(error) = sys::pidfd_kill(self.pidfd.get_ref()) {
            tracing::warn!(%error, "cannot kill a namespace's agent");
        }
    }

    async fn request(&self, body: RequestBody, fds: &[BorrowedFd<'_>]) -> Result<Reply, SandboxError> {
        let _turn = self.turns.acquire().await.map_err(|_| SandboxError::Gone)?;
        let (reply_tx, reply_rx) = oneshot::channel();
        let id = {
            let mut state = self.state();
            if state.gone {
                return Err(SandboxError::Gone);
            }
            state.last_id += 1;
            let id = state.last_id;
            state.waiting.insert(id, reply_tx);
            id
        };
        // However this ends, also by the caller's giving up, nobody waits afterwards.
        let _waiting = Waiting { shared: self, id };
        self.send(&Request { id, body }, fds).await?;
        reply_rx.await.map_err(|_| SandboxError::Gone)
    }

    async fn send(&self, request: &Request, fds: &[BorrowedFd<'_>]) -> Result<(), SandboxError> {
        let refused = |error: io::Error| SandboxError::refused("send the request", error);
        let bytes = encode(request).map_err(refused)?;
        if bytes.len() > MESSAGE_LIMIT {
            return Err(SandboxError::TooLarge { bytes: bytes.len(), limit: MESSAGE_LIMIT });
        }
        self.socket.send(&bytes, fds).await.map_err(|error| match error.kind() {
            io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionReset => SandboxError::Gone,
            _ => refused(error),
        })
    }

    fn handle_notice(&self, notice: Notice, fds: Vec<OwnedFd>) {
        let mut state = self.state();
        match notice {
            // Sent once, before this is called.
            Notice::Up(_) => {}
            Notice::Answer { id, answer } => {
                let spawned = match &answer {
                    Answer::Spawned { process, .. } => Some(*process),
                    _ => None,
                };
                // Entered here, because the next notice may be this process's exit.
                let status = spawned.map(|process| {
                    let (status_tx, status_rx) = watch::channel(None);
                    state.running.insert(process, status_tx);
                    status_rx
                });
                let waiting = state.waiting.remove(&id);
                drop(state);
                let reply = Reply { answer, fds, status };
                let taken = waiting.is_some_and(|reply_tx| reply_tx.send(reply).is_ok());
                if let (Some(process), false) = (spawned, taken) {
                    self.kill_unwanted(process);
                }
            }
            Notice::Exited { process, status } => {
                if let Some(status_tx) = state.running.remove(&process) {
                    status_tx.send_replace(Some(status));
                }
            }
        }
    }

    /// Its starter stopped waiting, so nobody will ever hold it.
    fn kill_unwanted(&self, process: u64) {
        let request = Request { id: 0, body: RequestBody::Signal { process, signal: libc::SIGKILL } };
        // Not waiting: the reader must go on reading. The socket's buffer has room for a thousand of these.
        let sent = encode(&request).and_then(|bytes| self.socket.try_send(&bytes, &[]));
        if let Err(error) = sent {
            tracing::warn!(%error, "a process that nobody waits for keeps running");
        }
    }

    fn close(&self) {
        let mut state = self.state();
        state.gone = true;
        // They would keep the network alive.
        state.spare = Spare::default();
        state.waiting.clear();
        for status_tx in std::mem::take(&mut state.running).into_values() {
            status_tx.send_replace(Some(ExitStatus::Signal(libc::SIGKILL)));
        }
    }
}

/// Takes a request off the list when it is over.
struct Waiting<'a> {
    shared: &'a Shared,
    id: u64,
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.shared.state().waiting.remove(&self.id);
    }
}

/// Delivers what the agent reports until the agent is gone.
async fn read_notices(shared: Arc<Shared>) {
    loop {
        let notice = match shared.socket.recv().await {
            Ok(Some((bytes, fds))) => decode(&bytes).map(|notice| (notice, fds)),
            Ok(None) => break,
            Err(error) => Err(error),
        };
        match notice {
            Ok((notice, fds)) => shared.handle_notice(notice, fds),
            Err(error) => {
                // An agent that cannot be understood cannot be trusted with processes.
                tracing::error!(%error, "an agent sent nonsense");
                shared.kill();
                break;
            }
        }
    }
    shared.close();
}

fn not_connected(error: SandboxError) -> io::Error {
    match error {
        SandboxError::Refused { source, .. } => source.into(),
        other => io::Error::new(io::ErrorKind::NotConnected, other),
    }
}

/// Takes a request apart into what is sent as text and what is sent as descriptors.
fn split(spec: ProcessSpec) -> Result<(SpawnRequest, Vec<OwnedFd>), SpawnError> {
    let invalid = |what: &str| Err(SpawnError::Invalid(what.to_owned()));
    let has_nul = |text: &OsStr| text.as_bytes().contains(&0);
    if spec.argv.first().is_none_or(|program| program.is_empty()) {
        return invalid("no program is named");
    }
    if spec.argv.iter().any(|text| has_nul(text)) {
        return invalid("an argument contains a NUL");
    }
    for (name, value) in &spec.env {
        if has_nul(name) || has_nul(value) {
            return invalid("an environment variable contains a NUL");
        }
        if name.is_empty() || name.as_bytes().contains(&b'=') {
            return invalid("the name of an environment variable is empty or contains '='");
        }
    }
    if spec.terminal && spec.stdin.is_none() {
        return invalid("a terminal is asked for, but there is no stdin");
    }
    let request = SpawnRequest {
        argv: spec.argv.into_iter().map(OsText).collect(),
        env: spec.env.into_iter().map(|(name, value)| (OsText(name), OsText(value))).collect(),
        cwd: spec.cwd.map(|path| OsText(path.into_os_string())),
        user: spec.user,
        stdio: [spec.stdin.is_some(), spec.stdout.is_some(), spec.stderr.is_some()],
        mounts: spec.mounts,
        terminal: spec.terminal,
    };
    let doors = spec.group.as_ref().map(|group| group.doors()).transpose();
    let doors = doors.map_err(|error| SandboxError::refused("enter the control group", error))?;
    let streams = [spec.stdin, spec.stdout, spec.stderr].into_iter().flatten();
    Ok((request, streams.chain(doors.into_iter().flatten()).collect()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_who_asks_often_gets_sockets_to_spare() {
        let mut spare = Spare::default();
        let socket = || OwnedFd::from(std::fs::File::open("/dev/null").unwrap());
        let asked = |spare: &mut Spare, kind| spare.take(kind).err();
        assert_eq!(asked(&mut spare, SocketKind::Tcp4), Some(1));
        assert_eq!(asked(&mut spare, SocketKind::Tcp4), Some(2));
        spare.keep(SocketKind::Tcp4, vec![socket()]);
        assert_eq!(asked(&mut spare, SocketKind::Tcp4), None);
        let counts: Vec<_> = (0..7).map(|_| asked(&mut spare, SocketKind::Tcp4)).collect();
        assert_eq!(counts.last(), Some(&Some(SPARE_LIMIT)));
        spare.keep(SocketKind::Tcp4, (0..20).map(|_| socket()).collect());
        assert_eq!(spare.sockets.len(), SPARE_LIMIT);
        assert_eq!(asked(&mut spare, SocketKind::Udp4), Some(1), "another kind begins anew");
        spare.keep(SocketKind::Tcp4, vec![socket()]);
        assert!(spare.sockets.is_empty());
    }
}
