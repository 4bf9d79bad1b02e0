//! Owns the inputs of the table and publishes a new table with one atomic swap.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use arc_swap::ArcSwap;
use minisvc_translator::ServiceTable;

use crate::claims::Clash;
use crate::table::{self, Inputs};
use crate::worker::Mailbox;

/// The one place that changes the table: links change it, and the API does.
pub(crate) struct Publisher {
    inputs: Mutex<Inputs>,
    clashes: Mutex<Vec<Clash>>,
    table: Arc<ArcSwap<ServiceTable>>,
    mailbox: Mailbox,
}

impl Publisher {
    /// Publishes to `table` and wakes the worker through `mailbox`.
    pub(crate) fn new(inputs: Inputs, table: Arc<ArcSwap<ServiceTable>>, mailbox: Mailbox) -> Self {
        Self { inputs: Mutex::new(inputs), clashes: Mutex::default(), table, mailbox }
    }

    /// Changes the inputs, builds a table of them and publishes it.
    ///
    /// The lock is held while the table is built (1.6 ms for 10,000 Services, measured), so that two changes at once
    /// cannot publish in the wrong order.
    pub(crate) fn update<T>(&self, change: impl FnOnce(&mut Inputs) -> T) -> T {
        let mut inputs = self.inputs.lock().unwrap_or_else(PoisonError::into_inner);
        let result = change(&mut inputs);
        let started = Instant::now();
        let (built, clashes) = table::build(&inputs);
        let (routes, frontends) = table::describe(&built);
        tracing::debug!(routes, frontends, micros = started.elapsed().as_micros(), "table published");
        self.table.store(Arc::new(built));
        self.mailbox.ring();
        let mut known = self.clashes.lock().unwrap_or_else(PoisonError::into_inner);
        for clash in clashes.iter().filter(|clash| !known.contains(clash)) {
            tracing::warn!(claimant = ?clash.claimant, "{clash}");
        }
        *known = clashes;
        result
    }

    /// The table that was published last.
    pub(crate) fn table(&self) -> Arc<ServiceTable> {
        self.table.load_full()
    }

    /// The claims of Services that were not granted.
    pub(crate) fn clashes(&self) -> Vec<Clash> {
        self.clashes.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}
