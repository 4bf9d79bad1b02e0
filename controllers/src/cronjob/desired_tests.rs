use serde_json::{Value, json};

use super::*;

fn at(text: &str) -> Timestamp {
    text.parse().unwrap()
}

fn cron(change: Value) -> CronJob {
    let mut cron = json!({
        "metadata": {"name": "tick", "namespace": "default", "uid": "c", "creationTimestamp": "2026-03-01T10:00:30Z"},
        "spec": {
            "schedule": "*/5 * * * *",
            "jobTemplate": {"metadata": {"labels": {"a": "b"}}, "spec": {"template": {"spec": {"containers": []}}}},
        },
    });
    for (key, value) in change.as_object().unwrap() {
        cron["spec"][key] = value.clone();
    }
    serde_json::from_value(cron).unwrap()
}

fn job(name: &str, condition: Option<&str>, start: i64) -> Arc<Job> {
    let conditions: Vec<Value> = condition.iter().map(|type_| json!({"type": type_, "status": "True"})).collect();
    let start = Timestamp::from_second(start).unwrap().to_string();
    Arc::new(
        serde_json::from_value(json!({
            "metadata": {"name": name, "namespace": "default", "uid": name},
            "status": {"conditions": conditions, "startTime": start, "completionTime": condition.map(|_| &start)},
        }))
        .unwrap(),
    )
}

fn names(jobs: &[Arc<Job>]) -> Vec<&str> {
    jobs.iter().map(|job| job.metadata.name.as_deref().unwrap()).collect()
}

#[test]
fn a_job_starts_when_its_time_has_come() {
    let running = || vec![job("one", None, 1)];
    for (label, spec, jobs, now, start, deleted) in [
        ("not yet", json!({}), vec![], "2026-03-01T10:04:59Z", None, 0),
        ("on time", json!({}), vec![], "2026-03-01T10:05:00Z", Some("2026-03-01T10:05:00Z"), 0),
        ("late: only the last one", json!({}), vec![], "2026-03-01T10:23:00Z", Some("2026-03-01T10:20:00Z"), 0),
        ("suspended", json!({"suspend": true}), vec![], "2026-03-01T10:23:00Z", None, 0),
        (
            "within its deadline",
            json!({"startingDeadlineSeconds": 200}),
            vec![],
            "2026-03-01T10:23:00Z",
            Some("2026-03-01T10:20:00Z"),
            0,
        ),
        ("too late", json!({"startingDeadlineSeconds": 100}), vec![], "2026-03-01T10:23:00Z", None, 0),
        ("beside another", json!({}), running(), "2026-03-01T10:05:00Z", Some("2026-03-01T10:05:00Z"), 0),
        ("not beside", json!({"concurrencyPolicy": "Forbid"}), running(), "2026-03-01T10:05:00Z", None, 0),
        (
            "instead",
            json!({"concurrencyPolicy": "Replace"}),
            running(),
            "2026-03-01T10:05:00Z",
            Some("2026-03-01T10:05:00Z"),
            1,
        ),
        (
            "by another clock",
            json!({"schedule": "0 15 * * *", "timeZone": "Etc/GMT-5"}),
            vec![],
            "2026-03-01T10:01:00Z",
            None,
            0,
        ),
    ] {
        let plan = desired(&cron(spec), &jobs, at(now));
        assert_eq!(plan.create.map(|start| start.at), start.map(at), "{label}");
        assert_eq!(plan.delete.len(), deleted, "{label}");
        assert_eq!((plan.problem, plan.missed.is_some()), (None, label == "too late"), "{label}");
    }
}

#[test]
fn a_start_that_is_too_late_is_named_and_the_next_one_is_waited_for() {
    let spec = json!({"startingDeadlineSeconds": 100});
    let plan = desired(&cron(spec.clone()), &[], at("2026-03-01T10:23:00Z"));
    assert_eq!(plan.missed, Some(at("2026-03-01T10:20:00Z")));
    assert_eq!(plan.again.map(|wait| wait.as_secs()), Some(120));
    let message = "Missed scheduled time to start a job: Sun, 01 Mar 2026 10:20:00 +0000";
    assert_eq!(missed_message(at("2026-03-01T10:20:00Z")), message);
    let mut spec = spec;
    spec["schedule"] = json!("@every 4m");
    let plan = |now| desired(&cron(spec.clone()), &[], at(now));
    assert_eq!(plan("2026-03-01T10:10:00Z").create.map(|start| start.at), Some(at("2026-03-01T10:08:30Z")));
    assert_eq!(plan("2026-03-01T10:10:30Z").missed, Some(at("2026-03-01T10:08:30Z")));
}

#[test]
fn the_last_start_is_remembered() {
    let mut cron = cron(json!({}));
    cron.status =
        Some(CronJobStatus { last_schedule_time: Some(Time(at("2026-03-01T10:05:00Z"))), ..CronJobStatus::default() });
    let plan = desired(&cron, &[], at("2026-03-01T10:07:00Z"));
    assert_eq!(plan.create, None);
    let wait = plan.again.unwrap();
    assert!(wait >= Duration::from_secs(180) && wait < Duration::from_secs(181), "{wait:?}");
}

#[test]
fn a_job_carries_its_time_and_its_owner() {
    let start = desired(&cron(json!({})), &[], at("2026-03-01T10:05:00Z")).create.unwrap();
    let meta = &start.job.metadata;
    assert_eq!(meta.name.as_deref(), Some(format!("tick-{}", at("2026-03-01T10:05:00Z").as_second() / 60).as_str()));
    assert_eq!(meta.annotations.as_ref().unwrap()[SCHEDULED_AT], "2026-03-01T10:05:00Z");
    assert_eq!(meta.labels.as_ref().unwrap()["a"], "b");
    assert_eq!(meta.owner_references.as_ref().unwrap()[0].uid, "c");
    assert!(start.job.spec.is_some());
}

#[test]
fn history_has_limits() {
    let done = |name: &str, start| job(name, Some("Complete"), start);
    let failed = |name: &str, start| job(name, Some("Failed"), start);
    let jobs =
        [done("a", 4), done("b", 1), done("c", 3), done("d", 2), failed("x", 1), failed("y", 2), job("run", None, 0)];
    let run = |spec: Value| {
        let mut spec = spec;
        spec["suspend"] = json!(true);
        desired(&cron(spec), &jobs, at("2026-03-01T10:01:00Z"))
    };
    let plan = run(json!({}));
    assert_eq!(names(&plan.delete), ["b", "x"]);
    assert_eq!(
        names(&run(json!({"successfulJobsHistoryLimit": 0, "failedJobsHistoryLimit": 2})).delete),
        ["b", "d", "c", "a"]
    );
    assert_eq!(plan.status.active.unwrap()[0].name.as_deref(), Some("run"));
    assert_eq!(plan.status.last_successful_time, Some(Time(Timestamp::from_second(4).unwrap())));
}

#[test]
fn the_end_of_a_job_is_told_once() {
    let mut cron = cron(json!({"suspend": true}));
    let ended = job("one", Some("Complete"), 1);
    cron.status = Some(CronJobStatus { active: Some(vec![object_reference(&ended)]), ..CronJobStatus::default() });
    let plan = desired(&cron, std::slice::from_ref(&ended), at("2026-03-01T10:01:00Z"));
    assert_eq!(plan.notes, [("SawCompletedJob", "Saw completed job: one, condition: Complete".to_owned())]);
    cron.status = Some(plan.status);
    assert_eq!(desired(&cron, &[ended], at("2026-03-01T10:01:00Z")).notes, []);
}

#[test]
fn what_cannot_be_computed_is_said() {
    let problem = |spec: Value| desired(&cron(spec), &[], at("2026-03-01T10:05:00Z")).problem.unwrap().0;
    assert_eq!(problem(json!({"timeZone": "Middle/Earth"})), "UnknownTimeZone");
    assert_eq!(problem(json!({"schedule": "now and then"})), "UnparseableSchedule");
}
