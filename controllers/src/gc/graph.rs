//! Who owns whom: the metadata of every object, by uid. Pure bookkeeping.
//!
//! Its size is that of the API server's store, which has the limits.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};

use crate::cache::Key;

/// Finalizer of an owner that waits for its dependants.
pub(crate) const FOREGROUND: &str = "foregroundDeletion";
/// Finalizer of an owner that lets its dependants go.
pub(crate) const ORPHAN: &str = "orphan";

/// What the collector knows of an object.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Entry {
    /// Index of its kind among those served.
    pub(crate) kind: usize,
    pub(crate) key: Key,
    pub(crate) owners: Vec<OwnerReference>,
    pub(crate) deleting: bool,
    /// Deleted with propagationPolicy Foreground.
    pub(crate) foreground: bool,
    /// Deleted with propagationPolicy Orphan.
    pub(crate) orphan: bool,
}

impl Entry {
    pub(crate) fn new(kind: usize, meta: &ObjectMeta) -> Self {
        let deleting = meta.deletion_timestamp.is_some();
        let has = |name: &str| meta.finalizers.iter().flatten().any(|finalizer| finalizer == name);
        Self {
            kind,
            key: Key::of(meta),
            owners: meta.owner_references.clone().unwrap_or_default(),
            deleting,
            foreground: deleting && has(FOREGROUND),
            orphan: deleting && has(ORPHAN),
        }
    }

    /// Whether it waits for its blocking dependants to go.
    pub(crate) fn waits(&self) -> bool {
        self.deleting && self.foreground
    }
}

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct Graph {
    entries: HashMap<String, Entry>,
    /// Dependants by the uid of each owner they name, whether the owner exists or not.
    dependants: HashMap<String, BTreeSet<String>>,
}

impl Graph {
    pub(crate) fn get(&self, uid: &str) -> Option<&Entry> {
        self.entries.get(uid)
    }

    /// Those that name `uid` as an owner.
    pub(crate) fn dependants(&self, uid: &str) -> impl Iterator<Item = (&str, &Entry)> {
        let listed = self.dependants.get(uid).into_iter().flatten();
        listed.filter_map(|dependant| Some((dependant.as_str(), self.entries.get(dependant)?)))
    }

    /// Takes the present state of an object; answers the uids whose case has to be looked at.
    pub(crate) fn put(&mut self, uid: &str, entry: Entry) -> BTreeSet<String> {
        let before = self.unlink(uid);
        for owner in &entry.owners {
            self.dependants.entry(owner.uid.clone()).or_default().insert(uid.to_owned());
        }
        let mut look = BTreeSet::new();
        let changed = before.as_ref() != Some(&entry);
        if changed && (!entry.owners.is_empty() || entry.deleting) {
            look.insert(uid.to_owned());
        }
        if changed && entry.deleting {
            // They may be waited for now, and their owners may have waited for this.
            look.extend(self.dependants.get(uid).into_iter().flatten().cloned());
        }
        // A dependant that lets an owner go may be what that owner waited for.
        look.extend(before.iter().flat_map(|before| &before.owners).map(|owner| owner.uid.clone()).filter(|_| changed));
        self.entries.insert(uid.to_owned(), entry);
        look
    }

    /// Forgets an object; answers the uids whose case has to be looked at.
    pub(crate) fn remove(&mut self, uid: &str) -> BTreeSet<String> {
        let Some(before) = self.unlink(uid) else { return BTreeSet::new() };
        let mut look: BTreeSet<String> = self.dependants.get(uid).into_iter().flatten().cloned().collect();
        look.extend(before.owners.into_iter().map(|owner| owner.uid));
        look
    }

    /// Uids of one kind, for comparing with a new listing.
    pub(crate) fn of_kind(&self, kind: usize) -> BTreeSet<String> {
        self.entries.iter().filter(|(_, entry)| entry.kind == kind).map(|(uid, _)| uid.clone()).collect()
    }

    /// Every uid whose case may need a look.
    pub(crate) fn candidates(&self) -> BTreeMap<String, Key> {
        let of_interest = |entry: &Entry| !entry.owners.is_empty() || entry.deleting;
        let listed = self.entries.iter().filter(|(_, entry)| of_interest(entry));
        listed.map(|(uid, entry)| (uid.clone(), entry.key.clone())).collect()
    }

    fn unlink(&mut self, uid: &str) -> Option<Entry> {
        let before = self.entries.remove(uid)?;
        for owner in &before.owners {
            if let Some(listed) = self.dependants.get_mut(&owner.uid) {
                listed.remove(uid);
                if listed.is_empty() {
                    self.dependants.remove(&owner.uid);
                }
            }
        }
        Some(before)
    }
}
