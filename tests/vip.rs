//! A packet through a virtual IP: two namespaces, a Service with one endpoint, and nothing else of a lab.

use std::io::ErrorKind;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use ipnet::IpNet;
use k8s_openapi::api::core::v1::{Service, ServiceSpec};
use minisvc_apiserver::{ApiServer, Identity, Options};
use minisvc_netd::{Config, Frontend, Link, LinkRole, Netd, PortId, Protocol};
use minisvc_sandbox::{ExitStatus, LaunchOptions, Namespace, NamespaceSpec, ProcessSpec, Sandbox, TunSpec};
use nix::sys::socket::setsockopt;
use nix::sys::socket::sockopt::UdpGsoSegment;
use serde_json::json;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::UdpSocket;
use tokio_util::sync::CancellationToken;

const CLIENT: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 244, 0, 2));
const BACKEND: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 244, 0, 3));
const NODE: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 95, 0, 11));
/// Client, backend and node of a lab with IPv6 alone.
const ENDS_6: [IpAddr; 3] = [
    IpAddr::V6(Ipv6Addr::new(0xfd00, 0x244, 0, 0, 0, 0, 0, 2)),
    IpAddr::V6(Ipv6Addr::new(0xfd00, 0x244, 0, 0, 0, 0, 0, 3)),
    IpAddr::V6(Ipv6Addr::new(0xfd00, 0x95, 0, 0, 0, 0, 0, 0x11)),
];
const PATIENCE: Duration = Duration::from_secs(30);

/// How interfaces are opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Device {
    /// One packet at a time, with an MTU that makes the kernel cut nothing.
    Plain,
    /// Up to 64 KiB of a stream in one packet, at the MTU of an Ethernet.
    Offload,
}

/// What every test runs on.
const DEVICES: [Device; 2] = [Device::Plain, Device::Offload];

/// Two pods, a node, and the data plane between them.
struct Wire {
    sandbox: Sandbox,
    netd: Netd,
    client: Namespace,
    backend: Namespace,
    backend_port: PortId,
    api: kube::Client,
    stop: CancellationToken,
    ipv6: bool,
}

impl Wire {
    async fn start(device: Device) -> Self {
        Self::start_with(device, [CLIENT, BACKEND, NODE], ["10.96.0.0/16", "10.244.0.0/16"]).await
    }

    /// With these addresses of the client, the backend and the node, and these ranges of Services and pods.
    async fn start_with(device: Device, [client_address, backend, node]: [IpAddr; 3], ranges: [&str; 2]) -> Self {
        let options = LaunchOptions {
            program: env!("CARGO_BIN_EXE_minisvc").into(),
            args: vec!["__sandbox".into()],
            lab: "vip".into(),
        };
        let sandbox = Sandbox::launch(options).await.expect("a sandbox");
        let [services, pods]: [IpNet; 2] = ranges.map(|text| text.parse().expect("a range"));
        let mut config = Config::new(vec![services], vec![pods]);
        config.offload = device == Device::Offload;
        let netd = Netd::start(config).expect("a data plane");
        let pod = || LinkRole::Pod { node: "node-1".into() };
        let (client, _) = place(&sandbox, &netd, "client", device, client_address, pod()).await;
        let (backend, backend_port) = place(&sandbox, &netd, "backend", device, backend, pod()).await;
        place(&sandbox, &netd, "node-1", device, node, LinkRole::Node { name: "node-1".into() }).await;
        let mut service_cidrs = Options::default().service_cidrs;
        if services.addr().is_ipv6() {
            service_cidrs.push(services);
        }
        let server = ApiServer::open(Options { service_cidrs, ..Options::default() }).await.expect("an API");
        let api = server.client(Identity::component("test"));
        let stop = CancellationToken::new();
        let (follow, client_of_api, token) = (netd.clone(), api.clone(), stop.clone());
        tokio::spawn(async move { follow.follow(client_of_api, token).await });
        Self { sandbox, netd, client, backend, backend_port, api, stop, ipv6: client_address.is_ipv6() }
    }

    /// A Service with TCP, UDP and SCTP on port 80; the endpoint listens on 8080. Returns the virtual address.
    async fn service(&self, name: &str, endpoints: &[IpAddr]) -> IpAddr {
        let spec = self.service_of_type(name, "ClusterIP", endpoints).await;
        spec.cluster_ip.expect("an address").parse().expect("an IP address")
    }

    async fn service_of_type(&self, name: &str, kind: &str, endpoints: &[IpAddr]) -> ServiceSpec {
        let protocols = ["TCP", "UDP", "SCTP"];
        let ports =
            |port: u16| protocols.map(|name| json!({"name": name.to_lowercase(), "port": port, "protocol": name}));
        let family = if self.ipv6 { "IPv6" } else { "IPv4" };
        let spec = json!({"type": kind, "ipFamilies": [family], "ports": ports(80)});
        let service = json!({"metadata": {"name": name}, "spec": spec});
        let services = kube::Api::<Service>::default_namespaced(self.api.clone());
        let service = serde_json::from_value(service).expect("a Service");
        let made = services.create(&Default::default(), &service).await.expect("created");
        let endpoints: Vec<_> = endpoints.iter().map(|address| json!({"addresses": [address]})).collect();
        let slice = json!({
            "metadata": {"name": name, "labels": {"kubernetes.io/service-name": name}},
            "addressType": family, "ports": ports(8080), "endpoints": endpoints,
        });
        let slices = kube::Api::<k8s_openapi::api::discovery::v1::EndpointSlice>::default_namespaced(self.api.clone());
        let slice = serde_json::from_value(slice).expect("a slice");
        slices.create(&Default::default(), &slice).await.expect("created");
        made.spec.expect("a specification")
    }

    async fn end(self) {
        self.stop.cancel();
        let netd = self.netd.clone();
        tokio::task::spawn_blocking(move || netd.shutdown()).await.expect("ended");
        self.sandbox.shutdown().await;
    }
}

async fn place(
    sandbox: &Sandbox,
    netd: &Netd,
    name: &str,
    device: Device,
    address: IpAddr,
    role: LinkRole,
) -> (Namespace, PortId) {
    let namespace = sandbox
        .make_namespace(NamespaceSpec { ipv6: address.is_ipv6(), ..NamespaceSpec::new(name, name) })
        .await
        .expect("a namespace");
    let spec = match device {
        Device::Plain => TunSpec { mtu: 65_535, ..TunSpec::eth0(address) },
        Device::Offload => TunSpec { offload: true, ..TunSpec::eth0(address) },
    };
    let device = namespace.open_tun(spec).await.expect("a TUN");
    let link = Link { name: name.into(), device, addresses: vec![address], role, host_ports: None };
    let port = netd.attach(link);
    (namespace, port)
}

/// Connects until the table has reached the data plane.
async fn connect(from: &Namespace, target: SocketAddr) -> tokio::net::TcpStream {
    let connected = async {
        loop {
            match from.connect_tcp(target).await {
                Ok(stream) => return stream,
                Err(_) => tokio::task::yield_now().await,
            }
        }
    };
    tokio::time::timeout(PATIENCE, connected).await.expect("connected in time")
}

// D-002, D-004, D-005, D-039
#[tokio::test(flavor = "multi_thread")]
async fn tcp_through_a_virtual_ip_arrives_whole_and_from_the_client_s_own_address() {
    for device in DEVICES {
        let wire = Wire::start(device).await;
        let vip = wire.service("web", &[BACKEND]).await;
        let listener = wire.backend.listen_tcp(SocketAddr::new(BACKEND, 8080)).await.expect("listening");
        let server = tokio::spawn(async move {
            let (mut stream, from) = listener.accept().await.expect("accepted");
            let (mut reader, mut writer) = stream.split();
            tokio::io::copy(&mut reader, &mut writer).await.expect("echoed");
            from
        });
        let mut stream = connect(&wire.client, SocketAddr::new(vip, 80)).await;
        assert_eq!(stream.peer_addr().expect("connected").ip(), vip, "the client sees the virtual address");
        // More than one window, so that segmentation, checksums and acknowledgements all take part.
        let sent: Vec<u8> = (0..8u32 << 20).map(|n| n.to_le_bytes()[usize::from(n % 3 == 0)]).collect();
        let (mut reader, mut writer) = stream.split();
        let (mut received, copy) = (Vec::new(), sent.clone());
        let write = async {
            writer.write_all(&copy).await.expect("sent");
            writer.shutdown().await.expect("closed");
        };
        let both = async { tokio::join!(write, reader.read_to_end(&mut received)) };
        tokio::time::timeout(PATIENCE, both).await.expect("in time").1.expect("received");
        assert!(received == sent, "{device:?}: {} of {} bytes came back, or others", received.len(), sent.len());
        assert_eq!(server.await.expect("no panic").ip(), CLIENT, "the backend sees the client");
        wire.end().await;
    }
}

/// Runs the program under test in the namespace and returns what it printed; `None` when it failed.
async fn minisvc(place: &Namespace, args: &[&str]) -> Option<String> {
    let (mut output, writer) = std::io::pipe().expect("a pipe");
    let argv = std::iter::once(env!("CARGO_BIN_EXE_minisvc")).chain(args.iter().copied());
    let spec = ProcessSpec { argv: argv.map(Into::into).collect(), stdout: Some(writer.into()), ..Default::default() };
    let process = place.spawn(spec).await.expect("started");
    let status = process.wait().await;
    // The other end is closed with the process, so this does not wait.
    let mut text = String::new();
    std::io::Read::read_to_string(&mut output, &mut text).expect("text");
    (status == ExitStatus::Code(0)).then_some(text)
}

// D-112, S-160
#[tokio::test(flavor = "multi_thread")]
async fn sctp_through_a_virtual_ip_is_answered_where_the_kernel_speaks_it() {
    let protocols = std::fs::read_to_string("/proc/net/protocols").expect("readable");
    if !protocols.lines().any(|line| line.starts_with("SCTP ")) {
        println!("this kernel does not speak SCTP now; modprobe sctp loads it where there is a module");
        return;
    }
    for device in DEVICES {
        let wire = Wire::start(device).await;
        let vip = wire.service("web", &[BACKEND]).await;
        let echo = ProcessSpec {
            argv: [env!("CARGO_BIN_EXE_minisvc"), "__echo"].map(Into::into).to_vec(),
            env: [("PORT", "8080"), ("SCTP_PORT", "8080"), ("POD_NAME", "web-0")]
                .map(|(name, value)| (name.into(), value.into()))
                .to_vec(),
            ..Default::default()
        };
        let _echo = wire.backend.spawn(echo).await.expect("started");
        let asked = async {
            loop {
                if let Some(answer) = minisvc(&wire.client, &["__get", &format!("sctp://{vip}/some/path")]).await {
                    return answer;
                }
            }
        };
        let answer = tokio::time::timeout(PATIENCE, asked).await.expect("an answer in time");
        assert_eq!(answer, format!("200 web-0 saw {CLIENT} ask GET /some/path\n"), "{device:?}");
        wire.end().await;
    }
}

/// Asks until there is an answer, as clients of UDP do: what is sent before the table is there is refused or lost.
async fn ask(client: &UdpSocket, question: &[u8]) -> Vec<u8> {
    let mut answer = vec![0; 65_536];
    let asked = async {
        loop {
            let _ = client.send(question).await;
            if let Ok(Ok(length)) = tokio::time::timeout(Duration::from_millis(100), client.recv(&mut answer)).await {
                return length;
            }
        }
    };
    let length = tokio::time::timeout(PATIENCE, asked).await.expect("an answer in time");
    answer.truncate(length);
    answer
}

// D-001, D-039, D-107, D-108
#[tokio::test(flavor = "multi_thread")]
async fn udp_through_a_virtual_ip_is_answered_from_it() {
    for device in DEVICES {
        let wire = Wire::start(device).await;
        let vip = wire.service("web", &[BACKEND]).await;
        let server = wire.backend.bind_udp(SocketAddr::new(BACKEND, 8080)).await.expect("bound");
        let client = wire.client.bind_udp(SocketAddr::new(CLIENT, 0)).await.expect("bound");
        client.connect(SocketAddr::new(vip, 80)).await.expect("connected");
        let echo = tokio::spawn(async move {
            let mut datagram = vec![0; 65_536];
            loop {
                let (length, from) = server.recv_from(&mut datagram).await.expect("received");
                assert_eq!(from.ip(), CLIENT, "the backend sees the client");
                server.send_to(&datagram[..length], from).await.expect("sent");
            }
        });
        // The socket is connected: it only takes what comes from the virtual address. The larger ones come in fragments.
        for length in [1u32, 1400, 2000, 9000] {
            let question: Vec<u8> = (0..length).map(|n| n.to_le_bytes()[0]).collect();
            assert_eq!(ask(&client, &question).await, question, "{device:?}");
        }
        echo.abort();
        wire.end().await;
    }
}

// D-002
#[tokio::test(flavor = "multi_thread")]
async fn datagrams_that_are_sent_in_one_go_arrive_one_by_one_and_unharmed() {
    const SIZE: usize = 1400;
    const BURST: usize = 20;
    for device in DEVICES {
        let wire = Wire::start(device).await;
        let vip = wire.service("web", &[BACKEND]).await;
        let server = wire.backend.bind_udp(SocketAddr::new(BACKEND, 8080)).await.expect("bound");
        let client = wire.client.bind_udp(SocketAddr::new(CLIENT, 0)).await.expect("bound");
        client.connect(SocketAddr::new(vip, 80)).await.expect("connected");
        let echo = tokio::spawn(async move {
            let mut datagram = [0; 2048];
            let (length, from) = server.recv_from(&mut datagram).await.expect("received");
            server.send_to(&datagram[..length], from).await.expect("sent");
            server
        });
        ask(&client, b"are you there?").await;
        let server = echo.await.expect("no panic");
        setsockopt(&client, UdpGsoSegment, &i32::try_from(SIZE).expect("it fits")).expect("the kernel has it");
        for round in 0..100usize {
            let sent: Vec<u8> = (0..SIZE * BURST).map(|n| (n * 7 + round).to_le_bytes()[0]).collect();
            client.send(&sent).await.expect("sent");
            for piece in sent.chunks(SIZE) {
                let mut datagram = [0; 2048];
                let received = async {
                    loop {
                        let length = server.recv(&mut datagram).await.expect("received");
                        // Late repetitions of the question are not part of it.
                        if length == SIZE {
                            return length;
                        }
                    }
                };
                let length = tokio::time::timeout(PATIENCE, received).await.expect("in time");
                assert!(datagram[..length] == *piece, "{device:?}, round {round}: other bytes");
            }
        }
        wire.end().await;
    }
}

// D-032, D-052, D-053
#[tokio::test(flavor = "multi_thread")]
async fn nobody_there_is_refused_at_once_and_a_pod_reaches_itself() {
    for device in DEVICES {
        let wire = Wire::start(device).await;
        let vip = wire.service("self", &[BACKEND]).await;
        let empty = wire.service("empty", &[]).await;
        let listener = wire.backend.listen_tcp(SocketAddr::new(BACKEND, 8080)).await.expect("listening");
        let hairpin = connect(&wire.backend, SocketAddr::new(vip, 80)).await;
        let (_, from) = tokio::time::timeout(PATIENCE, listener.accept()).await.expect("in time").expect("accepted");
        assert_eq!(from.ip(), NODE, "its own address would make the answer bypass the translator");
        drop(hairpin);
        let refused = tokio::time::timeout(PATIENCE, wire.client.connect_tcp(SocketAddr::new(empty, 80))).await;
        let error = refused.expect("at once, not after a timeout").expect_err("nobody is there");
        assert_eq!(error.kind(), ErrorKind::ConnectionRefused, "{device:?}");
        // The same by an ICMP error, which a connected socket is told of.
        let client = wire.client.bind_udp(SocketAddr::new(CLIENT, 0)).await.expect("bound");
        client.connect(SocketAddr::new(empty, 80)).await.expect("connected");
        client.send(&[7; 1000]).await.expect("sent");
        let refused = tokio::time::timeout(PATIENCE, client.recv(&mut [0; 16])).await;
        let error = refused.expect("at once, not after a timeout").expect_err("nobody is there");
        assert_eq!(error.kind(), ErrorKind::ConnectionRefused, "{device:?}");
        wire.end().await;
    }
}

// D-090
#[tokio::test(flavor = "multi_thread")]
async fn a_connection_to_a_pod_that_vanishes_is_reset() {
    for device in DEVICES {
        let wire = Wire::start(device).await;
        let vip = wire.service("web", &[BACKEND]).await;
        let listener = wire.backend.listen_tcp(SocketAddr::new(BACKEND, 8080)).await.expect("listening");
        let mut stream = connect(&wire.client, SocketAddr::new(vip, 80)).await;
        let (mut accepted, _) =
            tokio::time::timeout(PATIENCE, listener.accept()).await.expect("in time").expect("accepted");
        accepted.write_all(b"so far so good").await.expect("sent");
        let mut greeting = [0; 14];
        tokio::time::timeout(PATIENCE, stream.read_exact(&mut greeting)).await.expect("in time").expect("received");
        wire.netd.detach(wire.backend_port);
        let ended = tokio::time::timeout(PATIENCE, stream.read(&mut greeting)).await.expect("at once");
        assert_eq!(ended.expect_err("not a proper end").kind(), ErrorKind::ConnectionReset, "{device:?}");
        wire.end().await;
    }
}

// D-002, D-042, D-047, D-056
#[tokio::test(flavor = "multi_thread")]
async fn a_node_port_leads_to_the_endpoint_which_sees_the_node() {
    for device in DEVICES {
        let wire = Wire::start(device).await;
        let spec = wire.service_of_type("web", "NodePort", &[BACKEND]).await;
        let port = spec.ports.expect("ports")[0].node_port.expect("allocated");
        let listener = wire.backend.listen_tcp(SocketAddr::new(BACKEND, 8080)).await.expect("listening");
        let target = SocketAddr::new(NODE, u16::try_from(port).expect("a port"));
        let stream = connect(&wire.client, target).await;
        assert_eq!(stream.peer_addr().expect("connected"), target);
        let (_, from) = tokio::time::timeout(PATIENCE, listener.accept()).await.expect("in time").expect("accepted");
        assert_eq!(from.ip(), NODE, "{device:?}");
        wire.end().await;
    }
}

/// Connects until that is refused.
async fn refused(from: &Namespace, target: SocketAddr) {
    let refused = async {
        while !matches!(from.connect_tcp(target).await, Err(error) if error.kind() == ErrorKind::ConnectionRefused) {}
    };
    tokio::time::timeout(PATIENCE, refused).await.expect("refused in time");
}

/// Asks again and again until there is an answer; how long that took.
async fn until<T>(what: &str, mut ask: impl FnMut() -> Option<T>) -> (T, Duration) {
    let begun = std::time::Instant::now();
    let asked = async {
        loop {
            if let Some(answer) = ask() {
                return answer;
            }
            tokio::time::sleep(Duration::from_micros(200)).await;
        }
    };
    (tokio::time::timeout(PATIENCE, asked).await.expect(what), begun.elapsed())
}

// D-024, D-032, S-162
#[tokio::test(flavor = "multi_thread")]
async fn a_change_in_the_api_is_in_force_at_once() {
    let wire = Wire::start(Device::Offload).await;
    let vip = wire.service("web", &[BACKEND]).await;
    let _listener = wire.backend.listen_tcp(SocketAddr::new(BACKEND, 8080)).await.expect("listening");
    let target = SocketAddr::new(vip, 80);
    drop(connect(&wire.client, target).await);
    let frontend = Frontend { addr: vip, protocol: Protocol::Tcp, port: 80 };
    let service = || wire.netd.table().frontend(&frontend).map(|target| Arc::clone(&target.service));
    let slices = kube::Api::<k8s_openapi::api::discovery::v1::EndpointSlice>::default_namespaced(wire.api.clone());
    let mut times = Vec::new();
    for round in 0..20 {
        let ready = round % 2 == 1;
        let endpoints = json!([{"addresses": [BACKEND], "conditions": {"ready": ready, "serving": ready}}]);
        let patch = kube::api::Patch::Merge(json!({"endpoints": endpoints}));
        slices.patch("web", &Default::default(), &patch).await.expect("patched");
        let shown = || service()?.endpoints().first().filter(|endpoint| endpoint.ready == ready).map(|_| ());
        times.push(until("the endpoint", shown).await.1);
        if ready {
            connect(&wire.client, target).await;
        } else {
            refused(&wire.client, target).await;
        }
    }
    times.sort_unstable();
    assert!(times[times.len() / 2] < Duration::from_millis(100), "{times:?}");

    // Session affinity comes and goes, and nothing else does.
    let services = kube::Api::<Service>::default_namespaced(wire.api.clone());
    for (affinity, timeout) in [("ClientIP", Some(Duration::from_secs(10_800))), ("None", None)] {
        let patch = kube::api::Patch::Merge(json!({"spec": {"sessionAffinity": affinity}}));
        let patched = services.patch("web", &Default::default(), &patch).await.expect("patched");
        assert_eq!(patched.spec.and_then(|spec| spec.cluster_ip), Some(vip.to_string()));
        until("the affinity", || service().filter(|port| port.policies().affinity == timeout)).await;
        connect(&wire.client, target).await;
    }
    wire.end().await;
}

// D-002, D-032, D-053, D-107, D-109
#[tokio::test(flavor = "multi_thread")]
async fn ipv6_passes_as_ipv4_does() {
    let [_, backend, node] = ENDS_6;
    for device in DEVICES {
        let wire = Wire::start_with(device, ENDS_6, ["fd00:96::/112", "fd00:244::/64"]).await;
        let vip = wire.service("web", &[backend]).await;
        let empty = wire.service("empty", &[]).await;
        assert!(vip.is_ipv6() && empty.is_ipv6());
        let listener = wire.backend.listen_tcp(SocketAddr::new(backend, 8080)).await.expect("listening");
        let server = tokio::spawn(async move {
            let (mut stream, from) = listener.accept().await.expect("accepted");
            let (mut reader, mut writer) = stream.split();
            tokio::io::copy(&mut reader, &mut writer).await.expect("echoed");
            (listener, from)
        });
        let mut stream = connect(&wire.client, SocketAddr::new(vip, 80)).await;
        let sent: Vec<u8> = (0..2u32 << 20).map(|n| n.to_le_bytes()[usize::from(n % 3 == 0)]).collect();
        let (mut reader, mut writer) = stream.split();
        let (mut received, copy) = (Vec::new(), sent.clone());
        let write = async {
            writer.write_all(&copy).await.expect("sent");
            writer.shutdown().await.expect("closed");
        };
        let both = async { tokio::join!(write, reader.read_to_end(&mut received)) };
        tokio::time::timeout(PATIENCE, both).await.expect("in time").1.expect("received");
        assert!(received == sent, "{device:?}: {} of {} bytes came back, or others", received.len(), sent.len());
        let (listener, from) = server.await.expect("no panic");
        assert_eq!(from.ip(), ENDS_6[0], "the backend sees the client");
        let _hairpin = connect(&wire.backend, SocketAddr::new(vip, 80)).await;
        let (_, from) = tokio::time::timeout(PATIENCE, listener.accept()).await.expect("in time").expect("accepted");
        assert_eq!(from.ip(), node, "its own address would make the answer bypass the translator");
        ipv6_datagrams(&wire, device, vip, empty).await;
        wire.end().await;
    }
}

async fn ipv6_datagrams(wire: &Wire, device: Device, vip: IpAddr, empty: IpAddr) {
    let server = wire.backend.bind_udp(SocketAddr::new(ENDS_6[1], 8080)).await.expect("bound");
    let echo = tokio::spawn(async move {
        let mut datagram = vec![0; 65_536];
        loop {
            let (length, from) = server.recv_from(&mut datagram).await.expect("received");
            server.send_to(&datagram[..length], from).await.expect("sent");
        }
    });
    let client = wire.client.bind_udp(SocketAddr::new(ENDS_6[0], 0)).await.expect("bound");
    client.connect(SocketAddr::new(vip, 80)).await.expect("connected");
    // The larger ones come in fragments.
    for length in [1u32, 1400, 9000] {
        let question: Vec<u8> = (0..length).map(|n| n.to_le_bytes()[0]).collect();
        assert_eq!(ask(&client, &question).await, question, "{device:?}");
    }
    echo.abort();
    let client = wire.client.bind_udp(SocketAddr::new(ENDS_6[0], 0)).await.expect("bound");
    client.connect(SocketAddr::new(empty, 80)).await.expect("connected");
    client.send(&[7; 1000]).await.expect("sent");
    let refused = tokio::time::timeout(PATIENCE, client.recv(&mut [0; 16])).await;
    let error = refused.expect("at once, not after a timeout").expect_err("nobody is there");
    assert_eq!(error.kind(), ErrorKind::ConnectionRefused, "{device:?}");
    let refused = tokio::time::timeout(PATIENCE, wire.client.connect_tcp(SocketAddr::new(empty, 80))).await;
    let error = refused.expect("at once, not after a timeout").expect_err("nobody is there");
    assert_eq!(error.kind(), ErrorKind::ConnectionRefused, "{device:?}");
}
