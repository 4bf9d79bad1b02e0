//! The tables of the data plane, row by row.

use std::net::{IpAddr, SocketAddr};
use std::time::Instant;

use jiff::Timestamp;
use minisvc_translator::AffinityRecord;
use serde::Serialize;

use super::Place;
use crate::{Claimant, Netd};

/// An address and port at which a Service is reached.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ServedFrontend {
    /// Address and port.
    pub address: SocketAddr,
    /// TCP, UDP, …
    pub protocol: String,
    /// `ClusterIp`, `NodePort`, `ExternalIp`, `LoadBalancer`, …
    pub kind: String,
    /// `namespace/name:port` of the Service.
    pub service: String,
    /// Where new flows may go, from clients that no policy restricts.
    pub candidates: Vec<SocketAddr>,
    /// How many endpoints there are besides.
    pub others: usize,
}

/// Who has an address.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct RouteView {
    /// The address.
    pub address: IpAddr,
    /// Who has it.
    pub to: Option<Place>,
}

/// Where a client's next new flow to a Service port will go.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct AffinityView {
    /// The client.
    pub client: IpAddr,
    /// What the client is.
    pub from: Option<Place>,
    /// `namespace/name:port` of the Service.
    pub service: String,
    /// TCP, UDP, …
    pub protocol: String,
    /// Where its last new flow went.
    pub endpoint: SocketAddr,
    /// What that is.
    pub to: Option<Place>,
    /// For how long that counts if no other flow comes.
    pub remaining_seconds: u64,
    /// Until when that is.
    pub expires: Timestamp,
}

/// What was claimed and is somebody else's.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ClashView {
    /// What was claimed.
    pub address: SocketAddr,
    /// TCP, UDP, …
    pub protocol: String,
    /// As what: `ExternalIp`, `HostPort`, …
    pub kind: String,
    /// Who claimed it: `service/NAMESPACE/NAME:PORT` or `pod/NAMESPACE/NAME`.
    pub claimant: String,
    /// Whose it is, in words.
    pub holder: String,
}

/// Every address and port at which a Service is reached, in order.
pub fn frontends(netd: &Netd) -> Vec<ServedFrontend> {
    let table = netd.table();
    let mut found: Vec<_> = table.frontends().collect();
    found.sort_by_key(|(frontend, _)| (frontend.addr, frontend.port, frontend.protocol));
    let served = found.into_iter().map(|(frontend, target)| {
        let service = &target.service;
        let candidates = service.endpoints().iter().enumerate().filter(|(at, _)| service.is_candidate(*at));
        let candidates: Vec<_> =
            candidates.map(|(_, endpoint)| SocketAddr::new(endpoint.addr, endpoint.port)).collect();
        ServedFrontend {
            address: SocketAddr::new(frontend.addr, frontend.port),
            protocol: frontend.protocol.to_string(),
            kind: format!("{:?}", target.kind),
            service: service.id().to_string(),
            others: service.endpoints().len() - candidates.len(),
            candidates,
        }
    });
    served.collect()
}

/// Every address that somebody has, in order.
pub fn routes(netd: &Netd) -> Vec<RouteView> {
    let (table, places) = (netd.table(), netd.places());
    let mut routes: Vec<_> = table.routes().collect();
    routes.sort_by_key(|(address, _)| *address);
    routes.into_iter().map(|(address, route)| RouteView { address, to: places.get(route.port).cloned() }).collect()
}

/// Every record of session affinity that still counts, by client and Service. Blocks until the data plane has answered.
pub fn affinities(netd: &Netd) -> Vec<AffinityView> {
    let (clocks, now) = (netd.clocks(), Instant::now());
    let records = netd.look(move |translator, _| translator.affinities(now).collect::<Vec<AffinityRecord>>());
    let mut records = records.unwrap_or_default();
    records.sort_by(|a, b| (a.client, &a.service).cmp(&(b.client, &b.service)));
    let (table, places) = (netd.table(), netd.places());
    let view = |record: AffinityRecord| AffinityView {
        client: record.client,
        from: places.at(&table, record.client).cloned(),
        service: record.service.to_string(),
        protocol: record.service.protocol.to_string(),
        endpoint: record.endpoint,
        to: places.at(&table, record.endpoint.ip()).cloned(),
        remaining_seconds: record.remaining.as_secs(),
        expires: clocks.time(now + record.remaining),
    };
    records.into_iter().map(view).collect()
}

/// What was claimed and is somebody else's.
pub fn clashes(netd: &Netd) -> Vec<ClashView> {
    let view = |clash: crate::Clash| ClashView {
        address: SocketAddr::new(clash.frontend.addr, clash.frontend.port),
        protocol: clash.frontend.protocol.to_string(),
        kind: format!("{:?}", clash.kind),
        claimant: match &clash.claimant {
            Claimant::Service(id) => format!("service/{id}"),
            Claimant::Pod(namespace, name) => format!("pod/{namespace}/{name}"),
        },
        holder: clash.holder.to_string(),
    };
    netd.clashes().into_iter().map(view).collect()
}
