//! The same checks as an ordinary user.

use std::convert::Infallible;
use std::ffi::CString;
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

/// Becomes `nobody`, who may open the TUN node as on most distributions, and runs the checks.
pub(crate) fn become_nobody(program: &str) -> Option<ExitCode> {
    let none: Option<&str> = None;
    unshare(CloneFlags::CLONE_NEWNS).unwrap();
    mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_PRIVATE, none).unwrap();
    let place = Path::new(program).parent().unwrap().join("dev");
    fs::create_dir(&place).unwrap();
    mount(Some("tmpfs"), &place, Some("tmpfs"), MsFlags::empty(), none).unwrap();
    let node = place.join("tun");
    mknod(&node, SFlag::S_IFCHR, Mode::from_bits_truncate(0o666), makedev(10, 200)).unwrap();
    fs::set_permissions(&node, Permissions::from_mode(0o666)).unwrap();
    mount(Some(&node), "/dev/net/tun", none, MsFlags::MS_BIND, none).unwrap();
    setgroups(&[]).unwrap();
    let (uid, gid) = (Uid::from_raw(NOBODY), Gid::from_raw(NOBODY));
    setresgid(gid, gid, gid).unwrap();
    setresuid(uid, uid, uid).unwrap();
    let program = CString::new(program).unwrap();
    let result: nix::Result<Infallible> = execv(&program, &[&program]);
    panic!("cannot execute the copy: {result:?}");
}
