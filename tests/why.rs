//! `minisvc why` in a lab with three nodes: real set-ups that are broken in one place each, the sentence that names it, and
//! the command that mends it, run as it was proposed.

#![allow(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a skipped test says so, and what was measured is for whoever reads the log"
)]

mod common;

use std::process::Command;

use common::{Lab, echo, eventually, shell};
use serde_json::{Value, json};

/// Addresses of the small load balancer pool, and what uses them up.
const POOL: [&str; 2] = ["--lb-cidr", "10.95.1.0/29,fd00:95:0:1::/125"];

/// What is expected after the proposed commands have run.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Then {
    /// It works.
    Works,
    /// The command itself answers, as a corrected question does.
    Answered,
    /// There was no command.
    Nothing,
    /// Something else is wrong now, as it has to be.
    Another,
}

/// One set-up: what is asked, why it fails, what the sentence says, and whether it can be mended.
struct Row {
    asks: &'static [&'static str],
    cause: &'static str,
    says: &'static [&'static str],
    then: Then,
}

fn row(asks: &'static [&'static str], cause: &'static str, says: &'static [&'static str], then: Then) -> Row {
    Row { asks, cause, says, then }
}

fn namespace(name: &str) -> Value {
    json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}})
}

fn inside(namespace: &str, mut object: Value) -> Value {
    object["metadata"]["namespace"] = json!(namespace);
    object
}

/// A Service `web` for pods with `app: web`, with these fields of its spec besides.
fn web(namespace: &str, spec: &Value) -> Value {
    let mut service = common::service("web", &json!({"app": "web"}), 80, &json!(8080));
    for (field, value) in spec.as_object().into_iter().flatten() {
        service["spec"][field] = value.clone();
    }
    inside(namespace, service)
}

/// A pod `web`.
fn pod(namespace: &str, container: Value, spec: &Value) -> Value {
    inside(namespace, common::pod("web", &json!([container]), spec))
}

/// A Deployment `web`.
fn deployment(namespace: &str, replicas: u32, container: &Value, spec: &Value) -> Value {
    let mut template = json!({"metadata": {"labels": {"app": "web"}},
        "spec": {"containers": [container], "terminationGracePeriodSeconds": 1}});
    for (field, value) in spec.as_object().into_iter().flatten() {
        template["spec"][field] = value.clone();
    }
    inside(
        namespace,
        json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "web"},
        "spec": {"replicas": replicas, "selector": {"matchLabels": {"app": "web"}}, "template": template}}),
    )
}

fn with(mut container: Value, field: &str, value: &Value) -> Value {
    container[field] = value.clone();
    container
}

fn bound(address: &str) -> Value {
    with(echo(8080), "env", &json!([{"name": "PORT", "value": "8080"}, {"name": "BIND", "value": address}]))
}

fn slice(namespace: &str, labels: &Value, port: &str, address: &Value) -> Value {
    inside(
        namespace,
        json!({"apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice",
        "metadata": {"name": "web-by-hand", "labels": labels}, "addressType": "IPv4",
        "endpoints": [{"addresses": [address]}], "ports": [{"name": port, "port": 8080, "protocol": "TCP"}]}),
    )
}

const NAMESPACES: [&str; 31] = [
    "typo", "zero", "home", "away", "ssd", "image", "crash", "probe", "gate", "named", "number", "loopback", "family",
    "blank", "orphan", "portname", "external", "address", "headless", "class", "ranges", "outer", "inner", "nodeport",
    "sticky", "early", "proxy", "held", "clash", "hostport", "leaving",
];

/// Everything that is broken, but for what needs an address first.
fn set_ups() -> Vec<Value> {
    let none = json!({});
    let on = |node: &str| json!({"nodeName": node});
    let mut all: Vec<Value> = NAMESPACES.iter().map(|name| namespace(name)).collect();
    all.push(inside("default", common::pod("good", &json!([echo(8080)]), &none)));
    for healthy in ["typo", "named", "number", "headless", "class", "ranges", "nodeport", "proxy", "held"] {
        all.push(pod(healthy, echo(8080), &none));
    }
    all.extend([
        web("typo", &json!({"selector": {"app": "wbe"}})),
        web("zero", &none),
        deployment("zero", 0, &echo(8080), &none),
        web("home", &none),
        pod("away", echo(8080), &none),
        web("ssd", &none),
        pod("ssd", echo(8080), &json!({"nodeSelector": {"disk": "ssd"}})),
        web("image", &none),
        deployment("image", 1, &with(echo(8080), "image", &json!("minisvc/ehco")), &none),
        web("crash", &none),
        pod("crash", shell("main", "echo no database at db:5432 >&2; exit 3"), &none),
        web("probe", &none),
        deployment("probe", 1, &with(echo(8080), "readinessProbe", &json!({"tcpSocket": {"port": 9090}})), &none),
        web("gate", &none),
        pod("gate", echo(8080), &json!({"readinessGates": [{"conditionType": "example.com/checked"}]})),
        web("named", &json!({"ports": [{"port": 80, "targetPort": "htpp"}]})),
        web("number", &json!({"ports": [{"port": 80, "targetPort": 8081}]})),
        web("loopback", &none),
        pod("loopback", bound("127.0.0.1"), &none),
        web("family", &json!({"ipFamilyPolicy": "RequireDualStack"})),
        pod("family", bound("0.0.0.0"), &none),
        web("blank", &json!({"selector": {}})),
        pod("blank", echo(8080), &none),
        web("external", &json!({"type": "ExternalName", "externalName": "wbe.typo.svc.cluster.local", "selector": {}, "ports": []})),
        web("address", &json!({"type": "ExternalName", "externalName": "192.0.2.7", "selector": {}, "ports": []})),
        web("headless", &json!({"clusterIP": "None"})),
        web("class", &json!({"type": "LoadBalancer", "loadBalancerClass": "example.com/elb"})),
        web("ranges", &json!({"type": "LoadBalancer", "loadBalancerSourceRanges": ["192.0.2.0/24"]})),
        web("outer", &json!({"type": "NodePort", "externalTrafficPolicy": "Local", "ports": [{"port": 80, "targetPort": 8080, "nodePort": 30100}]})),
        pod("outer", echo(8080), &on("node-2")),
        web("inner", &json!({"internalTrafficPolicy": "Local"})),
        pod("inner", echo(8080), &on("node-2")),
        inside("inner", common::pod("client", &json!([echo(8080)]), &on("node-3"))),
        web("nodeport", &json!({"type": "NodePort", "ports": [{"port": 80, "targetPort": 8080, "nodePort": 30200}]})),
        web("sticky", &json!({"sessionAffinity": "ClientIP"})),
        deployment("sticky", 2, &echo(8080), &none),
        web("early", &json!({"publishNotReadyAddresses": true})),
        pod("early", with(echo(8080), "readinessProbe", &json!({"exec": {"command": ["false"]}})), &none),
        web("proxy", &none),
        web("held", &none),
        web("clash", &none),
        deployment("clash", 2, &echo(8085), &json!({"hostNetwork": true, "nodeName": "node-1"})),
        web("hostport", &none),
        deployment("hostport", 4, &with(echo(8080), "ports", &json!([{"containerPort": 8080, "hostPort": 7777}])), &none),
        web("leaving", &none),
        pod("leaving", shell("main", "trap '' TERM; while true; do sleep 1; done"), &json!({"terminationGracePeriodSeconds": 600})),
    ]);
    let labels = |object: &mut Value, key: &str, value: &str| object["metadata"]["labels"] = json!({key: value});
    for object in &mut all {
        let is = |kind: &str, namespace: &str| object["kind"] == kind && object["metadata"]["namespace"] == namespace;
        match () {
            () if is("Service", "proxy") => labels(object, "service.kubernetes.io/service-proxy-name", "mesh"),
            () if is("Service", "held") => object["metadata"]["finalizers"] = json!(["example.com/hold"]),
            () if is("Service", "clash") => object["spec"]["ports"][0]["targetPort"] = json!(8085),
            () if is("Pod", "named") => {
                object["spec"]["containers"][0]["ports"] = json!([{"name": "http", "containerPort": 8080}]);
            }
            () => {}
        }
    }
    all
}

fn rows() -> Vec<Row> {
    use Then::{Another, Answered, Nothing, Works};
    vec![
        row(&["svc/web", "-n", "tpyo"], "namespace-missing", &["did you mean typo"], Another),
        row(&["svc/good"], "service-missing", &["no Service good"], Nothing),
        row(&["svc/wbe", "-n", "number"], "service-missing", &["did you mean web"], Another),
        row(&["pod/goood"], "pod-missing", &["did you mean good"], Answered),
        row(&["svc/web", "-n", "typo"], "nothing-selected", &["app=web instead of app=wbe"], Works),
        row(&["svc/web", "-n", "zero"], "no-replicas", &["deployment web is scaled to 0"], Works),
        row(&["svc/web", "-n", "ssd"], "unschedulable", &["disk=ssd"], Works),
        row(&["svc/web", "-n", "image"], "image-unmapped", &["did you mean minisvc/echo"], Works),
        row(&["svc/web", "-n", "crash"], "crash-loop", &["ends with code 3", "no database at db:5432"], Nothing),
        row(&["svc/web", "-n", "probe"], "readiness-probe", &["a connection to port 9090", "listens on 8080"], Works),
        row(&["svc/web", "-n", "gate"], "readiness-gate", &["example.com/checked"], Works),
        row(&["svc/web", "-n", "named"], "port-name-missing", &["they have http"], Works),
        row(&["svc/web", "-n", "number"], "wrong-target-port", &["leads to port 8081", "listens on 8080/TCP"], Works),
        row(&["svc/web:8080", "-n", "typo"], "port-missing", &["no port 8080; it has 80/TCP"], Answered),
        row(&["svc/web", "-n", "loopback"], "loopback-only", &["127.0.0.1:8080 only"], Nothing),
        row(&["svc/web", "-n", "family"], "one-family-only", &["for IPv4 only"], Works),
        row(&["svc/web", "-n", "blank"], "no-selector", &["there are pods with app=web"], Works),
        row(&["svc/web", "-n", "orphan"], "slice-unlabelled", &["web-by-hand lacks the label"], Works),
        row(&["svc/web", "-n", "portname"], "slice-port-name", &["named http", "without a name"], Works),
        row(
            &["svc/web", "-n", "external"],
            "external-name-unresolved",
            &["did you mean web.typo.svc.cluster.local"],
            Works,
        ),
        row(&["svc/web", "-n", "address"], "external-name-is-address", &["192.0.2.7"], Nothing),
        row(&["svc/web:80", "-n", "headless"], "headless-port", &["ask port 8080"], Answered),
        row(&["svc/web", "-n", "class"], "load-balancer-class", &["class example.com/elb"], Works),
        row(&["10.95.0.11:30100"], "no-local-endpoint", &["node-1 was asked", "on node-2"], Works),
        row(&["svc/web", "-n", "inner", "--from", "client"], "no-local-endpoint", &["is on node-3"], Works),
        row(&["10.95.0.12:30201"], "node-port-wrong", &["has 30200 at the nodes"], Answered),
        row(&["web", "-n", "inner", "--from", "default/good"], "short-name", &["ask for web."], Another),
        row(&["svc/web", "-n", "sticky"], "affinity", &["sessionAffinity ClientIP"], Works),
        row(&["svc/web", "-n", "early"], "not-ready-published", &["publishNotReadyAddresses"], Another),
        row(&["svc/web", "-n", "proxy"], "other-proxy", &["mesh"], Works),
        row(&["svc/web", "-n", "held"], "deletion-stuck", &["example.com/hold"], Another),
        row(&["svc/web", "-n", "clash"], "partly-ready", &["uses the network of node node-1"], Works),
        row(&["svc/web", "-n", "hostport"], "partly-ready", &["host port 7777"], Works),
        row(&["svc/web", "-n", "leaving"], "all-terminating", &["is being deleted"], Nothing),
        row(&["10.244.0.250:80"], "address-unknown", &["no pod has 10.244.0.250 now"], Nothing),
        row(&["svc/web", "-n", "home"], "other-namespace", &["ask for web.away"], Another),
    ]
}

fn ask(lab: &Lab, asks: &[&str]) -> Value {
    let output = lab.command(&[&["why", "-o", "json"], asks].concat()).output().expect("started");
    serde_json::from_slice(&output.stdout)
        .unwrap_or_else(|_| panic!("{asks:?}: {}", String::from_utf8_lossy(&output.stderr)))
}

/// Waits until the answer to a question names this cause.
fn until(lab: &Lab, asks: &[&str], what: &str, fits: impl Fn(&Value) -> bool) -> Value {
    let mut last = Value::Null;
    let started = std::time::Instant::now();
    while started.elapsed() < common::PATIENCE {
        last = ask(lab, asks);
        if fits(&last) {
            return last;
        }
        std::thread::sleep(std::time::Duration::from_millis(100));
    }
    panic!("{asks:?} is not {what}: {last:#}");
}

fn words(advice: &Value) -> Vec<String> {
    advice["words"].as_array().into_iter().flatten().filter_map(|word| Some(word.as_str()?.to_owned())).collect()
}

fn check(lab: &Lab, Row { asks, cause, says, then }: &Row) {
    let found = until(lab, asks, cause, |found| {
        found["cause"] == *cause
            && says.iter().all(|part| found["sentence"].as_str().is_some_and(|text| text.contains(part)))
    });
    let advice: Vec<&Value> = found["advice"].as_array().into_iter().flatten().filter(|a| a["mends"] == true).collect();
    assert_eq!(advice.is_empty(), *then == Then::Nothing, "{asks:?}: {advice:?}");
    for advice in advice {
        let words = words(advice);
        assert_eq!(words[0], "minisvc", "{words:?}");
        let arguments: Vec<&str> = words[1..].iter().map(String::as_str).collect();
        let output = lab.command(&arguments).output().expect("started");
        let answers = *then != Then::Another || words[1] != "why";
        assert!(!answers || output.status.success(), "{words:?}: {}", String::from_utf8_lossy(&output.stderr));
    }
    match then {
        Then::Works => {
            until(lab, asks, "mended", |found| found["outcome"] == "fine");
        }
        Then::Another => {
            until(lab, asks, "something else", |after| after["cause"] != *cause || words_ask(&found));
        }
        Then::Answered | Then::Nothing => {}
    }
}

/// Whether the mend is a better question, which changes nothing about this one.
fn words_ask(found: &Value) -> bool {
    found["advice"][0]["words"][1] == "why" || found["cause"] == "other-namespace"
}

#[test]
fn every_sentence_names_the_true_cause_and_its_command_mends_it() {
    if Command::new("kubectl").arg("version").arg("--client").output().is_err() {
        eprintln!("skipped: there is no kubectl, which the proposed commands need");
        return;
    }
    let lab = Lab::start("why", &[&["--nodes", "3", "--ip-family", "dual"], &POOL[..]].concat());
    lab.apply_all(&set_ups());
    let good = lab.ready("good")["status"]["podIP"].clone();
    lab.apply_all(&[
        web("orphan", &json!({"selector": {}})),
        slice("orphan", &json!({}), "", &good),
        web("portname", &json!({"selector": {}, "ports": [{"name": "http", "port": 80, "targetPort": 8080}]})),
        slice("portname", &json!({"kubernetes.io/service-name": "web"}), "", &good),
    ]);
    lab.run(&["delete", "svc", "web", "-n", "held"]);
    lab.run(&["delete", "pod", "web", "-n", "leaving"]);
    for row in rows() {
        check(&lab, &row);
    }
    until(&lab, &["web.away"], "made where the pods are", |found| found["outcome"] == "fine");
    let fault = ["fault", "add", "cut", "-n", "typo", "--to", "svc/web", "--partition"];
    lab.run(&fault);
    check(&lab, &row(&["svc/web", "-n", "typo"], "fault-active", &["fault cut", "nothing passes"], Then::Works));
    source_ranges(&lab);
    exhausted(&lab);
    what_works(&lab);
    // Last, because everything on it is started anew.
    lab.run(&["node", "stop", "node-2"]);
    check(
        &lab,
        &row(&["svc/web", "-n", "outer"], "node-down", &["on node node-2, whose machine was stopped"], Then::Works),
    );
}

/// The address is known only when the pool has given it.
fn source_ranges(lab: &Lab) {
    let address = eventually("an address for the load balancer", || {
        let text = lab.run(&["get", "svc", "web", "-n", "ranges", "-o", "json"]);
        let service: Value = serde_json::from_str(&text).expect("JSON");
        service["status"]["loadBalancer"]["ingress"][0]["ip"].as_str().map(str::to_owned)
    });
    let target: &'static str = format!("{address}:80").leak();
    let asks: &'static [&'static str] = vec![target].leak();
    check(lab, &row(asks, "source-range", &["192.0.2.0/24 only", "the workstation has 10.95.0.1"], Then::Works));
}

fn exhausted(lab: &Lab) {
    lab.apply_all(&[namespace("pool"), pod("pool", echo(8080), &json!({}))]);
    let names: Vec<String> = (0..9).map(|number| format!("web-{number}")).collect();
    let services = names.iter().map(|name| {
        let mut service = web("pool", &json!({"type": "LoadBalancer"}));
        service["metadata"]["name"] = json!(name);
        service
    });
    lab.apply_all(&services.collect::<Vec<_>>());
    eventually("a Service without an address", || {
        let mut answers = names.iter().map(|name| ask(lab, &[&format!("svc/{name}"), "-n", "pool"]));
        answers.find(|found| {
            let sentence = found["sentence"].as_str().unwrap_or_default();
            found["cause"] == "load-balancer-pending" && sentence.contains("no address is left in the pool")
        })
    });
}

/// Every kind of target, as text, and how long it takes.
fn what_works(lab: &Lab) {
    let ip = lab.ready("good")["status"]["podIP"].as_str().expect("an address").to_owned();
    for (asks, says) in [
        (&["svc/web", "-n", "typo"][..], "Service typo/web answers: 1 pod behind 10.96."),
        (&["web.typo"], "Service typo/web answers"),
        (&["http://web.typo.svc.cluster.local/"], "Service typo/web answers"),
        (&["web", "--from", "typo/web"], "Service typo/web answers"),
        (&["svc/kubernetes"], "Service default/kubernetes answers"),
        (&["10.96.0.10:53/udp"], "Service kube-system/kube-dns answers"),
        (&["10.95.0.2:6443"], "10.95.0.2 is the control plane"),
        (&["pod/good"], "Pod default/good answers at"),
        (&[&format!("{ip}:8080")], "Pod default/good answers at"),
    ] {
        let text = lab.run(&[&["why"], asks].concat());
        assert!(text.contains(says) && text.contains("✓ "), "{asks:?}: {text}");
    }
    let text = lab.run(&["why", "svc/web", "-n", "typo", "--from", "default/good"]);
    assert!(text.contains("pod default/good was connected to"), "{text}");
    assert!(text.contains("web.typo is 10.96.") && text.contains("search svc.cluster.local"), "{text}");
    let mut times: Vec<std::time::Duration> = (0..5)
        .map(|_| {
            let started = std::time::Instant::now();
            lab.run(&["why", "svc/web", "-n", "typo"]);
            started.elapsed()
        })
        .collect();
    times.sort();
    println!("minisvc why took {times:?} (goal: 300 ms)");
    // Generous, because the machine may be busy and the build unoptimised.
    assert!(times[0] < std::time::Duration::from_secs(2), "{times:?}");
    through_the_api(lab);
    let output = lab.command(&["why", "deploy/web"]).output().expect("started");
    assert_eq!(output.status.code(), Some(2), "{output:?}");
    let broken = lab.command(&["why", "svc/nobody"]).output().expect("started");
    assert_eq!(broken.status.code(), Some(1), "{broken:?}");
}

/// The same answers for those who ask the API.
fn through_the_api(lab: &Lab) {
    let post = |body: &str| {
        let socket = lab.api_socket();
        let url = "http://x/apis/minisvc.dev/v1/whys";
        let output = Command::new("curl")
            .args(["-s", "-H", "content-type: application/json", "-d", body, url, "--unix-socket"])
            .arg(socket)
            .output()
            .expect("started");
        serde_json::from_slice::<Value>(&output.stdout).expect("JSON")
    };
    let answer = post(r#"{"spec": {"target": "svc/web", "namespace": "typo", "from": "default/good"}}"#);
    assert_eq!(answer["status"]["outcome"], "fine", "{answer:#}");
    assert_eq!(answer["status"]["client"], "pod default/good", "{answer:#}");
    let answer = post(r#"{"spec": {"target": "svc/nobody"}}"#);
    assert_eq!(answer["status"]["cause"], "service-missing", "{answer:#}");
    let refused = post(r#"{"spec": {"target": "deploy/web"}}"#);
    assert_eq!((&refused["kind"], &refused["code"]), (&json!("Status"), &json!(400)), "{refused:#}");
    assert_eq!(post("{}")["code"], 400);
}
