//! The validated view of one IP packet.

use std::net::IpAddr;

use super::checksum::{Checksum, Delta};
use super::layout::{self, Fragment, Version};
use super::raw::{addr4_at, addr6_at, byte_at, put_byte, put_bytes, put_u16, put_u32, u16_at, u32_at};
use super::sctp::{self, Chunks};
use crate::tuple::{Protocol, Tuple};
use crate::verdict::DropReason;

pub(crate) const FIN: u8 = 0x01;
pub(crate) const SYN: u8 = 0x02;
pub(crate) const RST: u8 = 0x04;
pub(crate) const ACK: u8 = 0x10;

/// Shortest headers, in bytes.
const TCP_HEADER: usize = 20;
pub(super) const UDP_HEADER: usize = 8;
const ICMP_HEADER: usize = 8;

/// Protocol numbers (RFC 5237 registry).
const ICMP: u8 = 1;
const TCP: u8 = 6;
const UDP: u8 = 17;
const SCTP: u8 = 132;
const ICMPV6: u8 = 58;

/// Offsets of the checksum within the transport headers (RFC 9293 3.1, RFC 768, RFC 792, RFC 4443 2.1).
const TCP_CHECKSUM: usize = 16;
const UDP_CHECKSUM: usize = 6;
const ICMP_CHECKSUM: usize = 2;

/// What follows the IP header and its extensions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transport {
    /// A whole TCP header, in an unfragmented packet or a first fragment.
    Tcp,
    /// A whole UDP header, in an unfragmented packet or a first fragment.
    Udp,
    /// A whole common header of SCTP, in an unfragmented packet. Its checksum is over the whole datagram, so that a fragment
    /// could not be changed: those are [`Self::Other`].
    Sctp,
    /// A whole header of ICMP or, in IPv6, ICMPv6, in an unfragmented packet or a first fragment.
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
    /// Exactly as long as the IP header says.
    bytes: &'a mut [u8],
    checksum: Checksum,
    version: Version,
    /// Where the IP header and its extensions end.
    header: usize,
    /// Where the transport's payload begins.
    payload: usize,
    protocol: u8,
    fragment: Fragment,
    transport: Transport,
    datagram: Option<u16>,
}

impl<'a> Packet<'a> {
    /// Checks the headers. Bytes beyond the length in the IP header are left out of the view.
    ///
    /// # Errors
    /// The reason to drop the packet: malformed, or a first fragment without a whole header.
    pub fn parse(bytes: &'a mut [u8], checksum: Checksum) -> Result<Self, DropReason> {
        let layout = layout::of(bytes).ok_or(DropReason::Malformed)?;
        let bytes = bytes.get_mut(..layout.total).ok_or(DropReason::Malformed)?;
        let (transport, transport_header) = if layout.fragment.offset != 0 {
            (Transport::Tail(layout.protocol), 0)
        } else {
            let body = bytes.get(layout.header..).ok_or(DropReason::Malformed)?;
            transport_of(layout.version, layout.protocol, body, layout.fragment.more)?
        };
        Ok(Self {
            bytes,
            checksum,
            version: layout.version,
            header: layout.header,
            payload: layout.header + transport_header,
            protocol: layout.protocol,
            fragment: layout.fragment,
            transport,
            datagram: None,
        })
    }

    /// What follows the IP header and its extensions.
    pub fn transport(&self) -> Transport {
        self.transport
    }

    /// Several datagrams in one, still to be cut; see [`super::PacketBuf::in_datagrams`].
    pub(crate) fn in_datagrams(self, size: Option<u16>) -> Self {
        Self { datagram: size, ..self }
    }

    /// How much payload each of the datagrams has that are still to be cut.
    pub(crate) fn datagram_size(&self) -> Option<usize> {
        self.datagram.map(usize::from)
    }

    /// How much of the transport checksum is there.
    pub(crate) fn checksum(&self) -> Checksum {
        self.checksum
    }

    /// The number of the protocol that follows.
    pub fn protocol(&self) -> u8 {
        self.protocol
    }

    /// The packet's bytes, exactly as many as the IP header says.
    pub fn bytes(&self) -> &[u8] {
        self.bytes
    }

    /// Length of the IP header with its options and extensions, in bytes.
    pub fn header_len(&self) -> usize {
        self.header
    }

    /// Source address.
    pub fn src(&self) -> IpAddr {
        address_at(self.bytes, self.version, self.version.source())
    }

    /// Destination address.
    pub fn dst(&self) -> IpAddr {
        address_at(self.bytes, self.version, self.version.destination())
    }

    /// Time to live, or hop limit.
    pub fn ttl(&self) -> u8 {
        byte_at(self.bytes, self.version.ttl())
    }

    /// The identification that fragments of one datagram share; 0 in an IPv6 packet that is no fragment.
    pub fn identification(&self) -> u32 {
        match (self.version, self.fragment.identification) {
            (_, None) => 0,
            (Version::V4, Some(at)) => u32::from(u16_at(self.bytes, at)),
            (Version::V6, Some(at)) => u32_at(self.bytes, at),
        }
    }

    /// Gives the datagram another identification, of which IPv4 takes the lower half.
    pub(crate) fn set_identification(&mut self, new: u32) {
        match (self.version, self.fragment.identification) {
            (_, None) => {}
            (Version::V4, Some(at)) => {
                let new = u16::try_from(new & 0xffff).unwrap_or_default();
                let mut delta = Delta::default();
                delta.word(u16_at(self.bytes, at), new);
                put_u16(self.bytes, at, new);
                self.update_header_checksum(delta);
            }
            (Version::V6, Some(at)) => put_u32(self.bytes, at, new),
        }
    }

    /// Whether more fragments of the datagram follow this one.
    pub fn more_fragments(&self) -> bool {
        self.fragment.more
    }

    /// Where this fragment's payload is in the datagram, in bytes. 0 for a whole packet.
    pub fn fragment_offset(&self) -> usize {
        self.fragment.offset
    }

    /// Bytes after the IP header and its extensions.
    pub fn body(&self) -> &[u8] {
        self.bytes.get(self.header..).unwrap_or_default()
    }

    /// Bytes after the transport header; after the IP header if there is none.
    pub fn payload(&self) -> &[u8] {
        self.bytes.get(self.payload..).unwrap_or_default()
    }

    /// Addresses and ports, if this is TCP, UDP or SCTP with its header.
    pub fn tuple(&self) -> Option<Tuple> {
        let protocol = match self.transport {
            Transport::Tcp => Protocol::Tcp,
            Transport::Udp => Protocol::Udp,
            Transport::Sctp => Protocol::Sctp,
            Transport::Icmp | Transport::Other(_) | Transport::Tail(_) => return None,
        };
        Some(Tuple {
            protocol,
            src: self.src(),
            src_port: u16_at(self.bytes, self.header),
            dst: self.dst(),
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

    /// The chunks of an SCTP packet; none if this is not SCTP.
    pub(crate) fn chunks(&self) -> Chunks {
        if self.transport == Transport::Sctp { Chunks::read(self.body()) } else { Chunks::default() }
    }

    /// Verification tag; only meaningful for SCTP.
    pub(crate) fn sctp_tag(&self) -> u32 {
        u32_at(self.bytes, self.header + sctp::TAG)
    }

    /// The tag that the sender of an SCTP packet asks to be used from now on, if it does.
    pub(crate) fn sctp_asked_tag(&self) -> Option<u32> {
        sctp::asked_tag(self.body())
    }

    /// ICMP type; only meaningful for ICMP.
    pub fn icmp_type(&self) -> u8 {
        byte_at(self.bytes, self.header)
    }

    /// Whether this is an ICMP message about another packet (RFC 792, RFC 4443 2.1): one must not be answered by another.
    pub fn is_icmp_error(&self) -> bool {
        let is_error = match self.version {
            // Destination unreachable, source quench, redirect, time exceeded, parameter problem.
            Version::V4 => matches!(self.icmp_type(), 3 | 4 | 5 | 11 | 12),
            Version::V6 => self.icmp_type() < 128,
        };
        self.transport == Transport::Icmp && is_error
    }

    /// Whether this concerns neighbours on one link only: multicast listeners (RFC 3810), routers and neighbours (RFC 4861).
    pub(crate) fn is_neighbour_message(&self) -> bool {
        self.version == Version::V6
            && self.transport == Transport::Icmp
            && matches!(self.icmp_type(), 130..=137 | 141..=143 | 151..=153)
    }

    /// Takes one from the TTL, as a router does (D-110). The caller has seen that it is above 1.
    pub fn decrement_ttl(&mut self) {
        let at = self.version.ttl();
        if self.version == Version::V6 {
            put_byte(self.bytes, at, self.ttl().saturating_sub(1));
            return;
        }
        // TTL and protocol are one word of the header checksum.
        let old = u16_at(self.bytes, at);
        let new = old.saturating_sub(0x0100);
        let mut delta = Delta::default();
        delta.word(old, new);
        put_u16(self.bytes, at, new);
        self.update_header_checksum(delta);
    }

    /// Gives the packet the addresses, and if it has any the ports, of `to`.
    ///
    /// A tail fragment has no ports; what it needs is only the addresses. Addresses of the other family cannot be put into a
    /// packet and change nothing.
    pub fn rewrite(&mut self, to: &Tuple) {
        let delta = self.rewrite_addresses(to.src, to.dst);
        let ports = match self.transport {
            Transport::Sctp => return self.rewrite_sctp_ports(to),
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

    /// The checksum of SCTP covers no addresses, and none of it is there while somebody else is to complete it.
    fn rewrite_sctp_ports(&mut self, to: &Tuple) {
        let new = u32::from(to.src_port) << 16 | u32::from(to.dst_port);
        let change = u32_at(self.bytes, self.header) ^ new;
        if change == 0 {
            return;
        }
        put_u32(self.bytes, self.header, new);
        if self.checksum == Checksum::Full {
            let at = self.header + sctp::CHECKSUM;
            let sum = u32_at(self.bytes, at).swap_bytes();
            let rest = self.body().len().saturating_sub(4);
            put_u32(self.bytes, at, sctp::after_change(sum, change.to_be_bytes(), rest).swap_bytes());
        }
    }

    /// Changes the addresses only; the difference is what a pseudo-header checksum must follow, as that of ICMPv6 does here.
    pub(crate) fn rewrite_addresses(&mut self, src: IpAddr, dst: IpAddr) -> Delta {
        let delta = put_addresses(self.bytes, self.version, src, dst);
        match self.version {
            Version::V4 => self.update_header_checksum(delta),
            Version::V6 if self.transport == Transport::Icmp => {
                let at = self.header + ICMP_CHECKSUM;
                let old = u16_at(self.bytes, at);
                let new = match self.checksum {
                    Checksum::Partial => delta.apply_sum(old),
                    Checksum::Full => delta.apply(old),
                };
                put_u16(self.bytes, at, new);
            }
            Version::V6 => {}
        }
        delta
    }

    /// The tuple of the packet that an ICMP error quotes, as its reporter saw it.
    ///
    /// `None` unless the quote has a whole IP header of the same version, and ports (RFC 792 guarantees 64 bits after the
    /// header).
    pub(crate) fn quoted_tuple(&self) -> Option<Tuple> {
        let quote = self.payload();
        let (inner, protocol) = quoted_ports(quote, self.version)?;
        Some(Tuple {
            protocol,
            src: address_at(quote, self.version, self.version.source()),
            src_port: u16_at(quote, inner),
            dst: address_at(quote, self.version, self.version.destination()),
            dst_port: u16_at(quote, inner + 2),
        })
    }

    /// Gives the packet quoted in an ICMP error the addresses and ports of `to`, and all checksums their share.
    ///
    /// The quoted transport checksum may be cut off, and need not have been right; it follows if it is there.
    pub(crate) fn rewrite_quoted(&mut self, to: &Tuple) {
        let Some(quote) = self.bytes.get_mut(self.payload..) else { return };
        let Some((inner, _)) = quoted_ports(quote, self.version) else { return };
        let addresses = put_addresses(quote, self.version, to.src, to.dst);
        let mut all = addresses;
        if self.version == Version::V4 {
            edit(quote, layout::HEADER_CHECKSUM, &mut all, |old| addresses.apply(old));
        }
        let mut ports = Delta::default();
        edit(quote, inner, &mut ports, |_| to.src_port);
        edit(quote, inner + 2, &mut ports, |_| to.dst_port);
        let both = addresses.and(ports);
        all = all.and(ports);
        match to.protocol {
            Protocol::Tcp => edit(quote, inner + TCP_CHECKSUM, &mut all, |old| both.apply(old)),
            Protocol::Udp => edit(quote, inner + UDP_CHECKSUM, &mut all, |old| both.apply_udp(old)),
            // It is over all of the packet, of which only the beginning is here.
            Protocol::Sctp => {}
        }
        // Of a message whose checksum is still to be completed, only the pseudo-header is in it.
        if self.checksum == Checksum::Full {
            let at = self.header + ICMP_CHECKSUM;
            put_u16(self.bytes, at, all.apply(u16_at(self.bytes, at)));
        }
    }

    fn update_header_checksum(&mut self, delta: Delta) {
        let old = u16_at(self.bytes, layout::HEADER_CHECKSUM);
        put_u16(self.bytes, layout::HEADER_CHECKSUM, delta.apply(old));
    }
}

/// The transport and the length of its header.
fn transport_of(
    version: Version,
    protocol: u8,
    body: &[u8],
    first_of_many: bool,
) -> Result<(Transport, usize), DropReason> {
    let short = if first_of_many { DropReason::TinyFragment } else { DropReason::Malformed };
    let is_icmp = protocol == if version == Version::V4 { ICMP } else { ICMPV6 };
    match protocol {
        _ if is_icmp && body.len() >= ICMP_HEADER => Ok((Transport::Icmp, ICMP_HEADER)),
        _ if is_icmp => Err(short),
        TCP if body.len() >= TCP_HEADER => {
            let header = usize::from(byte_at(body, 12) >> 4) * 4;
            if header < TCP_HEADER {
                Err(DropReason::Malformed)
            } else if header > body.len() {
                Err(short)
            } else {
                Ok((Transport::Tcp, header))
            }
        }
        UDP if body.len() >= UDP_HEADER => {
            let length = usize::from(u16_at(body, 4));
            // The length is the whole datagram's: a first fragment has only the beginning of it.
            if length < UDP_HEADER || (length > body.len() && !first_of_many) {
                Err(DropReason::Malformed)
            } else {
                Ok((Transport::Udp, UDP_HEADER))
            }
        }
        SCTP if first_of_many => Ok((Transport::Other(SCTP), 0)),
        SCTP if body.len() >= sctp::HEADER => Ok((Transport::Sctp, sctp::HEADER)),
        TCP | UDP | SCTP => Err(short),
        other => Ok((Transport::Other(other), 0)),
    }
}

/// Where the ports of a quoted packet are; `None` for tail fragments and anything else.
fn quoted_ports(quote: &[u8], version: Version) -> Option<(usize, Protocol)> {
    let layout = layout::of(quote)?;
    let protocol = match layout.protocol {
        TCP => Protocol::Tcp,
        UDP => Protocol::Udp,
        SCTP => Protocol::Sctp,
        _ => return None,
    };
    let is_there = layout.version == version && layout.fragment.offset == 0 && quote.len() >= layout.header + 8;
    is_there.then_some((layout.header, protocol))
}

#[inline]
fn address_at(bytes: &[u8], version: Version, at: usize) -> IpAddr {
    match version {
        Version::V4 => IpAddr::V4(addr4_at(bytes, at)),
        Version::V6 => IpAddr::V6(addr6_at(bytes, at)),
    }
}

/// Puts addresses into an IP header, and returns the difference they make. Those of the other family change nothing.
#[inline]
fn put_addresses(bytes: &mut [u8], version: Version, src: IpAddr, dst: IpAddr) -> Delta {
    let mut delta = Delta::default();
    match (version, src, dst) {
        (Version::V4, IpAddr::V4(src), IpAddr::V4(dst)) => {
            let (source, destination) = (Version::V4.source(), Version::V4.destination());
            delta.addr(addr4_at(bytes, source), src);
            delta.addr(addr4_at(bytes, destination), dst);
            put_bytes(bytes, source, &src.octets());
            put_bytes(bytes, destination, &dst.octets());
        }
        (Version::V6, IpAddr::V6(src), IpAddr::V6(dst)) => {
            let (source, destination) = (Version::V6.source(), Version::V6.destination());
            delta.addr6(addr6_at(bytes, source), src);
            delta.addr6(addr6_at(bytes, destination), dst);
            put_bytes(bytes, source, &src.octets());
            put_bytes(bytes, destination, &dst.octets());
        }
        _ => {}
    }
    delta
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
