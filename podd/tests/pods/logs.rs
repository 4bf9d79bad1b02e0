//! What containers print, read back while they run and after.

use futures::StreamExt as _;
use k8s_openapi::api::core::v1::Pod;
use minisvc_podd::{LogError, LogOptions, OutputStream};
use serde_json::json;

use crate::lab::{Lab, PATIENCE, restarts, shell};
use crate::tests;

tests![
    test_logs_of_a_finished_container,
    test_logs_of_the_previous_instance,
    test_a_follower_sees_the_end,
    test_logs_are_refused_with_a_reason,
];

// P-120
async fn test_logs_of_a_finished_container() {
    let lab = Lab::start().await;
    let script = "echo one; echo two >&2; printf three";
    lab.pod("talk", json!({"restartPolicy": "Never", "containers": [shell("app", script)]})).await;
    lab.phase("talk", "Succeeded").await;
    let all = lab.log("talk", LogOptions::default()).await;
    let mut lines: Vec<_> = all.lines().collect();
    lines.sort_unstable();
    assert!(lines.len() <= 3 && all.contains("one") && all.contains("two") && all.contains("three"), "{all:?}");
    let errors = LogOptions { stream: Some(OutputStream::Stderr), ..LogOptions::default() };
    assert_eq!(lab.log("talk", errors).await, "two\n");
    lab.stop().await;
}

// P-120
async fn test_logs_of_the_previous_instance() {
    let lab = Lab::start().await;
    let script = "echo mark $$; if [ -e /data/once ]; then echo second; exec sleep 1000; fi; touch /data/once; echo first; exit 1";
    let mut container = shell("app", script);
    container["volumeMounts"] = json!([{"name": "data", "mountPath": "/data"}]);
    lab.pod("again", json!({"containers": [container], "volumes": [{"name": "data", "emptyDir": {}}]})).await;
    lab.until("again", "restarted", |pod: Option<&Pod>| pod.is_some_and(|pod| restarts(pod) == 1)).await;
    lab.ready("again").await;
    let previous = lab.log("again", LogOptions { previous: true, ..LogOptions::default() }).await;
    assert!(previous.ends_with("first\n"), "{previous}");
    // What it prints after its start need not be in the file yet.
    let follow = LogOptions { follow: true, ..LogOptions::default() };
    let mut stream = lab.podd.logs("default", "again", follow).expect("a log");
    let second = async {
        while let Some(line) = stream.next().await {
            if line.expect("readable") == "second\n" {
                return;
            }
        }
        panic!("the log ended");
    };
    tokio::time::timeout(PATIENCE, second).await.expect("in time");
    lab.stop().await;
}

// P-120
async fn test_a_follower_sees_the_end() {
    let lab = Lab::start().await;
    let script = "trap 'echo bye; exit 0' TERM; echo hello; while :; do sleep 0.05; done";
    lab.pod("talk", json!({"containers": [shell("app", script)]})).await;
    lab.ready("talk").await;
    let stream = lab.podd.logs("default", "talk", LogOptions { follow: true, ..LogOptions::default() }).expect("a log");
    let reading = tokio::spawn(stream.map(|line| line.expect("readable").to_vec()).collect::<Vec<_>>());
    lab.delete("talk", 20).await;
    let lines = tokio::time::timeout(PATIENCE, reading).await.expect("it ends with the container").expect("no panic");
    assert_eq!(lines.concat(), b"hello\nbye\n");
    lab.stop().await;
}

async fn test_logs_are_refused_with_a_reason() {
    let lab = Lab::start().await;
    lab.pod("two", json!({"containers": [{"name": "a", "image": "nope"}, {"name": "b", "image": "minisvc/pause"}]}))
        .await;
    let running = |pod: Option<&Pod>| {
        pod.is_some_and(|pod| {
            let list = pod.status.as_ref().and_then(|s| s.container_statuses.clone()).unwrap_or_default();
            list.iter().any(|c| c.name == "b" && c.ready)
        })
    };
    lab.until("two", "half up", running).await;
    let refused = |container: Option<&str>, previous| {
        let options = LogOptions { container: container.map(str::to_owned), previous, ..LogOptions::default() };
        lab.podd.logs("default", "two", options).err()
    };
    assert!(matches!(refused(None, false), Some(LogError::Ambiguous { .. })));
    assert!(matches!(refused(Some("c"), false), Some(LogError::NoContainer { .. })));
    assert!(matches!(refused(Some("b"), true), Some(LogError::NoPrevious { .. })));
    let Some(LogError::NotStarted { reason, .. }) = refused(Some("a"), false) else { panic!("it was not started") };
    assert_eq!(reason, "ErrImageNeverPull");
    assert!(lab.podd.logs("default", "three", LogOptions::default()).is_err());
    lab.stop().await;
}
