//! The validated view of one IPv4 packet.

use std::net::{IpAddr, Ipv4Addr};

use super::checksum::{Checksum, Delta};
use crate::tuple::{Protocol, Tuple};
use crate::verdict::DropReason;

pub(crate) const FIN: u8 = 0x01;
pub(crate) const SYN: u8 = 0x02;
pub(crate) const RST: u8 = 0x04;
pub(crate) const ACK: u8 = 0x10;

/// Shortest headers, in bytes.
const IPV4_HEADER: usize = 20;
const TCP_HEADER: usize = 20;
const UDP_HEADER: usize = 8;
const ICMP_HEADER: usize = 8;

/// Offsets within an IPv4 header (RFC 791 3.1).
const TOTAL_LENGTH: usize = 2;
const IDENTIFICATION: usize = 4;
const FRAGMENT: usize = 6;
const TTL: usize = 8;
const PROTOCOL: usize = 9;
const HEADER_CHECKSUM: usize = 10;
const SOURCE: usize = 12;
const DESTINATION: usize = 16;

/// Offsets of the checksum within the transport headers (RFC 9293 3.1, RFC 768, RFC 792).
const TCP_CHECKSUM: usize = 16;
const UDP_CHECKSUM: usize = 6;
const ICMP_CHECKSUM: usize = 2;

/// What follows the IP header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transport {
    /// A whole TCP header, in an unfragmented packet or a first fragment.
    Tcp,
    /// A whole UDP header, in an unfragmented packet or a first fragment.
    Udp,
    /// A whole ICMP header, in an unfragmented packet or a first fragment.
    Icmp,
    /// Another protocol.
    Other(u8),
    /// A fragment that is not the first: there is no transport header.
    Tail(u8),
}

/// A packet whose headers were checked against its length.
///
/// Made by [`Packet::parse`], which proves every offset that the accessors use; they return plain values. Editing
/// methods keep the IP header checksum and the transport checksum as right, or as wrong, as they were: checking them is
/// left to the receiver, who does so anyway.
#[derive(Debug)]
pub struct Packet<'a> {
    /// Exactly as long as the IP total length.
    bytes: &'a mut [u8],
    checksum: Checksum,
    header: usize,
    /// Where the transport's payload begins.
    payload: usize,
    transport: Transport,
}

impl<'a> Packet<'a> {
    /// Checks the headers. Bytes beyond the IP total length are left out of the view.
    ///
    /// # Errors
    /// The reason to drop the packet: malformed, of another IP version, or a first fragment without a whole header.
    pub fn parse(bytes: &'a mut [u8], checksum: Checksum) -> Result<Self, DropReason> {
        let first = *bytes.first().ok_or(DropReason::Malformed)?;
        match first >> 4 {
            4 => {}
            6 => return Err(DropReason::Family),
            _ => return Err(DropReason::Malformed),
        }
        let header = usize::from(first & 0x0f) * 4;
        let total = usize::from(u16_at(bytes, TOTAL_LENGTH));
        if bytes.len() < IPV4_HEADER || header < IPV4_HEADER || total < header || total > bytes.len() {
            return Err(DropReason::Malformed);
        }
        let fragment = u16_at(bytes, FRAGMENT);
        let protocol = byte_at(bytes, PROTOCOL);
        let body = bytes.get(header..total).unwrap_or_default();
        let (transport, transport_header) = if fragment & 0x1fff != 0 {
            (Transport::Tail(protocol), 0)
        } else {
            transport_of(protocol, body, fragment & 0x2000 != 0)?
        };
        let bytes = bytes.get_mut(..total).ok_or(DropReason::Malformed)?;
        Ok(Self { bytes, checksum, header, payload: header + transport_header, transport })
    }

    /// What follows the IP header.
    pub fn transport(&self) -> Transport {
        self.transport
    }

    /// How much of the transport checksum is there.
    pub(crate) fn checksum(&self) -> Checksum {
        self.checksum
    }

    /// The protocol number in the IP header.
    pub fn protocol(&self) -> u8 {
        byte_at(self.bytes, PROTOCOL)
    }

    /// The packet's bytes, exactly its IP total length.
    pub fn bytes(&self) -> &[u8] {
        self.bytes
    }

    /// Length of the IP header with its options, in bytes.
    pub fn header_len(&self) -> usize {
        self.header
    }

    /// Source address.
    pub fn src(&self) -> Ipv4Addr {
        addr_at(self.bytes, SOURCE)
    }

    /// Destination address.
    pub fn dst(&self) -> Ipv4Addr {
        addr_at(self.bytes, DESTINATION)
    }

    /// Time to live.
    pub fn ttl(&self) -> u8 {
        byte_at(self.bytes, TTL)
    }

    /// The identification that fragments of one datagram share.
    pub fn identification(&self) -> u16 {
        u16_at(self.bytes, IDENTIFICATION)
    }

    /// Gives the datagram another identification.
    pub(crate) fn set_identification(&mut self, new: u16) {
        let mut delta = Delta::default();
        delta.word(self.identification(), new);
        put_u16(self.bytes, IDENTIFICATION, new);
        self.update_header_checksum(delta);
    }

    /// Whether more fragments of the datagram follow this one.
    pub fn more_fragments(&self) -> bool {
        u16_at(self.bytes, FRAGMENT) & 0x2000 != 0
    }

    /// Where this fragment's payload is in the datagram, in bytes. 0 for a whole packet.
    pub fn fragment_offset(&self) -> usize {
        usize::from(u16_at(self.bytes, FRAGMENT) & 0x1fff) * 8
    }

    /// Bytes after the IP header.
    pub fn body(&self) -> &[u8] {
        self.bytes.get(self.header..).unwrap_or_default()
    }

    /// Bytes after the transport header; after the IP header if there is none.
    pub fn payload(&self) -> &[u8] {
        self.bytes.get(self.payload..).unwrap_or_default()
    }

    /// Addresses and ports, if this is TCP or UDP with its header.
    pub fn tuple(&self) -> Option<Tuple> {
        let protocol = match self.transport {
            Transport::Tcp => Protocol::Tcp,
            Transport::Udp => Protocol::Udp,
            Transport::Icmp | Transport::Other(_) | Transport::Tail(_) => return None,
        };
        Some(Tuple {
            protocol,
            src: IpAddr::V4(self.src()),
            src_port: u16_at(self.bytes, self.header),
            dst: IpAddr::V4(self.dst()),
            dst_port: u16_at(self.bytes, self.header + 2),
        })
    }

    /// TCP flags; 0 if this is not TCP.
    pub fn tcp_flags(&self) -> u8 {
        if self.transport == Transport::Tcp { byte_at(self.bytes, self.header + 13) } else { 0 }
    }

    /// TCP sequence number; only meaningful for TCP.
    pub fn tcp_seq(&self) -> u32 {
        u32_at(self.bytes, self.header + 4)
    }

    /// TCP acknowledgement number; only meaningful for TCP with ACK set.
    pub fn tcp_ack(&self) -> u32 {
        u32_at(self.bytes, self.header + 8)
    }

    /// The sequence number after this segment; SYN and FIN take one each (RFC 9293 3.4).
    pub fn tcp_end(&self) -> u32 {
        let flags = self.tcp_flags();
        let payload = u32::try_from(self.payload().len()).unwrap_or_default();
        let controls = u32::from(flags & SYN != 0) + u32::from(flags & FIN != 0);
        self.tcp_seq().wrapping_add(payload).wrapping_add(controls)
    }

    /// ICMP type; only meaningful for ICMP.
    pub fn icmp_type(&self) -> u8 {
        byte_at(self.bytes, self.header)
    }

    /// Whether this is an ICMP message about another packet (RFC 792): one must not be answered by another.
    pub fn is_icmp_error(&self) -> bool {
        // Destination unreachable, source quench, redirect, time exceeded, parameter problem.
        self.transport == Transport::Icmp && matches!(self.icmp_type(), 3 | 4 | 5 | 11 | 12)
    }

    /// Takes one from the TTL, as a router does (D-110). The caller has seen that it is above 1.
    pub fn decrement_ttl(&mut self) {
        // TTL and protocol are one word of the header checksum.
        let old = u16_at(self.bytes, TTL);
        let new = old.saturating_sub(0x0100);
        let mut delta = Delta::default();
        delta.word(old, new);
        put_u16(self.bytes, TTL, new);
        self.update_header_checksum(delta);
    }

    /// Gives the packet the addresses, and if it has any the ports, of `to`.
    ///
    /// A tail fragment has no ports; what it needs is only the addresses. IPv6 addresses cannot be put into an IPv4
    /// packet and change nothing.
    pub fn rewrite(&mut self, to: &Tuple) {
        let delta = self.rewrite_addresses(to.src, to.dst);
        let ports = match self.transport {
            Transport::Tcp | Transport::Udp => {
                let mut ports = Delta::default();
                for (at, new) in [(self.header, to.src_port), (self.header + 2, to.dst_port)] {
                    ports.word(u16_at(self.bytes, at), new);
                    put_u16(self.bytes, at, new);
                }
                ports
            }
            Transport::Icmp | Transport::Other(_) | Transport::Tail(_) => return,
        };
        let at = self.header + if self.transport == Transport::Tcp { TCP_CHECKSUM } else { UDP_CHECKSUM };
        let old = u16_at(self.bytes, at);
        let new = match (self.checksum, self.transport) {
            (Checksum::Partial, _) => delta.apply_sum(old),
            (Checksum::Full, Transport::Tcp) => delta.and(ports).apply(old),
            (Checksum::Full, _) => delta.and(ports).apply_udp(old),
        };
        put_u16(self.bytes, at, new);
    }

    /// Changes the addresses only; the difference is what a pseudo-header checksum must follow.
    pub(crate) fn rewrite_addresses(&mut self, src: IpAddr, dst: IpAddr) -> Delta {
        let mut delta = Delta::default();
        if let (IpAddr::V4(src), IpAddr::V4(dst)) = (src, dst) {
            delta.addr(self.src(), src);
            delta.addr(self.dst(), dst);
            put_addr(self.bytes, SOURCE, src);
            put_addr(self.bytes, DESTINATION, dst);
            self.update_header_checksum(delta);
        }
        delta
    }

    /// The tuple of the packet that an ICMP error quotes, as its reporter saw it.
    ///
    /// `None` unless the quote has an IPv4 header and ports (RFC 792 guarantees 64 bits after the header).
    pub(crate) fn quoted_tuple(&self) -> Option<Tuple> {
        let quote = self.payload();
        let inner = quoted_header(quote)?;
        let protocol = match byte_at(quote, PROTOCOL) {
            6 => Protocol::Tcp,
            17 => Protocol::Udp,
            _ => return None,
        };
        Some(Tuple {
            protocol,
            src: IpAddr::V4(addr_at(quote, SOURCE)),
            src_port: u16_at(quote, inner),
            dst: IpAddr::V4(addr_at(quote, DESTINATION)),
            dst_port: u16_at(quote, inner + 2),
        })
    }

    /// Gives the packet quoted in an ICMP error the addresses and ports of `to`, and all three checksums their share.
    ///
    /// The quoted transport checksum may be cut off, and need not have been right; it follows if it is there.
    pub(crate) fn rewrite_quoted(&mut self, to: &Tuple) {
        let (IpAddr::V4(src), IpAddr::V4(dst)) = (to.src, to.dst) else { return };
        let Some(quote) = self.bytes.get_mut(self.payload..) else { return };
        let Some(inner) = quoted_header(quote) else { return };
        let mut addresses = Delta::default();
        addresses.addr(addr_at(quote, SOURCE), src);
        addresses.addr(addr_at(quote, DESTINATION), dst);
        put_addr(quote, SOURCE, src);
        put_addr(quote, DESTINATION, dst);
        let mut all = addresses;
        edit(quote, HEADER_CHECKSUM, &mut all, |old| addresses.apply(old));
        let mut ports = Delta::default();
        edit(quote, inner, &mut ports, |_| to.src_port);
        edit(quote, inner + 2, &mut ports, |_| to.dst_port);
        let both = addresses.and(ports);
        all = all.and(ports);
        match to.protocol {
            Protocol::Tcp => edit(quote, inner + TCP_CHECKSUM, &mut all, |old| both.apply(old)),
            Protocol::Udp => edit(quote, inner + UDP_CHECKSUM, &mut all, |old| both.apply_udp(old)),
        }
        let at = self.header + ICMP_CHECKSUM;
        put_u16(self.bytes, at, all.apply(u16_at(self.bytes, at)));
    }

    fn update_header_checksum(&mut self, delta: Delta) {
        let old = u16_at(self.bytes, HEADER_CHECKSUM);
        put_u16(self.bytes, HEADER_CHECKSUM, delta.apply(old));
    }
}

/// The transport and the length of its header.
fn transport_of(protocol: u8, body: &[u8], first_of_many: bool) -> Result<(Transport, usize), DropReason> {
    let short = if first_of_many { DropReason::TinyFragment } else { DropReason::Malformed };
    match protocol {
        1 if body.len() >= ICMP_HEADER => Ok((Transport::Icmp, ICMP_HEADER)),
        6 if body.len() >= TCP_HEADER => {
            let header = usize::from(byte_at(body, 12) >> 4) * 4;
            if header < TCP_HEADER {
                Err(DropReason::Malformed)
            } else if header > body.len() {
                Err(short)
            } else {
                Ok((Transport::Tcp, header))
            }
        }
        17 if body.len() >= UDP_HEADER => {
            let length = usize::from(u16_at(body, 4));
            // The length is the whole datagram's: a first fragment has only the beginning of it.
            if length < UDP_HEADER || (length > body.len() && !first_of_many) {
                Err(DropReason::Malformed)
            } else {
                Ok((Transport::Udp, UDP_HEADER))
            }
        }
        1 | 6 | 17 => Err(short),
        other => Ok((Transport::Other(other), 0)),
    }
}

/// Length of a quoted IPv4 header that is followed by ports; `None` for tail fragments and anything else.
fn quoted_header(quote: &[u8]) -> Option<usize> {
    let first = *quote.first()?;
    let header = usize::from(first & 0x0f) * 4;
    let whole = first >> 4 == 4 && header >= IPV4_HEADER && quote.len() >= header + 8;
    (whole && u16_at(quote, FRAGMENT) & 0x1fff == 0).then_some(header)
}

/// Edits a word if it is there, and notes the difference.
fn edit(bytes: &mut [u8], at: usize, delta: &mut Delta, new: impl Fn(u16) -> u16) {
    if bytes.len() >= at + 2 {
        let old = u16_at(bytes, at);
        let new = new(old);
        delta.word(old, new);
        put_u16(bytes, at, new);
    }
}

// Reads beyond the end give zero and writes do nothing. `parse` has proved that neither happens; saying it here again
// costs a comparison and means that no mistake above can panic.

fn byte_at(bytes: &[u8], at: usize) -> u8 {
    bytes.get(at).copied().unwrap_or_default()
}

fn array_at<const N: usize>(bytes: &[u8], at: usize) -> [u8; N] {
    bytes.get(at..).and_then(|rest| rest.first_chunk::<N>()).copied().unwrap_or([0; N])
}

fn u16_at(bytes: &[u8], at: usize) -> u16 {
    u16::from_be_bytes(array_at(bytes, at))
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_be_bytes(array_at(bytes, at))
}

fn addr_at(bytes: &[u8], at: usize) -> Ipv4Addr {
    Ipv4Addr::from(array_at::<4>(bytes, at))
}

fn put_u16(bytes: &mut [u8], at: usize, value: u16) {
    if let Some(place) = bytes.get_mut(at..).and_then(|rest| rest.first_chunk_mut::<2>()) {
        *place = value.to_be_bytes();
    }
}

fn put_addr(bytes: &mut [u8], at: usize, value: Ipv4Addr) {
    if let Some(place) = bytes.get_mut(at..).and_then(|rest| rest.first_chunk_mut::<4>()) {
        *place = value.octets();
    }
}
