//! Where things are in an IP packet, of either version: through options and extension headers to the transport.

use super::raw::{byte_at, u16_at};

/// Shortest headers, in bytes.
const IPV4_HEADER: usize = 20;
const IPV6_HEADER: usize = 40;

/// Offsets within an IPv4 header (RFC 791 3.1).
const TOTAL_LENGTH: usize = 2;
const IDENTIFICATION: usize = 4;
const FRAGMENT: usize = 6;
const PROTOCOL: usize = 9;
pub(super) const HEADER_CHECKSUM: usize = 10;

/// Offsets within an IPv6 header (RFC 8200 3).
const PAYLOAD_LENGTH: usize = 4;
const NEXT_HEADER: usize = 6;

/// Extension headers that are looked through (RFC 8200 4). Behind any other the transport cannot be changed, or not be found.
const HOP_BY_HOP: u8 = 0;
const ROUTING: u8 = 43;
const FRAGMENT_HEADER: u8 = 44;
const DESTINATION_OPTIONS: u8 = 60;

/// Each kind once, destination options twice (RFC 8200 4.1).
const MOST_EXTENSIONS: usize = 5;

/// A version of IP.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Version {
    V4,
    V6,
}

impl Version {
    /// Offset of the source address.
    #[inline]
    pub(super) fn source(self) -> usize {
        match self {
            Self::V4 => 12,
            Self::V6 => 8,
        }
    }

    /// Offset of the destination address.
    #[inline]
    pub(super) fn destination(self) -> usize {
        match self {
            Self::V4 => 16,
            Self::V6 => 24,
        }
    }

    /// Offset of the time to live, or hop limit.
    #[inline]
    pub(super) fn ttl(self) -> usize {
        match self {
            Self::V4 => 8,
            Self::V6 => 7,
        }
    }
}

/// Which part of a datagram a packet is.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Fragment {
    /// Where its payload is in the datagram, in bytes.
    pub(super) offset: usize,
    /// Whether others follow.
    pub(super) more: bool,
    /// Where in the packet the number is that all fragments share: 16 bits in IPv4, 32 in IPv6.
    pub(super) identification: Option<usize>,
}

/// Where things are.
#[derive(Clone, Copy, Debug)]
pub(super) struct Layout {
    pub(super) version: Version,
    /// Where the IP header and its extensions end. Within the bytes.
    pub(super) header: usize,
    /// Where the packet ends, by its header. Not before the header does; beyond the bytes when they are a quote.
    pub(super) total: usize,
    /// What comes after the header.
    pub(super) protocol: u8,
    pub(super) fragment: Fragment,
}

/// Finds out where things are; `None` if the headers are not whole, or say what cannot be.
#[inline]
pub(super) fn of(bytes: &[u8]) -> Option<Layout> {
    match bytes.first()? >> 4 {
        4 => ipv4(bytes),
        6 => ipv6(bytes),
        _ => None,
    }
}

#[inline]
fn ipv4(bytes: &[u8]) -> Option<Layout> {
    let header = usize::from(byte_at(bytes, 0) & 0x0f) * 4;
    let total = usize::from(u16_at(bytes, TOTAL_LENGTH));
    if header < IPV4_HEADER || total < header || bytes.len() < header {
        return None;
    }
    let field = u16_at(bytes, FRAGMENT);
    let fragment = Fragment {
        offset: usize::from(field & 0x1fff) * 8,
        more: field & 0x2000 != 0,
        identification: Some(IDENTIFICATION),
    };
    Some(Layout { version: Version::V4, header, total, protocol: byte_at(bytes, PROTOCOL), fragment })
}

fn ipv6(bytes: &[u8]) -> Option<Layout> {
    let total = IPV6_HEADER + usize::from(u16_at(bytes, PAYLOAD_LENGTH));
    let end = total.min(bytes.len());
    let mut layout = Layout {
        version: Version::V6,
        header: IPV6_HEADER,
        total,
        protocol: byte_at(bytes, NEXT_HEADER),
        fragment: Fragment::default(),
    };
    if bytes.len() < IPV6_HEADER {
        return None;
    }
    for _ in 0..=MOST_EXTENSIONS {
        let at = layout.header;
        let length = match layout.protocol {
            HOP_BY_HOP | DESTINATION_OPTIONS => extension(bytes, at),
            // On its way to another address than the one in the header, which the transport's checksum is about: its
            // segments are not for us to change.
            ROUTING if byte_at(bytes, at + 3) != 0 => return Some(layout),
            ROUTING => extension(bytes, at),
            FRAGMENT_HEADER if layout.fragment.identification.is_none() => 8,
            FRAGMENT_HEADER => return None,
            _ => return Some(layout),
        };
        if at + length > end {
            return None;
        }
        if layout.protocol == FRAGMENT_HEADER {
            let field = u16_at(bytes, at + 2);
            layout.fragment =
                Fragment { offset: usize::from(field & 0xfff8), more: field & 1 != 0, identification: Some(at + 4) };
        }
        layout.protocol = byte_at(bytes, at);
        layout.header = at + length;
        if layout.fragment.offset != 0 {
            // The rest of the headers is in the first fragment.
            return Some(layout);
        }
    }
    None
}

/// Length of an extension header in bytes, of which its second byte tells all but the first eight.
fn extension(bytes: &[u8], at: usize) -> usize {
    8 + usize::from(byte_at(bytes, at + 1)) * 8
}
