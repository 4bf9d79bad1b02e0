//! Pods are replaced, taken away and moved in an orderly manner while clients make new connections to the virtual IP as
//! fast as they can: pods that drain when they are told to end lose none.

#![allow(clippy::print_stdout, reason = "what was measured is for whoever reads the log")]

mod common;

use std::net::IpAddr;
use std::time::{Duration, Instant};

use common::load::{Client, Failure};
use common::{Lab, PATIENCE, eventually};
use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};

/// How long the clients go on; everything has to have happened by then.
const SECONDS: u64 = 20;

/// Pods of the Deployment.
const REPLICAS: usize = 4;

const DEPLOYMENT: &str = "/apis/apps/v1/namespaces/default/deployments/web";

const MANIFEST: &str = r#"
apiVersion: apps/v1
kind: Deployment
metadata: {name: web}
spec:
  replicas: 4
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web}, annotations: {round: "0"}}
    spec:
      containers:
      - name: echo
        image: minisvc/echo
        readinessProbe: {httpGet: {path: /readyz, port: 8080}, periodSeconds: 1}
---
apiVersion: v1
kind: Service
metadata: {name: web}
spec:
  selector: {app: web}
  ports: [{port: 80, targetPort: 8080}]
---
apiVersion: policy/v1
kind: PodDisruptionBudget
metadata: {name: web}
spec:
  minAvailable: 3
  selector: {matchLabels: {app: web}}
---
apiVersion: v1
kind: Pod
metadata: {name: client}
spec:
  nodeName: node-1
  containers: [{name: pause, image: minisvc/pause}]
"#;

/// The Deployment's pods that are not on their way out, when there are so many and all are ready.
fn ready_pods(lab: &Lab, count: usize) -> Option<Vec<Value>> {
    let mut pods = lab.list("pods");
    pods.retain(|pod| pod["metadata"]["labels"]["app"] == "web");
    // The last of those that leave counts too: it still drains, or its process is not gone yet.
    (pods.len() == count && pods.iter().all(common::is_ready)).then_some(pods)
}

/// Every pod is replaced by one of a new template.
fn roll(lab: &Lab, round: u32) {
    let round = round.to_string();
    lab.merge(DEPLOYMENT, &json!({"spec": {"template": {"metadata": {"annotations": {"round": round}}}}}));
    eventually("all pods to be of the new template", || {
        let pods = ready_pods(lab, REPLICAS)?;
        pods.iter().all(|pod| pod["metadata"]["annotations"]["round"] == *round).then_some(())
    });
}

fn scale(lab: &Lab, replicas: usize) {
    lab.merge(&format!("{DEPLOYMENT}/scale"), &json!({"spec": {"replicas": replicas}}));
    eventually("as many pods as asked for", || ready_pods(lab, replicas));
}

/// What `kubectl drain` does: no new pods for the node, and those on it evicted as the budget allows.
fn drain(lab: &Lab, node: &str) {
    let path = format!("/api/v1/nodes/{node}");
    lab.merge(&path, &json!({"spec": {"unschedulable": true}}));
    let mut refused = 0;
    let deadline = Instant::now() + PATIENCE;
    loop {
        let mut pods = lab.list("pods");
        pods.retain(|pod| pod["spec"]["nodeName"] == node);
        if pods.is_empty() {
            break;
        }
        for pod in pods.iter().filter(|pod| pod["metadata"]["deletionTimestamp"].is_null()) {
            let name = pod["metadata"]["name"].as_str().expect("a name");
            let eviction = json!({"apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": name}});
            let path = format!("/api/v1/namespaces/default/pods/{name}/eviction");
            match lab.ask("POST", &path, "application/json", &eviction.to_string()) {
                200 | 201 => {}
                429 => refused += 1,
                code => panic!("{name} cannot be evicted: {code}"),
            }
        }
        assert!(Instant::now() < deadline, "{node} is not drained");
        std::thread::sleep(Duration::from_millis(50));
    }
    eventually("the pods to be elsewhere", || ready_pods(lab, REPLICAS));
    println!("{node} is drained; its budget refused {refused} evictions for a moment");
    lab.merge(&path, &json!({"spec": {"unschedulable": null}}));
}

// D-089, D-092
#[test]
fn no_connection_is_lost_while_a_deployment_rolls_shrinks_and_moves() {
    let lab = Lab::start("rollout", &["--nodes", "2"]);
    lab.apply(MANIFEST);
    eventually("the pods", || ready_pods(&lab, REPLICAS));
    let in_pod: IpAddr = lab.ready("client")["status"]["podIP"].as_str().and_then(|ip| ip.parse().ok()).expect("an IP");
    let vip = lab.get("service", "web")["spec"]["clusterIP"].as_str().expect("an address").to_owned();
    let target = format!("{vip}:80");
    let workstation = "10.95.0.1".parse().expect("an address");
    let clients = [
        Client::start(&lab, "workstation", &[], workstation, &target, SECONDS),
        Client::start(&lab, "pod", &["client"], in_pod, &target, SECONDS),
    ];
    let started = Instant::now();
    let mut history = Vec::new();
    let mut done = |what: String| {
        println!("{what} after {:.1} s", started.elapsed().as_secs_f64());
        history.push(format!("{} {what}", Timestamp::now()));
    };
    for round in 1.. {
        roll(&lab, round);
        done(format!("rolled {round}"));
        scale(&lab, 1);
        done("down to 1".to_owned());
        scale(&lab, REPLICAS);
        done(format!("up to {REPLICAS}"));
        drain(&lab, "node-2");
        done("node-2 drained".to_owned());
        // One round is what must be; more are welcome while the clients go on.
        if started.elapsed() > Duration::from_secs(SECONDS / 2) {
            break;
        }
    }
    assert!(started.elapsed() < Duration::from_secs(SECONDS), "the clients ended first: {history:#?}");
    let mut failures: Vec<Failure> = Vec::new();
    for client in clients {
        let (failed, answered) = client.finish();
        assert!(answered > 100 * SECONDS / 10, "the clients were busy all the time");
        failures.extend(failed);
    }
    assert!(failures.is_empty(), "{} connections were lost: {failures:#?}\n{history:#?}", failures.len());
}

/// Seconds after which a silent node counts as lost: as short as it may be.
const GRACE: u64 = 15;

/// The controller looks every few seconds, and a new table has to be made of what it finds.
const LOOK: u64 = 6;

/// How exactly a client's idea of when it began matches ours of when the node was lost.
const SLACK: SignedDuration = SignedDuration::from_secs(1);

// D-089
#[test]
fn a_node_that_loses_power_costs_connections_only_until_that_is_noticed() {
    let lab = Lab::start("power-cut", &["--nodes", "3", "--node-grace", &GRACE.to_string()]);
    lab.apply(MANIFEST);
    let pods = eventually("the pods", || ready_pods(&lab, REPLICAS));
    let lost: Vec<IpAddr> = pods
        .iter()
        .filter(|pod| pod["spec"]["nodeName"] == "node-2")
        .filter_map(|pod| pod["status"]["podIP"].as_str()?.parse().ok())
        .collect();
    assert!(!lost.is_empty() && lost.len() < REPLICAS, "pods are spread over the nodes");
    let vip = lab.get("service", "web")["spec"]["clusterIP"].as_str().expect("an address").to_owned();
    let workstation = "10.95.0.1".parse().expect("an address");
    let seconds = GRACE + 2 * LOOK;
    let client = Client::start(&lab, "workstation", &[], workstation, &format!("{vip}:80"), seconds);
    let (began, started) = (Timestamp::now(), Instant::now());
    lab.run(&["node", "stop", "node-2"]);
    lab.until("lost", "node", "node-2", |node| {
        let mut conditions = node["status"]["conditions"].as_array().into_iter().flatten();
        conditions.any(|condition| condition["type"] == "Ready" && condition["status"] == "Unknown")
    });
    let noticed = Timestamp::now();
    assert!(started.elapsed() < Duration::from_secs(seconds), "noticed after {:?}", started.elapsed());
    let (failures, answered) = client.finish();
    println!(
        "{} connections went to the lost node; it was noticed after {:.1} s",
        failures.len(),
        (noticed - began).total(jiff::Unit::Second).unwrap_or_default()
    );
    assert!(answered > 100, "the others went on answering");
    let unexplained: Vec<&Failure> = failures
        .iter()
        .filter(|failure| {
            let explained = |(syn, endpoint): (Timestamp, IpAddr)| {
                lost.contains(&endpoint) && syn >= began - SLACK && syn <= noticed + SLACK
            };
            !failure.flow.is_some_and(explained)
        })
        .collect();
    assert!(unexplained.is_empty(), "noticed at {noticed}, but {unexplained:#?}");
}
