//! From inside a lab to what is outside: the relay, on both kinds of interface, and a whole lab's way to this machine.
//! What is outside here listens on this machine's loopback.

mod common;

use std::io::{BufRead as _, BufReader, ErrorKind, Write as _};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

use common::{Lab, eventually, pod};
use minisvc_netd::{Config, Link, LinkRole, Netd, RelaySockets};
use minisvc_sandbox::{LaunchOptions, Namespace, NamespaceSpec, Sandbox, TunSpec};
use nix::sys::socket::setsockopt;
use nix::sys::socket::sockopt::UdpGsoSegment;
use serde_json::json;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream, UdpSocket};
use tokio_util::sync::CancellationToken;

const CLIENT: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 95, 0, 1));
/// The relay, which stands for this machine.
const MACHINE: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 95, 0, 254));
const PATIENCE: Duration = Duration::from_secs(60);

/// A client, the relay, and the data plane between them.
struct Wire {
    sandbox: Sandbox,
    netd: Netd,
    client: Namespace,
    stop: CancellationToken,
    relay: tokio::task::JoinHandle<()>,
    _place: Namespace,
}

impl Wire {
    async fn start(offload: bool) -> Self {
        let args = vec!["__sandbox".into()];
        let sandbox = Sandbox::launch(LaunchOptions { program: common::MINISVC.into(), args, lab: "egress".into() });
        let sandbox = sandbox.await.expect("a sandbox");
        let range = |text: &str| text.parse().expect("a range");
        let mut config = Config::new(vec![range("10.96.0.0/16")], vec![range("10.244.0.0/16")]);
        config.own_cidrs = vec![range("10.95.0.0/16")];
        config.offload = offload;
        let netd = Netd::start(config).expect("a data plane");
        let client = place(&sandbox, &netd, offload, CLIENT, LinkRole::Workstation).await;
        let relay_place = place(&sandbox, &netd, offload, MACHINE, LinkRole::Relay { listen: 1 }).await;
        let at = SocketAddr::new(MACHINE, 1);
        let tcp = vec![relay_place.listen_tcp(at).await.expect("a listener")];
        let udp = vec![relay_place.bind_udp(at).await.expect("a socket")];
        let stop = CancellationToken::new();
        let (relaying, token) = (netd.clone(), stop.clone());
        let sockets = RelaySockets { addresses: vec![MACHINE], tcp, udp };
        let relay = tokio::spawn(async move { relaying.relay(sockets, token).await });
        Self { sandbox, netd, client, stop, relay, _place: relay_place }
    }

    /// Connects to a port of this machine, as often as it takes for the relay to be there.
    async fn connect(&self, port: u16) -> TcpStream {
        within(self.client.connect_tcp(SocketAddr::new(MACHINE, port))).await.expect("connected")
    }

    async fn end(self) {
        self.stop.cancel();
        within(self.relay).await.expect("the relay ends without a panic");
        let netd = self.netd.clone();
        tokio::task::spawn_blocking(move || netd.shutdown()).await.expect("ended");
        self.sandbox.shutdown().await;
    }
}

async fn place(sandbox: &Sandbox, netd: &Netd, offload: bool, address: IpAddr, role: LinkRole) -> Namespace {
    let name = address.to_string();
    let namespace = sandbox.make_namespace(NamespaceSpec::new(&name, "place")).await.expect("a namespace");
    let mtu = if offload { 1500 } else { 65_535 };
    let device = namespace.open_tun(TunSpec { mtu, offload, ..TunSpec::eth0(address) }).await.expect("a TUN");
    netd.attach(Link { name, device, addresses: vec![address], role, host_ports: None });
    namespace
}

async fn within<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, future).await.expect("in time")
}

async fn listen() -> (TcpListener, u16) {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("a listener");
    let port = listener.local_addr().expect("bound").port();
    (listener, port)
}

/// Bytes that do not repeat soon.
fn noise(length: usize) -> Vec<u8> {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        u8::try_from(state & 0xff).expect("masked")
    };
    (0..length).map(|_| next()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn large_transfers_arrive_whole_in_both_directions_at_once() {
    for offload in [false, true] {
        let wire = Wire::start(offload).await;
        let (listener, port) = listen().await;
        let data = noise(16 << 20);
        let there = data.clone();
        let server = tokio::spawn(async move {
            let (stream, _) = listener.accept().await.expect("accepted");
            let (mut reader, mut writer) = stream.into_split();
            let sending = tokio::spawn(async move {
                writer.write_all(&there).await.expect("sent");
                writer.shutdown().await.expect("half closed");
            });
            let mut received = Vec::new();
            reader.read_to_end(&mut received).await.expect("received");
            sending.await.expect("no panic");
            received
        });
        let (mut reader, mut writer) = wire.connect(port).await.into_split();
        let here = data.clone();
        let sending = tokio::spawn(async move {
            writer.write_all(&here).await.expect("sent");
            writer.shutdown().await.expect("half closed");
        });
        let mut received = Vec::new();
        within(reader.read_to_end(&mut received)).await.expect("received");
        sending.await.expect("no panic");
        assert!(received == data, "what came in is what was sent, offload {offload}");
        assert!(within(server).await.expect("no panic") == data, "what went out too, offload {offload}");
        wire.end().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn each_side_may_finish_first_and_the_other_goes_on() {
    let wire = Wire::start(true).await;
    let (listener, port) = listen().await;
    // The client finishes first: the answer depends on everything that it sent.
    let mut client = wire.connect(port).await;
    let (mut server, _) = within(listener.accept()).await.expect("accepted");
    client.write_all(b"question").await.expect("sent");
    client.shutdown().await.expect("half closed");
    let mut text = String::new();
    within(server.read_to_string(&mut text)).await.expect("the end is heard");
    server.write_all(format!("{text}, answer").as_bytes()).await.expect("sent");
    drop(server);
    let mut text = String::new();
    within(client.read_to_string(&mut text)).await.expect("read");
    assert_eq!(text, "question, answer");
    // The server finishes first.
    let mut client = wire.connect(port).await;
    let (mut server, _) = within(listener.accept()).await.expect("accepted");
    server.write_all(b"hello").await.expect("sent");
    server.shutdown().await.expect("half closed");
    let mut text = String::new();
    within(client.read_to_string(&mut text)).await.expect("the end is heard");
    assert_eq!(text, "hello");
    client.write_all(b"still here").await.expect("sent");
    drop(client);
    let mut text = String::new();
    within(server.read_to_string(&mut text)).await.expect("read");
    assert_eq!(text, "still here");
    wire.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn refusals_and_resets_are_heard_as_such() {
    let wire = Wire::start(true).await;
    let (listener, port) = listen().await;
    let mut client = wire.connect(port).await;
    let (server, _) = within(listener.accept()).await.expect("accepted");
    server.set_zero_linger().expect("set");
    drop(server);
    let error = within(client.read(&mut [0; 16])).await.expect_err("reset, not closed");
    assert_eq!(error.kind(), ErrorKind::ConnectionReset);
    // And the other way.
    let client = wire.connect(port).await;
    let (mut server, _) = within(listener.accept()).await.expect("accepted");
    client.set_zero_linger().expect("set");
    drop(client);
    let error = within(server.read(&mut [0; 16])).await.expect_err("reset, not closed");
    assert_eq!(error.kind(), ErrorKind::ConnectionReset);
    // Nobody listens any more: the client is refused, and not accepted first.
    drop(listener);
    let error = within(wire.client.connect_tcp(SocketAddr::new(MACHINE, port))).await.expect_err("refused");
    assert_eq!(error.kind(), ErrorKind::ConnectionRefused);
    // An address of the lab that nobody has does not leave it.
    let nobody = SocketAddr::new(Ipv4Addr::new(10, 95, 1, 7).into(), port);
    let error = within(wire.client.connect_tcp(nobody)).await.expect_err("unreachable");
    assert_eq!(error.kind(), ErrorKind::HostUnreachable);
    let stats = wire.netd.relay_stats();
    assert_eq!((stats.connections, stats.refused, stats.unreachable), (2, 1, 0));
    wire.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn many_connections_at_once_do_not_mix() {
    let wire = Wire::start(true).await;
    let (listener, port) = listen().await;
    let server = tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            tokio::spawn(async move {
                let (mut reader, mut writer) = stream.split();
                let _ = tokio::io::copy(&mut reader, &mut writer).await;
            });
        }
    });
    let mut streams = Vec::new();
    for _ in 0..300 {
        streams.push(wire.connect(port).await);
    }
    for (number, stream) in streams.iter_mut().enumerate() {
        stream.write_all(format!("{number:05}").as_bytes()).await.expect("sent");
    }
    for (number, stream) in streams.iter_mut().enumerate() {
        let mut text = [0; 5];
        within(stream.read_exact(&mut text)).await.expect("read");
        assert_eq!(text, *format!("{number:05}").as_bytes());
    }
    assert_eq!(wire.netd.relay_stats().connections_now, 300);
    drop(streams);
    let gone = async {
        while wire.netd.relay_stats().connections_now > 0 {
            tokio::task::yield_now().await;
        }
    };
    within(gone).await;
    server.abort();
    wire.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn datagrams_go_both_ways_and_each_client_has_a_socket_of_its_own() {
    for offload in [false, true] {
        let wire = Wire::start(offload).await;
        let server = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("bound");
        let port = server.local_addr().expect("bound").port();
        let mut sources = Vec::new();
        for length in [1, 1400, 9000] {
            let client = wire.client.bind_udp((Ipv4Addr::UNSPECIFIED, 0).into()).await.expect("bound");
            client.connect((MACHINE, port)).await.expect("connected");
            let question = noise(length);
            let mut buffer = vec![0; 65_536];
            // The largest one opens its flow in fragments.
            client.send(&question).await.expect("sent");
            let (received, source) = within(server.recv_from(&mut buffer)).await.expect("received");
            assert_eq!(&buffer[..received], question);
            server.send_to(b"welcome", source).await.expect("sent");
            let received = within(client.recv(&mut buffer)).await.expect("received");
            assert_eq!(&buffer[..received], b"welcome");
            client.send(&question).await.expect("sent");
            let (received, again) = within(server.recv_from(&mut buffer)).await.expect("received");
            assert_eq!((&buffer[..received], again), (question.as_slice(), source), "one flow, one socket");
            server.send_to(&question, source).await.expect("sent");
            let received = within(client.recv(&mut buffer)).await.expect("received");
            assert_eq!(&buffer[..received], question);
            sources.push(source);
        }
        sources.sort();
        sources.dedup();
        assert_eq!(sources.len(), 3);
        assert_eq!(wire.netd.relay_stats().sessions, 3);
        wire.end().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn datagrams_that_are_sent_in_one_go_arrive_one_by_one_also_when_they_open_a_flow() {
    const SIZE: usize = 1200;
    for offload in [false, true] {
        let wire = Wire::start(offload).await;
        let server = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("bound");
        let port = server.local_addr().expect("bound").port();
        let client = wire.client.bind_udp((Ipv4Addr::UNSPECIFIED, 0).into()).await.expect("bound");
        client.connect((MACHINE, port)).await.expect("connected");
        setsockopt(&client, UdpGsoSegment, &i32::try_from(SIZE).expect("it fits")).expect("the kernel has it");
        // As a QUIC client greets its server.
        let sent = noise(10 * SIZE + 7);
        client.send(&sent).await.expect("sent");
        let mut buffer = vec![0; 65_536];
        for piece in sent.chunks(SIZE) {
            let (received, _) = within(server.recv_from(&mut buffer)).await.expect("received");
            assert!(buffer[..received] == *piece, "{received} bytes, offload {offload}");
        }
        wire.end().await;
    }
}

/// A web server on this machine's loopback that answers everything alike, until the test ends.
fn web_server(answer: &'static str) -> u16 {
    let listener = std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a listener");
    let port = listener.local_addr().expect("bound").port();
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let mut stream = BufReader::new(stream);
            let mut line = String::from("x");
            while line.trim() != "" {
                line.clear();
                if stream.read_line(&mut line).unwrap_or(0) == 0 {
                    break;
                }
            }
            let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\nConnection: close\r\n\r\n", answer.len());
            // A client that has gone away does not matter.
            let _ = stream.get_mut().write_all((head + answer).as_bytes());
        }
    });
    port
}

#[test]
fn pods_and_the_workstation_reach_this_machine_by_name_and_as_an_endpoint() {
    let port = web_server("from the machine");
    let lab = Lab::start("egress", &[]);
    lab.apply(&pod("client", &json!([common::echo(8080)]), &json!({})).to_string());
    lab.ready("client");
    let url = format!("http://host.minisvc.internal:{port}/");
    assert!(lab.fetch(&url).expect("answered").contains("from the machine"));
    assert!(lab.fetch_in("client", &url).expect("answered").contains("from the machine"));
    // A Service without pods in front of what runs on the machine, such as a database.
    let service =
        json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "db"}, "spec": {"ports": [{"port": 80}]}});
    let slice = json!({
        "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "addressType": "IPv4",
        "metadata": {"name": "db-1", "labels": {"kubernetes.io/service-name": "db"}},
        "ports": [{"port": port}], "endpoints": [{"addresses": ["10.95.0.254"]}],
    });
    lab.apply_all(&[service, slice]);
    let text = eventually("the Service to answer", || lab.fetch_in("client", "http://db/").ok());
    assert!(text.contains("from the machine"), "{text}");
}

#[test]
fn a_lab_without_egress_has_no_way_out() {
    let port = web_server("from the machine");
    let lab = Lab::start("no-egress", &["--egress", "off"]);
    assert!(lab.dig("udp", "A", "host.minisvc.internal").expect("answered").contains("Refused"), "it has no name");
    let error = lab.fetch(&format!("http://10.95.0.254:{port}/")).expect_err("nobody is there");
    assert!(!error.contains("from the machine"), "{error}");
}
