//! A disk that is really full: a tmpfs of a few megabytes in a mount namespace of this process.
//!
//! Without the usual test harness, because only a process with a single thread may enter a user namespace.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails by panicking")]
#![allow(clippy::print_stdout, reason = "this is the test harness")]

mod common;

use std::fs;
use std::path::Path;

use common::*;
use minisvc_store::{CommitError, SledBackend, SledOptions, Store};
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sched::{CloneFlags, unshare};

const NAME: &str = "a_full_disk_is_an_error_and_not_the_end";

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let has = |wanted: &str| arguments.iter().any(|argument| argument == wanted);
    // What test runners ask of a test binary.
    if has("--list") {
        if !has("--ignored") {
            println!("{NAME}: test");
        }
        return;
    }
    let filters: Vec<&String> = arguments.iter().filter(|argument| !argument.starts_with('-')).collect();
    if has("--ignored") || !filters.is_empty() && !filters.iter().any(|filter| NAME.contains(filter.as_str())) {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    mount_small(directory.path());
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    runtime.block_on(a_full_disk_is_an_error_and_not_the_end(directory.path()));
    umount2(directory.path(), MntFlags::MNT_DETACH).unwrap();
    println!("test {NAME} ... ok");
}

/// Mounts 24 MiB on `target`, for this process alone.
fn mount_small(target: &Path) {
    let (uid, gid) = (nix::unistd::geteuid(), nix::unistd::getegid());
    let namespaces =
        if uid.is_root() { CloneFlags::CLONE_NEWNS } else { CloneFlags::CLONE_NEWUSER | CloneFlags::CLONE_NEWNS };
    unshare(namespaces).expect("this test needs a mount namespace; see `minisvc doctor`");
    if !uid.is_root() {
        // Files need an owner, and an unmapped user is none (user_namespaces(7)).
        fs::write("/proc/self/setgroups", "deny").unwrap();
        fs::write("/proc/self/uid_map", format!("0 {uid} 1")).unwrap();
        fs::write("/proc/self/gid_map", format!("0 {gid} 1")).unwrap();
    }
    let nothing = None::<&Path>;
    mount(nothing, "/", nothing, MsFlags::MS_REC | MsFlags::MS_PRIVATE, nothing).unwrap();
    mount(Some("tmpfs"), target, Some("tmpfs"), MsFlags::empty(), Some("size=24m")).unwrap();
}

async fn a_full_disk_is_an_error_and_not_the_end(directory: &Path) {
    let ballast = directory.join("ballast");
    fs::write(&ballast, vec![0; 8 << 20]).unwrap();
    let open = || {
        let backend = SledBackend::open(&directory.join("state"), SledOptions::default()).unwrap();
        Store::open(backend, options()).unwrap()
    };
    let store = open();
    let large = noise(500_000);
    let mut watch = store.watch("pods", store.revision()).unwrap();
    let mut written = 0;
    let refused = loop {
        match create(&store, &pod(&format!("large-{written}")), &large).await {
            Ok(_) => written += 1,
            Err(error) => break error,
        }
        assert!(written < 100, "24 MiB do not hold this");
    };
    assert!(matches!(refused, CommitError::Backend(_)), "{refused:?}");
    // Again, with the database closed by the first failure.
    assert!(create(&store, &pod("again"), &large).await.is_err());
    // Nothing of it is visible, and what was written before is.
    assert_eq!(store.list("pods", None).0.len(), written);
    for _ in 0..written {
        next(&mut watch).await;
    }
    assert!(watch.try_next().unwrap().is_none());

    // Somebody makes room, and writing goes on.
    fs::remove_file(&ballast).unwrap();
    create(&store, &pod("small"), "after").await.unwrap();
    let expected = listing(&store, "pods", None);
    assert_eq!(expected.len(), written + 1);
    within(store.close()).await;
    assert_eq!(listing(&open(), "pods", None), expected);
}
