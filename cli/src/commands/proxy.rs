//! `proxy`: the lab's API over plain HTTP on loopback, for this user's programs.

use std::process::ExitCode;

use tokio_util::sync::CancellationToken;

use crate::args::ProxyArgs;
use crate::error::{CliError, Context as _};
use crate::gateway;
use crate::home::LabHome;

/// Serves until Ctrl-C.
///
/// # Errors
/// When the lab does not run or the port is taken.
pub(crate) async fn proxy(args: &ProxyArgs) -> Result<ExitCode, CliError> {
    let home = LabHome::of(&args.lab)?;
    home.require_running()?;
    let listener = gateway::listen(args.port).await?;
    let address = listener.local_addr().context(|| "the listener has no address".to_owned())?;
    eprintln!("Serving the lab {:?} at http://{address}, to programs of this user only. Ctrl-C ends it.", home.name);
    eprintln!("Try: curl http://{address}/api/v1/services");
    let shutdown = CancellationToken::new();
    tokio::select! {
        served = gateway::serve(listener, gateway::api(&home), shutdown.clone()) => served?,
        _ = tokio::signal::ctrl_c() => shutdown.cancel(),
    }
    Ok(ExitCode::SUCCESS)
}
