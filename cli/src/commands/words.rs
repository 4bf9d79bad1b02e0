//! `completions` and the hidden `man`: what other programs know of this command line, written from the same definition.

use std::path::Path;

use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::{CommandFactory as _, Parser as _};

use crate::args::{Cli, CompletionsArgs};
use crate::error::CliError;
use crate::output;
use crate::suggest;

/// Reads the command line; says what is wrong with it and exits with 2, as clap does, but sees through more slips.
pub(crate) fn parse() -> Cli {
    Cli::try_parse().unwrap_or_else(|mut error| {
        if error.kind() == ErrorKind::InvalidSubcommand && error.get(ContextKind::SuggestedSubcommand).is_none() {
            let definition = Cli::command();
            let known = definition.get_subcommands().filter(|command| !command.is_hide_set());
            let typed = error.get(ContextKind::InvalidSubcommand).and_then(|typed| match typed {
                ContextValue::String(typed) => suggest::closest(typed, known.map(clap::Command::get_name)),
                _ => None,
            });
            if let Some(close) = typed.map(str::to_owned) {
                error.insert(ContextKind::SuggestedSubcommand, ContextValue::Strings(vec![close]));
            }
        }
        error.exit()
    })
}

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
