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
    let existing = services.get_opt(NAME).await?.and_then(|service| service.spec?.cluster_ip);
    if existing.as_deref() != Some(&address.to_string()) {
        // An address cannot be changed; a lab that moved to other ranges needs a new Service.
        if existing.is_some() {
            services.delete(NAME, &DeleteParams::default()).await?;
        }
        services.create(&PostParams::default(), &service(address)?).await?;
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
            "ports": [
                {"name": "dns", "port": 53, "protocol": "UDP", "targetPort": 53},
                {"name": "dns-tcp", "port": 53, "protocol": "TCP", "targetPort": 53},
            ],
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
        "ports": [
            {"name": "dns", "port": 53, "protocol": "UDP"},
            {"name": "dns-tcp", "port": 53, "protocol": "TCP"},
        ],
        "endpoints": [{"addresses": [server], "conditions": {"ready": true}}],
    }))
}

fn parse<T: DeserializeOwned>(value: serde_json::Value) -> Result<T, serde_json::Error> {
    serde_json::from_value(value)
}
