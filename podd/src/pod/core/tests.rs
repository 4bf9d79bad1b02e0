//! The state machine against a clock and a runtime that the test moves by hand.

mod ending;
mod probes;

use std::time::Duration;

use serde_json::{Value, json};

use super::*;
use crate::pod::container::Waiting;
use crate::pod::event::{Exit, StartFailure};
use crate::pod::status::{View, render};
use crate::probe::ProbeKind;
use k8s_openapi::api::core::v1::{Pod, PodStatus};

const BASE: Duration = Duration::from_secs(10);
const CAP: Duration = Duration::from_secs(300);

/// A pod, its clock, and what it asked for so far.
struct Rig {
    pod: Pod,
    state: PodState,
    now: Now,
    asked: Vec<Action>,
    last: PodStatus,
}

impl Rig {
    fn new(spec: Value) -> Self {
        let pod = crate::testing::pod(spec);
        let now = Now::read();
        let state = PodState::new(Plan::of(&pod), None, Limits { base: BASE, cap: CAP }, now);
        let mut rig = Self { pod, state, now, asked: Vec::new(), last: PodStatus::default() };
        rig.handle(Event::Tick);
        rig
    }

    /// A pod whose sandbox is up.
    fn up(spec: Value) -> Self {
        let mut rig = Self::new(spec);
        rig.sandbox_ready();
        rig
    }

    fn sandbox_ready(&mut self) {
        self.handle(Event::SandboxReady(vec![IpAddr::from([10, 244, 1, 2])]));
    }

    fn handle(&mut self, event: Event) {
        let actions = self.state.handle(event, self.now);
        self.asked.extend(actions);
        let view = View { pod: &self.pod, last: &self.last, host: &[], now: self.now.wall };
        self.last = render(&self.state, &view);
    }

    fn pass(&mut self, time: Duration) {
        self.now.instant += time;
        self.now.wall += jiff::SignedDuration::try_from(time).expect("a short time");
        self.handle(Event::Tick);
    }

    fn take(&mut self) -> Vec<Action> {
        std::mem::take(&mut self.asked).into_iter().filter(|a| !matches!(a, Action::Notify(_))).collect()
    }

    fn notices(&self) -> Vec<&'static str> {
        self.asked
            .iter()
            .filter_map(|a| if let Action::Notify(notice) = a { Some(notice.reason) } else { None })
            .collect()
    }

    /// Names of the containers that are to be started now.
    fn starts(&mut self) -> Vec<String> {
        let names = |a: Action| match a {
            Action::Start(instance) => Some(self.state.plan.containers[instance.container].name.clone()),
            _ => None,
        };
        std::mem::take(&mut self.asked).into_iter().filter_map(names).collect()
    }

    fn next(&self, name: &str) -> Instance {
        let container = self.index(name);
        Instance { container, attempt: self.state.containers[container].next_attempt() }
    }

    fn latest(&self, name: &str) -> Instance {
        let container = self.index(name);
        Instance { container, attempt: self.state.containers[container].attempt.expect("it ran") }
    }

    fn index(&self, name: &str) -> usize {
        self.state.plan.containers.iter().position(|c| c.name == name).expect("a container of the pod")
    }

    fn started(&mut self, name: &str) {
        self.handle(Event::Started(self.next(name)));
    }

    fn exited(&mut self, name: &str, code: i32) {
        self.handle(Event::Exited(self.latest(name), Exit::Code(code)));
    }

    fn probed(&mut self, name: &str, kind: ProbeKind, passed: bool) {
        let result = if passed { Ok(()) } else { Err("no".to_owned()) };
        self.handle(Event::Probed(self.latest(name), kind, result));
    }

    fn phase(&self) -> &str {
        self.last.phase.as_deref().expect("a phase")
    }

    fn condition(&self, kind: &str) -> (String, String) {
        let condition = self.last.conditions.iter().flatten().find(|c| c.type_ == kind).expect("a condition");
        (condition.status.clone(), condition.reason.clone().unwrap_or_default())
    }

    fn waiting(&self, position: usize) -> String {
        let status = &self.last.container_statuses.as_ref().expect("statuses")[position];
        let waiting = status.state.as_ref().and_then(|s| s.waiting.as_ref());
        waiting.and_then(|w| w.reason.clone()).unwrap_or_default()
    }

    fn restarts(&self) -> i32 {
        self.last.container_statuses.as_ref().expect("statuses")[0].restart_count
    }
}

fn one(extra: Value) -> Value {
    let mut container = json!({"name": "app"});
    container.as_object_mut().expect("an object").extend(extra.as_object().expect("an object").clone());
    json!({"containers": [container]})
}

// P-040, P-044
#[test]
fn sandbox_first_then_containers_in_order() {
    let mut rig = Rig::new(json!({"containers": [{"name": "a"}, {"name": "b", "readinessProbe": {}}, {"name": "c"}]}));
    assert_eq!(rig.take(), [Action::MakeSandbox]);
    assert_eq!((rig.phase(), rig.last.pod_ip.clone()), ("Pending", None));
    rig.sandbox_ready();
    assert_eq!(rig.last.pod_ip.as_deref(), Some("10.244.1.2"), "the address shows before anything runs");
    for name in ["a", "b", "c"] {
        assert_eq!(rig.starts(), [name]);
        rig.started(name);
    }
    assert_eq!(rig.phase(), "Running", "although b is not ready");
}

// P-039, P-012, P-014
#[test]
fn init_containers_run_one_by_one() {
    let mut rig =
        Rig::up(json!({"initContainers": [{"name": "one"}, {"name": "two"}], "containers": [{"name": "app"}]}));
    assert_eq!(rig.starts(), ["one"]);
    rig.started("one");
    assert_eq!(rig.starts(), Vec::<String>::new());
    assert_eq!(rig.waiting(0), "PodInitializing");
    rig.exited("one", 0);
    assert_eq!(rig.starts(), ["two"]);
    rig.started("two");
    assert_eq!((rig.phase(), rig.condition("Initialized").0), ("Pending", "False".to_owned()));
    rig.exited("two", 0);
    assert_eq!(rig.starts(), ["app"]);
    assert_eq!(rig.condition("Initialized").0, "True");
}

// P-033
#[test]
fn a_failing_init_container_is_retried_unless_never() {
    let spec = |policy: &str| json!({"restartPolicy": policy, "initContainers": [{"name": "one"}], "containers": [{"name": "app"}]});
    let mut rig = Rig::up(spec("Always"));
    rig.started("one");
    rig.take();
    rig.exited("one", 1);
    assert_eq!(rig.starts(), ["one"]);

    let mut rig = Rig::up(spec("Never"));
    rig.started("one");
    rig.exited("one", 1);
    rig.handle(Event::SandboxGone);
    assert_eq!(rig.phase(), "Failed");
    assert!(!rig.take().contains(&Action::Start(Instance { container: 1, attempt: 0 })));
}

// P-039, P-050
#[test]
fn sidecars_start_in_order_and_stop_last_in_reverse() {
    let mut rig = Rig::up(json!({
        "initContainers": [{"name": "s1", "restartPolicy": "Always", "startupProbe": {}}, {"name": "s2", "restartPolicy": "Always"}],
        "containers": [{"name": "app"}],
    }));
    rig.started("s1");
    assert_eq!(rig.starts(), ["s1"], "s2 waits for the startup probe of s1");
    rig.probed("s1", ProbeKind::Startup, true);
    assert_eq!(rig.starts(), ["s2"]);
    rig.started("s2");
    assert_eq!(rig.starts(), ["app"]);
    rig.started("app");
    rig.take();
    rig.handle(Event::Delete(BASE));
    assert_eq!(rig.take(), [Action::Terminate(rig.latest("app"))]);
    rig.exited("app", 0);
    assert_eq!(rig.take(), [Action::Terminate(rig.latest("s2"))]);
    rig.exited("s2", 1);
    assert_eq!(rig.take(), [Action::Terminate(rig.latest("s1"))]);
    rig.exited("s1", 0);
    assert_eq!(rig.take(), [Action::RemoveSandbox]);
}

// P-050, P-012
#[test]
fn a_pod_with_a_sidecar_completes() {
    let mut rig = Rig::up(json!({"restartPolicy": "Never",
        "initContainers": [{"name": "mesh", "restartPolicy": "Always"}], "containers": [{"name": "app"}]}));
    rig.started("mesh");
    rig.started("app");
    rig.take();
    rig.exited("app", 0);
    assert_eq!(rig.take(), [Action::Terminate(rig.latest("mesh"))]);
    rig.exited("mesh", 1);
    rig.handle(Event::SandboxGone);
    assert_eq!(rig.phase(), "Succeeded", "how a sidecar ends does not matter");
}

// P-040
#[test]
fn the_post_start_hook_holds_the_next_container_back() {
    let hook = json!({"postStart": {"exec": {"command": ["true"]}}});
    let mut rig = Rig::up(json!({"containers": [{"name": "a", "lifecycle": hook}, {"name": "b"}]}));
    rig.take();
    rig.started("a");
    let instance = rig.latest("a");
    assert_eq!(rig.take(), [Action::RunHook(instance, Hook::PostStart)]);
    assert_eq!(rig.waiting(0), "ContainerCreating", "not reported running yet");
    rig.handle(Event::HookReturned(instance, Hook::PostStart, Ok(())));
    assert_eq!(rig.starts(), ["b"]);
    assert_eq!(rig.waiting(0), "");
}

// P-040
#[test]
fn a_failed_post_start_hook_kills_the_container() {
    let mut rig = Rig::up(one(json!({"lifecycle": {"postStart": {"exec": {"command": ["false"]}}}})));
    rig.started("app");
    rig.take();
    rig.handle(Event::HookReturned(rig.latest("app"), Hook::PostStart, Err("exit code 1".to_owned())));
    assert!(rig.notices().contains(&"FailedPostStartHook"));
    assert_eq!(rig.take(), [Action::Terminate(rig.latest("app"))]);
}

// P-035, P-037, P-038, P-012
#[test]
fn restarts_back_off_and_count() {
    let mut rig = Rig::up(one(json!({})));
    rig.started("app");
    assert_eq!(rig.condition("Ready").0, "True");
    rig.take();
    rig.exited("app", 1);
    assert_eq!(rig.condition("Ready").0, "False");
    assert_eq!(rig.starts(), ["app"], "the first restart is immediate");
    let address = rig.last.pod_ip.clone();
    rig.started("app");
    rig.take();
    rig.exited("app", 1);
    assert!(rig.notices().contains(&"BackOff"));
    assert_eq!((rig.waiting(0).as_str(), rig.restarts(), rig.phase()), ("CrashLoopBackOff", 1, "Running"));
    rig.pass(BASE - Duration::from_secs(1));
    assert_eq!(rig.starts(), Vec::<String>::new());
    assert_eq!(rig.state.poll_timeout(), Some(rig.now.instant + Duration::from_secs(1)));
    rig.pass(Duration::from_secs(1));
    assert_eq!(rig.starts(), ["app"]);
    rig.started("app");
    assert_eq!((rig.restarts(), rig.last.pod_ip.clone()), (2, address), "same address");
}

// P-020
#[test]
fn a_container_without_memory_left_says_so_and_is_restarted() {
    let mut rig = Rig::up(one(json!({})));
    rig.started("app");
    rig.take();
    rig.handle(Event::Exited(rig.latest("app"), Exit::OutOfMemory { code: 137, signal: Some(9) }));
    assert_eq!(rig.starts(), ["app"], "restartPolicy decides");
    rig.started("app");
    let status = &rig.last.container_statuses.as_ref().expect("statuses")[0];
    let last = status.last_state.as_ref().and_then(|state| state.terminated.as_ref()).expect("an end before");
    assert_eq!((last.reason.as_deref(), last.exit_code, last.signal), (Some("OOMKilled"), 137, Some(9)));
    assert_eq!(status.restart_count, 1);
}

// P-007
#[test]
fn a_lost_sandbox_is_made_again_and_containers_restart() {
    let mut rig = Rig::up(json!({"initContainers": [{"name": "init"}], "containers": [{"name": "app"}]}));
    rig.started("init");
    rig.exited("init", 0);
    rig.started("app");
    rig.take();
    rig.handle(Event::SandboxLost);
    assert_eq!(rig.take(), [Action::RemoveSandbox]);
    rig.handle(Event::SandboxGone);
    assert_eq!(rig.take(), [Action::MakeSandbox]);
    rig.handle(Event::SandboxReady(vec![IpAddr::from([10, 244, 1, 9])]));
    assert_eq!(rig.starts(), ["init"], "from the beginning");
    rig.started("init");
    rig.exited("init", 0);
    rig.started("app");
    assert_eq!((rig.last.pod_ip.as_deref(), rig.restarts()), (Some("10.244.1.9"), 1));
    let last = rig.last.container_statuses.as_ref().and_then(|s| s[0].last_state.as_ref()?.terminated.clone());
    assert_eq!(last.map(|end| end.exit_code), Some(137));
}

#[test]
fn after_a_reboot_the_policy_decides_who_comes_back() {
    let recalled = |policy: &str, end: Option<i32>| {
        let pod = crate::testing::pod(json!({"restartPolicy": policy, "containers": [{"name": "app"}]}));
        let now = Now::read();
        let mut state = PodState::new(Plan::of(&pod), None, Limits { base: BASE, cap: CAP }, now);
        let end = end.map(|code| End {
            code,
            signal: None,
            reason: "Error".to_owned(),
            message: String::new(),
            started: None,
            finished: now.wall,
        });
        state.recall("app", 4, end, now);
        let actions = state.handle(Event::Tick, now);
        (state, actions, now)
    };
    let (mut state, actions, now) = recalled("Always", None);
    assert_eq!(actions, [Action::MakeSandbox]);
    let actions = state.handle(Event::SandboxReady(Vec::new()), now);
    assert_eq!(actions, [Action::Start(Instance { container: 0, attempt: 5 })], "the count goes on");
    let (state, ..) = recalled("Never", None);
    assert_eq!(state.ending.map(|ending| (ending.cause, ending.done)), Some((Cause::Completed, true)));
    let (_, actions, _) = recalled("OnFailure", Some(1));
    assert_eq!(actions, [Action::MakeSandbox]);
}

#[test]
fn what_may_appear_later_is_waited_for() {
    let mut rig = Rig::up(json!({"containers": [{"name": "a"}, {"name": "b"}]}));
    rig.take();
    let waiting = Waiting { reason: "ErrImageNeverPull".to_owned(), message: "map it".to_owned() };
    rig.handle(Event::StartFailed(rig.next("a"), StartFailure::Refused(waiting)));
    assert_eq!((rig.waiting(0).as_str(), rig.restarts()), ("ErrImageNeverPull", 0));
    assert_eq!(rig.starts(), ["b"], "the others do not wait");
    rig.started("b");
    assert_eq!(rig.phase(), "Pending");
    rig.pass(Duration::from_secs(1));
    assert_eq!(rig.starts(), ["a"]);
}

// P-035
#[test]
fn a_program_that_does_not_exist_crash_loops() {
    let mut rig = Rig::up(one(json!({})));
    let missing = || StartFailure::Failed("/nope: no such program".to_owned());
    rig.handle(Event::StartFailed(rig.next("app"), missing()));
    rig.handle(Event::StartFailed(rig.next("app"), missing()));
    assert_eq!((rig.waiting(0).as_str(), rig.restarts()), ("CrashLoopBackOff", 1));
    let last = rig.last.container_statuses.as_ref().and_then(|s| s[0].last_state.as_ref()?.terminated.clone());
    assert_eq!(last.and_then(|end| end.reason), Some("StartError".to_owned()));
}

#[test]
fn a_sandbox_that_cannot_be_made_is_tried_again() {
    let mut rig = Rig::new(one(json!({})));
    rig.take();
    rig.handle(Event::SandboxFailed("FailedMount", "no such volume".to_owned()));
    assert_eq!(rig.notices(), ["FailedMount"]);
    assert_eq!(rig.take(), []);
    rig.pass(Duration::from_secs(1));
    assert_eq!(rig.take(), [Action::MakeSandbox]);
    rig.handle(Event::Delete(BASE));
    assert_eq!(rig.take(), [], "what is being made has to be waited for");
    rig.sandbox_ready();
    assert_eq!(rig.take(), [Action::RemoveSandbox]);
}

// A deadline that has passed and waits for something else must not wake the worker again and again.
#[test]
fn what_is_blocked_does_not_spin() {
    let mut rig = Rig::up(json!({"initContainers": [{"name": "init"}], "containers": [{"name": "app"}]}));
    rig.started("init");
    rig.exited("init", 0);
    rig.started("app");
    rig.handle(Event::SandboxLost);
    rig.handle(Event::SandboxGone);
    rig.handle(Event::SandboxReady(Vec::new()));
    rig.started("init");
    assert!(matches!(rig.state.containers[1].run, Run::Down { restart: Some(at) } if at <= rig.now.instant));
    assert_eq!(rig.state.poll_timeout(), None, "app waits for init, not for the clock");
}
