//! `--network host` and names: this machine's systemd-resolved asks the lab about the lab's names, and nobody else about
//! them. It is told for the one interface, so what it was told goes with it. No file of the machine is changed.

use std::io;
use std::net::IpAddr;
use std::process::{Output, Stdio};
use std::time::Duration;

use ipnet::IpNet;
use tokio::process::Command;

use crate::addresses::FamilyPlan;
use crate::config::{CLUSTER_DOMAIN, LabConfig};

/// systemd-resolved's own client: the way that its manual names, and older than any library for its bus interface.
const RESOLVECTL: &str = "resolvectl";

/// How long it may take; it only talks to the service on this machine.
const PATIENCE: Duration = Duration::from_secs(5);

/// Why names of the lab do not resolve on this machine by themselves.
#[derive(Debug, thiserror::Error)]
pub(crate) enum NoResolver {
    /// The resolver is that of the machine, and we are not in the machine's network.
    #[error("this is not the machine's own network namespace, so its resolver cannot be told")]
    Elsewhere,
    /// There is no `resolvectl`.
    #[error("there is no systemd-resolved ({RESOLVECTL}: {0})")]
    NotThere(#[source] io::Error),
    /// It did not do it.
    #[error("systemd-resolved did not take it ({RESOLVECTL} {command}: {said})")]
    Refused {
        /// What it was asked.
        command: String,
        /// What it said.
        said: String,
    },
}

/// Has this machine's resolver ask the lab about the lab's names.
///
/// # Errors
/// When there is no such resolver, or it does not want to.
pub(crate) async fn announce(config: &LabConfig, interface: &str) -> Result<(), NoResolver> {
    if !is_own_network() {
        return Err(NoResolver::Elsewhere);
    }
    for arguments in commands(config, interface) {
        let mut command = Command::new(RESOLVECTL);
        command.args(&arguments).stdin(Stdio::null()).kill_on_drop(true);
        let output = tokio::time::timeout(PATIENCE, command.output())
            .await
            .unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
            .map_err(NoResolver::NotThere)?;
        if !output.status.success() {
            return Err(NoResolver::Refused { command: arguments.join(" "), said: complaint(&output) });
        }
    }
    Ok(())
}

/// What to do by hand where [`announce`] could not.
pub(crate) fn by_hand(config: &LabConfig) -> String {
    let server = config.addresses.primary.dns();
    format!(
        "names of the lab do not resolve on this machine by themselves. Have its resolver ask {server} about \
         {CLUSTER_DOMAIN}; with dnsmasq that is the line server=/{CLUSTER_DOMAIN}/{server}. Names resolve in minisvc \
         shell in any case."
    )
}

/// The link index that resolved is told is one of the machine's network namespace, that of its first process. In another
/// one it would be that of some other interface.
fn is_own_network() -> bool {
    let of = |process: &str| std::fs::read_link(format!("/proc/{process}/ns/net"));
    matches!((of("self"), of("1")), (Ok(own), Ok(first)) if own == first)
}

/// What resolved is told: first which names and how, then whom to ask, so that it never asks the lab about others.
fn commands(config: &LabConfig, interface: &str) -> Vec<Vec<String>> {
    let words = |verb: &str, rest: Vec<String>| [vec![verb.to_owned(), interface.to_owned()], rest].concat();
    let without = |verb| words(verb, vec!["no".to_owned()]);
    let ranges = config.addresses.each(|family| [family.services, family.pods]).concat();
    // A tilde: questions for these go here, but they are not appended to short names.
    let domains = std::iter::once(CLUSTER_DOMAIN.to_owned())
        .chain(ranges.iter().flat_map(reverse_zones))
        .map(|domain| format!("~{domain}"));
    vec![
        without("default-route"),
        words("domain", domains.collect()),
        // Nobody in the lab answers a call to all, but short names would wait for it.
        without("llmnr"),
        without("mdns"),
        // The machine may ask nobody else without; the way to the lab does not leave it.
        without("dnsovertls"),
        words("dns", vec![FamilyPlan::dns(&config.addresses.primary).to_string()]),
    ]
}

/// The reverse zones that make up a range: it may begin or end between two labels.
fn reverse_zones(range: &IpNet) -> Vec<String> {
    let (bits, suffix) = if range.addr().is_ipv4() { (8, "in-addr.arpa") } else { (4, "ip6.arpa") };
    let labels = range.prefix_len().div_ceil(bits);
    let zones = range.subnets(labels * bits).map(Iterator::collect::<Vec<_>>).unwrap_or_default();
    zones
        .iter()
        .map(|zone| {
            let all: Vec<String> = match zone.network() {
                IpAddr::V4(address) => address.octets().iter().map(ToString::to_string).collect(),
                IpAddr::V6(address) => {
                    let nibbles = address.octets().into_iter().flat_map(|octet| [octet >> 4, octet & 0xf]);
                    nibbles.map(|nibble| format!("{nibble:x}")).collect()
                }
            };
            let mut name: Vec<String> = all.into_iter().take(labels.into()).rev().collect();
            name.push(suffix.to_owned());
            name.join(".")
        })
        .collect()
}

fn complaint(output: &Output) -> String {
    let text = String::from_utf8_lossy(&output.stderr);
    let line = text.lines().find(|line| !line.trim().is_empty()).map(|line| line.trim().to_owned());
    line.unwrap_or_else(|| output.status.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_range_is_the_reverse_zones_that_it_is_made_of() {
        let zones = |text: &str| reverse_zones(&text.parse().expect("a range"));
        assert_eq!(zones("10.96.0.0/16"), ["96.10.in-addr.arpa"]);
        assert_eq!(zones("10.0.0.0/8"), ["10.in-addr.arpa"]);
        assert_eq!(zones("10.244.2.0/23"), ["2.244.10.in-addr.arpa", "3.244.10.in-addr.arpa"]);
        assert_eq!(zones("10.96.0.0/12").len(), 16);
        assert_eq!(zones("fd00:96::/112"), ["0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.6.9.0.0.0.0.d.f.ip6.arpa"]);
        assert_eq!(zones("fd00:244::/56"), ["0.0.0.0.0.0.4.4.2.0.0.0.d.f.ip6.arpa"]);
    }
}
