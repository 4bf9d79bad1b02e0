//! Why a pod that runs is not ready: which probe fails and what it said, or which gate is closed.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use crate::facts::Facts;
use crate::findings::{Cause, Problem};
use crate::records::{Container, Pod};

/// Why the pod is not ready.
pub(crate) fn not_ready(facts: &Facts, pod: &Pod) -> Problem {
    let path = pod.metadata.path();
    let status = pod.status.container_statuses.iter().find(|status| !status.ready);
    let container =
        status.and_then(|status| pod.spec.containers.iter().find(|container| container.name == status.name));
    if let (Some(status), Some(container)) = (status, container) {
        if !status.started && !container.startup_probe.is_null() {
            return probe_fails(facts, pod, container, ("Startup", Cause::StartupProbe, &container.startup_probe));
        }
        if !container.readiness_probe.is_null() {
            return probe_fails(
                facts,
                pod,
                container,
                ("Readiness", Cause::ReadinessProbe, &container.readiness_probe),
            );
        }
    }
    let set =
        |gate: &&crate::Gate| pod.condition(&gate.condition_type).is_none_or(|condition| condition.status != "True");
    if let Some(gate) = pod.spec.readiness_gates.iter().find(set) {
        let kind = &gate.condition_type;
        let sentence = format!("pod {path} has the readiness gate {kind}, and nobody has set that condition to True");
        let patch = json!({"status": {"conditions": [{"type": kind, "status": "True"}]}});
        return Problem::new(Cause::ReadinessGate, sentence).kubectl(
            &pod.metadata.namespace,
            &[
                "patch",
                "pod",
                &pod.metadata.name,
                "--subresource=status",
                "--type",
                "strategic",
                "-p",
                &patch.to_string(),
            ],
        );
    }
    let said = pod.condition("Ready").map(|condition| condition.message.clone()).filter(|said| !said.is_empty());
    let said = said.map(|said| format!(": {said}")).unwrap_or_default();
    Problem::new(Cause::NotReady, format!("pod {path} is not ready{said}")).look(&[
        "minisvc",
        "kubectl",
        "describe",
        "pod",
        &pod.metadata.name,
        "-n",
        &pod.metadata.namespace,
    ])
}

fn probe_fails(
    facts: &Facts,
    pod: &Pod,
    container: &Container,
    (title, cause, probe): (&str, Cause, &Value),
) -> Problem {
    let prefix = format!("{title} probe failed: ");
    let said = facts
        .events
        .iter()
        .filter(|event| event.involved_object.kind == "Pod" && event.involved_object.name == pod.metadata.name)
        .filter(|event| event.involved_object.namespace == pod.metadata.namespace && event.reason == "Unhealthy")
        .filter_map(|event| Some((&event.last_timestamp, event.message.strip_prefix(&prefix)?)))
        .max_by_key(|(time, _)| (*time).clone())
        .map(|(_, said)| said.trim());
    let said = match said {
        Some("") => ", and says nothing".to_owned(),
        Some(said) => format!(": {said}"),
        None => " and has not succeeded yet".to_owned(),
    };
    let sentence = format!(
        "the {} probe of container {} of pod {} ({}) fails{said}",
        title.to_lowercase(),
        container.name,
        pod.metadata.path(),
        describe(probe)
    );
    let problem = Problem::new(cause, sentence);
    match right_probe_port(facts, pod, container, probe) {
        Some((action, port)) => patch_probe(facts, pod, container, (problem, title, action, port)),
        None => {
            problem.look(&["minisvc", "kubectl", "describe", "pod", &pod.metadata.name, "-n", &pod.metadata.namespace])
        }
    }
}

/// What a probe does, in words.
fn describe(probe: &Value) -> String {
    let text = |value: &Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    if let Some(http) = probe.get("httpGet") {
        let path = http["path"].as_str().unwrap_or("/");
        return format!("GET {path} on port {}", text(&http["port"]));
    }
    if let Some(tcp) = probe.get("tcpSocket") {
        return format!("a connection to port {}", text(&tcp["port"]));
    }
    let words: Vec<&str> =
        probe["exec"]["command"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
    format!("command {}", words.join(" "))
}

/// The port that a probe should ask, when it asks one on which nothing listens and there is one other.
fn right_probe_port(facts: &Facts, pod: &Pod, container: &Container, probe: &Value) -> Option<(&'static str, u16)> {
    let action = ["httpGet", "tcpSocket"].into_iter().find(|action| probe.get(*action).is_some())?;
    let asked = &probe[action]["port"];
    let by_name = |name: &str| container.ports.iter().find(|port| port.name == name).map(|port| port.container_port);
    let asked = asked.as_u64().and_then(|port| port.try_into().ok()).or_else(|| asked.as_str().and_then(by_name));
    let listeners = facts.sockets.get(&pod.metadata.key())?;
    let open: BTreeSet<u16> = listeners
        .iter()
        .filter(|listener| listener.protocol == "TCP" && !listener.address.is_loopback())
        .map(|listener| listener.port)
        .collect();
    let only = open.iter().next().copied().filter(|_| open.len() == 1)?;
    (asked != Some(only)).then_some((action, only))
}

fn patch_probe(
    facts: &Facts,
    pod: &Pod,
    container: &Container,
    (problem, title, action, port): (Problem, &str, &str, u16),
) -> Problem {
    let problem = Problem { sentence: format!("{}; the process listens on {port}", problem.sentence), ..problem };
    let index = pod.spec.containers.iter().position(|other| other.name == container.name).unwrap_or_default();
    let Some(maker) = facts.maker(pod) else { return problem };
    let path = format!("/spec/template/spec/containers/{index}/{}Probe/{action}/port", title.to_lowercase());
    let patch = json!([{"op": "replace", "path": path, "value": port}]);
    problem.patch(&maker.kind.to_lowercase(), (&maker.metadata.namespace, &maker.metadata.name), &patch)
}
