//! `flows`: what the data plane is translating, and which endpoint each connection was given.

use crate::args::FlowsArgs;
use crate::commands::table;
use crate::error::CliError;

/// Shows the flows of a lab, the oldest first.
///
/// # Errors
/// When the lab does not run, or does not understand a filter.
pub(crate) async fn flows(args: &FlowsArgs) -> Result<(), CliError> {
    let hint = "No flows. Make one: minisvc exec -- curl -s http://SERVICE";
    table::show(&args.lab, "flows", "flow", &query(args), args.output, hint).await
}

fn query(args: &FlowsArgs) -> Vec<(&'static str, String)> {
    let mut query: Vec<(&str, String)> = args.clients.iter().map(|client| ("client", client.clone())).collect();
    query.extend(args.service.iter().map(|name| ("service", name.clone())));
    query.extend(args.pod.iter().map(|name| ("pod", name.clone())));
    query.extend(args.node.iter().map(|name| ("node", name.clone())));
    query.extend(args.port.iter().map(|port| ("port", port.to_string())));
    query.push(("limit", args.limit.to_string()));
    query
}
