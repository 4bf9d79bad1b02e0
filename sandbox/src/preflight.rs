//! What this machine lacks to run a lab, found by trying.
//!
//! The trial runs in a forked child, which may only make system calls, because the calling process may have threads.
#![expect(unsafe_code, reason = "forks a process that may have threads, so the child is restricted to system calls")]

use std::ffi::CStr;
use std::fmt;
use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsRawFd, RawFd};

use nix::libc;
use nix::sys::wait::waitpid;
use nix::unistd::{ForkResult, fork, getegid, geteuid, pipe};

use crate::sys;

/// Something this machine lacks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// What does not work, as a sentence.
    pub what: String,
    /// Why, as a sentence.
    pub why: String,
    /// A command that mends it, or advice.
    pub mend: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{} {} {}", self.what, self.why, self.mend)
    }
}

/// What this machine lacks to run a lab, each found by trying; empty if one can be launched.
pub fn preflight() -> Vec<Problem> {
    let mut problems: Vec<Problem> = check_kernel(sys::has_mount_setattr()).into_iter().collect();
    problems.extend(check_tun_node());
    match try_namespaces() {
        Ok(None) => {}
        Ok(Some(failure)) => problems.push(explain(failure)),
        Err(error) => problems.push(Problem {
            what: "The check for namespaces could not run.".into(),
            why: format!("The system says: {error}."),
            mend: "Free some processes or descriptors and try again.".into(),
        }),
    }
    problems
}

/// What this machine cannot do although labs run on it.
pub fn remarks() -> Vec<Problem> {
    let unlimited = || {
        Problem {
        what: "The number of processes of a pod is not limited.".into(),
        why: "This kernel counts processes for the whole machine only, so a program that forks without end takes all of it.".into(),
        mend: format!(
            "Use Linux 6.14 or later, or start minisvc below a limit: systemd-run {}--scope -p Delegate=yes -p TasksMax=8192 minisvc up",
            if geteuid().is_root() { "" } else { "--user " }
        ),
    }
    };
    let mut remarks: Vec<Problem> = (!crate::can_limit_processes()).then(unlimited).into_iter().collect();
    remarks.extend(crate::cgroups::remarks());
    remarks
}

fn check_kernel(has_mount_setattr: bool) -> Option<Problem> {
    let missing = || Problem {
        what: "This kernel is too old.".into(),
        why: "It lacks mount_setattr(2), which came with Linux 5.12.".into(),
        mend: "Use Linux 5.12 or later.".into(),
    };
    (!has_mount_setattr).then(missing)
}

fn check_tun_node() -> Option<Problem> {
    let error = File::options().read(true).write(true).open("/dev/net/tun").err()?;
    let what = "The TUN node /dev/net/tun cannot be opened.".to_owned();
    let (why, mend) = match error.raw_os_error() {
        Some(libc::ENOENT) => ("It does not exist.".to_owned(), "sudo mkdir -p /dev/net && sudo mknod -m 0666 /dev/net/tun c 10 200"),
        Some(libc::EACCES) => (
            "You may not read and write it. It gives nobody power over the machine's own network, and is open to everyone on most \
             distributions."
                .to_owned(),
            "sudo chmod 0666 /dev/net/tun    # until the next boot; to keep it: echo 'KERNEL==\"tun\", MODE=\"0666\"' | sudo tee \
             /etc/udev/rules.d/60-tun.rules",
        ),
        Some(libc::ENODEV | libc::ENXIO) => ("The kernel has no TUN driver loaded.".to_owned(), "sudo modprobe tun"),
        Some(libc::EPERM) => (
            "A container or a service manager forbids it.".to_owned(),
            "Start the container with `--device /dev/net/tun`.",
        ),
        _ => (format!("The system says: {error}."), "Ask whoever looks after this machine."),
    };
    Some(Problem { what, why, mend: mend.to_owned() })
}

/// Where the trial stopped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Step {
    Namespaces,
    UserNamespace,
    Mapping,
    Mount,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Failure {
    step: Step,
    errno: i32,
}

const STEPS: [Step; 4] = [Step::Namespaces, Step::UserNamespace, Step::Mapping, Step::Mount];

fn try_namespaces() -> io::Result<Option<Failure>> {
    // Allocated before the fork: the child may not.
    let (uid, gid) = (geteuid(), getegid());
    let maps = [
        ("/proc/self/setgroups\0", "deny".to_owned()),
        ("/proc/self/uid_map\0", format!("{uid} {uid} 1")),
        ("/proc/self/gid_map\0", format!("{gid} {gid} 1")),
    ];
    let (read_end, write_end) = pipe()?;
    // SAFETY: the child calls `attempt`, which makes system calls only and does not return.
    match unsafe { fork() }? {
        ForkResult::Child => attempt(uid.is_root(), &maps, write_end.as_raw_fd()),
        ForkResult::Parent { child } => {
            drop(write_end);
            let mut report = Vec::new();
            File::from(read_end).read_to_end(&mut report)?;
            // Someone else's SIGCHLD handler may have reaped it; the report is what counts.
            let _ = waitpid(child, None);
            Ok(parse(&report))
        }
    }
}

fn parse(report: &[u8]) -> Option<Failure> {
    let (step, errno) = report.split_first()?;
    let step = *STEPS.get(usize::from(*step))?;
    Some(Failure { step, errno: i32::from_ne_bytes(errno.try_into().ok()?) })
}

/// Does what the helper does, and reports a failure as the step's number and the error number.
fn attempt(root: bool, maps: &[(&str, String); 3], report: RawFd) -> ! {
    let own = libc::CLONE_NEWNS | libc::CLONE_NEWNET | libc::CLONE_NEWPID | libc::CLONE_NEWIPC | libc::CLONE_NEWUTS;
    // SAFETY: all of it is system calls with numbers, with strings that end with a zero, or with lengths of live slices. Each is
    // async-signal-safe, which is what the child of a process with threads is limited to.
    unsafe {
        let mut rootless = !root;
        if root && libc::unshare(own) != 0 {
            if *libc::__errno_location() != libc::EPERM {
                fail(0, report);
            }
            rootless = true;
        }
        if rootless {
            if libc::unshare(own | libc::CLONE_NEWUSER) != 0 {
                fail(1, report);
            }
            for (path, text) in maps {
                let fd = libc::open(path.as_ptr().cast(), libc::O_WRONLY | libc::O_CLOEXEC);
                if fd < 0 || libc::write(fd, text.as_ptr().cast(), text.len()) < 0 {
                    fail(2, report);
                }
            }
        }
        let root_path: &CStr = c"/";
        let none = std::ptr::null();
        if libc::mount(none, root_path.as_ptr(), none, libc::MS_REC | libc::MS_PRIVATE, none.cast()) != 0 {
            fail(3, report);
        }
        libc::_exit(0)
    }
}

/// Reports and ends the child.
///
/// # Safety
/// To be called in the child only, right after the system call that failed.
unsafe fn fail(step: u8, report: RawFd) -> ! {
    // SAFETY: errno is this thread's; the buffer is as long as stated; both calls are async-signal-safe.
    unsafe {
        let [a, b, c, d] = (*libc::__errno_location()).to_ne_bytes();
        let bytes = [step, a, b, c, d];
        libc::write(report, bytes.as_ptr().cast(), bytes.len());
        libc::_exit(1)
    }
}

fn explain(failure: Failure) -> Problem {
    let read = |name: &str| std::fs::read_to_string(format!("/proc/sys/{name}")).ok();
    explain_with(failure, &read)
}

/// The settings only explain what was tried.
fn explain_with(failure: Failure, setting: &dyn Fn(&str) -> Option<String>) -> Problem {
    let is = |name: &str, value: &str| setting(name).is_some_and(|found| found.trim() == value);
    let what = match failure.step {
        Step::Namespaces => "Namespaces cannot be made.",
        Step::UserNamespace | Step::Mapping => "User namespaces cannot be made by an ordinary user.",
        Step::Mount => "Nothing can be mounted in a new user namespace.",
    };
    let (why, mend) = if is("kernel/apparmor_restrict_unprivileged_userns", "1") && failure.step != Step::Namespaces {
        (
            "AppArmor restricts them (kernel.apparmor_restrict_unprivileged_userns is 1, as on Ubuntu).".to_owned(),
            "sudo sysctl -w kernel.apparmor_restrict_unprivileged_userns=0    # or run minisvc with sudo",
        )
    } else if is("kernel/unprivileged_userns_clone", "0") {
        (
            "They are reserved for root (kernel.unprivileged_userns_clone is 0).".to_owned(),
            "sudo sysctl -w kernel.unprivileged_userns_clone=1    # or run minisvc with sudo",
        )
    } else if is("user/max_user_namespaces", "0") {
        (
            "They are switched off (user.max_user_namespaces is 0).".to_owned(),
            "sudo sysctl -w user.max_user_namespaces=15000    # or run minisvc with sudo",
        )
    } else {
        let error = io::Error::from_raw_os_error(failure.errno);
        (
            format!("The system says: {error}. Inside a container, its security profile is the usual reason."),
            "Run minisvc with sudo; in a container, start it with `--privileged` or with `--security-opt seccomp=unconfined --cap-add SYS_ADMIN`.",
        )
    };
    Problem { what: what.to_owned(), why, mend: mend.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_failure_is_explained_by_the_setting_behind_it() {
        for (step, set, mend) in [
            (
                Step::Mount,
                ("kernel/apparmor_restrict_unprivileged_userns", "1\n"),
                "apparmor_restrict_unprivileged_userns=0",
            ),
            (Step::UserNamespace, ("kernel/unprivileged_userns_clone", "0\n"), "unprivileged_userns_clone=1"),
            (Step::UserNamespace, ("user/max_user_namespaces", "0\n"), "max_user_namespaces="),
            (Step::Namespaces, ("user/max_user_namespaces", "15000\n"), "--privileged"),
        ] {
            let failure = Failure { step, errno: libc::EPERM };
            let problem = explain_with(failure, &|name| (name == set.0).then(|| set.1.to_owned()));
            assert!(problem.mend.contains(mend), "{problem}");
        }
    }

    #[test]
    fn an_old_kernel_is_named() {
        assert!(check_kernel(false).is_some_and(|problem| problem.why.contains("5.12")));
        assert_eq!(check_kernel(true), None);
    }

    #[test]
    fn a_report_survives_the_pipe() {
        let mut report = vec![3];
        report.extend(libc::EACCES.to_ne_bytes());
        assert_eq!(parse(&report), Some(Failure { step: Step::Mount, errno: libc::EACCES }));
        assert_eq!(parse(&[]), None);
    }
}
