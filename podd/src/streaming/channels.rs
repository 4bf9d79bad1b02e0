//! The messages of `v4.channel.k8s.io` and `v5.channel.k8s.io`: a channel number, then bytes. Pure.

use bytes::{BufMut as _, Bytes, BytesMut};
use serde::Deserialize;

use super::Framing;

/// The process's input.
pub(super) const STDIN: u8 = 0;
/// Its output.
pub(super) const STDOUT: u8 = 1;
/// Its other output.
pub(super) const STDERR: u8 = 2;
/// How it ended.
pub(super) const STATUS: u8 = 3;
/// The size of the client's terminal.
pub(super) const RESIZE: u8 = 4;
/// Closes another channel.
const CLOSE: u8 = 255;

/// Which rules apply.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Version {
    V4,
    /// A channel can be closed by itself.
    V5,
}

impl Version {
    /// That of a framing; SPDY has none and gets the newer.
    pub(super) fn of(framing: Framing) -> Self {
        if framing == Framing::ChannelsV4 { Self::V4 } else { Self::V5 }
    }
}

/// A message, read.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Heard {
    /// Bytes of a channel.
    Data(u8, Bytes),
    /// No more of this channel.
    Closed(u8),
    /// Nothing that means anything.
    Nothing,
}

/// Reads a message.
pub(super) fn read(version: Version, message: &Bytes) -> Heard {
    match (message.first(), version) {
        (None, _) => Heard::Nothing,
        (Some(&CLOSE), Version::V5) => message.get(1).map_or(Heard::Nothing, |channel| Heard::Closed(*channel)),
        (Some(&channel), _) => Heard::Data(channel, message.slice(1..)),
    }
}

/// A message with these bytes.
pub(super) fn message(channel: u8, bytes: &[u8]) -> Bytes {
    let mut message = BytesMut::with_capacity(bytes.len() + 1);
    message.put_u8(channel);
    message.put_slice(bytes);
    message.freeze()
}

/// Columns and rows from the JSON of a resize message; `None` if it says nothing useful. Zeros mean "unknown".
pub(super) fn size(json: &[u8]) -> Option<(u16, u16)> {
    #[derive(Deserialize)]
    #[serde(rename_all = "PascalCase")]
    struct Size {
        width: u16,
        height: u16,
    }
    let Size { width, height } = serde_json::from_slice(json).ok()?;
    (width > 0 && height > 0).then_some((width, height))
}

#[cfg(test)]
mod tests {
    use super::*;

    //
    #[test]
    fn messages_begin_with_their_channel() {
        let bytes = Bytes::from_static;
        assert_eq!(read(Version::V5, &bytes(b"\x00hello")), Heard::Data(STDIN, bytes(b"hello")));
        assert_eq!(read(Version::V5, &bytes(b"\xff\x00")), Heard::Closed(STDIN));
        assert_eq!(read(Version::V4, &bytes(b"\xff\x00")), Heard::Data(255, bytes(b"\x00")), "v4 cannot close");
        assert_eq!(read(Version::V5, &bytes(b"")), Heard::Nothing);
        assert_eq!(read(Version::V5, &bytes(b"\xff")), Heard::Nothing);
        assert_eq!(message(STDERR, b"no"), bytes(b"\x02no"));
    }

    //
    #[test]
    fn a_resize_with_zeros_changes_nothing() {
        assert_eq!(size(b"{\"Width\":120,\"Height\":40}\n"), Some((120, 40)));
        for nothing in ["{\"Width\":0,\"Height\":0}", "{\"Width\":99999,\"Height\":1}", "{}", "", "[]"] {
            assert_eq!(size(nothing.as_bytes()), None, "{nothing}");
        }
    }
}
