//! Packets: parsed once, edited in place.
//!
//! [`PacketBuf`] is what a caller lends for one packet. [`Packet`] is the validated view of it: it remembers where
//! everything is, its accessors never fail, and its edits keep the checksums right.

mod build;
mod checksum;
mod cut;
mod layout;
mod raw;
mod refusal;
mod sctp;
mod view;

pub(crate) use build::{ErrorKind, abort_for, icmp_error, reset, reset_for};
pub use checksum::{Checksum, Delta, checksum, fold, pseudo_header, sum};
pub(crate) use cut::{on_the_wire, whole};
pub(crate) use sctp::Chunks;
pub(crate) use view::{ACK, FIN, RST, SYN};
pub use view::{Packet, Transport};

/// A caller's buffer with one IP packet in front, and room behind it for an answer.
#[derive(Debug)]
pub struct PacketBuf<'a> {
    storage: &'a mut [u8],
    len: usize,
    checksum: Checksum,
    datagram: Option<u16>,
}

impl<'a> PacketBuf<'a> {
    /// A packet of `len` bytes at the start of `storage`. The rest of `storage` is free for an answer, which needs up to
    /// 576 bytes in IPv4 and 1280 in IPv6. A `len` beyond the storage means all of it.
    pub fn new(storage: &'a mut [u8], len: usize, checksum: Checksum) -> Self {
        let len = len.min(storage.len());
        Self { storage, len, checksum, datagram: None }
    }

    /// Says that this is several datagrams of UDP in one, still to be cut into pieces of so many bytes of payload
    /// (`VIRTIO_NET_HDR_GSO_UDP_L4`).
    #[must_use]
    pub fn in_datagrams(self, size: u16) -> Self {
        Self { datagram: Some(size).filter(|&size| size > 0), ..self }
    }

    pub(crate) fn datagram(&self) -> Option<u16> {
        self.datagram
    }

    /// The packet as it is now.
    pub fn bytes(&self) -> &[u8] {
        self.storage.get(..self.len).unwrap_or_default()
    }

    /// The length of the packet as it is now: an answer's differs, and bytes beyond an IP packet's length are cut off.
    #[expect(clippy::len_without_is_empty, reason = "a packet without bytes is of no use to anyone")]
    pub fn len(&self) -> usize {
        self.len
    }

    /// How much of the transport checksum is there. [`Checksum::Full`] after an answer: offload headers that came with
    /// the packet must then be cleared.
    pub fn checksum(&self) -> Checksum {
        self.checksum
    }

    pub(crate) fn bytes_mut(&mut self) -> &mut [u8] {
        self.storage.get_mut(..self.len).unwrap_or_default()
    }

    /// Cuts the packet to its IP length.
    pub(crate) fn truncate(&mut self, len: usize) {
        self.len = self.len.min(len);
    }

    /// Puts an answer in place of the packet; false if it does not fit.
    pub(crate) fn replace(&mut self, answer: &[u8]) -> bool {
        let Some(room) = self.storage.get_mut(..answer.len()) else { return false };
        room.copy_from_slice(answer);
        self.len = answer.len();
        self.checksum = Checksum::Full;
        true
    }
}
