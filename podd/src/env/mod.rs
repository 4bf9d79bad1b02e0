//! The environment of a container: which variables it gets and what they say. Values in, values out.

pub(crate) mod compose;
pub(crate) mod expand;
pub(crate) mod fields;
pub(crate) mod services;
