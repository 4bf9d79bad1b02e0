//! `/etc/hosts` of a pod (N-091 to N-094).

use std::fmt::Write as _;
use std::net::IpAddr;

use k8s_openapi::api::core::v1::HostAlias;

use super::names::Names;

/// The lines every pod has, in the order of N-091.
const FIXED: [(&str, &str); 6] = [
    ("127.0.0.1", "localhost"),
    ("::1", "localhost ip6-localhost ip6-loopback"),
    ("fe00::0", "ip6-localnet"),
    ("fe00::0", "ip6-mcastprefix"),
    ("fe00::1", "ip6-allnodes"),
    ("fe00::2", "ip6-allrouters"),
];

/// For a pod with a network of its own.
pub(crate) fn pod_file(names: &Names, addresses: &[IpAddr], aliases: &[HostAlias]) -> String {
    let mut out = String::from("# Kubernetes-managed hosts file.\n");
    for (address, what) in FIXED {
        line(&mut out, address, what.split(' '));
    }
    let long = names.domain.as_ref().map(|domain| format!("{}.{domain}", names.hostname));
    for address in addresses {
        line(&mut out, &address.to_string(), long.as_deref().into_iter().chain([names.hostname.as_str()]));
    }
    append_aliases(&mut out, aliases);
    out
}

/// For a pod in its node's network; `host` is the host's own file.
pub(crate) fn node_file(host: &str, aliases: &[HostAlias]) -> String {
    let mut out = format!("# Kubernetes-managed hosts file (host network).\n{host}");
    if !out.ends_with('\n') {
        out.push('\n');
    }
    append_aliases(&mut out, aliases);
    out
}

fn append_aliases(out: &mut String, aliases: &[HostAlias]) {
    if aliases.is_empty() {
        return;
    }
    out.push_str("\n# Entries added by HostAliases.\n");
    for alias in aliases {
        line(out, &alias.ip, alias.hostnames.iter().flatten().map(String::as_str));
    }
}

fn line<'a>(out: &mut String, address: &str, names: impl Iterator<Item = &'a str>) {
    out.push_str(address);
    for name in names {
        // Writing to a string cannot fail.
        let _ = write!(out, "\t{name}");
    }
    out.push('\n');
}

#[cfg(test)]
mod tests {
    use super::*;

    fn aliases() -> Vec<HostAlias> {
        let names = vec!["foo.remote".to_owned(), "bar.remote".to_owned()];
        vec![HostAlias { ip: "123.45.67.89".to_owned(), hostnames: Some(names) }]
    }

    // N-091, N-092, N-093, N-102
    #[test]
    fn a_pod_knows_itself_and_its_aliases() {
        let names = Names {
            hostname: "web-0".to_owned(),
            domain: Some("db.shop.svc.cluster.local".to_owned()),
            kernel: "web-0".to_owned(),
        };
        let address = ["10.244.1.2".parse().expect("an address")];
        let expected = "# Kubernetes-managed hosts file.\n\
            127.0.0.1\tlocalhost\n\
            ::1\tlocalhost\tip6-localhost\tip6-loopback\n\
            fe00::0\tip6-localnet\n\
            fe00::0\tip6-mcastprefix\n\
            fe00::1\tip6-allnodes\n\
            fe00::2\tip6-allrouters\n\
            10.244.1.2\tweb-0.db.shop.svc.cluster.local\tweb-0\n\
            \n\
            # Entries added by HostAliases.\n\
            123.45.67.89\tfoo.remote\tbar.remote\n";
        assert_eq!(pod_file(&names, &address, &aliases()), expected);
        let plain = Names { domain: None, ..names };
        assert!(pod_file(&plain, &address, &[]).ends_with("10.244.1.2\tweb-0\n"));
    }

    // N-094
    #[test]
    fn the_nodes_file_is_kept() {
        let got = node_file("127.0.0.1 laptop", &aliases());
        let (first, rest) = got.split_once('\n').expect("lines");
        assert_eq!(first, "# Kubernetes-managed hosts file (host network).");
        assert!(rest.starts_with("127.0.0.1 laptop\n\n# Entries added by HostAliases.\n123.45.67.89\t"));
    }
}
