//! The data plane: moves packets between the namespaces of a lab through the translator.
//!
//! It owns the devices, the worker thread, and the table that it builds from Services, EndpointSlices, Nodes and the
//! links it was given. It makes no namespace and opens no TUN (that is `sandbox`), and it decides nothing about a packet
//! (that is `netd/translator`).

mod announce;
mod claims;
mod closers;
mod device;
mod health;
mod look;
pub mod observe;
mod publish;
mod publisher;
mod records;
mod relay;
mod table;
#[cfg(test)]
mod table_tests;
mod watch;
mod worker;

use std::collections::hash_map::RandomState;
use std::hash::{BuildHasher as _, Hasher as _};
use std::io;
use std::net::IpAddr;
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;

use arc_swap::ArcSwap;
use ipnet::IpNet;
use kube::Client;
use minisvc_translator::Translator;
pub use minisvc_translator::{Counters, FlowRecord, Frontend, Limits, PortId, Protocol, ServicePortId, ServiceTable};
use tokio_util::sync::CancellationToken;

pub use crate::claims::{Claimant, Clash, Holder, HostPort, HostPorts};
use crate::observe::Places;
pub use crate::publish::{Dialer, PublishConfig, Published, publish};
pub use crate::health::NodeSockets;
use crate::publisher::Publisher;
pub use crate::relay::{RelaySockets, RelayStats};
pub use crate::table::LinkRole;
use crate::table::{Inputs, LinkRecord};
use crate::worker::{Command, Mailbox, Worker};
pub use crate::worker::{Flows, Stats};

/// What the data plane has to know from the start.
#[derive(Debug, Clone)]
pub struct Config {
    /// Ranges that Service addresses come from.
    pub service_cidrs: Vec<IpNet>,
    /// Ranges that pod addresses come from.
    pub pod_cidrs: Vec<IpNet>,
    /// Further ranges of the lab, such as those of nodes and load balancers: packets to an address that nobody has there are
    /// refused, and never leave the lab.
    pub own_cidrs: Vec<IpNet>,
    /// Most flows at once; at least 131,072 upstream (D-114).
    pub max_flows: usize,
    /// Whether every [`Link::device`] was opened with segmentation offload, or none of them: packets pass between them
    /// as they are.
    pub offload: bool,
}

impl Config {
    /// The ranges, with upstream's limit on flows, for devices without offload.
    pub fn new(service_cidrs: Vec<IpNet>, pod_cidrs: Vec<IpNet>) -> Self {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        let max_flows = cores.saturating_mul(32_768).max(131_072);
        Self { service_cidrs, pod_cidrs, own_cidrs: Vec::new(), max_flows, offload: false }
    }
}

/// One end of a link: a TUN whose other side is a namespace of the lab.
#[derive(Debug)]
pub struct Link {
    /// What logs and people call it: a pod's `namespace/name`, a node's name.
    pub name: String,
    /// The TUN: non-blocking, without packet information, with a 10-byte `virtio_net_hdr` exactly if [`Config::offload`].
    pub device: OwnedFd,
    /// The addresses that live behind it; nothing else may be sent from there.
    pub addresses: Vec<IpAddr>,
    /// What it leads to.
    pub role: LinkRole,
    /// Ports of its node that lead to it as well, if it is a pod's.
    pub host_ports: Option<HostPorts>,
}

/// The data plane of one lab. Cheap to clone; all clones are the same one.
#[derive(Clone)]
pub struct Netd {
    shared: Arc<Shared>,
}

struct Shared {
    publisher: Arc<Publisher>,
    mailbox: Mailbox,
    next_port: AtomicU32,
    relay: Arc<relay::Counters>,
    thread: Mutex<Option<JoinHandle<()>>>,
    /// What links lead to, for people.
    places: Mutex<Places>,
    /// What the worker was started with.
    limits: Limits,
}

impl Netd {
    /// Starts the worker thread with a table that has no link and no Service.
    ///
    /// # Errors
    /// When the system has no room for another thread or descriptor.
    pub fn start(config: Config) -> io::Result<Self> {
        let limits = Limits { max_flows: config.max_flows, seed: unpredictable(), ..Limits::default() };
        let inputs = Inputs {
            service_cidrs: config.service_cidrs,
            pod_cidrs: config.pod_cidrs,
            own_cidrs: config.own_cidrs,
            ..Inputs::default()
        };
        let table = Arc::new(ArcSwap::from_pointee(ServiceTable::new()));
        let (worker, mailbox) = Worker::new(Translator::new(limits.clone()), Arc::clone(&table), config.offload)?;
        let publisher = Arc::new(Publisher::new(inputs, table, mailbox.clone()));
        publisher.update(|_| ());
        let thread = std::thread::Builder::new().name("netd".into()).spawn(move || worker.run())?;
        let shared = Shared {
            publisher,
            mailbox,
            next_port: AtomicU32::new(0),
            relay: Arc::default(),
            thread: Mutex::new(Some(thread)),
            places: Mutex::default(),
            limits,
        };
        Ok(Self { shared: Arc::new(shared) })
    }

    /// Takes over a TUN. From now on its addresses are routed to it and packets from it are translated.
    pub fn attach(&self, link: Link) -> PortId {
        let port = PortId(self.shared.next_port.fetch_add(1, Ordering::Relaxed));
        tracing::debug!(port = port.0, name = link.name, addresses = ?link.addresses, "link attached");
        self.shared.places.lock().unwrap_or_else(PoisonError::into_inner).add(port, &link.name, &link.role);
        // The device first: a route must not lead to a port that is not there yet.
        self.shared.mailbox.send(Command::Attach(port, link.device));
        let record = LinkRecord { addresses: link.addresses, role: link.role, host_ports: link.host_ports };
        self.shared.publisher.update(|inputs| inputs.links.insert(port, record));
        port
    }

    /// Lets go of a TUN; its interface vanishes shortly after. Unknown ports are ignored.
    pub fn detach(&self, port: PortId) {
        self.shared.publisher.update(|inputs| inputs.links.remove(&port));
        self.shared.places.lock().unwrap_or_else(PoisonError::into_inner).remove(port);
        self.shared.mailbox.send(Command::Detach(port));
    }

    /// Follows Services, EndpointSlices and Nodes of the API until `shutdown`, and writes Events about claims that are refused.
    /// The data plane goes on without the API, with the last table (D-131).
    pub async fn follow(&self, client: Client, shutdown: CancellationToken) {
        let publisher = &self.shared.publisher;
        let told = announce::run(client.clone(), publisher.follow_clashes(), shutdown.clone());
        let followed = watch::follow(client, Arc::clone(publisher), shutdown);
        tokio::join!(told, followed);
    }

    /// Passes flows to the outside on with ordinary sockets of this machine, until `shutdown`.
    ///
    /// The relay needs a place in the lab, attached as [`LinkRole::Relay`], and listens there with the sockets in `inner`.
    pub async fn relay(&self, inner: RelaySockets, shutdown: CancellationToken) {
        relay::run(self.shared.mailbox.clone(), inner, Arc::clone(&self.shared.relay), shutdown).await;
    /// Has nodes answer those who ask for their health, with sockets of their own, until `shutdown`.
    pub async fn serve_health(&self, sockets: Arc<dyn NodeSockets>, client: Client, shutdown: CancellationToken) {
        let Shared { publisher, mailbox, .. } = &*self.shared;
        health::run(sockets, client, publisher.health(), mailbox.pulse(), shutdown).await;
    }

    }

    /// What the relay has counted so far.
    pub fn relay_stats(&self) -> RelayStats {
        self.shared.relay.read()
    }

    /// What the data plane was started with.
    pub fn limits(&self) -> &Limits {
        &self.shared.limits
    }

    /// What links lead to, by what people call it.
    pub fn places(&self) -> Places {
        self.shared.places.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The table in use now: routes, nodes and everything that Services are reached by.
    pub fn table(&self) -> Arc<ServiceTable> {
        self.shared.publisher.table()
    }

    /// What Services claim and do not get, because it is somebody else's.
    pub fn clashes(&self) -> Vec<Clash> {
        self.shared.publisher.clashes()
    }

    /// Ends the worker and closes every device; returns when they are closed. Blocks for up to some tens of
    /// milliseconds per sixteen devices, because closing a TUN waits in the kernel.
    pub fn shutdown(&self) {
        self.shared.mailbox.send(Command::Stop);
        let thread = self.shared.thread.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(thread) = thread
            && thread.join().is_err()
        {
            tracing::error!("the data plane's thread had panicked");
        }
    }
}

/// Sixty-four bits that a client of the lab cannot guess: hash keys and endpoint choices depend on them.
fn unpredictable() -> u64 {
    RandomState::new().build_hasher().finish()
}

#[cfg(test)]
mod tests {
    use std::io::{Read as _, Write as _};
    use std::net::Ipv4Addr;
    use std::os::unix::net::UnixStream;
    use std::time::{Duration, Instant};

    use etherparse::{PacketBuilder, SlicedPacket};
    use nix::sys::socket::{AddressFamily, SockFlag, SockType, socketpair};

    use super::*;
    use crate::records::{EndpointRecord, ObjectKey, PortRecord, ServicePortRecord, ServiceRecord, SliceRecord};

    const VIP: Ipv4Addr = Ipv4Addr::new(10, 96, 0, 9);
    const CLIENT: Ipv4Addr = Ipv4Addr::new(10, 244, 0, 2);
    const BACKEND: Ipv4Addr = Ipv4Addr::new(10, 244, 0, 3);

    /// A stand-in for a TUN: a socket that keeps packets apart. The first end is the namespace's.
    fn wire() -> (UnixStream, OwnedFd) {
        let flags = SockFlag::SOCK_CLOEXEC;
        let (inside, outside) =
            socketpair(AddressFamily::Unix, SockType::SeqPacket, None, flags).expect("a socket pair");
        let outside = UnixStream::from(outside);
        outside.set_nonblocking(true).expect("non-blocking");
        let inside = UnixStream::from(inside);
        inside.set_read_timeout(Some(Duration::from_secs(10))).expect("a timeout");
        (inside, outside.into())
    }

    fn link(netd: &Netd, address: Ipv4Addr) -> (UnixStream, PortId) {
        let (inside, device) = wire();
        let role = LinkRole::Pod { node: "node-1".into() };
        let addresses = vec![address.into()];
        let link = Link { name: address.to_string(), device, addresses, role, host_ports: None };
        (inside, netd.attach(link))
    }

    /// A Service that every client reaches at [`VIP`] port 80, with one endpoint.
    fn publish_service(netd: &Netd) {
        let key = ObjectKey::new(Some("default"), Some("web"));
        let port = ServicePortRecord { name: "".into(), protocol: Protocol::Udp, port: 80, node_port: Some(30080) };
        let service = ServiceRecord {
            key: key.clone(),
            cluster_ips: vec![VIP.into()],
            load_balancer_ips: vec![],
            external_ips: vec![],
            ports: vec![port],
            policies: minisvc_translator::Policies::default(),
            created: 0,
            unhandled: false,
        };
        let endpoint = EndpointRecord {
            address: BACKEND.into(),
            health_port: None,
            ready: true,
            serving: true,
            terminating: false,
            node: None,
            hints: None,
        };
        let port = PortRecord { name: "".into(), protocol: Protocol::Udp, port: 8080 };
        let slice = SliceRecord { service: key.clone(), ports: vec![port], endpoints: vec![endpoint] };
        netd.shared.publisher.update(|inputs| {
            inputs.services.insert(key.clone(), service);
            inputs.slices.insert(key, slice);
        });
    }

    fn udp(from: (Ipv4Addr, u16), to: (Ipv4Addr, u16), payload: &[u8]) -> Vec<u8> {
        let mut packet = Vec::new();
        let builder = PacketBuilder::ipv4(from.0.octets(), to.0.octets(), 64).udp(from.1, to.1);
        builder.write(&mut packet, payload).expect("a packet");
        packet
    }

    /// Source and destination of the next packet.
    fn next(wire: &mut UnixStream) -> ((Ipv4Addr, u16), (Ipv4Addr, u16)) {
        let mut storage = [0; 2048];
        let length = wire.read(&mut storage).expect("a packet before the deadline");
        let packet = SlicedPacket::from_ip(&storage[..length]).expect("well formed");
        let (Some(etherparse::NetSlice::Ipv4(ip)), Some(etherparse::TransportSlice::Udp(udp))) =
            (packet.net, packet.transport)
        else {
            panic!("no UDP over IPv4")
        };
        let (source, destination) = (ip.header().source_addr(), ip.header().destination_addr());
        ((source, udp.source_port()), (destination, udp.destination_port()))
    }

    fn netd() -> Netd {
        start(false)
    }

    fn start(offload: bool) -> Netd {
        let net = |text: &str| text.parse().expect("a range");
        let config = Config::new(vec![net("10.96.0.0/16")], vec![net("10.244.0.0/16")]);
        Netd::start(Config { offload, ..config }).expect("started")
    }

    // D-002, D-039
    #[test]
    fn a_datagram_goes_to_the_endpoint_and_its_answer_comes_from_the_virtual_address() {
        let netd = netd();
        let ((mut client, _), (mut backend, _)) = (link(&netd, CLIENT), link(&netd, BACKEND));
        publish_service(&netd);
        client.write_all(&udp((CLIENT, 4000), (VIP, 80), b"ping")).expect("sent");
        assert_eq!(next(&mut backend), ((CLIENT, 4000), (BACKEND, 8080)), "the backend sees the client's own address");
        backend.write_all(&udp((BACKEND, 8080), (CLIENT, 4000), b"pong")).expect("sent");
        assert_eq!(next(&mut client), ((VIP, 80), (CLIENT, 4000)), "the client sees the address it asked");
        assert_eq!(netd.flows(10, |_| true).current.len(), 1);
        assert_eq!(netd.stats().translator.forwarded, 2);
        netd.shutdown();
    }

    #[test]
    fn what_is_observed_has_the_names_of_who_takes_part() {
        use crate::observe::{self, FlowQuery, NameMatch, PlaceKind, ServicePortQuery};
        let netd = netd();
        let ((mut client, _), (mut backend, port)) = (link(&netd, CLIENT), link(&netd, BACKEND));
        publish_service(&netd);
        client.write_all(&udp((CLIENT, 4000), (VIP, 80), b"ping")).expect("sent");
        next(&mut backend);
        client.write_all(&udp((CLIENT, 4001), (BACKEND, 9000), b"direct")).expect("sent");
        next(&mut backend);
        let all = FlowQuery { clients: vec![], service: None, pod: None, node: None, port: None, limit: 10 };
        let ports = |query: &FlowQuery| -> Vec<u16> {
            observe::flows(&netd, query).iter().map(|flow| flow.client.port()).collect()
        };
        assert_eq!(ports(&all), [4000, 4001], "the oldest first");
        assert_eq!(ports(&FlowQuery { limit: 1, ..all.clone() }), [4001], "the newest are kept");
        let name = |text: &str| Some(NameMatch::parse(text));
        assert_eq!(ports(&FlowQuery { service: name("web"), ..all.clone() }), [4000]);
        assert_eq!(ports(&FlowQuery { service: name("other/web"), ..all.clone() }), [0; 0]);
        assert_eq!(ports(&FlowQuery { port: Some(9000), ..all.clone() }), [4001]);
        assert_eq!(ports(&FlowQuery { port: Some(8080), ..all.clone() }), [4000], "the endpoint's counts too");
        assert_eq!(ports(&FlowQuery { node: Some("node-1".into()), ..all.clone() }), [4000, 4001]);
        let client = "10.244.0.2:4001".parse().expect("an address");
        assert_eq!(ports(&FlowQuery { clients: vec![client], ..all.clone() }), [4001]);
        let ports_of_web = observe::service_ports(&netd, &ServicePortQuery::default());
        let endpoint = &ports_of_web[0].endpoints[0];
        assert_eq!((endpoint.flows, endpoint.packets, endpoint.bytes, endpoint.candidate), (1, (1, 0), (32, 0), true));
        assert_eq!(endpoint.at.as_ref().map(|at| at.name.as_str()), Some("10.244.0.3"));
        let frontends = observe::frontends(&netd);
        assert_eq!(frontends[0].candidates, ["10.244.0.3:8080".parse().expect("an address")]);
        netd.detach(port);
        let deadline = Instant::now() + Duration::from_secs(10);
        let of_backend = FlowQuery { pod: name("10.244.0.3"), ..all };
        loop {
            let flows = observe::flows(&netd, &of_backend);
            if flows.len() == 2 && flows.iter().all(|flow| flow.state == "Severed") {
                let to = flows[0].to.as_ref().expect("still known by name");
                assert_eq!((to.kind, to.gone), (PlaceKind::Pod, true));
                break;
            }
            assert!(Instant::now() < deadline, "{flows:?}");
            std::thread::yield_now();
        }
        netd.shutdown();
    }

    #[test]
    fn a_link_that_is_let_go_is_closed_and_no_longer_routed_to() {
        let netd = netd();
        let ((mut client, _), (mut backend, port)) = (link(&netd, CLIENT), link(&netd, BACKEND));
        client.write_all(&udp((CLIENT, 4000), (BACKEND, 8080), b"direct")).expect("sent");
        assert_eq!(next(&mut backend), ((CLIENT, 4000), (BACKEND, 8080)));
        netd.detach(port);
        assert_eq!(backend.read(&mut [0; 16]).expect("closed, not timed out"), 0, "end of file");
        let deadline = Instant::now() + Duration::from_secs(10);
        let to_backend = |flow: &FlowRecord| flow.endpoint.ip() == IpAddr::V4(BACKEND);
        while netd.flows(10, to_backend).severed.len() != 1 {
            assert!(Instant::now() < deadline, "the flow is severed, and remembered as such");
            std::thread::yield_now();
        }
        assert!(netd.flows(10, to_backend).current.is_empty());
        client.write_all(&udp((CLIENT, 4001), (BACKEND, 8080), b"nobody")).expect("sent");
        let deadline = Instant::now() + Duration::from_secs(10);
        while netd.stats().translator.packets < 2 && Instant::now() < deadline {
            std::thread::yield_now();
        }
        assert_eq!(netd.stats().translator.forwarded, 1);
        netd.shutdown();
        let mut rest = [0; 2048];
        while client.read(&mut rest).expect("closed, not timed out") > 0 {}
    }

    /// What comes out of a wire with offload: the header, and the packet after it.
    fn next_frame(wire: &mut UnixStream) -> ([u8; 10], Vec<u8>) {
        let mut storage = [0; 65_600];
        let length = wire.read(&mut storage).expect("a packet before the deadline");
        let (header, packet) = storage[..length].split_first_chunk::<10>().expect("a header");
        (*header, packet.to_vec())
    }

    #[test]
    fn a_packet_that_is_still_to_be_cut_passes_whole_and_with_its_header() {
        let netd = start(true);
        let ((mut client, _), (mut backend, _)) = (link(&netd, CLIENT), link(&netd, BACKEND));
        publish_service(&netd);
        let payload: Vec<u8> = (0..60_000u32).map(|n| n.to_be_bytes()[3]).collect();
        let mut packet = udp((CLIENT, 4000), (VIP, 80), &payload);
        // As the kernel leaves it: the sum of the pseudo-header, to be completed over what begins at byte 20.
        let sum = |dst: Ipv4Addr| {
            let words = [CLIENT, dst].map(Ipv4Addr::to_bits).map(|bits| (bits >> 16) + (bits & 0xffff));
            let mut sum = words[0] + words[1] + 17 + 60_008;
            while sum > 0xffff {
                sum = (sum >> 16) + (sum & 0xffff);
            }
            u16::try_from(sum).expect("folded").to_be_bytes()
        };
        packet[26..28].copy_from_slice(&sum(VIP));
        // Needs a checksum; UDP to be cut into pieces of 1400; 28 bytes of headers; the field is at 20 + 6.
        let header = [1, 5, 28, 0, 0x78, 5, 20, 0, 6, 0];
        client.write_all(&[&header[..], &packet].concat()).expect("sent");
        let (arrived, packet) = next_frame(&mut backend);
        assert_eq!(arrived, header);
        assert_eq!((&packet[16..20], &packet[28..]), (&BACKEND.octets()[..], &payload[..]));
        assert_eq!(packet[26..28], sum(BACKEND), "addresses count, ports do not");
        netd.shutdown();
    }

    #[test]
    fn an_answer_to_a_packet_that_is_still_to_be_cut_is_complete() {
        let netd = start(true);
        let (mut client, _) = link(&netd, CLIENT);
        let packet = udp((CLIENT, 4000), (BACKEND, 80), &[7; 3000]);
        client.write_all(&[&[1, 5, 28, 0, 0x78, 5, 20, 0, 6, 0][..], &packet].concat()).expect("sent");
        let (header, error) = next_frame(&mut client);
        assert_eq!(header, [0; 10]);
        let packet = SlicedPacket::from_ip(&error).expect("well formed");
        assert!(matches!(packet.transport, Some(etherparse::TransportSlice::Icmpv4(_))), "{packet:?}");
        netd.shutdown();
    }

    #[test]
    fn a_fragment_that_had_to_wait_comes_with_a_header_of_its_own() {
        let netd = start(true);
        let ((mut client, _), (mut backend, _)) = (link(&netd, CLIENT), link(&netd, BACKEND));
        let whole = udp((CLIENT, 4000), (BACKEND, 80), &[7; 2000]);
        let fragment = |body: &[u8], offset: u16, more: bool| {
            let mut header = etherparse::Ipv4Header::from_slice(&whole).expect("IPv4").0;
            header.set_payload_len(body.len()).expect("it fits");
            (header.identification, header.dont_fragment, header.more_fragments) = (9, false, more);
            header.fragment_offset = etherparse::IpFragOffset::try_new(offset / 8).expect("it fits");
            header.header_checksum = header.calc_header_checksum();
            [&[0; 10][..], &header.to_bytes(), body].concat()
        };
        let (first, rest) = whole[20..].split_at(1200);
        client.write_all(&fragment(rest, 1200, false)).expect("sent");
        client.write_all(&fragment(first, 0, true)).expect("sent");
        let mut arrived = [next_frame(&mut backend), next_frame(&mut backend)].map(|(header, packet)| {
            assert_eq!(header, [0; 10]);
            packet.len() - 20
        });
        arrived.sort_unstable();
        assert_eq!(arrived, [808, 1200]);
        netd.shutdown();
    }
}
