//! `minisvc/echo`: says who answered and whom it saw, over HTTP; sends other bytes back, over TCP and UDP.
//!
//! Paths: `/healthz` is always 200; `/readyz` is 200 until `/readyz/fail` and again after `/readyz/ok`; everything
//! else answers one line: pod, node, client address, method and path.
//!
//! `PORT` says where it listens, `BIND` at which address instead of all. `SCTP_PORT` asks for SCTP as well, where the kernel
//! speaks it. With `--as MANNER` it stands for a well-known image (see `manner`).
//!
//! SIGTERM starts a drain, because connections are still sent here until every data plane has heard that this pod is
//! no endpoint any more (D-091): it goes on accepting until nobody has come for [`QUIET`], at most for [`DRAIN`],
//! answers what it was asked, tells clients to connect anew, and ends with 0. SIGINT ends it at once.

use std::io::{Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;

use super::http::{self, Head, Parsed};
use super::manner::{Facts, Manner, Plan, Surroundings, Task, plan};
use super::sctp::sctp_listen;
use super::tls::Tls;
use super::{block_signals, wait_for_signal};

/// Connections at a time; further ones are closed at once.
const CONNECTIONS: usize = 1000;
/// A thread needs little here.
const STACK: usize = 128 << 10;
/// A connection that says nothing for so long is closed.
const IDLE: Duration = Duration::from_secs(300);
/// Bytes read at a time.
const CHUNK: usize = 8 << 10;
/// A drain is over when so long nobody has connected: some thirty times what the endpoint takes to leave.
const QUIET: Duration = Duration::from_millis(300);
/// No drain takes longer.
const DRAIN: Duration = Duration::from_secs(2);
/// How often a drain looks whether the last answers are out.
const LOOK: Duration = Duration::from_millis(5);

/// What is done with a connection.
type Serve = fn(&Echo, TcpStream) -> std::io::Result<()>;

/// What the threads share.
struct Echo {
    /// Pod and node, as they are shown.
    who: String,
    host: String,
    manner: Manner,
    tls: Option<Tls>,
    ready: AtomicBool,
    open: AtomicUsize,
    started: Instant,
    /// When the last connection came, in milliseconds after `started`.
    last_came: AtomicU64,
    /// Requests that were begun and not answered yet.
    unanswered: AtomicUsize,
    draining: AtomicBool,
}

/// Serves until it is told to end, then ends with 0; ends with 1 if it cannot listen.
pub fn echo_main() -> ExitCode {
    let signals = block_signals();
    let variable = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
    let args: Vec<String> = std::env::args().skip(2).collect();
    let surroundings = Surroundings {
        port: variable("PORT").and_then(|port| port.parse().ok()),
        variables: std::env::vars().collect(),
    };
    let plans = match plan(&args, &surroundings) {
        Ok(Task::Serve(plans)) => plans,
        Ok(Task::Pause) => return super::pause_main(),
        Ok(Task::Tool(tool)) => return tool.run(),
        Err(error) => {
            let _ = writeln!(std::io::stderr(), "{error}");
            return ExitCode::from(2);
        }
    };
    match serve(plans, &variable) {
        Ok(servers) => match wait_for_signal(&signals) {
            Some(Signal::SIGTERM) => {
                thread::scope(|scope| {
                    for echo in &servers {
                        scope.spawn(|| echo.drain());
                    }
                });
                ExitCode::SUCCESS
            }
            Some(_) => ExitCode::SUCCESS,
            None => ExitCode::FAILURE,
        },
        Err(error) => {
            // To the container's log.
            let _ = writeln!(std::io::stderr(), "cannot listen on {error}");
            ExitCode::FAILURE
        }
    }
}

/// Starts a server for each plan.
fn serve(plans: Vec<Plan>, variable: &impl Fn(&str) -> Option<String>) -> Result<Vec<Arc<Echo>>, String> {
    let host = variable("HOSTNAME").unwrap_or_else(|| "unknown".to_owned());
    let pod = variable("POD_NAME").unwrap_or_else(|| host.clone());
    let node = variable("NODE_NAME").map(|node| format!(" on {node}")).unwrap_or_default();
    let bind = variable("BIND").and_then(|address| address.parse().ok());
    let mut servers = Vec::with_capacity(plans.len());
    let mut further = variable("SCTP_PORT").and_then(|port| port.parse().ok());
    for Plan { manner, port, udp_port, sctp_port, tls } in plans {
        let tls = tls.then(|| Tls::new(&host)).transpose().map_err(|error| format!("port {port}: {error}"))?;
        let echo = Arc::new(Echo { host: host.clone(), manner, tls, ..Echo::new(format!("{pod}{node}")) });
        echo.listen(bind, port, udp_port).map_err(|error| format!("port {port}: {error}"))?;
        for port in sctp_port.into_iter().chain(further.take()) {
            echo.listen_sctp(bind, port).map_err(|error| format!("SCTP port {port}: {error}"))?;
        }
        servers.push(echo);
    }
    Ok(servers)
}

impl Echo {
    fn new(who: String) -> Self {
        Self {
            host: who.clone(),
            who,
            manner: Manner::Echo,
            tls: None,
            ready: AtomicBool::new(true),
            open: AtomicUsize::new(0),
            started: Instant::now(),
            last_came: AtomicU64::new(0),
            unanswered: AtomicUsize::new(0),
            draining: AtomicBool::new(false),
        }
    }

    /// Returns when nobody comes any more and everybody has been answered.
    fn drain(&self) {
        let began = self.age();
        self.draining.store(true, Ordering::SeqCst);
        loop {
            let now = self.age();
            let last = Duration::from_millis(self.last_came.load(Ordering::SeqCst)).max(began);
            let quiet = (last + QUIET).saturating_sub(now);
            let left = (began + DRAIN).saturating_sub(now);
            let all_answered = self.unanswered.load(Ordering::SeqCst) == 0;
            if left.is_zero() || (quiet.is_zero() && all_answered) {
                return;
            }
            thread::sleep(quiet.min(left).max(LOOK));
        }
    }

    fn age(&self) -> Duration {
        self.started.elapsed()
    }

    /// Starts the threads that serve, at `bind` or everywhere. Both families if the kernel has IPv6, else IPv4.
    fn listen(self: &Arc<Self>, bind: Option<IpAddr>, port: u16, udp_port: Option<u16>) -> std::io::Result<()> {
        let any = [Ipv6Addr::UNSPECIFIED.into(), Ipv4Addr::UNSPECIFIED.into()];
        let addresses = bind.map_or_else(|| any.to_vec(), |address| vec![address]);
        let at = |port| addresses.iter().map(move |&address| SocketAddr::new(address, port)).collect::<Vec<_>>();
        // The first that works.
        let tcp = TcpListener::bind(at(port).as_slice())?;
        let udp = udp_port.map(|port| UdpSocket::bind(at(port).as_slice())).transpose()?;
        let _ = writeln!(std::io::stdout(), "{} listens on port {port}", self.who);
        let (echo, datagrams) = (Arc::clone(self), Arc::clone(self));
        spawn(move || echo.accept(&tcp, Self::serve))?;
        match udp {
            Some(udp) => spawn(move || datagrams.return_datagrams(&udp)),
            None => Ok(()),
        }
    }

    /// The same over SCTP. `netexec` answers messages there, as it does datagrams.
    fn listen_sctp(self: &Arc<Self>, bind: Option<IpAddr>, port: u16) -> std::io::Result<()> {
        let listener = match bind {
            Some(address) => sctp_listen(SocketAddr::new(address, port)),
            None => sctp_listen((Ipv6Addr::UNSPECIFIED, port).into())
                .or_else(|_| sctp_listen((Ipv4Addr::UNSPECIFIED, port).into())),
        }?;
        let echo = Arc::clone(self);
        let serve = if self.manner == Manner::Netexec { Self::return_messages } else { Self::serve };
        spawn(move || echo.accept(&listener, serve))
    }

    fn accept(self: &Arc<Self>, listener: &TcpListener, serve: Serve) {
        for stream in listener.incoming() {
            let Ok(stream) = stream else {
                // Out of descriptors, most likely: others have to end first.
                thread::sleep(Duration::from_millis(10));
                continue;
            };
            self.last_came.store(u64::try_from(self.age().as_millis()).unwrap_or(u64::MAX), Ordering::SeqCst);
            if self.open.fetch_add(1, Ordering::Relaxed) >= CONNECTIONS {
                self.open.fetch_sub(1, Ordering::Relaxed);
                continue;
            }
            let echo = Arc::clone(self);
            let served = spawn(move || {
                // A client that goes away ends its connection, nothing else.
                let _ = serve(&echo, stream);
                echo.open.fetch_sub(1, Ordering::Relaxed);
            });
            if served.is_err() {
                self.open.fetch_sub(1, Ordering::Relaxed);
            }
        }
    }

    fn serve(&self, stream: TcpStream) -> std::io::Result<()> {
        let (client, server) = (stream.peer_addr()?, stream.local_addr()?);
        stream.set_read_timeout(Some(IDLE))?;
        // Another protocol has another name for it.
        let _only_of_tcp = stream.set_nodelay(true);
        match &self.tls {
            None => self.converse(stream, client, server),
            Some(tls) => self.converse(tls.accept(stream)?, client, server),
        }
    }

    fn converse(&self, mut stream: impl Read + Write, client: SocketAddr, server: SocketAddr) -> std::io::Result<()> {
        let mut pending = Vec::new();
        let mut chunk = [0; CHUNK];
        loop {
            match http::parse(&pending) {
                Parsed::Head(mut head) => {
                    let asked = Asked::begin(&self.unanswered);
                    skip_body(&mut stream, &mut pending, &head)?;
                    let (status, body) = self.reply(&head, server, client);
                    head.keep_alive &= !self.draining.load(Ordering::SeqCst);
                    stream.write_all(&http::answer(&head, &status, &body))?;
                    drop(asked);
                    if !head.keep_alive {
                        return Ok(());
                    }
                    if !pending.is_empty() {
                        continue;
                    }
                }
                Parsed::Raw => return return_bytes(&mut stream, &pending),
                Parsed::Partial => {}
            }
            let count = stream.read(&mut chunk)?;
            if count == 0 {
                // What looked like the beginning of a request was not.
                return stream.write_all(&pending);
            }
            pending.extend_from_slice(chunk.get(..count).unwrap_or_default());
        }
    }

    fn reply(&self, head: &Head, server: SocketAddr, client: SocketAddr) -> (String, Vec<u8>) {
        let canonical = |address: SocketAddr| SocketAddr::new(address.ip().to_canonical(), address.port());
        let now = || jiff::Timestamp::now().to_string();
        let facts = Facts {
            host: &self.host,
            server: canonical(server),
            client: canonical(client),
            now: &now,
            age: self.age(),
        };
        if let Some(answer) = self.manner.answer(head, &facts) {
            return answer;
        }
        let (status, text) = self.own_reply(head, client);
        (status.to_owned(), text.into_bytes())
    }

    fn own_reply(&self, head: &Head, client: SocketAddr) -> (&'static str, String) {
        match head.path.split('?').next().unwrap_or_default() {
            "/healthz" => ("200 OK", "ok\n".to_owned()),
            "/readyz/fail" => self.set_ready(false),
            "/readyz/ok" => self.set_ready(true),
            "/readyz" if self.ready.load(Ordering::Relaxed) => ("200 OK", "ok\n".to_owned()),
            "/readyz" => ("503 Service Unavailable", "not ready\n".to_owned()),
            _ => ("200 OK", format!("{} saw {} ask {} {}\n", self.who, plain(client), head.method, head.path)),
        }
    }

    fn return_datagrams(&self, socket: &UdpSocket) {
        let mut buffer = vec![0; 64 << 10];
        loop {
            // An error is an ICMP message about an earlier answer.
            let Ok((count, client)) = socket.recv_from(&mut buffer) else { continue };
            let asked = buffer.get(..count).unwrap_or_default();
            let answer = self.manner.datagram(asked, &self.host, client);
            let _ = socket.send_to(&answer, client);
        }
    }

    fn return_messages(&self, mut stream: TcpStream) -> std::io::Result<()> {
        let client = stream.peer_addr()?;
        stream.set_read_timeout(Some(IDLE))?;
        let mut buffer = vec![0; 64 << 10];
        loop {
            let count = stream.read(&mut buffer)?;
            if count == 0 {
                return Ok(());
            }
            let asked = buffer.get(..count).unwrap_or_default();
            stream.write_all(&self.manner.datagram(asked, &self.host, client))?;
        }
    }

    fn set_ready(&self, ready: bool) -> (&'static str, String) {
        self.ready.store(ready, Ordering::Relaxed);
        ("200 OK", format!("{} is {}\n", self.who, if ready { "ready" } else { "not ready" }))
    }
}

/// A request while it is being answered.
struct Asked<'a>(&'a AtomicUsize);

impl<'a> Asked<'a> {
    fn begin(count: &'a AtomicUsize) -> Self {
        count.fetch_add(1, Ordering::SeqCst);
        Self(count)
    }
}

impl Drop for Asked<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

/// Takes the head and its body out of what has arrived.
fn skip_body(stream: &mut impl Read, pending: &mut Vec<u8>, head: &Head) -> std::io::Result<()> {
    let have = pending.len() - head.length;
    if have >= head.body {
        pending.drain(..head.length + head.body);
        return Ok(());
    }
    let missing = u64::try_from(head.body - have).unwrap_or(u64::MAX);
    pending.clear();
    std::io::copy(&mut stream.take(missing), &mut std::io::sink()).map(drop)
}

fn return_bytes(stream: &mut (impl Read + Write), first: &[u8]) -> std::io::Result<()> {
    stream.write_all(first)?;
    let mut chunk = [0; CHUNK];
    loop {
        let count = stream.read(&mut chunk)?;
        if count == 0 {
            return Ok(());
        }
        stream.write_all(chunk.get(..count).unwrap_or_default())?;
    }
}

/// The client's address without port; an IPv4 one as such.
fn plain(client: SocketAddr) -> String {
    client.ip().to_canonical().to_string()
}

fn spawn(work: impl FnOnce() + Send + 'static) -> std::io::Result<()> {
    thread::Builder::new().stack_size(STACK).spawn(work).map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// An echo that listens on a free port of loopback.
    fn listening() -> (Arc<Echo>, SocketAddr) {
        let echo = Arc::new(Echo::new("web-0".to_owned()));
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port");
        let address = listener.local_addr().expect("an address");
        let serving = Arc::clone(&echo);
        spawn(move || serving.accept(&listener, Echo::serve)).expect("a thread");
        (echo, address)
    }

    fn ask(stream: &mut TcpStream, bytes: &[u8]) -> String {
        stream.set_read_timeout(Some(Duration::from_secs(20))).expect("a timeout");
        stream.write_all(bytes).expect("sent");
        let mut text = String::new();
        while !text.contains("web-0") {
            let mut chunk = [0; 1024];
            let count = stream.read(&mut chunk).expect("an answer");
            assert_ne!(count, 0, "closed after {text:?}");
            text += std::str::from_utf8(&chunk[..count]).expect("text");
        }
        text
    }

    const REQUEST: &[u8] = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n";

    // D-091
    #[test]
    fn a_drain_answers_those_who_still_come_and_ends_when_nobody_does() {
        let (echo, address) = listening();
        let mut kept = TcpStream::connect(address).expect("connected");
        assert!(ask(&mut kept, REQUEST).contains("Connection: keep-alive"));
        let draining = Arc::clone(&echo);
        let drain = thread::spawn(move || draining.drain());
        while !echo.draining.load(Ordering::SeqCst) {
            thread::yield_now();
        }
        assert!(ask(&mut kept, REQUEST).contains("Connection: close"), "clients with a connection are sent elsewhere");
        let mut late = TcpStream::connect(address).expect("still accepted");
        assert!(ask(&mut late, REQUEST).contains("Connection: close"));
        let before = Instant::now();
        drain.join().expect("no panic");
        assert!(before.elapsed() < Duration::from_secs(10));
    }

    #[test]
    fn a_drain_waits_for_a_request_that_is_still_being_sent_but_not_for_ever() {
        let (echo, address) = listening();
        let mut slow = TcpStream::connect(address).expect("connected");
        slow.write_all(b"POST / HTTP/1.1\r\nContent-Length: 4\r\n\r\nab").expect("sent");
        while echo.unanswered.load(Ordering::SeqCst) == 0 {
            thread::yield_now();
        }
        let draining = Arc::clone(&echo);
        let began = Instant::now();
        let drain = thread::spawn(move || draining.drain());
        thread::sleep(QUIET * 2);
        assert!(!drain.is_finished(), "the request is not answered yet");
        assert!(ask(&mut slow, b"cd").contains("Connection: close"));
        drain.join().expect("no panic");
        let mut stuck = TcpStream::connect(address).expect("connected");
        stuck.write_all(b"POST / HTTP/1.1\r\nContent-Length: 4\r\n\r\n").expect("sent");
        while echo.unanswered.load(Ordering::SeqCst) == 0 {
            thread::yield_now();
        }
        echo.drain();
        assert!(began.elapsed() >= DRAIN, "and no longer than that is anybody waited for");
    }
}
