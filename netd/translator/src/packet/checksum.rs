//! Internet checksums (RFC 1071) and how they change with the bytes they cover (RFC 1624).

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// How much of a packet's TCP or UDP checksum is there.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Checksum {
    /// The field covers pseudo-header, header and payload.
    #[default]
    Full,
    /// The field holds the sum of the pseudo-header, not complemented; whoever puts the packet on a wire completes it
    /// (`VIRTIO_NET_HDR_F_NEEDS_CSUM`). Ports and payload are not in it.
    Partial,
}

/// The difference that edits make to a ones' complement sum. Every edited byte range must be 16-bit aligned.
#[derive(Clone, Copy, Debug, Default)]
pub struct Delta(u64);

impl Delta {
    /// One 16-bit word changes.
    #[inline]
    pub fn word(&mut self, old: u16, new: u16) {
        self.0 += u64::from(!old) + u64::from(new);
    }

    /// An IPv4 address changes.
    #[inline]
    pub fn addr(&mut self, old: Ipv4Addr, new: Ipv4Addr) {
        for (old, new) in words(old).into_iter().zip(words(new)) {
            self.word(old, new);
        }
    }

    /// An IPv6 address changes.
    #[inline]
    pub fn addr6(&mut self, old: Ipv6Addr, new: Ipv6Addr) {
        for (old, new) in old.segments().into_iter().zip(new.segments()) {
            self.word(old, new);
        }
    }

    /// Both differences together.
    #[must_use]
    #[inline]
    pub fn and(self, other: Self) -> Self {
        Self(self.0 + other.0)
    }

    /// A checksum field after the edits: equation 3 of RFC 1624.
    #[must_use]
    #[inline]
    pub fn apply(self, field: u16) -> u16 {
        !fold(u64::from(!field) + self.0)
    }

    /// A UDP checksum field after the edits: 0 means that there is none and stays; a computed 0 is sent as 0xffff (D-109).
    #[must_use]
    #[inline]
    pub fn apply_udp(self, field: u16) -> u16 {
        match field {
            0 => 0,
            field => match self.apply(field) {
                0 => 0xffff,
                sum => sum,
            },
        }
    }

    /// A sum that is not complemented, after the edits: for [`Checksum::Partial`].
    #[must_use]
    #[inline]
    pub fn apply_sum(self, field: u16) -> u16 {
        fold(u64::from(field) + self.0)
    }
}

/// The sum of 16-bit words, the last one padded with zero.
pub fn sum(bytes: &[u8]) -> u64 {
    let (pairs, rest) = bytes.as_chunks::<2>();
    let whole: u64 = pairs.iter().map(|&pair| u64::from(u16::from_be_bytes(pair))).sum();
    whole + rest.first().map_or(0, |&last| u64::from(last) << 8)
}

/// Adds the carries back in until 16 bits are left.
#[inline]
pub fn fold(mut sum: u64) -> u16 {
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    u16::try_from(sum).unwrap_or_default()
}

/// The checksum of a byte range whose checksum field is zero.
pub fn checksum(bytes: &[u8]) -> u16 {
    !fold(sum(bytes))
}

/// The sum of the pseudo-header of TCP and UDP over IPv4 (RFC 9293 3.1) or IPv6 (RFC 8200 8.1). `length` is that of header
/// and payload. The addresses are of one family.
pub fn pseudo_header(src: impl Into<IpAddr>, dst: impl Into<IpAddr>, protocol: u8, length: u16) -> u64 {
    let of = |addr: IpAddr| match addr {
        IpAddr::V4(addr) => sum(&addr.octets()),
        IpAddr::V6(addr) => sum(&addr.octets()),
    };
    of(src.into()) + of(dst.into()) + u64::from(protocol) + u64::from(length)
}

#[inline]
fn words(addr: Ipv4Addr) -> [u16; 2] {
    let [a, b, c, d] = addr.octets();
    [u16::from_be_bytes([a, b]), u16::from_be_bytes([c, d])]
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn an_incremental_update_equals_a_recomputation(
            mut bytes in proptest::collection::vec(any::<u8>(), 4..200), at in any::<proptest::sample::Index>(), new: u16,
        ) {
            // A real checksum is never over zeros only: an IP header has a version, a pseudo-header a protocol.
            bytes[0] |= 0x40;
            let at = 2 + 2 * at.index((bytes.len() - 2) / 2);
            let before = checksum(&bytes);
            let mut delta = Delta::default();
            delta.word(u16::from_be_bytes([bytes[at], bytes[at + 1]]), new);
            let old_sum = fold(sum(&bytes));
            bytes[at..at + 2].copy_from_slice(&new.to_be_bytes());
            prop_assert_eq!(delta.apply(before), checksum(&bytes));
            prop_assert_eq!(delta.apply_sum(old_sum), fold(sum(&bytes)));
        }
    }

    // D-109
    #[test]
    fn a_udp_checksum_of_zero_means_none() {
        let mut delta = Delta::default();
        delta.word(1, 2);
        assert_eq!(delta.apply_udp(0), 0);
        // From a field whose update comes out as zero: it must not read as "none".
        let mut delta = Delta::default();
        delta.word(0, 1);
        assert_eq!(delta.apply(1), 0);
        assert_eq!(delta.apply_udp(1), 0xffff);
    }
}
