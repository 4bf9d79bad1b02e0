//! What a lab looks like at every moment, for those who watch it: the dashboard and `minisvc top`.
//!
//! Objects are reduced to what is shown ([`records`]) and followed through the API ([`follow()`]). Nothing is drawn here.

mod follow;
pub(crate) mod records;

pub(crate) use follow::follow;
pub(crate) use records::{Change, Key, Kind, PodRecord, Record, ServiceRecord};
