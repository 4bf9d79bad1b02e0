//! Whether a process listens where the traffic arrives: on this port, for this protocol, on an address that others reach.

use std::net::IpAddr;

use serde_json::json;

use crate::facts::Listener;
use crate::findings::{Cause, Problem, Report};
use crate::records::{Pod, Service};
use crate::service::{Asked, Entry};
use crate::{Context, count, list};

/// Checks every pod whose sockets are known.
pub(crate) fn check(
    context: Context<'_>,
    report: &mut Report,
    service: &Service,
    asked: &[Asked<'_>],
    pods: &[&Pod],
    entry: Entry<'_>,
) -> Result<(), Problem> {
    let facts = context.facts;
    let known: Vec<(&Pod, &Vec<Listener>)> =
        pods.iter().filter_map(|pod| Some((*pod, facts.sockets.get(&pod.metadata.key())?))).collect();
    if known.is_empty() {
        return Ok(());
    }
    for (index, port) in asked {
        let mut problems = Vec::new();
        let mut odd = None;
        for (pod, listeners) in &known {
            match listening(service, (*index, port), pod, listeners, entry) {
                Ok(None) => {}
                Ok(Some(problem)) => odd = odd.or(Some(problem)),
                Err(problem) => problems.push(problem),
            }
        }
        let good = known.len() - problems.len();
        match problems.into_iter().next() {
            Some(problem) if good == 0 => return Err(problem),
            Some(problem) => {
                let sentence = format!("{good} of {} listen: {}", count(known.len(), "pod"), problem.sentence);
                report.odd("sockets", Problem { cause: Cause::PartlyReady, sentence, ..problem });
            }
            None => match odd {
                Some(problem) => report.odd("sockets", problem),
                None => report.fine("sockets", format!("{} listen for {}", count(known.len(), "pod"), port.label())),
            },
        }
    }
    Ok(())
}

/// Whether `pod` listens for a port of the Service; `Some` when it does, but not for all who may ask.
fn listening(
    service: &Service,
    (index, port): Asked<'_>,
    pod: &Pod,
    listeners: &[Listener],
    entry: Entry<'_>,
) -> Result<Option<Problem>, Problem> {
    // A pod without such a name was left out before.
    let Some(number) = port.resolve(pod) else { return Ok(None) };
    let here: Vec<&Listener> = listeners.iter().filter(|l| l.port == number && l.protocol == port.protocol()).collect();
    if here.is_empty() {
        return Err(elsewhere(service, (index, port), pod, (number, listeners)));
    }
    let reachable: Vec<&&Listener> = here.iter().filter(|listener| !listener.address.is_loopback()).collect();
    if reachable.is_empty() {
        return Err(loopback_only(pod, number, here[0].address));
    }
    let serves = |ipv4: bool| reachable.iter().any(|listener| takes(listener.address, ipv4));
    let asked = entry.address().map(|address| address.is_ipv4());
    if let Some(ipv4) = asked {
        return if serves(ipv4) { Ok(None) } else { Err(one_family(service, pod, number, !ipv4)) };
    }
    let families = service.spec.ip_families.iter().map(|family| family == "IPv4");
    let missing: Vec<bool> = families.filter(|&ipv4| !serves(ipv4)).collect();
    match missing.first() {
        None => Ok(None),
        Some(_) if missing.len() == service.spec.ip_families.len() => {
            Err(one_family(service, pod, number, !missing[0]))
        }
        Some(&ipv4) => Ok(Some(one_family(service, pod, number, !ipv4))),
    }
}

/// Whether a socket bound to `address` takes connections of a family. `::` takes both.
fn takes(address: IpAddr, ipv4: bool) -> bool {
    match address {
        IpAddr::V4(_) => ipv4,
        IpAddr::V6(bound) => bound.is_unspecified() || !ipv4,
    }
}

fn loopback_only(pod: &Pod, number: u16, address: IpAddr) -> Problem {
    let sentence = format!(
        "the process in pod {} listens on {address}:{number} only, which nobody outside of the pod reaches: let it listen on \
         0.0.0.0 or ::",
        pod.metadata.path()
    );
    Problem::new(Cause::LoopbackOnly, sentence)
}

fn one_family(service: &Service, pod: &Pod, number: u16, has_ipv4: bool) -> Problem {
    let (has, lacks) = if has_ipv4 { ("IPv4", "IPv6") } else { ("IPv6", "IPv4") };
    let sentence = format!(
        "the process in pod {} listens on port {number} for {has} only, and Service {} has {lacks} too: clients that take that \
         address are refused",
        pod.metadata.path(),
        service.metadata.path()
    );
    let problem = Problem::new(Cause::OneFamilyOnly, sentence);
    // Only the second family can be given up.
    if service.spec.ip_families.first().is_some_and(|first| first == has) && service.spec.ip_families.len() > 1 {
        let key = (service.metadata.namespace.as_str(), service.metadata.name.as_str());
        return problem.merge("service", key, &json!({"spec": {"ipFamilyPolicy": "SingleStack"}}));
    }
    problem
}

/// Nothing listens on the port: what does?
fn elsewhere(
    service: &Service,
    (index, port): Asked<'_>,
    pod: &Pod,
    (number, listeners): (u16, &[Listener]),
) -> Problem {
    let path = pod.metadata.path();
    let key = (service.metadata.namespace.as_str(), service.metadata.name.as_str());
    let replace = |field: &str, value: serde_json::Value| json!([{"op": "replace", "path": format!("/spec/ports/{index}/{field}"), "value": value}]);
    if let Some(other) = listeners.iter().find(|listener| listener.port == number) {
        let sentence = format!(
            "the process in pod {path} listens on {number}/{}, and Service {} sends it {}",
            other.protocol,
            service.metadata.path(),
            port.protocol()
        );
        let patch = replace("protocol", json!(other.protocol));
        return Problem::new(Cause::WrongProtocol, sentence).patch("service", key, &patch);
    }
    let others: Vec<&Listener> = listeners.iter().filter(|listener| !listener.address.is_loopback()).collect();
    let same: Vec<u16> =
        others.iter().filter(|other| other.protocol == port.protocol()).map(|other| other.port).collect();
    let Some(nearest) = same.iter().copied().min_by_key(|other| other.abs_diff(number)) else {
        return nothing(service, pod, number, listeners);
    };
    let mut labels: Vec<String> = others.iter().map(|other| format!("{}/{}", other.port, other.protocol)).collect();
    labels.dedup();
    let sentence = format!(
        "Service {} leads to port {number}, but the process in pod {path} listens on {}",
        service.metadata.path(),
        list(&labels)
    );
    // A name is what stays when the number changes.
    let ports = pod.spec.containers.iter().flat_map(|container| &container.ports);
    let named = ports.into_iter().find(|own| own.container_port == nearest && !own.name.is_empty());
    let value = named.map_or_else(|| json!(nearest), |own| json!(own.name));
    Problem::new(Cause::WrongTargetPort, sentence).patch("service", key, &replace("targetPort", value))
}

fn nothing(service: &Service, pod: &Pod, number: u16, listeners: &[Listener]) -> Problem {
    let also = match listeners.first() {
        Some(other) => format!("; all there is: {}:{}/{}", other.address, other.port, other.protocol),
        None => String::new(),
    };
    let sentence = format!(
        "nothing in pod {} listens on port {number}, to which Service {} leads{also}",
        pod.metadata.path(),
        service.metadata.path()
    );
    Problem::new(Cause::NothingListens, sentence).look(&[
        "minisvc",
        "logs",
        &pod.metadata.name,
        "-n",
        &pod.metadata.namespace,
    ])
}

/// The same for a pod that is asked itself.
pub(crate) fn check_pod(context: Context<'_>, report: &mut Report, pod: &Pod) -> Result<(), Problem> {
    let path = pod.metadata.path();
    let Some(listeners) = context.facts.sockets.get(&pod.metadata.key()) else { return Ok(()) };
    let labels: Vec<String> = listeners.iter().map(|l| format!("{}/{} on {}", l.port, l.protocol, l.address)).collect();
    let Some(number) = context.question.port else {
        if listeners.is_empty() {
            let look = ["minisvc", "logs", &pod.metadata.name, "-n", &pod.metadata.namespace];
            let sentence = format!("no process in pod {path} listens on any port");
            return Err(Problem::new(Cause::NothingListens, sentence).look(&look));
        }
        if let Some(first) = listeners.iter().find(|_| listeners.iter().all(|l| l.address.is_loopback())) {
            return Err(loopback_only(pod, first.port, first.address));
        }
        report.fine("sockets", format!("it listens on {}", list(&labels)));
        return Ok(());
    };
    let protocol = context.question.protocol.unwrap_or("TCP");
    let here: Vec<&Listener> = listeners.iter().filter(|l| l.port == number && l.protocol == protocol).collect();
    let Some(first) = here.first() else {
        let sentence = format!("nothing in pod {path} listens on {number}/{protocol}; it listens on {}", list(&labels));
        return Err(Problem::new(Cause::NothingListens, sentence));
    };
    if here.iter().all(|listener| listener.address.is_loopback()) {
        return Err(loopback_only(pod, number, first.address));
    }
    report.fine("sockets", format!("it listens on {number}/{protocol}"));
    Ok(())
}
