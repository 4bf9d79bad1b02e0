//! Packets as a wire has them, of packets that a device would have completed or cut: for those that leave by another way.

use super::checksum::{Checksum, checksum, fold, pseudo_header, sum};
use super::view::{Packet, Transport, UDP_HEADER};
use crate::tuple::Protocol;

/// Offsets of the checksum within the transport headers (RFC 9293 3.1, RFC 768), and of UDP's length.
const TCP_CHECKSUM: usize = 16;
const UDP_CHECKSUM: usize = 6;
const UDP_LENGTH: usize = 4;
/// Offsets within an IPv4 header (RFC 791 3.1) and an IPv6 header (RFC 8200 3).
const TOTAL_LENGTH: usize = 2;
const IDENTIFICATION: usize = 4;
const HEADER_CHECKSUM: usize = 10;
const PAYLOAD_LENGTH: usize = 4;
const IPV6_HEADER: usize = 40;

/// A copy of a packet with a complete checksum.
pub(crate) fn whole(packet: &Packet<'_>) -> Vec<u8> {
    let mut bytes = packet.bytes().to_vec();
    let field = match packet.transport() {
        _ if packet.checksum() == Checksum::Full => return bytes,
        Transport::Tcp => TCP_CHECKSUM,
        _ => UDP_CHECKSUM,
    };
    let body = bytes.get_mut(packet.header_len()..).unwrap_or_default();
    // The field holds the pseudo-header's share of the sum (see `Checksum::Partial`).
    let total = match (checksum(body), packet.transport()) {
        (0, Transport::Udp) => 0xffff,
        (total, _) => total,
    };
    put(body, field, total);
    bytes
}

/// The packets that a wire would have had: one, or as many datagrams as were sent in one go.
pub(crate) fn on_the_wire(packet: &Packet<'_>) -> Vec<Vec<u8>> {
    match packet.datagram_size() {
        Some(size) if packet.transport() == Transport::Udp && packet.payload().len() > size => (0..)
            .zip(packet.payload().chunks(size))
            .map(|(number, payload)| datagram(packet, number, payload))
            .collect(),
        _ => vec![whole(packet)],
    }
}

/// One of the datagrams of a packet: its headers, with this payload.
fn datagram(packet: &Packet<'_>, number: u16, payload: &[u8]) -> Vec<u8> {
    let header = packet.header_len();
    let mut bytes = packet.bytes().get(..header + UDP_HEADER).unwrap_or_default().to_vec();
    bytes.extend_from_slice(payload);
    // Each is shorter than the packet, whose length fits.
    let length = |from: usize| u16::try_from(bytes.len().saturating_sub(from)).unwrap_or(u16::MAX);
    let (total, after_ipv6, udp) = (length(0), length(IPV6_HEADER), length(header));
    if packet.src().is_ipv6() {
        put(&mut bytes, PAYLOAD_LENGTH, after_ipv6);
    } else {
        put(&mut bytes, TOTAL_LENGTH, total);
        let identification = u16::try_from(packet.identification() & 0xffff).unwrap_or_default();
        put(&mut bytes, IDENTIFICATION, identification.wrapping_add(number));
        put(&mut bytes, HEADER_CHECKSUM, 0);
        let sum = checksum(bytes.get(..header).unwrap_or_default());
        put(&mut bytes, HEADER_CHECKSUM, sum);
    }
    put(&mut bytes, header + UDP_LENGTH, udp);
    put(&mut bytes, header + UDP_CHECKSUM, 0);
    let addresses = pseudo_header(packet.src(), packet.dst(), Protocol::Udp.number(), udp);
    let sum = match !fold(addresses + sum(bytes.get(header..).unwrap_or_default())) {
        0 => 0xffff,
        sum => sum,
    };
    put(&mut bytes, header + UDP_CHECKSUM, sum);
    bytes
}

fn put(bytes: &mut [u8], at: usize, value: u16) {
    if let Some(place) = bytes.get_mut(at..at + 2) {
        place.copy_from_slice(&value.to_be_bytes());
    }
}
