//! What the store asks of the thing that keeps records: the seam for sled now and etcd later.
//!
//! It is shaped by what etcd can do: read a range at one revision (`load`) and compare-and-commit (`commit`).
//! Watching from a revision joins it when the first shared backend does; an embedded one has a single writer.

use std::io;
use std::path::PathBuf;

use bytes::Bytes;

use crate::types::{Key, Revision};

/// Keeps records across restarts. Driven by one thread, the committer.
pub trait Backend: Send + 'static {
    /// Everything that is stored, at one revision. Called once, before any commit.
    ///
    /// # Errors
    /// When the records cannot be read or are not in a format that this version understands.
    fn load(&mut self) -> Result<Loaded, BackendError>;

    /// Applies the whole batch or nothing, and returns only when it will survive a power cut.
    ///
    /// After an error it is unknown whether the batch was kept; the store repairs that with its next batch.
    ///
    /// # Errors
    /// When it could not be made durable, or when a record was not as [`Change::before`] says.
    fn commit(&mut self, batch: &Batch) -> Result<(), BackendError>;
}

/// What [`Backend::load`] found.
#[derive(Clone, Debug, Default)]
pub struct Loaded {
    /// All records, in any order.
    pub records: Vec<Stored>,
    /// The newest [`Batch::floor`], zero when there was none.
    pub floor: Revision,
}

/// A record as it is kept.
#[derive(Clone, Debug)]
pub struct Stored {
    /// What it is called.
    pub key: Key,
    /// The revision that wrote it.
    pub revision: Revision,
    /// The encoded object.
    pub value: Bytes,
}

/// Several transactions, committed together. Each key occurs once, with its last state.
#[derive(Clone, Debug, Default)]
pub struct Batch {
    /// What changes.
    pub changes: Vec<Change>,
    /// When set: revisions up to this one may have been handed out, so after a restart all are greater.
    pub floor: Option<Revision>,
}

/// One record's change.
#[derive(Clone, Debug)]
pub struct Change {
    /// Whose.
    pub key: Key,
    /// What the backend holds now.
    pub before: Before,
    /// The revision of the change.
    pub revision: Revision,
    /// The new state; `None` removes it.
    pub value: Option<Bytes>,
}

/// What the backend holds of a key before a change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Before {
    /// Unknown, because the last commit that touched it failed.
    Unknown,
    /// Nothing.
    Absent,
    /// The record written at this revision.
    At(Revision),
}

/// Why a backend could not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub enum BackendError {
    /// A record is not what the store believes: someone else writes to the same place.
    #[error("{0} was changed behind the store's back")]
    Raced(Key),
    /// sled said no.
    #[error("the database in {path} failed")]
    Database {
        /// Where it lives.
        path: PathBuf,
        /// What it said.
        #[source]
        source: sled::Error,
    },
    /// The file system said no.
    #[error("{path}")]
    Io {
        /// What was being read or written.
        path: PathBuf,
        /// What it said.
        #[source]
        source: io::Error,
    },
    /// A stored record cannot be understood.
    #[error("a stored record cannot be read: {0}")]
    BadRecord(String),
    /// The disk lost something that was handed to it; what comes after could not be found again.
    #[error("the disk under {0} failed; restart minisvc, which reads again what is really there")]
    Broken(PathBuf),
    /// The backend panicked; it is asked again next time.
    #[error("the backend panicked")]
    Panicked,
}
