//! Requests to the kernel's routing, for what ioctls cannot say.

use std::io;
use std::os::fd::AsRawFd;

use nix::libc;
use nix::sys::socket::{AddressFamily, MsgFlags, SockFlag, SockProtocol, SockType, recv, send, socket};

/// A netlink message with attributes.
pub(super) struct Message {
    bytes: Vec<u8>,
}

impl Message {
    /// `header` is the fixed part that comes before the attributes.
    pub(super) fn new(kind: u16, header: &[u8]) -> Self {
        let flags = match kind {
            libc::RTM_DELRULE => libc::NLM_F_REQUEST | libc::NLM_F_ACK,
            _ => libc::NLM_F_REQUEST | libc::NLM_F_ACK | libc::NLM_F_CREATE | libc::NLM_F_EXCL,
        };
        // All four are below 2^16.
        let flags = u16::try_from(flags).unwrap_or_default();
        // struct nlmsghdr: length (filled in when sent), type, flags, sequence number, port.
        let mut bytes = vec![0; 4];
        bytes.extend(kind.to_ne_bytes());
        bytes.extend(flags.to_ne_bytes());
        bytes.extend([0; 8]);
        bytes.extend(header);
        Self { bytes }
    }

    pub(super) fn attribute(&mut self, kind: u16, value: &[u8]) {
        let length = u16::try_from(4 + value.len()).unwrap_or(u16::MAX);
        self.bytes.extend(length.to_ne_bytes());
        self.bytes.extend(kind.to_ne_bytes());
        self.bytes.extend(value);
        self.bytes.resize(self.bytes.len().next_multiple_of(4), 0);
    }

    fn finished(&self) -> Vec<u8> {
        let mut bytes = self.bytes.clone();
        let length = u32::try_from(bytes.len()).unwrap_or(u32::MAX);
        bytes[..4].copy_from_slice(&length.to_ne_bytes());
        bytes
    }
}

/// Sends a request and reads the kernel's verdict.
pub(super) fn ask(message: &Message) -> io::Result<()> {
    let netlink = socket(AddressFamily::Netlink, SockType::Raw, SockFlag::SOCK_CLOEXEC, SockProtocol::NetlinkRoute)?;
    let fd = netlink.as_raw_fd();
    send(fd, &message.finished(), MsgFlags::empty())?;
    let mut answer = [0; 4096];
    let length = recv(fd, &mut answer, MsgFlags::empty())?;
    // struct nlmsgerr after the 16 bytes of nlmsghdr: a negative error number, or 0.
    let verdict = answer[..length].get(16..20).and_then(|bytes| bytes.try_into().ok()).map(i32::from_ne_bytes);
    match verdict {
        Some(0) => Ok(()),
        Some(error) => Err(io::Error::from_raw_os_error(-error)),
        None => Err(io::ErrorKind::UnexpectedEof.into()),
    }
}
