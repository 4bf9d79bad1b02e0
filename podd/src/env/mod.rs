//! The environment of a container: which variables it gets and what they say. Values in, values out.

pub mod compose;
pub mod expand;
pub mod fields;
pub mod quantity;
pub mod services;
