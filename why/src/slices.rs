//! What is in the slices: those that follow a selector, and those that people write by hand.

use std::net::IpAddr;

use serde_json::json;

use crate::facts::SERVICE_NAME;
use crate::findings::{Cause, Problem, Report};
use crate::near::nearest;
use crate::records::{Endpoint, Pod, Service, Slice};
use crate::service::Asked;
use crate::{Context, count, list, selector};

/// Whether the controller has written what the pods say.
pub(crate) fn of_selector(
    context: Context<'_>,
    report: &mut Report,
    service: &Service,
    pods: &[&Pod],
) -> Result<(), Problem> {
    let slices: Vec<&Slice> = context.facts.slices_of(service).collect();
    let listed: Vec<IpAddr> =
        ready(&slices).flat_map(|endpoint| &endpoint.addresses).filter_map(|ip| ip.parse().ok()).collect();
    let absent = |pod: &&&Pod| !pod.ips().iter().any(|ip| listed.contains(ip));
    if let Some(pod) = pods.iter().find(absent) {
        let sentence = format!(
            "pod {} is ready, but no slice of Service {} has it yet: look again in a moment",
            pod.metadata.path(),
            service.metadata.path()
        );
        return Err(Problem::new(Cause::SlicesBehind, sentence));
    }
    report.fine(
        "slices",
        format!("{} in {}", count(ready(&slices).count(), "ready endpoint"), count(slices.len(), "slice")),
    );
    Ok(())
}

fn ready<'a>(slices: &'a [&'a Slice]) -> impl Iterator<Item = &'a Endpoint> {
    slices.iter().flat_map(|slice| &slice.endpoints).filter(|endpoint| endpoint.is_ready())
}

/// A Service without a selector has the endpoints that somebody wrote. Says what they are.
pub(crate) fn by_hand(
    context: Context<'_>,
    report: &mut Report,
    service: &Service,
    asked: &[Asked<'_>],
) -> Result<String, Problem> {
    let slices: Vec<&Slice> = context.facts.slices_of(service).collect();
    if slices.is_empty() {
        return Err(unlabelled(context, service).unwrap_or_else(|| no_selector(context, service)));
    }
    let path = service.metadata.path();
    for (_, port) in asked {
        let joins = |slice: &&&Slice| {
            slice.ports.iter().any(|other| other.name == port.name && protocol(&other.protocol) == port.protocol())
        };
        if !slices.iter().any(|slice| joins(&slice)) {
            return Err(wrong_name(service, port, slices[0]));
        }
    }
    let number = ready(&slices).count();
    if number == 0 {
        let all: usize = slices.iter().map(|slice| slice.endpoints.len()).sum();
        let what = if all == 0 { "have no endpoint".to_owned() } else { format!("have {all}, but none is ready") };
        let sentence = format!("Service {path} has no selector, and the slices that were written for it {what}");
        return Err(Problem::new(Cause::NotReady, sentence).look(&[
            "minisvc",
            "kubectl",
            "edit",
            "endpointslice",
            &slices[0].metadata.name,
            "-n",
            &service.metadata.namespace,
        ]));
    }
    report.fine("slices", format!("no selector; {} written by hand", count(number, "endpoint")));
    Ok(count(number, "endpoint"))
}

fn protocol(text: &str) -> &str {
    if text.is_empty() { "TCP" } else { text }
}

/// A slice of the namespace that seems to be meant for the Service but does not say so.
fn unlabelled(context: Context<'_>, service: &Service) -> Option<Problem> {
    let facts = context.facts;
    let (namespace, name) = (service.metadata.namespace.as_str(), service.metadata.name.as_str());
    let is_orphan = |slice: &&Slice| {
        let label = slice.metadata.labels.get(SERVICE_NAME);
        slice.metadata.namespace == namespace && label.is_none_or(|label| facts.service(namespace, label).is_none())
    };
    let orphans: Vec<&Slice> = facts.slices.iter().filter(is_orphan).collect();
    let likely = |slice: &&&Slice| {
        let label = slice.metadata.labels.get(SERVICE_NAME).map(String::as_str);
        slice.metadata.name.starts_with(name)
            || nearest(name, label.into_iter().chain([slice.metadata.name.as_str()])).is_some()
    };
    let only = orphans.first().filter(|_| orphans.len() == 1);
    let slice = orphans.iter().find(likely).or(only)?;
    let what = match slice.metadata.labels.get(SERVICE_NAME) {
        Some(label) => format!("has {SERVICE_NAME}={label}, and there is no such Service"),
        None => format!("lacks the label {SERVICE_NAME}"),
    };
    let sentence = format!(
        "Service {namespace}/{name} has no selector and no slice of its own: slice {} {what}",
        slice.metadata.name
    );
    let label = format!("{SERVICE_NAME}={name}");
    Some(
        Problem::new(Cause::SliceUnlabelled, sentence)
            .kubectl(namespace, &["label", "endpointslice", &slice.metadata.name, &label, "--overwrite"]),
    )
}

fn no_selector(context: Context<'_>, service: &Service) -> Problem {
    let (namespace, name) = (service.metadata.namespace.as_str(), service.metadata.name.as_str());
    let here = context.facts.pods.iter().filter(|pod| pod.metadata.namespace == namespace);
    // The usual labels for "this is the program called so".
    let meant = here.flat_map(|pod| &pod.metadata.labels).find(|(key, value)| {
        matches!(key.as_str(), "app" | "app.kubernetes.io/name" | "k8s-app") && value.as_str() == name
    });
    let sentence = format!("Service {namespace}/{name} has no selector, and nobody wrote an EndpointSlice for it");
    let Some((key, value)) = meant else { return Problem::new(Cause::NoSelector, sentence) };
    let selected = selector::text(&[(key.clone(), value.clone())].into());
    let patch = json!({"spec": {"selector": {key: value}}});
    Problem::new(Cause::NoSelector, format!("{sentence}; there are pods with {selected}")).merge(
        "service",
        (namespace, name),
        &patch,
    )
}

fn wrong_name(service: &Service, port: &crate::ServicePort, slice: &Slice) -> Problem {
    let called = |name: &str| if name.is_empty() { "without a name".to_owned() } else { format!("named {name}") };
    let has: Vec<String> =
        slice.ports.iter().map(|port| format!("one {}/{}", called(&port.name), protocol(&port.protocol))).collect();
    let sentence = format!(
        "Service {} has port {} {}, but slice {} has {}: they are joined by name and protocol",
        service.metadata.path(),
        port.label(),
        called(&port.name),
        slice.metadata.name,
        list(&has)
    );
    let problem = Problem::new(Cause::SlicePortName, sentence);
    let meant = slice.ports.iter().position(|other| protocol(&other.protocol) == port.protocol());
    let (index, field, value) = match meant {
        Some(index) => (index, "name", &port.name),
        None if slice.ports.is_empty() => return problem,
        None => (0, "protocol", &port.protocol),
    };
    let patch = json!([{"op": "add", "path": format!("/ports/{index}/{field}"), "value": value}]);
    problem.patch("endpointslice", (&slice.metadata.namespace, &slice.metadata.name), &patch)
}
