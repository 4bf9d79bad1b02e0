//! SCTP (RFC 9260): its chunks, and its checksum, which is none of the internet's.

use super::raw::{byte_at, u16_at, u32_at};

/// Length of the common header (RFC 9260 3.1).
pub(super) const HEADER: usize = 12;
/// Offset of the verification tag.
pub(super) const TAG: usize = 4;
/// Offset of the checksum, which is least significant byte first (RFC 9260 Appendix A).
pub(super) const CHECKSUM: usize = 8;

/// Chunk types (RFC 9260 3.2).
const INIT: u8 = 1;
const INIT_ACK: u8 = 2;
const ABORT: u8 = 6;
const SHUTDOWN: u8 = 7;
const SHUTDOWN_ACK: u8 = 8;
const ERROR: u8 = 9;
const COOKIE_ECHO: u8 = 10;
const COOKIE_ACK: u8 = 11;
const SHUTDOWN_COMPLETE: u8 = 14;

/// How many chunks of a packet are looked at: those that matter come first, or after a few of data.
const MOST_CHUNKS: usize = 16;

/// Which kinds of chunk a packet has, as far as an association's state depends on them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Chunks(u16);

impl Chunks {
    /// Reads the chunks after a common header. What is cut off is not there.
    pub(super) fn read(packet: &[u8]) -> Self {
        let (mut seen, mut at) = (0, HEADER);
        for _ in 0..MOST_CHUNKS {
            if at + 4 > packet.len() {
                break;
            }
            // Of the others none changes a state.
            seen |= 1_u16.checked_shl(byte_at(packet, at).into()).unwrap_or_default();
            // The length counts its own header; what is less cannot be.
            let length = usize::from(u16_at(packet, at + 2)).max(4);
            at += length.next_multiple_of(4);
        }
        Self(seen)
    }

    fn has(self, kind: u8) -> bool {
        self.0 & 1 << kind != 0
    }

    /// It asks for an association.
    pub(crate) fn begins(self) -> bool {
        self.has(INIT)
    }

    /// It ends one at once, or says that one has ended.
    pub(crate) fn ends(self) -> bool {
        self.has(ABORT) || self.has(SHUTDOWN_COMPLETE)
    }

    pub(crate) fn has_abort(self) -> bool {
        self.has(ABORT)
    }

    pub(crate) fn has_shutdown_complete(self) -> bool {
        self.has(SHUTDOWN_COMPLETE)
    }

    pub(crate) fn has_shutdown_ack(self) -> bool {
        self.has(SHUTDOWN_ACK)
    }

    /// One side has no more to send.
    pub(crate) fn has_shutdown(self) -> bool {
        self.has(SHUTDOWN) || self.has(SHUTDOWN_ACK)
    }

    pub(crate) fn has_cookie_echo(self) -> bool {
        self.has(COOKIE_ECHO)
    }

    pub(crate) fn has_cookie_ack(self) -> bool {
        self.has(COOKIE_ACK)
    }

    pub(crate) fn has_error(self) -> bool {
        self.has(ERROR)
    }
}

/// The tag that the sender of INIT or INIT ACK wants to see from now on (RFC 9260 3.3.2); `None` in any other packet.
pub(super) fn asked_tag(packet: &[u8]) -> Option<u32> {
    let is_there = matches!(byte_at(packet, HEADER), INIT | INIT_ACK) && packet.len() >= HEADER + 8;
    is_there.then(|| u32_at(packet, HEADER + 4))
}

/// A packet with one chunk that has nothing in it: ABORT, or SHUTDOWN COMPLETE. With `reflected` the tag is the one that its
/// receiver sends, not the one it wants to see: who sends this does not know the other (RFC 9260 8.4).
pub(super) fn last_word(src_port: u16, dst_port: u16, tag: u32, reflected: bool, complete: bool) -> [u8; HEADER + 4] {
    let mut packet = [0; HEADER + 4];
    let kind = if complete { SHUTDOWN_COMPLETE } else { ABORT };
    let fields: [&[u8]; 5] = [
        &src_port.to_be_bytes(),
        &dst_port.to_be_bytes(),
        &tag.to_be_bytes(),
        // The checksum is over zeros in its own place.
        &[0; 4],
        &[kind, u8::from(reflected), 0, 4],
    ];
    for (place, byte) in packet.iter_mut().zip(fields.into_iter().flatten()) {
        *place = *byte;
    }
    let sum = checksum(&packet).to_le_bytes();
    packet[CHECKSUM..CHECKSUM + 4].copy_from_slice(&sum);
    packet
}

/// CRC-32C as a polynomial over GF(2), the coefficient of x³¹ in the lowest bit.
const POLYNOMIAL: u32 = 0x82f6_3b78;
/// The polynomial 1.
const ONE: u32 = 1 << 31;

/// The CRC-32C of a packet whose checksum field is zero.
fn checksum(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(!0, |sum, &byte| times_x8(sum ^ u32::from(byte)))
}

/// What a checksum becomes when the first four bytes of what it covers change by `change`, which is their difference in bits,
/// and `rest` bytes follow them.
///
/// The sum is linear: a change adds what it would be the sum of, were all other bytes zero. So a sum that was wrong stays so.
pub(super) fn after_change(sum: u32, change: [u8; 4], rest: usize) -> u32 {
    // The first byte has the highest coefficients, and the lowest bits.
    sum ^ times(times_x8_four(u32::from_le_bytes(change)), x8_to(rest))
}

/// Times x⁸, modulo the polynomial.
const fn times_x8(mut value: u32) -> u32 {
    let mut step = 0;
    while step < 8 {
        value = times_x(value);
        step += 1;
    }
    value
}

/// What four bytes become when they have passed through the sum.
const fn times_x8_four(value: u32) -> u32 {
    times_x8(times_x8(times_x8(times_x8(value))))
}

const fn times_x(value: u32) -> u32 {
    value >> 1 ^ if value & 1 == 1 { POLYNOMIAL } else { 0 }
}

/// The product, modulo the polynomial.
const fn times(mut a: u32, mut b: u32) -> u32 {
    let mut product = 0;
    while a != 0 {
        if a & ONE != 0 {
            product ^= b;
        }
        a <<= 1;
        b = times_x(b);
    }
    product
}

/// x to the power of 8 · 2ⁿ for each n that a length in bytes may need.
const POWERS: [u32; 17] = {
    let mut powers = [times_x8(ONE); 17];
    let mut at = 1;
    while at < powers.len() {
        powers[at] = times(powers[at - 1], powers[at - 1]);
        at += 1;
    }
    powers
};

/// x to the power of 8 · `bytes`, for as many bytes as an IP packet may have.
fn x8_to(bytes: usize) -> u32 {
    POWERS.iter().enumerate().filter(|(bit, _)| bytes >> bit & 1 == 1).fold(ONE, |all, (_, &power)| times(all, power))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_checksum_is_that_of_rfc_3720() {
        assert_eq!(checksum(&[0; 32]), 0x8a91_36aa);
        assert_eq!(checksum(&[0xff; 32]), 0x62a8_ab43);
        assert_eq!(checksum(b"123456789"), 0xe306_9283);
    }

    proptest! {
        // D-112
        #[test]
        fn a_changed_sum_equals_a_new_one(mut bytes in proptest::collection::vec(any::<u8>(), 4..3000), new: [u8; 4]) {
            let before = checksum(&bytes);
            let old = [bytes[0], bytes[1], bytes[2], bytes[3]];
            bytes[..4].copy_from_slice(&new);
            let change = [0, 1, 2, 3].map(|at: usize| old[at] ^ new[at]);
            prop_assert_eq!(after_change(before, change, bytes.len() - 4), checksum(&bytes));
        }
    }

    #[test]
    fn chunks_are_found_however_they_are_cut() {
        let chunk = |kind: u8, length: u16| [&[kind, 0][..], &length.to_be_bytes()].concat();
        let packet = |chunks: &[Vec<u8>]| [vec![0; HEADER], chunks.concat()].concat();
        let data = [chunk(0, 5), vec![7; 4]].concat();
        let both = Chunks::read(&packet(&[data, chunk(SHUTDOWN, 8)]));
        assert!(both.has_shutdown() && !both.begins() && !both.ends(), "after one that is padded");
        assert_eq!(Chunks::read(&packet(&[])), Chunks::default());
        assert_eq!(Chunks::read(&packet(&[vec![INIT]])), Chunks::default(), "cut off");
        assert!(Chunks::read(&packet(&[chunk(255, 0), chunk(ABORT, 0)])).ends(), "a length that cannot be");
        assert!(Chunks::read(&[]) == Chunks::default());
    }
}
