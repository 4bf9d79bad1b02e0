//! Host ports of a pod (D-123): what they are, and those at the node's loopback address, which no packet of the data plane has.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::core::v1::{Pod, PodSpec};
use minisvc_sandbox::Namespace;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio_util::task::AbortOnDropHandle;
use tracing::{debug, warn};

use crate::network::{HostPort, HostProtocol};
use crate::shared::Node;

/// Connections of one port at once; further ones wait to be accepted.
const LIMIT: usize = 1024;
/// Between two attempts to listen.
const TRY_AGAIN: Duration = Duration::from_secs(1);
/// Pause after an accept that failed for want of descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// The host ports of a pod with its own network.
pub(super) fn host_ports(pod: &Pod) -> Vec<HostPort> {
    let Some(spec) = &pod.spec else { return Vec::new() };
    let ports = containers(spec).flat_map(|container| container.ports.iter().flatten());
    ports
        .filter_map(|port| {
            let number = port.host_port.and_then(|number| u16::try_from(number).ok()).filter(|number| *number > 0)?;
            let protocol = match port.protocol.as_deref().unwrap_or("TCP") {
                "TCP" => HostProtocol::Tcp,
                "UDP" => HostProtocol::Udp,
                "SCTP" => HostProtocol::Sctp,
                _ => return None,
            };
            // Validated by the API; an odd one would be no address of the node either.
            let address = match port.host_ip.as_deref().unwrap_or_default() {
                "" => None,
                text => Some(text.parse().ok()?),
            };
            Some(HostPort { address, protocol, port: number, target: u16::try_from(port.container_port).ok()? })
        })
        .collect()
}

fn containers(spec: &PodSpec) -> impl Iterator<Item = &k8s_openapi::api::core::v1::Container> {
    let sidecars =
        spec.init_containers.iter().flatten().filter(|init| init.restart_policy.as_deref() == Some("Always"));
    spec.containers.iter().chain(sidecars)
}

/// What serves a pod's host ports beside the data plane; ends when it is dropped.
pub(super) struct Loopback {
    _listeners: Vec<AbortOnDropHandle<()>>,
}

/// Has the node's own processes reach the host ports: at the node's addresses through the data plane, and at its loopback
/// addresses, where TCP is passed on by hand.
pub(super) async fn serve(
    node: &Node,
    ports: &[HostPort],
    pod: &[IpAddr],
    node_ports: &std::ops::RangeInclusive<u16>,
) -> Loopback {
    let mut listeners = Vec::new();
    for port in ports {
        if !node_ports.contains(&port.port) {
            reflect(node, port).await;
        }
        for loopback in [IpAddr::V4(Ipv4Addr::LOCALHOST), IpAddr::V6(Ipv6Addr::LOCALHOST)] {
            let Some(target) = pod.iter().find(|own| own.is_ipv4() == loopback.is_ipv4()) else { continue };
            if port.protocol != HostProtocol::Tcp || !is_at(port, loopback) {
                continue;
            }
            let (at, target) = (SocketAddr::new(loopback, port.port), SocketAddr::new(*target, port.target));
            let serving = serve_loopback(node.namespace.clone(), node.config.name.clone(), at, target);
            listeners.push(AbortOnDropHandle::new(tokio::spawn(serving)));
        }
    }
    Loopback { _listeners: listeners }
}

/// Whether a host port is at this address.
fn is_at(port: &HostPort, address: IpAddr) -> bool {
    port.address.is_none_or(|own| own == address || own.is_unspecified() && own.is_ipv4() == address.is_ipv4())
}

/// Makes the node's own packets to the port go to the data plane. It stays so when the pod is gone: the data plane then gives
/// them back to the node, as to everybody's else.
async fn reflect(node: &Node, port: &HostPort) {
    for address in node.config.addresses.iter().filter(|address| is_at(port, **address)) {
        if let Err(error) = node.namespace.reflect_ports("eth0", *address, port.port..=port.port).await {
            warn!(%error, node = node.config.name, port = port.port, "hostNetwork pods cannot reach a host port of their own node");
        }
    }
}

/// Listens as soon as nobody else does, such as the pod before this one, and then passes connections on.
async fn serve_loopback(node: Namespace, name: String, at: SocketAddr, target: SocketAddr) {
    let mut told = false;
    loop {
        match node.listen_tcp(at).await {
            Ok(listener) => return pass_on(listener, node, target).await,
            Err(error) if !std::mem::replace(&mut told, true) => {
                warn!(%error, node = name, %at, "a host port is not served at loopback yet");
            }
            Err(_) => {}
        }
        tokio::time::sleep(TRY_AGAIN).await;
    }
}

async fn pass_on(listener: TcpListener, node: Namespace, target: SocketAddr) {
    let room = Arc::new(Semaphore::new(LIMIT));
    let mut connections = JoinSet::new();
    loop {
        // It is never closed.
        let Ok(place) = Arc::clone(&room).acquire_owned().await else { return };
        while connections.try_join_next().is_some() {}
        match listener.accept().await {
            Ok((client, _)) => {
                let node = node.clone();
                connections.spawn(async move {
                    let _place = place;
                    connect(client, &node, target).await;
                });
            }
            Err(error) => {
                debug!(%error, "a host port cannot accept");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

async fn connect(mut client: TcpStream, node: &Namespace, target: SocketAddr) {
    let ended = match node.connect_tcp(target).await {
        Ok(mut server) => tokio::io::copy_bidirectional(&mut client, &mut server).await.map(drop),
        Err(error) => Err(error),
    };
    if let Err(error) = ended {
        debug!(%error, %target, "a connection to a host port broke off");
        // The connection was accepted already: a RST is the refusal that is left.
        let _ = client.set_zero_linger();
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    // D-123, D-124
    #[test]
    fn host_ports_are_read_with_address_and_protocol() {
        let pod = json!({"spec": {
            "containers": [{"name": "a", "ports": [
                {"containerPort": 80, "hostPort": 8080},
                {"containerPort": 81},
                {"containerPort": 82, "hostPort": 8080, "protocol": "UDP", "hostIP": "10.95.0.11"},
            ]}],
            "initContainers": [
                {"name": "b", "ports": [{"containerPort": 83, "hostPort": 8083}]},
                {"name": "c", "restartPolicy": "Always", "ports": [{"containerPort": 84, "hostPort": 8084, "protocol": "SCTP"}]},
            ],
        }});
        let at = "10.95.0.11".parse().unwrap();
        let expected = [
            HostPort { address: None, protocol: HostProtocol::Tcp, port: 8080, target: 80 },
            HostPort { address: Some(at), protocol: HostProtocol::Udp, port: 8080, target: 82 },
            HostPort { address: None, protocol: HostProtocol::Sctp, port: 8084, target: 84 },
        ];
        assert_eq!(host_ports(&serde_json::from_value(pod).unwrap()), expected);
        let everywhere = HostPort { address: Some(Ipv4Addr::UNSPECIFIED.into()), ..expected[0] };
        assert!(is_at(&everywhere, at) && !is_at(&everywhere, Ipv6Addr::LOCALHOST.into()));
        assert!(is_at(&expected[1], at) && !is_at(&expected[1], Ipv4Addr::LOCALHOST.into()));
    }
}
