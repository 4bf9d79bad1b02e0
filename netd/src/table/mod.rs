//! From records and links to the translator's table. Pure.
//!
//! [`Inputs`] has the records and knows what has changed, [`Builder`] brings the table to what they say.

mod build;
#[cfg(test)]
mod incremental_tests;
mod inputs;
#[cfg(test)]
mod naive;
mod nodes;
mod targets;
#[cfg(test)]
mod tests;

pub(crate) use build::Builder;
pub use inputs::LinkRole;
pub(crate) use inputs::{Changed, Inputs, LinkRecord, Ranges};
