//! The file format of Wireshark: just enough of it to write packets with the place they were seen at and a comment
//! (draft-ietf-opsawg-pcapng).

use std::io::{self, Write};

/// Packets begin with their IP header.
const LINKTYPE_RAW: u16 = 101;

/// Block types.
const SECTION_HEADER: u32 = 0x0a0d_0d0a;
const INTERFACE_DESCRIPTION: u32 = 1;
const ENHANCED_PACKET: u32 = 6;

/// Options: of any block, of a section, of an interface, of a packet.
const END_OF_OPTIONS: u16 = 0;
const COMMENT: u16 = 1;
const APPLICATION: u16 = 4;
const INTERFACE_NAME: u16 = 2;
const TIME_RESOLUTION: u16 = 9;
const FLAGS: u16 = 2;

/// Which way a packet goes, seen from the place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Direction {
    /// It was sent there.
    FromIt,
    /// It arrives there.
    ToIt,
}

/// A file that is being written.
#[derive(Debug)]
pub(super) struct Capture<W> {
    out: W,
    /// By their number.
    interfaces: Vec<String>,
}

impl<W: Write> Capture<W> {
    /// Writes the head of the file.
    ///
    /// # Errors
    /// When it cannot be written.
    pub(super) fn begin(mut out: W) -> io::Result<Self> {
        let mut body = Vec::new();
        body.extend(0x1a2b_3c4d_u32.to_le_bytes());
        body.extend(1_u16.to_le_bytes());
        body.extend(0_u16.to_le_bytes());
        // The length of the section is not known yet.
        body.extend((-1_i64).to_le_bytes());
        option(&mut body, APPLICATION, concat!("minisvc ", env!("CARGO_PKG_VERSION")).as_bytes());
        option(&mut body, END_OF_OPTIONS, &[]);
        block(&mut out, SECTION_HEADER, &body)?;
        Ok(Self { out, interfaces: Vec::new() })
    }

    /// Writes one packet as it was seen at a place, at a time in nanoseconds since 1970.
    ///
    /// # Errors
    /// When it cannot be written.
    pub(super) fn packet(
        &mut self,
        place: &str,
        direction: Direction,
        nanoseconds: u64,
        packet: &[u8],
        comment: &str,
    ) -> io::Result<()> {
        let interface = self.interface(place)?;
        let [high, low] = [nanoseconds >> 32, nanoseconds & 0xffff_ffff].map(low_half);
        let length = u32::try_from(packet.len()).map_err(io::Error::other)?;
        let mut body = Vec::with_capacity(packet.len() + comment.len() + 64);
        for word in [interface, high, low, length, length] {
            body.extend(word.to_le_bytes());
        }
        body.extend(packet);
        pad(&mut body);
        option(&mut body, COMMENT, comment.as_bytes());
        let flags = match direction {
            // Inbound is what arrives at the place, outbound what leaves it.
            Direction::ToIt => 1_u32,
            Direction::FromIt => 2,
        };
        option(&mut body, FLAGS, &flags.to_le_bytes());
        option(&mut body, END_OF_OPTIONS, &[]);
        block(&mut self.out, ENHANCED_PACKET, &body)
    }

    /// Hands everything over to the file.
    ///
    /// # Errors
    /// When it cannot be written.
    pub(super) fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }

    /// The number of a place, which is described when it is first seen.
    fn interface(&mut self, place: &str) -> io::Result<u32> {
        let known = self.interfaces.iter().position(|name| name == place);
        let number = known.unwrap_or(self.interfaces.len());
        if known.is_none() {
            let mut body = Vec::new();
            body.extend(LINKTYPE_RAW.to_le_bytes());
            body.extend(0_u16.to_le_bytes());
            // No limit on the length of packets.
            body.extend(0_u32.to_le_bytes());
            option(&mut body, INTERFACE_NAME, place.as_bytes());
            // Nanoseconds.
            option(&mut body, TIME_RESOLUTION, &[9]);
            option(&mut body, END_OF_OPTIONS, &[]);
            block(&mut self.out, INTERFACE_DESCRIPTION, &body)?;
            self.interfaces.push(place.to_owned());
        }
        u32::try_from(number).map_err(io::Error::other)
    }
}

/// A number that is below 2³², as both halves of 64 bits are.
fn low_half(number: u64) -> u32 {
    u32::try_from(number).unwrap_or(u32::MAX)
}

fn block(out: &mut impl Write, kind: u32, body: &[u8]) -> io::Result<()> {
    let length = u32::try_from(body.len() + 12).map_err(io::Error::other)?.to_le_bytes();
    for part in [&kind.to_le_bytes()[..], &length, body, &length] {
        out.write_all(part)?;
    }
    Ok(())
}

fn option(body: &mut Vec<u8>, code: u16, value: &[u8]) {
    // The length has 16 bits; nothing that is written here comes near.
    let length = u16::try_from(value.len()).unwrap_or(u16::MAX);
    body.extend(code.to_le_bytes());
    body.extend(length.to_le_bytes());
    body.extend(&value[..usize::from(length)]);
    pad(body);
}

/// Everything begins at a multiple of four bytes.
fn pad(body: &mut Vec<u8>) {
    body.resize(body.len().next_multiple_of(4), 0);
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// A file as read back: names of interfaces, and for each packet its interface, direction, time, bytes and comment.
    pub(crate) struct Read {
        pub(crate) interfaces: Vec<String>,
        pub(crate) packets: Vec<(usize, u32, u64, Vec<u8>, String)>,
    }

    fn word(bytes: &[u8], at: usize) -> u32 {
        u32::from_le_bytes(bytes[at..at + 4].try_into().expect("four bytes"))
    }

    fn options(mut bytes: &[u8]) -> Vec<(u16, Vec<u8>)> {
        let mut found = Vec::new();
        loop {
            let code = u16::from_le_bytes([bytes[0], bytes[1]]);
            let length = usize::from(u16::from_le_bytes([bytes[2], bytes[3]]));
            if code == 0 {
                assert_eq!((length, bytes.len()), (0, 4), "the end comes last");
                return found;
            }
            found.push((code, bytes[4..4 + length].to_vec()));
            bytes = &bytes[4 + length.next_multiple_of(4)..];
        }
    }

    /// Reads a file strictly: anything that is not as the format says is a panic.
    pub(crate) fn read(mut file: &[u8]) -> Read {
        let mut read = Read { interfaces: vec![], packets: vec![] };
        let mut first = true;
        while !file.is_empty() {
            let (kind, length) = (word(file, 0), word(file, 4) as usize);
            assert_eq!((length % 4, word(file, length - 4) as usize), (0, length), "both lengths agree");
            let body = &file[8..length - 4];
            assert_eq!(kind == 0x0a0d_0d0a, first, "one section, first");
            first = false;
            match kind {
                0x0a0d_0d0a => assert_eq!((word(body, 0), word(body, 4)), (0x1a2b_3c4d, 1), "little-endian, 1.0"),
                1 => {
                    assert_eq!(word(body, 0), 101);
                    let options = options(&body[8..]);
                    assert!(options.contains(&(9, vec![9])), "nanoseconds");
                    let name = options.iter().find(|(code, _)| *code == 2).expect("a name").1.clone();
                    read.interfaces.push(String::from_utf8(name).expect("text"));
                }
                6 => {
                    let (interface, length) = (word(body, 0) as usize, word(body, 12) as usize);
                    assert!(interface < read.interfaces.len() && word(body, 16) as usize == length);
                    let time = u64::from(word(body, 4)) << 32 | u64::from(word(body, 8));
                    let options = options(&body[20 + length.next_multiple_of(4)..]);
                    let of = |wanted: u16| options.iter().find(|(code, _)| *code == wanted).expect("there").1.clone();
                    let comment = String::from_utf8(of(1)).expect("text");
                    read.packets.push((interface, word(&of(2), 0), time, body[20..20 + length].to_vec(), comment));
                }
                other => panic!("block of type {other}"),
            }
            file = &file[length..];
        }
        read
    }

    #[test]
    fn what_is_written_can_be_read() {
        let mut file = Vec::new();
        let mut capture = Capture::begin(&mut file).expect("written");
        let time = 1_767_225_600_123_456_789;
        capture.packet("pod/default/web-1", Direction::FromIt, time, b"12345", "to the endpoint").expect("written");
        capture.packet("workstation", Direction::ToIt, time + 1, b"1234", "").expect("written");
        capture.packet("pod/default/web-1", Direction::ToIt, time + 2, b"", "ü").expect("written");
        capture.flush().expect("written");
        let read = read(&file);
        assert_eq!(read.interfaces, ["pod/default/web-1", "workstation"]);
        assert_eq!(
            read.packets,
            [
                (0, 2, time, b"12345".to_vec(), "to the endpoint".to_owned()),
                (1, 1, time + 1, b"1234".to_vec(), String::new()),
                (0, 1, time + 2, vec![], "ü".to_owned()),
            ]
        );
    }
}
