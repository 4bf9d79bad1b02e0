//! Owns the inputs of the table and publishes a new table with one atomic swap.

use std::collections::HashSet;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use arc_swap::ArcSwap;
use minisvc_translator::ServiceTable;
use tokio::sync::watch;

use crate::claims::Clash;
use crate::health::Health;
use crate::table::{Builder, Changed, Inputs};
use crate::worker::Mailbox;

/// The one place that changes the table: links change it, and the API does.
pub(crate) struct Publisher {
    state: Mutex<State>,
    clashes: watch::Sender<Arc<Vec<Clash>>>,
    health: watch::Sender<Arc<Health>>,
    table: Arc<ArcSwap<ServiceTable>>,
    mailbox: Mailbox,
}

struct State {
    inputs: Inputs,
    builder: Builder,
}

impl Publisher {
    /// Publishes to `table` and wakes the worker through `mailbox`.
    pub(crate) fn new(inputs: Inputs, table: Arc<ArcSwap<ServiceTable>>, mailbox: Mailbox) -> Self {
        Self {
            state: Mutex::new(State { inputs, builder: Builder::default() }),
            clashes: watch::Sender::default(),
            health: watch::Sender::default(),
            table,
            mailbox,
        }
    }

    /// Changes the inputs, and publishes a table of them if it is another one.
    ///
    /// The lock is held while the table is built, so that two changes at once cannot publish in the wrong order.
    pub(crate) fn update<T>(&self, change: impl FnOnce(&mut Inputs) -> T) -> T {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let State { inputs, builder } = &mut *state;
        let result = change(inputs);
        let changed = inputs.take_changed();
        if changed.is_nothing() {
            return result;
        }
        let started = Instant::now();
        builder.update(inputs, &changed);
        self.table.store(Arc::new(builder.table().clone()));
        self.mailbox.announce();
        let (routes, frontends) = builder.table().size();
        tracing::debug!(routes, frontends, micros = started.elapsed().as_micros(), "table published");
        self.tell_health(inputs, &changed);
        if let Some(clashes) = builder.changed_clashes() {
            self.tell_clashes(clashes);
        }
        result
    }

    /// The table that was published last.
    pub(crate) fn table(&self) -> Arc<ServiceTable> {
        self.table.load_full()
    }

    /// The claims of Services that were not granted.
    pub(crate) fn clashes(&self) -> Vec<Clash> {
        Vec::clone(&self.clashes.borrow())
    }

    fn tell_health(&self, inputs: &Inputs, changed: &Changed) {
        self.health.send_if_modified(|known| {
            let now = known.after(inputs, changed);
            let differs = now.is_some();
            if let Some(now) = now {
                *known = Arc::new(now);
            }
            differs
        });
    }

    fn tell_clashes(&self, clashes: Vec<Clash>) {
        self.clashes.send_if_modified(|known| {
            if **known == clashes {
                return false;
            }
            let before: HashSet<&Clash> = known.iter().collect();
            for clash in clashes.iter().filter(|clash| !before.contains(clash)) {
                tracing::warn!(claimant = ?clash.claimant, "{clash}");
            }
            *known = Arc::new(clashes);
            true
        });
    }

    /// What nodes say of their health.
    pub(crate) fn health(&self) -> watch::Receiver<Arc<Health>> {
        self.health.subscribe()
    }

    /// Tells when there are others.
    pub(crate) fn follow_clashes(&self) -> watch::Receiver<Arc<Vec<Clash>>> {
        self.clashes.subscribe()
    }
}
