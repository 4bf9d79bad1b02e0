//! Requests to the kernel's routing over netlink, which a user namespace's owner may use as root may. One message, one verdict.

use std::io;
use std::net::IpAddr;
use std::os::fd::AsRawFd;

use nix::libc;
use nix::sys::socket::{AddressFamily, MsgFlags, SockFlag, SockProtocol, SockType, recv, send, socket};

/// A netlink message with attributes.
pub(super) struct Message {
    bytes: Vec<u8>,
}

impl Message {
    /// `header` is the fixed part that comes before the attributes. What is new must not exist yet.
    pub(super) fn new(kind: u16, header: &[u8]) -> Self {
        let flags = match kind {
            libc::RTM_NEWADDR | libc::RTM_NEWROUTE | libc::RTM_NEWRULE => {
                libc::NLM_F_REQUEST | libc::NLM_F_ACK | libc::NLM_F_CREATE | libc::NLM_F_EXCL
            }
            _ => libc::NLM_F_REQUEST | libc::NLM_F_ACK,
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

    /// Adds an attribute, struct rtattr: length, kind, value; padded to four bytes.
    pub(super) fn attribute(&mut self, kind: u16, value: &[u8]) {
        let length = u16::try_from(4 + value.len()).unwrap_or(u16::MAX);
        self.bytes.extend(length.to_ne_bytes());
        self.bytes.extend(kind.to_ne_bytes());
        self.bytes.extend(value);
        self.bytes.resize(self.bytes.len().next_multiple_of(4), 0);
    }

    /// Sends the request and reads the kernel's verdict.
    pub(super) fn ask(mut self) -> io::Result<()> {
        let length = u32::try_from(self.bytes.len()).unwrap_or(u32::MAX);
        self.bytes[..4].copy_from_slice(&length.to_ne_bytes());
        let netlink =
            socket(AddressFamily::Netlink, SockType::Raw, SockFlag::SOCK_CLOEXEC, SockProtocol::NetlinkRoute)?;
        let fd = netlink.as_raw_fd();
        send(fd, &self.bytes, MsgFlags::empty())?;
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
}

/// What netlink calls the family of an address, one byte in every header.
#[expect(clippy::cast_possible_truncation, reason = "AF_INET is 2, AF_INET6 is 10")]
pub(super) fn family(address: IpAddr) -> u8 {
    match address {
        IpAddr::V4(_) => libc::AF_INET as u8,
        IpAddr::V6(_) => libc::AF_INET6 as u8,
    }
}

/// The length of a prefix that means one address.
pub(super) fn host_prefix(address: IpAddr) -> u8 {
    match address {
        IpAddr::V4(_) => 32,
        IpAddr::V6(_) => 128,
    }
}

/// An address in network order.
pub(super) fn octets(address: IpAddr) -> Vec<u8> {
    match address {
        IpAddr::V4(address) => address.octets().to_vec(),
        IpAddr::V6(address) => address.octets().to_vec(),
    }
}
