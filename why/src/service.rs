//! The way through a Service, from the object to the listening socket.

use crate::facts::Facts;
use crate::findings::{Cause, Checked, Problem, Report};
use crate::near::nearest;
use crate::records::{Node, Pod, Service, ServicePort};
use crate::{
    Context, attempt, count, external, faults, front, list, names, pods, policy, ports, selector, slices, sockets,
};

/// The label by which a Service leaves its traffic to another data plane.
const PROXY_LABEL: &str = "service.kubernetes.io/service-proxy-name";

/// Where the client comes in.
#[derive(Clone, Copy)]
pub(crate) enum Entry<'a> {
    /// The Service itself was asked about: all its addresses matter.
    Own,
    /// Its clusterIP.
    ClusterIp(std::net::IpAddr),
    /// A load balancer's or external address.
    Outside(std::net::IpAddr),
    /// This node, on a nodePort.
    Node(&'a Node, std::net::IpAddr),
}

impl Entry<'_> {
    /// The address, if one was asked.
    pub(crate) fn address(self) -> Option<std::net::IpAddr> {
        match self {
            Self::Own => None,
            Self::ClusterIp(address) | Self::Outside(address) | Self::Node(_, address) => Some(address),
        }
    }
}

/// The Service, or what was meant.
pub(crate) fn find<'a>(facts: &'a Facts, namespace: &str, name: &str) -> Result<&'a Service, Problem> {
    if let Some(service) = facts.service(namespace, name) {
        return Ok(service);
    }
    require_namespace(facts, namespace, &["why", &format!("svc/{name}")])?;
    let here = || facts.services.iter().filter(|service| service.metadata.namespace == namespace);
    let there: Vec<&str> = facts
        .services
        .iter()
        .filter(|service| service.metadata.name == name)
        .map(|service| service.metadata.namespace.as_str())
        .collect();
    let missing = format!("there is no Service {name} in namespace {namespace}");
    if let Some(near) = nearest(name, here().map(|service| service.metadata.name.as_str())) {
        let sentence = format!("{missing}; did you mean {near}?");
        return Err(Problem::new(Cause::ServiceMissing, sentence).mend(&[
            "minisvc",
            "why",
            &format!("svc/{near}"),
            "-n",
            namespace,
        ]));
    }
    if let [first, ..] = there.as_slice() {
        let sentence = format!("{missing}, but there is one in {}: a Service belongs to one namespace", list(&there));
        return Err(Problem::new(Cause::ServiceMissing, sentence).mend(&[
            "minisvc",
            "why",
            &format!("svc/{name}"),
            "-n",
            first,
        ]));
    }
    let known: Vec<&str> = here().map(|service| service.metadata.name.as_str()).collect();
    let known = if known.is_empty() { "it has none".to_owned() } else { format!("it has {}", list(&known)) };
    Err(Problem::new(Cause::ServiceMissing, format!("{missing}; {known}")).look(&["minisvc", "get", "services", "-A"]))
}

/// Whether the namespace exists; `again` is what to type with the right one.
pub(crate) fn require_namespace(facts: &Facts, namespace: &str, again: &[&str]) -> Result<(), Problem> {
    if facts.namespaces.iter().any(|known| known == namespace) {
        return Ok(());
    }
    let missing = format!("there is no namespace {namespace}");
    let problem = match nearest(namespace, facts.namespaces.iter().map(String::as_str)) {
        Some(near) => Problem::new(Cause::NamespaceMissing, format!("{missing}; did you mean {near}?"))
            .mend(&[&["minisvc"], again, &["-n", near]].concat()),
        None => Problem::new(Cause::NamespaceMissing, format!("{missing}; there are {}", list(&facts.namespaces)))
            .kubectl("", &["create", "namespace", namespace]),
    };
    Err(problem)
}

/// Goes the whole way.
pub(crate) fn check(context: Context<'_>, report: &mut Report, service: &Service, entry: Entry<'_>) -> Checked<String> {
    object(service).map_err(|problem| ("object", problem))?;
    report.fine("object", describe(service));
    if service.is_external_name() {
        return external::check(context, report, service);
    }
    let asked = asked_ports(context, service, entry).map_err(|problem| ("port", problem))?;
    let backends = if service.spec.selector.is_empty() {
        slices::by_hand(context, report, service, &asked).map_err(|problem| ("slices", problem))?
    } else {
        let members = selector::members(context, report, service).map_err(|problem| ("selector", problem))?;
        // What else is seen, probes that fail among it, may come of it.
        faults::check(context, report, service, &members).map_err(|problem| ("faults", problem))?;
        let usable = pods::usable(context, report, service, members).map_err(|problem| ("pods", problem))?;
        ports::check(context, report, service, &asked, &usable).map_err(|problem| ("target port", problem))?;
        sockets::check(context, report, service, &asked, &usable, entry).map_err(|problem| ("sockets", problem))?;
        slices::of_selector(context, report, service, &usable).map_err(|problem| ("slices", problem))?;
        count(usable.len(), "pod")
    };
    front::check(context, report, service, &asked, entry)?;
    policy::check(context, report, service, entry).map_err(|problem| ("policy", problem))?;
    names::of_service(context, report, service).map_err(|problem| ("name", problem))?;
    attempt::flows(context, report, service);
    attempt::check(context, report).map_err(|problem| ("connection", problem))?;
    Ok(format!(
        "Service {} answers: {backends} behind {}",
        service.metadata.path(),
        front::place(service, &asked, entry)
    ))
}

/// What makes a Service have no effect at all.
fn object(service: &Service) -> Result<(), Problem> {
    let (namespace, name) = (service.metadata.namespace.as_str(), service.metadata.name.as_str());
    let path = service.metadata.path();
    if service.metadata.leaves() && !service.metadata.finalizers.is_empty() {
        let holders = list(&service.metadata.finalizers);
        let sentence = format!(
            "Service {path} is being deleted and waits for {holders}: whoever set this finalizer has to remove it first"
        );
        let patch = serde_json::json!({"metadata": {"finalizers": null}});
        return Err(Problem::new(Cause::DeletionStuck, sentence).merge("service", (namespace, name), &patch));
    }
    if let Some(other) = service.metadata.labels.get(PROXY_LABEL) {
        let sentence = format!(
            "Service {path} has the label {PROXY_LABEL}={other}, so the data plane leaves its traffic to {other:?}, which does \
             not run here"
        );
        return Err(Problem::new(Cause::OtherProxy, sentence)
            .kubectl(namespace, &["label", "service", name, &format!("{PROXY_LABEL}-")]));
    }
    Ok(())
}

fn describe(service: &Service) -> String {
    if service.is_external_name() {
        return format!("svc/{} is another name for {}", service.metadata.name, service.spec.external_name);
    }
    let port = |port: &ServicePort| {
        let node = port.node_port.filter(|&number| number != 0).map(|number| format!(" (node port {number})"));
        format!("{} to {}{}", port.label(), port.target(), node.unwrap_or_default())
    };
    let ports: Vec<String> = service.spec.ports.iter().map(port).collect();
    let kind = if service.is_headless() { "headless" } else { &service.spec.kind };
    let at = if service.is_headless() { String::new() } else { format!(" at {}", service.spec.cluster_ips.join(", ")) };
    format!("svc/{} is a {kind} Service{at}, {}", service.metadata.name, list(&ports))
}

/// A port that was asked, with its place in the Service.
pub(crate) type Asked<'a> = (usize, &'a ServicePort);

/// The ports that the question means.
fn asked_ports<'a>(context: Context<'_>, service: &'a Service, entry: Entry<'_>) -> Result<Vec<Asked<'a>>, Problem> {
    let question = context.question;
    let path = service.metadata.path();
    let all: Vec<Asked<'a>> = service.spec.ports.iter().enumerate().collect();
    let Some(number) = question.port else { return Ok(all) };
    let at_node = matches!(entry, Entry::Node(..));
    let own = |port: &ServicePort| if at_node { port.node_port == Some(number) } else { port.port == number };
    let by_number: Vec<Asked<'a>> = all.iter().copied().filter(|(_, port)| own(port)).collect();
    let fits: Vec<Asked<'a>> = by_number
        .iter()
        .copied()
        .filter(|(_, port)| question.protocol.is_none_or(|protocol| protocol == port.protocol()))
        .collect();
    if service.is_headless() {
        return headless_port(context, service, all, number);
    }
    if !fits.is_empty() {
        return Ok(fits);
    }
    let labels: Vec<String> = all.iter().map(|(_, port)| port.label()).collect();
    if let Some((_, port)) = by_number.first() {
        let (asked, has) = (question.protocol.unwrap_or("TCP"), port.protocol());
        return Err(Problem::new(
            Cause::ProtocolAsked,
            format!("Service {path} has port {number} for {has} only, and was asked for {asked}"),
        ));
    }
    let mut sentence = format!("Service {path} has no port {number}; it has {}", list(&labels));
    let members = || context.facts.pods.iter().filter(|pod| service.selects(pod));
    let is_target = |port: &ServicePort| {
        port.target_port.as_u64() == Some(u64::from(number)) || members().any(|pod| port.resolve(pod) == Some(number))
    };
    if let Some((_, port)) = all.iter().find(|(_, port)| is_target(port)) {
        sentence += &format!(": {number} is the port of its pods, at the Service ask {}", port.port);
    } else if let Some((_, port)) = all.iter().find(|(_, port)| port.node_port == Some(number)) {
        sentence += &format!(": {number} is its port at the nodes, at the Service ask {}", port.port);
    }
    let mut problem = Problem::new(Cause::PortMissing, sentence);
    if let [(_, only)] = all.as_slice() {
        problem = problem.mend(&[
            "minisvc",
            "why",
            &format!("svc/{}:{}", service.metadata.name, only.port),
            "-n",
            &service.metadata.namespace,
        ]);
    }
    Err(problem)
}

/// A headless Service is only a name: clients ask the pods' own ports.
fn headless_port<'a>(
    context: Context<'_>,
    service: &'a Service,
    all: Vec<Asked<'a>>,
    number: u16,
) -> Result<Vec<Asked<'a>>, Problem> {
    let members = || context.facts.pods.iter().filter(|pod| service.selects(pod));
    let leads_to = |port: &ServicePort, pod: &Pod| port.resolve(pod) == Some(number);
    let reached: Vec<Asked<'a>> =
        all.iter().copied().filter(|(_, port)| members().any(|pod| leads_to(port, pod))).collect();
    let mapped = all.iter().find(|(_, port)| port.port == number);
    let Some((_, port)) = mapped.filter(|_| reached.is_empty()) else { return Ok(all) };
    let Some(real) = members().find_map(|pod| port.resolve(pod)) else { return Ok(all) };
    let (namespace, name) = (&service.metadata.namespace, &service.metadata.name);
    let sentence = format!(
        "Service {namespace}/{name} is headless: its name gives the pods' own addresses and nothing maps port {number} to \
         {real}, so ask port {real}"
    );
    Err(Problem::new(Cause::HeadlessPort, sentence).mend(&[
        "minisvc",
        "why",
        &format!("svc/{name}:{real}"),
        "-n",
        namespace,
    ]))
}
