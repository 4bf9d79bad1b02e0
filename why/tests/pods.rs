//! Pods that do not serve, and why.

mod common;

use common::rows::{Row, WEB, check};
use common::{node_port, unplaced, unready, waiting};
use minisvc_why::Cause;
use serde_json::json;

#[test]
fn pods_that_do_not_serve() {
    check(&[
        Row {
            label: "a node taint",
            breaks: |world| {
                world.both(unplaced);
                world.nodes[0]["spec"]["taints"] = json!([{"key": "gpu", "effect": "NoSchedule"}]);
                world.event(
                    "Pod",
                    "default",
                    "web-1",
                    "FailedScheduling",
                    "0/1 nodes are available: 1 node(s) had untolerated taint(s) {gpu: true}.",
                );
            },
            asks: WEB,
            cause: Cause::Unschedulable,
            says: &["no node takes pod default/web-1", "gpu"],
            mends: "taint nodes node-1 gpu-",
        },
        Row {
            label: "a cordoned node",
            breaks: |world| {
                world.both(unplaced);
                world.nodes[1]["spec"]["unschedulable"] = json!(true);
                world.event(
                    "Pod",
                    "default",
                    "web-1",
                    "FailedScheduling",
                    "0/1 nodes are available: 1 node(s) were unschedulable.",
                );
            },
            asks: WEB,
            cause: Cause::Unschedulable,
            says: &["unschedulable"],
            mends: "uncordon node-2",
        },
        Row {
            label: "requests that no node has room for",
            breaks: |world| {
                world.both(unplaced);
                world.event(
                    "Pod",
                    "default",
                    "web-1",
                    "FailedScheduling",
                    "0/2 nodes are available: 2 Insufficient cpu.",
                );
            },
            asks: WEB,
            cause: Cause::Unschedulable,
            says: &["2 Insufficient cpu. It requests more than is left", "up --node-capacity"],
            mends: "",
        },
        Row {
            label: "a node selector",
            breaks: |world| {
                world.both(unplaced);
                world.both(|pod| pod["spec"]["nodeSelector"] = json!({"disk": "ssd"}));
                world.event(
                    "Pod",
                    "default",
                    "web-1",
                    "FailedScheduling",
                    "0/2 nodes are available: 2 node(s) didn't match Pod's node affinity/selector.",
                );
            },
            asks: WEB,
            cause: Cause::Unschedulable,
            says: &["a node with disk=ssd"],
            mends: "label node node-1 disk=ssd",
        },
        Row {
            label: "a host port twice",
            breaks: |world| {
                world.deployed(3);
                world.both(|pod| {
                    pod["spec"]["containers"][0]["ports"] = json!([{"containerPort": 8080, "hostPort": 8080}])
                });
                let mut third = world.pods[0].clone();
                third["metadata"]["name"] = json!("web-3");
                third["metadata"]["uid"] = json!("web-3");
                unplaced(&mut third);
                world.pods.push(third);
                world.event(
                    "Pod",
                    "default",
                    "web-3",
                    "FailedScheduling",
                    "0/2 nodes are available: 2 node(s) didn't have free ports for the requested pod ports.",
                );
            },
            asks: ("pod/web-3", None),
            cause: Cause::HostPortTaken,
            says: &["host port 8080", "pod default/web-1 has on node-1"],
            mends: "scale deployment web --replicas=2",
        },
        Row {
            label: "a network of the host twice",
            breaks: |world| {
                world.deployed(2);
                world.both(|pod| {
                    pod["spec"]["hostNetwork"] = json!(true);
                    pod["spec"]["nodeName"] = json!("node-1");
                });
                waiting(&mut world.pods[1], "CrashLoopBackOff", "");
                world.last_line("web-2", "main", "cannot listen on port 8080: Address already in use (os error 98)");
            },
            asks: ("pod/web-2", None),
            cause: Cause::HostPortTaken,
            says: &["network of node node-1, as default/web-1 does"],
            mends: r#"{"hostNetwork":false}"#,
        },
        Row {
            label: "an image that stands for nothing",
            breaks: |world| {
                world.both(|pod| waiting(pod, "ErrImageNeverPull", "image \"nginx\" is not mapped to a command"));
                world.both(|pod| pod["spec"]["containers"][0]["image"] = json!("nginx:1.27"));
            },
            asks: WEB,
            cause: Cause::ImageUnmapped,
            says: &["image nginx:1.27", "--image nginx:1.27=COMMAND"],
            mends: "",
        },
        Row {
            label: "an image with a typo",
            breaks: |world| {
                world.deployed(2);
                world.both(|pod| waiting(pod, "ErrImageNeverPull", "image is not mapped"));
                world.both(|pod| pod["spec"]["containers"][0]["image"] = json!("minisvc/ehco"));
            },
            asks: WEB,
            cause: Cause::ImageUnmapped,
            says: &["did you mean minisvc/echo"],
            mends: "set image deployment/web main=minisvc/echo",
        },
        Row {
            label: "a container that ends again and again",
            breaks: |world| {
                world.both(|pod| waiting(pod, "CrashLoopBackOff", "waiting"));
                world.both(|pod| {
                    pod["status"]["containerStatuses"][0]["restartCount"] = json!(4);
                    pod["status"]["containerStatuses"][0]["lastState"] = json!({"terminated": {"exitCode": 3}});
                });
                world.last_line("web-1", "main", "no database at db:5432");
            },
            asks: WEB,
            cause: Cause::CrashLoop,
            says: &["ends with code 3 again and again (4 restarts)", "its last line: no database at db:5432"],
            mends: "",
        },
        Row {
            label: "a container whose memory does not suffice",
            breaks: |world| {
                world.both(|pod| {
                    waiting(pod, "CrashLoopBackOff", "waiting");
                    pod["status"]["containerStatuses"][0]["lastState"] =
                        json!({"terminated": {"exitCode": 137, "signal": 9, "reason": "OOMKilled"}});
                });
            },
            asks: WEB,
            cause: Cause::CrashLoop,
            says: &["needs more memory than its limit", "and is killed again and again"],
            mends: "",
        },
        Row {
            label: "a program that is not there",
            breaks: |world| {
                world.both(|pod| {
                    waiting(pod, "CrashLoopBackOff", "waiting");
                    pod["status"]["containerStatuses"][0]["lastState"] =
                        json!({"terminated": {"exitCode": 128, "reason": "StartError", "message": "/bin/sevrer: no such file"}});
                });
            },
            asks: WEB,
            cause: Cause::CannotStart,
            says: &["cannot be started: /bin/sevrer: no such file"],
            mends: "",
        },
        Row {
            label: "a missing secret",
            breaks: |world| world.both(|pod| waiting(pod, "CreateContainerConfigError", "secret \"db\" not found")),
            asks: WEB,
            cause: Cause::CannotStart,
            says: &["CreateContainerConfigError: secret \"db\" not found"],
            mends: "",
        },
        Row {
            label: "a volume that cannot be mounted",
            breaks: |world| {
                world.both(|pod| waiting(pod, "ContainerCreating", ""));
                world.event("Pod", "default", "web-1", "FailedMount", "configmap \"settings\" not found");
            },
            asks: WEB,
            cause: Cause::CannotStart,
            says: &["configmap \"settings\" not found"],
            mends: "",
        },
        Row {
            label: "an init container that waits",
            breaks: |world| {
                world.both(|pod| {
                    waiting(pod, "PodInitializing", "");
                    pod["status"]["conditions"][0]["status"] = json!("False");
                    pod["status"]["initContainerStatuses"] = json!([{"name": "migrate", "state": {"running": {}}}]);
                })
            },
            asks: WEB,
            cause: Cause::InitWaiting,
            says: &["init container migrate"],
            mends: "",
        },
        Row {
            label: "a readiness probe that fails",
            breaks: |world| {
                world.both(unready);
                world.both(|pod| {
                    pod["spec"]["containers"][0]["readinessProbe"] =
                        json!({"httpGet": {"path": "/readyz", "port": 8080}})
                });
                world.event(
                    "Pod",
                    "default",
                    "web-1",
                    "Unhealthy",
                    "Readiness probe failed: HTTP probe failed with statuscode: 503",
                );
            },
            asks: WEB,
            cause: Cause::ReadinessProbe,
            says: &["GET /readyz on port 8080", "statuscode: 503"],
            mends: "",
        },
        Row {
            label: "a readiness probe of the wrong port",
            breaks: |world| {
                world.deployed(2);
                world.both(unready);
                world.both(|pod| pod["spec"]["containers"][0]["readinessProbe"] = json!({"tcpSocket": {"port": 9090}}));
                world.event(
                    "Pod",
                    "default",
                    "web-1",
                    "Unhealthy",
                    "Readiness probe failed: dial tcp: connection refused",
                );
            },
            asks: WEB,
            cause: Cause::ReadinessProbe,
            says: &["a connection to port 9090", "the process listens on 8080"],
            mends: "/spec/template/spec/containers/0/readinessProbe/tcpSocket/port",
        },
        Row {
            label: "a startup probe",
            breaks: |world| {
                world.both(|pod| {
                    unready(pod);
                    pod["status"]["containerStatuses"][0]["started"] = json!(false);
                    pod["spec"]["containers"][0]["startupProbe"] =
                        json!({"exec": {"command": ["test", "-e", "/tmp/up"]}});
                })
            },
            asks: WEB,
            cause: Cause::StartupProbe,
            says: &["command test -e /tmp/up", "has not succeeded yet"],
            mends: "",
        },
        Row {
            label: "a readiness gate",
            breaks: |world| {
                world.both(|pod| {
                    pod["status"]["conditions"][1]["status"] = json!("False");
                    pod["spec"]["readinessGates"] = json!([{"conditionType": "example.com/lb"}]);
                })
            },
            asks: WEB,
            cause: Cause::ReadinessGate,
            says: &["example.com/lb"],
            mends: "--subresource=status",
        },
        Row {
            label: "a pod that has ended",
            breaks: |world| {
                world.both(|pod| {
                    pod["status"]["phase"] = json!("Succeeded");
                    pod["status"]["containerStatuses"][0]["state"] = json!({"terminated": {"exitCode": 0}});
                })
            },
            asks: WEB,
            cause: Cause::PodEnded,
            says: &["has ended with code 0"],
            mends: "",
        },
        Row {
            label: "a node that is down",
            breaks: |world| {
                world.nodes[0]["status"]["conditions"][0]["status"] = json!("Unknown");
                world.both(|pod| pod["spec"]["nodeName"] = json!("node-1"));
                world.both(unready);
            },
            asks: WEB,
            cause: Cause::NodeDown,
            says: &["on node node-1"],
            mends: "",
        },
        Row {
            label: "a machine without power",
            breaks: |world| {
                world.rest.stopped = vec!["node-1".into()];
                world.both(|pod| pod["spec"]["nodeName"] = json!("node-1"));
            },
            asks: WEB,
            cause: Cause::NodeDown,
            says: &["on node node-1, whose machine was stopped, which the API has not noticed yet"],
            mends: "minisvc node start node-1",
        },
        Row {
            label: "a node port of a machine without power",
            breaks: |world| {
                node_port(world);
                world.rest.stopped = vec!["node-1".into()];
            },
            asks: ("10.95.0.11:30080", None),
            cause: Cause::NodeDown,
            says: &["10.95.0.11 belongs to node node-1"],
            mends: "minisvc node start node-1",
        },
        Row {
            label: "one of two",
            breaks: |world| unready(&mut world.pods[1]),
            asks: WEB,
            cause: Cause::PartlyReady,
            says: &["1 of the 2 pods", "web-2 is not ready"],
            mends: "",
        },
        Row {
            label: "pods that are not ready get traffic",
            breaks: |world| {
                unready(&mut world.pods[1]);
                world.web()["spec"]["publishNotReadyAddresses"] = json!(true);
            },
            asks: WEB,
            cause: Cause::NotReadyPublished,
            says: &["publishNotReadyAddresses", "1 of its 2 pods"],
            mends: r#"{"publishNotReadyAddresses":false}"#,
        },
    ]);
}
