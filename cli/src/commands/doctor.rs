//! `doctor`: what this machine lacks, what was left behind and what is in the way, each with why it matters and the command
//! that mends it.

mod leftovers;
mod routes;

use std::process::ExitCode;

use minisvc_sandbox::Problem;

use crate::args::DoctorArgs;
use crate::error::CliError;
use crate::output;

/// Tries what a lab needs and says what does not work. Exit code 1 if anything is missing; what is only in the way, or left
/// behind, is said but no failure.
///
/// # Errors
/// When standard output cannot be written, or there is no place for labs.
pub(crate) fn doctor(args: &DoctorArgs) -> Result<ExitCode, CliError> {
    let missing = minisvc_sandbox::preflight();
    let mut notes = leftovers::find(args)?;
    notes.extend(routes::find());
    notes.extend(minisvc_sandbox::remarks());
    for problem in missing.iter().chain(&notes) {
        output::print(&format!("{}\n  why:  {}\n  mend: {}\n", problem.what, problem.why, problem.mend))?;
    }
    if !missing.is_empty() {
        return Ok(ExitCode::FAILURE);
    }
    output::print("Everything that a lab needs is there. Next: minisvc demo, or minisvc up\n")?;
    Ok(ExitCode::SUCCESS)
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
