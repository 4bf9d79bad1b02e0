//! Who owns whom, by uid. Pure bookkeeping.
//!
//! Its size is that of the API server's store, which has the limits. Most objects have no owner and are not being deleted: of them
//! it is known that they are there, and of which kind.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};

use crate::cache::Key;

/// Finalizer of an owner that waits for its dependants.
pub(crate) const FOREGROUND: &str = "foregroundDeletion";
/// Finalizer of an owner that lets its dependants go.
pub(crate) const ORPHAN: &str = "orphan";

/// What is known of an object that has owners, or is being deleted.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Case {
    /// Index of its kind among those served.
    pub(crate) kind: usize,
    pub(crate) key: Key,
    pub(crate) owners: Box<[Reference]>,
    pub(crate) deleting: bool,
    /// Deleted with propagationPolicy Foreground.
    pub(crate) foreground: bool,
    /// Deleted with propagationPolicy Orphan.
    pub(crate) orphan: bool,
}

/// An entry of `metadata.ownerReferences`.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Reference {
    /// Index of its kind among those served, if it is one of them.
    pub(crate) kind: Option<usize>,
    pub(crate) name: Box<str>,
    pub(crate) uid: Arc<str>,
    /// Whether the owner's foreground deletion waits for the object (`blockOwnerDeletion`).
    pub(crate) blocks: bool,
}

impl Case {
    /// Nothing, where there is nothing to judge. `find` answers the index of an owner's kind.
    pub(crate) fn of(
        kind: usize,
        meta: &ObjectMeta,
        find: impl Fn(&OwnerReference) -> Option<usize>,
    ) -> Option<Box<Self>> {
        let deleting = meta.deletion_timestamp.is_some();
        let owners = meta.owner_references.iter().flatten().map(|owner| Reference {
            kind: find(owner),
            name: owner.name.as_str().into(),
            uid: owner.uid.as_str().into(),
            blocks: owner.block_owner_deletion == Some(true),
        });
        let owners: Box<[Reference]> = owners.collect();
        if owners.is_empty() && !deleting {
            return None;
        }
        let has = |name: &str| meta.finalizers.iter().flatten().any(|finalizer| finalizer == name);
        let (foreground, orphan) = (deleting && has(FOREGROUND), deleting && has(ORPHAN));
        Some(Box::new(Self { kind, key: Key::of(meta), owners, deleting, foreground, orphan }))
    }

    /// Whether it waits for its blocking dependants to go.
    pub(crate) fn waits(&self) -> bool {
        self.deleting && self.foreground
    }
}

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct Graph {
    objects: HashMap<Arc<str>, Object>,
    /// Dependants by the uid of each owner they name, whether the owner exists or not; in order.
    dependants: HashMap<Arc<str>, Vec<Arc<str>>>,
}

#[derive(Debug)]
struct Object {
    kind: usize,
    case: Option<Box<Case>>,
}

impl Graph {
    /// Whether there is an object with this uid, as far as is known.
    pub(crate) fn contains(&self, uid: &str) -> bool {
        self.objects.contains_key(uid)
    }

    /// What there is to judge about an object.
    pub(crate) fn case(&self, uid: &str) -> Option<&Case> {
        self.objects.get(uid)?.case.as_deref()
    }

    /// Those that name `uid` as an owner.
    pub(crate) fn dependants(&self, uid: &str) -> impl Iterator<Item = (&str, &Case)> {
        let listed = self.dependants.get(uid).into_iter().flatten();
        listed.filter_map(|dependant| Some((&**dependant, self.case(dependant)?)))
    }

    /// Takes the present state of an object; answers the uids whose case has to be looked at.
    pub(crate) fn put(&mut self, uid: &str, kind: usize, mut case: Option<Box<Case>>) -> BTreeSet<String> {
        let known = self.unlink(uid);
        let (uid, before) = known.map_or_else(|| (Arc::from(uid), None), |(uid, object)| (uid, object.case));
        for owner in case.iter_mut().flat_map(|case| &mut case.owners) {
            if let Some((known, _)) = self.objects.get_key_value(&owner.uid) {
                owner.uid = Arc::clone(known);
            }
            let listed = self.dependants.entry(Arc::clone(&owner.uid)).or_default();
            if let Err(at) = listed.binary_search(&uid) {
                // Nearly always the only one.
                listed.reserve_exact(usize::from(listed.is_empty()));
                listed.insert(at, Arc::clone(&uid));
            }
        }
        let mut look = BTreeSet::new();
        if before != case {
            look.extend(case.is_some().then(|| uid.to_string()));
            if case.as_ref().is_some_and(|case| case.deleting) {
                // They may be waited for now, and their owners may have waited for this.
                look.extend(self.named_by(&uid));
            }
            // A dependant that lets an owner go may be what that owner waited for.
            look.extend(before.iter().flat_map(|before| &before.owners).map(|owner| owner.uid.to_string()));
        }
        self.objects.insert(uid, Object { kind, case });
        look
    }

    /// Forgets an object; answers the uids whose case has to be looked at.
    pub(crate) fn remove(&mut self, uid: &str) -> BTreeSet<String> {
        let Some((_, before)) = self.unlink(uid) else { return BTreeSet::new() };
        let owners = before.case.iter().flat_map(|case| &case.owners).map(|owner| owner.uid.to_string());
        self.named_by(uid).chain(owners).collect()
    }

    /// Uids of one kind, for comparing with a new listing.
    pub(crate) fn of_kind(&self, kind: usize) -> BTreeSet<String> {
        self.objects.iter().filter(|(_, object)| object.kind == kind).map(|(uid, _)| uid.to_string()).collect()
    }

    /// Every uid whose case may need a look.
    pub(crate) fn candidates(&self) -> Vec<String> {
        self.objects.iter().filter(|(_, object)| object.case.is_some()).map(|(uid, _)| uid.to_string()).collect()
    }

    /// Uids of those that name `uid` as an owner.
    fn named_by(&self, uid: &str) -> impl Iterator<Item = String> + use<'_> {
        self.dependants.get(uid).into_iter().flatten().map(|dependant| dependant.to_string())
    }

    fn unlink(&mut self, uid: &str) -> Option<(Arc<str>, Object)> {
        let (uid, before) = self.objects.remove_entry(uid)?;
        for owner in before.case.iter().flat_map(|case| &case.owners) {
            if let Some(listed) = self.dependants.get_mut(&owner.uid) {
                if let Ok(at) = listed.binary_search(&uid) {
                    listed.remove(at);
                }
                if listed.is_empty() {
                    self.dependants.remove(&owner.uid);
                }
            }
        }
        Some((uid, before))
    }
}
