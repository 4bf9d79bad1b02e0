//! Resident memory of the main process and of the helpers that hold the namespaces.

use std::time::Duration;

use crate::Failure;
use crate::figures::{goal, line};
use crate::lab::Lab;
use crate::start::{self, PODS, SERVICES};

/// How long a lab is left alone before it counts as idle.
const SETTLE: Duration = Duration::from_secs(5);

/// Memory in megabytes of 10^6 bytes.
struct Memory {
    /// All that is resident.
    resident: f64,
    /// The same, with each page that several processes share counted in parts.
    proportional: f64,
}

/// Prints the group.
pub(crate) fn measure() -> Result<(), Failure> {
    let lab = Lab::start(&[])?;
    std::thread::sleep(SETTLE);
    let (main, helpers) = look(&lab)?;
    let together = main.proportional + helpers.iter().map(|one| one.proportional).sum::<f64>();
    show("idle", &main, &helpers);
    line(
        "idle, everything together (PSS)",
        &format!("{together:.1} MB"),
        &goal(main.resident.max(together) < 40.0, "40 MB resident"),
    );
    lab.down()?;
    let (lab, _) = start::crowd(PODS)?;
    std::thread::sleep(SETTLE);
    let (main, helpers) = look(&lab)?;
    show(&format!("{PODS} pods, {SERVICES} Services"), &main, &helpers);
    lab.down()?;
    Ok(())
}

fn show(when: &str, main: &Memory, helpers: &[Memory]) {
    line(&format!("{when}: main process (RSS)"), &format!("{:.1} MB", main.resident), "");
    let each = helpers.iter().map(|one| one.proportional).sum::<f64>();
    line(&format!("{when}: {} helper processes (PSS, sum)", helpers.len()), &format!("{each:.1} MB"), "");
}

/// The main process, and the helper with its agents.
fn look(lab: &Lab) -> Result<(Memory, Vec<Memory>), Failure> {
    let main = read(lab.pid())?;
    // One that has ended meanwhile has no memory.
    Ok((main, family(lab)?.into_iter().filter_map(|pid| read(pid).ok()).collect()))
}

/// Process ids of the helper and its agents: they all run under the name `__sandbox`.
pub(crate) fn family(lab: &Lab) -> Result<Vec<u32>, Failure> {
    let mut helpers = Vec::new();
    let mut families = vec![lab.pid()];
    let entries = std::fs::read_dir("/proc")?.flatten();
    let mut pids: Vec<u32> = entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect();
    pids.sort_unstable();
    // A child has a greater number than its parent, unless the numbers have wrapped around in between.
    for pid in pids {
        let (Ok(status), Ok(words)) =
            (std::fs::read_to_string(format!("/proc/{pid}/status")), std::fs::read(format!("/proc/{pid}/cmdline")))
        else {
            continue;
        };
        let parent = number(&status, "PPid:").unwrap_or_default();
        if families.iter().any(|family| f64::from(*family) == parent) {
            families.push(pid);
            if words.windows(9).any(|window| window == b"__sandbox") {
                helpers.push(pid);
            }
        }
    }
    Ok(helpers)
}

fn read(pid: u32) -> Result<Memory, Failure> {
    let rollup = std::fs::read_to_string(format!("/proc/{pid}/smaps_rollup"))?;
    let megabytes = |name| number(&rollup, name).map(|kilobytes| kilobytes * 1024.0 / 1e6).ok_or("no such field");
    Ok(Memory { resident: megabytes("Rss:")?, proportional: megabytes("Pss:")? })
}

/// All that is resident of a process, in megabytes.
pub(crate) fn resident(pid: u32) -> Result<f64, Failure> {
    Ok(read(pid)?.resident)
}

/// The number after a field's name.
fn number(text: &str, name: &str) -> Option<f64> {
    text.lines().find_map(|line| line.strip_prefix(name))?.split_whitespace().next()?.parse().ok()
}
