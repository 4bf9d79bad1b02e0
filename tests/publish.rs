//! Services on this machine without entering the lab, over its loopback.

mod common;

use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::time::Duration;

use common::{Lab, PATIENCE, eventually, pod};
use serde_json::{Value, json};

/// What is published of a Service, as `status` tells.
fn published(lab: &Lab, service: &str) -> Vec<Value> {
    let status: Value = serde_json::from_str(&lab.run(&["status", "-o", "json"])).expect("JSON");
    let all = status["published"].as_array().cloned().expect("a list");
    all.into_iter().filter(|port| port["service"] == service).collect()
}

/// Where a port of a Service is on this machine, once it is.
fn address(lab: &Lab, service: &str, what: impl Fn(&Value) -> bool) -> SocketAddr {
    eventually("the Service to be published", || {
        let found = published(lab, service).into_iter().find(&what)?;
        Some(found["address"].as_str().expect("an address").parse().expect("an address"))
    })
}

/// What the web server behind an address says; `None` if there is none, or it does not answer.
fn ask(at: SocketAddr) -> Option<String> {
    let mut stream = TcpStream::connect_timeout(&at, Duration::from_secs(10)).ok()?;
    stream.set_read_timeout(Some(PATIENCE)).expect("set");
    stream.write_all(b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").ok()?;
    let mut text = String::new();
    stream.read_to_string(&mut text).ok()?;
    (!text.is_empty()).then_some(text)
}

fn service(name: &str, kind: &str, ports: &Value) -> Value {
    json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": name},
        "spec": {"type": kind, "selector": {"app": "web"}, "ports": ports}})
}

fn start(name: &str, args: &[&str]) -> Lab {
    let lab = Lab::start(name, args);
    lab.apply(&pod("web", &json!([common::echo(8080)]), &json!({})).to_string());
    lab.ready("web");
    lab
}

fn is_tcp(port: &Value) -> bool {
    port["protocol"] == "TCP"
}

// D-056, D-060
#[test]
fn node_ports_answer_on_loopback_until_the_service_is_no_longer_one() {
    let lab = start("node-ports", &[]);
    let ports = json!([
        {"name": "http", "port": 80, "targetPort": 8080},
        {"name": "udp", "port": 80, "targetPort": 8080, "protocol": "UDP"},
    ]);
    lab.apply(&service("web", "NodePort", &ports).to_string());
    let tcp = address(&lab, "web", is_tcp);
    assert_eq!(tcp.ip(), Ipv4Addr::LOCALHOST);
    let text = eventually("an answer", || ask(tcp));
    assert!(text.contains("web on node-1 saw 10.95.0.11 ask GET /"), "{text}");
    let wanted =
        published(&lab, "web").iter().map(|port| port["wanted"].as_str().map(str::to_owned)).collect::<Vec<_>>();
    for port in lab.get("svc", "web")["spec"]["ports"].as_array().expect("ports") {
        assert!(wanted.contains(&Some(format!("127.0.0.1:{}", port["nodePort"]))), "{wanted:?}");
    }

    let udp = address(&lab, "web", |port| port["protocol"] == "UDP");
    let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).expect("bound");
    socket.set_read_timeout(Some(Duration::from_secs(1))).expect("set");
    let mut buffer = [0; 512];
    let length = eventually("an answer to a datagram", || {
        socket.send_to(b"hello", udp).expect("sent");
        socket.recv(&mut buffer).ok()
    });
    assert_eq!(&buffer[..length], b"hello");

    lab.run(&["delete", "svc", "web"]);
    eventually("the port to be closed", || TcpStream::connect(tcp).is_err().then_some(()));
    assert!(published(&lab, "web").is_empty());
}

// S-142, D-064
#[test]
fn load_balancers_answer_on_an_address_that_mirrors_theirs() {
    let lab = start("mirror", &["--lb-cidr", "10.217.3.0/24"]);
    lab.apply(&service("web", "LoadBalancer", &json!([{"port": 8443, "targetPort": 8080}])).to_string());
    let at_mirror = |port: &Value| port["target"] == "10.217.3.1:8443";
    let at = address(&lab, "web", at_mirror);
    assert_eq!(at, "127.217.3.1:8443".parse().expect("an address"));
    assert!(eventually("an answer", || ask(at)).contains("web on node-1"));
    // From inside it is the address itself that answers.
    assert!(lab.fetch("http://10.217.3.1:8443/").expect("answered").contains("web on node-1"));
    // Without endpoints a connection does not stay open.
    lab.run(&["delete", "pod", "web"]);
    eventually("no answer", || ask(at).is_none().then_some(()));
    lab.apply(&service("web", "ClusterIP", &json!([{"port": 8443, "targetPort": 8080}])).to_string());
    eventually("nothing to be published", || published(&lab, "web").is_empty().then_some(()));
    assert!(TcpStream::connect(at).is_err());
}

#[test]
fn a_port_that_is_taken_falls_to_a_free_one_and_the_service_says_so() {
    let lab = start("taken", &["--lb-cidr", "10.217.4.0/24"]);
    let _holder = TcpListener::bind("127.217.4.1:8444").expect("free");
    lab.apply(&service("web", "LoadBalancer", &json!([{"port": 8444, "targetPort": 8080}])).to_string());
    let at = address(&lab, "web", |port| port["target"] == "10.217.4.1:8444");
    assert_eq!(at.ip(), Ipv4Addr::new(127, 217, 4, 1));
    assert_ne!(at.port(), 8444);
    assert!(eventually("an answer", || ask(at)).contains("web on node-1"));
    let message = eventually("an Event", || {
        let events = lab.list("events");
        let event = events.iter().find(|event| event["reason"] == "PublishedElsewhere")?;
        Some(event["message"].as_str().unwrap_or_default().to_owned())
    });
    assert!(message.contains("127.217.4.1:8444") && message.contains(&at.to_string()), "{message}");
    assert!(lab.run(&["status"]).contains(&format!("{at} !")));
}

#[test]
fn everything_or_nothing_is_published_if_asked_for() {
    let ports = json!([{"port": 8445, "targetPort": 8080}]);
    let lab = start("all", &["--publish", "all", "--service-cidr", "10.218.0.0/16"]);
    lab.apply(&service("web", "ClusterIP", &ports).to_string());
    let at = address(&lab, "web", is_tcp);
    let vip: Ipv4Addr = lab.get("svc", "web")["spec"]["clusterIP"].as_str().expect("set").parse().expect("IPv4");
    let [_, b, c, d] = vip.octets();
    assert_eq!(at, SocketAddr::from((Ipv4Addr::new(127, b, c, d), 8445)));
    assert!(eventually("an answer", || ask(at)).contains("web on node-1"));
    drop(lab);
    assert!(TcpStream::connect(at).is_err(), "nothing listens when the lab is down");

    let lab = start("none", &["--publish", "none"]);
    lab.apply(&service("web", "NodePort", &ports).to_string());
    lab.until("there", "svc", "web", |service| service["spec"]["ports"][0]["nodePort"].is_number());
    assert!(published(&lab, "web").is_empty());
}
