//! The network inside a namespace: `lo`, kernel settings, TUN devices, sockets. No program such as `ip` is needed.

use std::fs;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::os::fd::OwnedFd;

use nix::libc;
use nix::net::if_::if_nametoindex;
use nix::sys::socket::{AddressFamily, SockFlag, SockType, socket};
use nix::unistd::getegid;

use crate::agent::netlink::{Message, family, host_prefix, octets};
use crate::agent::tun;
use crate::error::SandboxError;
use crate::spec::{SocketKind, TunSpec};

/// Packets the kernel keeps for us while the worker is busy, as for a physical interface.
const QUEUE_LENGTH: u32 = 1000;

// Attributes, from `linux/if_link.h`, `linux/if_addr.h` and `linux/rtnetlink.h`.
const LINK_MTU: u16 = 4;
const LINK_QUEUE_LENGTH: u16 = 13;
const ADDRESS: u16 = 1;
const ADDRESS_LOCAL: u16 = 2;
const ROUTE_TARGET: u16 = 1;
const ROUTE_METRICS: u16 = 8;
const METRIC_CONGESTION_CONTROL: u16 = 16;

/// Configures a fresh network namespace.
pub(super) fn set_up(ipv6: bool) -> Result<(), SandboxError> {
    change_link("lo", true, &[]).map_err(|error| SandboxError::refused("bring lo up", error))?;
    let gid = getegid();
    // Each makes something possible or faster, none is needed by everyone: a kernel without one still serves.
    for (name, value) in [
        // An ordinary user's server may have port 80.
        ("ipv4/ip_unprivileged_port_start", "0"),
        // Anybody may ping: in a user namespace the only group there is, else all, which a user namespace refuses.
        ("ipv4/ping_group_range", format!("{gid} {gid}").as_str()),
        ("ipv4/ping_group_range", "0 2147483647"),
        ("ipv4/tcp_congestion_control", pick_congestion_control()),
    ] {
        set(name, value);
    }
    accept_any_source("all");
    accept_any_source("default");
    let disabled = if ipv6 { "0" } else { "1" };
    for interface in ["all", "default", "lo"] {
        set(&format!("ipv6/conf/{interface}/disable_ipv6"), disabled);
    }
    // There is no router at the other end of a TUN.
    set("ipv6/conf/default/accept_ra", "0");
    set("ipv6/conf/default/router_solicitations", "0");
    Ok(())
}

/// What comes out of a TUN was translated outside; the kernel's idea of where its source lives does not apply.
fn accept_any_source(interface: &str) {
    set(&format!("ipv4/conf/{interface}/rp_filter"), "0");
    set(&format!("ipv4/conf/{interface}/accept_local"), "1");
}

/// The default may be BBR, which is slow over a queue without a clock.
fn pick_congestion_control() -> &'static str {
    let allowed = fs::read_to_string("/proc/sys/net/ipv4/tcp_allowed_congestion_control").unwrap_or_default();
    if allowed.split_ascii_whitespace().any(|name| name == "cubic") { "cubic" } else { "reno" }
}

fn set(name: &str, value: &str) {
    // See set_up: what cannot be set is done without.
    let _ = fs::write(format!("/proc/sys/net/{name}"), value);
}

/// A new non-blocking socket of this namespace.
pub(super) fn open_socket(kind: SocketKind) -> Result<OwnedFd, SandboxError> {
    let (family, kind) = match kind {
        SocketKind::Tcp4 => (AddressFamily::Inet, SockType::Stream),
        SocketKind::Tcp6 => (AddressFamily::Inet6, SockType::Stream),
        SocketKind::Udp4 => (AddressFamily::Inet, SockType::Datagram),
        SocketKind::Udp6 => (AddressFamily::Inet6, SockType::Datagram),
    };
    socket(family, kind, SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK, None)
        .map_err(|error| SandboxError::refused("open a socket", error))
}

/// Opens a TUN device in this namespace and configures it.
pub(super) fn open_tun(spec: &TunSpec) -> Result<OwnedFd, SandboxError> {
    let device = tun::open(&spec.name, spec.offload)?;
    configure(spec, None)?;
    Ok(device)
}

/// Opens a TUN device in the network namespace of the calling process, for a lab that uses the host's own network. Everything
/// vanishes with the returned descriptor, which is non-blocking; no setting of other interfaces changes.
///
/// Connections over its routes use a congestion control that suits a TUN, whatever the machine's default is.
///
/// # Errors
/// [`SandboxError::TunNode`] if `/dev/net/tun` cannot be opened, else [`SandboxError::Refused`], mostly for want of root.
pub fn open_host_tun(spec: &TunSpec) -> Result<OwnedFd, SandboxError> {
    let device = tun::open(&spec.name, spec.offload)?;
    configure(spec, Some(pick_congestion_control()))?;
    Ok(device)
}

fn configure(spec: &TunSpec, congestion_control: Option<&str>) -> Result<(), SandboxError> {
    let name = spec.name.as_str();
    accept_any_source(name);
    if !spec.addresses.iter().any(IpAddr::is_ipv6) {
        // Else the kernel gives itself an address as soon as it is up, and asks for routers.
        set(&format!("ipv6/conf/{name}/disable_ipv6"), "1");
    }
    let link = [(LINK_MTU, spec.mtu), (LINK_QUEUE_LENGTH, QUEUE_LENGTH)];
    change_link(name, false, &link)
        .map_err(|error| SandboxError::refused(format!("set the MTU of {name} to {}", spec.mtu), error))?;
    change_link(name, true, &[]).map_err(|error| SandboxError::refused(format!("bring {name} up"), error))?;
    for address in &spec.addresses {
        add_address(name, *address)
            .map_err(|error| SandboxError::refused(format!("give {name} the address {address}"), error))?;
    }
    let default = spec.default_route.then(|| default_routes(&spec.addresses)).into_iter().flatten();
    for (target, length) in default.chain(spec.routes.iter().copied()) {
        add_route(name, target, length, congestion_control)
            .map_err(|error| SandboxError::refused(format!("route {target}/{length} through {name}"), error))?;
    }
    Ok(())
}

/// One for each family that has an address.
fn default_routes(addresses: &[IpAddr]) -> Vec<(IpAddr, u8)> {
    let v4 = addresses.iter().any(IpAddr::is_ipv4).then_some((IpAddr::V4(Ipv4Addr::UNSPECIFIED), 0));
    let v6 = addresses.iter().any(IpAddr::is_ipv6).then_some((IpAddr::V6(Ipv6Addr::UNSPECIFIED), 0));
    v4.into_iter().chain(v6).collect()
}

fn change_link(name: &str, up: bool, attributes: &[(u16, u32)]) -> io::Result<()> {
    const UP: u32 = libc::IFF_UP.cast_unsigned();
    let flags = if up { UP } else { 0 };
    // struct ifinfomsg: family, padding, type, index, flags, which flags to change.
    let mut header = vec![0; 4];
    header.extend(if_nametoindex(name)?.to_ne_bytes());
    header.extend(flags.to_ne_bytes());
    header.extend(flags.to_ne_bytes());
    let mut message = Message::new(libc::RTM_SETLINK, &header);
    for (kind, value) in attributes {
        message.attribute(*kind, &value.to_ne_bytes());
    }
    message.ask()
}

fn add_address(name: &str, address: IpAddr) -> io::Result<()> {
    // Nobody on a TUN can be asked whether an address is taken, and an IPv6 one would be unusable meanwhile. Below 2^8.
    let flags = if address.is_ipv6() { u8::try_from(libc::IFA_F_NODAD).unwrap_or_default() } else { 0 };
    // struct ifaddrmsg: family, prefix length, flags, scope, interface.
    let mut header = vec![family(address), host_prefix(address), flags, libc::RT_SCOPE_UNIVERSE];
    header.extend(if_nametoindex(name)?.to_ne_bytes());
    let mut message = Message::new(libc::RTM_NEWADDR, &header);
    message.attribute(ADDRESS_LOCAL, &octets(address));
    message.attribute(ADDRESS, &octets(address));
    message.ask()
}

fn add_route(name: &str, target: IpAddr, length: u8, congestion_control: Option<&str>) -> io::Result<()> {
    let scope = if target.is_ipv4() { libc::RT_SCOPE_LINK } else { libc::RT_SCOPE_UNIVERSE };
    // struct rtmsg: family, lengths of target and source, tos, table, protocol, scope, type, flags.
    let (table, protocol, kind) = (libc::RT_TABLE_MAIN, libc::RTPROT_STATIC, libc::RTN_UNICAST);
    let header = [family(target), length, 0, 0, table, protocol, scope, kind, 0, 0, 0, 0];
    let mut message = Message::new(libc::RTM_NEWROUTE, &header);
    message.attribute(libc::RTA_OIF, &if_nametoindex(name)?.to_ne_bytes());
    if length > 0 {
        message.attribute(ROUTE_TARGET, &octets(network(target, length)));
    }
    if let Some(congestion_control) = congestion_control {
        message.attribute(ROUTE_METRICS, &congestion_metric(congestion_control));
    }
    message.ask()
}

/// One attribute inside another: the name, ending with a zero.
fn congestion_metric(name: &str) -> Vec<u8> {
    let value = [name.as_bytes(), &[0]].concat();
    let length = u16::try_from(4 + value.len()).unwrap_or(u16::MAX);
    [&length.to_ne_bytes()[..], &METRIC_CONGESTION_CONTROL.to_ne_bytes(), &value].concat()
}

/// The address without the bits after the prefix, which the kernel does not want in a route.
fn network(address: IpAddr, length: u8) -> IpAddr {
    let length = u32::from(length);
    match address {
        IpAddr::V4(address) => {
            let mask = u32::MAX.checked_shl(32_u32.saturating_sub(length)).unwrap_or(0);
            Ipv4Addr::from_bits(address.to_bits() & mask).into()
        }
        IpAddr::V6(address) => {
            let mask = u128::MAX.checked_shl(128_u32.saturating_sub(length)).unwrap_or(0);
            Ipv6Addr::from_bits(address.to_bits() & mask).into()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_network_has_no_bits_after_its_prefix() {
        for (address, length, expected) in [
            ("10.96.7.8", 16, "10.96.0.0"),
            ("10.96.7.8", 32, "10.96.7.8"),
            ("10.96.7.8", 0, "0.0.0.0"),
            ("fd00:96::a:b", 112, "fd00:96::a:0"),
            ("fd00:96::a:b", 128, "fd00:96::a:b"),
            ("fd00:96::a:b", 0, "::"),
        ] {
            assert_eq!(network(address.parse().unwrap(), length), expected.parse::<IpAddr>().unwrap());
        }
    }
}
