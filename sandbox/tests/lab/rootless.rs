//! The same checks as an ordinary user.

use std::convert::Infallible;
use std::ffi::{CStr, CString};
use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, ExitCode};

use minisvc_sandbox::preflight;
use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};
use nix::sys::stat::{Mode, SFlag, makedev, mknod};
use nix::unistd::{Gid, Uid, execv, setgroups, setresgid, setresuid};

use crate::support::is_root;

const NOBODY: u32 = 65534;

pub(crate) async fn test_this_machine_lacks_nothing() {
    let problems = tokio::task::spawn_blocking(preflight).await.unwrap();
    assert!(problems.is_empty(), "{problems:?}");
}

pub(crate) async fn test_everything_holds_without_root() {
    if !is_root() {
        // It does already: this is the run without root.
        return;
    }
    // Where nobody may read and execute it.
    let directory = tempfile::tempdir().unwrap();
    fs::set_permissions(directory.path(), Permissions::from_mode(0o755)).unwrap();
    let program = directory.path().join("lab");
    fs::copy("/proc/self/exe", &program).unwrap();
    fs::set_permissions(&program, Permissions::from_mode(0o755)).unwrap();
    let run = move || Command::new("/proc/self/exe").arg("__without-root").arg(&program).output().unwrap();
    let output = tokio::task::spawn_blocking(run).await.unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{text}\n{}", String::from_utf8_lossy(&output.stderr));
    assert!(text.contains("test result: ok."), "{text}");
}

pub(crate) async fn test_what_this_machine_lacks_is_explained() {
    // Only root can make a node that is closed to others.
    let closed: &[(&str, &str)] = if is_root() { &[("closed-tun", "chmod 0666 /dev/net/tun")] } else { &[] };
    for (lack, mend) in [("no-user-namespaces", "user.max_user_namespaces=")].iter().chain(closed) {
        let run = || Command::new("/proc/self/exe").args(["__problems", lack]).output().unwrap();
        let output = run();
        let text = String::from_utf8_lossy(&output.stdout);
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        assert!(text.lines().count() == 1 && text.contains(mend), "{lack}: {text}");
    }
}

/// What a user is told whose machine keeps the TUN node for root.
pub(crate) fn problems_with_a_closed_tun() -> Option<ExitCode> {
    cover_tun_node(&std::env::temp_dir(), 0o600);
    drop_root();
    // Executed anew, because the kernel does not trust a process that was root with a user namespace.
    execute(c"/proc/self/exe", &[c"lab", c"__problems", c"as-we-are"])
}

/// What a user is told where `user.max_user_namespaces` is 0, which is tried in a user namespace that has its own.
pub(crate) fn problems_without_user_namespaces() -> ExitCode {
    let outside = nix::unistd::geteuid();
    unshare(CloneFlags::CLONE_NEWUSER).unwrap();
    fs::write("/proc/self/uid_map", format!("1000 {outside} 1")).unwrap();
    fs::write("/proc/sys/user/max_user_namespaces", "0").unwrap();
    print_problems()
}

pub(crate) fn print_problems() -> ExitCode {
    for problem in preflight() {
        println!("{problem}");
    }
    ExitCode::SUCCESS
}

/// Becomes `nobody`, who may open the TUN node as on most distributions, and runs the checks.
pub(crate) fn become_nobody(program: &str) -> Option<ExitCode> {
    let place = Path::new(program).parent().unwrap().join("dev");
    fs::create_dir(&place).unwrap();
    cover_tun_node(&place, 0o666);
    drop_root();
    let program = CString::new(program).unwrap();
    execute(&program, &[&program])
}

fn execute(program: &CStr, args: &[&CStr]) -> Option<ExitCode> {
    let result: nix::Result<Infallible> = execv(program, args);
    panic!("cannot execute {program:?}: {result:?}");
}

/// Puts a TUN node of this mode over the machine's, for this process and its children.
fn cover_tun_node(place: &Path, mode: u32) {
    let none: Option<&str> = None;
    unshare(CloneFlags::CLONE_NEWNS).unwrap();
    mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_PRIVATE, none).unwrap();
    mount(Some("tmpfs"), place, Some("tmpfs"), MsFlags::empty(), none).unwrap();
    let node = place.join("tun");
    mknod(&node, SFlag::S_IFCHR, Mode::empty(), makedev(10, 200)).unwrap();
    fs::set_permissions(&node, Permissions::from_mode(mode)).unwrap();
    mount(Some(&node), "/dev/net/tun", none, MsFlags::MS_BIND, none).unwrap();
}

fn drop_root() {
    setgroups(&[]).unwrap();
    let (uid, gid) = (Uid::from_raw(NOBODY), Gid::from_raw(NOBODY));
    setresgid(gid, gid, gid).unwrap();
    setresuid(uid, uid, uid).unwrap();
}
