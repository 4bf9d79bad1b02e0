//! Names inside a lab, as the C library and as a name server's client see them.

mod common;

use std::net::{Ipv4Addr, UdpSocket};

use common::{Lab, MINISVC, echo, eventually, pod, service};
use hickory_proto::op::{Message, MessageType, OpCode, ResponseCode};
use hickory_proto::rr::{RData, Record, RecordType, rdata};
use serde_json::{Value, json};

/// A Service that is only a name for its pods.
fn headless(name: &str, selector: &Value) -> Value {
    let mut service = service(name, selector, 80, &json!("http"));
    service["spec"]["clusterIP"] = json!("None");
    service["spec"]["ports"][0]["name"] = json!("http");
    service
}

fn named(name: &str, subdomain: &str) -> Value {
    let mut container = echo(8080);
    container["ports"] = json!([{"name": "http", "containerPort": 8080}]);
    let mut pod = pod(name, &json!([container]), &json!({"hostname": name, "subdomain": subdomain}));
    pod["metadata"]["labels"] = json!({"app": subdomain});
    pod
}

fn lab_with_names() -> Lab {
    let lab = Lab::start("names", &[]);
    let mut web = service("web", &json!({"app": "web"}), 80, &json!(8080));
    web["spec"]["ports"][0]["name"] = json!("http");
    let external = |name: &str, target: &str| {
        json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": name},
               "spec": {"type": "ExternalName", "externalName": target}})
    };
    let other = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "other"}});
    let mut elsewhere = pod("elsewhere", &json!([echo(8080)]), &json!({}));
    elsewhere["metadata"]["namespace"] = json!("other");
    // Its pods find each other before they are ready.
    let mut crew = headless("crew", &json!({"app": "crew"}));
    crew["spec"]["publishNotReadyAddresses"] = json!(true);
    let mut nameless = named("nameless", "crew");
    nameless["spec"].as_object_mut().expect("a spec").remove("hostname");
    nameless["spec"]["containers"][0]["readinessProbe"] = json!({"exec": {"command": ["false"]}});
    lab.apply_all(&[
        other,
        web,
        crew,
        nameless,
        named("lost", "nosuch"),
        headless("db", &json!({"app": "db"})),
        headless("empty", &json!({"app": "nobody"})),
        external("alias", "web.default.svc.cluster.local"),
        named("db-0", "db"),
        named("db-1", "db"),
        elsewhere,
    ]);
    for name in ["db-0", "db-1"] {
        lab.ready(name);
    }
    eventually("the other namespace's pod", || {
        lab.list("pods").iter().any(|pod| pod["metadata"]["name"] == "elsewhere" && common::is_ready(pod)).then_some(())
    });
    // What the API says reaches the name server by itself; the last of it stands for the rest.
    eventually("both pods in DNS", || {
        let answer = lab.dig("udp", "A", "db.default.svc.cluster.local.").unwrap_or_default();
        (answer.lines().count() == 3).then_some(())
    });
    lab
}

/// The answers without their times to live, sorted.
fn records(answer: &str) -> Vec<String> {
    let mut lines: Vec<String> = answer
        .lines()
        .skip(1)
        .map(|line| {
            let words: Vec<&str> = line.split_whitespace().collect();
            [&words[..1], &words[3..]].concat().join(" ")
        })
        .collect();
    lines.sort();
    lines
}

// N-019, N-021, N-022, N-026, N-029
#[test]
fn services_and_pods_have_names() {
    let lab = lab_with_names();
    let ip = |kind: &str, name: &str, path: &str| {
        lab.get(kind, name).pointer(path).and_then(Value::as_str).expect("an address").to_owned()
    };
    let web = ip("svc", "web", "/spec/clusterIP");
    let (zero, one) = (ip("pod", "db-0", "/status/podIP"), ip("pod", "db-1", "/status/podIP"));
    let alone = eventually("the address of a pod that is not ready", || {
        lab.get("pod", "nameless").pointer("/status/podIP").and_then(Value::as_str).map(str::to_owned)
    });
    eventually("its name in DNS", || {
        let answer = lab.dig("udp", "A", "crew.default.svc.cluster.local.").unwrap_or_default();
        answer.contains(&alone).then_some(())
    });
    let mut both =
        [format!("db.default.svc.cluster.local. A {zero}"), format!("db.default.svc.cluster.local. A {one}")];
    both.sort();
    let reverse = |ip: &str| {
        let octets: Vec<&str> = ip.rsplit('.').collect();
        format!("{}.in-addr.arpa.", octets.join("."))
    };
    let (web_reverse, zero_reverse) = (reverse(&web), reverse(&zero));
    for transport in ["udp", "tcp"] {
        let ask = |kind: &str, name: &str| lab.dig(transport, kind, name).expect("an answer");
        let name = "web.default.svc.cluster.local.";
        assert_eq!(records(&ask("A", name)), [format!("{name} A {web}")], "N-019");
        assert_eq!(ask("AAAA", name), "NoError aa", "N-021: the name exists");
        assert_eq!(records(&ask("A", "kubernetes.default.svc.cluster.local.")).len(), 1, "N-029");
        assert_eq!(records(&ask("A", "WEB.Default.svc.cluster.local."))[0].to_lowercase(), format!("{name} a {web}"));
        assert_eq!(ask("A", "nobody.default.svc.cluster.local."), "NXDomain aa");
        assert_eq!(ask("A", "web.nowhere.svc.cluster.local."), "NXDomain aa");
        assert_eq!(ask("A", "svc.cluster.local."), "NoError aa", "N-061: a name on the way to others");
        assert_eq!(records(&ask("PTR", &web_reverse)), [format!("{web_reverse} PTR {name}")], "N-026");

        let found = records(&ask("SRV", &format!("_http._tcp.{name}")));
        assert!(found.iter().any(|r| r.contains(" SRV ") && r.ends_with(&format!(" 80 {name}"))), "{found:?}");
        assert!(found.contains(&format!("{name} A {web}")), "with its address: {found:?}");
        assert_eq!(ask("SRV", &format!("_other._tcp.{name}")), "NXDomain aa", "N-063");

        assert_eq!(records(&ask("A", "db.default.svc.cluster.local.")), both, "N-033");
        assert_eq!(ask("A", "empty.default.svc.cluster.local."), "NXDomain aa", "N-035");
        let endpoint = "db-0.db.default.svc.cluster.local.";
        assert_eq!(records(&ask("A", endpoint)), [format!("{endpoint} A {zero}")], "N-037");
        // A pod that is not ready, without a hostname, and one whose subdomain is no Service.
        assert_eq!(
            records(&ask("A", "crew.default.svc.cluster.local.")),
            [format!("crew.default.svc.cluster.local. A {alone}")],
            "P-111"
        );
        assert_eq!(ask("A", "nameless.crew.default.svc.cluster.local."), "NXDomain aa", "N-059");
        assert_eq!(ask("A", "lost.nosuch.default.svc.cluster.local."), "NXDomain aa", "N-060");
        assert_eq!(records(&ask("PTR", &zero_reverse)), [format!("{zero_reverse} PTR {endpoint}")], "N-042");
        let found = records(&ask("SRV", "_http._tcp.db.default.svc.cluster.local."));
        let targets = found.iter().filter(|record| record.contains(" SRV ") && record.contains(" 8080 db-")).count();
        assert_eq!(targets, 2, "N-040: each pod by its own port: {found:?}");

        let found = records(&ask("A", "alias.default.svc.cluster.local."));
        let mut expected = [format!("alias.default.svc.cluster.local. CNAME {name}"), format!("{name} A {web}")];
        expected.sort();
        assert_eq!(found, expected, "N-049, N-050");
        assert_eq!(ask("A", "www.example.com."), "Refused", "nobody to ask");
    }
    the_c_library_finds_them(&lab, &web, &zero);
    the_server_is_behind_its_service(&lab);
    what_the_upstream_tests_look_up(&lab, &web, &zero);
}

/// The server's own Service, as a cluster's operator would find it.
fn the_server_is_behind_its_service(lab: &Lab) {
    let services = lab.list("svc");
    let service = services.iter().find(|service| service["metadata"]["name"] == "kube-dns").expect("there");
    let ports: Vec<String> = service["spec"]["ports"]
        .as_array()
        .expect("ports")
        .iter()
        .map(|port| format!("{} {} {}", port["name"], port["protocol"], port["port"]).replace('"', ""))
        .collect();
    let label = &service["metadata"]["labels"]["k8s-app"];
    assert_eq!((&service["metadata"]["namespace"], label), (&json!("kube-system"), &json!("kube-dns")), "N-001");
    assert_eq!(service["spec"]["clusterIP"], "10.96.0.10");
    assert_eq!(ports, ["dns UDP 53", "dns-tcp TCP 53", "metrics TCP 9153"]);
    let file = lab.exec_in("db-1", &["cat", "/etc/resolv.conf"]);
    assert!(file.contains("nameserver 10.96.0.10\n"), "{file}");
    let counters = lab.fetch_in("db-1", "http://10.96.0.10:9153/metrics").expect("the metrics port leads to them");
    assert!(counters.contains("minisvc_dns_queries_total{transport=\"tcp\"}"), "{counters}");
}

/// Every kind of name that the upstream end-to-end tests probe, from pods, whole over both transports and in part through
/// the search list.
fn what_the_upstream_tests_look_up(lab: &Lab, web: &str, zero: &str) {
    let own = lab.get("pod", "db-1")["status"]["podIP"].as_str().expect("an address").to_owned();
    let dashed = format!("{}.default.pod.cluster.local", own.replace('.', "-"));
    let srv = "80 web.default.svc.cluster.local.";
    let rows = [
        ("N-103", "A", "kubernetes.default.svc.cluster.local", "10.96.0.1"),
        ("N-103", "A", "web.default.svc.cluster.local", web),
        ("N-103", "A", "db.default.svc.cluster.local", zero),
        ("N-103", "SRV", "_http._tcp.web.default.svc.cluster.local", srv),
        ("N-103", "SRV", "_http._tcp.db.default.svc.cluster.local", "8080 db-0.db.default.svc.cluster.local."),
        ("N-103", "A", "db-0.db.default.svc.cluster.local", zero),
        ("N-103", "CNAME", "alias.default.svc.cluster.local", "CNAME web.default.svc.cluster.local."),
        ("N-103", "A", &dashed, &own),
    ];
    for (statement, kind, name, expected) in rows {
        for transport in ["udp", "tcp"] {
            // The client's socket is connected: an answer from another address than the one asked would be none.
            let found = lab.exec_in("db-1", &[MINISVC, "__dig", transport, "10.96.0.10", kind, &format!("{name}.")]);
            assert!(found.contains(expected), "{statement}, {}: {name} over {transport}: {found}", "N-069");
        }
    }
    let partial = [
        ("N-030", "db-1", "default", "A", "web", web),
        ("N-030", "elsewhere", "other", "A", "web.default", web),
        ("N-030", "elsewhere", "other", "A", "web.default.svc", web),
        ("N-104", "elsewhere", "other", "A", "kubernetes.default", "10.96.0.1"),
        ("N-104", "db-1", "default", "A", "db", zero),
        ("N-104", "db-1", "default", "SRV", "_http._tcp.web.default.svc", srv),
        ("N-104", "elsewhere", "other", "A", "alias.default.svc", "CNAME web.default.svc.cluster.local."),
    ];
    for (statement, pod, namespace, kind, name, expected) in partial {
        let found = lab.run(&["dns", "--from", pod, "-n", namespace, "-t", kind, name]);
        assert!(found.contains(expected), "{statement}: {name} from {pod}: {found}");
    }
    let hosts = lab.exec_in("db-1", &["getent", "hosts", "db-0.db"]);
    assert!(hosts.starts_with(zero), "{hosts}");
    // The alias becomes a Service of its own: the CNAME goes, an address comes.
    lab.run(&["delete", "svc", "alias"]);
    lab.apply_all(&[service("alias", &Value::Null, 80, &json!(8080))]);
    let address = lab.get("svc", "alias")["spec"]["clusterIP"].as_str().expect("an address").to_owned();
    eventually("an address in place of the alias", || {
        let found = lab.dig("udp", "A", "alias.default.svc.cluster.local.").expect("an answer");
        (records(&found) == [format!("alias.default.svc.cluster.local. A {address}")]).then_some(())
    });
}

/// The same through resolv.conf, hosts and nsswitch, as every program asks.
fn the_c_library_finds_them(lab: &Lab, web: &str, zero: &str) {
    let on_workstation = |name: &str| lab.command(&["exec", "--", MINISVC, "__resolve", name]);
    let in_pod = |namespace: &'static str, pod: &'static str| {
        move |name: &str| lab.command(&["exec", "-n", namespace, pod, "--", MINISVC, "__resolve", name])
    };
    let (near, far) = (in_pod("default", "db-1"), in_pod("other", "elsewhere"));
    for (who, names) in [
        (&on_workstation as &dyn Fn(&str) -> std::process::Command, &["web", "web.default", "web.default.svc"][..]),
        (&near, &["web", "web.default.svc.cluster.local", "alias"]),
        (&far, &["web.default", "web.default.svc.cluster.local."]),
    ] {
        for name in names {
            assert_eq!(common::succeed(&mut who(name)), format!("{web}\n"), "{name}");
        }
    }
    assert_eq!(common::succeed(&mut near("db-0.db")), format!("{zero}\n"));
    common::fail(&mut far("web"), 1);
    common::fail(&mut near("nobody"), 1);
    let own = lab.get("pod", "db-1")["status"]["podIP"].as_str().expect("an address").to_owned();
    assert_eq!(common::succeed(&mut near("db-1")), format!("{own}\n"), "N-102: from its own hosts file");
}

// N-002, N-020, N-031, N-048, N-053
#[test]
fn names_follow_what_they_name() {
    let lab = Lab::start("moving", &[]);
    let name = "web.default.svc.cluster.local.";
    let ask = || lab.dig("udp", "A", name).expect("an answer");
    lab.apply_all(&[headless("db", &json!({"app": "db"})), named("db-0", "db")]);
    assert_eq!(ask(), "NXDomain aa");
    lab.apply_all(&[service("web", &json!({"app": "nobody"}), 80, &json!(8080))]);
    eventually("the new name", || (records(&ask()).len() == 1).then_some(()));
    let manifest = json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "web"},
                          "spec": {"type": "ExternalName", "externalName": "db.default.svc.cluster.local"}});
    lab.run(&["delete", "svc", "web"]);
    eventually("the name to be gone", || (ask() == "NXDomain aa").then_some(()));
    lab.apply_all(&[manifest]);
    lab.ready("db-0");
    eventually("another name for the pod", || (records(&ask()).len() == 2).then_some(()));
    lab.run(&["delete", "pod", "db-0"]);
    eventually("the pod's name to be gone", || {
        (lab.dig("udp", "A", "db.default.svc.cluster.local.").expect("an answer") == "NXDomain aa").then_some(())
    });
}

/// A name server on the host's loopback that knows one name; it ends with the test's process.
fn upstream(known: &'static str) -> String {
    let socket = UdpSocket::bind("127.0.0.1:0").expect("a port");
    let address = socket.local_addr().expect("bound").to_string();
    std::thread::spawn(move || {
        let mut bytes = [0; 4096];
        while let Ok((length, from)) = socket.recv_from(&mut bytes) {
            let Ok(question) = Message::from_vec(&bytes[..length]) else { continue };
            let query = question.queries[0].clone();
            let mut answer = Message::new(question.metadata.id, MessageType::Response, OpCode::Query);
            answer.add_query(query.clone());
            if query.name().to_utf8() != known {
                answer.metadata.response_code = ResponseCode::NXDomain;
            } else if query.query_type() == RecordType::A {
                let data = RData::A(rdata::A(Ipv4Addr::new(192, 0, 2, 7)));
                answer.add_answer(Record::from_rdata(query.name().clone(), 60, data));
            }
            let _ = socket.send_to(&answer.to_vec().expect("encoded"), from);
        }
    });
    address
}

// N-064, N-072, N-078, N-087
#[test]
fn other_names_are_asked_of_the_upstream() {
    let (upstream, corp) = (upstream("www.example.com."), upstream("git.corp.example."));
    let stub = format!("corp.example={corp}");
    let lab = Lab::start("forward", &["--dns-upstream", &upstream, "--dns-stub", &stub]);
    lab.apply_all(&[pod("app", &json!([echo(8080)]), &json!({}))]);
    lab.ready("app");
    assert_eq!(records(&lab.dig("udp", "A", "www.example.com.").expect("an answer")), ["www.example.com. A 192.0.2.7"]);
    assert_eq!(lab.exec(&[MINISVC, "__resolve", "git.corp.example"]), "192.0.2.7\n", "of its domain's own server");
    assert!(lab.dig("udp", "A", "nothing.example.").expect("an answer").starts_with("NXDomain"));
    assert_eq!(lab.exec(&[MINISVC, "__resolve", "www.example.com"]), "192.0.2.7\n");
    assert_eq!(lab.exec_in("app", &[MINISVC, "__resolve", "www.example.com"]), "192.0.2.7\n");
    common::fail(&mut lab.command(&["exec", "--", MINISVC, "__resolve", "nothing.example"]), 1);
    assert_eq!(lab.exec(&[MINISVC, "__resolve", "kubernetes"]), "10.96.0.1\n", "the cluster's own are not asked there");
}
