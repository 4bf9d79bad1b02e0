//! Directories of labs that have ended.

use std::fs;
use std::path::{Path, PathBuf};
use std::thread::sleep;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::{Pid, getpid};

use super::MAIN;
use super::place::Machine;

/// How all of our directories begin.
const PREFIX: &str = "minisvc-";
/// How long the processes of a lab may take to die.
const DEATH_LIMIT: Duration = Duration::from_secs(5);
/// Groups below groups that are searched; what systemd and container engines make is less deep.
const DEPTH_LIMIT: usize = 10;
/// Groups that are searched at most.
const SEARCH_LIMIT: usize = 20_000;

/// What the directory of a lab of this process is called. It names the process, so that nobody takes the directory for an abandoned
/// one, by its number and, because numbers come again, by when it was started.
pub(super) fn directory_name(lab: &str) -> String {
    let lab: String = lab.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '-' }).collect();
    let pid = std::process::id();
    format!("{PREFIX}{lab}.{pid}.{}", started(pid).unwrap_or_default())
}

/// When a process was started, in ticks since the machine was.
fn started(pid: u32) -> Option<u64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name before may have any character.
    stat.rsplit_once(')')?.1.split_ascii_whitespace().nth(19)?.parse().ok()
}

/// Whether it is a lab's directory and its process is not there any more.
fn is_abandoned(name: &str, started: impl Fn(u32) -> Option<u64>) -> bool {
    let parts = name.strip_prefix(PREFIX).and_then(|rest| {
        let mut parts = rest.rsplitn(3, '.');
        let (start, pid) = (parts.next()?.parse::<u64>().ok()?, parts.next()?.parse::<u32>().ok()?);
        parts.next().map(|_lab| (pid, start))
    });
    parts.is_some_and(|(pid, start)| started(pid) != Some(start))
}

/// Directories of control groups that are left of labs whose processes were all killed.
pub fn abandoned_groups() -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut searched = 0;
    for top in Machine::read().tops() {
        search(top, DEPTH_LIMIT, &mut searched, &mut found);
    }
    found
}

/// Removes [`abandoned_groups`]; those that cannot be removed yet stay for the next time.
pub fn remove_abandoned_groups() {
    for directory in abandoned_groups() {
        let removed = remove_tree(&directory, true);
        tracing::debug!(directory = %directory.display(), removed, "left of an earlier lab");
    }
}

fn search(directory: &Path, depth: usize, searched: &mut usize, found: &mut Vec<PathBuf>) {
    for (name, path) in below(directory) {
        if name.starts_with(PREFIX) {
            if is_abandoned(&name, started) {
                found.push(path);
            }
        } else if depth > 0 && *searched < SEARCH_LIMIT {
            *searched += 1;
            search(&path, depth - 1, searched, found);
        }
    }
}

/// Kills what is left of the lab whose PID 1 this is, and removes its groups. For the helper, when the main process is gone.
pub(crate) fn end_lab(directories: &[PathBuf]) {
    // Anywhere else everybody would be killed.
    if getpid().as_raw() != 1 || !directories.iter().any(|directory| directory.exists()) {
        return;
    }
    // An error means that nobody is left.
    let _ = kill(Pid::from_raw(-1), Signal::SIGKILL);
    remove(directories);
}

/// Removes groups whose processes are dead or about to die.
pub(super) fn remove(directories: &[PathBuf]) {
    let given_up = Instant::now() + DEATH_LIMIT;
    // The helper is in the main process's group itself, if there is one, and cannot remove it.
    while !directories.iter().all(|directory| remove_tree(directory, false)) && Instant::now() < given_up {
        sleep(Duration::from_millis(2));
    }
}

/// Removes a group and all below it; true if it is gone, or has nothing but the main process's group in it.
fn remove_tree(directory: &Path, with_main: bool) -> bool {
    let mut empty = true;
    for (name, path) in below(directory) {
        if with_main || name != MAIN {
            empty &= remove_tree(&path, true);
        }
    }
    // The files of a group are no obstacle.
    let removed = fs::remove_dir(directory).is_ok() || !directory.exists();
    removed || (empty && !with_main && directory.join(MAIN).exists())
}

fn below(directory: &Path) -> Vec<(String, PathBuf)> {
    let entries = fs::read_dir(directory).into_iter().flatten().flatten();
    let groups = entries.filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()));
    groups.filter_map(|entry| Some((entry.file_name().into_string().ok()?, entry.path()))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_directories_of_dead_labs_are_abandoned() {
        let own = directory_name("web/1");
        assert!(own.starts_with("minisvc-web-1."), "{own}");
        assert!(!is_abandoned(&own, started), "we live");
        let with = |pid: u32| (pid == 17).then_some(400);
        for (name, expected) in [
            ("minisvc-web.17.400", false),
            // The number has come again.
            ("minisvc-web.17.399", true),
            ("minisvc-web.18.400", true),
            ("minisvc-a.b.18.400", true),
            ("minisvc-web", false),
            ("minisvc-web.18", false),
            ("minisvc-18.400", false),
            ("user.18.400", false),
        ] {
            assert_eq!(is_abandoned(name, with), expected, "{name}");
        }
    }

    #[test]
    fn a_tree_is_removed_but_for_the_group_of_the_main_process() {
        let top = tempfile::tempdir().expect("a temporary folder");
        let lab = top.path().join("minisvc-x.1.1");
        for group in ["main", "pod-1/a.0", "pod-1/b.0"] {
            fs::create_dir_all(lab.join(group)).expect("made");
        }
        assert!(remove_tree(&lab, false));
        assert_eq!(below(&lab).iter().map(|(name, _)| name.as_str()).collect::<Vec<_>>(), ["main"]);
        assert!(remove_tree(&lab, true) && !lab.exists());
        assert!(remove_tree(&lab, true), "a second time");
    }
}
