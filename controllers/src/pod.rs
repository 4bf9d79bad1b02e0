//! A pod as the controllers keep it: what their rules read, and nothing else.
//!
//! There may be thousands of pods, and one of Kubernetes' own type takes about 15 KB however little is in it. Fields have the names and
//! places they have there, so that rules read alike; what no rule asks for is skipped while the answer is read.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::Arc;

use k8s_openapi::api::core::v1 as core;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference, Time};
use kube::Client;
use kube::api::PostParams;
use kube::core::{NamespaceResourceScope, Request, Resource};
use serde::{Deserialize, Deserializer};

use crate::job;
use crate::relations::{self, Relations};
use crate::replicaset;
use crate::requests::{self, Listed, Requests, Resources, Role};
use crate::selector::{Labelled, Labels};

/// Annotations that a rule reads. Others are not kept: they may be large, such as the last applied manifest.
const ANNOTATIONS: [&str; 4] = [job::INDEX, job::FAILURES, job::IGNORED_FAILURES, replicaset::DELETION_COST];

/// See the module.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(from = "SentPod")]
pub(crate) struct Pod {
    /// Without labels, which have a field of their own.
    pub(crate) metadata: ObjectMeta,
    /// `metadata.labels`
    pub(crate) labels: PodLabels,
    pub(crate) spec: Option<PodSpec>,
    pub(crate) status: Option<PodStatus>,
}

/// Labels by their keys. A map of Kubernetes' own type takes half a kilobyte however few there are.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct PodLabels(Box<[(Box<str>, Box<str>)]>);

impl PodLabels {
    /// The value of a label.
    pub(crate) fn get(&self, key: &str) -> Option<&str> {
        let at = self.0.binary_search_by(|(known, _)| (**known).cmp(key)).ok()?;
        self.0.get(at).map(|(_, value)| &**value)
    }

    /// Keys and values.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().map(|(key, value)| (&**key, &**value))
    }
}

impl From<Labels> for PodLabels {
    fn from(labels: Labels) -> Self {
        Self(labels.into_iter().map(|(key, value)| (key.into(), value.into())).collect())
    }
}

impl Labelled for PodLabels {
    fn label(&self, key: &str) -> Option<&str> {
        self.get(key)
    }
}

/// `spec`
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct PodSpec {
    pub(crate) node_name: Option<String>,
    pub(crate) hostname: Option<String>,
    pub(crate) subdomain: Option<String>,
    pub(crate) scheduler_name: Option<String>,
    pub(crate) node_selector: Option<BTreeMap<String, String>>,
    pub(crate) affinity: Option<Box<Affinity>>,
    /// The rest of `affinity`, and `topologySpreadConstraints`.
    pub(crate) relations: Option<Arc<Relations>>,
    pub(crate) tolerations: Box<[core::Toleration]>,
    pub(crate) scheduling_gates: Box<[core::PodSchedulingGate]>,
    pub(crate) containers: Box<[Container]>,
    pub(crate) init_containers: Box<[Container]>,
    /// What all of `resources` and `overhead` come to.
    pub(crate) requests: Requests,
}

/// `spec.affinity`, of which this is to nodes.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Affinity {
    pub(crate) node_affinity: Option<core::NodeAffinity>,
}

/// An entry of `spec.containers` or `spec.initContainers`
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Container {
    pub(crate) restart_policy: Option<String>,
    pub(crate) ports: Box<[core::ContainerPort]>,
}

/// `status`
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct PodStatus {
    pub(crate) phase: Option<String>,
    #[serde(rename = "podIP")]
    pub(crate) pod_ip: Option<String>,
    #[serde(rename = "podIPs", deserialize_with = "tight")]
    pub(crate) pod_ips: Box<[core::PodIP]>,
    pub(crate) start_time: Option<Time>,
    #[serde(deserialize_with = "tight")]
    pub(crate) conditions: Box<[Condition]>,
    #[serde(deserialize_with = "tight")]
    pub(crate) container_statuses: Box<[ContainerStatus]>,
    #[serde(deserialize_with = "tight")]
    pub(crate) init_container_statuses: Box<[ContainerStatus]>,
}

/// An entry of `status.conditions`
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct Condition {
    #[serde(rename = "type")]
    pub(crate) type_: String,
    pub(crate) status: String,
    pub(crate) message: Option<String>,
    pub(crate) last_transition_time: Option<Time>,
}

/// An entry of `status.containerStatuses`
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(from = "SentContainerStatus")]
pub(crate) struct ContainerStatus {
    pub(crate) restart_count: i32,
    /// `state.terminated`; most containers run.
    pub(crate) terminated: Option<Box<Terminated>>,
}

/// `state.terminated` of a container
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Terminated {
    /// The name of the container, which no rule asks for while it runs.
    pub(crate) name: Box<str>,
    pub(crate) exit_code: i32,
    pub(crate) finished_at: Option<Time>,
}

impl PodSpec {
    /// Containers that run as long as the pod: the ordinary ones, then the init containers that are restarted.
    pub(crate) fn lasting_containers(&self) -> impl Iterator<Item = &Container> {
        let sidecars = self.init_containers.iter().filter(|init| is_sidecar(init.restart_policy.as_deref()));
        self.containers.iter().chain(sidecars)
    }
}

impl Resource for Pod {
    type DynamicType = ();
    type Scope = NamespaceResourceScope;

    fn kind((): &()) -> Cow<'_, str> {
        core::Pod::kind(&())
    }

    fn group((): &()) -> Cow<'_, str> {
        core::Pod::group(&())
    }

    fn version((): &()) -> Cow<'_, str> {
        core::Pod::version(&())
    }

    fn plural((): &()) -> Cow<'_, str> {
        core::Pod::plural(&())
    }

    fn meta(&self) -> &ObjectMeta {
        &self.metadata
    }

    fn meta_mut(&mut self) -> &mut ObjectMeta {
        &mut self.metadata
    }
}

/// Creates a pod, which is written whole; what is kept of the answer is what controllers read.
pub(crate) async fn create(client: &Client, pod: &core::Pod) -> kube::Result<Pod> {
    let request = Request::new(Pod::url_path(&(), pod.metadata.namespace.as_deref()));
    let body = serde_json::to_vec(pod).map_err(kube::Error::SerdeError)?;
    let request = request.create(&PostParams::default(), body).map_err(kube::Error::BuildRequest)?;
    client.request(request).await
}

/// Whether an init container with this restart policy goes on running.
fn is_sidecar(restart_policy: Option<&str>) -> bool {
    restart_policy == Some("Always")
}

/// `spec` as it is sent.
#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct SentSpec {
    node_name: Option<String>,
    hostname: Option<String>,
    subdomain: Option<String>,
    scheduler_name: Option<String>,
    node_selector: Option<BTreeMap<String, String>>,
    affinity: Option<SentAffinity>,
    topology_spread_constraints: Option<Vec<core::TopologySpreadConstraint>>,
    #[serde(deserialize_with = "tight")]
    tolerations: Box<[core::Toleration]>,
    #[serde(deserialize_with = "tight")]
    scheduling_gates: Box<[core::PodSchedulingGate]>,
    containers: Option<Vec<SentContainer>>,
    init_containers: Option<Vec<SentContainer>>,
    resources: Option<Resources>,
    overhead: Option<Listed>,
}

/// `spec.affinity` as it is sent.
#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct SentAffinity {
    node_affinity: Option<core::NodeAffinity>,
    pod_affinity: Option<core::PodAffinity>,
    pod_anti_affinity: Option<core::PodAntiAffinity>,
}

/// An entry of `spec.containers` or `spec.initContainers` as it is sent.
#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct SentContainer {
    restart_policy: Option<String>,
    #[serde(deserialize_with = "tight")]
    ports: Box<[core::ContainerPort]>,
    resources: Option<Resources>,
}

impl PodSpec {
    /// The spec of a pod with these labels.
    fn of(sent: SentSpec, namespace: &str, labels: &PodLabels) -> Self {
        let (main, init) = (sent.containers.unwrap_or_default(), sent.init_containers.unwrap_or_default());
        let init_role =
            |init: &SentContainer| if is_sidecar(init.restart_policy.as_deref()) { Role::Sidecar } else { Role::Init };
        let all = main.iter().map(|main| (Role::Main, main)).chain(init.iter().map(|init| (init_role(init), init)));
        let all = all.map(|(role, container)| (role, container.resources.as_ref()));
        let requests = requests::effective(all, sent.resources.as_ref(), sent.overhead.as_ref());
        let affinity = sent.affinity.unwrap_or_default();
        let related = relations::Sent {
            affinity: affinity.pod_affinity,
            anti_affinity: affinity.pod_anti_affinity,
            spread: sent.topology_spread_constraints,
        };
        let kept = |list: Vec<SentContainer>| list.into_iter().map(Container::from).collect();
        Self {
            node_name: sent.node_name,
            hostname: sent.hostname,
            subdomain: sent.subdomain,
            scheduler_name: sent.scheduler_name,
            node_selector: sent.node_selector,
            affinity: affinity.node_affinity.map(|to_nodes| Box::new(Affinity { node_affinity: Some(to_nodes) })),
            relations: Relations::of(related, namespace, labels),
            tolerations: sent.tolerations,
            scheduling_gates: sent.scheduling_gates,
            containers: kept(main),
            init_containers: kept(init),
            requests,
        }
    }
}

impl From<SentContainer> for Container {
    fn from(sent: SentContainer) -> Self {
        Self { restart_policy: sent.restart_policy, ports: sent.ports }
    }
}

/// An entry of `status.containerStatuses` as it is sent.
#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct SentContainerStatus {
    name: Box<str>,
    restart_count: i32,
    state: Option<SentContainerState>,
}

/// `state` of a container as it is sent.
#[derive(Default, Deserialize)]
#[serde(default)]
struct SentContainerState {
    terminated: Option<SentTerminated>,
}

/// `state.terminated` of a container as it is sent.
#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct SentTerminated {
    exit_code: i32,
    finished_at: Option<Time>,
}

impl From<SentContainerStatus> for ContainerStatus {
    fn from(sent: SentContainerStatus) -> Self {
        let terminated = sent.state.and_then(|state| state.terminated).map(|ended| {
            Box::new(Terminated { name: sent.name, exit_code: ended.exit_code, finished_at: ended.finished_at })
        });
        Self { restart_count: sent.restart_count, terminated }
    }
}

/// A list without room for more entries; null is none.
fn tight<'de, T: Deserialize<'de>, D: Deserializer<'de>>(from: D) -> Result<Box<[T]>, D::Error> {
    Ok(Option::<Vec<T>>::deserialize(from)?.unwrap_or_default().into_boxed_slice())
}

/// A pod as it is sent.
#[derive(Default, Deserialize)]
#[serde(default)]
struct SentPod {
    metadata: SentMetadata,
    spec: Option<SentSpec>,
    status: Option<PodStatus>,
}

impl From<SentPod> for Pod {
    fn from(sent: SentPod) -> Self {
        let SentPod { metadata: mut sent, spec, status } = sent;
        let labels = sent.labels.take().unwrap_or_default().into();
        let spec = spec.map(|spec| PodSpec::of(spec, sent.namespace.as_deref().unwrap_or_default(), &labels));
        Self { metadata: sent.into(), labels, spec, status }
    }
}

/// `metadata` as it is sent.
#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct SentMetadata {
    name: Option<String>,
    namespace: Option<String>,
    uid: Option<String>,
    resource_version: Option<String>,
    creation_timestamp: Option<Time>,
    deletion_timestamp: Option<Time>,
    deletion_grace_period_seconds: Option<i64>,
    labels: Option<Labels>,
    annotations: Option<BTreeMap<String, String>>,
    owner_references: Option<Vec<OwnerReference>>,
    finalizers: Option<Vec<String>>,
}

impl From<SentMetadata> for ObjectMeta {
    /// Without labels, and without the record of who set what, which is longer than all the rest.
    fn from(sent: SentMetadata) -> Self {
        let annotations = sent.annotations.map(|mut annotations| {
            annotations.retain(|key, _| ANNOTATIONS.contains(&key.as_str()));
            annotations
        });
        Self {
            name: sent.name,
            namespace: sent.namespace,
            uid: sent.uid,
            resource_version: sent.resource_version,
            creation_timestamp: sent.creation_timestamp,
            deletion_timestamp: sent.deletion_timestamp,
            deletion_grace_period_seconds: sent.deletion_grace_period_seconds,
            annotations: annotations.filter(|annotations| !annotations.is_empty()),
            owner_references: sent.owner_references,
            finalizers: sent.finalizers,
            ..Self::default()
        }
    }
}

#[cfg(test)]
impl Pod {
    /// What the server would tell of a pod that is to be made.
    pub(crate) fn of(pod: &core::Pod) -> Self {
        serde_json::from_value(serde_json::to_value(pod).unwrap()).unwrap()
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_no_rule_reads_is_not_kept() {
        let pod: Pod = serde_json::from_value(json!({
            "kind": "Pod", "apiVersion": "v1",
            "metadata": {
                "name": "a", "resourceVersion": "7", "labels": {"app": "web"}, "finalizers": null,
                "annotations": {"kubectl.kubernetes.io/last-applied-configuration": "{}", (job::INDEX): "3"},
                "managedFields": [{"manager": "kubectl", "fieldsV1": {"f:spec": {}}}],
            },
            "spec": {
                "volumes": [{"name": "v", "emptyDir": {}}], "tolerations": null,
                "containers": [{"name": "main", "env": [{"name": "A"}], "ports": [{"containerPort": 80}]}],
                "initContainers": [{"name": "once"}, {"name": "sidecar", "restartPolicy": "Always", "ports": [{"containerPort": 81}]}],
            },
            "status": {"podIP": "10.0.0.1", "podIPs": [{"ip": "10.0.0.1"}], "containerStatuses": [
                {"name": "main", "restartCount": 2, "state": {"terminated": {"exitCode": 1, "finishedAt": "1970-01-01T00:00:09Z"}}},
            ]},
        }))
        .unwrap();
        assert_eq!((pod.metadata.name.as_deref(), pod.metadata.resource_version.as_deref()), (Some("a"), Some("7")));
        assert_eq!((pod.metadata.managed_fields, pod.metadata.labels), (None, None));
        assert_eq!((pod.labels.get("app"), pod.labels.get("a"), pod.labels.iter().count()), (Some("web"), None, 1));
        assert_eq!(pod.metadata.annotations, Some([(job::INDEX.to_owned(), "3".to_owned())].into()));
        let spec = pod.spec.unwrap();
        assert_eq!((spec.tolerations.len(), spec.init_containers.len()), (0, 2));
        let ports = spec.lasting_containers().flat_map(|container| &container.ports).map(|port| port.container_port);
        assert_eq!(ports.collect::<Vec<_>>(), [80, 81]);
        let status = pod.status.unwrap();
        assert_eq!((status.pod_ip.as_deref(), status.pod_ips[0].ip.as_str()), (Some("10.0.0.1"), "10.0.0.1"));
        let ended = status.container_statuses[0].terminated.as_ref().unwrap();
        assert_eq!((&*ended.name, ended.exit_code), ("main", 1));
        assert_eq!(ended.finished_at.as_ref().unwrap().0.as_second(), 9);
        assert_eq!(status.container_statuses[0].restart_count, 2);
    }

    /// What a pod costs to remember: the reason for all of this.
    #[test]
    fn a_pod_is_small() {
        assert!(size_of::<Pod>() < size_of::<core::Pod>() / 2, "{}", size_of::<Pod>());
        assert!(size_of::<Container>() < size_of::<core::Container>() / 20, "{}", size_of::<Container>());
    }
}
