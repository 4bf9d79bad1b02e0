//! How long a thread of this process runs before another one has its turn, as far as the kernel's fair scheduler asks it.
#![expect(unsafe_code, reason = "system calls that neither std nor nix wraps")]

use std::io;

use nix::libc;

/// A tenth of a millisecond: the shortest that the kernel takes.
const SHORT: u64 = 100_000;

/// Asks that the calling thread, and the threads and processes that it makes, be let in as soon as they have something to do, for
/// short turns. A thread that waits for a disk or a packet is otherwise woken in vain: on a busy processor it stands in line until
/// whoever is there has had its turn, which is up to 4 ms.
///
/// It takes nobody's share and needs no privilege. Kernels before 6.12 take no notice; with a policy that is not the ordinary one
/// nothing is changed.
///
/// # Errors
/// When the kernel, or whoever filters its calls, does not let us ask.
pub fn take_short_turns() -> io::Result<()> {
    set(SHORT)
}

/// Takes the kernel's own measure again: for processes that are not ours.
pub(crate) fn take_usual_turns() -> io::Result<()> {
    set(0)
}

fn set(runtime: u64) -> io::Result<()> {
    // The rest, niceness above all, stays as it is.
    let mut attributes = get()?;
    if i64::from(attributes.sched_policy) != i64::from(libc::SCHED_OTHER) {
        return Ok(());
    }
    attributes.sched_runtime = runtime;
    // SAFETY: the kernel reads as much as the structure itself says, which is its size, and it outlives the call.
    let result = unsafe { libc::syscall(libc::SYS_sched_setattr, 0, &raw const attributes, 0) };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// What the calling thread has now.
fn get() -> io::Result<libc::sched_attr> {
    let size = u32::try_from(size_of::<libc::sched_attr>()).map_err(io::Error::other)?;
    let mut attributes = libc::sched_attr {
        size,
        sched_policy: 0,
        sched_flags: 0,
        sched_nice: 0,
        sched_priority: 0,
        sched_runtime: 0,
        sched_deadline: 0,
        sched_period: 0,
    };
    // SAFETY: the kernel writes no more than the size that is passed, and the structure outlives the call.
    let result = unsafe { libc::syscall(libc::SYS_sched_getattr, 0, &raw mut attributes, size, 0) };
    if result == 0 { Ok(attributes) } else { Err(io::Error::last_os_error()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn threads_inherit_short_turns_until_they_take_the_usual_ones() {
        // On a thread of its own: other tests keep theirs.
        let test = || {
            let turn = || get().map(|attributes| (attributes.sched_runtime, attributes.sched_nice));
            let usual = turn()?;
            take_short_turns()?;
            let here = turn()?;
            let there = std::thread::spawn(turn).join().map_err(|_| io::Error::other("a thread panicked"))??;
            take_usual_turns()?;
            Ok::<_, io::Error>((usual, here, there, turn()?))
        };
        let (usual, here, there, again) =
            std::thread::spawn(test).join().expect("a thread").expect("the kernel's leave");
        // Kernels before 6.12 tell of no turns at all.
        let short = if usual.0 == 0 { usual } else { (SHORT, usual.1) };
        assert_eq!((here, there, again), (short, short, usual));
    }
}
