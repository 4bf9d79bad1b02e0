//! Whole requests: path, query with selectors, media types and body.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| minisvc_apiserver_fuzz::drive::request(data));
