//! Where packets come from and go to. A device moves one whole IP packet per call and never blocks.

mod offload;
mod plain;

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use minisvc_translator::Checksum;

use offload::OffloadTun;
use plain::PlainTun;

/// Bytes before a packet in a [`Frame`], for the header of devices that have one: a `virtio_net_hdr`.
const HEADROOM: usize = 10;

/// Largest packet that a device hands over, in bytes: IPv6 counts 16 bits of length after its 40 bytes of header.
const MAX_PACKET: usize = 40 + 65_535;

/// Room for one packet and what its device says about it. One is reused for all packets.
pub(crate) struct Frame {
    bytes: Vec<u8>,
}

impl Frame {
    /// Room for the largest packet.
    pub(crate) fn new() -> Self {
        Self { bytes: vec![0; HEADROOM + MAX_PACKET] }
    }

    /// The room for the packet.
    pub(crate) fn packet_mut(&mut self) -> &mut [u8] {
        self.bytes.get_mut(HEADROOM..).unwrap_or_default()
    }

    /// A copy of a packet of `len` bytes with its header.
    pub(crate) fn copy(&self, len: usize) -> Vec<u8> {
        self.bytes.get(..HEADROOM + len).unwrap_or_default().to_vec()
    }

    /// Puts such a copy back; returns the length of the packet.
    pub(crate) fn load(&mut self, copy: &[u8]) -> usize {
        let len = copy.len().min(self.bytes.len());
        for (place, byte) in self.bytes.iter_mut().zip(copy) {
            *place = *byte;
        }
        len.saturating_sub(HEADROOM)
    }

    /// Puts a packet that is complete in the place of the one that was there; returns its length.
    pub(crate) fn put(&mut self, packet: &[u8]) -> usize {
        self.clear_header();
        for (place, byte) in self.packet_mut().iter_mut().zip(packet) {
            *place = *byte;
        }
        packet.len().min(MAX_PACKET)
    }

    /// Says that the packet is complete and to be taken as it is: its answer is in its place.
    pub(crate) fn clear_header(&mut self) {
        if let Some(header) = self.bytes.get_mut(..HEADROOM) {
            header.fill(0);
        }
    }
}

/// What [`Device::receive`] put into a frame.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Received {
    /// Length of the packet, in bytes.
    pub(crate) len: usize,
    /// How much of its transport checksum is there.
    pub(crate) checksum: Checksum,
    /// Bytes of payload in each of the UDP datagrams that the packet is still to be cut into, or 0.
    pub(crate) datagram: u16,
}

/// One end of a link. All devices of a data plane are of one kind: a packet whose checksum is not complete, or that is
/// still to be segmented, can only be passed on to a device that takes it so.
#[derive(Debug)]
pub(crate) enum Device {
    /// One packet as it is on a wire.
    Plain(PlainTun),
    /// Packets still to be segmented, with a header that says how.
    Offload(OffloadTun),
}

impl Device {
    /// Takes over an open TUN that was opened with or without offload.
    pub(crate) fn new(fd: OwnedFd, offload: bool) -> Self {
        if offload { Self::Offload(OffloadTun::new(fd)) } else { Self::Plain(PlainTun::new(fd)) }
    }

    /// What to wait on: readable when [`Self::receive`] has something.
    pub(crate) fn as_fd(&self) -> BorrowedFd<'_> {
        match self {
            Self::Plain(device) => device.as_fd(),
            Self::Offload(device) => device.as_fd(),
        }
    }

    /// Reads the next packet into `frame`; `None` when there is none now.
    ///
    /// # Errors
    /// When the device is gone or broken.
    pub(crate) fn receive(&self, frame: &mut Frame) -> io::Result<Option<Received>> {
        match self {
            Self::Plain(device) => device.receive(frame),
            Self::Offload(device) => device.receive(frame),
        }
    }

    /// Writes the packet of a frame, of `len` bytes. `false` means that the other side has no room for it and it is lost, as
    /// on any network.
    ///
    /// # Errors
    /// When the device is gone or broken.
    pub(crate) fn send(&self, frame: &Frame, len: usize) -> io::Result<bool> {
        match self {
            Self::Plain(device) => device.send(frame, len),
            Self::Offload(device) => device.send(frame, len),
        }
    }

    /// Writes a packet that came from no device and is complete. Otherwise as [`Self::send`].
    ///
    /// # Errors
    /// When the device is gone or broken.
    pub(crate) fn send_own(&self, packet: &[u8]) -> io::Result<bool> {
        match self {
            Self::Plain(device) => device.send_own(packet),
            Self::Offload(device) => device.send_own(packet),
        }
    }
}

/// Whether an error means "not now" rather than "never again".
fn is_temporary(error: nix::Error) -> bool {
    use nix::errno::Errno;
    // EIO: the interface is down, which it is until its namespace has set it up. ENOBUFS, ENOMEM: no room right now.
    // EINVAL: the kernel does not like this one packet.
    matches!(error, Errno::EAGAIN | Errno::EINTR | Errno::EIO | Errno::ENOBUFS | Errno::ENOMEM | Errno::EINVAL)
}

/// Reads from a descriptor that gives one packet a read.
fn read_once(fd: impl AsFd, storage: &mut [u8]) -> io::Result<Option<usize>> {
    match nix::unistd::read(fd, storage) {
        Ok(0) => Ok(None),
        Ok(length) => Ok(Some(length)),
        Err(error) if is_temporary(error) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// Whether a packet was taken.
fn written(result: nix::Result<usize>) -> io::Result<bool> {
    match result {
        Ok(_) => Ok(true),
        Err(error) if is_temporary(error) => Ok(false),
        Err(error) => Err(error.into()),
    }
}
