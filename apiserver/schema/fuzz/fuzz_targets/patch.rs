//! The four kinds of patches on objects of any shape.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| minisvc_schema_fuzz::drive::patch(data));
