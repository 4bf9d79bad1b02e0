//! What a Service and a pod are reached at, and what stands behind it: plain functions of one record.

use std::net::IpAddr;
use std::sync::Arc;

use minisvc_translator::{
    Endpoint, Frontend, FrontendKind, NodeId, Policies, PortId, ServicePort, ServicePortId, TrafficPolicy,
};

use super::inputs::LinkRecord;
use super::nodes::NodeIds;
use crate::claims::{By, Claim, HostPort, HostPorts};
use crate::records::{ObjectKey, PortRecord, ServicePortRecord, ServiceRecord, SliceRecord};

/// Where nodePorts and hostPorts are (D-056, D-057): the addresses of nodes that are up, in their order. A node that is not does
/// not answer, though it still has its address in the API.
pub(super) type NodeAddresses = [(IpAddr, NodeId)];

/// Where a Service wants to be reached, as what, and by which of its ports.
pub(super) fn of_service(service: &ServiceRecord, at_nodes: &NodeAddresses) -> Vec<(Frontend, FrontendKind, usize)> {
    let mut wanted = Vec::new();
    if service.unhandled {
        return wanted;
    }
    for (place, port) in service.ports.iter().enumerate() {
        let mut want = |kind, addr: IpAddr, number| {
            if has_family_of(service, addr) {
                wanted.push((Frontend { addr, protocol: port.protocol, port: number }, kind, place));
            }
        };
        service.cluster_ips.iter().for_each(|&addr| want(FrontendKind::ClusterIp, addr, port.port));
        if let Some(number) = port.node_port {
            at_nodes.iter().for_each(|&(addr, _)| want(FrontendKind::NodePort, addr, number));
        }
        service.load_balancer_ips.iter().for_each(|&addr| want(FrontendKind::LoadBalancer, addr, port.port));
        service.external_ips.iter().for_each(|&addr| want(FrontendKind::ExternalIp, addr, port.port));
    }
    wanted
}

/// A Service shows on the families that it has clusterIPs of and on no other, whatever addresses it names (D-012). Without a
/// clusterIP it is headless, and everything else it names has no effect (S-163).
fn has_family_of(service: &ServiceRecord, addr: IpAddr) -> bool {
    service.cluster_ips.iter().any(|own| own.is_ipv4() == addr.is_ipv4())
}

/// The addresses of a Service, whose other ports are refused (D-035), also without a port of a protocol that is translated.
pub(super) fn marks(service: &ServiceRecord) -> impl Iterator<Item = IpAddr> {
    let all = service.cluster_ips.iter().chain(&service.load_balancer_ips).copied();
    all.filter(|_| !service.unhandled)
}

/// A Service port with its endpoints in one family.
pub(super) fn service_port<'a>(
    service: &ServiceRecord,
    port: &ServicePortRecord,
    slices: impl Iterator<Item = &'a SliceRecord>,
    nodes: &NodeIds,
    ipv4: bool,
) -> Arc<ServicePort> {
    let id = ServicePortId {
        namespace: Arc::clone(&service.key.namespace),
        service: Arc::clone(&service.key.name),
        port: Arc::clone(&port.name),
        protocol: port.protocol,
    };
    Arc::new(ServicePort::new(id, service.policies.clone(), endpoints(port, slices, nodes, ipv4)))
}

/// The union over all slices of the endpoints whose slice has a port of this name and protocol (D-006), in one family
/// (D-011).
fn endpoints<'a>(
    port: &ServicePortRecord,
    slices: impl Iterator<Item = &'a SliceRecord>,
    nodes: &NodeIds,
    ipv4: bool,
) -> Vec<Endpoint> {
    let joins = |other: &&PortRecord| other.name == port.name && other.protocol == port.protocol;
    let mut endpoints = Vec::new();
    for slice in slices {
        for target in slice.ports.iter().filter(joins) {
            for endpoint in slice.endpoints.iter().filter(|endpoint| endpoint.address.is_ipv4() == ipv4) {
                endpoints.push(Endpoint {
                    addr: endpoint.address,
                    port: target.port,
                    ready: endpoint.ready,
                    serving: endpoint.serving,
                    terminating: endpoint.terminating,
                    node: endpoint.node.as_ref().and_then(|name| nodes.get(name)).copied(),
                    hints: endpoint.hints.clone(),
                });
            }
        }
    }
    endpoints
}

/// The host ports of a pod: each on the addresses of the pod's own node (D-123). The scheduler keeps two pods of one node from
/// claiming the same.
pub(super) fn of_pod(
    link: PortId,
    record: &LinkRecord,
    node: NodeId,
    at_nodes: &NodeAddresses,
) -> Vec<(Frontend, Claim)> {
    let mut claims = Vec::new();
    let Some(pod) = &record.host_ports else { return claims };
    let by = By::Pod(ObjectKey::new(Some(&pod.namespace), Some(&pod.pod)), link);
    for (place, port) in pod.ports.iter().enumerate() {
        let own_node = at_nodes.iter().filter(|(address, owner)| *owner == node && port.is_at(*address));
        for &(addr, _) in own_node {
            let Some(&own) = record.addresses.iter().find(|own| own.is_ipv4() == addr.is_ipv4()) else { continue };
            let frontend = Frontend { addr, protocol: port.protocol, port: port.port };
            let (by, target) = (by.clone(), Arc::new(behind(pod, port, own, node)));
            claims.push((
                frontend,
                Claim { kind: FrontendKind::HostPort, created: pod.created, by, port: place, target },
            ));
        }
    }
    claims
}

/// A host port as a Service port with one endpoint. It keeps its client's address, and does not ask whether the pod is ready: as
/// long as the pod is there, so is its port.
pub(super) fn behind(pod: &HostPorts, port: &HostPort, addr: IpAddr, node: NodeId) -> ServicePort {
    let id = ServicePortId {
        namespace: pod.namespace.as_str().into(),
        // No Service can have this name.
        service: format!("pod/{}", pod.pod).into(),
        port: port.target.to_string().into(),
        protocol: port.protocol,
    };
    let policies = Policies { external: TrafficPolicy::Local, ..Policies::default() };
    let (ready, serving, terminating) = (true, true, false);
    let node = Some(node);
    let endpoint = Endpoint { addr, port: port.target, ready, serving, terminating, node, hints: None };
    ServicePort::new(id, policies, vec![endpoint])
}
