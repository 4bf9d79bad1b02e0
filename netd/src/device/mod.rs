//! Where packets come from and go to. A device moves one whole IP packet per call and never blocks.

mod plain;

use std::io;
use std::os::fd::AsFd;

use minisvc_translator::PacketBuf;

pub(crate) use plain::PlainTun;

/// Largest packet that a device hands over, in bytes: an IPv4 or IPv6 packet with a 16-bit length.
pub(crate) const MAX_PACKET: usize = 65_535;

/// One end of a link.
pub(crate) trait Device: Send {
    /// What to wait on: readable when [`Self::receive`] has something.
    fn as_fd(&self) -> std::os::fd::BorrowedFd<'_>;

    /// Reads the next packet into `storage`; `None` when there is none now.
    ///
    /// # Errors
    /// When the device is gone or broken.
    fn receive<'a>(&self, storage: &'a mut [u8]) -> io::Result<Option<PacketBuf<'a>>>;

    /// Writes a packet. `false` means that the other side has no room for it and it is lost, as on any network.
    ///
    /// # Errors
    /// When the device is gone or broken.
    fn send(&self, packet: &[u8]) -> io::Result<bool>;
}

/// Whether an error means "not now" rather than "never again".
fn is_temporary(error: nix::Error) -> bool {
    use nix::errno::Errno;
    // EIO: the interface is down, which it is until its namespace has set it up. ENOBUFS, ENOMEM: no room right now.
    matches!(error, Errno::EAGAIN | Errno::EINTR | Errno::EIO | Errno::ENOBUFS | Errno::ENOMEM | Errno::EINVAL)
}

/// Reads from a descriptor that gives one packet a read.
fn read_packet(fd: impl AsFd, storage: &mut [u8]) -> io::Result<Option<usize>> {
    match nix::unistd::read(fd, storage) {
        Ok(0) => Ok(None),
        Ok(length) => Ok(Some(length)),
        Err(error) if is_temporary(error) => Ok(None),
        Err(error) => Err(error.into()),
    }
}
