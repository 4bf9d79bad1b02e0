//! A TUN with segmentation and checksum offload: up to 64 KiB of a TCP stream, or of datagrams of one flow, in one packet.
//!
//! Each packet comes after a `virtio_net_hdr` (VIRTIO 1.2, 5.1.6), which says where the checksum is to be completed and into
//! what lengths the packet is to be cut. Translation changes neither, so the header goes out as it came in, and the
//! kernel on the other side takes the packet whole: nothing is ever cut.

use std::io::{self, IoSlice};
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};

use minisvc_translator::Checksum;

use super::{Frame, HEADROOM, Received, read_once, written};

/// Flag of the header: the transport checksum holds the sum of the pseudo-header only (`VIRTIO_NET_HDR_F_NEEDS_CSUM`).
const NEEDS_CHECKSUM: u8 = 1;

/// Kind of segmentation in the header: datagrams of UDP (`VIRTIO_NET_HDR_GSO_UDP_L4`).
const DATAGRAMS: u8 = 5;

/// A TUN device that was opened non-blocking, without packet information and with a 10-byte `virtio_net_hdr`.
#[derive(Debug)]
pub(crate) struct OffloadTun {
    fd: OwnedFd,
}

impl OffloadTun {
    pub(super) fn new(fd: OwnedFd) -> Self {
        Self { fd }
    }

    pub(super) fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }

    pub(super) fn receive(&self, frame: &mut Frame) -> io::Result<Option<Received>> {
        let Some(length) = read_once(&self.fd, &mut frame.bytes)? else { return Ok(None) };
        let flags = frame.bytes.first().copied().unwrap_or_default();
        let checksum = if flags & NEEDS_CHECKSUM != 0 { Checksum::Partial } else { Checksum::Full };
        let datagram = match frame.bytes.get(..HEADROOM) {
            Some(&[_, DATAGRAMS, _, _, low, high, ..]) => u16::from_ne_bytes([low, high]),
            _ => 0,
        };
        Ok(Some(Received { len: length.saturating_sub(HEADROOM), checksum, datagram }))
    }

    pub(super) fn send(&self, frame: &Frame, len: usize) -> io::Result<bool> {
        written(nix::unistd::write(&self.fd, frame.bytes.get(..HEADROOM + len).unwrap_or_default()))
    }

    pub(super) fn send_own(&self, packet: &[u8]) -> io::Result<bool> {
        // All zero: complete, and not to be cut.
        let header = [0; HEADROOM];
        written(nix::sys::uio::writev(&self.fd, &[IoSlice::new(&header), IoSlice::new(packet)]))
    }
}
