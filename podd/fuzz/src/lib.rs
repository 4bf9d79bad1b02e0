//! What the fuzz targets of podd share: its frame reader, by itself, because the rest of podd needs a machine.

#![allow(dead_code, reason = "what makes frames is not fuzzed")]

#[path = "drive.rs"]
pub mod drive;
#[path = "../../src/streaming/spdy/frame.rs"]
mod frame;
#[path = "../../src/streaming/spdy/headers.rs"]
mod headers;
