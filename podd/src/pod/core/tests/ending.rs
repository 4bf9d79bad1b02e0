//! How pods end: by themselves, by their deadline, by deletion, eviction and shutdown.

use super::*;

#[test]
fn how_a_pod_ends_follows_policy_and_codes() {
    // policy, exit code of the only container, phase, reason of Ready
    let table = [
        ("P-012", "Never", 0, "Succeeded", "PodCompleted"),
        ("P-015", "Never", 3, "Failed", "PodFailed"),
        ("P-019", "OnFailure", 0, "Succeeded", "PodCompleted"),
        ("P-033", "OnFailure", 3, "Running", "ContainersNotReady"),
        ("P-033", "Always", 0, "Running", "ContainersNotReady"),
    ];
    for (statement, policy, code, phase, reason) in table {
        let mut rig = Rig::up(json!({"restartPolicy": policy, "containers": [{"name": "app"}]}));
        rig.started("app");
        rig.take();
        rig.exited("app", code);
        let ended = rig.take().contains(&Action::RemoveSandbox);
        assert_eq!(ended, phase != "Running", "{statement} {policy} {code}");
        if ended {
            rig.handle(Event::SandboxGone);
        }
        assert_eq!((rig.phase(), rig.condition("Ready").1.as_str()), (phase, reason), "{statement} {policy} {code}");
    }
}

// P-048, P-049
#[test]
fn pre_stop_counts_against_the_grace_and_has_two_extra_seconds() {
    let mut rig = Rig::up(one(json!({"lifecycle": {"preStop": {"sleep": {"seconds": 60}}}})));
    rig.started("app");
    let app = rig.latest("app");
    rig.take();
    rig.handle(Event::Delete(BASE));
    assert_eq!(rig.take(), [Action::RunHook(app, Hook::PreStop)]);
    rig.pass(BASE);
    assert_eq!(rig.take(), [Action::Terminate(app)]);
    rig.pass(Duration::from_secs(1));
    assert_eq!(rig.take(), []);
    rig.pass(Duration::from_secs(1));
    assert_eq!(rig.take(), [Action::Kill(app), Action::RemoveSandbox], "the namespace takes along what is left");

    let mut rig = Rig::up(one(json!({"lifecycle": {"preStop": {"sleep": {"seconds": 4}}}})));
    rig.started("app");
    let app = rig.latest("app");
    rig.handle(Event::Delete(BASE));
    rig.pass(Duration::from_secs(4));
    rig.take();
    rig.handle(Event::HookReturned(app, Hook::PreStop, Ok(())));
    assert_eq!(rig.take(), [Action::Terminate(app)]);
    rig.pass(Duration::from_secs(6));
    assert!(rig.take().contains(&Action::Kill(app)), "10 s in all");
}

// P-052, P-055, P-057
#[test]
fn deletion_ends_with_status_sandbox_and_object_in_this_order() {
    let mut rig = Rig::up(one(json!({})));
    rig.started("app");
    rig.take();
    rig.handle(Event::Delete(BASE));
    assert_eq!(rig.take(), [Action::Terminate(rig.latest("app"))]);
    assert_eq!(rig.phase(), "Running");
    rig.exited("app", 0);
    assert_eq!(rig.take(), [Action::RemoveSandbox], "no restart, and the address is not free yet");
    rig.handle(Event::SandboxGone);
    assert_eq!(rig.take(), [Action::DeleteObject]);
    assert_eq!(rig.phase(), "Succeeded");
    assert!(!rig.state.finished());
    rig.handle(Event::Removed);
    assert_eq!(rig.take(), [Action::Finish]);
}

// P-046
#[test]
fn a_second_deletion_shortens_but_never_lengthens() {
    let mut rig = Rig::up(one(json!({})));
    rig.started("app");
    rig.handle(Event::Delete(BASE));
    rig.handle(Event::Delete(Duration::from_secs(100)));
    assert_eq!(rig.state.poll_timeout(), Some(rig.now.instant + BASE));
    rig.handle(Event::Delete(Duration::from_secs(4)));
    assert_eq!(rig.state.poll_timeout(), Some(rig.now.instant + Duration::from_secs(4)));
}

// P-053
#[test]
fn a_removed_pod_still_gets_term_and_two_seconds() {
    let mut rig = Rig::up(one(json!({"lifecycle": {"preStop": {"sleep": {"seconds": 60}}}})));
    rig.started("app");
    rig.take();
    rig.handle(Event::Removed);
    assert_eq!(rig.take(), [Action::Terminate(rig.latest("app"))]);
    rig.pass(Duration::from_millis(1900));
    assert_eq!(rig.take(), []);
    rig.pass(Duration::from_millis(100));
    assert!(rig.take().contains(&Action::Kill(rig.latest("app"))));
    rig.handle(Event::SandboxGone);
    assert_eq!(rig.take(), [Action::Finish]);
}

// P-031, P-056
#[test]
fn readiness_is_asked_while_terminating_and_liveness_is_not() {
    let mut rig = Rig::up(one(json!({"readinessProbe": {"periodSeconds": 1}, "livenessProbe": {"periodSeconds": 1}})));
    rig.started("app");
    rig.probed("app", ProbeKind::Readiness, true);
    rig.probed("app", ProbeKind::Liveness, true);
    rig.handle(Event::Delete(BASE));
    rig.take();
    rig.pass(Duration::from_secs(1));
    let probe = Action::Probe(rig.latest("app"), ProbeKind::Readiness, Duration::from_secs(1));
    assert_eq!(rig.take(), [probe]);
    rig.probed("app", ProbeKind::Readiness, true);
    assert_eq!(rig.condition("Ready").0, "True", "a process that ignores TERM goes on serving");
}

// P-043
#[test]
fn the_active_deadline_fails_the_pod() {
    let mut rig = Rig::up(json!({"activeDeadlineSeconds": 20, "containers": [{"name": "app"}]}));
    rig.started("app");
    rig.take();
    rig.pass(Duration::from_secs(20));
    assert_eq!(rig.take(), [Action::Terminate(rig.latest("app"))]);
    rig.exited("app", 0);
    rig.handle(Event::SandboxGone);
    assert_eq!((rig.phase(), rig.last.reason.as_deref()), ("Failed", Some("DeadlineExceeded")));
    assert_eq!(rig.take(), [Action::RemoveSandbox], "the object stays");
}

// P-030, P-038
#[test]
fn a_process_that_is_gone_is_not_ready_while_its_last_words_are_read() {
    let mut rig = Rig::up(json!({"containers": [{"name": "app", "readinessProbe": {}}, {"name": "side"}]}));
    rig.started("app");
    rig.started("side");
    rig.probed("app", ProbeKind::Readiness, true);
    assert_eq!(rig.condition("Ready").0, "True");
    rig.take();
    rig.handle(Event::Leaving(rig.latest("app")));
    assert_eq!(rig.condition("Ready"), ("False".to_owned(), "ContainersNotReady".to_owned()));
    let shown = |rig: &Rig| rig.last.container_statuses.as_ref().expect("statuses")[0].clone();
    assert!(shown(&rig).state.is_some_and(|state| state.running.is_some()), "how it ended comes with its whole log");
    assert_eq!((shown(&rig).ready, shown(&rig).started), (false, Some(false)));
    rig.pass(Duration::from_secs(60));
    assert_eq!(rig.take(), [], "nobody asks it any more, and the next instance waits for its log");
    rig.exited("app", 3);
    assert_eq!(rig.starts(), ["app"]);
    assert_eq!(shown(&rig).state.and_then(|state| state.terminated).map(|end| end.exit_code), Some(3));
}

// P-048
#[test]
fn a_pod_that_ends_waits_for_the_last_words_of_its_processes() {
    let mut rig = Rig::up(one(json!({})));
    rig.started("app");
    rig.handle(Event::Delete(BASE));
    rig.handle(Event::Leaving(rig.latest("app")));
    assert!(!rig.take().contains(&Action::RemoveSandbox));
    rig.exited("app", 0);
    assert_eq!(rig.take(), [Action::RemoveSandbox]);
}

// P-045
#[test]
fn an_evicted_pod_is_stopped_and_stays() {
    let mut rig = Rig::up(one(json!({})));
    rig.started("app");
    rig.take();
    let status = json!({"phase": "Failed", "reason": "Evicted"});
    rig.pod.status = Some(serde_json::from_value(status).expect("a status"));
    rig.handle(Event::Declared);
    assert_eq!(rig.take(), [Action::Terminate(rig.latest("app"))]);
    rig.exited("app", 0);
    rig.handle(Event::SandboxGone);
    assert_eq!((rig.phase(), rig.last.reason.as_deref()), ("Failed", Some("Evicted")));
    assert_eq!(rig.take(), [Action::RemoveSandbox]);
}

// When podd goes down there is no time for hooks, nor for the two seconds.
#[test]
fn a_shutdown_is_hasty_and_leaves_the_object_alone() {
    let mut rig = Rig::up(one(json!({"lifecycle": {"preStop": {"sleep": {"seconds": 60}}}})));
    rig.started("app");
    rig.take();
    rig.handle(Event::Shutdown(Duration::from_millis(500)));
    assert_eq!(rig.notices(), Vec::<&str>::new());
    assert_eq!(rig.take(), [Action::Terminate(rig.latest("app"))]);
    rig.pass(Duration::from_millis(500));
    assert_eq!(rig.take(), [Action::Kill(rig.latest("app")), Action::RemoveSandbox]);
    rig.handle(Event::SandboxGone);
    assert_eq!(rig.take(), [Action::Finish]);
}
