//! Runs a controller's queue: several workers, each key by one of them at a time.

use std::future::Future;
use std::hash::Hash;
use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

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
pub(crate) async fn run<R: Reconciler>(reconciler: Arc<R>, workers: usize, shutdown: CancellationToken) {
    reconciler.add_all("start");
    let mut tasks = JoinSet::new();
    for _ in 0..workers {
        tasks.spawn(work(reconciler.clone(), shutdown.clone()));
    }
    while let Some(ended) = tasks.join_next().await {
        if let Err(error) = ended {
            // A run panicked: its key stays marked as active, the others go on with the workers that are left.
            tracing::error!(controller = R::NAME, %error, "worker ended");
        }
    }
}

async fn work<R: Reconciler>(reconciler: Arc<R>, shutdown: CancellationToken) {
    loop {
        let work = tokio::select! {
            () = shutdown.cancelled() => return,
            work = reconciler.queue().take() => work,
        };
        match work {
            Work::Everything => reconciler.add_all("queue overflow"),
            Work::Key(key, reason) => tokio::select! {
                () = shutdown.cancelled() => return,
                () = one(&*reconciler, &key, reason) => {}
            },
        }
    }
}

async fn one<R: Reconciler>(reconciler: &R, key: &R::Key, reason: Reason) {
    let queue = reconciler.queue();
    tracing::debug!(controller = R::NAME, %key, reason, "reconciling");
    match reconciler.reconcile(key).await {
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
                tracing::debug!(controller = R::NAME, %key, %error, ?retry, "lost a race");
            } else {
                tracing::warn!(controller = R::NAME, %key, %error, ?retry, "reconcile failed");
                reconciler.failed(key, &error);
            }
        }
    }
}
