//! What containers print: kept in one file per instance, read back with `kubectl logs` semantics.

pub(crate) mod line;
pub(crate) mod read;
pub(crate) mod write;

pub use line::OutputStream;
pub use read::{LogError, LogOptions};
