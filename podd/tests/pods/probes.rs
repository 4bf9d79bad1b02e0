//! Probes of real containers. Network probes go to pods in their node's network, because nothing routes here.

use std::net::SocketAddr;

use k8s_openapi::api::core::v1::Pod;
use minisvc_sandbox::ExitStatus;
use serde_json::json;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use crate::lab::{Lab, NODE, condition, restarts, shell, status};
use crate::tests;

tests![
    test_an_exec_probe_moves_readiness_both_ways,
    test_an_http_probe_reaches_a_pod_in_the_nodes_network,
    test_tcp_probes_and_named_ports,
    test_a_failing_liveness_probe_restarts_the_container,
    test_a_hanging_command_fails_by_its_timeout,
    test_a_grpc_probe_asks_the_health_service,
];

// P-023, P-027, P-030, P-018
async fn test_an_exec_probe_moves_readiness_both_ways() {
    let lab = Lab::start().await;
    let mut container = shell("app", "exec sleep 1000");
    container["volumeMounts"] = json!([{"name": "data", "mountPath": "/data"}]);
    container["readinessProbe"] =
        json!({"exec": {"command": ["test", "-e", "/data/ready"]}, "periodSeconds": 1, "failureThreshold": 1});
    lab.pod("app", json!({"containers": [container], "volumes": [{"name": "data", "emptyDir": {}}]})).await;
    lab.event("app", "Unhealthy").await;
    let pod = lab.phase("app", "Running").await;
    assert_eq!(condition(&pod, "Ready"), "False");
    assert_eq!(lab.exec("app", "touch /data/ready").await, ExitStatus::Code(0));
    let pod = lab.ready("app").await;
    assert_eq!(restarts(&pod), 0);
    assert_eq!(lab.exec("app", "rm /data/ready").await, ExitStatus::Code(0));
    let pod = lab.until("app", "unready", |pod| pod.is_some_and(|p| condition(p, "Ready") == "False")).await;
    assert_eq!(restarts(&pod.expect("a pod")), 0, "readiness never restarts");
    lab.stop().await;
}

async fn ask(lab: &Lab, port: u16, path: &str) -> String {
    let node = lab.podd.node_namespace(NODE).expect("a node");
    let mut stream = node.connect_tcp(SocketAddr::from(([10, 95, 0, 11], port))).await.expect("connected");
    let request = format!("GET {path} HTTP/1.1\r\nHost: node\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.expect("sent");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.expect("answered");
    answer
}

// P-006, P-023, P-025
async fn test_an_http_probe_reaches_a_pod_in_the_nodes_network() {
    let lab = Lab::start().await;
    let probe = json!({"httpGet": {"path": "/readyz", "port": 8090}, "periodSeconds": 1, "failureThreshold": 1});
    let container = json!({"name": "echo", "image": "minisvc/echo", "env": [{"name": "PORT", "value": "8090"}], "readinessProbe": probe});
    lab.pod("edge", json!({"hostNetwork": true, "containers": [container]})).await;
    let pod = lab.ready("edge").await;
    assert_eq!(status(&pod).pod_ip.as_deref(), Some("10.95.0.11"), "the node's address");
    let answer = ask(&lab, 8090, "/hello").await;
    assert!(answer.contains("edge on node-1 saw 10.95.0.11 ask GET /hello\n"), "{answer}");
    assert!(answer.contains("Connection: close\r\n"));
    ask(&lab, 8090, "/readyz/fail").await;
    lab.until("edge", "unready", |pod| pod.is_some_and(|p| condition(p, "Ready") == "False")).await;
    // A probe before the server listened may have been refused: that is another event of the same reason.
    lab.event_saying("edge", "Unhealthy", "503").await;
    ask(&lab, 8090, "/readyz/ok").await;
    lab.ready("edge").await;
    lab.delete("edge", 5).await;
    lab.gone("edge").await;
    let node = lab.podd.node_namespace(NODE).expect("a node");
    assert!(node.connect_tcp(SocketAddr::from(([10, 95, 0, 11], 8090))).await.is_err(), "the port is free again");
    lab.stop().await;
}

// P-023, P-025
async fn test_tcp_probes_and_named_ports() {
    let lab = Lab::start().await;
    let container = json!({
        "name": "echo", "image": "minisvc/echo", "env": [{"name": "PORT", "value": "8091"}],
        "ports": [{"name": "main", "containerPort": 8091}],
        "startupProbe": {"tcpSocket": {"port": "main"}, "periodSeconds": 1, "failureThreshold": 60},
        "readinessProbe": {"httpGet": {"path": "/healthz", "port": "main"}, "periodSeconds": 1},
        "livenessProbe": {"tcpSocket": {"port": 8091}, "periodSeconds": 1},
    });
    lab.pod("named", json!({"hostNetwork": true, "containers": [container]})).await;
    let pod = lab.ready("named").await;
    assert_eq!(restarts(&pod), 0);
    lab.stop().await;
}

// P-026, P-028
async fn test_a_failing_liveness_probe_restarts_the_container() {
    let lab = Lab::start().await;
    let mut container = shell("app", "exec sleep 1000");
    container["livenessProbe"] = json!({"exec": {"command": ["false"]}, "periodSeconds": 1, "failureThreshold": 1});
    lab.pod("sick", json!({"containers": [container]})).await;
    lab.until("sick", "restarted", |pod: Option<&Pod>| pod.is_some_and(|pod| restarts(pod) >= 1)).await;
    assert!(lab.event("sick", "Unhealthy").await.starts_with("Liveness probe failed"));
    lab.event_saying("sick", "Killing", "failed liveness probe").await;
    lab.stop().await;
}

// P-029
async fn test_a_hanging_command_fails_by_its_timeout() {
    let lab = Lab::start().await;
    let mut container = shell("app", "exec sleep 1000");
    container["readinessProbe"] = json!({"exec": {"command": ["sleep", "1000"]}, "timeoutSeconds": 1});
    lab.pod("slow", json!({"containers": [container]})).await;
    lab.event_saying("slow", "Unhealthy", "no answer within 1 s").await;
    lab.stop().await;
}

// P-023
async fn test_a_grpc_probe_asks_the_health_service() {
    let lab = Lab::start().await;
    let program = std::env::current_exe().expect("a path").display().to_string();
    let probe = json!({"grpc": {"port": 8092, "service": "db"}, "periodSeconds": 1, "failureThreshold": 1});
    let container = json!({"name": "app", "command": [program, "__health", "8092", "/data/serving"], "readinessProbe": probe,
        "volumeMounts": [{"name": "data", "mountPath": "/data"}]});
    let volumes = json!([{"name": "data", "emptyDir": {}}]);
    lab.pod("grpc", json!({"hostNetwork": true, "containers": [container], "volumes": volumes})).await;
    lab.event_saying("grpc", "Unhealthy", "NOT_SERVING").await;
    assert_eq!(lab.exec("grpc", "touch /data/serving").await, ExitStatus::Code(0));
    lab.ready("grpc").await;
    assert_eq!(lab.exec("grpc", "rm /data/serving").await, ExitStatus::Code(0));
    lab.until("grpc", "unready", |pod| pod.is_some_and(|p| condition(p, "Ready") == "False")).await;
    // Whatever is no health service is not healthy either.
    let probe = json!({"grpc": {"port": 8093}});
    let echo = json!({"name": "echo", "image": "minisvc/echo", "env": [{"name": "PORT", "value": "8093"}], "readinessProbe": probe});
    lab.pod("plain", json!({"hostNetwork": true, "containers": [echo]})).await;
    lab.event_saying("plain", "Unhealthy", "gRPC").await;
    lab.stop().await;
}
