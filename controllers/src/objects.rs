//! The objects of a cache by their names, and by more that they are looked up by.

use std::collections::{BTreeMap, HashMap};
use std::ops::Bound;
use std::sync::Arc;

use serde::Serialize;

use crate::cache::{Key, Object};

/// What an object is looked up by besides its name: each a namespace, and something in it.
pub(crate) type Files<K> = fn(&K) -> Vec<Key>;

/// How a cache keeps its objects.
///
/// One of Kubernetes' own types takes some kilobytes however little is in it. Of kinds that are many and are seldom read, small
/// objects are therefore kept as text; of larger ones the type is the smaller part.
pub(crate) enum Keeping<K> {
    /// As they are.
    Whole,
    /// As text, if it is no longer than [`PACKED`].
    Packed {
        /// Writes the text.
        write: fn(&K) -> Option<Box<[u8]>>,
    },
}

/// Bytes of text up to which reading it again is cheap.
const PACKED: usize = 4096;

impl<K: Serialize> Keeping<K> {
    /// The keeping of kinds that are many.
    pub(crate) fn packed() -> Self {
        Self::Packed { write: |object| serde_json::to_vec(object).ok().map(Vec::into_boxed_slice) }
    }
}

enum Kept<K> {
    Whole(Arc<K>),
    Packed(Box<[u8]>),
}

impl<K: Object> Kept<K> {
    fn read(&self) -> Option<Arc<K>> {
        match self {
            Self::Whole(object) => Some(object.clone()),
            // What a type has written it reads.
            Self::Packed(text) => serde_json::from_slice(text).ok().map(Arc::new),
        }
    }
}

/// See the module.
pub(crate) struct Objects<K> {
    by_key: BTreeMap<Key, Kept<K>>,
    keeping: Keeping<K>,
    files: Files<K>,
    /// Each in the order of their names.
    filed: HashMap<Key, Vec<Key>>,
}

impl<K: Object> Objects<K> {
    /// None, to be kept and filed as these say.
    pub(crate) fn new(keeping: Keeping<K>, files: Files<K>) -> Self {
        Self { by_key: BTreeMap::new(), keeping, files, filed: HashMap::new() }
    }

    pub(crate) fn get(&self, key: &Key) -> Option<Arc<K>> {
        self.by_key.get(key)?.read()
    }

    /// All of them by their names.
    pub(crate) fn all(&self) -> impl Iterator<Item = Arc<K>> {
        self.by_key.values().filter_map(Kept::read)
    }

    /// The names of all, in order.
    pub(crate) fn keys(&self) -> impl Iterator<Item = &Key> {
        self.by_key.keys()
    }

    /// Those of a namespace by their names.
    pub(crate) fn in_namespace<'a>(&'a self, namespace: &'a str) -> impl Iterator<Item = Arc<K>> + 'a {
        let from = Key::new(namespace, "");
        let range = self.by_key.range((Bound::Included(from), Bound::Unbounded));
        range.take_while(move |(key, _)| key.namespace == namespace).filter_map(|(_, kept)| kept.read())
    }

    /// Those that are filed under this.
    pub(crate) fn filed(&self, under: &Key) -> impl Iterator<Item = Arc<K>> {
        self.filed.get(under).into_iter().flatten().filter_map(|key| self.get(key))
    }

    /// Takes the present state of an object, in the place of `before`, which [`Self::get`] has answered.
    pub(crate) fn replace(&mut self, key: Key, before: Option<&K>, object: Arc<K>) {
        let under = (self.files)(&object);
        let under_before = before.map(self.files).unwrap_or_default();
        for file in under_before.iter().filter(|file| !under.contains(file)) {
            self.unfile(file, &key);
        }
        for file in under {
            let keys = self.filed.entry(file).or_default();
            if let Err(at) = keys.binary_search(&key) {
                // Nearly always the only one.
                keys.reserve_exact(usize::from(keys.is_empty()));
                keys.insert(at, key.clone());
            }
        }
        let text = match &self.keeping {
            Keeping::Whole => None,
            Keeping::Packed { write } => write(&object).filter(|text| text.len() <= PACKED),
        };
        self.by_key.insert(key, text.map_or(Kept::Whole(object), Kept::Packed));
    }

    pub(crate) fn remove(&mut self, key: &Key) -> Option<Arc<K>> {
        let removed = self.by_key.remove(key)?.read()?;
        for file in (self.files)(&removed) {
            self.unfile(&file, key);
        }
        Some(removed)
    }

    fn unfile(&mut self, under: &Key, key: &Key) {
        let Some(keys) = self.filed.get_mut(under) else { return };
        if let Ok(at) = keys.binary_search(key) {
            keys.remove(at);
        }
        if keys.is_empty() {
            self.filed.remove(under);
        }
    }
}

#[cfg(test)]
mod tests {
    use k8s_openapi::api::core::v1::ConfigMap;

    use super::*;

    fn map(name: &str, colours: &str) -> Arc<ConfigMap> {
        let mut map = ConfigMap::default();
        map.metadata.name = Some(name.to_owned());
        map.data = Some(colours.split_whitespace().map(|colour| (colour.to_owned(), "x".to_owned())).collect());
        Arc::new(map)
    }

    fn colours(map: &ConfigMap) -> Vec<Key> {
        map.data.iter().flatten().map(|(colour, _)| Key::new("", colour)).collect()
    }

    fn put(objects: &mut Objects<ConfigMap>, object: Arc<ConfigMap>) {
        let key = Key::of(&object.metadata);
        let before = objects.get(&key);
        objects.replace(key, before.as_deref(), object);
    }

    #[test]
    fn objects_are_found_by_what_they_are_filed_under_as_it_is_now() {
        for keeping in [Keeping::Whole, Keeping::packed()] {
            let mut objects = Objects::new(keeping, colours);
            let mut put = |name: &str, colours: &str| {
                put(&mut objects, map(name, colours));
                ["red", "blue"].map(|colour| {
                    let under = Key::new("", colour);
                    let names = objects.filed(&under).filter_map(|map| map.metadata.name.clone());
                    names.collect::<Vec<_>>().join(" ")
                })
            };
            assert_eq!(put("b", "red"), ["b", ""]);
            assert_eq!(put("a", "red"), ["a b", ""]);
            assert_eq!(put("a", "red"), ["a b", ""], "once");
            assert_eq!(put("a", "blue red"), ["a b", "a"], "under both");
            assert_eq!(put("a", "blue"), ["b", "a"]);
            assert_eq!(put("b", ""), ["", "a"]);
            assert!(objects.remove(&Key::new("", "a")).is_some() && objects.remove(&Key::new("", "a")).is_none());
            assert_eq!((objects.filed.len(), objects.by_key.len()), (0, 1), "and nothing is kept of what has gone");
        }
    }

    #[test]
    fn what_is_kept_as_text_is_what_was_put_in() {
        let mut objects = Objects::new(Keeping::packed(), colours);
        let (small, large) = (map("small", "red blue"), map("large", &"yellow ".repeat(2)));
        let large = Arc::new(ConfigMap {
            binary_data: Some([("x".to_owned(), k8s_openapi::ByteString(vec![1; PACKED]))].into()),
            ..(*large).clone()
        });
        for object in [&small, &large] {
            put(&mut objects, object.clone());
            assert_eq!(objects.get(&Key::of(&object.metadata)).as_ref(), Some(object));
        }
        let is_packed: Vec<bool> = objects.by_key.values().map(|kept| matches!(kept, Kept::Packed(_))).collect();
        assert_eq!(is_packed, [false, true], "the large one is kept as it is");
    }
}
