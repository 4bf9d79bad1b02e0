//! The objects of a cache by their names, and by one more thing that they are looked up by.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use crate::cache::{Key, Object};

/// What an object is looked up by besides its name, if by anything: a namespace, and something in it.
pub(crate) type Files<K> = fn(&K) -> Option<Key>;

/// See the module.
pub(crate) struct Objects<K> {
    by_key: BTreeMap<Key, Arc<K>>,
    files: Files<K>,
    /// Each in the order of their names.
    filed: HashMap<Key, Vec<Arc<K>>>,
}

impl<K: Object> Objects<K> {
    /// None, to be filed as `files` says.
    pub(crate) fn new(files: Files<K>) -> Self {
        Self { by_key: BTreeMap::new(), files, filed: HashMap::new() }
    }

    /// All of them by their names.
    pub(crate) fn by_key(&self) -> &BTreeMap<Key, Arc<K>> {
        &self.by_key
    }

    /// Those that are filed under this.
    pub(crate) fn filed(&self, under: &Key) -> &[Arc<K>] {
        self.filed.get(under).map_or(&[], Vec::as_slice)
    }

    pub(crate) fn insert(&mut self, key: Key, object: Arc<K>) -> Option<Arc<K>> {
        let before = self.by_key.insert(key, object.clone());
        if let Some(before) = &before {
            self.unfile(before);
        }
        if let Some(under) = (self.files)(&object) {
            let files = self.filed.entry(under).or_default();
            let name = &object.meta().name;
            let at = files.partition_point(|other| other.meta().name < *name);
            // Nearly always the only one.
            files.reserve_exact(1);
            files.insert(at, object);
        }
        before
    }

    pub(crate) fn remove(&mut self, key: &Key) -> Option<Arc<K>> {
        let removed = self.by_key.remove(key)?;
        self.unfile(&removed);
        Some(removed)
    }

    fn unfile(&mut self, object: &Arc<K>) {
        let Some(under) = (self.files)(object) else { return };
        let Some(files) = self.filed.get_mut(&under) else { return };
        files.retain(|other| !Arc::ptr_eq(other, object));
        if files.is_empty() {
            self.filed.remove(&under);
        }
    }
}

#[cfg(test)]
mod tests {
    use k8s_openapi::api::core::v1::ConfigMap;

    use super::*;

    fn map(name: &str, colour: Option<&str>) -> Arc<ConfigMap> {
        let mut map = ConfigMap::default();
        map.metadata.name = Some(name.to_owned());
        map.metadata.labels = colour.map(|colour| BTreeMap::from([("colour".to_owned(), colour.to_owned())]));
        Arc::new(map)
    }

    #[test]
    fn objects_are_found_by_what_they_are_filed_under_as_it_is_now() {
        let colour = |map: &ConfigMap| Some(Key::new("", map.metadata.labels.as_ref()?.get("colour")?.clone()));
        let mut objects = Objects::new(colour);
        let mut put = |name: &str, colour: Option<&str>| {
            objects.insert(Key::new("", name), map(name, colour));
            ["red", "blue"].map(|colour| {
                let names = objects.filed(&Key::new("", colour)).iter().filter_map(|map| map.metadata.name.clone());
                names.collect::<Vec<_>>().join(" ")
            })
        };
        assert_eq!(put("b", Some("red")), ["b", ""]);
        assert_eq!(put("a", Some("red")), ["a b", ""]);
        assert_eq!(put("a", Some("red")), ["a b", ""], "once");
        assert_eq!(put("a", Some("blue")), ["b", "a"]);
        assert_eq!(put("b", None), ["", "a"]);
        assert!(objects.remove(&Key::new("", "a")).is_some() && objects.remove(&Key::new("", "a")).is_none());
        assert_eq!((objects.filed.len(), objects.by_key().len()), (0, 1), "and nothing is kept of what has gone");
    }
}
