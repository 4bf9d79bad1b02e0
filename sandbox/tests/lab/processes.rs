//! Processes: start, end, and what they start with.

use std::ffi::OsString;
use std::fs::{self, File, Permissions};
use std::io::{Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;

use minisvc_sandbox::{Credentials, ExitStatus, MountSpace, NamespaceSpec, ProcessSpec, SandboxError, SpawnError};

use crate::support::{
    command, eventually, is_root, lab, marked, marker, output, pod, processes_with, run, shell, sleepers_with,
};

const SIGKILL: i32 = 9;
const SIGTERM: i32 = 15;

pub(crate) async fn test_exit_codes_and_signals_are_reported() {
    let lab = lab().await;
    let pod = pod(&lab).await;
    for (script, expected) in [
        ("exit 0", ExitStatus::Code(0)),
        ("exit 7", ExitStatus::Code(7)),
        ("exit 255", ExitStatus::Code(255)),
        ("kill -9 $$", ExitStatus::Signal(SIGKILL)),
        ("kill -40 $$", ExitStatus::Signal(40)),
    ] {
        let process = pod.spawn(shell(script)).await.unwrap();
        assert_eq!(process.wait().await, expected, "{script}");
        assert_eq!(process.exit_status(), Some(expected), "{script}");
        // Nothing to signal any more, which is no error and must not hit anyone else.
        process.signal(SIGKILL).await;
    }
    for signal in [SIGTERM, SIGKILL, 42] {
        let process = pod.spawn(command(&["sleep", "1000"])).await.unwrap();
        assert_eq!(process.exit_status(), None);
        process.signal(signal).await;
        assert_eq!(process.wait().await, ExitStatus::Signal(signal));
    }
}

pub(crate) async fn test_start_failures_are_told_apart() {
    let lab = lab().await;
    let pod = pod(&lab).await;
    let directory = tempfile::tempdir().unwrap();
    let file = |name: &str, mode: u32, content: &[u8]| {
        let path = directory.path().join(name);
        fs::write(&path, content).unwrap();
        fs::set_permissions(&path, Permissions::from_mode(mode)).unwrap();
        path.display().to_string()
    };
    let script = file("script", 0o644, b"#!/bin/sh\n");
    let orphan = file("orphan", 0o755, b"#!/no/such/shell\n");
    let text = file("text", 0o755, b"just text\n");
    let missing = directory.path().join("missing").display().to_string();
    let under_file = format!("{script}/x");
    let named = |program: &str| program.to_owned();
    for (program, expected) in [
        ("no-such-program-anywhere", SpawnError::NotFound { program: named("no-such-program-anywhere") }),
        (&missing, SpawnError::NotFound { program: named(&missing) }),
        (&under_file, SpawnError::NotFound { program: named(&under_file) }),
        (&script, SpawnError::PermissionDenied { program: named(&script) }),
        ("/tmp", SpawnError::PermissionDenied { program: named("/tmp") }),
        (&orphan, SpawnError::NoInterpreter { program: named(&orphan) }),
        (&text, SpawnError::NotExecutable { program: named(&text) }),
    ] {
        assert_eq!(pod.spawn(command(&[program])).await.unwrap_err(), expected, "{program}");
    }
    let nowhere = ProcessSpec { cwd: Some(PathBuf::from(&missing)), ..shell("exit 0") };
    let error = pod.spawn(nowhere).await.unwrap_err();
    assert!(matches!(&error, SpawnError::WorkingDirectory { path, .. } if *path == missing), "{error}");
    for (spec, part) in [
        (command(&[]), "no program"),
        (command(&["sh", "a\0b"]), "NUL"),
        (ProcessSpec { env: vec![("A=B".into(), "".into())], ..shell("") }, "'='"),
        (ProcessSpec { terminal: true, ..shell("") }, "stdin"),
    ] {
        let error = pod.spawn(spec).await.unwrap_err();
        assert!(matches!(&error, SpawnError::Invalid(why) if why.contains(part)), "{error}");
    }
}

pub(crate) async fn test_an_environment_of_128_kib_arrives() {
    let lab = lab().await;
    let pod = pod(&lab).await;
    let mut spec = shell("test ${#A} -eq 65536 && test ${#B} -eq 65536");
    for name in ["A", "B"] {
        spec.env.push((name.into(), "x".repeat(65536).into()));
    }
    let (output, status) = run(&pod, spec).await.unwrap();
    assert_eq!(status, ExitStatus::Code(0), "{output}");
}

pub(crate) async fn test_too_long_requests_are_refused() {
    let lab = lab().await;
    let pod = pod(&lab).await;
    // The kernel takes 128 KiB for one text.
    let one = ProcessSpec { env: vec![("A".into(), "x".repeat(200 << 10).into())], ..command(&["/bin/sh"]) };
    let error = pod.spawn(one).await.unwrap_err();
    assert_eq!(error, SpawnError::ArgumentsTooLong { program: "/bin/sh".into() });
    let env: Vec<(OsString, OsString)> =
        (0..20).map(|n| (format!("A{n}").into(), "x".repeat(100 << 10).into())).collect();
    let error = pod.spawn(ProcessSpec { env, ..command(&["/bin/sh"]) }).await.unwrap_err();
    assert!(matches!(error, SpawnError::Sandbox(SandboxError::TooLarge { .. })), "{error}");
    // And the namespace serves on.
    assert_eq!(run(&pod, shell("echo on")).await.unwrap().0, "on\n");
}

pub(crate) async fn test_a_program_starts_with_clean_descriptors_and_signals() {
    let lab = lab().await;
    let pod = pod(&lab).await;
    // The fourth is the directory that `ls` itself reads.
    assert_eq!(output(&pod, MountSpace::Agent, "ls /proc/self/fd").await, "0\n1\n2\n3");
    assert_eq!(output(&pod, MountSpace::Agent, "readlink /proc/self/fd/0; pwd; umask").await, "/dev/null\n/\n0022");
    let signals = output(&pod, MountSpace::Agent, "grep -E 'Sig(Blk|Ign)' /proc/self/status").await;
    for line in signals.lines() {
        assert_eq!(line.split_whitespace().nth(1), Some("0000000000000000"), "{signals}");
    }
    let (environment, _) = run(&pod, command(&["env"])).await.unwrap();
    assert_eq!(environment.lines().count(), 1, "{environment}");
}

pub(crate) async fn test_programs_are_looked_up_in_the_new_path() {
    let lab = lab().await;
    let pod = pod(&lab).await;
    let directory = tempfile::tempdir().unwrap();
    fs::set_permissions(directory.path(), Permissions::from_mode(0o755)).unwrap();
    let program = directory.path().join("greet");
    fs::write(&program, "#!/bin/sh\necho \"$0 $1\"\n").unwrap();
    fs::set_permissions(&program, Permissions::from_mode(0o755)).unwrap();
    let path = format!("/nonexistent:{}", directory.path().display());
    let spec = ProcessSpec { env: vec![("PATH".into(), path.into())], ..command(&["greet", "world"]) };
    let (output, _) = run(&pod, spec).await.unwrap();
    assert_eq!(output, format!("{} world\n", program.display()));
    let relative = ProcessSpec { cwd: Some(directory.path().into()), ..command(&["./greet", "you"]) };
    assert_eq!(run(&pod, relative).await.unwrap().0, "./greet you\n");
}

pub(crate) async fn test_many_processes_start_at_the_same_time() {
    let lab = lab().await;
    let pod = pod(&lab).await;
    let mut tasks = tokio::task::JoinSet::new();
    for code in 0..100 {
        let pod = pod.clone();
        tasks.spawn(async move {
            let process = pod.spawn(shell(&format!("exit {code}"))).await.unwrap();
            (code, process.wait().await)
        });
    }
    while let Some(result) = tasks.join_next().await {
        let (code, status) = result.unwrap();
        assert_eq!(status, ExitStatus::Code(code));
    }
}

pub(crate) async fn test_a_terminal_becomes_the_controlling_terminal() {
    let lab = lab().await;
    let pod = pod(&lab).await;
    let terminal = nix::pty::openpty(None, None).unwrap();
    let stream = || Some(terminal.slave.try_clone().unwrap());
    let spec = ProcessSpec {
        stdin: stream(),
        stdout: stream(),
        stderr: stream(),
        terminal: true,
        ..shell("read line; echo \"got $line\" > /dev/tty; kill -INT 0; sleep 1000")
    };
    let process = pod.spawn(spec).await.unwrap();
    drop(terminal.slave);
    let mut master = File::from(terminal.master);
    master.write_all(b"hello\n").unwrap();
    assert_eq!(process.wait().await, ExitStatus::Signal(2));
    let mut shown = Vec::new();
    // The end of a terminal is an error (EIO), after everything that was written to it.
    let _ = master.read_to_end(&mut shown);
    let shown = String::from_utf8_lossy(&shown);
    assert!(shown.contains("got hello"), "{shown:?}");
}

pub(crate) async fn test_a_process_runs_as_the_user_that_was_asked_for() {
    let lab = lab().await;
    let pod = pod(&lab).await;
    let script = "id -u; id -g; id -G; grep CapEff /proc/self/status";
    let user = Some(Credentials { uid: 4711, gid: 4712, groups: vec![4712, 4713] });
    let (read_end, write_end) = std::io::pipe().unwrap();
    let spec = ProcessSpec { user, stdout: Some(write_end.into()), ..shell(script) };
    let process = pod.spawn(spec).await.unwrap();
    assert_eq!(process.ran_as_requested(), !lab.is_rootless());
    assert_eq!(process.wait().await, ExitStatus::Code(0));
    let shown = std::io::read_to_string(read_end).unwrap();
    let lines: Vec<&str> = shown.lines().collect();
    if is_root() {
        assert_eq!(lines[..3], ["4711", "4712", "4712 4713"]);
    } else {
        assert_eq!(lines[0], nix::unistd::geteuid().to_string());
    }
    // Root of a container has a user namespace too, in which it stays root.
    if is_root() || lines[0] != "0" {
        assert_eq!(lines[3], "CapEff:\t0000000000000000");
    }
}

// P-051
pub(crate) async fn test_a_container_ends_with_its_first_process() {
    let lab = lab().await;
    let pod = pod(&lab).await;
    let (marker, other) = (marker(), marker());
    let container = |script| ProcessSpec { mounts: MountSpace::New(Vec::new()), ..shell(script) };
    let neighbour = pod.spawn(marked(container("sleep 1000"), &other)).await.unwrap();
    let first = pod.spawn(marked(container("setsid sleep 1000 & (sleep 1000 &) ; sleep 1000"), &marker)).await.unwrap();
    let exec = ProcessSpec { mounts: MountSpace::Of(first.id()), ..shell("sleep 1000") };
    let exec = pod.spawn(marked(exec, &marker)).await.unwrap();
    eventually("all run", || sleepers_with(&marker), |count| *count == 4).await;
    first.signal(SIGKILL).await;
    assert_eq!(first.wait().await, ExitStatus::Signal(SIGKILL));
    assert_eq!(exec.wait().await, ExitStatus::Signal(SIGKILL));
    eventually("all are dead", || processes_with(&marker), Vec::is_empty).await;
    assert_eq!(neighbour.exit_status(), None);
    let late = ProcessSpec { mounts: MountSpace::Of(first.id()), ..shell("true") };
    assert_eq!(pod.spawn(late).await.unwrap_err(), SpawnError::NoSuchProcess);
}

// P-051
pub(crate) async fn test_a_signal_reaches_the_first_process_alone() {
    let lab = lab().await;
    let pod = pod(&lab).await;
    let marker = marker();
    let script = "trap 'exit 3' TERM; sleep 1000 & while :; do wait; done";
    let process = pod.spawn(marked(shell(script), &marker)).await.unwrap();
    eventually("its child runs", || sleepers_with(&marker), |count| *count == 1).await;
    process.signal(SIGTERM).await;
    assert_eq!(process.wait().await, ExitStatus::Code(3));
    assert_eq!(sleepers_with(&marker), 1, "its child was signalled as well");
}

pub(crate) async fn test_a_start_that_nobody_waits_for_is_undone() {
    let lab = lab().await;
    let pod = pod(&lab).await;
    // Given up at different moments: before the request is sent, on its way, and when it has just been answered.
    for patience in 0..40 {
        let spawn = pod.spawn(command(&["sleep", "1000"]));
        tokio::select! {
            biased;
            () = yield_times(patience) => {}
            started = spawn => started.unwrap().signal(SIGKILL).await,
        }
    }
    // In the end there are PID 1 and the shell that looks.
    let look = "for i in $(seq 600); do set -- /proc/[0-9]*; [ $# -le 2 ] && exit 0; sleep 0.05; done; ps -e; exit 1";
    output(&pod, MountSpace::Agent, look).await;
}

async fn yield_times(count: u32) {
    for _ in 0..count {
        tokio::task::yield_now().await;
    }
}

pub(crate) async fn test_what_forks_without_end_is_bounded_and_ends_with_its_container() {
    if !minisvc_sandbox::can_limit_processes() {
        println!("this kernel has no limit of processes for a namespace");
        return;
    }
    const LIMIT: u32 = 800;
    let lab = lab().await;
    let spec = NamespaceSpec { processes: Some(LIMIT), ..NamespaceSpec::new("bomb", "bomb") };
    let bomb = lab.make_namespace(spec).await.unwrap();
    // It starts another for as long as it can; the others wait, so that the machine need not suffer.
    let script = "n=0; while sleep 1000 & do n=$((n + 1)); [ $n -lt 2000 ] || exit 3; done 2>/dev/null; exit 4";
    let (_, status) = run(&bomb, ProcessSpec { mounts: MountSpace::New(Vec::new()), ..shell(script) }).await.unwrap();
    assert_ne!(status, ExitStatus::Code(3), "it could start 2000 processes");
    // The same, for ever: only a killer who lets nobody fork meanwhile gets all of them.
    let forever = "f() { f & f & }; f; exit 5";
    let (_, status) = run(&bomb, ProcessSpec { mounts: MountSpace::New(Vec::new()), ..shell(forever) }).await.unwrap();
    assert_eq!(status, ExitStatus::Code(5));
    let left = bomb.count_processes().await.unwrap();
    assert!(left < 50, "{left} processes are left");
    assert_eq!(output(&bomb, MountSpace::Agent, "echo usable again").await, "usable again");
    assert_eq!(output(&pod(&lab).await, MountSpace::Agent, "echo unharmed").await, "unharmed");
    lab.shutdown().await;
}
