//! The words between a pod's state machine and its worker: what happened, what to do.

use std::net::IpAddr;
use std::time::Duration;

use super::container::Waiting;
use crate::probe::ProbeKind;

/// One run of one container; an answer that belongs to an older run is ignored.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Instance {
    /// Position in [`Plan::containers`](super::plan::Plan).
    pub(crate) container: usize,
    /// Restart count of the run.
    pub(crate) attempt: u32,
}

/// Which hook.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Hook {
    /// After the start.
    PostStart,
    /// Before the stop.
    PreStop,
}

/// Why a container could not be started.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum StartFailure {
    /// Something it needs is missing and may appear: waiting reason and message.
    Refused(Waiting),
    /// The program could not be executed.
    Failed(String),
}

/// What happened.
#[derive(Clone, Debug)]
pub(crate) enum Event {
    /// Time passed.
    Tick,
    /// Namespace, address and volumes are there.
    SandboxReady(Vec<IpAddr>),
    /// They are not: event reason and message.
    SandboxFailed(&'static str, String),
    /// Somebody killed the namespace.
    SandboxLost,
    /// The namespace and every process in it are gone.
    SandboxGone,
    /// The process runs.
    Started(Instance),
    /// It does not.
    StartFailed(Instance, StartFailure),
    /// The process is gone, but not all of its output has been read: `Exited` follows.
    Leaving(Instance),
    /// The process ended, and its log is complete.
    Exited(Instance, Exit),
    /// A hook returned; the error is for the user.
    HookReturned(Instance, Hook, Result<(), String>),
    /// A probe answered; the message says why it failed.
    Probed(Instance, ProbeKind, Result<(), String>),
    /// The API asks for the pod's end within this grace.
    Delete(Duration),
    /// The object is gone from the API.
    Removed,
    /// Somebody else declared the pod finished, as an eviction does.
    Declared,
    /// podd goes down: stop, but leave the object as it is.
    Shutdown(Duration),
}

/// How a process ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Exit {
    /// Exit code.
    Code(i32),
    /// Killed by a signal.
    Signal(i32),
    /// In either way, after the container had no memory left and the kernel had killed a process of it.
    OutOfMemory {
        /// Exit code, or 128 + the signal.
        code: i32,
        /// The signal that ended it.
        signal: Option<i32>,
    },
}

/// What to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Action {
    /// Make namespace, address, volumes; answer `SandboxReady` or `SandboxFailed`.
    MakeSandbox,
    /// Kill what is left in the namespace and remove it; answer `SandboxGone`.
    RemoveSandbox,
    /// Start this instance; answer `Started` or `StartFailed`, later `Exited`.
    Start(Instance),
    /// Send the stop signal to its main process.
    Terminate(Instance),
    /// Kill everything it started.
    Kill(Instance),
    /// Run a hook within a time limit; answer `HookReturned`.
    RunHook(Instance, Hook),
    /// Probe it within the timeout; answer `Probed`.
    Probe(Instance, ProbeKind, Duration),
    /// Tell the user.
    Notify(Notice),
    /// Write the final status, then delete the object with grace 0.
    DeleteObject,
    /// Nothing is left to do for this pod.
    Finish,
}

/// An event for the user (P-042).
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Notice {
    /// `Warning` instead of `Normal`.
    pub(crate) warning: bool,
    /// CamelCase.
    pub(crate) reason: &'static str,
    /// A sentence.
    pub(crate) message: String,
    /// Position in [`Plan::containers`](super::plan::Plan), if it is about one.
    pub(crate) container: Option<usize>,
}
