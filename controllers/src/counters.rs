//! What the controllers count, each for itself.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

/// The families of metrics, and where each has its number.
type Family = (&'static str, &'static str, fn(&ControllerStats) -> u64);

const FAMILIES: [Family; 4] = [
    ("minisvc_controller_runs", "Times that a controller looked at something.", |stats| stats.runs),
    ("minisvc_controller_failures", "Runs that failed and were repeated.", |stats| stats.failures),
    ("minisvc_controller_lost_races", "Runs that found somebody else's write before their own.", |stats| {
        stats.lost_races
    }),
    ("minisvc_controller_panics", "Runs that ended in a panic.", |stats| stats.panics),
];

/// Counters of all controllers; shared with whoever shows them.
#[derive(Debug, Default)]
pub struct Counters {
    /// One for each controller there is, a constant number.
    tallies: Mutex<BTreeMap<&'static str, Arc<Tally>>>,
}

/// What one controller counts.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    pub(crate) runs: AtomicU64,
    pub(crate) failures: AtomicU64,
    pub(crate) lost_races: AtomicU64,
    pub(crate) panics: AtomicU64,
}

/// What one controller has counted since the start.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ControllerStats {
    /// Its name.
    pub controller: &'static str,
    /// Times that it looked at something.
    pub runs: u64,
    /// Runs that failed and are repeated.
    pub failures: u64,
    /// Runs that found somebody else's write before their own; nothing is wrong with that.
    pub lost_races: u64,
    /// Runs that ended in a panic: bugs of ours.
    pub panics: u64,
}

impl Counters {
    /// All controllers, by their names.
    pub fn stats(&self) -> Vec<ControllerStats> {
        let tallies = self.tallies.lock().unwrap_or_else(PoisonError::into_inner);
        let of = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        tallies
            .iter()
            .map(|(controller, tally)| ControllerStats {
                controller,
                runs: of(&tally.runs),
                failures: of(&tally.failures),
                lost_races: of(&tally.lost_races),
                panics: of(&tally.panics),
            })
            .collect()
    }

    /// Appends the same in the text form of OpenMetrics: whole families, without the closing `# EOF`.
    pub fn openmetrics(&self, text: &mut String) {
        let stats = self.stats();
        for (family, help, of) in FAMILIES {
            // Writing to a String cannot fail.
            let _ = writeln!(text, "# HELP {family} {help}\n# TYPE {family} counter");
            for stats in &stats {
                let _ = writeln!(text, "{family}_total{{controller=\"{}\"}} {}", stats.controller, of(stats));
            }
        }
    }

    pub(crate) fn tally(&self, controller: &'static str) -> Arc<Tally> {
        Arc::clone(self.tallies.lock().unwrap_or_else(PoisonError::into_inner).entry(controller).or_default())
    }
}

pub(crate) fn count(counter: &AtomicU64) {
    counter.fetch_add(1, Ordering::Relaxed);
}
