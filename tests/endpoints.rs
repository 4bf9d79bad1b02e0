//! Who gets a Service's traffic: endpoints follow selectors, labels, readiness, ports and ends, and traffic follows them.

mod common;

use std::collections::BTreeSet;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use common::{Beside, Lab, MINISVC, echo, eventually, pod, service, shell};
use serde_json::{Value, json};

/// One endpoint: its address, the port there, and its conditions.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Endpoint {
    address: String,
    /// `None` for a pod that has no such port.
    port: Option<u64>,
    ready: bool,
    serving: bool,
    terminating: bool,
}

/// What the slices of a Service say, by address.
fn endpoints(lab: &Lab, service: &str) -> Vec<Endpoint> {
    let of_service = |slice: &&Value| slice["metadata"]["labels"]["kubernetes.io/service-name"] == service;
    let slices = lab.list("endpointslices");
    let mut all: Vec<Endpoint> = slices
        .iter()
        .filter(of_service)
        .flat_map(|slice| {
            let port = slice["ports"][0]["port"].as_u64();
            let endpoints = slice["endpoints"].as_array().cloned().unwrap_or_default();
            endpoints.into_iter().map(move |endpoint| {
                let is = |name: &str| endpoint["conditions"][name] == true;
                Endpoint {
                    address: endpoint["addresses"][0].as_str().expect("an address").to_owned(),
                    port,
                    ready: is("ready"),
                    serving: is("serving"),
                    terminating: is("terminating"),
                }
            })
        })
        .collect();
    all.sort();
    all
}

fn until_endpoints(lab: &Lab, service: &str, what: &str, fits: impl Fn(&[Endpoint]) -> bool) -> Vec<Endpoint> {
    eventually(&format!("{what} in the slices of {service}"), || {
        Some(endpoints(lab, service)).filter(|found| fits(found))
    })
}

fn addresses(endpoints: &[Endpoint], chosen: impl Fn(&Endpoint) -> bool) -> Vec<&str> {
    endpoints.iter().filter(|endpoint| chosen(endpoint)).map(|endpoint| endpoint.address.as_str()).collect()
}

/// Who answers a number of new connections. The data plane follows the slices by itself, so what a test expects of it may
/// take a moment: see [`until_answered_by`].
fn answered_by(lab: &Lab, url: &str) -> Result<BTreeSet<String>, String> {
    (0..12).map(|_| lab.fetch(url).map(|answer| answer.split(' ').nth(1).unwrap_or_default().to_owned())).collect()
}

fn until_answered_by(lab: &Lab, url: &str, names: &[&str]) {
    let expected: BTreeSet<String> = names.iter().map(|&name| name.to_owned()).collect();
    let mut last = Ok(BTreeSet::new());
    let deadline = std::time::Instant::now() + common::PATIENCE;
    while last.as_ref() != Ok(&expected) {
        assert!(std::time::Instant::now() < deadline, "{url} is answered by {last:?}, not by {expected:?}");
        last = answered_by(lab, url);
    }
}

/// A pod of the Service `web` that calls its port `http`, wherever that is, and can be told to be unready.
fn web(name: &str, port: u16, labels: &Value) -> Value {
    let mut container = echo(port);
    container["ports"] = json!([{"name": "http", "containerPort": port}]);
    container["readinessProbe"] = json!({"httpGet": {"path": "/readyz", "port": "http"}, "periodSeconds": 1, "failureThreshold": 1, "timeoutSeconds": 10});
    let mut pod = pod(name, &json!([container]), &json!({}));
    pod["metadata"]["labels"] = labels.clone();
    pod
}

// S-030, S-156, S-157, P-082, D-039
#[test]
fn traffic_follows_labels_selectors_and_named_ports() {
    let lab = Lab::start("labels", &[]);
    let in_web = json!({"app": "web"});
    let mut portless = pod("portless", &json!([echo(8080)]), &json!({}));
    portless["metadata"]["labels"] = in_web.clone();
    lab.apply_all(&[
        service("web", &in_web, 80, &json!("http")),
        web("a", 8081, &in_web),
        web("b", 8082, &in_web),
        web("c", 8083, &json!({"app": "other"})),
        portless,
    ]);
    let address = |name: &str| lab.ready(name)["status"]["podIP"].as_str().expect("an address").to_owned();
    let [a, b, c, none] = ["a", "b", "c", "portless"].map(address);
    let found = until_endpoints(&lab, "web", "three ready pods", |all| addresses(all, |e| e.ready).len() == 3);
    let mut ports: Vec<(&str, Option<u64>)> = found.iter().map(|e| (e.address.as_str(), e.port)).collect();
    ports.sort_unstable();
    let mut expected = vec![(a.as_str(), Some(8081)), (b.as_str(), Some(8082)), (none.as_str(), None)];
    expected.sort_unstable();
    assert_eq!(ports, expected, "each pod by its own port, and one without any");
    until_answered_by(&lab, "http://web", &["a", "b"]);

    // Labels edited: one leaves, one comes.
    lab.apply_all(&[web("b", 8082, &json!({"app": "retired"})), web("c", 8083, &in_web)]);
    until_endpoints(&lab, "web", "the new set", |all| {
        addresses(all, |e| e.port.is_some()) == {
            let mut both = vec![a.as_str(), c.as_str()];
            both.sort_unstable();
            both
        }
    });
    until_answered_by(&lab, "http://web", &["a", "c"]);
    // The selector edited: blue-green.
    lab.apply_all(&[service("web", &json!({"app": "retired"}), 80, &json!("http"))]);
    until_answered_by(&lab, "http://web", &["b"]);
    // Nobody is selected: refused, not lost.
    lab.apply_all(&[service("web", &json!({"app": "nobody"}), 80, &json!("http"))]);
    eventually("connections to be refused", || {
        let answer = lab.fetch("http://web");
        matches!(answer, Err(error) if error.contains("refused")).then_some(())
    });
}

// S-176, S-193, S-194, P-017, P-047
#[test]
fn traffic_leaves_who_is_not_ready_or_about_to_end() {
    let lab = Lab::start("leaving", &[]);
    let in_web = json!({"app": "web"});
    let mut stubborn = web("stubborn", 8080, &in_web);
    // The shell swallows the TERM that its server would end by.
    stubborn["spec"]["containers"][0]["command"] = json!(["sh", "-c", format!("trap '' TERM; {MINISVC} __echo; true")]);
    stubborn["spec"]["terminationGracePeriodSeconds"] = json!(600);
    lab.apply_all(&[service("web", &in_web, 80, &json!("http")), web("a", 8080, &in_web), stubborn]);
    let address = |name: &str| lab.ready(name)["status"]["podIP"].as_str().expect("an address").to_owned();
    let (a, stubborn) = (address("a"), address("stubborn"));
    until_answered_by(&lab, "http://web", &["a", "stubborn"]);

    lab.fetch(&format!("http://{a}:8080/readyz/fail")).expect("an answer");
    let found =
        until_endpoints(&lab, "web", "one that is not ready", |all| addresses(all, |e| !e.ready) == [a.as_str()]);
    assert!(found.iter().all(|e| !e.terminating), "{found:?}");
    until_answered_by(&lab, "http://web", &["stubborn"]);
    let legacy = lab.get("endpoints", "web");
    assert_eq!(legacy["subsets"][0]["notReadyAddresses"][0]["ip"], a.as_str());
    assert_eq!(legacy["subsets"][0]["addresses"][0]["ip"], stubborn.as_str());
    lab.fetch(&format!("http://{a}:8080/readyz/ok")).expect("an answer");
    until_answered_by(&lab, "http://web", &["a", "stubborn"]);

    lab.run(&["delete", "pod", "stubborn"]);
    let found = until_endpoints(&lab, "web", "one that is about to end", |all| all.iter().any(|e| e.terminating));
    let leaving = found.iter().find(|e| e.terminating).expect("it is there");
    assert_eq!((leaving.address.as_str(), leaving.ready, leaving.serving), (stubborn.as_str(), false, true));
    until_answered_by(&lab, "http://web", &["a"]);
    assert!(lab.fetch(&format!("http://{stubborn}:8080")).is_ok(), "it goes on serving those it has");
    // Alone, it gets the traffic again: better than nobody.
    lab.run(&["delete", "pod", "a"]);
    until_answered_by(&lab, "http://web", &["stubborn"]);
}

// S-031, S-175, S-205, D-032
#[test]
fn a_service_without_a_selector_has_the_endpoints_that_users_give_it() {
    let lab = Lab::start("manual", &[]);
    lab.apply_all(&[
        service("manual", &Value::Null, 80, &json!(8080)),
        pod("a", &json!([echo(8080)]), &json!({})),
        pod("b", &json!([echo(9090)]), &json!({})),
    ]);
    let address = |name: &str| lab.ready(name)["status"]["podIP"].as_str().expect("an address").to_owned();
    let (a, b) = (address("a"), address("b"));
    assert!(lab.fetch("http://manual").expect_err("nobody is there").contains("refused"));
    assert_eq!(endpoints(&lab, "manual"), [], "none are made for it");
    let slice = |address: &str, port: u16| {
        json!({
            "apiVersion": "discovery.k8s.io/v1",
            "kind": "EndpointSlice",
            "metadata": {"name": "by-hand", "labels": {"kubernetes.io/service-name": "manual",
                         "endpointslice.kubernetes.io/managed-by": "staff"}},
            "addressType": "IPv4",
            "ports": [{"name": "", "port": port}],
            "endpoints": [{"addresses": [address]}],
        })
    };
    lab.apply_all(&[slice(&a, 8080)]);
    until_answered_by(&lab, "http://manual", &["a"]);
    lab.apply_all(&[slice(&b, 9090)]);
    until_answered_by(&lab, "http://manual", &["b"]);
    lab.run(&["delete", "endpointslice", "by-hand"]);
    eventually("connections to be refused", || lab.fetch("http://manual").is_err().then_some(()));
}

/// Nanoseconds since 1970, as `date +%s%N` prints them on the same clock.
fn now() -> u128 {
    SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970").as_nanos()
}

fn milliseconds(from: u128, to: u128) -> f64 {
    // Precise enough for a number that is read by people.
    let elapsed = Duration::from_nanos(u64::try_from(to.saturating_sub(from)).expect("seconds, not centuries"));
    elapsed.as_secs_f64() * 1000.0
}

// P-030
#[test]
fn how_long_readiness_takes_to_reach_a_new_connection() {
    let lab = Lab::start("latency", &[]);
    let in_web = json!({"app": "web"});
    lab.apply_all(&[service("web", &in_web, 80, &json!("http")), web("a", 8080, &in_web)]);
    let address = lab.ready("a")["status"]["podIP"].as_str().expect("an address").to_owned();
    let vip = lab.get("svc", "web")["spec"]["clusterIP"].as_str().expect("an address").to_owned();
    for round in 1..=3 {
        lab.fetch(&format!("http://{address}:8080/readyz/fail")).expect("an answer");
        eventually("connections to be refused", || lab.fetch(&format!("http://{vip}")).is_err().then_some(()));
        let mut pods = Beside::start(lab.command(&["get", "pods", "--watch"]));
        let mut slices = Beside::start(lab.command(&["get", "endpoints", "web", "--watch"]));
        pods.line("the pod as it is", |line| line.contains("0/1"));
        slices.line("the endpoints as they are", |line| line.starts_with("web"));
        let script = format!("echo ready; until {MINISVC} __get http://{vip} >/dev/null 2>&1; do :; done; date +%s%N");
        let mut client = Beside::start(lab.command(&["exec", "--", "sh", "-c", &script]));
        client.line("it to try", |line| line == "ready");
        lab.fetch(&format!("http://{address}:8080/readyz/ok")).expect("an answer");
        pods.line("the pod to be ready", |line| line.contains("1/1"));
        let ready = now();
        slices.line("its endpoint", |line| line.contains(&address));
        let listed = now();
        let answered: u128 = client.line("an answer", |_| true).parse().expect("a time");
        println!(
            "round {round}: from readiness to the endpoint {:.1} ms, to the first new connection {:.1} ms (goal: 10)",
            milliseconds(ready, listed),
            milliseconds(ready, answered),
        );
        assert!(milliseconds(ready, answered) < 30_000.0, "traffic does not follow readiness");
    }
}

// S-187, S-194
#[test]
fn a_pod_that_is_not_ready_yet_is_listed_but_gets_nothing() {
    let lab = Lab::start("notyet", &[]);
    let in_web = json!({"app": "web"});
    let mut never = pod("never", &json!([shell("main", "exec sleep 1000")]), &json!({}));
    never["metadata"]["labels"] = in_web.clone();
    never["spec"]["containers"][0]["readinessProbe"] = json!({"exec": {"command": ["false"]}, "periodSeconds": 1});
    lab.apply_all(&[service("web", &in_web, 80, &json!(8080))]);
    until_endpoints(&lab, "web", "nobody", <[Endpoint]>::is_empty);
    let slices = lab.list("endpointslices");
    assert!(
        slices.iter().any(|slice| slice["metadata"]["labels"]["kubernetes.io/service-name"] == "web"),
        "{slices:?}"
    );
    lab.apply_all(&[never]);
    until_endpoints(&lab, "web", "an endpoint that is not ready", |all| {
        all.len() == 1 && !all[0].ready && !all[0].serving
    });
    assert!(lab.fetch("http://web").expect_err("nobody is ready").contains("refused"));
}
