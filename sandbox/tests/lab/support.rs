//! What the checks share.

use std::ffi::OsString;
use std::fs;
use std::io::Read;
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use minisvc_sandbox::{
    ExitStatus, LaunchOptions, MountSpace, Namespace, NamespaceSpec, ProcessSpec, Sandbox, SpawnError,
};

/// How long a condition may take to come true on a busy machine.
const PATIENCE: Duration = Duration::from_secs(30);
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

pub(crate) async fn lab() -> Sandbox {
    Sandbox::launch(LaunchOptions::this_program("test")).await.unwrap()
}

pub(crate) async fn pod(lab: &Sandbox) -> Namespace {
    lab.make_namespace(NamespaceSpec::new("pod:web-0", "web-0")).await.unwrap()
}

/// Real root, that is: uid 0 in a container may lack the capability.
pub(crate) fn is_root() -> bool {
    const CAP_SYS_ADMIN: u64 = 1 << 21;
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let effective = status.lines().find_map(|line| line.strip_prefix("CapEff:")).unwrap();
    u64::from_str_radix(effective.trim(), 16).unwrap() & CAP_SYS_ADMIN != 0
}

/// A value that no other process has in its environment.
pub(crate) fn marker() -> String {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    format!("minisvc-{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed))
}

pub(crate) fn command(argv: &[&str]) -> ProcessSpec {
    ProcessSpec {
        argv: argv.iter().map(OsString::from).collect(),
        env: vec![("PATH".into(), PATH.into())],
        ..ProcessSpec::default()
    }
}

pub(crate) fn shell(script: &str) -> ProcessSpec {
    command(&["sh", "-c", script])
}

pub(crate) fn marked(mut spec: ProcessSpec, marker: &str) -> ProcessSpec {
    spec.env.push(("MARKER".into(), marker.into()));
    spec
}

/// Runs a command to its end; what it wrote, and how it ended.
pub(crate) async fn run(pod: &Namespace, mut spec: ProcessSpec) -> Result<(String, ExitStatus), SpawnError> {
    let (read_end, write_end) = std::io::pipe().unwrap();
    let errors = write_end.try_clone().unwrap();
    spec.stdout = Some(OwnedFd::from(write_end));
    spec.stderr = Some(OwnedFd::from(errors));
    let process = pod.spawn(spec).await?;
    let output = tokio::task::spawn_blocking(move || {
        let mut output = String::new();
        let mut read_end = read_end;
        read_end.read_to_string(&mut output).unwrap();
        output
    });
    let status = process.wait().await;
    Ok((output.await.unwrap(), status))
}

/// What a script writes, which must succeed.
pub(crate) async fn output(pod: &Namespace, mounts: MountSpace, script: &str) -> String {
    let (output, status) = run(pod, ProcessSpec { mounts, ..shell(script) }).await.unwrap();
    assert_eq!(status, ExitStatus::Code(0), "{script}: {output}");
    output.trim().to_owned()
}

/// The processes of the whole machine that have the marker in their environment.
pub(crate) fn processes_with(marker: &str) -> Vec<String> {
    let needle = format!("MARKER={marker}\0").into_bytes();
    let mut found = Vec::new();
    for entry in fs::read_dir("/proc").unwrap().flatten() {
        let environment = fs::read(entry.path().join("environ")).unwrap_or_default();
        if environment.windows(needle.len()).any(|window| window == needle) {
            found.push(fs::read_to_string(entry.path().join("stat")).unwrap_or_default());
        }
    }
    found
}

/// Those of them that are `sleep`, which is what the processes under test become in the end.
pub(crate) fn sleepers_with(marker: &str) -> usize {
    processes_with(marker).iter().filter(|stat| stat.contains("(sleep)")).count()
}

/// Waits until the condition holds; `seen` is what the failure tells.
pub(crate) async fn eventually<T: std::fmt::Debug>(what: &str, look: impl Fn() -> T, holds: impl Fn(&T) -> bool) -> T {
    let start = Instant::now();
    loop {
        let seen = look();
        if holds(&seen) {
            return seen;
        }
        assert!(start.elapsed() < PATIENCE, "{what}: not within {PATIENCE:?}; seen: {seen:?}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}
