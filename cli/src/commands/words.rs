//! `completions` and the hidden `man`: what other programs know of this command line, written from the same definition.

use std::path::Path;

use clap::CommandFactory as _;

use crate::args::{Cli, CompletionsArgs};
use crate::error::CliError;
use crate::output;

/// Prints a completion script.
///
/// # Errors
/// When standard output cannot be written.
pub(crate) fn completions(args: &CompletionsArgs) -> Result<(), CliError> {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut Cli::command(), "minisvc", &mut script);
    output::print(&String::from_utf8_lossy(&script))
}

/// Writes `minisvc.1` and a page for each command.
///
/// # Errors
/// When the folder is not there or cannot be written.
pub(crate) fn man(folder: &Path) -> Result<(), CliError> {
    clap_mangen::generate_to(Cli::command(), folder)
        .map_err(|source| CliError::failed(format!("cannot write man pages to {}", folder.display())).because(source))
}
