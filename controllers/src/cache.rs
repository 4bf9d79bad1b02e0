//! One shared, watched copy of every object of a kind.
//!
//! Owns the watch of its kind and tells handlers what changed. It decides nothing and writes nothing; a controller
//! that wrote an object puts the server's answer in at once ([`Cache::wrote`]), so that its next run counts what the
//! run before it made without waiting for the watch. That is what keeps a burst of events from creating twice.
//!
//! Its size is that of the API server's store, which has the limits.

use std::collections::HashSet;
use std::fmt::Debug;
use std::sync::{Arc, PoisonError, RwLock};

use futures::StreamExt;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::runtime::watcher::{self, Event};
use kube::runtime::{WatchStreamExt, watcher as watch_kind};
use kube::{Api, Resource};
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::objects::{Files, Keeping, Objects};

/// What a cache can hold.
pub(crate) trait Object:
    Resource<DynamicType = ()> + Clone + Debug + DeserializeOwned + Send + Sync + 'static
{
}
impl<K> Object for K where K: Resource<DynamicType = ()> + Clone + Debug + DeserializeOwned + Send + Sync + 'static {}

/// Namespace (empty for cluster-scoped kinds) and name of an object.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Key {
    pub(crate) namespace: String,
    pub(crate) name: String,
}

impl Key {
    pub(crate) fn new(namespace: impl Into<String>, name: impl Into<String>) -> Self {
        Self { namespace: namespace.into(), name: name.into() }
    }

    pub(crate) fn of(meta: &ObjectMeta) -> Self {
        Self::new(meta.namespace.clone().unwrap_or_default(), meta.name.clone().unwrap_or_default())
    }
}

impl std::fmt::Display for Key {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if self.namespace.is_empty() { f.write_str(&self.name) } else { write!(f, "{}/{}", self.namespace, self.name) }
    }
}

/// Who told the cache about a change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Origin {
    /// The watch: somebody wrote the object.
    Watch,
    /// The answer to a write of one of our own controllers.
    Own,
}

/// One object before and after: created (no `before`), changed, or deleted (no `after`).
pub(crate) struct Change<'a, K> {
    pub(crate) before: Option<&'a K>,
    pub(crate) after: Option<&'a K>,
    pub(crate) origin: Origin,
}

impl<'a, K> Change<'a, K> {
    /// The states there are, the newer one last.
    pub(crate) fn states(&self) -> impl Iterator<Item = &'a K> {
        self.before.into_iter().chain(self.after)
    }
}

type Handler<K> = Box<dyn Fn(&Change<'_, K>) + Send + Sync>;

/// See the module.
pub(crate) struct Cache<K> {
    state: RwLock<State<K>>,
    handlers: RwLock<Vec<Handler<K>>>,
    synced: watch::Sender<bool>,
}

struct State<K> {
    objects: Objects<K>,
    /// The latest revision the watch has told of. An answer that is no later and whose object is not here is about an
    /// object that has been deleted since.
    seen: u64,
    /// Uids which we deleted and whose DELETED event is still to come: older events must not bring them back.
    deleted: HashSet<String>,
    /// Keys written by us while a listing is under way, which that listing may have missed.
    written_while_listing: Option<HashSet<Key>>,
}

impl<K: Object> Cache<K> {
    pub(crate) fn new() -> Arc<Self> {
        Self::keeping(Keeping::Whole, |_| Vec::new())
    }

    /// A cache of a kind of which there may be thousands ([`Keeping`]).
    pub(crate) fn packing() -> Arc<Self>
    where
        K: Serialize,
    {
        Self::packing_filed(|_| Vec::new())
    }

    /// The same, whose objects are also found by what `files` says of them ([`Self::filed`]).
    pub(crate) fn packing_filed(files: Files<K>) -> Arc<Self>
    where
        K: Serialize,
    {
        Self::keeping(Keeping::packed(), files)
    }

    fn keeping(keeping: Keeping<K>, files: Files<K>) -> Arc<Self> {
        let objects = Objects::new(keeping, files);
        let state = State { objects, seen: 0, deleted: HashSet::new(), written_while_listing: None };
        Arc::new(Self { state: RwLock::new(state), handlers: RwLock::default(), synced: watch::Sender::new(false) })
    }

    /// Calls `handler` for every change from now on. It runs on the watch's task and must not block.
    pub(crate) fn on_change(&self, handler: impl Fn(&Change<'_, K>) + Send + Sync + 'static) {
        self.handlers.write().unwrap_or_else(PoisonError::into_inner).push(Box::new(handler));
    }

    pub(crate) fn get(&self, key: &Key) -> Option<Arc<K>> {
        self.read().objects.get(key)
    }

    /// Every object, ordered by namespace and name.
    pub(crate) fn all(&self) -> Vec<Arc<K>> {
        self.read().objects.all().collect()
    }

    /// The names of all objects, in order.
    pub(crate) fn keys(&self) -> Vec<Key> {
        self.read().objects.keys().cloned().collect()
    }

    /// The objects of one namespace, ordered by name.
    pub(crate) fn in_namespace(&self, namespace: &str) -> Vec<Arc<K>> {
        self.select(namespace, |_| true)
    }

    /// The objects of one namespace that `accept` wants, ordered by name. It runs under the lock: it must be quick and ask no
    /// cache.
    pub(crate) fn select(&self, namespace: &str, accept: impl Fn(&K) -> bool) -> Vec<Arc<K>> {
        self.read().objects.in_namespace(namespace).filter(|object| accept(object)).collect()
    }

    /// The objects that are filed under this, ordered by name, however many others there are.
    pub(crate) fn filed(&self, under: &Key) -> Vec<Arc<K>> {
        self.read().objects.filed(under).collect()
    }

    /// Takes the server's answer to a create, update or patch.
    pub(crate) fn wrote(&self, object: K) {
        let key = Key::of(object.meta());
        if let Some(written) = &mut self.write().written_while_listing {
            written.insert(key.clone());
        }
        self.put(key, object, Origin::Own);
    }

    /// Forgets an object which the server has deleted at our request, or says it does not have.
    pub(crate) fn gone(&self, key: &Key) {
        let removed = {
            let mut state = self.write();
            let removed = state.objects.remove(key);
            if let Some(uid) = removed.as_ref().and_then(|object| object.meta().uid.clone()) {
                state.deleted.insert(uid);
            }
            removed
        };
        self.tell(removed.as_deref(), None, Origin::Own);
    }

    /// There is nothing to watch: the kind is not served.
    pub(crate) fn is_empty_for_good(&self) {
        self.synced.send_replace(true);
    }

    /// Resolves when the first listing is complete.
    pub(crate) async fn synced(&self) {
        // The sender lives in self, so the wait can only end with the condition.
        let _ = self.synced.subscribe().wait_for(|synced| *synced).await;
    }

    /// Keeps the cache up to date until `shutdown`. Watch errors are logged and retried with back-off.
    pub(crate) async fn run(self: Arc<Self>, api: Api<K>, config: watcher::Config, shutdown: CancellationToken) {
        let kind = K::kind(&());
        let mut events = std::pin::pin!(watch_kind(api, config).default_backoff());
        let mut listed = Vec::new();
        loop {
            let event = tokio::select! {
                () = shutdown.cancelled() => return,
                event = events.next() => event,
            };
            match event {
                Some(Ok(Event::Init)) => {
                    listed.clear();
                    self.write().written_while_listing = Some(HashSet::new());
                }
                Some(Ok(Event::InitApply(object))) => listed.push(object),
                Some(Ok(Event::InitDone)) => {
                    self.replace_all(std::mem::take(&mut listed));
                    self.synced.send_replace(true);
                }
                Some(Ok(Event::Apply(object))) => self.put(Key::of(object.meta()), object, Origin::Watch),
                Some(Ok(Event::Delete(object))) => self.deleted(&object),
                Some(Err(error)) => tracing::warn!(%kind, %error, "watch interrupted, will be resumed"),
                None => return,
            }
        }
    }

    fn put(&self, key: Key, mut object: K, origin: Origin) {
        // Half of an object's memory, and of no use to a controller.
        object.meta_mut().managed_fields = None;
        let object = Arc::new(object);
        let before = {
            let mut state = self.write();
            if object.meta().uid.as_ref().is_some_and(|uid| state.deleted.contains(uid)) {
                return;
            }
            let revision = revision(object.meta()).unwrap_or(0);
            let before = state.objects.get(&key);
            match &before {
                Some(known) if !newer(object.meta(), known.meta()) => return,
                None if origin == Origin::Own && revision <= state.seen => return,
                _ => {}
            }
            if origin == Origin::Watch {
                state.seen = state.seen.max(revision);
            }
            state.objects.replace(key, before.as_deref(), object.clone());
            before
        };
        self.tell(before.as_deref(), Some(&object), origin);
    }

    fn deleted(&self, object: &K) {
        let key = Key::of(object.meta());
        let removed = {
            let mut state = self.write();
            state.seen = state.seen.max(revision(object.meta()).unwrap_or(0));
            if let Some(uid) = &object.meta().uid {
                state.deleted.remove(uid);
            }
            // A namesake may have been created, and written here, since.
            match state.objects.get(&key) {
                Some(known) if known.meta().uid == object.meta().uid => state.objects.remove(&key),
                _ => None,
            }
        };
        if let Some(removed) = removed {
            self.tell(Some(&removed), None, Origin::Watch);
        }
    }

    fn replace_all(&self, listed: Vec<K>) {
        let mut present = HashSet::new();
        let missing: Vec<Key> = {
            let mut state = self.write();
            state.deleted.clear();
            let written = state.written_while_listing.take().unwrap_or_default();
            present.extend(listed.iter().map(|object| Key::of(object.meta())));
            let gone = |key: &&Key| !present.contains(key) && !written.contains(key);
            state.objects.keys().filter(gone).cloned().collect()
        };
        for key in missing {
            let removed = self.write().objects.remove(&key);
            self.tell(removed.as_deref(), None, Origin::Watch);
        }
        for object in listed {
            self.put(Key::of(object.meta()), object, Origin::Watch);
        }
    }

    fn tell(&self, before: Option<&K>, after: Option<&K>, origin: Origin) {
        let change = Change { before, after, origin };
        for handler in self.handlers.read().unwrap_or_else(PoisonError::into_inner).iter() {
            handler(&change);
        }
    }

    // A panic in a handler leaves the map whole, so a poisoned lock is still good.
    fn read(&self) -> std::sync::RwLockReadGuard<'_, State<K>> {
        self.state.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> std::sync::RwLockWriteGuard<'_, State<K>> {
        self.state.write().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Whether `new` is a later state than `known`. One that cannot be compared counts as later.
fn newer(new: &ObjectMeta, known: &ObjectMeta) -> bool {
    match (revision(new), revision(known)) {
        (Some(new), Some(known)) => new > known,
        _ => true,
    }
}

/// Revisions are decimal and grow with each write (S-236).
fn revision(meta: &ObjectMeta) -> Option<u64> {
    meta.resource_version.as_ref()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use k8s_openapi::api::core::v1::ConfigMap;

    use super::*;

    #[test]
    fn an_answer_counts_at_once_and_its_watch_event_is_no_change() {
        let (cache, changes) = counted();
        cache.wrote(object("a", "u1", "5"));
        assert!(cache.get(&Key::new("ns", "a")).is_some());
        cache.put(Key::new("ns", "a"), object("a", "u1", "5"), Origin::Watch);
        cache.put(Key::new("ns", "a"), object("a", "u1", "4"), Origin::Watch);
        assert_eq!(changes.load(Ordering::SeqCst), 1);
        cache.put(Key::new("ns", "a"), object("a", "u1", "6"), Origin::Watch);
        assert_eq!(changes.load(Ordering::SeqCst), 2);
    }

    #[test]
    fn events_from_before_our_delete_do_not_bring_the_object_back() {
        let (cache, _) = counted();
        cache.wrote(object("a", "u1", "5"));
        cache.gone(&Key::new("ns", "a"));
        cache.put(Key::new("ns", "a"), object("a", "u1", "6"), Origin::Watch);
        assert!(cache.get(&Key::new("ns", "a")).is_none());
        cache.deleted(&object("a", "u1", "7"));
        assert!(cache.read().deleted.is_empty(), "nothing is remembered once the event has come");
    }

    #[test]
    fn the_delete_of_a_namesake_does_not_remove_its_successor() {
        let (cache, _) = counted();
        cache.wrote(object("a", "u2", "9"));
        cache.deleted(&object("a", "u1", "8"));
        assert!(cache.get(&Key::new("ns", "a")).is_some());
    }

    #[test]
    fn an_answer_that_comes_after_the_delete_does_not_bring_the_object_back() {
        let (cache, changes) = counted();
        cache.deleted(&object("a", "u1", "7"));
        cache.wrote(object("a", "u1", "6"));
        assert!(cache.get(&Key::new("ns", "a")).is_none());
        cache.wrote(object("a", "u2", "8"));
        assert!(cache.get(&Key::new("ns", "a")).is_some());
        assert_eq!(changes.load(Ordering::SeqCst), 1);
    }

    #[test]
    fn a_listing_removes_what_is_missing_but_not_what_was_written_meanwhile() {
        let (cache, changes) = counted();
        cache.wrote(object("old", "u1", "1"));
        cache.write().written_while_listing = Some(HashSet::new());
        cache.wrote(object("new", "u2", "9"));
        cache.replace_all(vec![object("other", "u3", "3")]);
        let names: Vec<_> = cache.in_namespace("ns").iter().map(|o| o.metadata.name.clone().unwrap()).collect();
        assert_eq!(names, ["new", "other"]);
        assert_eq!(changes.load(Ordering::SeqCst), 4);
        assert!(cache.in_namespace("n").is_empty());
    }

    fn counted() -> (Arc<Cache<ConfigMap>>, Arc<AtomicUsize>) {
        let cache = Cache::new();
        let changes = Arc::new(AtomicUsize::new(0));
        let count = changes.clone();
        cache.on_change(move |_| {
            count.fetch_add(1, Ordering::SeqCst);
        });
        (cache, changes)
    }

    fn object(name: &str, uid: &str, revision: &str) -> ConfigMap {
        let metadata = ObjectMeta {
            namespace: Some("ns".into()),
            name: Some(name.into()),
            uid: Some(uid.into()),
            resource_version: Some(revision.into()),
            ..ObjectMeta::default()
        };
        ConfigMap { metadata, ..ConfigMap::default() }
    }
}
