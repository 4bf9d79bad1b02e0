//! From Services and endpoints to a zone: an immutable index.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;

use ipnet::IpNet;
use minisvc_snapmap::SnapMap;

use crate::builder::{Key, ZoneBuilder};
use crate::index::IndexedService;
use crate::name::Name;

/// What does not change while the server runs.
#[derive(Debug, Clone)]
pub struct ZoneConfig {
    /// The cluster domain.
    pub domain: Name,
    /// How long records may be remembered, in seconds, 0 to 3600 (N-009).
    pub ttl: u32,
    /// Ranges whose reverse names are ours.
    pub reverse: Vec<IpNet>,
    /// The server's own addresses, for glue.
    pub servers: Vec<IpAddr>,
    /// Names outside the cluster domain that are answered here nevertheless, such as that of the machine.
    pub hosts: Vec<(Name, Vec<IpAddr>)>,
    /// Whether a reverse name of ours that nothing here has is the upstream's (N-004). Not so where the upstream
    /// asks us about these ranges.
    pub reverse_falls_through: bool,
}

/// A port of a Service or of an endpoint.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct PortEntry {
    /// Its name, empty if it has none.
    pub name: String,
    /// `tcp`, `udp` or `sctp`.
    pub protocol: String,
    /// Its number.
    pub port: u16,
}

/// How a Service is reached.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ServiceKind {
    /// By virtual addresses.
    ClusterIp(Vec<IpAddr>),
    /// By the addresses of its endpoints.
    Headless,
    /// By another name.
    ExternalName(String),
}

/// A Service as DNS sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServiceEntry {
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// How it is reached.
    pub kind: ServiceKind,
    /// Its ports.
    pub ports: Vec<PortEntry>,
}

/// A ready endpoint of a Service.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EndpointEntry {
    /// Namespace of the Service.
    pub namespace: String,
    /// Name of the Service.
    pub service: String,
    /// Its address.
    pub address: IpAddr,
    /// Its host name, if it has one.
    pub hostname: Option<String>,
    /// The ports of its slice.
    pub ports: Vec<PortEntry>,
}

/// Everything a zone is made of.
#[derive(Debug, Clone, Default)]
pub struct ZoneInput {
    /// Names of the namespaces.
    pub namespaces: BTreeSet<String>,
    /// All Services.
    pub services: Vec<ServiceEntry>,
    /// All ready endpoints.
    pub endpoints: Vec<EndpointEntry>,
    /// Unix time of the last change, in seconds (N-011).
    pub changed: u32,
    /// Whether the API has been read completely. Until then an unknown name may exist all the same (N-006).
    pub complete: bool,
}

/// The cluster domain at one moment. Cheap to copy: what stays is shared with the next.
#[derive(Debug, Clone)]
pub struct Zone {
    pub(crate) config: Arc<ZoneConfig>,
    pub(crate) serial: u32,
    pub(crate) complete: bool,
    pub(crate) namespaces: SnapMap<Box<str>, ()>,
    /// By namespace, then by name.
    pub(crate) services: SnapMap<Box<str>, SnapMap<Box<str>, Arc<IndexedService>>>,
    /// Virtual address to its Service's name: it ends a reverse look-up (N-043). Should there be two, the last counts.
    pub(crate) vips: SnapMap<IpAddr, Arc<[Name]>>,
    /// Endpoint address to its names.
    pub(crate) hosts: SnapMap<IpAddr, Arc<[Name]>>,
}

impl Zone {
    /// The zone of an input that does not change.
    pub fn build(config: ZoneConfig, input: ZoneInput) -> Self {
        let mut builder = ZoneBuilder::new(config);
        input.namespaces.iter().for_each(|name| builder.put_namespace(name));
        input.services.into_iter().for_each(|service| builder.put_service(service));
        let mut slices: BTreeMap<Key, Vec<EndpointEntry>> = BTreeMap::new();
        for endpoint in input.endpoints {
            let service = (endpoint.namespace.clone(), endpoint.service.clone());
            slices.entry(service).or_default().push(endpoint);
        }
        slices.into_iter().for_each(|(service, endpoints)| builder.put_slice(service, endpoints));
        builder.zone(input.changed, input.complete)
    }
}

/// `<service>.<namespace>.svc.<domain>`
pub(crate) fn service_name(domain: &Name, namespace: &str, service: &str) -> Name {
    domain.under(&format!("{service}.{namespace}.svc"))
}

/// The label of an endpoint without a host name: its address with dashes (N-037).
pub(crate) fn dashed(address: IpAddr) -> String {
    match address {
        IpAddr::V4(address) => address.to_string().replace('.', "-"),
        IpAddr::V6(address) => address.to_string().replace(':', "-"),
    }
}
