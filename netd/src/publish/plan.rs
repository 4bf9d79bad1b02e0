//! Which ports of a Service are published, and where. Pure.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use k8s_openapi::api::core::v1::{Service, ServicePort, ServiceSpec};
use kube::ResourceExt as _;

use super::PublishConfig;

/// A protocol that can be published: SCTP cannot, for want of ordinary sockets.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Wanted {
    /// TCP.
    Tcp,
    /// UDP.
    Udp,
}

impl Wanted {
    /// As the API writes it.
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::Tcp => "TCP",
            Self::Udp => "UDP",
        }
    }
}

/// One port to be published.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Exposure {
    pub(super) namespace: String,
    pub(super) service: String,
    pub(super) protocol: Wanted,
    /// The address and port in the lab.
    pub(super) target: SocketAddr,
    /// Where this machine should listen.
    pub(super) listen: SocketAddr,
    /// Whether the target only serves endpoints of its own node, and another node may be the better one.
    pub(super) local_only: bool,
}

/// The ports of a Service to be published.
pub(super) fn exposures(service: &Service, config: &PublishConfig) -> Vec<Exposure> {
    let Some(spec) = &service.spec else { return Vec::new() };
    let type_ = spec.type_.as_deref().unwrap_or("ClusterIP");
    if type_ == "ExternalName" || service.metadata.deletion_timestamp.is_some() {
        return Vec::new();
    }
    let mut found = Vec::new();
    for port in spec.ports.iter().flatten() {
        let Some(protocol) = protocol(port) else { continue };
        let (namespace, name) = (service.namespace().unwrap_or_default(), service.name_any());
        let mut add = |target: Option<SocketAddr>, listen: Option<SocketAddr>, local_only| {
            if let (Some(target), Some(listen)) = (target, listen) {
                let (namespace, service) = (namespace.clone(), name.clone());
                found.push(Exposure { namespace, service, protocol, target, listen, local_only });
            }
        };
        let local_only = spec.external_traffic_policy.as_deref() == Some("Local");
        let node_port = node_target(port, config);
        let at_loopback = node_port
            .map(|target| SocketAddr::new(config.address.unwrap_or(IpAddr::V4(Ipv4Addr::LOCALHOST)), target.port()));
        add(node_port, at_loopback, local_only);
        if type_ == "LoadBalancer" {
            for (address, is_proxied) in ingress(service) {
                let virtual_one = socket(address, port.port);
                let listen = virtual_one.and_then(|at| mirror(at, config));
                // A balancer of its own would address the nodes (D-065).
                add(if is_proxied { node_port } else { virtual_one }, listen, is_proxied && local_only);
            }
        }
        if config.all {
            for address in cluster_ips(spec) {
                let target = socket(address, port.port);
                add(target, target.and_then(|at| mirror(at, config)), false);
            }
        }
    }
    found
}

fn protocol(port: &ServicePort) -> Option<Wanted> {
    match port.protocol.as_deref().unwrap_or("TCP") {
        "TCP" => Some(Wanted::Tcp),
        "UDP" => Some(Wanted::Udp),
        _ => None,
    }
}

/// The nodePort at the first node.
fn node_target(port: &ServicePort, config: &PublishConfig) -> Option<SocketAddr> {
    let (_, node) = config.nodes.first()?;
    socket(*node, port.node_port?)
}

fn socket(address: IpAddr, port: i32) -> Option<SocketAddr> {
    Some(SocketAddr::new(address, u16::try_from(port).ok()?))
}

/// Where the machine listens for an address of the lab: the one in 127.0.0.0/8 that ends alike. IPv6 has no such range.
fn mirror(virtual_one: SocketAddr, config: &PublishConfig) -> Option<SocketAddr> {
    let IpAddr::V4(address) = virtual_one.ip() else { return None };
    let [_, b, c, d] = address.octets();
    let mirrored = IpAddr::V4(Ipv4Addr::new(127, b, c, d));
    Some(SocketAddr::new(config.address.unwrap_or(mirrored), virtual_one.port()))
}

/// Addresses of the load balancer, and whether traffic from inside goes to a proxy instead of to them (S-130).
fn ingress(service: &Service) -> Vec<(IpAddr, bool)> {
    let balancer = service.status.as_ref().and_then(|status| status.load_balancer.as_ref());
    let ingress = balancer.and_then(|balancer| balancer.ingress.as_ref()).into_iter().flatten();
    ingress
        .filter_map(|ingress| Some((ingress.ip.as_ref()?.parse().ok()?, ingress.ip_mode.as_deref() == Some("Proxy"))))
        .collect()
}

fn cluster_ips(spec: &ServiceSpec) -> Vec<IpAddr> {
    // "None" does not parse, so a headless Service has none.
    spec.cluster_ips.iter().flatten().filter_map(|text| text.parse().ok()).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn config(all: bool, address: Option<&str>) -> PublishConfig {
        let node = |name: &str, address: &str| (name.to_owned(), address.parse().expect("an address"));
        PublishConfig {
            all,
            address: address.map(|address| address.parse().expect("an address")),
            nodes: vec![node("node-1", "10.95.0.11"), node("node-2", "10.95.0.12")],
        }
    }

    fn service(spec: Value, status: Value) -> Service {
        let object = json!({"metadata": {"namespace": "n", "name": "web"}, "spec": spec, "status": status});
        serde_json::from_value(object).expect("a Service")
    }

    fn shown(service: &Service, config: &PublishConfig) -> Vec<String> {
        let text = |e: &Exposure| {
            let local = if e.local_only { " local" } else { "" };
            format!("{} {} -> {}{local}", e.protocol.as_str(), e.listen, e.target)
        };
        exposures(service, config).iter().map(text).collect()
    }

    fn balancer(mode: &str, policy: &str) -> Service {
        service(
            json!({"type": "LoadBalancer", "clusterIP": "10.96.0.9", "clusterIPs": ["10.96.0.9"],
                "externalTrafficPolicy": policy, "ports": [{"port": 80, "nodePort": 30080}]}),
            json!({"loadBalancer": {"ingress": [{"ip": "10.95.1.7", "ipMode": mode}, {"hostname": "x"}, {"ip": "fd00::1"}]}}),
        )
    }

    #[test]
    fn node_ports_are_on_loopback_and_load_balancers_on_their_mirror() {
        let own = ["TCP 127.0.0.1:30080 -> 10.95.0.11:30080", "TCP 127.95.1.7:80 -> 10.95.1.7:80"];
        assert_eq!(shown(&balancer("VIP", "Cluster"), &config(false, None)), own);
        let all = [own[0], own[1], "TCP 127.96.0.9:80 -> 10.96.0.9:80"];
        assert_eq!(shown(&balancer("VIP", "Cluster"), &config(true, None)), all);
        let wide = ["TCP 0.0.0.0:30080 -> 10.95.0.11:30080", "TCP 0.0.0.0:80 -> 10.95.1.7:80"];
        assert_eq!(shown(&balancer("VIP", "Cluster"), &config(false, Some("0.0.0.0"))), wide);
    }

    // D-065
    #[test]
    fn a_proxying_load_balancer_addresses_the_nodes() {
        let expected = ["TCP 127.0.0.1:30080 -> 10.95.0.11:30080 local", "TCP 127.95.1.7:80 -> 10.95.0.11:30080 local"];
        assert_eq!(shown(&balancer("Proxy", "Local"), &config(false, None)), expected);
    }

    #[test]
    fn what_nobody_outside_is_meant_to_reach_is_published_only_if_all_are() {
        let ports = json!([{"port": 80}, {"port": 53, "protocol": "UDP"}, {"port": 9, "protocol": "SCTP"}]);
        let plain =
            service(json!({"clusterIP": "10.96.0.9", "clusterIPs": ["10.96.0.9"], "ports": ports}), Value::Null);
        assert!(shown(&plain, &config(false, None)).is_empty());
        let all = ["TCP 127.96.0.9:80 -> 10.96.0.9:80", "UDP 127.96.0.9:53 -> 10.96.0.9:53"];
        assert_eq!(shown(&plain, &config(true, None)), all);
        let headless =
            service(json!({"clusterIP": "None", "clusterIPs": ["None"], "ports": [{"port": 80}]}), Value::Null);
        assert!(shown(&headless, &config(true, None)).is_empty());
        let name = service(json!({"type": "ExternalName", "externalName": "x", "ports": [{"port": 80}]}), Value::Null);
        assert!(shown(&name, &config(true, None)).is_empty());
    }
}
