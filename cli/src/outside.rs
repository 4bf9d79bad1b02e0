//! A lab's ways out and in: the relay for what is outside, and the ports that this machine reaches without entering.
//!
//! Called by `lab.rs` alone; what it joins are the data plane and the namespaces that the sandbox makes.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;

use kube::Client;
use minisvc_apiserver::ByteStream;
use minisvc_netd::{Dialer, LinkRole, Netd, PublishConfig, Published, RelaySockets};
use minisvc_sandbox::{Namespace, Sandbox};
use tokio::net::{TcpStream, UdpSocket};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::addresses::FamilyPlan;
use crate::args::Publish;
use crate::config::LabConfig;
use crate::error::{CliError, Context as _};
use crate::home::LabHome;
use crate::lab::{attach, make_namespace};
use crate::wires::Wires;

/// What this machine is called inside a lab.
const MACHINE_NAME: &str = "host.minisvc.internal";

/// The port on which the relay listens in its own namespace. Nobody else is there.
const RELAY_PORT: u16 = 1;

/// Names of the lab that are no cluster names.
pub(crate) fn names(config: &LabConfig) -> Vec<(String, Vec<IpAddr>)> {
    if config.egress { vec![(MACHINE_NAME.to_owned(), config.addresses.each(FamilyPlan::machine))] } else { Vec::new() }
}

/// Lets this process have as many descriptors as it may: each connection that is passed on takes two. Processes of the lab are
/// not children of this one and keep the usual limit, which some programs count on.
pub(crate) fn raise_descriptor_limit() {
    use nix::sys::resource::{Resource, getrlimit, setrlimit};
    let raised =
        getrlimit(Resource::RLIMIT_NOFILE).and_then(|(_, hard)| setrlimit(Resource::RLIMIT_NOFILE, hard, hard));
    if let Err(error) = raised {
        tracing::debug!(%error, "the limit on descriptors stays");
    }
}

/// What ways out and in are built of.
pub(crate) struct Surroundings<'a> {
    pub(crate) config: &'a LabConfig,
    pub(crate) sandbox: &'a Sandbox,
    pub(crate) netd: &'a Netd,
    pub(crate) wires: Wires,
    pub(crate) shutdown: &'a CancellationToken,
}

impl Surroundings<'_> {
    /// Connects the lab to what is outside, if it is to be; the namespace must be kept.
    ///
    /// # Errors
    /// When the relay's place in the lab cannot be made.
    pub(crate) async fn start_relay(&self, tasks: &mut JoinSet<()>) -> Result<Option<Namespace>, CliError> {
        if !self.config.egress {
            return Ok(None);
        }
        let addresses = self.config.addresses.each(FamilyPlan::machine);
        let role = LinkRole::Relay { listen: RELAY_PORT };
        let place = self.make_place("relay", &addresses, role).await?;
        let doing = || "the relay cannot listen".to_owned();
        let (mut tcp, mut udp) = (Vec::new(), Vec::new());
        for address in &addresses {
            let at = SocketAddr::new(*address, RELAY_PORT);
            tcp.push(place.listen_tcp(at).await.context(doing)?);
            udp.push(place.bind_udp(at).await.context(doing)?);
        }
        let (netd, shutdown) = (self.netd.clone(), self.shutdown.clone());
        tasks.spawn(async move { netd.relay(RelaySockets { addresses, tcp, udp }, shutdown).await });
        Ok(Some(place))
    }

    /// Publishes Services on this machine, if they are to be; the namespace must be kept.
    ///
    /// # Errors
    /// When the place that they are used from cannot be made.
    pub(crate) async fn start_publisher(
        &self,
        client: Client,
        home: &LabHome,
        tasks: &mut JoinSet<()>,
    ) -> Result<Option<Namespace>, CliError> {
        if self.config.publish == Publish::None {
            return Ok(None);
        }
        let own = self.config.addresses.each(FamilyPlan::publisher);
        let place = self.make_place("publisher", &own, LinkRole::Workstation).await?;
        let nodes = self.config.nodes.iter();
        let config = PublishConfig {
            all: self.config.publish == Publish::All,
            address: self.config.publish_address,
            nodes: nodes.filter_map(|node| Some((node.name.clone(), *node.addresses.first()?))).collect(),
        };
        let dialer = Arc::new(FromPlace(place.clone()));
        let (home, shutdown) = (home.clone(), self.shutdown.clone());
        let report = move |published: &[Published]| {
            if let Err(error) = home.write_published(published) {
                tracing::warn!(%error, "what is published cannot be written down");
            }
        };
        tasks.spawn(async move { minisvc_netd::publish(client, config, dialer, report, shutdown).await });
        Ok(Some(place))
    }

    async fn make_place(&self, name: &str, addresses: &[IpAddr], role: LinkRole) -> Result<Namespace, CliError> {
        let place = make_namespace(self.sandbox, name, addresses).await?;
        let device = place.open_tun(self.wires.spec(addresses.to_vec())).await;
        let device = device.context(|| format!("cannot make the {name}'s network"))?;
        attach(self.netd, name, device, addresses.to_vec(), role);
        Ok(place)
    }
}

/// Sockets of a namespace.
pub(crate) struct FromPlace(pub(crate) Namespace);

#[async_trait::async_trait]
impl Dialer for FromPlace {
    async fn connect(&self, target: SocketAddr) -> io::Result<TcpStream> {
        self.0.connect_tcp(target).await
    }

    async fn connect_udp(&self, target: SocketAddr) -> io::Result<UdpSocket> {
        let any: IpAddr = match target {
            SocketAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
            SocketAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
        };
        let socket = self.0.bind_udp(SocketAddr::new(any, 0)).await?;
        socket.connect(target).await?;
        Ok(socket)
    }
}

#[async_trait::async_trait]
impl minisvc_apiserver::Dialer for FromPlace {
    async fn connect(&self, target: SocketAddr) -> io::Result<Box<dyn ByteStream>> {
        Ok(Box::new(self.0.connect_tcp(target).await?))
    }
}
