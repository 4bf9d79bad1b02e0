//! What the spec of a Job makes of one pod that has failed. Pure.

use k8s_openapi::api::batch::v1::{
    JobSpec, PodFailurePolicy, PodFailurePolicyOnExitCodesRequirement, PodFailurePolicyRule,
};

use super::pod::{failures, index};
use crate::pod::{ContainerStatus, Pod, Terminated};
use crate::pods;

/// What a failed pod means for its Job.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Action {
    Count,
    Ignore,
    FailIndex,
    /// With the message for the user.
    FailJob(String),
}

/// The parts of a spec that say what has failed.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Rules<'a> {
    pub(crate) is_indexed: bool,
    pub(crate) completions: Option<i32>,
    /// `backoffLimitPerIndex`, of an Indexed Job.
    pub(crate) limit_per_index: Option<i32>,
    /// A pod that is going has not failed before it says so.
    pub(crate) waits_for_the_end: bool,
    policy: Option<&'a PodFailurePolicy>,
}

impl<'a> Rules<'a> {
    pub(crate) fn of(spec: &'a JobSpec) -> Self {
        let is_indexed = spec.completion_mode.as_deref() == Some("Indexed");
        Self {
            is_indexed,
            completions: spec.completions,
            limit_per_index: spec.backoff_limit_per_index.filter(|_| is_indexed),
            waits_for_the_end: spec.pod_replacement_policy.as_deref() == Some("Failed"),
            policy: spec.pod_failure_policy.as_ref(),
        }
    }

    /// Whether the pod has one of the indexes that the Job has, if they have any.
    pub(crate) fn belongs(&self, pod: &Pod) -> bool {
        !self.is_indexed || self.place(pod).is_some()
    }

    /// The index of a pod, if the Job has it.
    pub(crate) fn place(&self, pod: &Pod) -> Option<i32> {
        index(pod).filter(|index| self.is_indexed && (0..self.completions.unwrap_or(0)).contains(index))
    }

    /// Whether the pod has failed. One that is deleted has, unless the Job waits until it says how it ended; it waits in
    /// vain for one whose processes were gone before they could say.
    pub(crate) fn has_failed(&self, pod: &Pod) -> bool {
        let is_gone = || pod.metadata.deletion_grace_period_seconds == Some(0);
        match pods::phase(pod) {
            "Failed" => true,
            "Succeeded" => false,
            _ => pods::is_terminating(pod) && (!self.waits_for_the_end || is_gone()),
        }
    }

    /// Whether the failure of this pod is that of its index.
    pub(crate) fn fails_index(&self, pod: &Pod) -> bool {
        let Some(limit) = self.limit_per_index.filter(|_| self.has_failed(pod)) else { return false };
        match self.action(pod) {
            Action::FailIndex => true,
            Action::Ignore => false,
            Action::Count | Action::FailJob(_) => failures(pod).counted >= limit,
        }
    }

    /// What the first rule that a failed pod matches demands; without one it counts.
    pub(crate) fn action(&self, pod: &Pod) -> Action {
        let rules = self.policy.map(|policy| policy.rules.as_slice()).unwrap_or_default();
        for (number, rule) in rules.iter().enumerate() {
            let Some(what) = matched(rule, pod) else { continue };
            return match rule.action.as_str() {
                "Ignore" => Action::Ignore,
                "FailIndex" => Action::FailIndex,
                "FailJob" => Action::FailJob(format!("{what} matching FailJob rule at index {number}")),
                _ => Action::Count,
            };
        }
        Action::Count
    }
}

/// What of the pod a rule matches.
fn matched(rule: &PodFailurePolicyRule, pod: &Pod) -> Option<String> {
    let namespace = pod.metadata.namespace.as_deref().unwrap_or_default();
    let name = pod.metadata.name.as_deref().unwrap_or_default();
    if let Some(wanted) = &rule.on_exit_codes {
        let Terminated { name: container, exit_code, .. } = container(wanted, pod)?;
        return Some(format!("Container {container} for pod {namespace}/{name} failed with exit code {exit_code}"));
    }
    let patterns = rule.on_pod_conditions.as_deref().unwrap_or_default();
    let mut conditions = pod.status.iter().flat_map(|status| &status.conditions);
    let condition = conditions.find(|condition| {
        patterns
            .iter()
            .any(|pattern| pattern.type_ == condition.type_ && pattern.status.as_deref() == Some(&condition.status))
    })?;
    Some(format!("Pod {namespace}/{name} has condition {}", condition.type_))
}

/// The first container whose exit code is asked for. Zero is no failure, whatever the rule says.
fn container<'a>(wanted: &PodFailurePolicyOnExitCodesRequirement, pod: &'a Pod) -> Option<&'a Terminated> {
    let statuses = pod.status.iter().flat_map(|status| {
        let main: &[ContainerStatus] = &status.container_statuses;
        main.iter().chain(&status.init_container_statuses)
    });
    statuses.filter_map(|status| status.terminated.as_deref()).find(|ended| {
        let is_it = wanted.container_name.as_ref().is_none_or(|name| **name == *ended.name);
        let is_listed = wanted.values.contains(&ended.exit_code);
        is_it && ended.exit_code != 0 && is_listed == (wanted.operator == "In")
    })
}

#[cfg(test)]
#[path = "rules_tests.rs"]
mod tests;
