//! What readers see: every record, and per resource a ring of recent events. Only the committer changes it.

use std::collections::{BTreeMap, VecDeque};
use std::ops::Bound;
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use tokio::sync::watch;

use crate::types::{Event, EventKind, Key, Record, Revision};
use crate::watch::TooOld;

/// The state and who waits for it to change.
#[derive(Debug)]
pub(crate) struct Shared {
    state: RwLock<State>,
    /// Committer → those who wait for a revision.
    pub(crate) revision_tx: watch::Sender<Revision>,
}

impl Shared {
    pub(crate) fn new(state: State) -> Self {
        let revision_tx = watch::Sender::new(state.revision);
        Self { state: RwLock::new(state), revision_tx }
    }

    /// For a short look. A panic while the lock was held cannot have left half a change: every change is made of
    /// infallible steps, so a poisoned lock is used as it is.
    pub(crate) fn read(&self) -> RwLockReadGuard<'_, State> {
        self.state.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, State> {
        self.state.write().unwrap_or_else(PoisonError::into_inner)
    }

    /// Makes committed events visible, all at once, and wakes whoever waits for them.
    pub(crate) fn publish(&self, events: Vec<Event>, revision: Revision) {
        self.write().publish(events, revision);
        self.revision_tx.send_replace(revision);
    }

    /// The shelf of `resource`, made when it is new, for a watcher to wait on.
    pub(crate) fn subscribe(&self, resource: &str, from: Revision) -> Result<Subscription, TooOld> {
        let mut state = self.write();
        let shelf = state.shelf(&Arc::from(resource));
        if from < shelf.ring.forgotten {
            return Err(TooOld { requested: from, oldest: shelf.ring.forgotten });
        }
        Ok(Subscription { cursor: shelf.ring.position_after(from), wake_rx: shelf.wake_tx.subscribe() })
    }

    /// Ends every watch.
    pub(crate) fn close(&self) {
        let mut state = self.write();
        state.closed = true;
        for shelf in state.shelves.values() {
            shelf.wake_tx.send_replace(());
        }
    }
}

/// Where a new watch begins.
#[derive(Debug)]
pub(crate) struct Subscription {
    pub(crate) cursor: u64,
    pub(crate) wake_rx: watch::Receiver<()>,
}

/// How much history a resource keeps. The oldest events go first.
#[derive(Clone, Copy, Debug)]
pub(crate) struct RingLimits {
    pub(crate) events: usize,
    pub(crate) bytes: usize,
}

#[derive(Debug)]
pub(crate) struct State {
    pub(crate) revision: Revision,
    pub(crate) closed: bool,
    /// Where this life of the store began: older history is not kept across restarts.
    opened_at: Revision,
    limits: RingLimits,
    shelves: BTreeMap<Arc<str>, Shelf>,
}

/// The records of one namespace, by name.
type Names = BTreeMap<Arc<str>, Arc<Record>>;

/// One resource.
#[derive(Debug)]
struct Shelf {
    namespaces: BTreeMap<Arc<str>, Names>,
    ring: Ring,
    /// Committer → watches of this resource: there is something new in the ring.
    wake_tx: watch::Sender<()>,
}

impl State {
    pub(crate) fn new(records: impl IntoIterator<Item = Record>, opened_at: Revision, limits: RingLimits) -> Self {
        let mut state = Self { revision: opened_at, closed: false, opened_at, limits, shelves: BTreeMap::new() };
        for record in records {
            let key = state.with_known_names(record.key);
            let resource = Arc::clone(&key.resource);
            state.shelf(&resource).insert(Arc::new(Record { key, ..record }));
        }
        state
    }

    pub(crate) fn get(&self, key: &Key) -> Option<&Arc<Record>> {
        self.shelves.get(&key.resource)?.namespaces.get(&key.namespace)?.get(&key.name)
    }

    /// The key with the names of resource and namespace that other records have: thousands of records then share them.
    pub(crate) fn with_known_names(&self, mut key: Key) -> Key {
        if let Some((resource, shelf)) = self.shelves.get_key_value(&key.resource) {
            key.resource = Arc::clone(resource);
            if let Some((namespace, _)) = shelf.namespaces.get_key_value(&key.namespace) {
                key.namespace = Arc::clone(namespace);
            }
        }
        key
    }

    pub(crate) fn list(&self, resource: &str, namespace: Option<&str>) -> Vec<Arc<Record>> {
        let Some(shelf) = self.shelves.get(resource) else { return Vec::new() };
        match namespace {
            Some(namespace) => {
                shelf.namespaces.get(namespace).into_iter().flat_map(BTreeMap::values).cloned().collect()
            }
            None => shelf.namespaces.values().flat_map(BTreeMap::values).cloned().collect(),
        }
    }

    /// The names of the resources that have records, with how many.
    pub(crate) fn counts(&self) -> Vec<(Arc<str>, usize)> {
        self.shelves
            .iter()
            .map(|(resource, shelf)| (Arc::clone(resource), shelf.namespaces.values().map(BTreeMap::len).sum()))
            .collect()
    }

    /// The names of the resources that were ever asked about, with how many watches each has.
    pub(crate) fn watchers(&self) -> Vec<(Arc<str>, usize)> {
        self.shelves.iter().map(|(resource, shelf)| (Arc::clone(resource), shelf.wake_tx.receiver_count())).collect()
    }

    /// Every transaction takes one revision.
    pub(crate) fn commits(&self) -> u64 {
        self.revision.0 - self.opened_at.0
    }

    pub(crate) fn changed_at(&self, resources: &[&str]) -> Revision {
        let shelves = resources.iter().filter_map(|resource| self.shelves.get(*resource));
        shelves.map(|shelf| shelf.ring.newest()).max().unwrap_or(self.opened_at)
    }

    pub(crate) fn ring(&self, resource: &str) -> Option<&Ring> {
        self.shelves.get(resource).map(|shelf| &shelf.ring)
    }

    fn shelf(&mut self, resource: &Arc<str>) -> &mut Shelf {
        self.shelves.entry(Arc::clone(resource)).or_insert_with(|| Shelf {
            namespaces: BTreeMap::new(),
            ring: Ring::new(self.opened_at),
            wake_tx: watch::Sender::new(()),
        })
    }

    fn publish(&mut self, events: Vec<Event>, revision: Revision) {
        let limits = self.limits;
        let mut touched: Vec<Arc<str>> = Vec::new();
        for event in events {
            let resource = Arc::clone(&event.record.key.resource);
            let shelf = self.shelf(&resource);
            match event.kind {
                EventKind::Added | EventKind::Modified => shelf.insert(Arc::clone(&event.record)),
                EventKind::Deleted => shelf.remove(&event.record.key),
            }
            shelf.ring.push(event, limits);
            if !touched.contains(&resource) {
                touched.push(resource);
            }
        }
        self.revision = revision;
        for resource in touched {
            self.shelf(&resource).wake_tx.send_replace(());
        }
    }
}

impl Shelf {
    fn insert(&mut self, record: Arc<Record>) {
        let names = self.namespaces.entry(Arc::clone(&record.key.namespace)).or_default();
        names.insert(Arc::clone(&record.key.name), record);
    }

    fn remove(&mut self, key: &Key) {
        let Some(names) = self.namespaces.get_mut(&key.namespace) else { return };
        names.remove(&key.name);
        if names.is_empty() {
            self.namespaces.remove(&key.namespace);
        }
    }
}

/// The recent events of one resource in revision order. Watches read it at a cursor of their own, so a slow one
/// costs nothing and holds nobody up: it finds its cursor forgotten and ends.
#[derive(Debug)]
pub(crate) struct Ring {
    events: VecDeque<Event>,
    bytes: usize,
    /// The position of the first event that is still here; positions count events since the store was opened.
    first: u64,
    /// The newest revision of which an event may be missing.
    forgotten: Revision,
}

impl Ring {
    fn new(forgotten: Revision) -> Self {
        Self { events: VecDeque::new(), bytes: 0, first: 0, forgotten }
    }

    fn push(&mut self, event: Event, limits: RingLimits) {
        self.bytes += event.bytes();
        self.events.push_back(event);
        // The newest event always stays, or a large object could never be watched.
        while self.events.len() > 1 && (self.events.len() > limits.events || self.bytes > limits.bytes) {
            let Some(gone) = self.events.pop_front() else { break };
            self.bytes -= gone.bytes();
            self.first += 1;
            self.forgotten = gone.record.revision;
        }
    }

    /// The revision of the newest event; without one, that from which on none can be missing.
    fn newest(&self) -> Revision {
        self.events.back().map_or(self.forgotten, |event| event.record.revision)
    }

    fn position_after(&self, from: Revision) -> u64 {
        self.first + count(self.events.partition_point(|event| event.record.revision <= from))
    }

    /// Up to `most` events from `cursor` on; `None` when some of them are forgotten.
    pub(crate) fn read(&self, cursor: u64, most: usize) -> Option<impl Iterator<Item = &Event>> {
        let skip = usize::try_from(cursor.checked_sub(self.first)?).unwrap_or(usize::MAX).min(self.events.len());
        Some(self.events.range((Bound::Included(skip), Bound::Unbounded)).take(most))
    }

    /// The position of the next event.
    pub(crate) fn end(&self) -> u64 {
        self.first + count(self.events.len())
    }
}

/// A length as a position. usize has at most 64 bits on every target of Rust's standard library.
fn count(length: usize) -> u64 {
    u64::try_from(length).unwrap_or(u64::MAX)
}
