//! A packet through a virtual IP: two namespaces, a Service with one endpoint, and nothing else of a lab.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

use minisvc_apiserver::{ApiServer, Identity, Options};
use minisvc_netd::{Config, Link, LinkRole, Netd};
use minisvc_sandbox::{LaunchOptions, Namespace, NamespaceSpec, Sandbox, TunSpec};
use serde_json::json;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio_util::sync::CancellationToken;

const CLIENT: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 244, 0, 2));
const BACKEND: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 244, 0, 3));
const NODE: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 95, 0, 11));
const PATIENCE: Duration = Duration::from_secs(30);

/// Two pods and the data plane between them.
struct Wire {
    sandbox: Sandbox,
    netd: Netd,
    client: Namespace,
    backend: Namespace,
    api: kube::Client,
    stop: CancellationToken,
}

impl Wire {
    async fn start() -> Self {
        let options = LaunchOptions {
            program: env!("CARGO_BIN_EXE_minisvc").into(),
            args: vec!["__sandbox".into()],
            lab: "vip".into(),
        };
        let sandbox = Sandbox::launch(options).await.expect("a sandbox");
        let range = |text: &str| text.parse().expect("a range");
        let config = Config::new(vec![range("10.96.0.0/16")], vec![range("10.244.0.0/16")]);
        let netd = Netd::start(config).expect("a data plane");
        let pod = || LinkRole::Pod { node: "node-1".into() };
        let client = place(&sandbox, &netd, "client", CLIENT, pod()).await;
        let backend = place(&sandbox, &netd, "backend", BACKEND, pod()).await;
        place(&sandbox, &netd, "node-1", NODE, LinkRole::Node { name: "node-1".into() }).await;
        let server = ApiServer::open(Options::default()).await.expect("an API");
        let api = server.client(Identity::component("test"));
        let stop = CancellationToken::new();
        let (follow, client_of_api, token) = (netd.clone(), api.clone(), stop.clone());
        tokio::spawn(async move { follow.follow(client_of_api, token).await });
        Self { sandbox, netd, client, backend, api, stop }
    }

    /// A Service with TCP and UDP on port 80; the endpoint listens on 8080. Returns the virtual address.
    async fn service(&self, name: &str, endpoints: &[IpAddr]) -> IpAddr {
        let ports =
            |port: u16| json!([{"name": "tcp", "port": port}, {"name": "udp", "port": port, "protocol": "UDP"}]);
        let service = json!({"metadata": {"name": name}, "spec": {"ports": ports(80)}});
        let services = kube::Api::<k8s_openapi::api::core::v1::Service>::default_namespaced(self.api.clone());
        let service = serde_json::from_value(service).expect("a Service");
        let made = services.create(&Default::default(), &service).await.expect("created");
        let endpoints: Vec<_> = endpoints.iter().map(|address| json!({"addresses": [address]})).collect();
        let slice = json!({
            "metadata": {"name": name, "labels": {"kubernetes.io/service-name": name}},
            "addressType": "IPv4", "ports": ports(8080), "endpoints": endpoints,
        });
        let slices = kube::Api::<k8s_openapi::api::discovery::v1::EndpointSlice>::default_namespaced(self.api.clone());
        let slice = serde_json::from_value(slice).expect("a slice");
        slices.create(&Default::default(), &slice).await.expect("created");
        made.spec.and_then(|spec| spec.cluster_ip).expect("an address").parse().expect("an IP address")
    }

    async fn end(self) {
        self.stop.cancel();
        let netd = self.netd.clone();
        tokio::task::spawn_blocking(move || netd.shutdown()).await.expect("ended");
        self.sandbox.shutdown().await;
    }
}

async fn place(sandbox: &Sandbox, netd: &Netd, name: &str, address: IpAddr, role: LinkRole) -> Namespace {
    let namespace = sandbox.make_namespace(NamespaceSpec::new(name, name)).await.expect("a namespace");
    let spec = TunSpec { mtu: 65_535, ..TunSpec::eth0(address) };
    let device = namespace.open_tun(spec).await.expect("a TUN");
    netd.attach(Link { name: name.into(), device, addresses: vec![address], role });
    namespace
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
    let wire = Wire::start().await;
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
    assert!(received == sent, "{} of {} bytes came back, or others", received.len(), sent.len());
    assert_eq!(server.await.expect("no panic").ip(), CLIENT, "the backend sees the client");
    wire.end().await;
}

// D-001, D-039
#[tokio::test(flavor = "multi_thread")]
async fn udp_through_a_virtual_ip_is_answered_from_it() {
    let wire = Wire::start().await;
    let vip = wire.service("web", &[BACKEND]).await;
    let server = wire.backend.bind_udp(SocketAddr::new(BACKEND, 8080)).await.expect("bound");
    let client = wire.client.bind_udp(SocketAddr::new(CLIENT, 0)).await.expect("bound");
    client.connect(SocketAddr::new(vip, 80)).await.expect("connected");
    let echo = tokio::spawn(async move {
        let mut datagram = [0; 2048];
        let (length, from) = server.recv_from(&mut datagram).await.expect("received");
        server.send_to(&datagram[..length], from).await.expect("sent");
        from
    });
    let mut answer = [0; 2048];
    // Datagrams sent before the table is there are refused or lost, so the client repeats, as clients of UDP do.
    let asked = async {
        loop {
            let _ = client.send(&[7; 2000]).await;
            if let Ok(Ok(length)) = tokio::time::timeout(Duration::from_millis(100), client.recv(&mut answer)).await {
                return length;
            }
        }
    };
    let length = tokio::time::timeout(PATIENCE, asked).await.expect("an answer in time");
    // The socket is connected: it only takes what comes from the virtual address.
    assert_eq!(&answer[..length], &[7; 2000]);
    assert_eq!(echo.await.expect("no panic").ip(), CLIENT);
    wire.end().await;
}

// D-032, D-052, D-053
#[tokio::test(flavor = "multi_thread")]
async fn nobody_there_is_refused_at_once_and_a_pod_reaches_itself() {
    let wire = Wire::start().await;
    let vip = wire.service("self", &[BACKEND]).await;
    let empty = wire.service("empty", &[]).await;
    let listener = wire.backend.listen_tcp(SocketAddr::new(BACKEND, 8080)).await.expect("listening");
    let hairpin = connect(&wire.backend, SocketAddr::new(vip, 80)).await;
    let (_, from) = tokio::time::timeout(PATIENCE, listener.accept()).await.expect("in time").expect("accepted");
    assert_eq!(from.ip(), NODE, "its own address would make the answer bypass the translator");
    drop(hairpin);
    let refused = tokio::time::timeout(PATIENCE, wire.client.connect_tcp(SocketAddr::new(empty, 80))).await;
    let error = refused.expect("at once, not after a timeout").expect_err("nobody is there");
    assert_eq!(error.kind(), std::io::ErrorKind::ConnectionRefused);
    wire.end().await;
}
