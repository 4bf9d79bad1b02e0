//! What nodes answer to load balancers that ask for their health (section 13 of the statements), by plain HTTP in each node's
//! own network: at the health check port of each Service that wants one, and at a port for the node itself.
//!
//! It owns the listeners. What is true is in [`plan`], made with each table; what an answer looks like is in [`answer`].

mod answer;
mod plan;
mod pulse;
mod serve;

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::core::v1::Service;
use kube::runtime::events::{Event, EventType, Recorder, Reporter};
use kube::{Api, Client, Resource as _};
use minisvc_translator::PortId;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;

pub(crate) use answer::Subject;
pub(crate) use plan::Health;
pub(crate) use pulse::Pulse;

/// Where a node says how it is (D-103).
const NODE_PORT: u16 = 10_256;

/// Where it says what its proxy is, to itself only (D-103).
const MODE_PORT: u16 = 10_249;

/// A port that could not be had is tried again after this long, if nothing else changes before.
const TRY_AGAIN: Duration = Duration::from_secs(10);

/// Opens sockets in the network of a node.
#[async_trait::async_trait]
pub trait NodeSockets: Send + Sync {
    /// Listens at an address of the node's network.
    ///
    /// # Errors
    /// What bind(2) says, or that there is no such node.
    async fn listen(&self, node: &str, address: SocketAddr) -> io::Result<TcpListener>;
}

/// One listener: in which life of which node, where, and what it tells.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Wanted {
    node: Arc<str>,
    /// Another one when the node has come back, with another network.
    link: PortId,
    address: SocketAddr,
    subject: Subject,
}

/// Serves until `shutdown`.
pub(crate) async fn run(
    sockets: Arc<dyn NodeSockets>,
    client: Client,
    mut health: watch::Receiver<Arc<Health>>,
    pulse: Arc<Pulse>,
    shutdown: CancellationToken,
) {
    let reporter = Reporter { controller: "minisvc".to_owned(), instance: None };
    let recorder = Recorder::new(client.clone(), reporter);
    let state = serve::State { health: health.clone(), pulse };
    let mut running: BTreeMap<Wanted, Option<AbortOnDropHandle<()>>> = BTreeMap::new();
    loop {
        let now = Arc::clone(&health.borrow_and_update());
        let wanted = wanted(&now);
        // D-102: what is no longer wanted is closed first, as another may want its port.
        running.retain(|one, _| wanted.contains(one));
        let mut failed = false;
        for one in wanted {
            if matches!(running.get(&one), Some(Some(_))) {
                continue;
            }
            match sockets.listen(&one.node, one.address).await {
                Ok(listener) => {
                    let serving = serve::serve(listener, Arc::clone(&one.node), one.subject.clone(), state.clone());
                    running.insert(one, Some(AbortOnDropHandle::new(tokio::spawn(serving))));
                }
                Err(error) => {
                    failed = true;
                    // Once for each time that it is wanted.
                    if let Entry::Vacant(place) = running.entry(one) {
                        tell(&client, &recorder, place.key(), &error).await;
                        place.insert(None);
                    }
                }
            }
        }
        let again = async { if failed { tokio::time::sleep(TRY_AGAIN).await } else { std::future::pending().await } };
        tokio::select! {
            () = shutdown.cancelled() => return,
            changed = health.changed() => if changed.is_err() { return },
            () = again => {}
        }
    }
}

/// The listeners there should be.
fn wanted(health: &Health) -> Vec<Wanted> {
    let mut all = Vec::new();
    for (node, state) in &health.nodes {
        let mut add = |address: SocketAddr, subject: Subject| {
            all.push(Wanted { node: Arc::clone(node), link: state.link, address, subject });
        };
        // A socket of IPv6 takes what is sent to addresses of IPv4 as well.
        let everywhere = |port| match state.ipv6 {
            true => SocketAddr::from((Ipv6Addr::UNSPECIFIED, port)),
            false => SocketAddr::from((Ipv4Addr::UNSPECIFIED, port)),
        };
        add(everywhere(NODE_PORT), Subject::Node);
        add(SocketAddr::from((Ipv4Addr::LOCALHOST, MODE_PORT)), Subject::Mode);
        for (service, checked) in &health.services {
            add(everywhere(checked.port), Subject::Service(service.clone()));
        }
    }
    all
}

/// D-101: says on the Service that a node does not answer for it. Everything else goes on.
async fn tell(client: &Client, recorder: &Recorder, wanted: &Wanted, error: &io::Error) {
    let Wanted { node, address, subject, .. } = wanted;
    tracing::warn!(%error, %node, %address, ?subject, "a node cannot answer for its health");
    let Subject::Service(key) = subject else { return };
    let services = Api::<Service>::namespaced(client.clone(), &key.namespace);
    let note = format!("node {node} cannot listen on the health check port {}: {error}", address.port());
    let told = async {
        let Some(service) = services.get_opt(&key.name).await? else { return Ok(()) };
        let (reason, action) = ("FailedToStartServiceHealthcheck".to_owned(), "Listening".to_owned());
        let event = Event { type_: EventType::Warning, reason, note: Some(note), action, secondary: None };
        recorder.publish(&event, &service.object_ref(&())).await
    };
    if let Err(error) = told.await {
        tracing::debug!(%error, "event not written");
    }
}

#[cfg(test)]
mod tests {
    use super::plan::{NodeHealth, ServiceHealth};
    use super::*;
    use crate::records::ObjectKey;

    // D-098, D-103
    #[test]
    fn every_node_listens_on_all_its_addresses_for_itself_and_for_each_service() {
        let node = |link, ipv6| NodeHealth { link: PortId(link), ipv6, leaving: false };
        let service = ServiceHealth { port: 32_000, ready: BTreeMap::new() };
        let health = Health {
            nodes: BTreeMap::from([("a".into(), node(1, false)), ("b".into(), node(2, true))]),
            services: BTreeMap::from([(ObjectKey::new(Some("n"), Some("web")), service)]),
        };
        let shown: Vec<String> = wanted(&health).iter().map(|one| format!("{} {}", one.node, one.address)).collect();
        assert_eq!(
            shown,
            [
                "a 0.0.0.0:10256",
                "a 127.0.0.1:10249",
                "a 0.0.0.0:32000",
                "b [::]:10256",
                "b 127.0.0.1:10249",
                "b [::]:32000"
            ]
        );
    }
}
