//! Flows, with the names of who takes part.

use std::collections::HashSet;
use std::net::{IpAddr, SocketAddr};
use std::str::FromStr;

use jiff::Timestamp;
use minisvc_translator::{FlowRecord, FlowState, PortId, ServicePortId};
use serde::Serialize;

use super::{Clocks, Place, PlaceKind, Places};
use crate::Netd;

/// Which flows are wanted: those that fit everything that is said. Of what is said several times one must fit.
#[derive(Debug, Clone)]
pub struct FlowQuery {
    /// Of one of these clients; none means of all.
    pub clients: Vec<AddressMatch>,
    /// To this Service.
    pub service: Option<NameMatch>,
    /// From or to this pod.
    pub pod: Option<NameMatch>,
    /// From or to this node or one of its pods.
    pub node: Option<String>,
    /// To this port, at the Service or the endpoint.
    pub port: Option<u16>,
    /// The newest of them, at most so many current ones and as many severed ones.
    pub limit: usize,
}

/// An address, or an address with a port.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AddressMatch {
    /// Any port of it.
    Address(IpAddr),
    /// This one.
    Socket(SocketAddr),
}

impl AddressMatch {
    fn fits(self, other: SocketAddr) -> bool {
        match self {
            Self::Address(address) => other.ip() == address,
            Self::Socket(socket) => other == socket,
        }
    }
}

impl FromStr for AddressMatch {
    type Err = std::net::AddrParseError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        text.parse().map(Self::Socket).or_else(|_| text.parse().map(Self::Address))
    }
}

/// The name of a namespaced object, in one namespace or in any.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NameMatch {
    /// The namespace; none means any.
    pub namespace: Option<String>,
    /// The name.
    pub name: String,
}

impl NameMatch {
    /// `namespace/name`, or `name` in any namespace.
    #[must_use]
    pub fn parse(text: &str) -> Self {
        match text.split_once('/') {
            Some((namespace, name)) => Self { namespace: Some(namespace.to_owned()), name: name.to_owned() },
            None => Self { namespace: None, name: text.to_owned() },
        }
    }

    /// Whether this is its name.
    #[must_use]
    pub fn fits(&self, namespace: &str, name: &str) -> bool {
        self.name == name && self.namespace.as_ref().is_none_or(|own| own == namespace)
    }

    pub(crate) fn fits_service(&self, service: &ServicePortId) -> bool {
        self.fits(&service.namespace, &service.service)
    }

    pub(crate) fn fits_pod(&self, place: &Place) -> bool {
        let (namespace, name) = place.name.split_once('/').unwrap_or(("", &place.name));
        place.kind == PlaceKind::Pod && self.fits(namespace, name)
    }
}

/// A flow, as people are shown it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct FlowView {
    /// TCP or UDP.
    pub protocol: String,
    /// Who began it.
    pub client: SocketAddr,
    /// What the client is.
    pub from: Option<Place>,
    /// Where the client sends to.
    pub destination: SocketAddr,
    /// Where that ends up.
    pub endpoint: SocketAddr,
    /// What that is.
    pub to: Option<Place>,
    /// `namespace/name:port` of the Service, if the destination is one's.
    pub service: Option<String>,
    /// The client as the endpoint sees it.
    pub source: SocketAddr,
    /// The translator's state, or `Severed` of one that was broken when one end left the network.
    pub state: String,
    /// When the first packet came.
    pub created: Timestamp,
    /// When it ends if nothing more comes; not of severed ones.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub expires: Option<Timestamp>,
    /// From the client and from the endpoint.
    pub packets: (u64, u64),
    /// The same with IP headers.
    pub bytes: (u64, u64),
}

impl FlowView {
    fn of(flow: &FlowRecord, severed: bool, places: &Places, clocks: Clocks) -> Self {
        Self {
            protocol: flow.original.protocol.to_string(),
            client: flow.original.source(),
            from: places.get(flow.ports.0).cloned(),
            destination: flow.original.destination(),
            endpoint: flow.endpoint,
            to: places.get(flow.ports.1).cloned(),
            service: flow.service.as_ref().map(ToString::to_string),
            source: flow.reply.destination(),
            state: match flow.state {
                // Both sides had closed it before, which is why it ended.
                FlowState::TimeWait => "TimeWait".to_owned(),
                _ if severed => "Severed".to_owned(),
                state => format!("{state:?}"),
            },
            created: clocks.time(flow.created),
            expires: (!severed).then(|| clocks.time(flow.expires)),
            packets: flow.packets,
            bytes: flow.bytes,
        }
    }
}

/// The flows that a query wants: the current ones and then the severed ones, each the oldest first. Blocks until the data
/// plane has answered.
pub fn flows(netd: &Netd, query: &FlowQuery) -> Vec<FlowView> {
    let places = netd.places();
    let limit = query.limit;
    let flows = netd.flows(limit, filter(query, &places));
    let clocks = netd.clocks();
    let current = flows.current.iter().map(|flow| FlowView::of(flow, false, &places, clocks));
    current.chain(flows.severed.iter().map(|flow| FlowView::of(flow, true, &places, clocks))).collect()
}

/// Names become numbers first: the filter runs where packets wait.
fn filter(query: &FlowQuery, places: &Places) -> impl Fn(&FlowRecord) -> bool + Send + Sync + 'static {
    let links = |wanted: &dyn Fn(&Place) -> bool| places.ports(wanted).into_iter().collect::<HashSet<PortId>>();
    let pod = query.pod.as_ref().map(|pod| links(&|place| pod.fits_pod(place)));
    let node = query.node.as_ref().map(|node| links(&|place| place.node.as_ref() == Some(node)));
    let FlowQuery { clients, service, port, .. } = query.clone();
    move |flow| {
        let at = |links: &Option<HashSet<PortId>>| {
            links.as_ref().is_none_or(|links| links.contains(&flow.ports.0) || links.contains(&flow.ports.1))
        };
        let is_of = |service: &NameMatch| flow.service.as_ref().is_some_and(|id| service.fits_service(id));
        (clients.is_empty() || clients.iter().any(|client| client.fits(flow.original.source())))
            && port.is_none_or(|port| flow.original.dst_port == port || flow.endpoint.port() == port)
            && service.as_ref().is_none_or(is_of)
            && at(&pod)
            && at(&node)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_with_and_without_a_namespace() {
        assert!(NameMatch::parse("web").fits("any", "web"));
        assert!(NameMatch::parse("a/web").fits("a", "web"));
        assert!(!NameMatch::parse("a/web").fits("b", "web"));
    }

    #[test]
    fn clients_with_and_without_a_port() {
        let client: SocketAddr = "10.95.0.1:4000".parse().expect("an address");
        for (text, fits) in [("10.95.0.1:4000", true), ("10.95.0.1", true), ("10.95.0.1:1", false), ("::1", false)] {
            assert_eq!(text.parse::<AddressMatch>().expect("an address").fits(client), fits, "{text}");
        }
        assert!("web".parse::<AddressMatch>().is_err());
    }
}
