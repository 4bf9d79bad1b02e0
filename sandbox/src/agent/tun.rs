//! Opening a TUN device: plain through the `tun-tap` crate, or with segmentation offload, which that crate has no words for.
#![expect(unsafe_code, reason = "ioctls that take C structures, and a crate that hands out its descriptor as a number")]

use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, IntoRawFd, OwnedFd};

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, FdFlag, OFlag, fcntl};
use nix::libc;

use crate::error::SandboxError;

const TUN_NODE: &str = "/dev/net/tun";

/// `struct ifreq` with the one member that is used here, of the same size and layout.
#[repr(C)]
struct Interface {
    name: [u8; libc::IFNAMSIZ],
    flags: libc::c_short,
    padding: [u8; size_of::<libc::ifreq>() - libc::IFNAMSIZ - size_of::<libc::c_short>()],
}

const _: () = assert!(size_of::<Interface>() == size_of::<libc::ifreq>());

// SAFETY of each: the kernel reads the structure or number that `linux/if_tun.h` names for the request.
nix::ioctl_write_ptr_bad!(attach, libc::TUNSETIFF, Interface);
nix::ioctl_write_ptr_bad!(set_header_size, libc::TUNSETVNETHDRSZ, libc::c_int);
nix::ioctl_write_int_bad!(set_offload, libc::TUNSETOFFLOAD);

/// Makes the device in the network namespace of this process. It is down, and goes with the descriptor, which is non-blocking.
pub(super) fn open(name: &str, offload: bool) -> Result<OwnedFd, SandboxError> {
    let refused = |error: io::Error| SandboxError::refused(format!("make the TUN device {name:?}"), error);
    // One byte stays zero, the end of the name; the kernel would cut a longer one off and make something else.
    if name.is_empty() || name.len() >= libc::IFNAMSIZ || name.contains('%') {
        return Err(refused(Errno::EINVAL.into()));
    }
    // Opened once for the precise error, whoever opens it afterwards.
    let node = File::options().read(true).write(true).open(TUN_NODE);
    let node = node.map_err(|error| SandboxError::TunNode(error.into()))?;
    let device = if offload { attach_with_offload(node, name) } else { attach_plain(name) };
    let device = device.map_err(refused)?;
    let prepare = || {
        fcntl(&device, FcntlArg::F_SETFD(FdFlag::FD_CLOEXEC))?;
        fcntl(&device, FcntlArg::F_SETFL(OFlag::O_NONBLOCK))
    };
    prepare().map_err(|error| refused(error.into()))?;
    Ok(device)
}

fn attach_plain(name: &str) -> io::Result<OwnedFd> {
    let interface = tun_tap::Iface::without_packet_info(name, tun_tap::Mode::Tun)?;
    // SAFETY: `into_raw_fd` gives up the ownership that we take.
    Ok(unsafe { OwnedFd::from_raw_fd(interface.into_raw_fd()) })
}

fn attach_with_offload(node: File, name: &str) -> io::Result<OwnedFd> {
    /// Of `struct virtio_net_hdr`.
    const HEADER_SIZE: libc::c_int = 10;
    const FLAGS: libc::c_int = libc::IFF_TUN | libc::IFF_NO_PI | libc::IFF_VNET_HDR;
    const { assert!(FLAGS <= libc::c_short::MAX as libc::c_int) };
    const TCP: libc::c_int =
        (libc::TUN_F_CSUM | libc::TUN_F_TSO4 | libc::TUN_F_TSO6 | libc::TUN_F_TSO_ECN).cast_signed();
    const UDP: libc::c_int = (libc::TUN_F_USO4 | libc::TUN_F_USO6).cast_signed();
    #[expect(clippy::cast_possible_truncation, reason = "asserted above")]
    let mut interface = Interface { name: [0; libc::IFNAMSIZ], flags: FLAGS as libc::c_short, padding: [0; _] };
    interface.name[..name.len()].copy_from_slice(name.as_bytes());
    let (fd, header_size) = (node.as_raw_fd(), HEADER_SIZE);
    // SAFETY: see the ioctls; both structures outlive the calls, and the descriptor is open.
    unsafe {
        attach(fd, &raw const interface)?;
        set_header_size(fd, &raw const header_size)?;
        // Kernels before 6.2 have no segmentation for UDP.
        set_offload(fd, TCP | UDP).or_else(|_| set_offload(fd, TCP))?;
    }
    Ok(node.into())
}
