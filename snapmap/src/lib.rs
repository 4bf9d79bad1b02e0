//! A hash map whose copies share what they have in common: a copy costs nothing, a change to it a little, whatever its size.
//!
//! Tables that readers take as a whole are made of it, so that a new table costs what has changed and not what there is.
//! Why it is our own: docs/decisions/0016-tables-share-what-stays.md.

mod node;

use std::borrow::Borrow;
use std::fmt;
use std::hash::{BuildHasher, Hash, RandomState};

use node::{Entry, Node};

/// A hash map. Cloning shares everything; what is changed afterwards is copied, along one path of a shallow tree.
pub struct SnapMap<K, V, S = RandomState> {
    root: Node<K, V>,
    len: usize,
    hasher: S,
}

impl<K, V> SnapMap<K, V> {
    /// An empty map.
    pub fn new() -> Self {
        Self::default()
    }
}

impl<K, V, S> SnapMap<K, V, S> {
    /// How many entries there are.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Every entry, in no order.
    pub fn iter(&self) -> impl Iterator<Item = (&K, &V)> {
        self.root.entries().map(|entry| (&entry.key, &entry.value))
    }
}

impl<K: Hash + Eq, V, S: BuildHasher> SnapMap<K, V, S> {
    /// The value of a key.
    pub fn get<Q>(&self, key: &Q) -> Option<&V>
    where
        K: Borrow<Q>,
        Q: Hash + Eq + ?Sized,
    {
        self.root.find(self.hasher.hash_one(key), key)
    }

    /// Whether a key has a value.
    pub fn contains_key<Q>(&self, key: &Q) -> bool
    where
        K: Borrow<Q>,
        Q: Hash + Eq + ?Sized,
    {
        self.get(key).is_some()
    }

    /// Calls `each` for every key that may not have one value in both maps, with what it has in the older and in the newer one.
    ///
    /// What a map shares with the copy it was made from is not looked at, so this costs what was changed in between. A key
    /// whose value has stayed may be among those that are told.
    pub fn compare<'a>(older: &'a Self, newer: &'a Self, mut each: impl FnMut(&'a K, Option<&'a V>, Option<&'a V>)) {
        Node::compare(&older.root, &newer.root, &mut |of_older, entry| {
            let (other, key) = (if of_older { newer } else { older }.get(&entry.key), &entry.key);
            match (of_older, other) {
                (true, value) => each(key, Some(&entry.value), value),
                (false, None) => each(key, None, Some(&entry.value)),
                // It was told when the older map's entry was met.
                (false, Some(_)) => {}
            }
        });
    }
}

impl<K: Hash + Eq + Clone, V: Clone, S: BuildHasher> SnapMap<K, V, S> {
    /// Gives a key a value, and returns the one it had.
    pub fn insert(&mut self, key: K, value: V) -> Option<V> {
        let hash = self.hasher.hash_one(&key);
        let before = self.root.put(Entry { hash, key, value }, 0);
        self.len += usize::from(before.is_none());
        before
    }

    /// Takes a key away, and returns the value it had.
    pub fn remove<Q>(&mut self, key: &Q) -> Option<V>
    where
        K: Borrow<Q>,
        Q: Hash + Eq + ?Sized,
    {
        let hash = self.hasher.hash_one(key);
        // Nothing is copied for a key that is not there.
        self.root.find(hash, key)?;
        let before = self.root.take(hash, key, 0);
        self.len -= usize::from(before.is_some());
        before
    }
}

impl<K, V, S: Clone> Clone for SnapMap<K, V, S> {
    fn clone(&self) -> Self {
        Self { root: self.root.clone(), len: self.len, hasher: self.hasher.clone() }
    }
}

impl<K, V, S: Default> Default for SnapMap<K, V, S> {
    fn default() -> Self {
        Self { root: Node::Empty, len: 0, hasher: S::default() }
    }
}

impl<K: fmt::Debug, V: fmt::Debug, S> fmt::Debug for SnapMap<K, V, S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map().entries(self.iter()).finish()
    }
}

impl<K: Hash + Eq + Clone, V: Clone, S: BuildHasher + Default> FromIterator<(K, V)> for SnapMap<K, V, S> {
    fn from_iter<I: IntoIterator<Item = (K, V)>>(entries: I) -> Self {
        let mut map = Self::default();
        for (key, value) in entries {
            map.insert(key, value);
        }
        map
    }
}

#[cfg(test)]
mod tests;
