//! Routing rules, which only netlink can set: a range of ports of an own address that leaves through an interface.

use std::io;
use std::net::IpAddr;
use std::os::fd::{AsRawFd, OwnedFd};

use nix::errno::Errno;
use nix::libc;
use nix::sys::socket::{AddressFamily, MsgFlags, SockFlag, SockProtocol, SockType, recv, send, socket};

use crate::error::SandboxError;
use crate::protocol::Reflection;

/// The routing table that holds the way out, a number that nobody else uses here.
const TABLE: u8 = 100;
/// Before [`LOCAL_PRIORITY`]: rules are tried from the smallest.
const REFLECT_PRIORITY: u32 = 1;
/// Where the rule for the machine's own addresses moves, which is otherwise the first, 0.
const LOCAL_PRIORITY: u32 = 2;

/// `FR_ACT_TO_TBL` of `linux/fib_rules.h`.
const TO_TABLE: u8 = 1;
// Attributes of rules, from `linux/fib_rules.h`.
const RULE_TARGET: u16 = 1;
const RULE_FROM_INTERFACE: u16 = 3;
const RULE_PRIORITY: u16 = 6;
const RULE_PROTOCOL: u16 = 22;
const RULE_TARGET_PORTS: u16 = 24;

/// Makes packets from here to these ports of an own address leave through the interface, where they would otherwise stay.
pub(super) fn reflect(wanted: &Reflection) -> Result<(), SandboxError> {
    let refused = |error: io::Error| {
        let Reflection { interface, address, first, last } = wanted;
        SandboxError::refused(format!("send ports {first} to {last} of {address} through {interface}"), error)
    };
    reflect_with(wanted).map_err(refused)
}

fn reflect_with(wanted: &Reflection) -> io::Result<()> {
    let netlink = socket(AddressFamily::Netlink, SockType::Raw, SockFlag::SOCK_CLOEXEC, SockProtocol::NetlinkRoute)?;
    let family = Family::of(wanted.address);
    let index = nix::net::if_::if_nametoindex(wanted.interface.as_str())?;
    let tolerate = |result: io::Result<()>, harmless: Errno| match result {
        Err(error) if error.raw_os_error() == Some(harmless as i32) => Ok(()),
        result => result,
    };
    // A second range of the same namespace finds the first three done.
    tolerate(ask(&netlink, &way_out(family, index)), Errno::EEXIST)?;
    tolerate(ask(&netlink, &local_rule(family, libc::RTM_NEWRULE, LOCAL_PRIORITY)), Errno::EEXIST)?;
    tolerate(ask(&netlink, &local_rule(family, libc::RTM_DELRULE, 0)), Errno::ENOENT)?;
    for protocol in [libc::IPPROTO_TCP, libc::IPPROTO_UDP] {
        let protocol = u8::try_from(protocol).map_err(io::Error::other)?;
        tolerate(ask(&netlink, &reflect_rule(family, wanted, protocol)), Errno::EEXIST)?;
    }
    Ok(())
}

#[derive(Clone, Copy)]
struct Family {
    number: u8,
    address_bits: u8,
}

impl Family {
    #[expect(clippy::cast_possible_truncation, reason = "AF_INET is 2, AF_INET6 is 10")]
    fn of(address: IpAddr) -> Self {
        match address {
            IpAddr::V4(_) => Self { number: libc::AF_INET as u8, address_bits: 32 },
            IpAddr::V6(_) => Self { number: libc::AF_INET6 as u8, address_bits: 128 },
        }
    }
}

/// A default route through the interface, in a table of its own.
fn way_out(family: Family, interface: u32) -> Message {
    // struct rtmsg: family, lengths of target and source, tos, table, protocol, scope, type, flags.
    let header = [family.number, 0, 0, 0, TABLE, libc::RTPROT_STATIC, libc::RT_SCOPE_LINK, libc::RTN_UNICAST];
    let mut message = Message::new(libc::RTM_NEWROUTE, &header);
    message.attribute(libc::RTA_OIF, &interface.to_ne_bytes());
    message
}

/// The rule by which own addresses are delivered here.
fn local_rule(family: Family, kind: u16, priority: u32) -> Message {
    let mut message = Message::new(kind, &[family.number, 0, 0, 0, libc::RT_TABLE_LOCAL, 0, 0, TO_TABLE]);
    message.attribute(RULE_PRIORITY, &priority.to_ne_bytes());
    message
}

fn reflect_rule(family: Family, wanted: &Reflection, protocol: u8) -> Message {
    // struct fib_rule_hdr: family, lengths of target and source, tos, table, two unused, action, flags.
    let header = [family.number, family.address_bits, 0, 0, TABLE, 0, 0, TO_TABLE];
    let mut message = Message::new(libc::RTM_NEWRULE, &header);
    message.attribute(RULE_PRIORITY, &REFLECT_PRIORITY.to_ne_bytes());
    // "From lo" is how a rule says that a packet starts here.
    message.attribute(RULE_FROM_INTERFACE, b"lo\0");
    message.attribute(RULE_PROTOCOL, &[protocol]);
    let [first, last] = [wanted.first, wanted.last].map(u16::to_ne_bytes);
    message.attribute(RULE_TARGET_PORTS, &[first, last].concat());
    match wanted.address {
        IpAddr::V4(address) => message.attribute(RULE_TARGET, &address.octets()),
        IpAddr::V6(address) => message.attribute(RULE_TARGET, &address.octets()),
    }
    message
}

/// A netlink message with attributes.
struct Message {
    bytes: Vec<u8>,
}

impl Message {
    /// `header` is the fixed part without the flags at its end.
    fn new(kind: u16, header: &[u8; 8]) -> Self {
        let create = if kind == libc::RTM_DELRULE { 0 } else { libc::NLM_F_CREATE | libc::NLM_F_EXCL };
        let flags = u16::try_from(libc::NLM_F_REQUEST | libc::NLM_F_ACK | create).unwrap_or_default();
        // struct nlmsghdr: length (filled in when sent), type, flags, sequence number, port.
        let mut bytes = vec![0; 4];
        bytes.extend(kind.to_ne_bytes());
        bytes.extend(flags.to_ne_bytes());
        bytes.extend([0; 8]);
        bytes.extend(header);
        bytes.extend([0; 4]);
        Self { bytes }
    }

    fn attribute(&mut self, kind: u16, value: &[u8]) {
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
fn ask(netlink: &OwnedFd, message: &Message) -> io::Result<()> {
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
