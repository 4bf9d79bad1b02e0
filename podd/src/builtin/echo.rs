//! `minisvc/echo`: says who answered and whom it saw, over HTTP; sends other bytes back, over TCP and UDP.
//!
//! Paths: `/healthz` is always 200; `/readyz` is 200 until `/readyz/fail` and again after `/readyz/ok`; everything
//! else answers one line: pod, node, client address, method and path.

use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use super::http::{self, Head, Parsed};
use super::{block_signals, wait_for_end};

/// Where it listens unless `PORT` says otherwise.
const PORT: u16 = 8080;
/// Connections at a time; further ones are closed at once.
const CONNECTIONS: usize = 1000;
/// A thread needs little here.
const STACK: usize = 128 << 10;
/// A connection that says nothing for so long is closed.
const IDLE: Duration = Duration::from_secs(300);
/// How long the first bytes of a raw connection may take before it counts as silent.
const CHUNK: usize = 8 << 10;

/// What the threads share.
struct Echo {
    /// Pod and node, as they are shown.
    who: String,
    ready: AtomicBool,
    open: AtomicUsize,
}

/// Serves until it is told to end, then ends with 0; ends with 1 if it cannot listen.
pub fn echo_main() -> ExitCode {
    let signals = block_signals();
    let variable = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
    let port = variable("PORT").and_then(|port| port.parse().ok()).unwrap_or(PORT);
    let pod = variable("POD_NAME").or_else(|| variable("HOSTNAME")).unwrap_or_else(|| "unknown".to_owned());
    let node = variable("NODE_NAME").map(|node| format!(" on {node}")).unwrap_or_default();
    let echo = Arc::new(Echo { who: format!("{pod}{node}"), ready: AtomicBool::new(true), open: AtomicUsize::new(0) });
    match echo.listen(port) {
        Ok(()) => wait_for_end(&signals),
        Err(error) => {
            // To the container's log.
            let _ = writeln!(std::io::stderr(), "cannot listen on port {port}: {error}");
            ExitCode::FAILURE
        }
    }
}

impl Echo {
    /// Starts the threads that serve. Both families if the kernel has IPv6, else IPv4.
    fn listen(self: &Arc<Self>, port: u16) -> std::io::Result<()> {
        let any6 = SocketAddr::from((Ipv6Addr::UNSPECIFIED, port));
        let any4 = SocketAddr::from((Ipv4Addr::UNSPECIFIED, port));
        let tcp = TcpListener::bind(any6).or_else(|_| TcpListener::bind(any4))?;
        let udp = UdpSocket::bind(any6).or_else(|_| UdpSocket::bind(any4))?;
        let _ = writeln!(std::io::stdout(), "{} listens on port {port}", self.who);
        let echo = Arc::clone(self);
        spawn(move || echo.accept(&tcp))?;
        spawn(move || return_datagrams(&udp))
    }

    fn accept(self: &Arc<Self>, listener: &TcpListener) {
        for stream in listener.incoming() {
            let Ok(stream) = stream else {
                // Out of descriptors, most likely: others have to end first.
                thread::sleep(Duration::from_millis(10));
                continue;
            };
            if self.open.fetch_add(1, Ordering::Relaxed) >= CONNECTIONS {
                self.open.fetch_sub(1, Ordering::Relaxed);
                continue;
            }
            let echo = Arc::clone(self);
            let served = spawn(move || {
                // A client that goes away ends its connection, nothing else.
                let _ = echo.serve(stream);
                echo.open.fetch_sub(1, Ordering::Relaxed);
            });
            if served.is_err() {
                self.open.fetch_sub(1, Ordering::Relaxed);
            }
        }
    }

    fn serve(&self, mut stream: TcpStream) -> std::io::Result<()> {
        let client = stream.peer_addr()?;
        stream.set_read_timeout(Some(IDLE))?;
        stream.set_nodelay(true)?;
        let mut pending = Vec::new();
        let mut chunk = [0; CHUNK];
        loop {
            match http::parse(&pending) {
                Parsed::Head(head) => {
                    skip_body(&mut stream, &mut pending, &head)?;
                    let (status, text) = self.reply(&head, client);
                    stream.write_all(&http::answer(&head, status, &text))?;
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

    fn reply(&self, head: &Head, client: SocketAddr) -> (&'static str, String) {
        match head.path.split('?').next().unwrap_or_default() {
            "/healthz" => ("200 OK", "ok\n".to_owned()),
            "/readyz/fail" => self.set_ready(false),
            "/readyz/ok" => self.set_ready(true),
            "/readyz" if self.ready.load(Ordering::Relaxed) => ("200 OK", "ok\n".to_owned()),
            "/readyz" => ("503 Service Unavailable", "not ready\n".to_owned()),
            _ => ("200 OK", format!("{} saw {} ask {} {}\n", self.who, plain(client), head.method, head.path)),
        }
    }

    fn set_ready(&self, ready: bool) -> (&'static str, String) {
        self.ready.store(ready, Ordering::Relaxed);
        ("200 OK", format!("{} is {}\n", self.who, if ready { "ready" } else { "not ready" }))
    }
}

/// Takes the head and its body out of what has arrived.
fn skip_body(stream: &mut TcpStream, pending: &mut Vec<u8>, head: &Head) -> std::io::Result<()> {
    let have = pending.len() - head.length;
    if have >= head.body {
        pending.drain(..head.length + head.body);
        return Ok(());
    }
    let missing = u64::try_from(head.body - have).unwrap_or(u64::MAX);
    pending.clear();
    std::io::copy(&mut stream.take(missing), &mut std::io::sink()).map(drop)
}

fn return_bytes(stream: &mut TcpStream, first: &[u8]) -> std::io::Result<()> {
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

fn return_datagrams(socket: &UdpSocket) {
    let mut buffer = vec![0; 64 << 10];
    loop {
        // An error is an ICMP message about an earlier answer.
        let Ok((count, client)) = socket.recv_from(&mut buffer) else { continue };
        let _ = socket.send_to(buffer.get(..count).unwrap_or_default(), client);
    }
}

/// The client's address without port; an IPv4 one as such.
fn plain(client: SocketAddr) -> String {
    client.ip().to_canonical().to_string()
}

fn spawn(work: impl FnOnce() + Send + 'static) -> std::io::Result<()> {
    thread::Builder::new().stack_size(STACK).spawn(work).map(drop)
}
