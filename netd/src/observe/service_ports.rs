//! Service ports as packets see them: where they are reached, and who answers.

use std::collections::{BTreeMap, HashMap};
use std::net::SocketAddr;
use std::sync::Arc;

use minisvc_translator::{
    Endpoint, FlowRecord, Frontend, FrontendKind, ServicePort, ServicePortId, ServiceTable, TrafficPolicy,
};
use serde::Serialize;

use super::{NameMatch, Place, Places};
use crate::Netd;

/// Which Service ports are wanted.
#[derive(Debug, Clone, Default)]
pub struct ServicePortQuery {
    /// Of this Service; none means of all.
    pub service: Option<NameMatch>,
    /// In this namespace; none means in all.
    pub namespace: Option<String>,
}

/// One port of a Service in one address family, as the data plane has it.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ServicePortView {
    /// Namespace of the Service.
    #[serde(skip)]
    pub namespace: String,
    /// Name of the Service.
    pub service: String,
    /// Name of the port, empty if it has none.
    pub port: String,
    /// TCP, UDP, …
    pub protocol: String,
    /// IPv4 or IPv6.
    pub family: &'static str,
    /// `internalTrafficPolicy`.
    pub internal_policy: &'static str,
    /// `externalTrafficPolicy`.
    pub external_policy: &'static str,
    /// Seconds for which a client keeps its endpoint; none without session affinity.
    pub affinity_seconds: Option<u64>,
    /// Who may use the load balancer addresses; none means everybody.
    pub source_ranges: Vec<String>,
    /// Where it is reached.
    pub frontends: Vec<FrontendView>,
    /// Who answers, ready or not.
    pub endpoints: Vec<EndpointView>,
}

/// An address at which a Service port is reached.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct FrontendView {
    /// `ClusterIp`, `NodePort`, `ExternalIp`, `LoadBalancer`, …
    pub kind: String,
    /// Address and port.
    pub address: SocketAddr,
}

/// One endpoint of a Service port.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct EndpointView {
    /// Address and port.
    pub address: SocketAddr,
    /// Who has the address, if somebody in the lab does.
    pub at: Option<Place>,
    /// The node that its slice names.
    pub node: Option<String>,
    /// That node's zone.
    pub zone: Option<String>,
    /// `conditions.ready`.
    pub ready: bool,
    /// `conditions.serving`.
    pub serving: bool,
    /// `conditions.terminating`.
    pub terminating: bool,
    /// Whether new flows may go to it, from clients that no policy restricts.
    pub candidate: bool,
    /// Nodes and zones whose clients it prefers.
    pub hints: Vec<String>,
    /// Flows to it that are in the table.
    pub flows: u64,
    /// Their packets, from clients and from the endpoint.
    pub packets: (u64, u64),
    /// Their bytes, likewise.
    pub bytes: (u64, u64),
}

/// What the flows to one endpoint come to.
#[derive(Debug, Clone, Copy, Default)]
struct Usage {
    flows: u64,
    packets: (u64, u64),
    bytes: (u64, u64),
}

impl Usage {
    fn add(&mut self, other: &Self) {
        let sum = |a: &mut (u64, u64), b: (u64, u64)| *a = (a.0 + b.0, a.1 + b.1);
        self.flows += other.flows;
        sum(&mut self.packets, other.packets);
        sum(&mut self.bytes, other.bytes);
    }
}

type Usages = HashMap<(Arc<ServicePortId>, SocketAddr), Usage>;

/// The Service ports that a query wants, by name. Blocks until the data plane has answered.
pub fn service_ports(netd: &Netd, query: &ServicePortQuery) -> Vec<ServicePortView> {
    let (table, places) = (netd.table(), netd.places());
    let usages = usages(netd, query.clone());
    views(&table, &places, query, &usages)
}

fn is_wanted(query: &ServicePortQuery, id: &ServicePortId) -> bool {
    query.namespace.as_deref().is_none_or(|namespace| *id.namespace == *namespace)
        && query.service.as_ref().is_none_or(|service| service.fits_service(id))
}

fn usages(netd: &Netd, query: ServicePortQuery) -> Usages {
    let count = move |flows: &mut dyn Iterator<Item = FlowRecord>| {
        let mut found = Usages::new();
        for flow in flows {
            let Some(service) = flow.service.filter(|id| is_wanted(&query, id)) else { continue };
            let one = Usage { flows: 1, packets: flow.packets, bytes: flow.bytes };
            found.entry((service, flow.endpoint)).or_default().add(&one);
        }
        found
    };
    let mut all = Usages::new();
    netd.look_through(count, |some| {
        for (key, usage) in some {
            all.entry(key).or_default().add(&usage);
        }
    });
    all
}

/// A Service port and where it is reached.
type Reached<'t> = (&'t ServicePort, Vec<(&'t Frontend, FrontendKind)>);

fn views(table: &ServiceTable, places: &Places, query: &ServicePortQuery, usages: &Usages) -> Vec<ServicePortView> {
    // All frontends of one Service port and family share it, so its address tells them apart.
    let mut found: HashMap<*const ServicePort, Reached<'_>> = HashMap::new();
    for (frontend, target) in table.frontends().filter(|(_, target)| is_wanted(query, target.service.id())) {
        let entry = found.entry(Arc::as_ptr(&target.service)).or_insert_with(|| (&target.service, Vec::new()));
        entry.1.push((frontend, target.kind));
    }
    let mut views = BTreeMap::new();
    for (service, frontends) in found.into_values() {
        let is_ipv4 = frontends.iter().any(|(frontend, _)| frontend.addr.is_ipv4());
        views.insert((Arc::clone(service.id()), !is_ipv4), view(table, places, service, &frontends, usages));
    }
    views.into_values().collect()
}

fn view(
    table: &ServiceTable,
    places: &Places,
    service: &ServicePort,
    frontends: &[(&Frontend, FrontendKind)],
    usages: &Usages,
) -> ServicePortView {
    let (id, policies) = (service.id(), service.policies());
    let mut frontends: Vec<FrontendView> = frontends
        .iter()
        .map(|(frontend, kind)| FrontendView {
            kind: format!("{kind:?}"),
            address: SocketAddr::new(frontend.addr, frontend.port),
        })
        .collect();
    frontends.sort();
    let family = if frontends.iter().any(|frontend| frontend.address.is_ipv4()) { "IPv4" } else { "IPv6" };
    let endpoints = service.endpoints().iter().enumerate().map(|(at, endpoint)| {
        let address = SocketAddr::new(endpoint.addr, endpoint.port);
        let usage = usages.get(&(Arc::clone(id), address)).copied().unwrap_or_default();
        endpoint_view(table, places, endpoint, service.is_candidate(at), usage)
    });
    ServicePortView {
        namespace: id.namespace.to_string(),
        service: id.service.to_string(),
        port: id.port.to_string(),
        protocol: id.protocol.to_string(),
        family,
        internal_policy: policy(policies.internal),
        external_policy: policy(policies.external),
        affinity_seconds: policies.affinity.map(|timeout| timeout.as_secs()),
        source_ranges: policies.sources.iter().map(ToString::to_string).collect(),
        endpoints: endpoints.collect(),
        frontends,
    }
}

fn endpoint_view(
    table: &ServiceTable,
    places: &Places,
    endpoint: &Endpoint,
    candidate: bool,
    usage: Usage,
) -> EndpointView {
    let node = endpoint.node.and_then(|node| table.node(node));
    let hints = endpoint.hints.as_deref().map(|hints| hints.nodes.iter().chain(&hints.zones));
    EndpointView {
        address: SocketAddr::new(endpoint.addr, endpoint.port),
        at: places.at(table, endpoint.addr).cloned(),
        node: node.map(|node| node.name.to_string()),
        zone: node.and_then(|node| node.zone.as_ref()).map(ToString::to_string),
        ready: endpoint.ready,
        serving: endpoint.serving,
        terminating: endpoint.terminating,
        candidate,
        hints: hints.into_iter().flatten().map(ToString::to_string).collect(),
        flows: usage.flows,
        packets: usage.packets,
        bytes: usage.bytes,
    }
}

fn policy(policy: TrafficPolicy) -> &'static str {
    match policy {
        TrafficPolicy::Cluster => "Cluster",
        TrafficPolicy::Local => "Local",
    }
}
