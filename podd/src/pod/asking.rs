//! What the worker looks up in a manifest when it acts for a container: probes, hooks, signals.

use std::net::IpAddr;
use std::sync::Arc;

use k8s_openapi::api::core::v1::{Container, Lifecycle, LifecycleHandler, Pod, Probe};
use nix::libc;

use super::event::Hook;
use super::sandbox::PodSandbox;
use crate::probe::ProbeKind;
use crate::probe::run::Target;
use crate::shared::{Node, Running};

/// What a probe or hook needs, owned.
pub(super) struct Asking {
    pub(super) pod: Arc<Pod>,
    /// Of the container, in the plan.
    pub(super) position: usize,
    pub(super) sandbox: Arc<PodSandbox>,
    pub(super) node: Arc<Node>,
    pub(super) address: Option<IpAddr>,
    pub(super) running: Arc<Running>,
}

impl Asking {
    pub(super) fn container(&self) -> Option<&Container> {
        container_at(&self.pod, self.position)
    }

    pub(super) fn target<'a>(&'a self, container: &'a Container) -> Target<'a> {
        Target {
            container,
            namespace: &self.sandbox.namespace,
            node: &self.node.namespace,
            address: self.address,
            running: &self.running,
        }
    }
}

pub(super) fn probe_of(container: &Container, kind: ProbeKind) -> Option<&Probe> {
    match kind {
        ProbeKind::Startup => container.startup_probe.as_ref(),
        ProbeKind::Liveness => container.liveness_probe.as_ref(),
        ProbeKind::Readiness => container.readiness_probe.as_ref(),
    }
}

pub(super) fn handler(lifecycle: &Lifecycle, hook: Hook) -> Option<&LifecycleHandler> {
    match hook {
        Hook::PostStart => lifecycle.post_start.as_ref(),
        Hook::PreStop => lifecycle.pre_stop.as_ref(),
    }
}

/// `lifecycle.stopSignal`, else TERM (P-048).
pub(super) fn stop_signal(container: &Container) -> i32 {
    let name = container.lifecycle.as_ref().and_then(|lifecycle| lifecycle.stop_signal.as_deref());
    let signal = name.and_then(|name| name.parse::<nix::sys::signal::Signal>().ok());
    signal.map_or(libc::SIGTERM, |signal| signal as i32)
}

/// Whether the pod has volumes that change with API objects.
pub(super) fn has_live_volumes(pod: &Pod) -> bool {
    pod.spec.iter().flat_map(|spec| spec.volumes.iter().flatten()).any(|volume| {
        volume.config_map.is_some()
            || volume.secret.is_some()
            || volume.downward_api.is_some()
            || volume.projected.is_some()
    })
}

/// The manifest of a container by its position in the plan.
pub(super) fn container_at(pod: &Pod, index: usize) -> Option<&Container> {
    let spec = pod.spec.as_ref()?;
    spec.init_containers.iter().flatten().chain(&spec.containers).nth(index)
}
