//! What can go wrong with a lab, said so that the reader of a test's log knows what to do.

use std::process::ExitStatus;
use std::time::Duration;

/// Why a lab or something in it failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// There is no `minisvc` program.
    #[error(
        "there is no minisvc program; tried {}. Build it with `cargo build -p minisvc`, put it on PATH with \
         `cargo install --path cli`, or name it in MINISVC_PROGRAM",
        tried.join(", ")
    )]
    NoProgram {
        /// Every place that was tried.
        tried: Vec<String>,
    },
    /// A folder, pipe or process could not be made.
    #[error("cannot {doing}")]
    Io {
        /// What was being done.
        doing: &'static str,
        /// Why it failed.
        source: std::io::Error,
    },
    /// The lab ended, or said nothing for too long, before it was ready.
    #[error("the lab did not become ready; it said:\n{log}")]
    NotStarted {
        /// The last lines of the lab's own log.
        log: String,
    },
    /// A command did not end with 0.
    #[error("`{command}` failed ({status}): {stderr}")]
    Command {
        /// What was run.
        command: String,
        /// How it ended.
        status: ExitStatus,
        /// What it wrote on standard error.
        stderr: String,
    },
    /// The API refused something.
    #[error("the lab's API refused")]
    Api(#[from] kube::Error),
    /// Something was not as wanted in time.
    #[error("{what} within {} s; last seen: {last}", within.as_secs())]
    Timeout {
        /// What was waited for, as a sentence.
        what: String,
        /// How long.
        within: Duration,
        /// What there was instead.
        last: String,
    },
    /// It is not known when such a thing is ready.
    #[error("{what:?} cannot be waited for; say KIND/NAME with one of {known}")]
    UnknownKind {
        /// What was asked for.
        what: String,
        /// The kinds that can be waited for.
        known: String,
    },
    /// A command's output was not as expected: the program is of another version than this crate.
    #[error("`minisvc {command}` answered {output:?}; are the program and minisvc-testing of one version?")]
    Unexpected {
        /// What was run.
        command: &'static str,
        /// What it printed.
        output: String,
    },
}

impl Error {
    pub(crate) fn io(doing: &'static str) -> impl FnOnce(std::io::Error) -> Self {
        move |source| Self::Io { doing, source }
    }
}
