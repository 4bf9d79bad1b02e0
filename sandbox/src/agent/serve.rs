//! The agent's loop: one thread, one `poll`.

use std::collections::BTreeMap;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use nix::errno::Errno;
use nix::libc;
use nix::mount::{MsFlags, mount};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use nix::unistd::Pid;

use crate::agent::limits::ProcessLimit;
use crate::agent::net;
use crate::agent::process::{Running, Starting, count, kill_all_in};
use crate::agent::rules;
use crate::agent::spawn;
use crate::error::{SandboxError, SpawnError};
use crate::fds;
use crate::protocol::{Answer, Notice, Request, RequestBody, SpawnRequest, decode, encode};
use crate::spec::{ExitStatus, MountSpace, NamespaceSpec};
use crate::sys;

/// Goes on until the main process closes its end, or ends; then everything in the namespace is killed by the kernel.
pub(crate) fn run(socket: OwnedFd, spec: &NamespaceSpec) -> ! {
    let code = match sys::close_all_but(socket).and_then(|socket| begin(socket, spec)) {
        Ok(()) => 0,
        Err(_) => 1,
    };
    std::process::exit(code)
}

fn begin(socket: OwnedFd, spec: &NamespaceSpec) -> io::Result<()> {
    let up = set_up(spec);
    let failed = up.is_err();
    send(&socket, &Notice::Up(up), &[])?;
    if failed {
        return Ok(());
    }
    let signals = watch_children()?;
    let limit = ProcessLimit::set(spec.processes);
    let agent = Agent { socket, signals, limit, starting: Vec::new(), running: BTreeMap::new(), last_process: 0 };
    agent.serve()
}

fn set_up(spec: &NamespaceSpec) -> Result<(), SandboxError> {
    sys::set_process_name(&spec.name);
    let proc = MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC;
    mount(Some("proc"), "/proc", Some("proc"), proc, None::<&str>)
        .map_err(|error| SandboxError::refused("mount /proc", error))?;
    nix::unistd::sethostname(&spec.hostname)
        .map_err(|error| SandboxError::refused(format!("set the hostname {:?}", spec.hostname), error))?;
    net::set_up(spec.ipv6)
}

fn watch_children() -> io::Result<SignalFd> {
    sys::ignore_signal(libc::SIGCHLD, false)?;
    let mut mask = SigSet::empty();
    mask.add(Signal::SIGCHLD);
    mask.thread_block()?;
    Ok(SignalFd::with_flags(&mask, SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK)?)
}

struct Agent {
    socket: OwnedFd,
    signals: SignalFd,
    limit: ProcessLimit,
    /// Forked, not known yet to have executed their program. The main process limits how many there are.
    starting: Vec<Starting>,
    running: BTreeMap<Pid, Running>,
    last_process: u64,
}

impl Agent {
    fn serve(mut self) -> io::Result<()> {
        loop {
            let ready = self.wait()?;
            for pid in ready.starting {
                self.advance(pid)?;
            }
            if ready.signal {
                while self.signals.read_signal()?.is_some() {}
                self.reap()?;
            }
            if ready.request {
                let Some((bytes, fds)) = fds::recv(self.socket.as_fd())? else { return Ok(()) };
                let Request { id, body } = decode(&bytes)?;
                self.handle(id, body, fds)?;
            }
        }
    }

    fn wait(&self) -> io::Result<Ready> {
        let fixed = [self.socket.as_fd(), self.signals.as_fd()];
        let channels = self.starting.iter().map(|starting| starting.channel.as_fd());
        let mut polled: Vec<PollFd<'_>> =
            fixed.into_iter().chain(channels).map(|fd| PollFd::new(fd, PollFlags::POLLIN)).collect();
        match poll(&mut polled, PollTimeout::NONE) {
            Err(Errno::EINTR) => return Ok(Ready::default()),
            result => result?,
        };
        // Hang-up and errors count: the read that follows finds out.
        let is_ready = |fd: &PollFd<'_>| fd.any().unwrap_or(true);
        let starting = self.starting.iter().zip(&polled[fixed.len()..]);
        Ok(Ready {
            request: is_ready(&polled[0]),
            signal: is_ready(&polled[1]),
            starting: starting.filter(|(_, fd)| is_ready(fd)).map(|(starting, _)| starting.pid).collect(),
        })
    }

    fn handle(&mut self, id: u64, body: RequestBody, fds: Vec<OwnedFd>) -> io::Result<()> {
        let described: Result<Vec<OwnedFd>, SandboxError> = match body {
            RequestBody::OpenTun(spec) => net::open_tun(&spec).map(|device| vec![device]),
            RequestBody::ReflectPorts(wanted) => {
                let answer = rules::reflect(&wanted).map_or_else(Answer::Failed, |()| Answer::Done);
                return self.answer(id, answer, &[]);
            }
            RequestBody::CountProcesses => return self.answer(id, Answer::Processes(count()), &[]),
            RequestBody::Sockets { kind, count } => (0..count).map(|_| net::open_socket(kind)).collect(),
            RequestBody::Spawn(request) => {
                return match self.start(id, &request, fds) {
                    Ok(starting) => {
                        self.starting.push(starting);
                        Ok(())
                    }
                    Err(error) => self.answer(id, Answer::NotSpawned(error), &[]),
                };
            }
            RequestBody::Signal { process, signal } => {
                let answer = self.signal(process, signal);
                return self.answer(id, answer, &[]);
            }
        };
        match described {
            Ok(fds) => {
                let fds: Vec<BorrowedFd<'_>> = fds.iter().map(AsFd::as_fd).collect();
                self.answer(id, Answer::Descriptors, &fds)
            }
            Err(error) => self.answer(id, Answer::Failed(error), &[]),
        }
    }

    fn start(&self, id: u64, request: &SpawnRequest, mut fds: Vec<OwnedFd>) -> Result<Starting, SpawnError> {
        let streams = request.stdio.iter().filter(|given| **given).count().min(fds.len());
        let mut doors = fds.split_off(streams);
        let mut shared_space = None;
        if let MountSpace::Of(of) = request.mounts {
            let mut running = self.running.values();
            let running = running.find(|running| running.process == of.0).ok_or(SpawnError::NoSuchProcess)?;
            let kept = |error| SandboxError::refused("keep a mount space", error);
            shared_space = running.space.as_ref().map(OwnedFd::try_clone).transpose().map_err(kept)?;
            let group: io::Result<Vec<OwnedFd>> = running.doors.iter().map(OwnedFd::try_clone).collect();
            doors.extend(group.map_err(kept)?);
        }
        let started = spawn::start(request, fds, &doors, shared_space.as_ref())?;
        Ok(Starting {
            id,
            pid: started.pid,
            channel: started.channel,
            space: shared_space,
            owns_space: matches!(request.mounts, MountSpace::New(_)),
            doors,
            ran_as_requested: started.ran_as_requested,
            ended: None,
        })
    }

    fn signal(&self, process: u64, signal: i32) -> Answer {
        let Some((pid, _)) = self.running.iter().find(|(_, running)| running.process == process) else {
            return Answer::Done;
        };
        // Not reaped yet, so the number still means this process.
        match sys::kill(*pid, signal) {
            Ok(()) => Answer::Done,
            Err(error) => Answer::Failed(SandboxError::refused(format!("send signal {signal}"), error)),
        }
    }

    /// A starting process has said something, or its end of the channel was closed by a successful exec.
    fn advance(&mut self, pid: Pid) -> io::Result<()> {
        let Some(index) = self.starting.iter().position(|starting| starting.pid == pid) else { return Ok(()) };
        match fds::recv(self.starting[index].channel.as_fd())? {
            Some((_, mut fds)) if !fds.is_empty() => {
                self.starting[index].space = fds.pop();
                Ok(())
            }
            Some((bytes, _)) => {
                let error: SpawnError = decode(&bytes)?;
                let starting = self.starting.swap_remove(index);
                self.answer(starting.id, Answer::NotSpawned(error), &[])
            }
            None => {
                let starting = self.starting.swap_remove(index);
                self.started(starting)
            }
        }
    }

    fn started(&mut self, starting: Starting) -> io::Result<()> {
        self.last_process += 1;
        let process = self.last_process;
        let answer =
            Answer::Spawned { process, pid: starting.pid.as_raw(), ran_as_requested: starting.ran_as_requested };
        self.answer(starting.id, answer, &[])?;
        let Starting { space, owns_space, doors, .. } = starting;
        let running = Running { process, space, owns_space, doors };
        match starting.ended {
            Some(status) => self.ended(running, status),
            None => {
                self.running.insert(starting.pid, running);
                Ok(())
            }
        }
    }

    /// Reaps every process that has ended, also those that were left to us by their parents.
    fn reap(&mut self) -> io::Result<()> {
        while let Some((pid, status)) = sys::reap()? {
            if let Some(running) = self.running.remove(&pid) {
                self.ended(running, status)?;
            } else if let Some(starting) = self.starting.iter_mut().find(|starting| starting.pid == pid) {
                // Its channel is at the end now, which is what answers the request.
                starting.ended = Some(status);
            }
        }
        Ok(())
    }

    fn ended(&self, running: Running, status: ExitStatus) -> io::Result<()> {
        if let (true, Some(space)) = (running.owns_space, &running.space) {
            kill_all_in(space, self.limit);
        }
        send(&self.socket, &Notice::Exited { process: running.process, status }, &[])
    }

    fn answer(&self, id: u64, answer: Answer, fds: &[BorrowedFd<'_>]) -> io::Result<()> {
        send(&self.socket, &Notice::Answer { id, answer }, fds)
    }
}

#[derive(Default)]
struct Ready {
    request: bool,
    signal: bool,
    starting: Vec<Pid>,
}

fn send(socket: &OwnedFd, notice: &Notice, fds: &[BorrowedFd<'_>]) -> io::Result<()> {
    fds::send(socket.as_fd(), &encode(notice)?, fds)
}
