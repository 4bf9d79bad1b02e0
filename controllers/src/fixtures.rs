//! Objects for tests, built a property at a time.

use std::collections::BTreeMap;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{
    self as core, ContainerPort, PodIP, PodTemplateSpec, Service, ServicePort, ServiceSpec,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference, Time};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

use crate::pod::{Condition, Container, ContainerStatus, Pod, PodLabels, PodSpec, PodStatus, Terminated};

/// A pod in the making.
#[derive(Clone)]
pub(crate) struct Fixture {
    pub(crate) pod: Pod,
}

/// A pod `default/<name>` with uid `uid-<name>` and one container.
pub(crate) fn pod(name: &str) -> Fixture {
    let spec = PodSpec { containers: [Container::default()].into(), ..PodSpec::default() };
    let metadata = ObjectMeta { uid: Some(format!("uid-{name}")), ..meta(name) };
    Fixture { pod: Pod { metadata, labels: PodLabels::default(), spec: Some(spec), status: None } }
}

pub(crate) fn meta(name: &str) -> ObjectMeta {
    ObjectMeta { namespace: Some("default".into()), name: Some(name.into()), ..ObjectMeta::default() }
}

pub(crate) fn time(second: i64) -> Time {
    Time(Timestamp::from_second(second).unwrap())
}

impl Fixture {
    fn spec(&mut self) -> &mut PodSpec {
        self.pod.spec.get_or_insert_default()
    }

    fn status(&mut self) -> &mut PodStatus {
        self.pod.status.get_or_insert_default()
    }

    pub(crate) fn uid(mut self, uid: &str) -> Self {
        self.pod.metadata.uid = Some(uid.into());
        self
    }

    pub(crate) fn label(mut self, key: &str, value: &str) -> Self {
        let known = self.pod.labels.iter().map(|(key, value)| (key.to_owned(), value.to_owned()));
        let all: BTreeMap<_, _> = known.chain([(key.to_owned(), value.to_owned())]).collect();
        self.pod.labels = all.into();
        self
    }

    pub(crate) fn annotation(mut self, key: &str, value: &str) -> Self {
        self.pod.metadata.annotations.get_or_insert_default().insert(key.into(), value.into());
        self
    }

    pub(crate) fn created_at(mut self, second: i64) -> Self {
        self.pod.metadata.creation_timestamp = Some(time(second));
        self
    }

    pub(crate) fn deleted(mut self) -> Self {
        self.pod.metadata.deletion_timestamp = Some(time(5));
        self
    }

    pub(crate) fn owned_by(mut self, kind: &str, uid: &str) -> Self {
        self.pod.metadata.owner_references = Some(vec![OwnerReference {
            api_version: "apps/v1".into(),
            kind: kind.into(),
            name: "owner".into(),
            uid: uid.into(),
            controller: Some(true),
            block_owner_deletion: Some(true),
        }]);
        self
    }

    pub(crate) fn node(mut self, node: &str) -> Self {
        self.spec().node_name = Some(node.into());
        self
    }

    pub(crate) fn unassigned(mut self) -> Self {
        self.spec().node_name = None;
        self
    }

    pub(crate) fn hostname(mut self, hostname: &str, subdomain: &str) -> Self {
        self.spec().hostname = Some(hostname.into());
        self.spec().subdomain = Some(subdomain.into());
        self
    }

    pub(crate) fn port(mut self, name: &str, number: i32, protocol: &str) -> Self {
        let port = ContainerPort {
            name: Some(name.into()),
            container_port: number,
            protocol: Some(protocol.into()),
            ..ContainerPort::default()
        };
        push(&mut self.spec().containers[0].ports, port);
        self
    }

    pub(crate) fn host_port(mut self, number: i32) -> Self {
        let port = ContainerPort { container_port: number, host_port: Some(number), ..ContainerPort::default() };
        push(&mut self.spec().containers[0].ports, port);
        self
    }

    pub(crate) fn phase(mut self, phase: &str) -> Self {
        self.status().phase = Some(phase.into());
        self
    }

    /// Replaces the address of the same family.
    pub(crate) fn ip(mut self, ip: &str) -> Self {
        let ipv6 = ip.contains(':');
        let others = self.status().pod_ips.iter().filter(|known| known.ip.contains(':') != ipv6).cloned();
        self.status().pod_ips = others.chain([PodIP { ip: ip.into() }]).collect();
        self.status().pod_ip = self.status().pod_ips.first().map(|first| first.ip.clone());
        self
    }

    pub(crate) fn ready(self) -> Self {
        self.ready_at(1)
    }

    pub(crate) fn ready_at(self, second: i64) -> Self {
        self.readiness("True", Some(second))
    }

    pub(crate) fn not_ready(self) -> Self {
        self.readiness("False", None)
    }

    fn readiness(self, status: &str, since: Option<i64>) -> Self {
        self.with(Condition { last_transition_time: since.map(time), ..condition("Ready", status) })
    }

    pub(crate) fn condition(self, type_: &str, status: &str) -> Self {
        self.with(condition(type_, status))
    }

    fn with(mut self, condition: Condition) -> Self {
        let others = self.status().conditions.iter().filter(|known| known.type_ != condition.type_).cloned();
        self.status().conditions = others.chain([condition.clone()]).collect();
        self
    }

    /// One more container, which has ended.
    pub(crate) fn exited(mut self, container: &str, code: i32) -> Self {
        let ended = Terminated { name: container.into(), exit_code: code, finished_at: None };
        let status = ContainerStatus { terminated: Some(Box::new(ended)), ..ContainerStatus::default() };
        push(&mut self.status().container_statuses, status);
        self
    }

    pub(crate) fn restarts(mut self, count: i32) -> Self {
        let status = ContainerStatus { restart_count: count, ..ContainerStatus::default() };
        self.status().container_statuses = [status].into();
        self
    }
}

fn condition(type_: &str, status: &str) -> Condition {
    Condition { type_: type_.into(), status: status.into(), ..Condition::default() }
}

fn push<T: Clone>(list: &mut Box<[T]>, entry: T) {
    *list = list.iter().cloned().chain([entry]).collect();
}

/// A ClusterIP Service `default/<name>` selecting `app=<name>`, port 80 to 8080.
pub(crate) fn service(name: &str) -> Service {
    let port = ServicePort {
        port: 80,
        protocol: Some("TCP".into()),
        target_port: Some(IntOrString::Int(8080)),
        ..ServicePort::default()
    };
    Service {
        metadata: ObjectMeta { uid: Some(format!("uid-{name}")), ..meta(name) },
        spec: Some(ServiceSpec {
            selector: Some(BTreeMap::from([("app".into(), name.into())])),
            cluster_ip: Some("10.96.0.20".into()),
            ip_families: Some(vec!["IPv4".into()]),
            ports: Some(vec![port]),
            type_: Some("ClusterIP".into()),
            ..ServiceSpec::default()
        }),
        status: None,
    }
}

/// A template labelled `app=web` with one container of this image.
pub(crate) fn template(image: &str) -> PodTemplateSpec {
    let container = core::Container { name: "main".into(), image: Some(image.into()), ..core::Container::default() };
    PodTemplateSpec {
        metadata: Some(ObjectMeta {
            labels: Some(BTreeMap::from([("app".into(), "web".into())])),
            ..ObjectMeta::default()
        }),
        spec: Some(core::PodSpec { containers: vec![container], ..core::PodSpec::default() }),
    }
}
