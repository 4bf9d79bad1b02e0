//! The place where the user types: what a process there sees, and how we look at the lab from there.

use std::io::{self, Write as _};
use std::net::{IpAddr, SocketAddr, ToSocketAddrs as _};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use http_body_util::{BodyExt as _, Empty};
use hyper_util::rt::TokioIo;
use minisvc_sandbox::{Mount, Namespace};

use crate::config::CLUSTER_DOMAIN;
use crate::error::{CliError, Context as _};

/// Where names are looked up that resolvers would ask first: covered, so that answers really come from the lab.
const OTHER_RESOLVERS: [&str; 3] = ["/run/systemd/resolve", "/run/nscd", "/var/run/nscd"];

/// Longest answer that [`get`] reads, in bytes.
const MAX_ANSWER: usize = 1 << 20;

/// Writes the files that make names resolve through the lab's DNS, and says what to mount where.
///
/// # Errors
/// When they cannot be written.
pub(crate) fn name_files(folder: &Path, dns: IpAddr, hostname: &str, own: &[IpAddr]) -> Result<Vec<Mount>, CliError> {
    std::fs::create_dir_all(folder).context(|| format!("cannot make {}", folder.display()))?;
    let search = format!("default.svc.{CLUSTER_DOMAIN} svc.{CLUSTER_DOMAIN} {CLUSTER_DOMAIN}");
    let own: String = own.iter().map(|address| format!("{address}\t{hostname}\n")).collect();
    let files = [
        ("/etc/resolv.conf", format!("nameserver {dns}\nsearch {search}\noptions ndots:5\n")),
        ("/etc/hosts", format!("127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost\n{own}")),
        ("/etc/nsswitch.conf", "passwd: files\ngroup: files\nhosts: files dns\n".to_owned()),
    ];
    let mut mounts: Vec<Mount> =
        OTHER_RESOLVERS.iter().map(|path| Mount::Hide { target: PathBuf::from(path) }).collect();
    for (target, text) in files {
        let source = folder.join(target.trim_start_matches("/etc/"));
        std::fs::write(&source, text).context(|| format!("cannot write {}", source.display()))?;
        mounts.push(Mount::Bind { source, target: PathBuf::from(target), read_only: true });
    }
    Ok(mounts)
}

/// The hidden command `__resolve NAME`: asks the C library, as every program does, and prints one address a line.
pub(crate) fn resolve_main() -> ExitCode {
    let Some(name) = std::env::args().nth(2) else { return ExitCode::from(2) };
    match (name.as_str(), 0).to_socket_addrs() {
        Ok(found) => {
            let mut addresses: Vec<IpAddr> = found.map(|address| address.ip()).collect();
            addresses.dedup();
            let text: String = addresses.iter().map(|address| format!("{address}\n")).collect();
            if io::stdout().write_all(text.as_bytes()).is_ok() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
        }
        Err(_) => ExitCode::FAILURE,
    }
}

/// Requests a page from inside a namespace over a connection of its own.
///
/// # Errors
/// What the connection says, or that it took longer than `within`.
pub(crate) async fn get(from: &Namespace, target: SocketAddr, path: &str, within: Duration) -> io::Result<String> {
    let request = async {
        let stream = from.connect_tcp(target).await?;
        let (mut sender, connection) =
            hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.map_err(io::Error::other)?;
        let request = http::Request::get(path)
            .header("host", target.to_string())
            .header("connection", "close")
            .body(Empty::<bytes::Bytes>::new())
            .map_err(io::Error::other)?;
        let answer = async move {
            let answer = sender.send_request(request).await.map_err(io::Error::other)?;
            let body = http_body_util::Limited::new(answer.into_body(), MAX_ANSWER).collect().await;
            let bytes = body.map_err(io::Error::other)?.to_bytes();
            Ok(String::from_utf8_lossy(&bytes).trim().to_owned())
        };
        // The connection has to be driven beside the request. Its own end is no news: if it broke, the answer did too.
        let (answer, _) = tokio::join!(answer, connection);
        answer
    };
    tokio::time::timeout(within, request).await.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
}

#[cfg(test)]
mod tests {
    use super::*;

    // N-079
    #[test]
    fn names_are_asked_of_the_lab_and_of_nobody_else() {
        let dir = tempfile::tempdir().expect("temporary folder");
        let [dns, four, six] = ["10.96.0.10", "10.95.0.1", "fd00:95::1"].map(|text| text.parse().expect("an address"));
        let mounts = name_files(dir.path(), dns, "workstation", &[four, six]).expect("written");
        let read = |name: &str| std::fs::read_to_string(dir.path().join(name)).expect("there");
        assert_eq!(
            read("resolv.conf"),
            "nameserver 10.96.0.10\nsearch default.svc.cluster.local svc.cluster.local cluster.local\noptions ndots:5\n"
        );
        assert!(read("nsswitch.conf").contains("hosts: files dns"));
        assert!(read("hosts").ends_with("\n10.95.0.1\tworkstation\nfd00:95::1\tworkstation\n"));
        let targets: Vec<_> = mounts
            .iter()
            .filter_map(|mount| if let Mount::Bind { target, .. } = mount { target.to_str() } else { None })
            .collect();
        assert_eq!(targets, ["/etc/resolv.conf", "/etc/hosts", "/etc/nsswitch.conf"]);
    }
}
