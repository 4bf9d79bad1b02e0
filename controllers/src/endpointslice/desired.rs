//! Which endpoints a Service has: a plain function of the Service, its pods and the nodes.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{Service, ServicePort};
use k8s_openapi::api::discovery::v1::{Endpoint, EndpointConditions, EndpointHints, EndpointPort, ForNode, ForZone};

use super::topology;
use crate::endpoint_facts::{families, hostname, ports_of, publishes_not_ready, target};
use crate::pod::Pod;
use crate::pods;

/// One port of a slice, with absent fields replaced by their defaults so that equal ports compare equal.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Port {
    pub(crate) name: String,
    pub(crate) protocol: String,
    pub(crate) port: Option<i32>,
    pub(crate) app_protocol: Option<String>,
}

impl From<&EndpointPort> for Port {
    fn from(port: &EndpointPort) -> Self {
        Self {
            name: port.name.clone().unwrap_or_default(),
            protocol: port.protocol.clone().unwrap_or_else(|| "TCP".to_owned()),
            port: port.port,
            app_protocol: port.app_protocol.clone(),
        }
    }
}

impl From<Port> for EndpointPort {
    fn from(port: Port) -> Self {
        Self { name: Some(port.name), protocol: Some(port.protocol), port: port.port, app_protocol: port.app_protocol }
    }
}

/// What slices may share: the address family and the resolved ports in any order (S-189).
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct GroupKey {
    pub(crate) ipv6: bool,
    pub(crate) ports: Vec<Port>,
}

impl GroupKey {
    pub(crate) fn new(ipv6: bool, mut ports: Vec<Port>) -> Self {
        ports.sort();
        Self { ipv6, ports }
    }
}

/// The endpoints of a [`GroupKey`], and its ports in the Service's order.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Group {
    pub(crate) ports: Vec<Port>,
    pub(crate) endpoints: Vec<Endpoint>,
}

/// All a Service's slices must contain.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Desired {
    /// Families that must have at least one slice (S-187), `true` for IPv6.
    pub(crate) families: Vec<bool>,
    pub(crate) groups: BTreeMap<GroupKey, Group>,
    /// Node names that pods refer to and that do not exist (S-197): try again when they do.
    pub(crate) missing_nodes: Vec<String>,
}

/// What an endpoint takes from its node.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct NodeInfo {
    /// Label `topology.kubernetes.io/zone`.
    pub(crate) zone: Option<String>,
}

/// Computes the endpoints of `service`; `pods` are those of its namespace that its selector matches.
pub(crate) fn desired<'a>(
    service: &Service,
    pods: impl IntoIterator<Item = &'a Pod>,
    node: impl Fn(&str) -> Option<NodeInfo>,
) -> Desired {
    let mut desired = Desired { families: families(service), ..Desired::default() };
    let publish = publishes_not_ready(service);
    for pod in pods {
        if pods::is_finished(pod) {
            continue;
        }
        let info = match pods::node_name(pod) {
            None => None,
            Some(name) => match node(name) {
                Some(info) => Some(info),
                None if publish => None,
                None => {
                    desired.missing_nodes.push(name.to_owned());
                    continue;
                }
            },
        };
        for ipv6 in desired.families.clone() {
            let Some(address) = pods::address(pod, ipv6) else { continue };
            let ports = resolved_ports(service, pod);
            let group = desired
                .groups
                .entry(GroupKey::new(ipv6, ports.clone()))
                .or_insert_with(|| Group { ports, endpoints: Vec::new() });
            group.endpoints.push(endpoint(service, pod, address.to_string(), info.as_ref()));
        }
    }
    desired
}

fn resolved_ports(service: &Service, pod: &Pod) -> Vec<Port> {
    let resolve = |port: &ServicePort| {
        let protocol = port.protocol.clone().unwrap_or_else(|| "TCP".to_owned());
        // A pod without the named port is listed without it (S-157).
        let number = pods::resolve_port(pod, port.port, port.target_port.as_ref(), &protocol)?;
        Some(Port {
            name: port.name.clone().unwrap_or_default(),
            protocol,
            port: Some(number),
            app_protocol: port.app_protocol.clone(),
        })
    };
    ports_of(service).filter_map(resolve).collect()
}

fn endpoint(service: &Service, pod: &Pod, address: String, node: Option<&NodeInfo>) -> Endpoint {
    let serving = pods::is_ready(pod);
    let terminating = pods::is_terminating(pod);
    let ready = publishes_not_ready(service) || (serving && !terminating);
    let node_name = pods::node_name(pod).map(str::to_owned);
    let zone = node.and_then(|node| node.zone.clone());
    let distribution = service.spec.as_ref().and_then(|spec| spec.traffic_distribution.as_deref());
    // Where all endpoints together decide about hints, none decides for itself (S-210).
    let distribution = distribution.filter(|_| !topology::is_wanted(service));
    Endpoint {
        addresses: vec![address],
        conditions: Some(EndpointConditions {
            ready: Some(ready),
            serving: Some(serving),
            terminating: Some(terminating),
        }),
        hints: if ready { hints(distribution, zone.as_deref(), node_name.as_deref()) } else { None },
        hostname: hostname(service, pod),
        node_name,
        target_ref: Some(target(pod)),
        zone,
        deprecated_topology: None,
    }
}

/// Which clients an endpoint prefers (S-208, S-209, S-211).
fn hints(distribution: Option<&str>, zone: Option<&str>, node: Option<&str>) -> Option<EndpointHints> {
    let for_zones = zone.map(|name| vec![ForZone { name: name.to_owned() }]);
    let for_nodes = node.map(|name| vec![ForNode { name: name.to_owned() }]);
    let hints = match distribution? {
        "PreferClose" | "PreferSameZone" => EndpointHints { for_zones, for_nodes: None },
        "PreferSameNode" => EndpointHints { for_zones, for_nodes },
        _ => return None,
    };
    (hints.for_zones.is_some() || hints.for_nodes.is_some()).then_some(hints)
}

#[cfg(test)]
#[path = "desired_tests.rs"]
mod tests;
