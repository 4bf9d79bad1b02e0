//! The one writer: gathers waiting transactions into a batch, has the backend keep it, and only then shows it to readers.
//!
//! It runs on a thread of its own because keeping blocks, and so that a request dropped by its client can never be half done.

use std::collections::{BTreeMap, BTreeSet};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use tokio::sync::{mpsc, oneshot};
use tracing::{error, info};

use crate::backend::{Backend, BackendError, Batch, Before, Change};
use crate::state::Shared;
use crate::store::Options;
use crate::types::{CommitError, Encode, Event, EventKind, Head, Key, Op, Record, Revision, Txn};

/// Most transactions in one batch: bounds how long the first of them waits for the last.
const BATCH_TXNS: usize = 256;
/// Most events in one batch, unless one transaction alone has more: a watcher must be able to keep up with a batch.
const BATCH_EVENTS: usize = Txn::MAX_OPS;
/// Most bytes in one batch, plus one transaction.
const BATCH_BYTES: usize = 4 << 20;
/// How many revisions one durable mark covers. Writes that the backend does not keep need no sync of their own until
/// the mark is reached; a restart skips at most this many.
const FLOOR_BLOCK: u64 = 1000;

/// Store → committer.
pub(crate) enum Request {
    Commit { txn: Txn, answer_tx: Answer },
    Close { closed_tx: oneshot::Sender<()> },
}

type Answer = oneshot::Sender<Result<Revision, CommitError>>;

pub(crate) struct Committer {
    backend: Box<dyn Backend>,
    shared: Arc<Shared>,
    options: Options,
    /// The newest revision given to a transaction, whether or not it could be kept.
    last: Revision,
    /// Revisions up to this one are known to the backend as possibly used.
    floor: Revision,
    /// Volatile records by age.
    volatile: BTreeSet<(Revision, Key)>,
    /// Keys whose state in the backend is unknown, because a commit that touched them failed.
    unsettled: BTreeSet<Key>,
}

/// A batch in the making.
#[derive(Default)]
struct Staged {
    /// The newest state of every key that the batch touches.
    overlay: BTreeMap<Key, Option<Arc<Record>>>,
    events: Vec<Event>,
    bytes: usize,
    answers: Vec<(Answer, Result<Revision, CommitError>)>,
}

impl Staged {
    fn is_full(&self) -> bool {
        self.answers.len() >= BATCH_TXNS || self.events.len() >= BATCH_EVENTS || self.bytes >= BATCH_BYTES
    }

    fn add(&mut self, events: Vec<Event>) {
        for event in events {
            let newest = (event.kind != EventKind::Deleted).then(|| Arc::clone(&event.record));
            self.overlay.insert(event.record.key.clone(), newest);
            self.bytes += event.record.value.len();
            self.events.push(event);
        }
    }
}

impl Committer {
    pub(crate) fn new(backend: Box<dyn Backend>, shared: Arc<Shared>, options: Options, floor: Revision) -> Self {
        let last = shared.read().revision;
        Self { backend, shared, options, last, floor, volatile: BTreeSet::new(), unsettled: BTreeSet::new() }
    }

    /// Serves requests until the store is closed or nobody is left to ask.
    pub(crate) fn run(mut self, mut request_rx: mpsc::Receiver<Request>) {
        let mut closers = Vec::new();
        while let Some(first) = request_rx.blocking_recv() {
            let mut staged = Staged::default();
            let mut request = Some(first);
            while let Some(current) = request {
                match current {
                    Request::Commit { txn, answer_tx } => {
                        let result = self.stage(txn, &mut staged);
                        staged.answers.push((answer_tx, result));
                    }
                    // What is queued behind the close is still done; nothing new gets in.
                    Request::Close { closed_tx } => {
                        request_rx.close();
                        closers.push(closed_tx);
                    }
                }
                request = if staged.is_full() { None } else { request_rx.try_recv().ok() };
            }
            self.finish(staged);
            self.evict();
        }
        self.shared.close();
        // Dropping the backend releases its files, and whoever closed the store may open it again at once.
        drop(self.backend);
        for closed_tx in closers {
            // A closer that stopped waiting needs no answer.
            let _ = closed_tx.send(());
        }
    }

    /// Checks a transaction against memory and the batch so far, and adds it to the batch.
    fn stage(&mut self, txn: Txn, staged: &mut Staged) -> Result<Revision, CommitError> {
        if txn.ops.len() > Txn::MAX_OPS {
            return Err(CommitError::TooManyOps(txn.ops.len()));
        }
        for expectation in &txn.expect {
            let current = self.newest(expectation.key(), staged);
            if !expectation.holds(current.map(|record| record.revision)) {
                return Err(CommitError::Conflict(expectation.key().clone()));
            }
        }
        if txn.ops.is_empty() {
            return Ok(self.last);
        }
        let revision = self.last.next();
        let mut seen = BTreeSet::new();
        let mut events = Vec::with_capacity(txn.ops.len());
        for op in txn.ops {
            if !seen.insert(op.key().clone()) {
                return Err(CommitError::Repeated(op.key().clone()));
            }
            events.push(self.event(op, revision, staged)?);
        }
        self.last = revision;
        staged.add(events);
        Ok(revision)
    }

    fn event(&self, op: Op, revision: Revision, staged: &Staged) -> Result<Event, CommitError> {
        let previous = self.newest(op.key(), staged);
        let (key, head, encode, kind) = match op {
            Op::Put { key, head, encode } if previous.is_none() => (key, head, encode, EventKind::Added),
            Op::Put { key, head, encode } => (key, head, encode, EventKind::Modified),
            Op::Delete { key, .. } if previous.is_none() => return Err(CommitError::Conflict(key)),
            Op::Delete { key, head, encode } => (key, head, encode, EventKind::Deleted),
        };
        let key = match &previous {
            Some(previous) => previous.key.clone(),
            None => self.shared.read().with_known_names(key),
        };
        let record = self.record(key, head, encode, revision)?;
        Ok(Event { kind, record: Arc::new(record), previous })
    }

    /// Runs the caller's code. A panic in it is the caller's failure, not the end of all writing.
    fn record(&self, key: Key, head: Option<Head>, encode: Encode, revision: Revision) -> Result<Record, CommitError> {
        if [&key.resource, &key.namespace, &key.name].iter().any(|part| part.contains('\0')) {
            return Err(CommitError::BadKey(key));
        }
        let made = catch_unwind(AssertUnwindSafe(|| {
            let value = encode(revision);
            let head = head.unwrap_or_else(|| (self.options.parse_head)(&key, &value));
            (value, head)
        }));
        let Ok((value, head)) = made else { return Err(CommitError::Encode(key)) };
        if value.len() > Txn::MAX_VALUE {
            return Err(CommitError::TooLarge { key, bytes: value.len() });
        }
        Ok(Record { key, revision, head, value })
    }

    fn newest(&self, key: &Key, staged: &Staged) -> Option<Arc<Record>> {
        match staged.overlay.get(key) {
            Some(record) => record.clone(),
            None => self.shared.read().get(key).cloned(),
        }
    }

    /// Keeps the batch, shows it, answers. When it cannot be kept, nothing of it is ever shown.
    fn finish(&mut self, staged: Staged) {
        let kept = if staged.events.is_empty() { Ok(()) } else { self.keep(&staged.overlay) };
        match kept {
            Ok(()) => {
                self.age(&staged);
                if !staged.events.is_empty() {
                    self.shared.publish(staged.events, self.last);
                }
                for (answer_tx, result) in staged.answers {
                    // The caller may have gone away; what it asked for is done all the same.
                    let _ = answer_tx.send(result);
                }
            }
            Err(error) => {
                error!(%error, transactions = staged.answers.len(), "a batch could not be made durable");
                let error = Arc::new(error);
                for (answer_tx, result) in staged.answers {
                    let _ = answer_tx.send(result.and_then(|_| Err(CommitError::Backend(Arc::clone(&error)))));
                }
            }
        }
    }

    fn keep(&mut self, overlay: &BTreeMap<Key, Option<Arc<Record>>>) -> Result<(), BackendError> {
        let mut batch = Batch::default();
        {
            let state = self.shared.read();
            for (key, record) in overlay.iter().filter(|(key, _)| !(self.options.volatile)(key)) {
                let before = match state.get(key) {
                    _ if self.unsettled.contains(key) => Before::Unknown,
                    None => Before::Absent,
                    Some(record) => Before::At(record.revision),
                };
                batch.changes.push(self.change(key, before, record.as_ref()));
            }
            for key in self.unsettled.iter().filter(|key| !overlay.contains_key(key)) {
                batch.changes.push(self.change(key, Before::Unknown, state.get(key)));
            }
        }
        if self.last > self.floor {
            batch.floor = Some(Revision(self.last.0 + FLOOR_BLOCK));
        }
        if batch.changes.is_empty() && batch.floor.is_none() {
            return Ok(());
        }
        let result = catch_unwind(AssertUnwindSafe(|| self.backend.commit(&batch)));
        let result = result.unwrap_or(Err(BackendError::Panicked));
        match result {
            Ok(()) => {
                if !self.unsettled.is_empty() {
                    info!(records = self.unsettled.len(), "the store is durable again");
                    self.unsettled.clear();
                }
                self.floor = batch.floor.unwrap_or(self.floor);
            }
            Err(_) => self.unsettled.extend(batch.changes.into_iter().map(|change| change.key)),
        }
        result
    }

    fn change(&self, key: &Key, before: Before, record: Option<&Arc<Record>>) -> Change {
        Change {
            key: key.clone(),
            before,
            revision: record.map_or(self.last, |record| record.revision),
            value: record.map(|record| record.value.clone()),
        }
    }

    /// Keeps the ages of volatile records in step with a batch that is about to be shown.
    fn age(&mut self, staged: &Staged) {
        let state = self.shared.read();
        for (key, record) in staged.overlay.iter().filter(|(key, _)| (self.options.volatile)(key)) {
            if let Some(old) = state.get(key) {
                self.volatile.remove(&(old.revision, key.clone()));
            }
            if let Some(new) = record {
                self.volatile.insert((new.revision, key.clone()));
            }
        }
    }

    /// Drops the volatile records that were written longest ago until they fit, telling watchers like any deletion.
    fn evict(&mut self) {
        let excess = self.volatile.len().saturating_sub(self.options.volatile_records);
        if excess == 0 {
            return;
        }
        let oldest: Vec<Key> = self.volatile.iter().take(excess).map(|(_, key)| key.clone()).collect();
        let mut staged = Staged::default();
        for key in oldest {
            let Some(record) = self.newest(&key, &staged) else { continue };
            let restamp = self.options.restamp;
            let op = Op::delete(key, move |revision| restamp(&record, revision));
            if let Err(error) = self.stage(Txn { expect: Vec::new(), ops: vec![op] }, &mut staged) {
                error!(%error, "an old volatile record could not be dropped");
            }
        }
        self.finish(staged);
    }
}
