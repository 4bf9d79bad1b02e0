//! Two hidden commands that look around where they are run: `__sockets` says what listens in this network namespace,
//! `__look` looks names up and tries a connection. Both print JSON.

use std::io::Write as _;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream, UdpSocket};
use std::process::ExitCode;
use std::time::Duration;

use minisvc_why::{Attempt, Listener, Lookup, Seen};
use serde::{Deserialize, Serialize};

use crate::lookup;
use crate::probe::Failure;

/// A connection that takes longer has failed. Inside one machine even a repeated SYN does not.
const CONNECT_WITHIN: Duration = Duration::from_millis(1200);

/// `st` of a listening TCP socket in `/proc/net/tcp`.
const LISTEN: &str = "0A";

/// `st` of a UDP socket that is not connected to anybody.
const UNCONNECTED: &str = "07";

/// What `__look` shall look at.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(crate) struct Errand {
    /// Names to look up.
    pub(crate) names: Vec<String>,
    /// Record types to ask for.
    pub(crate) types: Vec<String>,
    /// Where to connect.
    pub(crate) connect: Option<SocketAddr>,
    /// Where one would connect: only the own address on the way there is of interest.
    pub(crate) towards: Option<IpAddr>,
}

/// `__sockets`: prints every listening socket of this network namespace.
pub(crate) fn sockets_main() -> ExitCode {
    let mut found = Vec::new();
    for (file, protocol) in [("tcp", "TCP"), ("tcp6", "TCP"), ("udp", "UDP"), ("udp6", "UDP")] {
        // Without IPv6 two of the files are missing.
        let text = std::fs::read_to_string(format!("/proc/self/net/{file}")).unwrap_or_default();
        found.extend(text.lines().skip(1).filter_map(|line| listener(line, protocol)));
    }
    found.sort();
    found.dedup();
    print(&found)
}

/// `__look ERRAND`: prints what is seen from here.
pub(crate) fn look_main() -> ExitCode {
    let errand = std::env::args().nth(2).and_then(|text| serde_json::from_str::<Errand>(&text).ok());
    let Some(errand) = errand else { return ExitCode::from(2) };
    let Errand { names, types, connect, towards } = errand;
    // One slow answer must not hold up the others.
    let seen = std::thread::scope(|scope| {
        let attempt = connect.map(|target| scope.spawn(move || attempt(target)));
        let lookups: Vec<_> = names.iter().map(|name| scope.spawn(|| look_up(name, &types))).collect();
        Seen {
            source: towards.or_else(|| connect.map(|target| target.ip())).and_then(source),
            lookups: lookups.into_iter().filter_map(|thread| thread.join().ok()).collect(),
            attempt: attempt.and_then(|thread| thread.join().ok()),
        }
    });
    print(&seen)
}

fn print(value: &impl Serialize) -> ExitCode {
    let text = serde_json::to_string(value).unwrap_or_default();
    if writeln!(std::io::stdout(), "{text}").is_ok() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// The address with which this place would ask `target`. Sends nothing.
fn source(target: IpAddr) -> Option<IpAddr> {
    let any: IpAddr = if target.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
    let socket = UdpSocket::bind((any, 0)).ok()?;
    socket.connect((target, 9)).ok()?;
    Some(socket.local_addr().ok()?.ip())
}

fn attempt(target: SocketAddr) -> Attempt {
    let failure = TcpStream::connect_timeout(&target, CONNECT_WITHIN).err().map(|error| error.to_string());
    Attempt { target, failure }
}

fn look_up(name: &str, types: &[String]) -> Lookup {
    let mut found = Lookup { name: name.to_owned(), ..Lookup::default() };
    for kind in types {
        match steps(name, kind) {
            Ok((steps, addresses)) => {
                // The second type shows only what it adds.
                if found.steps.is_empty() || (found.addresses.is_empty() && !addresses.is_empty()) {
                    found.steps = steps;
                }
                found.addresses.extend(addresses);
            }
            Err(error) => found.failure = Some(error.to_string()),
        }
    }
    found
}

fn steps(name: &str, kind: &str) -> Result<(Vec<minisvc_why::LookupStep>, Vec<IpAddr>), Failure> {
    let mut steps = Vec::new();
    let mut addresses = Vec::new();
    lookup::walk(name, kind, |step| {
        let found = step.is_last && !step.records.is_empty();
        if found {
            addresses.extend(step.addresses());
        }
        let (name, reason) = (step.name.to_owned(), step.reason.to_owned());
        steps.push(minisvc_why::LookupStep { name, reason, verdict: step.verdict.clone(), found });
        Ok(())
    })?;
    Ok((steps, addresses))
}

/// One line of `/proc/net/tcp` and its kin: `sl local_address rem_address st …`, addresses as hexadecimal words in the
/// byte order of the machine.
fn listener(line: &str, protocol: &str) -> Option<Listener> {
    let mut words = line.split_whitespace().skip(1);
    let (local, state) = (words.next()?, words.nth(1)?);
    if state != if protocol == "TCP" { LISTEN } else { UNCONNECTED } {
        return None;
    }
    let (address, port) = local.split_once(':')?;
    let port = u16::from_str_radix(port, 16).ok()?;
    let words: Option<Vec<u8>> = (0..address.len() / 8)
        .map(|index| u32::from_str_radix(address.get(index * 8..index * 8 + 8)?, 16).ok())
        .collect::<Option<Vec<u32>>>()
        .map(|words| words.into_iter().flat_map(u32::to_ne_bytes).collect());
    let bytes = words?;
    let address = match <[u8; 4]>::try_from(bytes.as_slice()) {
        Ok(octets) => IpAddr::from(octets),
        // What is bound to an IPv4 address through an IPv6 socket is IPv4.
        Err(_) => Ipv6Addr::from(<[u8; 16]>::try_from(bytes.as_slice()).ok()?).to_canonical(),
    };
    Some(Listener { protocol: protocol.to_owned(), address, port })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernels_lines_say_what_listens_where() {
        if cfg!(target_endian = "big") {
            return;
        }
        let said = |line: &str, protocol: &str| listener(line, protocol).map(|l| format!("{} {}", l.address, l.port));
        let rest = "00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 1 1 0 100 0 0 10 0";
        assert_eq!(said(&format!("   0: 0100007F:1F90 {rest}"), "TCP").as_deref(), Some("127.0.0.1 8080"));
        assert_eq!(said(&format!("   0: 00000000:0050 {rest}"), "TCP").as_deref(), Some("0.0.0.0 80"));
        let any6 = "   1: 00000000000000000000000000000000:1F90 00000000000000000000000000000000:0000 0A 0 0";
        assert_eq!(said(any6, "TCP").as_deref(), Some(":: 8080"));
        let mapped = "   1: 0000000000000000FFFF00000100007F:1F90 00000000000000000000000000000000:0000 0A 0 0";
        assert_eq!(said(mapped, "TCP").as_deref(), Some("127.0.0.1 8080"));
        let connected = "   2: 0100007F:1F90 0100007F:C350 01 0 0";
        assert_eq!(said(connected, "TCP"), None);
        assert_eq!(said("   3: 00000000:0035 00000000:0000 07 0 0", "UDP").as_deref(), Some("0.0.0.0 53"));
        assert_eq!(said("", "TCP"), None);
    }
}
