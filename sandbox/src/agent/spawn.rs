//! Starting a process: what happens between fork and exec.

use std::convert::Infallible;
use std::ffi::{CString, OsStr, OsString};
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::Path;

use nix::errno::Errno;
use nix::sched::{CloneFlags, setns, unshare};
use nix::unistd::{
    ForkResult, Gid, Pid, Uid, chdir, dup2_stderr, dup2_stdin, dup2_stdout, execve, getegid, geteuid, setgroups,
    setresgid, setresuid, setsid,
};

use crate::agent::mounts;
use crate::cgroups;
use crate::error::{OsError, SandboxError, SpawnError};
use crate::fds;
use crate::protocol::{OsText, SpawnRequest, encode};
use crate::spec::{Credentials, MountSpace};
use crate::sys;

/// Where programs are looked up if the environment has no `PATH`.
const DEFAULT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// A forked child on its way to its program.
pub(super) struct Started {
    pub(super) pid: Pid,
    pub(super) channel: OwnedFd,
    pub(super) ran_as_requested: bool,
}

/// Forks. The child reports over the channel: its mount namespace as a descriptor if it made one, then an error, or the end
/// when the program runs.
pub(super) fn start(
    request: &SpawnRequest,
    fds: Vec<OwnedFd>,
    doors: &[OwnedFd],
    space: Option<&OwnedFd>,
) -> Result<Started, SpawnError> {
    let fork_failed = |error: io::Error| SpawnError::from(SandboxError::refused("start another process", error));
    let ran_as_requested = request.user.as_ref().is_none_or(may_become);
    let (ours, theirs) = fds::pair().map_err(fork_failed)?;
    match sys::fork().map_err(fork_failed)? {
        ForkResult::Parent { child } => Ok(Started { pid: child, channel: ours, ran_as_requested }),
        ForkResult::Child => {
            let Err(error) = become_program(request, (fds, doors), space, theirs, ran_as_requested);
            // Nobody could be told if this fails.
            let _ = error.report();
            std::process::exit(127)
        }
    }
}

/// Only real root can become someone else: with a user namespace, one uid exists.
fn may_become(user: &Credentials) -> bool {
    let same = user.uid == geteuid().as_raw() && user.gid == getegid().as_raw();
    same || !in_own_user_namespace()
}

fn in_own_user_namespace() -> bool {
    // The initial namespace maps the whole range; ours maps a single id.
    let map = std::fs::read_to_string("/proc/self/uid_map").unwrap_or_default();
    let mut fields = map.split_ascii_whitespace();
    fields.nth(2) == Some("1") && fields.next().is_none()
}

/// An error on its way to the agent.
struct Failed {
    channel: OwnedFd,
    error: SpawnError,
}

impl Failed {
    fn report(&self) -> io::Result<()> {
        fds::send(self.channel.as_fd(), &encode(&self.error)?, &[])
    }
}

fn become_program(
    request: &SpawnRequest,
    (fds, doors): (Vec<OwnedFd>, &[OwnedFd]),
    space: Option<&OwnedFd>,
    channel: OwnedFd,
    change_user: bool,
) -> Result<Infallible, Failed> {
    // First of all, so that whatever is done for the program counts as the container's.
    let prepared = cgroups::enter(doors)
        .map_err(|error| SandboxError::refused("enter the control group", error).into())
        .and_then(|()| prepare(request, fds, space, &channel));
    // From here on the only descriptor above 2 is the channel.
    let Ok(channel) = sys::close_all_but(channel) else {
        // Without the channel the agent sees a process that ended at once with code 127.
        std::process::exit(127)
    };
    let result = prepared.and_then(|()| finish(request, change_user));
    result.map_err(|error| Failed { channel, error })
}

/// What needs the agent's descriptors and rights: session, mounts, standard streams.
fn prepare(
    request: &SpawnRequest,
    fds: Vec<OwnedFd>,
    space: Option<&OwnedFd>,
    channel: &OwnedFd,
) -> Result<(), SpawnError> {
    let refused = |step: &'static str| move |error: Errno| SpawnError::from(SandboxError::refused(step, error));
    sys::reset_signals().map_err(|error| SandboxError::refused("reset signals", error))?;
    setsid().map_err(refused("make a session"))?;
    match (&request.mounts, space) {
        (MountSpace::New(list), _) => {
            unshare(CloneFlags::CLONE_NEWNS).map_err(refused("make a mount space"))?;
            let own =
                File::open("/proc/self/ns/mnt").map_err(|error| SandboxError::refused("keep a mount space", error))?;
            fds::send(channel.as_fd(), b"", &[own.as_fd()])
                .map_err(|error| SandboxError::refused("keep a mount space", error))?;
            mounts::apply(list)?;
        }
        (MountSpace::Of(_), Some(space)) => {
            setns(space, CloneFlags::CLONE_NEWNS).map_err(refused("enter a mount space"))?;
        }
        (MountSpace::Of(_) | MountSpace::Agent, _) => {}
    }
    connect_streams(request, fds)
}

fn connect_streams(request: &SpawnRequest, fds: Vec<OwnedFd>) -> Result<(), SpawnError> {
    let refused = |error: io::Error| SpawnError::from(SandboxError::refused("connect the standard streams", error));
    let mut given = fds.into_iter();
    let mut stream = |is_given: bool| -> io::Result<OwnedFd> {
        match is_given.then(|| given.next()).flatten() {
            Some(fd) => Ok(fd),
            None => Ok(File::options().read(true).write(true).open("/dev/null")?.into()),
        }
    };
    let [stdin, stdout, stderr] = request.stdio;
    let (stdin, stdout, stderr) =
        (stream(stdin).map_err(refused)?, stream(stdout).map_err(refused)?, stream(stderr).map_err(refused)?);
    if request.terminal {
        sys::take_terminal(&stdin).map_err(|error| SandboxError::refused("take the terminal", error))?;
    }
    let connect = || -> nix::Result<()> {
        dup2_stdin(stdin)?;
        dup2_stdout(stdout)?;
        dup2_stderr(stderr)
    };
    connect().map_err(|error| refused(error.into()))
}

/// What happens as the user who runs the program.
fn finish(request: &SpawnRequest, change_user: bool) -> Result<Infallible, SpawnError> {
    if let (Some(user), true) = (&request.user, change_user) {
        become_user(user)?;
    }
    let cwd = request.cwd.as_ref().map_or_else(|| Path::new("/"), Path::new);
    chdir(cwd)
        .map_err(|error| SpawnError::WorkingDirectory { path: cwd.display().to_string(), source: error.into() })?;
    execute(&request.argv, &request.env)
}

/// Leaving uid 0 drops all capabilities, and the program that follows gets none. The bounding set stays: `ping` and the like carry
/// file capabilities, and would not even start without.
fn become_user(user: &Credentials) -> Result<(), SpawnError> {
    if in_own_user_namespace() {
        return Ok(());
    }
    let (uid, gid) = (Uid::from_raw(user.uid), Gid::from_raw(user.gid));
    let groups: Vec<Gid> = user.groups.iter().copied().map(Gid::from_raw).collect();
    let result = setgroups(&groups).and_then(|()| setresgid(gid, gid, gid)).and_then(|()| setresuid(uid, uid, uid));
    result.map_err(|error| SpawnError::User { uid: user.uid, gid: user.gid, source: error.into() })
}

/// As execvp(3), with the new environment's `PATH` and without handing scripts that name no interpreter to a shell.
fn execute(argv: &[OsText], env: &[(OsText, OsText)]) -> Result<Infallible, SpawnError> {
    let program = &argv[0].0;
    let argv: Vec<CString> = argv.iter().map(|text| c_string(text.0.clone())).collect::<Result<_, _>>()?;
    let variables = env.iter().map(|(name, value)| {
        let mut variable = name.0.clone();
        variable.push("=");
        variable.push(&value.0);
        c_string(variable)
    });
    let variables: Vec<CString> = variables.collect::<Result<_, _>>()?;
    let mut denied = false;
    for candidate in candidates(program, env) {
        let path = c_string(candidate.clone())?;
        let Err(error) = execve(&path, &argv, &variables);
        match error {
            Errno::ENOENT | Errno::ENOTDIR if Path::new(&candidate).exists() => {
                return Err(exec_error(program, Errno::ENOENT, true));
            }
            Errno::ENOENT | Errno::ENOTDIR => {}
            Errno::EACCES => denied = true,
            error => return Err(exec_error(program, error, true)),
        }
    }
    Err(exec_error(program, if denied { Errno::EACCES } else { Errno::ENOENT }, false))
}

fn candidates(program: &OsStr, env: &[(OsText, OsText)]) -> Vec<OsString> {
    if program.as_bytes().contains(&b'/') {
        return vec![program.to_owned()];
    }
    // The last of several wins, as it does for the program that looks it up later.
    let path = env
        .iter()
        .rev()
        .find(|(name, _)| name.0 == "PATH")
        .map_or_else(|| OsStr::new(DEFAULT_PATH), |(_, path)| &path.0);
    let directories = path.as_bytes().split(|byte| *byte == b':');
    let join = |directory: &[u8]| {
        // An empty element means the working directory.
        let directory = if directory.is_empty() { b"." } else { directory };
        Path::new(OsStr::from_bytes(directory)).join(program).into_os_string()
    };
    directories.map(join).collect()
}

fn exec_error(program: &OsStr, error: Errno, exists: bool) -> SpawnError {
    let program = program.to_string_lossy().into_owned();
    match error {
        Errno::ENOENT if exists => SpawnError::NoInterpreter { program },
        Errno::ENOENT => SpawnError::NotFound { program },
        Errno::EACCES => SpawnError::PermissionDenied { program },
        Errno::ENOEXEC => SpawnError::NotExecutable { program },
        Errno::E2BIG => SpawnError::ArgumentsTooLong { program },
        error => SpawnError::Execute { program, source: OsError::from(error) },
    }
}

fn c_string(text: OsString) -> Result<CString, SpawnError> {
    CString::new(text.into_vec()).map_err(|_| SpawnError::Invalid("a text contains a NUL".into()))
}
