//! Whether the packet path keeps up with what it is told.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// A table that has waited this long for the worker is overdue, and the proxy not healthy. It takes milliseconds.
const OVERDUE: Duration = Duration::from_secs(10);

/// Since when a table waits to be taken over, if one does.
#[derive(Debug)]
pub(crate) struct Pulse {
    begun: Instant,
    /// Milliseconds after `begun`, and one, since the oldest table that was not taken waits; 0 if none does.
    waiting: AtomicU64,
}

impl Pulse {
    /// Nothing waits.
    pub(crate) fn new() -> Self {
        Self { begun: Instant::now(), waiting: AtomicU64::new(0) }
    }

    /// A table was published. Called after it can be seen, and before the worker is woken.
    pub(crate) fn published(&self) {
        let now = u64::try_from(self.begun.elapsed().as_millis()).unwrap_or(u64::MAX).saturating_add(1);
        // The oldest counts: a worker that hangs must not look better for getting more to do.
        let _ = self.waiting.compare_exchange(0, now, Ordering::AcqRel, Ordering::Acquire);
    }

    /// The worker is about to look for the newest table.
    pub(crate) fn taken(&self) {
        self.waiting.store(0, Ordering::Release);
    }

    /// For how long a table has waited.
    pub(crate) fn waiting(&self) -> Duration {
        match self.waiting.load(Ordering::Acquire) {
            0 => Duration::ZERO,
            since => self.begun.elapsed().saturating_sub(Duration::from_millis(since - 1)),
        }
    }

    /// Whether nothing is overdue.
    pub(crate) fn is_healthy(&self) -> bool {
        self.waiting() < OVERDUE
    }

    /// One whose worker has not looked for this long.
    #[cfg(test)]
    pub(super) fn hanging_for(time: Duration) -> Self {
        let begun = Instant::now().checked_sub(time).unwrap_or_else(Instant::now);
        Self { begun, waiting: AtomicU64::new(1) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_table_that_waits_too_long_is_overdue_and_the_oldest_counts() {
        let pulse = Pulse::new();
        assert!(pulse.is_healthy());
        pulse.published();
        assert!(pulse.is_healthy());
        let hanging = Pulse::hanging_for(OVERDUE);
        hanging.published();
        assert!(!hanging.is_healthy(), "another table does not make it look better");
        hanging.taken();
        assert!(hanging.is_healthy());
    }
}
