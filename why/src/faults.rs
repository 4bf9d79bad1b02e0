//! Faults that are made on purpose: whether one is between the client and the Service explains whatever else is seen.

use crate::Context;
use crate::findings::{Cause, Problem, Report};
use crate::records::{Fault, FaultSide, FaultSpec, Pod, Service};
use crate::{Client, list};

/// The label that says in which zone a node is.
const ZONE: &str = "topology.kubernetes.io/zone";

/// Looks for faults between the client and the pods of a Service. What only slows down is told, and not the end.
pub(crate) fn check(
    context: Context<'_>,
    report: &mut Report,
    service: &Service,
    members: &[&Pod],
) -> Result<(), Problem> {
    for fault in context.facts.faults.iter().filter(|fault| concerns(context, fault, service, members)) {
        let problem = tell(fault, service);
        let spec = &fault.spec;
        if spec.partition || spec.refuse || spec.loss_percent > 0.0 || spec.corrupt_percent > 0.0 {
            return Err(problem);
        }
        report.odd("faults", problem);
    }
    Ok(())
}

/// Whether it is between the client, or the node that probes, and a pod of the Service, in whatever direction: an answer
/// that is lost is as bad as a question that is lost.
fn concerns(context: Context<'_>, fault: &Fault, service: &Service, members: &[&Pod]) -> bool {
    let FaultSpec { from, to, .. } = &fault.spec;
    let target = |side: &FaultSide| members.iter().any(|pod| fits_target(context, side, service, pod));
    let client = |side: &FaultSide| fits_client(context, side, service);
    (client(from) && target(to)) || (client(to) && target(from))
}

fn namespace(side: &FaultSide) -> &str {
    side.namespace.as_deref().unwrap_or("default")
}

fn fits_pod(context: Context<'_>, side: &FaultSide, pod: &Pod) -> bool {
    let facts = context.facts;
    let here = namespace(side) == pod.metadata.namespace;
    let zone = || facts.nodes.iter().find(|node| node.metadata.name == pod.spec.node_name)?.metadata.labels.get(ZONE);
    let labels = |wanted: &std::collections::BTreeMap<String, String>| {
        here && wanted.iter().all(|(key, value)| pod.metadata.labels.get(key) == Some(value))
    };
    !side.workstation
        && !side.outside
        && side.pod.as_ref().is_none_or(|name| here && name == &pod.metadata.name)
        && side.match_labels.as_ref().is_none_or(labels)
        && side.node.as_ref().is_none_or(|node| node == &pod.spec.node_name)
        && side.zone.as_ref().is_none_or(|wanted| zone() == Some(wanted))
}

fn fits_target(context: Context<'_>, side: &FaultSide, service: &Service, pod: &Pod) -> bool {
    let is_service = |name: &String| name == &service.metadata.name && namespace(side) == service.metadata.namespace;
    side.service.as_ref().is_none_or(is_service) && fits_pod(context, side, pod)
}

fn fits_client(context: Context<'_>, side: &FaultSide, service: &Service) -> bool {
    // A client may be an endpoint of a Service as well.
    let serves = |pod: &Pod| {
        side.service.as_ref().is_none_or(|name| {
            context
                .facts
                .service(namespace(side), name)
                .is_some_and(|other| other.metadata.key() != service.metadata.key() && other.selects(pod))
        })
    };
    match (&context.question.client, context.question.client.pod(context.facts)) {
        (Client::Pod(_), Some(pod)) => serves(pod) && fits_pod(context, side, pod),
        (Client::Pod(_), None) => false,
        (Client::Workstation, _) => {
            !side.outside
                && side.pod.is_none()
                && side.match_labels.is_none()
                && side.service.is_none()
                && side.node.is_none()
                && side.zone.is_none()
        }
    }
}

fn tell(fault: &Fault, service: &Service) -> Problem {
    let name = fault.metadata.name.as_str();
    let sentence = format!(
        "fault {name} is made on purpose between the client and Service {}: {}",
        service.metadata.path(),
        list(&effects(&fault.spec))
    );
    Problem::new(Cause::FaultActive, sentence).mend(&["minisvc", "fault", "remove", name])
}

fn effects(spec: &FaultSpec) -> Vec<String> {
    let mut effects = Vec::new();
    if spec.partition {
        effects.push("nothing passes".to_owned());
    }
    if spec.refuse {
        effects.push("new connections are refused".to_owned());
    }
    let shares = [
        (spec.loss_percent, "lost"),
        (spec.corrupt_percent, "damaged"),
        (spec.duplicate_percent, "doubled"),
        (spec.reorder_percent, "out of order"),
    ];
    effects.extend(
        shares
            .iter()
            .filter(|(share, _)| *share > 0.0)
            .map(|(share, what)| format!("{share}% of the packets are {what}")),
    );
    if spec.delay_milliseconds > 0 || spec.jitter_milliseconds > 0 {
        let jitter = match spec.jitter_milliseconds {
            0 => String::new(),
            more => format!(", {more} ms more or less"),
        };
        effects.push(format!("packets come {} ms later{jitter}", spec.delay_milliseconds));
    }
    effects.extend(spec.rate_kilobits_per_second.map(|rate| format!("no more than {rate} kbit/s pass")));
    if effects.is_empty() {
        effects.push("it has no effect".to_owned());
    }
    effects
}
