//! `doctor`: what this machine lacks, why it is needed, and the command that gets it.

use std::process::ExitCode;

use minisvc_sandbox::Problem;

use crate::error::CliError;
use crate::output;

/// Tries what a lab needs and says what does not work. Exit code 1 if anything is missing.
///
/// # Errors
/// When standard output cannot be written.
pub(crate) fn doctor() -> Result<ExitCode, CliError> {
    let problems = minisvc_sandbox::preflight();
    if problems.is_empty() {
        output::print("Everything that a lab needs is there. Next: minisvc demo, or minisvc up\n")?;
        return Ok(ExitCode::SUCCESS);
    }
    for problem in &problems {
        output::print(&format!("{}\n  why:  {}\n  mend: {}\n", problem.what, problem.why, problem.mend))?;
    }
    Ok(ExitCode::FAILURE)
}

/// Refuses to go on when the machine lacks something.
///
/// # Errors
/// Names everything that is missing and how to get it.
pub(crate) fn require_machine() -> Result<(), CliError> {
    let problems = minisvc_sandbox::preflight();
    let Some(Problem { what, why, .. }) = problems.first() else { return Ok(()) };
    let error = CliError::environment(format!("{what} ({why})"));
    Err(problems.iter().fold(error, |error, problem| error.hint(&problem.mend)))
}
