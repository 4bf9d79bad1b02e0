//! Pods are killed and replaced while clients make new connections to the virtual IP as fast as they can.
//!
//! A connection may fail only if the endpoint it was given was a pod that was killed, and only if its SYN came before the
//! data plane could know. `minisvc flows` tells the endpoint of each failed connection by the client's port.
//! `MINISVC_CHURN_SECONDS` makes the test shorter or longer than 30 s.

#![allow(clippy::print_stdout, reason = "what was measured is for whoever reads the log")]

mod common;

use std::io::{Read as _, Write as _};
use std::net::IpAddr;
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use common::load::{Client, Failure};
use common::{Lab, PATIENCE, eventually, processes_with, signal};
use jiff::{SignedDuration, Timestamp};
use nix::sys::signal::Signal;

/// Later than this after the end of its pod, no connection may be given an endpoint. Generous, because CI runs everything
/// at once on two cores; what it really took is printed.
const LIMIT: SignedDuration = SignedDuration::from_secs(2);

/// What it should take on a machine with nothing else to do.
const GOAL: SignedDuration = SignedDuration::from_millis(10);

/// How exactly a client's idea of when it began matches the data plane's of when the SYN came: the client may not get
/// the processor in between.
const SLACK: SignedDuration = SignedDuration::from_secs(1);

/// How a pod is ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Manner {
    /// Its process is killed from outside; the pod stays, and is replaced afterwards.
    Kill,
    /// `delete --force`: no grace.
    Force,
    /// An ordinary delete of a server that drains.
    Grace,
}

/// One ended pod.
#[derive(Debug)]
struct Ending {
    pod: String,
    address: IpAddr,
    manner: Manner,
    /// When its process was seen to be gone.
    gone: Timestamp,
}

/// Why a failure is none of the test's business.
#[derive(Debug, PartialEq, Eq)]
enum Excuse {
    /// It was open, or being opened, when the process was killed.
    Cut,
    /// Its SYN came so long after the end.
    Late(SignedDuration),
}

/// Whether a failure is allowed.
fn excuse(failure: &Failure, endings: &[Ending]) -> Option<Excuse> {
    let rude = endings.iter().filter(|ending| ending.manner != Manner::Grace);
    let (syn, endpoint) = failure.flow?;
    let ending = rude.rev().find(|ending| ending.address == endpoint)?;
    let late = syn.duration_since(ending.gone);
    let until = failure.ended.duration_since(ending.gone);
    if late > LIMIT {
        return None;
    }
    if late > SignedDuration::ZERO {
        return Some(Excuse::Late(late));
    }
    // It broke when the pod did: not long before, for another reason.
    (until >= -SLACK).then_some(Excuse::Cut)
}

/// Deletes a pod through the API, without the detour through a command.
fn delete_pod(lab: &Lab, pod: &str, query: &str) {
    let mut socket = UnixStream::connect(lab.api_socket()).expect("the API listens");
    let request = format!(
        "DELETE /api/v1/namespaces/default/pods/{pod}{query} HTTP/1.1\r\nHost: lab\r\nConnection: close\r\n\r\n"
    );
    socket.write_all(request.as_bytes()).expect("sent");
    let mut answer = String::new();
    socket.read_to_string(&mut answer).expect("answered");
    assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
}

/// The ready pods of the Deployment, with their addresses, as soon as there are three.
fn three_ready_pods(lab: &Lab) -> Vec<(String, IpAddr)> {
    eventually("three ready pods", || {
        let mut pods: Vec<(String, IpAddr)> = lab
            .list("pods")
            .iter()
            .filter(|pod| pod["metadata"]["labels"]["app"] == "web" && pod["metadata"]["deletionTimestamp"].is_null())
            .filter(|pod| {
                let conditions = pod["status"]["conditions"].as_array().cloned().unwrap_or_default();
                conditions.iter().any(|condition| condition["type"] == "Ready" && condition["status"] == "True")
            })
            .filter_map(|pod| {
                Some((pod["metadata"]["name"].as_str()?.to_owned(), pod["status"]["podIP"].as_str()?.parse().ok()?))
            })
            .collect();
        pods.sort();
        (pods.len() == 3).then_some(pods)
    })
}

/// When a process is gone, to a fraction of a millisecond.
fn wait_until_gone(pid: u32) -> Timestamp {
    let deadline = Instant::now() + PATIENCE;
    let target = nix::unistd::Pid::from_raw(i32::try_from(pid).expect("a process id"));
    while nix::sys::signal::kill(target, None).is_ok() {
        assert!(Instant::now() < deadline, "process {pid} goes on");
        std::thread::sleep(Duration::from_micros(200));
    }
    Timestamp::now()
}

/// Ends one pod and waits until its process is gone.
fn end(lab: &Lab, pod: &str, address: IpAddr, manner: Manner, marker: &str) -> Ending {
    let mut pids = processes_with(&format!("CHURN={marker}-{pod}."));
    let pid = pids.pop().expect("the pod's process");
    assert!(pids.is_empty(), "one process per pod");
    match manner {
        Manner::Kill => signal(pid, Signal::SIGKILL),
        Manner::Force => delete_pod(lab, pod, "?gracePeriodSeconds=0"),
        Manner::Grace => delete_pod(lab, pod, ""),
    }
    let gone = wait_until_gone(pid);
    if manner == Manner::Kill {
        // While its container is down; what is replaced is the pod.
        delete_pod(lab, pod, "");
    }
    Ending { pod: pod.to_owned(), address, manner, gone }
}

fn manifest(marker: &str) -> String {
    format!(
        r#"
apiVersion: apps/v1
kind: Deployment
metadata: {{name: web}}
spec:
  replicas: 3
  selector: {{matchLabels: {{app: web}}}}
  template:
    metadata: {{labels: {{app: web}}}}
    spec:
      containers:
      - name: echo
        image: minisvc/echo
        env:
        - {{name: POD_NAME, valueFrom: {{fieldRef: {{fieldPath: metadata.name}}}}}}
        - {{name: CHURN, value: "{marker}-$(POD_NAME)."}}
        readinessProbe: {{httpGet: {{path: /readyz, port: 8080}}, periodSeconds: 1}}
---
apiVersion: v1
kind: Service
metadata: {{name: web}}
spec:
  selector: {{app: web}}
  ports: [{{port: 80, targetPort: 8080}}]
---
apiVersion: v1
kind: Pod
metadata: {{name: client}}
spec:
  containers: [{{name: pause, image: minisvc/pause}}]
"#
    )
}

// D-003, D-089, D-090, D-091
#[test]
fn only_connections_to_a_killed_pod_fail_while_pods_come_and_go() {
    let seconds = std::env::var("MINISVC_CHURN_SECONDS").ok().and_then(|text| text.parse().ok()).unwrap_or(30);
    let marker = std::process::id().to_string();
    let lab = Lab::start("churn", &[]);
    lab.apply(&manifest(&marker));
    three_ready_pods(&lab);
    let in_pod =
        eventually("the client pod's address", || lab.get("pod", "client")["status"]["podIP"].as_str()?.parse().ok());
    let vip = lab.get("service", "web")["spec"]["clusterIP"].as_str().expect("an address").to_owned();
    let target = format!("{vip}:80");
    let workstation = "10.95.0.1".parse().expect("an address");
    let clients = [
        Client::start(&lab, "workstation", &[], workstation, &target, seconds),
        Client::start(&lab, "pod", &["client"], in_pod, &target, seconds),
    ];
    let until = Instant::now() + Duration::from_secs(seconds);
    let mut endings = Vec::new();
    for manner in [Manner::Kill, Manner::Force, Manner::Grace].into_iter().cycle() {
        let pods = three_ready_pods(&lab);
        // The last turn is over before the clients are.
        if Instant::now() + Duration::from_secs(2) > until {
            break;
        }
        let (pod, address) = &pods[endings.len() % pods.len()];
        endings.push(end(&lab, pod, *address, manner, &marker));
    }
    let mut failures = Vec::new();
    for client in clients {
        let (failed, answered) = client.finish();
        assert!(answered > 100 * seconds / 10, "the clients were busy all the time");
        failures.extend(failed);
    }
    report(&failures, &endings);
    let forbidden = failures.iter().filter(|failure| excuse(failure, &endings).is_none());
    let forbidden: Vec<String> = forbidden.map(|failure| describe(failure, &endings)).collect();
    assert!(forbidden.is_empty(), "nothing excuses these failures:\n{}", forbidden.join("\n"));
    assert!(endings.len() >= 3, "every way to end a pod was tried: {endings:?}");
}

/// All that is known about a failure, with what had happened to its endpoint.
fn describe(failure: &Failure, endings: &[Ending]) -> String {
    let Failure { client, began, ended, error, flow, others } = failure;
    let history: Vec<String> = endings
        .iter()
        .filter(|ending| flow.is_none_or(|(_, endpoint)| endpoint == ending.address))
        .map(|Ending { pod, address, manner, gone }| format!("{pod} {address} {manner:?} gone {gone}"))
        .collect();
    format!(
        "{client} began {began} ended {ended}: {error}; SYN and endpoint: {flow:?}, records {others:?}; {}",
        history.join(", ")
    )
}

fn report(failures: &[Failure], endings: &[Ending]) {
    let excuses: Vec<Excuse> = failures.iter().filter_map(|failure| excuse(failure, endings)).collect();
    let cut = excuses.iter().filter(|excuse| **excuse == Excuse::Cut).count();
    let latest = |manner: Option<Manner>| {
        let late = failures.iter().filter_map(|failure| {
            let (_, endpoint) = failure.flow?;
            let ended = endings.iter().rev().find(|ending| ending.address == endpoint)?.manner;
            match excuse(failure, endings)? {
                Excuse::Late(late) if manner.is_none_or(|manner| manner == ended) => Some(late),
                _ => None,
            }
        });
        late.max().unwrap_or_default().as_secs_f64() * 1000.0
    };
    println!(
        "{} pods ended; {cut} connections were open when their pod was killed, {} came after; \
         T = {:.1} ms after its end no new connection went to a pod (killed {:.1}, deleted by force {:.1}; goal: {} ms)",
        endings.len(),
        excuses.len() - cut,
        latest(None),
        latest(Some(Manner::Kill)),
        latest(Some(Manner::Force)),
        GOAL.as_millis()
    );
}

#[test]
fn only_what_the_kill_explains_is_excused() {
    let at = |millisecond: i64| Timestamp::from_millisecond(1_000_000 + millisecond).expect("a time");
    let [first, second, third] =
        ["10.244.0.2", "10.244.0.3", "10.244.0.4"].map(|text| text.parse().expect("an address"));
    let ending = |address, manner| Ending { pod: "web".into(), address, manner, gone: at(0) };
    let endings = [ending(first, Manner::Kill), ending(second, Manner::Grace), ending(third, Manner::Force)];
    let failure = |began, flow| Failure {
        client: "10.95.0.1:12000".parse().expect("an address"),
        began: at(began),
        ended: at(began + 1),
        error: String::new(),
        flow,
        others: Vec::new(),
    };
    let judge = |failure| excuse(&failure, &endings);
    assert_eq!(judge(failure(5, Some((at(5), first)))), Some(Excuse::Late(SignedDuration::from_millis(5))));
    assert_eq!(judge(failure(-1, Some((at(-1), first)))), Some(Excuse::Cut));
    assert_eq!(judge(failure(2500, Some((at(2500), first)))), None, "too late");
    assert_eq!(judge(failure(-5000, Some((at(-5000), first)))), None, "before anything happened to the pod");
    assert_eq!(judge(failure(5, Some((at(5), second)))), None, "a server that drains loses nobody");
    assert_eq!(judge(failure(5, None)), None, "nobody knows where it went");
}
