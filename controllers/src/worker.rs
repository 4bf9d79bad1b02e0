//! Runs a controller's queue: several workers, each key by one of them at a time.

use std::any::Any;
use std::future::Future;
use std::hash::Hash;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt as _;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::counters::{Tally, count};
use crate::error::Error;
use crate::queue::{Queue, Reason, Work};

/// What is to happen with a key after a successful run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Next {
    /// Nothing until it changes.
    Wait,
    /// Look again after this time: something depends on the clock.
    After(Duration),
}

/// A controller: brings the world one key at a time to what it should be.
pub(crate) trait Reconciler: Send + Sync + 'static {
    /// For the log.
    const NAME: &'static str;
    /// What one run is about.
    type Key: Clone + Ord + Hash + std::fmt::Display + Send + Sync + 'static;

    /// The queue that feeds it.
    fn queue(&self) -> &Queue<Self::Key>;
    /// Adds every key there is.
    fn add_all(&self, reason: Reason);
    /// One run. Level-triggered: looks at the present state only, so it may be repeated at will.
    fn reconcile(&self, key: &Self::Key) -> impl Future<Output = Result<Next, Error>> + Send;
    /// A run has failed; tells the user where that is of use.
    fn failed(&self, _key: &Self::Key, _error: &Error) {}
}

/// Starts by looking at everything, then follows the queue with `workers` at once until `shutdown`.
pub(crate) async fn run<R: Reconciler>(
    reconciler: Arc<R>,
    workers: usize,
    tally: Arc<Tally>,
    shutdown: CancellationToken,
) {
    reconciler.add_all("start");
    let mut tasks = JoinSet::new();
    for _ in 0..workers {
        tasks.spawn(work(reconciler.clone(), tally.clone(), shutdown.clone()));
    }
    while let Some(ended) = tasks.join_next().await {
        if let Err(error) = ended {
            // Runs do not end a worker, not even by a panic; so the queue itself did.
            tracing::error!(controller = R::NAME, %error, "worker ended");
        }
    }
}

async fn work<R: Reconciler>(reconciler: Arc<R>, tally: Arc<Tally>, shutdown: CancellationToken) {
    loop {
        let work = tokio::select! {
            () = shutdown.cancelled() => return,
            work = reconciler.queue().take() => work,
        };
        match work {
            Work::Everything => reconciler.add_all("queue overflow"),
            Work::Key(key, reason) => tokio::select! {
                () = shutdown.cancelled() => return,
                () = one(&*reconciler, &key, reason, &tally) => {}
            },
        }
    }
}

async fn one<R: Reconciler>(reconciler: &R, key: &R::Key, reason: Reason, tally: &Tally) {
    let queue = reconciler.queue();
    tracing::debug!(controller = R::NAME, %key, reason, "reconciling");
    count(&tally.runs);
    // A panic is a failure like others: the key is tried again, and the other keys never notice. What a run had in hand
    // goes with it, and what runs share is kept whole by its locks' owners.
    let run = AssertUnwindSafe(reconciler.reconcile(key)).catch_unwind().await;
    let outcome = run.unwrap_or_else(|panic| {
        count(&tally.panics);
        Err(Error::Panicked(message(&*panic)))
    });
    match outcome {
        Ok(next) => {
            queue.forget(key);
            queue.done(key);
            if let Next::After(delay) = next {
                queue.add_after(key.clone(), delay, "its time has come");
            }
        }
        Err(error) => {
            queue.done(key);
            let retry = queue.retry(key.clone(), error.is_lost_race());
            if error.is_lost_race() {
                count(&tally.lost_races);
                tracing::debug!(controller = R::NAME, %key, %error, ?retry, "lost a race");
            } else {
                count(&tally.failures);
                match error {
                    Error::Panicked(_) => {
                        tracing::error!(controller = R::NAME, %key, %error, ?retry, "reconcile panicked");
                    }
                    _ => tracing::warn!(controller = R::NAME, %key, %error, ?retry, "reconcile failed"),
                }
                reconciler.failed(key, &error);
            }
        }
    }
}

/// What a panic says.
fn message(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
    text.or_else(|| panic.downcast_ref::<String>().cloned()).unwrap_or_else(|| "without a word".to_owned())
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use super::*;
    use crate::counters::Counters;
    use crate::queue::Backoff;

    /// Panics the first two times that it looks at `bad`.
    struct Clumsy {
        queue: Queue<String>,
        seen: Mutex<Vec<String>>,
        all_done: CancellationToken,
    }

    impl Reconciler for Clumsy {
        const NAME: &'static str = "clumsy";
        type Key = String;

        fn queue(&self) -> &Queue<String> {
            &self.queue
        }

        fn add_all(&self, reason: Reason) {
            for key in ["bad", "good"] {
                self.queue.add(key.to_owned(), reason);
            }
        }

        async fn reconcile(&self, key: &String) -> Result<Next, Error> {
            let times = {
                let mut seen = self.seen.lock().unwrap();
                seen.push(key.clone());
                seen.iter().filter(|seen| *seen == key).count()
            };
            assert!(key != "bad" || times > 2, "stumbled over {key}");
            if key == "bad" {
                self.all_done.cancel();
            }
            Ok(Next::Wait)
        }
    }

    #[tokio::test]
    async fn a_panic_costs_a_retry_and_neither_the_key_nor_the_worker() {
        let backoff = Backoff { base: Duration::from_millis(5), cap: Duration::from_millis(20), retries: 15 };
        let all_done = CancellationToken::new();
        let clumsy =
            Arc::new(Clumsy { queue: Queue::new(backoff), seen: Mutex::default(), all_done: all_done.clone() });
        let counters = Counters::default();
        // One worker: were it to end, nothing would ever be done again.
        let run = run(clumsy.clone(), 1, counters.tally(Clumsy::NAME), all_done);
        tokio::time::timeout(Duration::from_secs(30), run).await.expect("it gets there");
        assert_eq!(*clumsy.seen.lock().unwrap(), ["bad", "good", "bad", "bad"]);
        let [stats] = counters.stats()[..] else { panic!("one controller") };
        assert_eq!((stats.runs, stats.failures, stats.panics), (4, 2, 2));
        let mut text = String::new();
        counters.openmetrics(&mut text);
        assert!(text.contains("\nminisvc_controller_panics_total{controller=\"clumsy\"} 2\n"), "{text}");
    }
}
