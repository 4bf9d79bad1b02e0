use k8s_openapi::api::apps::v1::{DeploymentSpec, ReplicaSetCondition, ReplicaSetSpec, ReplicaSetStatus};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use super::*;
use crate::fixtures::{meta, template};

fn deployment(replicas: i32) -> Deployment {
    Deployment {
        metadata: ObjectMeta { generation: Some(4), ..meta("web") },
        spec: Some(DeploymentSpec {
            replicas: Some(replicas),
            template: template("web:2"),
            progress_deadline_seconds: Some(60),
            ..DeploymentSpec::default()
        }),
        status: None,
    }
}

fn set(image: &str, pods: i32, available: i32) -> Arc<ReplicaSet> {
    Arc::new(ReplicaSet {
        metadata: ObjectMeta { uid: Some(image.into()), ..meta(image) },
        spec: Some(ReplicaSetSpec { replicas: Some(pods), template: Some(template(image)), ..Default::default() }),
        status: Some(ReplicaSetStatus {
            replicas: pods,
            ready_replicas: Some(available),
            available_replicas: Some(available),
            ..Default::default()
        }),
    })
}

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(second).unwrap()
}

/// The deployment with the status of one more run.
fn after(deployment: &Deployment, sets: &[Arc<ReplicaSet>], second: i64) -> Deployment {
    Deployment { status: Some(status(deployment, sets, at(second)).0), ..deployment.clone() }
}

fn reason(deployment: &Deployment, type_: &str) -> Option<(String, String)> {
    let known = find(deployment.status.as_ref()?, type_)?;
    Some((known.status.clone(), known.reason.clone()?))
}

fn is(status: &str, reason: &str) -> Option<(String, String)> {
    Some((status.to_owned(), reason.to_owned()))
}

// A-156, P-100
#[test]
fn the_numbers_tell_new_pods_from_old_ones() {
    let (status, _) = status(&deployment(4), &[set("web:1", 3, 3), set("web:2", 2, 1)], at(1));
    assert_eq!(status.observed_generation, Some(4));
    let numbers = [
        status.replicas,
        status.updated_replicas,
        status.ready_replicas,
        status.available_replicas,
        status.unavailable_replicas,
    ];
    assert_eq!(numbers.map(Option::unwrap), [5, 2, 4, 4, 1]);
}

// P-100
#[test]
fn available_follows_the_promise() {
    // 25 % of 4: one may be missing.
    let up = after(&deployment(4), &[set("web:2", 4, 3)], 1);
    assert_eq!(reason(&up, "Available"), is("True", "MinimumReplicasAvailable"));
    let down = after(&up, &[set("web:2", 4, 2)], 9);
    assert_eq!(reason(&down, "Available"), is("False", "MinimumReplicasUnavailable"));
    let times = |deployment: &Deployment| {
        find(deployment.status.as_ref().unwrap(), "Available").unwrap().last_transition_time.clone()
    };
    assert_eq!(times(&up), Some(Time(at(1))));
    assert_eq!(times(&down), Some(Time(at(9))));
    assert_eq!(times(&after(&down, &[set("web:2", 4, 1)], 20)), Some(Time(at(9))), "only a change of status counts");
}

// P-099, P-100
#[test]
fn progress_goes_from_created_over_updated_to_available() {
    let created = after(&deployment(2), &[], 1);
    assert_eq!(reason(&created, "Progressing"), is("True", "NewReplicaSetCreated"));
    let updated = after(&created, &[set("web:2", 2, 1)], 5);
    assert_eq!(reason(&updated, "Progressing"), is("True", "ReplicaSetUpdated"));
    let complete = after(&updated, &[set("web:2", 2, 2)], 9);
    assert_eq!(reason(&complete, "Progressing"), is("True", "NewReplicaSetAvailable"));
    let failing = after(&complete, &[set("web:2", 2, 0)], 1000);
    assert_eq!(reason(&failing, "Progressing"), is("True", "NewReplicaSetAvailable"), "the rollout is over");
}

// P-099
#[test]
fn without_progress_the_deadline_passes() {
    let started = after(&deployment(2), &[set("web:2", 2, 0)], 100);
    let (_, next) = status(&started, &[set("web:2", 2, 0)], at(120));
    assert_eq!(next, Some(Duration::from_secs(40)));
    let late = after(&started, &[set("web:2", 2, 0)], 161);
    assert_eq!(reason(&late, "Progressing"), is("False", "ProgressDeadlineExceeded"));
    let better = after(&late, &[set("web:2", 2, 1)], 200);
    assert_eq!(reason(&better, "Progressing"), is("True", "ReplicaSetUpdated"));
}

// P-099
#[test]
fn a_pause_stops_the_clock() {
    let started = after(&deployment(2), &[set("web:2", 2, 0)], 100);
    let mut paused = started.clone();
    paused.spec.as_mut().unwrap().paused = Some(true);
    let mut paused = after(&paused, &[set("web:2", 2, 0)], 1000);
    assert_eq!(reason(&paused, "Progressing"), is("Unknown", "DeploymentPaused"));
    paused.spec.as_mut().unwrap().paused = Some(false);
    let resumed = after(&paused, &[set("web:2", 2, 0)], 2000);
    assert_eq!(reason(&resumed, "Progressing"), is("Unknown", "DeploymentResumed"));
}

// P-100
#[test]
fn a_failing_set_shows_in_the_deployment_and_an_unchanged_status_is_the_same() {
    let mut failing = (*set("web:2", 1, 0)).clone();
    failing.status.as_mut().unwrap().conditions = Some(vec![ReplicaSetCondition {
        type_: "ReplicaFailure".into(),
        status: "True".into(),
        reason: Some("FailedCreate".into()),
        ..Default::default()
    }]);
    let shown = after(&deployment(2), &[Arc::new(failing.clone())], 1);
    assert_eq!(reason(&shown, "ReplicaFailure"), is("True", "FailedCreate"));
    let again = after(&shown, &[Arc::new(failing)], 2);
    assert!(is_same(shown.status.as_ref().unwrap(), again.status.as_ref().unwrap()));
    let mended = after(&shown, &[set("web:2", 2, 0)], 3);
    assert_eq!(reason(&mended, "ReplicaFailure"), None);
}
