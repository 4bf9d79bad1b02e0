//! Header blocks: names and values, compressed as one zlib stream per direction (SPDY/3.1 section 2.6.10). Pure.

use flate2::{Compress, Compression, Decompress, FlushCompress, FlushDecompress, Status};

use super::frame::SpdyError;

/// Largest header block, decompressed, in bytes. Those of kubectl have some 100.
const LIMIT: usize = 16 << 10;

/// The words of the dictionary, each preceded by its length.
const WORDS: &str = "options head post put delete trace accept accept-charset accept-encoding accept-language \
    accept-ranges age allow authorization cache-control connection content-base content-encoding content-language \
    content-length content-location content-md5 content-range content-type date etag expect expires from host if-match \
    if-modified-since if-none-match if-range if-unmodified-since last-modified location max-forwards pragma \
    proxy-authenticate proxy-authorization range referer retry-after server te trailer transfer-encoding upgrade \
    user-agent vary via warning www-authenticate method get status 200_OK version HTTP/1.1 url public set-cookie \
    keep-alive origin";
/// What follows them, as it is.
const PHRASES: &str = concat!(
    "100101201202205206300302303304305306307402405406407408409410411412413414415416417502504505",
    "203 Non-Authoritative Information204 No Content301 Moved Permanently400 Bad Request401 Unauthorized",
    "403 Forbidden404 Not Found500 Internal Server Error501 Not Implemented503 Service Unavailable",
    "Jan Feb Mar Apr May Jun Jul Aug Sept Oct Nov Dec 00:00:00 Mon, Tue, Wed, Thu, Fri, Sat, Sun, GMT",
    "chunked,text/html,image/png,image/jpg,image/gif,application/xml,application/xhtml+xml,text/plain,",
    "text/javascript,publicprivatemax-age=gzip,deflate,sdchcharset=utf-8charset=iso-8859-1,utf-,*,enq=0."
);

/// The dictionary that both compressors start with (SPDY/3.1 section 2.6.10.1).
fn dictionary() -> Vec<u8> {
    let mut all = Vec::with_capacity(1423);
    for word in WORDS.split_whitespace() {
        // The only word with a blank.
        let word = word.replace('_', " ");
        all.extend_from_slice(&u32::try_from(word.len()).unwrap_or_default().to_be_bytes());
        all.extend_from_slice(word.as_bytes());
    }
    all.extend_from_slice(PHRASES.as_bytes());
    all
}

/// Names and values in their order.
pub(super) type Headers = Vec<(String, String)>;

/// Reads the header blocks of one direction, in their order.
pub(super) struct HeaderReader {
    stream: Decompress,
}

impl HeaderReader {
    pub(super) fn new() -> Self {
        Self { stream: Decompress::new(true) }
    }

    /// Reads the next block.
    ///
    /// # Errors
    /// When it is too large or not a header block. The ones after it cannot be read then.
    pub(super) fn read(&mut self, block: &[u8]) -> Result<Headers, SpdyError> {
        let mut text = Vec::with_capacity(1024);
        let mut rest = block;
        loop {
            let (before_in, before_out) = (self.stream.total_in(), text.len());
            match self.stream.decompress_vec(rest, &mut text, FlushDecompress::Sync) {
                Ok(Status::StreamEnd) => return Err(SpdyError::Headers),
                Ok(_) => {}
                Err(error) if error.needs_dictionary().is_some() => {
                    self.stream.set_dictionary(&dictionary()).map_err(|_| SpdyError::Headers)?;
                }
                Err(_) => return Err(SpdyError::Headers),
            }
            let read = usize::try_from(self.stream.total_in() - before_in).map_err(|_| SpdyError::Headers)?;
            rest = rest.get(read..).unwrap_or_default();
            if text.len() > LIMIT {
                return Err(SpdyError::TooLarge);
            }
            let moved = read > 0 || text.len() > before_out;
            if rest.is_empty() && text.len() < text.capacity() {
                return parse(&text).ok_or(SpdyError::Headers);
            }
            if !moved && text.len() < text.capacity() {
                return Err(SpdyError::Headers);
            }
            text.reserve(1024);
        }
    }
}

fn parse(text: &[u8]) -> Option<Headers> {
    let (count, mut rest) = number(text)?;
    let mut headers = Headers::new();
    for _ in 0..count {
        let (name, after) = word(rest)?;
        let (value, after) = word(after)?;
        headers.push((name, value));
        rest = after;
    }
    Some(headers)
}

fn number(bytes: &[u8]) -> Option<(usize, &[u8])> {
    let (first, rest) = bytes.split_first_chunk::<4>()?;
    Some((usize::try_from(u32::from_be_bytes(*first)).ok()?, rest))
}

fn word(bytes: &[u8]) -> Option<(String, &[u8])> {
    let (length, rest) = number(bytes)?;
    let (word, rest) = rest.split_at_checked(length)?;
    Some((String::from_utf8(word.to_vec()).ok()?, rest))
}

/// Writes the header blocks of one direction, in their order.
pub(super) struct HeaderWriter {
    stream: Compress,
}

impl HeaderWriter {
    /// # Errors
    /// When the compressor does not take the dictionary.
    pub(super) fn new() -> Result<Self, SpdyError> {
        let mut stream = Compress::new(Compression::fast(), true);
        stream.set_dictionary(&dictionary()).map_err(|_| SpdyError::Headers)?;
        Ok(Self { stream })
    }

    /// The next block.
    ///
    /// # Errors
    /// When the compressor fails.
    pub(super) fn write(&mut self, headers: &[(&str, &str)]) -> Result<Vec<u8>, SpdyError> {
        let mut text = length(headers.len())?.to_vec();
        for part in headers.iter().flat_map(|(name, value)| [name, value]) {
            text.extend_from_slice(&length(part.len())?);
            text.extend_from_slice(part.as_bytes());
        }
        // More than any text of this length needs, with the ends of the stream's pieces.
        let mut block = Vec::with_capacity(text.len() * 2 + 128);
        self.stream.compress_vec(&text, &mut block, FlushCompress::Sync).map_err(|_| SpdyError::Headers)?;
        Ok(block)
    }
}

fn length(length: usize) -> Result<[u8; 4], SpdyError> {
    u32::try_from(length).map(u32::to_be_bytes).map_err(|_| SpdyError::TooLarge)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// The checksum that every zlib stream begins with that uses the dictionary (RFC 1950).
    fn adler32(bytes: &[u8]) -> u32 {
        let (a, b) = bytes.iter().fold((1, 0), |(a, b), byte| {
            let a = (a + u32::from(*byte)) % 65521;
            (a, (b + a) % 65521)
        });
        b << 16 | a
    }

    // the published dictionary, by its length and checksum.
    #[test]
    fn the_dictionary_is_the_published_one() {
        let dictionary = dictionary();
        assert_eq!((dictionary.len(), adler32(&dictionary)), (1423, 0xe3c6_a7c2));
    }

    //
    #[test]
    fn blocks_of_one_stream_depend_on_those_before() {
        let (mut writer, mut reader) = (HeaderWriter::new().expect("a writer"), HeaderReader::new());
        let first = [("streamtype", "error"), ("port", "8080"), ("requestid", "0")];
        let owned = |headers: &[(&str, &str)]| -> Headers {
            headers.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
        };
        let block = writer.write(&first).expect("written");
        assert_eq!(reader.read(&block).expect("read"), owned(&first));
        let again = writer.write(&first).expect("written");
        assert!(again.len() < block.len(), "the second refers to the first");
        assert_eq!(reader.read(&again).expect("read"), owned(&first));
        assert_eq!(reader.read(&writer.write(&[]).expect("written")).expect("read"), Headers::new());
    }

    #[test]
    fn a_block_that_grows_too_large_is_refused() {
        let long = "x".repeat(LIMIT);
        let block = HeaderWriter::new().expect("a writer").write(&[("a", &long)]).expect("written");
        assert!(block.len() < 1024, "it is small while it is compressed");
        assert_eq!(HeaderReader::new().read(&block), Err(SpdyError::TooLarge));
    }

    proptest! {
        //
        #[test]
        fn any_headers_come_back(pairs in proptest::collection::vec(("[a-z-]{1,20}", ".{0,40}"), 0..8)) {
            let (mut writer, mut reader) = (HeaderWriter::new().expect("a writer"), HeaderReader::new());
            let borrowed: Vec<(&str, &str)> = pairs.iter().map(|(n, v)| (n.as_str(), v.as_str())).collect();
            for _ in 0..3 {
                let block = writer.write(&borrowed).expect("written");
                prop_assert_eq!(&reader.read(&block).expect("read"), &pairs);
            }
        }

        #[test]
        fn no_block_does_harm(block in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = HeaderReader::new().read(&block);
        }
    }
}
