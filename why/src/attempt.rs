//! What really happened: recent connections, and one connection that was tried.

use crate::Context;
use crate::findings::{Cause, Problem, Report};
use crate::records::Service;

/// Tells where the last connections to a Service went.
pub(crate) fn flows(context: Context<'_>, report: &mut Report, service: &Service) {
    let prefix = format!("{}:", service.metadata.path());
    let of_service = |flow: &&crate::Flow| flow.service.as_ref().is_some_and(|name| name.starts_with(&prefix));
    let number = context.facts.flows.iter().filter(of_service).count();
    if let Some(last) = context.facts.flows.iter().rfind(of_service) {
        let (client, endpoint, state) = (last.client.ip(), last.endpoint, &last.state);
        report.fine(
            "flows",
            format!("{} of late, the last from {client} to {endpoint} ({state})", crate::count(number, "connection")),
        );
    }
}

/// The last check: a connection from the client.
pub(crate) fn check(context: Context<'_>, report: &mut Report) -> Result<(), Problem> {
    let Some(attempt) = &context.facts.seen.attempt else { return Ok(()) };
    let client = context.question.client.label();
    match &attempt.failure {
        None => {
            report.fine("connection", format!("{client} was connected to {}", attempt.target));
            Ok(())
        }
        Some(failure) => {
            let sentence = format!(
                "all that can be checked is right, but a connection from {client} to {} failed: {failure}",
                attempt.target
            );
            Err(Problem::new(Cause::Unexplained, sentence).look(&["minisvc", "flows"]))
        }
    }
}
