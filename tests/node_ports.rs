//! What is at a node's own addresses: host ports, node ports, health checks; and who gets an address that two claim.

mod common;

use common::{Lab, echo, eventually, pod};
use serde_json::{Value, json};

/// A pod of a node, with an echo server on this port and these host ports before it.
fn on_node(node: &str, name: &str, port: u16, host_ports: &Value, spec: Value) -> Value {
    let mut container = echo(port);
    container["ports"] = host_ports.clone();
    let mut pod = pod(name, &json!([container]), &spec);
    pod["spec"]["nodeSelector"] = json!({"kubernetes.io/hostname": node});
    pod
}

fn host_port(address: &str, protocol: &str, number: u16) -> Value {
    json!([{"containerPort": 8080, "hostPort": number, "hostIP": address, "protocol": protocol}])
}

/// Waits for an answer and returns it.
fn answer(lab: &Lab, from: Option<&str>, url: &str) -> String {
    eventually(url, || from.map_or_else(|| lab.fetch(url), |pod| lab.fetch_in(pod, url)).ok())
}

/// Waits for an Event about an object, and returns its message.
fn told(lab: &Lab, object: &str, reason: &str) -> String {
    eventually(reason, || {
        let events = lab.list("events");
        let event = events.iter().find(|e| e["involvedObject"]["name"] == object && e["reason"] == reason)?;
        Some(event["message"].as_str().unwrap_or_default().to_owned())
    })
}

// D-123, D-124, D-125
#[test]
fn a_host_port_leads_to_its_pod_on_its_own_node_and_is_shared_by_address_and_protocol() {
    let lab = Lab::start("host-ports", &["--publish", "none", "--nodes", "2"]);
    lab.apply_all(&[
        on_node("node-1", "everywhere", 8080, &host_port("", "TCP", 8081), json!({})),
        on_node("node-1", "loopback", 8080, &host_port("127.0.0.1", "TCP", 8080), json!({})),
        on_node("node-1", "real", 8080, &host_port("10.95.0.11", "TCP", 8080), json!({})),
        on_node("node-1", "datagrams", 8080, &host_port("10.95.0.11", "UDP", 8080), json!({})),
        on_node("node-1", "host", 7070, &json!([{"containerPort": 7070}]), json!({"hostNetwork": true})),
        on_node("node-2", "other", 8080, &json!([]), json!({})),
    ]);
    for name in ["everywhere", "loopback", "real", "datagrams", "host", "other"] {
        lab.ready(name);
    }
    let host_port = &lab.get("pod", "host")["spec"]["containers"][0]["ports"][0]["hostPort"];
    assert_eq!(host_port, 7070, "on the host network a port is its host port");
    let text = answer(&lab, None, "http://10.95.0.11:8081/");
    assert!(text.contains("everywhere on node-1 saw 10.95.0.1 "), "the client's own address: {text}");
    let asked = [
        (None, "http://10.95.0.11:8080/", "real"),
        (Some("other"), "http://10.95.0.11:8081/", "everywhere"),
        (Some("everywhere"), "http://10.95.0.11:8081/", "everywhere"),
        (Some("host"), "http://10.95.0.11:8081/", "everywhere"),
        (Some("host"), "http://127.0.0.1:8081/", "everywhere"),
        (Some("host"), "http://10.95.0.11:8080/", "real"),
        (Some("host"), "http://127.0.0.1:8080/", "loopback"),
        (Some("other"), "http://10.95.0.11:7070/", "host"),
    ];
    for (from, url, name) in asked {
        let text = answer(&lab, from, url);
        assert!(text.contains(&format!("{name} on node-1")), "{url} from {from:?}: {text}");
    }
    let ask = "exec 3<>/dev/udp/10.95.0.11/8080; echo hello >&3; timeout 2 head -c 6 <&3";
    let hello = eventually("the same number in the other protocol", || {
        Some(lab.command(&["exec", "--", "bash", "-c", ask]).output().expect("started").stdout)
            .filter(|text| !text.is_empty())
    });
    assert_eq!(hello, b"hello\n");
    assert!(lab.fetch("http://10.95.0.12:8081/").is_err(), "not on another node");
    lab.delete_pod("everywhere", "");
    eventually("the port to be closed", || lab.fetch("http://10.95.0.11:8081/").err());
    assert!(lab.fetch_in("host", "http://127.0.0.1:8081/").is_err(), "at loopback too");
}

fn service(name: &str, spec: Value) -> Value {
    let mut service = json!({
        "apiVersion": "v1", "kind": "Service", "metadata": {"name": name},
        "spec": {"selector": {"app": "web"}, "ports": [{"port": 80, "targetPort": 8080}]},
    });
    for (field, value) in spec.as_object().into_iter().flatten() {
        service["spec"][field] = value.clone();
    }
    service
}

/// The status code and the body.
fn checked(lab: &Lab, node: u8, port: &Value, path: &str) -> Option<(u16, Value)> {
    let text = lab.fetch(&format!("http://10.95.0.{node}:{port}{path}")).ok()?;
    let (status, body) = text.split_once(char::is_whitespace)?;
    Some((status.parse().ok()?, serde_json::from_str(body.trim()).ok()?))
}

// D-098, D-099, D-101, D-102, D-103
#[test]
fn nodes_answer_for_their_health_while_a_service_wants_it() {
    let lab = Lab::start("health", &["--publish", "none", "--nodes", "2"]);
    let local =
        |port: u16| json!({"type": "LoadBalancer", "externalTrafficPolicy": "Local", "healthCheckNodePort": port});
    lab.apply_all(&[
        on_node("node-1", "web", 8080, &json!([]), json!({})),
        on_node("node-2", "squatter", 32_123, &json!([]), json!({"hostNetwork": true})),
        service("balanced", local(0)),
    ]);
    lab.ready("web");
    lab.ready("squatter");
    let port = lab.get("svc", "balanced")["spec"]["healthCheckNodePort"].clone();
    let (status, body) =
        eventually("a healthy node", || checked(&lab, 11, &port, "/").filter(|(status, _)| *status == 200));
    let service_of = |name: &str| json!({"namespace": "default", "name": name});
    assert_eq!((status, &body["service"]), (200, &service_of("balanced")));
    assert_eq!((&body["localEndpoints"], &body["serviceProxyHealthy"]), (&json!(1), &json!(true)));
    let (status, body) = checked(&lab, 12, &port, "/any/path").expect("an answer");
    assert_eq!((status, &body["localEndpoints"]), (503, &json!(0)));

    // Somebody else has the port on one node: that is told, and traffic goes on.
    lab.apply(&service("squatted", local(32_123)).to_string());
    let message = told(&lab, "squatted", "FailedToStartServiceHealthcheck");
    assert!(message.contains("node node-2 cannot listen on the health check port 32123"), "{message}");
    assert_eq!(eventually("an answer", || checked(&lab, 11, &json!(32_123), "/")).0, 200);
    let given = lab.until("given an address", "svc", "squatted", |service| {
        service["status"]["loadBalancer"]["ingress"][0]["ip"].is_string()
    });
    let address = given["status"]["loadBalancer"]["ingress"][0]["ip"].as_str().expect("set").to_owned();
    assert!(answer(&lab, None, &format!("http://{address}/")).contains("web on node-1 saw 10.95.0.1 "));

    let node = |n| checked(&lab, n, &json!(10_256), "/healthz").expect("an answer");
    let (status, body) = node(12);
    assert_eq!((status, &body["nodeEligible"]), (200, &json!(true)));
    let taint = json!({"spec": {"taints": [{"key": "ToBeDeletedByClusterAutoscaler", "effect": "PreferNoSchedule"}]}});
    lab.merge("/api/v1/nodes/node-2", &taint);
    eventually("a node that leaves to say so", || (node(12).0 == 503).then_some(()));
    assert_eq!((node(11).0, checked(&lab, 12, &json!(10_256), "/livez").expect("an answer").0), (200, 200));
    assert!(lab.fetch_in("squatter", "http://127.0.0.1:10249/proxyMode").expect("an answer").contains("minisvc"));

    let path = "/api/v1/namespaces/default/services/balanced";
    lab.merge(path, &json!({"spec": {"externalTrafficPolicy": "Cluster"}}));
    eventually("the port to be closed", || lab.fetch(&format!("http://10.95.0.11:{port}/")).err());
    lab.run(&["delete", "svc", "squatted"]);
    eventually("the port to be closed", || lab.fetch("http://10.95.0.11:32123/").err());
    assert!(lab.fetch_in("web", "http://10.95.0.12:32123/").is_ok(), "whose it was keeps it");
}

// D-033, D-059, D-062, S-164
#[test]
fn who_claims_what_is_somebody_elses_is_told() {
    let lab = Lab::start("claims", &["--publish", "none"]);
    let external = json!({"externalIPs": ["203.0.113.7"]});
    let node_port = json!({"type": "NodePort", "ports": [{"port": 80, "targetPort": 8080, "nodePort": 30_080}]});
    lab.apply_all(&[
        pod("web", &json!([echo(8080)]), &json!({})),
        service("a-first", external.clone()),
        service("b-second", external),
        service("open", node_port),
    ]);
    lab.ready("web");
    answer(&lab, None, "http://10.95.0.11:30080/");
    let message = told(&lab, "b-second", "AddressInUse");
    assert!(message.contains("external address 203.0.113.7:80/TCP") && message.contains("a-first"), "{message}");
    // A process of the node that listens there hears nothing from elsewhere, and the node's loopback has no node ports.
    lab.apply(&on_node("node-1", "squatter", 30_080, &json!([]), json!({"hostNetwork": true})).to_string());
    lab.ready("squatter");
    assert!(answer(&lab, Some("squatter"), "http://127.0.0.1:30080/").contains("squatter"));
    assert!(answer(&lab, Some("squatter"), "http://10.95.0.11:30080/").contains("web"));
    lab.apply(&on_node("node-1", "late", 8080, &host_port("", "TCP", 30_080), json!({})).to_string());
    lab.ready("late");
    let message = told(&lab, "late", "AddressInUse");
    assert!(message.contains("host port 10.95.0.11:30080/TCP") && message.contains("default/open"), "{message}");
    assert!(answer(&lab, None, "http://10.95.0.11:30080/").contains("web"), "the older one keeps it");

    // A pod that has failed is no endpoint any more, and who asks for it is refused rather than kept waiting.
    let mut fragile = pod("fragile", &json!([echo(8080)]), &json!({"restartPolicy": "Never"}));
    fragile["metadata"]["labels"] = json!({"app": "fragile"});
    lab.apply_all(&[fragile, service("short-lived", json!({"selector": {"app": "fragile"}}))]);
    lab.ready("fragile");
    let vip = lab.get("svc", "short-lived")["spec"]["clusterIP"].as_str().expect("set").to_owned();
    answer(&lab, Some("web"), &format!("http://{vip}/"));
    // All processes of the pod, but for the first of its namespace; and this one, so that it ends badly.
    let _ = lab.command(&["exec", "fragile", "--", "sh", "-c", "kill -9 -1"]).output().expect("started");
    lab.until("failed", "pod", "fragile", |pod| pod["status"]["phase"] == "Failed");
    eventually("a refusal", || {
        lab.fetch_in("web", &format!("http://{vip}/")).err().filter(|error| error.contains("refused"))
    });
}

// D-112, S-160
#[test]
fn pods_speak_sctp_through_every_kind_of_service_where_the_kernel_does() {
    let protocols = std::fs::read_to_string("/proc/net/protocols").expect("readable");
    if !protocols.lines().any(|line| line.starts_with("SCTP ")) {
        println!("this kernel does not speak SCTP now; modprobe sctp loads it where there is a module");
        return;
    }
    let lab = Lab::start("sctp", &["--publish", "none", "--nodes", "2", "--ip-family", "dual"]);
    let netexec = |name: &str, node: &str| {
        let image = "registry.k8s.io/e2e-test-images/agnhost:2.53";
        let container = json!({"name": "main", "image": image, "args": ["netexec", "--sctp-port=8132"]});
        let mut pod = pod(name, &json!([container]), &json!({}));
        pod["spec"]["nodeSelector"] = json!({"kubernetes.io/hostname": node});
        pod
    };
    let port = json!({"port": 132, "targetPort": 8132, "nodePort": 30132, "protocol": "SCTP"});
    let both = json!({"type": "NodePort", "ipFamilyPolicy": "RequireDualStack", "ports": [port], "selector": {"app": "server"}});
    let nobody = json!({"ports": [{"port": 132, "protocol": "SCTP"}], "selector": {"app": "nobody"}});
    lab.apply_all(&[
        netexec("server", "node-1"),
        netexec("client", "node-2"),
        service("server", both),
        service("nobody", nobody),
    ]);
    let (server, _client) = (lab.ready("server"), lab.ready("client"));
    let addresses = &lab.get("service", "server")["spec"]["clusterIPs"];
    let mut targets = vec![("server".to_owned(), 132), ("10.95.0.12".to_owned(), 30132)];
    targets
        .extend(addresses.as_array().expect("addresses").iter().map(|ip| (ip.as_str().expect("text").to_owned(), 132)));
    targets.push((server["status"]["podIP"].as_str().expect("an address").to_owned(), 8132));
    assert_eq!(targets.len(), 5, "a name, a node, two families and the pod itself");
    for (host, port) in targets {
        let url = format!("http://127.0.0.1:8080/dial?host={host}&port={port}&protocol=sctp&request=hostname");
        eventually(&format!("an answer of {host} port {port}"), || {
            lab.fetch_in("client", &url).ok().filter(|answer| answer == "200 {\"responses\":[\"server\"]}")
        });
    }
    let connect = |target: &str| {
        let words = ["exec", "client", "--", "/agnhost", "connect", target, "--protocol=sctp", "--timeout=5s"];
        let output = lab.command(&words).output().expect("started");
        (output.status.success(), String::from_utf8_lossy(&output.stderr).trim().to_owned())
    };
    assert_eq!(connect("server:132"), (true, String::new()));
    // What is said to it instead, that the port cannot be reached, SCTP takes for a passing trouble.
    assert_eq!(connect("nobody:132"), (false, "TIMEOUT".to_owned()));
}
