//! Routing rules: a range of ports of an own address that leaves through an interface.

use std::io;
use std::net::IpAddr;

use nix::errno::Errno;
use nix::libc;

use crate::agent::netlink::{Message, family, host_prefix, octets};
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
    let index = nix::net::if_::if_nametoindex(wanted.interface.as_str())?;
    let tolerate = |result: io::Result<()>, harmless: Errno| match result {
        Err(error) if error.raw_os_error() == Some(harmless as i32) => Ok(()),
        result => result,
    };
    // A second range of the same namespace finds the first three done.
    tolerate(way_out(wanted.address, index).ask(), Errno::EEXIST)?;
    tolerate(local_rule(wanted.address, libc::RTM_NEWRULE, LOCAL_PRIORITY).ask(), Errno::EEXIST)?;
    tolerate(local_rule(wanted.address, libc::RTM_DELRULE, 0).ask(), Errno::ENOENT)?;
    for protocol in [libc::IPPROTO_TCP, libc::IPPROTO_UDP] {
        let protocol = u8::try_from(protocol).map_err(io::Error::other)?;
        tolerate(reflect_rule(wanted, protocol).ask(), Errno::EEXIST)?;
    }
    Ok(())
}

/// A default route through the interface, in a table of its own.
fn way_out(address: IpAddr, interface: u32) -> Message {
    // struct rtmsg: family, lengths of target and source, tos, table, protocol, scope, type, flags.
    let (protocol, scope, kind) = (libc::RTPROT_STATIC, libc::RT_SCOPE_LINK, libc::RTN_UNICAST);
    let header = [family(address), 0, 0, 0, TABLE, protocol, scope, kind, 0, 0, 0, 0];
    let mut message = Message::new(libc::RTM_NEWROUTE, &header);
    message.attribute(libc::RTA_OIF, &interface.to_ne_bytes());
    message
}

/// The rule by which own addresses are delivered here.
fn local_rule(address: IpAddr, kind: u16, priority: u32) -> Message {
    let header = [family(address), 0, 0, 0, libc::RT_TABLE_LOCAL, 0, 0, TO_TABLE, 0, 0, 0, 0];
    let mut message = Message::new(kind, &header);
    message.attribute(RULE_PRIORITY, &priority.to_ne_bytes());
    message
}

fn reflect_rule(wanted: &Reflection, protocol: u8) -> Message {
    // struct fib_rule_hdr: family, lengths of target and source, tos, table, two unused, action, flags.
    let length = host_prefix(wanted.address);
    let header = [family(wanted.address), length, 0, 0, TABLE, 0, 0, TO_TABLE, 0, 0, 0, 0];
    let mut message = Message::new(libc::RTM_NEWRULE, &header);
    message.attribute(RULE_PRIORITY, &REFLECT_PRIORITY.to_ne_bytes());
    // "From lo" is how a rule says that a packet starts here.
    message.attribute(RULE_FROM_INTERFACE, b"lo\0");
    message.attribute(RULE_PROTOCOL, &[protocol]);
    let [first, last] = [wanted.first, wanted.last].map(u16::to_ne_bytes);
    message.attribute(RULE_TARGET_PORTS, &[first, last].concat());
    message.attribute(RULE_TARGET, &octets(wanted.address));
    message
}
