//! The one file that wires: it starts the parts of a lab in order, hands them to each other, and takes them down.
//!
//! Nothing is decided here. What a lab looks like is in `config.rs`; what the parts do is theirs.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::core::v1::{Node, ServiceAccount};
use kube::runtime::wait::await_condition;
use kube::{Api, Client};
use minisvc_apiserver::{ApiServer, Identity};
use minisvc_netd::{Link, LinkRole, Netd};
use minisvc_podd::{ExecSpec, NodeConfig, Podd};
use minisvc_sandbox::{
    Credentials, ExitStatus, LaunchOptions, Mount, MountSpace, Namespace, NamespaceSpec, Process, ProcessSpec, Sandbox,
    TunSpec,
};
use tokio::net::{TcpListener, UnixListener};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::adapters::{NetdNetwork, Nodes, with_causes};
use crate::addresses::FamilyPlan;
use crate::args::NetworkMode;
use crate::config::{CLUSTER_DOMAIN, DEFAULT_API_PORT, LabConfig};
use crate::control::{self, Controlled, Execution, Place, Refusal};
use crate::error::{CliError, Context as _};
use crate::extension::{self, Sources};
use crate::home::{self, LabHome, LabRecord};
use crate::narrator::Narrator;
use crate::outside::{self, FromPlace, Surroundings};
use crate::resolved;
use crate::wires::Wires;
use crate::workstation;
/// Where the API listens inside the lab; the `kubernetes` Service leads there from port 443.
const LAB_API_PORT: u16 = 6443;

/// The port of the `kubernetes` Service.
const KUBERNETES_PORT: u16 = 443;

/// Where DNS listens inside the lab.
const DNS_PORT: u16 = 53;

/// How long DNS answers may be remembered, in seconds: low, so that caches follow pods (N-048).
const DNS_TTL: u32 = 5;

/// Ports tried after the default API port when that is taken.
const API_PORT_TRIES: u16 = 100;

/// The interface that `--network host` adds to this machine.
pub(crate) const HOST_INTERFACE: &str = "minisvc0";

/// How long the nodes may take to become ready.
const NODES_WITHIN: Duration = Duration::from_secs(60);

/// How long tasks may take to end when the lab goes down.
const TASKS_WITHIN: Duration = Duration::from_secs(5);

/// Why a lab ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ending {
    /// Somebody asked for it.
    Asked,
    /// The sandbox was killed, and with it every process of the lab.
    SandboxGone,
}

/// A running lab.
pub(crate) struct Lab {
    home: LabHome,
    api: ApiServer,
    sandbox: Sandbox,
    netd: Netd,
    inside: Arc<Inside>,
    /// Held so that these namespaces live as long as the lab: the control plane's, the relay's, the publisher's.
    _places: Vec<Namespace>,
    /// Cancelled when the lab goes down.
    shutdown: CancellationToken,
    tasks: JoinSet<()>,
}

/// What `shell`, `exec` and `down` reach.
struct Inside {
    workstation: Namespace,
    nodes: Nodes,
    /// What a process on the workstation sees in place of the host's files.
    mounts: Vec<Mount>,
    /// Added to the caller's environment.
    environment: Vec<(&'static str, PathBuf)>,
    user: Option<Credentials>,
    /// Cancelled when somebody asked for the end.
    asked: CancellationToken,
}

impl Lab {
    /// Starts everything; returns when the API answers, names resolve and the nodes are ready for pods.
    ///
    /// # Errors
    /// When a part does not start; what had been started before is ended again.
    pub(crate) async fn start(config: &LabConfig, home: &LabHome, narrator: &Narrator) -> Result<Self, CliError> {
        home.create()?;
        let api = open_api(config, home).await?;
        let shutdown = CancellationToken::new();
        let mut tasks = JoinSet::new();
        let listener = bind_api(config.api_port).await?;
        let server = format!("https://{}", listener.local_addr().context(|| "the API has no address".to_owned())?);
        let inside = SocketAddr::new(config.addresses.primary.kubernetes(), KUBERNETES_PORT);
        let inside = format!("https://{inside}");
        home.write_kubeconfigs(
            &api.ca().kubeconfig(&server, &config.name),
            &api.ca().kubeconfig(&inside, &config.name),
        )?;
        serve_tls(&api, listener, &mut tasks, &shutdown);
        serve_unix(&api, home, &mut tasks, &shutdown)?;
        narrator.step(&format!("the API answers at {server}"));

        let sandbox = Sandbox::launch(LaunchOptions::this_program(&config.name)).await;
        let sandbox = sandbox.context(|| "cannot start the sandbox".to_owned())?;
        outside::raise_descriptor_limit();
        let addresses = &config.addresses;
        let own = addresses.each(FamilyPlan::control_plane);
        let control_plane = make_namespace(&sandbox, "control-plane", &own).await?;
        let opened = Wires::open_first(&control_plane, &own).await;
        let (wires, device) = opened.context(|| "cannot make the control-plane's network".to_owned())?;
        let nets = (addresses.each(|family| family.services), addresses.each(|family| family.pods));
        let mut options = minisvc_netd::Config::new(nets.0, nets.1);
        options.offload = wires.offload();
        options.own_cidrs = addresses.each(|family| [family.nodes, family.load_balancers]).concat();
        let netd = Netd::start(options).context(|| "cannot start the data plane".to_owned())?;
        let nodes = Nodes::default();
        api.add_metrics_source(Arc::new(extension::figures(netd.clone())));
        let (faulty, client, token) = (netd.clone(), component(&api, "netd"), shutdown.clone());
        tasks.spawn(async move { faulty.follow_faults(client, token).await });
        api.set_extension(extension::extension(Sources {
            netd: netd.clone(),
            nodes: nodes.clone(),
            home: home.clone(),
            questions: extension::questions(),
            shutdown: shutdown.clone(),
        }));
        attach(&netd, "control-plane", device, own, LinkRole::ControlPlane);
        let own = addresses.each(FamilyPlan::workstation);
        let workstation = make_namespace(&sandbox, "workstation", &own).await?;
        let device = workstation.open_tun(wires.spec(own.clone())).await;
        let device = device.context(|| "cannot make the workstation's network".to_owned())?;
        attach(&netd, "workstation", device, own.clone(), LinkRole::Workstation);
        if config.network == NetworkMode::Host {
            connect_host(config, &netd, wires).await?;
            narrator.step(&format!("this machine reaches the lab through the interface {HOST_INTERFACE}"));
        }
        let inner = SocketAddr::new(addresses.primary.control_plane(), LAB_API_PORT);
        let inner = control_plane.listen_tcp(inner).await.context(|| "the lab's API cannot listen".to_owned())?;
        serve_tls(&api, inner, &mut tasks, &shutdown);
        let follow = netd.clone();
        let (client, token) = (component(&api, "netd"), shutdown.clone());
        tasks.spawn(async move { follow.follow(client, token).await });
        start_dns(config, &api, &control_plane, &mut tasks, &shutdown).await?;
        let surroundings = Surroundings { config, sandbox: &sandbox, netd: &netd, wires, shutdown: &shutdown };
        let relay = surroundings.start_relay(&mut tasks).await?;
        let publisher = surroundings.start_publisher(component(&api, "publisher"), home, &mut tasks).await?;
        narrator.step(&format!("names of *.{CLUSTER_DOMAIN} resolve at {}", addresses.primary.dns()));
        if config.network == NetworkMode::Host {
            match resolved::announce(config, HOST_INTERFACE).await {
                Ok(()) => narrator.step("they resolve on this machine too, by its systemd-resolved"),
                Err(error) => narrator.note(&format!("{error}: {}", resolved::by_hand(config))),
            }
        }

        let options = minisvc_controllers::Options {
            root_certificates: api.ca().certificate().to_owned(),
            load_balancer_pool: addresses.each(|family| family.load_balancers),
            node_grace: config.node_grace,
            ..minisvc_controllers::Options::default()
        };
        let counters = Arc::clone(&options.counters);
        api.add_metrics_source(Arc::new(move |text: &mut String| counters.openmetrics(text)));
        tasks.spawn(minisvc_controllers::run(component(&api, "controllers"), options, shutdown.clone()));
        let user = user_behind_sudo();
        let podd = start_podd(config, home, &api, &sandbox, (&netd, wires), user.clone()).await?;
        nodes.set(podd).await;
        api.set_node_service(Arc::new(nodes.clone()));
        let (checked, sockets) = (netd.clone(), Arc::new(nodes.clone()));
        let (client, token) = (component(&api, "netd"), shutdown.clone());
        tasks.spawn(async move { checked.serve_health(sockets, client, token).await });
        api.set_dialer(Arc::new(FromPlace(control_plane.clone())));
        let folder = home.run_dir().join("workstation");
        let mounts = workstation::name_files(&folder, addresses.primary.dns(), "workstation", &own)?;
        let environment = vec![("KUBECONFIG", home.kubeconfig_inside()), ("MINISVC_LAB", PathBuf::from(&config.name))];
        let asked = CancellationToken::new();
        let inside = Arc::new(Inside { workstation, nodes, mounts, environment, user, asked });
        tasks.spawn(control::serve(home, Arc::clone(&inside) as Arc<dyn Controlled>, shutdown.clone())?);
        wait_for_nodes(config, component(&api, "cli")).await?;
        narrator.step(&format!("{} of {} nodes are ready for pods", config.nodes.len(), config.nodes.len()));
        home.write_record(&LabRecord::new(config, &server))?;
        let places = [Some(control_plane), relay, publisher].into_iter().flatten().collect();
        Ok(Self { home: home.clone(), api, sandbox, netd, inside, _places: places, shutdown, tasks })
    }

    /// A client of the lab's API that may do everything.
    pub(crate) fn client(&self) -> Client {
        component(&self.api, "cli")
    }

    /// Where the user types.
    pub(crate) fn workstation(&self) -> &Namespace {
        &self.inside.workstation
    }

    /// Looks a name up on the workstation, as every program there does: through the C library and the lab's DNS.
    ///
    /// # Errors
    /// When the name has no address.
    pub(crate) async fn resolve(&self, name: &str) -> Result<Vec<IpAddr>, CliError> {
        let (output, writer) = std::io::pipe().context(|| "cannot make a pipe".to_owned())?;
        let argv = vec![own_program()?.into_os_string(), "__resolve".into(), name.into()];
        let spec = ProcessSpec {
            argv,
            stdout: Some(writer.into()),
            mounts: MountSpace::New(self.inside.mounts.clone()),
            ..ProcessSpec::default()
        };
        let process = self.inside.workstation.spawn(spec).await.context(|| "cannot look names up".to_owned())?;
        let status = process.wait().await;
        // The other end is closed with the process, so this does not wait.
        let text = std::io::read_to_string(output).context(|| "cannot look names up".to_owned())?;
        if status != ExitStatus::Code(0) {
            return Err(CliError::failed(format!("{name} does not resolve on the workstation")));
        }
        Ok(text.lines().filter_map(|line| line.parse().ok()).collect())
    }

    /// Resolves when somebody asked for the end, or when the sandbox is gone.
    pub(crate) async fn ending(&self) -> Ending {
        tokio::select! {
            () = self.inside.asked.cancelled() => Ending::Asked,
            () = self.sandbox.closed() => Ending::SandboxGone,
        }
    }

    /// Takes everything down: pods first, the API last, so that what happened to the pods is still written down.
    pub(crate) async fn shutdown(mut self) {
        self.inside.nodes.shutdown().await;
        self.shutdown.cancel();
        let ended = tokio::time::timeout(TASKS_WITHIN, async { while self.tasks.join_next().await.is_some() {} }).await;
        if ended.is_err() {
            tracing::warn!("some tasks of the lab did not end in time");
        }
        self.api.close().await;
        let netd = self.netd.clone();
        // Closing the devices waits in the kernel, and so does the end of the namespaces: both at once.
        let devices = tokio::task::spawn_blocking(move || netd.shutdown());
        self.sandbox.shutdown().await;
        if devices.await.is_err() {
            tracing::error!("the data plane's shutdown panicked");
        }
        self.home.clear_run();
    }
}

#[async_trait::async_trait]
impl Controlled for Inside {
    async fn execute(&self, execution: Execution, stdio: [OwnedFd; 3]) -> Result<Process, Refusal> {
        let [stdin, stdout, stderr] = stdio.map(Some);
        match execution.place {
            Place::Workstation => {
                let mut env = execution.env;
                env.retain(|(name, _)| !self.environment.iter().any(|(ours, _)| name == ours));
                env.extend(self.environment.iter().map(|(name, value)| ((*name).into(), value.into())));
                let spec = ProcessSpec {
                    argv: execution.argv,
                    env,
                    cwd: execution.cwd,
                    user: self.user.clone(),
                    stdin,
                    stdout,
                    stderr,
                    mounts: MountSpace::New(self.mounts.clone()),
                    terminal: execution.terminal,
                    ..ProcessSpec::default()
                };
                self.workstation
                    .spawn(spec)
                    .await
                    .map_err(|error| Refusal { message: with_causes(&error), hints: vec![] })
            }
            Place::Pod { namespace, pod, container } => {
                let environment = execution.env.into_iter().filter(|(name, _)| name == "TERM").collect();
                let terminal = execution.terminal;
                let spec = ExecSpec { argv: execution.argv, environment, stdin, stdout, stderr, terminal };
                let started = self.nodes.exec(&namespace, &pod, container.as_deref(), spec).await;
                let hint = format!("see what runs: minisvc get pods -n {namespace}");
                started.map_err(|message| Refusal { message, hints: vec![hint] })
            }
        }
    }

    fn end(&self) {
        self.asked.cancel();
    }
}

fn component(api: &ApiServer, name: &str) -> Client {
    api.client(Identity::component(name))
}

async fn open_api(config: &LabConfig, home: &LabHome) -> Result<ApiServer, CliError> {
    let options = minisvc_apiserver::Options {
        state_dir: Some(home.private_dir("store")?),
        service_cidrs: config.addresses.each(|family| family.services),
        cluster_domain: CLUSTER_DOMAIN.to_owned(),
        advertise: SocketAddr::new(config.addresses.primary.control_plane(), LAB_API_PORT),
        ..minisvc_apiserver::Options::default()
    };
    ApiServer::open(options).await.map_err(|source| {
        CliError::failed(format!("cannot open the lab in {}", home.root().display()))
            .because(source)
            .hint("use another --name or --state-dir, or delete that folder to start anew")
    })
}

/// The asked-for port on loopback; without one the default, or the next free one.
async fn bind_api(port: Option<u16>) -> Result<TcpListener, CliError> {
    let bind = |port| TcpListener::bind((Ipv4Addr::LOCALHOST, port));
    if let Some(port) = port {
        return bind(port).await.map_err(|source| {
            CliError::usage(format!("the API cannot listen on port {port} of 127.0.0.1"))
                .because(source)
                .hint("name another port with --api-port; 0 takes any free one")
        });
    }
    for port in DEFAULT_API_PORT..DEFAULT_API_PORT + API_PORT_TRIES {
        if let Ok(listener) = bind(port).await {
            return Ok(listener);
        }
    }
    bind(0).await.context(|| "no port of 127.0.0.1 is free".to_owned())
}

fn serve_tls(api: &ApiServer, listener: TcpListener, tasks: &mut JoinSet<()>, shutdown: &CancellationToken) {
    let (api, shutdown) = (api.clone(), shutdown.clone());
    tasks.spawn(async move {
        if let Err(error) = api.serve_tls(listener, shutdown).await {
            tracing::error!(%error, "the API cannot be served");
        }
    });
}

fn serve_unix(
    api: &ApiServer,
    home: &LabHome,
    tasks: &mut JoinSet<()>,
    shutdown: &CancellationToken,
) -> Result<(), CliError> {
    let path = home.api_socket();
    // Left over from a lab that was killed: a running one holds the lock of the store, which was taken before.
    let _ = std::fs::remove_file(&path);
    let listener = UnixListener::bind(&path).context(|| format!("cannot listen at {}", path.display()))?;
    let (uid, gid) = home::behind_sudo();
    home::give_to(&path, uid, gid)?;
    let (api, shutdown) = (api.clone(), shutdown.clone());
    let allowed = vec![nix::unistd::geteuid().as_raw(), uid];
    tasks.spawn(async move { api.serve_unix(listener, allowed, shutdown).await });
    Ok(())
}

/// Gives this machine an interface of its own to the lab, with routes to everything in it. Both vanish with the descriptor.
async fn connect_host(config: &LabConfig, netd: &Netd, wires: Wires) -> Result<(), CliError> {
    let ranges = |family: &FamilyPlan| [family.services, family.pods, family.nodes, family.load_balancers];
    let routes = config.addresses.each(ranges).concat();
    let host = config.addresses.each(FamilyPlan::host);
    let spec = TunSpec {
        name: HOST_INTERFACE.to_owned(),
        default_route: false,
        routes: routes.iter().map(|net| (net.network(), net.prefix_len())).collect(),
        ..wires.spec(host.clone())
    };
    let device = tokio::task::spawn_blocking(move || minisvc_sandbox::open_host_tun(&spec)).await;
    let device = device.context(|| "cannot open an interface".to_owned())?.map_err(|source| {
        CliError::environment(format!("cannot add the interface {HOST_INTERFACE} to this machine"))
            .because(source)
            .hint("only one lab at a time can have --network host; see minisvc status")
    })?;
    attach(netd, "host", device, host, LinkRole::Workstation);
    Ok(())
}

/// A namespace that is to have these addresses.
pub(crate) async fn make_namespace(sandbox: &Sandbox, name: &str, addresses: &[IpAddr]) -> Result<Namespace, CliError> {
    let ipv6 = addresses.iter().any(IpAddr::is_ipv6);
    let made = sandbox.make_namespace(NamespaceSpec { ipv6, ..NamespaceSpec::new(name, name) }).await;
    made.context(|| format!("cannot make the {name}'s namespace"))
}

pub(crate) fn attach(netd: &Netd, name: &str, device: OwnedFd, addresses: Vec<IpAddr>, role: LinkRole) {
    netd.attach(Link { name: name.to_owned(), device, addresses, role, host_ports: None });
}

async fn start_dns(
    config: &LabConfig,
    api: &ApiServer,
    control_plane: &Namespace,
    tasks: &mut JoinSet<()>,
    shutdown: &CancellationToken,
) -> Result<(), CliError> {
    let doing = || "cannot start DNS".to_owned();
    let addresses = &config.addresses;
    let mut sockets = minisvc_dnsd::Sockets::default();
    for address in addresses.each(FamilyPlan::control_plane) {
        let at = SocketAddr::new(address, DNS_PORT);
        sockets.udp.push(control_plane.bind_udp(at).await.context(doing)?);
        sockets.tcp.push(control_plane.listen_tcp(at).await.context(doing)?);
        let at = SocketAddr::new(address, minisvc_dnsd::METRICS_PORT);
        sockets.metrics.push(control_plane.listen_tcp(at).await.context(doing)?);
    }
    let dns = minisvc_dnsd::Config {
        domain: CLUSTER_DOMAIN.to_owned(),
        ttl: DNS_TTL,
        reverse: addresses.each(|family| [family.services, family.pods]).concat(),
        address: addresses.primary.dns(),
        upstreams: config.upstreams.clone(),
        stubs: config.stubs.clone().into_iter().collect(),
        // This machine's own resolver asks the lab about its ranges then, and would be asked back.
        reverse_falls_through: config.network == NetworkMode::Private,
        hosts: outside::names(config),
    };
    let client = component(api, "dnsd");
    let primary = &addresses.primary;
    minisvc_dnsd::publish(client.clone(), primary.dns(), primary.control_plane()).await.context(doing)?;
    let counters = Arc::<minisvc_dnsd::Counters>::default();
    let figures = Arc::clone(&counters);
    api.add_metrics_source(Arc::new(move |text: &mut String| figures.openmetrics(text)));
    tasks.spawn(minisvc_dnsd::run(dns, client, sockets, counters, shutdown.clone()));
    Ok(())
}

async fn start_podd(
    config: &LabConfig,
    home: &LabHome,
    api: &ApiServer,
    sandbox: &Sandbox,
    (netd, wires): (&Netd, Wires),
    user: Option<Credentials>,
) -> Result<Podd, CliError> {
    let nodes = config.nodes.iter().map(|node| NodeConfig {
        name: node.name.clone(),
        addresses: node.addresses.clone(),
        zone: Some(node.zone.clone()),
        pod_cidrs: node.pods.clone(),
    });
    let mut podd = minisvc_podd::Config::new(nodes.collect(), home.private_dir("pods")?);
    podd.dns = Some(config.addresses.primary.dns());
    podd.images = config.images.iter().map(|(name, command)| (name.clone(), image(command))).collect();
    podd.capacity = config.node_capacity.clone();
    podd.run_as = user;
    podd.builtin_program = own_program()?;
    podd.mtu = wires.mtu();
    podd.offload = wires.offload();
    let network = Arc::new(NetdNetwork::new(netd.clone()));
    Podd::start(podd, component(api, "podd"), sandbox.clone(), network)
        .await
        .context(|| "cannot start the nodes".to_owned())
}

fn image(command: &[String]) -> minisvc_podd::ImageCommand {
    minisvc_podd::ImageCommand { command: command.to_vec() }
}

/// The file of this very program, for processes inside the lab.
fn own_program() -> Result<PathBuf, CliError> {
    std::env::current_exe().context(|| "cannot find my own program file".to_owned())
}

/// Pods and shells are processes of the user behind sudo, not of root. Without sudo they are ours anyway.
fn user_behind_sudo() -> Option<Credentials> {
    let (uid, gid) = home::behind_sudo();
    if uid == nix::unistd::geteuid().as_raw() {
        return None;
    }
    let name = nix::unistd::User::from_uid(uid.into()).ok().flatten()?.name;
    let name = std::ffi::CString::new(name).ok()?;
    let groups = nix::unistd::getgrouplist(&name, gid.into()).unwrap_or_default();
    Some(Credentials { uid, gid, groups: groups.into_iter().map(nix::unistd::Gid::as_raw).collect() })
}

async fn wait_for_nodes(config: &LabConfig, client: Client) -> Result<(), CliError> {
    let nodes = Api::<Node>::all(client.clone());
    let account =
        await_condition(Api::<ServiceAccount>::default_namespaced(client), "default", |sa: Option<&ServiceAccount>| {
            sa.is_some()
        });
    let ready = config.nodes.iter().map(|node| await_condition(nodes.clone(), &node.name, is_ready));
    let all = async {
        futures::future::try_join_all(ready).await?;
        account.await
    };
    match tokio::time::timeout(NODES_WITHIN, all).await {
        Ok(result) => result.map(|_| ()).context(|| "cannot watch the nodes".to_owned()),
        Err(_) => Err(CliError::failed(format!("the nodes were not ready within {} s", NODES_WITHIN.as_secs()))
            .hint("see why with minisvc up -v")),
    }
}

fn is_ready(node: Option<&Node>) -> bool {
    let conditions = node.and_then(|node| node.status.as_ref()?.conditions.as_ref());
    conditions.is_some_and(|all| all.iter().any(|condition| condition.type_ == "Ready" && condition.status == "True"))
}
