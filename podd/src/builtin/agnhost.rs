//! The parts of `agnhost` that the network tests of Kubernetes execute: its servers become manners of the built-in one, its
//! tools run here and end.

use std::io::{self, Write as _};
use std::net::{SocketAddr, TcpStream, ToSocketAddrs as _, UdpSocket};
use std::process::ExitCode;
use std::time::Duration;

use jiff::SignedDuration;

use super::VOLUMES;
use super::files::Files;
use super::manner::{Manner, Plan, Task, flag};
use super::sctp::sctp_connect;

/// How long `connect` tries unless it is told.
const PATIENCE: Duration = Duration::from_secs(30);

/// What `connect` speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Protocol {
    Tcp,
    Udp,
    Sctp,
}

/// A program that says something and ends.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Tool {
    /// Whether a server can be reached.
    Connect { target: String, protocol: Protocol, patience: Duration },
    /// The search list of `/etc/resolv.conf`.
    Search,
    /// Its name servers.
    Servers,
    /// How it was called.
    Arguments(Vec<String>),
}

/// Reads the words after `agnhost`. `environment` has what `porter` serves.
///
/// # Errors
/// A sentence for the container's log.
pub(super) fn task(args: &[String], environment: &[(String, String)]) -> Result<Task, String> {
    let plan = |manner, port, udp_port| Plan { manner, port, udp_port, sctp_port: None, tls: false };
    let serve = |manner, port, udp_port| Ok(Task::Serve(vec![plan(manner, port, udp_port)]));
    match args.first().map_or("pause", String::as_str) {
        "pause" => Ok(Task::Pause),
        "netexec" => {
            let udp_port = flag(args, "udp-port")?.unwrap_or(8081);
            // No port at all is written as -1.
            let sctp_port = flag::<i32>(args, "sctp-port")?.and_then(|port| u16::try_from(port).ok());
            let plan = plan(Manner::Netexec, flag(args, "http-port")?.unwrap_or(8080), Some(udp_port));
            Ok(Task::Serve(vec![Plan { sctp_port, ..plan }]))
        }
        "serve-hostname" => {
            let port = flag(args, "port")?.unwrap_or(9376);
            serve(Manner::Hostname, port, Some(port))
        }
        "test-webserver" => {
            let volumes = environment.iter().find(|(name, _)| name == VOLUMES).map(|(_, list)| list.as_str());
            serve(Manner::Files(Files::below(volumes.unwrap_or_default())), flag(args, "port")?.unwrap_or(80), None)
        }
        "liveness" => serve(Manner::Liveness, 8080, None),
        "porter" => porter(environment),
        "connect" => connect(args),
        "dns-suffix" => Ok(Task::Tool(Tool::Search)),
        "dns-server-list" => Ok(Task::Tool(Tool::Servers)),
        "entrypoint-tester" => Ok(Task::Tool(Tool::Arguments(args.to_vec()))),
        other => Err(format!(
            "agnhost {other:?} is not built in: there are netexec, serve-hostname, test-webserver, porter, liveness, pause, \
             connect, dns-suffix, dns-server-list and entrypoint-tester; map the image to a program of yours with `--image \
             agnhost=COMMAND`"
        )),
    }
}

/// A text for each port: `SERVE_PORT_80=text`, or `SERVE_TLS_PORT_443=text`.
fn porter(environment: &[(String, String)]) -> Result<Task, String> {
    let mut plans = Vec::new();
    for (name, text) in environment {
        let plain = name.strip_prefix("SERVE_PORT_");
        let Some(port) = plain.or_else(|| name.strip_prefix("SERVE_TLS_PORT_")) else { continue };
        let port = port.parse().map_err(|_| format!("{name} names no port"))?;
        plans.push(Plan {
            manner: Manner::Port(text.clone()),
            port,
            udp_port: None,
            sctp_port: None,
            tls: plain.is_none(),
        });
    }
    plans.sort_by_key(|plan| plan.port);
    match plans.is_empty() {
        true => Err("porter has nothing to serve: set SERVE_PORT_80=TEXT and the like".to_owned()),
        false => Ok(Task::Serve(plans)),
    }
}

fn connect(args: &[String]) -> Result<Task, String> {
    let usage = || "connect HOST:PORT [--protocol tcp|udp|sctp] [--timeout 1s]".to_owned();
    let target = args.iter().skip(1).find(|word| !word.starts_with('-') && word.contains(':')).ok_or_else(usage)?;
    let protocol = match flag::<String>(args, "protocol")?.as_deref() {
        None | Some("tcp") => Protocol::Tcp,
        Some("udp") => Protocol::Udp,
        Some("sctp") => Protocol::Sctp,
        Some(other) => return Err(format!("protocol {other:?} is not built in: {}", usage())),
    };
    let patience: Option<SignedDuration> = flag(args, "timeout")?;
    let patience =
        patience.and_then(|patience| patience.try_into().ok()).filter(|patience: &Duration| !patience.is_zero());
    Ok(Task::Tool(Tool::Connect { target: target.clone(), protocol, patience: patience.unwrap_or(PATIENCE) }))
}

impl Tool {
    /// Does it. What it found goes to the output, why it failed to the errors, as one word for scripts where it can.
    pub(super) fn run(&self) -> ExitCode {
        let said = match self {
            Self::Connect { target, protocol, patience } => reach(target, *protocol, *patience).map(|()| None),
            Self::Search => resolver("search").map(Some),
            Self::Servers => resolver("nameserver").map(Some),
            Self::Arguments(args) => Ok(Some(format!("[/agnhost {}]", args.join(" ")))),
        };
        match said {
            Ok(None) => ExitCode::SUCCESS,
            Ok(Some(line)) => match writeln!(io::stdout(), "{line}") {
                Ok(()) => ExitCode::SUCCESS,
                Err(_) => ExitCode::FAILURE,
            },
            Err(reason) => {
                let _ = writeln!(io::stderr(), "{reason}");
                ExitCode::FAILURE
            }
        }
    }
}

/// What `/etc/resolv.conf` says after a word, with commas between.
fn resolver(word: &str) -> Result<String, String> {
    let text = std::fs::read_to_string("/etc/resolv.conf").map_err(|error| format!("/etc/resolv.conf: {error}"))?;
    Ok(values(&text, word).join(","))
}

fn values<'a>(text: &'a str, word: &str) -> Vec<&'a str> {
    let lines = text.lines().filter_map(|line| line.trim_start().strip_prefix(word));
    lines.filter(|rest| rest.starts_with([' ', '\t'])).flat_map(str::split_ascii_whitespace).collect()
}

fn reach(target: &str, protocol: Protocol, patience: Duration) -> Result<(), String> {
    let addresses = target.to_socket_addrs().map_err(|error| format!("DNS: {error}"))?;
    let mut reason = "DNS: no address".to_owned();
    for address in addresses {
        let tried = match protocol {
            Protocol::Tcp => open(address, patience).map(drop),
            Protocol::Udp => exchange(address, b"ping", patience).map(drop),
            Protocol::Sctp => sctp_connect(address, patience).map(drop),
        };
        match tried {
            Ok(()) => return Ok(()),
            Err(error) => reason = word_for(&error),
        }
    }
    Err(reason)
}

pub(super) fn open(address: SocketAddr, patience: Duration) -> io::Result<TcpStream> {
    TcpStream::connect_timeout(&address, patience)
}

/// Sends a datagram and waits for the first answer.
pub(super) fn exchange(address: SocketAddr, bytes: &[u8], patience: Duration) -> io::Result<Vec<u8>> {
    let any = if address.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" };
    let socket = UdpSocket::bind(any)?;
    socket.set_read_timeout(Some(patience))?;
    socket.connect(address)?;
    socket.send(bytes)?;
    let mut buffer = vec![0; 64 << 10];
    let count = socket.recv(&mut buffer)?;
    buffer.truncate(count);
    Ok(buffer)
}

fn word_for(error: &io::Error) -> String {
    match error.kind() {
        // A datagram that nobody answers.
        io::ErrorKind::TimedOut | io::ErrorKind::WouldBlock => "TIMEOUT".to_owned(),
        io::ErrorKind::ConnectionRefused => "REFUSED".to_owned(),
        _ => format!("OTHER: {error}"),
    }
}

#[cfg(test)]
mod tests {
    use std::net::{Ipv4Addr, TcpListener};

    use super::*;

    fn asked(line: &str) -> Result<Task, String> {
        let words: Vec<String> = line.split_ascii_whitespace().map(str::to_owned).collect();
        let variables = [
            ("SERVE_PORT_81", "b"),
            ("SERVE_PORT_80", "a"),
            ("SERVE_TLS_PORT_443", "c"),
            ("PORT", "9"),
            (VOLUMES, "/results"),
        ];
        task(&words, &variables.map(|(name, value)| (name.to_owned(), value.to_owned())))
    }

    #[test]
    fn every_word_means_a_server_or_a_tool() {
        let tool = |line| match asked(line).expect(line) {
            Task::Tool(tool) => tool,
            other => panic!("{line}: {other:?}"),
        };
        let connect = |target: &str, protocol, millis| Tool::Connect {
            target: target.to_owned(),
            protocol,
            patience: Duration::from_millis(millis),
        };
        assert_eq!(tool("connect web:80"), connect("web:80", Protocol::Tcp, 30_000));
        assert_eq!(tool("connect --timeout=500ms --protocol udp web:80"), connect("web:80", Protocol::Udp, 500));
        assert_eq!(tool("connect [fd00::1]:80 --timeout 3s"), connect("[fd00::1]:80", Protocol::Tcp, 3000));
        assert_eq!(tool("connect web:80 --protocol=sctp"), connect("web:80", Protocol::Sctp, 30_000));
        assert_eq!(tool("dns-suffix"), Tool::Search);
        assert_eq!(tool("dns-server-list"), Tool::Servers);
        assert_eq!(tool("entrypoint-tester a"), Tool::Arguments(vec!["entrypoint-tester".into(), "a".into()]));
        let Task::Serve(plans) = asked("test-webserver").expect("a plan") else { panic!("a server") };
        assert_eq!(
            plans,
            [Plan {
                manner: Manner::Files(Files::below("/results")),
                port: 80,
                udp_port: None,
                sctp_port: None,
                tls: false
            }]
        );
        let Task::Serve(plans) = asked("porter").expect("plans") else { panic!("a server") };
        let text = |port, text: &str, tls| Plan {
            manner: Manner::Port(text.into()),
            port,
            udp_port: None,
            sctp_port: None,
            tls,
        };
        assert_eq!(plans, [text(80, "a", false), text(81, "b", false), text(443, "c", true)]);
        for (line, reason) in [
            ("guestbook", "is not built in: there are netexec"),
            ("connect", "connect HOST:PORT"),
            ("connect web:80 --protocol=icmp", "\"icmp\" is not built in"),
            ("connect web:80 --timeout=soon", "--timeout=soon has no usable value"),
        ] {
            assert!(asked(line).expect_err(line).contains(reason), "{line}");
        }
        let unclear = task(&["porter".to_owned()], &[("SERVE_PORT_X".to_owned(), "x".to_owned())]);
        assert_eq!(unclear, Err("SERVE_PORT_X names no port".to_owned()));
    }

    #[test]
    fn the_resolvers_settings_are_read() {
        let text = "search a.example b.example\nnameserver 10.96.0.10\noptions ndots:5\nnameserver\t1.1.1.1\n";
        assert_eq!(values(text, "search"), ["a.example", "b.example"]);
        assert_eq!(values(text, "nameserver"), ["10.96.0.10", "1.1.1.1"]);
    }

    #[test]
    fn a_server_is_reached_refused_or_silent() {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port");
        let here = listener.local_addr().expect("an address").to_string();
        assert_eq!(reach(&here, Protocol::Tcp, PATIENCE), Ok(()));
        drop(listener);
        assert_eq!(reach(&here, Protocol::Tcp, PATIENCE), Err("REFUSED".to_owned()));
        let silent = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port");
        let there = silent.local_addr().expect("an address").to_string();
        assert_eq!(reach(&there, Protocol::Udp, Duration::from_millis(20)), Err("TIMEOUT".to_owned()));
        assert!(reach("no such host:80", Protocol::Tcp, PATIENCE).expect_err("no name").starts_with("DNS: "));
    }
}
