//! What a limit is in the files of the two versions of control groups. Pure.

/// What a container, or a pod, may use at most; `None` is no limit.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Limits {
    /// Memory, in bytes.
    pub memory: Option<u64>,
    /// Processor time, in thousandths of a processor.
    pub cpu: Option<u64>,
}

/// A resource that the kernel can limit for a group.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Controller {
    Memory,
    Cpu,
}

impl Controller {
    pub(super) const ALL: [Self; 2] = [Self::Memory, Self::Cpu];

    /// As the kernel calls it.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Memory => "memory",
            Self::Cpu => "cpu",
        }
    }
}

/// The two interfaces that the kernel has, which may both be in use, for different controllers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Version {
    V1,
    V2,
}

/// One file to be written.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Setting {
    pub(super) file: &'static str,
    pub(super) value: String,
    /// Without it there is no limit. Others are not there in every kernel, or need not be.
    pub(super) needed: bool,
}

/// In which processor time is dealt out, in microseconds: what Kubernetes has.
const PERIOD: u64 = 100_000;
/// The least that the kernel deals out in a period.
const LEAST_QUOTA: u64 = 1_000;
/// More than any machine has, and what every kernel takes.
const MOST_QUOTA: u64 = 1 << 40;

impl Limits {
    pub(super) fn of(&self, controller: Controller) -> Option<u64> {
        // Nothing at all is how some manifests say "no limit".
        match controller {
            Controller::Memory => self.memory,
            Controller::Cpu => self.cpu,
        }
        .filter(|amount| *amount > 0)
    }

    /// What to write into a group's directory, in order.
    pub(super) fn settings(&self, version: Version, controller: Controller) -> Vec<Setting> {
        let Some(amount) = self.of(controller) else { return Vec::new() };
        let needed = |file, value| Setting { file, value, needed: true };
        let wished = |file, value| Setting { file, value, needed: false };
        match (version, controller) {
            // What may not be kept in memory must not go to the swap instead, where it slows everybody down.
            (Version::V1, Controller::Memory) => vec![
                needed("memory.limit_in_bytes", amount.to_string()),
                wished("memory.memsw.limit_in_bytes", amount.to_string()),
            ],
            (Version::V2, Controller::Memory) => {
                vec![needed("memory.max", amount.to_string()), wished("memory.swap.max", "0".to_owned())]
            }
            // Refused when the group that minisvc itself is in may have less: then that holds.
            (Version::V1, Controller::Cpu) => vec![
                needed("cpu.cfs_period_us", PERIOD.to_string()),
                wished("cpu.cfs_quota_us", quota(amount).to_string()),
            ],
            (Version::V2, Controller::Cpu) => vec![needed("cpu.max", format!("{} {PERIOD}", quota(amount)))],
        }
    }
}

/// Microseconds of each period for so many thousandths of a processor.
fn quota(thousandths: u64) -> u64 {
    thousandths.saturating_mul(PERIOD / 1000).clamp(LEAST_QUOTA, MOST_QUOTA)
}

/// How many processes of a group the kernel has killed for want of memory: from `memory.events` (version 2) or
/// `memory.oom_control` (version 1), which both have a line for it.
pub(super) fn oom_kills(text: &str) -> u64 {
    let count = text.lines().find_map(|line| line.strip_prefix("oom_kill ")?.trim().parse().ok());
    count.unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(limits: Limits, version: Version, controller: Controller) -> Vec<String> {
        let settings = limits.settings(version, controller);
        settings.into_iter().map(|setting| format!("{}={}", setting.file, setting.value)).collect()
    }

    #[test]
    fn limits_become_settings_of_either_version() {
        let both = Limits { memory: Some(64 << 20), cpu: Some(250) };
        let v1 = ["memory.limit_in_bytes=67108864", "memory.memsw.limit_in_bytes=67108864"];
        assert_eq!(written(both, Version::V1, Controller::Memory), v1);
        assert_eq!(written(both, Version::V2, Controller::Memory), ["memory.max=67108864", "memory.swap.max=0"]);
        let v1 = ["cpu.cfs_period_us=100000", "cpu.cfs_quota_us=25000"];
        assert_eq!(written(both, Version::V1, Controller::Cpu), v1);
        assert_eq!(written(both, Version::V2, Controller::Cpu), ["cpu.max=25000 100000"]);
        for nothing in [Limits::default(), Limits { memory: Some(0), cpu: Some(0) }] {
            assert!(written(nothing, Version::V2, Controller::Memory).is_empty(), "{nothing:?}");
            assert!(written(nothing, Version::V1, Controller::Cpu).is_empty(), "{nothing:?}");
        }
    }

    #[test]
    fn a_quota_is_what_the_kernel_takes() {
        for (thousandths, expected) in [(1, 1_000), (10, 1_000), (200, 20_000), (1_500, 150_000)] {
            assert_eq!(quota(thousandths), expected, "{thousandths}");
        }
        assert_eq!(quota(u64::MAX), MOST_QUOTA);
    }

    #[test]
    fn kills_are_counted_in_either_version() {
        for (text, expected) in [
            ("low 0\nhigh 0\nmax 12\noom 1\noom_kill 2\noom_group_kill 1\n", 2),
            ("oom_kill_disable 0\nunder_oom 0\noom_kill 3\n", 3),
            ("oom_kill_disable 0\nunder_oom 0\n", 0),
            ("oom_kill many\n", 0),
            ("", 0),
        ] {
            assert_eq!(oom_kills(text), expected, "{text:?}");
        }
    }
}
