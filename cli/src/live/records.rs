//! Objects reduced to what is shown. Pure.

use k8s_openapi::api::core::v1::{Node, Pod, Service};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use serde::Serialize;

/// Names the Service that a slice belongs to.
const SERVICE_NAME: &str = "kubernetes.io/service-name";

/// The zone of a node.
const ZONE: &str = "topology.kubernetes.io/zone";

/// Which kind of object.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Kind {
    Node,
    Service,
    Pod,
    Slice,
}

/// `namespace/name`, or the name of a node.
pub(crate) type Key = String;

/// A node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct NodeRecord {
    pub(crate) addresses: Vec<String>,
    pub(crate) zone: Option<String>,
    pub(crate) ready: bool,
}

/// A port of a Service.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Port {
    pub(crate) name: Option<String>,
    pub(crate) port: i32,
    pub(crate) protocol: String,
    pub(crate) target: String,
    pub(crate) node_port: Option<i32>,
}

/// A Service.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct ServiceRecord {
    pub(crate) namespace: String,
    pub(crate) name: String,
    #[serde(rename = "type")]
    pub(crate) kind: String,
    /// Every address it answers at: cluster, external, load balancer.
    pub(crate) addresses: Vec<String>,
    pub(crate) external_name: Option<String>,
    pub(crate) ports: Vec<Port>,
}

/// A pod.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct PodRecord {
    pub(crate) namespace: String,
    pub(crate) name: String,
    pub(crate) node: Option<String>,
    pub(crate) addresses: Vec<String>,
    pub(crate) phase: String,
    pub(crate) ready: bool,
    pub(crate) terminating: bool,
    pub(crate) host_network: bool,
    pub(crate) restarts: i32,
    /// Why a container waits, if one does.
    pub(crate) reason: Option<String>,
}

/// An endpoint of a slice, its unset conditions read as S-195 says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Endpoint {
    pub(crate) address: String,
    pub(crate) ready: bool,
    pub(crate) terminating: bool,
    pub(crate) node: Option<String>,
    /// The pod behind it.
    pub(crate) target: Option<String>,
}

/// A slice.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct SliceRecord {
    /// `namespace/name` of its Service.
    pub(crate) service: Key,
    pub(crate) endpoints: Vec<Endpoint>,
}

/// An object, reduced.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(untagged)]
pub(crate) enum Record {
    Node(NodeRecord),
    Service(ServiceRecord),
    Pod(PodRecord),
    Slice(SliceRecord),
}

impl Record {
    /// Which kind it is of.
    pub(crate) fn kind(&self) -> Kind {
        match self {
            Self::Node(_) => Kind::Node,
            Self::Service(_) => Kind::Service,
            Self::Pod(_) => Kind::Pod,
            Self::Slice(_) => Kind::Slice,
        }
    }
}

/// What happened to an object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Change {
    /// It is there, and like this.
    Put(Key, Record),
    /// It is gone.
    Delete(Kind, Key),
}

/// Something that is shown.
pub(crate) trait Shown {
    /// What it is known by; `None` for one that is not shown.
    fn reduced(&self) -> Option<(Key, Record)>;
}

impl Shown for Node {
    fn reduced(&self) -> Option<(Key, Record)> {
        let status = self.status.clone().unwrap_or_default();
        let addresses = status.addresses.into_iter().flatten().filter(|address| address.type_ == "InternalIP");
        let mut conditions = status.conditions.into_iter().flatten();
        let record = NodeRecord {
            addresses: addresses.map(|address| address.address).collect(),
            zone: self.metadata.labels.as_ref().and_then(|labels| labels.get(ZONE)).cloned(),
            ready: conditions.any(|condition| condition.type_ == "Ready" && condition.status == "True"),
        };
        Some((self.metadata.name.clone()?, Record::Node(record)))
    }
}

impl Shown for Service {
    fn reduced(&self) -> Option<(Key, Record)> {
        let (namespace, name) = (self.metadata.namespace.clone()?, self.metadata.name.clone()?);
        let spec = self.spec.clone().unwrap_or_default();
        let status = self.status.as_ref().and_then(|status| status.load_balancer.as_ref()?.ingress.clone());
        let balancers = status.into_iter().flatten().filter_map(|ingress| ingress.ip);
        let cluster = spec.cluster_ips.into_iter().flatten().filter(|address| address != "None");
        let target = |port: &Option<IntOrString>, same: i32| match port {
            Some(IntOrString::String(name)) => name.clone(),
            Some(IntOrString::Int(number)) => number.to_string(),
            None => same.to_string(),
        };
        let ports = spec.ports.into_iter().flatten().map(|port| Port {
            target: target(&port.target_port, port.port),
            name: port.name,
            port: port.port,
            protocol: port.protocol.unwrap_or_else(|| "TCP".to_owned()),
            node_port: port.node_port,
        });
        let record = ServiceRecord {
            kind: spec.type_.unwrap_or_else(|| "ClusterIP".to_owned()),
            addresses: cluster.chain(spec.external_ips.into_iter().flatten()).chain(balancers).collect(),
            external_name: spec.external_name,
            ports: ports.collect(),
            namespace: namespace.clone(),
            name: name.clone(),
        };
        Some((format!("{namespace}/{name}"), Record::Service(record)))
    }
}

impl Shown for Pod {
    fn reduced(&self) -> Option<(Key, Record)> {
        let (namespace, name) = (self.metadata.namespace.clone()?, self.metadata.name.clone()?);
        let status = self.status.clone().unwrap_or_default();
        let spec = self.spec.as_ref();
        let containers: Vec<_> = status.container_statuses.into_iter().flatten().collect();
        let waiting =
            containers.iter().find_map(|container| container.state.as_ref()?.waiting.as_ref()?.reason.clone());
        let mut conditions = status.conditions.into_iter().flatten();
        let record = PodRecord {
            node: spec.and_then(|spec| spec.node_name.clone()),
            addresses: status.pod_ips.into_iter().flatten().map(|address| address.ip).collect(),
            phase: status.phase.unwrap_or_else(|| "Pending".to_owned()),
            ready: conditions.any(|condition| condition.type_ == "Ready" && condition.status == "True"),
            terminating: self.metadata.deletion_timestamp.is_some(),
            host_network: spec.and_then(|spec| spec.host_network).unwrap_or(false),
            restarts: containers.iter().map(|container| container.restart_count).sum(),
            reason: waiting.or(status.reason),
            namespace: namespace.clone(),
            name: name.clone(),
        };
        Some((format!("{namespace}/{name}"), Record::Pod(record)))
    }
}

impl Shown for EndpointSlice {
    fn reduced(&self) -> Option<(Key, Record)> {
        let (namespace, name) = (self.metadata.namespace.clone()?, self.metadata.name.clone()?);
        let service = self.metadata.labels.as_ref()?.get(SERVICE_NAME)?;
        let endpoints = self.endpoints.iter().flatten().filter_map(|endpoint| {
            let conditions = endpoint.conditions.clone().unwrap_or_default();
            Some(Endpoint {
                address: endpoint.addresses.first()?.clone(),
                ready: conditions.ready.unwrap_or(true),
                terminating: conditions.terminating.unwrap_or(false),
                node: endpoint.node_name.clone(),
                target: endpoint.target_ref.as_ref().and_then(|target| target.name.clone()),
            })
        });
        let record = SliceRecord { service: format!("{namespace}/{service}"), endpoints: endpoints.collect() };
        Some((format!("{namespace}/{name}"), Record::Slice(record)))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, from_value, json};

    use super::*;

    #[test]
    fn a_service_is_shown_with_every_address_it_answers_at() {
        let service: Service = from_value(json!({
            "metadata": {"namespace": "n", "name": "web"},
            "spec": {"type": "LoadBalancer", "clusterIPs": ["10.96.0.9"], "externalIPs": ["192.0.2.1"],
                "ports": [{"port": 80, "targetPort": "http", "nodePort": 30080}]},
            "status": {"loadBalancer": {"ingress": [{"ip": "10.95.1.1"}]}},
        }))
        .expect("a Service");
        let (key, Record::Service(record)) = service.reduced().expect("shown") else { panic!("a Service") };
        assert_eq!((key.as_str(), record.kind.as_str()), ("n/web", "LoadBalancer"));
        assert_eq!(record.addresses, ["10.96.0.9", "192.0.2.1", "10.95.1.1"]);
        assert_eq!((record.ports[0].target.as_str(), record.ports[0].node_port), ("http", Some(30080)));
        let headless = json!({"metadata": {"namespace": "n", "name": "db"}, "spec": {"clusterIPs": ["None"]}});
        let headless: Service = from_value(headless).expect("a Service");
        let (_, Record::Service(record)) = headless.reduced().expect("shown") else { panic!("a Service") };
        assert!(record.addresses.is_empty());
    }

    fn pod(status: Value) -> PodRecord {
        let pod: Pod =
            from_value(json!({"metadata": {"namespace": "n", "name": "p"}, "status": status})).expect("a Pod");
        match pod.reduced() {
            Some((_, Record::Pod(record))) => record,
            other => panic!("a Pod: {other:?}"),
        }
    }

    #[test]
    fn a_pod_is_ready_by_its_condition_and_says_what_it_waits_for() {
        assert!(!pod(json!({"phase": "Running"})).ready);
        assert!(pod(json!({"conditions": [{"type": "Ready", "status": "True"}]})).ready);
        let waits = json!({"containerStatuses": [{"name": "c", "image": "i", "imageID": "", "ready": false,
            "restartCount": 3, "state": {"waiting": {"reason": "CrashLoopBackOff"}}}]});
        let record = pod(waits);
        assert_eq!((record.restarts, record.reason.as_deref()), (3, Some("CrashLoopBackOff")));
    }

    // S-195
    #[test]
    fn an_endpoint_without_conditions_is_ready() {
        let slice: EndpointSlice = from_value(json!({
            "metadata": {"namespace": "n", "name": "web-1", "labels": {SERVICE_NAME: "web"}}, "addressType": "IPv4",
            "endpoints": [{"addresses": ["10.244.0.2"], "targetRef": {"kind": "Pod", "name": "p"}},
                {"addresses": ["10.244.0.3"], "conditions": {"ready": false, "terminating": true}}],
        }))
        .expect("a slice");
        let (_, Record::Slice(record)) = slice.reduced().expect("shown") else { panic!("a slice") };
        assert_eq!(record.service, "n/web");
        let seen: Vec<_> = record.endpoints.iter().map(|e| (e.ready, e.terminating, e.target.as_deref())).collect();
        assert_eq!(seen, [(true, false, Some("p")), (false, true, None)]);
    }
}
