//! `top`: the lab in a terminal, live.

use crate::args::LabArgs;
use crate::error::CliError;
use crate::home::LabHome;
use crate::top;

/// Shows the lab until the user quits.
///
/// # Errors
/// When the lab does not run, or this is no terminal.
pub(crate) async fn top(args: &LabArgs) -> Result<(), CliError> {
    top::top(&LabHome::of(args)?).await
}
