//! Set-ups that are broken in one place each, and the one sentence that names it.

mod common;

use common::{World, ask, service, slice, socket, unplaced, unready, waiting};
use minisvc_why::{Cause, Fault, Outcome};
use serde_json::{Value, json};

/// One broken set-up.
struct Row {
    label: &'static str,
    breaks: fn(&mut World),
    /// What is asked, and by which pod if not by the workstation.
    asks: (&'static str, Option<&'static str>),
    cause: Cause,
    /// What the sentence must say.
    says: &'static [&'static str],
    /// What the command that mends it must hold; empty when there is none.
    mends: &'static str,
}

fn check(rows: &[Row]) {
    for Row { label, breaks, asks: (target, client), cause, says, mends } in rows {
        let mut world = World::working();
        breaks(&mut world);
        let findings = ask(world, target, *client);
        assert_eq!(findings.cause, *cause, "{label}: {findings:#?}");
        for part in *says {
            assert!(findings.sentence.contains(part), "{label} does not say {part:?}: {}", findings.sentence);
        }
        let commands: Vec<&str> =
            findings.advice.iter().filter(|advice| advice.mends).map(|advice| advice.line.as_str()).collect();
        assert_eq!(commands.is_empty(), mends.is_empty(), "{label}: {commands:?}");
        assert!(mends.is_empty() || commands.join("; ").contains(mends), "{label}: {commands:?}");
        assert_ne!(findings.outcome, Outcome::Fine, "{label}");
        assert_eq!(
            findings.steps.iter().filter(|step| step.outcome == Outcome::Broken).count(),
            usize::from(findings.outcome == Outcome::Broken),
            "{label}: a broken step is the last"
        );
    }
}

#[test]
fn what_works_is_said_to_work() {
    for (target, client) in [
        ("svc/web", None),
        ("svc/web:80", None),
        ("svc/web", Some("shop/client")),
        ("pod/web-1", None),
        ("10.96.0.9:80", None),
        ("10.244.0.2:8080", None),
        ("web", None),
        ("http://web.default/x", Some("shop/client")),
    ] {
        let findings = ask(World::working(), target, client);
        assert_eq!((findings.outcome, findings.cause), (Outcome::Fine, Cause::Fine), "{target}: {findings:#?}");
        assert!(findings.sentence.contains("answers"), "{}", findings.sentence);
    }
}

const WEB: (&str, Option<&str>) = ("svc/web", None);

#[test]
fn objects_that_are_not_there_or_have_no_effect() {
    check(&[
        Row {
            label: "a namespace with a typo",
            breaks: |_| {},
            asks: ("svc/web -n shpo", None),
            cause: Cause::NamespaceMissing,
            says: &["no namespace shpo", "did you mean shop"],
            mends: "minisvc why svc/web -n shop",
        },
        Row {
            label: "a namespace that nobody made",
            breaks: |_| {},
            asks: ("svc/web -n production", None),
            cause: Cause::NamespaceMissing,
            says: &["no namespace production", "shop"],
            mends: "create namespace production",
        },
        Row {
            label: "a Service with a typo",
            breaks: |_| {},
            asks: ("svc/wbe", None),
            cause: Cause::ServiceMissing,
            says: &["no Service wbe", "did you mean web"],
            mends: "svc/web",
        },
        Row {
            label: "a Service of another namespace",
            breaks: |_| {},
            asks: ("svc/web -n shop", None),
            cause: Cause::ServiceMissing,
            says: &["no Service web in namespace shop", "one in default"],
            mends: "-n default",
        },
        Row {
            label: "a Service that never was",
            breaks: |_| {},
            asks: ("svc/queue", None),
            cause: Cause::ServiceMissing,
            says: &["it has web"],
            mends: "",
        },
        Row {
            label: "a pod that has a new name",
            breaks: |_| {},
            asks: ("pod/web-9", None),
            cause: Cause::PodMissing,
            says: &["did you mean web-1"],
            mends: "pod/web-1",
        },
        Row {
            label: "a client that is not there",
            breaks: |_| {},
            asks: ("svc/web", Some("shop/clinet")),
            cause: Cause::PodMissing,
            says: &["did you mean client"],
            mends: "pod/client",
        },
        Row {
            label: "a finalizer that nobody removes",
            breaks: |world| {
                world.web()["metadata"]["deletionTimestamp"] = json!("2026-01-01T00:00:00Z");
                world.web()["metadata"]["finalizers"] = json!(["example.com/hold"]);
            },
            asks: WEB,
            cause: Cause::DeletionStuck,
            says: &["being deleted", "example.com/hold"],
            mends: r#"{"finalizers":null}"#,
        },
        Row {
            label: "another proxy",
            breaks: |world| {
                world.web()["metadata"]["labels"] = json!({"service.kubernetes.io/service-proxy-name": "mesh"})
            },
            asks: WEB,
            cause: Cause::OtherProxy,
            says: &["service-proxy-name=mesh"],
            mends: "service.kubernetes.io/service-proxy-name-",
        },
    ]);
}

#[test]
fn selectors_that_select_nothing() {
    check(&[
        Row {
            label: "a typo in the value",
            breaks: |world| world.web()["spec"]["selector"] = json!({"app": "wbe"}),
            asks: WEB,
            cause: Cause::NothingSelected,
            says: &["selects app=wbe", "app=web instead of app=wbe", "2 pods"],
            mends: r#"{"selector":{"app":"web"}}"#,
        },
        Row {
            label: "a typo in the key",
            breaks: |world| world.web()["spec"]["selector"] = json!({"ap": "web"}),
            asks: WEB,
            cause: Cause::NothingSelected,
            says: &["app=web instead of ap=web"],
            mends: r#"{"ap":null,"app":"web"}"#,
        },
        Row {
            label: "one of two labels",
            breaks: |world| {
                world.both(|pod| pod["metadata"]["labels"]["version"] = json!("v1"));
                world.web()["spec"]["selector"] = json!({"app": "web", "version": "green"});
            },
            asks: WEB,
            cause: Cause::NothingSelected,
            says: &["version=v1 instead of version=green"],
            mends: r#"{"version":"v1"}"#,
        },
        Row {
            label: "nothing near",
            breaks: |world| world.web()["spec"]["selector"] = json!({"tier": "backend"}),
            asks: WEB,
            cause: Cause::NothingSelected,
            says: &["tier=backend, which no pod has", "pods with app=web"],
            mends: "",
        },
        Row {
            label: "no pod at all",
            breaks: |world| world.pods.clear(),
            asks: WEB,
            cause: Cause::NothingSelected,
            says: &["namespace default has no pod at all"],
            mends: "",
        },
        Row {
            label: "pods of another namespace",
            breaks: |world| world.both(|pod| pod["metadata"]["namespace"] = json!("shop")),
            asks: WEB,
            cause: Cause::OtherNamespace,
            says: &["only pods of namespace shop have (2)", "ask for web.shop"],
            mends: "expose pod web-1 --name web --selector",
        },
        Row {
            label: "scaled to nothing",
            breaks: |world| {
                world.deployed(0);
                world.pods.truncate(0);
            },
            asks: WEB,
            cause: Cause::NoReplicas,
            says: &["deployment web is scaled to 0"],
            mends: "scale deployment web --replicas=1",
        },
        Row {
            label: "all of them going",
            breaks: |world| world.both(|pod| pod["metadata"]["deletionTimestamp"] = json!("2026-01-01T00:00:00Z")),
            asks: WEB,
            cause: Cause::AllTerminating,
            says: &["every pod of Service default/web is being deleted (2)"],
            mends: "",
        },
        Row {
            label: "no selector, no slice",
            breaks: |world| {
                world.web()["spec"]["selector"] = json!({});
                world.slices.clear();
            },
            asks: WEB,
            cause: Cause::NoSelector,
            says: &["has no selector", "pods with app=web"],
            mends: r#"{"selector":{"app":"web"}}"#,
        },
    ]);
}

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

fn port_names(pod: &mut Value) {
    pod["spec"]["containers"][0]["ports"] = json!([{"name": "http", "containerPort": 8080}]);
}

#[test]
fn ports_that_lead_nowhere() {
    check(&[
        Row {
            label: "a port that the Service does not have",
            breaks: |_| {},
            asks: ("svc/web:8080", None),
            cause: Cause::PortMissing,
            says: &["no port 8080; it has 80/TCP", "8080 is the port of its pods"],
            mends: "svc/web:80",
        },
        Row {
            label: "a port of another protocol",
            breaks: |_| {},
            asks: ("svc/web:80/udp", None),
            cause: Cause::ProtocolAsked,
            says: &["port 80 for TCP only"],
            mends: "",
        },
        Row {
            label: "a named port that nobody has",
            breaks: |world| {
                world.both(port_names);
                world.web()["spec"]["ports"][0]["targetPort"] = json!("htpp");
            },
            asks: WEB,
            cause: Cause::PortNameMissing,
            says: &["named htpp", "they have http"],
            mends: r#""value":"http""#,
        },
        Row {
            label: "a named port where no port has a name",
            breaks: |world| world.web()["spec"]["ports"][0]["targetPort"] = json!("http"),
            asks: WEB,
            cause: Cause::PortNameMissing,
            says: &["they name no ports"],
            mends: r#""value":8080"#,
        },
        Row {
            label: "a wrong number",
            breaks: |world| world.web()["spec"]["ports"][0]["targetPort"] = json!(8081),
            asks: WEB,
            cause: Cause::WrongTargetPort,
            says: &["leads to port 8081", "listens on 8080/TCP"],
            mends: r#""value":8080"#,
        },
        Row {
            label: "a wrong number where the right one has a name",
            breaks: |world| {
                world.both(port_names);
                world.web()["spec"]["ports"][0]["targetPort"] = json!(80);
            },
            asks: WEB,
            cause: Cause::WrongTargetPort,
            says: &["leads to port 80", "listens on 8080/TCP"],
            mends: r#""value":"http""#,
        },
        Row {
            label: "loopback only",
            breaks: |world| {
                for pod in ["web-1", "web-2"] {
                    world.listens("default", pod, &[("TCP", "127.0.0.1", 8080)])
                }
            },
            asks: WEB,
            cause: Cause::LoopbackOnly,
            says: &["127.0.0.1:8080 only", "0.0.0.0"],
            mends: "",
        },
        Row {
            label: "UDP instead of TCP",
            breaks: |world| {
                for pod in ["web-1", "web-2"] {
                    world.listens("default", pod, &[("UDP", "0.0.0.0", 8080)])
                }
            },
            asks: WEB,
            cause: Cause::WrongProtocol,
            says: &["8080/UDP", "sends it TCP"],
            mends: r#""value":"UDP""#,
        },
        Row {
            label: "nothing at all",
            breaks: |world| {
                for pod in ["web-1", "web-2"] {
                    world.listens("default", pod, &[])
                }
            },
            asks: WEB,
            cause: Cause::NothingListens,
            says: &["nothing in pod default/web-1 listens on port 8080"],
            mends: "",
        },
        Row {
            label: "one family only",
            breaks: |world| {
                world.web()["spec"]["ipFamilies"] = json!(["IPv4", "IPv6"]);
                for pod in ["web-1", "web-2"] {
                    world.listens("default", pod, &[("TCP", "0.0.0.0", 8080)]);
                }
            },
            asks: WEB,
            cause: Cause::OneFamilyOnly,
            says: &["for IPv4 only", "has IPv6 too"],
            mends: r#""ipFamilyPolicy":"SingleStack""#,
        },
        Row {
            label: "only one of two listens",
            breaks: |world| world.listens("default", "web-2", &[("TCP", "::", 9090)]),
            asks: WEB,
            cause: Cause::PartlyReady,
            says: &["1 of 2 pods listen", "listens on 9090/TCP"],
            mends: r#""value":9090"#,
        },
        Row {
            label: "a pod asked on the wrong port",
            breaks: |_| {},
            asks: ("10.244.0.2:80", None),
            cause: Cause::NothingListens,
            says: &["nothing in pod default/web-1 listens on 80/TCP; it listens on 8080/TCP"],
            mends: "",
        },
        Row {
            label: "a headless Service as if it mapped ports",
            breaks: |world| {
                world.web()["spec"]["clusterIP"] = json!("None");
                world.web()["spec"]["clusterIPs"] = json!(["None"]);
            },
            asks: ("svc/web:80", None),
            cause: Cause::HeadlessPort,
            says: &["headless", "ask port 8080"],
            mends: "svc/web:8080",
        },
    ]);
}

fn by_hand(world: &mut World) {
    world.web()["spec"]["selector"] = json!({});
    world.web()["spec"]["ports"][0]["name"] = json!("http");
    world.slices[0]["ports"][0]["name"] = json!("http");
}

#[test]
fn slices_and_names_that_lead_nowhere() {
    check(&[
        Row {
            label: "a slice without the label",
            breaks: |world| {
                by_hand(world);
                world.slices[0]["metadata"]["labels"] = json!({});
            },
            asks: WEB,
            cause: Cause::SliceUnlabelled,
            says: &["web-abc lacks the label kubernetes.io/service-name"],
            mends: "label endpointslice web-abc kubernetes.io/service-name=web",
        },
        Row {
            label: "a slice with another port name",
            breaks: |world| {
                by_hand(world);
                world.slices[0]["ports"][0]["name"] = json!("web");
            },
            asks: WEB,
            cause: Cause::SlicePortName,
            says: &["named http", "named web"],
            mends: r#""path":"/ports/0/name","value":"http""#,
        },
        Row {
            label: "a slice whose endpoints are not ready",
            breaks: |world| {
                by_hand(world);
                for endpoint in 0..2 {
                    world.slices[0]["endpoints"][endpoint]["conditions"]["ready"] = json!(false);
                }
            },
            asks: WEB,
            cause: Cause::NotReady,
            says: &["have 2, but none is ready"],
            mends: "",
        },
        Row {
            label: "slices that are behind",
            breaks: |world| world.slices.clear(),
            asks: WEB,
            cause: Cause::SlicesBehind,
            says: &["no slice of Service default/web has it yet"],
            mends: "",
        },
        Row {
            label: "an external name that nobody knows",
            breaks: |world| {
                world.services.push(service("shop", "db", "10.96.0.7", &json!({})));
                world.web()["spec"] = json!({"type": "ExternalName", "externalName": "bd.shop.svc.cluster.local"});
                world.resolves("bd.shop.svc.cluster.local", &[]);
            },
            asks: WEB,
            cause: Cause::ExternalNameUnresolved,
            says: &["did you mean db.shop.svc.cluster.local"],
            mends: r#""externalName":"db.shop.svc.cluster.local""#,
        },
        Row {
            label: "an external name that is an address",
            breaks: |world| world.web()["spec"] = json!({"type": "ExternalName", "externalName": "192.0.2.7"}),
            asks: WEB,
            cause: Cause::ExternalNameIsAddress,
            says: &["192.0.2.7, which is an address"],
            mends: "",
        },
        Row {
            label: "a short name in another namespace",
            breaks: |_| {},
            asks: ("web:80", Some("shop/client")),
            cause: Cause::ShortName,
            says: &["namespace shop", "ask for web.default"],
            mends: "why web.default:80 --from client -n shop",
        },
        Row {
            label: "a name with a typo",
            breaks: |_| {},
            asks: ("wbe", None),
            cause: Cause::ServiceMissing,
            says: &["did you mean web"],
            mends: "svc/web",
        },
        Row {
            label: "a name with a typo in the namespace",
            breaks: |_| {},
            asks: ("web.defualt", None),
            cause: Cause::NamespaceMissing,
            says: &["did you mean default"],
            mends: "-n default",
        },
        Row {
            label: "a name that the server does not know",
            breaks: |world| world.resolves("web", &[]),
            asks: WEB,
            cause: Cause::NameUnresolved,
            says: &["web does not resolve", "NXDOMAIN"],
            mends: "",
        },
        Row {
            label: "a pod without subdomain",
            breaks: |world| {
                world.web()["spec"]["clusterIP"] = json!("None");
                world.web()["spec"]["clusterIPs"] = json!(["None"]);
            },
            asks: ("web-1.web.default.svc.cluster.local", None),
            cause: Cause::NameUnresolved,
            says: &["must say subdomain: web", "serviceName"],
            mends: "",
        },
    ]);
}

fn node_port(world: &mut World) {
    world.web()["spec"]["type"] = json!("NodePort");
    world.web()["spec"]["ports"][0]["nodePort"] = json!(30080);
    world
        .rest
        .frontends
        .as_mut()
        .expect("asked")
        .push(minisvc_why::Frontend { at: socket("10.95.0.11:30080"), protocol: "TCP".into() });
    world.rest.seen.attempt = None;
}

fn load_balancer(world: &mut World) {
    node_port(world);
    world.web()["spec"]["type"] = json!("LoadBalancer");
    world.web()["status"] = json!({"loadBalancer": {"ingress": [{"ip": "10.95.1.7"}]}});
    world
        .rest
        .frontends
        .as_mut()
        .expect("asked")
        .push(minisvc_why::Frontend { at: socket("10.95.1.7:80"), protocol: "TCP".into() });
}

#[test]
fn addresses_and_rules_that_leave_somebody_out() {
    check(&[
        Row {
            label: "an exhausted pool",
            breaks: |world| {
                load_balancer(world);
                world.web()["status"] = json!({});
                world.event(
                    "Service",
                    "default",
                    "web",
                    "SyncLoadBalancerFailed",
                    "Error syncing load balancer: no address is left in the pool 10.95.1.0/30",
                );
            },
            asks: WEB,
            cause: Cause::LoadBalancerPending,
            says: &["no address is left in the pool 10.95.1.0/30"],
            mends: "",
        },
        Row {
            label: "another class",
            breaks: |world| {
                load_balancer(world);
                world.web()["status"] = json!({});
                world.web()["spec"]["loadBalancerClass"] = json!("example.com/elb");
            },
            asks: WEB,
            cause: Cause::LoadBalancerClass,
            says: &["class example.com/elb"],
            mends: r#""loadBalancerClass":null"#,
        },
        Row {
            label: "source ranges",
            breaks: |world| {
                load_balancer(world);
                world.web()["spec"]["loadBalancerSourceRanges"] = json!(["192.0.2.0/24"]);
            },
            asks: ("10.95.1.7:80", None),
            cause: Cause::SourceRange,
            says: &["192.0.2.0/24 only", "the workstation has 10.95.0.1"],
            mends: "10.95.0.1/32",
        },
        Row {
            label: "a node without an endpoint",
            breaks: |world| {
                node_port(world);
                world.web()["spec"]["externalTrafficPolicy"] = json!("Local");
                world.pods.remove(0);
                world.slices = vec![slice("default", "web", &[("10.244.1.2", "node-2")])];
            },
            asks: ("10.95.0.11:30080", None),
            cause: Cause::NoLocalEndpoint,
            says: &["externalTrafficPolicy Local", "node-1 was asked", "on node-2"],
            mends: r#""externalTrafficPolicy":"Cluster""#,
        },
        Row {
            label: "a client on a node without an endpoint",
            breaks: |world| {
                world.web()["spec"]["internalTrafficPolicy"] = json!("Local");
                world.pods.remove(1);
                world.slices = vec![slice("default", "web", &[("10.244.0.2", "node-1")])];
            },
            asks: ("svc/web", Some("shop/client")),
            cause: Cause::NoLocalEndpoint,
            says: &["internalTrafficPolicy Local", "the client is on node-2", "endpoints are on node-1"],
            mends: r#""internalTrafficPolicy":"Cluster""#,
        },
        Row {
            label: "a node port with a typo",
            breaks: node_port,
            asks: ("10.95.0.11:30081", None),
            cause: Cause::NodePortWrong,
            says: &["nothing on node node-1 answers on port 30081", "30080"],
            mends: "why 10.95.0.11:30080",
        },
        Row {
            label: "a node asked on the Service's port",
            breaks: node_port,
            asks: ("10.95.0.12:80", None),
            cause: Cause::NodePortWrong,
            says: &["has 30080 at the nodes, for its port 80"],
            mends: "why 10.95.0.12:30080",
        },
        Row {
            label: "the Service asked on its node port",
            breaks: node_port,
            asks: ("svc/web:30080", None),
            cause: Cause::PortMissing,
            says: &["its port at the nodes, at the Service ask 80"],
            mends: "svc/web:80",
        },
        Row {
            label: "affinity",
            breaks: |world| world.web()["spec"]["sessionAffinity"] = json!("ClientIP"),
            asks: WEB,
            cause: Cause::Affinity,
            says: &["sessionAffinity ClientIP"],
            mends: r#""sessionAffinity":"None""#,
        },
        Row {
            label: "an address of a pod that has gone",
            breaks: |_| {},
            asks: ("10.244.0.77:8080", None),
            cause: Cause::AddressUnknown,
            says: &["no pod has 10.244.0.77 now", "pods of node-1"],
            mends: "",
        },
        Row {
            label: "an address of no Service",
            breaks: |_| {},
            asks: ("10.96.3.3:80", None),
            cause: Cause::AddressUnknown,
            says: &["range of Services"],
            mends: "",
        },
        Row {
            label: "an address of nobody",
            breaks: |_| {},
            asks: ("172.30.0.1", None),
            cause: Cause::AddressUnknown,
            says: &["nobody in the lab has 172.30.0.1"],
            mends: "",
        },
        Row {
            label: "an address that somebody else has",
            breaks: |world| {
                world.rest.frontends = Some(Vec::new());
                world.rest.clashes =
                    vec![minisvc_why::Clash { at: socket("10.96.0.9:80"), holder: "service/shop/other".into() }];
            },
            asks: WEB,
            cause: Cause::NotInTable,
            says: &["does not answer for 10.96.0.9:80", "belongs to service/shop/other"],
            mends: "",
        },
        Row {
            label: "a fault",
            breaks: |world| {
                let spec = json!({"to": {"service": "web"}, "lossPercent": 30, "delayMilliseconds": 100});
                world.rest.faults = vec![fault(&spec)];
            },
            asks: WEB,
            cause: Cause::FaultActive,
            says: &["fault slow", "30% of the packets are lost", "100 ms"],
            mends: "minisvc fault remove slow",
        },
        Row {
            label: "a fault that cuts a node off, so that probes fail",
            breaks: |world| {
                world.both(unready);
                world.rest.faults = vec![fault(&json!({"to": {"zone": "zone-a"}, "partition": true}))];
            },
            asks: WEB,
            cause: Cause::FaultActive,
            says: &["nothing passes"],
            mends: "minisvc fault remove slow",
        },
        Row {
            label: "a fault that only slows down",
            breaks: |world| {
                world.rest.faults = vec![fault(&json!({"from": {"workstation": true}, "delayMilliseconds": 50}))]
            },
            asks: WEB,
            cause: Cause::FaultActive,
            says: &["50 ms later"],
            mends: "minisvc fault remove slow",
        },
        Row {
            label: "a riddle",
            breaks: |world| world.rest.seen.attempt.as_mut().expect("tried").failure = Some("timed out".into()),
            asks: WEB,
            cause: Cause::Unexplained,
            says: &["a connection from the workstation to 10.96.0.9:80 failed: timed out"],
            mends: "",
        },
    ]);
}

fn fault(spec: &Value) -> Fault {
    serde_json::from_value(json!({"metadata": {"name": "slow"}, "spec": spec})).expect("a fault")
}

#[test]
fn faults_between_others_are_no_reason() {
    for spec in [
        json!({"to": {"service": "db"}, "partition": true}),
        json!({"to": {"service": "web", "namespace": "shop"}, "partition": true}),
        json!({"from": {"pod": "client", "namespace": "shop"}, "partition": true}),
        json!({"from": {"node": "node-7"}, "partition": true}),
        json!({"from": {"outside": true}, "partition": true}),
        json!({"from": {"matchLabels": {"app": "db"}}, "partition": true}),
        json!({"to": {"zone": "zone-z"}, "partition": true}),
    ] {
        let mut world = World::working();
        world.rest.faults = vec![fault(&spec)];
        assert_eq!(ask(world, "svc/web", None).cause, Cause::Fine, "{spec}");
    }
}

#[test]
fn rules_that_are_for_others_leave_nobody_out() {
    let mut world = World::working();
    load_balancer(&mut world);
    world.web()["spec"]["loadBalancerSourceRanges"] = json!(["10.95.0.0/24"]);
    world.web()["spec"]["externalTrafficPolicy"] = json!("Local");
    world.web()["spec"]["internalTrafficPolicy"] = json!("Local");
    let findings = ask(world, "10.95.1.7:80", None);
    assert_eq!(findings.cause, Cause::Fine, "{findings:#?}");
}
