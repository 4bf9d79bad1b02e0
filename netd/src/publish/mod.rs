//! Services on this machine without entering the lab: a listener of the machine for each port, and an ordinary connection
//! from a client of the lab's own to the virtual address behind it.
//!
//! It follows Services and owns the listeners. Which port listens where is decided in `plan`; which endpoint answers is, as
//! for every other client, the translator's to decide.

mod plan;
mod tcp;
mod udp;

use std::collections::BTreeMap;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt as _;
use k8s_openapi::api::core::v1::{ObjectReference, Service};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use kube::api::ListParams;
use kube::runtime::WatchStreamExt as _;
use kube::runtime::events::{Event as Note, EventType, Recorder, Reporter};
use kube::runtime::watcher::{self, Event};
use kube::{Api, Client, Resource as _, ResourceExt as _};
use serde::Serialize;
use tokio::net::{TcpListener, TcpStream, UdpSocket};
use tokio::task::AbortHandle;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use plan::{Exposure, Wanted, exposures};

/// Ports published at once. Further ones are left out until others go, and the log says so.
const LIMIT: usize = 4096;

/// How long connections may take to notice that the lab goes down.
const CLOSE_WITHIN: Duration = Duration::from_secs(2);

/// Which Services are published, and where.
#[derive(Debug, Clone)]
pub struct PublishConfig {
    /// Every Service, not only node ports and load balancers.
    pub all: bool,
    /// Where to listen; `None` is 127.0.0.1 for node ports, and for other addresses the one in 127.0.0.0/8 that mirrors them.
    pub address: Option<IpAddr>,
    /// Names and addresses of the nodes.
    pub nodes: Vec<(String, IpAddr)>,
}

/// Opens sockets at the place in the lab that published ports come from.
#[async_trait::async_trait]
pub trait Dialer: Send + Sync {
    /// Connects to an address of the lab.
    async fn connect(&self, target: SocketAddr) -> io::Result<TcpStream>;
    /// A socket that sends to an address of the lab, and takes from it only.
    async fn connect_udp(&self, target: SocketAddr) -> io::Result<UdpSocket>;
}

/// A port that this machine reaches.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Published {
    /// Namespace of the Service.
    pub namespace: String,
    /// Name of the Service.
    pub service: String,
    /// `TCP` or `UDP`.
    pub protocol: &'static str,
    /// The address and port in the lab.
    pub target: SocketAddr,
    /// Where it should be on this machine.
    pub wanted: SocketAddr,
    /// Where it is: the port is another one if that was taken, or is reserved for root.
    pub address: SocketAddr,
}

/// What every published port needs.
struct Shared {
    client: Client,
    dialer: Arc<dyn Dialer>,
    config: PublishConfig,
    connections: TaskTracker,
    shutdown: CancellationToken,
}

/// A port that listens until it is dropped. Its connections go on.
struct Running {
    published: Published,
    task: AbortHandle,
}

impl Drop for Running {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Publishes Services until `shutdown`; `report` is told of every change, with all that is published.
pub async fn publish(
    client: Client,
    config: PublishConfig,
    dialer: Arc<dyn Dialer>,
    report: impl Fn(&[Published]) + Send,
    shutdown: CancellationToken,
) {
    let connections = TaskTracker::new();
    let shared = Shared { client: client.clone(), dialer, config, connections, shutdown: shutdown.clone() };
    let mut publisher = Publisher {
        recorder: Recorder::new(client.clone(), Reporter { controller: "minisvc".to_owned(), instance: None }),
        shared: Arc::new(shared),
        wishes: BTreeMap::new(),
        running: BTreeMap::new(),
    };
    let services = watcher::watcher(Api::<Service>::all(client), watcher::Config::default());
    let mut events = std::pin::pin!(services.default_backoff());
    let mut listing = BTreeMap::new();
    loop {
        let event = tokio::select! {
            () = shutdown.cancelled() => break,
            event = events.next() => event,
        };
        match event {
            Some(Ok(Event::Init)) => listing.clear(),
            Some(Ok(Event::InitApply(service))) => {
                if let Some(wish) = publisher.wish(&service) {
                    listing.insert(key_of(&service), wish);
                }
                // Complete only with the end of the list.
                continue;
            }
            Some(Ok(Event::InitDone)) => publisher.wishes = std::mem::take(&mut listing),
            Some(Ok(Event::Apply(service))) => {
                let (key, wish) = (key_of(&service), publisher.wish(&service));
                if wish.as_ref() == publisher.wishes.get(&key) {
                    continue;
                }
                match wish {
                    Some(wish) => publisher.wishes.insert(key, wish),
                    None => publisher.wishes.remove(&key),
                };
            }
            Some(Ok(Event::Delete(service))) => {
                if publisher.wishes.remove(&key_of(&service)).is_none() {
                    continue;
                }
            }
            Some(Err(error)) => tracing::debug!(%error, "the watch of Services broke off and is resumed"),
            None => break,
        }
        if publisher.settle().await {
            report(&publisher.published());
        }
    }
    publisher.running.clear();
    publisher.shared.connections.close();
    // Who does not notice in time is dropped with the runtime.
    let _ = tokio::time::timeout(CLOSE_WITHIN, publisher.shared.connections.wait()).await;
}

type Key = (String, String);

fn key_of(service: &Service) -> Key {
    (service.namespace().unwrap_or_default(), service.name_any())
}

/// What is to be published of a Service, and how Events refer to it.
#[derive(Debug, Clone, PartialEq)]
struct Wish {
    exposures: Vec<Exposure>,
    reference: ObjectReference,
}

struct Publisher {
    recorder: Recorder,
    shared: Arc<Shared>,
    /// Of the Services that want something: most want nothing.
    wishes: BTreeMap<Key, Wish>,
    running: BTreeMap<Exposure, Running>,
}

impl Publisher {
    fn published(&self) -> Vec<Published> {
        self.running.values().map(|running| running.published.clone()).collect()
    }

    fn wish(&self, service: &Service) -> Option<Wish> {
        let exposures = exposures(service, &self.shared.config);
        (!exposures.is_empty()).then(|| Wish { exposures, reference: service.object_ref(&()) })
    }

    /// Ends and starts listeners until they are what the Services want. Whether anything changed.
    async fn settle(&mut self) -> bool {
        let wanted: BTreeMap<Exposure, ObjectReference> = self
            .wishes
            .values()
            .flat_map(|wish| wish.exposures.iter().map(|exposure| (exposure.clone(), wish.reference.clone())))
            .take(LIMIT)
            .collect();
        if wanted.len() == LIMIT {
            tracing::warn!(LIMIT, "no more ports than these are published");
        }
        let before = self.running.len();
        self.running.retain(|exposure, _| wanted.contains_key(exposure));
        let mut changed = self.running.len() != before;
        for (exposure, reference) in wanted {
            if self.running.contains_key(&exposure) {
                continue;
            }
            match self.start(&exposure).await {
                Ok(running) => {
                    self.tell(&reference, &running.published).await;
                    self.running.insert(exposure, running);
                    changed = true;
                }
                Err(error) => {
                    let wanted = exposure.listen;
                    tracing::warn!(%error, service = exposure.service, %wanted, "a port cannot be published");
                    let note = format!("cannot listen at {wanted} on this machine: {error}");
                    self.note(&reference, EventType::Warning, "PublishFailed", note).await;
                }
            }
        }
        changed
    }

    async fn start(&self, exposure: &Exposure) -> io::Result<Running> {
        let (shared, of) = (Arc::clone(&self.shared), exposure.clone());
        let (address, task) = match exposure.protocol {
            Wanted::Tcp => {
                let listener = or_any_port(exposure.listen, TcpListener::bind).await?;
                (listener.local_addr()?, tokio::spawn(tcp::serve(listener, of, shared)))
            }
            Wanted::Udp => {
                let socket = or_any_port(exposure.listen, UdpSocket::bind).await?;
                (socket.local_addr()?, tokio::spawn(udp::serve(socket, of, shared)))
            }
        };
        let published = Published {
            namespace: exposure.namespace.clone(),
            service: exposure.service.clone(),
            protocol: exposure.protocol.as_str(),
            target: exposure.target,
            wanted: exposure.listen,
            address,
        };
        Ok(Running { published, task: task.abort_handle() })
    }

    /// Says on the Service where a port is that is not where one would look for it.
    async fn tell(&self, service: &ObjectReference, published: &Published) {
        let Published { wanted, address, target, protocol, .. } = published;
        tracing::info!(service = published.service, %address, %target, protocol, "published");
        if wanted != address {
            let note =
                format!("{wanted} cannot be used on this machine: {target} ({protocol}) is published at {address}");
            self.note(service, EventType::Normal, "PublishedElsewhere", note).await;
        }
    }

    async fn note(&self, service: &ObjectReference, type_: EventType, reason: &str, note: String) {
        let (reason, action) = (reason.to_owned(), "Publish".to_owned());
        let event = Note { type_, reason, note: Some(note), action, secondary: None };
        if let Err(error) = self.recorder.publish(&event, service).await {
            tracing::debug!(%error, "event not written");
        }
    }
}

/// Listens at an address, or at another port of it when that one is taken or reserved for root.
async fn or_any_port<S, F>(wanted: SocketAddr, bind: impl Fn(SocketAddr) -> F) -> io::Result<S>
where
    F: Future<Output = io::Result<S>>,
{
    match bind(wanted).await {
        Err(error) if matches!(error.kind(), io::ErrorKind::AddrInUse | io::ErrorKind::PermissionDenied) => {
            bind(SocketAddr::new(wanted.ip(), 0)).await
        }
        result => result,
    }
}

impl Shared {
    /// Where a new connection goes: for a node port that only serves endpoints of its own node, a node that has some.
    ///
    /// # Errors
    /// `ConnectionRefused` if there is none, as a load balancer without a healthy node would say (S-141).
    async fn target(&self, exposure: &Exposure) -> io::Result<SocketAddr> {
        if !exposure.local_only || self.config.nodes.len() < 2 {
            return Ok(exposure.target);
        }
        let slices = Api::<EndpointSlice>::namespaced(self.client.clone(), &exposure.namespace);
        let mine = ListParams::default().labels(&format!("kubernetes.io/service-name={}", exposure.service));
        let slices = slices.list(&mine).await.map_err(io::Error::other)?;
        let with_endpoints: Vec<&str> = slices
            .items
            .iter()
            .flat_map(|slice| slice.endpoints.iter().flatten())
            .filter(|endpoint| endpoint.conditions.as_ref().and_then(|conditions| conditions.ready).unwrap_or(true))
            .filter_map(|endpoint| endpoint.node_name.as_deref())
            .collect();
        let mut nodes = self.config.nodes.iter().filter(|(name, _)| with_endpoints.contains(&name.as_str()));
        let (_, address) = nodes.next().ok_or(io::ErrorKind::ConnectionRefused)?;
        Ok(SocketAddr::new(*address, exposure.target.port()))
    }
}
