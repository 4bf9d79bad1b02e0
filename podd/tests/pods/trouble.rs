//! Programs and manifests that are no good: the pod says what is wrong, and nobody else is harmed.

use std::os::unix::fs::PermissionsExt as _;

use futures::StreamExt as _;
use k8s_openapi::api::core::v1::{ContainerStateTerminated, Pod};
use minisvc_podd::LogOptions;
use minisvc_sandbox::ExitStatus;
use serde_json::{Value, json};

use crate::lab::{Lab, PATIENCE, condition, restarts, shell, status, waiting};
use crate::tests;

tests![
    // P-002, P-020, P-035
    test_bad_programs_harm_themselves_only,
    // P-040, P-042
    test_what_is_missing_is_named_and_waited_for,
    test_what_forks_without_end_is_bounded_and_told,
    // P-006, P-010
    test_a_host_port_is_given_to_one_pod_of_a_node,
    // P-120
    test_a_flooded_log_is_bounded_and_still_read_by_time_and_before,
];

/// How the latest ended instance of the first container ended.
fn last_end(pod: &Pod) -> Option<ContainerStateTerminated> {
    let container = status(pod).container_statuses.clone()?.into_iter().next()?;
    let now = container.state.and_then(|state| state.terminated);
    now.or_else(|| container.last_state.and_then(|state| state.terminated))
}

fn loops(pod: Option<&Pod>) -> bool {
    pod.is_some_and(|pod| waiting(pod).0 == "CrashLoopBackOff")
}

async fn test_bad_programs_harm_themselves_only() {
    let lab = Lab::start().await;
    let file = lab.directory.path().join("not-executable");
    std::fs::write(&file, "#!/bin/sh\n").expect("written");
    std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o644)).expect("set");
    let program = |command: &[&str]| json!({"containers": [{"name": "app", "command": command}]});
    let script = |text: &str| json!({"containers": [shell("app", text)]});
    let good = lab.pod("good", json!({"containers": [{"name": "echo", "image": "minisvc/echo"}]})).await;
    lab.pod("missing", program(&["/no/such/program"])).await;
    lab.pod("unknown", program(&["redis-cli-of-nowhere"])).await;
    lab.pod("denied", program(&[&file.display().to_string()])).await;
    // Its second process would go on for ever.
    lab.pod("daemon", script("(setsid sleep 1000 &) ; exit 0")).await;
    lab.pod("closed", script("exec <&- >&- 2>&-; exec sleep 1000")).await;
    let on_port = json!({"name": "first", "image": "minisvc/echo"});
    let same_port = json!({"name": "second", "image": "minisvc/echo"});
    lab.pod("ports", json!({"containers": [on_port, same_port]})).await;

    for (name, code, reason, text) in [
        ("missing", 128, "StartError", "/no/such/program: no such program"),
        ("unknown", 128, "StartError", "redis-cli-of-nowhere: no such program"),
        ("denied", 128, "StartError", "not-executable"),
        ("daemon", 0, "Completed", ""),
    ] {
        let pod = lab.until(name, "crash looping", loops).await.expect("a pod");
        let end = last_end(&pod).expect("an end");
        assert_eq!((end.exit_code, end.reason.as_deref()), (code, Some(reason)), "{name}");
        assert!(end.message.clone().unwrap_or_default().contains(text), "{name}: {:?}", end.message);
        lab.event(name, "BackOff").await;
        if code == 128 {
            lab.event_saying(name, "Failed", text).await;
        }
    }
    let count = lab.podd.pod_namespace("default", "daemon").expect("it is there").count_processes().await;
    assert!(count.expect("a number") <= 2, "no daemon outlives its container");
    lab.ready("closed").await;
    let log = tokio::time::timeout(PATIENCE, lab.log("closed", LogOptions { follow: true, ..LogOptions::default() }));
    assert_eq!(log.await.expect("nothing is waited for"), "");
    // The second of two servers with one port says so, and the first goes on.
    lab.event("ports", "BackOff").await;
    let second = LogOptions { container: Some("second".into()), ..LogOptions::default() };
    assert!(lab.log("ports", second).await.contains("cannot listen on port 8080"));
    let pod = lab.pods().get("ports").await.expect("a pod");
    let first = status(&pod).container_statuses.as_ref().expect("statuses")[0].clone();
    assert!(first.ready && first.restart_count == 0);
    let pod = lab.ready("good").await;
    assert_eq!((restarts(&pod), pod.metadata.uid), (0, good.metadata.uid));
    lab.stop().await;
}

async fn test_what_is_missing_is_named_and_waited_for() {
    let lab = Lab::start().await;
    let with = |volume: Value| {
        let mut container = shell("app", "exec sleep 1000");
        container["volumeMounts"] = json!([{"name": "v", "mountPath": "/v"}]);
        let mut volume = volume;
        volume["name"] = json!("v");
        json!({"containers": [container], "volumes": [volume]})
    };
    let later = lab.directory.path().join("later");
    lab.pod("folder", with(json!({"hostPath": {"path": later, "type": "Directory"}}))).await;
    lab.pod("map", with(json!({"configMap": {"name": "nope"}}))).await;
    lab.pod("claim", with(json!({"persistentVolumeClaim": {"claimName": "data"}}))).await;
    lab.event_saying("folder", "FailedMount", "later").await;
    lab.event_saying("map", "FailedMount", "nope").await;
    lab.event("claim", "FailedMount").await;
    let pod = lab.phase("map", "Pending").await;
    assert_eq!(waiting(&pod).0, "ContainerCreating");
    std::fs::create_dir(&later).expect("made");
    lab.ready("folder").await;
    lab.stop().await;
}

async fn test_what_forks_without_end_is_bounded_and_told() {
    if !minisvc_sandbox::can_limit_processes() {
        return;
    }
    let lab = Lab::with(|config| config.process_limit = Some(700)).await;
    let script = "while sleep 1000 & do :; done 2>/dev/null; sleep 1000";
    // A shell that cannot fork gives up, but what it started stays while this one does.
    let container = json!({"name": "app", "command": ["/bin/sh", "-c", format!("sh -c '{script}'; exec sleep 1000")]});
    lab.pod("bomb", json!({"containers": [container]})).await;
    lab.pod("good", json!({"containers": [{"name": "echo", "image": "minisvc/echo"}]})).await;
    lab.event_saying("bomb", "TooManyProcesses", "(700)").await;
    lab.ready("good").await;
    assert_eq!(lab.exec("good", "true && true").await, ExitStatus::Code(0));
    lab.delete("bomb", 1).await;
    lab.gone("bomb").await;
    assert_eq!(condition(&lab.ready("good").await, "Ready"), "True");
    lab.stop().await;
}

async fn test_a_flooded_log_is_bounded_and_still_read_by_time_and_before() {
    const LIMIT: u64 = 64 << 10;
    let lab = Lab::with(|config| config.log_limit = LIMIT).await;
    // The first instance floods and fails, the second says something every now and then.
    let script = "if [ -e /data/once ]; then echo quiet; exec sleep 1000; fi; touch /data/once; \
                  n=0; while [ $n -lt 20000 ]; do echo \"line $n of a flood that says nothing\"; n=$((n+1)); done; exit 3";
    let mut container = shell("app", script);
    container["volumeMounts"] = json!([{"name": "data", "mountPath": "/data"}]);
    let pod = lab.pod("flood", json!({"containers": [container], "volumes": [{"name": "data", "emptyDir": {}}]})).await;
    lab.until("flood", "restarted", |pod| {
        pod.is_some_and(|pod| restarts(pod) == 1 && condition(pod, "Ready") == "True")
    })
    .await;
    let logs = lab.directory.path().join("state/pods").join(pod.metadata.uid.expect("a uid")).join("logs/app");
    let size = |entry: std::fs::DirEntry| entry.metadata().expect("a size").len();
    let on_disk: u64 = std::fs::read_dir(&logs).expect("logs").map(|entry| size(entry.expect("an entry"))).sum();
    // An instance has its limit; two are kept.
    assert!(on_disk <= 2 * LIMIT, "{on_disk} bytes on disk");
    let previous = LogOptions { previous: true, ..LogOptions::default() };
    let text = lab.log("flood", previous.clone()).await;
    assert!(text.ends_with("line 19999 of a flood that says nothing\n"), "the end is what is kept");
    let tail = lab.log("flood", LogOptions { tail_lines: Some(2), timestamps: true, ..previous.clone() }).await;
    let [before, last] = tail.lines().collect::<Vec<_>>()[..] else { panic!("two lines: {tail}") };
    let (time, rest) = last.split_once(' ').expect("a time");
    assert!(before.ends_with("line 19998 of a flood that says nothing") && rest.starts_with("line 19999"));
    let since: jiff::Timestamp = time.parse().expect("a time");
    let recent = lab.log("flood", LogOptions { since: Some(since), ..previous.clone() }).await;
    assert!(recent.ends_with("line 19999 of a flood that says nothing\n") && recent.len() < text.len());
    // One that follows sees what comes after the restart.
    let mut stream =
        lab.podd.logs("default", "flood", LogOptions { follow: true, ..LogOptions::default() }).expect("a log");
    let line =
        tokio::time::timeout(PATIENCE, stream.next()).await.expect("in time").expect("a line").expect("readable");
    assert_eq!(&line[..], b"quiet\n");
    lab.stop().await;
}

// The second goes past the scheduler, as it names its node.
async fn test_a_host_port_is_given_to_one_pod_of_a_node() {
    let lab = Lab::start().await;
    let on = |number: u16| {
        json!({"hostNetwork": true, "containers": [
            {"name": "echo", "image": "minisvc/echo", "env": [{"name": "PORT", "value": number.to_string()}],
             "ports": [{"containerPort": number}], "readinessProbe": {"httpGet": {"port": number, "path": "/readyz"}}}]})
    };
    let first = lab.pod("first", on(8096)).await;
    let port = first.spec.as_ref().and_then(|spec| spec.containers[0].ports.as_ref()?[0].host_port);
    assert_eq!(port, Some(8096), "the container's port is the node's");
    lab.ready("first").await;
    lab.pod("second", on(8096)).await;
    lab.pod("third", on(8097)).await;
    let second = lab.phase("second", "Failed").await;
    assert_eq!(status(&second).reason.as_deref(), Some("NodePorts"));
    lab.event_saying("second", "NodePorts", "host port 8096 of the node belongs to pod default/first").await;
    lab.ready("third").await;
    assert_eq!(restarts(&lab.ready("first").await), 0);
    lab.delete("first", 0).await;
    lab.gone("first").await;
    lab.stop().await;
}
