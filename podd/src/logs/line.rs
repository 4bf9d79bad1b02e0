//! One line of a log file: time, stream, whether the line is complete, text.

use jiff::Timestamp;

/// Longer lines are cut into pieces of this size, in bytes.
pub(crate) const LONGEST: usize = 16 << 10;

/// Which pipe a line came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OutputStream {
    /// Standard output.
    Stdout,
    /// Standard error.
    Stderr,
}

impl OutputStream {
    fn tag(self) -> &'static str {
        match self {
            Self::Stdout => "stdout",
            Self::Stderr => "stderr",
        }
    }
}

/// Appends `text` as one line to `out`. `whole` is false for a piece of a long line that goes on.
pub(crate) fn append(out: &mut Vec<u8>, time: Timestamp, stream: OutputStream, whole: bool, text: &[u8]) {
    out.extend_from_slice(time.strftime("%Y-%m-%dT%H:%M:%S%.9fZ").to_string().as_bytes());
    out.push(b' ');
    out.extend_from_slice(stream.tag().as_bytes());
    out.extend_from_slice(if whole { b" F " } else { b" P " });
    out.extend_from_slice(text);
    out.push(b'\n');
}

/// A line taken apart.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Parsed<'a> {
    pub(crate) stamp: &'a str,
    pub(crate) stream: OutputStream,
    pub(crate) whole: bool,
    pub(crate) text: &'a [u8],
}

/// Reads what [`append`] wrote, without its newline; `None` for a line torn by a crash.
pub(crate) fn parse(line: &[u8]) -> Option<Parsed<'_>> {
    let mut parts = line.splitn(4, |byte| *byte == b' ');
    let (stamp, stream, tag, text) = (parts.next()?, parts.next()?, parts.next()?, parts.next()?);
    let stream = if stream == b"stderr" { OutputStream::Stderr } else { OutputStream::Stdout };
    Some(Parsed { stamp: std::str::from_utf8(stamp).ok()?, stream, whole: tag == b"F", text })
}

/// Cuts a stream of bytes into lines.
#[derive(Debug)]
pub(crate) struct Splitter {
    stream: OutputStream,
    pending: Vec<u8>,
}

impl Splitter {
    pub(crate) fn new(stream: OutputStream) -> Self {
        Self { stream, pending: Vec::new() }
    }

    /// Takes what arrived at `now` and appends every line that is complete or too long to `out`.
    pub(crate) fn feed(&mut self, bytes: &[u8], now: Timestamp, out: &mut Vec<u8>) {
        for piece in bytes.split_inclusive(|byte| *byte == b'\n') {
            let (text, ended) = match piece.strip_suffix(b"\n") {
                Some(text) => (text, true),
                None => (piece, false),
            };
            self.pending.extend_from_slice(text);
            while self.pending.len() > LONGEST {
                let rest = self.pending.split_off(LONGEST);
                append(out, now, self.stream, false, &self.pending);
                self.pending = rest;
            }
            if ended {
                append(out, now, self.stream, true, &self.pending);
                self.pending.clear();
            }
        }
    }

    /// The stream has ended: what is left is a line without a newline.
    pub(crate) fn finish(&mut self, now: Timestamp, out: &mut Vec<u8>) {
        if !self.pending.is_empty() {
            append(out, now, self.stream, false, &self.pending);
            self.pending.clear();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// What a reader without timestamps would see.
    fn read_back(file: &[u8]) -> Vec<u8> {
        let mut out = Vec::new();
        for line in file.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()) {
            let parsed = parse(line).expect("our own line");
            out.extend_from_slice(parsed.text);
            if parsed.whole {
                out.push(b'\n');
            }
        }
        out
    }

    proptest! {
        #[test]
        fn every_byte_comes_back_however_it_arrives(
            text in proptest::collection::vec(prop_oneof![Just(b'\n'), any::<u8>()], 0..300),
            cuts in proptest::collection::vec(1_usize..40, 0..20),
        ) {
            let mut splitter = Splitter::new(OutputStream::Stdout);
            let mut file = Vec::new();
            let mut rest = text.as_slice();
            for cut in cuts {
                let (now, later) = rest.split_at(cut.min(rest.len()));
                splitter.feed(now, Timestamp::UNIX_EPOCH, &mut file);
                rest = later;
            }
            splitter.feed(rest, Timestamp::UNIX_EPOCH, &mut file);
            splitter.finish(Timestamp::UNIX_EPOCH, &mut file);
            prop_assert_eq!(read_back(&file), text);
        }
    }

    #[test]
    fn long_lines_are_cut_and_glued() {
        let text = [vec![b'x'; 3 * LONGEST + 5], b"\nshort\n".to_vec()].concat();
        let mut splitter = Splitter::new(OutputStream::Stderr);
        let mut file = Vec::new();
        splitter.feed(&text, Timestamp::UNIX_EPOCH, &mut file);
        assert_eq!(file.iter().filter(|byte| **byte == b'\n').count(), 5);
        assert_eq!(read_back(&file), text);
    }
}
