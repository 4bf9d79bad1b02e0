//! Service: one name, one address and one set of ports for a changing set of pods.
//!
//! Here are the parts put together and the facts about a Service that several of them ask for. Who its endpoints are is
//! the controllers' business, where packets go the data plane's.

mod addresses;
mod allocation;
mod carry;
mod cells;
mod defaulting;
mod families;
mod pools;
mod ports;
mod status;
mod validation;
mod warnings;

use serde_json::Value;

use super::json::{at, integer, list, text, texts};
use crate::registry::{NameRule, Resource, Subresource};

/// The cluster address of a Service that wants none.
const HEADLESS: &str = "None";
const CLUSTER_IP: &str = "ClusterIP";
const NODE_PORT: &str = "NodePort";
const LOAD_BALANCER: &str = "LoadBalancer";
const EXTERNAL_NAME: &str = "ExternalName";
/// S-061
const SOURCE_RANGES_ANNOTATION: &str = "service.beta.kubernetes.io/load-balancer-source-ranges";
/// S-071
const TOPOLOGY_MODE: &str = "service.kubernetes.io/topology-mode";
/// The older spelling of [`TOPOLOGY_MODE`].
const TOPOLOGY_HINTS: &str = "service.kubernetes.io/topology-aware-hints";

pub(super) fn resource() -> Resource {
    Resource {
        kind: "Service",
        plural: "services",
        singular: "service",
        short_names: &["svc"],
        categories: &["all"],
        has_status: true,
        subresources: &[Subresource::Status, Subresource::Proxy],
        name_rule: NameRule::Label1035,
        allow_create_on_update: true,
        returns_deleted_object: true,
        selectable: |service| {
            vec![
                ("spec.clusterIP", text(service, "/spec/clusterIP").to_owned()),
                ("spec.type", kind(service).to_owned()),
            ]
        },
        selectable_names: &["spec.clusterIP", "spec.type"],
        columns: cells::COLUMNS,
        row: cells::row,
        default: defaulting::default,
        prepare: carry::prepare,
        validate: validation::validate,
        validate_status: status::validate,
        warnings: warnings::warnings,
        allocate: Some(&allocation::Allocator),
        ..Resource::BASE
    }
}

fn kind(service: &Value) -> &str {
    text(service, "/spec/type")
}

/// Everything but ExternalName has a cluster address, be it `None`.
fn needs_cluster_ip(service: &Value) -> bool {
    [CLUSTER_IP, NODE_PORT, LOAD_BALANCER].contains(&kind(service))
}

fn is_headless(service: &Value) -> bool {
    texts(service, "/spec/clusterIPs").first() == Some(&HEADLESS)
}

/// Whether each port gets a node port (S-116, S-132).
fn needs_node_ports(service: &Value) -> bool {
    let declined = at(service, "/spec/allocateLoadBalancerNodePorts") == &Value::Bool(false);
    kind(service) == NODE_PORT || kind(service) == LOAD_BALANCER && !declined
}

/// Whether its ports can have node ports at all, given or allocated.
fn may_have_node_ports(service: &Value) -> bool {
    [NODE_PORT, LOAD_BALANCER].contains(&kind(service))
}

/// Whether nodes tell a load balancer if they have endpoints (S-134).
fn needs_health_check_port(service: &Value) -> bool {
    kind(service) == LOAD_BALANCER && text(service, "/spec/externalTrafficPolicy") == "Local"
}

/// Whether anything reaches it at an address that is not the cluster's (S-024, S-067).
fn is_externally_accessible(service: &Value) -> bool {
    match kind(service) {
        NODE_PORT | LOAD_BALANCER => true,
        CLUSTER_IP => !list(service, "/spec/externalIPs").is_empty(),
        _ => false,
    }
}

/// The node port of one of its ports, if it has one; 0 means none.
fn node_port(port: &Value) -> Option<i64> {
    integer(port, "/nodePort").filter(|number| *number != 0)
}

/// Every node port of a Service.
fn node_ports(service: &Value) -> Vec<i64> {
    list(service, "/spec/ports").iter().filter_map(node_port).collect()
}

/// The health check port, if there is one; 0 means none.
fn health_check_port(service: &Value) -> Option<i64> {
    integer(service, "/spec/healthCheckNodePort").filter(|number| *number != 0)
}

fn has_selector(service: &Value) -> bool {
    super::json::size(service, "/spec/selector") > 0
}

/// The source ranges with their path: the field, or the older annotation where the field is empty (S-061).
fn source_ranges(service: &Value) -> Vec<(String, String)> {
    let field = texts(service, "/spec/loadBalancerSourceRanges");
    if !field.is_empty() {
        let path = |index: usize| format!("spec.LoadBalancerSourceRanges[{index}]");
        return field.iter().enumerate().map(|(index, range)| (path(index), range.trim().to_owned())).collect();
    }
    let annotation = annotation(service, SOURCE_RANGES_ANNOTATION).unwrap_or_default().trim();
    let path = format!("metadata.annotations[{SOURCE_RANGES_ANNOTATION}]");
    let ranges = annotation.split(',').map(str::trim).filter(|_| !annotation.is_empty());
    ranges.map(|range| (path.clone(), range.to_owned())).collect()
}

fn annotation<'a>(service: &'a Value, name: &str) -> Option<&'a str> {
    at(service, "/metadata/annotations").get(name).and_then(Value::as_str)
}

#[cfg(test)]
mod tests {
    use super::*;

    // S-001, S-003, S-004, S-005
    #[test]
    fn the_kind_is_described() {
        let kind = resource();
        assert_eq!((kind.api_version(), kind.plural, kind.namespaced), ("v1".to_owned(), "services", true));
        assert_eq!((kind.short_names, kind.categories), (&["svc"][..], &["all"][..]));
        assert_eq!(kind.subresource("scale"), None);
        assert_eq!(kind.subresource("status"), Some(&Subresource::Status));
        assert!(kind.returns_deleted_object && kind.allow_create_on_update && kind.allow_unconditional_update);
    }
}
