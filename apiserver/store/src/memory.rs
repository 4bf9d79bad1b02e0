//! A backend that keeps nothing beyond the process: for labs without a state directory, and for tests.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;

use crate::backend::{Backend, BackendError, Batch, Before, Loaded, Stored};
use crate::types::{Key, Revision};

/// Keeps records in memory. Clones share them, so a store can be closed and opened again.
#[derive(Clone, Debug, Default)]
pub struct MemoryBackend {
    kept: Arc<Mutex<Kept>>,
}

#[derive(Debug, Default)]
struct Kept {
    records: BTreeMap<Key, (Revision, Bytes)>,
    floor: Revision,
}

impl MemoryBackend {
    /// An empty one.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }
}

impl Backend for MemoryBackend {
    fn load(&mut self) -> Result<Loaded, BackendError> {
        let kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        let records = kept
            .records
            .iter()
            .map(|(key, (revision, value))| Stored { key: key.clone(), revision: *revision, value: value.clone() })
            .collect();
        Ok(Loaded { records, floor: kept.floor })
    }

    fn commit(&mut self, batch: &Batch) -> Result<(), BackendError> {
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        for change in &batch.changes {
            let current = kept.records.get(&change.key).map_or(Before::Absent, |(revision, _)| Before::At(*revision));
            if change.before != Before::Unknown && change.before != current {
                return Err(BackendError::Raced(change.key.clone()));
            }
        }
        for change in &batch.changes {
            match &change.value {
                Some(value) => kept.records.insert(change.key.clone(), (change.revision, value.clone())),
                None => kept.records.remove(&change.key),
            };
        }
        kept.floor = batch.floor.unwrap_or(kept.floor);
        Ok(())
    }
}
