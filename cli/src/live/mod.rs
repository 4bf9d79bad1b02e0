//! What a lab looks like at every moment, for those who watch it: the dashboard and `minisvc top`.
//!
//! Objects are reduced to what is shown ([`records`]) and followed through the API ([`follow`]). Nothing is drawn here.

mod follow;
mod records;

pub(crate) use follow::follow;
pub(crate) use records::{
    Change, Endpoint, Key, Kind, NodeRecord, PodRecord, Port, Record, ServiceRecord, SliceRecord,
};
