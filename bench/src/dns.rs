//! The DNS server beside NSD, both with the same names on loopback; and in a lab, through the virtual address.
//!
//! NSD is what a static zone can be answered with at best. It and `dnsperf` are used where they are installed; without
//! `dnsperf` the load is our own.

use std::fmt::Write as _;
use std::io::{self, Read as _};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use minisvc_dnsd::{Counters, Sockets};
use minisvc_zone::{Name, ServiceEntry, ServiceKind, Zone, ZoneConfig, ZoneInput};

use crate::Failure;
use crate::figures::{goal, line, median, quantile};
use crate::lab::{Lab, PATIENCE, myself};

/// Names in the zone.
const NAMES: u16 = 1000;

/// How often each server is measured, in turns.
const ROUNDS: usize = 5;

/// How long a round takes.
const ROUND: Duration = Duration::from_secs(2);

/// Questions under way when it is about how many can be answered.
const WINDOW: usize = 100;

/// The half of what NSD does is enough for anybody's laptop.
const GOAL: f64 = 0.5;

/// Prints the group.
pub(crate) fn measure() -> Result<(), Failure> {
    let missing: Vec<&str> = ["nsd", "dnsperf"].into_iter().filter(|program| !is_installed(program)).collect();
    if !missing.is_empty() {
        line("not installed, so not used", &missing.join(", "), "apt-get install nsd dnsperf");
    }
    let folder = tempfile::Builder::new().prefix("minisvc-bench-").tempdir()?;
    let ours = Server::ours()?;
    let nsd = if is_installed("nsd") { Some(Server::nsd(folder.path())?) } else { None };
    let load = Load { dnsperf: is_installed("dnsperf"), folder: folder.path() };
    load.prepare()?;
    let (mut own, mut beside) = (Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        own.push(load.per_second(ours.address)?);
        if let Some(nsd) = &nsd {
            beside.push(load.per_second(nsd.address)?);
        }
    }
    let share: Vec<f64> = own.iter().zip(&beside).map(|(own, beside)| own / beside).collect();
    let verdict = if nsd.is_some() {
        let share = median(&share);
        format!("{share:.2} of NSD's {:.0} /s; {}", median(&beside), goal(share >= GOAL, "half of NSD"))
    } else {
        String::new()
    };
    line(&format!("questions answered, {WINDOW} under way"), &format!("{:.0} /s", median(&own)), &verdict);
    let beside = match &nsd {
        Some(nsd) => format!("NSD {}", trips(nsd.address)?),
        None => String::new(),
    };
    line("one question at a time, p50 / p99", &trips(ours.address)?, &beside);
    drop((ours, nsd));
    let lab = Lab::start(&[])?;
    let number: f64 = lab.inside(None, &["__dns_load", "10.96.0.10:53", "2", "100", "0"])?.trim().parse()?;
    line("in a lab, workstation → virtual address, 100 under way", &format!("{number:.0} /s"), "our own load");
    lab.down()?;
    Ok(())
}

fn is_installed(program: &str) -> bool {
    let folders = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&folders).chain(["/usr/sbin".into()]).any(|folder| folder.join(program).is_file())
}

/// A server on loopback. It ends when dropped.
struct Server {
    process: Child,
    address: SocketAddr,
}

impl Server {
    /// Ours, in a process of its own.
    fn ours() -> Result<Self, Failure> {
        let address = free_address()?;
        let mut command = Command::new(myself()?);
        command.args(["__dns", &address.to_string()]);
        Self::start(command, address)
    }

    /// NSD with one process that answers, as ours has one task for every two processors.
    fn nsd(folder: &Path) -> Result<Self, Failure> {
        let address = free_address()?;
        let at = |name: &str| folder.join(name).display().to_string();
        let mut zone =
            "$ORIGIN cluster.local.\n$TTL 5\n@ SOA ns hostmaster 1 7200 1800 86400 5\n@ NS ns\nns A 127.0.0.1\n"
                .to_owned();
        for number in 0..NAMES {
            writeln!(zone, "{}. A {}", name(number), service_address(number))?;
        }
        std::fs::write(at("zone"), zone)?;
        let config = format!(
            "server:\n  server-count: 1\n  ip-address: {}@{}\n  username: \"\"\n  zonesdir: \"{}\"\n  zonelistfile: \"{}\"\n  \
             pidfile: \"{}\"\n  xfrdfile: \"{}\"\nremote-control:\n  control-enable: no\nzone:\n  name: cluster.local\n  zonefile: \
             \"{}\"\n",
            address.ip(),
            address.port(),
            folder.display(),
            at("zone.list"),
            at("nsd.pid"),
            at("xfrd.state"),
            at("zone"),
        );
        std::fs::write(at("nsd.conf"), config)?;
        let program = if Path::new("/usr/sbin/nsd").is_file() { "/usr/sbin/nsd" } else { "nsd" };
        let mut command = Command::new(program);
        command.args(["-d", "-c", &at("nsd.conf")]);
        Self::start(command, address)
    }

    /// Waits until it answers.
    fn start(mut command: Command, address: SocketAddr) -> Result<Self, Failure> {
        let process = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped()).spawn()?;
        let mut server = Self { process, address };
        let until = Instant::now() + PATIENCE;
        while Instant::now() < until {
            if Asker::new(address, NAMES)?.once(Duration::from_millis(100)).is_ok() {
                return Ok(server);
            }
        }
        let mut said = String::new();
        server.process.kill()?;
        server.process.stderr.take().ok_or("no pipe")?.read_to_string(&mut said)?;
        Err(format!("{command:?} does not answer: {said}").into())
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // NSD's own processes end with their parent when it is asked, not when it is killed.
        if let Ok(pid) = i32::try_from(self.process.id()) {
            let _ = nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), nix::sys::signal::Signal::SIGTERM);
        }
        let _ = self.process.wait();
    }
}

fn free_address() -> Result<SocketAddr, Failure> {
    Ok(UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?)
}

fn name(number: u16) -> String {
    format!("service-{number}.default.svc.cluster.local")
}

fn service_address(number: u16) -> Ipv4Addr {
    let [high, low] = number.to_be_bytes();
    Ipv4Addr::new(10, 96, high, low)
}

/// The hidden command `__dns ADDRESS`: our server with a zone that does not change.
pub(crate) fn serve(address: SocketAddr) -> Result<(), Failure> {
    let config = ZoneConfig {
        domain: Name::new("cluster.local"),
        ttl: 5,
        reverse: Vec::new(),
        servers: Vec::new(),
        hosts: Vec::new(),
        reverse_falls_through: true,
    };
    let services = (0..NAMES).map(|number| ServiceEntry {
        namespace: "default".to_owned(),
        name: format!("service-{number}"),
        kind: ServiceKind::ClusterIp(vec![IpAddr::V4(service_address(number))]),
        ports: Vec::new(),
    });
    let input = ZoneInput {
        namespaces: ["default".to_owned()].into(),
        services: services.collect(),
        complete: true,
        ..ZoneInput::default()
    };
    let zone = Arc::new(ArcSwap::from_pointee(Zone::build(config, input)));
    tokio::runtime::Builder::new_multi_thread().enable_all().build()?.block_on(async {
        let sockets = Sockets { udp: vec![tokio::net::UdpSocket::bind(address).await?], ..Sockets::default() };
        minisvc_dnsd::serve(&[], &[], zone, sockets, Arc::new(Counters::default()), Default::default()).await;
        Ok(())
    })
}

/// What makes the load.
struct Load<'a> {
    dnsperf: bool,
    folder: &'a Path,
}

impl Load<'_> {
    fn prepare(&self) -> Result<(), Failure> {
        let questions: String = (0..NAMES).map(|number| format!("{} A\n", name(number))).collect();
        Ok(std::fs::write(self.folder.join("questions"), questions)?)
    }

    /// Questions answered per second.
    fn per_second(&self, server: SocketAddr) -> Result<f64, Failure> {
        if !self.dnsperf {
            return ask_for(server, ROUND, WINDOW, NAMES);
        }
        let output = Command::new("dnsperf")
            .args(["-s", &server.ip().to_string(), "-p", &server.port().to_string(), "-c", "4", "-T", "1"])
            .args(["-q", &WINDOW.to_string(), "-l", &ROUND.as_secs().to_string(), "-d"])
            .arg(self.folder.join("questions"))
            .output()?;
        let text = String::from_utf8(output.stdout)?;
        let number = text.lines().find_map(|line| line.trim().strip_prefix("Queries per second:"));
        Ok(number.ok_or_else(|| format!("dnsperf says {text}"))?.trim().parse()?)
    }
}

/// The hidden command `__dns_load`: see [`ask_for`].
pub(crate) fn ask_for(server: SocketAddr, time: Duration, window: usize, names: u16) -> Result<f64, Failure> {
    let mut asker = Asker::new(server, names)?;
    let began = Instant::now();
    let (mut answered, mut under_way) = (0.0, 0);
    while began.elapsed() < time {
        while under_way < window {
            asker.ask()?;
            under_way += 1;
        }
        match asker.socket.recv(&mut [0; 512]) {
            Ok(_) => {
                answered += 1.0;
                under_way -= 1;
            }
            // Lost: a full buffer somewhere. All of them are asked anew.
            Err(error) if is_timeout(&error) => under_way = 0,
            Err(error) => return Err(error.into()),
        }
    }
    Ok(answered / began.elapsed().as_secs_f64())
}

/// Median and 99th percentile of the time of one question.
fn trips(server: SocketAddr) -> Result<String, Failure> {
    let mut asker = Asker::new(server, NAMES)?;
    let (began, mut times) = (Instant::now(), Vec::new());
    while began.elapsed() < ROUND {
        let start = Instant::now();
        if asker.once(Duration::from_secs(1)).is_ok() {
            times.push(start.elapsed().as_secs_f64() * 1e6);
        }
    }
    Ok(format!("{:.0} / {:.0} µs", median(&times), quantile(&times, 99)))
}

/// A client that asks for one name after the other.
struct Asker {
    socket: UdpSocket,
    questions: Vec<Vec<u8>>,
    next: usize,
}

impl Asker {
    /// Asks for the zone's names; for that of the API where there are none.
    fn new(server: SocketAddr, names: u16) -> Result<Self, Failure> {
        let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0))?;
        socket.connect(server)?;
        socket.set_read_timeout(Some(Duration::from_millis(200)))?;
        let names: Vec<String> = if names == 0 {
            vec!["kubernetes.default.svc.cluster.local".to_owned()]
        } else {
            (0..names).map(name).collect()
        };
        Ok(Self { socket, questions: names.iter().map(|name| question(name)).collect(), next: 0 })
    }

    fn ask(&mut self) -> io::Result<()> {
        let question = self.questions.get(self.next).map(Vec::as_slice).unwrap_or_default();
        self.next = (self.next + 1) % self.questions.len();
        self.socket.send(question).map(|_| ())
    }

    fn once(&mut self, patience: Duration) -> io::Result<()> {
        self.socket.set_read_timeout(Some(patience))?;
        self.ask()?;
        self.socket.recv(&mut [0; 512]).map(|_| ())
    }
}

/// An A question on the wire.
fn question(name: &str) -> Vec<u8> {
    let mut bytes = vec![0, 7, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0];
    for label in name.split('.') {
        bytes.push(u8::try_from(label.len()).unwrap_or_default());
        bytes.extend(label.bytes());
    }
    bytes.extend([0, 0, 1, 0, 1]);
    bytes
}

fn is_timeout(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut)
}
