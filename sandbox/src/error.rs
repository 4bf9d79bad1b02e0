//! What can go wrong. The errors cross a socket, so they hold an error number instead of an `io::Error`.

use std::io;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// An error number of the operating system (`errno`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, thiserror::Error)]
#[error("{}", io::Error::from_raw_os_error(*.0))]
pub struct OsError(pub i32);

impl From<OsError> for io::Error {
    fn from(error: OsError) -> Self {
        Self::from_raw_os_error(error.0)
    }
}

impl From<nix::Error> for OsError {
    fn from(error: nix::Error) -> Self {
        Self(error as i32)
    }
}

impl From<io::Error> for OsError {
    /// An error without a number counts as `EIO`.
    fn from(error: io::Error) -> Self {
        Self(error.raw_os_error().unwrap_or(nix::libc::EIO))
    }
}

/// Why a sandbox could not be launched.
#[derive(Debug, thiserror::Error)]
pub enum LaunchError {
    /// The helper program could not be started.
    #[error("cannot start the sandbox helper {}", program.display())]
    Start {
        /// The program.
        program: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The helper ran, and the kernel refused something it needs. [`preflight`](crate::preflight()) tells more.
    #[error("the sandbox helper cannot {step}")]
    Refused {
        /// What was tried, as it fits after "cannot".
        step: String,
        /// Why.
        source: OsError,
    },
    /// The helper ended, or stayed silent for too long.
    #[error("the sandbox helper {} did not answer{}", program.display(), status.map(|s| format!(" ({s})")).unwrap_or_default())]
    NoAnswer {
        /// The program.
        program: PathBuf,
        /// How it ended, if it did.
        status: Option<std::process::ExitStatus>,
    },
    /// The main process could not set up its side.
    #[error("cannot talk to the sandbox helper")]
    Socket(#[from] io::Error),
}

/// Why a request to a sandbox or namespace failed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
pub enum SandboxError {
    /// The namespace, or the whole sandbox, does not exist any more.
    #[error("the namespace is gone")]
    Gone,
    /// The TUN node cannot be opened.
    #[error("cannot open /dev/net/tun")]
    TunNode(#[source] OsError),
    /// The kernel refused a step.
    #[error("cannot {step}")]
    Refused {
        /// What was tried, as it fits after "cannot".
        step: String,
        /// Why.
        source: OsError,
    },
    /// The request is longer than [`MESSAGE_LIMIT`](crate::MESSAGE_LIMIT).
    #[error("the request is {bytes} bytes long, at most {limit} are possible")]
    TooLarge {
        /// Its length.
        bytes: usize,
        /// The most possible.
        limit: usize,
    },
}

impl SandboxError {
    pub(crate) fn refused(step: impl Into<String>, source: impl Into<OsError>) -> Self {
        Self::Refused { step: step.into(), source: source.into() }
    }
}

/// Why a process could not be started.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
pub enum SpawnError {
    /// No such file, or not in any directory of `PATH`.
    #[error("{program}: no such program")]
    NotFound {
        /// As it was given.
        program: String,
    },
    /// The file exists, but not the interpreter that its first line or its header names.
    #[error("{program}: the interpreter it names does not exist")]
    NoInterpreter {
        /// As it was given.
        program: String,
    },
    /// The file exists, and may not be executed.
    #[error("{program}: permission denied")]
    PermissionDenied {
        /// As it was given.
        program: String,
    },
    /// The file is neither a program for this machine nor a script that names its interpreter.
    #[error("{program}: not an executable format")]
    NotExecutable {
        /// As it was given.
        program: String,
    },
    /// The arguments and the environment together are longer than the kernel allows.
    #[error("{program}: arguments and environment are too long")]
    ArgumentsTooLong {
        /// As it was given.
        program: String,
    },
    /// The program could not be executed for another reason.
    #[error("cannot execute {program}")]
    Execute {
        /// As it was given.
        program: String,
        /// Why.
        source: OsError,
    },
    /// The working directory could not be entered.
    #[error("cannot enter the working directory {path}")]
    WorkingDirectory {
        /// The directory.
        path: String,
        /// Why.
        source: OsError,
    },
    /// A mount failed.
    #[error("cannot mount {what} at {target}")]
    Mount {
        /// The bound path, or the kind of file system.
        what: String,
        /// The mount point, as it was given.
        target: String,
        /// Why.
        source: OsError,
    },
    /// The user could not be changed.
    #[error("cannot become user {uid} and group {gid}")]
    User {
        /// The user.
        uid: u32,
        /// The group.
        gid: u32,
        /// Why.
        source: OsError,
    },
    /// The process whose mount space was to be shared has ended.
    #[error("the process whose files were to be shared has ended")]
    NoSuchProcess,
    /// The request makes no sense.
    #[error("invalid request: {0}")]
    Invalid(String),
    /// The namespace did not take the request.
    #[error(transparent)]
    Sandbox(#[from] SandboxError),
}
