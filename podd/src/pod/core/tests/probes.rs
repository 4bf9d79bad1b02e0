//! What probes and readiness gates lead to.

use super::*;

// P-026
#[test]
fn the_startup_probe_holds_the_others_back_and_kills() {
    let probes = json!({"startupProbe": {"failureThreshold": 2}, "livenessProbe": {}, "readinessProbe": {}});
    let mut rig = Rig::up(one(probes.clone()));
    rig.take();
    rig.started("app");
    let probe = |kind| Action::Probe(Instance { container: 0, attempt: 0 }, kind, Duration::from_secs(1));
    assert_eq!(rig.take(), [probe(ProbeKind::Startup)]);
    rig.pass(Duration::from_secs(60));
    assert_eq!(rig.take(), [], "one look at a time, and nothing else meanwhile");
    rig.probed("app", ProbeKind::Startup, true);
    assert_eq!(rig.take(), [probe(ProbeKind::Liveness), probe(ProbeKind::Readiness)]);

    let mut rig = Rig::up(one(probes));
    rig.started("app");
    rig.probed("app", ProbeKind::Startup, false);
    rig.take();
    rig.probed("app", ProbeKind::Startup, false);
    assert_eq!(rig.take(), [Action::Terminate(rig.latest("app"))]);
}

// P-018, P-027, P-016
#[test]
fn readiness_follows_the_probe() {
    let mut rig = Rig::up(one(json!({"readinessProbe": {"failureThreshold": 2}})));
    rig.started("app");
    assert_eq!(rig.condition("Ready"), ("False".to_owned(), "ContainersNotReady".to_owned()));
    rig.probed("app", ProbeKind::Readiness, true);
    assert_eq!(rig.condition("Ready").0, "True");
    rig.probed("app", ProbeKind::Readiness, false);
    assert_eq!(rig.condition("Ready").0, "True");
    rig.take();
    rig.probed("app", ProbeKind::Readiness, false);
    assert_eq!(rig.condition("Ready").0, "False");
    assert!(rig.notices().contains(&"Unhealthy"));
    assert_eq!(rig.take(), [], "the container is not restarted");
}

// P-016
#[test]
fn readiness_gates_count() {
    let mut rig =
        Rig::up(json!({"readinessGates": [{"conditionType": "example.com/lb"}], "containers": [{"name": "app"}]}));
    rig.started("app");
    assert_eq!(rig.condition("ContainersReady").0, "True");
    assert_eq!(rig.condition("Ready"), ("False".to_owned(), "ReadinessGatesNotReady".to_owned()));
    let gate = json!({"conditions": [{"type": "example.com/lb", "status": "True"}]});
    rig.pod.status = Some(serde_json::from_value(gate).expect("a status"));
    rig.handle(Event::Tick);
    assert_eq!(rig.condition("Ready").0, "True");
}

// P-013
#[test]
fn transition_times_change_with_the_status_only() {
    let mut rig = Rig::up(one(json!({"readinessProbe": {"failureThreshold": 1}})));
    rig.started("app");
    let time = |rig: &Rig, kind: &str| {
        rig.last.conditions.iter().flatten().find(|c| c.type_ == kind).and_then(|c| c.last_transition_time.clone())
    };
    let before = [time(&rig, "Ready"), time(&rig, "Initialized")];
    rig.pass(Duration::from_secs(5));
    assert_eq!([time(&rig, "Ready"), time(&rig, "Initialized")], before);
    rig.probed("app", ProbeKind::Readiness, true);
    assert_ne!(time(&rig, "Ready"), before[0]);
    assert_eq!(time(&rig, "Initialized"), before[1]);
}

// P-028
#[test]
fn a_failed_liveness_probe_kills_with_its_own_grace() {
    let mut rig = Rig::up(one(json!({"livenessProbe": {"failureThreshold": 1, "terminationGracePeriodSeconds": 5}})));
    rig.started("app");
    rig.take();
    rig.probed("app", ProbeKind::Liveness, false);
    assert_eq!(rig.notices(), ["Unhealthy", "Killing"]);
    assert_eq!(rig.take(), [Action::Terminate(rig.latest("app"))]);
    rig.pass(Duration::from_secs(4));
    assert_eq!(rig.take(), []);
    rig.pass(Duration::from_secs(1));
    assert_eq!(rig.take(), [Action::Kill(rig.latest("app"))]);
    rig.handle(Event::Exited(rig.latest("app"), Exit::Signal(9)));
    assert_eq!(rig.starts(), ["app"], "restartPolicy decides");
}
