//! A plain TUN: one packet a read, complete checksums, MTU up to 65,535 so that the kernel need not segment.

use std::io;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};

use minisvc_translator::{Checksum, PacketBuf};

use super::{Device, is_temporary, read_packet};

/// A TUN device that was opened non-blocking and without packet information.
#[derive(Debug)]
pub(crate) struct PlainTun {
    fd: OwnedFd,
}

impl PlainTun {
    /// Takes over an open TUN.
    pub(crate) fn new(fd: OwnedFd) -> Self {
        Self { fd }
    }
}

impl Device for PlainTun {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }

    fn receive<'a>(&self, storage: &'a mut [u8]) -> io::Result<Option<PacketBuf<'a>>> {
        let length = read_packet(&self.fd, storage)?;
        Ok(length.map(|length| PacketBuf::new(storage, length, Checksum::Full)))
    }

    fn send(&self, packet: &[u8]) -> io::Result<bool> {
        match nix::unistd::write(&self.fd, packet) {
            Ok(_) => Ok(true),
            Err(error) if is_temporary(error) => Ok(false),
            Err(error) => Err(error.into()),
        }
    }
}
