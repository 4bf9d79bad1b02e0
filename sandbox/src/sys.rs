//! The few system calls that neither std nor nix wraps, as safe functions.
#![expect(unsafe_code, reason = "raw system calls: forking into new namespaces, pidfds")]

use std::ffi::{CStr, CString, OsStr};
use std::io;
use std::os::fd::{AsFd, AsRawFd, FromRawFd, IntoRawFd, OwnedFd, RawFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use nix::libc;
use nix::sched::CloneFlags;
use nix::sys::signal::SigSet;
use nix::unistd::{ForkResult, Pid};

use crate::spec::ExitStatus;

/// Forks this single-threaded process, with further flags of clone(2); the child goes on from here.
///
/// glibc does not know of this fork: its cached thread id in the child is stale until the child forks or executes, which matters to
/// nothing used here.
pub(crate) fn fork_with(flags: CloneFlags) -> io::Result<ForkResult> {
    let flags = libc::c_long::from(flags.bits() | libc::SIGCHLD);
    // SAFETY: no stack and no pointers are passed, so this is a fork: the child gets a copy of all memory. Every caller is
    // single-threaded (the helper and the agents never start a thread), so no lock can be held by a thread that is not copied.
    let pid = unsafe { libc::syscall(libc::SYS_clone, flags, 0, 0, 0, 0) };
    match i32::try_from(pid) {
        Ok(0) => Ok(ForkResult::Child),
        Ok(pid) if pid > 0 => Ok(ForkResult::Parent { child: Pid::from_raw(pid) }),
        _ => Err(io::Error::last_os_error()),
    }
}

/// Closes every descriptor but 0, 1, 2 and `keep`, which becomes number 3 and is closed on exec.
///
/// For a process that has just forked and never returns to the frames that own the others: nothing may use those afterwards.
pub(crate) fn close_all_but(keep: OwnedFd) -> io::Result<OwnedFd> {
    const KEPT: RawFd = 3;
    let old = keep.into_raw_fd();
    // SAFETY: numbers only. What had number 3 before belongs to a frame that never runs again (see above).
    if old != KEPT && unsafe { libc::dup3(old, KEPT, libc::O_CLOEXEC) } < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: as before, nothing above 3 is used again in this process.
    if unsafe { libc::close_range(4, libc::c_uint::MAX, 0) } < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: open since dup3, and owned by nobody else.
    Ok(unsafe { OwnedFd::from_raw_fd(KEPT) })
}

/// A descriptor of a process, readable once the process has ended.
pub(crate) fn pidfd_open(pid: Pid) -> io::Result<OwnedFd> {
    // SAFETY: the call takes two numbers.
    let fd = unsafe { libc::syscall(libc::SYS_pidfd_open, pid.as_raw(), 0) };
    match RawFd::try_from(fd) {
        // SAFETY: the kernel opened it just now for us.
        Ok(fd) if fd >= 0 => Ok(unsafe { OwnedFd::from_raw_fd(fd) }),
        _ => Err(io::Error::last_os_error()),
    }
}

/// The next child that has ended, if any has; also one that a realtime signal killed, which nix's `waitpid` cannot name.
pub(crate) fn reap() -> io::Result<Option<(Pid, ExitStatus)>> {
    let mut status = 0;
    loop {
        // SAFETY: `status` is valid for writing.
        let pid = unsafe { libc::waitpid(-1, &raw mut status, libc::WNOHANG) };
        if pid > 0 && libc::WIFEXITED(status) {
            return Ok(Some((Pid::from_raw(pid), ExitStatus::Code(libc::WEXITSTATUS(status)))));
        }
        if pid > 0 && libc::WIFSIGNALED(status) {
            return Ok(Some((Pid::from_raw(pid), ExitStatus::Signal(libc::WTERMSIG(status)))));
        }
        if pid == 0 {
            return Ok(None);
        }
        if pid < 0 {
            let error = io::Error::last_os_error();
            match error.raw_os_error() {
                Some(libc::EINTR) => {}
                Some(libc::ECHILD) => return Ok(None),
                _ => return Err(error),
            }
        }
    }
}

/// Sends a signal, of any number, to a child that is not reaped yet; one that has ended is no error.
pub(crate) fn kill(pid: Pid, signal: i32) -> io::Result<()> {
    // SAFETY: numbers only.
    if unsafe { libc::kill(pid.as_raw(), signal) } == 0 {
        return Ok(());
    }
    let error = io::Error::last_os_error();
    if error.raw_os_error() == Some(libc::ESRCH) { Ok(()) } else { Err(error) }
}

/// Ignores a signal, or gives it back its default action.
pub(crate) fn ignore_signal(signal: libc::c_int, ignored: bool) -> io::Result<()> {
    let action = if ignored { libc::SIG_IGN } else { libc::SIG_DFL };
    // SAFETY: neither action runs code of ours.
    if unsafe { libc::signal(signal, action) } == libc::SIG_ERR { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// Gives every signal its default action and blocks none, as a new program expects.
pub(crate) fn reset_signals() -> io::Result<()> {
    /// At least as large as the kernel's `struct sigaction`; all zeros mean the default action.
    const DEFAULT_ACTION: [u64; 8] = [0; 8];
    /// Of the kernel's signal set, in bytes.
    const SET_SIZE: usize = 8;
    for signal in 1..=libc::SIGRTMAX() {
        // SAFETY: the kernel reads no more than the array holds, and writes nowhere.
        // Past the C library, which keeps two realtime signals for itself. SIGKILL and SIGSTOP cannot be changed, and need not.
        unsafe {
            libc::syscall(libc::SYS_rt_sigaction, signal, DEFAULT_ACTION.as_ptr(), std::ptr::null::<u64>(), SET_SIZE);
        }
    }
    SigSet::empty().thread_set_mask()?;
    Ok(())
}

/// What `ps -o comm` shows; the kernel keeps 15 bytes.
pub(crate) fn set_process_name(name: &str) {
    let name: Vec<u8> = name.bytes().filter(|byte| *byte != 0).take(15).collect();
    if let Ok(name) = CString::new(name) {
        // It is only for show.
        let _ = nix::sys::prctl::set_name(&name);
    }
}

/// Forks this single-threaded process.
pub(crate) fn fork() -> io::Result<ForkResult> {
    // SAFETY: the agents, the only callers, never start a thread, so the child may do anything.
    Ok(unsafe { nix::unistd::fork() }?)
}

/// Makes the terminal at `fd` the controlling terminal of this session leader.
pub(crate) fn take_terminal(fd: impl AsFd) -> io::Result<()> {
    // SAFETY: the argument is a number, and `fd` is borrowed, so open.
    if unsafe { libc::ioctl(fd.as_fd().as_raw_fd(), libc::TIOCSCTTY, 0) } == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}

/// Kills the process; one that has ended already is no error.
pub(crate) fn pidfd_kill(pidfd: impl AsFd) -> io::Result<()> {
    let number = pidfd.as_fd().as_raw_fd();
    // SAFETY: `info` may be null, the other arguments are numbers, and `pidfd` is borrowed, so open.
    let result = unsafe {
        libc::syscall(libc::SYS_pidfd_send_signal, number, libc::SIGKILL, std::ptr::null::<libc::siginfo_t>(), 0)
    };
    if result == 0 {
        return Ok(());
    }
    let error = io::Error::last_os_error();
    if error.raw_os_error() == Some(libc::ESRCH) { Ok(()) } else { Err(error) }
}

/// Whether [`set_tree_read_only`] can work: the youngest system call that is used here, of Linux 5.12.
pub(crate) fn has_mount_setattr() -> bool {
    // SAFETY: nothing is passed but numbers and null pointers, which the kernel refuses, if it knows the call at all.
    let result =
        unsafe { libc::syscall(libc::SYS_mount_setattr, -1, std::ptr::null::<u8>(), 0, std::ptr::null::<u8>(), 0) };
    result == 0 || io::Error::last_os_error().raw_os_error() != Some(libc::ENOSYS)
}

/// Makes a mount and everything mounted below it read-only; other flags stay as they are.
pub(crate) fn set_tree_read_only(path: &OsStr) -> io::Result<()> {
    /// `struct mount_attr` of `linux/mount.h`.
    #[repr(C)]
    struct MountAttributes {
        set: u64,
        clear: u64,
        propagation: u64,
        user_namespace: u64,
    }
    let path = CString::new(path.as_bytes())?;
    let attributes = MountAttributes { set: libc::MOUNT_ATTR_RDONLY, clear: 0, propagation: 0, user_namespace: 0 };
    let flags = libc::AT_RECURSIVE;
    let size = size_of::<MountAttributes>();
    // SAFETY: the path ends with a zero, the structure has the size that is passed, and both outlive the call.
    let result = unsafe {
        libc::syscall(libc::SYS_mount_setattr, libc::AT_FDCWD, path.as_ptr(), flags, &raw const attributes, size)
    };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Whether a file has an extended attribute that says yes, by one digit.
pub(crate) fn is_marked(path: &Path, attribute: &CStr) -> bool {
    let Ok(path) = CString::new(path.as_os_str().as_bytes()) else { return false };
    let mut value = [0_u8; 1];
    // SAFETY: both names end with a zero, no more is written than the length that is passed, and all three outlive the call.
    let length = unsafe { libc::getxattr(path.as_ptr(), attribute.as_ptr(), value.as_mut_ptr().cast(), value.len()) };
    length == 1 && value == *b"1"
}
