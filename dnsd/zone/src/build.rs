//! From Services and endpoints to a zone: an immutable index, built anew after each change.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::net::IpAddr;

use ipnet::IpNet;

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

/// The cluster domain at one moment.
#[derive(Debug, Clone)]
pub struct Zone {
    pub(crate) config: ZoneConfig,
    pub(crate) serial: u32,
    pub(crate) complete: bool,
    pub(crate) namespaces: HashSet<String>,
    /// By namespace, then by name.
    pub(crate) services: HashMap<String, HashMap<String, IndexedService>>,
    /// Virtual address to its Service's name: it ends a reverse look-up (N-043).
    pub(crate) vips: HashMap<IpAddr, Name>,
    /// Endpoint address to its names.
    pub(crate) hosts: HashMap<IpAddr, Vec<Name>>,
}

/// A Service with its ready endpoints by the label each goes by.
#[derive(Debug, Clone)]
pub(crate) struct IndexedService {
    pub(crate) kind: ServiceKind,
    pub(crate) ports: Vec<PortEntry>,
    pub(crate) endpoints: BTreeMap<String, IndexedEndpoint>,
    /// The addresses of all endpoints, each once.
    pub(crate) addresses: BTreeSet<IpAddr>,
}

/// All addresses that share a label, and their ports.
#[derive(Debug, Clone, Default)]
pub(crate) struct IndexedEndpoint {
    pub(crate) addresses: BTreeSet<IpAddr>,
    pub(crate) ports: BTreeSet<PortEntry>,
}

impl Zone {
    /// Indexes the input. Costs a little for every Service and endpoint; look-ups cost the same however many there are.
    pub fn build(config: ZoneConfig, input: ZoneInput) -> Self {
        let mut services: HashMap<String, HashMap<String, IndexedService>> = HashMap::new();
        let mut vips = HashMap::new();
        for service in input.services {
            if let ServiceKind::ClusterIp(addresses) = &service.kind {
                let name = service_name(&config.domain, &service.namespace, &service.name);
                vips.extend(addresses.iter().map(|&address| (address, name.clone())));
            }
            let indexed = IndexedService {
                kind: service.kind,
                ports: service.ports,
                endpoints: BTreeMap::new(),
                addresses: BTreeSet::new(),
            };
            services.entry(service.namespace).or_default().insert(service.name, indexed);
        }
        let mut hosts: HashMap<IpAddr, Vec<Name>> = HashMap::new();
        for endpoint in input.endpoints {
            let parent = service_name(&config.domain, &endpoint.namespace, &endpoint.service);
            let of_namespace = services.get_mut(&endpoint.namespace);
            let Some(service) = of_namespace.and_then(|services| services.get_mut(&endpoint.service)) else { continue };
            let label = endpoint.hostname.unwrap_or_else(|| dashed(endpoint.address)).to_ascii_lowercase();
            let host = parent.under(&label);
            let known = hosts.entry(endpoint.address).or_default();
            if !known.contains(&host) {
                known.push(host);
            }
            service.addresses.insert(endpoint.address);
            let indexed = service.endpoints.entry(label).or_default();
            indexed.addresses.insert(endpoint.address);
            indexed.ports.extend(endpoint.ports);
        }
        Self {
            config,
            serial: input.changed,
            complete: input.complete,
            namespaces: input.namespaces.into_iter().collect(),
            services,
            vips,
            hosts,
        }
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
