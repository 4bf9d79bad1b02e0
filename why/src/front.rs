//! Where a Service can be asked: its addresses, and whether the data plane answers for them.

use std::net::{IpAddr, SocketAddr};

use serde_json::json;

use crate::Context;
use crate::findings::{Cause, Checked, Problem, Report};
use crate::records::Service;
use crate::service::{Asked, Entry};

/// The class that is served here; no class means the same.
const OWN_CLASS: &str = "minisvc.dev/pool";

/// Checks the addresses that the question is about.
pub(crate) fn check(
    context: Context<'_>,
    report: &mut Report,
    service: &Service,
    asked: &[Asked<'_>],
    entry: Entry<'_>,
) -> Checked {
    if service.is_headless() {
        report.fine("address", "none: its name gives the addresses of its pods");
        return Ok(());
    }
    if service.spec.kind == "LoadBalancer" && matches!(entry, Entry::Own) && service.load_balancer_ips().is_empty() {
        return Err(("load balancer", pending(context, service)));
    }
    let at = place(service, asked, entry);
    let Some(frontends) = &context.facts.frontends else {
        report.fine("address", at);
        return Ok(());
    };
    for (_, port) in asked {
        let (address, number) = match entry {
            Entry::Own => (service.cluster_ips().first().copied(), Some(port.port)),
            Entry::Node(_, address) => (Some(address), port.node_port),
            Entry::ClusterIp(address) | Entry::Outside(address) => (Some(address), Some(port.port)),
        };
        let (Some(address), Some(number)) = (address, number) else { continue };
        let wanted = SocketAddr::new(address, number);
        if !frontends.iter().any(|frontend| frontend.at == wanted && frontend.protocol == port.protocol()) {
            return Err(("address", not_in_table(context, service, wanted)));
        }
    }
    report.fine("address", format!("the data plane answers for {at}"));
    Ok(())
}

/// The address and port that a client asks.
pub(crate) fn place(service: &Service, asked: &[Asked<'_>], entry: Entry<'_>) -> String {
    let address = entry.address().or_else(|| service.cluster_ips().first().copied());
    let Some((address, (_, port))) = address.zip(asked.first().copied()) else {
        return format!("the name {}", service.metadata.name);
    };
    let number = if matches!(entry, Entry::Node(..)) { port.node_port.unwrap_or_default() } else { port.port };
    SocketAddr::new(address, number).to_string()
}

fn not_in_table(context: Context<'_>, service: &Service, wanted: SocketAddr) -> Problem {
    let clash = context.facts.clashes.iter().find(|clash| clash.at == wanted);
    let why =
        clash.map_or_else(|| "look again in a moment".to_owned(), |clash| format!("it belongs to {}", clash.holder));
    let sentence = format!("the data plane does not answer for {wanted} of Service {}: {why}", service.metadata.path());
    Problem::new(Cause::NotInTable, sentence).look(&["minisvc", "get", "services", "-A", "-o", "wide"])
}

fn pending(context: Context<'_>, service: &Service) -> Problem {
    let (namespace, name) = (service.metadata.namespace.as_str(), service.metadata.name.as_str());
    let class = service.spec.load_balancer_class.as_str();
    if !class.is_empty() && class != OWN_CLASS {
        let sentence = format!(
            "Service {namespace}/{name} waits for a load balancer of class {class}, which nobody here provides; minisvc gives \
             addresses to Services without a class or of class {OWN_CLASS}"
        );
        // A class cannot be changed while the type stays.
        return Problem::new(Cause::LoadBalancerClass, sentence)
            .merge("service", (namespace, name), &json!({"spec": {"type": "ClusterIP", "loadBalancerClass": null}}))
            .merge("service", (namespace, name), &json!({"spec": {"type": "LoadBalancer"}}));
    }
    let event = context.facts.event("Service", &service.metadata, &["SyncLoadBalancerFailed"]);
    let said = event.map_or_else(|| "look again in a moment".to_owned(), |event| event.message.clone());
    let sentence = format!("Service {namespace}/{name} has no load balancer address: {said}");
    let problem = Problem::new(Cause::LoadBalancerPending, sentence);
    if said.contains("no address is left") {
        return problem.look(&[
            "minisvc",
            "kubectl",
            "get",
            "services",
            "-A",
            "--field-selector",
            "spec.type=LoadBalancer",
        ]);
    }
    problem
}

/// Whether `address` is one of the load balancer's.
pub(crate) fn is_load_balancer(service: &Service, address: IpAddr) -> bool {
    service.load_balancer_ips().contains(&address)
}
