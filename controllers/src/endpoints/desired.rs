//! What the Endpoints object of a Service contains: a plain function of the Service and its pods.

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::net::IpAddr;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{EndpointAddress, EndpointPort, EndpointSubset, Endpoints, Service};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use crate::endpoint_facts::{HEADLESS, hostname, is_headless, ports_of, primary_is_ipv6, publishes_not_ready, target};
use crate::pod::Pod;
use crate::pods;
use crate::selector::Labels;
use crate::trigger;

const MANAGED_BY: &str = "endpoints.kubernetes.io/managed-by";
const MANAGER: &str = "endpoint-controller";
const OVER_CAPACITY: &str = "endpoints.kubernetes.io/over-capacity";

/// S-183.
const MAX_ADDRESSES: usize = 1000;

/// A distinct set of ports, sorted, with defaults filled in.
type Ports = Vec<(String, i32, String, Option<String>)>;

#[derive(Default)]
struct Members {
    ready: Vec<(IpAddr, EndpointAddress)>,
    not_ready: Vec<(IpAddr, EndpointAddress)>,
}

/// Computes the subsets of `service`; the flag tells that addresses were left out.
pub(crate) fn subsets<'a>(service: &Service, pods: impl IntoIterator<Item = &'a Pod>) -> (Vec<EndpointSubset>, bool) {
    let publish = publishes_not_ready(service);
    let ipv6 = primary_is_ipv6(service);
    let portless = service.spec.as_ref().is_none_or(|spec| spec.ports.iter().flatten().next().is_none());
    let mut groups: BTreeMap<Ports, Members> = BTreeMap::new();
    for pod in pods {
        // The phase alone decides that a pod has ended (S-177).
        if pods::is_finished(pod) || (pods::is_terminating(pod) && !publish) {
            continue;
        }
        let Some(address) = pods::address(pod, ipv6) else { continue };
        let ports = resolved(service, pod);
        if ports.is_empty() && !(portless && is_headless(service)) {
            continue;
        }
        let members = groups.entry(ports).or_default();
        let entry = (address, endpoint_address(service, pod, address));
        if publish || pods::is_ready(pod) { members.ready.push(entry) } else { members.not_ready.push(entry) }
    }
    for members in groups.values_mut() {
        members.ready.sort_by(order);
        members.not_ready.sort_by(order);
    }
    let truncated = truncate(&mut groups);
    (groups.into_iter().filter_map(subset).collect(), truncated)
}

/// The Endpoints object as it should be, or `None` when `present` is already that (S-184).
pub(crate) fn desired<'a>(
    service: &Service,
    pods: impl IntoIterator<Item = &'a Pod>,
    present: Option<&Endpoints>,
    triggered: Option<Timestamp>,
) -> Option<Endpoints> {
    let (subsets, truncated) = subsets(service, pods);
    let labels = labels(service);
    if let Some(present) = present {
        let annotations = present.metadata.annotations.as_ref();
        let same = normal(present.subsets.as_deref().unwrap_or_default()) == normal(&subsets)
            && present.metadata.labels.as_ref() == Some(&labels)
            && annotations.is_some_and(|known| known.contains_key(OVER_CAPACITY)) == truncated;
        if same {
            return None;
        }
    }
    let mut metadata = present.map_or_else(
        || ObjectMeta {
            name: service.metadata.name.clone(),
            namespace: service.metadata.namespace.clone(),
            ..ObjectMeta::default()
        },
        |present| present.metadata.clone(),
    );
    metadata.labels = Some(labels);
    let annotations = metadata.annotations.get_or_insert_default();
    annotations.remove(trigger::ANNOTATION);
    annotations.remove(OVER_CAPACITY);
    if let Some(time) = triggered {
        annotations.insert(trigger::ANNOTATION.to_owned(), time.to_string());
    }
    if truncated {
        annotations.insert(OVER_CAPACITY.to_owned(), "truncated".to_owned());
    }
    // S-180: absent, not empty.
    Some(Endpoints { metadata, subsets: (!subsets.is_empty()).then_some(subsets) })
}

fn resolved(service: &Service, pod: &Pod) -> Ports {
    let mut ports: Ports = ports_of(service)
        .filter_map(|port| {
            let protocol = port.protocol.clone().unwrap_or_else(|| "TCP".to_owned());
            let number = pods::resolve_port(pod, port.port, port.target_port.as_ref(), &protocol)?;
            Some((port.name.clone().unwrap_or_default(), number, protocol, port.app_protocol.clone()))
        })
        .collect();
    ports.sort();
    ports
}

fn endpoint_address(service: &Service, pod: &Pod, address: IpAddr) -> EndpointAddress {
    EndpointAddress {
        ip: address.to_string(),
        hostname: hostname(service, pod),
        node_name: pods::node_name(pod).map(str::to_owned),
        target_ref: Some(target(pod)),
    }
}

fn order(a: &(IpAddr, EndpointAddress), b: &(IpAddr, EndpointAddress)) -> std::cmp::Ordering {
    let uid = |entry: &(IpAddr, EndpointAddress)| entry.1.target_ref.as_ref().and_then(|target| target.uid.clone());
    a.0.cmp(&b.0).then_with(|| uid(a).cmp(&uid(b)))
}

/// Leaves [`MAX_ADDRESSES`], ready ones first, taken in turn from the largest subset, so that what goes is spread.
fn truncate(groups: &mut BTreeMap<Ports, Members>) -> bool {
    let ready: usize = groups.values().map(|members| members.ready.len()).sum();
    let not_ready: usize = groups.values().map(|members| members.not_ready.len()).sum();
    if ready + not_ready <= MAX_ADDRESSES {
        return false;
    }
    let room = MAX_ADDRESSES.saturating_sub(ready);
    shrink(groups.values_mut().map(|members| &mut members.not_ready).collect(), room.min(not_ready));
    shrink(groups.values_mut().map(|members| &mut members.ready).collect(), ready.min(MAX_ADDRESSES));
    true
}

fn shrink<T>(mut lists: Vec<&mut Vec<T>>, total: usize) {
    let mut sum: usize = lists.iter().map(|list| list.len()).sum();
    while sum > total {
        lists.sort_by_key(|list| Reverse(list.len()));
        let Some(largest) = lists.first_mut() else { return };
        largest.pop();
        sum -= 1;
    }
}

fn subset((ports, members): (Ports, Members)) -> Option<EndpointSubset> {
    let list = |entries: Vec<(IpAddr, EndpointAddress)>| {
        (!entries.is_empty()).then(|| entries.into_iter().map(|(_, address)| address).collect::<Vec<_>>())
    };
    let ports: Vec<EndpointPort> = ports
        .into_iter()
        .map(|(name, port, protocol, app_protocol)| EndpointPort {
            name: (!name.is_empty()).then_some(name),
            port,
            protocol: Some(protocol),
            app_protocol,
        })
        .collect();
    let (addresses, not_ready_addresses) = (list(members.ready), list(members.not_ready));
    (addresses.is_some() || not_ready_addresses.is_some()).then(|| EndpointSubset {
        addresses,
        not_ready_addresses,
        ports: (!ports.is_empty()).then_some(ports),
    })
}

/// Absent and default values made equal, for comparing with what the server stores.
fn normal(subsets: &[EndpointSubset]) -> Vec<EndpointSubset> {
    let mut subsets = subsets.to_vec();
    for subset in &mut subsets {
        for list in [&mut subset.addresses, &mut subset.not_ready_addresses] {
            *list = list.take().filter(|list| !list.is_empty());
        }
        subset.ports = subset.ports.take().filter(|ports| !ports.is_empty());
        for port in subset.ports.iter_mut().flatten() {
            port.name = port.name.take().filter(|name| !name.is_empty());
            port.protocol.get_or_insert_with(|| "TCP".to_owned());
        }
    }
    subsets
}

/// S-181.
fn labels(service: &Service) -> Labels {
    let mut labels = service.metadata.labels.clone().unwrap_or_default();
    labels.remove(HEADLESS);
    labels.insert(MANAGED_BY.to_owned(), MANAGER.to_owned());
    if is_headless(service) {
        labels.insert(HEADLESS.to_owned(), String::new());
    }
    labels
}

#[cfg(test)]
#[path = "desired_tests.rs"]
mod tests;
