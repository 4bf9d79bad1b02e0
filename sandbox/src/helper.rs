//! The helper: PID 1 of a lab's PID namespace. It holds the lab's namespaces, makes agents, and does nothing else.
//!
//! It stays single-threaded and does not use tokio, because a process with threads can neither enter a user namespace nor fork
//! safely without executing.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::libc;
use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};
use nix::sys::prctl;
use nix::sys::stat::{Mode, umask};
use nix::unistd::{ForkResult, getegid, geteuid, getpid, setsid};

use crate::agent;
use crate::cgroups;
use crate::error::SandboxError;
use crate::fds;
use crate::protocol::{Hello, Launched, Made, MakeNamespace, OsText, decode, encode};
use crate::slice;
use crate::spec::NamespaceSpec;
use crate::sys;

/// What a lab, and each namespace in it, has for itself.
const OWN: CloneFlags = CloneFlags::CLONE_NEWNS
    .union(CloneFlags::CLONE_NEWNET)
    .union(CloneFlags::CLONE_NEWPID)
    .union(CloneFlags::CLONE_NEWIPC)
    .union(CloneFlags::CLONE_NEWUTS);

/// The entry of the hidden command that [`Sandbox::launch`](crate::Sandbox::launch) starts. Call it before any thread exists.
pub fn helper_main() -> ! {
    let code = match run() {
        Ok(()) => 0,
        Err(error) => {
            // The main process has been told over the socket, if it is there; this is for who runs the command by hand.
            let _ = io::Write::write_all(&mut io::stderr(), format!("minisvc sandbox helper: {error}\n").as_bytes());
            1
        }
    };
    std::process::exit(code)
}

fn run() -> io::Result<()> {
    let socket = take_socket()?;
    let Some((bytes, _)) = fds::recv(socket.as_fd())? else { return Ok(()) };
    let hello: Hello = decode(&bytes)?;
    let own_user_namespace = match enter_namespaces() {
        Ok(own_user_namespace) => own_user_namespace,
        Err(error) => return give_up(&socket, error),
    };
    // PID namespaces are entered by children. This child is made a sibling, a child of the main process: no second process has to
    // stay between the two, and the main process can reap it.
    match sys::fork_with(CloneFlags::CLONE_PARENT) {
        Ok(ForkResult::Parent { .. }) => return Ok(()),
        Ok(ForkResult::Child) => {}
        Err(error) => return give_up(&socket, SandboxError::refused("start PID 1 of the lab", error)),
    }
    if let Err(error) = settle(&hello.lab) {
        return give_up(&socket, error);
    }
    let pidfd = sys::pidfd_open(getpid())?;
    fds::send(socket.as_fd(), &encode(&Launched::Up { own_user_namespace })?, &[pidfd.as_fd()])?;
    drop(pidfd);
    let served = serve(&socket);
    let groups: Vec<PathBuf> = hello.groups.into_iter().map(|OsText(path)| path.into()).collect();
    cgroups::end_lab(&groups);
    served
}

/// Makes namespaces until the main process closes its end, or ends. With PID 1 the kernel kills the rest of the lab, if
/// [`cgroups::end_lab`] had no reason to do it before.
fn serve(socket: &OwnedFd) -> io::Result<()> {
    while let Some((bytes, _)) = fds::recv(socket.as_fd())? {
        let MakeNamespace { spec } = decode(&bytes)?;
        match make_agent(&spec) {
            Ok((agent, pidfd)) => fds::send(socket.as_fd(), &encode(&Made::Agent)?, &[agent.as_fd(), pidfd.as_fd()])?,
            Err(error) => {
                let failed = Made::Failed(SandboxError::refused(not_made(&error), error));
                fds::send(socket.as_fd(), &encode(&failed)?, &[])?;
            }
        }
    }
    Ok(())
}

/// Forks an agent into new namespaces; gives the main process's end of its socket, and a pidfd of it.
fn make_agent(spec: &NamespaceSpec) -> io::Result<(OwnedFd, OwnedFd)> {
    let (ours, theirs) = fds::pair()?;
    match sys::fork_with(OWN)? {
        ForkResult::Child => agent::run(theirs, spec),
        ForkResult::Parent { child } => Ok((ours, sys::pidfd_open(child)?)),
    }
}

/// "No space left on device" is how the kernel says that one of its limits is reached.
fn not_made(error: &io::Error) -> &'static str {
    match error.raw_os_error() {
        Some(libc::ENOSPC) => "make a namespace (a limit in /proc/sys/user is reached)",
        _ => "make a namespace",
    }
}

fn give_up(socket: &OwnedFd, error: SandboxError) -> io::Result<()> {
    fds::send(socket.as_fd(), &encode(&Launched::Failed(error.clone()))?, &[])?;
    Err(io::Error::other(error))
}

/// The socket comes as standard input, which is the one descriptor that `Command` passes on without unsafe code.
fn take_socket() -> io::Result<OwnedFd> {
    let socket = io::stdin().as_fd().try_clone_to_owned()?;
    let null = std::fs::File::options().read(true).write(true).open("/dev/null")?;
    nix::unistd::dup2_stdin(&null)?;
    drop(null);
    sys::close_all_but(socket)
}

/// Whether a user namespace had to be made as well.
fn enter_namespaces() -> Result<bool, SandboxError> {
    if geteuid().is_root() {
        match unshare(OWN) {
            Ok(()) => return Ok(false),
            // Root without capabilities, as in most containers, is an ordinary user.
            Err(Errno::EPERM) => {}
            Err(error) => return Err(SandboxError::refused("make the lab's namespaces", error)),
        }
    }
    let (uid, gid) = (geteuid(), getegid());
    unshare(OWN | CloneFlags::CLONE_NEWUSER)
        .map_err(|error| SandboxError::refused("make a user namespace and the lab's namespaces in it", error))?;
    // Mapped to itself, so that files and processes look inside as they do outside, and a program that is executed has no
    // capabilities.
    write("/proc/self/setgroups", "deny")?;
    write("/proc/self/uid_map", &format!("{uid} {uid} 1"))?;
    write("/proc/self/gid_map", &format!("{gid} {gid} 1"))?;
    Ok(true)
}

/// What PID 1 of a lab needs to be before it serves.
fn settle(lab: &str) -> Result<(), SandboxError> {
    let refused = |step: &'static str| move |error: Errno| SandboxError::refused(step, error);
    sys::set_process_name(&format!("minisvc:{lab}"));
    // What the main process asks for itself is not for pods. A kernel that does not let us ask has not let it, either.
    let _ = slice::take_usual_turns();
    setsid().map_err(refused("leave the terminal"))?;
    // Agents are reaped by the kernel; the main process watches them by pidfd.
    sys::ignore_signal(libc::SIGCHLD, true).map_err(|error| SandboxError::refused("ignore SIGCHLD", error))?;
    // A pod's process has the same uid, without root, and must not be able to attach to an agent and speak in its place.
    prctl::set_dumpable(false).map_err(refused("forbid tracing"))?;
    umask(Mode::from_bits_truncate(0o022));
    nix::unistd::chdir(Path::new("/")).map_err(refused("enter /"))?;
    let none: Option<&str> = None;
    // Nothing that is mounted in the lab appears outside, and what the host mounts and unmounts later (a stick) follows inside. The
    // copies that agents and containers get keep it so.
    mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_SLAVE, none).map_err(refused("keep mounts to the lab"))
}

fn write(path: &str, text: &str) -> Result<(), SandboxError> {
    std::fs::write(path, text).map_err(|error| SandboxError::refused(format!("write {text:?} to {path}"), error))
}
