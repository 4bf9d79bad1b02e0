//! What `/metrics` tells.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails by panicking")]

mod common;

use std::sync::Arc;

use common::*;
use http::StatusCode;
use serde_json::json;

// A-014
#[tokio::test]
async fn requests_objects_watches_and_commits_are_counted() {
    let server = server().await;
    let path = "/api/v1/namespaces/default/configmaps";
    for name in ["a", "b", "a"] {
        ask("POST", path).json(&json!({"metadata": {"name": name}})).of(&server).await;
    }
    ask("GET", "/api/v1/namespaces/default/pods/p/log").of(&server).await;
    ask("GET", "/apis/nothing.example/v1/made-up-by-a-client").of(&server).await;
    let mut watch = ask("GET", &format!("{path}?watch=1")).lines(&server).await;
    watch.next().await.unwrap();
    let part = |text: &mut String| text.push_str("# TYPE other gauge\nother 7\n");
    server.add_metrics_source(Arc::new(part));

    let answer = ask("GET", "/metrics").of(&server).await;
    assert_eq!(answer.code, StatusCode::OK);
    assert!(answer.header("content-type").starts_with("application/openmetrics-text"), "{answer:?}");
    let has = |line: &str| answer.text.lines().any(|found| found == line);
    for line in [
        r#"apiserver_request_total{verb="POST",group="",resource="configmaps",subresource="",code="201"} 2"#,
        r#"apiserver_request_total{verb="POST",group="",resource="configmaps",subresource="",code="409"} 1"#,
        r#"apiserver_request_total{verb="GET",group="",resource="pods",subresource="log",code="404"} 1"#,
        r#"apiserver_request_total{verb="WATCH",group="",resource="configmaps",subresource="",code="200"} 1"#,
        r#"apiserver_request_duration_seconds_count{verb="POST",group="",resource="configmaps"} 3"#,
        r#"apiserver_storage_objects{resource="configmaps"} 2"#,
        r#"apiserver_registered_watchers{resource="configmaps"} 1"#,
        "other 7",
    ] {
        assert!(has(line), "{line} in {}", answer.text);
    }
    assert!(!answer.text.contains("made-up"), "{}", answer.text);
    assert!(!answer.text.contains("+clusterips"), "{}", answer.text);
    assert!(answer.text.ends_with("# EOF\n"));
    let commits = |text: &str| -> u64 {
        let line = text.lines().find_map(|line| line.strip_prefix("minisvc_store_commits_total "));
        line.expect("the commits are told").parse().unwrap()
    };
    drop(watch);
    ask("DELETE", &format!("{path}/a")).of(&server).await;
    let later = ask("GET", "/metrics").of(&server).await.text;
    assert_eq!(commits(&later), commits(&answer.text) + 1);
    assert!(later.contains("apiserver_registered_watchers{resource=\"configmaps\"} 0\n"), "{later}");
}
