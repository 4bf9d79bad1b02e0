//! A watch: the events of one resource from a revision on, in order, without gaps.

use std::collections::VecDeque;
use std::sync::Arc;

use futures::stream::{self, Stream};
use tokio::sync::watch;

use crate::state::{Shared, Subscription};
use crate::types::{Event, Revision};

/// How many events one look at the ring takes: enough to amortise the lock, few enough to hold it briefly.
const CHUNK: usize = 64;

/// The history asked for is no longer kept; the caller lists and starts again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("too old resource version: {requested} ({oldest})")]
pub struct TooOld {
    /// What was asked for.
    pub requested: Revision,
    /// The oldest revision a watch can start from now.
    pub oldest: Revision,
}

/// Why a watch ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum WatchClosed {
    /// It was read so slowly that events were forgotten before they were read. The caller resumes from the
    /// last revision it saw, and is told whether that is still possible.
    #[error("the watch fell behind the kept history")]
    TooSlow,
    /// The store was closed.
    #[error("the store is closed")]
    StoreClosed,
}

/// The events of one resource, all namespaces; filtering is the reader's.
///
/// Dropping it ends it. It holds no event that was not asked for, except up to 64 already taken from the ring.
#[derive(Debug)]
pub struct Watch {
    shared: Arc<Shared>,
    resource: Arc<str>,
    from: Revision,
    cursor: u64,
    taken: VecDeque<Event>,
    wake_rx: watch::Receiver<()>,
}

impl Watch {
    pub(crate) fn new(shared: Arc<Shared>, resource: &str, from: Revision) -> Result<Self, TooOld> {
        let Subscription { cursor, wake_rx } = shared.subscribe(resource, from)?;
        Ok(Self { shared, resource: resource.into(), from, cursor, taken: VecDeque::new(), wake_rx })
    }

    /// The next event, as soon as there is one. Cancelling it loses nothing.
    ///
    /// # Errors
    /// When the watch has ended; every later call says the same.
    pub async fn next(&mut self) -> Result<Event, WatchClosed> {
        loop {
            self.wake_rx.borrow_and_update();
            if let Some(event) = self.try_next()? {
                return Ok(event);
            }
            self.wake_rx.changed().await.map_err(|_| WatchClosed::StoreClosed)?;
        }
    }

    /// The next event if there is one already: lets a writer of a response fill its buffer.
    ///
    /// # Errors
    /// When the watch has ended.
    pub fn try_next(&mut self) -> Result<Option<Event>, WatchClosed> {
        loop {
            if let Some(event) = self.taken.pop_front() {
                // A watch may begin in the future; what happens before that is not its business.
                if event.record.revision > self.from {
                    return Ok(Some(event));
                }
                continue;
            }
            let state = self.shared.read();
            let events = state.ring(&self.resource).ok_or(WatchClosed::StoreClosed)?.read(self.cursor, CHUNK);
            self.taken.extend(events.ok_or(WatchClosed::TooSlow)?.cloned());
            if self.taken.is_empty() {
                return if state.closed { Err(WatchClosed::StoreClosed) } else { Ok(None) };
            }
            self.cursor += u64::try_from(self.taken.len()).unwrap_or(u64::MAX);
        }
    }

    /// A revision up to which this watch has delivered everything, for bookmarks; `None` while events wait.
    #[must_use]
    pub fn progress(&self) -> Option<Revision> {
        let state = self.shared.read();
        let at_end = self.taken.is_empty() && state.ring(&self.resource)?.end() == self.cursor;
        at_end.then(|| state.revision.max(self.from))
    }

    /// The watch as a stream that ends after its first error.
    pub fn into_stream(self) -> impl Stream<Item = Result<Event, WatchClosed>> + Send {
        stream::unfold(Some(self), |watch| async move {
            let mut watch = watch?;
            match watch.next().await {
                Ok(event) => Some((Ok(event), Some(watch))),
                Err(closed) => Some((Err(closed), None)),
            }
        })
    }
}
