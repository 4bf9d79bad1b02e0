//! The first thing a newcomer types, as root and as an ordinary user.

mod common;

use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use common::{MINISVC, eventually};

/// The story that the demo tells, in the order it must be told.
const STORY: [&str; 12] = [
    "the API answers at https://127.0.0.1:",
    "names of *.cluster.local resolve at 10.96.0.10",
    "1 of 1 nodes are ready for pods",
    "deployment.apps/hello created",
    "service/hello created",
    "is ready at 10.244.0.",
    "hello.default.svc.cluster.local is 10.96.",
    "requests to http://10.96.",
    "is no endpoint any more",
    "goes on answering",
    "takes its place",
    "no process, interface, route or file is left",
];

fn check(output: &Output) {
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{}\n{text}", output.status);
    let mut rest = text.as_str();
    for sentence in STORY {
        let at = rest.find(sentence);
        rest = &rest[at.unwrap_or_else(|| panic!("{sentence:?} is missing, or told too early:\n{text}"))..];
    }
    let line = |start: &str| text.lines().find(|line| line.trim_start().starts_with(start)).map(str::to_owned);
    let pods = line("pod ").expect("the pods are compared");
    let [old, new] = [pods.split("->").next(), pods.split("->").nth(1)].map(|side| side.expect("two sides").trim());
    let last = |side: &str| side.split_whitespace().last().map(str::to_owned).expect("an address");
    assert_ne!(last(old), last(new), "the replacement has another address: {pods}");
    assert!(text.contains(" 0 failed"), "{text}");
}

fn folders_of_demos() -> usize {
    let entries = std::fs::read_dir(std::env::temp_dir()).expect("readable");
    entries.flatten().filter(|entry| entry.file_name().to_string_lossy().starts_with("minisvc-demo-")).count()
}

// P-001, S-032
#[test]
fn the_demo_tells_its_story_and_leaves_nothing() {
    let interfaces = || std::fs::read_dir("/sys/class/net").expect("readable").count();
    let before = interfaces();
    let output = Command::new(MINISVC).args(["demo", "--fast"]).stdin(Stdio::null()).output().expect("started");
    check(&output);
    assert_eq!(interfaces(), before, "an interface was left on the host");
    eventually("the folders of the demos to be gone", || (folders_of_demos() == 0).then_some(()));
}

/// Runs the demo as the user `nobody`, in a mount namespace where the TUN device node may be used by everyone, as it may on
/// ordinary machines.
fn as_nobody(folder: &Path) -> Output {
    let program = folder.join("minisvc");
    std::fs::copy(MINISVC, &program).expect("copied");
    for path in [folder, &program] {
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o755)).expect("readable for everyone");
    }
    let script = "set -e; mknod \"$1/tun\" c 10 200; chmod 0666 \"$1/tun\"; mount --bind \"$1/tun\" /dev/net/tun; \
                  mkdir -m 0777 \"$1/tmp\"; export TMPDIR=\"$1/tmp\" HOME=\"$1/tmp\"; \
                  exec setpriv --reuid 65534 --regid 65534 --clear-groups \"$1/minisvc\" demo --fast";
    let mut command = Command::new("unshare");
    command.args(["--mount", "sh", "-c", script, "sh"]).arg(folder).stdin(Stdio::null());
    command.output().expect("unshare, of util-linux, is there")
}

#[test]
fn an_ordinary_user_needs_no_root_for_the_demo() {
    if !nix::unistd::geteuid().is_root() {
        // Then the other test has shown it already.
        return;
    }
    let folder = tempfile::Builder::new().prefix("minisvc-nobody-").tempdir_in("/tmp").expect("a temporary folder");
    check(&as_nobody(folder.path()));
}

#[test]
fn what_the_machine_lacks_is_said_with_the_command_that_mends_it() {
    if !nix::unistd::geteuid().is_root() {
        return;
    }
    // The same user, but with the device node as closed as it is on this machine or closed here.
    let script = "mount -t tmpfs none /dev/net && exec setpriv --reuid 65534 --regid 65534 --clear-groups \"$1\" demo";
    let folder = tempfile::Builder::new().prefix("minisvc-lacks-").tempdir_in("/tmp").expect("a temporary folder");
    let program = folder.path().join("minisvc");
    std::fs::copy(MINISVC, &program).expect("copied");
    for path in [folder.path(), &program] {
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o755)).expect("readable for everyone");
    }
    let mut command = Command::new("unshare");
    command.args(["--mount", "sh", "-c", script, "sh"]).arg(&program).stdin(Stdio::null());
    let output = command.output().expect("started");
    let text = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{text}");
    assert!(text.contains("/dev/net/tun") && text.contains("hint: "), "{text}");
}
