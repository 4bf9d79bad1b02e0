//! Limits of memory and processors, where this machine lets us keep them; where not, that it is said.

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;

use minisvc_sandbox::{
    ExitStatus, Group, Limits, MountSpace, ProcessSpec, abandoned_groups, remarks, remove_abandoned_groups,
};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::support::{eventually, lab, marker, output, pod, run, shell};

const MEMORY: Limits = Limits { memory: Some(32 << 20), cpu: None };
/// Takes 200 MiB at once.
const GREEDY: &str = "dd if=/dev/zero of=/dev/null bs=200M count=1 2>/dev/null";

/// The directories that the process has made for its lab.
fn groups_of(pid: u32) -> Vec<PathBuf> {
    fn search(directory: &Path, pid: u32, found: &mut Vec<PathBuf>) {
        for entry in fs::read_dir(directory).into_iter().flatten().flatten() {
            let name = entry.file_name().to_string_lossy().into_owned();
            if !entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                continue;
            }
            if name.starts_with("minisvc-") {
                found.extend(name.contains(&format!(".{pid}.")).then(|| entry.path()));
            } else {
                search(&entry.path(), pid, found);
            }
        }
    }
    let mut found = Vec::new();
    search(Path::new("/sys/fs/cgroup"), pid, &mut found);
    found
}

/// False, after it was checked that the user is told, where limits cannot be kept.
fn is_kept(group: &Group, limit: &str) -> bool {
    let said = remarks().iter().any(|remark| remark.what.starts_with("Limits of ") && remark.what.contains(limit));
    let kept = !group.unkept().iter().any(|unkept| unkept.starts_with(limit));
    assert!(kept != said, "{:?}: {:?}", group.unkept(), remarks());
    if !kept {
        println!("limits of {limit} cannot be kept here: {:?}", group.unkept());
    }
    kept
}

fn container(script: &str, group: &Arc<Group>) -> ProcessSpec {
    ProcessSpec { mounts: MountSpace::New(Vec::new()), group: Some(Arc::clone(group)), ..shell(script) }
}

pub(crate) async fn test_a_container_gets_no_more_memory_than_its_limit() {
    let lab = lab().await;
    let pod = pod(&lab).await;
    let make = |name: &str| Arc::new(lab.make_group("uid-1", name, Limits::default(), MEMORY));
    let (greedy, modest) = (make("greedy.0"), make("modest.0"));
    // Without a limit it runs, so that its end means something.
    assert_eq!(run(&pod, shell(GREEDY)).await.unwrap().1, ExitStatus::Code(0));
    let neighbour = pod.spawn(container("exec sleep 1000", &modest)).await.unwrap();
    if is_kept(&greedy, "memory") {
        let (_, status) = run(&pod, container(&format!("exec {GREEDY}"), &greedy)).await.unwrap();
        assert_eq!(status, ExitStatus::Signal(9));
        // Version 2 counts the first victim of a group that is killed as a whole twice.
        assert!(greedy.oom_kills() >= 1);
        // What is started in the container later counts as well; where the kernel can, the whole container ends with it.
        let exec = ProcessSpec { mounts: MountSpace::Of(neighbour.id()), ..shell(GREEDY) };
        let (_, status) = run(&pod, exec).await.unwrap();
        assert_ne!(status, ExitStatus::Code(0));
        assert!(modest.oom_kills() >= 1);
    }
    assert_eq!(output(&pod, MountSpace::Agent, "echo unharmed").await, "unharmed");
    lab.shutdown().await;
    assert_eq!(groups_of(std::process::id()), Vec::<PathBuf>::new());
}

pub(crate) async fn test_limits_of_the_pod_hold_for_all_its_containers() {
    let lab = lab().await;
    let pod = pod(&lab).await;
    let group = Arc::new(lab.make_group("uid-2", "main.0", MEMORY, Limits::default()));
    if is_kept(&group, "memory") {
        let (_, status) = run(&pod, container(&format!("exec {GREEDY}"), &group)).await.unwrap();
        assert_eq!((status, group.oom_kills() > 0), (ExitStatus::Signal(9), true));
    }
    // Gone with the container, or as soon as another one is made.
    drop(group);
    let _next = lab.make_group("uid-3", "main.0", MEMORY, Limits::default());
    let made = groups_of(std::process::id());
    assert!(made.iter().all(|lab| !lab.join("uid-2").exists()), "{made:?}");
    lab.shutdown().await;
}

pub(crate) async fn test_a_container_gets_no_more_processor_time_than_its_limit() {
    let lab = lab().await;
    let pod = pod(&lab).await;
    let limit = Limits { memory: None, cpu: Some(200) };
    let group = Arc::new(lab.make_group("uid-1", "busy.0", Limits::default(), limit));
    if is_kept(&group, "cpu") {
        // The time that the children of the shell have used, in hundredths of a second.
        let script = "(timeout 2 sh -c 'while :; do :; done'; :) 2>/dev/null; read -r stat </proc/$$/stat; set -- ${stat##*)}; echo $((${14} + ${15}))";
        let (used, _) = run(&pod, container(script, &group)).await.unwrap();
        let used: u32 = used.trim().parse().unwrap();
        assert!(used < 100, "{used} hundredths of a second in two seconds");
    }
    lab.shutdown().await;
}

/// A main process with a lab in which a limited container runs, and its helper.
fn held() -> (std::process::Child, i32) {
    let main =
        Command::new(std::env::current_exe().unwrap()).args(["__hold-lab", &marker()]).stdout(Stdio::piped()).spawn();
    let mut main = main.unwrap();
    let mut line = String::new();
    BufReader::new(main.stdout.take().unwrap()).read_line(&mut line).unwrap();
    assert_eq!(line, "ready\n");
    let helper = helper_below(main.id());
    (main, helper)
}

fn helper_below(main: u32) -> i32 {
    let children = fs::read_to_string(format!("/proc/{main}/task/{main}/children")).unwrap();
    children.split_whitespace().next().unwrap().parse().unwrap()
}

pub(crate) async fn test_no_directory_outlives_the_main_process() {
    let (mut main, _) = held();
    let pid = main.id();
    let unkept: String =
        remarks().into_iter().map(|remark| remark.what).filter(|what| what.starts_with("Limits")).collect();
    assert_eq!(groups_of(pid).is_empty(), unkept.contains("memory") && unkept.contains("cpu"), "{unkept}");
    main.kill().unwrap();
    main.wait().unwrap();
    // The helper takes them away.
    eventually("no directory is left", || groups_of(pid), Vec::is_empty).await;
}

pub(crate) async fn test_what_both_have_left_is_removed_by_the_next_start() {
    let (mut main, helper) = held();
    let pid = main.id();
    let number = Pid::from_raw(pid.try_into().unwrap());
    let made = groups_of(pid);
    assert!(abandoned_groups().iter().all(|found| !made.contains(found)), "it runs");
    kill(number, Signal::SIGSTOP).unwrap();
    kill(Pid::from_raw(helper), Signal::SIGKILL).unwrap();
    main.kill().unwrap();
    main.wait().unwrap();
    for group in &made {
        // Another lab may have started and removed it.
        assert!(abandoned_groups().contains(group) || !group.exists(), "{}", group.display());
    }
    let next = lab().await;
    let left = || {
        // A process that is about to die keeps its group until then.
        remove_abandoned_groups();
        groups_of(pid)
    };
    eventually("no directory is left", left, Vec::is_empty).await;
    next.shutdown().await;
}
