//! What really happened: recent connections, faults that are made on purpose, and one connection that was tried.

use crate::Context;
use crate::facts::Service;
use crate::findings::{Cause, Problem, Report};

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

/// A fault that concerns the Service explains whatever else is seen.
pub(crate) fn faults(context: Context<'_>, service: &Service) -> Result<(), Problem> {
    let concerns =
        |fault: &&crate::ActiveFault| fault.services.is_empty() || fault.services.contains(&service.metadata.key());
    let Some(fault) = context.facts.faults.iter().find(concerns) else { return Ok(()) };
    let sentence =
        format!("fault {} is active and concerns Service {}: {}", fault.name, service.metadata.path(), fault.effect);
    let undo: Vec<&str> = fault.undo.iter().map(String::as_str).collect();
    Err(Problem::new(Cause::FaultActive, sentence).mend(&undo))
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
