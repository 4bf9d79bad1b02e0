//! What the API shows of a pod: phase, conditions, container statuses, as a function of the state machine.

use std::net::IpAddr;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{
    ContainerState, ContainerStateRunning, ContainerStateTerminated, ContainerStateWaiting, ContainerStatus, HostIP,
    Pod, PodCondition, PodIP, PodStatus, ResourceRequirements,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use super::container::{Container, End, Run};
use super::core::{Cause, PodState, Sandbox};
use super::plan::Role;

/// What the rendering needs besides the state.
pub(crate) struct View<'a> {
    /// The object as the API has it: conditions of others, generation, resources.
    pub(crate) pod: &'a Pod,
    /// What was rendered last, for transition times.
    pub(crate) last: &'a PodStatus,
    /// Addresses of the node.
    pub(crate) host: &'a [IpAddr],
    /// The wall clock.
    pub(crate) now: Timestamp,
}

/// The whole status.
pub(crate) fn render(state: &PodState, view: &View<'_>) -> PodStatus {
    let phase = phase(state, view);
    let text = |ip: &IpAddr| ip.to_string();
    let current = view.pod.status.as_ref();
    let statuses = |init: bool| {
        let of_kind = state.containers.iter().filter(move |c| (c.plan.role != Role::Main) == init);
        let list: Vec<_> = of_kind.map(|c| container_status(state, c)).collect();
        (!list.is_empty()).then_some(list)
    };
    let deadline = state.ending.as_ref().is_some_and(|e| e.cause == Cause::DeadlineExceeded && e.done);
    PodStatus {
        phase: Some(phase.to_owned()),
        reason: if deadline { Some("DeadlineExceeded".to_owned()) } else { current.and_then(|s| s.reason.clone()) },
        message: if deadline {
            Some("Pod was active on the node longer than the specified deadline".to_owned())
        } else {
            current.and_then(|s| s.message.clone())
        },
        conditions: Some(conditions(state, phase, view)),
        init_container_statuses: statuses(true),
        container_statuses: statuses(false),
        host_ip: view.host.first().map(text),
        host_ips: Some(view.host.iter().map(|ip| HostIP { ip: ip.to_string() }).collect()),
        pod_ip: state.addresses.first().map(text),
        pod_ips: (!state.addresses.is_empty())
            .then(|| state.addresses.iter().map(|ip| PodIP { ip: ip.to_string() }).collect()),
        start_time: Some(Time(state.start_time)),
        qos_class: Some(current.and_then(|s| s.qos_class.clone()).unwrap_or_else(|| qos_class(view.pod).to_owned())),
        observed_generation: view.pod.metadata.generation,
        ..PodStatus::default()
    }
}

/// Whether `said` has what a node has `published`, as far as Services and workloads go by it. Times and texts are left out, and
/// a final phase is never contradicted.
pub(crate) fn agree(said: &PodStatus, published: &PodStatus) -> bool {
    if matches!(said.phase.as_deref(), Some("Succeeded" | "Failed")) {
        return true;
    }
    let holds = |ours: &PodCondition| {
        let theirs = said.conditions.iter().flatten().find(|theirs| theirs.type_ == ours.type_);
        theirs.is_some_and(|theirs| theirs.status == ours.status)
    };
    let containers = |status: &PodStatus| -> Vec<_> {
        let all = status.init_container_statuses.iter().flatten().chain(status.container_statuses.iter().flatten());
        all.map(|c| (c.name.clone(), c.ready, c.started, c.restart_count)).collect()
    };
    said.phase == published.phase
        && said.pod_ip == published.pod_ip
        && published.conditions.iter().flatten().all(holds)
        && containers(said) == containers(published)
}

/// P-012.
fn phase(state: &PodState, view: &View<'_>) -> &'static str {
    let main = || state.containers.iter().filter(|c| c.plan.role == Role::Main);
    // Whoever declared it finished has the last word: a final phase is never left.
    if state.ending.as_ref().is_some_and(|ending| ending.cause == Cause::Declared) {
        let declared = view.pod.status.as_ref().and_then(|s| s.phase.as_deref());
        return if declared == Some("Succeeded") { "Succeeded" } else { "Failed" };
    }
    let Some(ending) = state.ending.as_ref().filter(|ending| ending.done) else {
        return if main().all(|c| c.attempt.is_some()) { "Running" } else { "Pending" };
    };
    let clean = main().all(|c| c.end.as_ref().is_some_and(|end| end.code == 0) && !c.busy());
    match ending.cause {
        Cause::Completed | Cause::Deleted | Cause::Shutdown if clean => "Succeeded",
        _ => "Failed",
    }
}

/// A condition before it has a time.
struct Verdict {
    kind: &'static str,
    /// `Err` holds reason and message of a False; a True may have a reason too.
    state: Result<Option<&'static str>, (&'static str, String)>,
}

/// P-013 to P-016, P-019.
fn conditions(state: &PodState, phase: &str, view: &View<'_>) -> Vec<PodCondition> {
    let initialized = initialized(state, phase);
    let containers_ready = containers_ready(state, phase);
    let ready = match &containers_ready {
        Ok(_) => gates(state, view.pod),
        Err(problem) => Err(problem.clone()),
    };
    let sandbox = if state.sandbox == Sandbox::Ready { Ok(None) } else { Err(("", String::new())) };
    let ours = [
        Verdict { kind: "PodReadyToStartContainers", state: sandbox },
        Verdict { kind: "Initialized", state: initialized },
        Verdict { kind: "Ready", state: ready },
        Verdict { kind: "ContainersReady", state: containers_ready },
        Verdict { kind: "PodScheduled", state: Ok(None) },
    ];
    ours.into_iter().map(|verdict| condition(verdict, view)).collect()
}

fn condition(verdict: Verdict, view: &View<'_>) -> PodCondition {
    let (status, reason, message) = match verdict.state {
        Ok(reason) => ("True", reason, None),
        Err((reason, message)) => {
            ("False", Some(reason).filter(|r| !r.is_empty()), Some(message).filter(|m| !m.is_empty()))
        }
    };
    let last = view.last.conditions.iter().flatten().find(|c| c.type_ == verdict.kind);
    let unchanged = last.filter(|last| last.status == status).and_then(|last| last.last_transition_time.clone());
    PodCondition {
        type_: verdict.kind.to_owned(),
        status: status.to_owned(),
        reason: reason.map(str::to_owned),
        message,
        last_transition_time: Some(unchanged.unwrap_or(Time(view.now))),
        observed_generation: view.pod.metadata.generation,
        ..PodCondition::default()
    }
}

type Judgement = Result<Option<&'static str>, (&'static str, String)>;

fn initialized(state: &PodState, phase: &str) -> Judgement {
    let init = || state.containers.iter().filter(|c| c.plan.role != Role::Main);
    if phase == "Succeeded" {
        return Ok(Some("PodCompleted"));
    }
    if state.initialized || init().next().is_none() {
        return Ok(None);
    }
    let open = init().filter(|c| if c.plan.role == Role::Init { !c.ready() } else { !c.started() });
    Err(("ContainersNotInitialized", format!("containers with incomplete status: {}", names(open))))
}

fn containers_ready(state: &PodState, phase: &str) -> Judgement {
    match phase {
        "Succeeded" => return Err(("PodCompleted", String::new())),
        "Failed" => return Err(("PodFailed", String::new())),
        _ => {}
    }
    let unready: Vec<_> = state.containers.iter().filter(|c| c.plan.role != Role::Init && !c.ready()).collect();
    if unready.is_empty() {
        return Ok(None);
    }
    Err(("ContainersNotReady", format!("containers with unready status: {}", names(unready.into_iter()))))
}

fn gates(state: &PodState, pod: &Pod) -> Judgement {
    let conditions = pod.status.as_ref().and_then(|s| s.conditions.as_deref()).unwrap_or_default();
    let holds = |gate: &&String| conditions.iter().any(|c| c.type_ == **gate && c.status == "True");
    let missing: Vec<&str> = state.plan.readiness_gates.iter().filter(|g| !holds(g)).map(String::as_str).collect();
    if missing.is_empty() {
        return Ok(None);
    }
    let message = format!("the status of pod readiness gates {} is not \"True\"", missing.join(", "));
    Err(("ReadinessGatesNotReady", message))
}

fn names<'a>(containers: impl Iterator<Item = &'a Container>) -> String {
    let names: Vec<&str> = containers.map(|c| c.plan.name.as_str()).collect();
    format!("[{}]", names.join(" "))
}

/// P-020.
fn container_status(state: &PodState, container: &Container) -> ContainerStatus {
    let id = |attempt: u32| format!("minisvc://{}-{}-{attempt}", state.plan.uid, container.plan.name);
    let id_before = |back: u32| container.attempt.and_then(|a| a.checked_sub(back)).map(id);
    ContainerStatus {
        name: container.plan.name.clone(),
        image: container.plan.image.clone(),
        image_id: if container.attempt.is_some() { container.plan.image.clone() } else { String::new() },
        container_id: id_before(0),
        ready: container.ready(),
        started: Some(container.started()),
        restart_count: container.attempt.and_then(|a| i32::try_from(a).ok()).unwrap_or(0),
        state: Some(current_state(state, container, id_before(0))),
        last_state: Some(last_state(container, id_before(0), id_before(1))),
        ..ContainerStatus::default()
    }
}

fn current_state(state: &PodState, container: &Container, id: Option<String>) -> ContainerState {
    let init_pending = !state.initialized && state.containers.iter().any(|c| c.plan.role != Role::Main);
    let fresh = if init_pending { "PodInitializing" } else { "ContainerCreating" };
    match (&container.run, &container.end) {
        (Run::Up { since } | Run::Leaving { since }, _) => ContainerState {
            running: Some(ContainerStateRunning { started_at: Some(Time(since.wall)) }),
            ..ContainerState::default()
        },
        (Run::Refused { waiting: shown, .. }, _) => waiting(&shown.reason, &shown.message),
        (Run::Starting | Run::Down { restart: Some(_) }, Some(end)) if container.waits => waiting(
            "CrashLoopBackOff",
            &format!("waiting to restart container {}, which ended with code {}", container.plan.name, end.code),
        ),
        (Run::Starting | Run::Down { .. }, Some(end)) => ended(end, id),
        (Run::Starting | Run::Hooked { .. }, _) => waiting("ContainerCreating", ""),
        (Run::Idle | Run::Down { .. }, _) => waiting(fresh, ""),
    }
}

/// The end shown as `lastState`: the latest one, unless `state` shows that already.
fn last_state(container: &Container, latest: Option<String>, before: Option<String>) -> ContainerState {
    let shown_elsewhere = matches!(container.run, Run::Starting | Run::Down { .. }) && !container.waits;
    match (&container.end, &container.previous) {
        (Some(end), _) if !shown_elsewhere => ended(end, latest),
        (_, Some(previous)) => ended(previous, before),
        _ => ContainerState::default(),
    }
}

fn waiting(reason: &str, message: &str) -> ContainerState {
    let message = Some(message.to_owned()).filter(|m| !m.is_empty());
    ContainerState {
        waiting: Some(ContainerStateWaiting { reason: Some(reason.to_owned()), message }),
        ..ContainerState::default()
    }
}

fn ended(end: &End, id: Option<String>) -> ContainerState {
    ContainerState {
        terminated: Some(ContainerStateTerminated {
            exit_code: end.code,
            signal: end.signal,
            reason: Some(end.reason.clone()),
            message: Some(end.message.clone()).filter(|m| !m.is_empty()),
            started_at: end.started.map(Time),
            finished_at: Some(Time(end.finished)),
            container_id: id,
        }),
        ..ContainerState::default()
    }
}

/// The inverse of what [`render`] says of an ended container, for pods of an earlier run of the lab.
pub(crate) fn end_of(terminated: &ContainerStateTerminated) -> End {
    End {
        code: terminated.exit_code,
        signal: terminated.signal,
        reason: terminated.reason.clone().unwrap_or_default(),
        message: terminated.message.clone().unwrap_or_default(),
        started: terminated.started_at.as_ref().map(|time| time.0),
        finished: terminated.finished_at.as_ref().map_or(Timestamp::UNIX_EPOCH, |time| time.0),
    }
}

/// P-022: `Guaranteed` when every container limits cpu and memory and asks for just that, `BestEffort` when
/// none says anything, else `Burstable`.
fn qos_class(pod: &Pod) -> &'static str {
    let spec = pod.spec.as_ref();
    let init = spec.and_then(|s| s.init_containers.as_deref()).unwrap_or_default();
    let main = spec.map(|s| s.containers.as_slice()).unwrap_or_default();
    let mut said_any = false;
    let mut all_exact = true;
    for container in init.iter().chain(main) {
        let empty = ResourceRequirements::default();
        let resources = container.resources.as_ref().unwrap_or(&empty);
        for resource in ["cpu", "memory"] {
            let limit = resources.limits.as_ref().and_then(|limits| limits.get(resource));
            let request = resources.requests.as_ref().and_then(|requests| requests.get(resource));
            said_any |= limit.is_some() || request.is_some();
            all_exact &= limit.is_some() && request.is_none_or(|request| Some(request) == limit);
        }
    }
    match (said_any, all_exact) {
        (false, _) => "BestEffort",
        (true, true) => "Guaranteed",
        (true, false) => "Burstable",
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    #[test]
    fn what_somebody_else_says_of_a_pod_is_contradicted_where_only_its_node_knows() {
        let status = |status: Value| -> PodStatus { serde_json::from_value(status).expect("a status") };
        let ready = |yes: &str| json!({"type": "Ready", "status": yes, "lastTransitionTime": "2026-01-01T00:00:00Z"});
        let container =
            |ready: bool| json!({"name": "c", "image": "i", "imageID": "", "ready": ready, "restartCount": 0});
        let published = json!({"phase": "Running", "podIP": "10.244.0.2", "conditions": [ready("True")],
            "containerStatuses": [container(true)]});
        for (label, field, value, expected) in [
            ("nothing", "phase", json!("Running"), true),
            ("its address", "podIP", json!("10.244.0.9"), false),
            ("its readiness", "conditions", json!([ready("False")]), false),
            ("no condition", "conditions", json!([]), false),
            ("another's condition", "conditions", json!([{"type": "x/y", "status": "True"}, ready("True")]), true),
            ("a container", "containerStatuses", json!([container(false)]), false),
            ("a reason", "reason", json!("Why"), true),
            ("an earlier phase", "phase", json!("Pending"), false),
            ("that it has ended", "phase", json!("Failed"), true),
        ] {
            let mut said = published.clone();
            said[field] = value;
            assert_eq!(agree(&status(said), &status(published.clone())), expected, "{label}");
        }
    }
}
