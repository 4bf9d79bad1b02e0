//! What the data plane keeps of API objects: reduced records, never whole objects.
//!
//! Reading is lenient: what does not parse is left out, because the API has validated it, and a data plane that stops
//! over one odd object would take every other Service with it.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use ipnet::IpNet;
use k8s_openapi::api::core::v1::{Node, Service, ServiceSpec};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use minisvc_translator::{Hints, Policies, Protocol, TrafficPolicy};

/// A Service with this label is another proxy's (S-167).
const PROXY_NAME_LABEL: &str = "service.kubernetes.io/service-proxy-name";

/// A Service with this label has no rules although it has an address (S-168).
const HEADLESS_LABEL: &str = "service.kubernetes.io/headless";

/// Joins an EndpointSlice to its Service.
const SERVICE_NAME_LABEL: &str = "kubernetes.io/service-name";

/// The zone of a node.
const ZONE_LABEL: &str = "topology.kubernetes.io/zone";

/// A node that load balancers leave out.
const EXCLUDED_LABEL: &str = "node.kubernetes.io/exclude-from-external-load-balancers";

/// A node that is to be taken away by the cluster autoscaler.
const REMOVAL_TAINT: &str = "ToBeDeletedByClusterAutoscaler";

/// How long a client stays with its endpoint when `sessionAffinityConfig` says nothing (S-023).
const DEFAULT_AFFINITY: Duration = Duration::from_secs(10_800);

/// Namespace and name.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct ObjectKey {
    pub(crate) namespace: Arc<str>,
    pub(crate) name: Arc<str>,
}

impl ObjectKey {
    /// A key from its parts.
    pub(crate) fn new(namespace: Option<&str>, name: Option<&str>) -> Self {
        Self { namespace: namespace.unwrap_or_default().into(), name: name.unwrap_or_default().into() }
    }
}

/// What a Service asks of the data plane.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ServiceRecord {
    pub(crate) key: ObjectKey,
    /// Its virtual addresses; none for headless and ExternalName Services.
    pub(crate) cluster_ips: Vec<IpAddr>,
    /// Ingress addresses whose packets the nodes take themselves: those of ipMode VIP (D-064, D-065).
    pub(crate) load_balancer_ips: Vec<IpAddr>,
    pub(crate) external_ips: Vec<IpAddr>,
    pub(crate) ports: Vec<ServicePortRecord>,
    pub(crate) policies: Policies,
    /// Where each node says whether it has endpoints (D-098).
    pub(crate) health_port: Option<u16>,
    /// Seconds of Unix time; the older of two Services that claim one address has it (S-164).
    pub(crate) created: i64,
    /// Whether a label hands it to somebody else: its address exists, but nothing is translated (D-009).
    pub(crate) unhandled: bool,
}

/// One port of a Service.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ServicePortRecord {
    pub(crate) name: Arc<str>,
    pub(crate) protocol: Protocol,
    pub(crate) port: u16,
    /// The same port on every node's addresses (D-056).
    pub(crate) node_port: Option<u16>,
}

/// One port of a slice.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct PortRecord {
    pub(crate) name: Arc<str>,
    pub(crate) protocol: Protocol,
    pub(crate) port: u16,
}

/// The endpoints that one slice lists.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct SliceRecord {
    /// The Service it belongs to.
    pub(crate) service: ObjectKey,
    pub(crate) ports: Vec<PortRecord>,
    pub(crate) endpoints: Vec<EndpointRecord>,
}

/// One endpoint of a slice.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct EndpointRecord {
    pub(crate) address: IpAddr,
    pub(crate) ready: bool,
    pub(crate) serving: bool,
    pub(crate) terminating: bool,
    pub(crate) node: Option<Arc<str>>,
    pub(crate) hints: Option<Arc<Hints>>,
}

/// A node and its addresses.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct NodeRecord {
    pub(crate) name: Arc<str>,
    pub(crate) addresses: Vec<IpAddr>,
    pub(crate) zone: Option<Arc<str>>,
    /// Load balancers are told not to send to it (S-140).
    pub(crate) excluded: bool,
    /// It is being deleted, or about to be taken away (D-103, S-140).
    pub(crate) leaving: bool,
}

/// Protocols that are translated: all that the API accepts (S-160).
fn protocol(text: Option<&str>) -> Option<Protocol> {
    match text.unwrap_or("TCP") {
        "TCP" => Some(Protocol::Tcp),
        "UDP" => Some(Protocol::Udp),
        "SCTP" => Some(Protocol::Sctp),
        _ => None,
    }
}

impl ServiceRecord {
    /// Reduces a Service.
    pub(crate) fn of(service: &Service) -> Self {
        let metadata = &service.metadata;
        let spec = service.spec.clone().unwrap_or_default();
        let labelled = |name: &str| metadata.labels.as_ref().is_some_and(|labels| labels.contains_key(name));
        Self {
            key: ObjectKey::new(metadata.namespace.as_deref(), metadata.name.as_deref()),
            cluster_ips: cluster_ips(&spec),
            load_balancer_ips: load_balancer_ips(service),
            external_ips: addresses(spec.external_ips.iter().flatten()),
            ports: service_ports(&spec),
            policies: policies(&spec),
            health_port: health_port(&spec),
            created: metadata.creation_timestamp.as_ref().map_or(i64::MAX, |time| time.0.as_second()),
            unhandled: labelled(PROXY_NAME_LABEL) || labelled(HEADLESS_LABEL),
        }
    }
}

fn service_ports(spec: &ServiceSpec) -> Vec<ServicePortRecord> {
    // A number that another type has left behind means nothing (D-060).
    let on_nodes = matches!(spec.type_.as_deref(), Some("NodePort" | "LoadBalancer"));
    let ports = spec.ports.iter().flatten().filter_map(|port| {
        Some(ServicePortRecord {
            name: port.name.as_deref().unwrap_or_default().into(),
            protocol: protocol(port.protocol.as_deref())?,
            port: u16::try_from(port.port).ok()?,
            node_port: port.node_port.and_then(|number| u16::try_from(number).ok()).filter(|&n| on_nodes && n != 0),
        })
    });
    tight(ports)
}

/// What there is, without room for more: nearly always one, of thousands of Services.
fn tight<T>(items: impl Iterator<Item = T>) -> Vec<T> {
    let mut items: Vec<T> = items.collect();
    items.shrink_to_fit();
    items
}

/// Only load balancers that may not pass a node's traffic on to another ask for it (D-098, D-102).
fn health_port(spec: &ServiceSpec) -> Option<u16> {
    let asks =
        spec.type_.as_deref() == Some("LoadBalancer") && spec.external_traffic_policy.as_deref() == Some("Local");
    spec.health_check_node_port.filter(|_| asks).and_then(|number| u16::try_from(number).ok()).filter(|&n| n != 0)
}

fn load_balancer_ips(service: &Service) -> Vec<IpAddr> {
    if service.spec.as_ref().and_then(|spec| spec.type_.as_deref()) != Some("LoadBalancer") {
        return Vec::new();
    }
    let ingress = service.status.iter().filter_map(|status| status.load_balancer.as_ref()?.ingress.as_ref()).flatten();
    // What has another mode, or a name instead of an address, is a load balancer that calls nodes by their nodePorts.
    let by_nodes = ingress.filter(|ingress| ingress.ip_mode.as_deref().unwrap_or("VIP") == "VIP");
    addresses(by_nodes.filter_map(|ingress| ingress.ip.as_ref()))
}

fn addresses<'a>(texts: impl Iterator<Item = &'a String>) -> Vec<IpAddr> {
    tight(texts.filter_map(|text| text.parse().ok()))
}

fn cluster_ips(spec: &ServiceSpec) -> Vec<IpAddr> {
    if spec.type_.as_deref() == Some("ExternalName") {
        return Vec::new();
    }
    // "None" does not parse, so a headless Service has no address here.
    let listed = addresses(spec.cluster_ips.iter().flatten());
    if listed.is_empty() { addresses(spec.cluster_ip.iter()) } else { listed }
}

fn policies(spec: &ServiceSpec) -> Policies {
    let policy = |text: Option<&str>| match text {
        Some("Local") => TrafficPolicy::Local,
        _ => TrafficPolicy::Cluster,
    };
    let timeout = || {
        let seconds = spec.session_affinity_config.as_ref()?.client_ip.as_ref()?.timeout_seconds?;
        Some(Duration::from_secs(u64::try_from(seconds).ok()?))
    };
    Policies {
        internal: policy(spec.internal_traffic_policy.as_deref()),
        external: policy(spec.external_traffic_policy.as_deref()),
        affinity: (spec.session_affinity.as_deref() == Some("ClientIP")).then(|| timeout().unwrap_or(DEFAULT_AFFINITY)),
        sources: spec.load_balancer_source_ranges.iter().flatten().filter_map(|range| source_range(range)).collect(),
    }
}

/// A range as the API accepts it: with white space around it, and with host bits.
fn source_range(text: &str) -> Option<IpNet> {
    Some(text.trim().parse::<IpNet>().ok()?.trunc())
}

impl SliceRecord {
    /// Reduces a slice; `None` for one that belongs to no Service or lists no IP addresses (D-007).
    pub(crate) fn of(slice: &EndpointSlice) -> Option<Self> {
        let service = slice.metadata.labels.as_ref()?.get(SERVICE_NAME_LABEL)?;
        if !matches!(slice.address_type.as_str(), "IPv4" | "IPv6") {
            return None;
        }
        let ports = slice.ports.iter().flatten().filter_map(|port| {
            Some(PortRecord {
                name: port.name.as_deref().unwrap_or_default().into(),
                protocol: protocol(port.protocol.as_deref())?,
                // A port without number is skipped (D-006).
                port: u16::try_from(port.port?).ok()?,
            })
        });
        let endpoints = slice.endpoints.iter().flatten().filter_map(|endpoint| {
            let conditions = endpoint.conditions.clone().unwrap_or_default();
            Some(EndpointRecord {
                address: endpoint.addresses.first()?.parse().ok()?,
                // Unset conditions mean what S-195 says.
                ready: conditions.ready.unwrap_or(true),
                serving: conditions.serving.unwrap_or(true),
                terminating: conditions.terminating.unwrap_or(false),
                node: endpoint.node_name.as_deref().map(Into::into),
                hints: hints(endpoint),
            })
        });
        Some(Self {
            service: ObjectKey::new(slice.metadata.namespace.as_deref(), Some(service)),
            ports: tight(ports),
            endpoints: tight(endpoints),
        })
    }
}

fn hints(endpoint: &k8s_openapi::api::discovery::v1::Endpoint) -> Option<Arc<Hints>> {
    let hints = endpoint.hints.as_ref()?;
    Some(Arc::new(Hints {
        nodes: hints.for_nodes.iter().flatten().map(|node| node.name.as_str().into()).collect(),
        zones: hints.for_zones.iter().flatten().map(|zone| zone.name.as_str().into()).collect(),
    }))
}

impl NodeRecord {
    /// Reduces a Node.
    pub(crate) fn of(node: &Node) -> Self {
        let addresses = node.status.iter().flat_map(|status| status.addresses.iter().flatten());
        Self {
            name: node.metadata.name.as_deref().unwrap_or_default().into(),
            addresses: addresses
                .filter(|address| address.type_ == "InternalIP")
                .filter_map(|address| address.address.parse().ok())
                .collect(),
            excluded: node.metadata.labels.as_ref().is_some_and(|labels| labels.contains_key(EXCLUDED_LABEL)),
            leaving: node.metadata.deletion_timestamp.is_some()
                || node
                    .spec
                    .iter()
                    .flat_map(|spec| spec.taints.iter().flatten())
                    .any(|taint| taint.key == REMOVAL_TAINT),
            zone: node
                .metadata
                .labels
                .iter()
                .find_map(|labels| labels.get(ZONE_LABEL))
                .map(|zone| zone.as_str().into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn service(spec: Value) -> ServiceRecord {
        let object = json!({"metadata": {"namespace": "n", "name": "s"}, "spec": spec});
        ServiceRecord::of(&serde_json::from_value(object).expect("a Service"))
    }

    fn slice(object: Value) -> Option<SliceRecord> {
        SliceRecord::of(&serde_json::from_value(object).expect("an EndpointSlice"))
    }

    // D-009, S-160, S-161
    #[test]
    fn only_services_with_an_address_are_translated_in_every_protocol() {
        assert!(service(json!({"clusterIP": "None", "clusterIPs": ["None"]})).cluster_ips.is_empty());
        assert!(service(json!({"type": "ExternalName", "externalName": "x"})).cluster_ips.is_empty());
        let ports = json!([{"name": "a", "port": 1, "protocol": "SCTP"}, {"name": "b", "port": 2, "protocol": "UDP"}]);
        let record = service(json!({"clusterIPs": ["10.96.0.9"], "ports": ports}));
        assert_eq!(record.cluster_ips, ["10.96.0.9".parse::<IpAddr>().expect("an address")]);
        let ports: Vec<_> = record.ports.iter().map(|p| (&*p.name, p.protocol)).collect();
        assert_eq!(ports, [("a", Protocol::Sctp), ("b", Protocol::Udp)]);
    }

    // S-167, S-168
    #[test]
    fn labels_hand_a_service_to_somebody_else() {
        for label in [PROXY_NAME_LABEL, HEADLESS_LABEL] {
            let object = json!({"metadata": {"name": "s", "labels": {label: ""}}, "spec": {"clusterIP": "10.96.0.9"}});
            assert!(ServiceRecord::of(&serde_json::from_value(object).expect("a Service")).unhandled, "{label}");
        }
        assert!(!service(json!({"clusterIP": "10.96.0.9"})).unhandled);
    }

    // D-056, D-060, S-142
    #[test]
    fn node_ports_and_load_balancer_addresses_belong_to_a_type() {
        let object = |kind: &str| {
            json!({
                "metadata": {"namespace": "n", "name": "s"},
                "spec": {"type": kind, "clusterIP": "10.96.0.9", "ports": [{"port": 80, "nodePort": 30080}]},
                "status": {"loadBalancer": {"ingress": [{"ip": "10.95.1.1"}]}},
            })
        };
        let record = |kind| ServiceRecord::of(&serde_json::from_value(object(kind)).expect("a Service"));
        let seen = |kind| (record(kind).ports[0].node_port, record(kind).load_balancer_ips.len());
        assert_eq!(seen("ClusterIP"), (None, 0));
        assert_eq!(seen("NodePort"), (Some(30080), 0));
        assert_eq!(seen("LoadBalancer"), (Some(30080), 1));
    }

    // D-098, D-102
    #[test]
    fn a_health_check_port_belongs_to_load_balancers_with_policy_local() {
        let port = |kind: &str, policy: &str| {
            let spec = json!({"type": kind, "externalTrafficPolicy": policy, "healthCheckNodePort": 32000});
            service(spec).health_port
        };
        assert_eq!(port("LoadBalancer", "Local"), Some(32000));
        assert_eq!((port("LoadBalancer", "Cluster"), port("NodePort", "Local")), (None, None));
        assert_eq!(service(json!({"type": "LoadBalancer", "externalTrafficPolicy": "Local"})).health_port, None);
    }

    // D-064, D-065, S-130
    #[test]
    fn only_addresses_of_mode_vip_are_taken_on_the_nodes() {
        let object = json!({
            "metadata": {"namespace": "n", "name": "s"}, "spec": {"type": "LoadBalancer", "clusterIP": "10.96.0.9"},
            "status": {"loadBalancer": {"ingress": [
                {"ip": "10.95.1.1"}, {"ip": "10.95.1.2", "ipMode": "VIP"}, {"ip": "10.95.1.3", "ipMode": "Proxy"},
                {"hostname": "lb.example"},
            ]}},
        });
        let record = ServiceRecord::of(&serde_json::from_value(object).expect("a Service"));
        let taken: Vec<String> = record.load_balancer_ips.iter().map(ToString::to_string).collect();
        assert_eq!(taken, ["10.95.1.1", "10.95.1.2"]);
    }

    // S-133
    #[test]
    fn source_ranges_are_read_as_the_api_accepts_them() {
        let ranges = json!({"loadBalancerSourceRanges": [" 10.0.0.7/8 ", "fd00::/8", "no range"]});
        let sources: Vec<String> = service(ranges).policies.sources.iter().map(ToString::to_string).collect();
        assert_eq!(sources, ["10.0.0.0/8", "fd00::/8"]);
    }

    // S-208, S-209
    #[test]
    fn hints_and_zones_are_read() {
        let record = slice(json!({
            "metadata": {"labels": {SERVICE_NAME_LABEL: "s"}}, "addressType": "IPv4",
            "endpoints": [
                {"addresses": ["10.244.0.5"], "hints": {"forNodes": [{"name": "node-1"}], "forZones": [{"name": "a"}]}},
                {"addresses": ["10.244.0.6"]},
            ],
        }))
        .expect("it has a Service");
        let hints = Hints { nodes: vec!["node-1".into()], zones: vec!["a".into()] };
        assert_eq!(record.endpoints[0].hints.as_deref(), Some(&hints));
        assert_eq!(record.endpoints[1].hints, None);
        let node = json!({"metadata": {"name": "node-1", "labels": {ZONE_LABEL: "a"}}, "status": {"addresses": [
            {"type": "Hostname", "address": "10.0.0.1"}, {"type": "InternalIP", "address": "10.95.0.11"}]}});
        let node = NodeRecord::of(&serde_json::from_value(node).expect("a Node"));
        assert_eq!(
            (node.zone.as_deref(), node.addresses),
            (Some("a"), vec!["10.95.0.11".parse().expect("an address")])
        );
    }

    // S-140
    #[test]
    fn labels_and_taints_keep_load_balancers_from_a_node() {
        let node = |metadata: Value, taint: &str| {
            let node = json!({"metadata": metadata, "spec": {"taints": [{"key": taint, "effect": "NoSchedule"}]}});
            let record = NodeRecord::of(&serde_json::from_value(node).expect("a Node"));
            (record.excluded, record.leaving)
        };
        assert_eq!(node(json!({}), "node.kubernetes.io/not-ready"), (false, false), "readiness does not matter");
        assert_eq!(node(json!({"labels": {EXCLUDED_LABEL: ""}}), "x"), (true, false));
        assert_eq!(node(json!({}), REMOVAL_TAINT), (false, true));
        assert_eq!(node(json!({"deletionTimestamp": "2026-01-01T00:00:00Z"}), "x"), (false, true));
    }

    // S-023
    #[test]
    fn affinity_lasts_three_hours_unless_the_service_says_otherwise() {
        assert_eq!(service(json!({"sessionAffinity": "None"})).policies.affinity, None);
        assert_eq!(service(json!({"sessionAffinity": "ClientIP"})).policies.affinity, Some(DEFAULT_AFFINITY));
        let config =
            json!({"sessionAffinity": "ClientIP", "sessionAffinityConfig": {"clientIP": {"timeoutSeconds": 5}}});
        assert_eq!(service(config).policies.affinity, Some(Duration::from_secs(5)));
    }

    // S-195, D-006, D-007
    #[test]
    fn a_slice_is_read_as_the_proxy_reads_it() {
        let record = slice(json!({
            "metadata": {"namespace": "n", "name": "s-1", "labels": {SERVICE_NAME_LABEL: "s"}},
            "addressType": "IPv4",
            "ports": [{"name": "http", "port": 8080}, {"name": "none"}],
            "endpoints": [
                {"addresses": ["10.244.0.5", "10.244.0.6"]},
                {"addresses": ["10.244.0.7"], "nodeName": "node-1",
                 "conditions": {"ready": false, "serving": true, "terminating": true}},
                {"addresses": ["not an address"]},
            ],
        }))
        .expect("it has a Service");
        assert_eq!(record.ports.len(), 1, "a port without number is skipped");
        let seen: Vec<_> =
            record.endpoints.iter().map(|e| (e.address.to_string(), e.ready, e.serving, e.terminating)).collect();
        assert_eq!(seen, [("10.244.0.5".into(), true, true, false), ("10.244.0.7".into(), false, true, true)]);
    }

    // D-007
    #[test]
    fn slices_of_names_and_of_nobody_are_left_out() {
        let labelled =
            json!({"metadata": {"labels": {SERVICE_NAME_LABEL: "s"}}, "addressType": "FQDN", "endpoints": []});
        assert_eq!(slice(labelled), None);
        assert_eq!(slice(json!({"metadata": {}, "addressType": "IPv4", "endpoints": []})), None);
    }
}
