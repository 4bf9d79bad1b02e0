//! SPDY/3.1 frames from bytes and back (SPDY/3.1 section 2). Pure.

use bytes::{BufMut as _, Bytes, BytesMut};
use thiserror::Error;

use super::headers::{HeaderReader, HeaderWriter, Headers};

/// Largest control frame, in bytes. Those of kubectl have some 100.
const CONTROL_LIMIT: usize = 16 << 10;
/// Bytes before the payload.
const HEAD: usize = 8;
/// The highest bit of the first byte: a control frame.
const CONTROL: u8 = 0x80;
/// No more from this side of the stream.
const FIN: u8 = 1;
/// SPDY/3.1 calls itself 3 in its frames.
const VERSION: u16 = 3;
/// Largest payload of a DATA frame (24 bits).
const DATA_LIMIT: usize = (1 << 24) - 1;

const SYN_STREAM: u16 = 1;
const SYN_REPLY: u16 = 2;
const RST_STREAM: u16 = 3;
const PING: u16 = 6;
const GOAWAY: u16 = 7;

/// Names a stream within its connection; those of clients are odd.
pub(super) type StreamId = u32;

/// What cannot be read.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub(super) enum SpdyError {
    /// Another version, or a frame of another length than its type has.
    #[error("not a SPDY/3.1 frame")]
    Frame,
    /// A header block that is none.
    #[error("not a header block")]
    Headers,
    /// More than is taken.
    #[error("a frame or header block is too large")]
    TooLarge,
}

/// A frame that means something here.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Frame {
    /// A stream begins.
    Open { stream: StreamId, headers: Headers },
    /// Bytes of a stream.
    Data { stream: StreamId, bytes: Bytes },
    /// No more bytes of a stream.
    End { stream: StreamId },
    /// A stream is given up.
    Reset { stream: StreamId },
    /// To be sent back.
    Ping(u32),
    /// The client leaves.
    GoAway,
}

/// Where in a frame the next byte belongs.
enum State {
    Between,
    /// This much of a DATA frame is still to come.
    Data {
        stream: StreamId,
        left: usize,
        fin: bool,
    },
}

/// Cuts what comes into frames.
pub(super) struct Decoder {
    pending: BytesMut,
    state: State,
    headers: HeaderReader,
}

impl Decoder {
    pub(super) fn new() -> Self {
        Self { pending: BytesMut::new(), state: State::Between, headers: HeaderReader::new() }
    }

    /// Takes bytes as they came.
    pub(super) fn feed(&mut self, bytes: &[u8]) {
        self.pending.extend_from_slice(bytes);
    }

    /// The next frame; `None` when more bytes are needed.
    ///
    /// # Errors
    /// When this is not SPDY; nothing after it can be read.
    pub(super) fn next(&mut self) -> Result<Option<Frame>, SpdyError> {
        loop {
            if let State::Data { stream, left, fin } = &mut self.state {
                let stream = *stream;
                if *left == 0 {
                    let fin = *fin;
                    self.state = State::Between;
                    if fin {
                        return Ok(Some(Frame::End { stream }));
                    }
                } else {
                    let length = self.pending.len().min(*left);
                    if length == 0 {
                        return Ok(None);
                    }
                    *left -= length;
                    return Ok(Some(Frame::Data { stream, bytes: self.pending.split_to(length).freeze() }));
                }
            }
            let Some(head) = self.pending.first_chunk::<HEAD>().copied() else { return Ok(None) };
            let [first, second, third, fourth, flags, long, medium, short] = head;
            let length = usize::from(long) << 16 | usize::from(medium) << 8 | usize::from(short);
            if first & CONTROL == 0 {
                let stream = u32::from_be_bytes([first, second, third, fourth]);
                let _ = self.pending.split_to(HEAD);
                self.state = State::Data { stream, left: length, fin: flags & FIN != 0 };
                continue;
            }
            if length > CONTROL_LIMIT {
                return Err(SpdyError::TooLarge);
            }
            if self.pending.len() < HEAD + length {
                return Ok(None);
            }
            if u16::from_be_bytes([first & !CONTROL, second]) != VERSION {
                return Err(SpdyError::Frame);
            }
            let body = self.pending.split_to(HEAD + length).freeze().slice(HEAD..);
            if let Some(frame) = self.control(u16::from_be_bytes([third, fourth]), flags, &body)? {
                return Ok(Some(frame));
            }
        }
    }

    fn control(&mut self, kind: u16, flags: u8, body: &[u8]) -> Result<Option<Frame>, SpdyError> {
        let number = || body.first_chunk::<4>().map(|four| u32::from_be_bytes(*four)).ok_or(SpdyError::Frame);
        Ok(match kind {
            SYN_STREAM => {
                // Stream, associated stream, priority, slot.
                let headers = self.headers.read(body.get(10..).ok_or(SpdyError::Frame)?)?;
                let stream = number()?;
                if flags & FIN != 0 {
                    self.state = State::Data { stream, left: 0, fin: true };
                }
                Some(Frame::Open { stream, headers })
            }
            RST_STREAM => Some(Frame::Reset { stream: number()? }),
            PING => Some(Frame::Ping(number()?)),
            GOAWAY => Some(Frame::GoAway),
            // SETTINGS and WINDOW_UPDATE say nothing that is needed. HEADERS carry a block of the same zlib stream, which
            // must be read for the next one to be readable; so do replies, but clients send none.
            8 => {
                self.headers.read(body.get(4..).ok_or(SpdyError::Frame)?)?;
                None
            }
            _ => None,
        })
    }
}

/// Makes frames.
pub(super) struct Encoder {
    headers: HeaderWriter,
}

impl Encoder {
    /// # Errors
    /// When there is no compressor.
    pub(super) fn new() -> Result<Self, SpdyError> {
        Ok(Self { headers: HeaderWriter::new()? })
    }

    /// Accepts a stream.
    ///
    /// # Errors
    /// When the compressor fails.
    pub(super) fn reply(&mut self, stream: StreamId) -> Result<Bytes, SpdyError> {
        let block = self.headers.write(&[])?;
        Ok(control(SYN_REPLY, &[&stream.to_be_bytes(), &block]))
    }
}

/// Bytes of a stream, and whether they are its last.
pub(super) fn data(stream: StreamId, bytes: &[u8], fin: bool) -> Bytes {
    let mut frames = BytesMut::with_capacity(HEAD + bytes.len());
    let mut pieces = bytes.chunks(DATA_LIMIT).peekable();
    if pieces.peek().is_none() {
        head(&mut frames, stream.to_be_bytes(), if fin { FIN } else { 0 }, 0);
    }
    while let Some(piece) = pieces.next() {
        let last = fin && pieces.peek().is_none();
        head(&mut frames, stream.to_be_bytes(), if last { FIN } else { 0 }, piece.len());
        frames.put_slice(piece);
    }
    frames.freeze()
}

/// Sent back to whoever pinged.
pub(super) fn ping(id: u32) -> Bytes {
    control(PING, &[&id.to_be_bytes()])
}

/// A stream is not taken.
pub(super) fn refuse(stream: StreamId) -> Bytes {
    /// REFUSED_STREAM (SPDY/3.1 section 2.6.3).
    const REFUSED: u32 = 3;
    control(RST_STREAM, &[&stream.to_be_bytes(), &REFUSED.to_be_bytes()])
}

/// The end, in order: the last stream that was taken.
pub(super) fn go_away(last: StreamId) -> Bytes {
    control(GOAWAY, &[&last.to_be_bytes(), &0_u32.to_be_bytes()])
}

fn control(kind: u16, body: &[&[u8]]) -> Bytes {
    let length = body.iter().map(|part| part.len()).sum();
    let mut frame = BytesMut::with_capacity(HEAD + length);
    let [version_high, version_low] = VERSION.to_be_bytes();
    let [kind_high, kind_low] = kind.to_be_bytes();
    head(&mut frame, [version_high | CONTROL, version_low, kind_high, kind_low], 0, length);
    for part in body {
        frame.put_slice(part);
    }
    frame.freeze()
}

/// `length` is at most [`DATA_LIMIT`].
fn head(frame: &mut BytesMut, first: [u8; 4], flags: u8, length: usize) {
    frame.put_slice(&first);
    frame.put_u8(flags);
    frame.put_uint(u64::try_from(length).unwrap_or_default(), 3);
}

#[cfg(test)]
pub(super) mod tests {
    use proptest::prelude::*;

    use super::*;

    /// As a client opens a stream.
    pub(in super::super) fn open(writer: &mut HeaderWriter, stream: StreamId, headers: &[(&str, &str)]) -> Bytes {
        let block = writer.write(headers).expect("written");
        control(SYN_STREAM, &[&stream.to_be_bytes(), &0_u32.to_be_bytes(), &[0, 0], &block])
    }

    fn all(decoder: &mut Decoder) -> Vec<Frame> {
        std::iter::from_fn(|| decoder.next().expect("SPDY")).collect()
    }

    //
    #[test]
    fn frames_are_read_whatever_pieces_they_come_in() {
        let mut writer = HeaderWriter::new().expect("a writer");
        let mut text = Vec::new();
        text.extend_from_slice(&open(&mut writer, 1, &[("streamtype", "error")]));
        text.extend_from_slice(&control(4, &[&[0; 12]]));
        text.extend_from_slice(&open(&mut writer, 3, &[("streamtype", "data")]));
        text.extend_from_slice(&data(3, b"hello", true));
        text.extend_from_slice(&control(9, &[&[0; 8]]));
        text.extend_from_slice(&ping(7));
        text.extend_from_slice(&refuse(1));
        text.extend_from_slice(&go_away(0));
        let headers = |value: &str| vec![("streamtype".to_owned(), value.to_owned())];
        for size in [1, 3, 7, text.len()] {
            let mut decoder = Decoder::new();
            let mut frames = Vec::new();
            for piece in text.chunks(size) {
                decoder.feed(piece);
                frames.extend(all(&mut decoder));
            }
            let mut said = Vec::new();
            frames.retain(|frame| match frame {
                Frame::Data { stream: 3, bytes } => {
                    said.extend_from_slice(bytes);
                    false
                }
                _ => true,
            });
            assert_eq!(said, b"hello");
            let expected = [
                Frame::Open { stream: 1, headers: headers("error") },
                Frame::Open { stream: 3, headers: headers("data") },
                Frame::End { stream: 3 },
                Frame::Ping(7),
                Frame::Reset { stream: 1 },
                Frame::GoAway,
            ];
            assert_eq!(frames, expected, "in pieces of {size}");
        }
    }

    //
    #[test]
    fn what_is_sent_is_as_the_protocol_wants_it() {
        assert_eq!(ping(1), [0x80, 3, 0, 6, 0, 0, 0, 4, 0, 0, 0, 1][..]);
        assert_eq!(data(5, b"ab", false), [0, 0, 0, 5, 0, 0, 0, 2, b'a', b'b'][..]);
        assert_eq!(data(5, b"", true), [0, 0, 0, 5, 1, 0, 0, 0][..]);
        let reply = Encoder::new().expect("an encoder").reply(1).expect("a reply");
        assert_eq!(reply[..4], [0x80, 3, 0, 2]);
        assert_eq!(reply[8..12], [0, 0, 0, 1]);
    }

    #[test]
    fn other_protocols_and_endless_frames_are_refused() {
        for (text, error) in [
            (&b"\x80\x02\x00\x06\x00\x00\x00\x04\x00\x00\x00\x01"[..], SpdyError::Frame),
            (b"\x80\x03\x00\x01\x00\xff\xff\xff", SpdyError::TooLarge),
            (b"\x80\x03\x00\x06\x00\x00\x00\x00", SpdyError::Frame),
            (b"\x80\x03\x00\x01\x00\x00\x00\x02\x00\x00", SpdyError::Frame),
        ] {
            let mut decoder = Decoder::new();
            decoder.feed(text);
            assert_eq!(decoder.next(), Err(error));
        }
    }

    proptest! {
        //
        #[test]
        fn nothing_that_comes_does_harm(pieces in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..40), 0..8)) {
            let mut decoder = Decoder::new();
            for piece in pieces {
                decoder.feed(&piece);
                while let Ok(Some(_)) = decoder.next() {}
            }
        }
    }
}
