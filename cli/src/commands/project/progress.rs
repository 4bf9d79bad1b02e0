//! How far a project has come: what is told about it, each thing once. Pure.

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::{ContainerStatus, Pod};

use crate::project::Project;

/// Sentences about one pod that are remembered, so that none is told twice.
const MAX_SAID: usize = 1000;

/// Something to tell.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Change {
    /// One sentence.
    Said(String),
    /// The last command has become ready.
    AllReady(String),
}

/// What is known of the project's commands.
#[derive(Debug)]
pub(super) struct Progress {
    /// The commands, each with whether it is ready.
    ready: BTreeMap<String, bool>,
    complete: bool,
    /// What hindered a command last.
    trouble: BTreeMap<String, String>,
    said: BTreeSet<String>,
}

impl Progress {
    pub(super) fn of(project: &Project) -> Self {
        let ready = project.commands.iter().map(|command| (command.name.clone(), false)).collect();
        Self { ready, complete: false, trouble: BTreeMap::new(), said: BTreeSet::new() }
    }

    /// Takes note of a Deployment.
    pub(super) fn deployment(&mut self, deployment: &Deployment) -> Option<Change> {
        let name = deployment.metadata.name.as_deref()?;
        let is_ready = is_ready(deployment);
        let known = self.ready.get_mut(name)?;
        let was_ready = std::mem::replace(known, is_ready);
        if !is_ready || was_ready {
            return None;
        }
        let replicas = deployment.spec.as_ref().and_then(|spec| spec.replicas).unwrap_or(1);
        let pods = if replicas == 1 { String::new() } else { format!(", in {replicas} pods") };
        let sentence = format!("{name} is ready{pods}");
        if !self.complete && self.ready.values().all(|ready| *ready) {
            self.complete = true;
            return Some(Change::AllReady(sentence));
        }
        Some(Change::Said(sentence))
    }

    /// Takes note of a pod, which may be in trouble.
    pub(super) fn pod(&mut self, pod: &Pod) -> Option<Change> {
        let (name, trouble) = (pod.metadata.name.as_deref()?, trouble(pod)?);
        if let Some(command) = pod.metadata.labels.as_ref().and_then(|labels| labels.get("app")) {
            self.trouble.insert(command.clone(), trouble.clone());
        }
        let sentence = format!("{name}: {trouble}");
        if self.said.len() == MAX_SAID {
            self.said.clear();
        }
        self.said.insert(sentence.clone()).then_some(Change::Said(sentence))
    }

    /// What is not ready, and why as far as it is known.
    pub(super) fn missing(&self) -> String {
        let missing: Vec<&str> =
            self.ready.iter().filter(|(_, ready)| !**ready).map(|(name, _)| name.as_str()).collect();
        let why = missing.iter().find_map(|name| Some(format!(" ({name}: {})", self.trouble.get(*name)?)));
        format!("{} did not become ready{}", missing.join(", "), why.unwrap_or_default())
    }
}

fn is_ready(deployment: &Deployment) -> bool {
    let wanted = deployment.spec.as_ref().and_then(|spec| spec.replicas).unwrap_or(1);
    deployment.status.as_ref().is_some_and(|status| {
        status.observed_generation >= deployment.metadata.generation
            && status.updated_replicas.unwrap_or(0) >= wanted
            && status.available_replicas.unwrap_or(0) >= wanted
    })
}

/// Why a pod does not run, if it is not only a matter of time.
fn trouble(pod: &Pod) -> Option<String> {
    let status = pod.status.as_ref()?;
    let containers = status.container_statuses.iter().chain(&status.init_container_statuses).flatten();
    containers.filter_map(container_trouble).next()
}

fn container_trouble(container: &ContainerStatus) -> Option<String> {
    let waiting = container.state.as_ref()?.waiting.as_ref()?;
    let reason = waiting.reason.as_deref()?;
    let message = || waiting.message.clone().unwrap_or_else(|| reason.to_owned());
    if reason == "CrashLoopBackOff" {
        let last = container.last_state.as_ref().and_then(|last| last.terminated.as_ref());
        let code = last.map_or_else(String::new, |last| format!(" with exit code {}", last.exit_code));
        return Some(format!(
            "the command has ended{code} {} times and is started again later",
            container.restart_count + 1
        ));
    }
    (reason.ends_with("Error") || reason.starts_with("ErrImage"))
        .then(|| format!("the command cannot be started: {}", message()))
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn progress(names: &[&str]) -> Progress {
        let ready = names.iter().map(|name| ((*name).to_owned(), false)).collect();
        Progress { ready, complete: false, trouble: BTreeMap::new(), said: BTreeSet::new() }
    }

    fn deployment(name: &str, available: i32) -> Deployment {
        let object = json!({"metadata": {"name": name, "generation": 1}, "spec": {"replicas": 2, "selector": {}, "template": {}},
            "status": {"observedGeneration": 1, "updatedReplicas": 2, "availableReplicas": available}});
        serde_json::from_value(object).expect("a Deployment")
    }

    fn pod(status: &Value) -> Pod {
        let container = json!([{"name": "main", "image": "", "imageID": "", "ready": false, "restartCount": 2,
            "state": status, "lastState": {"terminated": {"exitCode": 3}}}]);
        let object = json!({"metadata": {"name": "web-1", "labels": {"app": "web"}}, "status": {"containerStatuses": container}});
        serde_json::from_value(object).expect("a Pod")
    }

    #[test]
    fn each_command_is_told_when_it_becomes_ready_and_the_last_one_completes_the_project() {
        let mut progress = progress(&["web", "db"]);
        assert_eq!(progress.deployment(&deployment("web", 1)), None);
        assert_eq!(
            progress.deployment(&deployment("web", 2)),
            Some(Change::Said("web is ready, in 2 pods".to_owned()))
        );
        assert_eq!(progress.deployment(&deployment("web", 2)), None, "once");
        assert_eq!(progress.deployment(&deployment("other", 2)), None, "none of ours");
        assert_eq!(progress.missing(), "db did not become ready");
        assert!(matches!(progress.deployment(&deployment("db", 2)), Some(Change::AllReady(_))));
        progress.deployment(&deployment("db", 1));
        assert!(matches!(progress.deployment(&deployment("db", 2)), Some(Change::Said(_))), "complete only once");
    }

    #[test]
    fn trouble_is_told_once_and_explains_what_is_missing() {
        let mut progress = progress(&["web"]);
        assert_eq!(progress.pod(&pod(&json!({"waiting": {"reason": "ContainerCreating"}}))), None);
        let missing = pod(&json!({"waiting": {"reason": "CreateContainerError", "message": "no such program"}}));
        let said = Change::Said("web-1: the command cannot be started: no such program".to_owned());
        assert_eq!(progress.pod(&missing), Some(said));
        assert_eq!(progress.pod(&missing), None);
        let text = progress.missing();
        assert_eq!(text, "web did not become ready (web: the command cannot be started: no such program)");
        let crashing = pod(&json!({"waiting": {"reason": "CrashLoopBackOff"}}));
        let Some(Change::Said(text)) = progress.pod(&crashing) else { panic!("not told") };
        assert!(text.contains("exit code 3 3 times"), "{text}");
    }
}
