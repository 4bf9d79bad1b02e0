//! The processes an agent knows, and the rest of a container.

use std::collections::BTreeSet;
use std::os::fd::OwnedFd;
use std::os::unix::fs::MetadataExt;

use nix::sys::signal::{Signal, kill};
use nix::sys::stat::fstat;
use nix::unistd::Pid;

use crate::agent::limits::ProcessLimit;
use crate::spec::ExitStatus;

/// Rounds of killing after which the container must be one that forks faster than it dies.
const PATIENT_ROUNDS: u32 = 3;

/// Forked; has not yet said that its program runs, or why not.
pub(super) struct Starting {
    /// The request to be answered.
    pub(super) id: u64,
    pub(super) pid: Pid,
    /// Says the mount space, then nothing on success or the error.
    pub(super) channel: OwnedFd,
    pub(super) space: Option<OwnedFd>,
    pub(super) owns_space: bool,
    /// Of its control group.
    pub(super) doors: Vec<OwnedFd>,
    pub(super) ran_as_requested: bool,
    /// It has ended already, and was reaped.
    pub(super) ended: Option<ExitStatus>,
}

/// Runs its program, and was reported.
pub(super) struct Running {
    pub(super) process: u64,
    /// Its mount namespace; `None` if it is the agent's.
    pub(super) space: Option<OwnedFd>,
    /// The space was made for it, and ends with it.
    pub(super) owns_space: bool,
    /// Of its control group, for those that are started in its space later.
    pub(super) doors: Vec<OwnedFd>,
}

/// Kills every process in the mount namespace: what is left of a container when its first process has ended.
///
/// A process that made a mount namespace of its own is not found, and lives until the whole namespace is removed.
pub(super) fn kill_all_in(space: &OwnedFd, limit: ProcessLimit) {
    let Ok(space) = fstat(space) else { return };
    let mut killed = BTreeSet::new();
    let mut rounds = 0;
    // Until a round finds nobody new: a process may fork while we look, but its child is found in the next round.
    loop {
        let found: Vec<i32> = processes_in(space.st_dev, space.st_ino).filter(|pid| !killed.contains(pid)).collect();
        if found.is_empty() {
            if rounds > PATIENT_ROUNDS {
                limit.release();
            }
            return;
        }
        rounds += 1;
        if rounds == PATIENT_ROUNDS + 1 {
            limit.hold();
            // Numbers have come round meanwhile: what has one of these may be another.
            killed.clear();
            continue;
        }
        for pid in found {
            // An error means that it has just ended by itself.
            let _ = kill(Pid::from_raw(pid), Signal::SIGKILL);
            killed.insert(pid);
        }
    }
}

/// How many processes the namespace has.
pub(super) fn count() -> usize {
    let entries = std::fs::read_dir("/proc").into_iter().flatten().flatten();
    entries.filter(|entry| entry.file_name().to_str().is_some_and(|name| name.parse::<u32>().is_ok())).count()
}

fn processes_in(device: u64, inode: u64) -> impl Iterator<Item = i32> {
    let entries = std::fs::read_dir("/proc").into_iter().flatten().flatten();
    entries.filter_map(move |entry| {
        let pid: i32 = entry.file_name().to_str()?.parse().ok()?;
        let space = std::fs::metadata(entry.path().join("ns/mnt")).ok()?;
        (space.dev() == device && space.ino() == inode).then_some(pid)
    })
}
