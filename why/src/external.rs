//! Services that are only another name.

use std::net::IpAddr;

use serde_json::json;

use crate::findings::{Cause, Checked, Problem, Report};
use crate::near::nearest;
use crate::records::Service;
use crate::{Context, names};

/// Checks what the name stands for.
pub(crate) fn check(context: Context<'_>, report: &mut Report, service: &Service) -> Checked<String> {
    let (path, target) = (service.metadata.path(), service.spec.external_name.as_str());
    if target.parse::<IpAddr>().is_ok() {
        let sentence = format!(
            "Service {path} is an ExternalName for {target}, which is an address and no name, so DNS has nothing to answer: make \
             a Service without selector, and an EndpointSlice with that address"
        );
        return Err(("external name", Problem::new(Cause::ExternalNameIsAddress, sentence)));
    }
    let inside = context.facts.lookup(target);
    match inside {
        Some(lookup) if lookup.addresses.is_empty() => return Err(("external name", unresolved(context, service))),
        Some(lookup) => report.fine("external name", format!("{target} is {}", names::addresses(lookup))),
        None => report.fine("external name", format!("{target} was not looked up")),
    }
    names::of_service(context, report, service).map_err(|problem| ("name", problem))?;
    Ok(format!("Service {path} is another name for {target}: clients connect there themselves, on its ports"))
}

fn unresolved(context: Context<'_>, service: &Service) -> Problem {
    let (facts, target) = (context.facts, service.spec.external_name.as_str());
    let (namespace, name) = (service.metadata.namespace.as_str(), service.metadata.name.as_str());
    let sentence = format!("Service {namespace}/{name} is another name for {target}, and {target} does not resolve");
    let inside = target.trim_end_matches('.').strip_suffix(&format!(".svc.{}", facts.domain));
    let Some((wanted, home)) = inside.and_then(|rest| rest.rsplit_once('.')) else {
        return Problem::new(Cause::ExternalNameUnresolved, sentence).look(&["minisvc", "dns", target]);
    };
    let full = |name: &str, namespace: &str| format!("{name}.{namespace}.svc.{}", facts.domain);
    let others: Vec<String> = facts
        .services
        .iter()
        .filter(|other| other.metadata.key() != service.metadata.key())
        .map(|other| full(&other.metadata.name, &other.metadata.namespace))
        .collect();
    let there = facts.services.iter().filter(|other| other.metadata.namespace == home);
    let same_namespace = nearest(wanted, there.map(|other| other.metadata.name.as_str())).map(|near| full(near, home));
    let same_name = facts
        .services
        .iter()
        .find(|other| other.metadata.name == wanted && other.metadata.key() != service.metadata.key());
    let meant = same_namespace
        .or_else(|| same_name.map(|other| full(wanted, &other.metadata.namespace)))
        .or_else(|| nearest(target, others.iter().map(String::as_str)).map(str::to_owned));
    let Some(meant) = meant else {
        return Problem::new(Cause::ExternalNameUnresolved, sentence).look(&["minisvc", "get", "services", "-A"]);
    };
    Problem::new(Cause::ExternalNameUnresolved, format!("{sentence}; did you mean {meant}?")).merge(
        "service",
        (namespace, name),
        &json!({"spec": {"externalName": meant}}),
    )
}
