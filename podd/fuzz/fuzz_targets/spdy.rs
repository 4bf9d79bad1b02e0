//! SPDY frames in pieces of any size.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| minisvc_podd_fuzz::drive::spdy(data));
