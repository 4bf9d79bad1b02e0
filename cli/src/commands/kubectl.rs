//! `minisvc kubeconfig` and `minisvc kubectl`: the way to the lab for programs that know Kubernetes.

use std::os::unix::process::CommandExt as _;
use std::process::Command;

use crate::args::{KubectlArgs, LabArgs};
use crate::error::CliError;
use crate::home::LabHome;
use crate::output;

/// Prints the path of the lab's kubeconfig, for `export KUBECONFIG=$(minisvc kubeconfig)`.
///
/// # Errors
/// When the lab does not run.
pub(crate) fn kubeconfig(args: &LabArgs) -> Result<(), CliError> {
    let home = LabHome::of(args)?;
    home.require_running()?;
    output::print(&format!("{}\n", home.kubeconfig().display()))
}

/// Becomes kubectl with the lab's kubeconfig set. Returns only if that fails.
///
/// # Errors
/// When the lab does not run or there is no kubectl.
pub(crate) fn kubectl(args: &KubectlArgs) -> Result<(), CliError> {
    let home = LabHome::of(&args.lab)?;
    home.require_running()?;
    let refused = Command::new("kubectl").args(&args.args).env("KUBECONFIG", home.kubeconfig()).exec();
    Err(CliError::environment("cannot run kubectl")
        .because(refused)
        .hint("install kubectl, or use minisvc get, apply, delete and logs"))
}
