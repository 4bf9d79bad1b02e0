//! What is asked: about what, and who is the client.

use std::net::{IpAddr, SocketAddr};

use thiserror::Error;

use crate::facts::{Facts, Key};
use crate::records::Pod;

/// What the question is about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Target {
    /// A Service.
    Service(Key),
    /// A pod.
    Pod(Key),
    /// An address.
    Address(IpAddr),
    /// A name as a program would give it to the resolver.
    Name(String),
}

/// Who asks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Client {
    /// The place where the user types.
    Workstation,
    /// A pod.
    Pod(Key),
}

/// Why does this not answer?
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Question {
    /// What is asked.
    pub target: Target,
    /// On which port; `None` means each that it has.
    pub port: Option<u16>,
    /// `TCP` or `UDP`, if the question says which.
    pub protocol: Option<&'static str>,
    /// By whom.
    pub client: Client,
}

/// A text that is no target.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum TargetError {
    /// A kind that cannot be asked.
    #[error("{0:?} is a kind that has no address: ask svc/NAME, pod/NAME, ADDRESS:PORT or a name")]
    Kind(String),
    /// A port that is no number.
    #[error("{0:?} is no port: a number from 1 to 65535")]
    Port(String),
    /// Nothing at all.
    #[error("the target is empty: ask svc/NAME, pod/NAME, ADDRESS:PORT or a name")]
    Empty,
}

impl Question {
    /// Reads what a user types: `svc/NAME[:PORT]`, `pod/NAME[:PORT]`, `ADDRESS[:PORT]`, `NAME[:PORT]` or a URL; `/udp`
    /// at the end names the protocol.
    ///
    /// # Errors
    /// Says what may be typed instead.
    pub fn parse(text: &str, namespace: &str, client: Client) -> Result<Self, TargetError> {
        let (text, scheme_port) = without_url(text.trim());
        let (text, protocol) = match text.rsplit_once('/') {
            Some((rest, last)) if last.eq_ignore_ascii_case("udp") => (rest, Some("UDP")),
            Some((rest, last)) if last.eq_ignore_ascii_case("tcp") => (rest, Some("TCP")),
            _ => (text, None),
        };
        let (kind, rest) = text.split_once('/').map_or((None, text), |(kind, rest)| (Some(kind), rest));
        let (host, port) = split_port(rest)?;
        if host.is_empty() {
            return Err(TargetError::Empty);
        }
        let key = || (namespace.to_owned(), host.to_owned());
        let target = match kind.map(str::to_lowercase).as_deref() {
            Some("svc" | "service" | "services") => Target::Service(key()),
            Some("po" | "pod" | "pods") => Target::Pod(key()),
            Some(other) => return Err(TargetError::Kind(other.to_owned())),
            None => host.parse().map_or_else(|_| Target::Name(host.to_owned()), Target::Address),
        };
        Ok(Self { target, port: port.or(scheme_port), protocol, client })
    }

    pub(crate) fn about(&self) -> String {
        let port = self.port.map(|port| format!(":{port}")).unwrap_or_default();
        match &self.target {
            Target::Service((namespace, name)) => format!("svc/{name}{port} in {namespace}"),
            Target::Pod((namespace, name)) => format!("pod/{name}{port} in {namespace}"),
            Target::Address(address) => {
                self.port.map_or_else(|| address.to_string(), |port| SocketAddr::new(*address, port).to_string())
            }
            Target::Name(name) => format!("{name}{port}"),
        }
    }
}

impl Client {
    pub(crate) fn label(&self) -> String {
        match self {
            Self::Workstation => "the workstation".to_owned(),
            Self::Pod((namespace, name)) => format!("pod {namespace}/{name}"),
        }
    }

    /// Where its short names belong.
    pub(crate) fn namespace(&self) -> &str {
        match self {
            Self::Workstation => "default",
            Self::Pod((namespace, _)) => namespace,
        }
    }

    pub(crate) fn pod<'a>(&self, facts: &'a Facts) -> Option<&'a Pod> {
        match self {
            Self::Workstation => None,
            Self::Pod((namespace, name)) => facts.pod(namespace, name),
        }
    }
}

fn without_url(text: &str) -> (&str, Option<u16>) {
    for (scheme, port) in [("http://", 80), ("https://", 443)] {
        if let Some(rest) = text.strip_prefix(scheme) {
            return (rest.split('/').next().unwrap_or_default(), Some(port));
        }
    }
    (text, None)
}

/// `[::1]:80`, `1.2.3.4:80`, `web:80`; an IPv6 address without brackets has no port.
fn split_port(text: &str) -> Result<(&str, Option<u16>), TargetError> {
    let (host, port) = match text.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        Some((host, rest)) => (host, rest.strip_prefix(':')),
        None if text.parse::<IpAddr>().is_ok() => (text, None),
        None => text.rsplit_once(':').map_or((text, None), |(host, port)| (host, Some(port))),
    };
    let number =
        |text: &str| text.parse().ok().filter(|&port| port != 0).ok_or_else(|| TargetError::Port(text.to_owned()));
    Ok((host, port.map(number).transpose()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn people_type_targets_in_many_ways() {
        let key = |name: &str| ("shop".to_owned(), name.to_owned());
        let address = |text: &str| Target::Address(text.parse().expect("an address"));
        let name = |text: &str| Target::Name(text.to_owned());
        for (text, target, port, protocol) in [
            ("svc/web", Target::Service(key("web")), None, None),
            ("service/web:80", Target::Service(key("web")), Some(80), None),
            ("svc/dns:53/udp", Target::Service(key("dns")), Some(53), Some("UDP")),
            ("pod/web-0", Target::Pod(key("web-0")), None, None),
            ("10.96.0.1:443", address("10.96.0.1"), Some(443), None),
            ("10.96.0.1", address("10.96.0.1"), None, None),
            ("[fd00::1]:80/tcp", address("fd00::1"), Some(80), Some("TCP")),
            ("fd00::1", address("fd00::1"), None, None),
            ("web.shop:8080", name("web.shop"), Some(8080), None),
            ("http://web.shop/path", name("web.shop"), Some(80), None),
            ("https://web:8443/", name("web"), Some(8443), None),
        ] {
            let found = Question::parse(text, "shop", Client::Workstation).expect(text);
            assert_eq!((found.target, found.port, found.protocol), (target, port, protocol), "{text}");
        }
        let error = |text: &str| Question::parse(text, "shop", Client::Workstation).expect_err(text).to_string();
        assert!(error("deploy/web").contains("ask svc/NAME"));
        assert!(error("web:http").contains("is no port"));
        assert!(error("").contains("empty"));
    }
}
