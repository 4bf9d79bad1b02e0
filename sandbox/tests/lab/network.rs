//! TUN devices, sockets and kernel settings inside a namespace.

use std::fs;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::process::{Command, ExitCode};
use std::time::Duration;

use minisvc_sandbox::{
    MountSpace, Namespace, NamespaceSpec, SandboxError, SocketKind, TunSpec, open_host_tun, watch_fd,
};
use nix::errno::Errno;
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::sched::{CloneFlags, unshare};
use nix::sys::socket::{AddressFamily, SockFlag, SockType, SockaddrStorage, getsockopt, sockopt};
use tokio::io::unix::AsyncFd;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::timeout;

use crate::support::{is_root, lab, output, pod};

const POD: Ipv4Addr = Ipv4Addr::new(10, 244, 0, 5);
const SERVICE: Ipv4Addr = Ipv4Addr::new(10, 96, 0, 10);
const PATIENCE: Duration = Duration::from_secs(30);

// P-003
pub(crate) async fn test_two_namespaces_listen_on_the_same_ports() {
    let lab = lab().await;
    let (first, second) = (pod(&lab).await, pod(&lab).await);
    for port in [80, 8080] {
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        let listeners = [first.listen_tcp(address).await.unwrap(), second.listen_tcp(address).await.unwrap()];
        for (namespace, listener) in [&first, &second].into_iter().zip(&listeners) {
            let mut client = namespace.connect_tcp(address).await.unwrap();
            let (mut server, peer) = timeout(PATIENCE, listener.accept()).await.unwrap().unwrap();
            assert_eq!(peer, client.local_addr().unwrap());
            server.write_all(b"hello").await.unwrap();
            let mut heard = [0; 5];
            client.read_exact(&mut heard).await.unwrap();
            assert_eq!(&heard, b"hello");
        }
        // Within one, a port is taken once, as for the containers of a pod.
        let taken = first.listen_tcp(address).await.unwrap_err();
        assert_eq!(taken.kind(), std::io::ErrorKind::AddrInUse);
    }
    let nobody = first.connect_tcp(SocketAddr::from((Ipv4Addr::LOCALHOST, 9))).await.unwrap_err();
    assert_eq!(nobody.kind(), std::io::ErrorKind::ConnectionRefused);
}

/// The next packet, or none after a while.
async fn read(tun: &AsyncFd<OwnedFd>) -> Vec<u8> {
    let mut packet = vec![0; 65535 + 10];
    let read = tun.async_io(tokio::io::Interest::READABLE, |fd| Ok(nix::unistd::read(fd, &mut packet)?));
    let length = timeout(PATIENCE, read).await.expect("no packet came").unwrap();
    packet.truncate(length);
    packet
}

/// An IPv4 packet with a UDP datagram that has no checksum.
fn datagram(source: (Ipv4Addr, u16), target: (Ipv4Addr, u16), payload: &[u8]) -> Vec<u8> {
    let udp_length = u16::try_from(8 + payload.len()).unwrap();
    let mut packet = vec![0x45, 0];
    packet.extend((20 + udp_length).to_be_bytes());
    packet.extend([0, 0, 0, 0, 64, 17, 0, 0]);
    packet.extend(source.0.octets());
    packet.extend(target.0.octets());
    let words = packet.chunks_exact(2).map(|pair| u32::from(u16::from_be_bytes([pair[0], pair[1]])));
    let sum: u32 = words.sum();
    let folded = (sum & 0xffff) + (sum >> 16);
    let checksum = !u16::try_from((folded & 0xffff) + (folded >> 16)).unwrap();
    packet[10..12].copy_from_slice(&checksum.to_be_bytes());
    packet.extend(source.1.to_be_bytes());
    packet.extend(target.1.to_be_bytes());
    packet.extend(udp_length.to_be_bytes());
    packet.extend([0, 0]);
    packet.extend(payload);
    packet
}

async fn udp(namespace: &Namespace, port: u16) -> tokio::net::UdpSocket {
    namespace.bind_udp(SocketAddr::from((Ipv4Addr::UNSPECIFIED, port))).await.unwrap()
}

pub(crate) async fn test_packets_leave_and_enter_through_the_tun() {
    let lab = lab().await;
    let pod = pod(&lab).await;
    let tun = pod.open_tun(TunSpec::eth0(IpAddr::V4(POD))).await.unwrap();
    let flags = OFlag::from_bits_truncate(fcntl(&tun, FcntlArg::F_GETFL).unwrap());
    assert!(flags.contains(OFlag::O_NONBLOCK));
    let tun = watch_fd(tun).unwrap();
    let socket = udp(&pod, 5353).await;
    socket.send_to(b"question", (SERVICE, 53)).await.unwrap();
    let packet = read(&tun).await;
    assert_eq!((packet[0], packet[9]), (0x45, 17), "an IPv4 packet with UDP and nothing before it");
    assert_eq!((&packet[12..16], &packet[16..20]), (&POD.octets()[..], &SERVICE.octets()[..]));
    assert_eq!(&packet[28..], b"question");
    // From anywhere: strict source checks would refuse what no route leads to, or what has an address of our own.
    for source in [SERVICE, Ipv4Addr::new(192, 0, 2, 1), POD] {
        let answer = datagram((source, 53), (POD, 5353), b"answer");
        nix::unistd::write(tun.get_ref().as_fd(), &answer).unwrap();
        let mut heard = [0; 64];
        let (length, from) = timeout(PATIENCE, socket.recv_from(&mut heard)).await.expect("no answer").unwrap();
        assert_eq!((&heard[..length], from), (&b"answer"[..], SocketAddr::from((source, 53))));
    }
    // The device goes with its descriptor.
    assert_eq!(output(&pod, MountSpace::Agent, "grep -c eth0 /proc/net/dev").await, "1");
    drop(tun);
    assert_eq!(output(&pod, MountSpace::Agent, "grep -c eth0 /proc/net/dev; true").await, "0");
}

pub(crate) async fn test_only_what_is_routed_leaves() {
    let lab = lab().await;
    let pod = pod(&lab).await;
    let second = Ipv4Addr::new(10, 95, 0, 11);
    let spec = TunSpec {
        name: "tun7".into(),
        addresses: vec![IpAddr::V4(POD), IpAddr::V4(second)],
        mtu: 65535,
        default_route: false,
        routes: vec![(IpAddr::V4(Ipv4Addr::new(10, 96, 0, 1)), 16), (IpAddr::V4(Ipv4Addr::new(10, 97, 0, 1)), 32)],
        offload: false,
    };
    let tun = watch_fd(pod.open_tun(spec).await.unwrap()).unwrap();
    let socket = udp(&pod, 0).await;
    let large = vec![1; 60_000];
    for target in [SERVICE, Ipv4Addr::new(10, 97, 0, 1)] {
        socket.send_to(&large, (target, 53)).await.unwrap();
        assert_eq!(read(&tun).await.len(), 28 + large.len(), "not in one piece");
    }
    // The addresses are hosts: neither their network nor anything else is behind the device.
    for target in [Ipv4Addr::new(10, 244, 0, 6), Ipv4Addr::new(10, 97, 0, 2), Ipv4Addr::new(192, 0, 2, 1)] {
        let error = socket.send_to(b"lost", (target, 53)).await.unwrap_err();
        assert_eq!(error.kind(), std::io::ErrorKind::NetworkUnreachable, "{target}");
    }
    for own in [POD, second] {
        let listener = pod.listen_tcp(SocketAddr::from((own, 80))).await.unwrap();
        pod.connect_tcp(listener.local_addr().unwrap()).await.unwrap();
    }
}

pub(crate) async fn test_offload_prepends_a_header() {
    let lab = lab().await;
    let pod = pod(&lab).await;
    let spec = TunSpec { offload: true, ..TunSpec::eth0(IpAddr::V4(POD)) };
    let tun = watch_fd(pod.open_tun(spec).await.unwrap()).unwrap();
    let socket = udp(&pod, 0).await;
    socket.send_to(b"question", (SERVICE, 53)).await.unwrap();
    let packet = read(&tun).await;
    // VIRTIO_NET_HDR_F_NEEDS_CSUM: the checksum is left to whoever is behind the device.
    assert_eq!((packet[0], packet[10], packet.len()), (1, 0x45, 10 + 28 + 8));
}

pub(crate) async fn test_ipv6_is_there_if_asked_for() {
    let lab = lab().await;
    let address: IpAddr = "fd00:244::5".parse().unwrap();
    let with = lab.make_namespace(NamespaceSpec { ipv6: true, ..NamespaceSpec::new("dual", "dual") }).await.unwrap();
    let spec = TunSpec { addresses: vec![IpAddr::V4(POD), address], ..TunSpec::eth0(address) };
    let tun = watch_fd(with.open_tun(spec).await.unwrap()).unwrap();
    let socket = with.bind_udp(SocketAddr::new(address, 0)).await.unwrap();
    socket.send_to(b"question", "[fd00:96::a]:53").await.unwrap();
    // The kernel may speak of multicast first.
    let packet = loop {
        let packet = read(&tun).await;
        if packet[6] == 17 {
            break packet;
        }
    };
    assert_eq!(&packet[48..], b"question");
    let without = pod(&lab).await;
    let refused = without.open_tun(TunSpec::eth0(address)).await.unwrap_err();
    assert!(matches!(&refused, SandboxError::Refused { step, .. } if step.contains("fd00:244::5")), "{refused}");
}

pub(crate) async fn test_impossible_interfaces_are_refused() {
    let lab = lab().await;
    let pod = pod(&lab).await;
    for name in ["", "a-name-of-16-byt"] {
        let spec = TunSpec { name: name.into(), ..TunSpec::eth0(IpAddr::V4(POD)) };
        assert!(matches!(pod.open_tun(spec).await, Err(SandboxError::Refused { .. })), "{name:?}");
    }
    let first = pod.open_tun(TunSpec::eth0(IpAddr::V4(POD))).await.unwrap();
    let again = pod.open_tun(TunSpec::eth0(IpAddr::V4(POD))).await.unwrap_err();
    assert!(matches!(&again, SandboxError::Refused { step, .. } if step.contains("eth0")), "{again}");
    drop(first);
    let spec = TunSpec { mtu: 65536, ..TunSpec::eth0(IpAddr::V4(POD)) };
    let refused = pod.open_tun(spec).await.unwrap_err();
    assert!(matches!(&refused, SandboxError::Refused { step, .. } if step.contains("MTU")), "{refused}");
}

pub(crate) async fn test_kernel_settings_suit_pods() {
    let lab = lab().await;
    let pod = pod(&lab).await;
    let read =
        "cd /proc/sys/net/ipv4; cat ip_unprivileged_port_start tcp_congestion_control tcp_allowed_congestion_control";
    let seen = output(&pod, MountSpace::Agent, read).await;
    let lines: Vec<&str> = seen.lines().collect();
    assert_eq!(lines[0], "0");
    let expected = if lines[2].split(' ').any(|name| name == "cubic") { "cubic" } else { "reno" };
    assert_eq!(lines[1], expected);
    // The group of whoever asks is in the range, so a datagram ICMP socket can be had: what `ping` needs.
    let range = output(&pod, MountSpace::Agent, "cat /proc/sys/net/ipv4/ping_group_range").await;
    let bounds: Vec<u32> = range.split_whitespace().map(|bound| bound.parse().unwrap()).collect();
    assert!((bounds[0]..=bounds[1]).contains(&nix::unistd::getegid().as_raw()), "{range}");
    assert!(pod.socket(SocketKind::Udp4).await.is_ok());
}

pub(crate) async fn test_reflected_ports_of_an_own_address_leave() {
    let lab = lab().await;
    let node = pod(&lab).await;
    let tun = watch_fd(node.open_tun(TunSpec::eth0(IpAddr::V4(POD))).await.unwrap()).unwrap();
    // The second range must not disturb the first.
    for ports in [30000..=30100, 30101..=32767] {
        node.reflect_ports("eth0", IpAddr::V4(POD), ports).await.unwrap();
    }
    let socket = udp(&node, 5353).await;
    for port in [30000, 30100, 30101, 32767] {
        socket.send_to(b"question", (POD, port)).await.unwrap();
        let packet = read(&tun).await;
        assert_eq!((&packet[12..16], &packet[16..20]), (&POD.octets()[..], &POD.octets()[..]));
        assert_eq!(u16::from_be_bytes([packet[22], packet[23]]), port);
        nix::unistd::write(tun.get_ref().as_fd(), &datagram((POD, port), (POD, 5353), b"answer")).unwrap();
        let mut heard = [0; 64];
        let (length, from) = timeout(PATIENCE, socket.recv_from(&mut heard)).await.expect("no answer").unwrap();
        assert_eq!((&heard[..length], from), (&b"answer"[..], SocketAddr::from((POD, port))));
    }
    // Other ports and other addresses stay inside.
    for (address, port) in [(POD, 29999), (POD, 32768), (Ipv4Addr::LOCALHOST, 30000)] {
        let address = SocketAddr::from((address, port));
        let listener = node.listen_tcp(address).await.unwrap();
        let client = timeout(PATIENCE, node.connect_tcp(address)).await.expect("it left").unwrap();
        assert_eq!(client.peer_addr().unwrap(), address);
        drop(listener);
    }
    let missing = node.reflect_ports("eth7", IpAddr::V4(POD), 1..=2).await.unwrap_err();
    assert!(matches!(missing, SandboxError::Refused { .. }), "{missing}");
}

pub(crate) async fn test_a_host_has_a_tun_and_routes_while_it_is_open() {
    let run = || Command::new("/proc/self/exe").arg("__host-tun").output().unwrap();
    let output = tokio::task::spawn_blocking(run).await.unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

/// In a network namespace of its own, which stands for the host.
pub(crate) fn open_host_tun_in_a_namespace() -> ExitCode {
    let user = if is_root() { CloneFlags::empty() } else { CloneFlags::CLONE_NEWUSER };
    unshare(CloneFlags::CLONE_NEWNET | user).unwrap();
    let routes = || fs::read_to_string("/proc/net/route").unwrap();
    let spec = TunSpec {
        name: "minisvc0".into(),
        default_route: false,
        routes: vec![(Ipv4Addr::new(10, 96, 0, 0).into(), 16)],
        ..TunSpec::eth0(Ipv4Addr::new(10, 95, 0, 1).into())
    };
    let device = open_host_tun(&spec).unwrap();
    assert_eq!(routes().matches("minisvc0").count(), 1, "{}", routes());
    let options = (SockFlag::SOCK_NONBLOCK, None);
    let socket = nix::sys::socket::socket(AddressFamily::Inet, SockType::Stream, options.0, options.1).unwrap();
    let target = SockaddrStorage::from(SocketAddr::from((SERVICE, 80)));
    assert_eq!(nix::sys::socket::connect(socket.as_raw_fd(), &target), Err(Errno::EINPROGRESS));
    let algorithm = getsockopt(&socket, sockopt::TcpCongestion).unwrap();
    assert!(algorithm == "cubic" || algorithm == "reno", "{algorithm:?}");
    let mut packet = [0; 1500];
    let length = nix::unistd::read(&device, &mut packet).unwrap();
    assert_eq!((&packet[12..16], &packet[16..20], length), (&[10, 95, 0, 1][..], &SERVICE.octets()[..], 60));
    drop(device);
    assert_eq!(routes().matches("minisvc0").count(), 0);
    ExitCode::SUCCESS
}
