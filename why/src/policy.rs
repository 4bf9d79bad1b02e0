//! Which rules of a Service leave whom out from this client.

use std::net::IpAddr;

use ipnet::IpNet;
use serde_json::{Value, json};

use crate::findings::{Cause, Problem, Report};
use crate::records::{Endpoint, Service};
use crate::service::Entry;
use crate::{Client, Context, front, list};

/// Checks source ranges, local policies and affinity, in this order.
pub(crate) fn check(
    context: Context<'_>,
    report: &mut Report,
    service: &Service,
    entry: Entry<'_>,
) -> Result<(), Problem> {
    source_ranges(context, report, service, entry)?;
    local(context, report, service, entry)?;
    affinity(context, report, service);
    Ok(())
}

fn change(problem: Problem, service: &Service, spec: &Value) -> Problem {
    problem.merge("service", (&service.metadata.namespace, &service.metadata.name), &json!({"spec": spec}))
}

fn source_ranges(
    context: Context<'_>,
    report: &mut Report,
    service: &Service,
    entry: Entry<'_>,
) -> Result<(), Problem> {
    let ranges = &service.spec.load_balancer_source_ranges;
    let Some(client) = client_address(context).filter(|_| !ranges.is_empty()) else { return Ok(()) };
    let allowed = |text: &String| text.trim().parse::<IpNet>().is_ok_and(|range| range.contains(&client));
    if ranges.iter().any(allowed) {
        report.fine("policy", format!("the client {client} is in the source ranges"));
        return Ok(());
    }
    let sentence = format!(
        "the load balancer of Service {} is for {} only (loadBalancerSourceRanges), and {} has {client}",
        service.metadata.path(),
        list(ranges),
        context.question.client.label()
    );
    let mut wanted: Vec<String> = ranges.clone();
    wanted.push(format!("{client}/{}", if client.is_ipv4() { 32 } else { 128 }));
    let problem =
        change(Problem::new(Cause::SourceRange, sentence), service, &json!({"loadBalancerSourceRanges": wanted}));
    match entry {
        Entry::Outside(address) if front::is_load_balancer(service, address) => Err(problem),
        // What comes from a pod goes to the clusterIP, which is for all.
        Entry::Own if !service.load_balancer_ips().is_empty() && context.question.client == Client::Workstation => {
            report.odd("policy", problem);
            Ok(())
        }
        _ => Ok(()),
    }
}

fn client_address(context: Context<'_>) -> Option<IpAddr> {
    let pod = context.question.client.pod(context.facts);
    context.facts.seen.source.or_else(|| pod.and_then(|pod| pod.ips().first().copied()))
}

fn local(context: Context<'_>, report: &mut Report, service: &Service, entry: Entry<'_>) -> Result<(), Problem> {
    let facts = context.facts;
    let usable = |endpoint: &&Endpoint| endpoint.is_ready() || endpoint.is_last_resort();
    let mut nodes: Vec<&str> = facts
        .slices_of(service)
        .flat_map(|slice| &slice.endpoints)
        .filter(usable)
        .map(|endpoint| endpoint.node_name.as_str())
        .collect();
    nodes.sort_unstable();
    nodes.dedup();
    let path = service.metadata.path();
    if let (Some(pod), Entry::Own | Entry::ClusterIp(_)) = (context.question.client.pod(facts), entry)
        && service.spec.internal_traffic_policy == "Local"
    {
        let node = pod.spec.node_name.as_str();
        if !nodes.contains(&node) {
            let sentence = format!(
                "Service {path} has internalTrafficPolicy Local, so pods reach only endpoints on their own node: the client is on \
                 {node}, the endpoints are on {}",
                list(&nodes)
            );
            let problem = Problem::new(Cause::NoLocalEndpoint, sentence);
            return Err(change(problem, service, &json!({"internalTrafficPolicy": "Cluster"})));
        }
        report.fine("policy", format!("internalTrafficPolicy Local: there is an endpoint on {node}"));
    }
    // What comes from a pod is not from outside, whatever address it asks (D-060).
    let from_outside = context.question.client == Client::Workstation;
    if let (Entry::Node(node, _), true) = (entry, from_outside && service.spec.external_traffic_policy == "Local") {
        let name = node.metadata.name.as_str();
        if !nodes.contains(&name) {
            let sentence = format!(
                "Service {path} has externalTrafficPolicy Local, so each node sends only to its own endpoints: {name} was asked, \
                 and the endpoints are on {}",
                list(&nodes)
            );
            let problem = Problem::new(Cause::NoLocalEndpoint, sentence);
            return Err(change(problem, service, &json!({"externalTrafficPolicy": "Cluster"})));
        }
        report.fine("policy", format!("externalTrafficPolicy Local: there is an endpoint on {name}"));
    }
    Ok(())
}

fn affinity(context: Context<'_>, report: &mut Report, service: &Service) {
    let ready = context
        .facts
        .slices_of(service)
        .flat_map(|slice| &slice.endpoints)
        .filter(|endpoint| endpoint.is_ready())
        .count();
    if service.spec.session_affinity != "ClientIP" || ready < 2 {
        return;
    }
    let sentence = format!(
        "Service {} answers, but has sessionAffinity ClientIP: each client always gets the same one of its {ready} endpoints",
        service.metadata.path()
    );
    report.odd("policy", change(Problem::new(Cause::Affinity, sentence), service, &json!({"sessionAffinity": "None"})));
}
