//! Nothing is invisible: what the data plane does, told by commands, by kubectl and by the API alike.

#![allow(clippy::print_stderr, reason = "a skipped test says so")]

mod common;

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use common::{Beside, HELLO, Lab, echo, eventually, pod, service};
use serde_json::{Value, json};

fn json_of(lab: &Lab, args: &[&str]) -> Vec<Value> {
    let text = lab.run(&[args, &["-o", "json"]].concat());
    serde_json::from_str::<Value>(&text).expect("JSON").as_array().expect("a list").clone()
}

#[test]
fn every_table_is_shown_by_command_and_by_kubectl() {
    let lab = Lab::start("observe", &["--nodes", "2"]);
    let mut sticky = service("sticky", &json!({"app": "sticky"}), 80, &json!(8080));
    sticky["spec"]["sessionAffinity"] = json!("ClientIP");
    let mut taken = service("taken", &json!({"app": "sticky"}), 81, &json!(8080));
    taken["spec"]["externalIPs"] = json!(["10.95.0.2"]);
    let mut server = pod("sticky", &json!([echo(8080)]), &json!({}));
    server["metadata"]["labels"] = json!({"app": "sticky"});
    lab.apply_all(&[server, sticky, taken]);
    lab.run(&["apply", "-f", HELLO]);
    lab.ready("sticky");
    eventually("three endpoints", || {
        let ports = json_of(&lab, &["endpoints", "svc/hello"]);
        let endpoints = ports[0]["endpoints"].as_array().expect("a list").iter();
        (endpoints.filter(|endpoint| endpoint["candidate"] == true).count() == 3).then_some(())
    });
    for _ in 0..4 {
        lab.fetch("http://hello/").expect("an answer");
    }
    lab.fetch("http://sticky/").expect("an answer");

    flows_of_a_service(&lab);
    who_answers(&lab);
    tables(&lab);
    mistakes(&lab);
    as_kubectl_shows_them(&lab);
    decisions(&lab);
    packets_in_a_file(&lab);
    faults(&lab);
    figures(&lab);
}

fn flows_of_a_service(lab: &Lab) {
    let flows = json_of(lab, &["flows", "--service", "hello"]);
    assert_eq!(flows.len(), 4, "{flows:#?}");
    for flow in &flows {
        assert_eq!((&flow["service"], &flow["protocol"]), (&json!("default/hello:http"), &json!("TCP")));
        assert_eq!(flow["from"]["kind"], "Workstation");
        assert!(flow["to"]["name"].as_str().expect("a pod").starts_with("default/hello-"), "{flow:#}");
    }
    let client = flows[2]["client"].as_str().expect("an address");
    assert_eq!(json_of(lab, &["flows", "--client", client]), [flows[2].clone()]);
    let pod = flows[0]["to"]["name"].as_str().expect("a name");
    let to_it = flows.iter().filter(|flow| flow["to"]["name"] == pod).count();
    assert_eq!(json_of(lab, &["flows", "--pod", pod, "--service", "default/hello"]).len(), to_it);
    let table = lab.run(&["flows", "--service", "hello"]);
    assert!(table.starts_with("PROTOCOL   CLIENT"), "{table}");
    assert_eq!(table.lines().count(), 5, "{table}");
    assert!(lab.run(&["flows", "--service", "hello", "-o", "wide"]).contains(&format!("pod/{pod}")));
    assert!(lab.run(&["flows", "-o", "name"]).contains(&format!("flow.minisvc.dev/tcp-{client}-")));
    assert!(lab.run(&["flows", "-o", "yaml"]).contains("service: default/hello:http"));
}

fn who_answers(lab: &Lab) {
    let ports = json_of(lab, &["endpoints", "hello"]);
    assert_eq!((ports.len(), &ports[0]["frontends"][0]["kind"]), (1, &json!("ClusterIp")));
    let endpoints = ports[0]["endpoints"].as_array().expect("a list");
    let flows: u64 = endpoints.iter().filter_map(|endpoint| endpoint["flows"].as_u64()).sum();
    assert_eq!((endpoints.len(), flows), (3, 4), "{endpoints:#?}");
    assert!(endpoints.iter().all(|endpoint| endpoint["zone"].is_string() && endpoint["ready"] == true));
    let nodes: std::collections::BTreeSet<_> =
        endpoints.iter().filter_map(|endpoint| endpoint["node"].as_str()).collect();
    assert_eq!(nodes.into_iter().collect::<Vec<_>>(), ["node-1", "node-2"]);
    let table = lab.run(&["endpoints", "svc/hello"]);
    assert_eq!((table.lines().count(), table.matches("http/TCP").count()), (4, 3), "{table}");
}

fn tables(lab: &Lab) {
    let vip = lab.get("service", "hello")["spec"]["clusterIP"].as_str().expect("an address").to_owned();
    let frontends = json_of(lab, &["table"]);
    let hello = frontends.iter().find(|frontend| frontend["address"] == format!("{vip}:80")).expect("listed");
    assert_eq!(
        (&hello["service"], hello["candidates"].as_array().map(Vec::len)),
        (&json!("default/hello:http"), Some(3))
    );
    let routes = json_of(lab, &["table", "routes"]);
    let kinds: Vec<&str> = routes.iter().filter_map(|route| route["to"]["kind"].as_str()).collect();
    for (kind, count) in [("Pod", 4), ("Node", 2), ("Workstation", 2), ("ControlPlane", 1)] {
        assert_eq!(kinds.iter().filter(|other| **other == kind).count(), count, "{kind}: {routes:#?}");
    }
    let affinity = json_of(lab, &["table", "affinity"]);
    assert_eq!(affinity.len(), 1, "{affinity:#?}");
    assert_eq!(
        (&affinity[0]["service"], &affinity[0]["to"]["name"]),
        (&json!("default/sticky"), &json!("default/sticky"))
    );
    let remaining = affinity[0]["remainingSeconds"].as_u64().expect("a number");
    assert!((10_000..10_800).contains(&remaining), "of three hours: {remaining}");
    let clashes = lab.run(&["table", "clashes"]);
    assert!(clashes.contains("10.95.0.2:81") && clashes.contains("service/default/taken"), "{clashes}");
    let counters = json_of(lab, &["table", "counters"]);
    let value =
        |name: &str| counters.iter().find(|counter| counter["metadata"]["name"] == name).expect(name)["value"].clone();
    assert!(value("flows_created").as_u64() >= Some(5) && value("flows_limit").as_u64() >= Some(131_072));
    assert_eq!(value("packets_dropped-no_service"), 0);
}

fn mistakes(lab: &Lab) {
    let said = common::fail(&mut lab.command(&["flows", "--client", "web"]), 1);
    assert!(said.contains("client=web is no address"), "{said}");
    let said = common::fail(&mut lab.command(&["endpoints", "svc/helo"]), 1);
    assert!(said.contains("services \"helo\" not found") && said.contains("minisvc get svc"), "{said}");
}

fn as_kubectl_shows_them(lab: &Lab) {
    if std::process::Command::new("kubectl").arg("help").output().is_err() {
        eprintln!("skipped: there is no kubectl");
        return;
    }
    let run = |args: &[&str]| lab.run(&[&["kubectl"], args].concat());
    let flows = run(&["get", "flows"]);
    assert!(flows.lines().any(|line| line.contains("default/hello:http") && line.contains("TCP")), "{flows}");
    let ports = run(&["get", "serviceports", "-A", "-o", "wide"]);
    assert!(ports.lines().any(|line| line.starts_with("default") && line.contains("3/3")), "{ports}");
    let list: Value = serde_json::from_str(&run(&["get", "routes", "-o", "json"])).expect("JSON");
    assert!(list["items"].as_array().is_some_and(|items| items.len() >= 8), "{list:#}");
    assert!(run(&["api-resources", "--api-group", "minisvc.dev"]).contains("counters"));
}

/// What a command prints first while the workstation asks for this again and again.
fn first_line_while_asking(lab: &Lab, args: &[&str], url: &str) -> String {
    let mut command = Beside::start(lab.command(args));
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !done.load(Ordering::Relaxed) {
                // Whether it is answered is not the point.
                let _ = lab.fetch(url);
                std::thread::sleep(Duration::from_millis(50));
            }
        });
        let line = command.line("a decision", |_| true);
        assert!(command.end().success(), "it ends after as many as were asked for");
        done.store(true, Ordering::Relaxed);
        line
    })
}

fn decisions(lab: &Lab) {
    let line = first_line_while_asking(lab, &["trace", "svc/hello", "--count", "1", "-o", "json"], "http://hello/");
    let line: Value = serde_json::from_str(&line).expect("JSON");
    assert_eq!((&line["event"], &line["service"]), (&json!("flow"), &json!("default/hello:http")), "{line:#}");
    assert_eq!((&line["chosen"]["by"], &line["chosen"]["candidates"]), (&json!("random"), &json!(3)));
    assert!(line["to"]["name"].as_str().is_some_and(|name| name.starts_with("default/hello-")), "{line:#}");
    let line = first_line_while_asking(lab, &["trace", "sticky", "--count", "1"], "http://sticky/");
    assert!(line.contains("-> default/sticky") && line.contains("pod/default/sticky"), "{line}");
    assert!(line.ends_with("by session affinity, the only endpoint"), "{line}");
    let packet =
        first_line_while_asking(lab, &["trace", "--pod", "sticky", "--packets", "--count", "1"], "http://sticky/");
    assert!(packet.contains("pod/default/sticky"), "{packet}");
    let drop = first_line_while_asking(lab, &["trace", "--drops", "--count", "1"], "http://hello:81/");
    assert!(drop.contains("refused: the Service has no such port (RST)"), "{drop}");
    let said = common::fail(&mut lab.command(&["trace", "pod/hello"]), 2);
    assert!(said.contains("is no Service"), "{said}");
}

fn packets_in_a_file(lab: &Lab) {
    let file = lab.state_dir().join("trace.pcapng");
    let path = file.to_str().expect("text");
    let mut command = lab.command(&["trace", "svc/hello", "--pcap", path, "--count", "8"]);
    let mut capture = command.spawn().expect("started");
    let ended = eventually("eight packets", || {
        lab.fetch("http://hello/").expect("an answer");
        capture.try_wait().expect("asked")
    });
    assert!(ended.success());
    let bytes = std::fs::read(&file).expect("written");
    assert_eq!(bytes[..4], [0x0a, 0x0d, 0x0d, 0x0a], "a section");
    let text = String::from_utf8_lossy(&bytes);
    for part in
        ["workstation", "pod/default/hello-", "at random of 3 endpoints", "an answer, from the address that was asked"]
    {
        assert!(text.contains(part), "{part}");
    }
    // Wireshark's own opinion, where it is installed: everything is understood, and every checksum is right.
    let fields =
        ["-T", "fields", "-e", "frame.interface_name", "-e", "tcp.checksum.status", "-e", "ip.checksum.status"];
    let checks = ["-o", "tcp.check_checksum:TRUE", "-o", "ip.check_checksum:TRUE"];
    let Ok(output) = std::process::Command::new("tshark").args(["-r", path]).args(checks).args(fields).output() else {
        eprintln!("skipped: there is no tshark");
        return;
    };
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert!(text.lines().count() >= 16, "each packet is there before and after: {text}");
    for line in text.lines() {
        assert!(line.ends_with("\t1\t1"), "good checksums: {line}");
    }
}

fn figures(lab: &Lab) {
    let text = lab.run(&["kubectl", "get", "--raw", "/metrics"]);
    for family in [
        "minisvc_netd_packets_total ",
        "minisvc_netd_faults_total{effect=\"refused\"} ",
        "minisvc_netd_flows ",
        "minisvc_netd_packets_dropped_total{reason=\"no_service\"} ",
        "minisvc_dns_queries_total{transport=\"udp\"} ",
        "minisvc_controller_runs_total{controller=\"endpointslice\"} ",
    ] {
        assert!(text.lines().any(|line| line.starts_with(family)), "{family}: {text}");
    }
}

fn faults(lab: &Lab) {
    let asked = || lab.fetch("http://sticky/");
    let is_active = |name: &str| {
        lab.until("active", "fault", name, |fault| fault["status"]["phase"] == "Active");
    };
    lab.run(&["fault", "add", "closed", "--to", "svc/sticky", "--refuse"]);
    is_active("closed");
    let refused = asked().expect_err("nobody listens");
    assert!(refused.contains("refused"), "{refused}");
    lab.fetch("http://hello/").expect("others are left alone");
    let status = lab.run(&["status"]);
    assert!(status.contains("closed") && status.contains("service/sticky in default"), "{status}");
    assert_eq!(lab.run(&["fault", "remove", "closed"]), "fault.minisvc.dev/closed deleted\n");
    eventually("answers again", || asked().ok());

    let fault = json!({"apiVersion": "minisvc.dev/v1", "kind": "Fault", "metadata": {"name": "slow"}, "spec": {
        "from": {"workstation": true}, "to": {"matchLabels": {"app": "sticky"}}, "delayMilliseconds": 300, "seed": 1,
        "durationSeconds": 4}});
    lab.apply_all(std::slice::from_ref(&fault));
    is_active("slow");
    assert!(lab.run(&["get", "faults"]).contains("delay 300ms"));
    let began = std::time::Instant::now();
    asked().expect("late, but whole");
    // There and back for the handshake, and for the question.
    assert!(began.elapsed() >= Duration::from_millis(1200), "{:?}", began.elapsed());
    eventually("the end of the fault", || lab.list("faults").is_empty().then_some(()));
    let began = std::time::Instant::now();
    asked().expect("an answer");
    assert!(began.elapsed() < Duration::from_millis(1200), "it is undone by itself: {:?}", began.elapsed());

    let said = common::fail(&mut lab.command(&["fault", "add", "--to", "svc/sticky"]), 1);
    assert!(said.contains("at least one of"), "{said}");
    let said = common::fail(&mut lab.command(&["fault", "remove", "none"]), 1);
    assert!(said.contains("not found") && said.contains("minisvc fault list"), "{said}");
    lab.run(&["fault", "add", "cut", "--from", "node/node-1", "--to", "node/node-2", "--partition", "--for", "1h"]);
    assert!(lab.run(&["fault", "list"]).contains("node/node-1"));
    lab.run(&["fault", "remove", "--all"]);
}

fn is_ready(object: &Value) -> bool {
    let conditions = object["status"]["conditions"].as_array().into_iter().flatten();
    conditions.into_iter().any(|condition| condition["type"] == "Ready" && condition["status"] == "True")
}

// D-133, P-109, P-118
#[test]
fn a_node_without_power_is_noticed_and_left_out_until_it_is_back() {
    let lab = Lab::start("power", &["--nodes", "3", "--node-grace", "20"]);
    lab.run(&["apply", "-f", HELLO]);
    let set = json!({"apiVersion": "apps/v1", "kind": "StatefulSet", "metadata": {"name": "db"}, "spec": {
        "serviceName": "db", "selector": {"matchLabels": {"app": "db"}},
        "template": {"metadata": {"labels": {"app": "db"}}, "spec": {"containers": [echo(8080)]}}}});
    lab.apply_all(&[set]);
    let lost = lab.ready("db-0");
    let node = lost["spec"]["nodeName"].as_str().expect("a node").to_owned();
    let on_other_nodes =
        |endpoints: &[Value]| endpoints.iter().filter(|e| e["candidate"] == true && e["node"] != *node).count();
    let endpoints = || json_of(&lab, &["endpoints", "hello"])[0]["endpoints"].as_array().expect("a list").clone();
    eventually("three endpoints", || {
        (endpoints().iter().filter(|endpoint| endpoint["candidate"] == true).count() == 3).then_some(())
    });
    let others = on_other_nodes(&endpoints());
    assert!(others < 3, "pods are spread over the nodes");

    lab.run(&["node", "stop", &node]);
    let machines = json_of(&lab, &["node", "list"]);
    let machine = machines.iter().find(|machine| machine["metadata"]["name"] == *node).expect("listed");
    assert_eq!((machine["running"].clone(), machines.len()), (json!(false), 3));
    assert!(
        lab.run(&["node", "list"]).lines().any(|line| line.contains("Stopped") && line.contains("True")),
        "unnoticed"
    );
    assert!(common::fail(&mut lab.command(&["node", "stop", &node]), 1).contains("is stopped already"));
    let unreachable = |object: &Value| {
        let ready = object["status"]["conditions"].as_array().into_iter().flatten().find(|c| c["type"] == "Ready");
        ready.is_some_and(|ready| ready["status"] == "Unknown")
    };
    lab.until("lost", "node", &node, unreachable);
    eventually("endpoints on the other nodes only", || {
        let endpoints = endpoints();
        let left = endpoints.iter().filter(|endpoint| endpoint["candidate"] == true).count();
        (left == others && on_other_nodes(&endpoints) == others).then_some(())
    });
    for _ in 0..20 {
        lab.fetch("http://hello/").expect("whoever is left answers");
    }

    lab.delete_pod("db-0", "");
    let stuck = lab.until("terminating", "pod", "db-0", |pod| pod["metadata"]["deletionTimestamp"].is_string());
    assert_eq!(stuck["metadata"]["uid"], lost["metadata"]["uid"], "nobody can say that it has ended");
    lab.delete_pod("db-0", "?gracePeriodSeconds=0");
    let again =
        lab.until("elsewhere", "pod", "db-0", |pod| pod["metadata"]["uid"] != lost["metadata"]["uid"] && is_ready(pod));
    assert_ne!(again["spec"]["nodeName"], *node);

    lab.run(&["node", "start", &node]);
    lab.until("ready", "node", &node, is_ready);
    eventually("three endpoints again", || {
        (endpoints().iter().filter(|endpoint| endpoint["candidate"] == true).count() == 3).then_some(())
    });
}
