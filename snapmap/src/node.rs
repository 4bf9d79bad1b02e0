//! The tree behind the map: each level reads four bits of the hash.

use std::array;
use std::borrow::Borrow;
use std::slice;
use std::sync::Arc;

/// Bits of the hash that a level reads.
const BITS: u32 = 4;

/// Children of a branch.
const WIDTH: usize = 1 << BITS;

/// Entries of a leaf; one more makes a branch of it. They are searched one by one.
const LEAF: usize = 8;

/// Where the hash has no bits left. Only keys with one and the same hash meet there, in a leaf of any size.
const DEEPEST: u32 = u64::BITS / BITS;

#[derive(Clone)]
pub(crate) struct Entry<K, V> {
    pub(crate) hash: u64,
    pub(crate) key: K,
    pub(crate) value: V,
}

/// A part of the map.
pub(crate) enum Node<K, V> {
    Empty,
    Leaf(Arc<[Entry<K, V>]>),
    Branch(Arc<[Self; WIDTH]>),
}

impl<K, V> Clone for Node<K, V> {
    fn clone(&self) -> Self {
        match self {
            Self::Empty => Self::Empty,
            Self::Leaf(entries) => Self::Leaf(Arc::clone(entries)),
            Self::Branch(children) => Self::Branch(Arc::clone(children)),
        }
    }
}

/// Which child of a branch at this depth a hash leads to.
fn place(hash: u64, depth: u32) -> usize {
    let bits = hash.checked_shr(depth * BITS).unwrap_or(0);
    usize::try_from(bits).unwrap_or(usize::MAX) % WIDTH
}

fn position<K: Borrow<Q>, Q: Eq + ?Sized, V>(entries: &[Entry<K, V>], hash: u64, key: &Q) -> Option<usize> {
    entries.iter().position(|entry| entry.hash == hash && entry.key.borrow() == key)
}

impl<K, V> Node<K, V> {
    pub(crate) fn find<Q: Eq + ?Sized>(&self, hash: u64, key: &Q) -> Option<&V>
    where
        K: Borrow<Q>,
    {
        let (mut node, mut rest) = (self, hash);
        loop {
            match node {
                Self::Empty => return None,
                Self::Leaf(entries) => {
                    let found = entries.iter().find(|entry| entry.hash == hash && entry.key.borrow() == key);
                    return found.map(|entry| &entry.value);
                }
                Self::Branch(children) => {
                    node = children.get(place(rest, 0))?;
                    rest >>= BITS;
                }
            }
        }
    }

    /// Every entry, in no order.
    pub(crate) fn entries(&self) -> Entries<'_, K, V> {
        Entries { leaf: [].iter(), nodes: vec![slice::from_ref(self).iter()] }
    }

    /// Calls `each` for every entry that the two do not share, with whether it is one of the older's.
    pub(crate) fn compare<'a>(older: &'a Self, newer: &'a Self, each: &mut impl FnMut(bool, &'a Entry<K, V>)) {
        match (older, newer) {
            (Self::Branch(before), Self::Branch(after)) => {
                if !Arc::ptr_eq(before, after) {
                    before.iter().zip(after.iter()).for_each(|(before, after)| Self::compare(before, after, each));
                }
            }
            (Self::Leaf(before), Self::Leaf(after)) if Arc::ptr_eq(before, after) => {}
            _ => {
                older.entries().for_each(|entry| each(true, entry));
                newer.entries().for_each(|entry| each(false, entry));
            }
        }
    }
}

impl<K: Clone, V: Clone> Node<K, V> {
    /// Puts an entry in; returns what its key had. What others share is copied first.
    pub(crate) fn put(&mut self, entry: Entry<K, V>, depth: u32) -> Option<V>
    where
        K: Eq,
    {
        match self {
            Self::Empty => {
                *self = Self::Leaf(Arc::new([entry]));
                None
            }
            Self::Leaf(entries) => {
                if let Some(at) = position(entries, entry.hash, &entry.key) {
                    let known = Arc::make_mut(entries).get_mut(at)?;
                    return Some(std::mem::replace(&mut known.value, entry.value));
                }
                let all = entries.iter().cloned().chain([entry]);
                *self = if entries.len() < LEAF || depth == DEEPEST {
                    Self::Leaf(all.collect())
                } else {
                    split(all, depth)
                };
                None
            }
            Self::Branch(children) => {
                let child = Arc::make_mut(children).get_mut(place(entry.hash, depth))?;
                child.put(entry, depth + 1)
            }
        }
    }

    /// Takes an entry out; returns its value.
    pub(crate) fn take<Q: Eq + ?Sized>(&mut self, hash: u64, key: &Q, depth: u32) -> Option<V>
    where
        K: Borrow<Q>,
    {
        match self {
            Self::Empty => None,
            Self::Leaf(entries) => {
                let at = position(entries, hash, key)?;
                let value = entries.get(at)?.value.clone();
                let rest = entries.iter().enumerate().filter(|(other, _)| *other != at).map(|(_, entry)| entry.clone());
                *self = if entries.len() == 1 { Self::Empty } else { Self::Leaf(rest.collect()) };
                Some(value)
            }
            Self::Branch(children) => {
                let children = Arc::make_mut(children);
                let value = children.get_mut(place(hash, depth))?.take(hash, key, depth + 1);
                let mut left = children.iter().filter(|child| !matches!(child, Self::Empty));
                // A branch that leads to one leaf only is longer than it need be.
                match (left.next(), left.next()) {
                    (None, _) => *self = Self::Empty,
                    (Some(Self::Leaf(only)), None) => *self = Self::Leaf(Arc::clone(only)),
                    _ => {}
                }
                value
            }
        }
    }
}

/// A branch of entries that are too many for a leaf.
fn split<K: Clone + Eq, V: Clone>(entries: impl Iterator<Item = Entry<K, V>>, depth: u32) -> Node<K, V> {
    let mut children: [Node<K, V>; WIDTH] = array::from_fn(|_| Node::Empty);
    for entry in entries {
        if let Some(child) = children.get_mut(place(entry.hash, depth)) {
            child.put(entry, depth + 1);
        }
    }
    Node::Branch(Arc::new(children))
}

/// See [`Node::entries`].
pub(crate) struct Entries<'a, K, V> {
    leaf: slice::Iter<'a, Entry<K, V>>,
    /// What is still to be visited, the deepest last.
    nodes: Vec<slice::Iter<'a, Node<K, V>>>,
}

impl<'a, K, V> Iterator for Entries<'a, K, V> {
    type Item = &'a Entry<K, V>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            if let Some(entry) = self.leaf.next() {
                return Some(entry);
            }
            match self.nodes.last_mut()?.next() {
                None => drop(self.nodes.pop()),
                Some(Node::Empty) => {}
                Some(Node::Leaf(entries)) => self.leaf = entries.iter(),
                Some(Node::Branch(children)) => self.nodes.push(children.iter()),
            }
        }
    }
}
