//! What a Kubernetes object may look like and how it is patched: pure functions over one schema table.
//!
//! It does not know HTTP, the store, or what a kind means: no defaulting or validation of meaning happens here.
//!
//! The table (`schema.txt`, written by `xtask schema`) says for every kind of Kubernetes v1.36 that is served which
//! fields it has, how their lists and maps merge and under which number protobuf carries them. Everything starts
//! with finding a kind in it:
//!
//! ```
//! let kind = minisvc_schema::Kind::find("", "v1", "Service").expect("Services are in the table");
//! let (body, duplicates) = minisvc_schema::decode_json(br#"{"spec":{"portz":[]}}"#)?;
//! assert_eq!(minisvc_schema::strict_errors(kind, &body, &duplicates), [r#"unknown field "spec.portz""#]);
//! # Ok::<(), minisvc_schema::DecodeError>(())
//! ```

mod apply;
mod decode;
mod error;
mod fields;
pub mod json_patch;
mod managers;
pub mod merge;
mod normalize;
mod openapi;
mod order;
mod protobuf;
mod quantity;
pub mod strategic;
mod strict;
mod swagger;
mod table;
#[cfg(test)]
mod testing;
mod typed;

pub use apply::{ApplyError, Conflict, Writer, apply, track_update};
pub use decode::{DecodeError, Duplicate, decode_json, decode_yaml};
pub use error::PatchError;
pub use fields::FieldSet;
pub use normalize::normalize;
pub use openapi::{OpenApi, Served, Swagger};
pub use protobuf::{DecodedProtobuf, ProtobufError, decode_protobuf};
pub use quantity::{Amount, canonical_quantity};
pub use strict::{strict_errors, type_errors, unknown_fields};
pub use table::Kind;
