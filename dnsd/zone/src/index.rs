//! A Service with its endpoints, as questions find them.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use crate::build::{EndpointEntry, PortEntry, ServiceEntry, ServiceKind, dashed};

/// A Service with its ready endpoints by the label each goes by.
#[derive(Debug)]
pub(crate) struct IndexedService {
    pub(crate) kind: ServiceKind,
    pub(crate) ports: Vec<PortEntry>,
    pub(crate) endpoints: BTreeMap<String, IndexedEndpoint>,
    /// The addresses of all endpoints, each once.
    pub(crate) addresses: BTreeSet<IpAddr>,
}

/// All addresses that share a label, and their ports.
#[derive(Debug, Default)]
pub(crate) struct IndexedEndpoint {
    pub(crate) addresses: BTreeSet<IpAddr>,
    pub(crate) ports: BTreeSet<PortEntry>,
}

impl IndexedService {
    pub(crate) fn new<'a>(service: &ServiceEntry, ready: impl Iterator<Item = &'a EndpointEntry>) -> Self {
        let mut endpoints: BTreeMap<String, IndexedEndpoint> = BTreeMap::new();
        let mut addresses = BTreeSet::new();
        for endpoint in ready {
            let label = endpoint.hostname.as_deref().map_or_else(|| dashed(endpoint.address), str::to_ascii_lowercase);
            addresses.insert(endpoint.address);
            let indexed = endpoints.entry(label).or_default();
            indexed.addresses.insert(endpoint.address);
            indexed.ports.extend(endpoint.ports.iter().cloned());
        }
        Self { kind: service.kind.clone(), ports: service.ports.clone(), endpoints, addresses }
    }

    /// The virtual addresses.
    pub(crate) fn vips(&self) -> &[IpAddr] {
        match &self.kind {
            ServiceKind::ClusterIp(addresses) => addresses,
            ServiceKind::Headless | ServiceKind::ExternalName(_) => &[],
        }
    }

    /// Whether an endpoint with this address goes by this label.
    pub(crate) fn has(&self, label: &str, address: IpAddr) -> bool {
        self.endpoints.get(label).is_some_and(|endpoint| endpoint.addresses.contains(&address))
    }

    /// Every label with each of its addresses.
    pub(crate) fn hosts(&self) -> impl Iterator<Item = (&str, IpAddr)> {
        self.endpoints
            .iter()
            .flat_map(|(label, endpoint)| endpoint.addresses.iter().map(move |&address| (label.as_str(), address)))
    }
}
