//! Whether the target port of a Service is a port of its pods.

use serde_json::json;

use crate::findings::{Cause, Problem, Report};
use crate::near::nearest;
use crate::records::{Pod, Service, ServicePort};
use crate::service::Asked;
use crate::{Context, list};

/// Resolves the target ports for every pod.
pub(crate) fn check(
    context: Context<'_>,
    report: &mut Report,
    service: &Service,
    asked: &[Asked<'_>],
    pods: &[&Pod],
) -> Result<(), Problem> {
    let mut found = Vec::new();
    for (index, port) in asked {
        let numbers: Vec<u16> = pods.iter().filter_map(|pod| port.resolve(pod)).collect();
        let Some(first) = numbers.first() else { return Err(unnamed(context, service, *index, port, pods)) };
        found.push(match port.target_name() {
            Some(name) => format!("{name} is {first}"),
            None => format!("{} leads to {first}", port.label()),
        });
    }
    report.fine("target port", list(&found));
    Ok(())
}

fn unnamed(context: Context<'_>, service: &Service, index: usize, port: &ServicePort, pods: &[&Pod]) -> Problem {
    let name = port.target();
    let key = (service.metadata.namespace.as_str(), service.metadata.name.as_str());
    let containers = || pods.iter().flat_map(|pod| &pod.spec.containers).flat_map(|container| &container.ports);
    let named: Vec<&str> = containers()
        .filter(|other| other.protocol() == port.protocol() && !other.name.is_empty())
        .map(|other| other.name.as_str())
        .collect();
    let mut sentence = format!(
        "Service {} leads to the port named {name}, and no container of its pods has one",
        service.metadata.path()
    );
    let replace = |value: serde_json::Value| json!([{"op": "replace", "path": format!("/spec/ports/{index}/targetPort"), "value": value}]);
    let other_protocol = containers().find(|other| other.name == name);
    if let Some(other) = other_protocol {
        sentence += &format!(" for {}: theirs is for {}", port.protocol(), other.protocol());
        let patch =
            json!([{"op": "replace", "path": format!("/spec/ports/{index}/protocol"), "value": other.protocol()}]);
        return Problem::new(Cause::PortNameMissing, sentence).patch("service", key, &patch);
    }
    // One name only: there is nothing else that could be meant.
    let only = named.first().copied().filter(|first| named.iter().all(|other| other == first));
    if let Some(meant) = nearest(&name, named.iter().copied()).or(only) {
        sentence += &format!("; they have {meant}");
        return Problem::new(Cause::PortNameMissing, sentence).patch("service", key, &replace(json!(meant)));
    }
    let listening = pods.iter().find_map(|pod| {
        let listeners = context.facts.sockets.get(&pod.metadata.key())?;
        listeners.iter().find(|l| l.protocol == port.protocol() && !l.address.is_loopback()).map(|l| l.port)
    });
    if named.is_empty() {
        sentence += ": they name no ports";
    } else {
        sentence += &format!("; they have {}", list(&named));
    }
    let problem = Problem::new(Cause::PortNameMissing, sentence);
    match listening {
        Some(number) => problem.patch("service", key, &replace(json!(number))),
        None => problem,
    }
}
