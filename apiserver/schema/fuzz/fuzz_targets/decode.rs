//! Bodies in JSON, YAML and protobuf, and what is asked of the schema about them.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| minisvc_schema_fuzz::drive::decode(data));
