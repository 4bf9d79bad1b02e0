//! What a packet would be answered if nobody listened where it goes.

use super::cut::whole;
use super::{ACK, ErrorKind, Packet, RST, SYN, Transport, icmp_error, reset};

impl Packet<'_> {
    /// Whether it begins something that can be refused: it asks for a connection, or is a datagram.
    pub fn begins_flow(&self) -> bool {
        match self.transport() {
            Transport::Tcp => self.tcp_flags() & (SYN | ACK | RST) == SYN,
            Transport::Sctp => self.chunks().begins(),
            Transport::Udp => true,
            _ => false,
        }
    }

    /// What its destination answers when nobody listens: a RST, or an ICMP error for a datagram. None for what must not be
    /// answered.
    pub fn refusal(&self) -> Option<Vec<u8>> {
        let mut answer = Vec::new();
        match self.transport() {
            Transport::Tcp if self.tcp_flags() & RST == 0 => reset(&mut answer, self),
            Transport::Sctp if !self.chunks().ends() => reset(&mut answer, self),
            Transport::Udp => icmp_error(&mut answer, self.dst(), self, ErrorKind::PortUnreachable),
            _ => {}
        }
        (!answer.is_empty()).then_some(answer)
    }

    /// A copy with a complete checksum.
    pub fn completed(&self) -> Vec<u8> {
        whole(self)
    }
}
