//! Gives the frame reader bytes of a stranger's choosing, and checks what must hold whatever they are.
//!
//! Used by the fuzz target, and by an ordinary test that replays the corpus.

use super::frame::{Decoder, Frame, SpdyError};

/// Reads frames: the first byte says in pieces of which size they come.
///
/// # Panics
/// When the reader does what it must never do.
pub fn spdy(data: &[u8]) {
    let Some((size, rest)) = data.split_first() else { return };
    let whole = read(rest.chunks(rest.len().max(1)));
    let pieces = read(rest.chunks(usize::from(*size).max(1)));
    assert_eq!(whole, pieces, "pieces make no difference");
    let (frames, _) = whole;
    let bytes: usize =
        frames.iter().map(|frame| if let Frame::Data { bytes, .. } = frame { bytes.len() } else { 0 }).sum();
    assert!(bytes <= rest.len(), "more came out than went in");
}

/// All frames of these pieces, data that follows data of the same stream joined to it, and how it ended.
fn read<'a>(pieces: impl Iterator<Item = &'a [u8]>) -> (Vec<Frame>, Result<(), SpdyError>) {
    let mut decoder = Decoder::new();
    let mut frames: Vec<Frame> = Vec::new();
    for piece in pieces {
        decoder.feed(piece);
        loop {
            match (decoder.next(), frames.last_mut()) {
                (Err(error), _) => return (frames, Err(error)),
                (Ok(None), _) => break,
                (Ok(Some(Frame::Data { stream, bytes })), Some(Frame::Data { stream: last, bytes: before }))
                    if stream == *last =>
                {
                    *before = [&before[..], &bytes[..]].concat().into();
                }
                (Ok(Some(frame)), _) => frames.push(frame),
            }
        }
    }
    (frames, Ok(()))
}
