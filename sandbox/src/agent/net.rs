//! The network inside a namespace: `lo`, kernel settings, TUN devices, sockets. By ioctl, so that no program is needed.
#![expect(unsafe_code, reason = "ioctls on network interfaces take C structures")]

use std::fs::{self, File};
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::os::fd::{AsRawFd, FromRawFd, IntoRawFd, OwnedFd};

use nix::fcntl::{FcntlArg, FdFlag, OFlag, fcntl};
use nix::libc;
use nix::sys::socket::{AddressFamily, SockFlag, SockType, socket};
use nix::unistd::getegid;

use crate::agent::netlink::{Message, ask};
use crate::error::{OsError, SandboxError};
use crate::spec::{SocketKind, TunSpec};

const TUN_NODE: &str = "/dev/net/tun";
/// Packets the kernel keeps for us while the worker is busy, as for a physical interface.
const QUEUE_LENGTH: libc::c_int = 1000;
/// A route's preference among equals; smaller wins. What the kernel uses for IPv6.
const IPV6_METRIC: u32 = 1024;

/// `struct ifreq` with the members that are used here, of the same size and layout.
#[repr(C)]
struct Interface {
    name: [u8; libc::IFNAMSIZ],
    value: InterfaceValue,
}

#[repr(C)]
union InterfaceValue {
    address: libc::sockaddr_in,
    flags: libc::c_short,
    number: libc::c_int,
    padding: [u64; 3],
}

const _: () = assert!(size_of::<Interface>() == size_of::<libc::ifreq>());

/// `struct rtentry` of `linux/route.h`.
#[repr(C)]
struct Route {
    pad1: libc::c_ulong,
    destination: libc::sockaddr_in,
    gateway: libc::sockaddr_in,
    mask: libc::sockaddr_in,
    flags: libc::c_ushort,
    pad2: libc::c_short,
    pad3: libc::c_ulong,
    pad4: *const libc::c_void,
    metric: libc::c_short,
    device: *const u8,
    mtu: libc::c_ulong,
    window: libc::c_ulong,
    round_trip: libc::c_ushort,
}

/// `struct in6_rtmsg` of `linux/ipv6_route.h`.
#[repr(C)]
struct Route6 {
    destination: [u8; 16],
    source: [u8; 16],
    gateway: [u8; 16],
    kind: u32,
    destination_length: u16,
    source_length: u16,
    metric: u32,
    info: libc::c_ulong,
    flags: u32,
    interface: libc::c_int,
}

// SAFETY of each: the kernel reads the structure that `linux/sockios.h` and `linux/if_tun.h` name for the request.
nix::ioctl_write_ptr_bad!(set_flags, libc::SIOCSIFFLAGS, Interface);
nix::ioctl_write_ptr_bad!(set_address, libc::SIOCSIFADDR, Interface);
nix::ioctl_write_ptr_bad!(set_netmask, libc::SIOCSIFNETMASK, Interface);
nix::ioctl_write_ptr_bad!(set_mtu, libc::SIOCSIFMTU, Interface);
nix::ioctl_write_ptr_bad!(set_queue_length, libc::SIOCSIFTXQLEN, Interface);
nix::ioctl_write_ptr_bad!(add_route_v4, libc::SIOCADDRT, Route);
nix::ioctl_write_ptr_bad!(add_route_v6, libc::SIOCADDRT, Route6);
nix::ioctl_write_ptr_bad!(tun_attach, libc::TUNSETIFF, Interface);
nix::ioctl_write_int_bad!(tun_set_offload, libc::TUNSETOFFLOAD);
nix::ioctl_write_ptr_bad!(tun_set_header_size, libc::TUNSETVNETHDRSZ, libc::c_int);

/// Configures a fresh network namespace.
pub(super) fn set_up(ipv6: bool) -> Result<(), SandboxError> {
    let control = control_socket(AddressFamily::Inet)?;
    let mut lo = Interface::named("lo")?;
    lo.value.flags = up();
    // SAFETY: see the ioctls.
    unsafe { set_flags(control.as_raw_fd(), &raw const lo) }
        .map_err(|error| SandboxError::refused("bring lo up", error))?;
    let congestion = pick_congestion_control();
    let gid = getegid();
    // Each makes something possible or faster, none is needed by everyone: a kernel without one still serves.
    for (name, value) in [
        // An ordinary user's server may have port 80.
        ("ipv4/ip_unprivileged_port_start", "0"),
        // Anybody may ping: in a user namespace the only group there is, else all, which a user namespace refuses.
        ("ipv4/ping_group_range", format!("{gid} {gid}").as_str()),
        ("ipv4/ping_group_range", "0 2147483647"),
        // The default may be BBR, which is slow over a queue without a clock.
        ("ipv4/tcp_congestion_control", congestion),
    ] {
        set(name, value);
    }
    accept_any_source("all");
    accept_any_source("default");
    let disabled = if ipv6 { "0" } else { "1" };
    for interface in ["all", "default", "lo"] {
        set(&format!("ipv6/conf/{interface}/disable_ipv6"), disabled);
    }
    set("ipv6/conf/default/accept_ra", "0");
    set("ipv6/conf/default/router_solicitations", "0");
    Ok(())
}

/// What comes out of a TUN was translated outside; the kernel's idea of where its source lives does not apply.
fn accept_any_source(interface: &str) {
    set(&format!("ipv4/conf/{interface}/rp_filter"), "0");
    set(&format!("ipv4/conf/{interface}/accept_local"), "1");
}

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
    // The name is checked first, so that no device of a shortened name appears.
    Interface::named(&spec.name)?;
    let tun = if spec.offload { open_offload(&spec.name)? } else { open_plain(&spec.name)? };
    fcntl(&tun, FcntlArg::F_SETFL(OFlag::O_NONBLOCK))
        .map_err(|error| SandboxError::refused("unblock the TUN", error))?;
    configure(spec)?;
    Ok(tun)
}

fn open_plain(name: &str) -> Result<OwnedFd, SandboxError> {
    open_node()?;
    let interface =
        tun_tap::Iface::without_packet_info(name, tun_tap::Mode::Tun).map_err(|error| no_device(name, error))?;
    // SAFETY: `into_raw_fd` gives up the ownership that we take.
    let tun = unsafe { OwnedFd::from_raw_fd(interface.into_raw_fd()) };
    // The crate opens it through std, which sets the flag already; this keeps it true.
    fcntl(&tun, FcntlArg::F_SETFD(FdFlag::FD_CLOEXEC)).map_err(|error| no_device(name, error.into()))?;
    Ok(tun)
}

/// With checksum and segmentation offload, which the `tun-tap` crate has no words for.
fn open_offload(name: &str) -> Result<OwnedFd, SandboxError> {
    /// Of `struct virtio_net_hdr`.
    const HEADER_SIZE: libc::c_int = 10;
    let header_size = HEADER_SIZE;
    let tun = open_node()?;
    let mut request = Interface::named(name)?;
    let flags = libc::IFF_TUN | libc::IFF_NO_PI | libc::IFF_VNET_HDR;
    request.value.flags =
        libc::c_short::try_from(flags).map_err(|_| no_device(name, io::ErrorKind::InvalidInput.into()))?;
    let base = libc::TUN_F_CSUM | libc::TUN_F_TSO4 | libc::TUN_F_TSO6 | libc::TUN_F_TSO_ECN;
    let with_udp = base | libc::TUN_F_USO4 | libc::TUN_F_USO6;
    let number = tun.as_raw_fd();
    // SAFETY: see the ioctls; both structures outlive the calls.
    let result = unsafe {
        tun_attach(number, &raw const request)
            .and_then(|_| tun_set_header_size(number, &raw const header_size))
            // Kernels before 6.2 have no segmentation for UDP.
            .and_then(|_| {
                tun_set_offload(number, with_udp as libc::c_int)
                    .or_else(|_| tun_set_offload(number, base as libc::c_int))
            })
    };
    result.map_err(|error| no_device(name, error.into()))?;
    Ok(tun.into())
}

fn open_node() -> Result<File, SandboxError> {
    File::options().read(true).write(true).open(TUN_NODE).map_err(|error| SandboxError::TunNode(error.into()))
}

fn no_device(name: &str, error: io::Error) -> SandboxError {
    SandboxError::refused(format!("make the TUN device {name}"), error)
}

fn configure(spec: &TunSpec) -> Result<(), SandboxError> {
    let refused = |what: &str| {
        let step = format!("set the {what} of {}", spec.name);
        move |error: nix::Error| SandboxError::refused(step.clone(), error)
    };
    let control = control_socket(AddressFamily::Inet)?;
    let fd = control.as_raw_fd();
    accept_any_source(&spec.name);
    let mut interface = Interface::named(&spec.name)?;
    interface.value.number = libc::c_int::try_from(spec.mtu).map_err(|_| refused("MTU")(nix::Error::EINVAL))?;
    // SAFETY: see the ioctls, here and below; each structure outlives its call.
    unsafe { set_mtu(fd, &raw const interface) }.map_err(refused("MTU"))?;
    interface.value.number = QUEUE_LENGTH;
    // SAFETY: as above. The kernel leaves this one to real root; half as much, its default, does as well.
    let _ = unsafe { set_queue_length(fd, &raw const interface) };
    interface.value.flags = up();
    // SAFETY: as above.
    unsafe { set_flags(fd, &raw const interface) }.map_err(refused("flags"))?;
    let mut labels = 0;
    for address in &spec.addresses {
        match address {
            IpAddr::V4(address) => add_address_v4(fd, &spec.name, &mut labels, *address).map_err(refused("address"))?,
            IpAddr::V6(address) => add_address_v6(&spec.name, *address)?,
        }
    }
    let default = spec.default_route.then(|| default_routes(&spec.addresses)).into_iter().flatten();
    for (destination, length) in default.chain(spec.routes.iter().copied()) {
        let result = match destination {
            IpAddr::V4(destination) => add_route(fd, &spec.name, destination, length),
            IpAddr::V6(destination) => add_v6_route(&spec.name, destination, length),
        };
        result.map_err(|source| SandboxError::Refused {
            step: format!("route {destination}/{length} through {}", spec.name),
            source,
        })?;
    }
    Ok(())
}

/// One for each family that has an address.
fn default_routes(addresses: &[IpAddr]) -> Vec<(IpAddr, u8)> {
    let v4 = addresses.iter().any(IpAddr::is_ipv4).then_some((IpAddr::V4(Ipv4Addr::UNSPECIFIED), 0));
    let v6 = addresses.iter().any(IpAddr::is_ipv6).then_some((IpAddr::V6(Ipv6Addr::UNSPECIFIED), 0));
    v4.into_iter().chain(v6).collect()
}

/// The ioctl knows one address per label, so further ones get labels of their own: `eth0:1` and so on.
fn add_address_v4(fd: i32, name: &str, labels: &mut u32, address: Ipv4Addr) -> nix::Result<()> {
    let label = if *labels == 0 { name.to_owned() } else { format!("{name}:{labels}") };
    *labels += 1;
    let mut interface = Interface::named(&label).map_err(|_| nix::Error::EINVAL)?;
    interface.value.address = socket_address(address);
    // SAFETY: see the ioctls; the structure outlives both calls.
    unsafe { set_address(fd, &raw const interface) }?;
    interface.value.address = socket_address(Ipv4Addr::BROADCAST);
    // SAFETY: as above.
    unsafe { set_netmask(fd, &raw const interface) }?;
    Ok(())
}

/// By netlink, which can say that nobody has to be asked whether the address is taken: else it is unusable for a moment.
fn add_address_v6(name: &str, address: Ipv6Addr) -> Result<(), SandboxError> {
    /// `IFA_ADDRESS` of `linux/if_addr.h`.
    const ADDRESS: u16 = 1;
    let refused = |error: io::Error| SandboxError::refused(format!("set the address {address} of {name}"), error);
    let index = index(name).map_err(|error| refused(error.into()))?;
    // struct ifaddrmsg: family, prefix length, flags, scope, interface.
    let [family, flags] =
        [libc::AF_INET6, libc::IFA_F_NODAD.cast_signed()].map(|number| u8::try_from(number).unwrap_or_default());
    let mut header = vec![family, 128, flags, libc::RT_SCOPE_UNIVERSE];
    header.extend(index.to_ne_bytes());
    let mut message = Message::new(libc::RTM_NEWADDR, &header);
    message.attribute(ADDRESS, &address.octets());
    ask(&message).map_err(refused)
}

fn add_route(fd: i32, name: &str, destination: Ipv4Addr, length: u8) -> Result<(), OsError> {
    let device = Interface::named(name).map_err(|_| OsError(libc::EINVAL))?.name;
    let mask = Ipv4Addr::from_bits(u32::MAX.checked_shl(32 - u32::from(length.min(32))).unwrap_or(0));
    // SAFETY: a C structure of numbers and pointers, for which zeros are valid.
    let mut route: Route = unsafe { std::mem::zeroed() };
    route.destination = socket_address(destination & mask);
    route.mask = socket_address(mask);
    route.flags = libc::RTF_UP | if length >= 32 { libc::RTF_HOST } else { 0 };
    route.device = device.as_ptr();
    // SAFETY: see the ioctls; the structure and the name it points to outlive the call, and the name ends with a zero.
    unsafe { add_route_v4(fd, &raw const route) }?;
    Ok(())
}

fn add_v6_route(name: &str, destination: Ipv6Addr, length: u8) -> Result<(), OsError> {
    let control = socket(AddressFamily::Inet6, SockType::Datagram, SockFlag::SOCK_CLOEXEC, None)?;
    let route = Route6 {
        destination: destination.octets(),
        source: [0; 16],
        gateway: [0; 16],
        kind: 0,
        destination_length: u16::from(length),
        source_length: 0,
        metric: IPV6_METRIC,
        info: 0,
        flags: u32::from(libc::RTF_UP),
        interface: index(name)?,
    };
    // SAFETY: see the ioctls; the structure outlives the call.
    unsafe { add_route_v6(control.as_raw_fd(), &raw const route) }?;
    Ok(())
}

fn index(name: &str) -> nix::Result<libc::c_int> {
    let index = nix::net::if_::if_nametoindex(name)?;
    libc::c_int::try_from(index).map_err(|_| nix::Error::EINVAL)
}

impl Interface {
    fn named(name: &str) -> Result<Self, SandboxError> {
        let mut interface = Self { name: [0; libc::IFNAMSIZ], value: InterfaceValue { padding: [0; 3] } };
        // One byte stays zero, the end of the name.
        if name.is_empty() || name.len() >= libc::IFNAMSIZ {
            return Err(SandboxError::refused(format!("name an interface {name:?}"), OsError(libc::EINVAL)));
        }
        interface.name[..name.len()].copy_from_slice(name.as_bytes());
        Ok(interface)
    }
}

fn control_socket(family: AddressFamily) -> Result<OwnedFd, SandboxError> {
    socket(family, SockType::Datagram, SockFlag::SOCK_CLOEXEC, None)
        .map_err(|error| SandboxError::refused("open a socket", error))
}

fn up() -> libc::c_short {
    const UP: libc::c_int = libc::IFF_UP | libc::IFF_RUNNING;
    const { assert!(UP <= libc::c_short::MAX as libc::c_int) };
    #[expect(clippy::cast_possible_truncation, reason = "the line above proves that it fits")]
    const SHORT: libc::c_short = UP as libc::c_short;
    SHORT
}

fn socket_address(address: Ipv4Addr) -> libc::sockaddr_in {
    #[expect(clippy::cast_possible_truncation, reason = "AF_INET is 2")]
    const FAMILY: libc::sa_family_t = libc::AF_INET as libc::sa_family_t;
    libc::sockaddr_in {
        sin_family: FAMILY,
        sin_port: 0,
        sin_addr: libc::in_addr { s_addr: u32::from_ne_bytes(address.octets()) },
        sin_zero: [0; 8],
    }
}
