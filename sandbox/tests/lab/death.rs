//! The end: whatever dies, and in whatever way, nothing is left.

use std::collections::BTreeSet;
use std::fs;
use std::io::{BufRead, BufReader};
use std::os::unix::fs::MetadataExt;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use minisvc_sandbox::{
    ExitStatus, LaunchError, LaunchOptions, Mount, MountSpace, NamespaceSpec, ProcessSpec, Sandbox, SandboxError,
    SpawnError, TunSpec,
};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::support::{eventually, lab, marked, marker, pod, processes_with, shell, sleepers_with};

const KILLED: ExitStatus = ExitStatus::Signal(9);

/// A child in a session of its own, two whose parent has gone, and one that is waited for.
const FAMILY: &str = "setsid sleep 1000 & (setsid sh -c 'sleep 1000 & sleep 1000' &); trap '' TERM; sleep 1000";
/// Of the sleepers.
const FAMILY_SIZE: usize = 4;

pub(crate) async fn test_removing_a_namespace_kills_daemons_too() {
    let lab = lab().await;
    let (pod, other) = (pod(&lab).await, pod(&lab).await);
    let (marker, survivor) = (marker(), marker_of(&other).await);
    let process = pod.spawn(marked(shell(FAMILY), &marker)).await.unwrap();
    eventually("all run", || sleepers_with(&marker), |count| *count == FAMILY_SIZE).await;
    pod.remove().await;
    assert_eq!(processes_with(&marker), Vec::<String>::new());
    assert_eq!(process.wait().await, KILLED);
    assert_eq!(processes_with(&survivor).len(), 1, "another namespace was hit");
    // A second time, and through another handle, it is gone already.
    pod.clone().remove().await;
}

async fn marker_of(pod: &minisvc_sandbox::Namespace) -> String {
    let marker = marker();
    pod.spawn(marked(shell("exec sleep 1000"), &marker)).await.unwrap();
    marker
}

/// The process id of a lab's helper, by the name that it shows to `ps`.
fn helper_of(name: &str) -> Option<i32> {
    fs::read_dir("/proc").unwrap().flatten().find_map(|entry| {
        let pid = entry.file_name().to_str()?.parse().ok()?;
        let comm = fs::read_to_string(entry.path().join("comm")).ok()?;
        (comm.trim() == format!("minisvc:{name}")).then_some(pid)
    })
}

pub(crate) async fn test_killing_the_helper_kills_the_lab() {
    let name = format!("k{}", std::process::id() % 100_000);
    let lab = Sandbox::launch(LaunchOptions::this_program(&name)).await.unwrap();
    let pod = pod(&lab).await;
    let marker = marker();
    let process = pod.spawn(marked(shell(FAMILY), &marker)).await.unwrap();
    eventually("all run", || sleepers_with(&marker), |count| *count == FAMILY_SIZE).await;
    let helper = helper_of(&name).expect("no process is called as the lab");
    kill(Pid::from_raw(helper), Signal::SIGKILL).unwrap();
    lab.closed().await;
    assert_eq!(processes_with(&marker), Vec::<String>::new());
    pod.closed().await;
    assert_eq!(process.wait().await, KILLED);
    assert_eq!(lab.make_namespace(NamespaceSpec::new("late", "late")).await.unwrap_err(), SandboxError::Gone);
    eventually("its zombie is reaped", || helper_of(&name), Option::is_none).await;
}

pub(crate) async fn test_killing_the_main_process_kills_the_lab() {
    let marker = marker();
    let mut main = Command::new(std::env::current_exe().unwrap());
    let mut main = main.args(["__hold-lab", &marker]).stdout(Stdio::piped()).spawn().unwrap();
    let mut line = String::new();
    BufReader::new(main.stdout.take().unwrap()).read_line(&mut line).unwrap();
    assert_eq!(line, "ready\n");
    eventually("all run", || sleepers_with(&marker), |count| *count == 2).await;
    main.kill().unwrap();
    main.wait().unwrap();
    eventually("all are dead", || processes_with(&marker), Vec::is_empty).await;
}

pub(crate) async fn test_dropping_the_last_handle_kills() {
    let lab = lab().await;
    let (first, second) = (pod(&lab).await, pod(&lab).await);
    let (marker_1, marker_2) = (marker(), marker_of(&second).await);
    let process = first.spawn(marked(shell("exec sleep 1000"), &marker_1)).await.unwrap();
    drop(first);
    // The process holds its namespace.
    assert_eq!(processes_with(&marker_1).len(), 1);
    drop(process);
    eventually("it is dead", || processes_with(&marker_1), Vec::is_empty).await;
    assert_eq!(processes_with(&marker_2).len(), 1);
    drop(lab);
    eventually("the rest is dead", || processes_with(&marker_2), Vec::is_empty).await;
}

pub(crate) async fn test_a_lost_namespace_says_so() {
    let lab = lab().await;
    let pod = pod(&lab).await;
    // Asked while it lives, answered when it is dead.
    let waiting = pod.spawn(shell("exec sleep 1000")).await.unwrap();
    let waiter = tokio::spawn(async move { waiting.wait().await });
    pod.remove().await;
    assert_eq!(waiter.await.unwrap(), KILLED);
    let gone = SandboxError::Gone;
    assert_eq!(pod.open_tun(TunSpec::eth0([10, 244, 0, 5].into())).await.unwrap_err(), gone);
    assert_eq!(pod.spawn(shell("exit 0")).await.unwrap_err(), SpawnError::Sandbox(gone));
    let error = pod.connect_tcp(([127, 0, 0, 1], 80).into()).await.unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::NotConnected);
}

fn mounts() -> String {
    fs::read_to_string("/proc/self/mountinfo").unwrap()
}

/// The network namespaces in which some process is.
fn networks() -> BTreeSet<u64> {
    let entries = fs::read_dir("/proc").unwrap().flatten();
    entries.filter_map(|entry| Some(fs::metadata(entry.path().join("ns/net")).ok()?.ino())).collect()
}

pub(crate) async fn test_nothing_is_left_of_a_lab_of_many_namespaces() {
    const COUNT: u32 = 200;
    let before = mounts();
    let marker = marker();
    let name = format!("m{}", std::process::id() % 100_000);
    let lab = Sandbox::launch(LaunchOptions::this_program(&name)).await.unwrap();
    let mut tasks = tokio::task::JoinSet::new();
    for number in 0..COUNT {
        let (lab, marker) = (lab.clone(), marker.clone());
        tasks.spawn(async move {
            let pod =
                lab.make_namespace(NamespaceSpec::new(format!("pod:{number}"), format!("pod-{number}"))).await.unwrap();
            let mounts = MountSpace::New(vec![Mount::Tmpfs { target: format!("/{marker}").into(), size_bytes: None }]);
            let spec = ProcessSpec { mounts, ..shell("exec sleep 1000") };
            let process = pod.spawn(marked(spec, &marker)).await.unwrap();
            (pod, process)
        });
    }
    let mut pods = Vec::new();
    while let Some(pod) = tasks.join_next().await {
        pods.push(pod.unwrap());
    }
    let used: BTreeSet<u64> = networks();
    let ours = processes_with(&marker).len();
    assert_eq!(ours, 200);
    let start = Instant::now();
    lab.shutdown().await;
    let elapsed = start.elapsed();
    assert_eq!(processes_with(&marker), Vec::<String>::new());
    // One after the other, at the 25 ms that the kernel likes to take for things, would be 5 s.
    assert!(elapsed < Duration::from_secs(10), "{elapsed:?}");
    assert_eq!(helper_of(&name), None, "its zombie is left");
    assert_eq!(mounts(), before);
    assert!(used.difference(&networks()).count() >= 200, "network namespaces are left");
    for (pod, process) in pods {
        pod.closed().await;
        assert_eq!(process.wait().await, KILLED);
    }
}

pub(crate) async fn test_a_helper_that_is_none_is_reported() {
    let launch = |program: &str| {
        Sandbox::launch(LaunchOptions { program: program.into(), args: Vec::new(), lab: "test".into() })
    };
    let missing = launch("/no/such/helper").await.unwrap_err();
    assert!(matches!(missing, LaunchError::Start { .. }), "{missing}");
    let silent = launch("/bin/false").await.unwrap_err();
    assert!(matches!(silent, LaunchError::NoAnswer { status: Some(_), .. }), "{silent}");
}
