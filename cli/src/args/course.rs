//! The course: `lab`.

use clap::{Args, Subcommand};

use super::LabArgs;

#[derive(Debug, Clone, Args)]
pub(crate) struct CourseArgs {
    #[command(subcommand)]
    pub(crate) command: CourseCommand,
}

/// What can be done with a lesson. A lesson is its number, its name, or a part of its name; without it the one that was
/// started last.
#[derive(Debug, Clone, Subcommand)]
pub(crate) enum CourseCommand {
    /// List the lessons and how far you are
    List(LabArgs),
    /// Start a lesson and print its page
    Start {
        #[command(flatten)]
        lab: LabArgs,

        /// Number, name, or a part of the name
        lesson: String,
    },
    /// Print a lesson's page again
    Read {
        #[command(flatten)]
        lab: LabArgs,

        /// Number, name, or a part of the name [default: the lesson that was started last]
        lesson: Option<String>,
    },
    /// Say what is done and what is still wrong
    Check {
        #[command(flatten)]
        lab: LabArgs,

        /// Number, name, or a part of the name [default: the lesson that was started last]
        lesson: Option<String>,
    },
    /// Give the next hint
    Hint {
        #[command(flatten)]
        lab: LabArgs,

        /// Number, name, or a part of the name [default: the lesson that was started last]
        lesson: Option<String>,
    },
    /// Do what the lesson asks for, and show how
    Solve {
        #[command(flatten)]
        lab: LabArgs,

        /// Number, name, or a part of the name [default: the lesson that was started last]
        lesson: Option<String>,
    },
    /// Put a lesson back to its start
    Reset {
        #[command(flatten)]
        lab: LabArgs,

        /// Number, name, or a part of the name [default: the lesson that was started last]
        lesson: Option<String>,
    },
}
