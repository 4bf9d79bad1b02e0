//! Whose an address is.

use std::net::{IpAddr, SocketAddr};

use crate::facts::Facts;
use crate::findings::{Cause, Checked, Problem, Report};
use crate::records::{Node, Pod, Service};
use crate::service::{self, Entry};
use crate::{Context, Question, attempt, list, pods};

/// Finds out whose `address` is, and goes the whole way from there.
pub(crate) fn check(context: Context<'_>, report: &mut Report, address: IpAddr) -> Checked<String> {
    let facts = context.facts;
    match owner(facts, address, context.question.port, context.question.protocol) {
        Some(Owner::Service(service, entry)) => {
            // A nodePort is no better than its node.
            if let Entry::Node(node, _) = entry
                && let Some(problem) = node_down(facts, node, address)
            {
                return Err(("address", problem));
            }
            report.fine("address", format!("{address} is Service {}'s", service.metadata.path()));
            service::check(context, report, service, entry)
        }
        Some(Owner::Pod(pod)) => {
            report.fine("address", format!("{address} is pod {}'s", pod.metadata.path()));
            pods::check(context, report, pod)
        }
        Some(Owner::HostPort(pod, number)) => {
            report.fine("address", format!("{address} is a node's, and the port is pod {}'s", pod.metadata.path()));
            // The process knows only its own port.
            let question = Question { port: Some(number), ..context.question.clone() };
            pods::check(Context { facts, question: &question }, report, pod)
        }
        Some(Owner::Node(node)) => Err(("node port", no_node_port(context, node, address))),
        None => match facts.places.get(&address) {
            Some(place) => {
                report.fine("address", format!("{address} is {place}"));
                attempt::check(context, report).map_err(|problem| ("connection", problem))?;
                Ok(format!("{address} is {place}"))
            }
            None => Err(("address", unknown(facts, address))),
        },
    }
}

/// Whose an address is.
pub(crate) enum Owner<'a> {
    Service(&'a Service, Entry<'a>),
    Pod(&'a Pod),
    /// A node's, on a port that leads to this port of a pod.
    HostPort(&'a Pod, u16),
    /// A node's, but not on a port that leads anywhere.
    Node(&'a Node),
}

/// Whose an address is on this port.
pub(crate) fn owner<'a>(
    facts: &'a Facts,
    address: IpAddr,
    port: Option<u16>,
    protocol: Option<&str>,
) -> Option<Owner<'a>> {
    if let Some(service) = facts.services.iter().find(|service| service.addresses().any(|own| own == address)) {
        let outside = service.outside_addresses().contains(&address);
        let entry = if outside { Entry::Outside(address) } else { Entry::ClusterIp(address) };
        return Some(Owner::Service(service, entry));
    }
    let Some(node) = facts.nodes.iter().find(|node| node.has(address)) else {
        let has = |pod: &&Pod| !pod.spec.host_network && !pod.has_ended() && pod.ips().contains(&address);
        return facts.pods.iter().find(has).map(Owner::Pod);
    };
    let leads = |service: &&Service| {
        service.spec.ports.iter().any(|own| {
            port.is_some() && own.node_port == port && protocol.is_none_or(|protocol| protocol == own.protocol())
        })
    };
    if let Some(service) = facts.services.iter().find(leads) {
        return Some(Owner::Service(service, Entry::Node(node, address)));
    }
    let there = |pod: &&Pod| pod.spec.node_name == node.metadata.name && !pod.has_ended();
    let host_port = facts.pods.iter().filter(there).find_map(|pod| {
        let mut ports = pod.spec.containers.iter().flat_map(|container| &container.ports);
        let own = ports.find(|own| port.is_some() && own.host_port == port && !pod.spec.host_network)?;
        Some(Owner::HostPort(pod, own.container_port))
    });
    if host_port.is_some() {
        return host_port;
    }
    let listens = |pod: &&Pod| {
        pod.spec.host_network
            && pod.spec.node_name == node.metadata.name
            && !pod.has_ended()
            && facts.sockets.get(&pod.metadata.key()).is_some_and(|all| all.iter().any(|l| Some(l.port) == port))
    };
    Some(facts.pods.iter().find(listens).map_or(Owner::Node(node), Owner::Pod))
}

/// A node was asked on a port that is nobody's.
fn no_node_port(context: Context<'_>, node: &Node, address: IpAddr) -> Problem {
    let facts = context.facts;
    let name = &node.metadata.name;
    if let Some(problem) = node_down(facts, node, address) {
        return problem;
    }
    let all: Vec<(&Service, u16, u16)> = facts
        .services
        .iter()
        .flat_map(|service| service.spec.ports.iter().map(move |port| (service, port)))
        .filter_map(|(service, port)| Some((service, port.port, port.node_port.filter(|&number| number != 0)?)))
        .collect();
    let labels: Vec<String> =
        all.iter().map(|(service, _, number)| format!("{number} ({})", service.metadata.path())).collect();
    let Some(asked) = context.question.port else {
        let sentence = format!("{address} is node {name}'s; its node ports: {}", list(&labels));
        return Problem::new(Cause::NodePortWrong, sentence);
    };
    // Who asks 80 means the Service with port 80; who asks 30081 mistyped 30080.
    let by_service_port = all.iter().find(|(_, port, _)| *port == asked);
    let by_nearness = || {
        let digits = |number: u16| strsim::damerau_levenshtein(&number.to_string(), &asked.to_string());
        all.iter()
            .filter(|(_, _, number)| digits(*number) <= 2)
            .min_by_key(|(_, _, number)| (digits(*number), number.abs_diff(asked)))
    };
    let sentence = format!("nothing on node {name} answers on port {asked}: no Service has that nodePort");
    match by_service_port.or_else(by_nearness) {
        Some((service, port, number)) => {
            let sentence = format!(
                "{sentence}; Service {} has {number} at the nodes, for its port {port}",
                service.metadata.path()
            );
            let right = SocketAddr::new(address, *number).to_string();
            Problem::new(Cause::NodePortWrong, sentence).mend(&["minisvc", "why", &right])
        }
        None => Problem::new(Cause::NodePortWrong, format!("{sentence}; there are {}", list(&labels))),
    }
}

fn node_down(facts: &Facts, node: &Node, address: IpAddr) -> Option<Problem> {
    let mut problem = pods::node_problem(facts, &node.metadata.name, Some(node))?;
    problem.sentence = format!("{address} belongs to {}", problem.sentence);
    Some(problem)
}

fn unknown(facts: &Facts, address: IpAddr) -> Problem {
    let of_pods = facts.nodes.iter().find(|node| node.spec.pod_cidrs.iter().any(|range| range.contains(&address)));
    if let Some(node) = of_pods {
        let sentence = format!(
            "no pod has {address} now: it is an address for pods of {}, and a pod that is made anew gets another; ask a Service, \
             whose address stays",
            node.metadata.name
        );
        return Problem::new(Cause::AddressUnknown, sentence).look(&["minisvc", "get", "pods", "-A", "-o", "wide"]);
    }
    let of_services = facts.service_cidrs.iter().any(|range| range.contains(&address));
    let sentence = if of_services {
        format!(
            "{address} is in the range of Services, but no Service has it: it was deleted, or made anew with another address"
        )
    } else {
        format!("nobody in the lab has {address}")
    };
    Problem::new(Cause::AddressUnknown, sentence).look(&["minisvc", "get", "services", "-A"])
}
