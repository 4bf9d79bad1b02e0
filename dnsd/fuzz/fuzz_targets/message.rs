//! The way of a message through the DNS server, from bytes to bytes, against arbitrary bytes.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| minisvc_dnsd_fuzz::drive::message(data));
