//! A pod's row in a table (P-021, A-163).

use serde_json::{Value, json};

use super::super::json::{has, integer, list, text};
use super::super::printing::{NONE, or_none};
use crate::table;

/// The cells of one pod.
/// A pod that has run to its end is marked, so that a client may leave it out.
pub(super) fn row_conditions(pod: &Value) -> Vec<Value> {
    let message = match text(pod, "/status/phase") {
        "Succeeded" => "The pod has completed successfully.",
        "Failed" => "The pod failed.",
        _ => return Vec::new(),
    };
    let reason = text(pod, "/status/phase");
    vec![json!({"type": "Completed", "status": "True", "reason": reason, "message": message})]
}

pub(super) fn row(pod: &Value, now: jiff::Timestamp) -> Vec<Value> {
    let summary = Summary::of(pod);
    let restarts = match summary.last_restart {
        Some(time) if summary.restarts > 0 => format!("{} ({} ago)", summary.restarts, table::since(Some(time), now)),
        _ => summary.restarts.to_string(),
    };
    vec![
        table::name(pod).into(),
        format!("{}/{}", summary.ready, summary.total).into(),
        summary.status.into(),
        restarts.into(),
        table::age(pod, now).into(),
        or_none(text(pod, "/status/podIP")),
        or_none(text(pod, "/spec/nodeName")),
        or_none(text(pod, "/status/nominatedNodeName")),
        gates(pod).into(),
    ]
}

/// What the containers of a pod add up to.
struct Summary<'a> {
    status: String,
    ready: usize,
    total: usize,
    restarts: i64,
    /// When a container that was started again had ended, the latest of all.
    last_restart: Option<&'a Value>,
}

impl<'a> Summary<'a> {
    fn of(pod: &'a Value) -> Self {
        let sidecars: Vec<&str> = list(pod, "/spec/initContainers")
            .iter()
            .filter(|container| text(container, "/restartPolicy") == "Always")
            .map(|container| text(container, "/name"))
            .collect();
        let mut summary = Self {
            status: own_status(pod),
            ready: 0,
            total: list(pod, "/spec/containers").len() + sidecars.len(),
            restarts: 0,
            last_restart: None,
        };
        match summary.initializing(pod, &sidecars) {
            Some(status) => summary.status = status,
            None => summary.initialized(pod, &sidecars),
        }
        if has(pod, "/metadata/deletionTimestamp") {
            if text(pod, "/status/reason") == "NodeLost" {
                summary.status = "Unknown".to_owned();
            } else if !["Succeeded", "Failed"].contains(&text(pod, "/status/phase")) {
                summary.status = "Terminating".to_owned();
            }
        }
        summary
    }

    /// The first init container that has not done its part decides, and only init containers count.
    fn initializing(&mut self, pod: &'a Value, sidecars: &[&str]) -> Option<String> {
        let statuses = list(pod, "/status/initContainerStatuses");
        let total = list(pod, "/spec/initContainers").len();
        for (index, status) in statuses.iter().enumerate() {
            let sidecar = sidecars.contains(&text(status, "/name"));
            self.count_restarts(status);
            if integer(status, "/state/terminated/exitCode") == Some(0) {
                continue;
            }
            if sidecar && status["started"] == Value::Bool(true) {
                if status["ready"] == Value::Bool(true) {
                    self.ready += 1;
                }
                continue;
            }
            let waiting = text(status, "/state/waiting/reason");
            return Some(match status.pointer("/state/terminated") {
                Some(terminated) => format!("Init:{}", ended(terminated)),
                None if !waiting.is_empty() && waiting != "PodInitializing" => format!("Init:{waiting}"),
                None => format!("Init:{index}/{total}"),
            });
        }
        None
    }

    /// From the last container to the first: the first one's trouble is what is shown in the end.
    fn initialized(&mut self, pod: &'a Value, sidecars: &[&str]) {
        // Sidecars count on, ordinary init containers no longer.
        self.restarts = 0;
        self.last_restart = None;
        for status in list(pod, "/status/initContainerStatuses") {
            if sidecars.contains(&text(status, "/name")) {
                self.count_restarts(status);
            }
        }
        let mut running = false;
        for status in list(pod, "/status/containerStatuses").iter().rev() {
            self.count_restarts(status);
            let waiting = text(status, "/state/waiting/reason");
            if !waiting.is_empty() {
                self.status = waiting.to_owned();
            } else if let Some(terminated) = status.pointer("/state/terminated") {
                self.status = ended(terminated);
            } else if status["ready"] == Value::Bool(true) && has(status, "/state/running") {
                running = true;
                self.ready += 1;
            }
        }
        if self.status == "Completed" && running {
            self.status = if condition(pod, "Ready") == "True" { "Running" } else { "NotReady" }.to_owned();
        }
    }

    fn count_restarts(&mut self, status: &'a Value) {
        self.restarts += integer(status, "/restartCount").unwrap_or_default();
        let finished = status.pointer("/lastState/terminated/finishedAt").filter(|time| time.is_string());
        let later = match (finished.and_then(Value::as_str), self.last_restart.and_then(Value::as_str)) {
            (Some(finished), Some(known)) => finished > known,
            (Some(_), None) => true,
            (None, _) => false,
        };
        if later {
            self.last_restart = finished;
        }
    }
}

/// What the pod says of itself, before its containers are looked at.
fn own_status(pod: &Value) -> String {
    let gated =
        list(pod, "/status/conditions").iter().any(|c| c["type"] == "PodScheduled" && c["reason"] == "SchedulingGated");
    let reason = text(pod, "/status/reason");
    match () {
        () if gated => "SchedulingGated",
        () if !reason.is_empty() => reason,
        () => text(pod, "/status/phase"),
    }
    .to_owned()
}

/// Why a container ended: its reason, else its signal or exit code.
fn ended(terminated: &Value) -> String {
    let reason = text(terminated, "/reason");
    match integer(terminated, "/signal").unwrap_or_default() {
        _ if !reason.is_empty() => reason.to_owned(),
        0 => format!("ExitCode:{}", integer(terminated, "/exitCode").unwrap_or_default()),
        signal => format!("Signal:{signal}"),
    }
}

fn condition<'a>(pod: &'a Value, kind: &str) -> &'a str {
    let found = list(pod, "/status/conditions").iter().find(|condition| condition["type"] == kind);
    found.map_or("", |condition| text(condition, "/status"))
}

fn gates(pod: &Value) -> String {
    let gates = list(pod, "/spec/readinessGates");
    if gates.is_empty() {
        return NONE.to_owned();
    }
    let open = gates.iter().filter(|gate| condition(pod, text(gate, "/conditionType")) == "True").count();
    format!("{open}/{}", gates.len())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn pod(phase: &str, containers: Value) -> Value {
        let names: Vec<Value> = containers.as_array().unwrap().iter().map(|_| json!({})).collect();
        json!({"metadata": {"name": "p"}, "spec": {"containers": names}, "status": {"phase": phase, "containerStatuses": containers}})
    }

    fn cells(pod: &Value) -> (String, String, String) {
        let row = row(pod, jiff::Timestamp::from_second(100).unwrap());
        let cell = |index: usize| row[index].as_str().unwrap().to_owned();
        (cell(1), cell(2), cell(3))
    }

    // P-021, A-163
    #[test]
    fn status_tells_what_keeps_a_pod_from_running() {
        let running = json!({"ready": true, "state": {"running": {}}});
        let waiting = json!({"state": {"waiting": {"reason": "CrashLoopBackOff"}}, "restartCount": 3});
        let completed = json!({"state": {"terminated": {"reason": "Completed", "exitCode": 0}}});
        let rows = [
            ("running", pod("Running", json!([running])), "1/1", "Running"),
            ("one waits", pod("Running", json!([running, waiting])), "1/2", "CrashLoopBackOff"),
            ("completed", pod("Succeeded", json!([completed])), "0/1", "Completed"),
            ("one still runs", pod("Running", json!([completed, running])), "1/2", "NotReady"),
            ("exit code", pod("Failed", json!([{"state": {"terminated": {"exitCode": 3}}}])), "0/1", "ExitCode:3"),
            (
                "signal",
                pod("Failed", json!([{"state": {"terminated": {"exitCode": 137, "signal": 9}}}])),
                "0/1",
                "Signal:9",
            ),
            ("not started", json!({"spec": {"containers": [{}]}, "status": {"phase": "Pending"}}), "0/1", "Pending"),
        ];
        for (label, pod, ready, status) in rows {
            let found = cells(&pod);
            assert_eq!((found.0.as_str(), found.1.as_str()), (ready, status), "{label}");
        }
    }

    //
    #[test]
    fn conditions_and_deletion_override_the_phase() {
        let base = pod("Running", json!([{"ready": true, "state": {"running": {}}}]));
        let with = |pointer: &str, value: Value| {
            let mut pod = base.clone();
            let (parent, key) = pointer.rsplit_once('/').unwrap();
            pod.pointer_mut(parent).unwrap()[key] = value;
            pod
        };
        let terminating = with("/metadata/deletionTimestamp", json!("1970-01-01T00:00:00Z"));
        assert_eq!(cells(&terminating).1, "Terminating");
        let mut lost = terminating.clone();
        lost["status"]["reason"] = json!("NodeLost");
        assert_eq!(cells(&lost).1, "Unknown");
        let mut finished = pod("Succeeded", json!([{"state": {"terminated": {"reason": "Completed"}}}]));
        finished["metadata"]["deletionTimestamp"] = json!("1970-01-01T00:00:00Z");
        assert_eq!(cells(&finished).1, "Completed");
        let gated = json!({"status": {"phase": "Pending", "conditions": [{"type": "PodScheduled", "reason": "SchedulingGated"}]}});
        assert_eq!(cells(&gated).1, "SchedulingGated");
        let evicted = json!({"status": {"phase": "Failed", "reason": "Evicted"}});
        assert_eq!(cells(&evicted).1, "Evicted");
        let mut ready = pod(
            "Running",
            json!([{"state": {"terminated": {"reason": "Completed"}}}, {"ready": true, "state": {"running": {}}}]),
        );
        ready["status"]["conditions"] = json!([{"type": "Ready", "status": "True"}]);
        assert_eq!(cells(&ready).1, "Running");
    }

    // A-163, P-021
    #[test]
    fn init_containers_come_first() {
        let status = |state: Value| {
            json!({
                "spec": {"initContainers": [{"name": "a"}, {"name": "b"}], "containers": [{}]},
                "status": {"phase": "Pending", "initContainerStatuses": [
                    {"name": "a", "state": {"terminated": {"exitCode": 0}}}, {"name": "b", "state": state},
                ]},
            })
        };
        let rows = [
            (json!({"running": {}}), "Init:1/2"),
            (json!({"waiting": {"reason": "PodInitializing"}}), "Init:1/2"),
            (json!({"waiting": {"reason": "ErrImagePull"}}), "Init:ErrImagePull"),
            (json!({"terminated": {"exitCode": 2}}), "Init:ExitCode:2"),
            (json!({"terminated": {"exitCode": 137, "signal": 9}}), "Init:Signal:9"),
            (json!({"terminated": {"exitCode": 1, "reason": "Error"}}), "Init:Error"),
        ];
        for (state, expected) in rows {
            assert_eq!(cells(&status(state.clone())).1, expected, "{state}");
        }
        let sidecar = json!({
            "spec": {"initContainers": [{"name": "s", "restartPolicy": "Always"}], "containers": [{}]},
            "status": {"phase": "Running",
                "initContainerStatuses": [{"name": "s", "started": true, "ready": true, "restartCount": 1, "state": {"running": {}}}],
                "containerStatuses": [{"ready": true, "restartCount": 1, "state": {"running": {}}}]},
        });
        assert_eq!(cells(&sidecar), ("2/2".to_owned(), "Running".to_owned(), "2".to_owned()));
    }

    // A-164, P-021
    #[test]
    fn restarts_tell_when_and_wide_cells_say_none() {
        let mut restarted = pod(
            "Running",
            json!([{
                "ready": true, "restartCount": 2, "state": {"running": {}},
                "lastState": {"terminated": {"finishedAt": "1970-01-01T00:00:40Z"}},
            }]),
        );
        assert_eq!(cells(&restarted).2, "2 (60s ago)");
        let wide = |pod: &Value| row(pod, jiff::Timestamp::UNIX_EPOCH)[5..].to_vec();
        assert_eq!(wide(&restarted), ["<none>", "<none>", "<none>", "<none>"]);
        restarted["status"]["podIP"] = json!("10.244.0.2");
        restarted["spec"]["nodeName"] = json!("n1");
        restarted["spec"]["readinessGates"] = json!([{"conditionType": "a/b"}, {"conditionType": "c/d"}]);
        restarted["status"]["conditions"] = json!([{"type": "a/b", "status": "True"}]);
        assert_eq!(wide(&restarted), ["10.244.0.2", "n1", "<none>", "1/2"]);
    }
}
