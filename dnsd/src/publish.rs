//! The server behind its own Service: `kube-system/kube-dns`, at the address that every pod is told (N-001).

use std::net::IpAddr;

use k8s_openapi::api::core::v1::Service;
use k8s_openapi::api::discovery::v1::EndpointSlice;
use kube::api::{DeleteParams, PostParams};
use kube::{Api, Client};
use serde::de::DeserializeOwned;
use serde_json::json;

const NAMESPACE: &str = "kube-system";
const NAME: &str = "kube-dns";

/// Where the server is asked, and where its counters are (N-001).
const PORTS: [(&str, u16, &str); 3] = [("dns", 53, "UDP"), ("dns-tcp", 53, "TCP"), ("metrics", METRICS_PORT, "TCP")];

/// The port of the counters.
pub const METRICS_PORT: u16 = 9153;

/// Why the DNS Service could not be made.
#[derive(Debug, thiserror::Error)]
pub enum PublishError {
    /// The API refused it.
    #[error("the API refused the DNS service")]
    Refused(#[from] kube::Error),
    /// One of our own manifests is not what the type wants.
    #[error("the manifest of the DNS service is malformed")]
    Malformed(#[from] serde_json::Error),
}

/// Makes sure that the Service has this virtual address and leads to the server.
///
/// # Errors
/// When the API refuses, for example because the address belongs to another Service.
pub async fn publish(client: Client, address: IpAddr, server: IpAddr) -> Result<(), PublishError> {
    let services = Api::<Service>::namespaced(client.clone(), NAMESPACE);
    let wanted = service(address)?;
    let ports = |service: &Service| service.spec.as_ref().and_then(|spec| spec.ports.as_ref()).map(Vec::len);
    match services.get_opt(NAME).await? {
        Some(found) if has_address(&found, address) && ports(&found) == ports(&wanted) => {}
        Some(_) => {
            // An address cannot be changed; a lab that moved to other ranges needs a new Service.
            services.delete(NAME, &DeleteParams::default()).await?;
            services.create(&PostParams::default(), &wanted).await?;
        }
        None => {
            services.create(&PostParams::default(), &wanted).await?;
        }
    }
    let slices = Api::<EndpointSlice>::namespaced(client, NAMESPACE);
    let wanted = slice(server)?;
    match slices.get_opt(NAME).await? {
        Some(found) if found.endpoints == wanted.endpoints && found.ports == wanted.ports => {}
        Some(_) => {
            slices.delete(NAME, &DeleteParams::default()).await?;
            slices.create(&PostParams::default(), &wanted).await?;
        }
        None => {
            slices.create(&PostParams::default(), &wanted).await?;
        }
    }
    Ok(())
}

fn has_address(service: &Service, address: IpAddr) -> bool {
    let own = service.spec.as_ref().and_then(|spec| spec.cluster_ip.as_deref());
    own == Some(&address.to_string())
}

fn service(address: IpAddr) -> Result<Service, serde_json::Error> {
    parse(json!({
        "metadata": {
            "name": NAME,
            "labels": {
                "k8s-app": "kube-dns",
                "kubernetes.io/cluster-service": "true",
                "kubernetes.io/name": "CoreDNS",
            },
        },
        // Without a selector: the server is no pod, and its one endpoint is written by hand below.
        "spec": {
            "clusterIP": address,
            "ports": PORTS.map(|(name, port, protocol)| {
                json!({"name": name, "port": port, "protocol": protocol, "targetPort": port})
            }),
        },
    }))
}

fn slice(server: IpAddr) -> Result<EndpointSlice, serde_json::Error> {
    parse(json!({
        "metadata": {
            "name": NAME,
            "labels": {
                "kubernetes.io/service-name": NAME,
                "endpointslice.kubernetes.io/managed-by": "dnsd.minisvc.dev",
            },
        },
        "addressType": if server.is_ipv4() { "IPv4" } else { "IPv6" },
        "ports": PORTS.map(|(name, port, protocol)| json!({"name": name, "port": port, "protocol": protocol})),
        "endpoints": [{"addresses": [server], "conditions": {"ready": true}}],
    }))
}

fn parse<T: DeserializeOwned>(value: serde_json::Value) -> Result<T, serde_json::Error> {
    serde_json::from_value(value)
}
