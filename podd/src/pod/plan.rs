//! What a pod's manifest asks of its life cycle, reduced to what the state machine decides with.
//!
//! Owns no commands, mounts or environment: those are read from the manifest when a container is started.

use std::time::Duration;

use k8s_openapi::api::core::v1::{Container, Pod, Probe};

use crate::probe::Timing;

/// Grace of a pod that names none (P-046), in seconds.
const DEFAULT_GRACE: i64 = 30;

/// When an ended container is started again (P-033).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum RestartPolicy {
    /// Whatever the exit status.
    Always,
    /// Only after a failure.
    OnFailure,
    /// Not at all.
    Never,
}

impl RestartPolicy {
    fn parse(text: &str) -> Option<Self> {
        match text {
            "Always" => Some(Self::Always),
            "OnFailure" => Some(Self::OnFailure),
            "Never" => Some(Self::Never),
            _ => None,
        }
    }
}

/// The part a container plays in its pod (P-034, P-039).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Role {
    /// Runs to completion before anything after it starts.
    Init,
    /// An init container that stays: started in order, stopped after the ordinary containers.
    Sidecar,
    /// An ordinary container.
    Main,
}

/// One exit-code rule of a container: restart although the policy would not (P-034).
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ExitRule {
    /// Whether the code has to be among `codes` (or must not be).
    pub(crate) among: bool,
    /// Exit codes, 0–255.
    pub(crate) codes: Vec<i32>,
}

impl ExitRule {
    fn matches(&self, code: i32) -> bool {
        self.codes.contains(&code) == self.among
    }
}

/// What the state machine must know of one container.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct ContainerPlan {
    /// Unique in the pod.
    pub(crate) name: String,
    /// As written in the manifest; only shown.
    pub(crate) image: String,
    /// Init, sidecar or ordinary.
    pub(crate) role: Role,
    /// The policy in force for this container.
    pub(crate) restart: RestartPolicy,
    /// Exceptions to `restart`.
    pub(crate) rules: Vec<ExitRule>,
    /// Startup probe (P-026).
    pub(crate) startup: Option<Timing>,
    /// Liveness probe (P-028).
    pub(crate) liveness: Option<Timing>,
    /// Readiness probe (P-027).
    pub(crate) readiness: Option<Timing>,
    /// Whether a hook runs after the start (P-040).
    pub(crate) post_start: bool,
    /// Whether a hook runs before the stop (P-048).
    pub(crate) pre_stop: bool,
}

impl ContainerPlan {
    /// Whether the container is started again after ending with `code`.
    pub(crate) fn restarts_after(&self, code: i32) -> bool {
        if self.rules.iter().any(|rule| rule.matches(code)) {
            return true;
        }
        match self.restart {
            RestartPolicy::Always => true,
            RestartPolicy::OnFailure => code != 0,
            RestartPolicy::Never => false,
        }
    }

    fn of(container: &Container, init: bool, pod_policy: RestartPolicy) -> Self {
        let own = container.restart_policy.as_deref().and_then(RestartPolicy::parse);
        let role = match (init, own) {
            (true, Some(RestartPolicy::Always)) => Role::Sidecar,
            (true, _) => Role::Init,
            (false, _) => Role::Main,
        };
        // "Always" means "again after a failure" for a container that has to complete.
        let restart = match (role, own.unwrap_or(pod_policy)) {
            (Role::Init, RestartPolicy::Always) => RestartPolicy::OnFailure,
            (_, policy) => policy,
        };
        let rules = container.restart_policy_rules.iter().flatten().filter(|rule| rule.action == "Restart");
        let rules = rules.filter_map(|rule| rule.exit_codes.as_ref()).map(|codes| ExitRule {
            among: codes.operator != "NotIn",
            codes: codes.values.clone().unwrap_or_default(),
        });
        let lifecycle = container.lifecycle.as_ref();
        let timing = |probe: &Option<Probe>| probe.as_ref().map(Timing::of);
        Self {
            name: container.name.clone(),
            image: container.image.clone().unwrap_or_default(),
            role,
            restart,
            rules: rules.collect(),
            startup: timing(&container.startup_probe),
            liveness: timing(&container.liveness_probe),
            readiness: timing(&container.readiness_probe),
            post_start: lifecycle.is_some_and(|l| l.post_start.is_some()),
            pre_stop: lifecycle.is_some_and(|l| l.pre_stop.is_some()),
        }
    }
}

/// What the state machine must know of a pod.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Plan {
    /// `metadata.uid`.
    pub(crate) uid: String,
    /// Of the pod; each container's own is in `containers`.
    pub(crate) restart: RestartPolicy,
    /// Init containers and sidecars in order, then the ordinary containers in order.
    pub(crate) containers: Vec<ContainerPlan>,
    /// `terminationGracePeriodSeconds`.
    pub(crate) grace: Duration,
    /// `activeDeadlineSeconds`, from the pod's start time.
    pub(crate) active_deadline: Option<Duration>,
    /// Condition types that outsiders set (P-016).
    pub(crate) readiness_gates: Vec<String>,
}

impl Plan {
    /// Reads the plan out of a manifest the API server has accepted.
    pub(crate) fn of(pod: &Pod) -> Self {
        let spec = pod.spec.as_ref();
        let restart = spec.and_then(|s| s.restart_policy.as_deref()).and_then(RestartPolicy::parse);
        let restart = restart.unwrap_or(RestartPolicy::Always);
        let init = spec.and_then(|s| s.init_containers.as_deref()).unwrap_or_default();
        let main = spec.map(|s| s.containers.as_slice()).unwrap_or_default();
        let init = init.iter().map(|c| ContainerPlan::of(c, true, restart));
        let main = main.iter().map(|c| ContainerPlan::of(c, false, restart));
        let gates = spec.and_then(|s| s.readiness_gates.as_deref()).unwrap_or_default();
        Self {
            uid: pod.metadata.uid.clone().unwrap_or_default(),
            restart,
            containers: init.chain(main).collect(),
            grace: seconds(spec.and_then(|s| s.termination_grace_period_seconds).unwrap_or(DEFAULT_GRACE)),
            active_deadline: spec.and_then(|s| s.active_deadline_seconds).map(seconds),
            readiness_gates: gates.iter().map(|gate| gate.condition_type.clone()).collect(),
        }
    }
}

/// Seconds of the API as a duration; a negative number counts as none.
pub(crate) fn seconds(count: i64) -> Duration {
    Duration::from_secs(u64::try_from(count).unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::pod;
    use serde_json::json;

    // P-033, P-034
    #[test]
    fn restart_follows_policy_role_and_rules() {
        let plan = Plan::of(&pod(json!({
            "restartPolicy": "Always",
            "initContainers": [{"name": "setup"}, {"name": "mesh", "restartPolicy": "Always"}],
            "containers": [{"name": "app", "restartPolicy": "Never", "restartPolicyRules": [
                {"action": "Restart", "exitCodes": {"operator": "In", "values": [42]}}]}],
        })));
        let [setup, mesh, app] = plan.containers.as_slice() else { panic!("three containers") };
        assert_eq!([setup.role, mesh.role, app.role], [Role::Init, Role::Sidecar, Role::Main]);
        assert!(!setup.restarts_after(0) && setup.restarts_after(1), "an init container restarts on failure");
        assert!(mesh.restarts_after(0), "a sidecar always restarts");
        assert!(!app.restarts_after(1) && app.restarts_after(42), "the rule beats the policy");
    }

    // P-033: an init container of a pod that never restarts is not restarted either.
    #[test]
    fn never_holds_for_init_containers() {
        let plan = Plan::of(&pod(json!({"restartPolicy": "Never", "initContainers": [{"name": "setup"}]})));
        assert!(!plan.containers[0].restarts_after(1));
    }

    // P-046
    #[test]
    fn grace_defaults_to_thirty_seconds() {
        assert_eq!(Plan::of(&pod(json!({}))).grace, Duration::from_secs(30));
        assert_eq!(Plan::of(&pod(json!({"terminationGracePeriodSeconds": 5}))).grace, Duration::from_secs(5));
    }
}
