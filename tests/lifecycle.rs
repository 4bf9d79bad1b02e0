//! A lab's life and its several ends: nothing is ever left behind.

mod common;

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use common::{Lab, MINISVC, PATIENCE, eventually, fail, processes_with, signal, up_command};
use nix::sys::signal::Signal;
use serde_json::Value;

/// What a lab could leave on the host besides processes.
#[derive(Debug, PartialEq, Eq)]
struct Host {
    interfaces: Vec<String>,
    routes: String,
    mounts: usize,
}

impl Host {
    fn look() -> Self {
        let entries = std::fs::read_dir("/sys/class/net").expect("readable").flatten();
        let mut interfaces: Vec<String> = entries.map(|e| e.file_name().to_string_lossy().into_owned()).collect();
        interfaces.sort();
        let read = |path: &str| std::fs::read_to_string(path).expect("readable");
        Self { interfaces, routes: read("/proc/net/route"), mounts: read("/proc/self/mountinfo").lines().count() }
    }
}

/// Pods whose processes try to get away: one forks below limits, one leaves its session, one is another user, one holds a socket.
fn escape_artists(marker: &str) -> String {
    let pod = |name: &str, script: &str, extra: &str| {
        format!(
            "apiVersion: v1\nkind: Pod\nmetadata: {{name: {name}}}\nspec:\n  containers:\n  - name: main\n    image: x\n    \
             command: [sh, -c, {script:?}]\n    env: [{{name: ESCAPE, value: {marker}}}]\n{extra}---\n"
        )
    };
    pod("forks", "(sleep 1000 &) ; sleep 1000 & wait", "    resources: {limits: {memory: 100Mi, cpu: 500m}}\n")
        + &pod("setsid", "setsid sh -c 'sleep 1000 & sleep 1000' & wait", "")
        + &pod("other-user", "sleep 1000", "    securityContext: {runAsUser: 65534}\n")
        + &pod("deaf", "trap '' TERM HUP INT; while :; do sleep 1000; done", "")
}

/// A lab with pods that are all running; the marker finds their processes.
fn lab_with_escape_artists(name: &str) -> (Lab, String) {
    let marker = format!("{name}-{}", std::process::id());
    let lab = Lab::start(name, &[]);
    lab.apply(&escape_artists(&marker));
    eventually("all pods to run", || {
        let pods = lab.list("pods");
        let running = pods.iter().filter(|pod| pod["status"]["phase"] == "Running").count();
        (running == 4).then_some(())
    });
    eventually("their children", || (processes_with(&format!("ESCAPE={marker}")).len() >= 8).then_some(()));
    let said = common::succeed(Command::new(MINISVC).arg("doctor").env("MINISVC_STATE_DIR", lab.state_dir()));
    let unkept = said.lines().filter(|line| line.starts_with("Limits of")).collect::<String>();
    let expected = !(unkept.contains("memory") && unkept.contains("cpu"));
    assert_eq!(!groups_of(&lab).is_empty(), expected, "{said}");
    (lab, marker)
}

/// The directories of the lab's control groups, where the machine lets it have some.
fn groups_of(lab: &Lab) -> Vec<PathBuf> {
    fn search(directory: &Path, part: &str, found: &mut Vec<PathBuf>) {
        for entry in std::fs::read_dir(directory).into_iter().flatten().flatten() {
            let name = entry.file_name().to_string_lossy().into_owned();
            if !entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                continue;
            }
            if name.starts_with("minisvc-") {
                found.extend(name.contains(part).then(|| entry.path()));
            } else {
                search(&entry.path(), part, found);
            }
        }
    }
    let mut found = Vec::new();
    search(Path::new("/sys/fs/cgroup"), &format!(".{}.", lab.pid()), &mut found);
    found
}

fn assert_nothing_left(lab: &Lab, marker: &str, before: &Host) {
    eventually("every control group of the lab to be gone", || groups_of(lab).is_empty().then_some(()));
    eventually("every process of the lab to be gone", || {
        processes_with(&format!("ESCAPE={marker}")).is_empty().then_some(())
    });
    // The kernel takes interfaces and mounts of dead namespaces away on its own time; the host's own never changed.
    assert_eq!(&Host::look(), before);
}

#[test]
fn ctrl_c_leaves_nothing() {
    let before = Host::look();
    let (mut lab, marker) = lab_with_escape_artists("ctrl-c");
    assert!(lab.interrupt().success());
    assert_nothing_left(&lab, &marker, &before);
    assert!(!lab.api_socket().exists(), "the sockets are gone too");
}

#[test]
fn down_leaves_nothing_and_returns_when_it_is_true() {
    let before = Host::look();
    let (mut lab, marker) = lab_with_escape_artists("down");
    lab.run(&["down"]);
    assert!(processes_with(&format!("ESCAPE={marker}")).is_empty(), "down returned too early");
    assert!(lab.wait().success());
    assert_nothing_left(&lab, &marker, &before);
}

#[test]
fn kill_of_the_main_process_leaves_nothing() {
    let before = Host::look();
    let (mut lab, marker) = lab_with_escape_artists("kill-main");
    lab.kill();
    assert_nothing_left(&lab, &marker, &before);
}

#[test]
fn kill_of_the_sandbox_ends_the_lab_and_leaves_nothing() {
    let before = Host::look();
    let (mut lab, marker) = lab_with_escape_artists("kill-helper");
    let helper = eventually("the helper", || helper_of(lab.pid()));
    signal(helper, Signal::SIGKILL);
    let status = lab.wait();
    assert_eq!(status.code(), Some(1), "an end that nobody asked for is a failure");
    assert_nothing_left(&lab, &marker, &before);
}

/// The sandbox's helper: the child of the main process that was started as `__sandbox`.
fn helper_of(main: u32) -> Option<u32> {
    let entries = std::fs::read_dir("/proc").expect("readable");
    let pids = entries.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse::<u32>().ok());
    pids.into_iter().find(|pid| {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        let parent = stat.rsplit(')').next().and_then(|rest| rest.split_whitespace().nth(1)?.parse::<u32>().ok());
        let line = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        parent == Some(main) && String::from_utf8_lossy(&line).contains("__sandbox")
    })
}

fn address_of(lab: &Lab, service: &str) -> Value {
    lab.get("svc", service)["spec"]["clusterIP"].clone()
}

#[test]
fn a_restart_keeps_objects_and_addresses_and_starts_pods_again() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let mut lab = Lab::start_in("again", folder.path(), &["-f", common::HELLO, "--wait"]);
    let before = (address_of(&lab, "hello"), address_of(&lab, "kubernetes"));
    let uid = |lab: &Lab| lab.get("deploy", "hello")["metadata"]["uid"].clone();
    let deployment = uid(&lab);
    assert!(lab.interrupt().success());
    let mut lab = Lab::start_in("again", folder.path(), &[]);
    assert_eq!((address_of(&lab, "hello"), address_of(&lab, "kubernetes")), before);
    assert_eq!(uid(&lab), deployment);
    eventually("the pods to answer again", || lab.fetch("http://hello").ok());
    let text = fail(&mut up_command("again", folder.path(), &[]), 1);
    assert!(text.contains("runs already") && text.contains("minisvc down --name again"), "{text}");
    // Killed, it is as if the power had failed: the same again.
    lab.kill();
    let lab = Lab::start_in("again", folder.path(), &[]);
    assert_eq!((address_of(&lab, "hello"), address_of(&lab, "kubernetes")), before);
}

#[test]
fn labs_run_side_by_side_with_the_same_addresses() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let labs = ["one", "two", "three"].map(|name| Lab::start_in(name, folder.path(), &["-f", common::HELLO, "--wait"]));
    for lab in &labs {
        assert_eq!(lab.exec(&[MINISVC, "__resolve", "kubernetes"]), "10.96.0.1\n");
        let answer = lab.fetch("http://hello").expect("an answer");
        let own: Vec<String> =
            lab.list("pods").iter().map(|pod| pod["metadata"]["name"].as_str().expect("a name").to_owned()).collect();
        assert!(own.iter().any(|name| answer.contains(name.as_str())), "{answer:?} is not of {own:?}");
    }
    let status = labs[0].run(&["status", "-o", "name"]);
    assert_eq!(status, "one\nthree\ntwo\n");
}

#[test]
fn detach_returns_when_the_lab_is_ready_and_down_ends_it() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let output = up_command("back", folder.path(), &["--detach"]).output().expect("started");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let minisvc = |args: &[&str]| {
        let mut command = Command::new(MINISVC);
        command.args(args).args(["--name", "back"]).env("MINISVC_STATE_DIR", folder.path());
        command
    };
    let status = common::succeed(&mut minisvc(&["status", "-o", "json"]));
    let status: Value = serde_json::from_str(&status).expect("JSON");
    assert_eq!(status["labs"][0]["name"], "back");
    let pid = status["labs"][0]["pid"].as_u64().expect("a process id");
    assert!(Path::new(&format!("/proc/{pid}")).exists());
    common::succeed(&mut minisvc(&["down"]));
    eventually("the process to be gone", || (!Path::new(&format!("/proc/{pid}")).exists()).then_some(()));
    let text = fail(&mut minisvc(&["down"]), 1);
    assert!(text.contains("no lab named \"back\" runs") && text.contains("hint: start one: minisvc up"), "{text}");
}

#[test]
fn what_cannot_be_changes_nothing_and_says_what_to_type() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let taken = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = taken.local_addr().expect("bound").port().to_string();
    let missing = folder.path().join("missing.yaml");
    let broken = folder.path().join("broken.yaml");
    std::fs::write(&broken, "apiVersion: v1\nkind: [").expect("written");
    for (args, expected) in [
        (vec!["--service-cidr", "10.244.0.0/16"], "overlap"),
        (vec!["-f", missing.to_str().expect("UTF-8")], "cannot read"),
        (vec!["-f", broken.to_str().expect("UTF-8")], "neither YAML nor JSON"),
        (vec!["--nodes", "0"], "--nodes"),
        (vec!["--api-port", &port], "--api-port"),
    ] {
        let mut command = Command::new(MINISVC);
        command.args(["up", "--name", "bad"]).args(&args).env("MINISVC_STATE_DIR", folder.path());
        let text = fail(&mut command, 2);
        assert!(text.contains(expected), "{args:?}: {text}");
        assert!(!folder.path().join("bad/run/lab.json").exists());
    }
}

#[test]
fn two_hundred_pods_come_and_go_with_the_lab() {
    let mut lab = Lab::start("crowd", &["--nodes", "2"]);
    lab.apply(
        "apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: crowd}\nspec:\n  replicas: 200\n  \
         selector: {matchLabels: {app: crowd}}\n  template:\n    metadata: {labels: {app: crowd}}\n    \
         spec: {containers: [{name: main, image: minisvc/pause}]}\n",
    );
    eventually("200 ready pods", || (lab.get("deploy", "crowd")["status"]["readyReplicas"] == 200).then_some(()));
    let started = std::time::Instant::now();
    assert!(lab.interrupt().success());
    println!("200 pods went down in {:?}", started.elapsed());
    assert!(started.elapsed() < PATIENCE.min(Duration::from_secs(30)), "something waits for something else");
}
