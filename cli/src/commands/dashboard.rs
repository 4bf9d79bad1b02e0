//! `dashboard`: the live page of a lab.

use std::process::ExitCode;

use tokio_util::sync::CancellationToken;

use crate::args::DashboardArgs;
use crate::dashboard;
use crate::error::{CliError, Context as _};
use crate::gateway;
use crate::home::LabHome;

/// Serves the page until Ctrl-C.
///
/// # Errors
/// When the lab does not run or the port is taken.
pub(crate) async fn dashboard(args: &DashboardArgs) -> Result<ExitCode, CliError> {
    let home = LabHome::of(&args.lab)?;
    let router = dashboard::router(&home)?;
    let listener = gateway::listen(args.port).await?;
    let address = listener.local_addr().context(|| "the listener has no address".to_owned())?;
    eprintln!("The lab {:?} is shown at http://{address}/ to browsers of this user only. Ctrl-C ends it.", home.name);
    let shutdown = CancellationToken::new();
    tokio::select! {
        served = gateway::serve(listener, router, shutdown.clone()) => served?,
        _ = tokio::signal::ctrl_c() => shutdown.cancel(),
    }
    Ok(ExitCode::SUCCESS)
}
