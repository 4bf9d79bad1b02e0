//! How many processes a namespace may have at a time.
//!
//! Since Linux 6.14 `kernel.pid_max` belongs to the PID namespace, and whoever rules the namespace may set it: a bound that needs
//! no cgroup and no root, and that vanishes with the namespace. Before, it is one number for the whole machine, and is let be.

use std::fs;

const PID_MAX: &str = "/proc/sys/kernel/pid_max";
/// The first kernel that has a `pid_max` for each namespace.
const PER_NAMESPACE: (u32, u32) = (6, 14);
/// Once the numbers have come round, the kernel does not hand out the first ones again.
const RESERVED: u32 = 300;
/// The least that kernels take, on machines of few and of many processors.
const LEAST: [u32; 4] = [301, 1024, 4096, 16384];

/// Whether this kernel can limit the processes of a namespace.
pub fn can_limit_processes() -> bool {
    at_least(&fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default(), PER_NAMESPACE)
}

fn at_least(release: &str, wanted: (u32, u32)) -> bool {
    let mut numbers = release.split(|c: char| !c.is_ascii_digit()).map_while(|text| text.parse().ok());
    numbers.next().zip(numbers.next()).is_some_and(|found: (u32, u32)| found >= wanted)
}

/// The limit of this namespace.
#[derive(Debug, Clone, Copy)]
pub(super) struct ProcessLimit {
    /// What `pid_max` is set to; `None` where it is not ours.
    pid_max: Option<u32>,
}

impl ProcessLimit {
    /// Sets the limit of a fresh namespace; where the kernel does not take it, there is none.
    pub(super) fn set(wanted: Option<u32>) -> Self {
        let pid_max = wanted.filter(|_| can_limit_processes()).map(|processes| processes.saturating_add(RESERVED));
        Self { pid_max: pid_max.filter(|limit| write(*limit)) }
    }

    /// Lets no process start another until [`Self::release`]: what forks without end cannot be killed one by one otherwise.
    pub(super) fn hold(self) {
        if self.pid_max.is_some() {
            let _held = LEAST.into_iter().any(write);
        }
    }

    /// Ends [`Self::hold`].
    pub(super) fn release(self) {
        if let Some(limit) = self.pid_max {
            write(limit);
        }
    }
}

fn write(limit: u32) -> bool {
    fs::write(PID_MAX, limit.to_string()).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn releases_are_compared_by_their_numbers() {
        for (release, expected) in [
            ("6.14.0-rc1\n", true),
            ("6.18.44-fc-v669", true),
            ("7.0", true),
            ("6.8.0-45-generic", false),
            ("5.15.0", false),
            ("", false),
            ("linux", false),
        ] {
            assert_eq!(at_least(release, PER_NAMESPACE), expected, "{release}");
        }
    }
}
