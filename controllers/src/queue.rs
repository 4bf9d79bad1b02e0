//! The work queue of a controller: which keys to look at, why, and when again.
//!
//! A key waits at most once and is worked on by one worker at a time; what is added while it is being worked on makes
//! it run again. The first try is immediate, retries back off. It runs nothing itself: `worker.rs` does.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::hash::Hash;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::Instant;

/// Why a key is looked at: a short sentence fragment for the log.
pub(crate) type Reason = &'static str;

/// Distinct keys waiting at once. Far above the objects of a lab; what would exceed it is refused, counted, and made
/// up for by looking at every object once the queue is empty ([`Work::Everything`]).
const LIMIT: usize = 65_536;

/// How much later than EndpointSlices whatever else follows a pod is written. The store syncs writes in batches: one that came
/// first would keep the slice, for which packets wait, until after its own sync.
const HEAD_START: Duration = Duration::from_millis(5);

/// How failed runs are repeated.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Backoff {
    /// Delay before the first retry; it doubles each time.
    pub(crate) base: Duration,
    /// No delay is longer.
    pub(crate) cap: Duration,
    /// After so many retries the key is given up until it changes.
    pub(crate) retries: u32,
}

impl Backoff {
    fn delay(&self, attempt: u32) -> Duration {
        self.base.saturating_mul(2_u32.saturating_pow(attempt)).min(self.cap)
    }
}

/// What a worker does next.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Work<K> {
    /// Look at this key, and call [`Queue::done`] afterwards.
    Key(K, Reason),
    /// Keys were refused: add all there are.
    Everything,
}

/// See the module.
pub(crate) struct Queue<K> {
    state: Mutex<State<K>>,
    wake: Notify,
    backoff: Backoff,
    limit: usize,
}

struct State<K> {
    /// Keys in the order in which they came.
    ready: VecDeque<K>,
    /// Why each of `ready` is there.
    reasons: HashMap<K, Reason>,
    /// Keys being worked on, and the reason to run them again when somebody added them meanwhile.
    active: HashMap<K, Option<Reason>>,
    /// Keys to be added at a time; at most one time per key, the earliest.
    later: BTreeMap<(Instant, K), Reason>,
    times: HashMap<K, Instant>,
    /// Failures in a row.
    attempts: HashMap<K, u32>,
    refused: u64,
}

impl<K: Clone + Ord + Hash> Queue<K> {
    pub(crate) fn new(backoff: Backoff) -> Self {
        Self::with_limit(backoff, LIMIT)
    }

    fn with_limit(backoff: Backoff, limit: usize) -> Self {
        let state = State {
            ready: VecDeque::new(),
            reasons: HashMap::new(),
            active: HashMap::new(),
            later: BTreeMap::new(),
            times: HashMap::new(),
            attempts: HashMap::new(),
            refused: 0,
        };
        Self { state: Mutex::new(state), wake: Notify::new(), backoff, limit }
    }

    /// Has `key` looked at as soon as a worker is free.
    pub(crate) fn add(&self, key: K, reason: Reason) {
        self.lock().add(key, reason, self.limit);
        self.wake.notify_one();
    }

    /// Has `key` looked at after `delay`, or sooner if something else asks for it.
    pub(crate) fn add_after(&self, key: K, delay: Duration, reason: Reason) {
        self.lock().add_at(key, Instant::now() + delay, reason);
        self.wake.notify_one();
    }

    /// Has `key` looked at once the EndpointSlices have had their head start: for writes that nobody's packets wait for.
    pub(crate) fn add_behind(&self, key: K, reason: Reason) {
        self.add_after(key, HEAD_START, reason);
    }

    /// Counts a failure of `key` and has it tried again; answers the delay, or `None` when it is given up.
    pub(crate) fn retry(&self, key: K, soon: bool) -> Option<Duration> {
        let mut state = self.lock();
        let attempt = state.attempts.entry(key.clone()).or_insert(0);
        if *attempt >= self.backoff.retries {
            state.attempts.remove(&key);
            return None;
        }
        let mut delay = self.backoff.delay(*attempt);
        *attempt += 1;
        if soon {
            // A lost race: the newer state is on its way here.
            delay = (delay / 100).max(Duration::from_millis(2));
        }
        state.add_at(key, Instant::now() + delay, "retry after a failure");
        drop(state);
        self.wake.notify_one();
        Some(delay)
    }

    /// Forgets the failures of `key`: it has succeeded.
    pub(crate) fn forget(&self, key: &K) {
        self.lock().attempts.remove(key);
    }

    /// Ends the work on `key` begun by [`Queue::take`].
    pub(crate) fn done(&self, key: &K) {
        let mut state = self.lock();
        if let Some(Some(reason)) = state.active.remove(key) {
            state.add(key.clone(), reason, self.limit);
            drop(state);
            self.wake.notify_one();
        }
    }

    /// The next piece of work; waits for it. Safe to drop while waiting.
    pub(crate) async fn take(&self) -> Work<K> {
        loop {
            let due = {
                let mut state = self.lock();
                state.move_due(Instant::now(), self.limit);
                if let Some(work) = state.pop() {
                    if !state.ready.is_empty() {
                        self.wake.notify_one();
                    }
                    return work;
                }
                state.later.first_key_value().map(|((at, _), _)| *at)
            };
            match due {
                Some(at) => tokio::select! {
                    () = self.wake.notified() => {}
                    () = tokio::time::sleep_until(at) => {}
                },
                None => self.wake.notified().await,
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, State<K>> {
        // No code that can panic runs under the lock.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<K: Clone + Ord + Hash> State<K> {
    fn add(&mut self, key: K, reason: Reason, limit: usize) {
        self.cancel_timer(&key);
        if let Some(again) = self.active.get_mut(&key) {
            again.get_or_insert(reason);
        } else if self.reasons.contains_key(&key) {
            // Already waiting: that run will see this change too.
        } else if self.ready.len() >= limit {
            self.refused += 1;
        } else {
            self.reasons.insert(key.clone(), reason);
            self.ready.push_back(key);
        }
    }

    fn add_at(&mut self, key: K, at: Instant, reason: Reason) {
        if self.reasons.contains_key(&key) || self.times.get(&key).is_some_and(|known| *known <= at) {
            return;
        }
        self.cancel_timer(&key);
        self.times.insert(key.clone(), at);
        self.later.insert((at, key), reason);
    }

    fn cancel_timer(&mut self, key: &K) {
        if let Some(at) = self.times.remove(key) {
            self.later.remove(&(at, key.clone()));
        }
    }

    fn move_due(&mut self, now: Instant, limit: usize) {
        while let Some(entry) = self.later.first_entry() {
            if entry.key().0 > now {
                return;
            }
            let ((_, key), reason) = entry.remove_entry();
            self.times.remove(&key);
            self.add(key, reason, limit);
        }
    }

    fn pop(&mut self) -> Option<Work<K>> {
        if let Some(key) = self.ready.pop_front() {
            let reason = self.reasons.remove(&key).unwrap_or("added");
            self.active.insert(key.clone(), None);
            return Some(Work::Key(key, reason));
        }
        if self.refused > 0 {
            tracing::warn!(refused = self.refused, "work queue overflowed, looking at every object");
            self.refused = 0;
            return Some(Work::Everything);
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt;

    use super::*;

    const BACKOFF: Backoff = Backoff { base: Duration::from_secs(1), cap: Duration::from_secs(1000), retries: 15 };

    #[tokio::test]
    async fn a_key_waits_once_and_keeps_its_first_reason() {
        let queue = Queue::new(BACKOFF);
        queue.add("a", "first");
        queue.add("b", "other");
        queue.add("a", "second");
        assert_eq!(queue.take().await, Work::Key("a", "first"));
        assert_eq!(queue.take().await, Work::Key("b", "other"));
        assert!(queue.take().now_or_never().is_none());
    }

    #[tokio::test]
    async fn a_key_is_never_worked_on_twice_at_once_and_runs_again_when_it_changed_meanwhile() {
        let queue = Queue::new(BACKOFF);
        queue.add("a", "first");
        assert_eq!(queue.take().await, Work::Key("a", "first"));
        queue.add("a", "changed");
        assert!(queue.take().now_or_never().is_none());
        queue.done(&"a");
        assert_eq!(queue.take().await, Work::Key("a", "changed"));
        queue.done(&"a");
        assert!(queue.take().now_or_never().is_none());
    }

    #[tokio::test]
    async fn what_comes_behind_comes_once_and_after_what_is_urgent() {
        let queue = Queue::new(BACKOFF);
        queue.add_behind("status", "a pod changed");
        queue.add_behind("status", "another pod changed");
        queue.add("slice", "a pod changed");
        assert_eq!(queue.take().await, Work::Key("slice", "a pod changed"));
        assert!(queue.take().now_or_never().is_none());
        assert_eq!(queue.take().await, Work::Key("status", "a pod changed"));
        assert!(queue.take().now_or_never().is_none());
    }

    // S-185, S-204
    #[tokio::test]
    async fn fifteen_retries_double_from_a_second_and_stop() {
        let queue = Queue::new(BACKOFF);
        let delays: Vec<u64> = std::iter::from_fn(|| queue.retry("a", false)).map(|delay| delay.as_secs()).collect();
        assert_eq!(delays[..11], [1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1000]);
        assert_eq!(delays.len(), 15);
        assert_eq!(queue.retry("a", false), Some(Duration::from_secs(1)), "a change starts over");
        queue.forget(&"a");
        assert_eq!(queue.retry("a", false), Some(Duration::from_secs(1)));
    }

    #[tokio::test]
    async fn a_delayed_key_comes_at_its_earliest_time_or_when_added() {
        let queue = Queue::new(BACKOFF);
        queue.add_after("a", Duration::from_secs(900), "late");
        queue.add_after("a", Duration::from_millis(20), "early");
        queue.add_after("a", Duration::from_secs(500), "middle");
        assert!(queue.take().now_or_never().is_none(), "not before its time");
        assert_eq!(queue.take().await, Work::Key("a", "early"));
        queue.done(&"a");
        queue.add_after("a", Duration::from_millis(20), "late");
        queue.add("a", "now");
        assert_eq!(queue.take().await, Work::Key("a", "now"));
        queue.done(&"a");
        assert!(queue.lock().later.is_empty(), "being added replaces the appointment");
    }

    #[tokio::test]
    async fn what_does_not_fit_is_made_up_for_by_looking_at_everything() {
        let queue = Queue::with_limit(BACKOFF, 1);
        queue.add("a", "x");
        queue.add("b", "x");
        assert_eq!(queue.take().await, Work::Key("a", "x"));
        assert_eq!(queue.take().await, Work::Everything);
        assert!(queue.take().now_or_never().is_none());
    }
}
