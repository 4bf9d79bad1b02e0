//! What DNS keeps of API objects: what the zone is made of, never whole objects.

use std::net::IpAddr;

use k8s_openapi::api::core::v1::{Service, ServiceSpec};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use minisvc_zone::{EndpointEntry, PortEntry, ServiceEntry, ServiceKind};

/// Joins an EndpointSlice to its Service.
const SERVICE_NAME_LABEL: &str = "kubernetes.io/service-name";

/// Reduces a Service; `None` for one that has no address yet.
pub(crate) fn service(object: &Service) -> Option<ServiceEntry> {
    let spec = object.spec.clone().unwrap_or_default();
    let ports = spec.ports.iter().flatten().filter_map(|port| {
        Some(PortEntry {
            name: port.name.clone().unwrap_or_default(),
            protocol: protocol(port.protocol.as_deref()),
            port: u16::try_from(port.port).ok()?,
        })
    });
    let mut ports: Vec<PortEntry> = ports.collect();
    // Nearly always one, of thousands of Services.
    ports.shrink_to_fit();
    Some(ServiceEntry {
        namespace: object.metadata.namespace.clone().unwrap_or_default(),
        name: object.metadata.name.clone().unwrap_or_default(),
        ports,
        kind: kind(&spec)?,
    })
}

fn kind(spec: &ServiceSpec) -> Option<ServiceKind> {
    if spec.type_.as_deref() == Some("ExternalName") {
        return spec.external_name.clone().map(ServiceKind::ExternalName);
    }
    if spec.cluster_ip.as_deref() == Some("None") {
        return Some(ServiceKind::Headless);
    }
    let listed: Vec<IpAddr> = spec.cluster_ips.iter().flatten().filter_map(|text| text.parse().ok()).collect();
    let addresses = if listed.is_empty() { vec![spec.cluster_ip.as_ref()?.parse().ok()?] } else { listed };
    Some(ServiceKind::ClusterIp(addresses))
}

/// The ready endpoints of a slice. Slices of names are ignored (N-045); unset readiness counts as ready (N-034).
pub(crate) fn endpoints(slice: &EndpointSlice) -> Vec<EndpointEntry> {
    let labels = slice.metadata.labels.as_ref();
    let Some(service) = labels.and_then(|labels| labels.get(SERVICE_NAME_LABEL)) else { return Vec::new() };
    if slice.address_type == "FQDN" {
        return Vec::new();
    }
    let ports: Vec<PortEntry> = slice
        .ports
        .iter()
        .flatten()
        .filter_map(|port| {
            Some(PortEntry {
                name: port.name.clone().unwrap_or_default(),
                protocol: protocol(port.protocol.as_deref()),
                port: u16::try_from(port.port?).ok()?,
            })
        })
        .collect();
    let ready = slice
        .endpoints
        .iter()
        .flatten()
        .filter(|endpoint| endpoint.conditions.as_ref().and_then(|conditions| conditions.ready).unwrap_or(true));
    ready
        .filter_map(|endpoint| {
            Some(EndpointEntry {
                namespace: slice.metadata.namespace.clone().unwrap_or_default(),
                service: service.clone(),
                address: endpoint.addresses.first()?.parse().ok()?,
                hostname: endpoint.hostname.clone().filter(|hostname| !hostname.is_empty()),
                ports: ports.clone(),
            })
        })
        .collect()
}

fn protocol(text: Option<&str>) -> String {
    text.unwrap_or("TCP").to_ascii_lowercase()
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn kind_of(spec: Value) -> Option<ServiceKind> {
        let object = json!({"metadata": {"namespace": "n", "name": "s"}, "spec": spec});
        service(&serde_json::from_value(object).expect("a Service")).map(|service| service.kind)
    }

    // N-027, N-028
    #[test]
    fn a_service_is_its_cluster_address_whatever_else_it_has() {
        let spec = json!({"type": "LoadBalancer", "clusterIP": "10.96.0.9", "externalIPs": ["203.0.113.9"]});
        assert_eq!(kind_of(spec), Some(ServiceKind::ClusterIp(vec!["10.96.0.9".parse().expect("an address")])));
        assert_eq!(kind_of(json!({"clusterIP": "None"})), Some(ServiceKind::Headless));
        let external = json!({"type": "ExternalName", "externalName": "example.com"});
        assert_eq!(kind_of(external), Some(ServiceKind::ExternalName("example.com".into())));
        let labels = json!({"service.kubernetes.io/service-proxy-name": "x", "service.kubernetes.io/headless": ""});
        let object = json!({"metadata": {"name": "s", "labels": labels}, "spec": {"clusterIP": "10.96.0.9"}});
        assert!(service(&serde_json::from_value(object).expect("a Service")).is_some());
    }

    fn addresses(slice: Value) -> Vec<String> {
        let slice = serde_json::from_value(slice).expect("a slice");
        endpoints(&slice).iter().map(|endpoint| endpoint.address.to_string()).collect()
    }

    // N-034, N-045
    #[test]
    fn only_ready_addresses_are_endpoints() {
        let slice = |kind: &str| {
            json!({"metadata": {"namespace": "n", "labels": {SERVICE_NAME_LABEL: "s"}}, "addressType": kind,
                "endpoints": [{"addresses": ["10.244.0.2"]},
                              {"addresses": ["10.244.0.3"], "conditions": {"ready": false}},
                              {"addresses": ["10.244.0.4"], "conditions": {"ready": true, "terminating": false}}]})
        };
        assert_eq!(addresses(slice("IPv4")), ["10.244.0.2", "10.244.0.4"]);
        assert!(addresses(slice("FQDN")).is_empty());
    }

    // N-039
    #[test]
    fn a_host_name_is_there_while_its_pod_is_ready_or_need_not_be() {
        use minisvc_zone::{Code, Name, Outcome, RecordType, Zone, ZoneConfig, ZoneInput};
        let object = json!({"metadata": {"namespace": "n", "name": "s"}, "spec": {"clusterIP": "None"}});
        let headless = service(&serde_json::from_value(object).expect("a Service")).expect("an entry");
        // What publishNotReadyAddresses does is in the slice: its conditions say that the pod is ready (S-176).
        for (ready, code) in [(false, Code::NxDomain), (true, Code::NoError)] {
            let slice = json!({"metadata": {"namespace": "n", "labels": {SERVICE_NAME_LABEL: "s"}}, "addressType": "IPv4",
                "endpoints": [{"addresses": ["10.244.0.2"], "hostname": "s-0", "conditions": {"ready": ready}}]});
            let config = ZoneConfig {
                domain: Name::new("cluster.local"),
                ttl: 5,
                reverse: vec![],
                servers: vec![],
                hosts: vec![],
                reverse_falls_through: true,
            };
            let zone = Zone::build(
                config,
                ZoneInput {
                    services: vec![headless.clone()],
                    endpoints: endpoints(&serde_json::from_value(slice).expect("a slice")),
                    complete: true,
                    ..ZoneInput::default()
                },
            );
            let outcome = zone.answer(&Name::new("s-0.s.n.svc.cluster.local"), RecordType::A);
            assert!(matches!(outcome, Outcome::Answer(answer) if answer.code == code), "ready: {ready}");
        }
    }
}
