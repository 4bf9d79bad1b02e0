//! A plain TUN: one packet a read, complete checksums, MTU up to 65,535 so that the kernel need not segment.

use std::io;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};

use minisvc_translator::Checksum;

use super::{Frame, HEADROOM, Received, read_once, written};

/// A TUN device that was opened non-blocking, without packet information and without offload.
#[derive(Debug)]
pub(crate) struct PlainTun {
    fd: OwnedFd,
}

impl PlainTun {
    pub(super) fn new(fd: OwnedFd) -> Self {
        Self { fd }
    }

    pub(super) fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }

    pub(super) fn receive(&self, frame: &mut Frame) -> io::Result<Option<Received>> {
        let length = read_once(&self.fd, frame.packet_mut())?;
        Ok(length.map(|len| Received { len, checksum: Checksum::Full, datagram: 0 }))
    }

    pub(super) fn send(&self, frame: &Frame, len: usize) -> io::Result<bool> {
        self.send_own(frame.bytes.get(HEADROOM..HEADROOM + len).unwrap_or_default())
    }

    pub(super) fn send_own(&self, packet: &[u8]) -> io::Result<bool> {
        written(nix::unistd::write(&self.fd, packet))
    }
}
