//! How pods begin, restart and end.

use std::time::Duration;

use futures::StreamExt as _;
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::{Node, Pod};
use kube::Api;
use kube::api::{DeleteParams, Preconditions, WatchEvent, WatchParams};
use minisvc_sandbox::ExitStatus;
use serde_json::json;

use crate::lab::{Lab, NODE, PATIENCE, condition, restarts, shared_directory, shell, status, waiting};
use crate::tests;

tests![
    test_a_pod_becomes_ready,
    // P-116
    test_the_node_is_registered_and_beats,
    test_a_missing_program_crash_loops,
    test_a_failing_container_is_restarted,
    test_a_job_like_pod_succeeds_or_fails,
    test_init_containers_and_sidecars_take_their_turns,
    test_hooks_run_around_the_life_of_a_container,
    test_deletion_lets_the_process_finish,
    test_a_process_that_ignores_term_is_killed_with_its_children,
    test_a_forced_deletion_stops_the_process_too,
    test_a_pod_that_is_killed_from_outside_comes_back,
    test_a_reboot_starts_the_pods_again,
    test_the_active_deadline_ends_a_pod,
    // P-054
    test_a_finalizer_delays_the_object_only,
];

// P-004, P-012, P-022, P-042
async fn test_a_pod_becomes_ready() {
    let lab = Lab::start().await;
    lab.pod("web", json!({"containers": [{"name": "echo", "image": "minisvc/echo:latest"}]})).await;
    let pod = lab.ready("web").await;
    let status = status(&pod);
    assert_eq!(status.phase.as_deref(), Some("Running"));
    let address = status.pod_ip.clone().expect("an address");
    assert!(address.starts_with("10.244.1."), "{address}");
    assert_eq!(status.pod_ips.as_ref().expect("addresses")[0].ip, address);
    assert_eq!(status.host_ip.as_deref(), Some("10.95.0.11"));
    assert!(status.start_time.is_some() && status.qos_class.as_deref() == Some("BestEffort"));
    for kind in ["PodScheduled", "PodReadyToStartContainers", "Initialized", "ContainersReady", "Ready"] {
        assert_eq!(condition(&pod, kind), "True", "{kind}");
    }
    for reason in ["Pulled", "Created", "Started"] {
        lab.event("web", reason).await;
    }
    assert!(lab.plug.attached().contains(&"pod default/web".to_owned()));
    lab.stop().await;
}

// P-116
async fn test_the_node_is_registered_and_beats() {
    let lab = Lab::start().await;
    let node = Api::<Node>::all(lab.client.clone()).get(NODE).await.expect("a node");
    let labels = node.metadata.labels.expect("labels");
    assert_eq!(labels["kubernetes.io/hostname"], NODE);
    assert_eq!(labels["topology.kubernetes.io/zone"], "a");
    assert!(
        ["topology.kubernetes.io/region", "kubernetes.io/os", "kubernetes.io/arch"]
            .iter()
            .all(|l| labels.contains_key(*l))
    );
    assert_eq!(node.spec.expect("a spec").pod_cidr.as_deref(), Some("10.244.1.0/24"));
    let status = node.status.expect("a status");
    let addresses = status.addresses.expect("addresses");
    assert!(addresses.iter().any(|a| a.type_ == "InternalIP" && a.address == "10.95.0.11"));
    assert!(status.conditions.expect("conditions").iter().any(|c| c.type_ == "Ready" && c.status == "True"));
    let leases: Api<Lease> = Api::namespaced(lab.client.clone(), "kube-node-lease");
    let renewed = |lease: Option<&Lease>| lease.and_then(|l| l.spec.as_ref()?.renew_time.as_ref()).is_some();
    let lease = kube::runtime::wait::await_condition(leases, NODE, renewed);
    tokio::time::timeout(PATIENCE, lease).await.expect("in time").expect("a lease");
    lab.stop().await;
}

// P-035, P-020
async fn test_a_missing_program_crash_loops() {
    let lab = Lab::start().await;
    lab.pod("oops", json!({"containers": [{"name": "oops", "command": ["/no/such/program"]}]})).await;
    let looping = |pod: Option<&Pod>| pod.is_some_and(|pod| waiting(pod).0 == "CrashLoopBackOff" && restarts(pod) > 0);
    let pod = lab.until("oops", "crash looping", looping).await.expect("a pod");
    let last = status(&pod).container_statuses.as_ref().expect("statuses")[0].last_state.clone();
    let end = last.and_then(|state| state.terminated).expect("an end");
    assert_eq!((end.exit_code, end.reason.as_deref()), (128, Some("StartError")));
    assert!(end.message.expect("a message").contains("/no/such/program"));
    lab.event("oops", "BackOff").await;
    lab.stop().await;
}

// P-033, P-037, P-007
async fn test_a_failing_container_is_restarted() {
    let lab = Lab::start().await;
    let (out, path) = shared_directory(&lab, "attempts");
    // Fails twice, then stays.
    let script = "echo x >> /out/attempts; [ $(wc -l < /out/attempts) -gt 2 ] || exit 3; exec sleep 1000";
    let mut container = shell("app", script);
    container["volumeMounts"] = json!([{"name": "out", "mountPath": "/out"}]);
    let created = lab.pod("app", json!({"containers": [container], "volumes": [out]})).await;
    let twice = |pod: Option<&Pod>| pod.is_some_and(|pod| restarts(pod) == 2 && condition(pod, "Ready") == "True");
    let pod = lab.until("app", "restarted twice", twice).await.expect("a pod");
    assert_eq!(pod.metadata.uid, created.metadata.uid);
    assert_eq!(std::fs::read_to_string(path.join("attempts")).expect("written"), "x\nx\nx\n");
    let last = status(&pod).container_statuses.as_ref().expect("statuses")[0].last_state.clone();
    assert_eq!(last.and_then(|state| state.terminated).expect("an end").exit_code, 3);
    lab.stop().await;
}

// P-012, P-019
async fn test_a_job_like_pod_succeeds_or_fails() {
    let lab = Lab::start().await;
    lab.pod("good", json!({"restartPolicy": "Never", "containers": [shell("a", "exit 0"), shell("b", "exit 0")]}))
        .await;
    lab.pod("bad", json!({"restartPolicy": "Never", "containers": [shell("a", "exit 0"), shell("b", "exit 4")]})).await;
    let good = lab.phase("good", "Succeeded").await;
    let bad = lab.phase("bad", "Failed").await;
    let reason = |pod: &Pod| {
        let conditions = status(pod).conditions.clone().unwrap_or_default();
        conditions.into_iter().find(|c| c.type_ == "Ready").and_then(|c| c.reason)
    };
    assert_eq!(reason(&good).as_deref(), Some("PodCompleted"));
    assert_eq!(reason(&bad).as_deref(), Some("PodFailed"));
    assert!(status(&good).pod_ip.is_some(), "the address stays in the status");
    // The namespace is gone although the object stays.
    assert!(!lab.plug.attached().iter().any(|name| name.starts_with("pod ")));
    lab.delete("good", 0).await;
    lab.gone("good").await;
    lab.stop().await;
}

// P-039, P-050, P-014
async fn test_init_containers_and_sidecars_take_their_turns() {
    let lab = Lab::start().await;
    let (out, path) = shared_directory(&lab, "order");
    let mount = json!([{"name": "out", "mountPath": "/out"}]);
    let with_mount = |mut container: serde_json::Value| {
        container["volumeMounts"] = mount.clone();
        container
    };
    let note = |word: &str| format!("echo {word} >> /out/log");
    let mut sidecar = with_mount(shell(
        "mesh",
        &format!("trap '{}; exit 0' TERM; {}; while :; do sleep 0.05; done", note("mesh-ends"), note("mesh")),
    ));
    sidecar["restartPolicy"] = json!("Always");
    sidecar["startupProbe"] =
        json!({"exec": {"command": ["grep", "-q", "mesh", "/out/log"]}, "periodSeconds": 1, "failureThreshold": 60});
    lab.pod(
        "turns",
        json!({
            "restartPolicy": "Never",
            "initContainers": [with_mount(shell("one", &note("one"))), sidecar, with_mount(shell("two", &note("two")))],
            "containers": [with_mount(shell("app", &note("app")))],
            "volumes": [out],
        }),
    )
    .await;
    lab.phase("turns", "Succeeded").await;
    assert_eq!(std::fs::read_to_string(path.join("log")).expect("written"), "one\nmesh\ntwo\napp\nmesh-ends\n");
    lab.stop().await;
}

// P-040, P-048
async fn test_hooks_run_around_the_life_of_a_container() {
    let lab = Lab::start().await;
    let (out, path) = shared_directory(&lab, "hooks");
    let hook = |word: &str| json!({"exec": {"command": ["/bin/sh", "-c", format!("echo {word} >> /out/log")]}});
    let mut container = shell("app", "trap 'echo term >> /out/log; exit 0' TERM; while :; do sleep 0.05; done");
    container["volumeMounts"] = json!([{"name": "out", "mountPath": "/out"}]);
    container["lifecycle"] = json!({"postStart": hook("started"), "preStop": hook("stopping")});
    lab.pod("hooks", json!({"containers": [container], "volumes": [out]})).await;
    lab.ready("hooks").await;
    assert_eq!(std::fs::read_to_string(path.join("log")).expect("written"), "started\n");
    lab.delete("hooks", 20).await;
    lab.gone("hooks").await;
    assert_eq!(std::fs::read_to_string(path.join("log")).expect("written"), "started\nstopping\nterm\n");
    lab.stop().await;
}

// P-048, P-052, P-057
async fn test_deletion_lets_the_process_finish() {
    let lab = Lab::start().await;
    let (out, _) = shared_directory(&lab, "calm");
    let mut container = shell("app", "trap 'sleep 0.2; exit 0' TERM; touch /out/set; while :; do sleep 0.05; done");
    container["volumeMounts"] = json!([{"name": "out", "mountPath": "/out"}]);
    // It is ready no sooner than it can be asked to end.
    let waits = json!(["/bin/sh", "-c", "until [ -e /out/set ]; do sleep 0.01; done"]);
    container["lifecycle"] = json!({"postStart": {"exec": {"command": waits}}});
    lab.pod("calm", json!({"containers": [container], "volumes": [out]})).await;
    let revision = lab.ready("calm").await.metadata.resource_version.expect("a revision");
    lab.delete("calm", 30).await;
    // All that was said of it since, however late this looks.
    let only = WatchParams::default().fields("metadata.name=calm");
    let said = lab.pods().watch(&only, &revision).await.expect("a watch");
    let said = said.take_while(|event| futures::future::ready(!matches!(event, Ok(WatchEvent::Deleted(_)))));
    let said: Vec<_> = tokio::time::timeout(PATIENCE, said.collect()).await.expect("in time");
    let Some(Ok(WatchEvent::Modified(last))) = said.into_iter().next_back() else { panic!("no status") };
    let end = status(&last).container_statuses.as_ref().and_then(|all| all[0].state.clone()?.terminated);
    assert_eq!(end.map(|end| end.exit_code), Some(0), "the final status is written before the object goes");
    lab.gone("calm").await;
    assert!(!lab.plug.attached().contains(&"pod default/calm".to_owned()));
    lab.event("calm", "Killing").await;
    lab.stop().await;
}

// P-048, P-051
async fn test_a_process_that_ignores_term_is_killed_with_its_children() {
    let lab = Lab::start().await;
    let (out, path) = shared_directory(&lab, "stubborn");
    let script = "trap '' TERM; (while :; do date +%s%N > /out/alive; sleep 0.05; done) & while :; do sleep 1; done";
    let mut container = shell("app", script);
    container["volumeMounts"] = json!([{"name": "out", "mountPath": "/out"}]);
    lab.pod("stubborn", json!({"containers": [container], "volumes": [out]})).await;
    lab.ready("stubborn").await;
    // Only then is it deaf.
    assert_eq!(lab.exec("stubborn", "until [ -s /out/alive ]; do sleep 0.02; done").await, ExitStatus::Code(0));
    lab.delete("stubborn", 1).await;
    lab.gone("stubborn").await;
    let alive = || std::fs::read_to_string(path.join("alive")).expect("written");
    let before = alive();
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert_eq!(alive(), before, "nobody writes any more");
    lab.stop().await;
}

// P-053
async fn test_a_forced_deletion_stops_the_process_too() {
    let lab = Lab::start().await;
    let (out, path) = shared_directory(&lab, "forced");
    let script = "trap 'echo term > /out/log; exit 0' TERM; while :; do sleep 0.05; done";
    let mut container = shell("app", script);
    container["volumeMounts"] = json!([{"name": "out", "mountPath": "/out"}]);
    let pod = lab.pod("forced", json!({"containers": [container], "volumes": [out]})).await;
    lab.ready("forced").await;
    let other = Preconditions { uid: Some("somebody-else".to_owned()), ..Preconditions::default() };
    let refused = lab.pods().delete("forced", &DeleteParams::default().grace_period(0).preconditions(other)).await;
    assert!(matches!(refused, Err(kube::Error::Api(status)) if status.code == 409));
    let mine = Preconditions { uid: pod.metadata.uid, ..Preconditions::default() };
    lab.pods().delete("forced", &DeleteParams::default().grace_period(0).preconditions(mine)).await.expect("deleted");
    lab.gone("forced").await;
    let stopped = async {
        while lab.plug.attached().contains(&"pod default/forced".to_owned()) {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(PATIENCE, stopped).await.expect("the pod is taken down");
    assert_eq!(std::fs::read_to_string(path.join("log")).expect("TERM arrived"), "term\n");
    lab.stop().await;
}

// P-007, P-008
async fn test_a_pod_that_is_killed_from_outside_comes_back() {
    let lab = Lab::start().await;
    lab.pod("web", json!({"containers": [{"name": "echo", "image": "minisvc/echo"}]})).await;
    let before = lab.ready("web").await;
    lab.podd.pod_namespace("default", "web").expect("it runs").remove().await;
    let again = |pod: Option<&Pod>| pod.is_some_and(|pod| restarts(pod) == 1 && condition(pod, "Ready") == "True");
    let after = lab.until("web", "back", again).await.expect("a pod");
    let last = status(&after).container_statuses.as_ref().expect("statuses")[0].last_state.clone();
    assert_eq!(last.and_then(|state| state.terminated).expect("an end").exit_code, 137);
    assert_ne!(status(&after).pod_ip, status(&before).pod_ip, "a new sandbox has a new address");
    assert_eq!(status(&after).pod_ips.as_ref().map(Vec::len), Some(1), "and the old one is not listed any more");
    lab.stop().await;
}

async fn test_a_reboot_starts_the_pods_again() {
    let lab = Lab::start().await;
    lab.pod("web", json!({"containers": [{"name": "echo", "image": "minisvc/echo"}]})).await;
    lab.pod("once", json!({"restartPolicy": "Never", "containers": [shell("app", "exec sleep 1000")]})).await;
    let before = lab.ready("web").await;
    lab.ready("once").await;
    let stale = lab.directory.path().join("state/pods/a-pod-that-is-gone");
    std::fs::create_dir_all(&stale).expect("made");
    let lab = lab.reboot().await;
    assert!(!stale.exists(), "what belongs to no pod is cleaned up");
    let again = |pod: Option<&Pod>| pod.is_some_and(|pod| restarts(pod) == 1 && condition(pod, "Ready") == "True");
    let after = lab.until("web", "up again", again).await.expect("a pod");
    assert_eq!(after.metadata.uid, before.metadata.uid);
    assert_ne!(status(&after).pod_ip, status(&before).pod_ip);
    let once = lab.phase("once", "Failed").await;
    let end = status(&once).container_statuses.as_ref().expect("statuses")[0].state.clone().and_then(|s| s.terminated);
    assert_eq!(end.expect("an end").exit_code, 137);
    lab.stop().await;
}

// P-043
async fn test_the_active_deadline_ends_a_pod() {
    let lab = Lab::start().await;
    lab.pod("late", json!({"activeDeadlineSeconds": 1, "containers": [shell("app", "trap 'exit 0' TERM; while :; do sleep 0.05; done")]})).await;
    let pod = lab.phase("late", "Failed").await;
    assert_eq!(status(&pod).reason.as_deref(), Some("DeadlineExceeded"));
    lab.stop().await;
}

// P-054
async fn test_a_finalizer_delays_the_object_only() {
    let lab = Lab::start().await;
    lab.pod("kept", json!({"containers": [{"name": "pause", "image": "minisvc/pause"}]})).await;
    lab.ready("kept").await;
    let add = json!({"metadata": {"finalizers": ["example.com/keep"]}});
    let patch = |value| kube::api::Patch::Merge(value);
    lab.pods().patch("kept", &Default::default(), &patch(add)).await.expect("patched");
    assert_eq!(lab.exec("kept", "exit 7").await, ExitStatus::Code(7));
    lab.delete("kept", 5).await;
    lab.phase("kept", "Succeeded").await;
    let detached = async {
        while lab.plug.attached().contains(&"pod default/kept".to_owned()) {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(PATIENCE, detached).await.expect("the processes do not wait");
    assert!(lab.pods().get_opt("kept").await.expect("an answer").is_some(), "the object does");
    let remove = json!({"metadata": {"finalizers": null}});
    lab.pods().patch("kept", &Default::default(), &patch(remove)).await.expect("patched");
    lab.gone("kept").await;
    lab.stop().await;
}
