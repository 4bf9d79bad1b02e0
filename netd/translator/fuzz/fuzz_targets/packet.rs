//! Parser and translator against arbitrary packets in arbitrary order.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| minisvc_translator_fuzz::drive::packets(data));
