//! The revisioned object store: keys to encoded objects, one counter for all of them, and watches that miss nothing.
//!
//! It knows nothing about kinds, JSON shapes or HTTP: the API server hands it bytes and says how to read a head out of them.
//!
//! Reads never touch the disk: every record is held in memory, and a write becomes visible there only after the
//! [`Backend`] has made it durable. Writes pass through one committer thread, which gathers what is waiting into one batch.

mod backend;
mod committer;
mod memory;
mod pack;
mod sled;
mod state;
mod store;
mod types;
mod watch;

pub use crate::backend::{Backend, BackendError, Batch, Before, Change, Loaded, Stored};
pub use crate::memory::MemoryBackend;
pub use crate::sled::{FORMAT, SledBackend, SledOptions, SyncFn};
pub use crate::store::{FutureRevision, OpenError, Options, Store};
pub use crate::types::{CommitError, Encode, Event, EventKind, Expectation, Head, Key, Op, Record, Revision, Txn};
pub use crate::watch::{TooOld, Watch, WatchClosed};
