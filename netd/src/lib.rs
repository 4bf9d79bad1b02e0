//! The data plane: moves packets between the namespaces of a lab through the translator.
//!
//! It owns the devices, the worker thread, and the table that it builds from Services, EndpointSlices, Nodes and the
//! links it was given. It makes no namespace and opens no TUN (that is `sandbox`), and it decides nothing about a packet
//! (that is `netd/translator`).

mod announce;
mod claims;
mod closers;
mod device;
mod fault;
mod health;
mod look;
pub mod observe;
mod publish;
mod publisher;
mod records;
mod relay;
mod table;
mod trace;
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
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;

pub use crate::claims::{Claimant, Clash, Holder, HostPort, HostPorts};
pub use crate::fault::FaultCounts;
pub use crate::health::NodeSockets;
use crate::observe::{Clocks, Places};
pub use crate::publish::{Dialer, PublishConfig, Published, publish};
use crate::publisher::Publisher;
pub use crate::relay::{RelaySockets, RelayStats};
pub use crate::table::LinkRole;
use crate::table::{Inputs, LinkRecord, Ranges};
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
    places: Arc<Mutex<Places>>,
    /// How many may look on at once.
    onlookers: Arc<Semaphore>,
    clocks: Mutex<Clocks>,
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
        let ranges = Ranges { services: config.service_cidrs, pods: config.pod_cidrs, own: config.own_cidrs };
        let table = Arc::new(ArcSwap::from_pointee(ServiceTable::new()));
        let (worker, mailbox) = Worker::new(Translator::new(limits.clone()), Arc::clone(&table), config.offload)?;
        let publisher = Arc::new(Publisher::new(Inputs::new(ranges), table, mailbox.clone()));
        publisher.update(|_| ());
        let thread = std::thread::Builder::new().name("netd".into()).spawn(move || worker.run())?;
        let shared = Shared {
            publisher,
            mailbox,
            next_port: AtomicU32::new(0),
            relay: Arc::default(),
            thread: Mutex::new(Some(thread)),
            places: Arc::default(),
            onlookers: Arc::new(Semaphore::new(observe::MAX_TRACES)),
            clocks: Mutex::new(Clocks::read()),
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
        self.shared.publisher.update(|inputs| inputs.attach(port, record));
        port
    }

    /// Lets go of a TUN; its interface vanishes shortly after. Unknown ports are ignored.
    pub fn detach(&self, port: PortId) {
        self.shared.publisher.update(|inputs| inputs.detach(port));
        self.shared.places.lock().unwrap_or_else(PoisonError::into_inner).remove(port);
        self.shared.mailbox.send(Command::Detach(port));
    }

    /// Has a node and its pods fall silent, as when its machine loses power: what is sent to them is lost and nobody is told,
    /// and its nodePorts are no more. Their devices are closed.
    pub fn power_off(&self, node: &str) {
        let links = self.shared.publisher.update(|inputs| {
            inputs.switch(node, false);
            inputs.links_of(node)
        });
        for port in links {
            self.shared.mailbox.send(Command::Detach(port));
        }
    }

    /// Forgets what a node had before it lost power; to be called before it is attached again. What was connected to it is
    /// told that it is not any more.
    pub fn power_on(&self, node: &str) {
        let links = self.shared.publisher.update(|inputs| {
            inputs.switch(node, true);
            let links = inputs.links_of(node);
            links.iter().for_each(|&port| inputs.detach(port));
            links
        });
        let mut places = self.shared.places.lock().unwrap_or_else(PoisonError::into_inner);
        for port in links {
            places.remove(port);
            // One may have come while the power went.
            self.shared.mailbox.send(Command::Detach(port));
        }
    }

    /// Follows the Faults of the API until `shutdown`: packets come late, wrong or not at all, as they say, for as long as they
    /// say.
    pub async fn follow_faults(&self, client: Client, shutdown: CancellationToken) {
        fault::follow(self.clone(), client, shutdown).await;
    }

    /// Follows Services, EndpointSlices and Nodes of the API until `shutdown`, and writes Events about claims that are refused.
    /// The data plane goes on without the API, with the last table (D-131).
    pub async fn follow(&self, client: Client, shutdown: CancellationToken) {
        let publisher = &self.shared.publisher;
        let told = announce::run(client.clone(), publisher.follow_clashes(), shutdown.clone());
        let followed = watch::follow(client, Arc::clone(publisher), shutdown);
        tokio::join!(told, followed);
    }

    /// Has nodes answer those who ask for their health, with sockets of their own, until `shutdown`.
    pub async fn serve_health(&self, sockets: Arc<dyn NodeSockets>, client: Client, shutdown: CancellationToken) {
        let Shared { publisher, mailbox, .. } = &*self.shared;
        health::run(sockets, client, publisher.health(), mailbox.pulse(), shutdown).await;
    }

    /// Passes flows to the outside on with ordinary sockets of this machine, until `shutdown`.
    ///
    /// The relay needs a place in the lab, attached as [`LinkRole::Relay`], and listens there with the sockets in `inner`.
    pub async fn relay(&self, inner: RelaySockets, shutdown: CancellationToken) {
        relay::run(self.shared.mailbox.clone(), inner, Arc::clone(&self.shared.relay), shutdown).await;
    }

    /// What the relay has counted so far.
    pub fn relay_stats(&self) -> RelayStats {
        self.shared.relay.read()
    }

    /// How times of the worker are told.
    pub(crate) fn clocks(&self) -> Clocks {
        let mut clocks = self.shared.clocks.lock().unwrap_or_else(PoisonError::into_inner);
        *clocks = clocks.or_newer();
        *clocks
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
mod tests;
