//! Packets of our own: TCP resets and ICMP errors. Always whole, with complete checksums.

use std::net::IpAddr;

use super::checksum::{checksum, fold, pseudo_header, sum};
use super::sctp;
use super::view::{ACK, Packet, RST};
use crate::tuple::{Protocol, Tuple};

const TTL: u8 = 64;
const IPV4_HEADER: u16 = 20;
const TCP: u8 = 6;
const ICMP: u8 = 1;
const ICMPV6: u8 = 58;
const SCTP: u8 = 132;
const TCP_HEADER: u16 = 20;
const ICMP_HEADER: u16 = 8;
/// As much of the original as fits into 576 bytes (RFC 1812 4.3.2.3), or the least MTU of IPv6 (RFC 4443 2.4).
const MOST_QUOTED: usize = 576 - 28;
const MOST_QUOTED_V6: usize = 1280 - 48;

/// What an ICMP error says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ErrorKind {
    /// There is no way to the destination's network.
    NetUnreachable,
    /// There is a way to the network, but nobody has the address.
    HostUnreachable,
    /// The host is there, and refuses.
    PortUnreachable,
    /// The packet has passed too many routers.
    TimeExceeded,
}

impl ErrorKind {
    /// By RFC 792 and, for ICMPv6, RFC 4443 3.
    fn type_and_code(self, ipv6: bool) -> [u8; 2] {
        match (self, ipv6) {
            (Self::NetUnreachable, false) => [3, 0],
            (Self::HostUnreachable, false) => [3, 1],
            (Self::PortUnreachable, false) => [3, 3],
            (Self::TimeExceeded, false) => [11, 0],
            (Self::NetUnreachable, true) => [1, 0],
            (Self::HostUnreachable, true) => [1, 3],
            (Self::PortUnreachable, true) => [1, 4],
            (Self::TimeExceeded, true) => [3, 0],
        }
    }
}

/// Writes an ICMP error from `reporter` about a packet, to its source, with the packet as it came quoted in it (D-037).
/// Nothing if the reporter is of the other family.
pub(crate) fn icmp_error(out: &mut Vec<u8>, reporter: IpAddr, about: &Packet<'_>, kind: ErrorKind) {
    let ipv6 = reporter.is_ipv6();
    let (protocol, most) = if ipv6 { (ICMPV6, MOST_QUOTED_V6) } else { (ICMP, MOST_QUOTED) };
    let quote = about.bytes().get(..about.bytes().len().min(most)).unwrap_or_default();
    let head = kind.type_and_code(ipv6);
    let length = u16::try_from(quote.len()).unwrap_or_default() + ICMP_HEADER;
    ip_header(out, reporter, about.src(), protocol, length);
    if out.is_empty() {
        return;
    }
    // Only that of ICMPv6 covers the addresses (RFC 4443 2.3).
    let addresses = if ipv6 { pseudo_header(reporter, about.src(), protocol, length) } else { 0 };
    let covered = addresses + u64::from(u16::from_be_bytes(head)) + sum(quote);
    out.extend_from_slice(&head);
    out.extend_from_slice(&(!fold(covered)).to_be_bytes());
    out.extend_from_slice(&[0; 4]);
    out.extend_from_slice(quote);
}

/// Writes what a host answers a packet of no connection that it knows: a RST (RFC 9293 3.10.7.1), or the ABORT or SHUTDOWN
/// COMPLETE of SCTP (RFC 9260 8.4).
///
/// The packet must not be such an answer itself.
pub(crate) fn reset(out: &mut Vec<u8>, to: &Packet<'_>) {
    let Some(tuple) = to.tuple() else { return };
    if tuple.protocol == Protocol::Sctp {
        let (to, complete) = (to.sctp_asked_tag().ok_or_else(|| to.sctp_tag()), to.chunks().has_shutdown_ack());
        let (tag, reflected) = to.map_or_else(|own| (own, true), |asked| (asked, false));
        return abort_for(out, &tuple.reversed(), tag, reflected, complete);
    }
    if to.tcp_flags() & ACK != 0 {
        reset_for(out, &tuple.reversed(), to.tcp_ack(), None);
    } else {
        reset_for(out, &tuple.reversed(), 0, Some(to.tcp_end()));
    }
}

/// Writes the last word of an SCTP association; nothing if the addresses are of two families.
pub(crate) fn abort_for(out: &mut Vec<u8>, tuple: &Tuple, tag: u32, reflected: bool, complete: bool) {
    let packet = sctp::last_word(tuple.src_port, tuple.dst_port, tag, reflected, complete);
    ip_header(out, tuple.src, tuple.dst, SCTP, u16::try_from(packet.len()).unwrap_or_default());
    if !out.is_empty() {
        out.extend_from_slice(&packet);
    }
}

/// Writes a RST with these addresses and numbers; nothing if the addresses are of two families.
pub(crate) fn reset_for(out: &mut Vec<u8>, tuple: &Tuple, seq: u32, ack: Option<u32>) {
    ip_header(out, tuple.src, tuple.dst, TCP, TCP_HEADER);
    if out.is_empty() {
        return;
    }
    let flags = RST | if ack.is_some() { ACK } else { 0 };
    let mut segment = [0; TCP_HEADER as usize];
    {
        let fields: [&[u8]; 4] = [
            &tuple.src_port.to_be_bytes(),
            &tuple.dst_port.to_be_bytes(),
            &seq.to_be_bytes(),
            &ack.unwrap_or_default().to_be_bytes(),
        ];
        for (place, byte) in segment.iter_mut().zip(fields.into_iter().flatten()) {
            *place = *byte;
        }
    }
    // Data offset in 32-bit words, and flags; window, checksum and urgent pointer follow as zeros.
    segment[12] = 5 << 4;
    segment[13] = flags;
    let covered = pseudo_header(tuple.src, tuple.dst, TCP, TCP_HEADER) + sum(&segment);
    [segment[16], segment[17]] = (!fold(covered)).to_be_bytes();
    out.extend_from_slice(&segment);
}

/// Writes an IP header; nothing if the addresses are of two families.
fn ip_header(out: &mut Vec<u8>, src: IpAddr, dst: IpAddr, protocol: u8, length: u16) {
    match (src, dst) {
        (IpAddr::V4(src), IpAddr::V4(dst)) => {
            let start = out.len();
            out.extend_from_slice(&[0x45, 0]);
            out.extend_from_slice(&(IPV4_HEADER + length).to_be_bytes());
            // No identification is needed for what may not be fragmented (RFC 6864 4.1).
            out.extend_from_slice(&[0, 0, 0x40, 0, TTL, protocol, 0, 0]);
            out.extend_from_slice(&src.octets());
            out.extend_from_slice(&dst.octets());
            let sum = checksum(out.get(start..).unwrap_or_default());
            if let Some(place) = out.get_mut(start + 10..start + 12) {
                place.copy_from_slice(&sum.to_be_bytes());
            }
        }
        (IpAddr::V6(src), IpAddr::V6(dst)) => {
            out.extend_from_slice(&[0x60, 0, 0, 0]);
            out.extend_from_slice(&length.to_be_bytes());
            out.extend_from_slice(&[protocol, TTL]);
            out.extend_from_slice(&src.octets());
            out.extend_from_slice(&dst.octets());
        }
        _ => {}
    }
}
