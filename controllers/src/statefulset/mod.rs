//! StatefulSets: pods with names that stay, made and replaced in order (P-103 to P-110).

mod apply;
mod desired;
mod pod;
mod status;

pub(crate) use apply::wire;
