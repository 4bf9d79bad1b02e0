//! Packets as the tests build and see them, in the family that the test binary is for.
//!
//! Tests name hosts by IPv4 addresses. In the binary for IPv6 each stands for one IPv6 address, and nothing else changes.
//! `etherparse` builds and checks the packets, not the code under test.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV4};

use etherparse::{
    Icmpv4Slice, Icmpv4Type, Icmpv6Slice, Icmpv6Type, IpNumber, Ipv4Header, Ipv6Header, NetSlice, SlicedPacket,
    TcpHeader, TransportSlice, UdpHeader, icmpv4, icmpv6,
};
use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use minisvc_translator::Protocol;

use crate::IPV6;

pub(crate) const FIN: u8 = 1;
pub(crate) const SYN: u8 = 2;
pub(crate) const RST: u8 = 4;
pub(crate) const ACK: u8 = 16;

/// Length of the IP header of the packets built here.
pub(crate) const HEADER: usize = if IPV6 { 40 } else { 20 };

/// Before the 32 bits of the IPv4 address in the IPv6 address it stands for.
const PREFIX: u128 = 0xfd00 << 112;

/// The address of this family that an IPv4 address stands for.
pub(crate) fn real(addr: Ipv4Addr) -> IpAddr {
    match addr {
        _ if !IPV6 => addr.into(),
        _ if addr.is_multicast() || addr.is_broadcast() => (0xff0e << 112 | u128::from(addr.to_bits())).into_v6(),
        _ => (PREFIX | u128::from(addr.to_bits())).into_v6(),
    }
}

trait IntoV6 {
    fn into_v6(self) -> IpAddr;
}

impl IntoV6 for u128 {
    fn into_v6(self) -> IpAddr {
        IpAddr::V6(Ipv6Addr::from_bits(self))
    }
}

/// The IPv4 address that stands for this one.
pub(crate) fn logical(addr: IpAddr) -> Ipv4Addr {
    match addr {
        IpAddr::V4(addr) if !IPV6 => addr,
        IpAddr::V6(addr) if IPV6 => Ipv4Addr::from_bits(u32::try_from(addr.to_bits() & 0xffff_ffff).unwrap()),
        _ => panic!("{addr} is of the other family"),
    }
}

/// An address and port of this family.
pub(crate) fn sock(addr: SocketAddrV4) -> SocketAddr {
    SocketAddr::new(real(*addr.ip()), addr.port())
}

/// A range of this family; one of IPv6 stands for one of the other family.
pub(crate) fn range(text: &str) -> IpNet {
    match text.parse::<IpNet>().unwrap() {
        IpNet::V4(net) if IPV6 => {
            let IpAddr::V6(addr) = real(net.addr()) else { panic!("{text} has no IPv6 address") };
            Ipv6Net::new(addr, 96 + net.prefix_len()).unwrap().into()
        }
        IpNet::V6(_) if IPV6 => Ipv4Net::new(Ipv4Addr::new(10, 0, 0, 0), 8).unwrap().into(),
        net => net,
    }
}

pub(crate) fn at(text: &str) -> SocketAddrV4 {
    text.parse().unwrap()
}

pub(crate) fn on(addr: Ipv4Addr, port: u16) -> SocketAddrV4 {
    SocketAddrV4::new(addr, port)
}

/// A TCP, UDP or SCTP packet, as built and as seen. One of SCTP has one chunk: `flags` is its type,
/// `ack` its own flags as seen, `seq` the verification tag.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Seg {
    pub(crate) protocol: Protocol,
    pub(crate) src: SocketAddrV4,
    pub(crate) dst: SocketAddrV4,
    pub(crate) flags: u8,
    pub(crate) seq: u32,
    pub(crate) ack: u32,
    pub(crate) ttl: u8,
    pub(crate) payload: Vec<u8>,
}

pub(crate) fn tcp(src: SocketAddrV4, dst: SocketAddrV4, flags: u8) -> Seg {
    Seg { protocol: Protocol::Tcp, src, dst, flags, seq: 1000, ack: 2000, ttl: 64, payload: Vec::new() }
}

pub(crate) fn udp(src: SocketAddrV4, dst: SocketAddrV4, payload: &[u8]) -> Seg {
    Seg { protocol: Protocol::Udp, flags: 0, seq: 0, ack: 0, payload: payload.to_vec(), ..tcp(src, dst, 0) }
}

/// An SCTP packet under this tag, with a chunk of this type.
pub(crate) fn sctp(src: SocketAddrV4, dst: SocketAddrV4, kind: u8, tag: u32) -> Seg {
    Seg { protocol: Protocol::Sctp, flags: kind, seq: tag, ack: 0, ..tcp(src, dst, 0) }
}

/// CRC-32C one bit at a time, as RFC 9260 Appendix A defines it.
fn crc32c(bytes: &[u8]) -> u32 {
    let bit = |crc: u32, _| if crc & 1 == 1 { crc >> 1 ^ 0x82f6_3b78 } else { crc >> 1 };
    !bytes.iter().fold(!0, |crc, &byte| (0..8).fold(crc ^ u32::from(byte), bit))
}

fn sctp_checksum(packet: &[u8]) -> [u8; 4] {
    let mut packet = packet.to_vec();
    packet[8..12].fill(0);
    crc32c(&packet).to_le_bytes()
}

impl Seg {
    pub(crate) fn numbers(self, seq: u32, ack: u32) -> Self {
        Self { seq, ack, ..self }
    }

    pub(crate) fn data(self, payload: &[u8]) -> Self {
        Self { payload: payload.to_vec(), ..self }
    }

    pub(crate) fn ttl(self, ttl: u8) -> Self {
        Self { ttl, ..self }
    }

    /// The answer to a packet as seen by its receiver.
    pub(crate) fn answer(&self, flags: u8, payload: &[u8]) -> Self {
        let back = match self.protocol {
            Protocol::Tcp => tcp(self.dst, self.src, flags).numbers(self.ack, self.seq.wrapping_add(1)),
            Protocol::Udp => udp(self.dst, self.src, b""),
            Protocol::Sctp => sctp(self.dst, self.src, flags, self.seq),
        };
        back.data(payload)
    }

    pub(crate) fn bytes(&self) -> Vec<u8> {
        let (src, dst) = (real(*self.src.ip()), real(*self.dst.ip()));
        let transport = match self.protocol {
            Protocol::Tcp => {
                let mut header = TcpHeader::new(self.src.port(), self.dst.port(), self.seq, 65535);
                (header.fin, header.syn, header.rst) =
                    (self.flags & FIN != 0, self.flags & SYN != 0, self.flags & RST != 0);
                header.ack = self.flags & ACK != 0;
                header.acknowledgment_number = if header.ack { self.ack } else { 0 };
                header.checksum = tcp_checksum(&header, src, dst, &self.payload);
                header.to_bytes().to_vec()
            }
            Protocol::Udp => {
                let length = u16::try_from(8 + self.payload.len()).unwrap();
                let mut header =
                    UdpHeader { source_port: self.src.port(), destination_port: self.dst.port(), length, checksum: 0 };
                header.checksum = udp_checksum(&header, src, dst, &self.payload);
                header.to_bytes().to_vec()
            }
            Protocol::Sctp => return self.sctp_bytes(),
        };
        let number = if self.protocol == Protocol::Tcp { IpNumber::TCP } else { IpNumber::UDP };
        ip_packet(*self.src.ip(), *self.dst.ip(), self.ttl, number, &[&transport, &self.payload])
    }
}

impl Seg {
    fn sctp_bytes(&self) -> Vec<u8> {
        let length = u16::try_from(4 + self.payload.len()).unwrap();
        let mut packet = [
            &self.src.port().to_be_bytes()[..],
            &self.dst.port().to_be_bytes(),
            &self.seq.to_be_bytes(),
            &[0, 0, 0, 0, self.flags, 0],
            &length.to_be_bytes(),
            &self.payload,
        ]
        .concat();
        packet.resize(packet.len().next_multiple_of(4), 0);
        let checksum = sctp_checksum(&packet);
        packet[8..12].copy_from_slice(&checksum);
        ip_packet(*self.src.ip(), *self.dst.ip(), self.ttl, IpNumber::SCTP, &[&packet])
    }
}

fn tcp_checksum(header: &TcpHeader, src: IpAddr, dst: IpAddr, payload: &[u8]) -> u16 {
    match (src, dst) {
        (IpAddr::V4(src), IpAddr::V4(dst)) => {
            header.calc_checksum_ipv4_raw(src.octets(), dst.octets(), payload).unwrap()
        }
        (IpAddr::V6(src), IpAddr::V6(dst)) => {
            header.calc_checksum_ipv6_raw(src.octets(), dst.octets(), payload).unwrap()
        }
        _ => panic!("{src} and {dst}"),
    }
}

fn udp_checksum(header: &UdpHeader, src: IpAddr, dst: IpAddr, payload: &[u8]) -> u16 {
    match (src, dst) {
        (IpAddr::V4(src), IpAddr::V4(dst)) => {
            header.calc_checksum_ipv4_raw(src.octets(), dst.octets(), payload).unwrap()
        }
        (IpAddr::V6(src), IpAddr::V6(dst)) => {
            header.calc_checksum_ipv6_raw(src.octets(), dst.octets(), payload).unwrap()
        }
        _ => panic!("{src} and {dst}"),
    }
}

/// An IP packet of whatever protocol.
pub(crate) fn ip_packet(src: Ipv4Addr, dst: Ipv4Addr, ttl: u8, number: IpNumber, parts: &[&[u8]]) -> Vec<u8> {
    let body = parts.concat();
    match (real(src), real(dst)) {
        (IpAddr::V4(src), IpAddr::V4(dst)) => {
            let mut ip = Ipv4Header::new(0, ttl, number, src.octets(), dst.octets()).unwrap();
            ip.set_payload_len(body.len()).unwrap();
            ip.header_checksum = ip.calc_header_checksum();
            [&*ip.to_bytes(), &body].concat()
        }
        (IpAddr::V6(src), IpAddr::V6(dst)) => {
            let ip = Ipv6Header {
                payload_length: u16::try_from(body.len()).unwrap(),
                next_header: number,
                hop_limit: ttl,
                source: src.octets(),
                destination: dst.octets(),
                ..Ipv6Header::default()
            };
            [&ip.to_bytes()[..], &body].concat()
        }
        _ => panic!("of two families"),
    }
}

/// An ICMP packet; in IPv6 the message that says the same.
pub(crate) fn icmp(src: Ipv4Addr, dst: Ipv4Addr, kind: Icmpv4Type, payload: &[u8]) -> Vec<u8> {
    let (IpAddr::V6(from), IpAddr::V6(to)) = (real(src), real(dst)) else {
        let message = etherparse::Icmpv4Header::with_checksum(kind, payload).to_bytes();
        return ip_packet(src, dst, 64, IpNumber::ICMP, &[&message, payload]);
    };
    use icmpv4::DestUnreachableHeader::{FragmentationNeeded, Port};
    let kind = match kind {
        Icmpv4Type::EchoRequest(echo) => Icmpv6Type::EchoRequest(echo),
        Icmpv4Type::DestinationUnreachable(Port) => {
            Icmpv6Type::DestinationUnreachable(icmpv6::DestUnreachableCode::Port)
        }
        Icmpv4Type::DestinationUnreachable(FragmentationNeeded { next_hop_mtu }) => {
            Icmpv6Type::PacketTooBig { mtu: next_hop_mtu.into() }
        }
        Icmpv4Type::TimeExceeded(_) => Icmpv6Type::TimeExceeded(icmpv6::TimeExceededCode::HopLimitExceeded),
        other => panic!("{other:?} has no counterpart here"),
    };
    let message =
        etherparse::Icmpv6Header::with_checksum(kind, from.octets(), to.octets(), payload).unwrap().to_bytes();
    ip_packet(src, dst, 64, IpNumber::IPV6_ICMP, &[&message, payload])
}

pub(crate) fn ping(src: Ipv4Addr, dst: Ipv4Addr) -> Vec<u8> {
    icmp(src, dst, Icmpv4Type::EchoRequest(etherparse::IcmpEchoHeader { id: 7, seq: 1 }), b"ping")
}

pub(crate) fn unreachable(src: Ipv4Addr, dst: Ipv4Addr, about: &[u8]) -> Vec<u8> {
    icmp(src, dst, Icmpv4Type::DestinationUnreachable(icmpv4::DestUnreachableHeader::Port), about)
}

/// What every IP packet has.
#[derive(Clone, Debug)]
pub(crate) struct Ip {
    pub(crate) src: Ipv4Addr,
    pub(crate) dst: Ipv4Addr,
    pub(crate) ttl: u8,
    pub(crate) payload: Vec<u8>,
}

/// An IP packet of this family whose length and header checksum are right.
pub(crate) fn ip_of(bytes: &[u8]) -> Ip {
    match SlicedPacket::from_ip(bytes).map(|packet| packet.net) {
        Ok(Some(NetSlice::Ipv4(ip))) => {
            let header = ip.header().to_header();
            assert_eq!(header.header_checksum, header.calc_header_checksum(), "IP header checksum");
            assert_eq!(usize::from(header.total_len), bytes.len(), "IP total length");
            let (src, dst) = (header.source.into(), header.destination.into());
            Ip {
                src: logical(src),
                dst: logical(dst),
                ttl: header.time_to_live,
                payload: ip.payload().payload.to_vec(),
            }
        }
        Ok(Some(NetSlice::Ipv6(ip))) => {
            let header = ip.header().to_header();
            assert_eq!(40 + usize::from(header.payload_length), bytes.len(), "IP payload length");
            let (src, dst) = (header.source.into(), header.destination.into());
            Ip { src: logical(src), dst: logical(dst), ttl: header.hop_limit, payload: ip.payload().payload.to_vec() }
        }
        other => panic!("no IP packet: {other:?} in {bytes:02x?}"),
    }
}

/// A TCP, UDP or SCTP packet, all of whose checksums are right.
pub(crate) fn seen(bytes: &[u8]) -> Seg {
    let ip = ip_of(bytes);
    let (src, dst) = (real(ip.src), real(ip.dst));
    match SlicedPacket::from_ip(bytes).unwrap().transport {
        Some(TransportSlice::Tcp(tcp)) => {
            let header = tcp.to_header();
            assert_eq!(header.checksum, tcp_checksum(&header, src, dst, tcp.payload()), "TCP checksum");
            let flag = |set: bool, bit: u8| if set { bit } else { 0 };
            Seg {
                protocol: Protocol::Tcp,
                src: on(ip.src, header.source_port),
                dst: on(ip.dst, header.destination_port),
                flags: flag(header.fin, FIN) | flag(header.syn, SYN) | flag(header.rst, RST) | flag(header.ack, ACK),
                seq: header.sequence_number,
                ack: header.acknowledgment_number,
                ttl: ip.ttl,
                payload: tcp.payload().to_vec(),
            }
        }
        Some(TransportSlice::Udp(slice)) => {
            let header = slice.to_header();
            if header.checksum != 0 {
                assert_eq!(header.checksum, udp_checksum(&header, src, dst, slice.payload()), "UDP checksum");
            }
            let (src, dst) = (on(ip.src, header.source_port), on(ip.dst, header.destination_port));
            Seg { ttl: ip.ttl, ..udp(src, dst, slice.payload()) }
        }
        None if bytes[if IPV6 { 6 } else { 9 }] == 132 => {
            let packet = &ip.payload;
            assert_eq!(packet[8..12], sctp_checksum(packet), "SCTP checksum");
            let number = |at: usize| u16::from_be_bytes([packet[at], packet[at + 1]]);
            let tag = u32::from(number(4)) << 16 | u32::from(number(6));
            let (src, dst) = (on(ip.src, number(0)), on(ip.dst, number(2)));
            let payload = packet[16..12 + usize::from(number(14))].to_vec();
            Seg { ttl: ip.ttl, payload, ack: packet[13].into(), ..sctp(src, dst, packet[12], tag) }
        }
        other => panic!("neither TCP, UDP nor SCTP: {other:?}"),
    }
}

/// An ICMP message with a right checksum: source, destination, type, code and what follows its 8 bytes of header. Types and
/// codes are those of ICMPv4; a message of ICMPv6 has those of the one that says the same.
pub(crate) fn seen_icmp(bytes: &[u8]) -> (Ipv4Addr, Ipv4Addr, u8, u8, Vec<u8>) {
    let ip = ip_of(bytes);
    let (IpAddr::V6(src), IpAddr::V6(dst)) = (real(ip.src), real(ip.dst)) else {
        let slice = Icmpv4Slice::from_slice(&ip.payload).unwrap();
        let header = slice.header();
        assert_eq!(header.checksum, header.icmp_type.calc_checksum(slice.payload()), "ICMP checksum");
        return (ip.src, ip.dst, slice.type_u8(), slice.code_u8(), slice.payload().to_vec());
    };
    let slice = Icmpv6Slice::from_slice(&ip.payload).unwrap();
    assert!(slice.is_checksum_valid(src.octets(), dst.octets()), "ICMPv6 checksum");
    let (kind, code) = match (slice.type_u8(), slice.code_u8()) {
        (1, 0) => (3, 0),
        (1, 3) => (3, 1),
        (1, 4) => (3, 3),
        (2, 0) => (3, 4),
        (3, 0) => (11, 0),
        (128, 0) => (8, 0),
        other => panic!("{other:?} has no counterpart"),
    };
    (ip.src, ip.dst, kind, code, slice.payload().to_vec())
}

/// Whether an answer is a RST, and not an ICMP error.
pub(crate) fn is_tcp(bytes: &[u8]) -> bool {
    bytes[if IPV6 { 6 } else { 9 }] == 6
}

/// The packet with no time to live left.
pub(crate) fn expiring(mut packet: Vec<u8>) -> Vec<u8> {
    packet[if IPV6 { 7 } else { 8 }] = 1;
    packet
}
