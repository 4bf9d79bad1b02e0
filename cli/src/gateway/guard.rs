//! Who may speak plain HTTP to a lab: a program of its owner, and no page of another site in the owner's browser.

use std::net::SocketAddr;

use http::{HeaderMap, HeaderName, header};

use crate::home;

/// What a connection of another user is told.
pub(super) const STRANGER: &str = "this lab belongs to another user of this machine";

/// How browsers say where a request comes from (Fetch Metadata, W3C).
const FETCH_SITE: HeaderName = HeaderName::from_static("sec-fetch-site");

/// Lets in who may.
#[derive(Debug)]
pub(crate) struct Guard {
    address: SocketAddr,
    owners: [u32; 3],
}

impl Guard {
    /// For a listener at this address: this user, the user behind sudo and root may connect.
    pub(crate) fn new(address: SocketAddr) -> Self {
        Self { address, owners: [0, nix::unistd::geteuid().as_raw(), home::behind_sudo().0] }
    }

    /// Whether the other end of a connection belongs to an owner. Both ends are on this machine, so the kernel knows.
    pub(super) fn admits_peer(&self, peer: SocketAddr) -> bool {
        let table = if peer.is_ipv4() { "/proc/net/tcp" } else { "/proc/net/tcp6" };
        let uid = std::fs::read_to_string(table).ok().and_then(|text| uid_of(&text, peer, self.address));
        uid.is_some_and(|uid| self.owners.contains(&uid))
    }

    /// Why a request is refused although its sender's user may ask: it comes from a page of another site.
    pub(super) fn refusal(&self, headers: &HeaderMap) -> Option<&'static str> {
        let text = |name: &HeaderName| headers.get(name).map(|value| value.to_str().unwrap_or_default());
        // A name that leads here by somebody else's DNS is not ours (DNS rebinding).
        if !text(&header::HOST).is_some_and(|host| self.is_ours(host)) {
            return Some("ask by 127.0.0.1 or localhost, and this port");
        }
        let origin = text(&header::ORIGIN);
        if origin.is_some_and(|origin| !origin.strip_prefix("http://").is_some_and(|host| self.is_ours(host))) {
            return Some("a page of another site asked");
        }
        match text(&FETCH_SITE) {
            None | Some("same-origin" | "none") => None,
            Some(_) => Some("a page of another site asked"),
        }
    }

    fn is_ours(&self, host: &str) -> bool {
        let (name, port) = host.rsplit_once(':').unwrap_or((host, "80"));
        port.parse() == Ok(self.address.port()) && matches!(name, "127.0.0.1" | "localhost")
    }
}

/// The user of the socket from `from` to `to`, in the table of `/proc/net/tcp` (proc(5)): local and remote address in
/// hexadecimal, the user in the eighth column.
fn uid_of(table: &str, from: SocketAddr, to: SocketAddr) -> Option<u32> {
    let (from, to) = (in_hex(from), in_hex(to));
    table.lines().find_map(|line| {
        let mut columns = line.split_whitespace().skip(1);
        let ours = columns.next()? == from && columns.next()? == to;
        ours.then(|| columns.nth(4)?.parse().ok()).flatten()
    })
}

/// An address as the kernel prints it: words of four bytes in the machine's order, then the port.
fn in_hex(address: SocketAddr) -> String {
    let bytes = match address.ip() {
        std::net::IpAddr::V4(ip) => ip.octets().to_vec(),
        std::net::IpAddr::V6(ip) => ip.octets().to_vec(),
    };
    let words = bytes.chunks_exact(4).filter_map(|word| Some(u32::from_ne_bytes(word.try_into().ok()?)));
    words.map(|word| format!("{word:08X}")).collect::<String>() + &format!(":{:04X}", address.port())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn guard() -> Guard {
        Guard { address: SocketAddr::from(([127, 0, 0, 1], 8001)), owners: [0, 1000, 1000] }
    }

    fn headers(pairs: &[(&'static str, &str)]) -> HeaderMap {
        let pairs = pairs.iter().map(|(name, value)| (HeaderName::from_static(name), value.parse().expect("a value")));
        pairs.collect()
    }

    #[test]
    fn only_pages_of_our_own_may_ask() {
        let ours = ("host", "127.0.0.1:8001");
        for (allowed, pairs) in [
            (true, vec![ours]),
            (true, vec![("host", "localhost:8001")]),
            (true, vec![ours, ("origin", "http://127.0.0.1:8001"), ("sec-fetch-site", "same-origin")]),
            (true, vec![ours, ("sec-fetch-site", "none")]),
            (false, vec![]),
            (false, vec![("host", "127.0.0.1:8002")]),
            (false, vec![("host", "evil.example:8001")]),
            (false, vec![ours, ("origin", "http://evil.example")]),
            (false, vec![ours, ("origin", "null")]),
            (false, vec![ours, ("origin", "http://localhost:3000")]),
            (false, vec![ours, ("sec-fetch-site", "cross-site")]),
            (false, vec![ours, ("sec-fetch-site", "same-site")]),
        ] {
            assert_eq!(guard().refusal(&headers(&pairs)).is_none(), allowed, "{pairs:?}");
        }
    }

    #[test]
    fn the_kernel_tells_whose_connection_it_is() {
        let table = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n   \
            0: 0100007F:1F41 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 7 1 0 100\n   \
            1: 0100007F:C001 0100007F:1F41 01 00000000:00000000 00:00000000 00000000  1000        0 8 1 0 20\n";
        let at = |port| SocketAddr::from(([127, 0, 0, 1], port));
        if cfg!(target_endian = "little") {
            assert_eq!(uid_of(table, at(0xC001), at(8001)), Some(1000));
        }
        assert_eq!(uid_of(table, at(0xC002), at(8001)), None);
    }

    #[test]
    fn a_connection_of_this_very_process_is_its_users() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
        let guard = Guard::new(listener.local_addr().expect("an address"));
        let stream = std::net::TcpStream::connect(guard.address).expect("connected");
        assert!(guard.admits_peer(stream.local_addr().expect("an address")));
        let other = Guard { owners: [u32::MAX; 3], ..guard };
        assert!(!other.admits_peer(stream.local_addr().expect("an address")));
    }
}
