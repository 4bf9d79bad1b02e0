//! What Pods and pod templates share: filling in and checking a pod spec.
//!
//! What only a Pod has (status, token volume, what an update may change) is in `pod/`.

mod containers;
mod defaulting;
mod placement;
mod probes;
mod validation;
mod volumes;

pub(super) use containers::same_quantity;
pub(super) use defaulting::{Owner, default};
pub(super) use validation::validate;
