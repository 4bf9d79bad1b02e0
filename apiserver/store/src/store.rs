//! The store as its callers see it: reads from memory, writes through the committer.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use bytes::Bytes;
use serde_json::Value;
use tokio::sync::{mpsc, oneshot};

use crate::backend::{Backend, BackendError};
use crate::committer::{Committer, Request};
use crate::state::{RingLimits, Shared, State};
use crate::types::{CommitError, Head, Key, Record, Revision, Txn};
use crate::watch::{TooOld, Watch};

/// How the store reads objects, and its limits. [`Options::new`] fills in the limits.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// Reads the head out of an encoded object. Called for every write and for every record at start.
    pub parse_head: fn(&Key, &[u8]) -> Head,
    /// Whether a record is kept in memory only, such as an Event.
    pub volatile: fn(&Key) -> bool,
    /// The object's bytes with another revision in them, for records that the store itself drops.
    pub restamp: fn(&Record, Revision) -> Bytes,
    /// What a record of an earlier version of the program is read as; `None` leaves it. It is not written back.
    pub upgrade: fn(&Key, &[u8]) -> Option<Bytes>,
    /// Most events kept per resource for watches to resume from; the oldest go first.
    pub ring_events: usize,
    /// Most bytes of objects, as they were before and after, kept in those events per resource; the oldest go first.
    pub ring_bytes: usize,
    /// Most volatile records, all resources together; those written longest ago go first.
    pub volatile_records: usize,
    /// How many transactions may wait for the committer; further callers wait their turn.
    pub queue: usize,
}

impl Options {
    /// Options with the usual limits: 4096 events and 16 MiB of history per resource, 4096 volatile records.
    #[must_use]
    pub fn new(parse_head: fn(&Key, &[u8]) -> Head, volatile: fn(&Key) -> bool) -> Self {
        Self {
            parse_head,
            volatile,
            restamp: restamp_json,
            upgrade: |_, _| None,
            ring_events: 4 * Txn::MAX_OPS,
            ring_bytes: 16 << 20,
            volatile_records: 4096,
            queue: 256,
        }
    }
}

/// Sets `metadata.resourceVersion` of a JSON object. What is not a JSON object stays as it is.
fn restamp_json(record: &Record, revision: Revision) -> Bytes {
    let Ok(mut object) = serde_json::from_slice::<Value>(&record.value) else { return record.value.clone() };
    match object.get_mut("metadata").and_then(Value::as_object_mut) {
        Some(metadata) => metadata.insert("resourceVersion".to_owned(), revision.to_string().into()),
        None => return record.value.clone(),
    };
    Bytes::from(object.to_string())
}

/// Why a store could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Another process uses the same state directory.
    #[error("{path} is in use by another minisvc{}; stop it first, or choose another --state-dir", by(*pid))]
    Locked {
        /// The state directory.
        path: PathBuf,
        /// Who, if it could be read.
        pid: Option<u32>,
    },
    /// The state was written by a version with another format.
    #[error(
        "{path} holds state in format {found}, this minisvc reads format {expected}: \
         use the minisvc that wrote it, or start afresh with another --state-dir"
    )]
    Format {
        /// The state directory.
        path: PathBuf,
        /// What is there.
        found: String,
        /// What this version can read.
        expected: u32,
    },
    /// The backend failed.
    #[error("the stored objects cannot be read")]
    Backend(#[from] BackendError),
    /// The committer's thread could not be started.
    #[error("the store's thread cannot be started")]
    Thread(#[source] std::io::Error),
}

fn by(pid: Option<u32>) -> String {
    pid.map_or_else(String::new, |pid| format!(" (pid {pid})"))
}

/// The revision did not come in time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("revision {requested} is in the future, the store is at {current}")]
pub struct FutureRevision {
    /// What was waited for.
    pub requested: Revision,
    /// Where the store is.
    pub current: Revision,
}

/// A handle on the store; clones are the same store.
///
/// When the last one is dropped the committer ends by itself; [`Store::close`] also waits for that.
#[derive(Clone)]
pub struct Store {
    shared: Arc<Shared>,
    /// Callers → committer. Full: the caller waits.
    request_tx: mpsc::Sender<Request>,
    thread: Arc<Mutex<Option<JoinHandle<()>>>>,
}

impl std::fmt::Debug for Store {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Store").field("revision", &self.revision()).finish_non_exhaustive()
    }
}

impl Store {
    /// Reads everything that `backend` keeps and starts the committer. Blocks for as long as the reading takes.
    ///
    /// # Errors
    /// When the records cannot be read.
    pub fn open(backend: impl Backend, options: Options) -> Result<Self, OpenError> {
        let mut backend: Box<dyn Backend> = Box::new(backend);
        let loaded = backend.load()?;
        let newest = loaded.records.iter().map(|record| record.revision).max().unwrap_or_default();
        // One more than any revision of an earlier life, so that nobody can resume a watch in the history that is gone.
        let opened_at = newest.max(loaded.floor).next();
        let records = loaded.records.into_iter().map(|stored| {
            let value = (options.upgrade)(&stored.key, &stored.value).unwrap_or(stored.value);
            let head = (options.parse_head)(&stored.key, &value);
            Record { key: stored.key, revision: stored.revision, head, value }
        });
        let limits = RingLimits { events: options.ring_events, bytes: options.ring_bytes };
        let shared = Arc::new(Shared::new(State::new(records, opened_at, limits)));

        let (request_tx, request_rx) = mpsc::channel(options.queue.max(1));
        let committer = Committer::new(backend, Arc::clone(&shared), options, loaded.floor);
        let thread = thread::Builder::new()
            .name("store-committer".to_owned())
            .spawn(move || committer.run(request_rx))
            .map_err(OpenError::Thread)?;
        Ok(Self { shared, request_tx, thread: Arc::new(Mutex::new(Some(thread))) })
    }

    /// The newest revision that is visible.
    #[must_use]
    pub fn revision(&self) -> Revision {
        self.shared.read().revision
    }

    /// The newest state of one object.
    #[must_use]
    pub fn get(&self, key: &Key) -> Option<Arc<Record>> {
        self.shared.read().get(key).cloned()
    }

    /// All records of a resource (of one namespace, if given) sorted by namespace and name, and the revision at which
    /// exactly these existed: a watch from there misses nothing.
    #[must_use]
    pub fn list(&self, resource: &str, namespace: Option<&str>) -> (Vec<Arc<Record>>, Revision) {
        let state = self.shared.read();
        (state.list(resource, namespace), state.revision)
    }

    /// How many records each resource has that was ever used, sorted by resource.
    #[must_use]
    pub fn counts(&self) -> Vec<(Arc<str>, usize)> {
        self.shared.read().counts()
    }

    /// How many watches each resource has, sorted by resource.
    #[must_use]
    pub fn watchers(&self) -> Vec<(Arc<str>, usize)> {
        self.shared.read().watchers()
    }

    /// How many transactions were done since the store was opened.
    #[must_use]
    pub fn commits(&self) -> u64 {
        self.shared.read().commits()
    }

    /// The newest revision at which something of these resources changed: as long as it stays the same, so do they.
    #[must_use]
    pub fn changed_at(&self, resources: &[&str]) -> Revision {
        self.shared.read().changed_at(resources)
    }

    /// Does all of `txn` or nothing, and returns its revision once that is durable and visible to readers.
    ///
    /// Dropping the future does not undo a transaction that is already queued.
    ///
    /// # Errors
    /// When it was not done, see [`CommitError`].
    pub async fn commit(&self, txn: Txn) -> Result<Revision, CommitError> {
        let (answer_tx, answer_rx) = oneshot::channel();
        let request = Request::Commit { txn, answer_tx };
        self.request_tx.send(request).await.map_err(|_| CommitError::Closed)?;
        answer_rx.await.map_err(|_| CommitError::Closed)?
    }

    /// The events of `resource` with a revision greater than `from`, past and coming. `from` may lie in the future.
    ///
    /// # Errors
    /// When events after `from` are no longer kept.
    pub fn watch(&self, resource: &str, from: Revision) -> Result<Watch, TooOld> {
        Watch::new(Arc::clone(&self.shared), resource, from)
    }

    /// Returns as soon as the store is at `revision` or later.
    ///
    /// # Errors
    /// When that does not happen within `timeout`.
    pub async fn wait_for(&self, revision: Revision, timeout: Duration) -> Result<(), FutureRevision> {
        let mut revision_rx = self.shared.revision_tx.subscribe();
        let reached = revision_rx.wait_for(|current| *current >= revision);
        match tokio::time::timeout(timeout, reached).await {
            Ok(Ok(_)) => Ok(()),
            Ok(Err(_)) | Err(_) => Err(FutureRevision { requested: revision, current: self.revision() }),
        }
    }

    /// Does what is queued, ends every watch, releases the backend's files, and returns when that is done.
    /// Later writes fail; reads still answer from memory.
    pub async fn close(&self) {
        let (closed_tx, closed_rx) = oneshot::channel();
        if self.request_tx.send(Request::Close { closed_tx }).await.is_ok() {
            // An error means that the committer is already gone.
            let _ = closed_rx.await;
        }
        let thread = self.thread.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(thread) = thread {
            // It has nothing left to do but to return. Its panic, if any, was logged by the panic hook.
            let _ = thread.join();
        }
    }
}
